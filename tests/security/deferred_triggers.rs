//! A trigger that is deferred to the commit would run as the caller. Where the extension's statements fire one, it runs
//! before the turn of the mapping's owner ends.

use support::{apply, message, run, upserted, value};

use super::Scene;

#[test]
fn deferred_triggers_of_partitions_and_of_tables_that_rows_cascade_to() {
    let scene = Scene::new("deferred");
    run(
        &mut scene.mallory(),
        "create table mallory.item (id integer primary key, name text) partition by range (id);
         create table mallory.part partition of mallory.item default;
         create table mallory.owner (id integer primary key, name text);
         create table mallory.owned (id serial primary key, owner integer references mallory.owner on delete cascade);
         insert into mallory.owner values (1, 'x');
         insert into mallory.owned (owner) values (1);
         create table mallory.seen (who text);
         create function mallory.act() returns trigger language plpgsql as $$
         begin insert into mallory.seen values (current_user); return null; end $$;
         create constraint trigger act after insert on mallory.part deferrable initially deferred
             for each row execute function mallory.act();
         create constraint trigger act after delete on mallory.owned deferrable initially deferred
             for each row execute function mallory.act();
         select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'item');
         select sequin.map('public.owner', 'mallory.owner', guard => 'off', name => 'owner')",
    );
    let mut admin = scene.admin();
    let insert = message("insert", "item", 1, r#"{"id":1,"name":"x"}"#);
    assert_eq!(apply(&mut admin, &insert), upserted(1));
    let delete = message("delete", "owner", 2, r#"{"id":1,"name":"x"}"#);
    assert_eq!(apply(&mut admin, &delete).deleted, 1);
    assert_eq!(
        value(&mut admin, "select string_agg(who, ',') from mallory.seen"),
        format!("{0},{0}", scene.mallory)
    );
}

/// Triggers of a restricted role cannot be deferred: its rows would not be written.
#[test]
fn what_the_caller_defers_does_not_fail_for_owners() {
    let scene = Scene::new("caller_defers");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        "create table mallory.parent (id integer primary key);
         create table mallory.item (id integer primary key, parent integer references mallory.parent deferrable);
         create function mallory.act() returns trigger language plpgsql as 'begin return null; end';
         create constraint trigger act after insert on mallory.item deferrable
             for each row execute function mallory.act();
         select sequin.map('public.parent', 'mallory.parent', guard => 'off', name => 'parent');
         select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'item')",
    );
    run(
        &mut admin,
        "create table child (id integer primary key, good integer references good deferrable);
         select sequin.map('public.child', 'child', guard => 'off', name => 'child')",
    );
    run(&mut forwarder, "begin; set constraints all deferred");
    let messages = support::batch(&[
        message("insert", "item", 1, r#"{"id":1,"parent":1}"#),
        message("insert", "parent", 2, r#"{"id":1}"#),
        message("insert", "child", 3, r#"{"id":1,"good":1}"#),
    ]);
    let counts = apply(&mut forwarder, &messages);
    assert_eq!((counts.upserted, counts.dead), (2, 1));
    run(
        &mut forwarder,
        "commit; begin; set constraints all deferred",
    );
    // The superuser's mapping alone.
    let orphan = message("insert", "child", 4, r#"{"id":2,"good":2}"#);
    assert_eq!(apply(&mut forwarder, &orphan).dead, 1);
    run(&mut forwarder, "commit");
    assert_eq!(
        value(
            &mut admin,
            "select string_agg(mapping || ' ' || state, ',') from sequin.dead_letter"
        ),
        "child waiting,child waiting"
    );
}
