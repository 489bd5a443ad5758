//! Writes one set of net changes, all or none: claims their rows, writes the newer changes, and stores the
//! new states.
//!
//! To claim a row is to write its new version into `sequin.row_version` before the row itself is written. A
//! claim fails if the stored version is not older. With guard columns, the write itself compares the
//! versions instead. Without stored versions, the last change to arrive wins.

#![forbid(unsafe_code)]

mod appended;
pub mod bisect;
pub mod carried;
mod cascade;
pub mod components;
mod constraint;
mod delete_or_move;
mod give_up;
mod graph;
mod keys;
pub mod moves;
mod older;
pub mod pending;
pub mod phase;
mod rows;
mod set_size;
mod shared_rows;
mod solve;
mod together;
mod violations;
pub mod wait;

use crate::changes::net::{Guarded, NetChange};
use crate::changes::{Changes, MappingLock};
use crate::error::SqlError;
use crate::guard::claim::{Claim, claim as claim_changes, claim_reads};
use crate::guard::store::{NewState, store};
use crate::guard::stored::{Asked, Lost, have_entries, special};
use crate::mapping::Mode;
use crate::mapping::versions::VersionsIn;
use crate::merge::State;
use crate::pg::unique_scan::Sees;
use crate::stop::Stop;
use crate::target::statements::WriteKind;
use rows::{delete, upsert};
use shared_rows::require_no_rival;

/// Claims the rows of net changes and writes the newer changes, all or none.
pub fn write_set(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), Stop> {
    let news = claim(changes, nets)?;
    Ok(write_news(changes, &news)?)
}

/// Writes net changes whose rows are claimed, all or none.
fn write_news(changes: &mut Changes<'_>, news: &[&NetChange]) -> Result<(), SqlError> {
    let call = &changes.intake.call;
    // A statement that only returns a count cannot say which rows were stale. It gets one row at a time if
    // every single outcome matters: when the call is explained, and when outcomes of retried letters stay
    // out of the counts.
    let exact = call.explained || call.letters;
    // With several changes of one row, the statement must also name the rows that it wrote.
    let several = exact || news.iter().any(|net| net.run.len() > 1);
    let append = changes.target.mapping.mode == Mode::Append;
    let mut deletes = Vec::new();
    let mut shapes: Vec<(WriteKind, Vec<&NetChange>)> = Vec::new();
    for net in news.iter().copied() {
        if net.is_untouched() {
            continue;
        }
        let Some(kind) = rows::kind(&changes.target, net, several) else {
            deletes.push(net);
            continue;
        };
        let same = |(other, nets): &&mut (WriteKind, Vec<&NetChange>)| {
            *other == kind
                && nets[0].columns() == net.columns()
                && rows::is_absent(changes, nets[0]) == rows::is_absent(changes, net)
                && !(exact && (append || kind == WriteKind::UpsertRead))
        };
        match shapes.iter_mut().find(same) {
            Some((_, nets)) => nets.push(net),
            None => shapes.push((kind, vec![net])),
        }
    }
    // With guard table, the entry is written first, as every call does that changes the row.
    let entries_first = changes.target.versions == VersionsIn::Table;
    if entries_first {
        store_states(changes, news)?;
        require_no_rival(changes, news)?;
    }
    if !deletes.is_empty() {
        delete(changes, &deletes)?;
    }
    for (kind, nets) in shapes {
        cascade::check_updates(changes, &nets)?;
        match changes.target.repeats.by_source {
            true => appended::append(changes, kind, &nets)?,
            false => upsert(changes, kind, &nets)?,
        }
    }
    match entries_first {
        true => Ok(()),
        false => store_states(changes, news),
    }
}

/// Claims the rows whose versions are stored in `sequin.row_version`. Returns the newer net changes and
/// notes the others as stale.
fn claim<'n>(
    changes: &mut Changes<'_>,
    nets: &[&'n NetChange],
) -> Result<Vec<&'n NetChange>, Stop> {
    if changes.target.versions != VersionsIn::Table {
        return Ok(nets.to_vec());
    }
    let mut news = vec![true; nets.len()];
    for reads in [false, true] {
        let claimed: Vec<usize> = (0..nets.len())
            .filter(|&i| match nets[i].guarded {
                Guarded::Change => !reads,
                Guarded::Read => reads,
                _ => false,
            })
            .collect();
        for lost in claim_these(changes, nets, &claimed, reads)? {
            news[lost] = false;
            changes.ledger.settle_stale(&changes.keyed, nets[lost]);
        }
    }
    let news = nets.iter().zip(news).filter(|(_, news)| *news);
    Ok(news.map(|(net, _)| *net).collect())
}

/// Claims the rows of the changes (or `reads`) at these indexes of `nets`. Returns the indexes of the
/// changes that are not newer.
fn claim_these(
    changes: &mut Changes<'_>,
    nets: &[&NetChange],
    claimed: &[usize],
    reads: bool,
) -> Result<Vec<usize>, Stop> {
    if claimed.is_empty() {
        return Ok(Vec::new());
    }
    let keyed = &changes.keyed;
    let claims: Vec<Claim<'_>> = claimed
        .iter()
        .map(|&i| Claim {
            key: keyed.key(nets[i].run.start),
            stamp: nets[i]
                .stamp
                .unwrap_or(keyed.change(nets[i].run.start).stamp),
            deleted: !nets[i].present(),
            image: nets[i].image,
        })
        .collect();
    let (mapping, call) = (changes.target.mapping.id, &changes.intake.call);
    if !changes.target.shared.rivals.is_empty() {
        let keys: Vec<&[u8]> = claims.iter().map(|claim| claim.key).collect();
        let had = have_entries(mapping, &keys, Sees::Committed, false);
        for (&i, had) in claimed.iter().zip(had) {
            match had {
                true => changes.progress.first.remove(&nets[i].run.start),
                false => changes.progress.first.insert(nets[i].run.start),
            };
        }
    }
    let won = if reads {
        claim_reads(mapping, call.definer, &claims, call.read_skew)?
    } else {
        claim_changes(mapping, call.definer, &claims, call.read_skew)?
    };
    let lost: Vec<usize> = (0..claims.len()).filter(|&i| !won[i]).collect();
    if lost.is_empty() {
        return Ok(lost);
    }
    let lost_keys: Vec<&[u8]> = lost.iter().map(|&i| claims[i].key).collect();
    let claim_of = |i: usize| match (reads, &claims[lost[i]]) {
        (true, _) => Asked::LostRead,
        (false, claim) => Asked::Lost(Lost {
            stamp: claim.stamp,
            deleted: claim.deleted,
            image: claim.image,
        }),
    };
    let special = special(&changes.target, call.definer, &lost_keys, claim_of)?;
    if special.contains(&true) {
        let special = lost.iter().zip(&special).filter(|(_, special)| **special);
        let runs: Vec<_> = special.map(|(&i, _)| nets[claimed[i]].run).collect();
        // A shared lock would be lost with the set, which is rolled back.
        if changes.lock == MappingLock::Exclusive {
            changes.load(&runs)?;
        }
        return Err(Stop::EXAMINE);
    }
    Ok(lost.into_iter().map(|i| claimed[i]).collect())
}

/// Stores the images of rows that stay for now, and that their net changes remove later. Another call cannot find them
/// out if a change of the same transaction wrote the row.
fn store_images(changes: &Changes<'_>, gone: &[&NetChange]) -> Result<(), SqlError> {
    let mut nets = Vec::new();
    for net in gone {
        let Guarded::Examined { state, .. } = &net.guarded else {
            continue;
        };
        let stored = changes.examined.stored.get(&net.run.start);
        let stored = stored.filter(|it| it.state.present && it.state.row_image.is_none());
        let Some((stored, gone)) = stored.zip(state.gone) else {
            continue;
        };
        let row = stored.state.row;
        if row.is_some_and(|row| gone.stamp.same_transaction(&row)) {
            let state = State {
                row_image: gone.image,
                ..stored.state.clone()
            };
            let guarded = Guarded::Examined {
                state: Box::new(state),
                members: stored.members.clone(),
                has_version_row: stored.has_version_row,
                exists: stored.exists,
                touched: true,
            };
            nets.push(NetChange {
                guarded,
                ..(*net).clone()
            });
        }
    }
    store_states(changes, &nets.iter().collect::<Vec<_>>())
}

/// Stores the states of examined rows.
fn store_states(changes: &Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    let states: Vec<NewState<'_>> = nets
        .iter()
        .filter_map(|net| match &net.guarded {
            Guarded::Examined {
                state,
                members,
                has_version_row,
                ..
            } => Some(NewState {
                key: changes.keyed.key(net.run.start),
                state,
                members,
                has_version_row: *has_version_row,
            }),
            _ => None,
        })
        .collect();
    if states.is_empty() {
        return Ok(());
    }
    let call = &changes.intake.call;
    let guard = (call.definer, changes.examined.home);
    let shared = changes.lock == MappingLock::Shared;
    if !store(&changes.target, guard, &states, shared)? {
        call.overtaken.set(true);
    }
    Ok(())
}
