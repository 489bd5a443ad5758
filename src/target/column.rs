//! A column that a mapping writes: where its values come from, and what a message says of it.

#![forbid(unsafe_code)]

use crate::cast::Caster;
use crate::json::Json;
use crate::mapping::Path;
use crate::merge::Provided;
use crate::pg::tuples::RowColumn;
use crate::statement::SqlColumn;

/// What a column is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The record's member of this name.
    Field(String),
    /// A deeper place, or another part of the message.
    Path(Path),
    /// A constant's JSON text.
    Constant(String),
    /// The projection's expression of this number.
    Sql(usize),
}

/// A column that the mapping writes.
pub struct TargetColumn {
    pub name: String,
    /// Where its values come from.
    pub source: Source,
    /// What makes datums of them; for SQL expressions the server does.
    pub caster: Caster,
    /// Its type in a batch relation.
    pub row: RowColumn,
    /// Its spelling in statements.
    pub sql: SqlColumn,
    /// Whether a row cannot be inserted without it.
    pub required: bool,
    /// Whether it is the whole record as jsonb, of which an update may bring a part.
    pub document: bool,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether a read's null says nothing.
    pub unreadable: bool,
}

/// What a message says of one column.
#[derive(Debug, Clone, Copy)]
pub enum Slot<'a> {
    /// Nothing.
    Nothing,
    /// That it did not change.
    Unchanged,
    /// This value.
    Json(Json<'a>),
    /// The whole record, but for members that did not change.
    Partial,
    /// The constant of the column's source.
    Constant,
    /// The projection's expression of this number has it.
    Sql(usize),
}

impl Slot<'_> {
    /// What [`crate::merge`] needs to know of it.
    pub fn provided(&self) -> Provided {
        match self {
            Slot::Nothing => Provided::Nothing,
            Slot::Unchanged => Provided::Unchanged,
            Slot::Json(_) | Slot::Partial | Slot::Constant | Slot::Sql(_) => Provided::Value,
        }
    }
}
