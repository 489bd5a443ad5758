//! A look at stored rows without a lock and without a statement. What it shows may be older than what is there when the
//! call writes, but never newer.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use pgrx::pg_sys::{self, Datum};

use super::stored::{Row, stored, version_rows};
use crate::destination::places::key_index;
use crate::error::SqlError;
use crate::mapping::GUARD_COLUMNS;
use crate::mapping::versions::VersionsIn;
use crate::merge::State;
use crate::message::Version;
use crate::pg::clock;
use crate::pg::unique_scan::{Sees, scan};
use crate::statement::lookup::RowLock;
use crate::target::Target;

/// The states of the rows with these keys (as bytes, and as values), without a lock and without a statement. `None`
/// for a row of which nothing is stored. With guard table, a row counts as there unless its entry says that it is
/// deleted.
pub fn glance(
    target: &Target,
    (definer, home): (pg_sys::Oid, i64),
    (keys, values): (&[&[u8]], &[&[Datum]]),
    entries: bool,
) -> Result<Vec<Option<State>>, SqlError> {
    let seen = match target.versions {
        VersionsIn::Columns => seen_rows(target, values),
        _ => Some(keys.iter().map(|_| Some(Row::default())).collect()),
    };
    let unseen = seen.is_none();
    let rows = seen.unwrap_or_else(|| keys.iter().map(|_| None).collect());
    let versions = match entries {
        true => version_rows(target.mapping.id, definer, keys, RowLock::None)?,
        false => keys.iter().map(|_| None).collect(),
    };
    let both = versions.into_iter().zip(rows);
    Ok(both
        .map(|(version, row)| {
            let told = match target.versions {
                // Only of a deleted row does the entry tell all.
                _ if unseen => version.as_ref().is_some_and(|version| version.deleted),
                VersionsIn::Columns => version.is_some() || row.is_some(),
                _ => version.is_some(),
            };
            told.then(|| stored(target, home, version, row).state)
        })
        .collect())
}

/// With guard columns, whether the destination has each of these rows in no older version than this position; `None` if it
/// does not have the row. Entries are left out.
pub fn has_version(target: &Target, rows: &[(&[Datum], Option<Version>)]) -> Vec<Option<bool>> {
    let keys: Vec<&[Datum]> = rows.iter().map(|(key, _)| *key).collect();
    let Some(found) = seen_rows(target, &keys) else {
        return rows.iter().map(|_| None).collect();
    };
    let found = found.into_iter().zip(rows);
    found
        .map(|(row, (_, version))| {
            let row = row?;
            let both = row.version.zip(*version);
            Some(both.is_some_and(|(stored, version)| !stored.is_before(version)))
        })
        .collect()
}

/// The rows with these keys. `None` where that takes a statement: in tables that inherit, in partitions, in shards,
/// under row security.
fn seen_rows(target: &Target, keys: &[&[Datum]]) -> Option<Vec<Option<Row>>> {
    let mut found: Vec<Option<Row>> = keys.iter().map(|_| None).collect();
    let destination = &target.destination;
    let plain = destination.relkind == b'r'
        && destination.is_heap
        && !destination.has_children
        && destination.shards.is_none()
        && !destination.row_security;
    let names = target.names_of_key();
    let index = key_index(destination, &names).filter(|_| plain)?;
    let order = index.columns.iter();
    let order = order.filter_map(|column| names.iter().position(|name| name == column));
    let order: Vec<usize> = order.collect();
    let keys = keys
        .iter()
        .map(|key| order.iter().map(|&i| key[i]).collect());
    let columns = GUARD_COLUMNS.map(|(name, ..)| name);
    let relations = (destination.oid, index.oid);
    scan(relations, Sees::Committed, &columns, keys, |n, row| {
        let number = |column| row.value(column).map(|value| value.value() as i64);
        found[n] = Some(Row {
            version: number(0).map(|lsn| Version {
                lsn: lsn as u64,
                idx: number(1).unwrap_or_default() as u32,
            }),
            committed_at: number(2).map(clock::to_unix),
        });
        ControlFlow::Continue(())
    });
    Some(found)
}
