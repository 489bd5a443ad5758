//! Writes rows change by change in the source's commit order.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::pending::Pending;
use super::rows::{delete, upsert};
use super::{cascade, claim, store_states};
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::{Guarded, NetChange};
use crate::mapping::OnDelete;
use crate::mapping::versions::VersionsIn;
use crate::message::Version;
use crate::outcome::Outcome;
use crate::stop::{Again, Stop};
use crate::target::statements::WriteKind;

/// Writes rows change by change in commit order, all or none, when their net changes cannot be written at
/// once. Example: two rows swap a unique value by way of a third. Returns whether that succeeded.
pub fn replay_all(changes: &mut Changes<'_>, pending: &[Pending]) -> Result<bool, Stop> {
    let nets: Vec<&NetChange> = pending.iter().flat_map(|held| held.unit.nets()).collect();
    let columns = changes.target.versions == VersionsIn::Columns;
    let is_read = |net: &&NetChange| matches!(net.guarded, Guarded::Read);
    if nets.len() < 2 || columns && nets.iter().any(is_read) {
        return Ok(false);
    }
    match changes.attempt(|changes| replay(changes, &nets)) {
        Ok(()) => {
            changes.intake.call.wrote();
            Ok(true)
        }
        // Every unit was tried alone before, so this is not expected. The units go on waiting.
        Err(stop) if stop.is(Again::Examine) => Ok(false),
        Err(stop) => {
            forgive(stop.error()?, &changes.target.mapping)?;
            Ok(false)
        }
    }
}

/// One change, or the net change of an examined row, written by its own statement.
struct Step {
    version: Option<Version>,
    net: NetChange,
}

fn replay(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), Stop> {
    let news = claim(changes, nets)?;
    let mut steps = steps(changes, &news)?;
    steps.sort_by_key(|step| (step.version, step.net.message));
    let mut stale = HashSet::new();
    for Step { net, .. } in &steps {
        if net.present() && matches!(net.guarded, Guarded::Change) {
            upsert(changes, WriteKind::UpsertNewer, &[net])?;
            if changes.ledger.outcome(net.message) == Some(Outcome::Stale) {
                stale.insert(net.message);
            }
        } else if net.present() {
            upsert(changes, WriteKind::Upsert, &[net])?;
        } else if !matches!(net.guarded, Guarded::Examined { touched: false, .. }) {
            if changes.target.mapping.on_delete == OnDelete::Delete {
                cascade::check(changes, &[net])?;
            }
            delete(changes, &[net])?;
        }
        changes.ledger.set(net.message, Outcome::Collapsed);
    }
    for net in &news {
        match stale.contains(&net.message) {
            true => changes.ledger.settle_stale(&changes.keyed, net),
            false => changes.ledger.settle(&changes.keyed, net, net.outcome),
        }
    }
    Ok(store_states(changes, &news)?)
}

/// The single changes of these rows; for examined rows, the net change.
fn steps(changes: &mut Changes<'_>, news: &[&NetChange]) -> Result<Vec<Step>, Stop> {
    let mut steps = Vec::new();
    for net in news.iter().copied() {
        if matches!(net.guarded, Guarded::Examined { .. }) {
            steps.push(Step {
                version: net.stamp.and_then(|stamp| stamp.version),
                net: net.clone(),
            });
            continue;
        }
        for i in net.run.changes() {
            let change = *changes.keyed.change(i);
            if changes.ledger.is_dead(change.message) {
                continue;
            }
            if let Some(mut net) = changes.fold_change(i)? {
                // With guard columns the server compares the versions. Without them, the row is claimed
                // already.
                net.guarded = match changes.target.versions {
                    VersionsIn::Columns => Guarded::Change,
                    _ => Guarded::No,
                };
                let version = change.stamp.version;
                steps.push(Step { version, net });
            }
        }
    }
    Ok(steps)
}
