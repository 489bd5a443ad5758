//! How many changes can be written together.

use postgres::Client;
use support::{Database, Message, apply, batch, value};

/// Rows of which each refers to the next one, and the last one to the first.
const CIRCLE: u64 = 10_000;

/// So many letters a call takes along.
const LETTERS: u64 = 20_000;

fn circle(test: &str) -> (Database, Client) {
    let ddl =
        "create table ring (id int primary key, u int unique, a int not null references ring)";
    Database::mapped(test, ddl, &["ring"], "table")
}

fn row(i: u64, u: u64, size: u64) -> String {
    format!(r#"{{"id":{i},"u":{u},"a":{}}}"#, (i + 1) % size)
}

fn insert(i: u64, size: u64) -> Message {
    Message::new("insert", "ring", 100 + i, row(i, i, size))
}

/// Applies every second of these messages, and then the others.
fn by_halves(client: &mut Client, messages: &[Message]) -> [i64; 2] {
    [0, 1].map(|half| {
        let half: Vec<&Message> = messages.iter().skip(half).step_by(2).collect();
        apply(client, &batch(&half)).dead
    })
}

#[test]
fn ten_thousand_rows_are_written_together() {
    let (_database, mut client) = circle("law_bound_together");
    let came: Vec<Message> = (0..CIRCLE).map(|i| insert(i, CIRCLE)).collect();
    assert_eq!(by_halves(&mut client, &came), [CIRCLE as i64 / 2, 0]);
    let count = "select count(*) from ring where u = id";
    assert_eq!(value(&mut client, count), CIRCLE.to_string());
    // each row takes the unique value of the next one
    let turned = (0..CIRCLE).map(|i| {
        let (lsn, record) = (100_000 + i, row(i, (i + 1) % CIRCLE, CIRCLE));
        Message::new("update", "ring", lsn, record).changes(format!(r#"{{"u":{i}}}"#))
    });
    let turned: Vec<Message> = turned.collect();
    assert_eq!(by_halves(&mut client, &turned), [CIRCLE as i64 / 2, 0]);
    let count = "select count(*) from ring where u = a";
    assert_eq!(value(&mut client, count), CIRCLE.to_string());
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
}

#[test]
fn letters_say_that_they_are_more_than_a_call_takes_along() {
    let (_database, mut client) = circle("law_bound_letters");
    let size = LETTERS + 2;
    let came: Vec<Message> = (1..size).map(|i| insert(i, size)).collect();
    assert_eq!(apply(&mut client, &batch(&came)).dead, size as i64 - 1);
    assert_eq!(apply(&mut client, &batch(&[insert(0, size)])).dead, 1);
    let hint = "select hint like '%More letters may have to be written together with it than the 20000 that a call takes \
                along: deliver their messages again in one batch%' from sequin.dead_letter where key = '[\"0\"]'";
    assert_eq!(value(&mut client, hint), "t");
    // which helps
    let again: Vec<Message> = (0..size).map(|i| insert(i, size)).collect();
    assert_eq!(apply(&mut client, &batch(&again)).dead, 0);
    assert_eq!(
        value(&mut client, "select count(*) from ring"),
        size.to_string()
    );
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
}
