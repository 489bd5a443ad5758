//! Batches that keep a session from being cancelled.

use std::thread;
use std::time::{Duration, Instant};

use support::{Database, batch, code, message, run, server, value};

/// How long a session may take to hear a cancel. A debug build is ten times as slow as a release build.
const HEARS: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 200 });

/// Cancels the call again and again, each time later, until it ends before; says how long the slowest took to hear it.
fn cancelled(database: &Database, what: &str, batch: &str) {
    let mut slowest = Duration::ZERO;
    let mut heard = 0;
    let mut client = database.connect();
    run(&mut client, "truncate sent");
    client
        .execute("insert into sent values ($1)", &[&batch])
        .expect("kept");
    for step in 0.. {
        let mut client = database.connect();
        let pid = value(&mut client, "select pg_backend_pid()");
        run(&mut client, "begin");
        let delay = Duration::from_millis(40 + 160 * step);
        let canceller = thread::spawn(move || {
            let mut server = server();
            let sql = format!(
                "select from pg_stat_activity where pid = {pid} and state = 'active' and query ~ 'sequin_apply'"
            );
            while support::rows(&mut server, &sql).is_empty() {}
            thread::sleep(delay);
            run(&mut server, &format!("select pg_cancel_backend({pid})"));
            Instant::now()
        });
        let result = client.batch_execute("select sequin_apply(batch) from sent");
        let ended = Instant::now();
        let cancel = canceller.join().expect("cancels");
        let Err(error) = result else {
            run(&mut client, "rollback");
            assert!(heard > 0, "{what}: it ended before it could be cancelled");
            println!("{what}: cancelled {heard} times, heard within {slowest:?}");
            return;
        };
        assert_eq!(code(error.as_db_error().expect("of the server")), "57014");
        slowest = slowest.max(ended.saturating_duration_since(cancel));
        assert!(slowest < HEARS, "{what}: {slowest:?} after {delay:?}");
        heard += 1;
        if heard == 12 {
            println!("{what}: cancelled {heard} times, heard within {slowest:?}");
            return;
        }
    }
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
