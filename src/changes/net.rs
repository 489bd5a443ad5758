//! Net changes: what is to be done with each row.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::Datum;

use super::keyed::{Keyed, Run};
use crate::column_set::ColumnSet;
use crate::merge::{Stamp, State};
use crate::outcome::{MessageNo, Outcome};

/// How a net change is guarded.
#[derive(Debug, Clone)]
pub enum Guarded {
    /// Not at all: it arrived last.
    No,
    /// It is a change with a version; the server compares.
    Change,
    /// It is a read; the server compares.
    Read,
    /// The rule was applied to what is stored; this is the row's new state.
    Examined {
        /// The state to store.
        state: Box<State>,
        /// Whether `sequin.row_version` has a row of it.
        has_version_row: bool,
        /// Whether the destination has the row.
        exists: bool,
        /// Whether the row must be written (or deleted).
        touched: bool,
    },
}

/// What a net change does to its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEffect {
    /// The row is to be there.
    Write {
        /// The columns that have a value.
        columns: ColumnSet,
        /// Documents among them of which only a part is known, to be laid over what is there.
        merges: ColumnSet,
        /// Whether the row that may be there is another one, of which nothing must be left.
        replaces: bool,
    },
    /// The row is marked as deleted, with the values that it had at last.
    Mark {
        /// The columns that have a value.
        columns: ColumnSet,
        /// As in `Write`.
        merges: ColumnSet,
    },
    /// The row is to be gone.
    Delete {
        /// Because the filter refused it.
        refused: bool,
    },
}

/// What is to be done with a row.
#[derive(Debug, Clone)]
pub struct NetChange {
    /// Its changes.
    pub run: Run,
    /// The message that decided, and that is to blame if the row cannot be written.
    pub message: MessageNo,
    /// What becomes of that message when the row is written.
    pub outcome: Outcome,
    /// What is done.
    pub effect: NetEffect,
    /// When the row changed.
    pub stamp: Option<Stamp>,
    /// When it was read, in microseconds since 1970.
    pub read_at: Option<i64>,
    /// How it is guarded.
    pub guarded: Guarded,
    /// Where its values are.
    pub row: ValueRow,
}

impl NetChange {
    /// Whether the row is to be there.
    pub fn present(&self) -> bool {
        matches!(self.effect, NetEffect::Write { .. })
    }

    /// The columns that have a value, and the documents among them that are laid over what is there; `None`
    /// if the row is deleted.
    pub fn columns(&self) -> Option<(&ColumnSet, &ColumnSet)> {
        match &self.effect {
            NetEffect::Write {
                columns, merges, ..
            }
            | NetEffect::Mark { columns, merges } => Some((columns, merges)),
            NetEffect::Delete { .. } => None,
        }
    }

    /// Whether it has a value for a column.
    pub fn has(&self, column: usize) -> bool {
        self.columns()
            .is_some_and(|(columns, _)| columns.has(column))
    }
}

/// Where the values of a row begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueRow(usize);

/// The values of net changes: for each a row as wide as the mapping's columns.
pub struct Values {
    width: usize,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl Values {
    /// No rows yet, of this width.
    pub fn new(width: usize) -> Values {
        Values {
            width,
            values: Vec::new(),
            nulls: Vec::new(),
        }
    }

    /// Makes room for so many rows.
    pub fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows * self.width);
        self.nulls.reserve(rows * self.width);
    }

    /// Adds a row of nulls.
    pub fn add_row(&mut self) -> ValueRow {
        let row = self.values.len();
        self.values.resize(row + self.width, Datum::null());
        self.nulls.resize(row + self.width, true);
        ValueRow(row)
    }

    /// Sets a value.
    pub fn put(&mut self, row: ValueRow, column: usize, value: Datum) {
        self.values[row.0 + column] = value;
        self.nulls[row.0 + column] = false;
    }

    /// A value; `None` is null.
    pub fn get(&self, row: ValueRow, column: usize) -> Option<Datum> {
        (!self.is_null(row, column)).then(|| self.datum(row, column))
    }

    /// A value as it is, whatever it is if it is null.
    pub fn datum(&self, row: ValueRow, column: usize) -> Datum {
        self.values[row.0 + column]
    }

    /// Whether a value is null.
    pub fn is_null(&self, row: ValueRow, column: usize) -> bool {
        self.nulls[row.0 + column]
    }
}

/// The net changes of a mapping's rows, and the values of these and of all that are made later.
pub struct NetChanges {
    /// What is to be done, in the order of the keys.
    pub list: Rc<Vec<NetChange>>,
    pub values: Values,
}

/// What must be written together: the net change of a row, or of the two rows that a message with another
/// key concerns. The two need not be one that arrives and one that leaves: other messages may have decided
/// what becomes of the rows.
#[derive(Debug, Clone)]
pub struct Unit {
    // Boxed, since units are moved from set to set while it is found out which of them fail.
    first: Box<NetChange>,
    second: Option<Box<NetChange>>,
}

impl Unit {
    /// The net change of one row.
    pub fn one(net: NetChange) -> Unit {
        Unit {
            first: Box::new(net),
            second: None,
        }
    }

    /// Up to two net changes; `None` without any.
    pub fn of(nets: impl IntoIterator<Item = NetChange>) -> Option<Unit> {
        let mut nets = nets.into_iter();
        let unit = Unit {
            first: Box::new(nets.next()?),
            second: nets.next().map(Box::new),
        };
        debug_assert!(nets.next().is_none(), "a message concerns two rows at most");
        Some(unit)
    }

    /// Adds the net change of the second row.
    pub fn add(&mut self, net: NetChange) {
        debug_assert!(self.second.is_none(), "a message concerns two rows at most");
        self.second = Some(Box::new(net));
    }

    /// Its net changes.
    pub fn nets(&self) -> impl Iterator<Item = &NetChange> {
        std::iter::once(&*self.first).chain(self.second.as_deref())
    }

    /// Its net changes, apart.
    pub fn into_nets(self) -> impl Iterator<Item = NetChange> {
        std::iter::once(*self.first).chain(self.second.map(|net| *net))
    }

    /// The first net change.
    pub fn first(&self) -> &NetChange {
        &self.first
    }

    /// The message that is to blame if the unit cannot be written.
    pub fn message(&self) -> MessageNo {
        self.first.message
    }

    /// The net change of the row that the message is about: not of the key that the row left.
    pub fn subject(&self, keyed: &Keyed) -> &NetChange {
        self.nets()
            .find(|net| !keyed.has_left(net.run, net.message))
            .unwrap_or(&self.first)
    }

    /// The net change of the row that is to go.
    pub fn going(&self) -> &NetChange {
        self.nets()
            .find(|net| !net.present())
            .unwrap_or(&self.first)
    }
}

/// Rows as JSON text, by the bytes of their keys.
pub type Images = HashMap<Vec<u8>, String>;
