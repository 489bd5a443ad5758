//! Reads of backfills against changes.
//!
//! A read has no position. It has surely seen a change that was committed more than `read_skew` before it; of a
//! later change, nobody knows. So the values that a read brings are newer than the changes that it has surely seen, and
//! older than all others. As long as no other change has decided the row, `read_at` is the time of the read whose
//! values the row has, but for the columns that are gaps, which the read did not provide.

#![forbid(unsafe_code)]

use super::state::{Cell, Change, Effect, Provided, Stamp, State, Value};

/// Whether a read has surely seen a change that was committed at this time. All in microseconds.
pub fn is_seen(read_at: Option<i64>, committed_at: Option<i64>, read_skew: i64) -> bool {
    match (read_at, committed_at) {
        (Some(read), Some(changed)) => read > changed.saturating_add(read_skew),
        _ => false,
    }
}

/// The stamp of the values that a read brings: the changes that it has surely seen are older.
fn stamp_of_read(source: i64, read_at: Option<i64>, read_skew: i64) -> Stamp {
    Stamp {
        source,
        version: None,
        committed_at: read_at.map(|time| time.saturating_sub(read_skew)),
    }
}

impl State {
    /// Whether the row's read has surely seen the change of this stamp. It has seen none of other sources.
    pub(super) fn is_seen(&self, stamp: &Stamp, read_skew: i64) -> bool {
        self.present
            && stamp.source == self.read_source
            && is_seen(self.read_at, stamp.committed_at, read_skew)
    }

    /// The stamp of the columns that are not gaps. Without one, a value is older than any change.
    pub(super) fn newest(&self, source: i64, read_skew: i64) -> Stamp {
        let of_read = stamp_of_read(source, self.read_at, read_skew);
        match (self.read_at, self.row) {
            (None, Some(row)) => row,
            _ => of_read,
        }
    }

    pub(super) fn read(&mut self, change: &Change<'_>, read_skew: i64) -> Effect {
        let last = if self.present {
            self.row
        } else {
            self.gone.map(|gone| gone.stamp)
        };
        let read_at = change.stamp.committed_at;
        let later = match (read_at, last.and_then(|stamp| stamp.committed_at)) {
            (Some(_), Some(changed)) => is_seen(read_at, Some(changed), read_skew),
            _ => last.is_none(),
        };
        let latest = match (read_at, self.read_at) {
            (Some(read), Some(before)) => read > before,
            (_, before) => before.is_none(),
        };
        let applies = later && latest;
        let source = change.stamp.source;
        let before = self.newest(source, read_skew);
        let mut filled = false;
        for (cell, provided) in self.cells.iter_mut().zip(change.provided) {
            let missing = self.present && cell.value == Value::Unknown;
            if *provided == Provided::Value && (applies || missing) {
                let gap = stamp_of_read(source, read_at, read_skew);
                *cell = Cell {
                    gap: (!applies).then_some(gap),
                    ..Cell::new(Value::Of(change.id))
                };
                filled = true;
            } else if applies && self.present && *provided == Provided::Derived {
                *cell = lacking(*cell, before);
                if cell.value != Value::Unknown {
                    cell.value = Value::Of(change.id);
                }
            } else if applies && !self.present {
                // The row may have come in the transaction in which another row left. Its change can then
                // still bring the columns that the read does not have.
                let moved = self.gone.is_some_and(|gone| gone.image.is_some());
                *cell = match moved {
                    true => Cell::new(Value::Unknown),
                    false => lacking(Cell::new(Value::Stored), before),
                };
            } else if applies {
                *cell = lacking(*cell, before);
            }
        }
        if applies {
            // The known position stays, so that changes which were applied before remain stale.
            self.row = self.row.or(self.gone.map(|gone| gone.stamp));
            self.present = true;
            self.read_at = read_at;
            self.read_source = self.row.map_or(source, |row| row.source);
            Effect::Decided
        } else if filled {
            Effect::Filled
        } else {
            Effect::Stale
        }
    }
}

/// A cell that a read leaves as it was when the row was this old.
fn lacking(cell: Cell, before: Stamp) -> Cell {
    if cell.value == Value::Unknown || cell.gap.is_some() {
        return cell;
    }
    Cell {
        value: cell.value,
        gap: Some(before),
        lacked: true,
    }
}
