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
//! commit time, if the commit times differ and no backfill reads them: a change that a read has surely seen leaves no
//! position, so that an older change of another source can come after it.
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
//! - `read_at`: the row is that of a read. A change that the read has surely seen is stale, so that the row does
//!   not go back in time, but it fills the columns that the read did not provide: they are gaps.

#![forbid(unsafe_code)]

mod order;
mod past;
mod reads;
mod state;

use std::cmp::Ordering;

pub use order::{commit_order, forget_plain_image};
pub use reads::is_seen;
pub use state::{Cell, Change, Effect, Event, Gone, Provided, Stamp, State, Value};

impl State {
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
                Provided::Unchanged | Provided::Derived if fresh => Cell::new(Value::Unknown),
                // The value is as old as the row was before, or older if the column was a gap already.
                Provided::Unchanged => Cell {
                    gap: cell
                        .gap
                        .or((cell.value != Value::Unknown).then_some(before)),
                    ..Cell::new(cell.value)
                },
                Provided::Derived => derived(*cell, change.id, before),
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
            if cell.lacks(&change.stamp) && *provided == Provided::Value {
                *cell = Cell {
                    value: Value::Of(change.id),
                    gap: Some(change.stamp),
                    lacked: cell.lacked,
                };
                filled = true;
            }
        }
        // A value that is made of a filled one is made anew.
        for (cell, provided) in self.cells.iter_mut().zip(change.provided) {
            let older = |gap| change.stamp.compare(&gap) == Ordering::Greater;
            if filled && *provided == Provided::Derived && cell.gap.is_some_and(older) {
                cell.value = Value::Of(change.id);
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

/// A cell with a value that is made of an unchanged one: it is as old as an unchanged value. Of a column that has none yet,
/// the change that brings the unchanged value brings this one too.
fn derived(cell: Cell, id: u32, before: Stamp) -> Cell {
    match cell.value {
        Value::Unknown => cell,
        _ => Cell {
            value: Value::Of(id),
            gap: cell.gap.or(Some(before)),
            lacked: cell.lacked,
        },
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
