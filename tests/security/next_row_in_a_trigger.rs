//! Internal functions serve the extension's own statements: what runs under these gets an error from them, which is the
//! fault of its mapping.

use support::{apply, batch, code, error, message, run, upserted, value};

use super::{Scene, letter, mixed, only_good};

#[test]
fn counting_rows_and_reading_the_batch() {
    for guard in ["off", "table"] {
        let scene = Scene::with_item(&format!("next_row_{guard}"), &format!("guard => '{guard}'"));
        let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
        let next_row =
            "bad|55000|sequin_internal.next_row() can be called only by sequin_apply|dead";
        scene.trigger("begin perform sequin_internal.next_row(); return new; end");
        only_good(&mut forwarder, 1);
        assert_eq!(letter(&mut admin), next_row);
        // It is an error that a function can catch, and counts nothing.
        scene.trigger(
            "begin for i in 1..50 loop
                 begin perform sequin_internal.next_row(); exception when others then end;
             end loop; return new; end",
        );
        assert_eq!(apply(&mut forwarder, &mixed(2)), upserted(2));
        let read = "bad|55000|sequin_internal.batch() can be called only by sequin_apply|dead";
        scene
            .trigger("begin perform * from sequin_internal.batch() b(id integer); return new; end");
        only_good(&mut forwarder, 3);
        assert_eq!(letter(&mut admin), read);
        // Before the statement has taken its rows, and by way of functions that run SQL of a text.
        for (call, error) in [
            ("perform sequin_internal.next_row();", next_row),
            (
                "perform * from sequin_internal.batch() b(id integer, name text);",
                read,
            ),
            (
                "perform query_to_xml('select sequin_internal.next_row()', true, false, '');",
                next_row,
            ),
            ("perform mallory.rows();", read),
        ] {
            if call.contains("xml") && !support::has_xml(&mut admin) {
                continue;
            }
            run(
                &mut scene.mallory(),
                &format!(
                    "create or replace function mallory.rows() returns bigint language sql as
                         'select count(*) from sequin_internal.batch() b(id integer, name text)';
                     create or replace function mallory.first() returns trigger language plpgsql as
                         $$ begin {call} return null; end $$;
                     drop trigger if exists act on mallory.item;
                     drop trigger if exists first on mallory.item;
                     create trigger first before insert on mallory.item
                         for each statement execute function mallory.first()"
                ),
            );
            only_good(&mut forwarder, 4);
            // No message is at fault.
            let error = error
                .replace("55000|", "55000|mapping \"bad\" is broken: ")
                .replace("|dead", "|waiting");
            assert_eq!(letter(&mut admin), error, "{call}");
            run(
                &mut admin,
                "delete from good where id = 4; delete from sequin.row_version",
            );
        }
        run(&mut scene.mallory(), "drop trigger first on mallory.item");
        // What is part of the statement's own plan.
        run(
            &mut scene.mallory(),
            "alter table mallory.item add counted boolean, alter counted set default sequin_internal.next_row()",
        );
        only_good(&mut forwarder, 5);
        assert_eq!(letter(&mut admin), next_row);
        run(
            &mut scene.mallory(),
            "alter table mallory.item drop counted",
        );
        assert_eq!(apply(&mut forwarder, &mixed(6)), upserted(2));
    }
}

#[test]
fn counting_rows_in_sql_of_a_mapping() {
    let columns = r#"{"*": "record.*", "name": {"sql": "case when sequin_internal.next_row() then 'a' end"}}"#;
    let scene = Scene::with_item("next_row_in_sql", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        &format!("select sequin.alter_mapping('bad', columns => $${columns}$$)"),
    );
    only_good(&mut forwarder, 1);
    assert_eq!(
        letter(&mut admin),
        "bad|55000|sequin_internal.next_row() can be called only by sequin_apply|dead"
    );
}

/// A wrong count would blame another message than the one that failed.
#[test]
fn the_row_that_fails_is_still_found() {
    let scene = Scene::with_item("next_row_counts", "guard => 'off'");
    scene.trigger(
        "begin
             begin perform sequin_internal.next_row(); exception when others then end;
             if new.id = 7 then raise exception 'no'; end if;
             return new;
         end",
    );
    let messages: Vec<_> = (1..=20)
        .map(|n| message("insert", "item", n, &format!(r#"{{"id":{n},"name":"n"}}"#)))
        .collect();
    let counts = apply(&mut scene.forwarder(), &batch(&messages));
    assert_eq!((counts.upserted, counts.dead), (19, 1));
    let dead = "select position, error from sequin.dead_letter";
    assert_eq!(value(&mut scene.admin(), dead), "6|no");
}

#[test]
fn leaving_tombstones_while_a_resync_is_finished() {
    let scene = Scene::with_item("note_gone", "guard => 'table'");
    let mut admin = scene.admin();
    assert_eq!(apply(&mut scene.forwarder(), &mixed(1)), upserted(2));
    let bad = value(
        &mut admin,
        "select id from sequin.mapping where name = 'bad'",
    );
    let mut mallory = scene.mallory();
    let note = |mapping: &str, token: &str| {
        format!(
            "sequin_internal.note_gone({mapping}, sequin.row_key(77), 9, 9, 'infinity', {token})"
        )
    };
    run(
        &mut mallory,
        &format!(
            "create function mallory.act() returns trigger language plpgsql as $$
             declare context text;
             begin
                 get diagnostics context = pg_context;
                 insert into mallory.seen values (context);
                 perform {};
                 return old;
             end $$;
             create table mallory.seen (context text);
             create trigger act before delete on mallory.item for each row execute function mallory.act();
             select sequin.begin_resync('bad')",
            note(&bad, "1")
        ),
    );
    let finish = "select sequin.finish_resync('bad', min_confirmed => 0)";
    let refused = error(&mut mallory, finish);
    assert_eq!(code(&refused), "55000");
    assert_eq!(
        refused.hint(),
        Some("Call sequin.finish_resync(mapping) to end a resync.")
    );
    for call in [
        note(&bad, "null"),
        format!("sequin_internal.in_resync({bad}, null)"),
        format!("sequin_internal.is_known({bad}, sequin.row_key(1), 1)"),
        format!("sequin_internal.is_confirmed({bad}, sequin.row_key(1), 0)"),
    ] {
        assert_eq!(
            code(&error(&mut mallory, &format!("select {call}"))),
            "55000",
            "{call}"
        );
    }
    run(
        &mut mallory,
        "create or replace function mallory.act() returns trigger language plpgsql as $$
         declare context text;
         begin
             get diagnostics context = pg_context;
             insert into mallory.seen values (context);
             return old;
         end $$",
    );
    assert_eq!(value(&mut mallory, finish), "1");
    // The token is not told.
    let context = value(&mut mallory, "table mallory.seen");
    assert!(context.contains("note_gone"), "{context}");
    assert!(context.contains("$1"), "{context}");
    let tombstones = format!("select count(*) from sequin.tombstone where mapping = {bad}");
    assert_eq!(value(&mut admin, &tombstones), "1");
    assert_eq!(value(&mut admin, "select count(*) from good"), "1");
}
