//! Checks, with the server's parser, that the SQL of a mapping is valid and fits the destination. No SQL
//! runs.
//!
//! Generated statements put each expression between parentheses. Two parses make sure that the text is one
//! expression and stays inside the parentheses: first bare, as a target list of one entry, which shows a
//! parenthesis too many or a comma, and then between the parentheses.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use super::check::qualified;
use super::grants::writer;
use super::{ColumnSource, Mapping};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::ident;
use crate::error::{Error, SqlError, sqlstate};
use crate::pg::parse::{analyse, is_one_target};
use crate::pg::settings::Settings;
use crate::pg::subtransaction::subtransaction;
use crate::pg::user::ActingAs;

/// The relation that a mapping's SQL reads: these four columns only, since another column could hide one of
/// them.
pub const MESSAGE: &str = "(SELECT NULL::pg_catalog.jsonb AS record, NULL::pg_catalog.jsonb AS \
                           changes, NULL::pg_catalog.jsonb AS metadata, NULL::pg_catalog.text AS \
                           action) AS b";

/// An expression as generated SQL has it: between parentheses and on lines of its own, so that a `--`
/// comment at its end ends there.
pub fn enclosed(expression: &str) -> String {
    format!("(\n{expression}\n)")
}

/// Every fault that the server finds in the mapping's expressions and its filter, as the role that writes the rows
/// and under the mapping's search_path. To read a literal of the destination's types can run code of the table's owner.
pub fn check(mapping: &Mapping, destination: Option<&Destination>) -> Vec<Fault> {
    let role = destination.map_or(mapping.owner_oid(), |table| writer(mapping, table));
    let mut faults = Vec::new();
    for (column, source) in &mapping.columns.named {
        if let ColumnSource::Sql(sql) = source {
            let target = destination.filter(|d| d.column(column).is_some_and(|c| !c.generated));
            let checked = asked(mapping, role, || {
                check_expression(sql)?;
                target.map_or(Ok(()), |destination| {
                    check_assignment(sql, destination, column)
                })
            });
            if let Err(error) = checked {
                faults.push(fault(
                    format!("SQL of column \"{column}\" is not valid"),
                    error,
                ));
            }
        }
    }
    if let Some(filter) = mapping.filter.as_deref().filter(|f| !f.trim().is_empty())
        && let Err(error) = asked(mapping, role, || check_filter(filter))
    {
        faults.push(fault("SQL of the filter is not valid".to_owned(), error));
    }
    faults
}

fn asked(
    mapping: &Mapping,
    role: pg_sys::Oid,
    ask: impl FnOnce() -> Result<(), SqlError>,
) -> Result<(), SqlError> {
    subtransaction(|| {
        let _writer = ActingAs::new(role, true);
        let settings = Settings::search_path(&mapping.search_path);
        settings.set(c"standard_conforming_strings", "on");
        ask()
    })
}

fn check_expression(sql: &str) -> Result<(), SqlError> {
    one_expression(sql)?;
    let statement = analyse(&format!("SELECT {} FROM {MESSAGE}", enclosed(sql)))?;
    let what = if statement.columns != 1 {
        return Err(Error::SeveralColumns.into());
    } else if statement.aggregates {
        "aggregate functions"
    } else if statement.windows {
        "window functions"
    } else if statement.sets {
        "set-returning functions"
    } else {
        return Ok(());
    };
    Err(Error::NotScalar { what }.into())
}

fn check_assignment(sql: &str, destination: &Destination, column: &str) -> Result<(), SqlError> {
    let (table, column) = (qualified(destination), ident(column));
    // in the query inside, a literal without a type is a text, as it is when rows are written
    let insert = format!(
        "INSERT INTO {table} ({column}) SELECT e.value FROM (SELECT {} AS value FROM {MESSAGE}) AS e",
        enclosed(sql)
    );
    analyse(&insert).map(|_| ())
}

fn check_filter(sql: &str) -> Result<(), SqlError> {
    one_expression(sql)?;
    analyse(&format!("SELECT 1 FROM {MESSAGE} WHERE {}", enclosed(sql))).map(|_| ())
}

fn one_expression(sql: &str) -> Result<(), SqlError> {
    if is_one_target(sql)? {
        return Ok(());
    }
    Err(Error::NotExpression.into())
}

/// The server's error as a fault of the mapping: the place in the mapping comes first.
fn fault(place: String, error: SqlError) -> Fault {
    let mut fault = error;
    if matches!(
        fault.code,
        sqlstate::UNDEFINED_COLUMN | sqlstate::UNDEFINED_TABLE
    ) {
        let names = "It can use record, changes and metadata (jsonb) and action (text).";
        fault.hint = Some(match fault.hint {
            Some(hint) => format!("{hint} {names}"),
            None => names.to_owned(),
        });
    }
    // `enclosed` adds the line break that the server quotes.
    let said = fault.message.replace("\n\"", "\"");
    fault.message = format!("{place}: {said}");
    Fault::from(fault)
}
