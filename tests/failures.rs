//! Messages that fail cost the others nothing of what they bring, and little of the time.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{
    Counts, Database, GUARDS, Random, apply, batch, message, peak_memory, rows, run, value,
};

/// What can be wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Cast,
    Null,
    Check,
    Before,
    After,
    Parent,
    Unique,
}

impl Fault {
    const ALL: [Fault; 7] = [
        Fault::Cast,
        Fault::Null,
        Fault::Check,
        Fault::Before,
        Fault::After,
        Fault::Parent,
        Fault::Unique,
    ];

    fn sqlstate(self) -> &'static str {
        match self {
            Fault::Cast => "22P02",
            Fault::Null => "23502",
            Fault::Check => "23514",
            Fault::Before => "P0001",
            Fault::After => "P0002",
            Fault::Parent => "23503",
            Fault::Unique => "23505",
        }
    }
}

/// Tables whose triggers count writes, undone ones too.
const TABLES: &str = "
    create table parent (id bigint primary key);
    insert into parent select n from generate_series(0, 9) n;
    create table item (id bigint primary key, a integer not null check (a >= 0), u bigint unique,
                       p bigint references parent, note text);
    create table holder (item bigint references item);
    insert into item values (-1, 0, -5, 0, 'has a unique value');
    create sequence written;
    create function before() returns trigger language plpgsql set search_path = public as $$
    begin
        perform nextval('written');
        if tg_op = 'DELETE' then return old; end if;
        if new.a = 77 then raise exception 'no'; end if;
        return new;
    end $$;
    create trigger before before insert or delete on item for each row execute function before()";

const AFTER: &str = "
    create function after() returns trigger language plpgsql set search_path = public as $$
    begin
        if new.a = 78 then raise exception 'no' using errcode = 'P0002'; end if;
        return null;
    end $$;
    create trigger after after insert or update on item for each row execute function after()";

/// What the table may have in addition; some of it forces all rows into one statement.
const VARIANTS: [(&str, &str); 4] = [
    ("plain", ""),
    ("after", AFTER),
    ("self", "alter table item add s bigint references item"),
    (
        "deferrable",
        "alter table item add d bigint unique deferrable",
    ),
];

fn mapped(test: &str, ddl: &str, guard: &str) -> (Database, Client) {
    Database::mapped(test, &format!("{TABLES};{ddl}"), &["item"], guard)
}

/// A row of `item`, and what is wrong with it.
fn item(id: i64, a: i64, fault: Option<Fault>) -> String {
    let (mut a, mut u, mut p) = (a.to_string(), id, id.rem_euclid(10));
    match fault {
        Some(Fault::Cast) => a = String::from("\"one\""),
        Some(Fault::Null) => a = String::from("null"),
        Some(Fault::Check) => a = String::from("-1"),
        Some(Fault::Before) => a = String::from("77"),
        Some(Fault::After) => a = String::from("78"),
        Some(Fault::Parent) => p = 99,
        Some(Fault::Unique) => u = -5,
        None => {}
    }
    format!(r#"{{"id":{id},"a":{a},"u":{u},"p":{p},"note":"n"}}"#)
}

#[test]
fn the_others_are_written() {
    for guard in GUARDS {
        for (variant, ddl) in VARIANTS {
            let (_database, mut client) = mapped(&format!("others_{variant}"), ddl, guard);
            let what = format!("{guard} {variant}");
            let mut random = Random::new(what.len() as u64);
            let mut there: BTreeMap<i64, i64> = BTreeMap::new();
            let mut lsn = 0;
            for round in 0..4 {
                run(&mut client, "truncate sequin.dead_letter, holder");
                let (mut messages, mut wanted) = (Vec::new(), Vec::new());
                for id in 0..500 {
                    lsn += 1;
                    let fault = (random.below(40) == 0).then(|| *random.of(&Fault::ALL));
                    let fault = fault.filter(|f| *f != Fault::After || variant == "after");
                    if round > 0 && random.below(4) == 0 {
                        messages.push(message("delete", "item", lsn, &format!(r#"{{"id":{id}}}"#)));
                        if fault.is_some() && there.contains_key(&id) {
                            run(&mut client, &format!("insert into holder values ({id})"));
                            wanted.push(format!("[\"{id}\"]|23503"));
                        } else {
                            there.remove(&id);
                        }
                        continue;
                    }
                    // Now and then one more change of the row, which must not be lost either.
                    if random.below(10) == 0 {
                        messages.push(message("update", "item", lsn, &item(id, 5, None)));
                        there.insert(id, 5);
                        lsn += 1;
                    }
                    let a = random.below(70) as i64;
                    messages.push(message("update", "item", lsn, &item(id, a, fault)));
                    match fault {
                        Some(fault) => wanted.push(format!("[\"{id}\"]|{}", fault.sqlstate())),
                        None => drop(there.insert(id, a)),
                    }
                }
                let counts = apply(&mut client, &batch(&messages));
                assert_eq!(counts.outcomes(), counts.received, "{what}");
                assert_eq!(counts.dead, wanted.len() as i64, "{what}");
                let letters = "select key, sqlstate from sequin.dead_letter order by key";
                wanted.sort();
                assert_eq!(rows(&mut client, letters), wanted, "{what}");
                let of: Vec<String> = there.iter().map(|(id, a)| format!("{id}|{a}")).collect();
                let sql = "select id, a from item where id >= 0 order by id";
                assert_eq!(rows(&mut client, sql), of, "{what}, round {round}");
            }
        }
    }
}

/// Counts the rows that are written again because others failed: the cost of a failure.
#[test]
fn few_rows_are_written_twice() {
    const ROWS: i64 = 1000;
    for guard in GUARDS {
        let (_database, mut client) = mapped("cost", AFTER, guard);
        let (mut id, mut lsn) = (0, 0);
        let mut random = Random::new(3);
        let mut writes = |client: &mut Client, bad: &[Option<Fault>]| {
            let messages: Vec<String> = bad
                .iter()
                .map(|fault| {
                    id += 1;
                    lsn += 1;
                    message("insert", "item", lsn, &item(id, 1, *fault))
                })
                .collect();
            run(client, "select setval('written', 1, false)");
            run(client, "truncate sequin.dead_letter");
            let counts = apply(client, &batch(&messages));
            let dead = bad.iter().flatten().count() as i64;
            let wanted = Counts {
                received: ROWS,
                upserted: ROWS - dead,
                dead,
                ..Counts::default()
            };
            assert_eq!(counts, wanted, "{guard} {bad:?}");
            let writes = value(client, "select last_value from written");
            writes.parse::<i64>().expect("a number")
        };
        assert_eq!(writes(&mut client, &[None; ROWS as usize]), ROWS);
        for fault in Fault::ALL {
            let mut cost = |client: &mut Client, count: usize| {
                let mut bad = vec![None; ROWS as usize];
                bad[..count].fill(Some(fault));
                random.shuffle(&mut bad);
                writes(client, &bad)
            };
            let [one, ten, all] = [1, 10, 1000].map(|count| cost(&mut client, count));
            println!("{guard} {fault:?}: {one}, {ten}, {all}");
            // When a trigger refuses a row after it was written, the error does not say which row.
            let after = i64::from(fault == Fault::After);
            assert!(one <= ROWS * (13 + after) / 10, "{guard} {fault:?}: {one}");
            assert!(
                ten <= ROWS * (20 + 8 * after) / 10,
                "{guard} {fault:?}: {ten}"
            );
            assert!(all <= ROWS * 5, "{guard} {fault:?}: {all}");
        }
    }
}

/// A trigger that looks at several rows of a batch does not refuse them because they were written by several
/// statements, nor because another row failed.
#[test]
fn rows_that_need_each_other() {
    let ddl = "create table entry (id integer primary key, journal integer, amount integer check (amount < 100));
               create function balance() returns trigger language plpgsql set search_path = public as $$
               begin
                   if (select sum(amount) from entry where journal = new.journal) <> 0 then
                       raise exception 'journal % does not balance', new.journal
                           using errcode = 'check_violation', constraint = 'balance';
                   end if;
                   return null;
               end $$;
               create trigger balance after insert or update on entry for each row execute function balance();";
    for guard in GUARDS {
        let (_database, mut client) = mapped("balance", ddl, guard);
        run(
            &mut client,
            &format!("select sequin.map('public.entry', 'entry', guard => '{guard}')"),
        );
        let entry = |id: u64, journal: u64, amount: i64| {
            let record = format!(r#"{{"id":{id},"journal":{journal},"amount":{amount}}}"#);
            message("insert", "entry", id, &record)
        };
        let messages: Vec<String> = (0..800)
            .map(|n| entry(n, n % 400, if n < 400 { 1 } else { -1 }))
            .collect();
        let counts = apply(&mut client, &batch(&messages));
        assert_eq!((counts.upserted, counts.dead), (800, 0), "{guard}");
        let mut messages: Vec<String> = (0..800)
            .map(|n| entry(1000 + n, 1000 + n % 400, if n < 400 { 1 } else { -1 }))
            .collect();
        messages.insert(300, entry(2000, 2000, 100));
        let counts = apply(&mut client, &batch(&messages));
        assert_eq!((counts.upserted, counts.dead), (800, 1), "{guard}");
        assert_eq!(
            rows(&mut client, "select sqlstate, key from sequin.dead_letter"),
            ["23514|[\"2000\"]"],
            "{guard}"
        );
    }
}

/// Calls that fail in the same mapping, and each want its exclusive lock, all end.
#[test]
fn calls_that_fail_together() {
    for guard in GUARDS {
        let (database, mut client) = mapped("together", "", guard);
        run(
            &mut client,
            &format!("select sequin.map('public.parent', 'parent', guard => '{guard}')"),
        );
        let start = Instant::now();
        thread::scope(|scope| {
            for session in 0..4 {
                let database = &database;
                scope.spawn(move || {
                    let mut client = database.connect();
                    for call in 0..10 {
                        let messages: Vec<String> = (0..200)
                            .map(|n| {
                                let id = session * 200 + n;
                                let fault = match n {
                                    _ if call == 9 => None,
                                    50 => Some(Fault::Parent),
                                    60 => Some(Fault::Check),
                                    _ => None,
                                };
                                let lsn = (call * 1000 + id + 1) as u64;
                                message("update", "item", lsn, &item(id, call, fault))
                            })
                            .collect();
                        let counts = apply(&mut client, &batch(&messages));
                        assert_eq!(counts.dead, if call == 9 { 0 } else { 2 }, "{guard}");
                    }
                });
            }
        });
        let took = start.elapsed();
        // No deadlock: one is found after a second.
        assert!(took < Duration::from_secs(20), "{guard}: {took:?}");
        let sql = "select count(*), min(a), max(a) from item where id >= 0";
        assert_eq!(value(&mut client, sql), "800|9|9", "{guard}");
        assert_eq!(
            rows(&mut client, "select key from sequin.dead_letter"),
            [""; 0]
        );
    }
}

/// Subtransactions leave nothing behind in a long transaction, and a call that needs many takes no more than its
/// messages do.
#[test]
fn subtransactions_leave_no_memory() {
    let (_database, mut client) = mapped("memory", "", "table");
    let failing = |client: &mut Client, from: i64, rows: i64, every: i64| {
        let messages: Vec<String> = (from..from + rows)
            .map(|id| {
                let fault = ((id - from + 1) % every == 0).then_some(Fault::Check);
                message("insert", "item", id as u64 + 1, &item(id, 1, fault))
            })
            .collect();
        let counts = apply(client, &batch(&messages));
        assert_eq!(counts.dead, rows / every);
    };
    // The server's caches grow by doubling, whatever the calls do.
    let used = |client: &mut Client| -> i64 {
        let sql = "select sum(total_bytes)::bigint from pg_backend_memory_contexts
                   where name <> 'CacheMemoryContext'";
        value(client, sql).parse().expect("a number")
    };
    // one transaction, 100 subtransactions and more a call
    run(&mut client, "begin");
    for call in 0..5 {
        failing(&mut client, call * 200, 200, 2);
    }
    let before = used(&mut client);
    for call in 5..45 {
        failing(&mut client, call * 200, 200, 2);
    }
    let more = used(&mut client) - before;
    println!("40 calls, 4,000 letters: {more} bytes");
    assert!(more < 1_000_000, "{more} bytes");
    run(&mut client, "commit");
    // one call, all of whose messages fail, each in a subtransaction
    let pid = value(&mut client, "select pg_backend_pid()");
    failing(&mut client, 1_000_000, 20_000, 20_001);
    let clean = peak_memory(&pid);
    failing(&mut client, 2_000_000, 20_000, 1);
    if let (Some(clean), Some(failed)) = (clean, peak_memory(&pid)) {
        println!("20,000 messages: {clean} kB; that all fail: {failed} kB");
        assert!(failed < clean + 8 * 20_000, "{failed} kB, clean {clean} kB");
    }
}

/// What waits is tried again when an older change of its row has been written instead: a delete that was
/// written in between must not leave its tombstone beside the row.
#[test]
fn a_change_that_waited_takes_the_place_of_a_delete() {
    for guard in GUARDS {
        let (_database, mut client) = tree("poison_revived", guard, "dead_letter");
        let first = [
            message("update", "node", 276, r#"{"id": 1, "parent": null}"#),
            message("update", "node", 308, r#"{"id": 1, "parent": 5}"#),
            message("delete", "node", 223, r#"{"id": 5, "parent": null}"#),
            message("update", "node", 370, r#"{"id": 5, "parent": 1}"#),
        ];
        assert_eq!(apply(&mut client, &batch(&first)).dead, 0, "{guard}");
        if guard != "off" {
            let late = message("insert", "node", 269, r#"{"id": 5, "parent": null}"#);
            assert_eq!(apply(&mut client, &batch(&[late])).stale, 1, "{guard}");
        }
        let found = rows(&mut client, "select id, parent from node order by id");
        assert_eq!(found, ["1|5", "5|1"], "{guard}");
    }
}

/// Rows that refer to each other are written by one statement, also where guard columns know more of one
/// than of the other.
#[test]
fn a_circle_with_a_tombstone() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = tree("poison_circle", guard, "dead_letter");
        let before = message("delete", "node", 10, r#"{"id": 5, "parent": null}"#);
        apply(&mut client, &batch(&[before]));
        let circle = [
            message("insert", "node", 20, r#"{"id": 1, "parent": 5}"#),
            message("insert", "node", 30, r#"{"id": 5, "parent": 1}"#),
        ];
        assert_eq!(apply(&mut client, &batch(&circle)).upserted, 2, "{guard}");
        let found = rows(&mut client, "select id, parent from node order by id");
        assert_eq!(found, ["1|5", "5|1"], "{guard}");
    }
}

/// Where the first failure fails the call, rows that need one another are not divided.
#[test]
fn what_raises_is_one_set() {
    let (_database, mut client) = tree("poison_raise", "off", "raise");
    let ddl = "
        alter table node add code integer unique;
        create table leaf (code integer references node (code));
        insert into node (id, code) select n, n from generate_series(1, 400) n;
        insert into leaf values (1)";
    run(&mut client, ddl);
    // The first row gives up the value that is referred to, and the last one takes it.
    let messages: Vec<String> = (1..=400)
        .map(|id| {
            let code = match id {
                1 => 1000,
                400 => 1,
                _ => id,
            };
            let record = format!(r#"{{"id": {id}, "parent": null, "code": {code}}}"#);
            message("update", "node", 10 + id, &record)
        })
        .collect();
    assert_eq!(apply(&mut client, &batch(&messages)).upserted, 400);
}

fn tree(test: &str, guard: &str, on_error: &str) -> (Database, Client) {
    let database = Database::new(&format!("{test}_{guard}"));
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let ddl = "create table node (id bigint primary key, parent bigint references node)";
    run(&mut client, ddl);
    let map = format!(
        "select sequin.map('public.node', 'node', guard => '{guard}', on_error => '{on_error}')"
    );
    run(&mut client, &map);
    (database, client)
}

/// A message fails for want of a row; another call writes that row before this call has its exclusive lock.
#[test]
fn a_row_that_comes_before_the_mapping_is_taken() {
    let database = Database::new("poison_race");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let ddl = "
        create table parent (id bigint primary key);
        create table child (id bigint primary key, parent bigint references parent);
        insert into parent select n from generate_series(1, 40) n;
        create function refuse() returns trigger language plpgsql as $$
        begin
            perform pg_catalog.pg_advisory_xact_lock(1);
            raise exception 'no';
        end $$;
        create trigger refuse before delete on parent for each row execute function refuse();
        select sequin.map('public.' || t, t::regclass, guard => 'off') from unnest('{parent,child}'::text[]) t";
    run(&mut client, ddl);
    let mut gate = database.connect();
    run(&mut gate, "select pg_advisory_lock(1)");
    let child = |id: u64, parent: u64| {
        let record = format!(r#"{{"id": {id}, "parent": {parent}}}"#);
        message("insert", "child", 100 + id, &record)
    };
    let mut messages: Vec<String> = (1..=20).map(|id| child(id, id)).collect();
    messages.push(child(21, 50));
    // All of them fail: nothing else is written that would let the child be tried again.
    let deletes =
        (1..=20).map(|id| message("delete", "parent", 200 + id, &format!(r#"{{"id": {id}}}"#)));
    messages.extend(deletes);
    let slow = {
        let mut client = database.connect();
        run(&mut client, "set client_min_messages = error");
        thread::spawn(move || apply(&mut client, &batch(&messages)))
    };
    let waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted";
    while value(&mut client, waits) == "0" {
        thread::sleep(Duration::from_millis(10));
    }
    let parent = message("insert", "parent", 150, r#"{"id": 50}"#);
    assert_eq!(apply(&mut client, &batch(&[parent])).upserted, 1);
    run(&mut gate, "select pg_advisory_unlock(1)");
    assert_eq!(slow.join().expect("it was applied").dead, 20);
    let found = rows(&mut client, "select parent from child where id = 21");
    assert_eq!(found, ["50"]);
}
