//! Plans that were made for an empty table suit it when it has grown.

#![forbid(unsafe_code)]

use postgres::Client;
use support::{Counts, Database, apply, batch, message, run, value};

/// Scans of the whole table and of its indexes by the batch.
fn scans(client: &mut Client, table: &str, batch: &str) -> (Counts, u64, u64) {
    run(client, "begin");
    let counts = apply(client, batch);
    let row = value(
        client,
        &format!(
            "select coalesce(sum(seq_scan), 0), coalesce(sum(idx_scan), 0)
             from pg_stat_xact_user_tables where relname = '{table}'"
        ),
    );
    run(client, "commit");
    let (seq, idx) = row.split_once('|').expect("two columns");
    (
        counts,
        seq.parse().expect("a number"),
        idx.parse().expect("a number"),
    )
}

#[test]
fn plans_use_indexes_when_a_table_has_grown() {
    let database = Database::new("plans");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    let mut lsn = 0;
    // 100 rows of each kind, spread over the table
    let mut batches = |table: &str, from: u64| {
        let mut some = |action: &str, offset: u64, fields: &str| {
            let messages: Vec<_> = (0..100)
                .map(|i| {
                    lsn += 1;
                    let id = from + offset + i * 1000;
                    message(
                        action,
                        table,
                        lsn,
                        &format!(r#"{{"a":"k","id":{id}{fields}}}"#),
                    )
                })
                .collect();
            batch(&messages)
        };
        [
            ("delete", some("delete", 1, "")),
            (
                "update",
                some("update", 2, r#","name":"u","body":"unchanged_toast""#),
            ),
            ("upsert", some("update", 3, r#","name":"u","body":"b""#)),
        ]
    };
    for (table, key, on_delete) in [
        ("plain", "id", "on_delete => 'delete'"),
        ("composite", "a, id", "on_delete => 'delete'"),
        ("soft", "id", "on_delete => 'soft', soft_delete => 'gone'"),
    ] {
        run(
            &mut admin,
            &format!(
                "create table {table} (a text, id bigint, name text, body text not null, gone boolean,
                                       primary key ({key}));
                 select sequin.map('public.{table}', '{table}', guard => 'off', {on_delete})"
            ),
        );
        // The plans are made while the table is empty.
        for (_, batch) in batches(table, 10_000_000) {
            apply(&mut forwarder, &batch);
        }
        run(
            &mut admin,
            &format!(
                "truncate sequin.dead_letter;
                 insert into {table} select 'k', n, 'n', 'b' from generate_series(1, 300000) n"
            ),
        );
        let mut check = |client: &mut Client, from: u64, when: &str| {
            for (kind, batch) in batches(table, from) {
                let (counts, seq, idx) = scans(client, table, &batch);
                let (changed, dead) = (counts.upserted + counts.deleted, counts.dead);
                assert_eq!(
                    (changed, dead),
                    (100, 0),
                    "{kind} of {table}, {when}: {counts:?}"
                );
                assert_eq!(seq, 0, "{kind} of {table}, {when}: sequential scans");
                assert!(
                    kind == "upsert" || idx >= 100,
                    "{kind} of {table}, {when}: {idx} index scans"
                );
            }
        };
        check(&mut forwarder, 0, "grown");
        run(&mut admin, &format!("analyze {table}"));
        check(&mut forwarder, 100_000, "analyzed");
        check(&mut database.connect(), 200_000, "in a new session");
        assert_eq!(
            value(
                &mut admin,
                &format!("select count(*) from {table} where name = 'u' and id <= 300000")
            ),
            "600"
        );
    }
}

#[test]
fn a_first_message_takes_no_query_of_the_catalog() {
    let (database, _) = Database::mapped(
        "plans_first",
        "create table plain (id bigint primary key, name text, price numeric(10, 2))",
        &["plain"],
        "table",
    );
    let mut client = database.connect();
    let counts = apply(
        &mut client,
        &message("insert", "plain", 1, r#"{"id":1,"name":"x","price":1.5}"#),
    );
    assert_eq!(counts.upserted, 1);
    let queries = value(
        &mut client,
        "select coalesce(string_agg(ident, ';'), 'none') from pg_backend_memory_contexts
         where name = 'CachedPlanSource' and ident like '%pg_catalog.pg_%'",
    );
    assert_eq!(queries, "none");
}
