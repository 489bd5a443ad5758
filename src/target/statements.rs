//! The statements of one mapping, prepared on first use and kept with the mapping.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::Hash;

use crate::column_set::ColumnSet;
use crate::prepared::Statement;
use crate::statement::lookup::RowLock;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// Rows that may exist, whatever their versions.
    Upsert,
    /// Rows that may exist, if their stored version is older.
    UpsertNewer,
    /// As `UpsertNewer`, but returns the keys of the written rows.
    UpsertNewerNamed,
    /// Rows that may exist, if the read is late enough.
    UpsertRead,
    /// Rows that exist, where an insert would lack a required column.
    Update,
    /// Rows that may exist, to be replaced by other rows: columns without a value get their defaults.
    Replace,
    /// Rows that do exist, under another key.
    Move,
    /// Rows that do exist, under another key, to be replaced by other rows: columns without a value get their defaults.
    Handover,
    /// Rows that may exist, marked as deleted.
    UpsertMarked,
}

impl WriteKind {
    /// Whether the statement is an update, which does not count the rows that it reads.
    pub fn is_update(self) -> bool {
        matches!(
            self,
            WriteKind::Update | WriteKind::Move | WriteKind::Handover
        )
    }
}

/// The properties of rows that determine the statement that writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How the rows are written.
    pub kind: WriteKind,
    /// The columns that have a value.
    pub columns: ColumnSet,
    /// Documents among the columns that are merged into the stored ones, and columns of the key that keep their spelling.
    pub merges: ColumnSet,
    /// `sequin.read_skew` in microseconds.
    pub read_skew: i64,
    /// Whether the rows were not there. A row that another call has written since stays.
    pub absent: bool,
    /// The condition of an update that tells which partitions can have the rows: see [`Target::within`].
    ///
    /// [`Target::within`]: super::Target::within
    pub within: Option<String>,
}

/// A statement that finds rows by key, with the condition that tells which partitions can have them.
pub type ByKey = (Purpose, Option<String>);

/// What becomes of a row that a change removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is deleted.
    Delete,
    /// It is marked as deleted.
    Mark,
    /// It stays, for other mappings have it too, and loses the columns of this mapping.
    Clear,
}

impl Removal {
    /// The purpose of the statement.
    pub fn purpose(self) -> Purpose {
        match self {
            Removal::Delete => Purpose::Delete,
            Removal::Mark => Purpose::Mark,
            Removal::Clear => Purpose::Clear,
        }
    }
}

/// What a statement finds rows for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To delete them.
    Delete,
    /// To mark them as deleted.
    Mark,
    /// To set the mapping's columns to their defaults.
    Clear,
    /// To read their stored versions.
    Read(RowLock),
}

/// Statements that are kept, at most `MOST`. With one more, all others go.
pub struct Shelf<K, const MOST: usize>(HashMap<K, Statement>);

impl<K, const MOST: usize> Default for Shelf<K, MOST> {
    fn default() -> Self {
        Shelf(HashMap::new())
    }
}

impl<K: Eq + Hash, const MOST: usize> Shelf<K, MOST> {
    /// Takes out a statement. [`Self::keep`] puts it back.
    pub fn take(&mut self, of: &K) -> Option<Statement> {
        self.0.remove(of)
    }

    /// Keeps a statement for the next rows.
    pub fn keep(&mut self, of: K, statement: Statement) {
        if self.0.len() >= MOST {
            self.0.clear();
        }
        self.0.insert(of, statement);
    }
}

/// The statements of one mapping.
#[derive(Default)]
pub struct Statements {
    /// Those that write rows of a shape.
    pub shapes: Shelf<Shape, 64>,
    /// Those that find rows by key, each for some partitions.
    pub by_key: Shelf<ByKey, 16>,
}

impl Statements {
    /// How many bytes the server keeps for the statements and their plans.
    pub fn memory(&self) -> usize {
        let all = self.shapes.0.values().chain(self.by_key.0.values());
        all.map(Statement::memory).sum()
    }
}
