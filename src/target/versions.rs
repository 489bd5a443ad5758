//! The columns of a destination that hold row versions under `guard => 'columns'`.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use crate::mapping::GUARD_COLUMNS;
use crate::merge::Stamp;
use crate::pg::clock;
use crate::pg::tuples::RowColumn;
use crate::statement::SqlColumn;

/// The three columns as statements spell them, with their types in a batch relation.
pub fn version_columns() -> [(SqlColumn, RowColumn); 3] {
    GUARD_COLUMNS.map(|(name, type_oid, type_name)| {
        let sql = SqlColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            equals: String::new(),
            insert_only: false,
            merges: None,
        };
        (sql, RowColumn::plain(name, pg_sys::Oid::from(type_oid)))
    })
}

/// The values of the three columns. The time is the commit time of the row's change; for a row without a
/// position, the time of the newest change or read.
pub fn version_values(stamp: Option<&Stamp>, read_at: Option<i64>) -> [Option<Datum>; 3] {
    let version = stamp.and_then(|stamp| stamp.version);
    let committed_at = stamp.and_then(|stamp| stamp.committed_at);
    let time = match version {
        Some(_) => committed_at,
        None => committed_at.max(read_at),
    };
    [
        version.map(|v| Datum::from(v.lsn as i64)),
        version.map(|v| Datum::from(v.idx as i32)),
        time.map(|micros| Datum::from(clock::from_unix(micros))),
    ]
}
