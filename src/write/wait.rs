//! The row that a failed message waits for: it must arrive, leave or change before the message can succeed.
//!
//! | SQLSTATE | row |
//! |---|---|
//! | 23503, a row is written | the row that the foreign key refers to |
//! | 23503 or 23001, a row is deleted | a row that still refers to the deleted row |
//! | 23505, 23P01 | a row that conflicts with the message's row |
//! | 23502 | the message's own row: an older change may bring the value |
//!
//! If the key is not known, the message waits for any row of the table.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys::{self, Datum};

use super::cascade;
use super::constraint::{ForeignKey, exclusive, referrer};
use super::graph::exclusions::holders;
use super::graph::table::Table;
use super::keys::{collations, encoding, keys_found};
use super::pending::Pending;
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::{NetChange, Unit, Values};
use crate::destination::Destination;
use crate::error::SqlError;
use crate::error::sqlstate::{EXCLUSION_VIOLATION, UNIQUE_VIOLATION};
use crate::mapping::Mapping;
use crate::outcome::Wait;
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::RowColumn;
use crate::prepared::Recent;
use crate::statement::{SqlColumn, numbered_batch};
use crate::stop::Stop;
use crate::target::Target;

/// For each pending unit, the row that it waits for; `None` if that is not known.
pub fn find(
    changes: &Changes<'_>,
    pending: &[Pending],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, Stop> {
    let mut waits = vec![None; pending.len()];
    let mut by_constraint: HashMap<_, Vec<usize>> = HashMap::new();
    for (i, Pending { error, .. }) in pending.iter().enumerate() {
        let key = (error.code, &error.schema, &error.table, &error.constraint);
        by_constraint.entry(key).or_default().push(i);
    }
    for held in by_constraint.into_values() {
        let error = &pending[held[0]].error;
        let units: Vec<&Unit> = held.iter().map(|&i| &pending[i].unit).collect();
        match subtransaction(|| find_of_constraint(changes, error, &units, mappings)) {
            Ok(found) => held
                .into_iter()
                .zip(found)
                .for_each(|(i, wait)| waits[i] = wait),
            // Not worth a failed call: the message is retried from time to time anyway.
            Err(error) => forgive(error, &changes.target.mapping)?,
        }
    }
    Ok(waits)
}

/// The [`Wait`]s of units that failed on the same constraint.
fn find_of_constraint(
    changes: &Changes<'_>,
    error: &SqlError,
    units: &[&Unit],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let subjects = || -> Vec<&NetChange> {
        let units = units.iter();
        units.map(|unit| unit.subject(&changes.keyed)).collect()
    };
    if error.is(UNIQUE_VIOLATION) || error.is(EXCLUSION_VIOLATION) {
        return in_the_way(changes, error, &subjects());
    }
    if !error.violates_foreign_key() {
        return Ok(own(changes, &subjects()));
    }
    let Some(key) = ForeignKey::of(error) else {
        return Ok(vec![None; units.len()]);
    };
    // A message that moves its row has two parts, and each can fail: the insert at the new key, the delete
    // at the old key.
    let nets = if key.child == target.destination.oid {
        subjects()
    } else {
        units.iter().map(|unit| unit.going()).collect()
    };
    if key.child != target.destination.oid || !nets[0].present() {
        let constraint = error.constraint.as_deref();
        return children(target, values, key.child, constraint, &nets, mappings);
    }
    parents(target, values, &key, &nets, mappings)
}

/// [`Wait`]s for the rows of the net changes themselves.
fn own(changes: &Changes<'_>, nets: &[&NetChange]) -> Vec<Option<Wait>> {
    let table = changes.target.destination.oid;
    nets.iter()
        .map(|net| {
            let key = changes.table_key(net.run.start);
            Some(Wait::of(table, Some(key)))
        })
        .collect()
}

/// [`Wait`]s for the rows of this table with these keys; without a key, for any row.
fn waits(table: pg_sys::Oid, keys: Vec<Option<Vec<u8>>>) -> Vec<Option<Wait>> {
    keys.into_iter()
        .map(|key| Some(Wait::of(table, key)))
        .collect()
}

/// [`Wait`]s for any row of this table.
fn any(table: pg_sys::Oid, nets: &[&NetChange]) -> Vec<Option<Wait>> {
    vec![Some(Wait::AnyRow { table }); nets.len()]
}

/// [`Wait`]s for the rows that a foreign key refers to.
fn parents(
    target: &Target,
    values: &Values,
    foreign_key: &ForeignKey,
    nets: &[&NetChange],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, SqlError> {
    // A written parent row is found by the key of its mapping, so the foreign key must refer to that key.
    let is_key = mappings.iter().any(|mapping| {
        let mut known_by = mapping
            .key
            .clone()
            .unwrap_or_else(|| foreign_key.primary.clone());
        let mut to = foreign_key.to.clone();
        known_by.sort_unstable();
        to.sort_unstable();
        mapping.destination_oid() == Some(foreign_key.parent) && known_by == to
    });
    let columns: Option<Vec<usize>> = foreign_key
        .of
        .iter()
        .map(|c| target.column_number(c))
        .collect();
    let Some(columns) = columns.filter(|_| is_key) else {
        return Ok(any(foreign_key.parent, nets));
    };
    let row: Vec<String> = columns
        .iter()
        .zip(&foreign_key.types)
        .map(|(&i, type_name)| format!("b.{}::{type_name}", target.columns[i].sql.name))
        .collect();
    let asked: Vec<&SqlColumn> = columns.iter().map(|&i| &target.columns[i].sql).collect();
    let (number, batch) = numbered_batch(&asked);
    let sql = format!("select b.{number}, {} from {batch}", row.join(", "));
    let mut row = vec![RowColumn::number("")];
    row.extend(columns.iter().map(|&i| target.columns[i].row.clone()));
    let mut statement = Recent::new(sql, &row)?;
    let found = statement.query(nets.iter().enumerate(), |(n, net)| {
        let mut row = vec![Some(Datum::from(n as i32))];
        row.extend(columns.iter().map(|&i| values.get(net.row, i)));
        row
    })?;
    let encoding = encoding(&found, 1, &collations(foreign_key.parent, &foreign_key.to));
    let keys = keys_found(&found, &encoding, nets.len());
    Ok(waits(foreign_key.parent, keys))
}

/// For each row that is to be deleted, a [`Wait`] for a row that still refers to it through this foreign key.
fn children(
    target: &Target,
    values: &Values,
    child: pg_sys::Oid,
    constraint: Option<&str>,
    nets: &[&NetChange],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let of_child = |mapping: &&Mapping| mapping.destination_oid() == Some(child);
    let (Some(referrer), Some(mapping), Some(table)) = (
        referrer(target, child, constraint),
        mappings.iter().find(of_child),
        Destination::known(child),
    ) else {
        return Ok(any(child, nets));
    };
    let names = mapping.key_of(&table);
    let key: Vec<String> = table
        .columns
        .iter()
        .map(|column| column.name.clone())
        .filter(|name| names.contains(name))
        .collect();
    let keys = cascade::holders(target, values, referrer, &key, nets)?;
    Ok(waits(child, keys))
}

/// [`Wait`]s for rows that conflict with the new rows in the unique index or exclusion constraint that raised the error.
fn in_the_way(
    changes: &Changes<'_>,
    error: &SqlError,
    nets: &[&NetChange],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let table = changes.target.destination.oid;
    let Some((constraints, name)) = exclusive(error) else {
        return Ok(any(table, nets));
    };
    let Some(index) = constraints.exclusion(name) else {
        return Ok(any(table, nets));
    };
    let rows = Table::read(changes, &constraints, nets)?;
    let mut keys = vec![None; nets.len()];
    for (n, key) in holders(&rows, index, false)? {
        keys[n] = Some(key).filter(|key| !key.is_empty());
    }
    Ok(waits(table, keys))
}

/// Whether the error is about a foreign key of a table to itself.
pub fn is_of_itself(error: &SqlError) -> bool {
    ForeignKey::of(error).is_some_and(|key| key.parent == key.child)
}
