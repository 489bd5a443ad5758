//! Reads rows of the destination by the keys of net changes, and turns values that queries return into key bytes.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, Datum};
use pgrx::spi::quote_identifier;

use crate::changes::net::{NetChange, Values, key_values};
use crate::destination::{Column, Destination};
use crate::error::SqlError;
use crate::key::{self, KeyColumn};
use crate::pg::spi::Returned;
use crate::prepared::{BatchRow, Recent, RowReader};
use crate::statement::lookup::{self, RowLock};
use crate::target::Target;

/// A row of a batch relation of [`Target::numbered_key`]: a number and the key.
pub fn by_key(target: &Target, values: &Values, n: usize, net: &NetChange) -> BatchRow {
    let mut row = vec![Some(Datum::from(n as i32))];
    row.extend(key_values(target, values, net).into_iter().map(Some));
    row
}

/// The keys of net changes.
pub fn keys_of(target: &Target, values: &Values, nets: &[&NetChange]) -> Vec<Vec<Datum>> {
    let nets = nets.iter();
    nets.map(|net| key_values(target, values, net)).collect()
}

/// Locks the rows that are there, and tells how many there are.
pub fn lock_rows(target: &Target, values: &Values, nets: &[&NetChange]) -> Result<usize, SqlError> {
    let relation = target.relation_of(|| keys_of(target, values, nets));
    let sql = lookup::locked_rows(&relation, &target.key_sql());
    let mut statement = Recent::new(sql, &target.numbered_key())?;
    let nets = nets.iter().enumerate();
    let found = statement.query(nets, |(n, net)| by_key(target, values, n, net))?;
    Ok(found.len())
}

/// Reads these columns of the rows that exist, after the number of the net change.
pub fn read_rows<'n>(
    target: &Target,
    values: &Values,
    columns: &[&Column],
    nets: impl Iterator<Item = &'n NetChange>,
) -> Result<Returned, SqlError> {
    let nets: Vec<&NetChange> = nets.collect();
    let names: Vec<String> = columns
        .iter()
        .map(|column| format!("d.{}", quote_identifier(&column.name)))
        .collect();
    let relation = target.relation_of(|| keys_of(target, values, &nets));
    let sql = lookup::rows_of_keys(&relation, &target.key_sql(), &names, RowLock::None);
    let mut statement = Recent::new(sql, &target.numbered_key())?;
    let nets = nets.iter().enumerate();
    statement.query(nets, |(n, net)| by_key(target, values, n, net))
}

/// The encodings of the columns that a query returned, from column `from` on.
pub fn encoding(found: &Returned, from: usize, collations: &[pg_sys::Oid]) -> Vec<KeyColumn> {
    let types = found.types().into_iter().skip(from).enumerate();
    types
        .map(|(i, type_oid)| {
            let collation = collations.get(i).copied().unwrap_or(pg_sys::InvalidOid);
            KeyColumn::new(type_oid, collation)
        })
        .collect()
}

/// The keys as bytes that a query returned behind row numbers; a place for each of `count` rows.
pub fn keys_found(found: &Returned, encoding: &[KeyColumn], count: usize) -> Vec<Option<Vec<u8>>> {
    let mut keys = vec![None; count];
    let mut row = RowReader::new(found);
    while row.next() {
        if let Some(values) = row.datums_from(1) {
            let mut bytes = Vec::new();
            key::encode(encoding, values, &mut bytes);
            keys[row.index(0)] = Some(bytes);
        }
    }
    keys
}

/// The collations of columns of a table.
pub fn collations(table: pg_sys::Oid, names: &[String]) -> Vec<pg_sys::Oid> {
    let table = Destination::known(table);
    names
        .iter()
        .map(|name| {
            let column = table.as_ref().and_then(|table| table.column(name));
            column.map_or(pg_sys::InvalidOid, |column| column.collation)
        })
        .collect()
}
