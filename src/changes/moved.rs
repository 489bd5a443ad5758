//! The values that a row takes along to another key.
//!
//! A message that changes the key of a row can say of a large value that it did not change. The value is then of an
//! older change of the batch, under the old key, or it is stored under the old key.

#![forbid(unsafe_code)]

use std::cmp::Ordering;

use super::Changes;
use crate::mapping::versions::VersionsIn;
use crate::merge::Event;
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
        let newer = |a: u32, b: u32| match arrival {
            true => keyed.change(a).message > keyed.change(b).message,
            false => keyed.change(a).stamp.compare(&keyed.change(b).stamp) == Ordering::Greater,
        };
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
}
