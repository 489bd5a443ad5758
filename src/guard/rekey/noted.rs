//! Whether the stored keys fit, as far as that is known without making them fit.

#![forbid(unsafe_code)]

use pgrx::pg_sys::BuiltinOid;

use super::shape::{Shape, columns_of};
use crate::destination::Destination;
use crate::error::{SqlError, sqlstate};
use crate::mapping::Mapping;
use crate::mapping::versions::VersionsIn;
use crate::prepared::Lookup;

const NOTED: &str = "
    select b.reason, b.hint from sequin.broken_mapping b where b.mapping = $1 and b.sqlstate = '55000'";

thread_local! {
    static ERROR: Lookup = const { Lookup::new(NOTED, &[BuiltinOid::INT4OID]) };
}

/// The error of a call that could not make the stored keys fit (`settle`), if the keys are as they were then.
pub fn check(mapping: &Mapping, destination: &Destination) -> Result<(), SqlError> {
    if VersionsIn::of(mapping, destination) == VersionsIn::Nowhere {
        return Ok(());
    }
    let now = Shape::of(mapping, destination, &columns_of(destination.oid));
    let stored = Shape::stored(mapping.id);
    match (stored, now) {
        (Some(stored), Some(now)) if stored != now => match noted(mapping.id) {
            Some(error) => Err(error),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The noted error of a mapping whose stored keys do not fit.
fn noted(mapping: i32) -> Option<SqlError> {
    let found = ERROR.with(|query| {
        query.rows(&[mapping.into()], |row| {
            Ok((row.get::<String>(1)?, row.get::<String>(2)?))
        })
    });
    let (reason, hint) = found.into_iter().next()?;
    let error = SqlError::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, reason?);
    Some(SqlError { hint, ..error })
}
