//! Simulated sources, delivered in any order by one session and by several at once.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Barrier, Mutex};

use postgres::Client;
use support::{Database, Message, Random, rows, run, send, value};

use super::{GUARDS, map};

#[derive(Clone, PartialEq)]
struct Item {
    name: u64,
    body: u64,
    n: u64,
}

pub(super) struct Source {
    table: String,
    full: bool,
    random: Random,
    items: BTreeMap<i64, Item>,
    lsn: u64,
    at: u64,
    serial: u64,
    pub(super) messages: Vec<Message>,
    /// The keys are 1 to this.
    keys: u64,
}

pub(super) const SIMULATED: &str =
    "(id integer primary key, name text, body text, n integer, gone timestamptz)";

impl Source {
    pub(super) fn new(table: &str, full: bool, keys: u64, seed: u64) -> Source {
        Source {
            keys,
            table: table.to_owned(),
            full,
            random: Random::new(seed),
            items: BTreeMap::new(),
            lsn: 1_000,
            at: 1_000,
            serial: 0,
            messages: Vec::new(),
        }
    }

    fn record(id: i64, item: &Item) -> String {
        format!(
            r#"{{"id":{id},"name":"name {}","body":"body {}","n":{}}}"#,
            item.name, item.body, item.n
        )
    }

    fn push(&mut self, action: &str, idx: &mut u64, record: String, changes: Option<String>) {
        let mut message = Message::new(action, &self.table, self.lsn, record)
            .at(self.at)
            .idx(*idx);
        if let Some(changes) = changes {
            message.changes = changes;
        }
        self.messages.push(message);
        *idx += 1 + self.random.below(2);
    }

    fn next(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn some(&mut self) -> Option<i64> {
        let ids: Vec<i64> = self.items.keys().copied().collect();
        (!ids.is_empty()).then(|| *self.random.of(&ids))
    }

    /// An `UPDATE` of the key.
    fn rekey(&mut self, from: i64, to: i64, item: Item, idx: &mut u64) {
        let record = Source::record(to, &item);
        self.push("update", idx, record, Some(format!(r#"{{"id":{from}}}"#)));
        self.items.insert(to, item);
    }

    fn transaction(&mut self) {
        self.lsn += 1 + self.random.below(100);
        self.at += self.random.below(4_000);
        let mut idx = self.random.below(2);
        for _ in 0..1 + self.random.below(4) {
            match self.random.below(10) {
                0..3 => {
                    let id = 1 + self.random.below(self.keys) as i64;
                    if !self.items.contains_key(&id) {
                        let (name, body, n) = (self.next(), self.next(), self.next());
                        let item = Item { name, body, n };
                        self.push("insert", &mut idx, Source::record(id, &item), None);
                        self.items.insert(id, item);
                    }
                }
                3..6 => {
                    let Some(id) = self.some() else { continue };
                    let before = self.items[&id].clone();
                    let mut item = before.clone();
                    item.name = self.next();
                    if self.random.below(3) == 0 {
                        item.body = self.next();
                    }
                    let mut record = Source::record(id, &item);
                    let mut changes = "{}".to_owned();
                    if self.full {
                        changes = format!(r#"{{"name":"name {}"}}"#, before.name);
                        if item.body != before.body {
                            let (name, body) = (before.name, before.body);
                            changes = format!(r#"{{"name":"name {name}","body":"body {body}"}}"#);
                        }
                    } else if item.body == before.body {
                        record = record.replace(&format!("body {}", item.body), "unchanged_toast");
                    }
                    self.push("update", &mut idx, record, Some(changes));
                    self.items.insert(id, item);
                }
                6..8 => {
                    let Some(id) = self.some() else { continue };
                    let item = self.items.remove(&id).expect("it is there");
                    let record = if self.full {
                        Source::record(id, &item)
                    } else {
                        format!(r#"{{"id":{id},"name":null,"body":null,"n":null}}"#)
                    };
                    self.push("delete", &mut idx, record, None);
                }
                8 if self.full => {
                    let Some(from) = self.some() else { continue };
                    let to = 1 + self.random.below(self.keys) as i64;
                    if !self.items.contains_key(&to) {
                        let item = self.items.remove(&from).expect("it is there");
                        self.rekey(from, to, item, &mut idx);
                    }
                }
                9 if self.full => {
                    let (Some(a), Some(b)) = (self.some(), self.some()) else {
                        continue;
                    };
                    if a != b {
                        let (first, second) = (self.items[&a].clone(), self.items[&b].clone());
                        if self.random.below(2) == 0 {
                            // by a third key
                            let third = 1_000 + self.next() as i64;
                            self.rekey(a, third, first.clone(), &mut idx);
                            self.rekey(b, a, second, &mut idx);
                            self.items.remove(&third);
                            self.rekey(third, b, first, &mut idx);
                        } else {
                            // in one statement, with a deferrable key
                            self.rekey(a, b, first, &mut idx);
                            self.rekey(b, a, second, &mut idx);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// A backfill reads some rows.
    fn read(&mut self) {
        self.at += self.random.below(12_000);
        for (id, item) in self.items.clone() {
            if self.random.below(3) == 0 {
                self.push("read", &mut 0, Source::record(id, &item), None);
            }
        }
    }

    pub(super) fn run(mut self, transactions: u64, reads: bool) -> Source {
        for _ in 0..transactions {
            self.transaction();
            if reads && self.random.below(20) == 0 {
                self.read();
            }
        }
        self
    }

    pub(super) fn check(&self, client: &mut Client, how: &str) {
        let table = &self.table;
        let found = rows(
            client,
            &format!("select id, name, body, n from {table} where gone is null order by id"),
        );
        let wanted: Vec<String> = self
            .items
            .iter()
            .map(|(id, item)| format!("{id}|name {}|body {}|{}", item.name, item.body, item.n))
            .collect();
        let only = |a: &[String], b: &[String]| -> Vec<String> {
            a.iter().filter(|row| !b.contains(row)).cloned().collect()
        };
        let (extra, missing) = (only(&found, &wanted), only(&wanted, &found));
        assert!(
            found == wanted,
            "{how}: {extra:?} instead of {missing:?}; of the first: {:?}",
            extra.iter().chain(&missing).next().map(|row| {
                let id = row.split('|').next().unwrap_or_default();
                let of = [format!(r#""id":{id},"#), format!(r#""id":{id}}}"#)];
                let texts = self.messages.iter().filter(|m| {
                    of.iter()
                        .any(|of| m.record.contains(of) || m.changes.contains(of))
                });
                texts.map(Message::to_string).collect::<Vec<_>>()
            })
        );
    }
}

/// The simulated sources of a test: with both guards and replica identities, with reads and without.
fn simulate(test: &str, rounds: u64, deliver: impl Fn(&Database, &mut Random, &[Message])) {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_{test}_{guard}"));
        let mut client = database.connect();
        let rounds = env::var("CONVERGENCE_ROUNDS")
            .map_or(rounds, |rounds| rounds.parse().expect("CONVERGENCE_ROUNDS"));
        for round in 0..rounds {
            for (full, reads) in [(true, false), (true, true), (false, false), (false, true)] {
                let table = format!("item_{full}_{reads}_{round}");
                run(&mut client, &format!("create table {table} {SIMULATED}"));
                map(&mut client, &table, guard, "");
                let mut source = Source::new(&table, full, 40, 7 * round + 1).run(150, reads);
                let random = &mut Random::new(round + 100);
                random.shuffle(&mut source.messages);
                deliver(&database, random, &source.messages);
                source.check(&mut client, &format!("{table}, guard {guard}"));
                assert_eq!(
                    value(&mut client, "select count(*) from sequin.dead_letter"),
                    "0"
                );
            }
        }
    }
}

#[test]
fn one_session() {
    simulate("one", 6, |database, random, messages| {
        let mut client = database.connect();
        let mut rest = messages;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(60) as usize));
            send(&mut client, now);
            rest = later;
        }
    });
}

#[test]
fn the_same_batch_by_two_sessions_at_once() {
    simulate("twice", 3, |database, random, messages| {
        let mut batches = Vec::new();
        let mut rest = messages;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(1 + random.below(30) as usize));
            batches.push(now);
            rest = later;
        }
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut client = database.connect();
                    for batch in &batches {
                        barrier.wait();
                        send(&mut client, batch);
                    }
                });
            }
        });
    });
}

#[test]
fn overlapping_batches_by_four_sessions() {
    simulate("overlap", 3, |database, random, messages| {
        let mut batches = Vec::new();
        let mut start = 0;
        while start < messages.len() {
            let end = messages.len().min(start + 5 + random.below(40) as usize);
            let mut batch = messages[start..end].to_vec();
            random.shuffle(&mut batch);
            batches.push(batch);
            start += 1 + random.below(12) as usize;
            start = start.min(end);
        }
        let queue = Mutex::new(batches.into_iter());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = database.connect();
                    loop {
                        let batch = queue.lock().expect("the queue").next();
                        let Some(batch) = batch else { return };
                        send(&mut client, &batch);
                    }
                });
            }
        });
    });
}
