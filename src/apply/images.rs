//! The rows of a mapping in the destination, for the explanation of a call.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;

use crate::changes::Changes;
use crate::changes::net::Images;
use crate::error::SqlError;
use crate::error::quote::{ident, literal};
use crate::prepared::{RowReader, Statement};
use crate::statement::lookup;

/// The rows that the destination has now at the keys of these changes, as the mapping's owner sees them. Large values
/// are told by their size.
pub fn images(changes: &Changes<'_>) -> Result<Images, SqlError> {
    let mut found = Images::new();
    let (target, keyed) = (&changes.target, &changes.keyed);
    if target.key.is_empty() || keyed.changes().is_empty() {
        return Ok(found);
    }
    let all = 0..keyed.changes().len() as u32;
    let keys = || all.clone().map(|n| keyed.key_values(n).to_vec()).collect();
    let relation = target.relation_of(keys);
    let columns = target.destination.columns.iter();
    let columns: Vec<(String, String)> = columns
        .map(|column| (ident(&column.name), literal(&column.name)))
        .collect();
    let sql = lookup::shown(&relation, &target.key_sql(), &columns);
    let mut statement = Statement::new(&sql, &target.numbered_key())?;
    let returned = statement.query(all, |n| {
        let key = keyed.key_values(n).iter().map(|value| Some(*value));
        std::iter::once(Some(Datum::from(n as i32)))
            .chain(key)
            .collect()
    })?;
    let mut row = RowReader::new(&returned);
    while row.next() {
        let key = keyed.key(row.index(0) as u32).to_vec();
        found.extend(row.text(1).map(|image| (key, image)));
    }
    Ok(found)
}
