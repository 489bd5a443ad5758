//! Sessions with `session_replication_role = replica`, as tools that load data have.

use support::{Database, apply, apply_error, code, error, message, rows, run, value};

use super::insert;

#[test]
fn no_trigger_of_the_extension_depends_on_the_role_of_the_session() {
    let database = Database::new("replica_triggers");
    let mut client = database.connect();
    assert_eq!(
        rows(
            &mut client,
            "select tgname, tgrelid::regclass::text from pg_trigger t
             join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = t.tgrelid and d.deptype = 'e'
             where not tgisinternal and tgenabled <> 'A'"
        ),
        [""; 0]
    );
    assert_ne!(
        value(
            &mut client,
            "select count(*) from pg_trigger where tgenabled = 'A'"
        ),
        "0"
    );
}

#[test]
fn a_replica_session_makes_changes_and_removes_mappings() {
    let database = Database::new("replica_mappings");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    for client in [&mut admin, &mut forwarder] {
        run(
            client,
            "set session_replication_role = replica; set client_min_messages = error",
        );
    }
    run(
        &mut admin,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    assert_eq!(apply(&mut forwarder, &insert("item", 1, 1)).upserted, 1);

    // every session sees a pause
    run(&mut admin, "update sequin.mapping set enabled = false");
    let refused = apply_error(&mut forwarder, &insert("item", 2, 2));
    assert_eq!(refused.code().code(), "55000");
    run(&mut admin, "update sequin.mapping set enabled = true");

    // mappings are checked, and so are granted sources; their letters follow a new name
    assert_eq!(
        code(&error(
            &mut admin,
            "update sequin.mapping set key = '{absent}'"
        )),
        "42703"
    );
    assert_eq!(code(&error(&mut admin, "truncate sequin.mapping")), "0A000");
    assert_eq!(
        code(&error(
            &mut admin,
            "select sequin.grant_source('a.b.c.d', 'pg_monitor')"
        )),
        "42602"
    );
    let poison = message("insert", "item", 3, r#"{"id":"x"}"#);
    assert_eq!(apply(&mut forwarder, &poison).dead, 1);
    run(&mut admin, "update sequin.mapping set name = 'thing'");
    assert_eq!(
        rows(&mut admin, "select mapping from sequin.dead_letter"),
        ["thing"]
    );

    // and nothing of the rows is known after the mapping went
    run(&mut admin, "select sequin.unmap('thing')");
    assert_eq!(
        value(
            &mut admin,
            "select (select count(*) from sequin.row_version) + (select count(*) from sequin.counter)"
        ),
        "0"
    );
}

#[test]
fn other_sessions_see_the_letters_of_a_replica_session() {
    let (database, mut client) = Database::mapped(
        "replica_letters",
        "create table item (id integer primary key, name text unique)",
        &["item"],
        "table",
    );
    let item = |action: &str, id, lsn, name: &str| {
        message(
            action,
            "item",
            lsn,
            &format!(r#"{{"id":{id},"name":"{name}"}}"#),
        )
    };
    assert_eq!(apply(&mut client, &item("insert", 1, 1, "a")).upserted, 1);
    let mut replica = database.connect();
    run(&mut replica, "set session_replication_role = replica");
    assert_eq!(apply(&mut replica, &item("insert", 2, 3, "a")).dead, 1);
    assert_eq!(apply(&mut client, &item("update", 1, 2, "b")).upserted, 1);
    assert_eq!(
        rows(&mut client, "select id, name from item order by id"),
        ["1|b", "2|a"]
    );
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
}
