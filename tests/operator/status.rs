//! Counters and `sequin.status`.

use postgres::Client;
use support::{Counts, Database, apply, batch, error, message, rows, run, value};

use super::{counted, insert};

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

    // Removing the mapping waits for calls that count, and leaves nothing.
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
        sum += apply(&mut client, &batch(&messages));
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

    status_tells_of_a_resync(&mut admin, &mut forwarder);

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
            "other|broken"
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

fn status_tells_of_a_resync(admin: &mut Client, forwarder: &mut Client) {
    run(admin, "select sequin.begin_resync('item')");
    apply(
        forwarder,
        &batch(&[
            message("read", "item", 4000, r#"{"id":2,"name":"r","body":"b"}"#),
            message("read", "item", 4000, r#"{"id":3,"name":"r","body":"b"}"#),
        ]),
    );
    apply(
        forwarder,
        &message("read", "item", 4001, r#"{"id":3,"name":"r","body":"b"}"#),
    );
    let resync = "select state, resync_started_at is not null, resync_confirmed
                  from sequin.status where name = 'item'";
    assert_eq!(value(admin, resync), "resyncing|t|2");
    let estimate = "select resync_rows_estimate = (select count(*) from item),
                           resync_first_read_at > resync_started_at
                    from sequin.status where name = 'item'";
    run(admin, "analyze item");
    assert_eq!(value(admin, estimate), "t|t");
    run(
        admin,
        "select sequin.cancel_resync('item'); select sequin.begin_resync('item')",
    );
    assert_eq!(value(admin, resync), "resyncing|t|0");
    run(admin, "select sequin.cancel_resync('item')");
    assert_eq!(value(admin, resync), "running|f|null");
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
            grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {alice}, {bob};
            select sequin.grant_source('*.*', '{alice}');
            select sequin.grant_source('*.*', '{bob}');
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
