//! The statements of one mapping, prepared on first use and kept with the mapping.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::column_set::ColumnSet;
use crate::prepared::Statement;
use crate::statement::RowLock;

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

/// What a statement finds rows for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To delete them.
    Delete,
    /// To mark them as deleted.
    Mark,
    /// To read their stored versions.
    Read(RowLock),
}

/// The most statements that are kept, each for one shape.
const SHAPES: usize = 64;

/// The most statements that find rows by key, each for some partitions.
const PLACES: usize = 16;

/// The statements of one mapping.
#[derive(Default)]
pub struct Statements {
    shapes: HashMap<Shape, Statement>,
    by_key: HashMap<ByKey, Statement>,
}

impl Statements {
    /// How many bytes the server keeps for the statements and their plans.
    pub fn memory(&self) -> usize {
        let all = self.shapes.values().chain(self.by_key.values());
        all.map(Statement::memory).sum()
    }

    /// Takes out the statement for a shape. [`Self::keep`] puts it back.
    pub fn take(&mut self, shape: &Shape) -> Option<Statement> {
        self.shapes.remove(shape)
    }

    /// Keeps a statement for the next rows of its shape.
    pub fn keep(&mut self, shape: Shape, statement: Statement) {
        if self.shapes.len() >= SHAPES {
            self.shapes.clear();
        }
        self.shapes.insert(shape, statement);
    }

    /// Takes out a statement that finds rows by key. [`Self::keep_by_key`] puts it back.
    pub fn take_by_key(&mut self, by_key: &ByKey) -> Option<Statement> {
        self.by_key.remove(by_key)
    }

    /// Keeps a statement for the next rows.
    pub fn keep_by_key(&mut self, by_key: ByKey, statement: Statement) {
        if self.by_key.len() >= PLACES {
            self.by_key.clear();
        }
        self.by_key.insert(by_key, statement);
    }
}
