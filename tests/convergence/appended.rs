//! Tables to which every change is appended, once.

use postgres::Client;
use support::{Database, apply, batch, rows, run, stale, upserted, value};

/// A change of `item` with Sequin's idempotency key, which is made of the position alone.
fn change(source: &str, lsn: u64, idx: u64, name: &str) -> String {
    format!(
        r#"{{"action":"insert","record":{{"name":"{name}"}},"changes":null,"metadata":{{
            "table_schema":"public","table_name":"item","commit_timestamp":"2026-01-01T00:00:00Z",
            "commit_lsn":{lsn},"commit_idx":{idx},"idempotency_key":"{lsn}:{idx}",
            "database":{{"id":"id of {source}","name":"{source}"}}}}}}"#
    )
}

fn log(test: &str, ddl: &str, columns: &str, more: &str) -> (Database, Client) {
    let database = Database::new(test);
    let mut client = database.connect();
    run(&mut client, ddl);
    run(
        &mut client,
        &format!(
            "select sequin.map('public.item', 'log', mode => 'append', name => 'log', columns => '{columns}'{more})"
        ),
    );
    (database, client)
}

const KEY: &str = r#"{"ikey": "metadata.idempotency_key", "name": "record.name"}"#;
const POSITION: &str =
    r#"{"lsn": "metadata.commit_lsn", "idx": "metadata.commit_idx", "name": "record.name"}"#;
const META: &str = r#"{"meta": "metadata", "name": "record.name"}"#;
const SQL: &str = r#"{"ikey": {"sql": "metadata->>''idempotency_key''"}, "name": "record.name"}"#;

#[test]
fn a_repetition_is_stale_where_the_table_makes_its_own_key() {
    for (n, (ddl, columns)) in [
        (
            "create table log (id bigint generated always as identity primary key, ikey text unique, name text)",
            KEY,
        ),
        (
            "create table log (id bigserial primary key, ikey text not null unique, name text)",
            SQL,
        ),
        ("create table log (ikey text unique, name text)", KEY),
        (
            "create table log (id uuid primary key default gen_random_uuid(), lsn bigint, idx integer, name text,
                               unique (idx, lsn))",
            POSITION,
        ),
        (
            "create table log (id bigserial, day date default '2026-01-01', ikey text, name text, primary key (id, day));
             create unique index on log (ikey) include (name)",
            KEY,
        ),
        // of an expression, partial, deferrable, with a column of its own, generated
        ("create table log (id bigserial, ikey text, name text); create unique index on log (md5(ikey))", KEY),
        ("create table log (id bigserial, ikey text, name text); create unique index on log (ikey) where name <> ''", KEY),
        ("create table log (id bigserial primary key, ikey text unique deferrable, name text)", KEY),
        ("create table log (ikey text unique deferrable initially deferred, name text)", KEY),
        ("create table log (day date default '2026-01-01', ikey text, name text, unique (day, ikey))", KEY),
        (
            "create table log (day date default '2026-01-01', ikey text, name text, unique (day, ikey) deferrable)
                 partition by list (day);
             create table part partition of log default",
            KEY,
        ),
        ("create table log (ikey text, hash text primary key generated always as (md5(ikey)) stored, name text)", KEY),
        ("create table log (ikey text, name text, exclude using btree (ikey with =))", KEY),
        ("create table log (ikey text, name text, exclude using hash (ikey with =) deferrable)", KEY),
        // the key is another one each time
        (
            "create table log (id uuid primary key, ikey text unique, name text)",
            r#"{"id": {"sql": "gen_random_uuid()"}, "ikey": "metadata.idempotency_key", "name": "record.name"}"#,
        ),
        (
            "create table log (meta jsonb, name text); create unique index on log ((meta->>'idempotency_key'))",
            META,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (_database, mut client) = log(&format!("append_generated_{n}"), ddl, columns, "");
        let (one, two) = (change("shop", 1, 0, "a"), change("shop", 1, 1, "b"));
        assert_eq!(apply(&mut client, &one), upserted(1), "{ddl}");
        assert_eq!(apply(&mut client, &one), stale(1), "{ddl}");
        let both = apply(&mut client, &batch(&[&one, &two, &two]));
        assert_eq!((both.upserted, both.stale, both.dead), (1, 2, 0), "{ddl}");
        assert_eq!(
            rows(&mut client, "select name from log order by name"),
            ["a", "b"],
            "{ddl}"
        );
    }
}

/// An index over another column, with the idempotency key in its condition or beside its own, tells no repetition.
#[test]
fn the_condition_of_an_index_does_not_tell_changes_apart() {
    for (n, index) in [
        "create unique index on log (lower(name)) where ikey is not null",
        "create unique index on log (lower(name)) include (ikey)",
    ]
    .into_iter()
    .enumerate()
    {
        let ddl =
            format!("create table log (id bigserial primary key, ikey text, name text); {index}");
        let (_database, mut client) = log(&format!("append_condition_{n}"), &ddl, KEY, "");
        apply(&mut client, &change("shop", 1, 0, "a"));
        assert_eq!(
            apply(&mut client, &change("shop", 2, 0, "A")).dead,
            1,
            "{index}"
        );
    }
}

#[test]
fn a_unique_value_that_does_not_tell_changes_apart_makes_no_repetition() {
    let (_database, mut client) = log(
        "append_value",
        "create table log (id bigserial primary key, ikey text, name text unique)",
        KEY,
        "",
    );
    apply(&mut client, &change("shop", 1, 0, "a"));
    assert_eq!(apply(&mut client, &change("shop", 2, 0, "a")).dead, 1);
}

#[test]
fn another_databases_change_of_the_same_position_is_not_a_repetition() {
    for (n, (ddl, columns, more)) in [
        (
            "create table log (ikey text primary key, name text)",
            KEY,
            "",
        ),
        (
            "create table log (id bigserial primary key, ikey text unique, name text)",
            KEY,
            "",
        ),
        (
            "create table log (ikey text unique, name text)",
            SQL,
            ", key => '{ikey}'",
        ),
        (
            "create table log (lsn bigint, idx integer, name text, primary key (lsn, idx))",
            POSITION,
            "",
        ),
        (
            "create table log (ikey text, name text); create unique index on log (md5(ikey))",
            KEY,
            "",
        ),
        (
            "create table log (ikey text unique deferrable, name text)",
            KEY,
            "",
        ),
        (
            "create table log (meta jsonb, name text); create unique index on log ((meta->>'idempotency_key'))",
            META,
            "",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (_database, mut client) = log(&format!("append_sources_{n}"), ddl, columns, more);
        let of = |source: &str, idx| change(source, 1, idx, &format!("{source} {idx}"));
        let mixed = [
            of("eu", 0),
            of("us", 1),
            of("us", 0),
            of("eu", 1),
            of("us", 2),
        ];
        for round in 0..2 {
            let counts = apply(&mut client, &batch(&mixed));
            let expected = match round {
                0 => (3, 0, 2),
                _ => (0, 3, 2),
            };
            assert_eq!(
                (counts.upserted, counts.stale, counts.dead),
                expected,
                "{ddl}"
            );
            assert_eq!(
                rows(&mut client, "select name from log order by name"),
                ["eu 0", "us 1", "us 2"],
                "{ddl}"
            );
            let letters =
                "select state, sqlstate, message::json->'record'->>'name', hint is not null
                           from sequin.dead_letter order by 3";
            assert_eq!(
                rows(&mut client, letters)[..2],
                ["dead|23000|eu 1|t", "dead|23000|us 0|t"],
                "{ddl}"
            );
        }
    }
}

/// All mappings that append to a table know which database brought a row, also after the first of them is gone.
#[test]
fn mappings_of_two_databases_append_to_one_table() {
    let (_database, mut client) = log(
        "append_two_mappings",
        "create table log (ikey text primary key, name text)",
        KEY,
        "",
    );
    run(
        &mut client,
        &format!(
            "select sequin.alter_mapping('log', source => 'eu.public.item');
             select sequin.map('us.public.item', 'log', mode => 'append', name => 'us', columns => '{KEY}')"
        ),
    );
    let of = |source: &str, lsn| change(source, lsn, 0, &format!("{source} {lsn}"));
    let expect = |client: &mut Client, source: &str, lsn, expected: (i64, i64, i64)| {
        let counts = apply(client, &of(source, lsn));
        let counts = (counts.upserted, counts.stale, counts.dead);
        assert_eq!(counts, expected, "{source} {lsn}");
    };
    let (new, again, taken) = ((1, 0, 0), (0, 1, 0), (0, 0, 1));
    for (source, lsn, expected) in [
        ("eu", 1, new),
        ("us", 1, taken),
        ("us", 2, new),
        ("us", 2, again),
        ("eu", 2, taken),
        ("eu", 1, again),
    ] {
        expect(&mut client, source, lsn, expected);
    }
    run(&mut client, "select sequin.unmap('log')");
    for (source, lsn, expected) in [("us", 1, taken), ("us", 2, again), ("us", 3, new)] {
        expect(&mut client, source, lsn, expected);
    }
}

#[test]
fn a_key_with_the_database_takes_the_changes_of_all() {
    let (_database, mut client) = log(
        "append_database",
        "create table log (id bigserial primary key, place text, ikey text, name text, unique (place, ikey))",
        r#"{"place": "metadata.database.name", "ikey": "metadata.idempotency_key", "name": "record.name"}"#,
        "",
    );
    let both = batch(&["eu", "us"].map(|source| change(source, 1, 0, source)));
    assert_eq!(apply(&mut client, &both), upserted(2));
    assert_eq!(apply(&mut client, &both), stale(2));
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "0"
    );
}
