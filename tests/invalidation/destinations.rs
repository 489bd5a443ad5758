//! Destinations that change, and types of their columns.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use postgres::Client;
use support::{
    Database, GUARDS, apply, batch, code, error, item, message, rows, run, upserted, value,
};

#[test]
fn a_changed_destination_is_seen_by_other_sessions() {
    let database = Database::new("destination_changed");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    let map = "select sequin.map('public.item', 'item', guard => 'off', name => 'item')";
    run(
        &mut admin,
        "create table item (id integer primary key, name text)",
    );
    run(&mut admin, map);
    let change = |lsn: u64| {
        message(
            "update",
            "item",
            lsn,
            &format!(r#"{{"id":1,"name":"1.50","price":"2.50","n":{lsn}}}"#),
        )
    };
    apply(&mut forwarder, &change(1));
    run(
        &mut admin,
        "alter table item alter name type numeric using name::numeric, add price numeric",
    );
    apply(&mut forwarder, &change(2));
    assert_eq!(value(&mut admin, "select * from item"), "1|1.50|2.50");

    run(
        &mut admin,
        "alter table item drop name, alter id type bigint, add n integer",
    );
    apply(&mut forwarder, &change(3));
    assert_eq!(value(&mut admin, "select * from item"), "1|2.50|3");

    // A table that was dropped and created again is another one, until it is mapped.
    run(&mut admin, "drop table item");
    assert_eq!(apply(&mut forwarder, &change(4)).dead, 1);
    let letters = "select sqlstate, state from sequin.dead_letter";
    assert_eq!(rows(&mut admin, letters), ["42P01|waiting"]);
    run(
        &mut admin,
        "create table item (n text, id smallint primary key)",
    );
    assert_eq!(apply(&mut forwarder, &change(5)).dead, 1);
    run(&mut admin, map);
    assert_eq!(apply(&mut forwarder, &change(6)), upserted(1));
    assert_eq!(rows(&mut admin, letters), [""; 0]);
    assert_eq!(value(&mut admin, "select * from item"), "6|1");

    // All between two calls of the forwarder.
    run(
        &mut admin,
        "drop table item; create table item (id integer primary key, name text)",
    );
    run(&mut admin, map);
    assert_eq!(apply(&mut forwarder, &change(7)), upserted(1));
    assert_eq!(value(&mut admin, "select * from item"), "1|1.50");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );
}

#[test]
fn a_type_that_changes_is_seen_by_other_sessions() {
    let database = Database::new("type_changed");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create type mood as enum ('sad');
         create type place as (street text);
         create table item (id integer primary key, mood mood, place place);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    let change = |lsn, record: &str| message("update", "item", lsn, record);
    let record = r#"{"id":1,"mood":"sad","place":{"street":"Ring","town":"Ulm"}}"#;
    assert_eq!(apply(&mut forwarder, &change(1, record)), upserted(1));
    assert_eq!(value(&mut admin, "select * from item"), "1|sad|(Ring)");
    run(
        &mut admin,
        "alter type mood rename value 'sad' to 'blue'; alter type place add attribute town text",
    );
    let record = r#"{"id":1,"mood":"blue","place":{"street":"Ring","town":"Ulm"}}"#;
    assert_eq!(apply(&mut forwarder, &change(2, record)), upserted(1));
    assert_eq!(value(&mut admin, "select * from item"), "1|blue|(Ring,Ulm)");
}

#[test]
fn a_session_maps_a_table_again_whose_schema_another_session_has_made_anew() {
    let database = Database::new("schema_made_anew");
    let (mut admin, mut other) = (database.connect(), database.connect());
    let anew = "create schema a; create table a.item (id integer primary key, name text)";
    let map = |guard| format!("select sequin.map('public.item', 'a.item', guard => '{guard}')");
    run(&mut admin, &format!("{anew}; {}", map("columns")));
    assert_eq!(apply(&mut admin, &item(1, "one")), upserted(1));
    for statement in [
        map("table"),
        "select sequin.alter_mapping('item', guard => 'table')".to_owned(),
        "update sequin.mapping set guard = 'table'".to_owned(),
    ] {
        let made = format!(
            "select sequin.unmap('item'); drop schema a cascade; {anew}; {}",
            map("columns")
        );
        run(&mut other, &made);
        run(&mut admin, &statement);
        assert_eq!(apply(&mut admin, &item(2, "two")), upserted(1));
    }
}

/// Changes that leave a mapping its meaning, one after the other, and the row after each.
const FOLLOWED: [(&str, &str); 9] = [
    ("alter table a.item rename to thing", "1|2|2"),
    (
        "alter schema a rename to b; create schema a; alter table b.thing set schema a",
        "1|3|3",
    ),
    (
        "alter schema a rename to c; alter schema c rename to a",
        "1|4|4",
    ),
    ("alter table a.thing add column word text", "1|5|5|5"),
    ("alter table a.thing rename column name to title", "1|5|6|6"),
    (
        "alter table a.thing add column extra integer not null default 7",
        "1|5|7|7|7",
    ),
    (
        "alter table a.thing drop column title, alter column n type numeric(5,1)",
        "1|8.0|8|7",
    ),
    (
        "alter table a.thing drop constraint item_pkey, add primary key (id) include (word)",
        "1|9.0|9|7",
    ),
    (
        "create unique index on a.thing (n); analyze a.thing; reindex table a.thing",
        "1|10.0|10|7",
    ),
];

#[test]
fn a_destination_that_changes_is_followed_or_the_error_says_what_to_do() {
    let database = Database::new("destination_changes");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        r#"create schema a; create table a.item (id integer primary key, name text, n integer);
           select sequin.map('public.item', 'a.item', guard => 'table', name => 'item');
           select sequin.map('public.item', 'a.item', guard => 'off', name => 'named',
                             columns => '{"id": "record.id", "n": "record.n"}')"#,
    );
    let mut lsn = 0;
    let mut next = || {
        lsn += 1;
        message(
            "update",
            "item",
            lsn,
            &format!(r#"{{"id":1,"name":"{lsn}","n":{lsn},"word":"{lsn}"}}"#),
        )
    };
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    for (change, row) in FOLLOWED {
        run(&mut admin, change);
        assert_eq!(apply(&mut forwarder, &next()).upserted, 2, "{change}");
        assert_eq!(value(&mut admin, "select * from a.thing"), row, "{change}");
    }
    // After other changes the mapping is broken; its messages are kept until it is mended.
    let mut teller = database.connect();
    let mut refused = |forwarder: &mut Client, message: &str, code: &str, hint: &str| {
        assert!(apply(forwarder, message).dead > 0);
        let letters = "select distinct sqlstate, state, hint from sequin.dead_letter where sqlstate <> '23502'";
        let letters = rows(&mut teller, letters);
        let state = format!("{code}|waiting|");
        assert!(letters.iter().all(|l| l.starts_with(&state)), "{letters:?}");
        assert!(letters.iter().any(|l| l.contains(hint)), "{letters:?}");
    };
    run(&mut admin, "alter table a.thing drop constraint thing_pkey");
    refused(&mut forwarder, &next(), "42P10", "ADD PRIMARY KEY (");
    run(&mut admin, "alter table a.thing add primary key (id)");
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    // The value of a column that a mapping names must not get lost.
    run(&mut admin, "alter table a.thing rename column n to m");
    refused(
        &mut forwarder,
        &next(),
        "42703",
        "SELECT sequin.alter_mapping('named', columns => ",
    );
    run(
        &mut admin,
        "update sequin.mapping set columns = '{\"id\": \"record.id\", \"m\": \"record.n\"}' where name = 'named'",
    );
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    run(&mut admin, "alter table a.thing drop column m");
    refused(
        &mut forwarder,
        &next(),
        "42703",
        "SELECT sequin.alter_mapping('named', columns => ",
    );
    run(
        &mut admin,
        "update sequin.mapping set columns = null where name = 'named'",
    );
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    run(
        &mut admin,
        "alter table a.thing add column needed integer not null default 1",
    );
    run(
        &mut admin,
        "alter table a.thing alter column needed drop default",
    );
    let new = message("insert", "item", 1000, r#"{"id":2}"#);
    assert_eq!(apply(&mut forwarder, &new).dead, 2);
    let letter = "select distinct sqlstate, error from sequin.dead_letter";
    assert_eq!(
        value(&mut admin, letter),
        "23502|null value in column \"needed\" of relation \"thing\" violates not-null constraint"
    );
    run(
        &mut admin,
        "drop table a.thing; create table a.thing (id integer primary key)",
    );
    refused(&mut forwarder, &next(), "42P01", "sequin.unmap('item')");
    assert_eq!(
        rows(
            &mut admin,
            "select name, state from sequin.status order by name"
        ),
        ["item|broken", "named|broken"]
    );
    run(
        &mut admin,
        "select sequin.map('public.item', 'a.thing', guard => 'table', name => 'item')",
    );
    run(&mut admin, "select sequin.unmap('named')");
    assert_eq!(apply(&mut forwarder, &next()).upserted, 1);
    assert_eq!(value(&mut admin, "select * from a.thing"), "1");
}

#[test]
fn a_destination_changes_while_two_sessions_apply() {
    let database = Database::new("destination_traffic");
    let mut admin = database.connect();
    run(
        &mut admin,
        "create schema a; create table a.item (id integer primary key, name text);
         select sequin.map('public.item', 'a.item', guard => 'table', name => 'item')",
    );
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let wait = |more: u64| {
        let until = calls.load(Ordering::SeqCst) + more;
        while calls.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
        }
    };
    let last = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..2)
            .map(|n| {
                let (database, stop, calls) = (&database, &stop, &calls);
                scope.spawn(move || {
                    let mut client = database.connect();
                    let mut lsn = n;
                    while !stop.load(Ordering::SeqCst) {
                        lsn += 2;
                        let messages: Vec<_> = (0..20)
                            .map(|id| {
                                let record =
                                    format!(r#"{{"id":{id},"name":"{lsn}","extra":{lsn}}}"#);
                                message("update", "item", lsn, &record)
                            })
                            .collect();
                        let counts = apply(&mut client, &batch(&messages));
                        assert_eq!(counts.upserted + counts.stale, 20, "{counts:?}");
                        calls.fetch_add(1, Ordering::SeqCst);
                    }
                    lsn
                })
            })
            .collect();
        for _ in 0..3 {
            for change in [
                "alter table a.item add column extra integer",
                "alter table a.item rename to thing",
                "alter table a.thing alter column extra type bigint",
                "alter schema a rename to b",
                "alter table b.thing alter column extra set not null",
                "alter table b.thing rename to item",
                "update sequin.mapping set on_error = 'raise'",
                "alter table b.item drop column extra",
                "update sequin.mapping set on_error = 'dead_letter'",
                "alter schema b rename to a",
                "vacuum a.item",
            ] {
                if change.contains("not null") {
                    run(&mut admin, "delete from b.thing where extra is null");
                }
                run(&mut admin, change);
                wait(4);
            }
        }
        stop.store(true, Ordering::SeqCst);
        sessions
            .into_iter()
            .map(|s| s.join().expect("no failure"))
            .max()
    });
    let expected = format!("20|{0}|{0}", last.expect("two"));
    assert_eq!(
        value(
            &mut admin,
            "select count(*), min(name::int), max(name::int) from a.item"
        ),
        expected
    );
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );
}

/// Without its mark a soft delete must not become a delete.
#[test]
fn a_row_is_not_deleted_for_want_of_its_mark() {
    for guard in GUARDS {
        let database = Database::new(&format!("mark_gone_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            &format!(
                "create table item (id integer primary key, deleted_at timestamptz);
                 select sequin.map('public.item', 'item', guard => '{guard}', name => 'item',
                                   on_delete => 'soft', soft_delete => 'deleted_at')"
            ),
        );
        let change = |action, lsn| message(action, "item", lsn, r#"{"id":1}"#);
        assert_eq!(apply(&mut client, &change("insert", 1)), upserted(1));
        run(
            &mut client,
            "alter table item rename column deleted_at to removed_at",
        );
        assert_eq!(apply(&mut client, &change("delete", 2)).dead, 1, "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from item"),
            "1",
            "{guard}"
        );
        assert_eq!(
            value(
                &mut client,
                "select sqlstate, state from sequin.dead_letter"
            ),
            "42703|waiting",
            "{guard}"
        );
        let resync = "select sequin.begin_resync('item'); select sequin.finish_resync('item')";
        assert_eq!(code(&error(&mut client, resync)), "42703", "{guard}");
        run(
            &mut client,
            "alter table item rename column removed_at to deleted_at; select sequin.retry()",
        );
        assert_eq!(
            value(&mut client, "select deleted_at is not null from item"),
            "t",
            "{guard}"
        );
    }
}
