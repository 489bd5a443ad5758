//! Every message has its outcome, in every table and by both overloads.

#![forbid(unsafe_code)]

use postgres::Client;
use support::{
    Database, Message, Random, apply, apply_jsonb, batch, message, rows, run, upserted, value,
};

#[test]
fn a_batch_for_twenty_tables_is_routed_right() {
    let database = Database::new("twenty_tables");
    let mut client = database.connect();
    for n in 0..20 {
        run(
            &mut client,
            &format!(
                "create table t{n} (id integer primary key, name text, n integer);
                 select sequin.map('public.t{n}', 't{n}', guard => 'off')"
            ),
        );
    }
    let mut messages: Vec<String> = (0..1000)
        .map(|i| {
            let record = format!(
                r#"{{"id":{i},"name":"row {i} of t{}","n":{}}}"#,
                i % 20,
                i * i
            );
            message("insert", &format!("t{}", i % 20), i + 1, &record)
        })
        .collect();
    Random::new(7).shuffle(&mut messages);
    let counts = apply(&mut client, &batch(&messages));
    assert_eq!(counts, upserted(1000));
    for n in 0..20 {
        let sql = format!(
            "select count(*), min(id), max(id), sum(id), bool_and(name = 'row ' || id || ' of t{n}'), bool_and(n = id * id)
             from t{n}"
        );
        let expected = format!(
            "50|{n}|{}|{}|t|t",
            980 + n,
            (0..50).map(|k| k * 20 + n).sum::<i32>()
        );
        assert_eq!(value(&mut client, &sql), expected, "t{n}");
    }
}

/// A schema with all that a batch can meet: fan-out, a filter, soft deletes, an append, foreign keys, poison.
fn prepare_mixed(client: &mut Client) {
    run(
        client,
        r#"create table item (id integer primary key, name text not null, n smallint check (n <> 13), gone timestamptz);
           create table copy (id integer primary key, name text, slug text unique);
           create table history (seq bigint generated always as identity, action text, id text, name text);
           create table parent (id integer primary key, name text);
           create table child (id integer primary key, parent_id integer references parent, name text);
           select sequin.map('public.item', 'item', guard => 'off', on_delete => 'soft', soft_delete => 'gone');
           select sequin.map('public.item', 'copy', guard => 'off', columns => '{"slug": {"sql": "''s'' || (record->>''n'')"}, "*": "record.*"}',
                             filter => $$record->>'name' <> 'secret'$$);
           select sequin.map('public.item', 'history', mode => 'append', columns => '{"action": "action", "*": "record.*"}');
           select sequin.map('public.item', null, name => 'nothing');
           select sequin.map('public.parent', 'parent', guard => 'off');
           select sequin.map('public.child', 'child', guard => 'off', on_delete => 'ignore');"#,
    );
}

/// Some messages for [`prepare_mixed`], good and bad, and how many outcomes they must have.
fn mixed(random: &mut Random, lsn: &mut u64, count: usize) -> (Vec<String>, i64) {
    let mut outcomes = 0;
    let messages = (0..count)
        .map(|_| {
            *lsn += 1;
            let id = random.below(30);
            let action = *random.of(&["insert", "update", "update", "delete", "read"]);
            let name = *random.of(&[
                r#""a""#,
                r#""Ä b""#,
                "null",
                r#""secret""#,
                r#""unchanged_toast""#,
                "5",
                "{\"k\": [1]}",
            ]);
            let n = *random.of(&[
                "1", "2", "3.0", "13", "70000", "\"4\"", "null", "\"x\"", "5", "6", "7",
            ]);
            match random.below(20) {
                0..=9 => {
                    outcomes += 4;
                    let changes = match random.below(4) {
                        0 if action == "update" => format!(r#"{{"id":{}}}"#, random.below(30)),
                        _ if action == "update" => "{}".to_owned(),
                        _ => "null".to_owned(),
                    };
                    let record = match random.below(10) {
                        0 => format!(r#"{{"name":{name}}}"#),
                        1 => format!(r#"{{"id":{id}}}"#),
                        2 => format!(r#"{{"id":"x{id}","name":{name}}}"#),
                        _ => format!(r#"{{"id":{id},"name":{name},"n":{n}}}"#),
                    };
                    Message::new(action, "item", *lsn, record)
                        .changes(changes)
                        .to_string()
                }
                10..=13 => {
                    outcomes += 1;
                    message(
                        action,
                        "parent",
                        *lsn,
                        &format!(r#"{{"id":{id},"name":{name}}}"#),
                    )
                }
                14..=16 => {
                    outcomes += 1;
                    let parent = random.below(30);
                    message(
                        action,
                        "child",
                        *lsn,
                        &format!(r#"{{"id":{id},"parent_id":{parent},"name":{name}}}"#),
                    )
                }
                17 => {
                    outcomes += 1;
                    message(action, "unmapped", *lsn, r#"{"id":1}"#)
                }
                _ => {
                    outcomes += 1;
                    (*random.of(&[
                        "42",
                        "null",
                        "\"text\"",
                        "{}",
                        "[]",
                        "{\"id\":1}",
                        r#"{"action":"insert","record":{}}"#,
                    ]))
                    .to_owned()
                }
            }
        })
        .collect();
    (messages, outcomes)
}

#[test]
fn every_message_has_its_outcomes() {
    let database = Database::new("conservation");
    let mut client = database.connect();
    prepare_mixed(&mut client);
    run(&mut client, "set client_min_messages = error");
    let mut lsn = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let size = *random.of(&[1, 2, 10, 100, 300]);
        let (messages, outcomes) = mixed(&mut random, &mut lsn, size);
        let letters = value(
            &mut client,
            "select coalesce(max(id), 0) from sequin.dead_letter",
        );
        // What is no change of a table is kept once, and counted.
        run(
            &mut client,
            "drop table if exists pg_temp.letter_before;
             create temp table letter_before as
             select id, attempts from sequin.dead_letter where mapping is null",
        );
        let counts = apply(&mut client, &batch(&messages));
        assert_eq!(counts.received, size as i64, "seed {seed}");
        assert_eq!(counts.outcomes(), outcomes, "seed {seed}: {counts:?}");
        let kept = value(
            &mut client,
            &format!(
                "select (select count(*) from sequin.dead_letter
                         where id > {letters} and state in ('dead', 'waiting') and mapping is not null)
                        + (select coalesce(sum(l.attempts - coalesce(b.attempts, 0)), 0)
                           from sequin.dead_letter l left join letter_before b using (id)
                           where l.mapping is null)"
            ),
        );
        assert_eq!(kept, counts.dead.to_string(), "seed {seed}: dead letters");
    }
    // It tested something of each kind.
    assert_ne!(
        value(
            &mut client,
            "select count(*) from item where gone is not null"
        ),
        "0"
    );
    assert_ne!(value(&mut client, "select count(*) from copy"), "0");
    assert_ne!(value(&mut client, "select count(*) from child"), "0");
}

/// All that a batch can have changed. Which of several rows in the way a hint names may differ.
fn everything(client: &mut Client) -> Vec<Vec<String>> {
    [
        "table item order by id",
        "table copy order by id",
        "select action, id, name from history order by seq",
        "table parent order by id",
        "table child order by id",
        "select mapping, position, sqlstate, error, detail, case when state <> 'waiting' then hint end, key, lsn, idx, committed_at, state, message::jsonb
         from sequin.dead_letter order by mapping, position",
    ]
    .iter()
    .map(|sql| rows(client, sql))
    .collect()
}

#[test]
fn both_overloads_do_the_same() {
    let database = Database::new("overloads");
    let mut client = database.connect();
    prepare_mixed(&mut client);
    run(&mut client, "set client_min_messages = error");
    let mut lsn = 0;
    for seed in 100..120 {
        let mut random = Random::new(seed);
        let (messages, _) = mixed(&mut random, &mut lsn, 150);
        let batch = batch(&messages);
        run(&mut client, "begin");
        let of_jsonb = apply_jsonb(&mut client, &batch);
        let after_jsonb = everything(&mut client);
        run(&mut client, "rollback; begin");
        let of_text = apply(&mut client, &batch);
        let after_text = everything(&mut client);
        run(&mut client, "delete from sequin.dead_letter; commit");
        assert_eq!(of_jsonb, of_text, "seed {seed}");
        assert_eq!(after_jsonb, after_text, "seed {seed}");
    }
}

/// What a redelivered batch leaves alone: the places of all rows and entries, and who wrote and locked them.
const PLACES: [&str; 2] = [
    "select ctid, xmin, xmax from item order by id",
    "select ctid, xmin, xmax from sequin.row_version order by mapping, key",
];

/// How many ids the transaction has taken for itself and its subtransactions.
const TRANSACTIONS: &str =
    "select count(*) from pg_locks where locktype = 'transactionid' and pid = pg_backend_pid()";

#[test]
fn a_batch_that_comes_again_writes_and_locks_nothing() {
    for guard in ["columns", "table"] {
        let database = Database::new(&format!("again_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            &format!(
                "create table item (id integer primary key, name text, body text);
                 select sequin.map('public.item', 'item', guard => '{guard}')"
            ),
        );
        let full =
            |id: u64, name: &str| format!(r#"{{"id":{id},"name":"{name}","body":"body {id}"}}"#);
        let toast = |id: u64| format!(r#"{{"id":{id},"name":"b","body":"unchanged_toast"}}"#);
        let moved = |id: u64, lsn: u64| {
            Message::new("update", "item", lsn, full(id + 500, "moved"))
                .changes(format!(r#"{{"id":{id}}}"#))
                .to_string()
        };
        let mut messages: Vec<String> = Vec::new();
        for id in 1..=100 {
            messages.push(message("insert", "item", id, &full(id, "a")));
            messages.push(match id % 4 {
                0 => message("update", "item", 1000 + id, &full(id, "b")),
                1 => message("update", "item", 1000 + id, &toast(id)),
                2 => message("delete", "item", 1000 + id, &full(id, "a")),
                _ => moved(id, 1000 + id),
            });
        }
        let (first, second): (Vec<_>, Vec<_>) =
            messages.chunks(2).map(|pair| (&pair[0], &pair[1])).unzip();
        assert_eq!(apply(&mut client, &batch(&first)), upserted(100));
        let changed = apply(&mut client, &batch(&second));
        assert_eq!((changed.upserted, changed.deleted), (75, 25), "{guard}");
        let places = |client: &mut Client| PLACES.map(|sql| rows(client, sql));
        let before = places(&mut client);
        for again in [first.clone(), second.clone(), [first, second].concat()] {
            run(&mut client, "begin");
            let counts = apply(&mut client, &batch(&again));
            assert_eq!(counts.stale, again.len() as i64, "{guard}: {counts:?}");
            // The transaction's id is for the counters.
            assert_eq!(value(&mut client, TRANSACTIONS), "1", "{guard}");
            run(&mut client, "commit");
            assert_eq!(places(&mut client), before, "{guard}");
        }
        // Only the rows at the ends have come before.
        let mut new: Vec<String> = vec![messages[0].clone(), messages[198].clone()];
        new.push(message("update", "item", 3000, &full(4, "c")));
        new.push(message("insert", "item", 3001, &full(1000, "c")));
        let counts = apply(&mut client, &batch(&new));
        assert_eq!((counts.upserted, counts.stale), (2, 2), "{guard}");
        let sql = "select count(*) from item where name = 'c'";
        assert_eq!(value(&mut client, sql), "2", "{guard}");
    }
}
