//! Whose letters are shown, and whose code runs.

use support::{Database, GUARDS, error, message, rows, run, send, value};

use super::retry;

#[test]
fn letters_are_their_owners() {
    let mut database = Database::new("owners");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    run(
        &mut client,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
            grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {alice}, {bob};
            select sequin.grant_source('*.*', '{alice}');
            select sequin.grant_source('*.*', '{bob}');
             grant create on schema public to {alice}, {bob}"
        ),
    );
    let mut clients = [(&alice, "a"), (&bob, "b")].map(|(role, table)| {
        let mut client = database.connect_as(role);
        run(&mut client, "set client_min_messages = error");
        run(
            &mut client,
            &format!("create table {table} (id integer primary key check (id > 0))"),
        );
        run(
            &mut client,
            &format!("select sequin.map('public.{table}', '{table}', name => '{table}')"),
        );
        client
    });
    send(
        &mut client,
        &[
            message("insert", "a", 1, r#"{"id":-1}"#),
            message("insert", "b", 2, r#"{"id":-1}"#),
            "{}".to_owned(),
        ],
    );
    run(
        &mut client,
        "alter table a drop constraint a_id_check; alter table b drop constraint b_id_check",
    );
    let [alice, bob] = &mut clients;
    for sql in [
        "select sequin.retry(2)",
        "select sequin.discard(2)",
        "select sequin.retry('b')",
        "select sequin.retry(3)",
    ] {
        assert_eq!(error(alice, sql).code().code(), "42704", "{sql}");
    }
    assert_eq!(retry(alice, ""), "1|1|0|0");
    assert_eq!(
        rows(&mut client, "select id from sequin.dead_letter order by 1"),
        ["2", "3"]
    );
    assert_eq!(retry(bob, "2"), "1|1|0|0");
    assert_eq!(rows(bob, "select id from b"), ["-1"]);
    assert_eq!(retry(&mut client, ""), "1|0|0|1");
}

/// The check of a foreign key evaluates code of the referring table's owner, and must run as that role.
#[test]
fn checks_of_foreign_keys_run_as_the_owner_of_the_table() {
    let mut database = Database::new("checks");
    let mut client = database.connect();
    let mallory = database.role("mallory");
    run(
        &mut client,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {mallory};
            grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {mallory};
            select sequin.grant_source('*.*', '{mallory}');
             create schema m authorization {mallory}; grant usage on schema m to public"
        ),
    );
    let mut owner = database.connect_as(&mallory);
    run(
        &mut owner,
        "set client_min_messages = error;
         create table m.log (who text); grant all on m.log to public;
         create function m.look() returns integer language plpgsql volatile as
             'begin insert into m.log values (current_user); return 1; end';
         create function m.constant(x integer) returns integer language plpgsql immutable as
             'begin perform m.look(); return x; end';
         create table m.parent (id integer primary key);
         create table m.child (id integer primary key, parent_id integer references m.parent on delete cascade);
         create index on m.child ((m.constant(1)));
         truncate m.log;
         select sequin.map('public.parent', 'm.parent'), sequin.map('public.child', 'm.child')",
    );
    let mut forwarder = database.connect();
    send(
        &mut forwarder,
        &[message("delete", "parent", 1, r#"{"id":7}"#)],
    );
    send(
        &mut forwarder,
        &[
            message("insert", "parent", 2, r#"{"id":1}"#),
            message("insert", "child", 3, r#"{"id":1,"parent_id":1}"#),
        ],
    );
    assert_eq!(
        send(
            &mut forwarder,
            &[message("delete", "parent", 4, r#"{"id":1}"#)]
        )
        .dead,
        1
    );
    let who = rows(&mut client, "select distinct who from m.log");
    assert_eq!(who, [mallory], "and it was evaluated");
}

/// A policy of the destination is not evaluated as the owner of a table that refers to it.
#[test]
fn policies_do_not_run_as_the_owner_of_another_table() {
    for guard in GUARDS {
        let mut database = Database::new("policies");
        let mut client = database.connect();
        let (mallory, alice) = (database.role("mallory"), database.role("alice"));
        run(
            &mut client,
            &format!(
                "grant select, insert, update, delete on sequin.mapping to {mallory}, {alice};
                grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {mallory}, {alice};
                select sequin.grant_source('*.*', '{mallory}');
                select sequin.grant_source('*.*', '{alice}');
                 create schema m authorization {mallory}; grant usage on schema m to public;
                 create schema a authorization {alice}; grant usage on schema a to public"
            ),
        );
        run(
            &mut database.connect_as(&mallory),
            &format!(
                "set client_min_messages = error;
                 create table m.log (who text); grant all on m.log to public;
                 create function m.look() returns boolean language plpgsql volatile as
                     'begin insert into m.log values (current_user); return true; end';
                 create table m.parent (id integer primary key, slug text unique);
                 grant select, references on m.parent to public;
                 alter table m.parent enable row level security;
                 create policy look on m.parent using (m.look());
                 select sequin.map('public.parent', 'm.parent', guard => '{guard}')"
            ),
        );
        run(
            &mut database.connect_as(&alice),
            &format!(
                "set client_min_messages = error;
                 create table a.child (id integer primary key,
                                       slug text references m.parent (slug) on delete cascade);
                 select sequin.map('public.child', 'a.child', guard => '{guard}')"
            ),
        );
        let mut forwarder = database.connect();
        send(
            &mut forwarder,
            &[
                message("insert", "parent", 2, r#"{"id":1,"slug":"one"}"#),
                message("insert", "parent", 3, r#"{"id":2,"slug":"two"}"#),
                message("insert", "child", 4, r#"{"id":1,"slug":"one"}"#),
            ],
        );
        run(&mut client, "truncate m.log");
        let counts = send(
            &mut forwarder,
            &[
                message("delete", "parent", 5, r#"{"id":1}"#),
                message("delete", "parent", 6, r#"{"id":2}"#),
                message("delete", "parent", 7, r#"{"id":3}"#),
            ],
        );
        assert_eq!((counts.deleted, counts.dead), (2, 1), "{guard}");
        let waits =
            "select waits_on, waits_for = sha256(sequin.row_key(1)) from sequin.dead_letter";
        assert_eq!(rows(&mut client, waits), ["a.child|t"], "{guard}");
        let by = format!("select count(*) from m.log where who = '{alice}'");
        assert_eq!(value(&mut client, &by), "0", "{guard}");
        let moved = message("delete", "child", 8, r#"{"id":1}"#);
        assert_eq!(send(&mut forwarder, &[moved]).deleted, 1, "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from m.parent"),
            "0",
            "{guard}"
        );
    }
}
