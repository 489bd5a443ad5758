//! Members of documents that are older than their row.

use postgres::Client;
use support::{Database, Message, apply_jsonb, batch, rows, run, send, stale, value};

use super::orders::in_every_order_of;
use super::{GUARDS, document, item, map, record};

/// The types of a document.
const TYPES: [&str; 3] = ["jsonb", "json", "doc"];

const COLUMNS: &str = r#", columns => '{"id": "record.id", "data": "record"}'"#;

const ITEMS: &str = "select id, data->>'name', data->>'body' from item order by id";

const UNCHANGED: &str = "unchanged_toast";

fn ddl(of_type: &str) -> String {
    let ddl = format!("create table item (id integer primary key, data {of_type})");
    match of_type {
        "doc" => format!("create domain doc as jsonb check (value is not null); {ddl}"),
        _ => ddl,
    }
}

fn mapped(test: &str, of_type: &str, guard: &str) -> (Database, Client) {
    let database = Database::new(&format!("convergence_{test}_{of_type}_{guard}"));
    let mut client = database.connect();
    run(&mut client, &ddl(of_type));
    map(&mut client, "item", guard, COLUMNS);
    (database, client)
}

#[test]
fn a_late_change_fills_just_the_missing_members() {
    for guard in GUARDS {
        for of_type in TYPES {
            let (_database, mut client) = mapped("members_fill", of_type, guard);
            let unchanged = |lsn, name: &str| item("update", lsn, document(1, name, UNCHANGED));
            let full =
                |action, lsn, name: &str, body: &str| item(action, lsn, document(1, name, body));
            let items = |client: &mut Client| rows(client, ITEMS);
            let unknown = |client: &mut Client| {
                let all = "select unknown_values, (select sum(v.unknown_values) from sequin.versions v) \
                           from sequin.status";
                rows(client, all)
            };
            // The update overtakes the insert.
            send(&mut client, &[unchanged(20, "b")]);
            assert_eq!(items(&mut client), ["1|b|null"], "{guard} {of_type}");
            assert_eq!(unknown(&mut client), ["1|1"], "{guard} {of_type}");
            // A stale read knows the value,
            send(&mut client, &[item("read", 5, document(1, "z", "read"))]);
            assert_eq!(items(&mut client), ["1|b|read"], "{guard} {of_type}");
            assert_eq!(unknown(&mut client), ["0|0"], "{guard} {of_type}");
            // a change knows it better,
            send(&mut client, &[full("insert", 10, "a", "ten")]);
            assert_eq!(items(&mut client), ["1|b|ten"], "{guard} {of_type}");
            // and a newer one still better.
            apply_jsonb(&mut client, &batch(&[full("update", 15, "a", "fifteen")]));
            assert_eq!(items(&mut client), ["1|b|fifteen"], "{guard} {of_type}");
            for late in [
                full("update", 12, "a", "twelve"),
                full("update", 15, "a", "fifteen"),
            ] {
                assert_eq!(send(&mut client, &[late]), stale(1), "{guard} {of_type}");
            }
            assert_eq!(items(&mut client), ["1|b|fifteen"], "{guard} {of_type}");
            // The row goes on; its value stays as old as it is.
            send(&mut client, &[unchanged(30, "c")]);
            send(&mut client, &[full("update", 25, "z", "twenty-five")]);
            assert_eq!(items(&mut client), ["1|c|twenty-five"], "{guard} {of_type}");
            // A newer value ends it.
            send(&mut client, &[full("update", 40, "d", "forty")]);
            let late = full("update", 35, "z", "thirty-five");
            assert_eq!(send(&mut client, &[late]), stale(1), "{guard} {of_type}");
            assert_eq!(items(&mut client), ["1|d|forty"], "{guard} {of_type}");
            // In one call with an older change.
            let both = [unchanged(50, "e"), full("update", 38, "z", "thirty-eight")];
            send(&mut client, &both);
            assert_eq!(items(&mut client), ["1|e|forty"], "{guard} {of_type}");

            // A delete that comes late takes the value of the row that it deleted.
            send(&mut client, &[item("delete", 45, record(1, "d"))]);
            assert_eq!(items(&mut client), ["1|e|null"], "{guard} {of_type}");
            let late = full("update", 42, "z", "forty-two");
            assert_eq!(send(&mut client, &[late]), stale(1), "{guard} {of_type}");
            assert_eq!(items(&mut client), ["1|e|null"], "{guard} {of_type}");
            send(&mut client, &[full("insert", 48, "z", "forty-eight")]);
            assert_eq!(items(&mut client), ["1|e|forty-eight"], "{guard} {of_type}");
            assert_eq!(
                value(&mut client, "select count(*) from sequin.dead_letter"),
                "0",
                "{guard} {of_type}"
            );
        }
    }
}

/// Nothing is stored of rows whose documents are whole.
#[test]
fn a_whole_document_leaves_no_gap() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("members_whole", "jsonb", guard);
        send(
            &mut client,
            &[item("update", 20, document(1, "b", UNCHANGED))],
        );
        let gaps = "select coalesce(sum(gaps), 0) from sequin.versions";
        assert_eq!(value(&mut client, gaps), "1", "{guard}");
        send(&mut client, &[item("update", 30, document(1, "c", "full"))]);
        assert_eq!(value(&mut client, gaps), "0", "{guard}");
        assert_eq!(rows(&mut client, ITEMS), ["1|c|full"], "{guard}");
    }
}

fn three(id: i64, name: &str, body: &str, more: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}","body":"{body}","more":{more}}}"#)
}

/// Two members of one document, each with gaps of its own, beside a column of its own.
#[test]
fn members_in_every_order() {
    let ddl = "create table item (id integer primary key, data jsonb, body text, again json)";
    let columns = r#", columns => '{"id": "record.id", "data": "record", "body": "record.body", "again": "record"}'"#;
    let items = "select id, data, body, again::jsonb = data from item order by id";
    let scenario = |k: i64| -> (Vec<Message>, Vec<String>) {
        let unchanged = "\"unchanged_toast\"";
        let messages = vec![
            item("insert", 1, three(k, "a", "one", "{\"n\": 1}")),
            item("update", 2, three(k, "b", UNCHANGED, "{\"n\": 2}")),
            item("update", 3, three(k, "c", "three", unchanged)),
            item("update", 4, three(k, "d", UNCHANGED, unchanged)),
        ];
        let data = format!(r#"{{"id": {k}, "body": "three", "more": {{"n": 2}}, "name": "d"}}"#);
        (messages, vec![format!("{k}|{data}|three|t")])
    };
    in_every_order_of("members", ddl, columns, items, scenario);
}

/// Members do not survive the row that they are of.
#[test]
fn members_of_a_row_that_comes_back_in_every_order() {
    let items = "select id, data from item order by id";
    let scenario = |k: i64| -> (Vec<Message>, Vec<String>) {
        let messages = vec![
            item("insert", 1, document(k, "a", "one")),
            item("update", 2, document(k, "b", UNCHANGED)),
            item("delete", 3, record(k, "b")),
            item("insert", 4, document(k, "c", "four")),
            item("update", 5, document(k, "d", UNCHANGED)),
        ];
        let data = format!(r#"{{"id": {k}, "body": "four", "name": "d"}}"#);
        (messages, vec![format!("{k}|{data}")])
    };
    in_every_order_of("members_back", &ddl("jsonb"), COLUMNS, items, scenario);
}

/// Documents of several tables in one table.
#[test]
fn members_of_a_fan_in_in_every_order() {
    let ddl = "create table item (source text, id integer, data jsonb, primary key (source, id))";
    let columns =
        r#", columns => '{"source": "metadata.table_name", "id": "record.id", "data": "record"}'"#;
    let items = "select id, source, data->>'name', data->>'body' from item order by id, source";
    let scenario = |k: i64| -> (Vec<Message>, Vec<String>) {
        let messages = vec![
            item("insert", 1, document(k, "a", "one")),
            item("update", 2, document(k, "b", "two")),
            item("update", 3, document(k, "c", UNCHANGED)),
        ];
        (messages, vec![format!("{k}|item|c|two")])
    };
    in_every_order_of("members_fan_in", ddl, columns, items, scenario);
}
