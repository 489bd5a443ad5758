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
fn a_session_keeps_plans_up_to_the_setting() {
    let database = Database::new("plans_kept");
    let mut client = database.connect();
    let columns: String = (2..=31).map(|n| format!(", c{n} text")).collect();
    run(
        &mut client,
        &format!(
            "do $$ begin
                 for i in 1..30 loop
                     execute format('create table wide_%s (id bigint primary key{columns})', i);
                     perform sequin.map('public.wide_' || i, ('wide_' || i)::regclass, guard => 'table');
                 end loop;
             end $$;
             set sequin.cache_size = '1MB'"
        ),
    );
    let values: String = (2..=31).map(|n| format!(r#","c{n}":"x""#)).collect();
    let mut lsn = 0;
    let mut send = |client: &mut Client, table: u64| {
        lsn += 1;
        let record = format!(r#"{{"id":{lsn}{values}}}"#);
        apply(
            client,
            &message("insert", &format!("wide_{table}"), lsn, &record),
        )
    };
    let kept = |client: &mut Client, table: &str| -> u64 {
        let sql = format!(
            "select count(*) from pg_backend_memory_contexts
             where name = 'CachedPlanSource' and ident like '%into public.wide_{table} as %'"
        );
        value(client, &sql).parse().expect("a number")
    };
    for table in 1..=30 {
        assert_eq!(send(&mut client, table).upserted, 1);
    }
    let all = kept(&mut client, "%");
    assert!((1..=10).contains(&all), "{all} statements are kept");
    // the one that was used last
    assert_eq!(kept(&mut client, "30"), 1);
    assert_eq!(send(&mut client, 1).upserted, 1);
    assert_eq!(kept(&mut client, "1"), 1);
    run(&mut client, "set sequin.cache_size = '64MB'");
    for table in 1..=30 {
        assert_eq!(send(&mut client, table).upserted, 1);
    }
    assert_eq!(kept(&mut client, "%"), 30);
    run(&mut client, "set sequin.cache_size = 0");
    assert_eq!(send(&mut client, 7).upserted, 1);
    assert_eq!(kept(&mut client, "%"), 0);
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
