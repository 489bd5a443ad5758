//! Statements over a batch relation, and queries of the catalog, prepared once and kept.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiHeapTupleData};

use crate::error::SqlError;
use crate::message::Version;
use crate::pg::clock;
use crate::pg::interrupts;
use crate::pg::isolation::is_standby;
use crate::pg::keys::{stored_bytes, stored_text};
use crate::pg::memory::RowContext;
use crate::pg::plan_size::SmallHashTables;
use crate::pg::spi::{CatalogPlans, Executed, Plan, Returned, select};
use crate::pg::tuples::{Counts, RowColumn, RowType, Rows};
use crate::pg::user::current_user;
use crate::statement::NEXT_ROW;

/// A row of a batch relation; `None` is null.
pub type BatchRow = Vec<Option<Datum>>;

/// A statement and the row type of its batch relation.
pub struct Statement {
    plan: Plan,
    /// The batch relation's row type.
    pub rows: RowType,
}

impl Statement {
    /// Prepares `sql`, which reads a batch relation of these columns.
    pub fn new(sql: &str, columns: &[RowColumn]) -> Result<Statement, SqlError> {
        Ok(Statement {
            plan: Plan::prepare(sql)?.counting(match sql.matches(NEXT_ROW).count() {
                0 => Counts::Nowhere,
                1 => Counts::Once,
                _ => Counts::InParts,
            }),
            rows: RowType::new(columns),
        })
    }

    /// How many bytes the server keeps for the statement and its plan.
    pub fn memory(&self) -> usize {
        self.plan.memory()
    }

    /// Executes the statement over rows of type [`Self::rows`].
    pub fn execute_over(&mut self, rows: Rows) -> Result<Executed, SqlError> {
        self.plan.run(rows)
    }

    /// Executes the statement over a batch relation with a row for each item.
    pub fn execute<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        mut row: impl FnMut(T) -> BatchRow,
    ) -> Result<Executed, SqlError> {
        let mut rows = Rows::new();
        let memory = RowContext::enter();
        for item in items {
            interrupts::check();
            let values = row(item);
            let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
            let mut values: Vec<Datum> = values
                .into_iter()
                .map(|value| value.unwrap_or(Datum::null()))
                .collect();
            rows.put(&self.rows, &mut values, &mut nulls)?;
            memory.next_row();
        }
        drop(memory);
        self.execute_over(rows)
    }

    /// Like [`Self::execute`], for a statement that returns rows.
    pub fn query<T>(
        &mut self,
        items: impl Iterator<Item = T>,
        row: impl FnMut(T) -> BatchRow,
    ) -> Result<Returned, SqlError> {
        self.execute(items, row).map(returned)
    }
}

/// How many statements a session keeps that were used last.
const RECENT: usize = 32;

thread_local! {
    static KEPT: RefCell<Vec<(Text, Statement)>> = const { RefCell::new(Vec::new()) };
}

/// What a statement was made of.
#[derive(PartialEq, Eq)]
struct Text {
    /// The role that prepared it: parsing asks for that role's privileges on schemas.
    role: pg_sys::Oid,
    sql: String,
    columns: Vec<RowColumn>,
}

/// A statement that is kept when it goes out of use, as long as it is among those used last.
pub struct Recent(Option<(Text, Statement)>);

impl Recent {
    /// The statement `sql`, which reads a batch relation of these columns. It is prepared unless it is kept.
    pub fn new(sql: String, columns: &[RowColumn]) -> Result<Recent, SqlError> {
        let text = Text {
            role: current_user(),
            sql,
            columns: columns.to_vec(),
        };
        let kept = KEPT.with_borrow_mut(|all| {
            let at = all.iter().rposition(|(kept, _)| *kept == text)?;
            Some(all.remove(at))
        });
        match kept {
            Some(kept) => Ok(Recent(Some(kept))),
            None => {
                let statement = Statement::new(&text.sql, columns)?;
                Ok(Recent(Some((text, statement))))
            }
        }
    }
}

impl Deref for Recent {
    type Target = Statement;

    fn deref(&self) -> &Statement {
        &self.0.as_ref().expect("in use").1
    }
}

impl DerefMut for Recent {
    fn deref_mut(&mut self) -> &mut Statement {
        &mut self.0.as_mut().expect("in use").1
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(kept) = self.0.take() {
            KEPT.with_borrow_mut(|all| {
                all.push(kept);
                (all.len() > RECENT).then(|| all.remove(0))
            });
        }
    }
}

/// The rows of a statement that always returns rows, such as a SELECT.
pub fn returned(outcome: Executed) -> Returned {
    outcome
        .returned
        .expect("a SELECT, or a RETURNING, returns rows")
}

/// Reads the rows that a statement returned, one after the other. Columns are counted from 0.
pub struct RowReader<'r> {
    returned: &'r Returned,
    next: usize,
    values: Vec<Datum>,
    nulls: Vec<bool>,
}

impl<'r> RowReader<'r> {
    /// A reader that stands before the first row.
    pub fn new(returned: &'r Returned) -> RowReader<'r> {
        let width = returned.types().len();
        RowReader {
            returned,
            next: 0,
            values: vec![Datum::null(); width],
            nulls: vec![false; width],
        }
    }

    /// Goes to the next row; false after the last row.
    pub fn next(&mut self) -> bool {
        if self.next >= self.returned.len() {
            return false;
        }
        self.go_to(self.next);
        true
    }

    /// Goes to the row with this number, from 0. The row must exist.
    pub fn go_to(&mut self, row: usize) {
        self.returned.read(row, &mut self.values, &mut self.nulls);
        self.next = row + 1;
    }

    /// A value without conversion; `None` is null. It lives as long as the rows.
    pub fn datum(&self, column: usize) -> Option<Datum> {
        (!self.nulls[column]).then_some(self.values[column])
    }

    /// The values from this column on; `None` if one of them is null, and so not a value of its type.
    pub fn datums_from(&self, column: usize) -> Option<&[Datum]> {
        (!self.nulls[column..].contains(&true)).then(|| &self.values[column..])
    }

    /// An `integer` that numbers the rows of a batch relation, as an index.
    pub fn index(&self, column: usize) -> usize {
        self.values[column].value() as i32 as usize
    }

    /// An `integer`.
    pub fn int(&self, column: usize) -> Option<i32> {
        self.datum(column).map(|value| value.value() as i32)
    }

    /// A `bigint`.
    pub fn bigint(&self, column: usize) -> Option<i64> {
        self.datum(column).map(|value| value.value() as i64)
    }

    /// A `boolean`.
    pub fn bool(&self, column: usize) -> Option<bool> {
        self.datum(column).map(|value| value.value() as u8 != 0)
    }

    /// An oid; `None` if it is null.
    pub fn oid(&self, column: usize) -> Option<pg_sys::Oid> {
        let oid = self.datum(column)?;
        Some(pg_sys::Oid::from(oid.value() as u32))
    }

    /// A copy of a `bytea`.
    pub fn bytes(&self, column: usize) -> Option<Vec<u8>> {
        self.datum(column).map(stored_bytes)
    }

    /// A copy of a `text`.
    pub fn text(&self, column: usize) -> Option<String> {
        stored_text(self.values[column], self.nulls[column])
    }

    /// A `timestamptz` in microseconds since 1970.
    pub fn time(&self, column: usize) -> Option<i64> {
        self.bigint(column).map(clock::to_unix)
    }

    /// A position in the source: `lsn` a `bigint`, `idx` an `integer`.
    pub fn version(&self, lsn: usize, idx: usize) -> Option<Version> {
        self.bigint(lsn).map(|lsn| Version {
            lsn: lsn as u64,
            idx: self.int(idx).unwrap_or_default() as u32,
        })
    }
}

/// A statement that the backend prepares on first use, and keeps.
pub struct Kept {
    sql: &'static str,
    columns: &'static [(&'static str, pg_sys::Oid)],
    finds_few: bool,
    statement: RefCell<Option<Statement>>,
}

impl Kept {
    /// The statement `sql`, which reads a batch relation of these columns.
    pub const fn new(sql: &'static str, columns: &'static [(&'static str, pg_sys::Oid)]) -> Kept {
        Kept {
            sql,
            columns,
            finds_few: false,
            statement: RefCell::new(None),
        }
    }

    /// The same statement, which usually finds far fewer rows than its plan expects: see [`SmallHashTables`].
    pub const fn finding_few(mut self) -> Kept {
        self.finds_few = true;
        self
    }

    /// Executes the statement over a batch relation with a row for each item.
    pub fn execute<T>(
        &self,
        items: impl Iterator<Item = T>,
        row: impl FnMut(T) -> BatchRow,
    ) -> Result<Executed, SqlError> {
        // A trigger may need the statement while it runs: then the trigger makes a second one.
        let kept = self.statement.take();
        let mut statement = match kept {
            Some(statement) => statement,
            None => self.make()?,
        };
        let outcome = {
            let _small = self.finds_few.then(SmallHashTables::begin);
            statement.execute(items, row)
        };
        self.statement.replace(Some(statement));
        outcome
    }

    /// Like [`Self::execute`], for a statement that returns rows.
    pub fn query<T>(
        &self,
        items: impl Iterator<Item = T>,
        row: impl FnMut(T) -> BatchRow,
    ) -> Result<Returned, SqlError> {
        self.execute(items, row).map(returned)
    }

    /// Executes the statement over a batch relation with this row alone.
    pub fn execute_of(&self, row: BatchRow) -> Result<Executed, SqlError> {
        self.execute(std::iter::once(row), |row| row)
    }

    /// Like [`Self::execute_of`], for a statement that returns rows.
    pub fn query_of(&self, row: BatchRow) -> Result<Returned, SqlError> {
        self.execute_of(row).map(returned)
    }

    fn make(&self) -> Result<Statement, SqlError> {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(name, oid)| RowColumn::plain(name, *oid))
            .collect();
        Statement::new(self.sql, &columns)
    }
}

/// A query that the backend prepares on first use, and keeps. It sees all changes of other sessions that
/// are committed when it runs.
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

    /// Runs the query. Returns the result of `read` for each row.
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
                    let prepared = match is_standby() {
                        true => client.prepare(self.sql, &types)?,
                        false => client.prepare_mut(self.sql, &types)?,
                    };
                    prepared.keep()
                }
            };
            let _plans = CatalogPlans::begin();
            // Not read-only for SPI: with the caller's snapshot, the query would miss a change that the
            // call has just waited for.
            let rows: Result<Vec<T>, _> = select(client, &statement, args)?.map(read).collect();
            self.statement.replace(Some(statement));
            rows
        })
        .unwrap_or_else(|e| error!("could not read the catalog: {e}"))
    }
}
