//! Forwarders apply and do nothing else; rows are written with the rights of the mapping's owner.

use support::{
    Database, apply, apply_error, apply_jsonb, batch, code, error, item, message, run, try_apply,
    upserted, value,
};

use super::Scene;

#[test]
fn a_forwarder_can_apply_and_nothing_else() {
    let mut database = Database::new("forwarder");
    let (forwarder, stranger) = (database.role("forwarder"), database.role("stranger"));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'off', name => 'item');
             grant execute on function sequin_apply(text), sequin_apply(jsonb) to {forwarder}"
        ),
    );
    let mut client = database.connect_as(&forwarder);
    assert_eq!(apply(&mut client, &item(1, "one")), upserted(1));
    assert_eq!(apply_jsonb(&mut client, &item(2, "two")), upserted(1));
    assert_eq!(apply(&mut client, "42").dead, 1);
    for sql in [
        "select * from item",
        "insert into item values (5, 'x')",
        "delete from item",
        "select * from sequin.mapping",
        "update sequin.mapping set enabled = false",
        "insert into sequin.mapping (source) values ('public.x')",
        "delete from sequin.mapping",
        "select * from sequin.dead_letter",
        "delete from sequin.dead_letter",
        "select sequin.map('public.x', null)",
        "select sequin.unmap('item')",
    ] {
        assert_eq!(code(&error(&mut client, sql)), "42501", "{sql}");
    }
    // Temporary tables with the extension's names do not mislead it.
    run(
        &mut client,
        "create temp table item (id integer primary key, name text);
         create temp table dead_letter (like item);
         create temp table mapping (like item);
         set search_path = pg_temp, public",
    );
    assert_eq!(
        apply(&mut client, &batch(&[item(3, "three"), "42".to_owned()])).upserted,
        1
    );
    assert_eq!(value(&mut client, "select count(*) from pg_temp.item"), "0");
    assert_eq!(value(&mut client, "select current_user"), forwarder);
    assert_eq!(value(&mut admin, "table item"), "1|three");
    assert_eq!(
        value(&mut admin, "select sum(attempts) from sequin.dead_letter"),
        "2"
    );

    let mut client = database.connect_as(&stranger);
    for argument in ["text", "jsonb"] {
        let sql = format!("select * from sequin_apply('[]'::{argument})");
        assert_eq!(code(&error(&mut client, &sql)), "42501");
    }
}

#[test]
fn rows_are_written_as_the_mappings_owner() {
    let mut database = Database::new("owner");
    let [alice, bob, forwarder] = ["alice", "bob", "forwarder"].map(|role| database.role(role));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "grant create on schema public to {alice}, {bob};
             grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
             grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {alice}, {bob};
             select sequin.grant_source('*.*', '{alice}');
             select sequin.grant_source('*.*', '{bob}');
             grant execute on function sequin_apply(text) to {forwarder}"
        ),
    );
    let mut client = database.connect_as(&alice);
    run(
        &mut client,
        r#"create table item (id integer primary key, name text, who_selects text, who_writes text);
           create table deleted (id integer, who text);
           create function note() returns trigger language plpgsql as $$
           begin
               if tg_op = 'DELETE' then
                   insert into public.deleted values (old.id, current_user);
                   return old;
               end if;
               new.who_writes = current_user;
               return new;
           end $$;
           create trigger note before insert or update or delete on item for each row execute function note();
           select sequin.map('public.item', 'item', guard => 'off', columns => '{"who_selects": {"sql": "current_user"}, "*": "record.*"}')"#,
    );
    let mut client = database.connect_as(&forwarder);
    assert_eq!(apply(&mut client, &item(1, "one")), upserted(1));
    assert_eq!(
        value(&mut admin, "table item"),
        format!("1|one|{alice}|{alice}")
    );
    assert_eq!(
        apply(&mut client, &message("delete", "item", 2, r#"{"id":1}"#)).deleted,
        1
    );
    assert_eq!(value(&mut admin, "table deleted"), format!("1|{alice}"));
    // Messages without a mapping are stored as the extension's owner. The session keeps its role, after an error too.
    apply(&mut client, "42");
    apply_error(&mut client, "{");
    run(
        &mut admin,
        "alter table item rename to gone; drop table gone cascade",
    );
    assert_eq!(apply(&mut client, &item(3, "three")).dead, 1);
    assert_eq!(value(&mut client, "select current_user"), forwarder);

    // Bob's mapping writes nothing of Alice's.
    run(
        &mut admin,
        &format!(
            "set role {alice}; create table item (id integer primary key, name text); reset role"
        ),
    );
    run(&mut admin, "delete from sequin.mapping");
    let mut client = database.connect_as(&bob);
    if client
        .batch_execute("select sequin.map('public.item', 'item', guard => 'off')")
        .is_ok()
    {
        let mut client = database.connect_as(&forwarder);
        let _ = try_apply(&mut client, &item(4, "four"));
    }
    assert_eq!(value(&mut admin, "select count(*) from item"), "0");
}

#[test]
fn what_a_forwarder_has_set_changes_nothing() {
    let scene = Scene::new("privileges_settings");
    let mut admin = scene.database.connect();
    run(
        &mut admin,
        &format!(
            "create table list (id integer primary key, words text[]);
             alter table list owner to {0}; alter table list enable row level security, force row level security;
             create policy few on list using (true) with check (id < 10);
             set role {0}; select sequin.map('public.list', 'list', guard => 'off'); reset role",
            scene.mallory
        ),
    );
    let mut session = scene.forwarder();
    run(
        &mut session,
        "set array_nulls = off; set row_security = off",
    );
    let counts = apply(
        &mut session,
        &batch(&[
            message("insert", "list", 1, r#"{"id":1,"words":["a",null]}"#),
            message("insert", "list", 2, r#"{"id":11,"words":[]}"#),
        ]),
    );
    assert_eq!((counts.upserted, counts.dead), (1, 1));
    assert_eq!(value(&mut admin, "select words[2] is null from list"), "t");
}

#[test]
fn privileges_of_columns_suffice() {
    let scene = Scene::new("privileges_columns");
    let mut admin = scene.database.connect();
    run(
        &mut admin,
        &format!(
            "create table part (id integer primary key, name text, salary integer default 1);
             grant select (id, name), insert (id, name), update (name) on part to {0}; grant delete on part to {0};
             set role {0};
             select sequin.map('public.part', 'part', guard => 'table', name => 'part',
                               columns => '{{\"id\": \"record.id\", \"name\": \"record.name\"}}');
             select sequin.map('public.part', 'part', guard => 'off', name => 'all');
             reset role",
            scene.mallory
        ),
    );
    let mut session = scene.forwarder();
    let counts = apply(
        &mut session,
        &message("insert", "part", 1, r#"{"id":1,"name":"n","salary":5}"#),
    );
    assert_eq!((counts.upserted, counts.dead), (1, 1));
    assert_eq!(value(&mut admin, "select * from part"), "1|n|1");
    assert_eq!(
        value(
            &mut admin,
            "select mapping, sqlstate from sequin.dead_letter"
        ),
        "all|42501"
    );
}

/// An error of the server can show a whole row, but only to roles that may read it.
#[test]
fn errors_show_values_to_readers_only() {
    let scene = Scene::new("privileges_errors");
    let mut admin = scene.database.connect();
    run(
        &mut admin,
        &format!(
            "create table person (id integer primary key, name text check (name <> ''), salary integer default 4711);
             insert into person values (1, 'n');
             grant select, insert, update, delete on person to {0};
             grant execute on function sequin_apply(text) to {0};
             set role {0};
             select sequin.map('public.person', 'person', guard => 'off', on_error => 'raise', name => 'person');
             reset role",
            scene.mallory
        ),
    );
    let bad = message("update", "person", 1, r#"{"id":1,"name":""}"#);
    let told = apply_error(&mut scene.forwarder(), &bad);
    assert_eq!(told.code().code(), "23514");
    assert_eq!(told.constraint(), Some("person_name_check"));
    let everything = format!("{told:?}");
    assert!(!everything.contains("4711"), "{everything}");
    for mut reader in [scene.mallory(), scene.database.connect()] {
        let told = apply_error(&mut reader, &bad);
        assert_eq!(told.detail(), Some("Failing row contains (1, , 4711)."));
    }
    // As a dead letter, it is visible to the owner.
    run(
        &mut admin,
        "update sequin.mapping set on_error = 'dead_letter' where name = 'person'",
    );
    let mut session = scene.forwarder();
    assert_eq!(apply(&mut session, &bad).dead, 1);
    let refused = error(&mut session, "select * from sequin.dead_letter");
    assert_eq!(refused.code().code(), "42501");
    assert_eq!(
        value(
            &mut scene.mallory(),
            "select count(*) from sequin.dead_letter"
        ),
        "1"
    );
}
