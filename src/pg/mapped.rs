//! Looks into `sequin.mapping`.

use std::ptr;

use pgrx::pg_sys::{self, Datum, Oid};

/// Whether several mappings may write rows of a table: it is the destination of two, or has partitions or is one. The
/// look-up works as the server's look-ups in its catalogs do. Each target that is made makes it, and an SQL statement
/// would make a table's first message slower.
pub fn may_be_shared(table: Oid) -> bool {
    // SAFETY: look-ups in the server's caches, by an OID that may be of no relation.
    let in_parts = unsafe {
        pg_sys::get_rel_relispartition(table)
            || pg_sys::get_rel_relkind(table) as u8 == pg_sys::RELKIND_PARTITIONED_TABLE
    };
    in_parts || has_several(table)
}

fn has_several(table: Oid) -> bool {
    // SAFETY: catalog look-ups of names; table_open raises an error if the table is missing. The column is a regclass,
    // which compares as an OID does. The tuples are not read.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"sequin".as_ptr(), false);
        let mappings = pg_sys::get_relname_relid(c"mapping".as_ptr(), schema);
        let index = pg_sys::get_relname_relid(c"mapping_destination".as_ptr(), schema);
        let column = pg_sys::get_attnum(mappings, c"destination".as_ptr());
        let relation = pg_sys::table_open(mappings, pg_sys::AccessShareLock as i32);
        let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
        pg_sys::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::Oid::from(pg_sys::F_OIDEQ),
            Datum::from(table),
        );
        // Without a snapshot the scan takes a new one.
        let scan = pg_sys::systable_beginscan(relation, index, true, ptr::null_mut(), 1, &mut key);
        let first = pg_sys::systable_getnext(scan);
        let found = !first.is_null() && !pg_sys::systable_getnext(scan).is_null();
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, pg_sys::NoLock as i32);
        found
    }
}
