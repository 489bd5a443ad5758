//! Batches that keep a session from being cancelled.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use postgres::Client;
use support::{Database, batch, code, message, run, server, value};

/// How long a session may take to hear a cancel. A debug build is ten times as slow as a release build.
fn hears(client: &mut Client) -> Duration {
    let release = value(client, "select sequin.build_profile()") == "release";
    Duration::from_millis(if release { 200 } else { 1_000 })
}

/// Whether to cancel batches of 100 MB, at many moments.
fn is_full() -> bool {
    std::env::var("HOSTILE").is_ok_and(|v| v == "full")
}

const APPLY: &str = "select sequin_apply(batch) from sent";

fn cancelled(database: &Database, what: &str, batch: &str) {
    keep(database, batch);
    cancelled_in(database, what, APPLY);
}

fn keep(database: &Database, batch: &str) {
    let mut client = database.connect();
    run(&mut client, "truncate sent");
    client
        .execute("insert into sent values ($1)", &[&batch])
        .expect("kept");
}

/// Cancels the call again and again, each time later, until it ends before; says how long the slowest took to hear it.
fn cancelled_in(database: &Database, what: &str, call: &str) {
    let (between, most) = if is_full() { (230, 6) } else { (160, 4) };
    let slowest = slowest(database, what, call, between, most);
    let hears = hears(&mut database.connect());
    assert!(slowest < hears, "{what}: {slowest:?}");
}

/// How long the slowest of so many cancels took to be heard, each so many milliseconds later than the one before.
fn slowest(database: &Database, what: &str, call: &str, between: u64, most: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut late = Duration::ZERO;
    let mut heard = 0;
    for step in 0.. {
        let mut client = database.connect();
        let pid = value(&mut client, "select pg_backend_pid()");
        run(&mut client, "begin");
        let delay = Duration::from_millis(40 + between * step);
        let known = pid.clone();
        let canceller = thread::spawn(move || {
            let mut server = server();
            let sql = format!(
                "select from pg_stat_activity where pid = {pid} and state = 'active' and query ~ 'sequin'"
            );
            while support::rows(&mut server, &sql).is_empty() {}
            thread::sleep(delay);
            let moment = (Instant::now(), support::processor_time(&pid));
            run(&mut server, &format!("select pg_cancel_backend({pid})"));
            moment
        });
        let result = client.batch_execute(call);
        let (ended, worked) = (Instant::now(), support::processor_time(&known));
        let (cancel, had_worked) = canceller.join().expect("cancels");
        let Err(error) = result else {
            run(&mut client, "rollback");
            break;
        };
        assert_eq!(code(error.as_db_error().expect("of the server")), "57014");
        let took = ended.saturating_duration_since(cancel);
        // on a busy machine, the session may have had no processor meanwhile
        let worked = worked.zip(had_worked);
        let worked = worked.map_or(took, |(worked, before)| worked.saturating_sub(before));
        if took.min(worked) > slowest {
            (slowest, late) = (took.min(worked), delay);
        }
        heard += 1;
        if heard == most {
            break;
        }
    }
    println!(
        "{what}: cancelled {heard} times, heard within {slowest:?}, the slowest after {late:?}"
    );
    slowest
}

#[test]
fn a_cancel_is_heard() {
    let database = Database::new("cancel");
    run(
        &mut database.connect(),
        "create table item (id bigint primary key, t text, n bigint);
         create table sent (batch text);
         alter table sent alter batch set storage external;
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    let body = "x".repeat(600);
    let messages: Vec<String> = (0..100_000)
        .map(|i| {
            let record = format!(r#"{{"id":{i},"n":{i},"t":"{body}"}}"#);
            message("insert", "item", i + 1, &record)
        })
        .collect();
    let ordinary = batch(&messages);
    drop(messages);
    cancelled(&database, "100,000 messages", &ordinary);
    cancelled(
        &database,
        "messages that nobody takes",
        &ordinary.replace(r#""item""#, r#""x""#),
    );
    let ones = format!("[{}1]", "1,".repeat(900_000));
    cancelled(&database, "ones", &ones);
    // what goes through a record hears a cancel once a round
    let count = if cfg!(debug_assertions) {
        500_000
    } else {
        8_000_000
    };
    let members = r#","a":1"#.repeat(count);
    let record = message("insert", "item", 1, &format!(r#"{{"id":1{members}}}"#));
    cancelled(&database, "a record of many members", &record);
}

/// A record whose member `d` is this.
fn with_document(value: &str) -> String {
    message("insert", "noted", 1, &format!(r#"{{"id":1,"d":{value}}}"#))
}

/// Tables and mappings for one large value, by each way that values go.
pub const SHAPES: &str = r#"create table noted (id bigint primary key, d jsonb, t text, l text[]);
    alter table noted alter d set storage external, alter t set storage external, alter l set storage external;
    create table sent (batch text);
    alter table sent alter batch set storage external;
    create table sent_jsonb (batch jsonb);
    alter table sent_jsonb alter batch set storage external;
    alter table sequin.dead_letter alter message set storage external;
    select sequin.map('public.noted', 'noted', guard => 'off', name => 'noted');
    select sequin.map('public.texts', 'noted', guard => 'off', name => 'texts',
                      columns => '{"id": "record.id", "t": "record.d"}');
    select sequin.map('public.lists', 'noted', guard => 'off', name => 'lists',
                      columns => '{"id": "record.id", "l": "record.d"}');
    select sequin.map('public.sql', 'noted', guard => 'off', name => 'sql',
                      columns => '{"id": "record.id", "t": {"sql": "left(record->>''d'', 3)"}}')"#;

/// Units in a row, of this size together.
pub fn repeated(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len())
}

/// Whatever takes the time: one value or many, deep or wide, in whatever form the batch comes.
#[test]
fn a_cancel_is_heard_whatever_the_shape() {
    let size = if is_full() { 100_000_000 } else { 4_000_000 };
    let database = Database::new("cancel_shapes");
    run(&mut database.connect(), SHAPES);
    let half = size / 2;
    let values = [
        ("deep arrays", "[".repeat(half) + &"]".repeat(half)),
        (
            "deep objects",
            r#"{"a":"#.repeat(size / 6) + "1" + &"}".repeat(size / 6),
        ),
        (
            "many deep arrays",
            format!(
                "[{}1]",
                repeated(&("[".repeat(300) + &"]".repeat(300) + ","), size)
            ),
        ),
        ("one string", format!("\"{}\"", "x".repeat(size))),
        (
            "one string of escapes",
            format!("\"{}\"", repeated("\\u00e4\\n", size)),
        ),
        ("one number", "1".repeat(size)),
        ("many numbers", format!("[{}1]", repeated("1,", size))),
        (
            "many strings",
            format!("[{}\"b\"]", repeated("\"a\",", size)),
        ),
        (
            "many keys",
            format!(
                "{{{}\"z\":1}}",
                (0..size / 14)
                    .rev()
                    .map(|i| format!("\"k{i:07}\":1,"))
                    .collect::<String>()
            ),
        ),
        ("white space", format!("[{}]", " ".repeat(size))),
    ];
    // SHAPE=name: those whose name contains that
    let only = std::env::var("SHAPE").unwrap_or_default();
    let few = ["deep objects", "one string of escapes", "many keys"];
    let chosen = |what: &&str| what.contains(&only) && (is_full() || few.contains(what));
    for (what, value) in values.into_iter().filter(|(what, _)| chosen(what)) {
        let insert = with_document(&value);
        drop(value);
        for table in ["noted", "texts", "lists", "sql", "nobody"] {
            let insert = insert.replacen("\"noted\"", &format!("\"{table}\""), 1);
            assert!(insert.contains(table));
            cancelled(&database, &format!("{what} for {table}"), &insert);
        }
        keep(&database, &insert);
        cancelled_in(
            &database,
            &format!("{what} of a payload"),
            "select sequin_apply(array[batch]) from sent",
        );
        cancelled_in(
            &database,
            &format!("{what} explained"),
            "select count(*) from sent, sequin.explain_batch(batch)",
        );
        // the server itself reads jsonb without an end, or not at all
        let made = database.connect().batch_execute(
            "truncate sent_jsonb; insert into sent_jsonb select batch::jsonb from sent",
        );
        if made.is_ok() {
            cancelled_in(
                &database,
                &format!("{what} as jsonb"),
                "select sequin_apply(batch) from sent_jsonb",
            );
        }
        let base64 = base64::engine::general_purpose::STANDARD.encode(&insert);
        let body = format!(r#"{{"messages":[{{"data":"{base64}"}}]}}"#);
        cancelled(&database, &format!("{what} in base64"), &body);
        drop((base64, body));
        let escaped = insert.replace('\\', "\\\\").replace('"', "\\\"");
        let body = format!(r#"{{"Records":[{{"body":"{escaped}"}}]}}"#);
        cancelled(&database, &format!("{what} in a text"), &body);
        drop((escaped, body));
        // kept as a letter, and tried again
        let insert = insert.replacen(r#""id":1"#, r#""id":"no number""#, 1);
        run(&mut database.connect(), "delete from sequin.dead_letter");
        keep(&database, &insert);
        run(&mut database.connect(), APPLY);
        cancelled_in(
            &database,
            &format!("{what} as a letter"),
            "select sequin.retry()",
        );
        run(&mut database.connect(), "delete from sequin.dead_letter");
    }
}

/// A string that is no value of the column's type. The server would read it to its end and repeat it in its error, and
/// hears no cancel meanwhile.
#[test]
fn a_cancel_is_heard_whatever_the_type() {
    let size = if is_full() { 100_000_000 } else { 4_000_000 };
    let database = Database::new("cancel_types");
    run(&mut database.connect(), TYPES);
    let only = std::env::var("SHAPE").unwrap_or_default();
    let (x, digits) = ("x".repeat(size), "1".repeat(size));
    let refused = [
        "ints",
        "texts",
        "pairs",
        "span",
        "spans",
        "pair",
        "flag",
        "small",
        "half",
        "amount",
        "at",
        "span_of_time",
        "mood",
        "uid",
        "address",
        "mac",
        "area",
        "position",
        "list",
        "paid",
        "words",
    ];
    let few = ["ints", "span", "amount"];
    let between = if is_full() { 100 } else { 40 };
    let hears = hears(&mut database.connect());
    let sampled = |column: &str, what: &str, value: &str| {
        let what = format!("{what} for {column}");
        if !what.contains(&only) {
            return Duration::ZERO;
        }
        let record = format!(r#"{{"id":1,"{column}":{value}}}"#);
        keep(&database, &message("insert", "typed", 1, &record));
        slowest(&database, &what, APPLY, between, 60)
    };
    let long = format!("\"{x}\"");
    let mut missed = Vec::new();
    let cases = refused
        .iter()
        .map(|column| (*column, "a long text", &*long));
    let element = format!("[{long}]");
    let more = [
        ("amount", "digits", &*digits),
        ("ints", "a long element", &element),
    ];
    for (column, what, value) in cases.chain(more) {
        if is_full() || few.contains(&column) {
            let took = sampled(column, what, value);
            missed.extend((took >= hears).then_some((column, what, took)));
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
    if !is_full() {
        return;
    }
    // what stays the server's: docs/explanation/security.md tells of it
    let ones = format!("[{}1]", repeated("1,", size));
    for (column, what, value) in [
        ("ints", "ones", ones.as_str()),
        ("texts", "ones", &ones),
        ("texts", "braces", &format!("\"{{{x}}}\"")),
        ("ints", "braces", &format!("\"{{{x}}}\"")),
        ("pair", "parentheses", &format!("\"({x})\"")),
        ("span", "brackets", &format!("\"[{x}]\"")),
        ("bits", "digits", &format!("\"{digits}\"")),
        ("ten", "a long text", &long),
        ("bytes", "hexadecimal", &format!("\"\\\\x{digits}\"")),
        (
            "question",
            "a long text",
            &format!("\"{}\"", &x[..size / 10]),
        ),
        ("way", "a long text", &long),
        ("step", "a long text", &long),
        ("markup", "a long text", &long),
    ] {
        sampled(column, what, value);
    }
}

const TYPES: &str = "create type mood as enum ('good', 'bad');
    create type pair as (a integer, b text);
    create domain list as integer[];
    create domain paid as numeric(10, 2);
    create table typed (id bigint primary key, ints integer[], texts text[], pairs pair[], span int4range,
        spans int4multirange, pair pair, flag boolean, small smallint, half real, amount numeric, at timestamptz,
        span_of_time interval, mood mood, uid uuid, address inet, mac macaddr, area box, position pg_lsn, list list,
        paid paid, bits varbit, ten char(10), bytes bytea, words tsvector, question tsquery, way path, step jsonpath,
        markup xml);
    create table sent (batch text);
    alter table sent alter batch set storage external;
    alter table sequin.dead_letter alter message set storage external;
    select sequin.map('public.typed', 'typed', guard => 'off', name => 'typed')";
