//! Mappings that cannot write anything at present, for `sequin.status` to show.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};

use super::presence::announced;
use super::{patiently, text};
use crate::error::SqlError;
use crate::pg::invalidation;
use crate::prepared::Kept;

const NOTE: &str = "
    insert into sequin.broken_mapping as k (mapping, sqlstate, reason, hint)
    select b.mapping, b.sqlstate, b.reason, b.hint
    from sequin_internal.batch() b(mapping integer, sqlstate text, reason text, hint text)
    on conflict (mapping) do update
    set sqlstate = excluded.sqlstate, reason = excluded.reason, hint = excluded.hint";

const MENDED: &str = "
    delete from sequin.broken_mapping k using sequin_internal.batch() b(mapping integer)
    where k.mapping = b.mapping";

thread_local! {
    static NOTED: Kept = const {
        Kept::new(
            NOTE,
            &[
                ("mapping", pg_sys::INT4OID),
                ("sqlstate", pg_sys::TEXTOID),
                ("reason", pg_sys::TEXTOID),
                ("hint", pg_sys::TEXTOID),
            ],
        )
    };
    static REMOVED: Kept = const { Kept::new(MENDED, &[("mapping", pg_sys::INT4OID)]) };
}

/// Notes that mappings (by id) are broken, and why.
pub fn note(broken: &[(i32, &SqlError)]) -> Result<(), SqlError> {
    if broken.is_empty() {
        return Ok(());
    }
    let note = || {
        NOTED.with(|statement| {
            let noted = statement.execute(broken.iter(), |(mapping, error)| {
                vec![
                    Some(Datum::from(*mapping)),
                    text(Some(&error.sqlstate())),
                    text(Some(&error.message)),
                    text(error.hint.as_deref()),
                ]
            });
            noted.map(drop)
        })
    };
    // If another session changes the mapping at this moment, the next call notes it.
    patiently(note)?;
    invalidation::announce(announced());
    Ok(())
}

/// Notes that mappings (by id) work again.
pub fn mended(mappings: &[i32]) -> Result<(), SqlError> {
    if mappings.is_empty() {
        return Ok(());
    }
    patiently(|| {
        REMOVED
            .with(|statement| statement.execute(mappings.iter(), |id| vec![Some(Datum::from(*id))]))
            .map(drop)
    })?;
    invalidation::announce(announced());
    Ok(())
}
