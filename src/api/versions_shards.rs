//! Carries the versions of the rows of a table of Citus from one guard to the other: see [`crate::guard::pages`].

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use super::finishing::Finishing;
use crate::error::{Error, SqlError};
use crate::guard::pages::{PAGE, Pages, known};
use crate::mapping::beside::Beside;
use crate::mapping::{GUARD_COLUMNS, Mapping};
use crate::pg::spi::Connection;
use crate::pg::user::ActingAs;
use crate::prepared::{BatchRow, Kept, Statement};
use crate::statement::{self, Input};
use crate::target::Target;

const HAS_VERSION: &str = "(d.sequin_lsn is not null or d.sequin_committed_at is not null)";

const NOTE_VERSION: &str = "
    select sequin_internal.note_version(b.mapping, b.key, b.lsn, b.idx, b.committed_at, b.token)
    from sequin_internal.batch() b(mapping integer, key bytea, lsn bigint, idx integer,
                                   committed_at timestamp with time zone, token bigint)";

/// The columns of a statement that hands versions to a function of the extension.
pub(super) const NOTED: &[(&str, pg_sys::Oid)] = &[
    ("mapping", pg_sys::INT4OID),
    ("key", pg_sys::BYTEAOID),
    ("lsn", pg_sys::INT8OID),
    ("idx", pg_sys::INT4OID),
    ("committed_at", pg_sys::TIMESTAMPTZOID),
    ("token", pg_sys::INT8OID),
];

thread_local! {
    static NOTE: Kept = const {
        Kept::new(NOTE_VERSION, NOTED)
    };
}

/// The mapping, prepared to write its destination.
pub(super) fn target(mapping: &Mapping) -> Result<Target, SqlError> {
    let gone = || Error::DestinationGone {
        mapping: mapping.name.clone(),
    };
    Target::make(mapping, &mut Beside::default()).ok_or_else(gone)?
}

/// Copies the versions in the guard columns to `sequin.row_version`.
pub(super) fn copy(mapping: &Mapping) -> Result<(), SqlError> {
    let _connection = Connection::open();
    let target = target(mapping)?;
    let copying = Finishing::new(mapping.id);
    let versions = ["d.sequin_lsn", "d.sequin_idx", "d.sequin_committed_at"];
    let mut pages = Pages::new(&target, HAS_VERSION, &versions, None);
    while let Some(page) = pages.next(PAGE)? {
        let row = |n: usize| -> BatchRow {
            let version = page.row(n).split_off(target.key.len());
            let mut row = vec![
                Some(Datum::from(mapping.id)),
                page.keys[n].as_slice().into_datum(),
            ];
            row.extend(version);
            row.push(Some(Datum::from(copying.token)));
            row
        };
        NOTE.with(|statement| statement.execute(0..page.keys.len(), row))?;
    }
    Ok(())
}

/// Clears guard columns with former versions, where `sequin.row_version` has newer ones.
pub(super) fn clear(mapping: &Mapping) -> Result<(), SqlError> {
    let _connection = Connection::open();
    let target = target(mapping)?;
    let mut pages = Pages::new(&target, HAS_VERSION, &[], None);
    let key = target.key_sql();
    let nulls = GUARD_COLUMNS.map(|(name, ..)| (name.to_owned(), "null".to_owned()));
    let sql = statement::update(Input::Batch, &target.relation(), &key, &key, &nulls);
    while let Some(page) = pages.next(PAGE)? {
        let known = known(mapping.id, &page.keys)?;
        let cleared = (0..page.keys.len()).filter(|&n| known[n]);
        let _owner = ActingAs::untrusted(target.writer());
        Statement::new(&sql, &target.numbered_key())?.execute(cleared, |n| {
            let number = std::iter::once(Some(Datum::from(n as i32)));
            number.chain(page.row(n)).collect()
        })?;
    }
    Ok(())
}
