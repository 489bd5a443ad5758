//! Changes that can only be written together: what may go wrong beside the constraints.

use std::thread;
use std::time::{Duration, Instant};

use support::{Database, GUARDS, Message, message, rows, run, send, value};

use super::{ITEM, ITEMS, LETTERS, item, retry};

fn change(action: &str, table: &str, lsn: u64, record: &str) -> String {
    message(action, table, lsn, record)
}

/// An index compares by collations of its own, and over types that have a collation but are not text.
#[test]
fn an_index_with_expressions_or_collations() {
    let ddls = [
        "create table item (id integer primary key, code char(3), tags text[]);
         create unique index on item (lower(code), tags)",
        "create table item (id integer primary key, code varchar(9), tags text[]);
         create unique index on item (tags, (code || 'x')) where code is not null",
        r#"create table item (id integer primary key, code text, tags text[]);
         create unique index on item (code collate "C", tags)"#,
        r#"create table item (id integer primary key, code text collate "C", tags name[]);
         create unique index on item (code collate "POSIX", tags)"#,
    ];
    let item = |action: &str, lsn: u64, id: u64, code: &str| {
        let record = format!(r#"{{"id":{id},"code":"{code}","tags":["t"]}}"#);
        change(action, "item", lsn, &record)
    };
    for (ddl, guard) in ddls.iter().flat_map(|ddl| GUARDS.map(|guard| (ddl, guard))) {
        let (_database, mut client) = Database::mapped("collated", ddl, &["item"], guard);
        send(
            &mut client,
            &[item("insert", 1, 1, "a"), item("insert", 2, 2, "b")],
        );
        let both = [
            item("update", 3, 1, "b"),
            item("update", 4, 2, "a"),
            item("insert", 5, 3, "b"),
            item("insert", 6, 4, "b"),
        ];
        assert_eq!(send(&mut client, &both).dead, 2, "{ddl}");
        let items = "select id, code from item order by id";
        assert_eq!(
            rows(&mut client, items),
            ["1|b", "2|a"].map(|row| match ddl.contains("char(3)") {
                true => format!("{row}  "),
                false => row.to_owned(),
            }),
            "{ddl}"
        );
        send(
            &mut client,
            &[item("update", 7, 1, "c"), item("delete", 8, 3, "b")],
        );
        assert_eq!(
            value(&mut client, "select count(*) from item"),
            "3",
            "{ddl}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{ddl}");
    }
}

/// The work grows with the number of rows that want one value, not with the number of pairs.
#[test]
fn many_rows_that_want_one_value() {
    let (_database, mut client) = Database::mapped("one_value", ITEM, &["item"], "columns");
    send(
        &mut client,
        &[item("insert", 1, 1, "a"), item("insert", 2, 2, "b")],
    );
    let mut many: Vec<String> = (3..6000).map(|id| item("insert", id, id, "a")).collect();
    many.push(item("update", 10_001, 1, "b"));
    many.push(item("update", 10_002, 2, "c"));
    let began = Instant::now();
    assert_eq!(send(&mut client, &many).dead, 5996);
    let seconds = began.elapsed().as_secs();
    assert!(seconds < 60, "{seconds} s");
    assert_eq!(rows(&mut client, ITEMS), ["1|b", "2|c", "3|a"]);
    let waiting = "select count(*) from sequin.dead_letter where state = 'waiting'";
    assert_eq!(value(&mut client, waiting), "5996");
}

/// Rows that cannot be deleted and come back, since a foreign key would act.
const ACTS: &str = "
    create table parent (id integer primary key, slug text unique, n integer check (n < 100), code integer);
    create table child (id integer primary key, parent_id integer references parent on delete cascade)";

fn parent(action: &str, lsn: u64, id: u64, slug: &str, n: u64) -> Message {
    let record = format!(r#"{{"id":{id},"slug":"{slug}","n":{n}}}"#);
    Message::new(action, "parent", lsn, record)
}

fn child(action: &str, lsn: u64, id: u64, parent: u64) -> Message {
    let record = format!(r#"{{"id":{id},"parent_id":{parent}}}"#);
    Message::new(action, "child", lsn, record)
}

/// Only the change that a check refuses is dead; those that need it wait.
#[test]
fn one_of_several_is_at_fault() {
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("at_fault", ACTS, &["parent", "child"], guard);
        send(
            &mut client,
            &[
                parent("insert", 1, 1, "a", 1),
                parent("insert", 2, 5, "e", 1),
                child("insert", 3, 10, 1),
            ],
        );
        // The row moves to another key, and another row takes its value.
        let moves = parent("update", 10, 2, "c", 200).changes(r#"{"id":1,"slug":"a","n":1}"#);
        let batch = [
            moves,
            child("update", 10, 10, 2).idx(1),
            parent("insert", 11, 7, "a", 1),
        ];
        send(&mut client, &batch);
        let letters = "select key::text || state || sqlstate from sequin.dead_letter order by id";
        assert_eq!(
            rows(&mut client, letters),
            [
                r#"["2"]dead23514"#,
                r#"["10"]waiting23503"#,
                r#"["7"]waiting23505"#
            ],
            "{guard}"
        );
        let parents = "select id, slug from parent order by id";
        assert_eq!(rows(&mut client, parents), ["1|a", "5|e"], "{guard}");
        // In an exchange of values, each of the two alone cannot be.
        let exchange = [
            parent("update", 20, 1, "e", 1),
            parent("update", 20, 5, "a", 300).idx(1),
        ];
        send(&mut client, &exchange);
        assert_eq!(
            rows(&mut client, &format!("{letters} offset 3")),
            [r#"["1"]waiting23505"#, r#"["5"]dead23514"#],
            "{guard}"
        );
    }
}

/// What we do to make room for a value is no fault of a message.
#[test]
fn values_that_nobody_may_have_for_a_moment() {
    let ddl = "
        create table parent (id integer primary key, slug text not null unique check (slug ~ '^[a-z]$'));
        create table child (id integer primary key, parent_id integer references parent on delete cascade)";
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("not_parked", ddl, &["parent", "child"], guard);
        let parent = |action: &str, lsn: u64, id: u64, slug: &str| {
            change(
                action,
                "parent",
                lsn,
                &format!(r#"{{"id":{id},"slug":"{slug}"}}"#),
            )
        };
        send(
            &mut client,
            &[
                parent("insert", 1, 1, "a"),
                parent("insert", 2, 2, "b"),
                child("insert", 3, 10, 1).to_string(),
            ],
        );
        send(
            &mut client,
            &[parent("update", 5, 1, "b"), parent("update", 6, 2, "a")],
        );
        assert_eq!(
            rows(&mut client, LETTERS),
            [r#"waiting|23505|["1"]"#, r#"waiting|23505|["2"]"#],
            "{guard}"
        );
        run(
            &mut client,
            "alter table parent drop constraint parent_slug_check",
        );
        retry(&mut client, "");
        let parents = "select id, slug from parent order by id";
        assert_eq!(rows(&mut client, parents), ["1|b", "2|a"], "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// Rows that are deleted and come back keep what only the destination has, identities too.
#[test]
fn columns_that_only_the_destination_has() {
    let ddl = "create table item (id integer primary key, slug text unique,
                   serial bigint generated always as identity, note text default 'new',
                   twice text generated always as (slug || slug) stored)";
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("identity", ddl, &[], guard);
        let columns = r#"{"id":"record.id","slug":"record.slug"}"#;
        run(
            &mut client,
            &format!(
                "select sequin.map('public.item', 'item', columns => '{columns}', guard => '{guard}')"
            ),
        );
        send(
            &mut client,
            &[item("insert", 1, 1, "a"), item("insert", 2, 2, "b")],
        );
        run(&mut client, "update item set note = 'n' || id");
        send(
            &mut client,
            &[item("update", 3, 1, "b"), item("update", 4, 2, "a")],
        );
        assert_eq!(
            rows(
                &mut client,
                "select id, slug, serial, note, twice from item order by id"
            ),
            ["1|b|1|n1|bb", "2|a|2|n2|aa"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// Another session changes a row that is deleted and comes back: its change stays.
#[test]
fn another_session_s_update_stays() {
    let ddl = "create table item (id integer primary key, slug text unique, note text)";
    for guard in GUARDS {
        let (database, mut client) = Database::mapped("lost_update", ddl, &["item"], guard);
        send(
            &mut client,
            &[item("insert", 1, 1, "a"), item("insert", 2, 2, "b")],
        );
        let mut other = database.connect();
        run(
            &mut other,
            "begin; update item set note = 'kept' where id = 1",
        );
        let call = thread::spawn(move || {
            send(
                &mut client,
                &[item("update", 3, 1, "b"), item("update", 4, 2, "a")],
            );
            client
        });
        thread::sleep(Duration::from_millis(500));
        run(&mut other, "commit");
        let mut client = call.join().expect("the call ends");
        assert_eq!(
            rows(&mut client, "select id, slug, note from item order by id"),
            ["1|b|kept", "2|a|null"],
            "{guard}"
        );
    }
}

/// A row gives up only what its change brings again.
#[test]
fn values_that_a_change_does_not_bring() {
    let ddl = "
        create table parent (id integer primary key, a text, b text, unique (a, b));
        create table child (id integer primary key, parent_id integer references parent on delete cascade)";
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("not_brought", ddl, &["parent", "child"], guard);
        let parent = |action: &str, lsn: u64, id: u64, a: &str, b: u64| {
            let record = format!(r#"{{"id":{id},"a":"{a}","b":"{b}"}}"#);
            change(action, "parent", lsn, &record)
        };
        send(
            &mut client,
            &[
                parent("insert", 1, 1, "x", 1),
                parent("insert", 2, 2, "x", 2),
            ],
        );
        let toast = "unchanged_toast";
        send(
            &mut client,
            &[
                parent("update", 3, 1, toast, 2),
                parent("update", 4, 2, toast, 1),
            ],
        );
        let parents = "select id, a, b from parent order by id";
        assert_eq!(rows(&mut client, parents), ["1|x|2", "2|x|1"], "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// In the turn of a role that is not trusted, the server does not defer triggers.
#[test]
fn rows_of_two_owners() {
    let mut database = Database::new("two_owners");
    let mut client = database.connect();
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    run(
        &mut client,
        &format!(
            "set client_min_messages = error;
             create table a (id integer primary key, slug text unique, code text unique);
             create table b (id integer primary key, code text references a (code) deferrable);
             alter table a owner to {alice}; alter table b owner to {bob};
             grant select, references on a to {bob};
             select sequin.grant_source('*.*', '{alice}'); select sequin.grant_source('*.*', '{bob}');
             grant execute on all functions in schema sequin to {alice}, {bob};
             grant usage, create on schema public to {alice}, {bob};
             grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
             set role {alice}; select sequin.map('public.a', 'a', name => 'a'); reset role;
             set role {bob}; select sequin.map('public.b', 'b', name => 'b'); reset role"
        ),
    );
    let a = |action: &str, lsn: u64, id: u64, slug: &str, code: &str| {
        let record = format!(r#"{{"id":{id},"slug":"{slug}","code":"{code}"}}"#);
        change(action, "a", lsn, &record)
    };
    send(
        &mut client,
        &[a("insert", 1, 1, "x", "1"), a("insert", 2, 2, "y", "2")],
    );
    send(
        &mut client,
        &[
            change("insert", "b", 3, r#"{"id":1,"code":"3"}"#),
            a("update", 4, 1, "y", "3"),
            a("update", 5, 2, "x", "4"),
        ],
    );
    assert_eq!(rows(&mut client, "select * from b"), ["1|3"]);
    let all = "select id, slug, code from a order by id";
    assert_eq!(rows(&mut client, all), ["1|y|3", "2|x|4"]);
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
}

/// Letters that were tried after a row had come are retried when it comes again.
#[test]
fn a_row_that_comes_again() {
    let ddl = "create table parent (id integer primary key);
               create table child (id integer primary key, parent_id integer references parent);
               create table other (id integer primary key)";
    let (_database, mut client) =
        Database::mapped("comes_again", ddl, &["parent", "child", "other"], "table");
    let parent = |action: &str, lsn: u64| change(action, "parent", lsn, r#"{"id":1}"#);
    run(&mut client, "set sequin.heal_time = 0");
    let children: Vec<Message> = (1..=250).map(|id| child("insert", id, id, 1)).collect();
    assert_eq!(send(&mut client, &children).dead, 250);
    // The first hundred are retried whatever it takes.
    send(&mut client, &[parent("insert", 1000)]);
    run(&mut client, "delete from child; delete from parent");
    let left = "select count(*) from sequin.dead_letter";
    assert_eq!(value(&mut client, left), "150");
    retry(&mut client, "");
    assert_eq!(value(&mut client, left), "150");
    send(&mut client, &[parent("update", 1001)]);
    assert_eq!(value(&mut client, left), "50");
    run(&mut client, "reset sequin.heal_time");
    send(
        &mut client,
        &[change("insert", "other", 1002, r#"{"id":1}"#)],
    );
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
}
