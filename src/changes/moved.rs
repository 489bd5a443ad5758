//! The values that a row takes along to another key.
//!
//! A message that changes the key of a row can say of a large value that it did not change. The value is then of an
//! older change of the batch, under the old key, or it is stored under the old key.
//!
//! Several rows can come to a key and go from it within a batch. The stored row is the one that goes first, and the row
//! of the net change the one that comes last.

#![forbid(unsafe_code)]

use std::cmp::Ordering;

use super::Changes;
use super::keyed::Run;
use crate::mapping::versions::VersionsIn;
use crate::merge::Event;
use crate::outcome::MessageNo;
use crate::target::column::{Slot, Source};
use crate::target::reading::is_unchanged;

impl<'a> Changes<'a> {
    /// Fills in the values that the change with this number does not repeat, if it brings a row from another key and
    /// the batch has the values of that row.
    pub(super) fn take_along(&self, change: u32, slots: &mut [Slot<'a>]) {
        let keyed = &self.keyed;
        let unchanged = |slot: &Slot<'_>| matches!(slot, Slot::Unchanged);
        let mut at = change;
        for _ in 0..keyed.changes().len() {
            if keyed.change(at).event != Event::Appear || !slots.iter().any(unchanged) {
                return;
            }
            let message = keyed.change(at).message;
            let Some(left) = keyed.of_message(message).find(|i| keyed.leaves(*i)) else {
                return;
            };
            let Some(came) = self.fill_before(left, slots) else {
                return;
            };
            at = came;
        }
    }

    /// Fills in values of the changes of a row before it left its key, the newest first. Returns the change that brought
    /// the row to this key, if the batch has it.
    fn fill_before(&self, left: u32, slots: &mut [Slot<'a>]) -> Option<u32> {
        let keyed = &self.keyed;
        let run = keyed.run_of(left);
        let arrival = self.target.versions == VersionsIn::Nowhere;
        let leaves = keyed.change(left);
        let newer = |a: u32, b: u32| self.is_newer(a, b);
        let mut before: Vec<u32> = run
            .changes()
            .filter(|&i| i != left && keyed.change(i).message != leaves.message)
            .filter(|&i| newer(left, i) && !self.ledger.is_dead(keyed.change(i).message))
            .collect();
        before.sort_by(|a, b| match (newer(*a, *b), newer(*b, *a)) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => Ordering::Equal,
        });
        let stored = self.examined.stored.get(&run.start).map(|it| &it.state);
        for i in before {
            let older = keyed.change(i);
            match older.event {
                Event::Delete { .. } | Event::Leave { .. } => return None,
                Event::Read => continue,
                Event::Appear | Event::Update => {}
            }
            let message = self.intake.message(older.message);
            let fields = self.intake.fields(message);
            for (column, slot) in slots.iter_mut().enumerate() {
                if !matches!(slot, Slot::Unchanged) {
                    continue;
                }
                // The stored value can be newer than a change that came late.
                let known = stored
                    .filter(|state| state.present)
                    .and_then(|state| state.cells[column].gap.or(state.row));
                let news =
                    known.is_none_or(|known| older.stamp.compare(&known) == Ordering::Greater);
                let Source::Field(name) = &self.target.columns[column].source else {
                    continue;
                };
                let field = fields.iter().find(|field| field.key == name.as_str());
                if let Some(field) = field.filter(|field| !is_unchanged(message, field))
                    && (news || arrival)
                {
                    *slot = Slot::Json(field.value);
                }
            }
            if older.event == Event::Appear {
                return Some(i);
            }
        }
        None
    }

    /// Whether a change of a row is newer than another one.
    fn is_newer(&self, a: u32, b: u32) -> bool {
        let (a, b) = (self.keyed.change(a), self.keyed.change(b));
        match self.target.versions {
            VersionsIn::Nowhere => a.message > b.message,
            _ => a.stamp.compare(&b.stamp) == Ordering::Greater,
        }
    }

    /// The message by which the stored row has left the key of this run, as far as that is certain. It is not if another
    /// row came to the key before: then the stored row has gone by a message that the batch lacks, or the other one has.
    pub fn stored_row_left_by(&self, run: Run) -> Option<MessageNo> {
        let keyed = &self.keyed;
        let stored = self.examined.stored.get(&run.start);
        let stored = stored.and_then(|stored| stored.state.row);
        let is_news = |i: u32| {
            let stamp = &keyed.change(i).stamp;
            stored.is_none_or(|row| stamp.compare(&row) == Ordering::Greater)
        };
        let news: Vec<u32> = run
            .changes()
            .filter(|&i| is_news(i) && !self.ledger.is_dead(keyed.change(i).message))
            .collect();
        let mut removes = news
            .iter()
            .copied()
            .filter(|&i| keyed.change(i).event.removes());
        let mut first = removes.next()?;
        for other in removes {
            match (self.is_newer(first, other), self.is_newer(other, first)) {
                (true, false) => first = other,
                (false, true) => {}
                _ => return None,
            }
        }
        // Without a position of the stored row, what came may be that row.
        let mut came = news
            .iter()
            .filter(|&&i| stored.is_some() && keyed.change(i).event == Event::Appear);
        let certain = keyed.leaves(first) && !came.any(|&came| !self.is_newer(came, first));
        certain.then(|| keyed.change(first).message)
    }

    /// Whether a change brought the last of the rows that came to its key.
    pub fn came_last(&self, change: u32) -> bool {
        let keyed = &self.keyed;
        let mut others = keyed.run_of(change).changes().filter(|&i| {
            i != change
                && keyed.change(i).event == Event::Appear
                && !self.ledger.is_dead(keyed.change(i).message)
        });
        others.all(|other| !self.is_newer(other, change))
    }

    /// Whether no change tells that the row which a change brought to its key has left it. A departure of the same
    /// transaction can be that of the row before, where the key is deferrable.
    pub fn stayed(&self, change: u32) -> bool {
        let keyed = &self.keyed;
        let stamp = &keyed.change(change).stamp;
        let mut removes = keyed.run_of(change).changes().filter(|&i| {
            keyed.change(i).event.removes() && !self.ledger.is_dead(keyed.change(i).message)
        });
        removes.all(|i| !self.is_newer(i, change) || keyed.change(i).stamp.same_transaction(stamp))
    }
}
