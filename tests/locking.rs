//! Sessions that write the same rows at the same time.

#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{
    Database, GUARDS, Message, Random, apply, batch, message, rows, run, send, try_apply, upserted,
    value,
};

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

/// What a call does to a row, given the row's number: messages that prepare it, and the call's own.
type Work = fn(u64) -> (Vec<Message>, Vec<Message>);

const WORKS: &[(&str, Work)] = &[
    ("an insert", |n| {
        (vec![], vec![change("insert", n, 2, full(n, "b"))])
    }),
    ("an update", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change("update", n, 2, full(n, "b"))],
        )
    }),
    ("an update of another shape, and an insert", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![
                change("update", n, 2, format!(r#"{{"id":{n},"name":"b"}}"#)),
                change("insert", n + 10, 2, full(n + 10, "b")),
            ],
        )
    }),
    ("a delete", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change("delete", n, 2, key(n))],
        )
    }),
    ("a delete of a row that is not there", |n| {
        (vec![], vec![change("delete", n, 2, key(n))])
    }),
    ("a delete and an insert", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![
                change("delete", n, 2, key(n)),
                change("insert", n + 10, 2, full(n + 10, "b")),
            ],
        )
    }),
    ("a value that did not change", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change(
                "update",
                n,
                2,
                full(n, "b").replace("body b", "unchanged_toast"),
            )],
        )
    }),
    ("a value that fills a gap", |n| {
        (
            vec![change(
                "update",
                n,
                2,
                full(n, "b").replace("body b", "unchanged_toast"),
            )],
            vec![change("insert", n, 1, full(n, "a"))],
        )
    }),
    ("a change of a row with a gap", |n| {
        (
            vec![change(
                "update",
                n,
                2,
                full(n, "b").replace("body b", "unchanged_toast"),
            )],
            vec![change("update", n, 3, full(n, "c"))],
        )
    }),
    ("a read", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change("read", n, 90, full(n, "b"))],
        )
    }),
    ("a read without a column", |n| {
        let record = format!(r#"{{"id":{n},"name":"b"}}"#);
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change("read", n, 90, record)],
        )
    }),
    ("a key change", |n| {
        let moved = change("update", n, 2, full(n + 10, "b")).changes(format!(r#"{{"id":{n}}}"#));
        (vec![change("insert", n, 1, full(n, "a"))], vec![moved])
    }),
    ("two sources", |n| {
        let other = change("update", n, 2, full(n, "b")).of("another");
        (vec![change("insert", n, 1, full(n, "a"))], vec![other])
    }),
    ("no positions", |n| {
        let change = |lsn, name| change("update", n, lsn, full(n, name)).without_position();
        (vec![change(1, "a")], vec![change(2, "b")])
    }),
    ("a refused row", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change("update", n, 2, full(n, "refused"))],
        )
    }),
    ("a refused row that is not there", |n| {
        (vec![], vec![change("update", n, 2, full(n, "refused"))])
    }),
    ("a filter over a value that did not change", |n| {
        (
            vec![change("insert", n, 1, full(n, "a"))],
            vec![change(
                "update",
                n,
                2,
                full(n, "b").replace(r#""name":"b""#, r#""name":"unchanged_toast""#),
            )],
        )
    }),
];

fn change(action: &str, _row: u64, lsn: u64, record: String) -> Message {
    Message::new(action, "item", lsn, record)
}

fn full(id: u64, name: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}","body":"body {name}"}}"#)
}

fn key(id: u64) -> String {
    format!(r#"{{"id":{id},"name":null,"body":null}}"#)
}

/// Rows are locked, not mappings: a call in an open transaction keeps nobody from other rows.
#[test]
fn calls_with_other_rows_do_not_wait() {
    const MAPPINGS: [(&str, &str); 2] = [
        (
            "item",
            "filter => $$record->>'name' is distinct from 'refused'$$",
        ),
        ("soft", "on_delete => 'soft', soft_delete => 'deleted_at'"),
    ];
    for guard in GUARDS {
        for (table, options) in MAPPINGS {
            let database = Database::new(&format!("disjoint_{guard}_{table}"));
            let (mut first, mut second) = (database.connect(), database.connect());
            run(
                &mut first,
                &format!(
                    "create table item (id integer primary key, name text, body text, deleted_at timestamptz);
                     select sequin.map('public.item', 'item', '{{\"id\": \"record.id\", \"name\": \"record.name\",
                         \"body\": \"record.body\"}}', guard => '{guard}', {options})"
                ),
            );
            run(&mut second, "set lock_timeout = '5s'");
            let mut row = 0;
            for (mine, work) in WORKS {
                for (theirs, other) in WORKS {
                    row += 100;
                    let ((before, now), (other_before, other_now)) = (work(row), other(row + 50));
                    send(&mut first, &[before, other_before].concat());
                    run(&mut first, "begin");
                    let one = send(&mut first, &now);
                    let two = try_apply(&mut second, &batch(&other_now));
                    let how = format!("{guard}, {table}: {theirs}, during {mine}");
                    let two = two.unwrap_or_else(|error| panic!("{how}: {error}"));
                    run(&mut first, "commit");
                    assert_eq!((one.dead, two.dead), (0, 0), "{how}");
                }
            }
        }
    }
}

/// How a parent goes, or loses the value that children refer to: the foreign key's action, the messages, and what is
/// there when the call is over.
const LOSSES: [(&str, &str, &str); 3] = [
    (
        "on delete cascade",
        r#"{"action":"delete","record":{"id":1,"u":"a"}}"#,
        "1 a",
    ),
    (
        "on update cascade",
        r#"{"action":"update","record":{"id":1,"u":"b"},"changes":{"u":"a"}}"#,
        "1 a",
    ),
    (
        "on delete cascade on update cascade",
        r#"{"action":"update","record":{"id":2,"u":"b"},"changes":{"id":1,"u":"a"}}"#,
        "1 a",
    ),
];

#[test]
fn a_foreign_key_does_not_act_on_a_row_that_another_call_is_writing() {
    for guard in GUARDS {
        for (n, (action, loss, parents)) in LOSSES.iter().enumerate() {
            let database = Database::new(&format!("acting_{guard}_{n}"));
            let (mut first, mut second) = (database.connect(), database.connect());
            let mut watcher = database.connect();
            run(
                &mut first,
                &format!(
                    "create table a (id integer primary key, u text unique);
                     create table b (id integer primary key, u text references a (u) {action});
                     select sequin.map('public.a', 'a', guard => '{guard}');
                     select sequin.map('public.b', 'b', guard => '{guard}')"
                ),
            );
            let parent = message("insert", "a", 1, r#"{"id":1,"u":"a"}"#);
            assert_eq!(apply(&mut first, &parent), upserted(1));
            run(&mut first, "begin");
            let child = message("insert", "b", 3, r#"{"id":1,"u":"a"}"#);
            assert_eq!(apply(&mut first, &child), upserted(1));
            let pid = value(&mut second, "select pg_backend_pid()");
            let metadata = r#""metadata":{"table_schema":"public","table_name":"a","commit_lsn":2,"commit_idx":0,"commit_timestamp":"2026-01-01T00:00:02Z"}}"#;
            let loss = format!("{},{metadata}", loss.strip_suffix('}').expect("an object"));
            thread::scope(|scope| {
                let call = scope.spawn(|| apply(&mut second, &loss));
                wait_for_lock(&mut watcher, &pid);
                run(&mut first, "commit");
                let counts = call.join().expect("the call");
                assert_eq!(counts.dead, 1, "guard {guard}, {action}: {counts:?}");
            });
            let now = "select string_agg(id || ' ' || u, ',' order by id) from ";
            let of = |table: &str, client: &mut Client| value(client, &format!("{now} {table}"));
            let left = of("a", &mut first);
            assert!(left.starts_with(parents), "guard {guard}, {action}: {left}");
            assert_eq!(of("b", &mut first), "1 a", "guard {guard}, {action}");
        }
    }
}

/// A row moves to a key whose newer row another call is writing: the older row does not come over it.
#[test]
fn a_row_does_not_move_over_a_newer_one_that_is_being_written() {
    for guard in ["columns", "table"] {
        let database = Database::new(&format!("over_{guard}"));
        let (mut first, mut second) = (database.connect(), database.connect());
        let mut watcher = database.connect();
        run(
            &mut first,
            &format!(
                "create table item (id integer primary key, name text);
                 select sequin.map('public.item', 'item', guard => '{guard}')"
            ),
        );
        let row = |id: u64, name: &str| format!(r#"{{"id":{id},"name":"{name}"}}"#);
        let moved = |id: u64, from: u64, idx: u64| {
            Message::new("update", "item", 200, row(id, "c"))
                .idx(idx)
                .changes(format!(r#"{{"id":{from}}}"#))
        };
        let initial = message("insert", "item", 100, &row(4, "c"));
        assert_eq!(apply(&mut first, &initial), upserted(1));
        run(&mut first, "begin");
        let newer = Message::new("insert", "item", 300, row(5, "d"));
        let counts = apply(&mut first, &batch(&[moved(1, 5, 1), newer]));
        assert_eq!(counts.outcomes(), 2, "guard {guard}");
        let pid = value(&mut second, "select pg_backend_pid()");
        let older = moved(5, 4, 0).to_string();
        thread::scope(|scope| {
            let call = scope.spawn(|| apply(&mut second, &older));
            wait_for_lock(&mut watcher, &pid);
            run(&mut first, "commit");
            call.join().expect("the call");
        });
        let sql = "select id, name from item order by id";
        assert_eq!(rows(&mut first, sql), ["1|c", "5|d"], "guard {guard}");
    }
}

/// A call finds that entries are absent, and another one inserts one of them before it does.
#[test]
fn entries_that_another_call_inserts_meanwhile() {
    entries_meanwhile("table", &["insert", "delete", "read"]);
    // With guard columns, deleted rows alone have entries.
    entries_meanwhile("columns", &["delete"]);
}

fn entries_meanwhile(guard: &str, kinds: &[&str]) {
    let database = Database::new(&format!("absent_entries_{guard}"));
    let (mut client, mut other) = (database.connect(), database.connect());
    let (mut control, mut watcher) = (database.connect(), database.connect());
    let mut third = database.connect();
    run(
        &mut client,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => '{guard}');
             set sequin.steps = 1"
        ),
    );
    let pid = value(&mut client, "select pg_backend_pid()");
    let of_others = ["insert", "delete", "read"];
    let pairs = kinds
        .iter()
        .flat_map(|own| of_others.map(|others| (*own, others)));
    for (n, (own, others)) in pairs.enumerate() {
        let mut n = 100_000 * (n as u64 + 1);
        // The other call's transaction is committed, is open and will be committed, or will be rolled back.
        for (end, open) in [("commit", false), ("commit", true), ("rollback", true)] {
            // so far apart that a read is older or newer beyond doubt
            for (lsn, of_other) in [(5, 9_000), (9_000, 5)] {
                n += 1_000;
                // one row is written by itself, a few together, many in portions
                let size = [1, 20, 600][n as usize / 1_000 % 3];
                let change = |action, lsn, name: &str| change(action, n, lsn, full(n, name));
                let beside = (1..=size).map(|i| {
                    let action = if i % 3 == 0 { "delete" } else { "insert" };
                    message(action, "item", 1, &full(n + i, "beside"))
                });
                let mut of_call = vec![change(own, lsn, "own").to_string()];
                of_call.extend(beside);
                let own_batch = batch(&of_call);
                let others_batch = batch(&[change(others, of_other, "other")]);
                // Another one writes other rows meanwhile: the mapping cannot be locked.
                if n.is_multiple_of(2_000) {
                    run(&mut third, "begin");
                    let record = full(n + 999, "third");
                    apply(&mut third, &batch(&[message("insert", "item", 1, &record)]));
                }
                run(&mut control, "select pg_advisory_lock(1, 3)");
                let counts = thread::scope(|scope| {
                    let call = scope.spawn(|| apply(&mut client, &own_batch));
                    wait_for_lock(&mut watcher, &pid);
                    run(&mut other, "begin");
                    apply(&mut other, &others_batch);
                    if !open {
                        run(&mut other, end);
                    }
                    run(&mut control, "select pg_advisory_unlock(1, 3)");
                    if open {
                        wait_for_lock(&mut watcher, &pid);
                        run(&mut other, end);
                    }
                    call.join().expect("the call")
                });
                if n.is_multiple_of(2_000) {
                    run(&mut third, "commit");
                }
                let how =
                    format!("{guard}: {own} at {lsn}, {others} at {of_other}, {end}, open: {open}");
                let outcomes = (counts.outcomes(), counts.dead);
                assert_eq!(outcomes, (size as i64 + 1, 0), "{how}");
                let wins = end == "rollback" || lsn > of_other;
                let (action, name) = match wins {
                    true => (own, "own"),
                    false => (others, "other"),
                };
                let wanted = match action {
                    "delete" => String::new(),
                    _ => name.to_owned(),
                };
                let sql = format!("select coalesce(max(name), '') from item where id = {n}");
                assert_eq!(value(&mut watcher, &sql), wanted, "{how}");
                if guard == "columns" {
                    continue;
                }
                let keys =
                    format!("select sequin.row_key(i) from generate_series({n}, {n} + {size}) i");
                let entries =
                    format!("select count(*) from sequin.row_version where key in ({keys})");
                assert_eq!(
                    value(&mut watcher, &entries),
                    (size + 1).to_string(),
                    "{how}"
                );
            }
        }
    }
}
