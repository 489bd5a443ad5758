//! Writes the upserts or the deletes of one mapping.
//!
//! A call begins with a shared lock on the mapping and takes the exclusive lock at the first failure. It
//! then finds the message to blame and stores a dead letter. Meanwhile no other call may write the row that
//! the message waits for, or a newer change of its row.

#![forbid(unsafe_code)]

use std::rc::Rc;

use super::bisect::{Failing, write_units};
use super::pending::Pending;
use super::set_size::set_size;
use super::{claim, write_news};
use crate::blame::forgive;
use crate::changes::net::{NetChange, Unit};
use crate::changes::{Changes, MappingLock};
use crate::mapping::versions::VersionsIn;
use crate::stop::{Again, Stop};

/// One half of a mapping's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Writes rows that must exist.
    Upserts,
    /// Deletes rows that must not exist.
    Deletes,
}

impl Phase {
    fn has(self, net: &NetChange) -> bool {
        net.present() == (self == Phase::Upserts)
    }
}

/// With fewer rows than this, a failure makes the call start over. With more, each set has a subtransaction
/// of its own, and the sets written before the failure stay.
const MIN_KEPT: usize = 16;

/// Writes the net changes of one phase as the mapping's owner. Units that may succeed after other rows are
/// written are added to `pending`. Units that fail for good are noted. From the first failure on, the call
/// must hold the exclusive lock on the mapping.
pub fn write(
    changes: &mut Changes<'_>,
    phase: Phase,
    pending: &mut Vec<Pending>,
) -> Result<(), Stop> {
    let nets = Rc::clone(&changes.nets.list);
    let set_size = set_size(changes);
    let moved = changes.progress.moved.clone();
    let left = || nets.iter().filter(|net| !moved.contains(&net.run.start));
    let mut rest: Vec<&NetChange> = left().filter(|net| phase.has(net)).collect();
    if phase == Phase::Deletes {
        rest = write_claimed(changes, rest)?;
    }
    if changes.lock == MappingLock::Shared {
        // Deletes are claimed together with the upserts, so that every call claims its rows in key order.
        let deletes_too = phase == Phase::Upserts
            && changes.target.versions == VersionsIn::Table
            && !(changes.intake.call.single && rest.is_empty());
        if deletes_too {
            rest = left().collect();
        }
        rest = share(changes, phase, rest, set_size)?;
    }
    let _owner = changes.acting_as_owner();
    let mut units = Vec::new();
    for net in rest.into_iter().filter(|net| phase.has(net)) {
        // A message moves its row. Until the row is written at its new key, it must stay at its old key.
        let held = pending
            .iter_mut()
            .find(|held| held.unit.message() == net.message);
        match held {
            Some(held) => {
                held.unit.add(net.clone());
                held.written = None;
            }
            None => units.push(Unit::one(net.clone())),
        }
    }
    pending.extend(write_units(changes, units, set_size, Failing::Deferred)?);
    Ok(())
}

/// Writes the deletes that were claimed together with the upserts, if they were newer. Returns the deletes
/// that are not claimed yet.
fn write_claimed<'n>(
    changes: &mut Changes<'_>,
    mut deletes: Vec<&'n NetChange>,
) -> Result<Vec<&'n NetChange>, Stop> {
    let claimed = &changes.progress.claimed_deletes;
    if claimed.is_empty() {
        return Ok(deletes);
    }
    let won = |net: &&&NetChange| claimed.get(&net.run.start) == Some(&true);
    let news: Vec<&NetChange> = deletes.iter().filter(won).copied().collect();
    deletes.retain(|net| !claimed.contains_key(&net.run.start));
    let _owner = changes.acting_as_owner();
    if let Err(error) = write_news(changes, &news) {
        // These deletes were claimed together with other changes, so their claims cannot be undone alone.
        forgive(error, &changes.target.mapping)?;
        return Err(Stop::EXCLUSIVE);
    }
    Ok(deletes)
}

/// Claims net changes and writes the changes of the phase, while other calls may hold shared locks on the
/// mapping. After a failure, the call takes the exclusive lock and this returns the rest; with few rows, the
/// call starts over ([`MIN_KEPT`]).
fn share<'n>(
    changes: &mut Changes<'_>,
    phase: Phase,
    nets: Vec<&'n NetChange>,
    set_size: usize,
) -> Result<Vec<&'n NetChange>, Stop> {
    let mut done = 0;
    let keep = nets.len() >= MIN_KEPT;
    while done < nets.len() {
        let set = &nets[done..nets.len().min(done.saturating_add(set_size))];
        let work = |changes: &mut Changes<'_>| -> Result<_, Stop> {
            let _owner = changes.acting_as_owner();
            let news = claim(changes, set)?;
            let (now, later): (Vec<&NetChange>, Vec<&NetChange>) =
                news.into_iter().partition(|net| phase.has(net));
            write_news(changes, &now)?;
            Ok(later)
        };
        let result = if keep {
            changes.attempt(work)
        } else {
            work(changes)
        };
        match result {
            Ok(later) => {
                let of_other_phase = set.iter().filter(|net| !phase.has(net));
                let claimed = &mut changes.progress.claimed_deletes;
                claimed.extend(of_other_phase.map(|net| (net.run.start, false)));
                claimed.extend(later.iter().map(|net| (net.run.start, true)));
                changes.intake.call.wrote();
                done += set.len();
            }
            Err(stop) => {
                match stop {
                    Stop::BeginAgain(Again::Reload) => return Err(stop),
                    // Rows must be examined that looked simple.
                    Stop::BeginAgain(Again::Examine) => {
                        if !keep || changes.take_exclusive().is_err() {
                            return Err(stop);
                        }
                    }
                    Stop::BeginAgain(_) => {}
                    Stop::Failed(error) if keep => drop(changes.blame(error)?),
                    // The work had no subtransaction and is not rolled back yet, so no function of the server
                    // may be called now.
                    Stop::Failed(error) => forgive(error, &changes.target.mapping)?,
                }
                if !keep {
                    return Err(Stop::EXCLUSIVE);
                }
                changes.take_exclusive()?;
                return Ok(nets[done..].to_vec());
            }
        }
    }
    Ok(Vec::new())
}
