//! Finds the rows that must be examined, and loads their stored state.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;

use super::keyed::Run;
use super::{Changes, MappingLock, keys_of};
use crate::column_set::ColumnSet;
use crate::error::SqlError;
use crate::guard::home::home_or_unknown;
use crate::guard::stored::{Asked, Stored, load, may_have_entries, special};
use crate::mapping::versions::VersionsIn;
use crate::merge::Event;
use crate::stop::Stop;
use crate::target::column::Slot;

impl<'a> Changes<'a> {
    /// With guard columns: finds the home source.
    pub fn find_home(&mut self) -> Result<(), SqlError> {
        if self.target.versions == VersionsIn::Columns && !self.keyed.changes().is_empty() {
            let first = self.keyed.change(0).stamp.source;
            let by = (self.intake.call.definer, self.intake.call.mappings);
            self.examined.home = home_or_unknown(&mut self.target, by, first)?;
        }
        Ok(())
    }

    /// Finds the rows that must be examined, and loads their stored state.
    pub fn examine(&mut self, runs: &[Run]) -> Result<(), Stop> {
        if self.target.versions == VersionsIn::Nowhere || runs.is_empty() {
            return Ok(());
        }
        let definer = self.intake.call.definer;
        let mut slots = Vec::new();
        let careful = self.intake.call.careful;
        let (simple, mut examined): (Vec<Run>, Vec<Run>) = runs.iter().partition(|run| {
            let known = careful || self.absent.contains_key(self.keyed.key(run.start));
            !known && self.is_simple(**run, &mut slots)
        });
        // The comparison with the destination's columns misses tombstones and gaps: look for these first.
        if self.target.versions == VersionsIn::Columns && self.may_have_entries() {
            let keys = keys_of(&self.keyed, &simple);
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let asked = |i: usize| {
                let run = simple[i];
                let times = run.changes().map(|i| self.keyed.change(i).stamp);
                let newest = times.map(|stamp| stamp.committed_at).max().flatten();
                match self.keyed.change(run.start).event {
                    Event::Read => Asked::Read(newest),
                    _ => Asked::Change(newest),
                }
            };
            let special = special(&self.target, definer, &keys, asked)?;
            let special = simple.iter().zip(special).filter(|(_, special)| *special);
            examined.extend(special.map(|(run, _)| *run));
        }
        examined.sort();
        self.load(&examined)
    }

    /// Whether the mapping may have entries, before the call writes: asked once. Of entries that other calls write later,
    /// [`Self::require_undisturbed`] tells.
    pub(super) fn may_have_entries(&mut self) -> bool {
        let target = &self.target;
        let entries = &mut self.examined.entries;
        *entries.get_or_insert_with(|| may_have_entries(target))
    }

    /// Loads the stored state of these rows, which stay as they are until the transaction ends.
    pub fn load(&mut self, runs: &[Run]) -> Result<(), Stop> {
        if runs.is_empty() {
            return Ok(());
        }
        let entries = self.target.versions == VersionsIn::Table;
        let lock = self.row_lock(entries || self.target.can_lock_rows)?;
        let keys = keys_of(&self.keyed, runs);
        let values: Vec<Vec<Datum>> = runs
            .iter()
            .map(|run| self.keyed.key_values(run.start).to_vec())
            .collect();
        let definer = self.intake.call.definer;
        let guard = (definer, self.examined.home);
        // The call may have written some itself.
        let entries = self.examined.entries == Some(true) || may_have_entries(&self.target);
        let stored = load(&mut self.target, guard, (&keys, &values), lock, entries)?;
        let came = |(run, stored): (&Run, &Stored)| {
            stored.exists && self.absent.contains_key(self.keyed.key(run.start))
        };
        if self.lock == MappingLock::Shared && runs.iter().zip(&stored).any(came) {
            // The mapping's SQL has been evaluated as if the row were not there.
            return Err(Stop::EXAMINE);
        }
        let starts = runs.iter().map(|run| run.start);
        self.examined.stored.extend(starts.zip(stored));
        self.find_others(runs)
    }

    /// Whether another change of the row is of the same transaction as this one.
    fn shares_transaction(&self, change: u32, run: Run) -> bool {
        let stamp = self.keyed.change(change).stamp;
        let mut others = run.changes().filter(|&other| other != change);
        others.any(|other| stamp.same_transaction(&self.keyed.change(other).stamp))
    }

    /// Whether the server can apply the merge rule while it writes the row.
    fn is_simple(&mut self, run: Run, slots: &mut Vec<Slot<'a>>) -> bool {
        let columns = self.target.versions == VersionsIn::Columns;
        let source = self.keyed.change(run.start).stamp.source;
        let mut mentioned = None;
        for i in run.changes() {
            let change = *self.keyed.change(i);
            match change.event {
                Event::Leave { .. } => return false,
                // The row may be that of another mapping.
                event if event.removes() && !self.target.shared.peers.is_empty() => return false,
                Event::Delete { .. } if columns => return false,
                // An earlier change of the transaction may have brought another row to the key.
                Event::Delete { image: Some(_) } if self.shares_transaction(i, run) => {
                    return false;
                }
                Event::Read if run.len() > 1 || change.stamp.committed_at.is_none() => {
                    return false;
                }
                Event::Read => {}
                _ if change.stamp.version.is_none_or(|v| v.index().is_none()) => return false,
                _ if columns && change.stamp.source != self.examined.home => return false,
                _ if change.stamp.source != source => return false,
                _ => {}
            }
            if change.event.removes() {
                continue;
            }
            let message = self.intake.message(change.message);
            if change.event == Event::Appear && self.target.changes_key(message) {
                return false;
            }
            let fields = self.intake.fields(message);
            self.target.read(message, fields, slots);
            self.intake.mask(change.message, slots);
            let nothing = |slot: &Slot<'_>| matches!(slot, Slot::Nothing);
            if change.event == Event::Read {
                // A change that the read has seen must find out which columns the read did not provide.
                if slots.iter().any(nothing) {
                    return false;
                }
            } else if run.len() > 1 {
                // A read may have seen the older change, and not the newer one, which lacks a column.
                let these: ColumnSet = (0..slots.len()).filter(|&i| nothing(&slots[i])).collect();
                if *mentioned.get_or_insert_with(|| these.clone()) != these {
                    return false;
                }
            }
            let partial = slots
                .iter()
                .zip(&self.target.columns)
                .any(|(slot, column)| match slot {
                    Slot::Unchanged | Slot::Partial | Slot::Derived(_) => true,
                    Slot::Nothing => column.required,
                    _ => false,
                });
            if partial {
                return false;
            }
        }
        true
    }
}
