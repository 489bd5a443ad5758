//! Keys of the rows of a table of Citus, which are on other nodes: what they have is encoded here.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use crate::error::SqlError;
use crate::key::{self, KeyColumn};
use crate::pg::subtransaction::subtransaction;
use crate::prepared::{BatchRow, RowReader, Statement};

/// The stored key of a row, and the key now.
pub type BothKeys = (Vec<u8>, Vec<u8>);

/// The stored key and the key now of each row `d` of a relation. `old` and `new` are the values of their columns, as SQL,
/// each with a collation.
pub fn both_keys(
    relation: &str,
    old: &[(String, pg_sys::Oid)],
    new: &[(String, pg_sys::Oid)],
) -> Result<Vec<BothKeys>, SqlError> {
    let columns = || old.iter().chain(new);
    let list: Vec<&str> = columns().map(|(sql, _)| sql.as_str()).collect();
    let sql = format!("select {} from {relation} d", list.join(", "));
    let found = subtransaction(|| {
        Statement::new(&sql, &[])?.query(std::iter::empty(), |row: BatchRow| row)
    })?;
    let encoding: Vec<KeyColumn> = (found.types().into_iter().zip(columns()))
        .map(|(type_oid, (_, collation))| KeyColumn::new(type_oid, *collation))
        .collect();
    let mut keys = Vec::with_capacity(found.len());
    let mut row = RowReader::new(&found);
    while row.next() {
        if let Some(values) = row.datums_from(0) {
            let (mut before, mut now) = (Vec::new(), Vec::new());
            key::encode(&encoding[..old.len()], &values[..old.len()], &mut before);
            key::encode(&encoding[old.len()..], &values[old.len()..], &mut now);
            keys.push((before, now));
        }
    }
    Ok(keys)
}
