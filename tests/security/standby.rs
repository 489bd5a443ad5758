//! Functions on a standby and in a transaction that may not write.

use postgres::Client;
use support::{code, error, rows, run, value};

use super::cluster::Cluster;

/// Functions that write, and what they are called with.
const WRITING: &[&str] = &[
    "sequin_apply('[]'::text)",
    "sequin_apply('[]'::jsonb)",
    "sequin.map('public.other', 'item')",
    "sequin.map_schema('public', 'public')",
    "sequin.unmap('item')",
    "sequin.retry()",
    "sequin.retry(1)",
    "sequin.retry('item')",
    "sequin.discard(1)",
    "sequin.begin_resync('item')",
    "sequin.finish_resync('item')",
    "sequin.forget_versions('item')",
    "sequin.accept_drift('item')",
    "sequin.explain_batch('[]')",
];

/// Queries that read.
const READING: &[&str] = &[
    "select count(*) > 0 from sequin.explain('item')",
    "select count(*) > 0 from sequin.fingerprint('item')",
    "select sequin.fingerprint_query('item') is not null",
    "select sequin.row_key(1::bigint) is not null",
    "select count(*) = 1 from sequin.status",
    "select string_agg(state, '') = 'running' from sequin.check()",
    "select count(*) = 1 from sequin.versions",
    "select count(*) = 0 from sequin.dead_letter",
    "select sequin.build_profile() is not null",
];

fn check(client: &mut Client) {
    for call in WRITING {
        let error = error(client, &format!("select * from {call}"));
        assert_eq!(code(&error), "25006", "{call}: {error}");
    }
    for query in READING {
        assert_eq!(value(client, query), "t", "{query}");
    }
}

#[test]
fn writing_functions_say_that_they_cannot() {
    let primary = Cluster::new("standby_primary");
    let mut client = primary.connect("postgres");
    run(
        &mut client,
        "create extension pg_sequin;
         create table item (id bigint primary key, at tstzrange, ats timestamptz[]);
         create table other (id bigint primary key);
         insert into item values (1, '[2026-01-01,2026-01-02)', '{2026-01-01}');
         select sequin.map('public.item', 'item', name => 'item')",
    );
    run(&mut client, "set default_transaction_read_only = on");
    check(&mut client);
    let standby = primary.standby("standby");
    let mut client = standby.connect("postgres");
    while rows(
        &mut client,
        "select from pg_extension where extname = 'pg_sequin'",
    )
    .is_empty()
    {}
    check(&mut client);
}
