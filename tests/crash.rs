//! Four sessions deliver while backends and whole servers are killed; what was not acknowledged is sent again. In the end
//! the destination is the source, what was acknowledged is there, and the counts add up. And what a standby says.
//!
//! `SOAK_SECONDS=600` goes on for so long (`make soak`); `SOAK_SEED=7` begins with another seed.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use support::{
    Message, Random, apply, apply_error, batch, corpus_directory, corpus_lines, message, number,
    rows, run, value, variable,
};

const SESSIONS: usize = 4;

/// A cluster of the test's own, removed at the end.
struct Cluster {
    dir: PathBuf,
    host: String,
}

/// Runs .ci/cluster, which says where the server is.
fn cluster(command: &str, dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(variable("CLUSTER"))
        .arg(command)
        .arg(dir)
        .args(arguments)
        .output()
        .expect(".ci/cluster");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cluster {command}: {error}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let host = text.split("PGHOST=").nth(1).unwrap_or_default();
    host.split(' ').next().unwrap_or_default().to_owned()
}

impl Cluster {
    /// Where the cluster of a test is.
    fn place(test: &str) -> PathBuf {
        Path::new(&variable("CLUSTERS")).join(format!("{test}{}", std::process::id()))
    }

    fn new(test: &str) -> Cluster {
        let dir = Cluster::place(test);
        let arguments = [
            &*variable("PG_CONFIG"),
            "max_connections=50",
            "autovacuum=off",
        ];
        let host = cluster("start", &dir, &arguments);
        Cluster { dir, host }
    }

    fn standby(&self, test: &str) -> Cluster {
        let dir = Cluster::place(test);
        let primary = self.dir.to_str().expect("UTF-8");
        let host = cluster("standby", &dir, &[primary]);
        Cluster { dir, host }
    }

    fn try_connect(&self, database: &str) -> Result<Client, postgres::Error> {
        let mut config = Config::new();
        config.host(&self.host).port(5432).user("postgres");
        config.dbname(database).connect(NoTls)
    }

    /// A connection, as soon as the server is there.
    fn connect(&self, database: &str) -> Client {
        let start = Instant::now();
        loop {
            match self.try_connect(database) {
                Ok(client) => return client,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(60), "{error}"),
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// `kill -9` of one process of this cluster, if it still is one.
    fn kill(&self, pid: &str) {
        let is_ours = || {
            let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
            cwd.is_ok_and(|cwd| cwd == self.dir.join("data"))
        };
        if is_ours() {
            // it may have ended by itself
            let _ = Command::new("sh").args(["-c", "kill -9 $0", pid]).output();
        }
        while is_ours() {
            thread::yield_now();
        }
    }

    fn kill_postmaster(&self) {
        let file = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
        self.kill(file.lines().next().unwrap_or_default());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        cluster("remove", &self.dir, &[]);
    }
}

/// What is delivered, and what must be there in the end.
struct Load {
    name: &'static str,
    ddl: String,
    /// Table, and its rows as CSV with a header.
    tables: Vec<(String, String)>,
    batches: Vec<String>,
}

/// The corpus of tests/corpus, as it was delivered.
fn shop() -> Load {
    let dir = corpus_directory("shop");
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect("the corpus");
    let tables = ["customers", "products", "orders", "order_items"];
    Load {
        name: "shop",
        ddl: read("destination.sql"),
        tables: tables
            .map(|table| (table.to_owned(), read(&format!("final.{table}.csv"))))
            .to_vec(),
        batches: corpus_lines("shop", "delivery.jsonl.gz"),
    }
}

/// A source with a unique column and a foreign key, whose changes are committed one by one.
struct Source {
    random: Random,
    messages: Vec<Message>,
    /// id → code, n
    parents: BTreeMap<u64, (u64, u64)>,
    /// id → parent, label
    children: BTreeMap<u64, (u64, u64)>,
}

/// Ids, codes and labels are few, so that they are used again.
const FEW: u64 = 40;

impl Source {
    fn parent(id: u64, (code, n): (u64, u64)) -> String {
        format!(r#"{{"id":{id},"code":"code {code}","n":{n}}}"#)
    }

    fn child(id: u64, (parent, label): (u64, u64)) -> String {
        format!(r#"{{"id":{id},"parent_id":{parent},"label":"label {label}"}}"#)
    }

    fn push(&mut self, action: &str, table: &str, record: &str, changes: &str) {
        let lsn = self.messages.len() as u64 + 1;
        let message = Message::new(action, table, lsn, record);
        self.messages.push(match changes {
            "" => message,
            changes => message.changes(changes),
        });
    }

    fn insert_parent(&mut self, id: u64, row: (u64, u64)) {
        self.push("insert", "parent", &Source::parent(id, row), "");
        self.parents.insert(id, row);
    }

    fn update_parent(&mut self, id: u64, row: (u64, u64)) {
        let (code, n) = self.parents[&id];
        let changes = format!(r#"{{"code":"code {code}","n":{n}}}"#);
        self.push("update", "parent", &Source::parent(id, row), &changes);
        self.parents.insert(id, row);
    }

    fn update_child(&mut self, id: u64, row: (u64, u64)) {
        let (parent, label) = self.children[&id];
        let changes = format!(r#"{{"parent_id":{parent},"label":"label {label}"}}"#);
        self.push("update", "child", &Source::child(id, row), &changes);
        self.children.insert(id, row);
    }

    fn delete_child(&mut self, id: u64) {
        let row = self.children.remove(&id).expect("it is there");
        self.push("delete", "child", &Source::child(id, row), "");
    }

    fn some(&mut self, of: &[u64]) -> Option<u64> {
        (!of.is_empty()).then(|| *self.random.of(of))
    }

    fn some_parent(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.parents.keys().copied().collect();
        self.some(&ids)
    }

    fn some_child(&mut self) -> Option<u64> {
        let ids: Vec<u64> = self.children.keys().copied().collect();
        self.some(&ids)
    }

    fn free_code(&mut self) -> Option<u64> {
        let free: Vec<u64> = (0..FEW)
            .filter(|code| !self.parents.values().any(|(used, _)| used == code))
            .collect();
        self.some(&free)
    }

    fn free_label(&mut self) -> Option<u64> {
        let free: Vec<u64> = (0..2 * FEW)
            .filter(|label| !self.children.values().any(|(_, used)| used == label))
            .collect();
        self.some(&free)
    }

    /// Does something, or nothing where that cannot be done.
    fn step(&mut self) -> Option<()> {
        let n = self.messages.len() as u64;
        match self.random.below(10) {
            0 | 1 => {
                let (id, code) = (self.random.below(FEW), self.free_code()?);
                if !self.parents.contains_key(&id) {
                    self.insert_parent(id, (code, n));
                }
            }
            2 | 3 => {
                let (id, parent) = (self.random.below(2 * FEW), self.some_parent()?);
                if !self.children.contains_key(&id) {
                    let row = (parent, self.free_label()?);
                    self.push("insert", "child", &Source::child(id, row), "");
                    self.children.insert(id, row);
                }
            }
            4 => {
                let (id, code) = (self.some_parent()?, self.free_code()?);
                self.update_parent(id, (code, n));
            }
            5 => {
                let (a, b, free) = (self.some_parent()?, self.some_parent()?, self.free_code()?);
                let (of_a, of_b) = (self.parents[&a].0, self.parents[&b].0);
                if a != b {
                    self.update_parent(a, (free, n));
                    self.update_parent(b, (of_a, n));
                    self.update_parent(a, (of_b, n));
                }
            }
            6 => {
                let (id, parent, label) =
                    (self.some_child()?, self.some_parent()?, self.free_label()?);
                self.update_child(id, (parent, label));
            }
            7 => {
                let id = self.some_child()?;
                self.delete_child(id);
            }
            8 => {
                let id = self.some_parent()?;
                let children: Vec<u64> = self.children.keys().copied().collect();
                for child in children {
                    if self.children[&child].0 == id {
                        self.delete_child(child);
                    }
                }
                let row = self.parents.remove(&id).expect("it is there");
                self.push("delete", "parent", &Source::parent(id, row), "");
            }
            _ => {
                // to another key, if nobody refers to it
                let (from, to) = (self.some_parent()?, self.random.below(FEW));
                let referred = self.children.values().any(|(parent, _)| *parent == from);
                if !referred && !self.parents.contains_key(&to) {
                    let row = self.parents.remove(&from).expect("it is there");
                    let changes = format!(r#"{{"id":{from}}}"#);
                    self.push("update", "parent", &Source::parent(to, row), &changes);
                    self.parents.insert(to, row);
                }
            }
        }
        Some(())
    }
}

/// Changes under constraints, late and repeated.
fn constrained(seed: u64) -> Load {
    let mut source = Source {
        random: Random::new(seed),
        messages: Vec::new(),
        parents: BTreeMap::new(),
        children: BTreeMap::new(),
    };
    while source.messages.len() < 1_000 {
        source.step();
    }
    let Source {
        mut random,
        messages,
        parents,
        children,
    } = source;
    // each comes up to 150 places late
    let mut late: Vec<(u64, &Message)> = messages
        .iter()
        .zip(0..)
        .map(|(message, place)| (place + random.below(150), message))
        .collect();
    late.sort_by_key(|(place, _)| *place);
    let mut batches = Vec::new();
    let mut rest = late.as_slice();
    while !rest.is_empty() {
        let size = 1 + random.below(60) as usize;
        let (now, later) = rest.split_at(size.min(rest.len()));
        batches.push(batch(&now.iter().map(|(_, m)| m).collect::<Vec<_>>()));
        if random.below(5) == 0 {
            batches.push(batches[random.below(batches.len() as u64) as usize].clone());
        }
        rest = later;
    }
    let mut csv = [
        String::from("id,code,n\n"),
        String::from("id,parent_id,label\n"),
    ];
    for (id, (code, n)) in parents {
        csv[0] += &format!("{id},code {code},{n}\n");
    }
    for (id, (parent, label)) in children {
        csv[1] += &format!("{id},{parent},label {label}\n");
    }
    let [parent, child] = csv;
    Load {
        name: "constrained",
        ddl: "create table parent (id integer primary key, code text not null unique, n integer);
              create table child (id integer primary key, parent_id integer not null references parent,
                                  label text unique)"
            .to_owned(),
        tables: vec![("parent".to_owned(), parent), ("child".to_owned(), child)],
        batches,
    }
}

const DATABASE: &str = "crash";

/// The most crashes of a delivery: a call that takes longer than the time between two of them must have its turn.
const CRASHES: usize = 15;

/// A database with the destination, mapped; with the truth beside it; and with a record of the calls that were committed.
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

/// Errors that a sender answers by sending the batch again: the connection was lost, or somebody had a lock for too long.
fn is_passing(error: &postgres::Error) -> bool {
    error.is_closed()
        || error
            .code()
            .is_none_or(|code| matches!(&code.code()[..2], "08" | "40" | "57"))
}

/// One delivery of everything, among crashes. Returns how many there were.
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
                    self::cluster("start", &cluster.dir, &[]);
                }
                _ => {
                    self::cluster("kill", &cluster.dir, &[]);
                    self::cluster("start", &cluster.dir, &[]);
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

/// What waits is tried again, in commit order, until nothing waits.
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
