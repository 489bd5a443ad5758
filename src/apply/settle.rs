//! Writes the changes of all mappings of a call: upserts with parents first, then deletes with children
//! first. Then retries the units that failed because another row was missing or in the way, until no retry
//! helps.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashSet};

use pgrx::pg_sys;

use super::attempts::Attempts;
use super::prepare::revive;
use super::registry::Registry;
use crate::blame::forgive;
use crate::changes::net::Unit;
use crate::changes::{Changes, MappingLock};
use crate::outcome::Wait;
use crate::pg::user::is_restricted;
use crate::pg::{constraints, invalidation};
use crate::stop::Stop;
use crate::write::bisect::retry;
use crate::write::cycle::{Waiting, write_cycles};
use crate::write::pending::Pending;
use crate::write::phase::{self, Phase};
use crate::write::replay::replay_all;
use crate::write::wait;

/// How often given-up messages are tried again before a call ends. Each round writes at least one more of
/// the waiting messages. Later calls retry the messages that still wait.
const REVIVALS: usize = 4;

/// Writes all changes. `locked` are the mappings (by id) that the call has locked.
pub fn write_all(
    registry: &Registry,
    attempts: &mut Attempts,
    locked: &BTreeSet<i32>,
    all: &mut [Changes<'_>],
) -> Result<(), Stop> {
    if all.is_empty() {
        return Ok(());
    }
    // Deferred constraints must not fail at commit, where no message could be blamed. Usually they are
    // checked once everything is written, because rows may refer to each other. In three cases they are
    // checked as each statement ends: when the call looks for the message to blame, for owners that may not
    // defer, and for triggers, which run as the role that writes.
    let deferred = all
        .iter()
        .any(|changes| changes.target.destination.deferred);
    let at_once = attempts.exclusive
        || all.iter().any(|changes| {
            changes.target.destination.deferred_triggers || is_restricted(changes.target.writer())
        });
    if deferred && at_once {
        constraints::check_at_once()?;
    }
    let mut pending: Vec<Vec<Pending>> = all.iter().map(|_| Vec::new()).collect();
    for (changes, pending) in all.iter_mut().zip(&mut pending) {
        phase::write(changes, Phase::Upserts, pending)?;
    }
    for (changes, pending) in all.iter_mut().zip(&mut pending).rev() {
        phase::write(changes, Phase::Deletes, pending)?;
    }
    if deferred
        && !at_once
        && let Err(error) = constraints::check_at_once()
    {
        forgive(error, &all[0].target.mapping)?;
        return Err(Stop::EXCLUSIVE);
    }
    let mut settling = Settling {
        registry,
        exclusive: match attempts.exclusive {
            true => locked.clone(),
            false => BTreeSet::new(),
        },
        attempts,
        all,
        pending,
    };
    settling.settle_all()
}

/// Settles the units that could not be written.
struct Settling<'s, 'a> {
    registry: &'s Registry,
    attempts: &'s mut Attempts,
    /// The mappings (by id) on which the call holds exclusive locks.
    exclusive: BTreeSet<i32>,
    all: &'s mut [Changes<'a>],
    /// The units that could not be written, by mapping.
    pending: Vec<Vec<Pending>>,
}

impl Settling<'_, '_> {
    fn written(&self) -> u64 {
        self.all[0].intake.call.written()
    }

    fn settle_all(&mut self) -> Result<(), Stop> {
        let mut given_up = self.settle()?;
        // While a message waits, an older change of its row may have been written. Others may wait for that
        // row.
        let mut left = self.waiting();
        for _ in 0..REVIVALS {
            if left == 0 || self.written() == given_up {
                break;
            }
            let before: Vec<_> = self
                .all
                .iter()
                .map(|changes| changes.ledger.outcomes().to_vec())
                .collect();
            for (changes, pending) in self.all.iter_mut().zip(&mut self.pending) {
                let _owner = changes.acting_as_owner();
                let units = revive(changes)?;
                pending.extend(retry(changes, units)?);
            }
            given_up = self.settle()?;
            for (changes, before) in self.all.iter_mut().zip(&before) {
                changes.ledger.ignore_rewrites(before);
            }
            let now = self.waiting();
            if now == left {
                break;
            }
            left = now;
        }
        Ok(())
    }

    /// How many messages wait.
    fn waiting(&self) -> usize {
        self.all
            .iter()
            .flat_map(|changes| &changes.ledger.failures)
            .filter(|failure| failure.wait.is_some())
            .count()
    }

    /// Retries the pending units until no retry helps, and gives the rest up. Returns how many sets the
    /// call had written when it first gave up.
    fn settle(&mut self) -> Result<u64, Stop> {
        let mut given_up = None;
        while self.pending.iter().any(|pending| !pending.is_empty()) {
            self.retry_pending()?;
            let mut waiting: Waiting = Vec::with_capacity(self.all.len());
            let mut dead: Vec<Vec<Unit>> = Vec::with_capacity(self.all.len());
            for (changes, pending) in self.all.iter_mut().zip(&mut self.pending) {
                let _owner = changes.acting_as_owner();
                let (mut pending, failed): (Vec<_>, Vec<_>) = std::mem::take(pending)
                    .into_iter()
                    .partition(|held| held.may_work_later(&changes.target));
                let mut units = Vec::with_capacity(failed.len());
                for held in failed {
                    changes.fail(held.unit.message(), held.error)?;
                    units.push(held.unit);
                }
                dead.push(units);
                if replay_all(changes, &pending)? {
                    pending.clear();
                }
                let waits = wait::find(changes, &pending, &self.registry.mappings)?;
                waiting.push(pending.into_iter().zip(waits).collect());
            }
            let again = write_cycles(self.all, &mut waiting)? || self.exclude_writers(&waiting)?;
            if !again {
                given_up.get_or_insert(self.written());
            }
            let of_mapping = self.all.iter_mut().zip(&mut self.pending);
            for ((changes, pending), (mut units, waiting)) in
                of_mapping.zip(dead.into_iter().zip(waiting))
            {
                for (held, wait) in waiting {
                    if again {
                        pending.push(held); // it may work now
                        continue;
                    }
                    let wait = Some(wait.unwrap_or_default());
                    changes.give_up(held.unit.message(), held.error, wait);
                    units.push(held.unit);
                }
                // Older changes of a row are written now if they do not need the message that waits.
                let _owner = changes.acting_as_owner();
                pending.extend(retry(changes, units)?);
            }
        }
        Ok(given_up.unwrap_or(self.written()))
    }

    /// Keeps other calls from writing the tables that units wait for. A call that writes such a table at
    /// this moment would not see the letter that waits for its row. Returns whether a call may have written
    /// such a table before. If exclusive locks on all mappings of these tables are not free, the call
    /// starts over and waits for them.
    fn exclude_writers(&mut self, waiting: &Waiting) -> Result<bool, Stop> {
        let tables: HashSet<pg_sys::Oid> = waiting
            .iter()
            .flatten()
            .filter_map(|(_, wait)| wait.as_ref().and_then(Wait::table))
            .collect();
        let missing: Vec<i32> = self
            .registry
            .mappings
            .iter()
            .filter(|mapping| {
                let table = mapping.destination_oid();
                table.is_some_and(|table| tables.contains(&table))
            })
            .map(|mapping| mapping.id)
            .filter(|id| !self.exclusive.contains(id))
            .collect();
        let relation = self.registry.relation;
        let mut again = false;
        for &id in &missing {
            let changes = self.all.iter_mut().find(|c| c.target.mapping.id == id);
            let taken = match changes {
                Some(changes) if changes.lock == MappingLock::Exclusive => true,
                Some(changes) => {
                    again = true;
                    changes.take_exclusive().is_ok()
                }
                None => {
                    again = true;
                    invalidation::try_lock_mapping(relation, id)
                }
            };
            if !taken && !self.attempts.last {
                self.attempts.mappings.extend(missing);
                return Err(Stop::EXCLUSIVE);
            }
        }
        if again && invalidation::has_changed(relation) {
            return Err(Stop::RELOAD);
        }
        self.exclusive.extend(missing);
        if again {
            // Other calls may have written rows that units wait for.
            self.all[0].intake.call.wrote();
        }
        Ok(again)
    }

    /// Retries units that failed because another row was missing or in the way, as long as that helps.
    fn retry_pending(&mut self) -> Result<(), Stop> {
        let count = |pending: &[Vec<Pending>]| pending.iter().map(Vec::len).sum();
        let mut left: usize = count(&self.pending);
        while left > 0 {
            for (changes, pending) in self.all.iter_mut().zip(&mut self.pending) {
                let _owner = changes.acting_as_owner();
                if let [held] = pending.as_slice()
                    && held.written == Some(changes.intake.call.written())
                {
                    continue; // nothing has changed since
                }
                let held = std::mem::take(pending).into_iter();
                *pending = retry(changes, held.map(|held| held.unit).collect())?;
            }
            let now = count(&self.pending);
            if now == left {
                break;
            }
            left = now;
        }
        Ok(())
    }
}
