//! Several mappings supply columns of one row: it is there as long as one of them has it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{Database, Message, Random, deleted, error, rows, run, send, value};

const PERSON: &str =
    "create table person (id integer primary key, name text, city text default 'none')";

const PERSONS: &str = "select id, name, city from person order by id";

/// A table whose columns two mappings supply: `named` and `housed`.
fn mapped(test: &str, ddl: &str, more: &str) -> (Database, Client) {
    let database = Database::new(&format!("convergence_parts_{test}"));
    let mut client = database.connect();
    run(&mut client, ddl);
    for (source, name, column) in [("names", "named", "name"), ("homes", "housed", "city")] {
        run(
            &mut client,
            &format!(
                r#"select sequin.map('public.{source}', 'person', name => '{name}', guard => 'table',
                       columns => '{{"id": "record.id", "{column}": "record.{column}"}}'{more})"#
            ),
        );
    }
    (database, client)
}

fn message(action: &str, table: &str, lsn: u64, id: i64, value: &str) -> Message {
    let column = match table {
        "names" => "name",
        _ => "city",
    };
    let record = format!(r#"{{"id":{id},"{column}":"{value}"}}"#);
    Message::new(action, table, lsn, record)
}

fn name(action: &str, lsn: u64, id: i64, value: &str) -> Message {
    message(action, "names", lsn, id, value)
}

fn city(action: &str, lsn: u64, id: i64, value: &str) -> Message {
    message(action, "homes", lsn, id, value)
}

/// The row of two histories: both tables joined.
fn row(id: i64, name: Option<&str>, city: Option<&str>) -> Option<String> {
    (name.is_some() || city.is_some())
        .then(|| format!("{id}|{}|{}", name.unwrap_or("null"), city.unwrap_or("none")))
}

/// Rows of two tables, with a random history each: the messages in a random order, and the rows that must be there at
/// the end.
fn history(seed: u64, changes: u64) -> (Vec<Message>, Vec<String>) {
    let mut random = Random::new(seed);
    let mut now: BTreeMap<(i64, &str), String> = BTreeMap::new();
    let mut messages = Vec::new();
    for lsn in 1..=changes {
        let id = random.below(12) as i64;
        let table = *random.of(&["names", "homes"]);
        let value = format!("{table}{lsn}");
        let key = (id, table);
        let action = match (now.contains_key(&key), random.below(3)) {
            (false, _) => "insert",
            (true, 0) => "delete",
            (true, _) => "update",
        };
        messages.push(message(action, table, lsn, id, &value));
        match action {
            "delete" => drop(now.remove(&key)),
            _ => drop(now.insert(key, value)),
        }
    }
    messages.extend(messages.clone().into_iter().take(30));
    random.shuffle(&mut messages);
    let wanted = (0..12).filter_map(|id| {
        let of = |table| now.get(&(id, table)).map(String::as_str);
        row(id, of("names"), of("homes"))
    });
    (messages, wanted.collect())
}

/// Sends messages in calls of a random size.
fn send_in_calls(client: &mut Client, messages: &[Message], seed: u64) {
    let mut random = Random::new(seed);
    let mut rest = messages;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(1 + random.below(9) as usize));
        assert_eq!(send(client, now).dead, 0);
        rest = later;
    }
}

#[test]
fn the_row_is_both_tables_joined() {
    for seed in 0..6 {
        let (_database, mut client) = mapped(&format!("joined_{seed}"), PERSON, "");
        let (messages, wanted) = history(seed, 120);
        send_in_calls(&mut client, &messages, seed);
        assert_eq!(rows(&mut client, PERSONS), wanted, "seed {seed}");
    }
}

#[test]
fn the_row_is_both_tables_joined_whoever_brings_it() {
    for seed in 10..13 {
        let (database, mut client) = mapped(&format!("sessions_{seed}"), PERSON, "");
        let (messages, wanted) = history(seed, 900);
        thread::scope(|scope| {
            for (n, part) in messages.chunks(messages.len().div_ceil(4)).enumerate() {
                let database = &database;
                scope.spawn(move || {
                    send_in_calls(&mut database.connect(), part, seed + n as u64);
                });
            }
        });
        assert_eq!(rows(&mut client, PERSONS), wanted, "seed {seed}");
    }
}

#[test]
fn a_delete_takes_the_columns_of_its_mapping() {
    let (_database, mut client) = mapped("takes", PERSON, "");
    let all = |client: &mut Client| rows(client, PERSONS);
    send(
        &mut client,
        &[name("insert", 1, 1, "Ana"), city("insert", 2, 1, "Oslo")],
    );
    assert_eq!(
        send(&mut client, &[name("delete", 3, 1, "Ana")]),
        deleted(1)
    );
    assert_eq!(all(&mut client), ["1|null|Oslo"]);
    // It comes again, and the other goes.
    send(&mut client, &[name("insert", 4, 1, "Eva")]);
    assert_eq!(all(&mut client), ["1|Eva|Oslo"]);
    send(&mut client, &[city("delete", 5, 1, "Oslo")]);
    assert_eq!(all(&mut client), ["1|Eva|none"]);
    send(&mut client, &[name("delete", 6, 1, "Eva")]);
    assert!(all(&mut client).is_empty());
    // Both in one call, in either order, and together with the inserts.
    send(
        &mut client,
        &[name("insert", 7, 2, "Ana"), city("insert", 8, 2, "Oslo")],
    );
    send(
        &mut client,
        &[city("delete", 9, 2, "Oslo"), name("delete", 10, 2, "Ana")],
    );
    assert!(all(&mut client).is_empty());
    // A row that is deleted and comes again in one call is another row of that table alone.
    send(
        &mut client,
        &[name("insert", 11, 3, "Ana"), city("insert", 12, 3, "Oslo")],
    );
    let again = Message::new("insert", "names", 14, r#"{"id":3}"#);
    send(&mut client, &[name("delete", 13, 3, "Ana"), again]);
    assert_eq!(all(&mut client), ["3|null|Oslo"]);
    // Without the other mapping, the row goes.
    run(&mut client, "select sequin.unmap('housed')");
    send(&mut client, &[name("delete", 15, 3, "Ana")]);
    assert!(all(&mut client).is_empty());
}

/// `sequin.explain` shows the statement.
#[test]
fn the_statement_that_takes_columns_is_explained() {
    let (_database, mut client) = mapped("explained", PERSON, "");
    let statement = "select sql from sequin.explain('housed') where name = 'delete of a row that other mappings have'";
    let sql = value(&mut client, statement);
    assert!(
        sql.starts_with("update public.person as d set city = default from "),
        "{sql}"
    );
    run(&mut client, "select sequin.unmap('named')");
    assert!(rows(&mut client, statement).is_empty());
}

/// A session that has made its plans learns of a new mapping.
#[test]
fn a_new_mapping_is_known_to_every_session() {
    let database = Database::new("convergence_parts_new");
    let (mut client, mut other) = (database.connect(), database.connect());
    run(&mut client, PERSON);
    let map = |source: &str, name: &str, column: &str| {
        format!(
            r#"select sequin.map('public.{source}', 'person', name => '{name}', guard => 'table',
                   columns => '{{"id": "record.id", "{column}": "record.{column}"}}')"#
        )
    };
    run(&mut client, &map("names", "named", "name"));
    let insert = |id: i64| name("insert", 1, id, "Ana");
    send(&mut other, &[insert(1), insert(2)]);
    send(&mut other, &[name("delete", 2, 2, "Ana")]);
    run(&mut client, &map("homes", "housed", "city"));
    send(&mut client, &[city("insert", 3, 1, "Oslo")]);
    send(&mut other, &[name("delete", 4, 1, "Ana")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo"]);
}

#[test]
fn two_deletes_at_once_remove_the_row() {
    let (database, mut client) = mapped("at_once", PERSON, "");
    for first in ["names", "homes"] {
        let second = if first == "names" { "homes" } else { "names" };
        let lsn = if first == "names" { 10 } else { 20 };
        send(
            &mut client,
            &[
                message("insert", first, lsn, 1, "a"),
                message("insert", second, lsn, 1, "b"),
            ],
        );
        run(&mut client, "begin");
        send(&mut client, &[message("delete", first, lsn + 1, 1, "a")]);
        let mut other = database.connect();
        let pid = value(&mut other, "select pg_backend_pid()");
        let delete = message("delete", second, lsn + 1, 1, "b");
        let sent = thread::spawn(move || send(&mut other, &[delete]));
        let mut watch = database.connect();
        let end = Instant::now() + Duration::from_secs(30);
        let waits = format!("select cardinality(pg_blocking_pids({pid})) > 0");
        while value(&mut watch, &waits) != "t" {
            assert!(Instant::now() < end);
            thread::yield_now();
        }
        run(&mut client, "commit");
        assert_eq!(sent.join().expect("the call ends"), deleted(1));
        assert!(rows(&mut client, PERSONS).is_empty(), "{first}");
    }
}

#[test]
fn a_key_change_takes_the_columns_of_its_mapping_along() {
    let (_database, mut client) = mapped("moves", PERSON, "");
    send(
        &mut client,
        &[name("insert", 1, 1, "Ana"), city("insert", 2, 1, "Oslo")],
    );
    send(&mut client, &[city("insert", 3, 2, "Bonn")]);
    let moved = |lsn, from: i64, to: i64, value: &str| {
        name("update", lsn, to, value).changes(format!(r#"{{"id":{from}}}"#))
    };
    // To a row of the other mapping, with a value that the message does not repeat.
    send(&mut client, &[moved(4, 1, 2, "unchanged_toast")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo", "2|Ana|Bonn"]);
    // To a key without a row.
    send(&mut client, &[moved(5, 2, 3, "Eva")]);
    assert_eq!(
        rows(&mut client, PERSONS),
        ["1|null|Oslo", "2|null|Bonn", "3|Eva|none"]
    );
    // The old row of no other mapping goes.
    send(&mut client, &[moved(6, 3, 1, "Eva")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|Eva|Oslo", "2|null|Bonn"]);
}

#[test]
fn a_filter_lets_the_part_go() {
    let (_database, mut client) = mapped(
        "filter",
        PERSON,
        ", filter => 'coalesce(record->>''name'', record->>''city'') <> ''x'''",
    );
    send(
        &mut client,
        &[name("insert", 1, 1, "Ana"), city("insert", 2, 1, "Oslo")],
    );
    send(&mut client, &[name("update", 3, 1, "x")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo"]);
    send(&mut client, &[city("update", 4, 1, "x")]);
    assert!(rows(&mut client, PERSONS).is_empty());
}

/// Filters of mappings that write different columns tell nothing of whose row it is.
#[test]
fn two_filters_share_the_row() {
    let (_database, mut client) = mapped("filters", PERSON, "");
    run(
        &mut client,
        "select sequin.alter_mapping('named', filter => 'record->>''name'' <> ''x''');
         select sequin.alter_mapping('housed', filter => 'record->>''city'' <> ''y''')",
    );
    send(
        &mut client,
        &[name("insert", 1, 1, "Ana"), city("insert", 2, 1, "Oslo")],
    );
    send(&mut client, &[name("update", 3, 1, "x")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo"]);
    send(&mut client, &[city("update", 4, 1, "y")]);
    assert!(rows(&mut client, PERSONS).is_empty());
    run(
        &mut client,
        "alter table person add sequin_lsn bigint, add sequin_idx integer, add sequin_committed_at timestamptz",
    );
    let refused = error(
        &mut client,
        "select sequin.alter_mapping('housed', guard => 'columns')",
    );
    assert_eq!(refused.code().code(), "42809");
}

/// Mappings that ignore deletes, or mark rows as deleted, leave the columns of others, too.
#[test]
fn other_deletes_leave_the_columns_of_others() {
    let ddl = "create table person (id integer primary key, name text, city text default 'none', gone boolean)";
    let (_database, mut client) = mapped("modes", ddl, "");
    let all = "select id, name, city from person where gone is not true order by id";
    for mode in [
        "on_delete => 'ignore'",
        "on_delete => 'soft', soft_delete => 'gone'",
    ] {
        run(
            &mut client,
            &format!(
                "truncate person; select sequin.forget_versions('named'), sequin.forget_versions('housed');
                 select sequin.alter_mapping('named', {mode})"
            ),
        );
        send(
            &mut client,
            &[name("insert", 1, 1, "Ana"), city("insert", 2, 1, "Oslo")],
        );
        let moved = name("update", 3, 2, "Ana").changes(r#"{"id":1}"#);
        send(&mut client, &[moved]);
        let wanted = ["1|null|Oslo", "2|Ana|none"];
        assert_eq!(rows(&mut client, all), wanted, "{mode}");
    }
    send(&mut client, &[city("insert", 4, 2, "Bonn")]);
    send(&mut client, &[name("delete", 5, 2, "Ana")]);
    assert_eq!(rows(&mut client, all), ["1|null|Oslo", "2|null|Bonn"]);
    // Both in one call.
    send(
        &mut client,
        &[name("insert", 6, 1, "Eva"), name("delete", 7, 1, "Eva")],
    );
    assert_eq!(rows(&mut client, all), ["1|null|Oslo", "2|null|Bonn"]);
    // A row of its own is marked.
    send(&mut client, &[name("insert", 8, 3, "Ida")]);
    send(&mut client, &[name("delete", 9, 3, "Ida")]);
    let gone = "select gone from person where id = 3";
    assert_eq!(value(&mut client, gone), "t");
    // A resync does not mark a row that the other has.
    send(&mut client, &[name("insert", 10, 1, "Ava")]);
    run(&mut client, "select sequin.begin_resync('named')");
    run(
        &mut client,
        "select sequin.finish_resync('named', min_confirmed => 0)",
    );
    assert_eq!(rows(&mut client, all), ["1|null|Oslo", "2|null|Bonn"]);
}

#[test]
fn a_resync_takes_the_columns_of_its_mapping() {
    let (_database, mut client) = mapped("resync", PERSON, "");
    for id in 1..=4 {
        send(&mut client, &[name("insert", 10, id, "Ana")]);
    }
    for id in 3..=6 {
        send(&mut client, &[city("insert", 11, id, "Oslo")]);
    }
    // Lost: the deletes of the names 2 and 3. Rows of cities alone are not this mapping's.
    send(&mut client, &[name("delete", 12, 4, "Ana")]);
    run(&mut client, "select sequin.begin_resync('named')");
    send(&mut client, &[name("read", 1_000, 1, "Ana")]);
    let finish =
        |more: &str| format!("select sequin.finish_resync('named', min_confirmed => 0{more})");
    assert_eq!(value(&mut client, &finish(", dry_run => true")), "2");
    assert_eq!(value(&mut client, &finish("")), "2");
    let wanted = [
        "1|Ana|none",
        "3|null|Oslo",
        "4|null|Oslo",
        "5|null|Oslo",
        "6|null|Oslo",
    ];
    assert_eq!(rows(&mut client, PERSONS), wanted);
    // The same in portions.
    run(&mut client, "select sequin.begin_resync('housed')");
    send(
        &mut client,
        &[
            city("read", 1_001, 3, "Oslo"),
            name("insert", 1_002, 4, "Eva"),
        ],
    );
    run(
        &mut client,
        "call sequin.finish_resync_in_portions('housed', min_confirmed => 0)",
    );
    let wanted = ["1|Ana|none", "3|null|Oslo", "4|Eva|none"];
    assert_eq!(rows(&mut client, PERSONS), wanted);
    // What comes late does not bring them back.
    send(
        &mut client,
        &[city("insert", 11, 5, "Oslo"), name("insert", 10, 2, "Ana")],
    );
    assert_eq!(rows(&mut client, PERSONS), wanted);
}

/// A large value that an update does not repeat, before its insert has come.
#[test]
fn a_row_of_the_other_mapping_has_no_value() {
    let (_database, mut client) = mapped("unchanged", PERSON, "");
    send(&mut client, &[city("insert", 1, 1, "Oslo")]);
    send(&mut client, &[name("update", 5, 1, "unchanged_toast")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo"]);
    send(&mut client, &[name("insert", 4, 1, "Ana")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|Ana|Oslo"]);
    // Nor after a delete.
    send(&mut client, &[name("delete", 6, 1, "Ana")]);
    send(&mut client, &[name("update", 9, 1, "unchanged_toast")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo"]);
    send(&mut client, &[name("insert", 8, 1, "Eva")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|Eva|Oslo"]);
    // A read of the one brings nothing of the other.
    send(&mut client, &[name("read", 1_000, 2, "Ida")]);
    send(&mut client, &[city("update", 20, 2, "unchanged_toast")]);
    send(&mut client, &[city("insert", 19, 2, "Bonn")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|Eva|Oslo", "2|Ida|Bonn"]);
}

/// Rows that were there before the mappings, or whose versions are forgotten, have no versions but values.
#[test]
fn rows_without_versions_are_told_by_their_values() {
    let ddl = "create table person (id integer primary key, name text, city text)";
    let (_database, mut client) = mapped("before", ddl, "");
    run(
        &mut client,
        "insert into person select i, 'n' || i, case when i % 2 = 0 then 'c' || i end from generate_series(1, 6) i",
    );
    let deletes = [1, 2].map(|id| name("delete", 10, id, "n"));
    send(&mut client, &deletes);
    let wanted = ["2|null|c2", "3|n3|null", "4|n4|c4", "5|n5|null", "6|n6|c6"];
    assert_eq!(rows(&mut client, PERSONS), wanted);
    // A row that lost its city has none.
    send(&mut client, &[city("delete", 11, 2, "c2")]);
    send(
        &mut client,
        &[city("delete", 12, 4, "c4"), name("delete", 13, 4, "n4")],
    );
    assert_eq!(
        rows(&mut client, PERSONS),
        ["3|n3|null", "5|n5|null", "6|n6|c6"]
    );
    send(
        &mut client,
        &[name("update", 14, 6, "a"), city("update", 15, 6, "b")],
    );
    run(&mut client, "select sequin.forget_versions('housed')");
    send(&mut client, &[name("delete", 16, 6, "a")]);
    assert_eq!(
        rows(&mut client, PERSONS),
        ["3|n3|null", "5|n5|null", "6|null|b"]
    );
}

/// Unique values that rows give away and get in one call.
#[test]
fn cleared_values_are_free() {
    let ddl =
        "create table person (id integer primary key, name text unique, city text default 'none')";
    let (_database, mut client) = mapped("free", ddl, "");
    send(
        &mut client,
        &[name("insert", 1, 1, "x"), name("insert", 1, 2, "y").idx(1)],
    );
    send(
        &mut client,
        &[
            city("insert", 2, 1, "Oslo"),
            city("insert", 2, 2, "Bonn").idx(1),
        ],
    );
    let counts = send(
        &mut client,
        &[
            name("delete", 3, 2, "y"),
            name("update", 4, 1, "y"),
            name("insert", 5, 3, "x"),
        ],
    );
    assert_eq!(counts.dead, 0);
    assert_eq!(
        rows(&mut client, PERSONS),
        ["1|y|Oslo", "2|null|Bonn", "3|x|none"]
    );
    // In a circle.
    let counts = send(
        &mut client,
        &[
            name("update", 6, 1, "x"),
            name("update", 7, 3, "z"),
            name("insert", 8, 2, "y"),
            city("delete", 9, 2, "Bonn"),
        ],
    );
    assert_eq!(counts.dead, 0);
    assert_eq!(
        rows(&mut client, PERSONS),
        ["1|x|Oslo", "2|y|none", "3|z|none"]
    );
}

/// The order of the key's columns differs.
#[test]
fn keys_in_another_order_are_the_same_keys() {
    let database = Database::new("convergence_parts_order");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create table person (a integer, b text, name text, city text, primary key (a, b));
           select sequin.map('public.names', 'person', name => 'named', guard => 'table',
               columns => '{"a": "record.a", "b": "record.b", "name": "record.name"}');
           select sequin.map('public.homes', 'person', name => 'housed', guard => 'table', key => '{b,a}',
               columns => '{"a": "record.a", "b": "record.b", "city": "record.city"}')"#,
    );
    let of = |action: &str, table: &str, lsn, more: &str| {
        Message::new(action, table, lsn, format!(r#"{{"a":1,"b":"x"{more}}}"#))
    };
    send(
        &mut client,
        &[
            of("insert", "names", 1, r#","name":"Ana""#),
            of("insert", "homes", 2, r#","city":"Oslo""#),
        ],
    );
    send(&mut client, &[of("delete", "names", 3, "")]);
    assert_eq!(rows(&mut client, "select * from person"), ["1|x|null|Oslo"]);
    send(&mut client, &[of("insert", "names", 4, r#","name":"Eva""#)]);
    send(&mut client, &[of("delete", "homes", 5, "")]);
    assert_eq!(rows(&mut client, "select * from person"), ["1|x|Eva|null"]);
}

/// A mapping that keeps what its source deletes keeps the row.
#[test]
fn a_mapping_that_ignores_deletes_keeps_the_row() {
    let (_database, mut client) = mapped("ignores", PERSON, "");
    run(
        &mut client,
        "select sequin.alter_mapping('housed', on_delete => 'ignore')",
    );
    send(
        &mut client,
        &[name("insert", 1, 1, "Ana"), city("insert", 2, 1, "Oslo")],
    );
    send(&mut client, &[city("delete", 3, 1, "Oslo")]);
    send(&mut client, &[name("delete", 4, 1, "Ana")]);
    assert_eq!(rows(&mut client, PERSONS), ["1|null|Oslo"]);
}
