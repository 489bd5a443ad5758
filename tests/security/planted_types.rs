//! Types that somebody has made are not used by the extension, whatever the caller's search_path: the check of a domain
//! runs with the rights of whoever uses the domain.

use postgres::Client;
use support::{Database, error, message, rows, run, value};

use super::Scene;

/// Domains of the names that SQL of the extension may use, in a schema; a table notes whose rights they got.
fn plant(client: &mut Client, schema: &str) {
    run(
        client,
        &format!(
            "create table {schema}.called (n bigint generated always as identity primary key, what text, who text);
             grant all on {schema}.called to public;
             create function {schema}.note(what text) returns boolean language plpgsql as
                 $$ begin insert into {schema}.called values (what, current_user); return true; end $$;
             grant execute on function {schema}.note to public;
             do $$ declare
                 t text;
             begin
                 foreach t in array array['text', 'int2', 'int4', 'int8', 'json', 'jsonb', 'regclass', 'regrole', 'regproc',
                         'regprocedure', 'regtype', 'regnamespace', 'oid', 'name', 'bytea', 'bool', 'date', 'timestamptz',
                         'float4', 'float8', 'numeric', 'interval', 'char', 'record', 'jsonpath', 'uuid', '_text', '_int2',
                         'oidvector'] loop
                     execute format('create domain {schema}.%I as pg_catalog.text check ({schema}.note(%L))', t, t);
                 end loop;
             end $$"
        ),
    );
}

/// What an owner of mappings calls.
const CALLS: &[&str] = &[
    "sequin.pause('item')",
    "sequin.resume('item')",
    "sequin.alter_mapping('item', key => '{id}')",
    "sequin.alter_mapping('item', columns => '{\"*\": \"record.*\"}', reset => '{filter}')",
    "sequin.map('public.item', 'mallory.item', guard => 'table', name => 'item')",
    "sequin.map('public.other', 'mallory.item', guard => 'table')",
    "sequin.map('public.log', 'mallory.log', mode => 'append', name => 'log')",
    "sequin.map_schema('public', 'mallory')",
    "sequin.check()",
    "sequin.explain('item')",
    "sequin.explain_batch('[]')",
    "sequin.explain('[]'::pg_catalog.jsonb)",
    "sequin.begin_resync('item')",
    "sequin.cancel_resync('item')",
    "sequin.begin_resync('item')",
    "sequin.finish_resync('item', min_confirmed => 0)",
    "sequin.retry()",
    "sequin.retry('item')",
    "sequin.forget_versions('item')",
    "sequin.accept_drift('item')",
    "sequin.sync_sequences()",
    "sequin.fingerprint('mallory.item')",
    "sequin.fingerprint_query('mallory.item')",
    "sequin.status",
    "sequin.versions",
    "sequin.own_mapping",
    "sequin.own_dead_letter",
    "sequin.waiting",
    "sequin.letters",
    "sequin.activity",
    "sequin.progress",
    "sequin.storage",
    "sequin.failed_calls",
    "sequin.source_grant",
    "sequin.unmap('log')",
];

const PROCEDURES: &[&str] = &[
    "sequin.retry_all()",
    "sequin.discard(null, null, '1 hour')",
    "sequin.prune()",
    "sequin.finish_resync_in_portions('item', 0)",
];

fn call_all(client: &mut Client) {
    for call in CALLS {
        run(client, &format!("select * from {call}"));
    }
    run(client, "select sequin.begin_resync('item')");
    for call in PROCEDURES {
        run(client, &format!("call {call}"));
    }
    for refused in [
        "sequin.pause('nobody')",
        "sequin.unmap('nobody')",
        "sequin.discard(1)",
        "sequin.retry(1)",
        "sequin.map('public.item', 'mallory.item', key => '{nobody}')",
    ] {
        error(client, &format!("select * from {refused}"));
    }
}

#[test]
fn an_owner_plants_types() {
    let scene = Scene::new("owner_plants");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "grant execute on all procedures in schema sequin to {}",
            scene.mallory
        ),
    );
    let mut client = scene.mallory();
    run(
        &mut client,
        "create table mallory.item (id serial primary key, name text);
         create table mallory.log (n bigint generated always as identity primary key, name text);
         select sequin.map('public.item', 'mallory.item', guard => 'table', name => 'item')",
    );
    plant(&mut client, "mallory");
    run(&mut client, "set search_path = mallory, pg_catalog");
    call_all(&mut client);
    // by the tables, to which Mallory has privileges
    for statement in [
        "update sequin.mapping set enabled = false where name operator(pg_catalog.=) 'item'",
        "update sequin.mapping set enabled = true where name operator(pg_catalog.=) 'item'",
        "insert into sequin.mapping (source, destination) values ('public.third', 'mallory.item')",
        "delete from sequin.mapping where source operator(pg_catalog.=) 'public.third'",
    ] {
        run(&mut client, statement);
    }
    let insert = message("insert", "item", 1, r#"{"id":1,"name":"x"}"#);
    run(
        &mut scene.forwarder(),
        &format!(
            "set search_path = mallory, pg_catalog; select public.sequin_apply('{insert}'::pg_catalog.text)"
        ),
    );
    let others = format!(
        "select what, who from mallory.called where who <> '{}'",
        scene.mallory
    );
    assert_eq!(rows(&mut admin, &others), Vec::<String>::new());
}

/// The owner of the database chooses settings of all sessions, the superuser's too, and owns schema `public`.
#[test]
fn the_owner_of_the_database_plants_types() {
    let mut database = Database::without_extension("planted_types");
    let mallory = database.role("mallory");
    let name = database.name().to_owned();
    run(
        &mut database.connect(),
        &format!("alter database {name} owner to {mallory}"),
    );
    let mut client = database.connect_as(&mallory);
    run(
        &mut client,
        "create schema mallory; grant usage on schema mallory to public",
    );
    plant(&mut client, "public");
    run(
        &mut client,
        &format!(
            "create view public.pg_class as select public.note('pg_class') as oid;
             create view public.pg_roles as select public.note('pg_roles') as oid;
             create function public.current_setting(text) returns text language sql as
                 $$ select public.note('current_setting')::pg_catalog.text $$;
             create function public.pg_has_role(oid, text) returns boolean language sql as
                 $$ select public.note('pg_has_role') $$;
             alter database {name} set search_path = public, pg_catalog;
             alter database {name} set transform_null_equals = on;
             alter database {name} set plan_cache_mode = force_custom_plan;
             alter database {name} set standard_conforming_strings = off;
             alter database {name} set quote_all_identifiers = on;
             alter database {name} set row_security = off"
        ),
    );
    let mut admin = database.connect();
    run(&mut admin, "create extension pg_sequin");
    run(
        &mut admin,
        "create table mallory.item (id serial primary key, name pg_catalog.text);
         create table mallory.log (n bigint generated always as identity primary key, name pg_catalog.text);
         select sequin.map('public.item', 'mallory.item', guard => 'table', name => 'item')",
    );
    call_all(&mut admin);
    for statement in [
        "update sequin.mapping set enabled = false where name operator(pg_catalog.=) 'item'",
        "update sequin.mapping set enabled = true where name operator(pg_catalog.=) 'item'",
        "select sequin.grant_source('public.*', current_user::pg_catalog.regrole)",
        "select sequin.revoke_source('public.*', current_user::pg_catalog.regrole)",
    ] {
        run(&mut admin, statement);
    }
    let insert = message("insert", "item", 1, r#"{"id":1,"name":"x"}"#);
    run(
        &mut admin,
        &format!("select sequin_apply('{insert}'::pg_catalog.text)"),
    );
    run(&mut admin, "drop extension pg_sequin");
    let called = "select distinct what::pg_catalog.text from public.called";
    assert_eq!(rows(&mut admin, called), Vec::<String>::new());
    assert_eq!(value(&mut admin, "select count(*) from mallory.item"), "1");
}
