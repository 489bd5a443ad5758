//! What a backfill cannot read: Sequin leaves such columns out of its SELECT and sends null for them.
//! That null means unknown, not NULL.

use pgrx::pg_sys;

use crate::pg::typeio::{base_type, type_row};

/// Types by name, from running Sequin 0.14.6's loader over every type.
const UNREADABLE: &[&str] = &[
    "bpchar",
    "char",
    "money",
    "xml",
    "pg_lsn",
    "ltree",
    "lquery",
    "ltxtquery",
    "cube",
    "jsonpath",
    "xid",
    "xid8",
    "tid",
    "tsquery",
    "bit",
    "varbit",
    "inet",
    "cidr",
    "macaddr",
    "macaddr8",
    "point",
    "line",
    "lseg",
    "box",
    "path",
    "polygon",
    "circle",
    "geometry",
    "geography",
    "box2d",
    "box3d",
    "raster",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regclass",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regcollation",
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
    match row.kind {
        b'c' | b'm' => true,
        b'r' => row.name != "daterange",
        _ => UNREADABLE.contains(&row.name.as_str()),
    }
}
