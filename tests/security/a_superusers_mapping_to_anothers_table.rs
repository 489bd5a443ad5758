//! The triggers of a table do not run as the superuser who maps it.

use support::{apply, message, run, upserted, value};

use super::Scene;

#[test]
fn rows_are_written_as_the_owner_of_the_table() {
    for guard in ["off", "table", "columns"] {
        let scene = Scene::new(&format!("superuser_{guard}"));
        let mut admin = scene.admin();
        run(
            &mut scene.mallory(),
            "create table mallory.item (id integer primary key, name text, who text)",
        );
        run(
            &mut admin,
            &format!(
                "select sequin.map('public.item', 'mallory.item', name => 'item', guard => '{guard}')"
            ),
        );
        scene.trigger(
            "begin
                 if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
                     execute pg_catalog.format('alter role %I superuser', tg_table_schema);
                 end if;
                 new.who = current_user; return new;
             end",
        );
        let insert = message("insert", "item", 1, r#"{"id":1,"name":"x"}"#);
        assert_eq!(
            apply(&mut scene.forwarder(), &insert),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            value(&mut admin, "select who from mallory.item"),
            scene.mallory
        );
        run(
            &mut admin,
            "select sequin.begin_resync('item'); select sequin.finish_resync('item', min_confirmed => 0)",
        );
        assert_eq!(value(&mut admin, "select count(*) from mallory.item"), "0");
        // The operator can have it as before.
        run(&mut scene.mallory(), "drop trigger act on mallory.item");
        scene.trigger("begin new.who = current_user; return new; end");
        run(
            &mut admin,
            &format!(
                "alter role {} set sequin.allow_superuser_mappings = on",
                scene.forwarder
            ),
        );
        let insert = message("insert", "item", 99_999_999, r#"{"id":2,"name":"x"}"#);
        assert_eq!(
            apply(&mut scene.forwarder(), &insert),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            value(&mut admin, "select who = current_user from mallory.item"),
            "t"
        );
    }
}

/// Another role's partition of a superuser's table: its trigger runs as whoever writes the table.
#[test]
fn a_partition_of_another_role() {
    let scene = Scene::new("superuser_partition");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "create table log (id integer primary key, name text) partition by range (id);
             create table mallory.part partition of log for values from (0) to (100);
             create table rest partition of log default;
             alter table mallory.part owner to {};
             select sequin.map('public.log', 'log', guard => 'table', name => 'log')",
            scene.mallory
        ),
    );
    run(
        &mut scene.mallory(),
        "create function mallory.act() returns trigger language plpgsql as $$
         begin
             execute 'alter role mallory_was_here'; return new;
         end $$;
         create trigger act before insert on mallory.part for each row execute function mallory.act()",
    );
    let insert = message("insert", "log", 1, r#"{"id":1,"name":"x"}"#);
    assert_eq!(apply(&mut scene.forwarder(), &insert).dead, 1);
    let why = "select sqlstate, error, state from sequin.dead_letter";
    let denied = format!(
        "42501|mapping \"log\" is broken: role \"{}\" may not write to public.log|waiting",
        scene.mallory
    );
    assert_eq!(value(&mut admin, why), denied);
    // healed by whichever of the two the operator chooses
    run(&mut scene.mallory(), "drop trigger act on mallory.part");
    run(&mut admin, "alter table mallory.part owner to current_user");
    let insert = message("insert", "log", 2, r#"{"id":2,"name":"x"}"#);
    assert_eq!(apply(&mut scene.forwarder(), &insert), upserted(1));
    assert_eq!(value(&mut admin, "select count(*) from log"), "2");
}

/// Another role's child of a superuser's table, by inheritance.
#[test]
fn a_child_of_another_role() {
    let scene = Scene::new("superuser_child");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "create table log (id integer primary key, name text);
             create table mallory.child () inherits (log);
             create table mallory.grandchild () inherits (mallory.child);
             insert into mallory.grandchild values (1, 'x');
             alter table mallory.grandchild owner to {};
             select sequin.map('public.log', 'log', guard => 'off', name => 'log')",
            scene.mallory
        ),
    );
    run(
        &mut scene.mallory(),
        "create function mallory.act() returns trigger language plpgsql as
             $$ begin execute 'alter role mallory_was_here'; return old; end $$;
         create trigger act before delete on mallory.grandchild for each row execute function mallory.act()",
    );
    let delete = message("delete", "log", 1, r#"{"id":1,"name":"x"}"#);
    assert_eq!(apply(&mut scene.forwarder(), &delete).dead, 1);
    let why = "select sqlstate, error, state from sequin.dead_letter";
    let broken = format!(
        "42501|mapping \"log\" is broken: role \"{}\" may not write to public.log|waiting",
        scene.mallory
    );
    assert_eq!(value(&mut admin, why), broken);
}

/// A partition, or a grandchild, is given to another role after the session has made its plans.
#[test]
fn a_partition_that_changes_hands() {
    let scene = Scene::new("superuser_changing");
    let mut admin = scene.admin();
    run(
        &mut admin,
        "create table log (id integer primary key, name text) partition by range (id);
         create table mallory.part partition of log for values from (0) to (100);
         create table tree (id integer primary key, name text);
         create table branch () inherits (tree);
         create table mallory.leaf () inherits (branch);
         insert into mallory.leaf values (1, 'x'), (2, 'x');
         create table plain (id integer primary key, name text);
         select sequin.map('public.plain', 'plain', guard => 'off', name => 'plain');
         select sequin.map('public.log', 'log', guard => 'off', name => 'log');
         select sequin.map('public.tree', 'tree', guard => 'off', name => 'tree')",
    );
    let mut forwarder = scene.forwarder();
    let changes = |n: u64| {
        let record = format!(r#"{{"id":{n},"name":"x"}}"#);
        support::batch(&[
            message("insert", "log", n, &record),
            message("delete", "tree", n, &record),
            message("insert", "plain", n, &record),
        ])
    };
    assert_eq!(apply(&mut forwarder, &changes(1)).dead, 0);
    run(
        &mut admin,
        &format!(
            "alter table mallory.part owner to {0}; alter table mallory.leaf owner to {0};
             alter table plain owner to {0}",
            scene.mallory
        ),
    );
    run(
        &mut scene.mallory(),
        "create table mallory.ran (who text);
         grant all on mallory.ran to public;
         create function mallory.act() returns trigger language plpgsql as
             $$ begin insert into mallory.ran values (current_user); return coalesce(new, old); end $$;
         create trigger act before insert on mallory.part for each row execute function mallory.act();
         create trigger act before delete on mallory.leaf for each row execute function mallory.act();
         create trigger act before insert on plain for each row execute function mallory.act()",
    );
    let counts = apply(&mut forwarder, &changes(2));
    assert_eq!((counts.dead, counts.upserted), (2, 1));
    let ran = "select who from mallory.ran";
    assert_eq!(support::rows(&mut admin, ran), [&*scene.mallory]);
    // a role that is no superuser any more
    run(
        &mut admin,
        &format!(
            "delete from sequin.dead_letter; alter role {} superuser",
            scene.mallory
        ),
    );
    assert_eq!(apply(&mut forwarder, &changes(3)).dead, 0);
    run(
        &mut admin,
        &format!(
            "truncate mallory.ran; alter role {} nosuperuser",
            scene.mallory
        ),
    );
    assert_eq!(apply(&mut forwarder, &changes(4)).dead, 2);
    assert_eq!(support::rows(&mut admin, ran), [&*scene.mallory]);
}

/// The server computes the checks of a domain when it reads a literal of an array of it.
#[test]
fn a_literal_of_the_tables_type() {
    let scene = Scene::new("superuser_literal");
    let mut admin = scene.admin();
    run(
        &mut scene.mallory(),
        "create table mallory.ran (who text);
         grant all on mallory.ran to public;
         create function mallory.noted(value text) returns boolean language plpgsql as
             $$ begin insert into mallory.ran values (current_user); return true; end $$;
         create domain mallory.word as text check (mallory.noted(value));
         create table mallory.item (id integer primary key, words mallory.word[]);
         delete from mallory.ran",
    );
    run(
        &mut admin,
        "select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'item',
             columns => '{\"id\": \"record.id\", \"words\": {\"sql\": \"''{a,b}''::mallory.word[]\"}}')",
    );
    let insert = message("insert", "item", 1, r#"{"id":1}"#);
    assert_eq!(apply(&mut scene.forwarder(), &insert), upserted(1));
    run(&mut admin, "select * from sequin.explain('item')");
    run(&mut admin, "select * from sequin.check()");
    let who = "select string_agg(distinct who, ',') from mallory.ran";
    assert_eq!(value(&mut admin, who), scene.mallory);
}
