//! What an operator sees and does: counters and `sequin.status`, `sequin.explain`, pausing, fingerprints.

#![forbid(unsafe_code)]

mod activity;
mod comments;
mod drift;
mod explain;
mod failed_calls;
mod fingerprint;
mod generated;
mod marked;
mod monitoring;
mod names;
mod owner_lost;
mod pausing;
mod replica;
mod sequences;
mod shared;
mod status;
mod waiting;

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use support::{Database, config, message, value};

fn insert(table: &str, id: u64, lsn: u64) -> String {
    message(
        "insert",
        table,
        lsn,
        &format!(r#"{{"id":{id},"name":"n{lsn}"}}"#),
    )
}

fn counted(client: &mut Client, mapping: &str) -> String {
    value(
        client,
        &format!(
            "select calls, received, upserted, deleted, collapsed, stale, filtered, ignored, dead
             from sequin.status where name = '{mapping}'"
        ),
    )
}

/// A connection, and the warnings that it gets, with DETAIL and HINT.
fn warned(database: &Database) -> (Client, Arc<Mutex<Vec<String>>>) {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&warnings);
    let mut config = config(database.name(), None);
    config.notice_callback(move |notice| {
        if notice.severity() == "WARNING" {
            let parts = [Some(notice.message()), notice.detail(), notice.hint()];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            all.lock().expect("warnings").push(parts.join(" "));
        }
    });
    (config.connect(NoTls).expect("a connection"), warnings)
}

fn taken(warnings: &Arc<Mutex<Vec<String>>>) -> Vec<String> {
    std::mem::take(&mut *warnings.lock().expect("warnings"))
}
