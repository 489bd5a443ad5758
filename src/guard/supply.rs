//! Columns that only reads bring, as the catalog has them: see [`crate::target::supply`].

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::mapping::catalog::unreadable_members;
use crate::pg::invalidation;
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader};
use crate::target::Target;

const SELECT: &str = "
    select l.name, l.by_read from sequin_internal.batch() b(mapping integer) cross join lateral (
        select l.name, l.by_read from sequin.lacking_column l where l.mapping = b.mapping offset 0) l";

const INSERT: &str = "
    insert into sequin.lacking_column as l (mapping, name, by_read)
    select b.mapping, b.name, b.by_read from sequin_internal.batch() b(mapping integer, name text, by_read boolean)
    on conflict (mapping, name) do update set by_read = l.by_read or excluded.by_read";

const DELETE: &str = "
    delete from sequin.lacking_column l using sequin_internal.batch() b(mapping integer, name text, by_read boolean)
    where l.mapping = b.mapping and l.name = b.name";

const COLUMNS: &[(&str, pg_sys::Oid)] = &[
    ("mapping", pg_sys::INT4OID),
    ("name", pg_sys::TEXTOID),
    ("by_read", pg_sys::BOOLOID),
];

thread_local! {
    static READ: Kept = const { Kept::new(SELECT, &[("mapping", pg_sys::INT4OID)]) };
    static WRITE: Kept = const { Kept::new(INSERT, COLUMNS) };
    static REMOVE: Kept = const { Kept::new(DELETE, COLUMNS) };
}

/// Reads what the catalog has of the mapping's columns.
pub fn load(target: &mut Target, definer: pg_sys::Oid) -> Result<(), SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mapping = Some(Datum::from(target.mapping.id));
    let returned = READ.with(|statement| statement.query_of(vec![mapping]))?;
    let mut row = RowReader::new(&returned);
    while row.next() {
        if let (Some(name), Some(by_read)) = (row.text(0), row.bool(1)) {
            target.supply.restore(&name, by_read);
        }
    }
    Ok(())
}

/// Notes which columns changes lack, and whether reads have them.
pub fn note(
    target: &Target,
    definer: pg_sys::Oid,
    news: &[(String, Option<bool>)],
) -> Result<(), SqlError> {
    let _definer = ActingAs::new(definer, false);
    let row = |(name, by_read): &&(String, Option<bool>)| {
        vec![
            Some(Datum::from(target.mapping.id)),
            name.as_str().into_datum(),
            Some(Datum::from(by_read.unwrap_or_default())),
        ]
    };
    let (lacking, supplied): (Vec<_>, Vec<_>) = news.iter().partition(|(_, now)| now.is_some());
    if !lacking.is_empty() {
        WRITE.with(|statement| statement.execute(lacking.iter(), row))?;
    }
    if !supplied.is_empty() {
        REMOVE.with(|statement| statement.execute(supplied.iter(), row))?;
    }
    if !news.is_empty() {
        invalidation::announce(unreadable_members());
    }
    Ok(())
}
