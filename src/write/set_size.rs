//! How the rows of a call are divided into sets, each written by one statement (or one for each shape):
//! few, since a statement costs something, but several, since one that fails takes its set with it.

#![forbid(unsafe_code)]

use crate::changes::Changes;
use crate::changes::keyed::Keyed;
use crate::changes::net::{NetChange, Values};
use crate::key;
use crate::mapping::{Mode, OnError};
use crate::target::Target;

/// Into how many sets the rows are divided.
const SETS: usize = 4;

/// The fewest rows that are worth a set of their own.
const MIN_SET: usize = 100;

/// How many of the rows one statement is to write.
pub fn set_size(changes: &Changes<'_>) -> usize {
    let (target, nets) = (&changes.target, &changes.nets.list);
    let destination = &target.destination;
    // Where the first failure fails the call, it must not be that a row needs one of a later set.
    if destination.checks_sets || target.mapping.on_error == OnError::Raise {
        return usize::MAX;
    }
    // Which row a trigger refused when all were written is found by halves.
    let sets = if destination.after_triggers {
        2 * SETS
    } else {
        SETS
    };
    let size = nets.len().div_ceil(sets).max(MIN_SET);
    let mut keys = destination.self_references.iter();
    let values = &changes.nets.values;
    if nets.len() > size
        && keys.any(|columns| refers_ahead(target, &changes.keyed, values, columns, nets, size))
    {
        return usize::MAX;
    }
    size
}

/// Whether a row may refer, by a foreign key of the table to itself, to one of a later set. The foreign
/// key is given by its columns, each with the one that it refers to.
fn refers_ahead(
    target: &Target,
    keyed: &Keyed,
    values: &Values,
    columns: &[(String, String)],
    nets: &[NetChange],
    size: usize,
) -> bool {
    // For each column of the mapping's key the one that refers to it, of the same type.
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
    // Which rows refer to one that goes is not known here.
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
