//! From the messages of one mapping to the net changes of its rows.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::images::images;
use crate::changes::Changes;
use crate::changes::keyed::Run;
use crate::changes::net::Unit;
use crate::error::SqlError;
use crate::guard::notes::{note_confirmed, note_first_read};
use crate::mapping::Mode;
use crate::mapping::versions::VersionsIn;
use crate::merge::Event;
use crate::stop::Stop;

/// Finds each message's row and each row's net change, and casts its values.
pub fn prepare(changes: &mut Changes<'_>) -> Result<(), Stop> {
    let examines = changes.target.versions != VersionsIn::Nowhere;
    if changes.intake.call.careful && !examines {
        changes.take_exclusive()?;
    }
    changes.listen()?;
    changes.find_kept()?;
    changes.project()?;
    changes.find_rows()?;
    changes.find_home()?;
    let runs = changes.settle_past(changes.keyed.runs())?;
    changes.examine(&runs)?;
    changes.derive(&runs)?;
    if changes.intake.call.explained {
        changes.before = images(changes)?;
    }
    changes.fold_all(runs)?;
    Ok(())
}

/// During a resync: notes the rows that the batch confirms to exist. Stale messages confirm rows, too.
pub fn confirm(changes: &mut Changes<'_>) -> Result<(), SqlError> {
    if changes.target.mapping.mode == Mode::Append {
        return Ok(());
    }
    let keyed = &changes.keyed;
    let keys: Vec<&[u8]> = keyed
        .changes()
        .iter()
        .enumerate()
        .filter(|(_, change)| matches!(change.event, Event::Appear | Event::Update | Event::Read))
        .map(|(i, _)| keyed.key(i as u32))
        .collect();
    let definer = changes.intake.call.definer;
    let noted = note_confirmed(changes.target.mapping.id, definer, &keys)?;
    changes.progress.confirmed = noted as i64;
    let mut changed = keyed.changes().iter();
    if changed.any(|change| matches!(change.event, Event::Read)) {
        note_first_read(changes.target.mapping.id, definer)?;
    }
    Ok(())
}

/// Makes waiting messages undecided again. Returns the net changes of their rows, to be written once more.
pub fn revive(changes: &mut Changes<'_>) -> Result<Vec<Unit>, Stop> {
    let waiting = changes.ledger.revive();
    let mut seen = HashSet::new();
    let runs: Vec<Vec<Run>> = waiting
        .iter()
        .map(|failure| {
            let numbers = changes.keyed.of_message(failure.message);
            let runs = numbers.map(|change| changes.keyed.run_of(change));
            runs.filter(|run| seen.insert(*run)).collect()
        })
        .collect();
    // Older changes of a row may have been written in the meantime, so the stored state is loaded again.
    let examined: Vec<Run> = runs
        .iter()
        .flatten()
        .filter(|run| changes.examined.stored.contains_key(&run.start))
        .copied()
        .collect();
    changes.load(&examined)?;
    let mut units = Vec::with_capacity(waiting.len());
    for runs in runs {
        let mut nets = Vec::with_capacity(runs.len());
        for run in runs {
            nets.extend(changes.fold_again(run)?);
        }
        units.extend(Unit::of(nets));
    }
    Ok(units)
}
