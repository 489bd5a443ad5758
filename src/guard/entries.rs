//! Entries of `sequin.row_version` for rows that have none.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::pg::absent::{Table, insert_absent};
use crate::pg::row_version::{relations, unknown};

/// The columns of `sequin.row_version`.
const COLUMNS: &[(&str, pg_sys::Oid)] = &[
    ("mapping", pg_sys::INT4OID),
    ("key", pg_sys::BYTEAOID),
    ("source", pg_sys::INT8OID),
    ("lsn", pg_sys::INT8OID),
    ("idx", pg_sys::INT4OID),
    ("committed_at", pg_sys::TIMESTAMPTZOID),
    ("read_at", pg_sys::TIMESTAMPTZOID),
    ("deleted", pg_sys::BOOLOID),
    ("image", pg_sys::INT8OID),
    ("gone", pg_sys::JSONBOID),
    ("gaps", pg_sys::JSONBOID),
];

/// Inserts an entry for each item if none of the rows has one. `key` gives the row's key, `value` what a column holds; no
/// entry has gaps. Returns whether the entries are inserted: see [`insert_absent`], also for the errors.
pub fn insert<T>(
    mapping: i32,
    items: &[T],
    key: impl Fn(&T) -> &[u8],
    value: impl Fn(&T, &str) -> Option<Datum>,
) -> Result<bool, SqlError> {
    let table = Table {
        relations: relations(),
        // of entries with gaps
        partial: Some(unknown().1),
        columns: COLUMNS,
    };
    let rest = |item: &T| {
        let columns = COLUMNS[2..].iter();
        columns.map(|(column, _)| value(item, column)).collect()
    };
    insert_absent(&table, &[Datum::from(mapping)], items, key, rest)
}
