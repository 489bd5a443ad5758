//! A resync does not empty a table by mistake, and ends in portions beside the stream.

use std::thread;

use support::{Database, Message, error, rows, run, send, stale, upserted, value};

use super::{GUARDS, ITEM, item, map, mapped, record};

const FINISH: &str = "select sequin.finish_resync('item')";
const BEGIN: &str = "select sequin.begin_resync('item')";
const CANCEL: &str = "select sequin.cancel_resync('item')";
const COUNT: &str = "select count(*) from item";

fn inserts(count: i64) -> Vec<Message> {
    (1..=count)
        .map(|id| item("insert", 10, record(id, "a")).idx(id as u64))
        .collect()
}

fn read(id: i64) -> Message {
    item("read", 1_000, record(id, "a"))
}

fn refused(client: &mut postgres::Client, sql: &str, detail: &str, hint: &str) {
    let error = error(client, sql);
    assert_eq!(error.code().code(), "55000", "{error:?}");
    let (told, advice) = (error.detail().unwrap_or_default(), error.hint());
    assert!(told.contains(detail), "{told}");
    assert!(advice.is_some_and(|told| told.contains(hint)), "{advice:?}");
}

#[test]
fn a_resync_that_confirmed_nothing_is_not_finished() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("nothing_confirmed", ITEM, guard);
        send(&mut client, &inserts(1_000));
        run(&mut client, BEGIN);
        let told = "sequin.finish_resync('item', min_confirmed => 0)";
        let in_portions = "call sequin.finish_resync_in_portions('item')";
        for finish in [FINISH, in_portions] {
            refused(&mut client, finish, "No read has arrived since", told);
        }
        // Changes confirm rows. They do not show that a backfill was made.
        let changes: Vec<_> = (1..=999)
            .map(|id| item("update", 20, record(id, "b")).idx(id as u64))
            .collect();
        send(&mut client, &changes);
        for finish in [FINISH, in_portions] {
            refused(&mut client, finish, "999 of 1000 rows were confirmed", told);
        }
        run(&mut client, CANCEL);
        run(&mut client, BEGIN);
        send(&mut client, &(1..=499).map(read).collect::<Vec<_>>());
        let detail = "Only 499 of 1000 rows were confirmed since";
        for finish in [FINISH, in_portions] {
            refused(&mut client, finish, detail, "sequin.cancel_resync('item')");
        }
        assert_eq!(
            value(&mut client, "select sequin.finish_resync('item', true)"),
            "501"
        );
        assert_eq!(value(&mut client, COUNT), "1000", "{guard}");
        let share = "select sequin.finish_resync('item', min_confirmed => 0.499)";
        assert_eq!(value(&mut client, share), "501", "{guard}");
        assert_eq!(value(&mut client, COUNT), "499", "{guard}");
        // Nothing is lost where nothing is unconfirmed. And whoever says so empties the table.
        run(&mut client, BEGIN);
        let zero = "select sequin.finish_resync('item', false, 0)";
        assert_eq!(value(&mut client, zero), "499", "{guard}");
        run(&mut client, BEGIN);
        assert_eq!(value(&mut client, FINISH), "0", "{guard}");
    }
}

#[test]
fn a_share_is_between_0_and_1() {
    let (_database, mut client) = mapped("share", ITEM, "table");
    run(&mut client, BEGIN);
    for (share, code) in [
        ("-0.1", "22023"),
        ("1.1", "22023"),
        ("'NaN'", "22023"),
        ("null", "22004"),
    ] {
        for call in [
            format!("select sequin.finish_resync('item', false, {share})"),
            format!("call sequin.finish_resync_in_portions('item', {share})"),
        ] {
            assert_eq!(error(&mut client, &call).code().code(), code, "{call}");
        }
    }
    for portion in ["0", "null"] {
        let call = format!("call sequin.finish_resync_in_portions('item', portion => {portion})");
        assert_eq!(error(&mut client, &call).code().code(), "22023", "{call}");
    }
}

#[test]
fn one_resync_at_a_time() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("one_resync", ITEM, guard);
        send(&mut client, &inserts(4));
        run(&mut client, BEGIN);
        send(&mut client, &[read(1), read(2)]);
        let since = value(&mut client, "select started_at from sequin.resync");
        let told = "messages have confirmed 2 rows since";
        for what in ["finish", "cancel"] {
            let hint = format!("SELECT sequin.{what}_resync('item')");
            refused(&mut client, BEGIN, told, &hint);
        }
        let now = "select started_at from sequin.resync";
        assert_eq!(value(&mut client, now), since, "{guard}");
        run(&mut client, CANCEL);
        for sql in [
            CANCEL,
            FINISH,
            "call sequin.finish_resync_in_portions('item')",
        ] {
            refused(&mut client, sql, "", "SELECT sequin.begin_resync('item')");
        }
        let left = "select count(*) from sequin.resync_seen";
        assert_eq!(value(&mut client, left), "0", "{guard}");
        // What the cancelled one had confirmed does not count.
        run(&mut client, BEGIN);
        send(&mut client, &[read(1), read(3), read(4)]);
        assert_eq!(value(&mut client, FINISH), "1", "{guard}");
        assert_eq!(
            rows(&mut client, "select id from item order by id"),
            ["1", "3", "4"]
        );
    }
}

#[test]
fn rows_that_are_appended_are_not_resynced() {
    let database = Database::new("convergence_append_resync");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (n bigint generated always as identity primary key, id integer, name text)",
    );
    map(
        &mut client,
        "item",
        "off",
        r#", mode => 'append', columns => '{"id": "record.id", "name": "record.name"}'"#,
    );
    send(&mut client, &inserts(3));
    let told = error(&mut client, BEGIN);
    assert_eq!(told.code().code(), "0A000");
    assert!(told.hint().is_some());
    assert_eq!(value(&mut client, COUNT), "3");
}

#[test]
fn a_transaction_that_sees_the_past_does_not_finish_a_resync() {
    let (_database, mut client) = mapped("resync_snapshot", ITEM, "table");
    send(&mut client, &inserts(3));
    for (before, call) in [
        ("", BEGIN),
        (BEGIN, FINISH),
        ("", "select sequin.finish_resync('item', true)"),
    ] {
        run(&mut client, before);
        let sql = format!("begin isolation level repeatable read; {call}");
        assert_eq!(error(&mut client, &sql).code().code(), "25001", "{call}");
        run(&mut client, "rollback");
    }
}

/// Each portion is a transaction. What is confirmed meanwhile stays, and so does what came in between.
#[test]
fn a_resync_is_finished_in_portions() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_portions_{guard}"));
        let mut client = database.connect();
        // some rows to a block
        run(
            &mut client,
            "create table item (id integer primary key, name text, body text default repeat('x', 500))",
        );
        map(
            &mut client,
            "item",
            guard,
            r#", columns => '{"id": "record.id", "name": "record.name"}'"#,
        );
        send(&mut client, &inserts(2_000));
        run(&mut client, BEGIN);
        let reads: Vec<_> = (1..=2_000).filter(|id| id % 4 > 0).map(read).collect();
        send(&mut client, &reads);
        run(
            &mut client,
            "create table deleted (id integer, at text default pg_current_xact_id()::text);
             create function note() returns trigger language plpgsql as
                 $$ begin insert into public.deleted (id) values (old.id); return old; end $$;
             create trigger note before delete on item for each row execute function note()",
        );
        run(
            &mut client,
            "call sequin.finish_resync_in_portions('item', portion => 7)",
        );
        assert_eq!(value(&mut client, COUNT), "1500", "{guard}");
        let portions =
            "select sum(n), max(n) from (select count(*) as n from deleted group by at) d";
        assert_eq!(value(&mut client, portions), "500|7", "{guard}");
        for table in ["resync", "resync_seen", "run"] {
            let left = format!("select count(*) from sequin.{table}");
            assert_eq!(value(&mut client, &left), "0", "{guard} {table}");
        }
        // A tombstone is left.
        assert_eq!(send(&mut client, &inserts(4)), stale(4), "{guard}");
        let state = "select state from sequin.status";
        assert_eq!(value(&mut client, state), "running", "{guard}");
    }
}

#[test]
fn partitions_are_looked_at_together() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_parts_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table item (id integer primary key, name text, gone timestamptz) partition by hash (id);
             create table item_0 partition of item for values with (modulus 3, remainder 0);
             create table item_1 partition of item for values with (modulus 3, remainder 1) partition by hash (id);
             create table item_1_0 partition of item_1 for values with (modulus 2, remainder 0);
             create table item_1_1 partition of item_1 for values with (modulus 2, remainder 1);
             create table item_2 partition of item for values with (modulus 3, remainder 2)",
        );
        let soft = r#", on_delete => 'soft', soft_delete => 'gone', columns => '{"id": "record.id", "name": "record.name"}'"#;
        let more = if guard == "table" { soft } else { "" };
        map(&mut client, "item", guard, more);
        send(&mut client, &inserts(1_000));
        run(&mut client, BEGIN);
        let reads: Vec<_> = (1..=1_000).filter(|id| id % 5 > 0).map(read).collect();
        send(&mut client, &reads);
        run(
            &mut client,
            "call sequin.finish_resync_in_portions('item', portion => 13)",
        );
        assert_eq!(
            value(
                &mut client,
                "select count(*), count(*) filter (where id % 5 = 0) from item where gone is null"
            ),
            "800|0",
            "{guard}"
        );
    }
}

/// A row that another session has locked does not stop the stream, the run can be cancelled, and begins again.
#[test]
fn a_locked_row_stops_nobody_else() {
    let (database, mut client) = mapped("locked_row", ITEM, "table");
    send(&mut client, &inserts(100));
    run(&mut client, BEGIN);
    send(&mut client, &(1..=90).map(read).collect::<Vec<_>>());
    let mut holder = database.connect();
    run(
        &mut holder,
        "begin; select from item where id = 95 for update",
    );
    let mut other = database.connect();
    let pid = value(&mut other, "select pg_backend_pid()");
    let finishing = thread::spawn(move || {
        let call = "call sequin.finish_resync_in_portions('item', portion => 1)";
        let error = error(&mut other, call);
        (error.code().code().to_owned(), other)
    });
    let progress = format!(
        "select deleted, (select r.waits > 1 from sequin.run r where r.pid = p.pid)
         from sequin.progress p where pid = {pid} and work = 'finish_resync_in_portions'"
    );
    run(&mut client, "set statement_timeout = '3s'");
    let mut at = 2_000;
    while rows(&mut client, &progress) != ["4|t"] {
        at += 1;
        let change = item("update", at, record(1, &format!("at {at}")));
        assert_eq!(send(&mut client, &[change]), upserted(1));
    }
    run(&mut client, &format!("select pg_cancel_backend({pid})"));
    let (code, mut other) = finishing.join().expect("an error");
    assert_eq!(code, "57014");
    assert_eq!(value(&mut client, COUNT), "96");
    assert!(rows(&mut client, &progress).is_empty());
    // It goes on: what is confirmed now stays.
    send(&mut client, &[read(99)]);
    run(&mut holder, "rollback");
    run(&mut other, "call sequin.finish_resync_in_portions('item')");
    assert_eq!(
        rows(&mut client, "select id from item where id > 90 order by id"),
        ["99"]
    );
}

#[test]
fn a_resync_that_begins_again_is_another_one() {
    let (database, mut client) = mapped("began_again", ITEM, "table");
    send(&mut client, &inserts(100));
    run(&mut client, BEGIN);
    send(&mut client, &(1..=90).map(read).collect::<Vec<_>>());
    let mut holder = database.connect();
    run(
        &mut holder,
        "begin; select from item where id = 95 for update",
    );
    let mut other = database.connect();
    let finishing = thread::spawn(move || {
        let call = "call sequin.finish_resync_in_portions('item', portion => 1)";
        error(&mut other, call)
    });
    let waits = "select waits > 0 from sequin.run";
    while rows(&mut client, waits) != ["t"] {
        thread::yield_now();
    }
    run(&mut client, &format!("{CANCEL}; {BEGIN}"));
    let error = finishing.join().expect("an error");
    assert_eq!(error.code().code(), "55000");
    let hint = "CALL sequin.finish_resync_in_portions('item')";
    assert!(error.hint().is_some_and(|told| told.contains(hint)));
    assert_eq!(value(&mut client, COUNT), "96");
}

#[test]
fn portions_where_nothing_can_commit() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("resync_atomic", ITEM, guard);
        send(&mut client, &inserts(10));
        run(&mut client, BEGIN);
        send(&mut client, &(1..=6).map(read).collect::<Vec<_>>());
        run(
            &mut client,
            "begin; call sequin.finish_resync_in_portions('item', portion => 2); rollback",
        );
        assert_eq!(value(&mut client, COUNT), "10", "{guard}");
        run(
            &mut client,
            "begin; call sequin.finish_resync_in_portions('item', portion => 2); commit",
        );
        assert_eq!(value(&mut client, COUNT), "6", "{guard}");
    }
}

#[test]
fn portions_are_for_who_may_call_the_procedure() {
    let mut database = Database::new("convergence_resync_roles");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "grant create on schema public to {alice};
             grant execute on function sequin.map, sequin.begin_resync to {alice};
             grant execute on procedure sequin.finish_resync_in_portions to {bob};
             select sequin.grant_source('*.*', '{alice}')"
        ),
    );
    let mut of_alice = database.connect_as(&alice);
    run(&mut of_alice, ITEM);
    map(&mut of_alice, "item", "table", "");
    send(&mut client, &inserts(10));
    run(&mut of_alice, BEGIN);
    send(&mut client, &(1..=6).map(read).collect::<Vec<_>>());
    for sql in [
        "call sequin.finish_resync_in_portions('item')",
        "select * from sequin_internal.resync_portion('item', 0, null)",
        "select * from sequin_internal.resync_portion('item', 0, 10)",
    ] {
        let denied = error(&mut of_alice, sql);
        assert_eq!(denied.code().code(), "42501", "{sql}");
    }
    let call = "call sequin.finish_resync_in_portions('item')";
    let denied = error(&mut database.connect_as(&bob), call);
    assert_eq!(denied.code().code(), "42704");
    run(
        &mut client,
        &format!("grant execute on procedure sequin.finish_resync_in_portions to {alice}"),
    );
    run(&mut of_alice, call);
    assert_eq!(value(&mut client, COUNT), "6");
}
