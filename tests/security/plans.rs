//! A session that comes by every mapping.

use support::apply;
use support::{Database, batch, message, resident_memory, run, value};

#[test]
fn plans_of_many_mappings_are_bounded() {
    bounded("plans", "guard => 'off'");
}

/// Those with SQL and a filter have more statements.
#[test]
fn so_are_those_of_mappings_with_sql() {
    bounded(
        "plans_sql",
        r#"guard => 'table', filter => 'length(record->>''name'') > 0', columns =>
           '{"*": "record.*", "name": {"sql": "upper(record->>''name'') || (select count(*) from pg_class where oid = 0)"}}'"#,
    );
}

/// The plans of a partitioned destination have its partitions.
#[test]
fn so_are_those_of_partitioned_destinations() {
    bounded("plans_partitioned", "guard => 'off'");
}

fn bounded(name: &str, settings: &str) {
    let count: u64 = if std::env::var("HOSTILE").is_ok_and(|v| v == "full") {
        3_000
    } else {
        600
    };
    let database = Database::new(name);
    let partitioned = match name {
        "plans_partitioned" => "partition by hash (id)",
        _ => "",
    };
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "set client_min_messages = error;
             create table item (id bigint primary key, name text, at timestamptz, price numeric, tags text[]) {partitioned};
             do $$ begin
                 for i in 0..9 loop
                     if '{partitioned}' <> '' then
                         execute format('create table part_%s partition of item for values with (modulus 10, remainder %s)', i, i);
                     end if;
                 end loop;
                 set check_function_bodies = off;
                 for i in 1..{count} loop
                     perform sequin.map('public.source_' || i, 'item', {settings}, name => 'm' || i);
                 end loop;
             end $$"
        ),
    );
    let mut client = database.connect();
    let pid = value(&mut client, "select pg_backend_pid()");
    let of = |table: u64| {
        let record =
            format!(r#"{{"id":{table},"name":"x","at":"2026-01-01","price":1.5,"tags":["a"]}}"#);
        message("insert", &format!("source_{table}"), table, &record)
    };
    apply(&mut client, &of(1));
    let before = resident_memory(&pid);
    for first in (1..=count).step_by(50) {
        let messages: Vec<_> = (first..first + 50).map(of).collect();
        let counts = apply(&mut client, &batch(&messages));
        // the first of all comes again
        assert_eq!(counts.upserted + counts.stale, 50, "{counts:?}");
    }
    if let (Some(before), Some(after)) = (before, resident_memory(&pid)) {
        println!("{count} mappings: {} kB", after - before);
        // what is kept does not grow with the number of mappings, although all write one table
        assert!(after - before < 60_000, "{} kB", after - before);
    }
    if value(
        &mut client,
        "select to_regclass('pg_catalog.pg_backend_memory_contexts') is not null",
    ) == "t"
    {
        let kept = "select coalesce(sum(total_bytes), 0)::bigint from pg_backend_memory_contexts
                    where name like 'CachedPlan%'";
        let kept: u64 = value(&mut client, kept).parse().expect("a number");
        // `sequin.cache_size`, and the plans that every session has
        assert!(kept <= 20 << 20, "{kept} bytes of plans are kept");
        // Those of the last batch at least: an ANALYZE of the table in between makes all anew.
        assert!(kept >= 50 * 30_000, "{kept} bytes of plans are kept");
    }
}
