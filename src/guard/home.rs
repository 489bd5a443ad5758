//! The home source of a mapping with guard columns.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::mapping::catalog::home_sources;
use crate::pg::invalidation;
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader};
use crate::target::Target;

const SELECT: &str = "
    select h.source from sequin_internal.batch() b(mapping integer) cross join lateral (
        select h.source from sequin.home_source h where h.mapping = b.mapping offset 0) h";

const INSERT: &str = "
    insert into sequin.home_source (mapping, source)
    select b.mapping, b.source from sequin_internal.batch() b(mapping integer, source bigint)
    on conflict do nothing";

thread_local! {
    static READ: Kept = const { Kept::new(SELECT, &[("mapping", pg_sys::INT4OID)]) };
    static WRITE: Kept = const {
        Kept::new(INSERT, &[("mapping", pg_sys::INT4OID), ("source", pg_sys::INT8OID)])
    };
}

/// The home source, whose positions the destination's columns hold. If there is none yet, `first` becomes
/// the home source.
pub fn home(target: &mut Target, definer: pg_sys::Oid, first: i64) -> Result<i64, SqlError> {
    if let Some(home) = target.home {
        return Ok(home);
    }
    let _definer = ActingAs::new(definer, false);
    let mapping = Some(Datum::from(target.mapping.id));
    let read = || -> Result<Option<i64>, SqlError> {
        let returned = READ.with(|statement| statement.query_of(vec![mapping]))?;
        let mut row = RowReader::new(&returned);
        Ok(row.next().then(|| row.bigint(0)).flatten())
    };
    let home = match read()? {
        Some(home) => home,
        None => {
            let row = vec![mapping, Some(Datum::from(first))];
            WRITE.with(|statement| statement.execute_of(row))?;
            // Sessions that have cached the new home source must forget it if this transaction is rolled
            // back.
            invalidation::announce(home_sources());
            read()?.unwrap_or(first)
        }
    };
    target.home = Some(home);
    Ok(home)
}
