//! Counts the outcomes of messages per mapping, without a row that two sessions write.
//!
//! `sequin.counter` has a row for each mapping and backend slot. No other live backend has the same slot. A
//! prepared transaction may still hold the slot; then the backend takes another one. So calls do not wait
//! for each other to count. A call that is rolled back takes its counts with it. `sequin.status` adds the
//! rows up.

#![forbid(unsafe_code)]

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::Datum;
use pgrx::prelude::*;

use crate::error::Error;
use crate::message::{Action, Message};
use crate::outcome::Outcome;
use crate::pg::clock;
use crate::pg::counter::{Counters, WIDTH};
use crate::pg::invalidation;

/// The counts of one call.
#[derive(Debug, Default)]
pub struct Tally {
    mappings: Vec<(i32, Count)>,
}

/// The counts of one mapping.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    /// Messages, each with one outcome.
    received: i64,
    /// The outcomes, by [`Outcome::number`].
    outcomes: [i64; 7],
    /// Rows that the call is the first to confirm in a resync.
    confirmed: i64,
    /// Letters that are gone, since the call has retried them.
    healed: i64,
    /// `commit_timestamp` and `commit_lsn` of the newest change that is not a dead letter.
    newest: Option<(Option<i64>, Option<u64>)>,
}

impl Tally {
    /// Counts the outcome of a message in a mapping.
    pub fn count(&mut self, mapping: i32, outcome: Outcome, message: &Message<'_>) {
        self.of(mapping).count(outcome, message);
    }

    /// Adds rows that the call is the first to confirm in a resync.
    pub fn confirm(&mut self, mapping: i32, rows: i64) {
        if rows > 0 {
            self.of(mapping).confirmed += rows;
        }
    }

    /// Counts a letter of a mapping that is gone, since the call has retried it.
    pub fn heal(&mut self, mapping: Option<i32>) {
        if let Some(mapping) = mapping {
            self.of(mapping).healed += 1;
        }
    }

    // The search starts at the end: usually the last mapping is counted again.
    fn of(&mut self, mapping: i32) -> &mut Count {
        let at = match self.mappings.iter().rposition(|(id, _)| *id == mapping) {
            Some(at) => at,
            None => {
                self.mappings.push((mapping, Count::default()));
                self.mappings.len() - 1
            }
        };
        &mut self.mappings[at].1
    }
}

impl Count {
    fn count(&mut self, outcome: Outcome, message: &Message<'_>) {
        self.received += 1;
        self.outcomes[outcome.number()] += 1;
        if outcome != Outcome::Dead && message.action != Action::Read {
            let change = (message.committed_at, message.version.map(|v| v.lsn));
            self.newest = self.newest.max(Some(change));
        }
    }
}

/// Adds the counts of a call to the rows of this backend's slot.
pub fn store(tally: &Tally) -> Result<(), Error> {
    if tally.mappings.is_empty() {
        return Ok(());
    }
    let now = clock::now();
    let mut counters = Counters::open().ok_or(Error::NoCounterSlot)?;
    for (mapping, count) in &tally.mappings {
        counters.change(*mapping, |values, nulls| count.add_to(values, nulls, now));
    }
    Ok(())
}

// The columns of `sequin.counter`.
const CALLS: usize = 2;
const RECEIVED: usize = 3;
const OUTCOMES: usize = 4;
const CONFIRMED: usize = 11;
const HEALED: usize = 12;
const LAST_LSN: usize = 13;
const LAST_COMMIT_TIMESTAMP: usize = 14;
const LAST_CHANGE_AT: usize = 15;
const LAST_APPLIED_AT: usize = 16;

impl Count {
    /// Adds the counts to a row of `sequin.counter`.
    fn add_to(&self, values: &mut [Datum; WIDTH], nulls: &mut [bool; WIDTH], now: i64) {
        let is_new = values[CALLS].value() == 0;
        let mut add = |column: usize, number: i64| {
            values[column] = Datum::from(values[column].value() as i64 + number);
        };
        add(CALLS, (self.received > 0).into());
        add(RECEIVED, self.received);
        add(CONFIRMED, self.confirmed);
        add(HEALED, self.healed);
        for (i, number) in self.outcomes.iter().enumerate() {
            add(OUTCOMES + i, *number);
        }
        values[LAST_APPLIED_AT] = Datum::from(now);
        let (was, was_null) = (
            values[LAST_COMMIT_TIMESTAMP].value() as i64,
            nulls[LAST_COMMIT_TIMESTAMP],
        );
        let mut set = |column: usize, value: Option<i64>| {
            values[column] = Datum::from(value.unwrap_or_default());
            nulls[column] = value.is_none();
        };
        // The newest change decides all three columns.
        let known = (!was_null).then_some(was);
        if let Some((committed_at, lsn)) = self.newest
            && (is_new || known <= committed_at.map(clock::from_unix))
        {
            set(LAST_LSN, lsn.map(|lsn| lsn as i64));
            set(LAST_COMMIT_TIMESTAMP, committed_at.map(clock::from_unix));
            set(LAST_CHANGE_AT, Some(now));
        } else if is_new {
            set(LAST_LSN, None);
            set(LAST_COMMIT_TIMESTAMP, None);
            set(LAST_CHANGE_AT, None);
        }
    }
}

/// Removes the counts of a mapping that was removed. The exclusive lock waits for calls that are counting
/// for the mapping; calls that wait for the lock will see that the mapping is gone.
#[pg_trigger(sql = false)]
fn counter_removed<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgTriggerError> {
    let removed = trigger.old().and_then(|old| old.get_by_name("id").ok());
    if let Some(id) = removed.flatten() {
        invalidation::lock_mapping(trigger.relid()?, id, true);
        Spi::run_with_args(
            "delete from sequin.counter where mapping operator(pg_catalog.=) $1",
            &[id.into()],
        )
        .unwrap_or_else(|e| error!("could not remove the counts of a mapping: {e}"));
    }
    Ok(None)
}
