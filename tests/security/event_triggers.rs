//! An administrator's event trigger writes a table that it names without a schema. What the extension grants to a new owner of
//! mappings, it grants as its own owner, and under a `search_path` that ends in the caller's temporary schema.

use support::{error, run, value};

use super::{Scene, mixed};

/// The administrator notes each command in a table.
fn audited(test: &str) -> Scene {
    let scene = Scene::new(test);
    run(
        &mut scene.admin(),
        "create table noted (who text, what text); grant insert on noted to public;
         create function note() returns event_trigger language plpgsql as $$
         begin insert into noted values (current_user, tg_tag); end $$;
         create event trigger note on ddl_command_end execute function note()",
    );
    scene
}

#[test]
fn a_temporary_table_stands_in_for_the_audit_log() {
    let scene = audited("event_trigger");
    let mut mallory = scene.mallory();
    run(
        &mut mallory,
        "create table mallory.item (id integer primary key, name text);
         create table mallory.ran (who text);
         create temp table noted (who text, what text);
         grant all on mallory.ran, noted to public;
         create function pg_temp.act() returns trigger language plpgsql as
             $$ begin insert into mallory.ran values (current_user); return new; end $$;
         create trigger act before insert on noted for each row execute function pg_temp.act();
         select sequin.map('public.item', 'mallory.item', name => 'bad')",
    );
    let ran = value(
        &mut scene.admin(),
        "select string_agg(distinct who, ',') from mallory.ran",
    );
    assert_eq!(ran, scene.mallory);
}

/// The function finds the table under no `search_path` of the extension.
#[test]
fn nor_does_it_fail_where_the_log_is_not_found() {
    let scene = audited("event_trigger_fails");
    let mut admin = scene.admin();
    run(
        &mut scene.mallory(),
        "create table mallory.item (id integer primary key, name text);
         select sequin.map('public.item', 'mallory.item', name => 'bad', guard => 'table')",
    );
    // by a call: the table of a superuser's mapping gets another owner, who has made no mapping
    let other = value(&mut admin, "select 'other_' || current_database()");
    run(
        &mut admin,
        &format!(
            "create role {other}; grant all on schema public to {other}; alter table good owner to {other}"
        ),
    );
    assert_eq!(
        support::apply(&mut scene.forwarder(), &mixed(1)),
        support::upserted(2)
    );
    run(
        &mut admin,
        &format!(
            "alter table good owner to current_user; drop owned by {other}; drop role {other}"
        ),
    );
    // The trigger is one that would have failed.
    run(&mut admin, "set search_path = pg_catalog");
    error(&mut admin, "create table public.t ()");
}
