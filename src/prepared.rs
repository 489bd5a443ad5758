//! Statements over a batch relation, and queries of the catalog, made once and kept.

use std::cell::RefCell;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData};

use crate::error::SqlError;
use crate::pg::keys::stored_bytes;
use crate::pg::spi::{Executed, Plan, Returned};
use crate::pg::tuples::{RowColumn, RowType, Rows};

/// A statement and the row type of its batch relation.
pub struct Statement {
    /// The kept plan.
    pub plan: Plan,
    /// The batch relation's row type.
    pub rows: RowType,
}

impl Statement {
    /// Prepares `sql`, which reads a batch relation of these columns.
    pub fn new(sql: &str, columns: &[(&str, pg_sys::Oid)]) -> Result<Statement, SqlError> {
        let columns: Vec<_> = columns
            .iter()
            .map(|(name, oid)| RowColumn::plain(name, *oid))
            .collect();
        Ok(Statement {
            plan: Plan::prepare(sql)?,
            rows: RowType::new(&columns),
        })
    }

    /// Runs it over a batch relation with a row for each item.
    pub fn run<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        mut row: impl FnMut(T) -> Vec<Option<Datum>>,
    ) -> Result<Executed, SqlError> {
        let mut rows = Rows::new();
        for item in items {
            let values = row(item);
            let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
            let mut values: Vec<Datum> = values
                .into_iter()
                .map(|value| value.unwrap_or(Datum::null()))
                .collect();
            rows.put(&self.rows, &mut values, &mut nulls)?;
        }
        self.plan.run(rows)
    }
}

/// The keys (as bytes) that a statement returned behind the numbers of `count` rows.
pub fn numbered_keys(returned: &Returned, count: usize) -> Vec<Option<Vec<u8>>> {
    let mut keys = vec![None; count];
    let (mut values, mut nulls) = ([Datum::null(); 2], [false; 2]);
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        keys[values[0].value() as i32 as usize] = (!nulls[1]).then(|| stored_bytes(values[1]));
    }
    keys
}

/// A statement that the backend makes when it is first needed, and keeps.
pub struct Kept {
    sql: &'static str,
    columns: &'static [(&'static str, pg_sys::Oid)],
    statement: RefCell<Option<Statement>>,
}

impl Kept {
    /// The statement `sql`, which reads a batch relation of these columns.
    pub const fn new(sql: &'static str, columns: &'static [(&'static str, pg_sys::Oid)]) -> Kept {
        Kept {
            sql,
            columns,
            statement: RefCell::new(None),
        }
    }

    /// Runs it over a batch relation with a row for each item.
    pub fn run<T>(
        &self,
        items: impl Iterator<Item = T>,
        row: impl FnMut(T) -> Vec<Option<Datum>>,
    ) -> Result<Executed, SqlError> {
        let kept = self.statement.take();
        let mut statement = match kept {
            Some(statement) => statement,
            None => Statement::new(self.sql, self.columns)?,
        };
        let outcome = statement.run(items, row);
        self.statement.replace(Some(statement));
        outcome
    }
}

/// A query that the backend makes when it is first needed, and keeps. It sees what others have committed
/// up to the moment it runs.
pub struct Lookup {
    sql: &'static str,
    types: &'static [pg_sys::BuiltinOid],
    statement: RefCell<Option<OwnedPreparedStatement>>,
}

impl Lookup {
    /// The query `sql`, with arguments of these types.
    pub const fn new(sql: &'static str, types: &'static [pg_sys::BuiltinOid]) -> Lookup {
        Lookup {
            sql,
            types,
            statement: RefCell::new(None),
        }
    }

    /// Runs it; returns what `read` makes of each row.
    pub fn rows<T>(
        &self,
        args: &[DatumWithOid<'_>],
        read: impl Fn(SpiHeapTupleData<'_>) -> Result<T, pgrx::spi::Error>,
    ) -> Vec<T> {
        Spi::connect_mut(|client| {
            let kept = self.statement.take();
            let statement = match kept {
                Some(statement) => statement,
                None => {
                    let types: Vec<pgrx::PgOid> = self.types.iter().map(|&t| t.into()).collect();
                    client.prepare_mut(self.sql, &types)?.keep()
                }
            };
            // Not read-only for SPI: read by the caller's snapshot, a change that the call has just
            // waited for would not be seen.
            let rows: Result<Vec<T>, _> =
                client.update(&statement, None, args)?.map(read).collect();
            self.statement.replace(Some(statement));
            rows
        })
        .unwrap_or_else(|e| error!("could not read the catalog: {e}"))
    }
}
