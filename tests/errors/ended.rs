//! Calls and sessions that somebody ends.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use support::{Database, GUARDS, Message, Random, apply, batch, message, run, try_apply, value};

/// Parents, children and a unique column, with messages that fail: a call that takes long.
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
        // to another key; last, for guard `off`, which goes by arrival
        messages.push(
            Message::new("update", "parent", 2000, r#"{"id":2000,"name":"moved"}"#)
                .changes(r#"{"id":399}"#)
                .to_string(),
        );
        Long {
            database,
            batch: batch(&messages),
            received: messages.len() as i64,
        }
    }

    /// Everything that a call can write.
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

    /// The batch applies as if no call had been ended.
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
                // a call that succeeds is undone, so that the next one finds the same rows
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
                // a cancel request may arrive late: it must not end the next call
                client = long.database.connect();
            } else if end == End::Terminate {
                let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
                while value(&mut other, &gone) != "0" {}
                client = long.database.connect();
            } else {
                // a late cancel ends this statement
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
