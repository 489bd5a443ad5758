//! The code of an owner's mapping changes what holds for the whole transaction, or for what the client is sent.

use support::{apply, batch, message, run, upserted, value};

use super::{Scene, letter, mixed, only_good};

/// Constraints that she defers would stay deferred: another's rows would fail at commit, where no message can be blamed.
#[test]
fn by_deferring_constraints() {
    let scene = Scene::with_item("defers", "guard => 'off'");
    let mut admin = scene.admin();
    run(
        &mut admin,
        "create table parent (id integer primary key);
         create table child (id integer primary key, parent integer references parent deferrable);
         select sequin.map('public.child', 'child', guard => 'off', name => 'child')",
    );
    let mut forwarder = scene.forwarder();
    for (n, statement) in (1_u64..).zip([
        "set constraints all deferred",
        "set constraints public.child_parent_fkey deferred",
        "execute 'SET CONSTRAINTS ALL IMMEDIATE'",
    ]) {
        scene.trigger(&format!("begin {statement}; return new; end"));
        // In both orders: what is written first differs.
        let orphan = message("insert", "child", n, &format!(r#"{{"id":{n},"parent":9}}"#));
        let good = message("insert", "good", n, &format!(r#"{{"id":{n}}}"#));
        let item = message("insert", "item", n, &format!(r#"{{"id":{n}}}"#));
        let counts = apply(&mut forwarder, &batch(&[item, orphan, good]));
        assert_eq!((counts.upserted, counts.dead), (1, 2), "{statement}");
        assert_eq!(
            value(
                &mut admin,
                "select string_agg(concat_ws(' ', mapping, sqlstate, state), ', ' order by mapping) from sequin.dead_letter"
            ),
            "bad 42501 dead, child 23503 waiting",
            "{statement}"
        );
        run(&mut admin, "delete from sequin.dead_letter");
    }
    // The SQL of a mapping calls functions as well.
    run(
        &mut scene.mallory(),
        "drop trigger act on mallory.item;
         create function mallory.defer(n text) returns text language plpgsql as
             $$ begin set constraints all deferred; return n; end $$;
         select sequin.alter_mapping('bad', columns =>
             '{\"id\": \"record.id\", \"name\": {\"sql\": \"mallory.defer(record->>''name'')\"}}')",
    );
    only_good(&mut forwarder, 10);
    assert!(
        letter(&mut admin)
            .starts_with("bad|42501|the code of a mapping may not run SET CONSTRAINTS")
    );
    // Everybody else may.
    run(
        &mut forwarder,
        "begin; set constraints all deferred; commit",
    );
}

/// Some clients close the connection at a NOTICE that is not in their encoding, and so would every call.
#[test]
fn by_another_encoding_of_the_client() {
    let scene = Scene::with_item("client_encoding", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    for (n, call) in [
        "perform set_config('client_encoding', 'LATIN1', true); raise notice '%', chr(233)",
        "set client_encoding = latin1; raise notice '%', chr(233)",
        "set names 'LATIN1'; raise notice '%', chr(233)",
    ]
    .into_iter()
    .enumerate()
    {
        scene.trigger(&format!("begin {call}; return new; end"));
        only_good(&mut forwarder, n as u64 + 1);
        assert_eq!(
            letter(&mut admin),
            "bad|42501|the code of a mapping may not change setting \"client_encoding\"|dead",
            "{call}"
        );
    }
    scene.trigger("begin raise notice '%', chr(233); return new; end");
    assert_eq!(apply(&mut forwarder, &mixed(9)), upserted(2));
    run(&mut forwarder, "set client_encoding = 'UTF8'");
}
