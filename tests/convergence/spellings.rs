//! Keys that are equal and spelled otherwise.

use postgres::Client;
use support::{Database, GUARDS, Message, has_icu, run, send, server, stale, upserted, value};

use super::item;

/// A type, a value as JSON and as SQL shows it, and another spelling of it.
const KEYS: [(&str, [&str; 2], [&str; 2]); 6] = [
    ("numeric", ["\"1.0\"", "1.0"], ["\"1.00\"", "1.00"]),
    ("rate", ["\"1.0\"", "1.0"], ["\"1.00\"", "1.00"]),
    (
        "interval",
        ["\"24:00:00\"", "24:00:00"],
        ["\"1 day\"", "1 day"],
    ),
    ("float8", ["0", "0"], ["\"-0\"", "-0"]),
    (
        "text collate any_case",
        ["\"ANN\"", "ANN"],
        ["\"Ann\"", "Ann"],
    ),
    (
        "numeric[]",
        ["[\"1.0\"]", "{1.0}"],
        ["[\"1.00\"]", "{1.00}"],
    ),
];

fn mapped(test: &str, n: usize, key: &str, guard: &str) -> (Database, Client) {
    let database = Database::new(&format!("convergence_{test}_{n}_{guard}"));
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "set client_min_messages = error;
             create collation any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create domain rate as numeric;
             create table item (part integer, id {key}, name text, body text, n integer unique, primary key (part, id));
             select sequin.map('public.item', 'item', guard => '{guard}', name => 'item')"
        ),
    );
    (database, client)
}

fn record(id: &str, name: &str) -> String {
    format!(r#"{{"part":1,"id":{id},"name":"{name}","body":"b"}}"#)
}

#[test]
fn the_newest_change_spells_the_key() {
    if !has_icu(&mut server()) {
        return;
    }
    for guard in GUARDS {
        for (n, (key, [a, a_shown], [b, b_shown])) in KEYS.into_iter().enumerate() {
            let at = format!("{key} {guard}");
            let (_database, mut client) = mapped("spelled", n, key, guard);
            let now =
                |client: &mut Client| value(client, "select id::text || '|' || name from item");
            let update = |lsn: u64, id: &str, name: &str| item("update", lsn, record(id, name));
            let whole = |action: &str, lsn: u64, id: &str| item(action, lsn, record(id, "x"));
            send(&mut client, &[whole("insert", 10, a)]);
            // An update, with and without the former key.
            assert_eq!(
                send(&mut client, &[update(20, b, "b")]),
                upserted(1),
                "{at}"
            );
            assert_eq!(now(&mut client), format!("{b_shown}|b"), "{at}");
            let former = format!(r#"{{"id":{b}}}"#);
            send(&mut client, &[update(30, a, "a").changes(former)]);
            assert_eq!(now(&mut client), format!("{a_shown}|a"), "{at}");
            // A delete and an insert of one batch, or of one transaction.
            let again = [
                whole("delete", 40, a),
                item("insert", 40, record(b, "c")).idx(1),
            ];
            send(&mut client, &again);
            assert_eq!(now(&mut client), format!("{b_shown}|c"), "{at}");
            // A read.
            send(&mut client, &[item("read", 3600, record(a, "d"))]);
            assert_eq!(now(&mut client), format!("{a_shown}|d"), "{at}");
            if guard == "off" {
                continue;
            }
            // An older change does not, also where it fills a value.
            assert_eq!(send(&mut client, &[update(35, b, "e")]), stale(1), "{at}");
            let unchanged = format!(r#"{{"part":1,"id":{a},"name":"f","body":"unchanged_toast"}}"#);
            send(&mut client, &[item("update", 5000, unchanged)]);
            let late = format!(r#"{{"part":1,"id":{b},"name":"g","body":"late"}}"#);
            send(&mut client, &[item("update", 4900, late)]);
            assert_eq!(now(&mut client), format!("{a_shown}|f"), "{at}");
            assert_eq!(value(&mut client, "select body from item"), "late", "{at}");
        }
    }
}

/// Rows that are written together, and rows that are there already.
#[test]
fn keys_are_spelled_in_every_way_to_write() {
    if !has_icu(&mut server()) {
        return;
    }
    for guard in GUARDS {
        let (_database, mut client) = mapped("spelled_together", 0, "numeric", guard);
        let row = |action: &str, lsn: u64, id: &str, n: i64| -> Message {
            let record = format!(r#"{{"part":1,"id":"{id}","name":"x","n":{n}}}"#);
            item(action, lsn, record)
        };
        send(
            &mut client,
            &[row("insert", 1, "1.0", 1), row("insert", 2, "2.0", 2)],
        );
        let swap = [
            row("update", 3, "1.0", 3),
            row("update", 4, "2.00", 1),
            row("update", 5, "1.00", 2),
        ];
        send(&mut client, &swap);
        assert_eq!(
            value(
                &mut client,
                "select string_agg(id || ' ' || n, ', ' order by id) from item"
            ),
            "1.00 2, 2.00 1",
            "{guard}"
        );
        // A row that is only updated, for it lacks a value that an insert needs.
        run(
            &mut client,
            "alter table item add column due date; update item set due = 'today'; alter table item alter due set not null",
        );
        send(&mut client, &[row("update", 6, "1.000", 2)]);
        assert_eq!(
            value(&mut client, "select id from item where n = 2"),
            "1.000",
            "{guard}"
        );
    }
}

/// Numbers that the server's own hash takes for one are different keys.
#[test]
fn keys_that_differ_in_their_sign_are_different() {
    for (name, spelled, keys) in [
        (
            "numeric",
            "numeric",
            &[
                "1",
                "-1",
                "0.5",
                "-0.5",
                "123456789012345678901234567890123456.5",
                "-123456789012345678901234567890123456.5",
                "0",
                "NaN",
                "Infinity",
                "-Infinity",
            ][..],
        ),
        (
            "array",
            "numeric[]",
            &["{1,-2}", "{-1,2}", "{1,2}", "{-1,-2}"],
        ),
        ("range", "numrange", &["[1,2)", "[-1,2)", "[-2,1)"]),
        ("jsonb", "jsonb", &["1", "-1", "[1, -2]", "[-1, 2]"]),
    ] {
        for guard in ["off", "columns", "table"] {
            let database = Database::new(&format!("signs_{name}_{guard}"));
            let mut client = database.connect();
            run(
                &mut client,
                &format!(
                    "set client_min_messages = error;
                     create table item (id {spelled} primary key, name text);
                     select sequin.map('public.item', 'item', guard => '{guard}', name => 'item')"
                ),
            );
            let of = |action: &str, n: usize| {
                let key = match spelled {
                    "jsonb" => keys[n].to_owned(),
                    _ => format!("\"{}\"", keys[n]),
                };
                item(
                    action,
                    n as u64 + 1,
                    format!(r#"{{"id":{key},"name":"{n}"}}"#),
                )
            };
            let all: Vec<Message> = (0..keys.len()).map(|n| of("insert", n)).collect();
            send(&mut client, &all);
            assert_eq!(
                value(&mut client, "select count(*) from item"),
                keys.len().to_string(),
                "{spelled} {guard}"
            );
            send(&mut client, &[item("delete", 100, all[1].record.clone())]);
            assert_eq!(
                value(
                    &mut client,
                    "select string_agg(name, ',' order by name::int) from item where name in ('0', '1')"
                ),
                "0",
                "{spelled} {guard}"
            );
        }
    }
}
