//! Appends rows whose key tells changes apart within one source database only.
//!
//! A row whose key is there already is a repetition if the same source brought it. Of another source, it is
//! another change, which the table has no room for.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::rows::execute;
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::error::{Error, SqlError};
use crate::guard::appended::{note, sources};
use crate::guard::home::home;
use crate::key;
use crate::outcome::{Outcome, Suspects};
use crate::target::statements::WriteKind;

/// Writes rows of one shape, in their order, and notes the outcomes of their messages.
pub fn append(
    changes: &mut Changes<'_>,
    kind: WriteKind,
    nets: &[&NetChange],
) -> Result<(), SqlError> {
    let source =
        |changes: &Changes<'_>, net: &NetChange| changes.keyed.change(net.run.start).stamp.source;
    let Some(first) = nets.first() else {
        return Ok(());
    };
    let first = source(changes, first);
    let definer = changes.intake.call.definer;
    let home = home(&mut changes.target, definer, first)?;
    let mut rest = nets;
    while let Some(first) = rest.first() {
        let from = source(changes, first);
        let same = rest.iter().take_while(|net| source(changes, net) == from);
        let (group, after) = rest.split_at(same.count());
        rest = after;
        match from == home {
            true => of_home(changes, kind, group)?,
            false => of_another(changes, kind, group, from)?,
        }
    }
    Ok(())
}

fn of_home(
    changes: &mut Changes<'_>,
    kind: WriteKind,
    nets: &[&NetChange],
) -> Result<(), SqlError> {
    let written = execute(changes, kind, nets)?.processed as usize;
    if written < nets.len() {
        let keys = keys(changes, nets);
        let known = sources(changes.target.log, changes.intake.call.definer, &keys)?;
        if let Some(other) = known.iter().position(Option::is_some) {
            return Err(taken(changes, nets[other]));
        }
    }
    // Which rows were repetitions makes no difference to the call's counts.
    for (i, net) in nets.iter().enumerate() {
        let outcome = if i < written {
            net.outcome
        } else {
            Outcome::Stale
        };
        changes.ledger.settle(&changes.keyed, net, outcome);
    }
    Ok(())
}

fn of_another(
    changes: &mut Changes<'_>,
    kind: WriteKind,
    nets: &[&NetChange],
    source: i64,
) -> Result<(), SqlError> {
    let (log, definer) = (changes.target.log, changes.intake.call.definer);
    let keys = keys(changes, nets);
    let known = sources(log, definer, &keys)?;
    let mut seen = HashSet::new();
    let (mut new, mut noted) = (Vec::new(), Vec::new());
    for ((net, key), known) in nets.iter().zip(&keys).zip(known) {
        let again = key.as_deref().is_some_and(|key| !seen.insert(key));
        if again || known == Some(source) {
            changes.ledger.settle(&changes.keyed, net, Outcome::Stale);
        } else {
            new.push(*net);
            noted.extend(key.as_deref().map(|key| (key, source)));
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let written = execute(changes, kind, &new)?.processed as usize;
    if written < new.len() {
        return Err(taken(changes, new[0]));
    }
    note(log, definer, &noted)?;
    for net in new {
        changes.ledger.settle(&changes.keyed, net, net.outcome);
    }
    Ok(())
}

/// The error of a row whose key another source has taken. Unless it is tried alone, it may be the error of another row
/// of the set.
fn taken(changes: &mut Changes<'_>, net: &NetChange) -> SqlError {
    let target = &changes.target;
    let columns = target.repeats.columns.iter();
    let error = Error::TakenByAnotherSource {
        columns: columns.map(|&i| target.columns[i].name.clone()).collect(),
        destination: target.destination.qualified_name(),
        source: changes.intake.message(net.message).source().to_owned(),
    };
    changes.progress.suspects = Suspects::default();
    error.into()
}

/// The keys of rows, as bytes; `None` where a part of the key is null or the message does not have it.
fn keys(changes: &Changes<'_>, nets: &[&NetChange]) -> Vec<Option<Vec<u8>>> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let key_of = |net: &&NetChange| {
        if target.repeats.by_position {
            let version = changes.intake.message(net.message).version?;
            return Some(
                [
                    version.lsn.to_be_bytes().as_slice(),
                    &version.idx.to_be_bytes(),
                ]
                .concat(),
            );
        }
        let parts = target.repeats.columns.iter();
        let parts: Vec<_> = parts
            .map(|&column| values.get(net.row, column))
            .collect::<Option<_>>()?;
        let mut bytes = Vec::new();
        key::encode(&target.repeats_encoding, &parts, &mut bytes);
        Some(bytes)
    };
    nets.iter().map(key_of).collect()
}
