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
use crate::write::bisect::{retry, try_alone};
use crate::write::carried;
use crate::write::components;
use crate::write::moves;
use crate::write::pending::Pending;
use crate::write::phase::{self, Phase};
use crate::write::wait;

/// Units that wait, with what they wait for as far as that is known.
type Held = Vec<(Pending, Option<Wait>)>;

/// The same, mapping by mapping.
type Waiting = Vec<Held>;

/// How often given-up messages are tried again before a call ends. Each round writes at least one more of
/// the waiting messages. Later calls retry the messages that still wait.
const REVIVALS: usize = 16;

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
        .any(|changes| changes.target.destination.links.deferred);
    let at_once = attempts.exclusive
        || all.iter().any(|changes| {
            changes.target.destination.links.deferred_triggers
                || is_restricted(changes.target.writer())
        });
    if deferred && at_once {
        constraints::check_at_once()?;
    }
    let mut pending: Vec<Vec<Pending>> = all.iter().map(|_| Vec::new()).collect();
    let mut carried = Vec::with_capacity(all.len());
    for (changes, pending) in all.iter_mut().zip(&mut pending) {
        carried.push(moves::write(changes)?);
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
    settling.settle_all()?;
    for (changes, carried) in all.iter_mut().zip(&carried) {
        if let Some(carried) = carried {
            carried::write(changes, carried)?;
        }
    }
    Ok(())
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
            left = self.waiting();
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
            let waits = self.write_components()?;
            let mut waiting: Waiting = Vec::with_capacity(self.all.len());
            let mut dead: Vec<Vec<Unit>> = Vec::with_capacity(self.all.len());
            for ((changes, pending), waits) in self.all.iter_mut().zip(&mut self.pending).zip(waits)
            {
                let _owner = changes.acting_as_owner();
                let (held, failed): (Vec<_>, Vec<_>) = std::mem::take(pending)
                    .into_iter()
                    .zip(waits)
                    .partition(|(held, _)| held.may_work_later(changes));
                let mut units = Vec::with_capacity(failed.len());
                for (held, _) in failed {
                    changes.fail(held.unit.message(), held.error)?;
                    units.push(held.unit);
                }
                dead.push(units);
                let (unknown, mut known): (Held, Held) =
                    held.into_iter().partition(|(_, wait)| wait.is_none());
                let unknown: Vec<Pending> = unknown.into_iter().map(|(held, _)| held).collect();
                let waits = wait::find(changes, &unknown, &self.registry.mappings)?;
                known.extend(unknown.into_iter().zip(waits));
                waiting.push(known);
            }
            let again = self.exclude_writers(&waiting)?;
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

    /// Writes what can be written, together or alone, as long as that helps. Returns what the rest waits for, mapping
    /// by mapping, as far as constraints tell.
    fn write_components(&mut self) -> Result<Vec<Vec<Option<Wait>>>, Stop> {
        loop {
            let mappings = &self.registry.mappings;
            let written = components::write(self.all, &mut self.pending, mappings)?;
            let left = self.pending.iter().any(|pending| !pending.is_empty());
            if written.progress && left {
                continue;
            }
            let mut progress = false;
            for (changes, pending) in self.all.iter_mut().zip(&mut self.pending) {
                progress |= try_alone(changes, pending)?;
            }
            if !progress {
                return Ok(written.waits);
            }
        }
    }
}
