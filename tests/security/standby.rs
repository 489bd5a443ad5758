//! Functions on a standby and in a transaction that may not write.

use postgres::Client;
use support::{code, error, rows, run, value};

use super::cluster::Cluster;

/// Functions that write, and what they are called with.
const WRITING: &[&str] = &[
    "sequin_apply('[]'::text)",
    "sequin_apply('[]'::jsonb)",
    "sequin_apply('{}'::text[])",
    "sequin.alter_mapping('item', enabled => true)",
    "sequin.pause('item')",
    "sequin.resume('item')",
    "sequin.cancel_resync('item')",
    "sequin.grant_source('public.*', current_user::regrole)",
    "sequin.revoke_source('public.*', current_user::regrole)",
    "sequin.explain('[]'::jsonb)",
    "sequin.sync_sequences()",
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

/// Procedures, which all write.
const PROCEDURES: &[&str] = &[
    "sequin.retry_all()",
    "sequin.discard(null, null)",
    "sequin.prune()",
    "sequin.finish_resync_in_portions('item')",
];

/// Queries that read.
const READING: &[&str] = &[
    "select count(*) > 0 from sequin.explain('item')",
    "select count(*) > 0 from sequin.fingerprint('item')",
    "select sequin.fingerprint_query('item') is not null",
    "select sequin.row_key(1::bigint) is not null",
    "select count(*) = 1 from sequin.status",
    "select count(*) = 1 from sequin.own_mapping",
    "select count(*) = 0 from sequin.own_dead_letter",
    "select count(*) = 0 from sequin.source_grant",
    "select count(*) = 0 from sequin.progress",
    "select count(*) = 0 from sequin.waiting",
    "select count(*) >= 0 from sequin.failed_calls",
    "select count(*) = 0 from sequin.activity",
    "select count(*) = 0 from sequin.letters",
    "select count(*) > 0 from sequin.storage",
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
    for call in PROCEDURES {
        let error = error(client, &format!("call {call}"));
        assert_eq!(code(&error), "25006", "{call}: {error}");
    }
    for query in READING {
        assert_eq!(value(client, query), "t", "{query}");
    }
}

/// Every function and view of schema `sequin` is called here.
fn check_complete(client: &mut Client) {
    let names = "select proname from pg_proc where pronamespace = 'sequin'::regnamespace
                 union
                 select relname from pg_class where relnamespace = 'sequin'::regnamespace and relkind = 'v'";
    let all = [WRITING, PROCEDURES, READING].concat().join(" ");
    for name in rows(client, names) {
        assert!(all.contains(&format!("sequin.{name}")), "{name}");
    }
}

#[test]
fn writing_functions_say_that_they_cannot() {
    let primary = Cluster::new("standby_primary");
    let mut client = primary.connect("postgres");
    run(
        &mut client,
        "create extension pg_sequin;
         create table item (id bigserial primary key, at tstzrange, ats timestamptz[]);
         create table other (id bigint primary key);
         insert into item values (1, '[2026-01-01,2026-01-02)', '{2026-01-01}');
         select sequin.map('public.item', 'item', name => 'item')",
    );
    check_complete(&mut client);
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
