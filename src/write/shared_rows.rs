//! Rows that come by several mappings. Where each supplies columns of its own, a delete takes the columns of its mapping
//! away, and leaves the row to the others that have it: the last one deletes the row. Where both write a column, their
//! changes are not compared, and the row may come by one of them only.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::graph::{Graph, net_of};
use super::keys::{by_key, keys_of, lock_rows};
use super::pending::Pending;
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::error::{SqlError, sqlstate};
use crate::guard::stored::{first_of, have};
use crate::key;
use crate::mapping::check::Sharer;
use crate::prepared::{Recent, RowReader};
use crate::statement::lookup::{self, RowLock};
use crate::target::Target;

/// Which of these rows stay when their mapping deletes them. The rows are locked, so that of two mappings which delete
/// a row at the same time, the second one sees what the first one did.
pub fn stay(changes: &Changes<'_>, nets: &[&NetChange]) -> Result<Vec<bool>, SqlError> {
    let target = &changes.target;
    let mut stays = vec![false; nets.len()];
    if target.shared.sharers.is_empty() || nets.is_empty() {
        return Ok(stays);
    }
    if target.can_lock_rows {
        lock_rows(target, &changes.nets.values, nets)?;
    }
    for sharer in &target.shared.sharers {
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
    Ok(stays)
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
    let encoded = nets.iter().map(|net| {
        let mut bytes = Vec::new();
        let values = changes.keyed.key_values(net.run.start);
        let encoding = &changes.target.key_encoding;
        key::encode_in_order(encoding, values, &sharer.key, &mut bytes);
        bytes
    });
    encoded.collect()
}

/// Fails if one of these rows came by another mapping that writes the same columns: the two do not compare their
/// changes. The entries of the rows are written already, so that of two calls at the same time one sees the other.
pub fn require_no_rival(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    for rival in &changes.target.shared.rivals {
        let keys = keys_for(changes, rival, nets);
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        if let Some(found) = first_of(rival, &keys) {
            let error = of_two_mappings(&changes.target, rival);
            changes.progress.suspects.position = Some(changes.intake.position(nets[found].message));
            return Err(error);
        }
    }
    Ok(())
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

/// The nodes of the group whose rows stay when their mappings delete them.
pub fn staying(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    group: &[usize],
) -> Result<HashSet<usize>, SqlError> {
    let mut staying = HashSet::new();
    for (mapping, changes) in all.iter().enumerate() {
        if changes.target.shared.sharers.is_empty() {
            continue;
        }
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
        let stays = nodes.iter().zip(stay(changes, &nets)?);
        staying.extend(stays.filter(|(_, stays)| *stays).map(|(node, _)| *node));
    }
    Ok(staying)
}
