//! Batches that should take much more memory than they are large, or leave it in the session.

use std::time::Instant;

use postgres::Client;
use support::{
    Counts, Database, code, message, peak_memory, resident_memory, run, try_apply, upserted, value,
};

const KB: i64 = 1024;
const MB: i64 = 1024 * KB;

/// What a call may take, as a multiple of the size of its batch.
pub const TIMES: i64 = 4;

/// What a call may take beside that; and what may stay when it has ended.
const PEAK: i64 = 50 * MB;
const KEPT: i64 = 20 * MB;

/// Sends the batch by a fresh session, and says what it took and left beside what a small batch does.
fn measured(database: &Database, what: &str, batch: &str) -> Result<Counts, postgres::Error> {
    measured_call(database, what, (batch.len(), TIMES), |client| {
        try_apply(client, batch)
    })
}

/// The same for any call that is about a batch of this size, and may take so many times the size.
pub fn measured_call<T>(
    database: &Database,
    what: &str,
    (size, times): (usize, i64),
    call: impl FnOnce(&mut Client) -> T,
) -> T {
    let mut client = database.connect();
    let pid = value(&mut client, "select pg_backend_pid()");
    let warm = message("insert", "item", 1, r#"{"id":-1,"t":"x"}"#);
    try_apply(&mut client, &warm).expect("a small batch");
    let before = (peak_memory(&pid), resident_memory(&pid));
    let start = Instant::now();
    let result = call(&mut client);
    let took = start.elapsed();
    // the server frees what a message took when it waits for the next one
    run(&mut client, "select");
    let after = (peak_memory(&pid), resident_memory(&pid));
    if let ((Some(peak), Some(now)), (Some(peak_after), Some(now_after))) = (before, after) {
        let more = |after: u64, before: u64| (after as i64 - before as i64) * KB;
        let (peak, kept) = (more(peak_after, peak), more(now_after, now));
        let size = size as i64;
        println!(
            "{what}: {size} bytes took {took:?} and {} MB, {:.1} times their size; {} MB stay",
            peak / MB,
            peak as f64 / size as f64,
            kept / MB
        );
        assert!(
            peak <= times * size + PEAK,
            "{what}: {peak} bytes of {size}"
        );
        assert!(kept <= KEPT, "{what}: {kept} bytes stay");
    }
    result
}

fn scene(test: &str) -> Database {
    let database = Database::new(test);
    run(
        &mut database.connect(),
        "create table item (id bigint primary key, t text, n bigint, at timestamptz, price numeric, uid uuid);
         alter table item alter t set storage external;
         create table noted (id bigint primary key, data jsonb);
         select sequin.map('public.item', 'item', guard => 'off', name => 'item');
         select sequin.map('public.noted', 'noted', guard => 'off', name => 'noted',
                           columns => '{\"id\": \"record.id\", \"data\": \"record\"}')",
    );
    database
}

fn ones(bytes: usize) -> String {
    let count = bytes / 2 - 1;
    format!("[{}1]", "1,".repeat(count - 1))
}

#[test]
fn ones_by_the_million() {
    let database = scene("ones");
    let small = ones(2_000_000);
    let counts = measured(&database, "2 MB of ones", &small).expect("letters");
    assert_eq!((counts.received, counts.dead), (999_999, 999_999));
    let error = measured(&database, "20 MB of ones", &ones(20_000_000)).expect_err("too many");
    let error = error.as_db_error().expect("of the server");
    assert_eq!(code(error), "54000");
    assert_eq!(error.message(), "batch has more than 1000000 messages");
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("sequin.max_batch_messages")
    );
    let mut client = database.connect();
    // Equal letters are kept once, and counted.
    let kept = "select sum(attempts), min(sqlstate), max(message) from sequin.dead_letter";
    assert_eq!(value(&mut client, kept), "999999|22023|1");
    // strings and numbers where a list of something else is
    for (what, unit) in [
        ("strings", r#""a","#),
        ("names and values", r#""action","","#),
    ] {
        let kept = |batch: &str| measured(&database, what, batch).expect("a letter");
        let batch = format!(r#"[{}"b"]"#, unit.repeat(20_000_000 / unit.len()));
        assert_eq!(kept(&batch).dead, 1);
        let batch = format!(r#"{{"fields":{batch}}}"#);
        assert_eq!(kept(&batch).dead, 1);
    }
}

#[test]
fn one_large_record() {
    let database = scene("one_large");
    let text = "x".repeat(100_000_000);
    let batch = message("insert", "item", 2, &format!(r#"{{"id":1,"t":"{text}"}}"#));
    let counts = measured(&database, "a record of 100 MB", &batch).expect("a row");
    assert_eq!(counts, upserted(1));
    let mut client = database.connect();
    assert_eq!(
        value(&mut client, "select length(t) from item where id = 1"),
        "100000000"
    );
    run(&mut client, "truncate item");
    let batch = message("insert", "noted", 2, &format!(r#"{{"id":1,"t":"{text}"}}"#));
    let counts = measured(&database, "a document of 100 MB", &batch).expect("a row");
    assert_eq!(counts, upserted(1));
}

/// Documents of many values: the text is short for each of them.
#[test]
fn one_large_document() {
    let database = scene("one_document");
    let unit = r#"{"name":"some name","price":1234.50,"tags":["a","\u00e4"],"at":null,"on":true},"#;
    let list = format!("[{}{{}}]", unit.repeat(60_000_000 / unit.len()));
    let members: Vec<String> = (0..2_000_000)
        .rev()
        .map(|i| format!(r#""member {i}":"{i}""#))
        .collect();
    for (what, value) in [
        ("a list of 60 MB", list),
        ("members of 50 MB", format!("{{{}}}", members.join(","))),
    ] {
        let record = format!(r#"{{"id":1,"value":{value}}}"#);
        let batch = message("insert", "noted", 2, &record);
        let counts = measured(&database, what, &batch).expect("a row");
        assert_eq!(counts, upserted(1));
        let mut client = database.connect();
        let same = client
            .query_one("select data = $1::text::jsonb from noted", &[&record])
            .expect("the row");
        assert!(same.get::<_, bool>(0), "{what}");
        run(&mut client, "truncate noted");
    }
}

/// What cannot be written is kept as it came.
#[test]
fn a_letter_as_large_as_its_batch() {
    let database = scene("large_letter");
    let text = "x".repeat(100_000_000);
    let kept = [
        (
            "an unmapped record",
            "nobody_takes",
            format!(r#"{{"id":1,"t":"{text}"}}"#),
        ),
        (
            "a record with a bad key",
            "item",
            format!(r#"{{"id":"no number","t":"{text}"}}"#),
        ),
        (
            "a record with a bad value",
            "item",
            format!(r#"{{"id":1,"t":"x","n":"{text}"}}"#),
        ),
        (
            "a document with a bad value",
            "noted",
            format!(r#"{{"id":1,"t":"{text}\u0000"}}"#),
        ),
    ];
    for (what, table, record) in kept {
        let batch = message("insert", table, 2, &record);
        let counts = measured(&database, what, &batch).expect("a letter");
        assert_eq!((counts.received, counts.dead), (1, 1), "{what}");
    }
}

fn ordinary(table: &str, id: &str) -> String {
    let body = "x".repeat(600);
    let messages: Vec<String> = (0..100_000_u64)
        .map(|i| {
            let record = format!(
                r#"{{"id":{i}{id},"n":{},"at":"2026-01-01T00:00:00.{i:06}Z","price":"{i}.50","uid":"00000000-0000-0000-0000-{i:012}","t":"{body}"}}"#,
                i * i
            );
            message("insert", table, i + 1, &record)
        })
        .collect();
    support::batch(&messages)
}

#[test]
fn ordinary_messages() {
    let database = scene("ordinary");
    let batch = ordinary("item", "");
    let counts = measured(&database, "ordinary messages", &batch).expect("rows");
    assert_eq!(counts, upserted(100_000));
}

#[test]
fn messages_that_all_fail() {
    let database = scene("all_fail");
    let none = |counts: Counts| (counts.received, counts.dead) == (100_000, 100_000);
    let batch = ordinary("nobody_takes", "");
    assert!(none(
        measured(&database, "unmapped messages", &batch).expect("letters")
    ));
    // a hundredth of them: each fails in a subtransaction of its own
    let batch = ordinary("item", r#","id":"no number""#);
    let cut = batch
        .match_indices(r#"{"record""#)
        .nth(20_000)
        .expect("so many")
        .0;
    let batch = format!("{}]}}", &batch[..cut - 1]);
    let counts = measured(&database, "messages with bad keys", &batch).expect("letters");
    assert_eq!((counts.received, counts.dead), (20_000, 20_000));
}

/// A record of many members, as no table has them: the session and the catalog keep nothing of it.
#[test]
fn a_record_of_many_members() {
    let database = scene("many_members");
    let members: Vec<String> = (0..500_000).map(|i| format!(r#""k{i}":{i}"#)).collect();
    let record = format!(r#"{{"id":1,"t":"x",{}}}"#, members.join(","));
    for table in ["item", "noted"] {
        let batch = message("insert", table, 2, &record);
        let counts = measured(&database, "500,000 members", &batch).expect("a row");
        assert_eq!(counts, upserted(1));
    }
    let mut client = database.connect();
    assert_eq!(
        value(&mut client, "select count(*) < 100 from sequin.record_key"),
        "t"
    );
}
