//! The locks on the mapping and its rows, and what other calls have written since this call has read the rows.
//!
//! Calls share a mapping. A row that is examined and there is locked, and so is its entry in `sequin.row_version`: no
//! other call writes it. With guard table, every change of a row writes its entry, so that two calls meet there. With
//! guard columns, two calls can miss each other:
//!
//! - One writes a row. It has looked for an entry before, and has found none.
//! - The other has found no row, and writes an entry: that the row is deleted, or which of its values are older.
//!
//! Both look for what the other has written after they have written themselves, at rows that are not committed yet,
//! too. Whoever finds something begins again. The same is done, with both guards, for rows whose values the mapping's SQL
//! needed and that were not there.

#![forbid(unsafe_code)]

use std::rc::Rc;

use pgrx::IntoDatum;
use pgrx::pg_sys::Datum;

use super::{Changes, MappingLock};
use crate::destination::partitions::by_table;
use crate::guard::home::{UNKNOWN, known};
use crate::mapping::versions::VersionsIn;
use crate::pg::invalidation;
use crate::pg::overlap::{Stranger, find_stranger};
use crate::pg::row_version;
use crate::statement::lookup::RowLock;
use crate::stop::Stop;

/// At most so many look-ups are made. With more, another call counts as met.
const MOST: usize = 1_000_000;

impl Changes<'_> {
    /// Takes the exclusive lock on the mapping, or ends the attempt.
    ///
    /// Do not call this in a subtransaction that may be rolled back: the rollback would release the lock.
    pub fn take_exclusive(&mut self) -> Result<(), Stop> {
        if self.lock == MappingLock::Exclusive {
            return Ok(());
        }
        let (mappings, id) = (self.intake.call.mappings, self.target.mapping.id);
        if !invalidation::try_lock_mapping(mappings, id) || self.is_overtaken() {
            return Err(Stop::EXCLUSIVE);
        }
        self.lock = MappingLock::Exclusive;
        // Until now, other calls may have written rows that a failed message of another mapping waits for.
        self.intake.call.wrote();
        Ok(())
    }

    /// How the rows are locked that are read before they are written. Where they cannot be locked, the call takes the
    /// exclusive lock on the mapping, or begins again.
    pub(super) fn row_lock(&mut self, lockable: bool) -> Result<RowLock, Stop> {
        if self.lock == MappingLock::Shared && lockable {
            return Ok(RowLock::Change);
        }
        self.take_exclusive()?;
        Ok(RowLock::None)
    }

    /// After all is written: ends the attempt if another call may have written rows at the same time. The call then
    /// begins again and examines all its rows.
    pub fn require_undisturbed(&mut self) -> Result<(), Stop> {
        match self.lock == MappingLock::Shared && self.is_overtaken() {
            true => Err(Stop::EXAMINE),
            false => Ok(()),
        }
    }

    /// Whether another call has written rows since this call has read them. Notes a transaction that is to be waited
    /// for.
    fn is_overtaken(&mut self) -> bool {
        let call = Rc::clone(&self.intake.call);
        if call.overtaken.get() {
            return true;
        }
        if self.target.versions == VersionsIn::Nowhere || !call.began.is_past() {
            return false;
        }
        let home = || self.finds_home().then_some(Stranger::Committed);
        let stranger = home()
            .or_else(|| self.strange_entry())
            .or_else(|| self.strange_row());
        if let Some(Stranger::Open(transaction)) = stranger {
            call.overtaker.set(Some(transaction));
        }
        stranger.is_some()
    }

    /// Whether the home source is noted now, and was not.
    fn finds_home(&self) -> bool {
        let definer = self.intake.call.definer;
        self.examined.home == UNKNOWN && !matches!(known(&self.target, definer), Ok(None))
    }

    /// A new entry of a row whose entry is not locked. With guard table, only rows that were examined and had none: the
    /// entries of the others are written before their rows.
    fn strange_entry(&self) -> Option<Stranger> {
        let table = self.target.versions == VersionsIn::Table;
        let mapping = Datum::from(self.target.mapping.id);
        let runs = self.keyed.runs();
        let free = runs.iter().filter(|run| {
            let stored = self.examined.stored.get(&run.start);
            let free = stored.map_or(!table, |stored| !stored.has_version_row);
            free && !self.examined.past.contains(&run.start)
        });
        let keys = free.filter_map(|run| {
            let key = self.keyed.key(run.start).into_datum()?;
            Some(vec![mapping, key])
        });
        let since = &self.intake.call.began;
        find_stranger(row_version::relations(), keys, Some(since))
    }

    /// A row that is there and was not. With guard table, rows that were examined have entries.
    fn strange_row(&mut self) -> Option<Stranger> {
        let mut absent: Vec<&[Datum]> = self.absent.values().map(Vec::as_slice).collect();
        if self.target.versions == VersionsIn::Columns {
            let stored = self.examined.stored.iter();
            let gone = stored.filter(|(_, stored)| !stored.exists);
            absent.extend(gone.map(|(start, _)| self.keyed.key_values(*start)));
        }
        if absent.is_empty() {
            return None;
        }
        let Some((places, order)) = self.target.places() else {
            return Some(Stranger::Committed);
        };
        let table = self.target.destination.oid;
        let (of_table, anywhere) = by_table(table, self.target.names_of_key(), absent);
        let routed: usize = of_table.values().map(Vec::len).sum();
        if anywhere.len() * places.tables.len() + routed > MOST {
            return Some(Stranger::Committed);
        }
        let in_order = |key: &&[Datum]| order.iter().map(|&i| key[i]).collect();
        places.tables.iter().find_map(|(table, index)| {
            let of_table = of_table.get(table).into_iter().flatten();
            let keys = of_table.chain(&anywhere).map(in_order);
            find_stranger((*table, *index), keys, None)
        })
    }
}
