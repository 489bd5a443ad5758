//! Keys that are equal though they look different, and keys that change in large numbers.

use std::time::Instant;

use postgres::Client;
use support::{
    Database, Message, Random, deleted, has_extensions, rows, run, send, stale, upserted, value,
};

use super::{GUARDS, ITEM, ITEMS, item, map, mapped, moved, record};

#[test]
fn keys_that_are_equal_are_one_row() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_keys_{guard}"));
        let mut client = database.connect();
        let citext = has_extensions(&mut client, &["citext"]);
        if citext {
            run(&mut client, "create extension citext");
        }
        for (table, definition, one, other) in [
            ("numbers", "numeric", r#""1.0""#, r#""1.00""#),
            ("floats", "float8", "0", "-0.0"),
            ("padded", "char(4)", r#""ab""#, r#""ab  ""#),
            ("folded", "citext", r#""Ab""#, r#""aB""#),
            (
                "times",
                "timestamptz",
                r#""2025-01-01T00:00:00Z""#,
                r#""2025-01-01T01:00:00+01:00""#,
            ),
            ("months", "interval", r#""1 month""#, r#""30 days""#),
            (
                "documents",
                "jsonb",
                r#"{"a":1,"b":2}"#,
                r#"{"b":2,"a":1.0}"#,
            ),
            ("lists", "numeric[]", r#"["1.0"]"#, r#"["1.00"]"#),
        ] {
            if definition == "citext" && !citext {
                continue;
            }
            run(
                &mut client,
                &format!("create table {table} (id {definition} primary key, name text)"),
            );
            map(&mut client, table, guard, "");
            let of = |action, lsn, id: &str, name: &str| {
                Message::new(
                    action,
                    table,
                    lsn,
                    format!(r#"{{"id":{id},"name":"{name}"}}"#),
                )
            };
            let name = format!("select coalesce(string_agg(name, ','), '') from {table}");
            assert_eq!(
                send(&mut client, &[of("insert", 10, one, "a")]),
                upserted(1),
                "{guard} {table}"
            );
            assert_eq!(
                send(&mut client, &[of("update", 9, other, "z")]),
                stale(1),
                "{guard} {table}"
            );
            assert_eq!(value(&mut client, &name), "a", "{guard} {table}");
            let two = [of("update", 11, other, "b"), of("update", 12, one, "c")];
            let counts = send(&mut client, &two);
            assert_eq!(
                (counts.upserted, counts.collapsed),
                (1, 1),
                "{guard} {table}"
            );
            assert_eq!(value(&mut client, &name), "c", "{guard} {table}");
            assert_eq!(
                send(&mut client, &[of("delete", 20, other, "")]),
                deleted(1),
                "{guard} {table}"
            );
            assert_eq!(
                send(&mut client, &[of("update", 15, one, "late")]),
                stale(1),
                "{guard} {table}"
            );
            assert_eq!(value(&mut client, &name), "", "{guard} {table}");
        }
    }
}

#[test]
fn ten_thousand_keys_are_shifted() {
    const N: i64 = 10_000;
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_shift10k_{guard}"));
        let mut client = database.connect();
        for (order, size) in [
            ("commit", 10_000),
            ("commit", 500),
            ("reverse", 10_000),
            ("reverse", 500),
            ("random", 10_000),
            ("random", 500),
        ] {
            let table = format!("item_{order}_{size}");
            run(
                &mut client,
                &format!("create table {table} (id integer primary key, name text)"),
            );
            map(&mut client, &table, guard, "");
            let named = |message: Message| message.table(&table);
            let inserts: Vec<Message> = (1..=N)
                .map(|id| named(item("insert", 1, record(id, &format!("n{id}"))).idx(id as u64)))
                .collect();
            send(&mut client, &inserts);
            let mut shift: Vec<Message> = (1..=N)
                .map(|id| named(moved(2, id as u64, id, id + 1, &format!("n{id}"))))
                .collect();
            match order {
                "reverse" => shift.reverse(),
                "random" => Random::new(3).shuffle(&mut shift),
                _ => {}
            }
            let begun = Instant::now();
            for batch in shift.chunks(size) {
                send(&mut client, batch);
            }
            eprintln!(
                "shift of {N} rows, {order} order, batches of {size}, guard {guard}: {} ms",
                begun.elapsed().as_millis()
            );
            let right = format!(
                "select count(*), count(*) filter (where name = 'n' || id - 1), min(id), max(id) from {table}"
            );
            assert_eq!(
                value(&mut client, &right),
                format!("{N}|{N}|2|{}", N + 1),
                "{order} order, batches of {size}, guard {guard}"
            );
        }
    }
}

/// Plans that were made while the tables were empty look rows up by their keys, however many there are.
#[test]
fn rows_are_looked_up_by_their_keys() {
    const N: i64 = 5_000;
    for guard in GUARDS {
        let (_database, mut client) = mapped("plans", ITEM, guard);
        let inserts: Vec<Message> = (1..=N)
            .map(|id| item("insert", 1, record(id, &format!("n{id}"))).idx(id as u64))
            .collect();
        let shift: Vec<Message> = (1..=N)
            .map(|id| moved(2, id as u64, id, id + 1, &format!("n{id}")))
            .collect();
        let reads = |client: &mut Client| -> Vec<(String, usize)> {
            rows(
                client,
                "select relname, coalesce(idx_tup_fetch, 0) + seq_tup_read from pg_stat_xact_all_tables
                 where relname in ('item', 'row_version', 'tombstone') order by 1",
            )
            .iter()
            .map(|line| {
                let (table, read) = line.split_once('|').expect("two columns");
                (table.to_owned(), read.parse().expect("a number"))
            })
            .collect()
        };
        let check = |client: &mut Client, batch: &[Message], what: &str| {
            run(client, "begin");
            // earlier transactions count too until they are reported, in one piece with this one
            let before = reads(client);
            send(client, batch);
            let after = reads(client);
            run(client, "commit");
            for ((table, before), (_, after)) in before.iter().zip(&after) {
                let read = after.saturating_sub(*before);
                assert!(
                    read <= 10 * batch.len(),
                    "{guard}: {what} of {} read {read} rows of {table}",
                    batch.len()
                );
            }
        };
        for (what, messages) in [("inserts", inserts), ("a shift", shift)] {
            for batch in messages.chunks(250) {
                check(&mut client, batch, what);
            }
        }
        let deletes: Vec<Message> = (2..=N + 1)
            .map(|id| item("delete", 3, record(id, "")).idx(id as u64))
            .collect();
        for batch in deletes.chunks(250) {
            check(&mut client, batch, "deletes");
        }
        assert_eq!(rows(&mut client, ITEMS), [""; 0]);
    }
}
