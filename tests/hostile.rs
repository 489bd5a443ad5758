//! Batches that nobody should send: deep, large, many, and of what is no text and no number. Each message has an outcome
//! of its own or the call a clear error, in time and memory that the size of the batch bounds.
//!
//! `HOSTILE=full` does it at full size; else it is a fifth or less of that.

mod support;

use std::env;
use std::error::Error;
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use support::{
    Counts, Database, apply, apply_error, apply_jsonb, batch, message, peak_memory, rows, run,
    try_apply, value,
};

fn is_full() -> bool {
    env::var("HOSTILE").is_ok_and(|value| value == "full")
}

const WIDE: &str = "create type pair as (a integer, b text);
    create table item (id bigint primary key, t text, v varchar(10), i integer, b bigint, n numeric, m numeric(10,2), f float8,
                       j json, d jsonb, ia integer[], ta text[], ja jsonb[], p pair, ts timestamptz, iv interval, u uuid, bo boolean,
                       by bytea);
    select sequin.map('public.item', 'item', guard => 'off', name => 'item')";

/// A row whose column has a value.
fn one(id: usize, column: &str, json: &str) -> String {
    message(
        "insert",
        "item",
        id as u64 + 1,
        &format!(r#"{{"id":{id},"{column}":{json}}}"#),
    )
}

/// Sends the messages as one batch, between two good ones, which must be applied. Returns a line for each that is a dead
/// letter: place and SQLSTATE.
fn letters(client: &mut Client, messages: &[String]) -> Vec<String> {
    run(client, "truncate item, sequin.dead_letter");
    let good = |id| one(id, "t", r#""good""#);
    let all = [&[good(1_000_000)], messages, &[good(1_000_001)]].concat();
    let start = Instant::now();
    let counts = apply(client, &batch(&all));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert_eq!(counts.received, all.len() as i64);
    assert_eq!(counts.outcomes(), counts.received, "{counts:?}");
    assert_eq!(
        value(client, "select count(*) from item where t = 'good'"),
        "2"
    );
    let there = "select count(*) from item";
    assert_eq!(value(client, there), counts.upserted.to_string());
    rows(
        client,
        "select position - 1 || ' ' || sqlstate from sequin.dead_letter order by position",
    )
}

/// The value into each of the columns, into arrays as an element: those that it does not fit in, and why.
fn unfit(client: &mut Client, json: &str, columns: &[&str]) -> Vec<String> {
    let messages: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(id, column)| match column.strip_suffix('a') {
            Some(_) if !json.starts_with(['[', '{']) => one(id, column, &format!("[{json}]")),
            _ => one(id, column, json),
        })
        .collect();
    letters(client, &messages)
        .iter()
        .map(|line| {
            let (place, state) = line.split_once(' ').expect("two words");
            let place: usize = place.parse().expect("a number");
            format!("{} {state}", columns[place])
        })
        .collect()
}

#[test]
fn depth() {
    let database = Database::new("depth");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let columns = ["t", "j", "d", "ia", "ta", "ja", "i", "p", "unknown"];
    // seven dimensions are one too many
    let seven = "[".repeat(7) + "1" + &"]".repeat(7);
    assert_eq!(
        unfit(&mut client, &seven, &columns),
        ["ia 54000", "ta 54000", "i 22P02", "p 22P02"]
    );
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[{"a":"#, "}]")] {
        let deep = open.repeat(10_000) + "1" + &close.repeat(10_000);
        let unfit = unfit(&mut client, &deep, &columns);
        // to the server's json functions it is too deep, on some versions
        for fault in &unfit {
            let known = ["54000", "54001", "22P02", "22P05", "42804"];
            assert!(
                known.contains(&&fault[fault.len() - 5..]),
                "{open}: {fault}"
            );
        }
        for column in ["t", "unknown"] {
            let is = |fault: &String| fault.starts_with(&format!("{column} "));
            assert!(!unfit.iter().any(is), "{open}: {unfit:?}");
        }
        for column in ["ia", "i"] {
            let is = |fault: &String| fault.starts_with(&format!("{column} "));
            assert!(unfit.iter().any(is), "{open}: {unfit:?}");
        }
    }
    // never closed: nothing can be told from it
    let open = "[".repeat(10_000_000);
    assert_eq!(apply_error(&mut client, &open).code().code(), "22P02");
    let mut envelopes = one(1, "t", "null");
    for _ in 0..10_000 {
        envelopes = format!(r#"{{"data":[{envelopes}]}}"#);
    }
    assert_eq!(apply(&mut client, &envelopes).dead, 1);
}

#[test]
fn numbers() {
    let database = Database::new("numbers");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let columns = [
        "t", "v", "i", "b", "n", "m", "f", "j", "d", "ia", "ja", "ts", "iv", "u", "bo", "unknown",
    ];
    let long = "7".repeat(10_000);
    let none_else = ["ts", "iv", "u", "bo"];
    for (number, bad) in [
        (long.clone(), &["v", "i", "b", "m", "f", "ia"][..]),
        (format!("-{long}.{long}"), &["v", "i", "b", "m", "f", "ia"]),
        (format!("0.{long}"), &["v", "i", "b", "ia"]),
        (
            "1e999999999".to_owned(),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        (
            format!("1e{long}"),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        (
            format!("1e-{long}"),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        (
            "1e-999999999".to_owned(),
            &["v", "i", "b", "n", "m", "f", "d", "ia", "ja"],
        ),
        ("0e999999999".to_owned(), &["v", "n", "m", "d", "ja"]),
    ] {
        let short: String = number.chars().take(20).collect();
        let unfit = unfit(&mut client, &number, &columns);
        println!("{short}: {unfit:?}");
        for fault in &unfit {
            let (column, state) = fault.split_once(' ').expect("two words");
            assert!(
                bad.contains(&column) || none_else.contains(&column),
                "{short}: {fault}"
            );
            assert!(
                state.starts_with("22") || state == "42804",
                "{short}: {fault}"
            );
        }
        for column in ["t", "j", "unknown"] {
            assert!(
                !unfit
                    .iter()
                    .any(|fault| fault.starts_with(&format!("{column} ")))
            );
        }
        for column in ["i", "b", "ia"]
            .iter()
            .filter(|column| bad.contains(column))
        {
            assert!(
                unfit
                    .iter()
                    .any(|fault| fault.starts_with(&format!("{column} ")))
            );
        }
    }
    // no digit is lost
    let number = format!("{long}.{long}");
    letters(
        &mut client,
        &[
            one(1, "n", &number),
            one(2, "t", &number),
            one(3, "d", &number),
        ],
    );
    for (id, column) in [(1, "n"), (2, "t"), (3, "d")] {
        let sql = format!("select {column} from item where id = {id}");
        assert_eq!(value(&mut client, &sql), number);
    }
    // where a position is expected
    let position = |lsn: &str| {
        let message = one(1, "t", "null");
        message.replace(r#""commit_lsn":2,"#, &format!(r#""commit_lsn":{lsn},"#))
    };
    let positions = ["1e3", "-1", "1.5", "1e999999999", &long].map(position);
    let letters = letters(&mut client, &positions);
    // 1e3 is a whole number, if an odd way to write one
    assert!(
        letters.len() >= 4 && letters.iter().all(|l| l.ends_with("22023")),
        "{letters:?}"
    );
}

#[test]
fn what_is_no_text() {
    let database = Database::new("no_text");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let columns = ["t", "v", "d", "j", "ta", "ja", "p", "i", "unknown"];
    for escape in [
        r"\u0000",
        r"\ud800",
        r"\udc00",
        r"\udc00\ud800",
        r"a\ud83dz",
    ] {
        // json keeps what it gets; where nobody looks, nothing is wrong
        let in_string = unfit(&mut client, &format!(r#""{escape}""#), &columns);
        for fault in &in_string {
            assert!(
                fault.ends_with(" 22P05") || fault.ends_with(" 22P02"),
                "{escape}: {fault}"
            );
        }
        let place = |column: &str| {
            in_string
                .iter()
                .any(|f| f.starts_with(&format!("{column} ")))
        };
        assert!(
            place("t") && place("v") && place("d"),
            "{escape}: {in_string:?}"
        );
        assert!(!place("unknown"), "{escape}: {in_string:?}");
        let nested = format!(r#"[{{"a{escape}":["{escape}"]}}]"#);
        unfit(&mut client, &nested, &columns);
        // as a key of the record, in the key's column, as table, as action
        let good = one(1, "t", "null");
        let messages = [
            good.replace(r#""t""#, &format!(r#""t{escape}""#)),
            good.replace(r#""id":1"#, &format!(r#""id":"{escape}""#)),
            good.replace(
                r#""table_name":"item""#,
                &format!(r#""table_name":"it{escape}em""#),
            ),
            good.replace(
                r#""action":"insert""#,
                &format!(r#""action":"insert{escape}""#),
            ),
            good.replace(r#""record":{"#, &format!(r#""{escape}":1,"record":{{"#)),
        ];
        let letters = letters(&mut client, &messages);
        let places: Vec<_> = letters.iter().map(|letter| &letter[..1]).collect();
        assert_eq!(places, ["1", "2", "3"], "{escape}: {letters:?}");
    }
}

/// Bytes as a text.
#[derive(Debug)]
struct Bytes<'a>(&'a [u8]);

impl ToSql for Bytes<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut postgres::types::private::BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[test]
fn invalid_utf8() {
    let database = Database::new("utf8");
    let mut client = database.connect();
    run(&mut client, WIDE);
    let good = one(1, "t", r#""x""#);
    for bytes in [
        &b"\xff"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xe2\x82",
        b"\0",
    ] {
        let at = good.find('x').expect("it is there");
        let bad = [&good.as_bytes()[..at], bytes, &good.as_bytes()[at..]].concat();
        let error = client
            .query("select * from sequin_apply($1)", &[&Bytes(&bad)])
            .expect_err("no text");
        let code = error.code().expect("an error of the server").code();
        assert_eq!(code, "22021", "{bytes:?}");
        assert_eq!(value(&mut client, "select count(*) from item"), "0");
    }
    assert_eq!(apply(&mut client, &good).upserted, 1);
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

/// Says what a batch of so many bytes took, and checks that it was not more memory than `most` times its size and 50 MB.
fn report(what: &str, pid: &str, before: Option<u64>, start: Instant, size: usize, most: f64) {
    let took = start.elapsed();
    if let (Some(before), Some(after)) = (before, peak_memory(pid)) {
        let more = (after - before) as f64 * 1024.0;
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
fn large_strings() {
    let database = Database::new("large_strings");
    let mut client = database.connect();
    run(&mut client, WIDE);
    // what is checked below is what becomes of it, not how well it compresses
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
    let sql = "select (select count(*) from item), (select count(*) from sequin.dead_letter)";
    assert_eq!(value(&mut client, sql), format!("{count}|{count}"));
    // and a call that fails at its last byte
    let mut text = of("insert", "item").join("\n");
    text.push('{');
    let error = try_apply(&mut client, &text).expect_err("no JSON");
    assert_eq!(error.code().map(|code| code.code()), Some("22P02"));
}
