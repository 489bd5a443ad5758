//! What a call takes along never costs it its own work.

use postgres::Client;
use support::{Database, apply, batch, message, run, send, upserted, value};

const FAMILY: &str = "
    create table parent (id bigint primary key);
    create table child (id bigint primary key, parent bigint references parent)";

fn children(count: u64) -> Vec<String> {
    (1..=count)
        .map(|id| {
            message(
                "insert",
                "child",
                id,
                &format!(r#"{{"id":{id},"parent":1}}"#),
            )
        })
        .collect()
}

fn parent() -> String {
    message("insert", "parent", 100_000, r#"{"id":1}"#)
}

/// A call of another mapping that has nothing to do with the letters.
fn other(id: u64) -> String {
    message(
        "insert",
        "parent",
        200_000 + id,
        &format!(r#"{{"id":{}}}"#, id + 1),
    )
}

const LEFT: &str = "select count(*) from sequin.dead_letter";

fn slow(seconds: f64) -> String {
    format!(
        "create or replace function slow() returns trigger language plpgsql as
             $$ begin perform pg_sleep({seconds}); return new; end $$;
         create or replace trigger slow after insert on child for each row execute function slow()"
    )
}

#[test]
fn a_parent_of_many_children_is_written_within_the_statements_time() {
    let (_database, mut client) =
        Database::mapped("healing_many", FAMILY, &["parent", "child"], "table");
    for children in children(6_000).chunks(1_000) {
        send(&mut client, children);
    }
    assert_eq!(value(&mut client, LEFT), "6000");
    // Even where it would retry for as long as it takes.
    run(
        &mut client,
        "set statement_timeout = '1500ms'; set sequin.heal_time = '1h'",
    );
    assert_eq!(apply(&mut client, &parent()), upserted(1));
    let mut calls = 0;
    while value(&mut client, LEFT) != "0" {
        calls += 1;
        assert_eq!(apply(&mut client, &other(calls)), upserted(1));
        assert!(calls < 100, "{} are left", value(&mut client, LEFT));
    }
    assert_eq!(value(&mut client, "select count(*) from child"), "6000");
    let status = "select healed, received, dead from sequin.status where name = 'child'";
    assert_eq!(value(&mut client, status), "6000|6000|6000");
    let counted = "select sum(upserted) = sum(received) from sequin.status where name = 'parent'";
    assert_eq!(value(&mut client, counted), "t");
}

#[test]
fn slow_children_do_not_use_up_the_time() {
    let (_database, mut client) =
        Database::mapped("healing_slow", FAMILY, &["parent", "child"], "off");
    send(&mut client, &children(40));
    run(&mut client, &slow(0.2));
    run(&mut client, "set statement_timeout = '1s'");
    assert_eq!(apply(&mut client, &parent()), upserted(1));
    // Ten take longer than the time that was left: fewer are tried then.
    let mut calls = 0;
    while value(&mut client, LEFT) == "40" {
        calls += 1;
        assert_eq!(apply(&mut client, &other(calls)), upserted(1));
        assert!(calls < 10);
    }
    let state = "select bool_and(state = 'waiting') from sequin.dead_letter";
    assert_eq!(value(&mut client, state), "t");
    // The time is the client's: without a limit they are written.
    run(
        &mut client,
        "set statement_timeout = 0; drop trigger slow on child",
    );
    run(&mut client, "call sequin.retry_all('child')");
    assert_eq!(value(&mut client, LEFT), "0");
    let status = "select healed from sequin.status where name = 'child'";
    assert_eq!(value(&mut client, status), "40");
}

#[test]
fn a_locked_row_of_a_letter_does_not_fail_the_call() {
    let (database, mut client) =
        Database::mapped("healing_locked", FAMILY, &["parent", "child"], "off");
    send(&mut client, &children(2));
    let mut holder = database.connect();
    run(&mut holder, "begin; insert into child values (2)");
    run(
        &mut client,
        "set lock_timeout = '100ms'; set statement_timeout = '20s'",
    );
    assert_eq!(apply(&mut client, &parent()), upserted(1));
    run(&mut holder, "rollback");
    run(&mut client, "select sequin.retry('child'::text)");
    assert_eq!(value(&mut client, LEFT), "0");
    // The other was written by the call; a letter that is retried by hand is counted as healed, too.
    let status = "select healed, received from sequin.status where name = 'child'";
    assert_eq!(value(&mut client, status), "2|3");
}

/// Another session holds a lock, and would do so for ever: at its end there would be no letters left.
fn hold(database: &Database, statement: &str) -> Client {
    let mut holder = database.connect();
    run(
        &mut holder,
        "set idle_in_transaction_session_timeout = '60s'",
    );
    run(&mut holder, &format!("begin; {statement}"));
    holder
}

#[test]
fn a_locked_row_of_a_letter_does_not_hold_up_the_call() {
    let (database, mut client) =
        Database::mapped("healing_held", FAMILY, &["parent", "child"], "table");
    send(&mut client, &children(40));
    let mut holder = hold(&database, "insert into child values (7)");
    assert_eq!(apply(&mut client, &parent()), upserted(1));
    // The others are written meanwhile, by calls that do not wait either.
    let mut calls = 0;
    while value(&mut client, LEFT) != "1" {
        calls += 1;
        assert_eq!(apply(&mut client, &other(calls)), upserted(1));
        assert!(calls < 100, "{} are left", value(&mut client, LEFT));
    }
    let letter = "select state, key, waits_on from sequin.dead_letter";
    assert_eq!(value(&mut client, letter), r#"waiting|["7"]|parent"#);
    run(&mut holder, "rollback");
    assert_eq!(apply(&mut client, &other(1000)), upserted(1));
    assert_eq!(value(&mut client, LEFT), "0");
    assert_eq!(value(&mut client, "select count(*) from child"), "40");
}

#[test]
fn a_locked_table_of_letters_does_not_hold_up_calls() {
    let (database, mut client) =
        Database::mapped("healing_table", FAMILY, &["parent", "child"], "off");
    send(&mut client, &children(300));
    let mut holder = hold(&database, "lock table child in exclusive mode");
    assert_eq!(apply(&mut client, &parent()), upserted(1));
    for call in 1..10 {
        assert_eq!(apply(&mut client, &other(call)), upserted(1));
    }
    let states = "select string_agg(distinct state, ','), count(*) from sequin.dead_letter";
    assert_eq!(value(&mut client, states), "waiting|300");
    run(&mut holder, "rollback");
    let mut calls = 10;
    while value(&mut client, LEFT) != "0" {
        calls += 1;
        assert_eq!(apply(&mut client, &other(calls)), upserted(1));
        assert!(calls < 100, "{} are left", value(&mut client, LEFT));
    }
}

/// The letter can be written only together with the message of the call.
#[test]
fn a_locked_row_of_a_letter_in_a_circle_does_not_hold_up_the_call() {
    let pair = "
        create table a (id integer primary key, b integer not null);
        create table b (id integer primary key, a integer not null references a);
        alter table a add foreign key (b) references b deferrable";
    let (database, mut client) = Database::mapped("healing_circle", pair, &["a", "b"], "off");
    let side = |table: &str, other: &str, id: u64| {
        let record = format!(r#"{{"id":{id},"{other}":{id}}}"#);
        message("insert", table, id, &record)
    };
    assert_eq!(apply(&mut client, &side("a", "b", 1)).dead, 1);
    let mut holder = hold(
        &database,
        "set constraints all deferred; insert into a values (1, 1)",
    );
    // The message waits with the letter; others of its batch are written.
    let counts = apply(
        &mut client,
        &batch(&[side("b", "a", 1), side("a", "b", 2), side("b", "a", 2)]),
    );
    assert_eq!((counts.received, counts.dead, counts.upserted), (3, 1, 2));
    run(&mut holder, "rollback");
    assert_eq!(
        apply(&mut client, &batch(&[side("a", "b", 3), side("b", "a", 3)])),
        upserted(2)
    );
    run(&mut client, "select sequin.retry()");
    assert_eq!(value(&mut client, LEFT), "0");
    assert_eq!(
        value(&mut client, "select count(*) from a join b using (id)"),
        "3"
    );
}

/// The other session has called for the letter's mapping, for other rows, and does not commit.
#[test]
fn a_call_that_does_not_commit_does_not_hold_up_others() {
    let (database, mut client) =
        Database::mapped("healing_open", FAMILY, &["parent", "child"], "table");
    send(&mut client, &children(3));
    let mut holder = hold(&database, "select 1");
    apply(
        &mut holder,
        &message("insert", "child", 500, r#"{"id":500,"parent":null}"#),
    );
    assert_eq!(apply(&mut client, &parent()), upserted(1));
    run(&mut holder, "commit");
    assert_eq!(apply(&mut client, &other(1)), upserted(1));
    assert_eq!(value(&mut client, LEFT), "0");
    assert_eq!(value(&mut client, "select count(*) from child"), "4");
}
