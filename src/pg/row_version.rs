//! Looks into `sequin.row_version`, and finds it and `sequin.tombstone`.

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;
use std::thread::LocalKey;

use pgrx::pg_sys::{self, Datum, Oid};

use super::invalidation;

/// Two relations, and the edition of the definitions by which they were found.
type Known = Cell<Option<(u64, (Oid, Oid))>>;

thread_local! {
    static ENTRIES: Known = const { Cell::new(None) };
    static TOMBSTONES: Known = const { Cell::new(None) };
    static UNKNOWN: Known = const { Cell::new(None) };
}

/// The table, and the index of its primary key: mapping and key.
pub fn relations() -> (Oid, Oid) {
    find(&ENTRIES, c"row_version", c"row_version_pkey")
}

/// `sequin.tombstone`, and the index of its primary key: all columns.
pub fn tombstones() -> (Oid, Oid) {
    find(&TOMBSTONES, c"tombstone", c"tombstone_pkey")
}

/// The table, and its partial index of the entries with unknown values.
pub fn unknown() -> (Oid, Oid) {
    find(&UNKNOWN, c"row_version", c"row_version_unknown")
}

fn find(known: &'static LocalKey<Known>, table: &CStr, index: &CStr) -> (Oid, Oid) {
    let edition = invalidation::edition();
    if let Some((read, relations)) = known.get()
        && read == edition
    {
        return relations;
    }
    // SAFETY: catalog look-ups of three names.
    let relations = unsafe {
        let schema = pg_sys::get_namespace_oid(c"sequin".as_ptr(), false);
        (
            pg_sys::get_relname_relid(table.as_ptr(), schema),
            pg_sys::get_relname_relid(index.as_ptr(), schema),
        )
    };
    known.set(Some((edition, relations)));
    relations
}

/// Whether the table has any row of the mapping. The look-up works as the server's look-ups in its catalogs
/// do. Every call with guard columns makes it, and an SQL statement would make a call of one message a tenth
/// slower.
pub fn has_any(mapping: i32) -> bool {
    // SAFETY: table_open raises an error if the table is missing. The first
    // column of the primary key is an integer. The tuple is not read.
    unsafe {
        let (table, index) = relations();
        let relation = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
        pg_sys::ScanKeyInit(
            &mut key,
            1,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::Oid::from(pg_sys::F_INT4EQ),
            Datum::from(mapping),
        );
        // Without a snapshot the scan takes a new one, which sees the writes of this transaction.
        let scan = pg_sys::systable_beginscan(relation, index, true, ptr::null_mut(), 1, &mut key);
        let found = !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}
