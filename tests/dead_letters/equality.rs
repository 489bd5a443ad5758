//! Equality as the constraint has it: operators outside of the search_path, collations, nulls, expressions, partial
//! indexes, columns that are only included.

use postgres::Client;
use support::{Database, has_extensions, has_icu, message, rows, run, send, value};

use super::LETTERS;

/// Tables with a unique index on a value, the values of two rows that the index calls equal, and the change of the
/// first row that makes room.
const UNIQUE: &[(&str, &str, &str, &str)] = &[
    (
        "(id integer primary key, slug ext.citext unique)",
        r#""slug":"a""#,
        r#""slug":"A""#,
        r#""slug":"b""#,
    ),
    (
        "(id integer primary key, slug text collate ci unique)",
        r#""slug":"a""#,
        r#""slug":"A""#,
        r#""slug":"b""#,
    ),
    (
        "(id integer primary key, slug text); create unique index on item (slug collate ci)",
        r#""slug":"a""#,
        r#""slug":"A""#,
        r#""slug":"b""#,
    ),
    (
        "(id integer primary key, slug text); create unique index on item (lower(slug))",
        r#""slug":"a""#,
        r#""slug":"A""#,
        r#""slug":"b""#,
    ),
    (
        "(id integer primary key, slug text, live boolean); create unique index on item (slug) where live",
        r#""slug":"a","live":true"#,
        r#""slug":"a","live":true"#,
        r#""slug":"a","live":false"#,
    ),
    (
        "(id integer primary key, slug text, note text); create unique index on item (slug) include (note)",
        r#""slug":"a","note":"m""#,
        r#""slug":"a","note":"n""#,
        r#""slug":"b","note":"m""#,
    ),
    (
        "(id integer primary key, slug text, low text generated always as (lower(slug)) stored unique)",
        r#""slug":"a""#,
        r#""slug":"A""#,
        r#""slug":"b""#,
    ),
    (
        "(id integer primary key, slug text, unique nulls not distinct (slug))",
        r#""slug":null"#,
        r#""slug":null"#,
        r#""slug":"b""#,
    ),
];

/// Two tables, the second of which refers to the first, and the row that is missing.
const PARENTS: &[(&str, &str)] = &[
    (
        "parent (code text collate ci primary key); create table item (id integer primary key, code text references parent)",
        r#"{"code":"abc"}"#,
    ),
    (
        "parent (code ext.citext primary key); create table item (id integer primary key, code ext.citext references parent)",
        r#"{"code":"abc"}"#,
    ),
    (
        "parent (code varchar(3), note text, primary key (code) include (note)); create table item (id integer primary key, code text references parent)",
        r#"{"code":"ABC"}"#,
    ),
];

fn database(name: &str) -> (Database, Client) {
    let database = Database::new(name);
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error; create schema ext",
    );
    if has_icu(&mut client) {
        run(
            &mut client,
            "create collation ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        );
    }
    if has_extensions(&mut client, &["citext"]) {
        run(&mut client, "create extension citext schema ext");
    }
    (database, client)
}

/// The server was built with ICU, which has collations that ignore case.
/// The server has the type and the collation that the definition names.
fn can_make(client: &mut Client, definition: &str) -> bool {
    (!definition.contains("citext") || has_extensions(client, &["citext"]))
        && (!definition.contains("collate ci") || has_icu(client))
}

fn row(id: u64, values: &str) -> String {
    format!(r#"{{"id":{id},{values}}}"#)
}

/// The letter waits for one row, and not for any row of the table.
const KNOWN: &str = "select waits_on::regclass, waits_for is not null from sequin.dead_letter";

#[test]
fn the_holder_of_a_value_is_found_by_the_equality_of_the_index() {
    // A mapping that appends has nothing to solve: its letters wait for what the index tells.
    for mode in ["upsert", "append"] {
        let (_database, mut client) = database(&format!("equal_{mode}"));
        for (table, holds, wants, leaves) in UNIQUE {
            if !can_make(&mut client, table) {
                continue;
            }
            run(
                &mut client,
                &format!(
                    "create table item {table};
                     select sequin.map('public.item', 'item', name => 'item');
                     select sequin.map('public.late', 'item', mode => '{mode}', name => 'late')"
                ),
            );
            send(&mut client, &[message("insert", "item", 1, &row(1, holds))]);
            let late = [message("insert", "late", 3, &row(2, wants))];
            assert_eq!(send(&mut client, &late).dead, 1, "{mode}: {table}");
            assert_eq!(rows(&mut client, KNOWN), ["item|t"], "{mode}: {table}");
            send(
                &mut client,
                &[message("update", "item", 2, &row(1, leaves))],
            );
            assert_eq!(rows(&mut client, LETTERS), [""; 0], "{mode}: {table}");
            assert_eq!(
                value(&mut client, "select count(*) from item"),
                "2",
                "{mode}: {table}"
            );
            run(
                &mut client,
                "select sequin.unmap('item'); select sequin.unmap('late'); drop table item",
            );
        }
    }
}

#[test]
fn a_missing_parent_is_waited_for_by_the_equality_of_the_foreign_key() {
    for mode in ["upsert", "append"] {
        let (_database, mut client) = database(&format!("equal_parents_{mode}"));
        for (tables, parent) in PARENTS {
            if !can_make(&mut client, tables) {
                continue;
            }
            run(
                &mut client,
                &format!(
                    "create table {tables};
                     select sequin.map('public.parent', 'parent', name => 'parent');
                     select sequin.map('public.item', 'item', mode => '{mode}', name => 'item')"
                ),
            );
            let child = [message("insert", "item", 3, &row(1, r#""code":"ABC""#))];
            assert_eq!(send(&mut client, &child).dead, 1, "{mode}: {tables}");
            assert_eq!(rows(&mut client, KNOWN), ["parent|t"], "{mode}: {tables}");
            send(&mut client, &[message("insert", "parent", 2, parent)]);
            assert_eq!(rows(&mut client, LETTERS), [""; 0], "{mode}: {tables}");
            assert_eq!(
                value(&mut client, "select code from item"),
                "ABC",
                "{mode}: {tables}"
            );
            run(
                &mut client,
                "select sequin.unmap('item'); select sequin.unmap('parent'); drop table item, parent",
            );
        }
    }
}

/// A parent that rows refer to in another spelling is deleted when they are gone, and not before.
#[test]
fn a_parent_waits_for_its_children_by_the_collation_of_its_key() {
    let (_database, mut client) = database("equal_children");
    if !has_icu(&mut client) {
        return;
    }
    run(
        &mut client,
        "create table parent (code text collate ci primary key);
         create table item (id integer primary key, code text references parent on delete cascade);
         select sequin.map('public.parent', 'parent', name => 'parent');
         select sequin.map('public.item', 'item', name => 'item')",
    );
    let child = |action: &str, lsn: u64| message(action, "item", lsn, &row(1, r#""code":"ABC""#));
    let parent = |action: &str, lsn: u64| message(action, "parent", lsn, r#"{"code":"abc"}"#);
    send(&mut client, &[parent("insert", 1), child("insert", 2)]);
    assert_eq!(send(&mut client, &[parent("delete", 4)]).dead, 1);
    assert_eq!(rows(&mut client, KNOWN), ["item|t"]);
    assert_eq!(value(&mut client, "select count(*) from item"), "1");
    send(&mut client, &[child("delete", 3)]);
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
    assert_eq!(value(&mut client, "select count(*) from parent"), "0");
}
