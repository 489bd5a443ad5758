//! Which change decides a row: the one rule, as a pure function of a row's state and a change.
//!
//! # The law
//!
//! For one row, take all changes that one source database sent of it, and reads that say what the
//! source held at their time. Apply them in any order, each any number of times, split over any number
//! of calls: in the end the row is there if it is there at the source, and each column that any of them
//! carried has the source's value. Applied once more, the changes are stale. It holds because the
//! state is a join: per row the newest version at which it was there and the newest at which it was
//! gone, per column the newest version that carried its value.
//!
//! Until all have come the state can differ with their order: a read is there or not, an older image of
//! a row that moved is taken for another row. Rows that several sources write converge by commit time,
//! where that differs.
//!
//! It holds for deferrable keys that are checked at the end of each statement. It does not
//! - where a row comes to a key from which a row equal in every column goes: the key's changes are
//!   those of one row that passed it;
//! - where two rows share a key beyond the statement (`SET CONSTRAINTS … DEFERRED`), or one comes by
//!   an insert or the other goes by a delete in it: the state has one row and one departure, and no
//!   image of a delete.
//!
//! # What a state knows
//!
//! - `row`: the newest change that says the row is there.
//! - `gone`: the newest change that says it is not: a delete, or an update that moved it to another
//!   key. While `gone` is newer than `row` it is a tombstone; otherwise it is the floor below which
//!   no column may be filled, since what is older belongs to a row that died.
//! - `cells`: a column's value can be older than its row: updates say `"unchanged_toast"` for values
//!   that they did not touch. Such a column is a gap. A change between the two versions that arrives
//!   late fills it, and it alone. A column that never had a value is unknown until a change or a
//!   read brings one.

use std::cmp::Ordering;

use crate::message::Version;

/// When and where a change happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The source database, by a number that the caller gives it.
    pub source: i64,
    /// Position in that source; reads and messages of old Sequin versions have none.
    pub version: Option<Version>,
    /// Commit time in microseconds since 1970 (for a read: when Sequin read the row).
    pub committed_at: Option<i64>,
}

impl Stamp {
    /// Older, the same change, or newer. Positions decide within a source, commit times between
    /// sources; where neither says anything the change at hand is taken for the newer one.
    pub fn compare(&self, stored: &Stamp) -> Ordering {
        match (self.version, stored.version) {
            (Some(a), Some(b)) if self.source == stored.source => a.cmp(&b),
            _ => match (self.committed_at, stored.committed_at) {
                (Some(a), Some(b)) if a != b => a.cmp(&b),
                _ => Ordering::Greater,
            },
        }
    }

    fn is_newer_than(&self, stored: Option<&Stamp>) -> bool {
        stored.is_none_or(|stored| self.compare(stored) == Ordering::Greater)
    }

    /// Whether both are of one transaction.
    pub fn same_transaction(&self, other: &Stamp) -> bool {
        match (self.version, other.version) {
            (Some(a), Some(b)) => self.source == other.source && a.lsn == b.lsn,
            _ => false,
        }
    }
}

/// What a change says of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The row came to be at this key: an insert, or an update that moved it here.
    Appear,
    /// The row was updated.
    Update,
    /// A backfill read the row.
    Read,
    /// The row was deleted.
    Delete,
    /// The row was moved to another key. Within one transaction another row may have come to this
    /// key already; `image` fingerprints the row that left.
    Leave {
        /// Fingerprint of the row as it was: its record overlaid with `changes`.
        image: u64,
    },
}

/// What a change says of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provided {
    /// It has a value for it.
    Value,
    /// It says that the value did not change, and not what it is.
    Unchanged,
    /// It says nothing of it: the source has no such column, or a read cannot tell its type.
    Nothing,
}

/// One change of one row.
#[derive(Debug, Clone, Copy)]
pub struct Change<'p> {
    /// The caller's number for it, found again in [`Value::Of`].
    pub id: u32,
    /// What happened.
    pub event: Event,
    /// When.
    pub stamp: Stamp,
    /// Fingerprint of its record, if the caller has one.
    pub image: Option<u64>,
    /// What it says of each column. Empty for deletes.
    pub provided: &'p [Provided],
}

/// Where a column's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// In the destination already (or it is the column's default).
    Stored,
    /// In the change with this number.
    Of(u32),
    /// Nobody knows it yet.
    Unknown,
}

/// What is known of one column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Where the value is.
    pub value: Value,
    /// The change that carried it if that is older than the row's: a gap. `None`: as of the row.
    pub gap: Option<Stamp>,
}

/// A tombstone, or the floor under a row that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// The change that removed the row.
    pub stamp: Stamp,
    /// Fingerprint of the row that left, if it left for another key.
    pub image: Option<u64>,
    /// Which change of that transaction had the image: the row that left was here at this index, and
    /// whatever came to the key after it is another one.
    pub matched: Option<u32>,
}

/// What is known of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Whether the row is there.
    pub present: bool,
    /// The newest change that says it is there.
    pub row: Option<Stamp>,
    /// Fingerprint of that change's record, where known.
    pub row_image: Option<u64>,
    /// The newest change that says it is not.
    pub gone: Option<Gone>,
    /// Time of the newest read that was applied, in microseconds since 1970.
    pub read_at: Option<i64>,
    /// Its columns. The stored state of a row has a cell for each; so has every state made from it.
    pub cells: Vec<Cell>,
}

/// What a change did to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It decided the row.
    Decided,
    /// It is older than what was known (or the same), but brought values that were missing.
    Filled,
    /// It is older than what was known, or the same change again.
    Stale,
}

impl State {
    /// Nothing is known of the row.
    pub fn unknown(columns: usize) -> State {
        State {
            present: false,
            row: None,
            row_image: None,
            gone: None,
            read_at: None,
            cells: vec![
                Cell {
                    value: Value::Unknown,
                    gap: None
                };
                columns
            ],
        }
    }

    /// Takes a change in. `read_skew` (microseconds) is how much later than a change's commit a read
    /// must be to have seen it for certain.
    pub fn apply(&mut self, change: &Change<'_>, read_skew: i64) -> Effect {
        match change.event {
            Event::Appear | Event::Update => self.upsert(change),
            Event::Delete => self.remove(change.stamp, None),
            Event::Leave { image } => self.remove(change.stamp, Some(image)),
            Event::Read => self.read(change, read_skew),
        }
    }

    fn upsert(&mut self, change: &Change<'_>) -> Effect {
        let stamp = change.stamp;
        if let Some(gone) = self.gone
            && stamp.compare(&gone.stamp) != Ordering::Greater
            && !self.survives(gone, change)
        {
            return Effect::Stale;
        }
        if !stamp.is_newer_than(self.row.as_ref()) {
            return self.fill(change);
        }
        let fresh = change.event == Event::Appear || !self.present;
        // A value that no change brought (a read did, or it was there before) is older than any.
        let unversioned = Stamp {
            source: stamp.source,
            version: None,
            committed_at: None,
        };
        let before = self.row.unwrap_or(unversioned);
        for (cell, provided) in self.cells.iter_mut().zip(change.provided) {
            *cell = match provided {
                Provided::Value => Cell {
                    value: Value::Of(change.id),
                    gap: None,
                },
                Provided::Nothing if fresh => Cell {
                    value: Value::Stored,
                    gap: None,
                },
                Provided::Nothing => *cell,
                Provided::Unchanged if fresh => Cell {
                    value: Value::Unknown,
                    gap: None,
                },
                // As old as the row was, or older if it was a gap already.
                Provided::Unchanged => Cell {
                    value: cell.value,
                    gap: cell
                        .gap
                        .or((cell.value != Value::Unknown).then_some(before)),
                },
            };
        }
        self.present = true;
        self.row = Some(stamp);
        self.row_image = change.image;
        Effect::Decided
    }

    /// An upsert that is older than the row: it fills gaps that it is newer than.
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

    /// Whether an upsert that is older than the newest departure is of another row than the one that
    /// left: with a deferrable key a row can come to a key before the one that was there leaves it.
    ///
    /// The row that left is known by its image. The change that has it says up to which index of the
    /// transaction the key was that row's; while that change has not come, one with another image
    /// may be an earlier change of the same row, and is taken for another row until it does.
    fn survives(&mut self, gone: Gone, change: &Change<'_>) -> bool {
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
        if self.present && change.stamp.is_newer_than(self.row.as_ref()) {
            self.clear();
        }
        false
    }

    /// The row is not there.
    fn clear(&mut self) {
        self.present = false;
        self.row = None;
        self.row_image = None;
        self.read_at = None;
        self.cells.fill(Cell {
            value: Value::Unknown,
            gap: None,
        });
    }

    fn remove(&mut self, stamp: Stamp, image: Option<u64>) -> Effect {
        let newest = stamp.is_newer_than(self.gone.as_ref().map(|gone| &gone.stamp));
        // In its own transaction a departure concerns the row with its image, and no other.
        let same = self
            .row
            .filter(|row| self.present && stamp.same_transaction(row));
        let matched = match (same, image, self.row_image) {
            (Some(_), Some(left), Some(here)) if left != here => {
                if newest {
                    self.gone = Some(Gone {
                        stamp,
                        image,
                        matched: None,
                    });
                }
                return Effect::Stale;
            }
            // Without an image it is not known to have come from another key: it is the one that left.
            (Some(row), Some(_), _) if stamp.is_newer_than(Some(&row)) => {
                row.version.map(|version| version.idx)
            }
            _ => None,
        };
        if newest {
            self.gone = Some(Gone {
                stamp,
                image,
                matched,
            });
        }
        if !self.present {
            return if newest {
                Effect::Decided
            } else {
                Effect::Stale
            };
        }
        if stamp.is_newer_than(self.row.as_ref()) {
            self.clear();
            return Effect::Decided;
        }
        // The row is newer. What it took over from before this change is another row's, unless a
        // later departure has seen to that already.
        for cell in &mut self.cells {
            let before = |gap| stamp.compare(&gap) == Ordering::Greater;
            if newest && cell.gap.is_some_and(before) {
                *cell = Cell {
                    value: Value::Unknown,
                    gap: None,
                };
            }
        }
        Effect::Stale
    }

    fn read(&mut self, change: &Change<'_>, read_skew: i64) -> Effect {
        let last = if self.present {
            self.row
        } else {
            self.gone.map(|gone| gone.stamp)
        };
        let read_at = change.stamp.committed_at;
        let later = match (read_at, last.and_then(|stamp| stamp.committed_at)) {
            (Some(read), Some(changed)) => read > changed.saturating_add(read_skew),
            _ => last.is_none(),
        };
        let latest = match (read_at, self.read_at) {
            (Some(read), Some(before)) => read > before,
            (_, before) => before.is_none(),
        };
        let applies = later && latest;
        let mut filled = false;
        for (cell, provided) in self.cells.iter_mut().zip(change.provided) {
            let missing = self.present && cell.value == Value::Unknown;
            if *provided == Provided::Value && (applies || missing) {
                // What an older read brings, any change that carries a value knows better.
                let unversioned = Stamp {
                    source: change.stamp.source,
                    version: None,
                    committed_at: None,
                };
                let gap = (!applies).then_some(unversioned);
                *cell = Cell {
                    value: Value::Of(change.id),
                    gap,
                };
                filled = true;
            } else if applies && !self.present {
                // The row may have come in the transaction in which another left: its change can
                // still bring what the read does not say.
                let moved = self.gone.is_some_and(|gone| gone.image.is_some());
                *cell = Cell {
                    value: if moved { Value::Unknown } else { Value::Stored },
                    gap: None,
                };
            }
        }
        if applies {
            // It keeps the position that was known, so that a change that was applied stays known.
            self.row = self.row.or(self.gone.map(|gone| gone.stamp));
            self.present = true;
            self.read_at = read_at;
            Effect::Decided
        } else if filled {
            Effect::Filled
        } else {
            Effect::Stale
        }
    }
}

/// Only a row that came to its key from another needs its image kept: it is the one that can be
/// taken for the row that was there before.
pub fn forget_plain_image(
    state: &mut State,
    before: &State,
    changes: &[Change<'_>],
    moved: impl Fn(u32) -> bool,
) {
    if state.row_image.is_none() || state.row == before.row {
        return;
    }
    let kept = changes.iter().any(|change| {
        Some(change.stamp) == state.row && change.event == Event::Appear && moved(change.id)
    });
    let same = match (&state.row, &before.row) {
        (Some(row), Some(stored)) => before.row_image.is_some() && row.same_transaction(stored),
        _ => false,
    };
    let kept = kept || same;
    if !kept {
        state.row_image = None;
    }
}

/// The order in which the changes of one row are applied within a batch: commit order, reads last.
/// `position` breaks ties of messages without a version.
pub fn commit_order(changes: &mut [Change<'_>], position: impl Fn(&Change<'_>) -> usize) {
    let one_source = changes
        .windows(2)
        .all(|w| w[0].stamp.source == w[1].stamp.source)
        && changes
            .iter()
            .all(|c| c.event == Event::Read || c.stamp.version.is_some());
    changes.sort_by_key(|c| {
        let read = c.event == Event::Read;
        let time = c.stamp.committed_at.unwrap_or(i64::MIN);
        let version = c.stamp.version;
        if one_source && !read {
            (read, None, version, 0, position(c))
        } else {
            (read, Some(time), version, 0, position(c))
        }
    });
}

#[cfg(test)]
mod tests;
