//! The outcomes of messages, and the failures among them.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use crate::error::SqlError;

/// A message's position among the items of a batch, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// A message's number among the messages that one mapping takes from a batch, from 0.
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

/// The outcome of a message in one mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The message decided the row, which is there.
    Upserted,
    /// The message decided the row, which is gone.
    Deleted,
    /// A newer change of the same row in the same batch decided.
    Collapsed,
    /// The message is older than the known state of the row, or the same change again.
    Stale,
    /// The filter refused the message, and there was nothing to delete.
    Filtered,
    /// The mapping ignores the message.
    Ignored,
    /// The message is a dead letter.
    Dead,
}

impl Outcome {
    /// The outcome's number among the counts of the result row.
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

    /// The name of the outcome's count.
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

    /// Counts messages that were dead and have been tried again: their outcomes are the new ones.
    pub fn revise(&mut self, again: &Counts) {
        self.outcomes[Outcome::Dead.number()] -= again.outcomes.iter().sum::<i64>();
        for (sum, count) in self.outcomes.iter_mut().zip(again.outcomes) {
            *sum += count;
        }
    }

    /// Adds the counts of another call.
    pub fn add(&mut self, other: &Counts) {
        self.received += other.received;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
    }
}

/// The row that a message waits for. A row is known by its table and by its key as bytes, with the key's
/// columns in the order of the table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Wait {
    /// This row must come, go or change.
    Row {
        /// The row's table.
        table: pg_sys::Oid,
        /// The row's key.
        key: Vec<u8>,
        /// A value of the message's own table, as bytes, that would do as well: foreign keys refer to it.
        or: Option<Vec<u8>>,
    },
    /// Some row of the table must come, go or change.
    AnyRow {
        /// The table.
        table: pg_sys::Oid,
    },
    /// Some row of an unknown table must come, go or change.
    #[default]
    Unknown,
}

impl Wait {
    /// The wait for the row with this key; without a key, for any row of the table.
    pub fn of(table: pg_sys::Oid, key: Option<Vec<u8>>) -> Wait {
        match key {
            Some(key) => Wait::Row {
                table,
                key,
                or: None,
            },
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

    /// The value of the message's own table that would do as well.
    pub fn or(&self) -> Option<&[u8]> {
        match self {
            Wait::Row { or, .. } => or.as_deref(),
            Wait::AnyRow { .. } | Wait::Unknown => None,
        }
    }
}

/// A message that could not be applied, and why.
#[derive(Debug, Clone)]
pub struct Failure {
    pub message: MessageNo,
    /// Why the message failed.
    pub error: SqlError,
    /// The row that the message waits for; `None` if the message cannot work later.
    pub wait: Option<Wait>,
}

/// A failure of one mapping among the failures of a call. The dead letter, which is much larger, is made
/// when it is stored.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The position of the message.
    pub position: Position,
    /// The index of the mapping's changes among all changes of the call.
    pub changes: usize,
    /// The message's failure.
    pub failure: Failure,
}

/// Messages that may be the reason why a set of rows could not be written. This is only a hint: these
/// messages are written after the others.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    /// The message whose row was being written when the error was raised.
    pub position: Option<Position>,
    /// The error, if a foreign key was checked for all rows at the end of a statement.
    pub foreign_key: Option<SqlError>,
}

impl Suspects {
    /// Whether there is no hint.
    pub fn is_empty(&self) -> bool {
        self.position.is_none() && self.foreign_key.is_none()
    }
}
