//! Versions follow the key where its columns get another type or order, and the mapping another key or guard; or the
//! mapping says what to run.

use postgres::Client;
use support::{Database, Message, error, rows, run, send, stale, upserted, value};

use super::guards::with_notices;
use super::{GUARDS, item, map};

const ROWS: &str = "select id, name from item order by 1";

fn record(id: &str, name: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}"}}"#)
}

/// Two rows, of which one is deleted, and the older changes of both.
fn two(client: &mut Client, one: &str, two: &str) -> Vec<Message> {
    send(
        client,
        &[
            item("insert", 10, record(one, "new")),
            item("insert", 10, record(two, "x")).idx(1),
        ],
    );
    send(client, &[item("delete", 20, record(two, "x"))]);
    vec![
        item("update", 5, record(one, "old")),
        item("update", 15, record(two, "back")),
    ]
}

/// What alters a key, the former keys, and these keys as the source sends them then.
const ALTERED: [(&str, &str, [&str; 2], &str); 8] = [
    ("int", "numeric", ["1", "2"], ""),
    ("int", "bigint", ["1", "2"], ""),
    ("bigint", "text", ["7", "8"], ""),
    ("int", "varchar(20)", ["7", "8"], ""),
    (
        "uuid",
        "text",
        [
            "\"00000000-0000-0000-0000-0000000000a1\"",
            "\"00000000-0000-0000-0000-0000000000a2\"",
        ],
        "",
    ),
    (
        "text",
        "uuid",
        [
            "\"00000000-0000-0000-0000-0000000000a1\"",
            "\"00000000-0000-0000-0000-0000000000a2\"",
        ],
        " using id::uuid",
    ),
    (
        "date",
        "timestamp",
        ["\"2026-01-02\"", "\"2026-01-03\""],
        "",
    ),
    ("text", "int", ["\"1\"", "\"2\""], " using id::int"),
];

#[test]
fn versions_follow_the_type_of_the_key() {
    for guard in GUARDS {
        for (n, (from, to, keys, using)) in ALTERED.iter().enumerate() {
            let database = Database::new(&format!("altered_type_{guard}_{n}"));
            let mut client = database.connect();
            run(
                &mut client,
                &format!("create table item (id {from} primary key, name text)"),
            );
            map(&mut client, "item", guard, "");
            let older = two(&mut client, keys[0], keys[1]);
            run(&mut client, "truncate sequin.tombstone"); // pruned by now
            run(
                &mut client,
                &format!("alter table item alter id type {to}{using}"),
            );
            let told = format!("{guard}: {from} to {to}");
            for message in &older {
                assert_eq!(
                    send(&mut client, std::slice::from_ref(message)),
                    stale(1),
                    "{told}"
                );
            }
            assert_eq!(
                value(&mut client, "select string_agg(name, ',') from item"),
                "new",
                "{told}"
            );
            // a newer change still applies, and the deleted row can come again
            assert_eq!(
                send(
                    &mut client,
                    &[
                        item("update", 30, record(keys[0], "newer")),
                        item("insert", 31, record(keys[1], "again")),
                    ]
                ),
                upserted(2),
                "{told}"
            );
        }
    }
}

#[test]
fn values_that_tell_nothing_about_the_deleted_rows_break_the_mapping() {
    for guard in GUARDS {
        for (from, alter) in [
            ("numeric", "alter table item alter id type bigint"),
            (
                "int",
                "alter table item alter id type text using 'no ' || id",
            ),
            (
                "int",
                "alter table item alter id type uuid using md5(id::text)::uuid",
            ),
        ] {
            if guard == "columns" && alter.contains("'no '") {
                continue; // nothing tells that the values have changed
            }
            let database = Database::new(&format!("altered_broken_{guard}"));
            let mut client = database.connect();
            run(
                &mut client,
                &format!("create table item (id {from} primary key, name text)"),
            );
            map(&mut client, "item", guard, "");
            let older = two(&mut client, "1", "2");
            run(&mut client, alter);
            let before = rows(&mut client, ROWS);
            let counts = send(&mut client, &older[1..]);
            assert_eq!(counts.dead, 1, "{guard} {alter}: {counts:?}");
            assert_eq!(rows(&mut client, ROWS), before, "{guard} {alter}");
            let hint = value(&mut client, "select hint from sequin.broken_mapping");
            assert!(hint.contains("sequin.forget_versions('item')"), "{hint}");
            assert_eq!(
                value(
                    &mut client,
                    "select state from sequin.status where name = 'item'"
                ),
                "broken"
            );
            run(&mut client, "select sequin.forget_versions('item')");
            run(
                &mut client,
                "select sequin.discard(id) from sequin.dead_letter",
            );
            let id = if alter.contains("uuid") {
                "\"00000000-0000-0000-0000-0000000000a1\""
            } else {
                "5"
            };
            assert_eq!(
                send(&mut client, &[item("insert", 40, record(id, "z"))]).dead,
                0,
                "{guard} {alter}"
            );
        }
    }
}

#[test]
fn rows_give_the_keys_that_bytes_do_not_tell() {
    let database = Database::new("altered_rows");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id numeric primary key, name text)",
    );
    map(&mut client, "item", "table", "");
    send(&mut client, &[item("insert", 10, record("1.0", "new"))]);
    run(&mut client, "alter table item alter id type bigint");
    assert_eq!(
        send(&mut client, &[item("update", 5, record("1", "old"))]),
        stale(1)
    );
    run(&mut client, "alter table item alter id type text");
    assert_eq!(
        send(&mut client, &[item("update", 5, record("1", "old"))]),
        stale(1)
    );
    assert_eq!(rows(&mut client, ROWS), ["1|new"]);
}

const PAIRS: &str = "create table item (a int, b text, c text unique not null, primary key (a, b))";

fn pair(a: i64, b: &str, c: &str) -> String {
    format!(r#"{{"a":{a},"b":"{b}","c":"{c}"}}"#)
}

#[test]
fn versions_follow_the_order_of_the_key() {
    for guard in GUARDS {
        for change in [
            "alter table item drop constraint item_pkey, add primary key (b, a)",
            "create unique index on item (b, a); select sequin.alter_mapping('item', key => '{b,a}')",
            "create unique index on item (b, a); alter table item drop constraint item_pkey;
             select sequin.alter_mapping('item', key => '{b,a}')",
            "alter table item rename a to z; alter table item drop constraint item_pkey, add primary key (b, z);
             alter table item rename z to a",
        ] {
            let database = Database::new(&format!("altered_order_{guard}"));
            let (mut client, notices) = with_notices(&database);
            run(&mut client, PAIRS);
            map(&mut client, "item", guard, "");
            send(
                &mut client,
                &[
                    item("insert", 10, pair(1, "x", "c")),
                    item("insert", 10, pair(2, "y", "d")).idx(1),
                ],
            );
            send(&mut client, &[item("delete", 20, pair(2, "y", "d"))]);
            notices.lock().expect("the notices").clear();
            run(&mut client, change);
            assert_eq!(notices.lock().expect("the notices").len(), 0, "{guard} {change}");
            let older = [
                item("update", 5, pair(1, "x", "old")),
                item("update", 15, pair(2, "y", "back")),
            ];
            assert_eq!(send(&mut client, &older), stale(2), "{guard} {change}");
            assert_eq!(
                rows(&mut client, "select a, b, c from item"),
                ["1|x|c"],
                "{guard} {change}"
            );
        }
    }
}

#[test]
fn another_key_is_taken_from_the_rows_or_refused() {
    for guard in GUARDS {
        for key in ["{c}", "{a,c}", "{a}"] {
            let database = Database::new(&format!("altered_key_{guard}"));
            let (mut client, notices) = with_notices(&database);
            run(&mut client, PAIRS);
            run(
                &mut client,
                "create unique index on item (a, c); create unique index on item (a)",
            );
            map(&mut client, "item", guard, "");
            send(
                &mut client,
                &[
                    item("insert", 10, pair(1, "x", "c")),
                    item("insert", 10, pair(2, "y", "d")).idx(1),
                ],
            );
            notices.lock().expect("the notices").clear();
            let change = format!("select sequin.alter_mapping('item', key => '{key}')");
            let back = "select sequin.alter_mapping('item', reset => '{key}')";
            run(&mut client, &change);
            let told = notices.lock().expect("the notices").join("\n");
            assert_eq!(
                told.contains("begin_resync"),
                guard == "table",
                "{guard} {key}: {told}"
            );
            assert_eq!(
                send(&mut client, &[item("update", 5, pair(1, "old", "c"))]),
                stale(1),
                "{guard} {key}"
            );
            run(&mut client, back);
            send(&mut client, &[item("delete", 20, pair(2, "y", "d"))]);
            let refused = error(&mut client, &change);
            assert_eq!(refused.code().code(), "55000", "{refused:?}");
            assert!(
                refused
                    .hint()
                    .is_some_and(|hint| hint.contains("sequin.forget_versions('item')")),
                "{refused:?}"
            );
            assert_eq!(
                send(&mut client, &[item("update", 15, pair(2, "y", "d"))]),
                stale(1)
            );
            run(&mut client, "select sequin.forget_versions('item')");
            run(&mut client, &change);
        }
    }
}

#[test]
fn versions_outlive_the_mapping() {
    for (first, then) in [
        ("table", "table"),
        ("columns", "columns"),
        ("columns", "table"),
        ("table", "columns"),
    ] {
        for between in [
            "",
            "alter table item alter id type numeric",
            "truncate item",
        ] {
            let database = Database::new(&format!("altered_again_{first}_{then}"));
            let mut client = database.connect();
            run(
                &mut client,
                "create table item (id int primary key, name text)",
            );
            map(&mut client, "item", first, "");
            let older = two(&mut client, "1", "2");
            run(&mut client, "select sequin.unmap('item')");
            assert_eq!(
                value(&mut client, "select count(*) from sequin.row_version"),
                "0"
            );
            run(&mut client, between);
            map(&mut client, "item", then, "");
            let told = format!("{first} to {then}: {between}");
            assert_eq!(
                value(&mut client, "select count(*) from sequin.former_version"),
                "0"
            );
            if between == "truncate item" {
                // the rows start over
                assert_eq!(send(&mut client, &older[..1]), upserted(1), "{told}");
            } else {
                assert_eq!(send(&mut client, &older[..1]), stale(1), "{told}");
            }
            assert_eq!(send(&mut client, &older[1..]), stale(1), "{told}");
        }
    }
}

/// A mapping takes over from one whose source has tables in common; of others it says what is left.
#[test]
fn versions_outlive_the_mapping_of_another_pattern() {
    for (first, then, follow) in [
        ("public.item", "public.*", true),
        ("public.*", "public.item", true),
        ("public.it*", "*.item", true),
        ("public.item", "shop.public.item", true),
        ("public.item", "public.thing", false),
    ] {
        let database = Database::new("altered_pattern");
        let (mut client, notices) = with_notices(&database);
        run(
            &mut client,
            "create table item (id int primary key, name text)",
        );
        let map = |source: &str| {
            format!("select sequin.map('{source}', 'item', guard => 'table', name => 'item')")
        };
        run(&mut client, &map(first));
        let older = two(&mut client, "1", "2");
        run(&mut client, "select sequin.unmap('item')");
        notices.lock().expect("the notices").clear();
        run(&mut client, &map(then));
        let told = notices.lock().expect("the notices").join("\n");
        assert_eq!(
            told.contains("takes over the versions of 2 rows"),
            follow,
            "{told}"
        );
        assert_eq!(
            told.contains("does not take over") && told.contains(first),
            !follow,
            "{told}"
        );
        if follow && then != "shop.public.item" {
            assert_eq!(send(&mut client, &older), stale(2), "{first} {then}");
            assert_eq!(rows(&mut client, ROWS), ["1|new"], "{first} {then}");
        }
    }
}

#[test]
fn versions_of_removed_mappings_are_pruned() {
    let database = Database::new("altered_pruned");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id int primary key, name text)",
    );
    map(&mut client, "item", "table", "");
    two(&mut client, "1", "2");
    run(
        &mut client,
        "select sequin.unmap('item'); update sequin.former_mapping set removed_at = now() - interval '8 days'",
    );
    run(
        &mut client,
        "create table other (id int primary key, name text)",
    );
    map(&mut client, "other", "table", "");
    for left in ["0", "0"] {
        let mut client = database.connect();
        send(
            &mut client,
            &[Message::new("insert", "other", 50, record("1", "a"))],
        );
        assert_eq!(
            value(&mut client, "select count(*) from sequin.former_version"),
            left
        );
    }
    assert_eq!(
        value(&mut client, "select count(*) from sequin.former_mapping"),
        "0"
    );
}

#[test]
fn versions_move_from_the_columns_to_the_table() {
    for change in [
        "select sequin.alter_mapping('item', guard => 'table')",
        "update sequin.mapping set guard = 'table'",
        "select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    ] {
        let database = Database::new("altered_guard");
        let (mut client, notices) = with_notices(&database);
        run(
            &mut client,
            "create table item (id int primary key, name text)",
        );
        map(&mut client, "item", "columns", "");
        let older = two(&mut client, "1", "2");
        send(&mut client, &[item("read", 100, record("3", "read"))]);
        send(&mut client, &[item("read", 200, record("1", "new"))]);
        notices.lock().expect("the notices").clear();
        run(&mut client, change);
        let told = notices.lock().expect("the notices").join("\n");
        assert!(told.starts_with("the versions of 3 rows"), "{told}");
        let mut older = older;
        older.push(item("read", 99, record("3", "older")));
        older.push(item("read", 150, record("1", "older")));
        assert_eq!(send(&mut client, &older), stale(4), "{change}");
        assert_eq!(
            send(&mut client, &[item("update", 9000, record("1", "newer"))]),
            upserted(1),
            "{change}"
        );
        // and back
        run(
            &mut client,
            "select sequin.alter_mapping('item', guard => 'columns')",
        );
        assert_eq!(
            send(&mut client, &[item("update", 25, record("1", "late"))]),
            stale(1),
            "{change}"
        );
    }
}

#[test]
fn a_resync_under_way_follows_the_key() {
    for guard in GUARDS {
        let database = Database::new(&format!("altered_resync_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table item (id int primary key, name text)",
        );
        map(&mut client, "item", guard, "");
        send(
            &mut client,
            &[
                item("insert", 10, record("1", "a")),
                item("insert", 10, record("2", "b")).idx(1),
            ],
        );
        run(&mut client, "select sequin.begin_resync('item')");
        send(&mut client, &[item("read", 100, record("1", "a"))]);
        run(&mut client, "alter table item alter id type text");
        assert_eq!(
            value(&mut client, "select sequin.finish_resync('item')"),
            "1",
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, ROWS)[0].split('|').next(),
            Some("1"),
            "{guard}"
        );
    }
}

#[test]
fn letters_follow_the_key() {
    for guard in GUARDS {
        let database = Database::new(&format!("altered_letters_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table item (id int primary key, name text check (name <> 'bad'))",
        );
        map(&mut client, "item", guard, "");
        assert_eq!(
            send(&mut client, &[item("insert", 10, record("1", "bad"))]).dead,
            1
        );
        send(&mut client, &[item("insert", 11, record("2", "a"))]);
        run(&mut client, "alter table item alter id type text");
        send(&mut client, &[item("update", 20, record("1", "good"))]);
        assert_eq!(
            value(&mut client, "select count(*) from sequin.dead_letter"),
            "0",
            "{guard}"
        );
    }
}

#[test]
fn a_mapping_is_paused_while_a_call_is_under_way() {
    let database = Database::new("altered_paused");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id int primary key, name text)",
    );
    map(&mut client, "item", "table", "");
    let mut other = database.connect();
    run(&mut other, "begin");
    send(&mut other, &[item("insert", 10, record("1", "a"))]);
    run(
        &mut client,
        "set statement_timeout = '20s'; select sequin.alter_mapping('item', enabled => false)",
    );
    run(&mut other, "commit");
}
