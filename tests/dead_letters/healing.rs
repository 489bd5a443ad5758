//! What a call takes along never costs it its own work.

use support::{Database, apply, message, run, send, upserted, value};

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
    // A letter that is retried by hand is counted as healed, too, and a void one.
    let status = "select healed, received from sequin.status where name = 'child'";
    assert_eq!(value(&mut client, status), "2|4");
}
