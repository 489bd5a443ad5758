//! The statements of one mapping, made when they are first needed and kept with it.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::column_set::ColumnSet;
use crate::prepared::Statement;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// Rows that may exist, whatever they have.
    Upsert,
    /// Rows that may exist, where the version that the row has is older.
    UpsertNewer,
    /// The same, returning the keys of the rows that were written.
    UpsertNewerNamed,
    /// Rows that may exist, where the read is late enough.
    UpsertRead,
    /// Rows that do exist: an insert could not name every column that it must.
    Update,
    /// Rows that may exist and are others than these: columns that are not named get their defaults.
    Replace,
    /// Rows that may exist, marked as deleted.
    UpsertMarked,
}

/// What a statement that writes rows depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// How the rows are written.
    pub kind: WriteKind,
    /// The columns that they have.
    pub columns: ColumnSet,
    /// Documents among the columns that are laid over what is there.
    pub merges: ColumnSet,
    /// `sequin.read_skew` in microseconds.
    pub read_skew: i64,
}

/// More statements than this, each for a shape of its own, are not kept.
const SHAPES: usize = 64;

/// The statements of one mapping.
#[derive(Default)]
pub struct Statements {
    shapes: HashMap<Shape, Statement>,
    /// Deletes (or marks) rows by key.
    pub delete: Option<Statement>,
    /// Finds rows by key, with the versions that they hold.
    pub find: Option<Statement>,
    /// Find rows that a delete would take along, by the number of the destination's referrer.
    pub referrers: HashMap<usize, Statement>,
}

impl Statements {
    /// Takes the statement for a shape out, to be given back by [`Self::keep`].
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
}
