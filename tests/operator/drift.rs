//! Source columns that were renamed or added: keys that no column takes, and keys that records lack.

use support::{Database, Message, apply_jsonb, batch, run, send, value};

use super::{taken, warned};

const DRIFT: &str = "select drift from sequin.status where name = 'item'";

fn item(action: &str, lsn: u64, record: &str) -> Message {
    Message::new(action, "item", lsn, record)
}

fn mapped(test: &str, columns: &str) -> Database {
    let database = Database::new(&format!("operator_drift_{test}"));
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    run(
        &mut client,
        "create table item (id integer primary key, name text, body text, own text default 'own')",
    );
    run(
        &mut client,
        &format!("select sequin.map('public.item', 'item', columns => {columns}, name => 'item')"),
    );
    database
}

#[test]
fn a_renamed_column_is_told_once() {
    let database = mapped("renamed", "null");
    let (mut client, warnings) = warned(&database);
    let before = r#"{"id":1,"name":"a","body":"b","secret":1}"#;
    let after = r#"{"id":1,"title":"a","body":"b","secret":1}"#;
    for lsn in 1..4 {
        send(&mut client, &[item("insert", lsn, before)]);
    }
    assert_eq!(value(&mut client, DRIFT), "null");
    assert_eq!(taken(&warnings), Vec::<String>::new());
    let messages = [
        item("update", 5, before),
        item("update", 6, after),
        item("update", 7, after),
    ];
    send(&mut client, &messages);
    let told = taken(&warnings);
    assert_eq!(told.len(), 1, "{told:?}");
    for part in [
        "changes of public.item drift from mapping \"item\"",
        "No column takes the new keys \"title\".",
        "The records lack the keys \"name\", which columns are read from.",
        "SELECT sequin.accept_drift('item');",
    ] {
        assert!(told[0].contains(part), "{told:?}");
    }
    let drift = r#"{"lacking": ["name"], "not_taken": ["title"]}"#;
    assert_eq!(value(&mut client, DRIFT), drift);
    // Once: in this session, in another one, of text and of jsonb, and after a record that is late.
    let (mut other, others) = warned(&database);
    for client in [&mut client, &mut other] {
        send(client, &[item("update", 8, after)]);
        apply_jsonb(
            client,
            &batch(&[item("update", 4, before), item("update", 9, after)]),
        );
    }
    assert_eq!((taken(&warnings), taken(&others)), (vec![], vec![]));
    assert_eq!(value(&mut client, DRIFT), drift);
    // Nor is it forgotten when the server restarts: another session knows it.
    assert_eq!(value(&mut database.connect(), DRIFT), drift);
    // It ends when the column is renamed here too.
    run(&mut client, "alter table item rename name to title");
    send(&mut client, &[item("update", 10, after)]);
    assert_eq!(value(&mut client, DRIFT), "null");
    assert_eq!(taken(&warnings), Vec::<String>::new());
    assert_eq!(value(&mut client, "select title from item"), "a");
    // And the next one is told again.
    send(&mut client, &[item("update", 11, before)]);
    assert_eq!(taken(&warnings).len(), 1);
    assert_eq!(
        value(&mut client, DRIFT),
        r#"{"lacking": ["title"], "not_taken": ["name"]}"#
    );
}

#[test]
fn what_was_so_from_the_first_is_not_told() {
    let database = mapped("first", "null");
    let (mut client, warnings) = warned(&database);
    let record = r#"{"id":1,"name":"a","secret":1}"#;
    let messages = [
        item("insert", 1, record),
        // Deletes, key-only images and the former values say nothing of the table.
        item("delete", 2, r#"{"id":1}"#),
        item("insert", 3, record),
        item("update", 4, record).changes(r#"{"former":2}"#),
        // Reads have the generated columns of the source, and have them from the first.
        item("read", 100, r#"{"id":2,"name":"a","secret":1,"area":5}"#),
        item("update", 5, r#"{"secret":1,"name":"b","id":1}"#),
    ];
    for message in &messages {
        send(&mut client, std::slice::from_ref(message));
    }
    send(&mut client, &messages);
    assert_eq!(value(&mut client, DRIFT), "null");
    assert_eq!(taken(&warnings), Vec::<String>::new());
}

#[test]
fn a_key_that_the_mapping_names_must_be_there() {
    let database = mapped(
        "named",
        r#"'{"id": "record.id", "name": "record.nmae", "body": {"sql": "record->>''text''"}}'"#,
    );
    let (mut client, warnings) = warned(&database);
    let record = r#"{"id":1,"name":"a"}"#;
    for lsn in 1..4 {
        send(&mut client, &[item("insert", lsn, record)]);
    }
    // Some records may just have fewer keys than others.
    assert_eq!(taken(&warnings), Vec::<String>::new());
    assert_eq!(value(&mut client, DRIFT), r#"{"lacking": ["nmae"]}"#);
    // A key that SQL reads is taken; another one is not.
    send(
        &mut client,
        &[item("insert", 5, r#"{"id":1,"name":"a","text":"b"}"#)],
    );
    assert_eq!(taken(&warnings), Vec::<String>::new());
    send(
        &mut client,
        &[item(
            "insert",
            6,
            r#"{"id":1,"name":"a","text":"b","more":1}"#,
        )],
    );
    assert_eq!(taken(&warnings), Vec::<String>::new());
    assert_eq!(
        value(&mut client, DRIFT),
        r#"{"lacking": ["nmae"], "not_taken": ["more"]}"#
    );
    // The owner says that all is as it should be.
    assert_eq!(
        value(&mut client, "select sequin.accept_drift('item')"),
        "2"
    );
    for mut client in [client, database.connect()] {
        let with_text = |more: &str| format!(r#"{{"id":1,"name":"a","text":"b"{more}}}"#);
        send(&mut client, &[item("insert", 7, &with_text(""))]);
        send(
            &mut client,
            &[item("insert", 8, &with_text(r#","more":1"#))],
        );
        assert_eq!(value(&mut client, DRIFT), "null");
    }
    // A key that SQL reads, and that was there, is missed.
    let mut client = database.connect();
    send(&mut client, &[item("insert", 9, record)]);
    assert_eq!(value(&mut client, DRIFT), r#"{"lacking": ["text"]}"#);
    assert_eq!(taken(&warnings), Vec::<String>::new());
}

/// A member that SQL reads, in a column or the filter, is missed when it is renamed, also to a part of its name.
#[test]
fn a_renamed_column_that_sql_reads_is_told() {
    let database = Database::new("operator_drift_sql");
    let mut setup = database.connect();
    run(
        &mut setup,
        "set client_min_messages = error;
         create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', name => 'item', filter => $$record->>'state' = 'on'$$,
                           columns => '{\"id\": \"record.id\", \"name\": {\"sql\": \"lower(record->>''email'')\"}}')",
    );
    let (mut client, warnings) = warned(&database);
    send(
        &mut client,
        &[item("insert", 1, r#"{"id":1,"email":"a","state":"on"}"#)],
    );
    assert_eq!(taken(&warnings), Vec::<String>::new());
    for (lsn, record, lacking, new) in [
        (2, r#"{"id":1,"mail":"a","state":"on"}"#, "email", "mail"),
        (3, r#"{"id":1,"email":"a","stat":"on"}"#, "state", "stat"),
    ] {
        send(&mut client, &[item("insert", lsn, record)]);
        let told = taken(&warnings);
        assert_eq!(told.len(), 1, "{told:?}");
        for key in [lacking, new] {
            assert!(told[0].contains(&format!("\"{key}\"")), "{told:?}");
        }
    }
}

#[test]
fn a_call_that_is_rolled_back_has_told_nothing() {
    let database = mapped("rollback", "null");
    let mut client = database.connect();
    let before = r#"{"id":1,"name":"a"}"#;
    let after = r#"{"id":1,"title":"a"}"#;
    run(&mut client, "begin");
    send(&mut client, &[item("insert", 1, before)]);
    run(&mut client, "rollback");
    send(&mut client, &[item("insert", 1, before)]);
    run(&mut client, "begin");
    send(&mut client, &[item("update", 2, after)]);
    run(&mut client, "rollback");
    assert_eq!(value(&mut client, DRIFT), "null");
    send(&mut client, &[item("update", 2, after)]);
    assert_eq!(
        value(&mut client, DRIFT),
        r#"{"lacking": ["name"], "not_taken": ["title"]}"#
    );
    run(&mut client, "select sequin.unmap('item')");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.record_key"),
        "0"
    );
}

#[test]
fn tables_of_a_wildcard_are_apart() {
    let database = Database::new("operator_drift_wildcard");
    let mut setup = database.connect();
    run(&mut setup, "set client_min_messages = error");
    run(
        &mut setup,
        "create table item (id integer primary key, data jsonb, name text);
         select sequin.map('public.*', 'item', name => 'item',
                           columns => '{\"id\": \"record.id\", \"*\": \"record.*\"}')",
    );
    let (mut client, warnings) = warned(&database);
    let [one, two] = [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"other":"b"}"#];
    for lsn in 1..4 {
        send(
            &mut client,
            &[
                Message::new("insert", "one", 2 * lsn, one),
                Message::new("insert", "two", 2 * lsn + 1, two),
            ],
        );
    }
    assert_eq!(taken(&warnings), Vec::<String>::new());
    send(&mut client, &[Message::new("update", "one", 20, two)]);
    assert_eq!(taken(&warnings).len(), 1);
    // A mapping of whole records takes every key.
    run(
        &mut setup,
        "select sequin.alter_mapping('item', columns => '{\"id\": \"record.id\", \"data\": \"record\"}')",
    );
    send(&mut client, &[Message::new("update", "one", 21, two)]);
    send(
        &mut client,
        &[Message::new("update", "one", 22, r#"{"id":2,"x":1,"y":2}"#)],
    );
    assert_eq!(taken(&warnings), Vec::<String>::new());
    assert_eq!(value(&mut client, DRIFT), "null");
}
