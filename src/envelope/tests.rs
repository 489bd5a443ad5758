//! Reads each batch as text and as `jsonb`; both must give the same messages.

#![forbid(unsafe_code)]

mod faults;
mod joined;
mod limits;
mod lines;
mod messages;
mod shapes;
mod wrapped;

use std::fmt::Write;
use std::fs;

use bumpalo::Bump;

use super::*;
use crate::json::Json;
use crate::json::tests::{jsonb, same};

const MESSAGE: &str = r#"{"action":"insert","record":{"id":1},"changes":null,"metadata":{"table_schema":"public","table_name":"t","commit_lsn":7}}"#;

/// [`MESSAGE`] as [`told`] shows it.
const GOOD: &str = "public.t insert 7\n";

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

/// A batch in short: `public.t insert 7` for a message, the fault and the text for a dead item.
fn told(batch: &Batch) -> String {
    let mut out = String::new();
    for (index, item) in batch.items.iter().enumerate() {
        let _ = match item {
            Item::Message(m) => {
                assert_eq!(m.position, index);
                let lsn = m.version.map_or(-1, |version| version.lsn as i64);
                writeln!(out, "{}.{} {} {lsn}", m.schema, m.table, m.action.as_str())
            }
            Item::Dead { text, fault } => writeln!(out, "{fault}: {}", text.text()),
        };
    }
    out
}

/// Reads the text, and the same value as `jsonb`: both must give the same batch.
fn read(text: &str) -> String {
    let arena = Bump::new();
    let batch = read_text(text, &arena, UNWATCHED).unwrap();
    if let Ok(json) = Json::parse(text)
        && let Some(bytes) = jsonb(json)
    {
        let binary = read_jsonb(Jsonb::new(&bytes), &arena, UNWATCHED);
        assert_same(&batch, &binary);
    }
    told(&batch)
}

fn assert_same(a: &Batch, b: &Batch) {
    let (told_a, told_b) = (told(a), told(b));
    assert_eq!(a.items.len(), b.items.len(), "{told_a}\n{told_b}");
    for (item_a, item_b) in a.items.iter().zip(&b.items) {
        match (item_a, item_b) {
            (Item::Message(ma), Item::Message(mb)) => {
                assert_eq!(ma.position, mb.position);
                assert_eq!(ma.action, mb.action);
                assert_eq!((ma.schema, ma.table), (mb.schema, mb.table));
                assert_eq!(ma.database_id, mb.database_id);
                assert_eq!(ma.database_name, mb.database_name);
                assert_eq!((ma.version, ma.committed_at), (mb.version, mb.committed_at));
                assert!(same(ma.record, mb.record));
                assert!(same(ma.metadata, mb.metadata));
                assert!(same(ma.whole, mb.whole));
                assert_eq!(ma.changes.is_some(), mb.changes.is_some());
                if let (Some(a), Some(b)) = (ma.changes, mb.changes) {
                    assert!(same(a, b));
                }
                for (batch, m) in [(a, ma), (b, mb)] {
                    let of_record: Vec<_> = m.record.members().map(|(key, _)| key).collect();
                    let fields: Vec<_> = batch.fields(m).iter().map(|f| f.key).collect();
                    assert_eq!(fields, of_record);
                    for field in batch.fields(m) {
                        let value = m.record.get(field.key).unwrap();
                        assert!(same(value, field.value) || !is_unique(&fields, field.key));
                    }
                }
            }
            (Item::Dead { text: a, fault: fa }, Item::Dead { text: b, fault: fb }) => {
                assert_eq!(fa, fb);
                let (a, b) = (a.text(), b.text());
                match (Json::parse(&a), Json::parse(&b)) {
                    (Ok(a), Ok(b)) => assert!(same(a, b)),
                    _ => assert_eq!(a, b),
                }
            }
            _ => panic!("{told_a}\n{told_b}"),
        }
    }
}

fn is_unique(keys: &[&str], key: &str) -> bool {
    keys.iter().filter(|k| **k == key).count() == 1
}

fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
