//! Batches, messages and values that are large.

use std::env;
use std::time::Instant;

use support::{
    Counts, Database, apply, apply_jsonb, batch, message, peak_memory, run, upserted, value,
};

use super::{WIDE, one};

fn is_full() -> bool {
    env::var("HOSTILE").is_ok_and(|value| value == "full")
}

/// Says what a batch of so many bytes took, and checks that it was not more memory than `most` times its size and 50
/// MB.
fn report(what: &str, pid: &str, before: Option<u64>, start: Instant, size: usize, most: f64) {
    let took = start.elapsed();
    if let (Some(before), Some(after)) = (before, peak_memory(pid)) {
        let more = after.saturating_sub(before) as f64 * 1024.0;
        let times = more / size as f64;
        println!(
            "{what}: {took:?}; {:.0} MB, {times:.1} times its size",
            more / 1e6
        );
        assert!(
            more < most * size as f64 + 50e6,
            "{what}: {more} bytes of {size}"
        );
    }
}

#[test]
fn keys_that_come_twice_and_many_keys() {
    let database = Database::new("keys");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create table item (id bigint primary key, t text, data jsonb);
           select sequin.map('public.item', 'item', guard => 'off', columns => '{"data": "record", "*": "record.*"}')"#,
    );
    let twice = message(
        "insert",
        "item",
        1,
        r#"{"id":1,"t":"a","id":2,"t":"b","\u0074":"c"}"#,
    );
    let twice = twice.replace(
        r#""action":"insert""#,
        r#""action":"delete","action":"insert""#,
    );
    for apply in [apply, apply_jsonb] {
        run(&mut client, "truncate item");
        assert_eq!(apply(&mut client, &twice).upserted, 1);
        assert_eq!(
            value(&mut client, "select id, t, data from item"),
            r#"2|c|{"t": "c", "id": 2}"#
        );
    }
    let count = if is_full() { 1_000_000 } else { 200_000 };
    let mut record = String::from(r#"{"id":7"#);
    for n in 0..count {
        record += &format!(r#","key {n}":{n}"#);
    }
    record += r#","t":"last"}"#;
    let many = message("insert", "item", 1, &record);
    let pid = value(&mut client, "select pg_backend_pid()");
    let before = peak_memory(&pid);
    let start = Instant::now();
    assert_eq!(apply(&mut client, &many).upserted, 1);
    report(
        &format!("{count} keys"),
        &pid,
        before,
        start,
        many.len(),
        40.0,
    );
    let sql = "select t, (select count(*) from jsonb_object_keys(data)) from item where id = 7";
    assert_eq!(value(&mut client, sql), format!("last|{}", count + 2));
    // the same key every time
    let same = format!(r#"{{"id":8{}}}"#, r#","t":"x""#.repeat(count));
    assert_eq!(
        apply(&mut client, &message("insert", "item", 1, &same)).upserted,
        1
    );
    assert_eq!(
        value(&mut client, "select t, data from item where id = 8"),
        r#"x|{"t": "x", "id": 8}"#
    );
}

#[test]
fn large_strings() {
    let database = Database::new("large_strings");
    let mut client = database.connect();
    run(&mut client, WIDE);
    // stored as it is: compression would only cost time
    run(&mut client, "alter table item alter t set storage external");
    let mega = if is_full() { 400 } else { 20 };
    let into = [("t", true), ("unknown", true), ("i", false), ("v", false)];
    for (what, filling, columns) in [
        ("plain", "x", &into[..]),
        ("escaped", r"\n", &into[..3]),
        ("surrogates", r"\ud83d\ude00", &into[..1]),
    ] {
        let length = mega * 1_000_000 / filling.len();
        let text = filling.repeat(length);
        for &(column, fits) in columns {
            run(&mut client, "truncate item, sequin.dead_letter");
            // a fresh backend, for its memory
            let mut client = database.connect();
            let pid = value(&mut client, "select pg_backend_pid()");
            let messages = batch(&[
                one(1, column, &format!("\"{text}\"")),
                one(2, "t", r#""good""#),
            ]);
            let before = peak_memory(&pid);
            let start = Instant::now();
            let counts = apply(&mut client, &messages);
            let size = messages.len();
            drop(messages);
            report(
                &format!("{what} text of {mega} MB into {column}"),
                &pid,
                before,
                start,
                size,
                if fits { 8.0 } else { 12.0 },
            );
            let wanted = Counts {
                received: 2,
                upserted: 1 + i64::from(fits),
                dead: i64::from(!fits),
                ..Counts::default()
            };
            assert_eq!(counts, wanted, "{what} into {column}");
            if column == "t" {
                let sql = "select length(t) from item where id = 1";
                assert_eq!(value(&mut client, sql), length.to_string());
            }
            // an operator can read what was wrong
            let sql = "select coalesce(max(length(error) + length(detail)), 0) < 10000, count(*) from sequin.dead_letter";
            assert_eq!(
                value(&mut client, sql),
                format!("t|{}", counts.dead),
                "{what} into {column}"
            );
        }
    }
}

#[test]
fn many_messages() {
    let database = Database::new("many");
    let mut client = database.connect();
    run(&mut client, WIDE);
    run(
        &mut client,
        "update sequin.mapping set guard = 'table'; select sequin.map('public.ignored', null)",
    );
    let count = if is_full() { 1_000_000 } else { 100_000 };
    let short = |id: usize, action: &str, table: &str| {
        format!(
            r#"{{"action":"{action}","record":{{"id":{id}}},"metadata":{{"table_schema":"public","table_name":"{table}","commit_lsn":{id}}}}}"#
        )
    };
    let pid = value(&mut client, "select pg_backend_pid()");
    let mut send = |what: &str, lines: Vec<String>| {
        let lines = lines.join("\n");
        let before = peak_memory(&pid);
        let start = Instant::now();
        let counts = apply(&mut client, &lines);
        report(
            &format!("{count} {what}"),
            &pid,
            before,
            start,
            lines.len(),
            60.0,
        );
        assert_eq!(
            (counts.received, counts.outcomes()),
            (count as i64, count as i64)
        );
        counts
    };
    let of = |action: &'static str, table: &'static str| {
        (0..count)
            .map(|id| short(id, action, table))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        send("ignored", of("insert", "ignored")).ignored,
        count as i64
    );
    assert_eq!(send("rows", of("insert", "item")).upserted, count as i64);
    assert_eq!(send("rows again", of("insert", "item")).stale, count as i64);
    let same = vec![short(1, "read", "item"); count];
    let counts = send("of one row", same);
    assert_eq!(counts.dead, 0);
    assert_eq!(
        send("that are none", vec![format!("{:500}", "1"); count]).dead,
        count as i64
    );
    let sql = "select (select count(*) from item), (select sum(attempts) from sequin.dead_letter)";
    assert_eq!(value(&mut client, sql), format!("{count}|{count}"));
    // and the last line is damaged at its last byte
    let mut text = of("insert", "item").join("\n");
    text.push('{');
    let counts = apply(&mut client, &text);
    assert_eq!((counts.stale, counts.dead), (count as i64 - 1, 1));
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
    assert_eq!(counts, upserted(100_000));
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
