//! The home source of a mapping with guard columns, and of a log.

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

/// Stands for the home source that another session is about to note: no source has this number, so that all count as
/// further ones.
pub const UNKNOWN: i64 = i64::MIN;

/// The home source, whose positions the destination's columns hold. If there is none yet, `first` becomes the home
/// source; while another session is about to note one, it is [`UNKNOWN`]. `mappings`: the OID of `sequin.mapping`.
pub fn home_or_unknown(
    target: &mut Target,
    (definer, mappings): (pg_sys::Oid, pg_sys::Oid),
    first: i64,
) -> Result<i64, SqlError> {
    let free = target.home.is_some()
        || known(target, definer)?.is_some()
        || invalidation::try_lock_home(mappings, target.log);
    match free {
        true => home(target, definer, first),
        false => Ok(UNKNOWN),
    }
}

/// The home source. If there is none yet, `first` becomes the home source; waits for a session that is about to note one.
pub fn home(target: &mut Target, definer: pg_sys::Oid, first: i64) -> Result<i64, SqlError> {
    if let Some(home) = target.home {
        return Ok(home);
    }
    let home = match known(target, definer)? {
        Some(home) => home,
        None => {
            let mapping = Some(Datum::from(target.log));
            let row = vec![mapping, Some(Datum::from(first))];
            let definer_acts = ActingAs::new(definer, false);
            WRITE.with(|statement| statement.execute_of(row))?;
            drop(definer_acts);
            // Sessions that have cached the new home source must forget it if this transaction is rolled
            // back.
            invalidation::announce(home_sources());
            known(target, definer)?.unwrap_or(first)
        }
    };
    target.home = Some(home);
    Ok(home)
}

/// The home source, if one is noted.
pub fn known(target: &Target, definer: pg_sys::Oid) -> Result<Option<i64>, SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mapping = Some(Datum::from(target.log));
    let returned = READ.with(|statement| statement.query_of(vec![mapping]))?;
    let mut row = RowReader::new(&returned);
    Ok(row.next().then(|| row.bigint(0)).flatten())
}
