//! What is known of a row, and what a change says of it.

#![forbid(unsafe_code)]

use std::cmp::Ordering;

use crate::message::Version;

/// When and where a change happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The number that stands for the source database.
    pub source: i64,
    /// Position in that source. Reads, and messages of old Sequin versions, have none.
    pub version: Option<Version>,
    /// Commit time in microseconds since 1970; of a read, the time when Sequin read the row.
    pub committed_at: Option<i64>,
}

impl Stamp {
    /// Whether the change of this stamp is older than, the same as or newer than the stored change. Positions
    /// decide within a source, commit times between sources. Where neither decides, this stamp counts as newer.
    pub fn compare(&self, stored: &Stamp) -> Ordering {
        match (self.version, stored.version) {
            (Some(a), Some(b)) if self.source == stored.source => a.compare(b),
            _ => match (self.committed_at, stored.committed_at) {
                (Some(a), Some(b)) if a != b => a.cmp(&b),
                _ => Ordering::Greater,
            },
        }
    }

    pub(super) fn is_newer_than(&self, stored: Option<&Stamp>) -> bool {
        stored.is_none_or(|stored| self.compare(stored) == Ordering::Greater)
    }

    /// Whether both have positions, and this one is surely before the other.
    pub fn is_before(&self, other: &Stamp) -> bool {
        match (self.version, other.version) {
            (Some(a), Some(b)) => a.is_before(b),
            _ => false,
        }
    }

    /// Whether both stamps are of one transaction.
    pub fn same_transaction(&self, other: &Stamp) -> bool {
        match (self.version, other.version) {
            (Some(a), Some(b)) => self.source == other.source && a.lsn == b.lsn,
            _ => false,
        }
    }
}

/// What happened to the row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The row came to this key: an insert, or an update that moved it here.
    Appear,
    /// The row was updated.
    Update,
    /// A backfill read the row.
    Read,
    /// The row was deleted. In the same transaction another row may have come to this key already; `image`
    /// tells the two apart.
    Delete {
        /// Fingerprint of the deleted row; `None` if the message does not hold the row.
        image: Option<u64>,
    },
    /// The row moved to another key, as with `Delete`.
    Leave {
        /// Fingerprint of the row that left: its record overlaid with `changes`.
        image: u64,
    },
}

impl Event {
    /// Whether the row is not at the key any more.
    pub fn removes(self) -> bool {
        matches!(self, Event::Delete { .. } | Event::Leave { .. })
    }

    /// The image of the row that went.
    pub fn image_gone(self) -> Option<u64> {
        match self {
            Event::Delete { image } => image,
            Event::Leave { image } => Some(image),
            Event::Appear | Event::Update | Event::Read => None,
        }
    }
}

/// What a change says of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    /// The change has a value for the column.
    Value,
    /// The change says that the value is unchanged, but not which value it is.
    Unchanged,
    /// The change has a value, but one that is made of a value which it says is unchanged: the column is as old as that.
    Derived,
    /// The change does not mention the column: the source has no column of that name, or the change is a read,
    /// which leaves out columns of types that it cannot tell.
    Nothing,
}

/// One change of one row.
#[derive(Debug, Clone, Copy)]
pub struct Change<'p> {
    /// The caller's number for the change, which comes back in [`Value::Of`].
    pub id: u32,
    /// What happened to the row.
    pub event: Event,
    /// When and where it happened.
    pub stamp: Stamp,
    /// Fingerprint of the change's record, if the caller has one.
    pub image: Option<u64>,
    /// Of a delete or a departure: whether the row in the destination is known to be another one than the row
    /// that went. It counts only while the image of the row is not known.
    pub differs: bool,
    /// What the change says of each column. Of deletes and departures it does not count.
    pub provided: &'p [Provided],
}

/// Where a column's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// In the destination already, maybe as the column's default.
    Stored,
    /// In the change with this number.
    Of(u32),
    /// No change has brought it yet.
    Unknown,
}

/// The state of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Where the value is.
    pub value: Value,
    /// The change that carried the value, if it is older than the row's change: a gap. `None`: the value is
    /// as new as the row.
    pub gap: Option<Stamp>,
    /// Whether the gap is one only because a read did not provide the column: the source may not have the column
    /// at all.
    pub lacked: bool,
}

impl Cell {
    /// A cell that is no gap.
    pub fn new(value: Value) -> Cell {
        Cell {
            value,
            gap: None,
            lacked: false,
        }
    }

    /// Whether an older change than the row's, with this stamp, has a newer value for the column, if it has one.
    pub(super) fn lacks(&self, stamp: &Stamp) -> bool {
        match (self.value, &self.gap) {
            (Value::Unknown, gap) => stamp.is_newer_than(gap.as_ref()),
            (_, Some(gap)) => stamp.compare(gap) == Ordering::Greater,
            (_, None) => false,
        }
    }
}

/// A tombstone, or the floor under a row that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The change that removed the row.
    pub stamp: Stamp,
    /// Fingerprint of the row that went, where known.
    pub image: Option<u64>,
    /// The index, in that transaction, of the change with this image. Until then the key belonged to the row
    /// that left. A change of the key with a higher index belongs to another row.
    pub matched: Option<u32>,
}

/// The state of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Whether the row exists.
    pub present: bool,
    /// The newest change that says the row exists.
    pub row: Option<Stamp>,
    /// Fingerprint of that change's record, where known.
    pub row_image: Option<u64>,
    /// The newest change that says the row does not exist.
    pub gone: Option<Gone>,
    /// If the row's values are those of a read: its time, in microseconds since 1970.
    pub read_at: Option<i64>,
    /// The source of the read: that of the row's change, if the row has one.
    pub read_source: i64,
    /// A cell for each column.
    pub cells: Vec<Cell>,
}

/// What a change did to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The change decided the row.
    Decided,
    /// The change is older than the known state, or repeats a known change, but it brought missing values.
    Filled,
    /// The change is older than the known state, or repeats a known change.
    Stale,
}

impl State {
    /// The state of a row about which nothing is known.
    pub fn unknown(columns: usize) -> State {
        State {
            present: false,
            row: None,
            row_image: None,
            gone: None,
            read_at: None,
            read_source: 0,
            cells: vec![Cell::new(Value::Unknown); columns],
        }
    }

    /// Forgets the row, but not its departure.
    pub(super) fn clear(&mut self) {
        self.present = false;
        self.row = None;
        self.row_image = None;
        (self.read_at, self.read_source) = (None, 0);
        self.cells.fill(Cell::new(Value::Unknown));
    }

    /// Whether a column has an older value than the row, or none.
    pub(super) fn has_gaps(&self) -> bool {
        let mut cells = self.cells.iter();
        cells.any(|cell| cell.gap.is_some() || cell.value == Value::Unknown)
    }
}
