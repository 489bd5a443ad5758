//! Sessions that write the same rows at the same time.

#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{Database, GUARDS, Random, apply, batch, message, rows, run, upserted, value};

#[test]
fn sessions_that_apply_the_same_rows_do_not_deadlock() {
    let database = Database::new("deadlock");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         create table other (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off');
         select sequin.map('public.other', 'other', guard => 'off')",
    );
    std::thread::scope(|scope| {
        for session in 0..4 {
            let mut client = database.connect();
            scope.spawn(move || {
                for round in 0..15 {
                    let mut random = Random::new(session * 1000 + round);
                    let mut messages: Vec<String> = (0..200)
                        .map(|i| {
                            let table = if i % 2 == 0 { "item" } else { "other" };
                            message(
                                "update",
                                table,
                                round + 1,
                                &format!(r#"{{"id":{i},"name":"{session}"}}"#),
                            )
                        })
                        .collect();
                    random.shuffle(&mut messages);
                    assert_eq!(apply(&mut client, &batch(&messages)).upserted, 200);
                }
            });
        }
    });
    // A batch that is sent again while the first is still being applied, deletes and all.
    let messages: Vec<String> = (0..200)
        .map(|i| {
            let action = if i % 3 == 0 { "delete" } else { "update" };
            message(
                action,
                "item",
                100,
                &format!(r#"{{"id":{},"name":"z"}}"#, (i * 7) % 200),
            )
        })
        .collect();
    let batch = &batch(&messages);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let mut client = database.connect();
            scope.spawn(move || {
                (0..15).for_each(|_| assert_eq!(apply(&mut client, batch).outcomes(), 200))
            });
        }
    });
    assert_eq!(
        value(
            &mut client,
            "select count(*), count(*) filter (where name = 'z') from item"
        ),
        "133|133"
    );
}

#[test]
fn sessions_that_upsert_and_delete_the_same_rows_do_not_deadlock() {
    let database = Database::new("deadlock_mixed");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text, note text);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    std::thread::scope(|scope| {
        for session in 0..3 {
            let mut client = database.connect();
            scope.spawn(move || {
                for round in 0..40 {
                    let mut random = Random::new(session * 1000 + round);
                    // deletes, and updates of two sets of columns
                    let mut messages: Vec<String> = (0..200)
                        .filter(|_| random.below(3) == 0)
                        .collect::<Vec<_>>()
                        .into_iter()
                        .map(|i| {
                            let action = *random.of(&["update", "update", "delete"]);
                            let column = *random.of(&["name", "note"]);
                            message(
                                action,
                                "item",
                                round + 1,
                                &format!(r#"{{"id":{i},"{column}":"{session}"}}"#),
                            )
                        })
                        .collect();
                    random.shuffle(&mut messages);
                    let counts = apply(&mut client, &batch(&messages));
                    assert_eq!((counts.outcomes(), counts.dead), (messages.len() as i64, 0));
                }
            });
        }
    });
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
        // The session that finds the deadlock is its victim: a call looks for one soon.
        for (ours, theirs) in [("1s", "60s"), ("60s", "1s")] {
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
            let insert = |id: u64| {
                let record = format!(r#"{{"id":{id},"name":"sequin"}}"#);
                message("insert", "item", id + 1, &record)
            };
            let batch = batch(&[insert(1), insert(2)]);
            let (counts, victim) = thread::scope(|scope| {
                let call = scope.spawn(|| apply(&mut client, &batch));
                wait_for_lock(&mut watcher, &pids[0]);
                let result = user.batch_execute("update item set name = 'user' where id = 1");
                let _ = user.batch_execute("commit");
                (call.join().expect("the call"), result.is_err())
            });
            assert!(!victim, "guard {guard}");
            let wanted = upserted(2);
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
