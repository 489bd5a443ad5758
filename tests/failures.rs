//! Whose fault a failure is: every SQLSTATE that the destination can raise, time limits, cancels at any moment, ended
//! sessions, deadlocks with sessions of others. Either a message is a dead letter and the rest is written, or the call
//! fails and nothing is.

mod support;

use std::env;
use std::fs;
use std::process::Command;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use support::{
    Counts, Database, Random, apply, apply_error, batch, has_extensions, message, message_with,
    rows, run, try_apply, value,
};

const GUARDS: [&str; 3] = ["off", "columns", "table"];

/// Classes that say nothing of the message.
const TRANSIENT: [&str; 11] = [
    "08", "25", "40", "53", "55", "57", "58", "72", "F0", "HV", "XX",
];

/// One of each class at least, of some classes all; codes of nobody; those that look like the extension's own.
const STATES: &str = "01000 01004 02000 02001 03000 08000 08003 08006 08P01 09000 0A000 0B000 0F000 0L000 0LP01 0P000
    0Z000 20000 21000 22000 22001 22003 22012 22P02 22P05 23000 23001 23502 23503 23505 23514 23P01 24000 25000 25001
    25006 25P02 25P03 26000 27000 28000 28P01 2B000 2BP01 2D000 2F000 2F003 34000 38000 38001 39000 39004 3B000 3B001
    3D000 3F000 40000 40001 40002 40003 40P01 42000 42501 42601 42703 42804 42883 42P01 42P10 44000 53000 53100 53200
    53300 53400 54000 54001 54011 55000 55006 55P02 55P03 55P04 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030
    58P01 72000 F0000 F0001 HV000 HV004 HV00N P0000 P0001 P0002 P0003 P0004 XX000 XX001 XX002 ZZ001 AB123 99999 0000A
    40SQA 40SQE 40SQR 40SQZ 40ALN 40LOD 40CHG";

/// A row whose name is a SQLSTATE raises it; `sleep` sleeps.
const RAISING: &str = "
    create table item (id integer primary key, name text);
    create function act() returns trigger language plpgsql as $$
    begin
        if new.name ~ '^[0-9A-Z]{5}$' then raise exception 'as asked' using errcode = new.name; end if;
        if new.name = 'sleep' then perform pg_sleep(60); end if;
        return new;
    end $$;
    create trigger act before insert or update on item for each row execute function act()";

/// Those above and all that the server knows, if it says.
fn states() -> Vec<String> {
    let mut states: Vec<String> = STATES.split_whitespace().map(str::to_owned).collect();
    let pg_config = env::var("PG_CONFIG").expect("no PG_CONFIG: use make test");
    let output = Command::new(pg_config).arg("--sharedir").output();
    let output = String::from_utf8(output.expect("pg_config").stdout).expect("UTF-8");
    let file = fs::read_to_string(format!("{}/errcodes.txt", output.trim())).unwrap_or_default();
    for line in file.lines() {
        let mut words = line.split_whitespace();
        if let (Some(state), Some("E")) = (words.next(), words.next()) {
            states.push(state.to_owned());
        }
    }
    states.sort();
    states.dedup();
    states
}

fn insert(table: &str, id: usize, name: &str) -> String {
    let record = format!(r#"{{"id":{id},"name":"{name}"}}"#);
    message("insert", table, id as u64 + 1, &record)
}

#[test]
fn every_sqlstate_has_its_outcome() {
    let states = states();
    for guard in GUARDS {
        let database = Database::new(&format!("sqlstates_{guard}"));
        let mut client = database.connect();
        run(&mut client, RAISING);
        // for a code that is taken for another and tried for ever
        run(&mut client, "set statement_timeout = '20s'");
        run(
            &mut client,
            "create table other (id integer primary key, name text)",
        );
        for table in ["item", "other"] {
            let map = format!("select sequin.map('public.{table}', '{table}', guard => '{guard}')");
            run(&mut client, &map);
        }
        let mut written = 0;
        for (n, state) in states.iter().enumerate() {
            let id = 3 * n;
            let batch = batch(&[
                insert("item", id, "good"),
                insert("item", id + 1, state),
                insert("other", id, "good"),
                insert("item", id + 2, "good too"),
            ]);
            let result = try_apply(&mut client, &batch);
            let letters = rows(
                &mut client,
                "delete from sequin.dead_letter returning position, sqlstate, error, state, key",
            );
            if TRANSIENT.contains(&&state[..2]) {
                let error = result.expect_err(state);
                let error = error.as_db_error().expect("an error of the server");
                assert_eq!(error.code().code(), state);
                assert_eq!(error.message(), "as asked", "{state}");
                assert_eq!(letters, [""; 0], "{state}");
            } else {
                let counts = result.unwrap_or_else(|error| panic!("{state}: {error}"));
                let wanted = Counts {
                    received: 4,
                    upserted: 3,
                    dead: 1,
                    ..Counts::default()
                };
                assert_eq!(counts, wanted, "{state}");
                let waits = matches!(state.as_str(), "23503" | "23505");
                let waits = if waits { "waiting" } else { "dead" };
                let letter = format!(r#"1|{state}|as asked|{waits}|["{}"]"#, id + 1);
                assert_eq!(letters, [letter]);
                written += 1;
            }
            let sql = "select (select count(*) from item), (select count(*) from other)";
            assert_eq!(
                value(&mut client, sql),
                format!("{}|{written}", 2 * written),
                "{state}"
            );
        }
        assert!(written > 50 && written + 50 < states.len());
    }
}

/// Parents, children and a unique column, with messages that fail: what a call does at its longest.
struct Long {
    database: Database,
    batch: String,
    received: i64,
}

const ROWS: usize = 400;

impl Long {
    fn new(test: &str, guard: &str) -> Long {
        let database = Database::new(&format!("{test}_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "create table parent (id integer primary key, name text unique check (name <> 'poison'));
             create table child (id integer primary key, parent_id integer references parent, name text);
             insert into parent select n, 'old ' || n from generate_series(1, 100) n",
        );
        for table in ["parent", "child"] {
            let map = format!("select sequin.map('public.{table}', '{table}', guard => '{guard}')");
            run(&mut client, &map);
        }
        let mut messages = Vec::new();
        for id in 1..=ROWS {
            let name = match id % 100 {
                0 => "poison".to_owned(),
                _ => format!("name {id}"),
            };
            let parent = format!(r#"{{"id":{id},"name":"{name}"}}"#);
            messages.push(message("update", "parent", id as u64, &parent));
            let child = format!(r#"{{"id":{id},"parent_id":{id},"name":"child"}}"#);
            messages.push(message("insert", "child", id as u64, &child));
        }
        for id in 1001..1051 {
            messages.push(message("delete", "child", id, &format!(r#"{{"id":{id}}}"#)));
        }
        Random::new(7).shuffle(&mut messages);
        // to another key, last for those who go by arrival
        messages.push(message_with(
            "update",
            "parent",
            2000,
            r#"{"id":2000,"name":"moved"}"#,
            r#"{"id":399}"#,
        ));
        Long {
            database,
            batch: batch(&messages),
            received: messages.len() as i64,
        }
    }

    /// All that a call can leave.
    fn state(client: &mut Client) -> Vec<String> {
        [
            "select count(*), md5(string_agg(t::text, ',' order by id)) from parent t",
            "select count(*), md5(string_agg(t::text, ',' order by id)) from child t",
            "select count(*) from sequin.dead_letter",
            "select count(*), md5(string_agg(t::text, ',' order by mapping, key)) from sequin.row_version t",
            "select count(*) from sequin.tombstone",
        ]
        .map(|sql| value(client, sql))
        .to_vec()
    }

    /// The batch applies as if nothing had been.
    fn finish(&self, client: &mut Client) {
        let counts = apply(client, &self.batch);
        assert_eq!(counts.received, self.received);
        assert_eq!(counts.outcomes(), counts.received, "{counts:?}");
        let names = "select count(*) filter (where name like 'name %'), count(*) filter (where name = 'poison'),
                            count(*) filter (where name = 'moved') from parent";
        assert_eq!(value(client, names), "395|0|1");
        let letters = "select count(*) filter (where sqlstate = '23514'), count(*) filter (where sqlstate = '23503')
                       from sequin.dead_letter";
        let letters = value(client, letters);
        assert!(letters.starts_with("4|"), "{letters}");
        let children = value(client, "select count(*) from child");
        let lost: usize = letters[2..].parse().expect("a number");
        assert!(children.parse::<usize>().expect("a number") + lost >= ROWS);
    }
}

/// How a call is ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// `statement_timeout`.
    Timeout,
    /// `pg_cancel_backend`.
    Cancel,
    /// A cancel request of the client.
    Request,
    /// `pg_terminate_backend`.
    Terminate,
}

const ENDS: [End; 4] = [End::Timeout, End::Cancel, End::Request, End::Terminate];

#[test]
fn a_call_that_is_ended_at_any_moment_leaves_nothing() {
    for guard in GUARDS {
        let long = Long::new("ended", guard);
        let (mut client, mut other) = (long.database.connect(), long.database.connect());
        // how long it takes, at first and when its plans are made
        let mut took = Duration::ZERO;
        for _ in 0..2 {
            run(&mut client, "begin");
            let start = Instant::now();
            apply(&mut client, &long.batch);
            took = start.elapsed();
            run(&mut client, "rollback");
        }
        let before = Long::state(&mut other);
        let mut random = Random::new(11);
        println!("guard {guard}: a call takes {took:?}");
        let (mut ended, mut tries) = (0, 0);
        while ended < 32 {
            tries += 1;
            assert!(tries < 400, "{ended} of {tries} calls ended, in {took:?}");
            let end = ENDS[tries % ENDS.len()];
            let after = Duration::from_micros(random.below(took.as_micros() as u64 * 11 / 10));
            let pid = value(&mut client, "select pg_backend_pid()");
            let cancel = client.cancel_token();
            if end == End::Timeout {
                let millis = after.as_millis().max(1);
                run(&mut client, &format!("set statement_timeout = {millis}"));
            }
            let begun = Barrier::new(2);
            let result = thread::scope(|scope| {
                let killer = scope.spawn(|| {
                    begun.wait();
                    thread::sleep(after);
                    match end {
                        End::Timeout => {}
                        End::Cancel => run(&mut other, &format!("select pg_cancel_backend({pid})")),
                        End::Request => cancel.cancel_query(NoTls).expect("a cancel"),
                        End::Terminate => {
                            run(&mut other, &format!("select pg_terminate_backend({pid})"));
                        }
                    }
                });
                begun.wait();
                // what succeeds is undone, so that the next one meets the same
                let result = client
                    .batch_execute("begin")
                    .and_then(|()| try_apply(&mut client, &long.batch));
                killer.join().expect("it was ended");
                result
            });
            match result {
                Ok(_) => {}
                Err(error) => {
                    ended += 1;
                    let code = error.code().map(|code| code.code().to_owned());
                    match end {
                        End::Terminate => assert!(
                            error.as_db_error().is_none() || code.as_deref() == Some("57P01"),
                            "{guard}, {end:?}: {error:?}"
                        ),
                        _ => assert_eq!(
                            code.as_deref(),
                            Some("57014"),
                            "{guard}, {end:?}: {error:?}"
                        ),
                    }
                }
            }
            if end == End::Request {
                // nobody says when a request has been served: it must not meet the next call
                client = long.database.connect();
            } else if end == End::Terminate {
                let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
                while value(&mut other, &gone) != "0" {}
                client = long.database.connect();
            } else {
                // a cancel that came late ends a statement of no interest
                let _ = client.batch_execute("rollback");
                run(&mut client, "rollback; reset statement_timeout");
            }
            assert_eq!(Long::state(&mut other), before, "{guard}, {end:?}");
            // and a session goes on
            if tries % 8 == 1 {
                run(&mut client, "begin");
                long.finish(&mut client);
                run(&mut client, "rollback");
            }
        }
        long.finish(&mut client);
    }
}

#[test]
fn a_session_that_is_ended_in_its_transaction_leaves_nothing() {
    let long = Long::new("idle", "table");
    let (mut client, mut other) = (long.database.connect(), long.database.connect());
    let before = Long::state(&mut other);
    let pid = value(&mut client, "select pg_backend_pid()");
    run(
        &mut client,
        "begin; set idle_in_transaction_session_timeout = '50ms'",
    );
    apply(&mut client, &long.batch);
    let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
    while value(&mut other, &gone) != "0" {}
    assert!(client.batch_execute("commit").is_err());
    assert_eq!(Long::state(&mut other), before);
    long.finish(&mut other);
}

/// Waits until the backend waits for a lock.
fn wait_for_lock(client: &mut Client, pid: &str) {
    let waits = format!(
        "select count(*) from pg_stat_activity where pid = {pid} and wait_event_type = 'Lock'"
    );
    let start = Instant::now();
    while value(client, &waits) == "0" {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it does not wait"
        );
    }
}

#[test]
fn a_deadlock_with_a_session_of_somebody_else_ends_well() {
    for guard in GUARDS {
        // whoever finds it is its victim
        for (ours, theirs) in [("10ms", "60s"), ("60s", "10ms")] {
            let database = Database::new(&format!("deadlock_{guard}_{ours}"));
            let (mut client, mut user) = (database.connect(), database.connect());
            let mut watcher = database.connect();
            run(
                &mut client,
                &format!(
                    "create table item (id integer primary key, name text);
                     insert into item values (1, 'a'), (2, 'b');
                     select sequin.map('public.item', 'item', guard => '{guard}');
                     set deadlock_timeout = '{ours}'"
                ),
            );
            run(&mut user, &format!("set deadlock_timeout = '{theirs}'"));
            let pids = [&mut client, &mut user].map(|c| value(c, "select pg_backend_pid()"));
            run(
                &mut user,
                "begin; update item set name = 'user' where id = 2",
            );
            let batch = batch(&[insert("item", 1, "sequin"), insert("item", 2, "sequin")]);
            let (counts, victim) = thread::scope(|scope| {
                let call = scope.spawn(|| apply(&mut client, &batch));
                wait_for_lock(&mut watcher, &pids[0]);
                let result = user.batch_execute("update item set name = 'user' where id = 1");
                let _ = user.batch_execute("commit");
                (call.join().expect("the call"), result.is_err())
            });
            assert_eq!(victim, ours == "60s", "guard {guard}");
            let wanted = Counts {
                received: 2,
                upserted: 2,
                ..Counts::default()
            };
            assert_eq!(counts, wanted, "guard {guard}, {ours}");
            let sql = "select id, name from item order by id";
            assert_eq!(rows(&mut watcher, sql), ["1|sequin", "2|sequin"]);
            assert_eq!(
                value(&mut watcher, "select count(*) from sequin.dead_letter"),
                "0"
            );
        }
    }
}

#[test]
fn a_transaction_that_may_not_write_is_told_so() {
    let database = Database::new("read_only");
    let mut client = database.connect();
    run(&mut client, RAISING);
    run(&mut client, "select sequin.map('public.item', 'item')");
    for sql in [
        "begin read only",
        "begin isolation level serializable read only",
        "set default_transaction_read_only = on",
    ] {
        run(&mut client, sql);
        let error = apply_error(&mut client, &insert("item", 1, "a"));
        assert_eq!(error.code().code(), "25006", "{sql}");
        assert_eq!(
            error.message(),
            "cannot apply messages in a read-only transaction"
        );
        assert_eq!(
            error.hint(),
            Some(
                "Run SET default_transaction_read_only = off, or begin the transaction READ WRITE."
            )
        );
        run(&mut client, "rollback");
    }
    run(&mut client, "set default_transaction_read_only = off");
    assert_eq!(apply(&mut client, &insert("item", 1, "a")).upserted, 1);
}

#[test]
fn a_foreign_table_is_appended_to() {
    let database = Database::new("foreign");
    let mut client = database.connect();
    if !has_extensions(&mut client, &["postgres_fdw"]) {
        return;
    }
    let host = env::var("PGHOST").expect("no PGHOST: use make test");
    let port = env::var("PGPORT").expect("no PGPORT: use make test");
    let name = value(&mut client, "select current_database()");
    run(
        &mut client,
        &format!(
            "create table near (id integer primary key, name text not null);
             create extension postgres_fdw;
             create server loopback foreign data wrapper postgres_fdw
                 options (host '{host}', port '{port}', dbname '{name}');
             create user mapping for current_user server loopback;
             create foreign table far (id integer, name text) server loopback options (table_name 'near');
             select sequin.map('public.item', 'far', mode => 'append', name => 'far')"
        ),
    );
    let null = message("insert", "item", 9, r#"{"id":9,"name":null}"#);
    let messages = batch(&[insert("item", 1, "one"), null, insert("item", 2, "two")]);
    let wanted = Counts {
        received: 3,
        upserted: 2,
        dead: 1,
        ..Counts::default()
    };
    assert_eq!(apply(&mut client, &messages), wanted);
    assert_eq!(
        rows(&mut client, "select * from near order by id"),
        ["1|one", "2|two"]
    );
    let letter = "select position, sqlstate from sequin.dead_letter";
    assert_eq!(rows(&mut client, letter), ["1|23502"]);
    // its server is gone: that is nobody's fault, and nothing is written anywhere
    run(&mut client, "alter server loopback options (set port '1')");
    let error = apply_error(&mut client, &insert("item", 3, "three"));
    assert_eq!(error.code().code(), "08001");
    assert_eq!(rows(&mut client, letter), ["1|23502"]);
}
