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
