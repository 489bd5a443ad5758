//! Rows that come by several mappings. Where each supplies columns of its own, a delete takes the columns of its mapping
//! away, and leaves the row to the others that have it: the last one deletes the row. Where both write a column, their
//! changes are not compared, and the row may come by one of them only; a delete leaves a row that another one has as it
//! is.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::graph::{Graph, net_of};
use super::keys::{by_key, keys_of, lock_rows};
use super::pending::Pending;
use crate::changes::Changes;
use crate::changes::net::{Guarded, NetChange};
use crate::error::{SqlError, sqlstate};
use crate::guard::stored::{have, have_entries};
use crate::mapping::check::Sharer;
use crate::pg::unique_scan::Sees;
use crate::prepared::{Recent, RowReader};
use crate::statement::lookup::{self, RowLock};
use crate::target::Target;

/// What becomes of a row that its mapping deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is deleted, or marked.
    Goes,
    /// It stays, as other mappings have it, and loses the columns of this one.
    Cleared,
    /// It stays as it is: another mapping that writes the same columns has it.
    Left,
}

/// What becomes of these rows that their mapping deletes. The rows are locked, so that of two mappings which delete
/// a row at the same time, the second one sees what the first one did.
pub fn fates(changes: &Changes<'_>, nets: &[&NetChange]) -> Result<Vec<Fate>, SqlError> {
    let target = &changes.target;
    let shared = &target.shared;
    if shared.sharers.is_empty() && shared.peers.is_empty() || nets.is_empty() {
        return Ok(vec![Fate::Goes; nets.len()]);
    }
    if target.can_lock_rows {
        lock_rows(target, &changes.nets.values, nets)?;
    }
    let mut stays = vec![false; nets.len()];
    for sharer in &shared.sharers {
        let keys = keys_for(changes, sharer, nets);
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let has = have(sharer, &keys);
        let values = match sharer.has_values().filter(|_| has.contains(&None)) {
            Some(sql) => with_values(changes, &sql, nets)?,
            None => vec![false; nets.len()],
        };
        for ((stays, has), values) in stays.iter_mut().zip(has).zip(values) {
            *stays |= has.unwrap_or(values);
        }
    }
    let fate = |stays| if stays { Fate::Cleared } else { Fate::Goes };
    let mut fates: Vec<Fate> = stays.into_iter().map(fate).collect();
    for peer in &shared.peers {
        let has = live(changes, peer, nets, Sees::Committed).into_iter();
        let left = fates.iter_mut().zip(has).filter(|(_, has)| *has);
        left.for_each(|(fate, _)| *fate = Fate::Left);
    }
    Ok(fates)
}

/// For which of these rows a condition on the row `d` holds.
fn with_values(
    changes: &Changes<'_>,
    condition: &str,
    nets: &[&NetChange],
) -> Result<Vec<bool>, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let relation = target.relation_of(|| keys_of(target, values, nets));
    let list = [condition.to_owned()];
    let sql = lookup::rows_of_keys(&relation, &target.key_sql(), &list, RowLock::None);
    let mut statement = Recent::new(sql, &target.numbered_key())?;
    let rows = nets.iter().enumerate();
    let found = statement.query(rows, |(n, net)| by_key(target, values, n, net))?;
    let mut holds = vec![false; nets.len()];
    let mut row = RowReader::new(&found);
    while row.next() {
        holds[row.index(0)] = row.bool(1) == Some(true);
    }
    Ok(holds)
}

/// The keys of rows, as another mapping notes them.
fn keys_for(changes: &Changes<'_>, sharer: &Sharer, nets: &[&NetChange]) -> Vec<Vec<u8>> {
    let nets = nets.iter();
    nets.map(|net| changes.key_of_other(sharer, net.run))
        .collect()
}

/// For which of these rows another mapping has an entry that does not say that the row is deleted.
fn live(changes: &Changes<'_>, other: &Sharer, nets: &[&NetChange], sees: Sees) -> Vec<bool> {
    let keys = keys_for(changes, other, nets);
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    have_entries(other.mapping, &keys, sees, true)
}

/// Fails if one of these rows is new to the mapping and came by another one that writes the same columns: the two do
/// not compare their changes. The entries of the rows are written already, so that of two calls at the same time one
/// sees the other.
pub fn require_no_rival(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    let Some((found, error)) = rival_of(changes, nets) else {
        return Ok(());
    };
    changes.progress.suspects.position = Some(changes.intake.position(nets[found].message));
    Err(error)
}

/// The place of the first of these rows for which [`require_no_rival`] fails, and its error.
pub fn rival_of(changes: &Changes<'_>, nets: &[&NetChange]) -> Option<(usize, SqlError)> {
    let rivals = &changes.target.shared.rivals;
    if rivals.is_empty() {
        return None;
    }
    // A row that has come by this mapping before goes on as before.
    let is_first = |net: &NetChange| match &net.guarded {
        Guarded::Examined {
            has_version_row, ..
        } => !has_version_row,
        _ => changes.progress.first.contains(&net.run.start),
    };
    let nets = nets.iter().copied().enumerate();
    let first = nets.filter(|(_, net)| net.columns().is_some() && is_first(net));
    let (places, first): (Vec<usize>, Vec<&NetChange>) = first.unzip();
    if first.is_empty() {
        return None;
    }
    rivals.iter().find_map(|rival| {
        let has = live(changes, rival, &first, Sees::Dirty);
        let found = has.iter().position(|has| *has)?;
        Some((places[found], of_two_mappings(&changes.target, rival)))
    })
}

fn of_two_mappings(target: &Target, rival: &Sharer) -> SqlError {
    SqlError::new(
        sqlstate::CARDINALITY_VIOLATION,
        format!(
            "the row of {} came by mapping \"{}\"",
            target.destination.qualified_name(),
            rival.name
        ),
    )
    .with_detail("Both mappings write the same columns. Changes that come by two mappings are not compared: an older one could win.")
    .with_hint(
        "Use one mapping with a wildcard in its source, or a key that has the source in it (\"metadata.table_name\", \
         \"metadata.database.name\", or a constant), and retry the letter.",
    )
}

/// What becomes of the group's rows that their mappings delete, where that is not [`Fate::Goes`].
pub fn staying(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    group: &[usize],
) -> Result<HashMap<usize, Fate>, SqlError> {
    let mut staying = HashMap::new();
    for (mapping, changes) in all.iter().enumerate() {
        let gone = |node: &usize| {
            graph.places[*node].mapping == mapping
                && net_of(pending, graph.places[*node]).columns().is_none()
        };
        let nodes: Vec<usize> = group.iter().copied().filter(gone).collect();
        let nets: Vec<&NetChange> = nodes
            .iter()
            .map(|&node| net_of(pending, graph.places[node]))
            .collect();
        let _owner = changes.acting_as_owner();
        let fates = nodes.into_iter().zip(fates(changes, &nets)?);
        staying.extend(fates.filter(|(_, fate)| *fate != Fate::Goes));
    }
    Ok(staying)
}
