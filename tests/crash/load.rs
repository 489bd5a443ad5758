//! What is delivered: a corpus, and a simulated source with constraints.

use std::collections::BTreeMap;
use std::fs;

use support::{Message, Random, batch, corpus_directory, corpus_lines};

/// The batches of a delivery, and the rows that must be there in the end.
pub(super) struct Load {
    pub(super) name: &'static str,
    pub(super) ddl: String,
    /// Table, and its rows as CSV with a header.
    pub(super) tables: Vec<(String, String)>,
    pub(super) batches: Vec<String>,
}

/// The corpus of tests/corpus, as it was delivered.
pub(super) fn shop() -> Load {
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

    /// Makes a random change, or none where the constraints forbid it.
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
pub(super) fn constrained(seed: u64) -> Load {
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
