//! Whether another mapping supplies the same rows of the destination.

#![forbid(unsafe_code)]

use super::fit::qualified;
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::idents;
use crate::error::{SqlError, sqlstate};
use crate::mapping::source::Part;
use crate::mapping::versions::guard;
use crate::mapping::{ColumnSource, Guard, Mapping, Mode, Path, Root};

/// Every fault of a mapping that supplies rows which another one of `others` supplies too, where the versions of
/// the two cannot be compared.
pub fn check_shared(
    mapping: &Mapping,
    destination: &Destination,
    others: &[Mapping],
) -> Vec<Fault> {
    let sharing = sharing(mapping, destination, others);
    let faults = sharing.filter_map(|(other, of_columns)| match of_columns {
        true => parts_of_rows(mapping, other, destination),
        false => two_ways(mapping, other, destination)
            .filter(|_| are_one(mapping, other))
            .map(|common| same_rows(destination, &common)),
    });
    faults.take(1).collect()
}

/// Warns of another mapping of other tables that writes the same columns of rows with the same key: their rows may be
/// others, and where they are not, the versions of the two are not compared.
pub fn may_meet(
    mapping: &Mapping,
    destination: &Destination,
    others: &[Mapping],
) -> Option<SqlError> {
    let mut sharing = sharing(mapping, destination, others);
    let (other, common) = sharing.find_map(|(other, of_columns)| {
        let common = two_ways(mapping, other, destination)?;
        (!of_columns).then_some((other, common))
    })?;
    let warning = SqlError::new(
        sqlstate::WARNING,
        format!(
            "mapping \"{}\" writes the same columns of rows with the same key of {}",
            other.name,
            qualified(destination)
        ),
    );
    Some(
        warning
            .with_detail(format!(
                "Both write ({}). If a row can come from both sources, an older change by one would win over a newer \
                 one by the other: under guard 'table' each mapping has versions of its own.",
                idents(&common)
            ))
            .with_hint(REMEDY),
    )
}

/// Whether a name with this end, behind that of a table, is usual for its partition: `_p1`, `_2026_01`, `_y2026`, `_default`.
fn is_of_partition(suffix: &str) -> bool {
    let Some(suffix) = suffix.strip_prefix('_') else {
        return false;
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    digits(suffix) >= 4
        || suffix
            .strip_prefix(['p', 'y'])
            .is_some_and(|rest| digits(rest) > 0)
        || suffix.starts_with("default")
        || suffix.starts_with("part")
}

/// The other mappings that can write rows of this mapping, and whether the destination has the versions of both.
fn sharing<'m>(
    mapping: &'m Mapping,
    destination: &'m Destination,
    others: &'m [Mapping],
) -> impl Iterator<Item = (&'m Mapping, bool)> {
    let mine = guard(mapping, destination);
    let others = others.iter().filter(move |other| {
        // while sequin.map replaces a mapping, the new one has another id
        other.id != mapping.id
            && other.name != mapping.name
            && other.destination == mapping.destination
            && may_share_rows(mapping, other, destination)
    });
    others.filter_map(move |other| match (mine, guard(other, destination)) {
        (Guard::Columns, Guard::Columns) => Some((other, true)),
        (Guard::Table | Guard::Columns, Guard::Table | Guard::Columns) => Some((other, false)),
        _ => None,
    })
}

/// Whether a message can go to both mappings, or they are of a table and, by its name, a partition of it.
fn are_one(a: &Mapping, b: &Mapping) -> bool {
    let (a, b) = (&a.source, &b.source);
    let part = |table: &Part, part: &Part| match (table, part) {
        (Part::Exact(table), Part::Exact(part)) => {
            let suffix = part.strip_prefix(table.as_str());
            suffix.is_some_and(is_of_partition)
        }
        _ => false,
    };
    a.overlaps(b)
        || a.database == b.database
            && a.schema == b.schema
            && (part(&a.table, &b.table) || part(&b.table, &a.table))
}

/// Whether both can write a row with the same key.
fn may_share_rows(a: &Mapping, b: &Mapping, destination: &Destination) -> bool {
    let (key, other) = (a.key_of(destination), b.key_of(destination));
    let overlap = a.source.overlaps(&b.source);
    // Two filters may let different rows in.
    let apart = a.filter.is_some() && b.filter.is_some() && a.filter != b.filter;
    [a, b].iter().all(|mapping| mapping.mode == Mode::Upsert)
        && !apart
        && key.len() == other.len()
        && key.iter().all(|name| {
            other.contains(name) && may_be_equal(origin(a, name), origin(b, name), overlap)
        })
}

/// Where a key column's value comes from.
enum Origin<'m> {
    /// The record, or its changes.
    Record,
    /// The message, beside its record.
    Message(&'m Path),
    Sql(&'m str),
    Constant(&'m str),
    Nowhere,
}

fn origin<'m>(mapping: &'m Mapping, name: &str) -> Origin<'m> {
    match mapping.columns.source(name) {
        Some(ColumnSource::Path(path)) => match path.root {
            Root::Record | Root::Changes => Origin::Record,
            Root::Metadata | Root::Action => Origin::Message(path),
        },
        Some(ColumnSource::Sql(sql)) => Origin::Sql(sql),
        Some(ColumnSource::Value(value)) => Origin::Constant(value),
        None if mapping.columns.rest => Origin::Record,
        None => Origin::Nowhere,
    }
}

/// Whether two mappings can give a key column the same value. `overlap`: whether a message can go to both.
fn may_be_equal(a: Origin<'_>, b: Origin<'_>, overlap: bool) -> bool {
    match (a, b) {
        (Origin::Constant(a), Origin::Constant(b)) => a == b,
        (Origin::Message(a), Origin::Message(b)) => overlap && a == b,
        (Origin::Sql(a), Origin::Sql(b)) => overlap || a == b && !a.contains("metadata"),
        (Origin::Record | Origin::Sql(_), Origin::Record | Origin::Sql(_)) => true,
        _ => false,
    }
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

/// The columns that both write. Under guard table, each mapping has versions of its own, so that changes which come by the
/// two ways are not compared.
fn two_ways(a: &Mapping, b: &Mapping, destination: &Destination) -> Option<Vec<String>> {
    let (of_a, of_b) = (written(a, destination), written(b, destination));
    let common: Vec<String> = of_a
        .iter()
        .filter(|name| of_b.contains(name))
        .map(|name| (*name).to_owned())
        .collect();
    (!common.is_empty() && a.source != b.source).then_some(common)
}

const REMEDY: &str =
    "Use guard => 'columns' for both, or one mapping with a wildcard in its source.";

fn same_rows(destination: &Destination, common: &[String]) -> Fault {
    Fault::kind(format!(
        "another mapping, of a source that includes or is part of this one, writes the same rows of {}",
        qualified(destination)
    ))
    .detail(format!(
        "Both write ({}). Under guard 'table' each mapping has versions of its own, so that an older change by \
         one would win over a newer one by the other.",
        idents(common)
    ))
    .hint(REMEDY)
}
