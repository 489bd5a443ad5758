//! How the rows of a call are divided into sets, each written by one statement (or one for each shape):
//! few, since a statement costs something, but several, since one that fails takes its set with it.

use crate::group::{Group, Net};
use crate::key;
use crate::mapping::{Mode, OnError};
use crate::write::has;

/// Into how many sets the rows are divided.
const SETS: usize = 4;

/// The fewest rows that are worth a set of their own.
const MIN_SET: usize = 100;

/// How many of the rows one statement is to write.
pub fn set_size(group: &mut Group<'_>, nets: &[Net]) -> usize {
    let destination = &group.target.destination;
    // Where the first failure fails the call, it must not be that a row needs one of a later set.
    if destination.checks_sets || group.target.mapping.on_error == OnError::Raise {
        return usize::MAX;
    }
    // Which row a trigger refused when all were written is found by halves.
    let sets = if destination.after_triggers {
        2 * SETS
    } else {
        SETS
    };
    let size = nets.len().div_ceil(sets).max(MIN_SET);
    if nets.len() > size && refer_ahead(group, nets, size) {
        return usize::MAX;
    }
    size
}

/// Whether a row may refer, by a foreign key of the table to itself, to one of a later set.
fn refer_ahead(group: &mut Group<'_>, nets: &[Net], size: usize) -> bool {
    let keys = std::mem::take(&mut group.target.destination.self_references);
    let ahead = keys
        .iter()
        .any(|columns| refers_ahead(group, columns, nets, size));
    group.target.destination.self_references = keys;
    ahead
}

/// The same for one foreign key: its columns, each with the one that it refers to.
fn refers_ahead(
    group: &mut Group<'_>,
    columns: &[(String, String)],
    nets: &[Net],
    size: usize,
) -> bool {
    let target = &group.target;
    let place = |name: &str| target.columns.iter().position(|c| c.name == name);
    // For each column of the mapping's key the one that refers to it, of the same type.
    let of: Option<Vec<usize>> = target
        .key
        .iter()
        .map(|&to| {
            let (name, _) = columns
                .iter()
                .find(|(_, c)| *c == target.columns[to].name)?;
            let of = place(name)?;
            let type_oid = |i: usize| target.columns[i].row.type_oid;
            (type_oid(of) == type_oid(to)).then_some(of)
        })
        .collect();
    let sorted = target.mapping.mode == Mode::Upsert;
    let (Some(of), true) = (of, sorted && columns.len() == target.key.len()) else {
        return true;
    };
    // Which rows refer to one that goes is not known here.
    if nets.iter().any(|net| !net.present) {
        return true;
    }
    let mut bytes = Vec::new();
    for (i, net) in nets.iter().enumerate() {
        if !of
            .iter()
            .all(|&of| has(&net.columns, of) && !group.nulls[net.row + of])
        {
            continue;
        }
        let values: Vec<_> = of.iter().map(|&of| group.values[net.row + of]).collect();
        bytes.clear();
        key::encode(&mut group.target.key_encoding, &values, &mut bytes);
        let found = nets.binary_search_by(|net| group.key(net.run.0).cmp(&bytes));
        if found.is_ok_and(|to| to / size > i / size) {
            return true;
        }
    }
    false
}
