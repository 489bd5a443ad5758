//! SQL over values that a change does not repeat.

use support::{Database, Message, rows, run, send};

use super::orders::in_every_order_of;
use super::{GUARDS, document, item, map, record};

const UNCHANGED: &str = "unchanged_toast";

/// A value that SQL makes of an unchanged one is as old as that one: a late change of it is not lost.
#[test]
fn values_of_sql_in_every_order() {
    let scenario = |rows: fn(i64) -> String| {
        move |k: i64| -> (Vec<Message>, Vec<String>) {
            let messages = vec![
                item("insert", 1, document(k, "a", "one")),
                item("update", 2, document(k, "b", "two")),
                item("update", 3, document(k, "c", UNCHANGED)),
                item("update", 4, document(k, "d", UNCHANGED)),
            ];
            (messages, vec![rows(k)])
        }
    };
    let upper = r#""loud": {"sql": "upper(record->>''body'')"}"#;
    // no column keeps the body; the key does not read it
    in_every_order_of(
        "derived_alone",
        "create table item (id text primary key, name text, loud text)",
        &format!(
            r#", columns => '{{"id": {{"sql": "record->>''id''"}}, "name": "record.name", {upper}}}'"#
        ),
        "select id, name, loud from item order by id::integer",
        scenario(|k| format!("{k}|d|TWO")),
    );
    let both = r#""pair": {"sql": "concat(record->>''name'', '' '', record->>''body'')"}"#;
    in_every_order_of(
        "derived_beside",
        "create table item (id integer primary key, name text, body text, loud text, pair text)",
        &format!(r#", columns => '{{"*": "record.*", {upper}, {both}}}'"#),
        "select id, name, body, loud, pair from item order by id",
        scenario(|k| format!("{k}|d|two|TWO|d two")),
    );
    in_every_order_of(
        "derived_document",
        "create table item (id integer primary key, data jsonb, loud text, pair text)",
        &format!(r#", columns => '{{"id": "record.id", "data": "record", {upper}, {both}}}'"#),
        "select id, data->>'name', data->>'body', loud, pair from item order by id",
        scenario(|k| format!("{k}|d|two|TWO|d two")),
    );
}

/// A read stands among the changes by its time.
#[test]
fn values_of_sql_with_reads_in_every_order() {
    let scenario = |k: i64| -> (Vec<Message>, Vec<String>) {
        let messages = vec![
            item("insert", 10, document(k, "a", "one")),
            item("update", 20, document(k, "b", "two")),
            item("read", 30, document(k, "b", "two")),
            item("update", 40, document(k, "c", UNCHANGED)),
        ];
        (messages, vec![format!("{k}|c|two|TWO")])
    };
    in_every_order_of(
        "derived_read",
        "create table item (id integer primary key, name text, body text, loud text)",
        r#", columns => '{"*": "record.*", "loud": {"sql": "upper(record->>''body'')"}}'"#,
        "select id, name, body, loud from item order by id",
        scenario,
    );
}

/// A change that is older than the stored row tells nothing of a newer one.
#[test]
fn an_older_value_of_the_batch_is_not_the_kept_one() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_derived_older_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table item (id integer primary key, name text, body text)",
        );
        map(
            &mut client,
            "item",
            guard,
            ", filter => $$record->>'body' <> 'no'$$",
        );
        send(&mut client, &[item("insert", 3, document(1, "a", "yes"))]);
        send(
            &mut client,
            &[
                item("update", 2, document(1, "z", "no")),
                item("update", 4, document(1, "b", UNCHANGED)),
            ],
        );
        let items = "select name, body from item";
        assert_eq!(rows(&mut client, items), ["b|yes"], "{guard}");
    }
}

/// The row that a delete tells is compared with the stored one by its values, whatever the spacing of its documents.
#[test]
fn a_json_document_is_deleted_in_the_transaction_that_brought_it() {
    let row = |k: i64| format!(r#"{{"id":{k},"more":{{"a": 1,  "b":[2]}},"name":"x"}}"#);
    let scenario = |k: i64| -> (Vec<Message>, Vec<String>) {
        let messages = vec![
            item("insert", 1, record(k, "w")).idx(0),
            item("update", 1, row(k)).idx(1).changes(r#"{"name":"w"}"#),
            item("delete", 1, row(k)).idx(2),
        ];
        (messages, vec![])
    };
    in_every_order_of(
        "derived_json",
        "create table item (id integer primary key, data json, more json)",
        r#", columns => '{"id": "record.id", "data": "record", "more": "record.more"}'"#,
        "select id from item order by id",
        scenario,
    );
}
