//! The column that a soft delete sets.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use crate::destination::{Column, Destination};
use crate::mapping::{Mapping, OnDelete};
use crate::pg::clock;
use crate::pg::tuples::RowColumn;
use crate::statement::SqlColumn;

/// The column that marks deleted rows: with the time of the delete, or with true.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'t> {
    column: &'t Column,
}

impl<'t> Mark<'t> {
    /// The mark of a mapping with soft deletes.
    pub fn of(mapping: &Mapping, destination: &'t Destination) -> Option<Mark<'t>> {
        if mapping.on_delete != OnDelete::Soft {
            return None;
        }
        let column = destination.column(mapping.soft_delete.as_deref()?)?;
        Some(Mark { column })
    }

    fn is_boolean(self) -> bool {
        self.column.type_oid == pg_sys::BOOLOID
    }

    /// The column's name, quoted where SQL needs it.
    pub fn name(self) -> String {
        pgrx::spi::quote_identifier(&self.column.name)
    }

    /// The value for a delete that was committed at this time (microseconds since 1970); without a time,
    /// now.
    pub fn value(self, committed_at: Option<i64>) -> Datum {
        if self.is_boolean() {
            Datum::from(true)
        } else {
            Datum::from(committed_at.map_or_else(clock::now, clock::from_unix))
        }
    }

    /// SQL of the value for a delete without a message.
    pub fn value_now(self) -> &'static str {
        if self.is_boolean() {
            "true"
        } else {
            "pg_catalog.now()"
        }
    }

    /// Whether the mark is the column of this name.
    pub fn is_column(self, name: &str) -> bool {
        self.column.name == name
    }

    /// The value of a row without the mark; `None` is null.
    pub fn unset(self) -> Option<Datum> {
        self.is_boolean().then(|| Datum::from(false))
    }

    /// SQL that, behind the column, is true for rows without the mark.
    pub fn is_unset(self) -> &'static str {
        if self.is_boolean() {
            "is not true"
        } else {
            "is null"
        }
    }

    /// The assignment (quoted name and SQL) that removes the mark.
    pub fn removal(self) -> (String, String) {
        let value = if self.is_boolean() { "false" } else { "null" };
        (self.name(), value.to_owned())
    }

    /// The column in statements, and in a batch relation.
    pub fn sql(self) -> (SqlColumn, RowColumn) {
        let sql = SqlColumn {
            name: self.name(),
            type_name: self.column.type_name.clone(),
            equals: String::new(),
            insert_only: false,
            merges: None,
        };
        (sql, self.column.row())
    }
}
