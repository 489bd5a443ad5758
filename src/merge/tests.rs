//! Compares the rule with a simulated source and a model of the destination, then tests each clause alone.

#![forbid(unsafe_code)]

mod derived;
mod examples;
mod generators;
mod law;
mod model;
mod order;
mod past;
mod plain_images;
mod remember;
mod source;
mod time;

use super::*;
use crate::message::Version;

const SECOND: i64 = 1_000_000;
const READ_SKEW: i64 = 5 * SECOND;

/// The change at this position of source 1, committed in the second `lsn`.
fn at(lsn: u64, idx: u32) -> Stamp {
    Stamp {
        source: 1,
        version: Some(Version { lsn, idx }),
        committed_at: Some(lsn as i64 * SECOND),
    }
}
