//! Appended rows of several source databases, in tables that tell the changes of one database apart.
//!
//! Positions, and idempotency keys, which are made of them, say nothing about the database. A key in the table
//! is that of its home source, unless `sequin.row_version` has an entry for it. Home source and entries are noted under
//! the first mapping that appends to the table, whichever of them appended the row.

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader};

const SELECT: &str = "
    select b.n, v.source
    from sequin_internal.batch() b(n integer, mapping integer, key bytea) cross join lateral (
        select v.source from sequin.row_version v where v.mapping = b.mapping and v.key = b.key offset 0) v";

const NOTE: &str = "
    insert into sequin.row_version as v (mapping, key, source)
    select b.mapping, b.key, b.source from sequin_internal.batch() b(mapping integer, key bytea, source bigint)
    on conflict (mapping, key) do update set source = excluded.source";

thread_local! {
    static FOUND: Kept = const {
        Kept::new(
            SELECT,
            &[
                ("n", pg_sys::INT4OID),
                ("mapping", pg_sys::INT4OID),
                ("key", pg_sys::BYTEAOID),
            ],
        )
    };
    static NOTED: Kept = const {
        Kept::new(
            NOTE,
            &[
                ("mapping", pg_sys::INT4OID),
                ("key", pg_sys::BYTEAOID),
                ("source", pg_sys::INT8OID),
            ],
        )
    };
}

/// For each key, the source that is known to have brought it; `None` for the home source.
pub fn sources(
    log: i32,
    definer: pg_sys::Oid,
    keys: &[Option<Vec<u8>>],
) -> Result<Vec<Option<i64>>, SqlError> {
    let _definer = ActingAs::new(definer, false);
    let asked = keys.iter().enumerate().filter(|(_, key)| key.is_some());
    let returned = FOUND.with(|statement| {
        statement.query(asked, |(n, key)| {
            vec![
                Some(Datum::from(n as i32)),
                Some(Datum::from(log)),
                key.as_deref().and_then(IntoDatum::into_datum),
            ]
        })
    })?;
    let mut sources = vec![None; keys.len()];
    let mut row = RowReader::new(&returned);
    while row.next() {
        sources[row.index(0)] = row.bigint(1);
    }
    Ok(sources)
}

/// Notes which source brought each of these keys.
pub fn note(log: i32, definer: pg_sys::Oid, keys: &[(&[u8], i64)]) -> Result<(), SqlError> {
    let _definer = ActingAs::new(definer, false);
    NOTED
        .with(|statement| {
            statement.execute(keys.iter(), |(key, source)| {
                vec![
                    Some(Datum::from(log)),
                    key.into_datum(),
                    Some(Datum::from(*source)),
                ]
            })
        })
        .map(drop)
}
