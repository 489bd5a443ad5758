//! Operating it: counters, `sequin.status`, pausing, and what somebody sees who is not a superuser.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use postgres::Client;
use support::{
    Counts, Database, Random, apply, apply_error, batch, error, message, message_with, rows, run,
    value,
};

fn insert(table: &str, id: u64, lsn: u64) -> String {
    message(
        "insert",
        table,
        lsn,
        &format!(r#"{{"id":{id},"name":"n{lsn}"}}"#),
    )
}

fn counted(client: &mut Client, mapping: &str) -> String {
    value(
        client,
        &format!(
            "select calls, received, upserted, deleted, collapsed, stale, filtered, ignored, dead
             from sequin.status where name = '{mapping}'"
        ),
    )
}

#[test]
fn four_sessions_count_without_waiting_for_each_other() {
    let database = Database::new("counters");
    let mut admin = database.connect();
    run(
        &mut admin,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    let mut sessions: Vec<_> = (0..4).map(|_| database.connect()).collect();
    for (n, session) in sessions.iter_mut().enumerate() {
        // Every transaction stays open: a row that two of them write would make the second wait.
        run(session, "set lock_timeout = '2s'; begin");
        for lsn in 1..=3 {
            let counts = apply(session, &insert("item", n as u64, 10 * n as u64 + lsn));
            assert_eq!(counts.upserted, 1);
        }
    }
    assert_eq!(counted(&mut admin, "item"), "0|0|0|0|0|0|0|0|0");
    assert_eq!(
        value(&mut sessions[0], "select received from sequin.status"),
        "3"
    );
    run(&mut sessions[0], "rollback");
    run(&mut sessions[1], "savepoint a");
    apply(&mut sessions[1], &insert("item", 1, 100));
    run(&mut sessions[1], "rollback to a");
    for session in &mut sessions[1..] {
        run(session, "commit");
    }
    assert_eq!(counted(&mut admin, "item"), "9|9|9|0|0|0|0|0|0");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.counter"),
        "3"
    );

    // Who removes the mapping waits for those who count, and leaves nothing.
    run(&mut sessions[3], "begin");
    apply(&mut sessions[3], &insert("item", 1, 200));
    run(&mut admin, "set lock_timeout = '100ms'");
    let waited = error(&mut admin, "select sequin.unmap('item')");
    assert_eq!(waited.code().code(), "55P03");
    run(&mut sessions[3], "commit");
    run(&mut admin, "select sequin.unmap('item')");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.counter"),
        "0"
    );
}

#[test]
fn counters_are_the_sum_of_the_results() {
    let database = Database::new("counters_sum");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text, check (name <> 'n7'));
         select sequin.map('public.item', 'item', guard => 'table', name => 'item',
                           filter => $$record->>'name' is distinct from 'n5'$$);
         select sequin.map('public.nothing', null, name => 'nothing')",
    );
    let mut sum = Counts::default();
    let mut add = |counts: Counts| {
        sum.received += counts.received;
        sum.upserted += counts.upserted;
        sum.deleted += counts.deleted;
        sum.collapsed += counts.collapsed;
        sum.stale += counts.stale;
        sum.filtered += counts.filtered;
        sum.ignored += counts.ignored;
        sum.dead += counts.dead;
    };
    for lsn in 1..=8 {
        let mut messages = vec![
            insert("item", lsn % 3, lsn),
            insert("item", lsn % 3, lsn + 1),
            insert("item", lsn % 2, 8 - lsn),
            insert("nothing", 1, lsn),
            message("read", "item", lsn, r#"{"id":9,"name":"n5"}"#),
        ];
        if lsn % 4 == 0 {
            messages.push(message(
                "delete",
                "item",
                lsn + 20,
                r#"{"id":1,"name":null}"#,
            ));
        }
        add(apply(&mut client, &batch(&messages)));
    }
    let of = |field: &str| format!("select sum({field}) from sequin.status");
    let mut total = |field: &str| value(&mut client, &of(field)).parse::<i64>().unwrap();
    let totals = Counts {
        received: total("received"),
        upserted: total("upserted"),
        deleted: total("deleted"),
        collapsed: total("collapsed"),
        stale: total("stale"),
        filtered: total("filtered"),
        ignored: total("ignored"),
        dead: total("dead"),
    };
    assert_eq!(totals, sum);
    assert_eq!(sum.outcomes(), sum.received);
    for (what, count) in [
        ("upserted", sum.upserted),
        ("deleted", sum.deleted),
        ("collapsed", sum.collapsed),
        ("stale", sum.stale),
        ("filtered", sum.filtered),
        ("ignored", sum.ignored),
        ("dead", sum.dead),
    ] {
        assert!(count > 0, "{what} did not occur: {sum:?}");
    }
    assert_eq!(counted(&mut client, "nothing"), "8|8|0|0|0|0|0|8|0");
}

#[test]
fn a_counter_is_updated_in_place() {
    let database = Database::new("counters_hot");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    apply(&mut client, &insert("item", 1, 1));
    run(&mut client, "begin");
    for lsn in 2..=11 {
        apply(&mut client, &insert("item", 1, lsn));
    }
    assert_eq!(
        value(
            &mut client,
            "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables
             where relname = 'counter'"
        ),
        "10|10"
    );
}

#[test]
fn status_tells_how_it_stands() {
    let database = Database::new("status");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text, body text);
         create table other (id integer primary key);
         create table log (id integer, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item');
         select sequin.map('public.other', 'other', guard => 'columns', name => 'other');
         select sequin.map('public.item', 'log', mode => 'append', name => 'log');
         select sequin.map('public.nothing', null, name => 'nothing')",
    );
    assert_eq!(
        rows(
            &mut admin,
            "select name, state, guard, received, lag is null from sequin.status order by name"
        ),
        [
            "item|running|table|0|t",
            "log|running|off|0|t",
            "nothing|running|null|0|t",
            "other|running|columns|0|t"
        ]
    );
    let update = |lsn, record: &str| message("update", "item", lsn, record);
    apply(
        &mut forwarder,
        &batch(&[
            update(7, r#"{"id":1,"name":"a","body":"unchanged_toast"}"#),
            insert("item", 2, 5),
            message("read", "item", 3000, r#"{"id":3,"name":"r","body":"b"}"#),
            message("delete", "item", 6, r#"{"id":4}"#),
        ]),
    );
    apply(&mut forwarder, &insert("item", 2, 3));
    assert_eq!(
        value(
            &mut admin,
            "select last_lsn, last_commit_timestamp at time zone 'UTC',
                    lag > interval '0' and lag <= now() - last_commit_timestamp,
                    last_applied_at > now() - interval '1 minute', unknown_values
             from sequin.status where name = 'item'"
        ),
        "7|2026-01-01 00:00:07|t|t|1"
    );
    assert_eq!(
        value(
            &mut admin,
            "select * from sequin.versions where name = 'item'"
        ),
        "item|4|1|1|1"
    );
    run(&mut admin, "analyze sequin.row_version");
    assert_eq!(
        value(
            &mut admin,
            "select row_versions_estimate from sequin.status where name = 'item'"
        ),
        "4"
    );
    // The value comes.
    apply(
        &mut forwarder,
        &message("insert", "item", 1, r#"{"id":1,"name":"x","body":"b"}"#),
    );
    assert_eq!(
        value(
            &mut admin,
            "select unknown_values from sequin.status where name = 'item'"
        ),
        "0"
    );

    run(&mut admin, "select sequin.begin_resync('item')");
    apply(
        &mut forwarder,
        &batch(&[
            message("read", "item", 4000, r#"{"id":2,"name":"r","body":"b"}"#),
            message("read", "item", 4000, r#"{"id":3,"name":"r","body":"b"}"#),
        ]),
    );
    apply(
        &mut forwarder,
        &message("read", "item", 4001, r#"{"id":3,"name":"r","body":"b"}"#),
    );
    let resync = "select state, resync_started_at is not null, resync_confirmed
                  from sequin.status where name = 'item'";
    assert_eq!(value(&mut admin, resync), "resyncing|t|2");
    run(&mut admin, "select sequin.begin_resync('item')");
    assert_eq!(value(&mut admin, resync), "resyncing|t|0");
    run(&mut admin, "select sequin.finish_resync('item')");
    assert_eq!(value(&mut admin, resync), "running|f|null");

    run(
        &mut admin,
        "update sequin.mapping set enabled = false where name = 'item'; drop table other",
    );
    assert_eq!(
        rows(
            &mut admin,
            "select name, state from sequin.status order by name"
        ),
        [
            "item|paused",
            "log|running",
            "nothing|running",
            "other|blocked"
        ]
    );
    run(
        &mut admin,
        "insert into sequin.dead_letter (mapping, message, sqlstate, error, position, state)
         select 'log', '{}', '22P02', 'x', 0, state from (values ('dead'), ('dead'), ('waiting')) s(state)",
    );
    assert_eq!(
        value(
            &mut admin,
            "select dead_letters_dead, dead_letters_waiting from sequin.status where name = 'log'"
        ),
        "2|1"
    );
}

#[test]
fn status_shows_ones_own_mappings() {
    let mut database = Database::new("status_roles");
    let (alice, bob, monitor) = (
        database.role("alice"),
        database.role("bob"),
        database.role("monitor"),
    );
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
             grant create on schema public to {alice}, {bob}; grant pg_monitor to {monitor}"
        ),
    );
    for role in [&alice, &bob] {
        let mut client = database.connect_as(role);
        run(
            &mut client,
            &format!(
                "create table {role} (id integer primary key);
                 select sequin.map('public.{role}', '{role}', guard => 'table', name => '{role}')"
            ),
        );
    }
    let names = "select name from sequin.status order by name";
    for view in [names, "select name from sequin.versions order by name"] {
        assert_eq!(
            rows(&mut database.connect_as(&alice), view),
            [alice.as_str()]
        );
        assert_eq!(
            rows(&mut database.connect_as(&monitor), view),
            [alice.as_str(), bob.as_str()]
        );
    }
    // A function in a condition is not shown the rows of others.
    let mut client = database.connect_as(&bob);
    run(
        &mut client,
        "create function peek(text) returns boolean language plpgsql cost 0.0001 as
         $$ begin raise notice '%', $1; if $1 like '%alice' then raise 'seen'; end if; return true; end $$",
    );
    assert_eq!(
        rows(
            &mut client,
            "select name from sequin.status where peek(name)"
        ),
        [bob.as_str()]
    );
    for table in ["counter", "row_version", "mapping", "resync"] {
        let mut monitor = database.connect_as(&monitor);
        let error = error(&mut monitor, &format!("select from sequin.{table}"));
        assert_eq!(error.code().code(), "42501");
    }
}

/// What `sequin.explain` says of a batch, as the server spells it.
fn explained(client: &mut Client, batch: &str) -> Vec<String> {
    let quoted = batch.replace('\'', "''");
    rows(
        client,
        &format!(
            "select position, mapping, key, outcome, sqlstate, before - versions, after - versions
             from sequin.explain(batch => '{quoted}'),
                  (values ('{{sequin_lsn,sequin_idx,sequin_committed_at}}'::text[])) v(versions)"
        ),
    )
}

#[test]
fn explain_tells_what_a_batch_would_do() {
    let database = Database::new("explain_batch");
    let mut client = database.connect();
    for guard in ["columns", "table", "off"] {
        run(
            &mut client,
            &format!(
                "drop table if exists item; truncate sequin.dead_letter;
                 create table item (id integer primary key, name text, n integer);
                 select sequin.map('public.item', 'item', guard => '{guard}', name => 'item',
                                   filter => $$record->>'name' is distinct from 'no'$$);
                 select sequin.map('public.nothing', null, name => 'nothing')"
            ),
        );
        let of = |action, lsn, id: u64, name: &str| {
            let record = format!(r#"{{"id":{id},"name":"{name}","n":{lsn}}}"#);
            message(action, "item", lsn, &record)
        };
        apply(
            &mut client,
            &batch(&[
                of("insert", 10, 1, "one"),
                of("insert", 11, 2, "two"),
                of("insert", 12, 3, "three"),
                of("read", 13, 4, "four"),
            ]),
        );
        let messages = [
            of("insert", 20, 5, "five"),
            of("update", 21, 1, "uno"),
            of("delete", 22, 2, "two"),
            of("update", 9, 3, "late"),
            of("update", 23, 1, "eins"),
            of("read", 1, 4, "late read"),
            of("read", 2000, 6, "read"),
            of("insert", 24, 7, "no"),
            message("insert", "item", 25, r#"{"id":8,"name":"x","n":"many"}"#),
            message("insert", "nothing", 26, r#"{"id":8}"#),
            message("insert", "else", 27, r#"{"id":8}"#),
            r#"{"ping":1}"#.to_owned(),
            message_with(
                "update",
                "item",
                28,
                r#"{"id":9,"name":"moved","n":1}"#,
                r#"{"id":3}"#,
            ),
        ];
        let kept = "select (select array_agg(i order by id) from item i),
                           (select count(*) from sequin.dead_letter),
                           (select array_agg(v order by key) from sequin.row_version v),
                           (select array_agg(c) from sequin.counter c)";
        let before = value(&mut client, kept);
        let found = explained(&mut client, &batch(&messages));
        assert_eq!(
            value(&mut client, kept),
            before,
            "{guard}: something was applied"
        );
        let (late, stale, read) = match guard {
            "off" => (
                "collapsed",
                "upserted",
                r#"{"n": 1, "id": 4, "name": "late read"}"#,
            ),
            _ => ("stale", "stale", r#"{"n": 13, "id": 4, "name": "four"}"#),
        };
        let expected = [
            r#"0|item|["5"]|upserted|null|null|{"n": 20, "id": 5, "name": "five"}"#.to_owned(),
            r#"1|item|["1"]|collapsed|null|{"n": 10, "id": 1, "name": "one"}|{"n": 23, "id": 1, "name": "eins"}"#.to_owned(),
            r#"2|item|["2"]|deleted|null|{"n": 11, "id": 2, "name": "two"}|null"#.to_owned(),
            format!(r#"3|item|["3"]|{late}|null|{{"n": 12, "id": 3, "name": "three"}}|null"#),
            r#"4|item|["1"]|upserted|null|{"n": 10, "id": 1, "name": "one"}|{"n": 23, "id": 1, "name": "eins"}"#.to_owned(),
            format!(r#"5|item|["4"]|{stale}|null|{{"n": 13, "id": 4, "name": "four"}}|{read}"#),
            r#"6|item|["6"]|upserted|null|null|{"n": 2000, "id": 6, "name": "read"}"#.to_owned(),
            r#"7|item|["7"]|filtered|null|null|null"#.to_owned(),
            r#"8|item|["8"]|dead|22P02|null|null"#.to_owned(),
            r#"9|nothing|null|ignored|null|null|null"#.to_owned(),
            r#"10|null|null|dead|42704|null|null"#.to_owned(),
            r#"11|null|null|dead|22023|null|null"#.to_owned(),
            r#"12|item|["9"]|upserted|null|{"n": 12, "id": 3, "name": "three"}|{"n": 1, "id": 9, "name": "moved"}"#.to_owned(),
        ];
        assert_eq!(found, expected, "{guard}");
        // It came true.
        let counts = apply(&mut client, &batch(&messages));
        let count = |outcome: &str| {
            let outcome = format!("|{outcome}|");
            found.iter().filter(|row| row.contains(&outcome)).count() as i64
        };
        assert_eq!(
            [
                counts.upserted,
                counts.deleted,
                counts.collapsed,
                counts.stale,
                counts.filtered,
                counts.ignored,
                counts.dead
            ],
            [
                "upserted",
                "deleted",
                "collapsed",
                "stale",
                "filtered",
                "ignored",
                "dead"
            ]
            .map(count),
            "{guard}"
        );
    }
}

#[test]
fn explain_gives_each_message_its_own_outcome() {
    let database = Database::new("explain_exact");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         create table log (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'columns', name => 'item');
         select sequin.map('public.log', 'log', mode => 'append', name => 'log')",
    );
    let mut random = Random::new(6);
    let of = |action, table, lsn, id: u64| {
        message(
            action,
            table,
            lsn,
            &format!(r#"{{"id":{id},"name":"{lsn}"}}"#),
        )
    };
    let ids: Vec<_> = (0..300).filter(|_| random.below(2) == 0).collect();
    let known: Vec<_> = ids
        .into_iter()
        .flat_map(|id| {
            let action = *random.of(&["insert", "read"]);
            [
                of(action, "item", 50_000, id),
                of("insert", "log", 50_000, id),
            ]
        })
        .collect();
    apply(&mut client, &batch(&known));
    let mut messages: Vec<_> = (0..300)
        .flat_map(|id| {
            let action = *random.of(&["insert", "read", "update"]);
            let lsn = *random.of(&[1, 50_000, 80_000]);
            [of(action, "item", lsn, id), of("insert", "log", 1, id)]
        })
        .collect();
    random.shuffle(&mut messages);
    let batch = batch(&messages);
    // What was written has another image afterwards; what was stale has the same.
    let wrong = rows(
        &mut client,
        &format!(
            "select * from sequin.explain(batch => '{batch}')
             where outcome <> case when before is not distinct from after then 'stale' else 'upserted' end"
        ),
    );
    assert_eq!(wrong, Vec::<String>::new());
    let outcomes = rows(
        &mut client,
        &format!(
            "select count(*) > 50 from sequin.explain(batch => '{batch}')
             group by mapping, outcome"
        ),
    );
    assert_eq!(outcomes, ["t", "t", "t", "t"]);
}

#[test]
fn explain_takes_large_batches_and_json_lines() {
    let database = Database::new("explain_large");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item')",
    );
    let lines: Vec<_> = (0..20_000).map(|id| insert("item", id, id + 1)).collect();
    let row = client
        .query_one(
            "select count(*), count(after), count(before), count(distinct key)
             from sequin.explain_batch($1) where outcome = 'upserted'",
            &[&lines.join("\n")],
        )
        .unwrap();
    let counts: Vec<i64> = (0..4).map(|i| row.get(i)).collect();
    assert_eq!(counts, [20_000, 20_000, 0, 20_000]);
    assert_eq!(value(&mut client, "select count(*) from item"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "0"
    );
}

#[test]
fn explain_tells_what_a_mapping_does() {
    let database = Database::new("explain_mapping");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create table item (id integer primary key, name text not null, tags text[], email text,
                              origin text, total numeric generated always as (1) stored, gone boolean, extra uuid);
           select sequin.map('public.item', 'item', guard => 'columns', name => 'item', filter => 'true',
               on_delete => 'soft', soft_delete => 'gone', columns => '{"id": "record.id", "name": "record.name",
               "tags": "record.tags", "email": {"sql": "lower(record->>''email'')"}, "origin": {"value": "x"}}');
           select sequin.map('public.nothing', null, name => 'nothing')"#,
    );
    assert_eq!(
        rows(
            &mut client,
            r#"select part, name, type, source, "cast" from sequin.explain('item') where part <> 'statement'"#
        ),
        [
            "key|id|integer|record.id|fast path, else input function; numbers by their digits",
            "column|name|text|record.name|fast path, else input function",
            "column|tags|text[]|record.tags|input function; arrays by element",
            "column|email|text|SQL, value 1|assignment from text",
            "column|origin|text|constant \"x\"|fast path, else input function",
            "column|total|numeric|generated|null",
            "column|gone|boolean|mark of a delete|null",
            "column|extra|uuid|not written|null",
            "guard|sequin_lsn|bigint|version of the row|null",
            "guard|sequin_idx|integer|version of the row|null",
            "guard|sequin_committed_at|timestamp with time zone|version of the row|null",
        ]
    );
    assert_eq!(
        rows(
            &mut client,
            // PostgreSQL 13 reads the batch in a WITH
            r"select name, split_part(regexp_replace(sql, '^with b as materialized \(.*?\)\) ', ''), ' ', 1)
              from sequin.explain('item') where part = 'statement'"
        ),
        [
            "evaluate|select",
            "upsert of changes|insert",
            "upsert of reads|insert",
            "update of rows that are there|update",
            "delete|update",
        ]
    );
    assert_eq!(
        rows(&mut client, "select * from sequin.explain('nothing')"),
        Vec::<String>::new()
    );
    for (sql, code) in [
        ("select * from sequin.explain('itme')", "42704"),
        ("select * from sequin.explain('[]')", "42704"),
        ("select * from sequin.explain(mapping => null)", "22004"),
        ("select * from sequin.explain(batch => null)", "22004"),
        ("select * from sequin.explain_batch('[')", "22P02"),
    ] {
        assert_eq!(error(&mut client, sql).code().code(), code, "{sql}");
    }
    let wrong = error(&mut client, "select * from sequin.explain('[]')");
    assert!(wrong.hint().unwrap().contains("sequin.explain(batch => …)"));
    run(&mut client, "drop table item");
    assert_eq!(
        error(&mut client, "select * from sequin.explain('item')")
            .code()
            .code(),
        "42P01"
    );
}

#[test]
fn explain_shows_rows_only_to_their_owner() {
    let mut database = Database::new("explain_roles");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
             create table secret (id integer primary key, name text);
             alter table secret owner to {alice};
             insert into secret values (1, 'hidden');
             select sequin.map('public.nothing', null, name => 'nothing')"
        ),
    );
    run(
        &mut database.connect_as(&alice),
        "select sequin.map('public.secret', 'secret', guard => 'table', name => 'secret')",
    );
    let batch = batch(&[
        message("insert", "nothing", 1, r#"{"id":1}"#),
        message("insert", "secret", 1, r#"{"id":1,"name":"known"}"#),
    ]);
    let mut session = database.connect_as(&bob);
    let refused = error(
        &mut session,
        &format!("select * from sequin.explain(batch => '{batch}')"),
    );
    assert_eq!(refused.code().code(), "42501");
    assert_eq!(
        refused.message(),
        "messages[1] goes to a mapping of another role"
    );
    assert_eq!(
        error(&mut session, "select * from sequin.explain('secret')")
            .code()
            .code(),
        "42704"
    );
    let mine = format!(
        "select mapping, outcome, before->>'name', after->>'name' from sequin.explain(batch => '{batch}')"
    );
    let shown = ["nothing|ignored|null|null", "secret|upserted|hidden|known"];
    assert_eq!(rows(&mut database.connect_as(&alice), &mine), shown);
    assert_eq!(rows(&mut admin, &mine), shown);
    // Row security holds for the owner's view of the rows, and for writing them.
    run(
        &mut admin,
        "alter table secret enable row level security, force row level security;
         create policy own on secret using (name <> 'hidden') with check (name <> 'known')",
    );
    assert_eq!(
        rows(&mut database.connect_as(&alice), &mine),
        ["nothing|ignored|null|null", "secret|dead|null|null"]
    );
}

#[test]
fn a_paused_mapping_refuses_until_it_is_resumed() {
    let database = Database::new("pause");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text);
         create table other (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'table', name => 'it''s');
         select sequin.map('public.other', 'other', guard => 'table', name => 'other');
         select sequin.map('public.nothing', null, name => 'nothing')",
    );
    let mixed = |lsn| batch(&[insert("other", lsn, lsn), insert("item", lsn, lsn)]);
    apply(&mut forwarder, &mixed(1));

    // A call that is under way is not stopped; the next one is, also in its transaction.
    run(&mut forwarder, "begin");
    apply(&mut forwarder, &mixed(2));
    run(
        &mut admin,
        "set lock_timeout = '2s'; update sequin.mapping set enabled = false where name <> 'other'",
    );
    run(&mut forwarder, "savepoint a");
    assert_eq!(
        apply_error(&mut forwarder, &mixed(3)).code().code(),
        "55000"
    );
    run(&mut forwarder, "rollback to a; commit");

    for mut session in [forwarder, database.connect()] {
        let refused = apply_error(&mut session, &mixed(3));
        assert_eq!(refused.code().code(), "55000");
        assert_eq!(refused.message(), "mapping \"it's\" is paused");
        assert_eq!(
            refused.detail(),
            Some("Nothing of this batch was applied, so that the sender tries again later.")
        );
        // Nothing of the batch: the other mapping's part neither.
        assert_eq!(
            rows(&mut session, "select id from other order by id"),
            ["1", "2"]
        );
        assert_eq!(
            apply_error(&mut session, &insert("nothing", 1, 1))
                .code()
                .code(),
            "55000"
        );
        let jsonb = format!("select sequin_apply('{}'::jsonb)", mixed(3));
        assert_eq!(error(&mut session, &jsonb).code().code(), "55000");
    }
    let mut forwarder = database.connect();
    assert_eq!(apply(&mut forwarder, &insert("other", 4, 4)).upserted, 1);
    assert_eq!(counted(&mut admin, "it''s"), "2|2|2|0|0|0|0|0|0");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );

    let hint = apply_error(&mut forwarder, &mixed(3))
        .hint()
        .unwrap()
        .to_owned();
    let resume = hint.strip_prefix("To resume it, run: ").unwrap();
    run(&mut admin, "begin");
    run(&mut admin, resume);
    assert_eq!(
        apply_error(&mut forwarder, &mixed(3)).code().code(),
        "55000"
    );
    run(&mut admin, "commit");
    assert_eq!(apply(&mut forwarder, &mixed(3)).upserted, 2);
    assert_eq!(
        rows(
            &mut admin,
            "select name, state from sequin.status order by name"
        ),
        ["it's|running", "nothing|paused", "other|running"]
    );
}

/// Types whose text a setting changes, and some whose text none does.
const TYPED: &str = r#"
    create type place as (at timestamptz, "Street" text, weight real);
    create domain moment as timestamptz;
    create type span as range (subtype = timestamptz);
    create table typed (id integer primary key, b boolean, i bigint, n numeric, f4 real, f8 double precision, t text,
        c char(4), u uuid, d date, tm time, tmz timetz, ts timestamp, tz timestamptz, iv interval, bin bytea,
        j json, jb jsonb, place place, dom moment, span span, days daterange, at tstzrange, texts text[],
        times timestamptz[], places place[], bins bytea[], cash money);
    insert into typed values (1, true, 9007199254740993, 1.50, 0.1, 0.1, E'a"b,{\\\n}', 'ab',
        '0f8b3a4e-5c1d-4e2a-9b7f-2d6c8e1a3f50', '2026-03-01', '04:05:06.789', '04:05:06+02', '2026-03-01 12:30:00.000001',
        '2026-03-01 12:30:00.000001+00', '1 year 2 mons 3 days 04:05:06.789', '\x00ff', '{"b":  1.0, "a": [null]}',
        '{"b": 1.0, "a": [null]}', row('2026-03-01 00:00+00', null, 1e-7), '0044-03-15 10:00+00 BC',
        span('2026-03-01 00:00+00', null), '[2026-03-01,2026-04-01)', '[2026-03-01 00:00+00,2026-04-01 00:00+00]',
        '{a,null,"x y"}', array['2026-03-01 00:00+00', null]::timestamptz[],
        array[row('2026-03-01 00:00+00', 'a,b', 2)]::place[], array['\x01', '\x']::bytea[], '12.34');
    insert into typed (id, d, ts, tz, f8, f4, at, iv, times)
        values (2, 'infinity', '-infinity', 'infinity', 'nan', '-infinity', 'empty', '-3 days 01:00', '{}');
    insert into typed (id, d, tz) values (3, '5874897-12-31', '294276-12-31 23:59:59.999999+00');
    insert into typed (id, place, span) values (4, row(null, null, null), '(,)');"#;

#[test]
fn a_fingerprint_is_that_of_the_rows_alone() {
    let database = Database::new("fingerprint");
    let mut client = database.connect();
    run(&mut client, "set timezone = 'UTC'; set lc_monetary = 'C'");
    run(&mut client, TYPED);
    // The same in every version of PostgreSQL.
    let fingerprint = "select * from sequin.fingerprint('typed', bucket_count => 2)";
    let expected = ["0|1|894838243789042359", "1|3|1549796487088918941"];
    assert_eq!(rows(&mut client, fingerprint), expected);

    // Whatever the settings, and in another order.
    let query = value(
        &mut client,
        "select sequin.fingerprint_query('typed', bucket_count => 2)",
    );
    for settings in [
        "set timezone = 'America/New_York'; set datestyle = 'German, DMY'; set intervalstyle = 'iso_8601';
         set bytea_output = 'escape'; set extra_float_digits = -15; set xmloption = document;
         set standard_conforming_strings = off",
        "set timezone = 'Asia/Kolkata'; set datestyle = 'SQL, MDY'; set intervalstyle = 'sql_standard';
         set extra_float_digits = 3; create table copy as select * from typed; truncate typed;
         insert into typed select * from copy order by id desc",
    ] {
        run(&mut client, settings);
        assert_eq!(rows(&mut client, &query), expected, "{settings}");
        assert_eq!(rows(&mut client, fingerprint), expected, "{settings}");
    }

    // Every column counts, in the bucket of its row alone.
    let columns = rows(
        &mut client,
        "select attname from pg_attribute where attrelid = 'typed'::regclass and attnum > 1 order by attnum",
    );
    for column in &columns {
        let without = format!(
            "select array_agg(hash) from sequin.fingerprint('typed', array(
                 select unnest('{{{}}}'::text[]) except select '{column}'), 2)",
            columns.join(",")
        );
        let before = value(&mut client, &without);
        run(
            &mut client,
            &format!("begin; update typed set {column} = null where id = 1"),
        );
        let differs = rows(&mut client, fingerprint)
            .iter()
            .zip(expected)
            .filter(|(now, before)| *now != before)
            .count();
        assert_eq!(differs, 1, "{column}");
        assert_eq!(value(&mut client, &without), before, "{column}");
        run(&mut client, "rollback");
    }
}

#[test]
fn a_destination_is_compared_with_its_source_by_fingerprints() {
    let mut database = Database::new("fingerprint_compare");
    let nobody = database.role("nobody");
    let mut client = database.connect();
    run(
        &mut client,
        r#"create schema shop;
           create table shop."Item" (name text, id integer primary key, at timestamptz, price numeric(10,2));
           create table item (id integer primary key, name text, at timestamptz, price numeric(10,2),
                              total numeric generated always as (price * 2) stored);
           select sequin.map('shop.Item', 'item', guard => 'columns', name => 'item');
           insert into shop."Item" select 'n' || n, n, now() + n * interval '1 s', n / 7.0 from generate_series(1, 500) n"#,
    );
    let records = rows(
        &mut client,
        r#"select to_jsonb(i) from shop."Item" i order by name"#,
    );
    let messages: Vec<_> = (1..)
        .zip(&records)
        .map(|(lsn, record)| {
            message("insert", "Item", lsn, record)
                .replace(r#""table_schema":"public""#, r#""table_schema":"shop""#)
        })
        .collect();
    assert_eq!(apply(&mut client, &batch(&messages)).upserted, 500);
    let query = value(
        &mut client,
        r#"select sequin.fingerprint_query('item', bucket_count => 10, source => 'shop."Item"')"#,
    );
    let here = "select * from sequin.fingerprint('item', bucket_count => 10)";
    let there = rows(&mut client, &query);
    assert_eq!(there.len(), 10);
    assert_eq!(rows(&mut client, here), there);

    // One value, one row less.
    let differing = |client: &mut Client, change: &str| {
        run(client, "begin");
        run(client, change);
        let now = rows(client, here);
        run(client, "rollback");
        now.iter()
            .zip(&there)
            .filter(|(now, there)| now != there)
            .count()
    };
    assert_eq!(
        differing(
            &mut client,
            "update item set price = price + 0.01 where id = 77"
        ),
        1
    );
    assert_eq!(differing(&mut client, "delete from item where id = 77"), 1);
    assert_eq!(differing(&mut client, "update item set sequin_lsn = 0"), 0);

    for (sql, code) in [
        ("select sequin.fingerprint('item', '{nmae}')", "42703"),
        ("select sequin.fingerprint('item', '{}')", "22023"),
        (
            "select sequin.fingerprint('item', bucket_count => 0)",
            "22023",
        ),
        ("select sequin.fingerprint(null)", "22004"),
        ("select sequin.fingerprint(1::oid)", "42P01"),
    ] {
        assert_eq!(error(&mut client, sql).code().code(), code, "{sql}");
    }
    let unknown = error(&mut client, "select sequin.fingerprint('item', '{nmae}')");
    assert_eq!(unknown.hint(), Some("Did you mean \"name\"?"));
    let mut nobody = database.connect_as(&nobody);
    assert_eq!(error(&mut nobody, here).code().code(), "42501");

    // Without a primary key, and with many columns.
    let columns: Vec<_> = (0..250)
        .map(|n| format!("c{n} integer default {n}"))
        .collect();
    run(
        &mut client,
        &format!(
            "create table wide ({}); insert into wide default values",
            columns.join(", ")
        ),
    );
    let wide = "select count(*), sum(rows) from sequin.fingerprint('wide')";
    assert_eq!(value(&mut client, wide), "1|1");
}

#[test]
fn a_destination_that_changes_is_followed_or_the_error_says_what_to_do() {
    let database = Database::new("destination_changes");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        r#"create schema a; create table a.item (id integer primary key, name text, n integer);
           select sequin.map('public.item', 'a.item', guard => 'table', name => 'item');
           select sequin.map('public.item', 'a.item', guard => 'off', name => 'named',
                             columns => '{"id": "record.id", "n": "record.n"}')"#,
    );
    let mut lsn = 0;
    let mut next = || {
        lsn += 1;
        message(
            "update",
            "item",
            lsn,
            &format!(r#"{{"id":1,"name":"{lsn}","n":{lsn},"word":"{lsn}"}}"#),
        )
    };
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    // What is another way to say the same is followed.
    for (change, row) in [
        ("alter table a.item rename to thing", "1|2|2"),
        (
            "alter schema a rename to b; create schema a; alter table b.thing set schema a",
            "1|3|3",
        ),
        (
            "alter schema a rename to c; alter schema c rename to a",
            "1|4|4",
        ),
        ("alter table a.thing add column word text", "1|5|5|5"),
        ("alter table a.thing rename column name to title", "1|5|6|6"),
        (
            "alter table a.thing add column extra integer not null default 7",
            "1|5|7|7|7",
        ),
        (
            "alter table a.thing drop column title, alter column n type numeric(5,1)",
            "1|8.0|8|7",
        ),
        (
            "alter table a.thing drop constraint item_pkey, add primary key (id) include (word)",
            "1|9.0|9|7",
        ),
        (
            "create unique index on a.thing (n); analyze a.thing; reindex table a.thing",
            "1|10.0|10|7",
        ),
    ] {
        run(&mut admin, change);
        assert_eq!(apply(&mut forwarder, &next()).upserted, 2, "{change}");
        assert_eq!(value(&mut admin, "select * from a.thing"), row, "{change}");
    }
    // What is not is refused, and nothing is lost.
    let refused = |forwarder: &mut Client, message: &str, code: &str, hint: &str| {
        let told = apply_error(forwarder, message);
        assert_eq!(told.code().code(), code, "{told:?}");
        assert!(told.hint().unwrap_or_default().contains(hint), "{told:?}");
    };
    run(&mut admin, "alter table a.thing drop constraint thing_pkey");
    refused(&mut forwarder, &next(), "42P10", "primary key");
    run(&mut admin, "alter table a.thing add primary key (id)");
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    // What the record says of a column that a mapping names is not to get lost.
    run(&mut admin, "alter table a.thing rename column n to m");
    refused(&mut forwarder, &next(), "42703", "columns => …");
    run(
        &mut admin,
        "update sequin.mapping set columns = '{\"id\": \"record.id\", \"m\": \"record.n\"}' where name = 'named'",
    );
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    run(&mut admin, "alter table a.thing drop column m");
    refused(&mut forwarder, &next(), "42703", "columns => …");
    run(
        &mut admin,
        "update sequin.mapping set columns = null where name = 'named'",
    );
    assert_eq!(apply(&mut forwarder, &next()).upserted, 2);
    run(
        &mut admin,
        "alter table a.thing add column needed integer not null default 1",
    );
    run(
        &mut admin,
        "alter table a.thing alter column needed drop default",
    );
    let new = message("insert", "item", 1000, r#"{"id":2}"#);
    assert_eq!(apply(&mut forwarder, &new).dead, 2);
    let letter = "select distinct sqlstate, error from sequin.dead_letter";
    assert_eq!(
        value(&mut admin, letter),
        "23502|null value in column \"needed\" of relation \"thing\" violates not-null constraint"
    );
    run(
        &mut admin,
        "drop table a.thing; create table a.thing (id integer primary key)",
    );
    refused(&mut forwarder, &next(), "42P01", "sequin.unmap('item')");
    assert_eq!(
        rows(
            &mut admin,
            "select name, state from sequin.status order by name"
        ),
        ["item|blocked", "named|blocked"]
    );
    run(
        &mut admin,
        "select sequin.map('public.item', 'a.thing', guard => 'table', name => 'item')",
    );
    run(&mut admin, "select sequin.unmap('named')");
    assert_eq!(apply(&mut forwarder, &next()).upserted, 1);
    assert_eq!(value(&mut admin, "select * from a.thing"), "1");
}

#[test]
fn a_destination_changes_while_two_sessions_apply() {
    let database = Database::new("destination_traffic");
    let mut admin = database.connect();
    run(
        &mut admin,
        "create schema a; create table a.item (id integer primary key, name text);
         select sequin.map('public.item', 'a.item', guard => 'table', name => 'item')",
    );
    let (stop, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    let wait = |more: u64| {
        let until = calls.load(Ordering::SeqCst) + more;
        while calls.load(Ordering::SeqCst) < until {
            std::thread::yield_now();
        }
    };
    let last = std::thread::scope(|scope| {
        let sessions: Vec<_> = (0..2)
            .map(|n| {
                let (database, stop, calls) = (&database, &stop, &calls);
                scope.spawn(move || {
                    let mut client = database.connect();
                    let mut lsn = n;
                    while !stop.load(Ordering::SeqCst) {
                        lsn += 2;
                        let messages: Vec<_> = (0..20)
                            .map(|id| {
                                let record =
                                    format!(r#"{{"id":{id},"name":"{lsn}","extra":{lsn}}}"#);
                                message("update", "item", lsn, &record)
                            })
                            .collect();
                        let counts = apply(&mut client, &batch(&messages));
                        assert_eq!(counts.upserted + counts.stale, 20, "{counts:?}");
                        calls.fetch_add(1, Ordering::SeqCst);
                    }
                    lsn
                })
            })
            .collect();
        for _ in 0..3 {
            for change in [
                "alter table a.item add column extra integer",
                "alter table a.item rename to thing",
                "alter table a.thing alter column extra type bigint",
                "alter schema a rename to b",
                "alter table b.thing alter column extra set not null",
                "alter table b.thing rename to item",
                "update sequin.mapping set on_error = 'raise'",
                "alter table b.item drop column extra",
                "update sequin.mapping set on_error = 'dead_letter'",
                "alter schema b rename to a",
                "vacuum a.item",
            ] {
                if change.contains("not null") {
                    run(&mut admin, "delete from b.thing where extra is null");
                }
                run(&mut admin, change);
                wait(4);
            }
        }
        stop.store(true, Ordering::SeqCst);
        sessions
            .into_iter()
            .map(|s| s.join().expect("no failure"))
            .max()
    });
    let expected = format!("20|{0}|{0}", last.expect("two"));
    assert_eq!(
        value(
            &mut admin,
            "select count(*), min(name::int), max(name::int) from a.item"
        ),
        expected
    );
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );
}
