//! What became of a message.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use crate::error::SqlError;

/// A message's position among the items of a batch, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// A message's number among those that one mapping takes from a batch, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageNo(pub u32);

impl Position {
    /// As an index into the items of the batch.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl MessageNo {
    /// As an index into lists with one element per message of the mapping.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What became of a message in one mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It decided the row, which is there.
    Upserted,
    /// It decided the row, which is gone.
    Deleted,
    /// A newer change of the same row in the same batch decided.
    Collapsed,
    /// It is older than what was applied before, or the same change again.
    Stale,
    /// The filter refused it, and there was nothing to delete.
    Filtered,
    /// The mapping ignores it.
    Ignored,
    /// It is a dead letter.
    Dead,
}

impl Outcome {
    /// Its number among the counts of the result row.
    pub fn number(self) -> usize {
        match self {
            Outcome::Upserted => 0,
            Outcome::Deleted => 1,
            Outcome::Collapsed => 2,
            Outcome::Stale => 3,
            Outcome::Filtered => 4,
            Outcome::Ignored => 5,
            Outcome::Dead => 6,
        }
    }

    /// The name of its count.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Upserted => "upserted",
            Outcome::Deleted => "deleted",
            Outcome::Collapsed => "collapsed",
            Outcome::Stale => "stale",
            Outcome::Filtered => "filtered",
            Outcome::Ignored => "ignored",
            Outcome::Dead => "dead",
        }
    }
}

/// The result row of a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages in the batch.
    pub received: i64,
    /// Outcomes, by [`Outcome::number`].
    pub outcomes: [i64; 7],
}

impl Counts {
    /// Counts an outcome.
    pub fn count(&mut self, outcome: Outcome) {
        self.outcomes[outcome.number()] += 1;
    }

    /// Adds the counts of another call.
    pub fn add(&mut self, other: &Counts) {
        self.received += other.received;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
    }
}

/// The row that a message waits for. A row is known by its table and its key as bytes, the key's
/// columns in the order of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wait {
    /// This row must come, go or change.
    Row {
        /// Its table.
        table: pg_sys::Oid,
        /// Its key.
        key: Vec<u8>,
    },
    /// Some row of the table must come, go or change.
    AnyRow {
        /// The table.
        table: pg_sys::Oid,
    },
    /// Some row must, and its table is not known.
    #[default]
    Unknown,
}

impl Wait {
    /// For the row with this key; without a key for any row of the table.
    pub fn of(table: pg_sys::Oid, key: Option<Vec<u8>>) -> Wait {
        match key {
            Some(key) => Wait::Row { table, key },
            None => Wait::AnyRow { table },
        }
    }

    /// The table, if it is known.
    pub fn table(&self) -> Option<pg_sys::Oid> {
        match self {
            Wait::Row { table, .. } | Wait::AnyRow { table } => Some(*table),
            Wait::Unknown => None,
        }
    }

    /// The row's key, if it is known.
    pub fn key(&self) -> Option<&[u8]> {
        match self {
            Wait::Row { key, .. } => Some(key),
            Wait::AnyRow { .. } | Wait::Unknown => None,
        }
    }
}

/// A message that could not be applied, and why.
#[derive(Debug, Clone)]
pub struct Failure {
    pub message: MessageNo,
    /// What the server said.
    pub error: SqlError,
    /// What the message waits for, if it may work later.
    pub wait: Option<Wait>,
}

/// A failure of one mapping among those of a call. The message's letter, which is much larger, is made when it is stored.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The position of the message.
    pub position: Position,
    /// The number of the mapping's changes among those of the call.
    pub changes: usize,
    /// Why.
    pub failure: Failure,
}

/// Which messages may be why a set of rows could not be written. It is a hint only: these messages are
/// written after the others.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    /// The message whose row was being written when the error was raised.
    pub position: Option<Position>,
    /// The error, where a foreign key was checked for all rows at the end of a statement.
    pub foreign_key: Option<SqlError>,
}

impl Suspects {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.position.is_none() && self.foreign_key.is_none()
    }
}
