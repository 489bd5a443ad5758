//! Calls that fail leave nothing behind but a row of `sequin.failed_calls`.

use std::time::{Duration, Instant};

use postgres::Client;
use support::{Database, apply_error, code, item, rows, run, value};

/// Waits until the query answers as expected: workers write the failures.
fn eventually(client: &mut Client, sql: &str, expected: &[&str]) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let found = rows(client, sql);
        if found == expected {
            return;
        }
        assert!(Instant::now() < end, "{sql}: {found:?}, not {expected:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_failed_call_is_seen_afterwards() {
    let mut database = Database::new("failed_calls");
    let (forwarder, monitor, stranger) = (
        database.role("forwarder"),
        database.role("monitor"),
        database.role("stranger"),
    );
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'table');
             select sequin.pause('item');
             grant pg_monitor to {monitor};
             grant execute on function sequin_apply(text) to {forwarder}"
        ),
    );
    let mut client = database.connect_as(&forwarder);
    assert_eq!(code(&apply_error(&mut client, &item(1, "a"))), "55000");
    let all = "select concat_ws('|', role, sqlstate, outcome, calls, error) from sequin.failed_calls order by sqlstate";
    let paused = format!("{forwarder}|55000|failed|1|mapping \"item\" is paused");
    eventually(&mut admin, all, &[&paused]);
    // the forwarder sees its own, a monitor sees no message, a stranger nothing
    assert_eq!(rows(&mut client, all), [paused]);
    let told = format!("{forwarder}|55000|failed|1");
    assert_eq!(rows(&mut database.connect_as(&monitor), all), [told]);
    assert_eq!(rows(&mut database.connect_as(&stranger), all), [""; 0]);

    // what follows within seconds is counted, and written with a later failure of the session or another's
    for _ in 0..3 {
        apply_error(&mut client, &item(1, "a"));
    }
    let mut other = database.connect_as(&forwarder);
    assert_eq!(code(&apply_error(&mut other, "[{")), "22P02");
    let short = "select sqlstate || ' ' || calls from sequin.failed_calls order by sqlstate";
    eventually(&mut admin, short, &["22P02 1", "55000 1"]);
    run(&mut admin, "select sequin.resume('item')");
    let end = Instant::now() + Duration::from_secs(30);
    while value(
        &mut admin,
        "select calls from sequin.failed_calls where sqlstate = '55000'",
    ) != "4"
    {
        support::apply(&mut client, &item(1, "a"));
        assert!(Instant::now() < end);
    }

    // a call that the server ends
    run(&mut admin, "begin; update item set name = 'held'");
    run(&mut client, "set statement_timeout = '200ms'");
    assert_eq!(code(&apply_error(&mut client, &item(7, "a"))), "57014");
    run(&mut admin, "rollback");
    let all_codes = "select distinct sqlstate from sequin.failed_calls order by 1";
    let end = Instant::now() + Duration::from_secs(30);
    run(&mut client, "set statement_timeout = 0");
    while rows(&mut admin, all_codes) != ["22P02", "55000", "57014"] {
        support::apply(&mut client, &item(1, "a"));
        assert!(Instant::now() < end);
    }
}

#[test]
fn failed_calls_are_not_kept_if_nobody_wants_them() {
    let database = Database::new("failed_calls_off");
    let mut client = database.connect();
    run(&mut client, "set sequin.log_failures = off");
    apply_error(&mut client, "[{");
    run(&mut client, "set sequin.log_failures = on");
    apply_error(&mut client, "[");
    let all = "select error from sequin.failed_calls";
    eventually(&mut client, &all.replace("error", "calls::text"), &["1"]);
}

/// The default forbids no session to write, and the worker writes to a table of the extension alone.
#[test]
fn a_database_that_is_read_only_by_default() {
    let database = Database::new("failed_calls_read_only");
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'table');
             alter database {} set default_transaction_read_only = on",
            database.name()
        ),
    );
    let mut client = database.connect();
    let refused = apply_error(&mut client, &item(1, "a"));
    assert_eq!(code(&refused), "25006");
    let all = "select sqlstate, outcome, calls from sequin.failed_calls";
    eventually(&mut client, all, &["25006|failed|1"]);
}
