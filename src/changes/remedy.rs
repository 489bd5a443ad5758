//! HINTs for messages that fail because of the destination: what to run before they are tried again.

#![forbid(unsafe_code)]

use crate::error::quote::{ident, literal};
use crate::error::{SqlError, sqlstate};
use crate::target::Target;

/// The error with a HINT, if the server gives none and the destination's definition is what can change.
pub fn with_hint(target: &Target, error: SqlError) -> SqlError {
    if error.hint.is_some() {
        return error;
    }
    let hint = match error.code {
        sqlstate::NOT_NULL_VIOLATION => not_null(target, &error),
        // Of a check, the constraint would be known.
        sqlstate::CHECK_VIOLATION if error.constraint.is_none() && error.column.is_none() => {
            no_partition(target, &error)
        }
        sqlstate::CHECK_VIOLATION => check(target, &error),
        _ => None,
    };
    SqlError { hint, ..error }
}

fn retry(target: &Target) -> String {
    format!(
        "SELECT * FROM sequin.retry({});",
        literal(&target.mapping.name)
    )
}

fn not_null(target: &Target, error: &SqlError) -> Option<String> {
    let name = error.column.as_deref()?;
    let destination = &target.destination;
    let of_destination = error.table.as_deref() == Some(&destination.name)
        && error.schema.as_deref() == Some(&destination.schema);
    let column = destination.column(name).filter(|_| of_destination)?;
    if destination.primary_key().contains(&column.name) {
        return Some(format!(
            "A primary key has no null. Map the column to a value that each message has, then run: {}",
            retry(target)
        ));
    }
    Some(format!(
        "Run: ALTER TABLE {} ALTER COLUMN {} DROP NOT NULL; {} Or map the column to a value that each message has.",
        destination.qualified_name(),
        ident(name),
        retry(target)
    ))
}

/// A check of the table, or of a domain.
fn check(target: &Target, error: &SqlError) -> Option<String> {
    let (schema, constraint) = (error.schema.as_deref()?, error.constraint.as_deref()?);
    let (kind, name) = match (&error.table, &error.datatype) {
        (Some(table), _) => ("TABLE", table),
        (None, Some(domain)) => ("DOMAIN", domain),
        (None, None) => return None,
    };
    Some(format!(
        "If the source allows the value, run: ALTER {kind} {}.{} DROP CONSTRAINT {}; {}",
        ident(schema),
        ident(name),
        ident(constraint),
        retry(target)
    ))
}

fn no_partition(target: &Target, error: &SqlError) -> Option<String> {
    (target.destination.relkind == b'p' && error.table.is_some()).then(|| {
        format!(
            "Create or attach a partition for the key in DETAIL, then run: {}",
            retry(target)
        )
    })
}
