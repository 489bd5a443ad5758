//! Whatever order, repetition and split the messages come in, and however many sessions bring them, the destination
//! equals the source in the end; and a resync brings back what was lost.
//!
//! `CONVERGENCE_ROUNDS=50` simulates more sources than the usual few.

#![forbid(unsafe_code)]

mod altered;
mod appended;
mod derived;
mod forgotten;
mod guards;
mod keys;
mod members;
mod moves;
mod older;
mod orders;
mod parts;
mod reads;
mod regions;
mod resync;
mod resync_safety;
mod rivals;
mod sessions;
mod sources;
mod spellings;
mod steps;
mod time;
mod toast;
mod tombstones;
mod untold;

use postgres::Client;
use support::{Database, Message, run};

/// Both places where versions are kept.
const GUARDS: [&str; 2] = ["columns", "table"];

/// A message of `public.item`.
fn item(action: &str, lsn: u64, record: impl Into<String>) -> Message {
    Message::new(action, "item", lsn, record)
}

fn record(id: i64, name: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}"}}"#)
}

fn document(id: i64, name: &str, body: &str) -> String {
    format!(r#"{{"id":{id},"name":"{name}","body":"{body}"}}"#)
}

/// A row that comes to another key, under REPLICA IDENTITY FULL.
fn moved(lsn: u64, idx: u64, from: i64, to: i64, name: &str) -> Message {
    item("update", lsn, record(to, name))
        .idx(idx)
        .changes(format!(r#"{{"id":{from}}}"#))
}

const ITEM: &str = "create table item (id integer primary key, name text, body text)";

const ITEMS: &str = "select id, name, body from item order by id";

/// A database with a mapped table `item`; the mapping has the same name.
fn mapped(test: &str, ddl: &str, guard: &str) -> (Database, Client) {
    Database::mapped(&format!("convergence_{test}"), ddl, &["item"], guard)
}

fn map(client: &mut Client, table: &str, guard: &str, more: &str) {
    run(
        client,
        &format!(
            "select sequin.map('public.{table}', '{table}', name => '{table}', guard => '{guard}'{more})"
        ),
    );
}

fn row(id: i64, name: &str) -> String {
    format!("{id}|{name}|null")
}
