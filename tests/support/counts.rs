//! Applying batches, and the row that `sequin_apply` returns.

use std::fmt::Display;
use std::ops::AddAssign;

use postgres::error::DbError;
use postgres::{Client, Error, Row};

use crate::batch;
use crate::database::{db_error, described};

/// The row that `sequin_apply` returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/reference/functions.md has them")]
pub struct Counts {
    pub received: i64,
    pub upserted: i64,
    pub deleted: i64,
    pub collapsed: i64,
    pub stale: i64,
    pub filtered: i64,
    pub ignored: i64,
    pub dead: i64,
}

impl Counts {
    /// How many outcomes there were.
    pub fn outcomes(&self) -> i64 {
        self.upserted
            + self.deleted
            + self.collapsed
            + self.stale
            + self.filtered
            + self.ignored
            + self.dead
    }

    fn of(row: &Row) -> Counts {
        Counts {
            received: row.get("received"),
            upserted: row.get("upserted"),
            deleted: row.get("deleted"),
            collapsed: row.get("collapsed"),
            stale: row.get("stale"),
            filtered: row.get("filtered"),
            ignored: row.get("ignored"),
            dead: row.get("dead"),
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.received += more.received;
        self.upserted += more.upserted;
        self.deleted += more.deleted;
        self.collapsed += more.collapsed;
        self.stale += more.stale;
        self.filtered += more.filtered;
        self.ignored += more.ignored;
        self.dead += more.dead;
    }
}

/// The counts of `n` messages that were all upserted.
pub fn upserted(n: i64) -> Counts {
    Counts {
        received: n,
        upserted: n,
        ..Counts::default()
    }
}

/// The counts of `n` messages that all deleted a row.
pub fn deleted(n: i64) -> Counts {
    Counts {
        received: n,
        deleted: n,
        ..Counts::default()
    }
}

/// The counts of `n` messages that were all stale.
pub fn stale(n: i64) -> Counts {
    Counts {
        received: n,
        stale: n,
        ..Counts::default()
    }
}

/// Applies a batch as a forwarder does: the parameter has no type, so it is text.
pub fn try_apply(client: &mut Client, batch: &str) -> Result<Counts, Error> {
    client
        .query_one("select * from sequin_apply($1)", &[&batch])
        .map(|row| Counts::of(&row))
}

/// Applies a batch that must work.
pub fn apply(client: &mut Client, batch: &str) -> Counts {
    try_apply(client, batch).unwrap_or_else(|error| panic!("{}", described(&error)))
}

/// Applies a batch as jsonb.
pub fn apply_jsonb(client: &mut Client, batch: &str) -> Counts {
    let row = client.query_one("select * from sequin_apply($1::text::jsonb)", &[&batch]);
    Counts::of(&row.unwrap_or_else(|error| panic!("{}", described(&error))))
}

/// Applies messages that each go to one mapping, as one batch.
pub fn send<M: Display>(client: &mut Client, messages: &[M]) -> Counts {
    let counts = apply(client, &batch(messages));
    assert_eq!(counts.received, messages.len() as i64);
    assert_eq!(counts.outcomes(), counts.received, "{counts:?}");
    counts
}

/// The error that applying a batch gives.
pub fn apply_error(client: &mut Client, batch: &str) -> DbError {
    match try_apply(client, batch) {
        Ok(counts) => panic!("no error but {counts:?}"),
        Err(error) => db_error(error),
    }
}
