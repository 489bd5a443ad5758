//! Changes that came before, or that newer ones have replaced: a batch that is delivered again, mostly. They are known by
//! a look at their rows, before anything is cast, locked or written.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;

use super::Changes;
use super::keyed::Run;
use crate::error::SqlError;
use crate::guard::glance::{glance, has_version};
use crate::mapping::versions::VersionsIn;
use crate::outcome::Outcome;

impl Changes<'_> {
    /// Notes the changes of rows as stale all of whose changes surely are ([`crate::merge::State::is_past`]). Returns the
    /// other rows. Only if the first or the last row is such a row, all are looked at.
    pub fn settle_past(&mut self, runs: Vec<Run>) -> Result<Vec<Run>, SqlError> {
        let call = &self.intake.call;
        let looks = self.target.versions != VersionsIn::Nowhere
            && !call.careful
            && !call.letters
            && !call.explained;
        let Some((first, last)) = runs.first().zip(runs.last()).filter(|_| looks) else {
            return Ok(runs);
        };
        let ends = match runs.len() {
            1 => vec![*first],
            _ => vec![*first, *last],
        };
        let doubtful = self.may_be_past(ends);
        if doubtful.is_empty() || !self.past(&doubtful)?.contains(&true) {
            return Ok(runs);
        }
        let past = self.past(&runs)?;
        let mut left = Vec::new();
        for (run, past) in runs.into_iter().zip(past) {
            if !past {
                left.push(run);
                continue;
            }
            for change in run.changes() {
                self.ledger.note(&self.keyed, change, Outcome::Stale);
            }
            self.examined.past.insert(run.start);
        }
        Ok(left)
    }

    /// The rows among these that may be such rows. With guard columns, a look at the row mostly tells that it is none.
    fn may_be_past(&self, runs: Vec<Run>) -> Vec<Run> {
        if self.target.versions != VersionsIn::Columns {
            return runs;
        }
        let keyed = &self.keyed;
        let rows = runs.iter().map(|run| {
            let version = run.changes().map(|i| keyed.change(i).stamp.version);
            let newest = version.max_by_key(|version| version.map(|v| (v.lsn, v.idx)));
            (keyed.key_values(run.start), newest.flatten())
        });
        let known = has_version(&self.target, &rows.collect::<Vec<_>>());
        let known = runs.into_iter().zip(known);
        known
            .filter(|(run, known)| {
                // A row that is not there may have an entry that says so.
                let removes = |i| keyed.change(i).event.removes();
                known.unwrap_or_else(|| run.changes().any(removes))
            })
            .map(|(run, _)| run)
            .collect()
    }

    /// For each row, whether all its changes are surely stale.
    fn past(&mut self, runs: &[Run]) -> Result<Vec<bool>, SqlError> {
        let entries = self.may_have_entries();
        let keyed = &self.keyed;
        let keys: Vec<&[u8]> = runs.iter().map(|run| keyed.key(run.start)).collect();
        let values: Vec<&[Datum]> = runs.iter().map(|run| keyed.key_values(run.start)).collect();
        let guard = (self.intake.call.definer, self.examined.home);
        let states = glance(&self.target, guard, (&keys, &values), entries)?;
        let past = runs.iter().zip(states).map(|(run, state)| {
            state.is_some_and(|state| {
                let mut changes = run.changes().map(|i| keyed.change(i));
                changes.all(|change| state.is_past(change.event, &change.stamp))
            })
        });
        Ok(past.collect())
    }
}
