//! What an operator sees and does: counters and `sequin.status`, `sequin.explain`, pausing, fingerprints.

#![forbid(unsafe_code)]

mod comments;
mod drift;
mod explain;
mod fingerprint;
mod generated;
mod marked;
mod owner_lost;
mod pausing;
mod replica;
mod sequences;
mod shared;
mod status;
mod waiting;

use postgres::Client;
use support::{message, value};

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
