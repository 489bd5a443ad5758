//! The size of a set of rows that one statement writes (or one statement per shape). Few large sets save
//! the cost of statements. Several smaller sets limit the damage of a failure, which undoes its whole set.

#![forbid(unsafe_code)]

use crate::changes::Changes;
use crate::changes::keyed::Keyed;
use crate::changes::net::{NetChange, Values};
use crate::key;
use crate::mapping::{Mode, OnError};
use crate::target::Target;

/// The number of sets, except for destinations with after triggers.
const SETS: usize = 4;

/// The fewest rows for which a separate set pays.
const MIN_SET: usize = 100;

/// The same for a table of Citus, where a statement takes some tens of milliseconds, however few rows it writes. Measured
/// with 32 shards and batches of 1000: 3 times as many rows a second as with four sets.
const MIN_SHARDED_SET: usize = 5000;

/// How many rows one statement should write.
pub fn set_size(changes: &Changes<'_>) -> usize {
    let (target, nets) = (&changes.target, &changes.nets.list);
    let destination = &target.destination;
    // A constraint that checks sets may compare several rows of a statement. Under `raise` the first failure
    // fails the call, so no row may need a row of a later set.
    if destination.links.checks_sets || target.mapping.on_error == OnError::Raise {
        return usize::MAX;
    }
    // An after trigger does not show which row it refuses. The search halves the set, so smaller sets help.
    let sets = if destination.links.after_triggers {
        2 * SETS
    } else {
        SETS
    };
    let least = match destination.shards {
        None => MIN_SET,
        Some(_) => MIN_SHARDED_SET,
    };
    let size = nets.len().div_ceil(sets).max(least);
    let mut keys = destination.links.self_references.iter();
    let values = &changes.nets.values;
    if nets.len() > size
        && keys.any(|columns| refers_ahead(target, &changes.keyed, values, columns, nets, size))
    {
        return usize::MAX;
    }
    size
}

/// Whether a row may refer to a row of a later set, through a foreign key of the table to itself. `columns`
/// are the referring columns of the foreign key, each with the column that it refers to.
fn refers_ahead(
    target: &Target,
    keyed: &Keyed,
    values: &Values,
    columns: &[(String, String)],
    nets: &[NetChange],
    size: usize,
) -> bool {
    // For each column of the mapping's key, the referring column of the same type.
    let of: Option<Vec<usize>> = target
        .key
        .iter()
        .map(|&to| {
            let (name, _) = columns
                .iter()
                .find(|(_, c)| *c == target.columns[to].name)?;
            let of = target.column_number(name)?;
            let type_oid = |i: usize| target.columns[i].row.type_oid;
            (type_oid(of) == type_oid(to)).then_some(of)
        })
        .collect();
    let sorted = target.mapping.mode == Mode::Upsert;
    let (Some(of), true) = (of, sorted && columns.len() == target.key.len()) else {
        return true;
    };
    // Which rows refer to a deleted row is not known here.
    if nets.iter().any(|net| !net.present()) {
        return true;
    }
    let mut bytes = Vec::new();
    for (i, net) in nets.iter().enumerate() {
        let value = |&of: &usize| values.get(net.row, of).filter(|_| net.has(of));
        let Some(refers_to) = of.iter().map(value).collect::<Option<Vec<_>>>() else {
            continue;
        };
        bytes.clear();
        key::encode(&target.key_encoding, &refers_to, &mut bytes);
        let found = nets.binary_search_by(|net| keyed.key(net.run.start).cmp(&bytes));
        if found.is_ok_and(|to| to / size > i / size) {
            return true;
        }
    }
    false
}
