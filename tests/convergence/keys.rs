//! Keys that are equal though they look different, and keys that change in large numbers.

use std::time::Instant;

use postgres::Client;
use support::{
    Database, Message, Random, deleted, has_extensions, rows, run, send, stale, upserted, value,
};

use super::orders::{in_every_order, in_every_order_with};
use super::{GUARDS, ITEM, ITEMS, item, map, mapped, moved, record, row};

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

/// A delete under REPLICA IDENTITY FULL, which holds the row.
fn removed(lsn: u64, idx: u64, id: i64, name: &str) -> Message {
    item("delete", lsn, record(id, name)).idx(idx)
}

#[test]
fn new_row_takes_the_key_of_a_row_that_is_deleted_after_it() {
    in_every_order("taken_by_insert", |id| {
        let messages = vec![
            item("insert", 10, record(id, "old")),
            item("insert", 20, record(id, "new")).idx(1),
            removed(20, 2, id, "old"),
        ];
        (messages, vec![row(id, "new")])
    });
    in_every_order("taken_and_updated", |id| {
        let messages = vec![
            item("update", 20, record(id, "older"))
                .idx(1)
                .changes(r#"{"name":"old"}"#),
            item("insert", 20, record(id, "new")).idx(2),
            removed(20, 3, id, "older"),
            item("update", 20, record(id, "newer"))
                .idx(4)
                .changes(r#"{"name":"new"}"#),
        ];
        (messages, vec![row(id, "newer")])
    });
    in_every_order("taken_twice", |id| {
        let messages = vec![
            item("insert", 20, record(id, "b")).idx(1),
            removed(20, 2, id, "a"),
            item("insert", 20, record(id, "c")).idx(3),
            removed(20, 4, id, "b"),
        ];
        (messages, vec![row(id, "c")])
    });
}

#[test]
fn row_moves_to_a_key_whose_row_is_deleted_after_it() {
    in_every_order("taken_by_move", |id| {
        let messages = vec![
            item("insert", 10, record(id, "one")),
            item("insert", 10, record(id + 1, "two")).idx(1),
            moved(20, 1, id + 1, id, "two"),
            removed(20, 2, id, "one"),
        ];
        (messages, vec![row(id, "two")])
    });
}

#[test]
fn new_row_takes_the_key_of_a_row_that_moves_after_it() {
    in_every_order("taken_and_moved", |id| {
        let messages = vec![
            item("insert", 10, record(id, "old")),
            item("insert", 20, record(id, "new")).idx(1),
            moved(20, 2, id, id + 1, "old"),
        ];
        (messages, vec![row(id, "new"), row(id + 1, "old")])
    });
}

/// The key of the mapping is a unique column of the source, whose primary key is another one.
#[test]
fn new_row_takes_the_code_of_a_row_that_is_deleted_after_it() {
    let columns = r#", columns => '{"id":"record.code","name":"record.name"}'"#;
    let by_code = |action, lsn, idx, id: i64, code: i64, name: &str| {
        let record = format!(r#"{{"id":{id},"code":{code},"name":"{name}"}}"#);
        item(action, lsn, record).idx(idx)
    };
    in_every_order_with("taken_code", columns, |code| {
        let messages = vec![
            by_code("insert", 10, 0, 1, code, "old"),
            by_code("insert", 20, 1, 2, code, "new"),
            by_code("delete", 20, 2, 1, code, "old"),
        ];
        (messages, vec![row(code, "new")])
    });
    in_every_order_with("moved_code", columns, |code| {
        let moved = by_code("update", 20, 1, 2, code, "two");
        let messages = vec![
            by_code("insert", 10, 0, 1, code, "one"),
            by_code("insert", 10, 1, 2, code + 1, "two"),
            moved.changes(format!(r#"{{"code":{}}}"#, code + 1)),
            by_code("delete", 20, 2, 1, code, "one"),
        ];
        (messages, vec![row(code, "two")])
    });
}

#[test]
fn row_that_is_inserted_and_deleted_in_one_transaction_is_gone() {
    in_every_order("passed", |id| {
        let messages = vec![
            item("insert", 20, record(id, "a")).idx(1),
            item("update", 20, record(id, "b"))
                .idx(2)
                .changes(r#"{"name":"a"}"#),
            removed(20, 3, id, "b"),
        ];
        (messages, vec![])
    });
    // under DEFAULT the delete does not hold the row
    in_every_order("passed_default", |id| {
        let messages = vec![
            item("insert", 20, record(id, "a")).idx(1),
            item("update", 20, record(id, "b")).idx(2),
            item("delete", 20, format!(r#"{{"id":{id},"name":null}}"#)).idx(3),
        ];
        (messages, vec![])
    });
}

/// A trigger of the destination changes the rows: a row that came and went is not taken for another one.
#[test]
fn row_that_a_trigger_changes_is_deleted() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("changed_by_trigger", ITEM, guard);
        run(
            &mut client,
            "create function shout() returns trigger language plpgsql as
             $$ begin new.name := upper(new.name); return new; end $$;
             create trigger shout before insert on item for each row execute function shout()",
        );
        send(&mut client, &[item("insert", 20, record(1, "a")).idx(1)]);
        assert_eq!(send(&mut client, &[removed(20, 2, 1, "a")]), deleted(1));
        assert_eq!(rows(&mut client, ITEMS), [""; 0], "{guard}");
    }
}

/// A message of the row that was at a key before says nothing of the document of the row that is there now.
#[test]
fn document_has_no_members_of_the_row_that_went() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_documents_of_others_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table item (id integer primary key, data jsonb)",
        );
        let columns = r#", columns => '{"id":"record.id","data":"record"}'"#;
        map(&mut client, "item", guard, columns);
        let full =
            |id: i64, name: &str| format!(r#"{{"id":{id},"name":"{name}","body":"{name}"}}"#);
        let partial = |id: i64| {
            let record = format!(r#"{{"id":{id},"name":"new","body":"unchanged_toast"}}"#);
            item("update", 30, record)
        };
        let data = "select data from item where data->>'name' = 'new'";
        let gone: [(i64, Message); 3] = [
            (
                1,
                item("update", 20, full(11, "old")).changes(r#"{"id":1}"#),
            ),
            (2, item("delete", 20, full(2, "old"))),
            (3, item("delete", 20, r#"{"id":3,"name":null,"body":null}"#)),
        ];
        for (id, gone) in gone {
            let insert = item("insert", 10, full(id, "old"));
            for calls in [
                vec![vec![gone.clone(), partial(id)]],
                vec![vec![insert.clone(), gone.clone(), partial(id)]],
                vec![vec![insert], vec![gone, partial(id)]],
            ] {
                for call in &calls {
                    send(&mut client, call);
                }
                assert_eq!(
                    rows(&mut client, data),
                    [format!(r#"{{"id": {id}, "name": "new"}}"#)],
                    "{guard}: {calls:?}"
                );
                run(
                    &mut client,
                    "delete from item; select sequin.forget_versions('item')",
                );
            }
        }
    }
}

/// A key change is not a delete: under soft deletes, a row that comes and moves in one call leaves nothing at its
/// old key, where its unique values would be in the way of the row itself.
#[test]
fn row_that_moves_at_once_is_not_marked_at_its_old_key() {
    for guard in ["columns", "table", "off"] {
        let database = Database::new(&format!("convergence_moved_softly_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table item (id integer primary key, name text unique, gone boolean)",
        );
        let soft = ", on_delete => 'soft', soft_delete => 'gone'";
        map(&mut client, "item", guard, soft);
        let call = [
            item("insert", 10, record(1, "a")),
            moved(20, 0, 1, 2, "a"),
            item("insert", 10, record(3, "b")).idx(1),
            removed(20, 1, 3, "b"),
        ];
        let counts = send(&mut client, &call);
        assert_eq!(counts.dead, 0, "{guard}: {counts:?}");
        let all = "select id, name, coalesce(gone, false) from item order by id";
        assert_eq!(rows(&mut client, all), ["2|a|f", "3|b|t"], "{guard}");
    }
}
