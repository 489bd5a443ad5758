//! Net changes: the effect of a batch on each row.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::Datum;

use super::keyed::{Keyed, Run};
use crate::column_set::ColumnSet;
use crate::merge::{Stamp, State};
use crate::outcome::{MessageNo, Outcome};
use crate::target::Target;
use crate::target::column::Member;

/// How a net change is compared with the stored version.
#[derive(Debug, Clone)]
pub enum Guarded {
    /// Not at all: the last arrival wins.
    No,
    /// A change with a version: the server compares.
    Change,
    /// A read: the server compares.
    Read,
    /// The rule was applied to the stored state, with this new state as the result.
    Examined {
        /// The state to store.
        state: Box<State>,
        /// The members of documents that have cells in the state, behind the columns.
        members: Vec<Member>,
        /// Whether `sequin.row_version` has an entry for the row.
        has_version_row: bool,
        /// Whether the destination has the row.
        exists: bool,
        /// Whether the row must be written (or deleted).
        touched: bool,
    },
}

/// The effect of a net change on its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEffect {
    /// The row is written.
    Write {
        /// The columns that have a value.
        columns: ColumnSet,
        /// Documents among `columns` of which only a part is known. The known members are merged into the
        /// stored document. Also columns of the key whose stored spelling stays.
        merges: ColumnSet,
        /// Whether a row that has this key already is another row: none of its values may remain.
        replaces: bool,
    },
    /// The row is marked as deleted, with its last values.
    Mark {
        /// The columns that have a value.
        columns: ColumnSet,
        /// As in `Write`.
        merges: ColumnSet,
    },
    /// The row is deleted.
    Delete {
        /// Whether the filter refused the row.
        refused: bool,
    },
}

/// The net change of one row.
#[derive(Debug, Clone)]
pub struct NetChange {
    /// The row's changes.
    pub run: Run,
    /// The message that decided. This message is to blame if the row cannot be written.
    pub message: MessageNo,
    /// The outcome of the deciding message once the row is written.
    pub outcome: Outcome,
    /// The effect on the row.
    pub effect: NetEffect,
    /// The stamp of the newest change of the row; `None` for a read, and for a deleted row that was
    /// examined.
    pub stamp: Option<Stamp>,
    /// Of a row that is gone: the image of the row that went.
    pub image: Option<u64>,
    /// The time of the newest read of the row, in microseconds since 1970.
    pub read_at: Option<i64>,
    /// How the net change is compared with the stored version.
    pub guarded: Guarded,
    /// The position of the row's values.
    pub row: ValueRow,
}

impl NetChange {
    /// Whether the row is there afterwards.
    pub fn present(&self) -> bool {
        matches!(self.effect, NetEffect::Write { .. })
    }

    /// Whether nothing is written: the stored row is as it is to be.
    pub fn is_untouched(&self) -> bool {
        matches!(self.guarded, Guarded::Examined { touched: false, .. })
    }

    /// Whether the server compares versions, because what is stored of the row has not been loaded.
    pub fn is_unexamined(&self) -> bool {
        matches!(self.guarded, Guarded::Change | Guarded::Read)
    }

    /// Whether nothing stays of the row that may be there.
    pub fn replaces(&self) -> bool {
        matches!(self.effect, NetEffect::Write { replaces: true, .. })
    }

    /// The columns that have a value, and the documents among them that are merged into the stored ones;
    /// `None` for a deleted row.
    pub fn columns(&self) -> Option<(&ColumnSet, &ColumnSet)> {
        match &self.effect {
            NetEffect::Write {
                columns, merges, ..
            }
            | NetEffect::Mark { columns, merges } => Some((columns, merges)),
            NetEffect::Delete { .. } => None,
        }
    }

    /// Whether the net change has a value for a column.
    pub fn has(&self, column: usize) -> bool {
        self.columns()
            .is_some_and(|(columns, _)| columns.has(column))
    }
}

/// The position of a row's first value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueRow(usize);

/// The values of net changes: one row per net change, as wide as the mapping's columns.
pub struct Values {
    width: usize,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl Values {
    /// An empty list of rows of this width.
    pub fn new(width: usize) -> Values {
        Values {
            width,
            values: Vec::new(),
            nulls: Vec::new(),
        }
    }

    /// Makes room for this number of rows.
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

    /// Makes a value null.
    pub fn clear(&mut self, row: ValueRow, column: usize) {
        self.nulls[row.0 + column] = true;
    }

    /// A value; `None` is null.
    pub fn get(&self, row: ValueRow, column: usize) -> Option<Datum> {
        (!self.is_null(row, column)).then(|| self.datum(row, column))
    }

    /// A value without its null flag. The datum of a null is arbitrary.
    pub fn datum(&self, row: ValueRow, column: usize) -> Datum {
        self.values[row.0 + column]
    }

    /// Whether a value is null.
    pub fn is_null(&self, row: ValueRow, column: usize) -> bool {
        self.nulls[row.0 + column]
    }
}

/// The net changes of a mapping's rows. `values` also holds the values of net changes that are made later.
pub struct NetChanges {
    /// The net changes, in the order of the keys.
    pub list: Rc<Vec<NetChange>>,
    pub values: Values,
}

/// The net changes that must be written together: of one row, or of the two rows that a message with a
/// changed key concerns. The two need not be an arrival and a departure: other messages may have decided
/// the rows.
#[derive(Debug, Clone)]
pub struct Unit {
    // Boxed, since the search for failing units moves them from set to set.
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

    /// A unit of one or two net changes; `None` for an empty list.
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

    /// The unit's net changes.
    pub fn nets(&self) -> impl Iterator<Item = &NetChange> {
        std::iter::once(&*self.first).chain(self.second.as_deref())
    }

    /// The net changes, to be changed.
    pub fn nets_mut(&mut self) -> impl Iterator<Item = &mut NetChange> {
        std::iter::once(&mut *self.first).chain(self.second.as_deref_mut())
    }

    /// The unit's net changes, by value.
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

    /// The net change of the row that the message is about, not of the key that the row left.
    pub fn subject(&self, keyed: &Keyed) -> &NetChange {
        self.nets()
            .find(|net| !keyed.has_left(net.run, net.message))
            .unwrap_or(&self.first)
    }

    /// The net change that removes its row; the first one if both rows stay.
    pub fn going(&self) -> &NetChange {
        self.nets()
            .find(|net| !net.present())
            .unwrap_or(&self.first)
    }
}

/// Rows as JSON text, by the bytes of their keys.
pub type Images = HashMap<Vec<u8>, String>;

/// The key values of a net change's row.
pub fn key_values(target: &Target, values: &Values, net: &NetChange) -> Vec<Datum> {
    let key = target.key.iter();
    key.map(|&column| values.datum(net.row, column)).collect()
}
