//! Four sessions deliver while backends and whole servers are killed; what was not acknowledged is sent again. In the
//! end the destination equals the source, what was acknowledged is there, and the counts add up. And what a standby
//! says.
//!
//! `SOAK_SECONDS=600` goes on for so long (`make soak`); `SOAK_SEED=7` begins with another seed.

#![forbid(unsafe_code)]

mod cluster;
mod load;

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster::Cluster;
use load::{Load, constrained, shop};
use postgres::Client;
use support::{Random, apply, apply_error, message, number, rows, run, value};

const SESSIONS: usize = 4;

const DATABASE: &str = "crash";

/// The most crashes of a delivery: a call that takes longer than the time between two of them must have its turn.
const CRASHES: usize = 15;

/// A database with the destination, mapped; with the truth beside it; and with a record of the calls that were
/// committed.
fn prepare(cluster: &Cluster, load: &Load, guard: &str) {
    let mut server = cluster.connect("postgres");
    run(&mut server, &format!("drop database if exists {DATABASE}"));
    run(&mut server, &format!("create database {DATABASE}"));
    let mut client = cluster.connect(DATABASE);
    run(
        &mut client,
        "create extension pg_sequin; create schema wanted",
    );
    run(&mut client, &load.ddl);
    for (table, csv) in &load.tables {
        run(
            &mut client,
            &format!("create table wanted.{table} (like {table})"),
        );
        let copy = format!("copy wanted.{table} from stdin csv header");
        let mut writer = client.copy_in(&copy).expect("COPY");
        writer.write_all(csv.as_bytes()).expect("COPY");
        writer.finish().expect("COPY");
        let map = format!("select sequin.map('public.{table}', '{table}', guard => '{guard}')");
        run(&mut client, &map);
    }
    run(
        &mut client,
        "create table called (batch integer, received bigint, upserted bigint, deleted bigint, collapsed bigint,
                              stale bigint, filtered bigint, ignored bigint, dead bigint)",
    );
}

/// Errors that a sender answers by sending the batch again: the connection was lost, or a lock was held for too long.
fn is_passing(error: &postgres::Error) -> bool {
    error.is_closed()
        || error
            .code()
            .is_none_or(|code| matches!(&code.code()[..2], "08" | "40" | "57"))
}

/// One delivery of everything, among crashes. Returns the number of crashes.
fn round(cluster: &Cluster, load: &Load, guard: &str, random: &mut Random) -> usize {
    prepare(cluster, load, guard);
    let queue: Mutex<Vec<usize>> = Mutex::new((0..load.batches.len()).rev().collect());
    let left = AtomicUsize::new(load.batches.len());
    let acknowledged = Mutex::new(BTreeSet::new());
    let pids: Mutex<[String; SESSIONS]> = Mutex::default();
    let failed = AtomicBool::new(false);
    let mut crashes = 0;
    thread::scope(|scope| {
        for session in 0..SESSIONS {
            let (queue, left, acknowledged) = (&queue, &left, &acknowledged);
            let (pids, failed) = (&pids, &failed);
            scope.spawn(move || {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    deliver(cluster, load, session, queue, left, acknowledged, pids);
                }));
                if let Err(panic) = done {
                    failed.store(true, Ordering::SeqCst);
                    std::panic::resume_unwind(panic);
                }
            });
        }
        let busy = || left.load(Ordering::SeqCst) > 0 && !failed.load(Ordering::SeqCst);
        while busy() && crashes < CRASHES {
            thread::sleep(Duration::from_millis(10 + random.below(150)));
            if !busy() {
                break;
            }
            crashes += 1;
            match random.below(4) {
                0 | 1 => {
                    let pid = random.of(&*pids.lock().expect("the pids")).clone();
                    cluster.kill(&pid);
                }
                2 => {
                    cluster.kill_postmaster();
                    cluster.start();
                }
                _ => {
                    cluster.kill_all();
                    cluster.start();
                }
            }
            cluster.connect(DATABASE);
        }
    });
    let acknowledged = acknowledged.into_inner().expect("the batches");
    check(cluster, load, guard, &acknowledged);
    crashes
}

/// A session of a forwarder: takes batches until none is left, and puts back what was not acknowledged.
fn deliver(
    cluster: &Cluster,
    load: &Load,
    session: usize,
    queue: &Mutex<Vec<usize>>,
    left: &AtomicUsize,
    acknowledged: &Mutex<BTreeSet<usize>>,
    pids: &Mutex<[String; SESSIONS]>,
) {
    let mut connection: Option<Client> = None;
    while left.load(Ordering::SeqCst) > 0 {
        let Some(batch) = queue.lock().expect("the queue").pop() else {
            thread::sleep(Duration::from_millis(1)); // others have the last ones
            continue;
        };
        let mut client = match connection.take() {
            Some(client) => client,
            None => {
                let mut client = cluster.connect(DATABASE);
                if let Ok(row) = client.query_one("select pg_backend_pid()", &[]) {
                    let pid: i32 = row.get(0);
                    pids.lock().expect("the pids")[session] = pid.to_string();
                }
                client
            }
        };
        let sql = "insert into called select $2, a.* from sequin_apply($1) a";
        match client.execute(sql, &[&load.batches[batch], &(batch as i32)]) {
            Ok(_) => {
                acknowledged.lock().expect("the batches").insert(batch);
                left.fetch_sub(1, Ordering::SeqCst);
                connection = Some(client);
            }
            Err(error) => {
                assert!(is_passing(&error), "{error:?}");
                queue.lock().expect("the queue").push(batch);
                connection = (!client.is_closed()).then_some(client);
            }
        }
    }
}

fn check(cluster: &Cluster, load: &Load, guard: &str, acknowledged: &BTreeSet<usize>) {
    let how = format!("{}, guard {guard}", load.name);
    let mut client = cluster.connect(DATABASE);
    let called: BTreeSet<usize> = rows(&mut client, "select distinct batch from called")
        .iter()
        .map(|batch| batch.parse().expect("a number"))
        .collect();
    let lost: Vec<_> = acknowledged.difference(&called).collect();
    assert!(lost.is_empty(), "{how}: {lost:?} were acknowledged");
    assert_eq!(acknowledged.len(), load.batches.len(), "{how}");
    // each message has one outcome in each call that was committed, and each letter a call
    let sql = "select count(*) from called
               where received <> upserted + deleted + collapsed + stale + filtered + ignored + dead";
    assert_eq!(value(&mut client, sql), "0", "{how}");
    let sql = "select (select count(*) from sequin.dead_letter) <= (select sum(dead) from called)";
    assert_eq!(value(&mut client, sql), "t", "{how}");
    if load.name == "shop" {
        assert_eq!(
            value(&mut client, "select sum(dead) from called"),
            "0",
            "{how}"
        );
    }
    let sql = "select count(*), sum(dead), count(*) - count(distinct batch) from called";
    let of_calls = value(&mut client, sql);
    println!("{how}: calls, dead, committed but not acknowledged: {of_calls}");
    heal(&mut client, &how);
    is_source(&mut client, load, &how);
    // everything once more: nothing is news
    let (mut written, mut dead): (i64, i64) = (0, 0);
    for batch in &load.batches {
        let sql = "select upserted + deleted, dead from sequin_apply($1)";
        let row = client.query_one(sql, &[batch]).expect("the batch");
        written += row.get::<_, i64>(0);
        dead += row.get::<_, i64>(1);
    }
    assert_eq!((written, dead), (0, 0), "{how}");
    is_source(&mut client, load, &how);
}

/// Retries waiting letters in commit order until none waits.
fn heal(client: &mut Client, how: &str) {
    let sql = "with letters as (delete from sequin.dead_letter where state = 'waiting' returning *)
               select a.dead from (select string_agg(message, E'\\n' order by lsn, idx) from letters) l(lines),
                                  sequin_apply(lines) a where lines is not null";
    let mut before = i64::MAX;
    while let Some(row) = client.query_opt(sql, &[]).expect("the letters") {
        let dead: i64 = row.get(0);
        if dead >= before {
            let sql = "select sqlstate, error, detail, state, message from sequin.dead_letter order by lsn limit 5";
            panic!("{how}: {dead} letters stay: {:#?}", rows(client, sql));
        }
        before = dead;
    }
    let sql = "select sqlstate, error, detail, state from sequin.dead_letter";
    assert_eq!(rows(client, sql), [""; 0], "{how}");
}

fn is_source(client: &mut Client, load: &Load, how: &str) {
    for (table, csv) in &load.tables {
        let columns = csv.lines().next().expect("a header");
        let (is, wanted) = (
            format!("select {columns} from {table}"),
            format!("select {columns} from wanted.{table}"),
        );
        for (what, sql) in [
            ("too many", format!("({is}) except all ({wanted})")),
            ("missing", format!("({wanted}) except all ({is})")),
        ] {
            let rows = rows(client, &sql);
            assert!(rows.is_empty(), "{how}, {table}: {what}: {rows:#?}");
        }
    }
}

#[test]
fn the_destination_is_the_source_whatever_was_killed() {
    let (seconds, mut seed) = (number("SOAK_SECONDS", 12), number("SOAK_SEED", 1));
    let cluster = Cluster::new("crash");
    let start = Instant::now();
    let (mut rounds, mut crashes) = (0, 0);
    while rounds < 4 || start.elapsed() < Duration::from_secs(seconds) {
        let random = &mut Random::new(seed);
        let guard = ["columns", "table"][(seed / 2 % 2) as usize];
        let load = match seed % 2 {
            0 => constrained(seed),
            _ => shop(),
        };
        println!(
            "seed {seed}: {}, guard {guard}, {} batches",
            load.name,
            load.batches.len()
        );
        crashes += round(&cluster, &load, guard, random);
        rounds += 1;
        seed += 1;
    }
    println!(
        "{rounds} deliveries among {crashes} crashes in {:?}",
        start.elapsed()
    );
    assert!(crashes > 0);
}

#[test]
fn a_standby_says_where_to_go() {
    let primary = Cluster::new("primary");
    let mut client = primary.connect("postgres");
    run(
        &mut client,
        "create extension pg_sequin; create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item')",
    );
    let standby = primary.standby("standby");
    let message = message("insert", "item", 1, r#"{"id":1,"name":"one"}"#);
    let error = apply_error(&mut standby.connect("postgres"), &message);
    assert_eq!(error.code().code(), "25006");
    assert_eq!(error.message(), "cannot apply messages on a standby");
    assert_eq!(
        error.hint(),
        Some("Connect to the primary, for example with target_session_attrs=read-write.")
    );
    assert_eq!(apply(&mut client, &message).upserted, 1);
}
