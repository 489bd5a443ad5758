//! Tells by its values whether the stored row is the one that went from its key.
//!
//! With a deferrable key, a row can come to a key before the row that was there goes, in one transaction. The
//! image of a plain insert or update is not stored, so when the delete or the departure arrives in a later
//! call, its row is compared with the row in the destination.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use pgrx::pg_sys::Datum;

use super::Changes;
use super::keyed::Run;
use super::project::overlay;
use super::values::Image;
use crate::destination::constraints::Constraints;
use crate::error::SqlError;
use crate::json::Json;
use crate::mapping::{Path, Root};
use crate::merge::Value;
use crate::pg::subtransaction::subtransaction;
use crate::prepared::{RowReader, Statement};
use crate::statement::lookup;
use crate::stop::Stop;
use crate::target::column::{Slot, Source};

/// Deletes and departures, each with the values of the row that went, by the numbers of the columns.
type Former = BTreeMap<Vec<usize>, Vec<(u32, Vec<Option<Datum>>)>>;

impl Changes<'_> {
    /// Finds the deletes and departures of these examined rows that removed another row than the stored one.
    /// Where values cannot be compared, the stored row counts as the one that went.
    pub(super) fn find_others(&mut self, runs: &[Run]) -> Result<(), Stop> {
        for change in runs.iter().flat_map(|run| run.changes()) {
            self.examined.others.remove(&change);
        }
        let doubtful: Vec<u32> = runs.iter().flat_map(|run| self.doubtful(*run)).collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        match subtransaction(|| self.compare(&doubtful)) {
            Ok(others) => self.examined.others.extend(others),
            Err(error) => drop(self.blame(error)?),
        }
        Ok(())
    }

    /// The deletes and departures of the transaction in which the stored row changed last, if its image is not
    /// known.
    fn doubtful(&self, run: Run) -> impl Iterator<Item = u32> + '_ {
        let state = self.examined.stored.get(&run.start).map(|it| &it.state);
        let state = state.filter(|state| state.present && state.row_image.is_none());
        let row = state.and_then(|state| state.row);
        run.changes().filter(move |&i| {
            let change = self.keyed.change(i);
            let later = |row| {
                let stamp = change.stamp;
                stamp.same_transaction(&row) && row.is_before(&stamp)
            };
            change.event.image_gone().is_some() && row.is_some_and(later)
        })
    }

    fn compare(&mut self, doubtful: &[u32]) -> Result<Vec<u32>, SqlError> {
        let mut groups = Former::new();
        for &change in doubtful {
            let (columns, values) = self.former_values(change)?;
            if !columns.is_empty() {
                groups.entry(columns).or_default().push((change, values));
            }
        }
        let constraints = Constraints::of(self.target.destination.oid);
        let mut others = Vec::new();
        for (columns, rows) in &groups {
            let target = &self.target;
            let compared: Vec<_> = columns
                .iter()
                .map(|&i| &target.columns[i])
                .map(|column| (&column.sql, constraints.may_empty(&column.name)))
                .collect();
            let keys = || rows.iter().map(|row| self.keyed.key_values(row.0).to_vec());
            let sql = lookup::different_rows(
                &target.relation_of(|| keys().collect()),
                target.destination.oid.to_u32(),
                &target.key_sql(),
                &compared,
            );
            let mut types = target.numbered_key();
            types.extend(columns.iter().map(|&i| target.columns[i].row.clone()));
            let found =
                Statement::new(&sql, &types)?.query(rows.iter().enumerate(), |(n, row)| {
                    let (change, values) = row;
                    let key = self.keyed.key_values(*change).iter().map(|key| Some(*key));
                    let number = std::iter::once(Some(Datum::from(n as i32)));
                    number.chain(key).chain(values.iter().copied()).collect()
                })?;
            let mut row = RowReader::new(&found);
            while row.next() {
                others.push(rows[row.index(0)].0);
            }
        }
        Ok(others)
    }

    /// The columns whose values tell the row that went from others, and its values. A column whose stored value
    /// is not the row's newest tells nothing, nor does one that the mapping does not read from the record.
    fn former_values(&mut self, change: u32) -> Result<(Vec<usize>, Vec<Option<Datum>>), SqlError> {
        let number = self.keyed.change(change).message;
        let message = self.intake.message(number);
        let run = self.keyed.run_of(change);
        let state = &self.examined.stored[&run.start].state;
        let mut slots = Vec::new();
        for (i, column) in self.target.columns.iter().enumerate() {
            let cell = state.cells[i];
            if self.target.key.contains(&i) || cell.value == Value::Unknown || cell.gap.is_some() {
                continue;
            }
            let slot = match &column.source {
                Source::Path(Path {
                    root: Root::Record,
                    keys,
                }) if keys.is_empty() => {
                    let record = overlay(message.record, message.changes);
                    Slot::Json(Json::Text(self.intake.memory.alloc_str(&record)))
                }
                Source::Field(_)
                | Source::Path(Path {
                    root: Root::Record, ..
                }) => self.target.former(message, i),
                _ => continue,
            };
            if matches!(slot, Slot::Json(_)) {
                slots.push((i, slot));
            }
        }
        let mut values = Vec::with_capacity(slots.len());
        for &(column, slot) in &slots {
            values.push(self.cast(number, Image::Former, column, slot)?);
        }
        Ok((
            slots.into_iter().map(|(column, _)| column).collect(),
            values,
        ))
    }
}
