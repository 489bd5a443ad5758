//! A column that a mapping writes: the source of its values, and the value that a message has for it.

#![forbid(unsafe_code)]

use crate::cast::Caster;
use crate::json::Json;
use crate::mapping::Path;
use crate::merge::Provided;
use crate::pg::tuples::RowColumn;
use crate::statement::{Document, SqlColumn};

/// The source of a column's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The record's member of this name.
    Field(String),
    /// A deeper member of the record, or another part of the message.
    Path(Path),
    /// A constant, as JSON text.
    Constant(String),
    /// The projection's expression with this number.
    Sql(usize),
}

/// A column that the mapping writes.
pub struct TargetColumn {
    pub name: String,
    /// The source of the column's values.
    pub source: Source,
    /// Casts the values. For SQL expressions, the server does.
    pub caster: Caster,
    /// The column in a batch relation.
    pub row: RowColumn,
    /// The column in statements.
    pub sql: SqlColumn,
    /// Whether an insert fails without a value for the column.
    pub required: bool,
    /// If the column holds the whole record as json or jsonb: which of these. An update may bring only a part of
    /// such a record.
    pub document: Option<Document>,
    /// Whether the column can be null.
    pub nullable: bool,
    /// Whether a null in a read means an unknown value.
    pub unreadable: bool,
}

/// A member of a document whose value may be older than the document. It has a cell of its own, behind those of the
/// columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The number of the document's column.
    pub column: usize,
    /// The member's name.
    pub name: String,
}

/// The value that a message has for a column.
#[derive(Debug, Clone, Copy)]
pub enum Slot<'a> {
    /// No value: the message does not mention the column.
    Nothing,
    /// No value: the message says that the column did not change.
    Unchanged,
    /// This value.
    Json(Json<'a>),
    /// The whole record, except members that did not change.
    Partial,
    /// The constant of the column's source.
    Constant,
    /// The result of the projection's expression with this number.
    Sql(usize),
    /// The same, where the expression has read a kept value: one that the message does not repeat.
    Derived(usize),
}

impl Slot<'_> {
    /// The slot as [`crate::merge`] sees it.
    pub fn provided(&self) -> Provided {
        match self {
            Slot::Nothing => Provided::Nothing,
            Slot::Unchanged => Provided::Unchanged,
            Slot::Derived(_) => Provided::Derived,
            Slot::Json(_) | Slot::Partial | Slot::Constant | Slot::Sql(_) => Provided::Value,
        }
    }
}
