//! What a forwarder meets: several sessions, roles, errors over the wire, large batches, tables that grow.

mod support;

use std::time::Instant;

use postgres::Client;
use postgres::error::DbError;
use support::{
    Counts, Database, Random, apply, apply_error, apply_jsonb, batch, error, message, message_with,
    peak_memory, rows, run, value,
};

const UPSERTED: Counts = Counts {
    received: 1,
    upserted: 1,
    deleted: 0,
    collapsed: 0,
    stale: 0,
    filtered: 0,
    ignored: 0,
    dead: 0,
};

fn code(error: &DbError) -> &str {
    error.code().code()
}

fn item(lsn: u64, name: &str) -> String {
    message(
        "update",
        "item",
        lsn,
        &format!(r#"{{"id":1,"name":"{name}"}}"#),
    )
}

#[test]
fn a_changed_mapping_is_seen_by_other_sessions() {
    let database = Database::new("mapping_changed");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text, note text);
         create table other (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off', name => 'item')",
    );
    assert_eq!(apply(&mut forwarder, &item(1, "one")), UPSERTED);

    run(
        &mut admin,
        r#"update sequin.mapping set columns = '{"id":"record.id","note":"record.name"}'"#,
    );
    assert_eq!(apply(&mut forwarder, &item(2, "two")), UPSERTED);
    assert_eq!(value(&mut admin, "select * from item"), "1|one|two");

    run(&mut admin, "update sequin.mapping set enabled = false");
    assert_eq!(
        code(&apply_error(&mut forwarder, &item(3, "three"))),
        "55000"
    );
    run(
        &mut admin,
        "update sequin.mapping set enabled = true, filter = 'false'",
    );
    assert_eq!(apply(&mut forwarder, &item(3, "three")).deleted, 1);

    run(
        &mut admin,
        "select sequin.map('public.item', 'other', guard => 'off', name => 'item')",
    );
    assert_eq!(apply(&mut forwarder, &item(4, "four")), UPSERTED);
    assert_eq!(value(&mut admin, "select * from other"), "1|four");

    run(
        &mut admin,
        "select sequin.map('public.item', 'item', guard => 'off', name => 'second')",
    );
    assert_eq!(apply(&mut forwarder, &item(5, "five")).upserted, 2);

    run(
        &mut admin,
        "select sequin.unmap('second'), sequin.unmap('item')",
    );
    assert_eq!(apply(&mut forwarder, &item(6, "six")).dead, 1);

    run(&mut admin, "truncate sequin.mapping");
    run(&mut admin, "select sequin.map('public.*', null)");
    assert_eq!(apply(&mut forwarder, &item(7, "seven")).ignored, 1);
}

#[test]
fn a_changed_mapping_is_seen_within_a_transaction() {
    let database = Database::new("mapping_changed_transaction");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text, note text);
         select sequin.map('public.item', 'item', guard => 'off', name => 'item')",
    );
    run(&mut forwarder, "begin isolation level read committed");
    apply(&mut forwarder, &item(1, "one"));
    // Not yet committed: not yet seen.
    run(&mut admin, "begin");
    run(
        &mut admin,
        r#"update sequin.mapping set columns = '{"id":"record.id","note":"record.name"}'"#,
    );
    apply(&mut forwarder, &item(2, "two"));
    run(&mut admin, "commit");
    apply(&mut forwarder, &item(3, "three"));
    assert_eq!(value(&mut forwarder, "select * from item"), "1|two|three");
    run(&mut forwarder, "commit");
    assert_eq!(value(&mut admin, "select * from item"), "1|two|three");
}

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

    // Dropped and made again under its name it is another table, until it is mapped.
    run(&mut admin, "drop table item");
    assert_eq!(code(&apply_error(&mut forwarder, &change(4))), "42P01");
    run(
        &mut admin,
        "create table item (n text, id smallint primary key)",
    );
    assert_eq!(code(&apply_error(&mut forwarder, &change(5))), "42P01");
    run(&mut admin, map);
    assert_eq!(apply(&mut forwarder, &change(6)), UPSERTED);
    assert_eq!(value(&mut admin, "select * from item"), "6|1");

    // All between two calls of the forwarder.
    run(
        &mut admin,
        "drop table item; create table item (id integer primary key, name text)",
    );
    run(&mut admin, map);
    assert_eq!(apply(&mut forwarder, &change(7)), UPSERTED);
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
    assert_eq!(apply(&mut forwarder, &change(1, record)), UPSERTED);
    assert_eq!(value(&mut admin, "select * from item"), "1|sad|(Ring)");
    run(
        &mut admin,
        "alter type mood rename value 'sad' to 'blue'; alter type place add attribute town text",
    );
    let record = r#"{"id":1,"mood":"blue","place":{"street":"Ring","town":"Ulm"}}"#;
    assert_eq!(apply(&mut forwarder, &change(2, record)), UPSERTED);
    assert_eq!(value(&mut admin, "select * from item"), "1|blue|(Ring,Ulm)");
}

/// Scans of the whole table and of its indexes by the batch.
fn scans(client: &mut Client, table: &str, batch: &str) -> (Counts, u64, u64) {
    run(client, "begin");
    let counts = apply(client, batch);
    let row = value(
        client,
        &format!(
            "select coalesce(sum(seq_scan), 0), coalesce(sum(idx_scan), 0)
             from pg_stat_xact_user_tables where relname = '{table}'"
        ),
    );
    run(client, "commit");
    let (seq, idx) = row.split_once('|').expect("two columns");
    (
        counts,
        seq.parse().expect("a number"),
        idx.parse().expect("a number"),
    )
}

#[test]
fn plans_use_indexes_when_a_table_has_grown() {
    let database = Database::new("plans");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    let mut lsn = 0;
    // 100 rows of each kind, spread over the table
    let mut batches = |table: &str, from: u64| {
        let mut some = |action: &str, offset: u64, fields: &str| {
            let messages: Vec<_> = (0..100)
                .map(|i| {
                    lsn += 1;
                    let id = from + offset + i * 1000;
                    message(
                        action,
                        table,
                        lsn,
                        &format!(r#"{{"a":"k","id":{id}{fields}}}"#),
                    )
                })
                .collect();
            support::batch(&messages)
        };
        [
            ("delete", some("delete", 1, "")),
            (
                "update",
                some("update", 2, r#","name":"u","body":"unchanged_toast""#),
            ),
            ("upsert", some("update", 3, r#","name":"u","body":"b""#)),
        ]
    };
    for (table, key, on_delete) in [
        ("plain", "id", "on_delete => 'delete'"),
        ("composite", "a, id", "on_delete => 'delete'"),
        ("soft", "id", "on_delete => 'soft', soft_delete => 'gone'"),
    ] {
        run(
            &mut admin,
            &format!(
                "create table {table} (a text, id bigint, name text, body text not null, gone boolean,
                                       primary key ({key}));
                 select sequin.map('public.{table}', '{table}', guard => 'off', {on_delete})"
            ),
        );
        // The plans are made while the table is empty.
        for (_, batch) in batches(table, 10_000_000) {
            apply(&mut forwarder, &batch);
        }
        run(
            &mut admin,
            &format!(
                "truncate sequin.dead_letter;
                 insert into {table} select 'k', n, 'n', 'b' from generate_series(1, 300000) n"
            ),
        );
        let mut check = |client: &mut Client, from: u64, when: &str| {
            for (kind, batch) in batches(table, from) {
                let (counts, seq, idx) = scans(client, table, &batch);
                let (changed, dead) = (counts.upserted + counts.deleted, counts.dead);
                assert_eq!(
                    (changed, dead),
                    (100, 0),
                    "{kind} of {table}, {when}: {counts:?}"
                );
                assert_eq!(seq, 0, "{kind} of {table}, {when}: sequential scans");
                assert!(
                    kind == "upsert" || idx >= 100,
                    "{kind} of {table}, {when}: {idx} index scans"
                );
            }
        };
        check(&mut forwarder, 0, "grown");
        run(&mut admin, &format!("analyze {table}"));
        check(&mut forwarder, 100_000, "analyzed");
        check(&mut database.connect(), 200_000, "in a new session");
        assert_eq!(
            value(
                &mut admin,
                &format!("select count(*) from {table} where name = 'u' and id <= 300000")
            ),
            "600"
        );
    }
}

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
    assert_eq!(
        counts,
        Counts {
            received: 1000,
            upserted: 1000,
            ..Counts::default()
        }
    );
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

#[test]
fn a_batch_of_100_mb_is_applied() {
    let database = Database::new("large");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text, n bigint, at timestamptz, price numeric, uid uuid, body text);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    let body = "x".repeat(600);
    let messages: Vec<String> = (0..100_000_u64)
        .map(|i| {
            let record = format!(
                r#"{{"id":{i},"name":"name of {i}","n":{},"at":"2026-01-01T00:00:00.{i:06}Z","price":"{i}.50","uid":"00000000-0000-0000-0000-{i:012}","body":"{body}"}}"#,
                i * i
            );
            message("insert", "item", i + 1, &record)
        })
        .collect();
    let batch = batch(&messages);
    drop(messages);
    assert!(batch.len() > 95_000_000, "{}", batch.len());

    let pid = value(&mut client, "select pg_backend_pid()");
    apply(&mut client, &message("insert", "item", 1, r#"{"id":-1}"#));
    let before = peak_memory(&pid);
    let start = Instant::now();
    let counts = apply(&mut client, &batch);
    let took = start.elapsed();
    assert_eq!(
        counts,
        Counts {
            received: 100_000,
            upserted: 100_000,
            ..Counts::default()
        }
    );
    if let (Some(before), Some(after)) = (before, peak_memory(&pid)) {
        let times = (after - before) as f64 * 1024.0 / batch.len() as f64;
        println!(
            "a batch of {} MB took {took:?} and {} MB of the server: {times:.2} times its size",
            batch.len() / 1_000_000,
            (after - before) / 1000
        );
    }
    assert_eq!(
        value(
            &mut client,
            "select count(*), sum(n), sum(price), count(distinct uid), sum(length(body)), max(at) from item where id >= 0"
        ),
        "100000|333328333350000|5000000000.00|100000|60000000|2026-01-01 00:00:00.099999+00"
    );
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
                    message_with(action, "item", *lsn, &record, &changes)
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
        let counts = apply(&mut client, &batch(&messages));
        assert_eq!(counts.received, size as i64, "seed {seed}");
        assert_eq!(counts.outcomes(), outcomes, "seed {seed}: {counts:?}");
        let kept = value(
            &mut client,
            &format!(
                "select count(*) from sequin.dead_letter where id > {letters} and state in ('dead', 'waiting')"
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

/// All that a batch can have changed.
fn everything(client: &mut Client) -> Vec<Vec<String>> {
    [
        "table item order by id",
        "table copy order by id",
        "select action, id, name from history order by seq",
        "table parent order by id",
        "table child order by id",
        "select mapping, position, sqlstate, error, detail, hint, key, lsn, idx, committed_at, state, message::jsonb
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

#[test]
fn a_forwarder_can_apply_and_nothing_else() {
    let mut database = Database::new("forwarder");
    let (forwarder, stranger) = (database.role("forwarder"), database.role("stranger"));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'off', name => 'item');
             grant execute on function sequin_apply(text), sequin_apply(jsonb) to {forwarder}"
        ),
    );
    let mut client = database.connect_as(&forwarder);
    assert_eq!(apply(&mut client, &item(1, "one")), UPSERTED);
    assert_eq!(apply_jsonb(&mut client, &item(2, "two")), UPSERTED);
    assert_eq!(apply(&mut client, "42").dead, 1);
    for sql in [
        "select * from item",
        "insert into item values (5, 'x')",
        "delete from item",
        "select * from sequin.mapping",
        "update sequin.mapping set enabled = false",
        "insert into sequin.mapping (source) values ('public.x')",
        "delete from sequin.mapping",
        "select * from sequin.dead_letter",
        "delete from sequin.dead_letter",
        "select sequin.map('public.x', null)",
        "select sequin.unmap('item')",
    ] {
        assert_eq!(code(&error(&mut client, sql)), "42501", "{sql}");
    }
    // What the forwarder has in the way of names does not lead the extension astray.
    run(
        &mut client,
        "create temp table item (id integer primary key, name text);
         create temp table dead_letter (like item);
         create temp table mapping (like item);
         set search_path = pg_temp, public",
    );
    assert_eq!(
        apply(&mut client, &batch(&[item(3, "three"), "42".to_owned()])).upserted,
        1
    );
    assert_eq!(value(&mut client, "select count(*) from pg_temp.item"), "0");
    assert_eq!(value(&mut client, "select current_user"), forwarder);
    assert_eq!(value(&mut admin, "table item"), "1|three");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "2"
    );

    let mut client = database.connect_as(&stranger);
    for argument in ["text", "jsonb"] {
        let sql = format!("select * from sequin_apply('[]'::{argument})");
        assert_eq!(code(&error(&mut client, &sql)), "42501");
    }
}

#[test]
fn rows_are_written_as_the_mappings_owner() {
    let mut database = Database::new("owner");
    let [alice, bob, forwarder] = ["alice", "bob", "forwarder"].map(|role| database.role(role));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "grant create on schema public to {alice}, {bob};
             grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
             grant execute on function sequin_apply(text) to {forwarder}"
        ),
    );
    let mut client = database.connect_as(&alice);
    run(
        &mut client,
        r#"create table item (id integer primary key, name text, who_selects text, who_writes text);
           create table deleted (id integer, who text);
           create function note() returns trigger language plpgsql as $$
           begin
               if tg_op = 'DELETE' then
                   insert into public.deleted values (old.id, current_user);
                   return old;
               end if;
               new.who_writes = current_user;
               return new;
           end $$;
           create trigger note before insert or update or delete on item for each row execute function note();
           select sequin.map('public.item', 'item', guard => 'off', columns => '{"who_selects": {"sql": "current_user"}, "*": "record.*"}')"#,
    );
    let mut client = database.connect_as(&forwarder);
    assert_eq!(apply(&mut client, &item(1, "one")), UPSERTED);
    assert_eq!(
        value(&mut admin, "table item"),
        format!("1|one|{alice}|{alice}")
    );
    assert_eq!(
        apply(&mut client, &message("delete", "item", 2, r#"{"id":1}"#)).deleted,
        1
    );
    assert_eq!(value(&mut admin, "table deleted"), format!("1|{alice}"));
    // Messages of nobody are stored as the extension's owner, and the session stays who it was, after an error too.
    apply(&mut client, "42");
    apply_error(&mut client, "{");
    run(
        &mut admin,
        "alter table item rename to gone; drop table gone cascade",
    );
    assert_eq!(code(&apply_error(&mut client, &item(3, "three"))), "42P01");
    assert_eq!(value(&mut client, "select current_user"), forwarder);

    // Bob's mapping writes nothing of Alice's.
    run(
        &mut admin,
        &format!(
            "set role {alice}; create table item (id integer primary key, name text); reset role"
        ),
    );
    run(&mut admin, "delete from sequin.mapping");
    let mut client = database.connect_as(&bob);
    if client
        .batch_execute("select sequin.map('public.item', 'item', guard => 'off')")
        .is_ok()
    {
        let mut client = database.connect_as(&forwarder);
        let _ = support::try_apply(&mut client, &item(4, "four"));
    }
    assert_eq!(value(&mut admin, "select count(*) from item"), "0");
}

#[test]
fn errors_are_told_over_the_wire() {
    let database = Database::new("errors");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text not null);
         select sequin.map('public.item', 'item', guard => 'off', name => 'it''s')",
    );
    let error = apply_error(&mut client, r#"{"data":[}"#);
    assert_eq!(code(&error), "22P02");
    assert_eq!(error.severity(), "ERROR");
    assert_eq!(error.message(), "invalid input syntax for type json");
    let detail = error.detail().unwrap_or_default();
    assert!(
        detail.contains(" at byte ") && detail.ends_with(" of the batch."),
        "{detail}"
    );
    assert!(
        error
            .hint()
            .unwrap_or_default()
            .ends_with("Nothing of this batch was applied.")
    );

    let sql = "select sequin_apply(null)";
    let error = support::error(&mut client, sql);
    assert_eq!(code(&error), "22004");
    assert_eq!(error.message(), "batch must not be null");

    run(&mut client, "update sequin.mapping set on_error = 'raise'");
    let error = apply_error(
        &mut client,
        &message("insert", "item", 1, r#"{"id":"x","name":"a"}"#),
    );
    assert_eq!(code(&error), "22P02");
    assert_eq!(
        error.detail(),
        Some(r#"At messages[0].record.id into column "id" of type integer."#)
    );
    assert!(
        error
            .where_()
            .unwrap_or_default()
            .contains(r#"mapping "it's""#),
        "{:?}",
        error.where_()
    );
    let error = apply_error(
        &mut client,
        &message("insert", "item", 1, r#"{"id":1,"name":null}"#),
    );
    assert_eq!(code(&error), "23502");
    assert_eq!(error.column(), Some("name"));
    assert_eq!(error.table(), Some("item"));

    run(&mut client, "update sequin.mapping set enabled = false");
    let error = apply_error(&mut client, &item(1, "one"));
    assert_eq!(code(&error), "55000");
    assert_eq!(error.message(), r#"mapping "it's" is paused"#);
    assert!(
        error
            .detail()
            .is_some_and(|detail| detail.starts_with("Nothing of this batch was applied"))
    );
    let hint = error.hint().unwrap_or_default();
    let resume = "UPDATE sequin.mapping SET enabled = true WHERE name = 'it''s';";
    assert!(hint.ends_with(resume), "{hint}");
    run(&mut client, resume);

    run(&mut client, "drop table item");
    let error = apply_error(&mut client, &item(1, "one"));
    assert_eq!(code(&error), "42P01");
    assert_eq!(
        error.message(),
        r#"the destination of mapping "it's" does not exist"#
    );
    assert!(error.detail().is_some());
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("SELECT sequin.unmap('it''s');"), "{hint}");
    run(&mut client, "SELECT sequin.unmap('it''s');");
    assert_eq!(apply(&mut client, &item(1, "one")).dead, 1);
}

#[test]
fn a_call_that_fails_applies_nothing() {
    let database = Database::new("nothing");
    let (mut client, mut other) = (database.connect(), database.connect());
    run(
        &mut client,
        r#"create table item (id integer primary key, name text not null);
           create table raising (id integer primary key, name text not null);
           create function act() returns trigger language plpgsql as $$
           begin
               if new.name = 'sleep' then perform pg_sleep(60); end if;
               if new.name ~ '^[0-9A-Z]{5}$' then raise 'as asked' using errcode = new.name; end if;
               return new;
           end $$;
           create trigger act before insert or update on item for each row execute function act();
           insert into item values (100, 'locked');
           select sequin.map('public.item', 'item', guard => 'off', name => 'item');
           select sequin.map('public.raising', 'raising', guard => 'off', name => 'raising', on_error => 'raise')"#,
    );
    let insert = |table: &str, id: u64, name: &str| {
        message(
            "insert",
            table,
            id,
            &format!(r#"{{"id":{id},"name":{name}}}"#),
        )
    };
    let good = [
        insert("item", 1, r#""one""#),
        insert("raising", 1, r#""one""#),
        "42".to_owned(),
    ];
    let with = |last: String| batch(&[good.as_slice(), &[last]].concat());
    // JSON that ends too soon; a failure of a mapping that raises
    let batch_of_lines = good.join("\n") + "\n{\"action\":";
    assert_eq!(code(&apply_error(&mut client, &batch_of_lines)), "22P02");
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("raising", 2, "null"))
        )),
        "23502"
    );
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("raising", 2, r#""a\u0000b""#))
        )),
        "22P05"
    );
    // what says nothing of the message: the server, other sessions, the operator
    for state in [
        "40001", "40P01", "53100", "53200", "55P03", "57P01", "58030", "XX000", "XX001", "08006",
    ] {
        let error = apply_error(
            &mut client,
            &with(insert("item", 2, &format!("\"{state}\""))),
        );
        assert_eq!(code(&error), state);
    }
    run(&mut client, "set statement_timeout = '100ms'");
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("item", 2, r#""sleep""#))
        )),
        "57014"
    );
    run(
        &mut client,
        "reset statement_timeout; set lock_timeout = '100ms'",
    );
    run(
        &mut other,
        "begin; update item set name = 'locked too' where id = 100",
    );
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("item", 100, r#""a""#))
        )),
        "55P03"
    );
    run(&mut other, "rollback");
    // a cancel
    let cancel = client.cancel_token();
    let pid = value(&mut client, "select pg_backend_pid()");
    let cancelling = std::thread::spawn(move || {
        let asleep = format!(
            "select count(*) from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep'"
        );
        while value(&mut other, &asleep) == "0" {}
        cancel.cancel_query(postgres::NoTls).expect("a cancel");
    });
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("item", 2, r#""sleep""#))
        )),
        "57014"
    );
    cancelling.join().expect("it was cancelled");

    assert_eq!(rows(&mut client, "table item"), ["100|locked"]);
    assert_eq!(value(&mut client, "select count(*) from raising"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
    // and the session goes on
    let counts = apply(&mut client, &with(insert("item", 2, r#""two""#)));
    assert_eq!(
        counts,
        Counts {
            received: 4,
            upserted: 3,
            dead: 1,
            ..Counts::default()
        }
    );
    // other states, also unknown ones, are the message's
    for state in ["P0001", "AB123", "22012", "42883", "0A000"] {
        let counts = apply(&mut client, &insert("item", 3, &format!("\"{state}\"")));
        assert_eq!(counts.dead, 1, "{state}");
    }
}

#[test]
fn a_rolled_back_call_leaves_nothing() {
    let database = Database::new("rollback");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    run(&mut client, "begin");
    apply(&mut client, &batch(&[item(1, "one"), "42".to_owned()]));
    run(&mut client, "savepoint s");
    apply(&mut client, &item(2, "two"));
    apply_error(&mut client, "{");
    run(&mut client, "rollback to s");
    assert_eq!(value(&mut client, "select name from item"), "one");
    apply(&mut client, &item(2, "again"));
    assert_eq!(value(&mut client, "select name from item"), "again");
    run(&mut client, "rollback");
    assert_eq!(value(&mut client, "select count(*) from item"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
}

#[test]
fn sessions_that_apply_the_same_rows_do_not_deadlock() {
    let database = Database::new("deadlock");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         create table other (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off');
         select sequin.map('public.other', 'other', guard => 'off')",
    );
    std::thread::scope(|scope| {
        for session in 0..4 {
            let mut client = database.connect();
            scope.spawn(move || {
                for round in 0..15 {
                    let mut random = Random::new(session * 1000 + round);
                    let mut messages: Vec<String> = (0..200)
                        .map(|i| {
                            let table = if i % 2 == 0 { "item" } else { "other" };
                            message(
                                "update",
                                table,
                                round + 1,
                                &format!(r#"{{"id":{i},"name":"{session}"}}"#),
                            )
                        })
                        .collect();
                    random.shuffle(&mut messages);
                    assert_eq!(apply(&mut client, &batch(&messages)).upserted, 200);
                }
            });
        }
    });
    // A batch that is sent again while the first is still being applied, deletes and all.
    let messages: Vec<String> = (0..200)
        .map(|i| {
            let action = if i % 3 == 0 { "delete" } else { "update" };
            message(
                action,
                "item",
                100,
                &format!(r#"{{"id":{},"name":"z"}}"#, (i * 7) % 200),
            )
        })
        .collect();
    let batch = &batch(&messages);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = database.connect();
            scope.spawn(move || {
                (0..15).for_each(|_| assert_eq!(apply(&mut client, batch).outcomes(), 200))
            });
        }
    });
    assert_eq!(
        value(
            &mut client,
            "select count(*), count(*) filter (where name = 'z') from item"
        ),
        "133|133"
    );
}

#[test]
fn sessions_that_upsert_and_delete_the_same_rows_do_not_deadlock() {
    let database = Database::new("deadlock_mixed");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text, note text);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    std::thread::scope(|scope| {
        for session in 0..3 {
            let mut client = database.connect();
            scope.spawn(move || {
                for round in 0..40 {
                    let mut random = Random::new(session * 1000 + round);
                    // deletes, and updates of two sets of columns
                    let mut messages: Vec<String> = (0..200)
                        .filter(|_| random.below(3) == 0)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .map(|i| {
                            let action = *random.of(&["update", "update", "delete"]);
                            let column = *random.of(&["name", "note"]);
                            message(
                                action,
                                "item",
                                round + 1,
                                &format!(r#"{{"id":{i},"{column}":"{session}"}}"#),
                            )
                        })
                        .collect();
                    random.shuffle(&mut messages);
                    let counts = apply(&mut client, &batch(&messages));
                    assert_eq!((counts.outcomes(), counts.dead), (messages.len() as i64, 0));
                }
            });
        }
    });
}
