//! Which columns have shown values, in changes and in reads. A backfill sends null for a source column of a type that
//! it cannot read; messages do not tell the type. So a null in a read counts as unknown where changes have shown values
//! of the column, but no read ever has.

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::mapping::catalog::shown_columns;
use crate::pg::invalidation;
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader};
use crate::target::Target;

const SELECT: &str = "
    select s.name, s.by_read from sequin.batch() b(mapping integer) cross join lateral (
        select s.name, s.by_read from sequin.shown_column s where s.mapping = b.mapping offset 0) s";

// Calls that learn the same at the same time do not wait for each other, so an entry can be there twice.
const INSERT: &str = "
    insert into sequin.shown_column (mapping, name, by_read)
    select b.mapping, b.name, b.by_read
    from sequin.batch() b(mapping integer, name text, by_read boolean)";

thread_local! {
    static READ: Kept = const { Kept::new(SELECT, &[("mapping", pg_sys::INT4OID)]) };
    static WRITE: Kept = const {
        Kept::new(
            INSERT,
            &[
                ("mapping", pg_sys::INT4OID),
                ("name", pg_sys::TEXTOID),
                ("by_read", pg_sys::BOOLOID),
            ],
        )
    };
}

/// Reads which columns of a mapping have shown values, unless the target knows.
pub fn load(target: &mut Target, definer: pg_sys::Oid) -> Result<(), SqlError> {
    let asks = target.columns.iter().any(|column| column.shown.is_some());
    if target.knows_shown || !asks {
        return Ok(());
    }
    let _definer = ActingAs::new(definer, false);
    let mapping = Some(Datum::from(target.mapping.id));
    let returned =
        READ.with(|statement| statement.query(std::iter::once(()), |()| vec![mapping]))?;
    let mut row = RowReader::new(&returned);
    while row.next() {
        let (name, by_read) = (row.text(0).unwrap_or_default(), row.bool(1) == Some(true));
        let column = target.columns.iter_mut().find(|c| c.name == name);
        if let Some(shown) = column.and_then(|column| column.shown.as_mut()) {
            match by_read {
                true => shown.by_read = true,
                false => shown.by_change = true,
            }
        }
    }
    target.knows_shown = true;
    Ok(())
}

/// Notes columns (by their number) that a change or a read (`true`) has shown values of for the first time.
pub fn note(target: &Target, definer: pg_sys::Oid, news: &[(usize, bool)]) -> Result<(), SqlError> {
    if news.is_empty() {
        return Ok(());
    }
    let _definer = ActingAs::new(definer, false);
    WRITE.with(|statement| {
        statement.execute(news.iter(), |&(column, by_read)| {
            vec![
                Some(Datum::from(target.mapping.id)),
                target.columns[column].name.as_str().into_datum(),
                Some(Datum::from(by_read)),
            ]
        })
    })?;
    // Other sessions read it anew; so does this one, also if the transaction is rolled back.
    invalidation::announce(shown_columns());
    Ok(())
}
