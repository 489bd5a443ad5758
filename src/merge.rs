//! Which change decides a row: the one rule, as a pure function of a row's state and a change.
//!
//! # The law
//!
//! For one row, take all changes that one source database sent, and any reads. A read says what the source
//! held at the time of the read. Apply them in any order, each any number of times, split over any number of
//! calls. In the end the row exists if it exists at the source, and each column that any change carried has
//! the source's value. Applied once more, every change is stale. The law holds because the state is a join
//! (a least upper bound): for the row, the newest version with the row present and the newest version with
//! the row gone; for each column, the newest version that carried the column's value.
//!
//! Until all changes have arrived, the state can depend on their order: a read may be missing, and an older
//! image of a row that moved may be taken for another row. Rows that several sources write converge by
//! commit time, if the commit times differ.
//!
//! The law holds for deferrable keys that are checked at the end of each statement. It does not hold
//! - if a row comes to a key as a row that is equal in every column leaves the key: the changes of the key
//!   look like the changes of a single row that passed the key;
//! - if two rows share a key beyond the statement (`SET CONSTRAINTS … DEFERRED`), or one of the two comes by
//!   an insert or goes by a delete: the state has one row and one departure, and a delete has no image.
//!
//! # What a state knows
//!
//! - `row`: the newest change that says the row is there.
//! - `gone`: the newest change that says the row is not there: a delete, or an update that moved it to
//!   another key. While `gone` is newer than `row`, `gone` is a tombstone. Otherwise `gone` is the floor: no
//!   change from below the floor may fill a column, because older values belong to a row that is gone.
//! - `cells`: a column's value can be older than its row, because an update says `"unchanged_toast"` for a
//!   value that it did not touch. Such a column is a gap. Only a late change between the two versions fills
//!   the gap. A column that never had a value is unknown until a change or a read brings a value.

#![forbid(unsafe_code)]

mod order;
mod reads;

use std::cmp::Ordering;

pub use order::{commit_order, forget_plain_image};
pub use reads::is_seen;

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

    fn is_newer_than(&self, stored: Option<&Stamp>) -> bool {
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

    /// Applies a change. A read has surely seen another change if the read is more than `read_skew`
    /// microseconds later than the commit of that change.
    pub fn apply(&mut self, change: &Change<'_>, read_skew: i64) -> Effect {
        let seen = self.is_seen(&change.stamp, read_skew);
        match change.event {
            Event::Appear | Event::Update => self.upsert(change, seen, read_skew),
            Event::Delete { .. } | Event::Leave { .. } => self.remove(change, seen),
            Event::Read => self.read(change, read_skew),
        }
    }

    /// `seen`: the row is newer than the change, because a read has surely seen the change.
    fn upsert(&mut self, change: &Change<'_>, seen: bool, read_skew: i64) -> Effect {
        let stamp = change.stamp;
        if let Some(gone) = self.gone
            && stamp.compare(&gone.stamp) != Ordering::Greater
            && !self.survives(gone, change, seen)
        {
            return Effect::Stale;
        }
        if seen || !stamp.is_newer_than(self.row.as_ref()) {
            return self.fill(change);
        }
        let fresh = change.event == Event::Appear || !self.present;
        let before = self.newest(stamp.source, read_skew);
        for (cell, provided) in self.cells.iter_mut().zip(change.provided) {
            *cell = match provided {
                Provided::Value => Cell::new(Value::Of(change.id)),
                Provided::Nothing if fresh => Cell::new(Value::Stored),
                // Neither the read nor this change has the column, so the source has none.
                Provided::Nothing if cell.lacked => Cell::new(cell.value),
                Provided::Nothing => *cell,
                Provided::Unchanged if fresh => Cell::new(Value::Unknown),
                // The value is as old as the row was before, or older if the column was a gap already.
                Provided::Unchanged => Cell {
                    gap: cell
                        .gap
                        .or((cell.value != Value::Unknown).then_some(before)),
                    ..Cell::new(cell.value)
                },
            };
        }
        self.present = true;
        self.row = Some(stamp);
        self.row_image = change.image;
        (self.read_at, self.read_source) = (None, 0);
        Effect::Decided
    }

    /// Applies an upsert that is older than the row: it fills each gap whose value is older than the upsert.
    fn fill(&mut self, change: &Change<'_>) -> Effect {
        if !self.present
            || self
                .row
                .is_some_and(|row| change.stamp.compare(&row) == Ordering::Equal)
        {
            return Effect::Stale;
        }
        let mut filled = false;
        for (cell, provided) in self.cells.iter_mut().zip(change.provided) {
            let missing = match (cell.value, &cell.gap) {
                (Value::Unknown, gap) => change.stamp.is_newer_than(gap.as_ref()),
                (_, Some(gap)) => change.stamp.compare(gap) == Ordering::Greater,
                (_, None) => false,
            };
            if missing && *provided == Provided::Value {
                *cell = Cell {
                    value: Value::Of(change.id),
                    gap: Some(change.stamp),
                    lacked: cell.lacked,
                };
                filled = true;
            }
        }
        if filled {
            Effect::Filled
        } else {
            Effect::Stale
        }
    }

    /// Whether an upsert that is older than the newest departure belongs to another row than the row that
    /// left. With a deferrable key, a row can come to a key before the previous row leaves the key.
    ///
    /// The row that left is recognised by its image. The change with that image tells up to which index of the
    /// transaction the key belonged to that row. Until that change arrives, a change with another image counts
    /// as a change of another row, although it may be an earlier change of the same row.
    fn survives(&mut self, gone: Gone, change: &Change<'_>, seen: bool) -> bool {
        let (Some(left), Some(image), Some(version)) =
            (gone.image, change.image, change.stamp.version)
        else {
            return false;
        };
        if !gone.stamp.same_transaction(&change.stamp)
            || gone.stamp.version == change.stamp.version
            || gone.matched.is_some_and(|matched| version.idx <= matched)
        {
            return false;
        }
        if left != image {
            return true;
        }
        self.gone = Some(Gone {
            matched: Some(version.idx),
            ..gone
        });
        if self.present && !seen && change.stamp.is_newer_than(self.row.as_ref()) {
            self.clear();
        }
        false
    }

    /// Forgets the row, but not its departure.
    fn clear(&mut self) {
        self.present = false;
        self.row = None;
        self.row_image = None;
        (self.read_at, self.read_source) = (None, 0);
        self.cells.fill(Cell::new(Value::Unknown));
    }

    /// `seen`: the row has come back, because a read has surely seen the departure.
    fn remove(&mut self, change: &Change<'_>, seen: bool) -> Effect {
        if seen && !self.has_gaps() {
            return Effect::Stale;
        }
        let (stamp, image) = (change.stamp, change.event.image_gone());
        let newest = stamp.is_newer_than(self.gone.as_ref().map(|gone| &gone.stamp));
        // In its own transaction, a departure concerns only the row with its image.
        let before = |row: &Stamp| stamp.same_transaction(row) && stamp.is_newer_than(Some(row));
        let here = self.row.filter(|row| self.present && before(row));
        let other = match (image, self.row_image) {
            (Some(gone), Some(here)) => gone != here,
            (Some(_), None) => change.differs,
            (None, _) => false,
        };
        let survives = here.is_some() && other;
        if newest {
            let matched = here.filter(|_| image.is_some() && !other);
            self.gone = Some(Gone {
                stamp,
                image,
                matched: matched.and_then(|row| row.version).map(|v| v.idx),
            });
        }
        if survives {
            return Effect::Stale;
        }
        if !self.present {
            return if newest {
                Effect::Decided
            } else {
                Effect::Stale
            };
        }
        if !seen && stamp.is_newer_than(self.row.as_ref()) {
            self.clear();
            return Effect::Decided;
        }
        // The row is newer. Values that it took over from before this departure belong to another row. If a
        // later departure is known, that departure has dropped these values already.
        for cell in &mut self.cells {
            let before = |gap| stamp.compare(&gap) == Ordering::Greater;
            // Of a column that a read did not provide, nobody knows whether the source has it: the row that came
            // after the departure brings its value.
            if newest && !cell.lacked && cell.gap.is_some_and(before) {
                *cell = Cell::new(Value::Unknown);
            }
        }
        Effect::Stale
    }
}

impl State {
    /// The image and the departure that must be remembered with the version of the row. The image is that of the
    /// row, or of the row that went. `gaps`: whether a column has an older value than the row, or none.
    pub fn to_remember(&self, gaps: bool) -> (Option<u64>, Option<Gone>) {
        let Some(gone) = self.gone else {
            return (self.row_image.filter(|_| self.present), None);
        };
        if !self.present {
            // The version is that of the departure.
            let whole = gone.matched.is_some();
            return (gone.image.filter(|_| !whole), whole.then_some(gone));
        }
        // A departure under a row matters only while gaps remain to be filled, or while a change from before
        // the departure can be of another row than the one that went.
        let over = self
            .row
            .is_none_or(|row| gone.stamp.compare(&row) == Ordering::Greater);
        let kept = gaps || gone.image.is_some() && over;
        (self.row_image, kept.then_some(gone))
    }
}

#[cfg(test)]
mod tests;
