//! What a backfill cannot read: Sequin leaves such columns out of its SELECT and sends null for them.
//! That null means unknown, not NULL.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use crate::pg::typeio::{base_type, type_row};

/// The types that it can read, by name, from running Sequin 0.14.6's loader over every type; enums
/// besides. Of a type that nobody has tried, a null is rather taken for unknown: a change tells of a
/// NULL too, but what a read has overwritten is gone.
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

/// Whether a read's null for a column of this type says nothing.
pub fn is_unreadable(type_oid: pg_sys::Oid) -> bool {
    let (base, _) = base_type(type_oid, -1);
    let Some(row) = type_row(base) else {
        return false;
    };
    if let Some(element) = row.element {
        // A list of enums, domains, composites or ranges is not read either.
        let kind = type_row(element).map(|row| row.kind);
        return kind.is_some_and(|kind| kind != b'b') || is_unreadable(element);
    }
    row.kind != b'e' && !READABLE.contains(&row.name.as_str())
}
