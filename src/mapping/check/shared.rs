//! Whether another mapping supplies the same rows of the destination.

#![forbid(unsafe_code)]

use super::fit::qualified;
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::idents;
use crate::mapping::versions::guard;
use crate::mapping::{ColumnSource, Guard, Mapping, Mode, Root};

/// Every fault of a mapping that supplies rows which another one of `others` supplies too, where the versions of
/// the two cannot be compared.
pub fn check_shared(
    mapping: &Mapping,
    destination: &Destination,
    others: &[Mapping],
) -> Vec<Fault> {
    let mine = guard(mapping, destination);
    others
        .iter()
        .filter(|other| {
            other.id != mapping.id
                && other.destination == mapping.destination
                && guard(other, destination) == mine
                && may_share_rows(mapping, other, destination)
        })
        .filter_map(|other| match mine {
            Guard::Columns => parts_of_rows(mapping, other, destination),
            Guard::Table => two_ways(mapping, other, destination),
            Guard::Auto | Guard::Off => None,
        })
        .take(1)
        .collect()
}

/// Whether both can write a row with the same key.
fn may_share_rows(a: &Mapping, b: &Mapping, destination: &Destination) -> bool {
    let (key, other) = (a.key_of(destination), b.key_of(destination));
    let both = [a, b];
    let of_record = |mapping: &Mapping, name: &String| match mapping.columns.source(name) {
        Some(ColumnSource::Path(path)) => path.root == Root::Record,
        Some(_) => false,
        None => mapping.columns.rest,
    };
    both.iter()
        .all(|mapping| mapping.mode == Mode::Upsert && mapping.filter.is_none())
        && key.len() == other.len()
        && key.iter().all(|name| {
            other.contains(name)
                && (both.iter().all(|mapping| of_record(mapping, name))
                    || a.columns.source(name) == b.columns.source(name)
                        && matches!(a.columns.source(name), Some(ColumnSource::Value(_))))
        })
}

/// The columns beside the key that a mapping writes.
fn written<'d>(mapping: &Mapping, destination: &'d Destination) -> Vec<&'d str> {
    let key = mapping.key_of(destination);
    let columns = destination.columns.iter().filter(|column| {
        !key.contains(&column.name)
            && !column.generated
            && !mapping.reserves(&column.name)
            && (mapping.columns.rest || mapping.columns.source(&column.name).is_some())
    });
    columns.map(|column| column.name.as_str()).collect()
}

/// Under guard columns: the row has one version, so that the change of one mapping makes the other's stale.
fn parts_of_rows(a: &Mapping, b: &Mapping, destination: &Destination) -> Option<Fault> {
    if written(a, destination) == written(b, destination) {
        return None;
    }
    Some(
        Fault::kind(format!(
            "another mapping writes other columns of the same rows of {}",
            qualified(destination)
        ))
        .detail(
            "Under guard 'columns' a row has one version. A change by one mapping would make older changes by the \
             other stale, and their values would be lost.",
        )
        .hint("Use guard => 'table' for both, so that each has versions of its own."),
    )
}

/// Under guard table: each mapping has versions of its own, so that changes which come by the two ways are not
/// compared.
fn two_ways(a: &Mapping, b: &Mapping, destination: &Destination) -> Option<Fault> {
    let (of_a, of_b) = (written(a, destination), written(b, destination));
    let common: Vec<String> = of_a
        .iter()
        .filter(|name| of_b.contains(name))
        .map(|name| (*name).to_owned())
        .collect();
    let covers = a.source.covers(&b.source) || b.source.covers(&a.source);
    if common.is_empty() || !covers || a.source == b.source {
        return None;
    }
    Some(
        Fault::kind(format!(
            "another mapping, of a source that includes or is part of this one, writes the same rows of {}",
            qualified(destination)
        ))
        .detail(format!(
            "Both write ({}). Under guard 'table' each mapping has versions of its own, so that an older change by \
             one would win over a newer one by the other.",
            idents(&common)
        ))
        .hint("Use guard => 'columns' for both, or one mapping with a wildcard in its source."),
    )
}
