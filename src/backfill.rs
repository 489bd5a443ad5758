//! Types that a backfill cannot read: Sequin leaves their columns out of its SELECT and sends null for
//! them. Such a null means unknown, not NULL.

#![forbid(unsafe_code)]

pub mod shapes;

use pgrx::pg_sys;

use crate::pg::typeio::{base_type, type_row};

/// The types that a backfill can read, by name; it can read enums too. The list comes from running Sequin
/// 0.14.6's loader over every type. For an untried type, null is taken for unknown: a change still reports
/// a real NULL, but a value that a read has overwritten is lost.
const READABLE: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "oid",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "citext",
    "name",
    "uuid",
    "bytea",
    "date",
    "time",
    "timetz",
    "timestamp",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "tsvector",
    "hstore",
    "daterange",
    "vector",
    "halfvec",
    "sparsevec",
];

/// Types of columns that take what a source column of any type sends.
const TAKE_ALL: &[&str] = &[
    "text", "varchar", "citext", "name", "json", "jsonb", "_text", "_varchar",
];

/// Whether a column of this type can hold the values of a source column of a type that a backfill cannot read.
pub fn may_hold_unreadable(type_oid: pg_sys::Oid) -> bool {
    let (base, _) = base_type(type_oid, -1);
    type_row(base).is_some_and(|row| TAKE_ALL.contains(&row.name.as_str()))
}

/// Whether a read's null for a column of this type means an unknown value.
pub fn is_unreadable(type_oid: pg_sys::Oid) -> bool {
    let (base, _) = base_type(type_oid, -1);
    let Some(row) = type_row(base) else {
        return false;
    };
    if let Some(element) = row.element {
        // Sequin does not read arrays of enums, domains, composites or ranges either.
        let kind = type_row(element).map(|row| row.kind);
        return kind.is_some_and(|kind| kind != b'b') || is_unreadable(element);
    }
    row.kind != b'e' && !READABLE.contains(&row.name.as_str())
}
