//! What `sequin.sync_sequences` reads of a destination.

#![forbid(unsafe_code)]

use pgrx::AnyNumeric;
use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use super::own_statement;
use crate::pg::relation;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::select;
use crate::pg::user::{ActingAs, current_user, is_superuser};

/// `sequin_internal.farthest_value(relation, column_name, ascending)`: the largest value of a column, or the smallest. For a
/// superuser, the owner of the table reads: to plan a query calls functions in the conditions of the table's indexes.
#[pg_extern(sql = false)]
fn farthest_value(
    relation: pg_sys::Oid,
    column_name: &str,
    ascending: bool,
) -> Result<Option<AnyNumeric>, ErrorReport> {
    let _settings = Settings::new(PINNED);
    relation::refresh();
    let Some(table) = relation::row(relation) else {
        return Ok(None);
    };
    let _owner = (is_superuser(current_user()) && !is_superuser(table.owner))
        .then(|| ActingAs::untrusted(table.owner));
    let sql = format!(
        "select pg_catalog.{}({})::pg_catalog.numeric from {}",
        if ascending { "max" } else { "min" },
        quote_identifier(column_name),
        quote_qualified_identifier(&table.schema, &table.name)
    );
    let value = Spi::connect_mut(|client| select(client, &sql, &[])?.first().get_one());
    Ok(value.map_err(own_statement("read the values of a sequence's column"))?)
}
