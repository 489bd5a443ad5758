//! HINTs for messages that fail because of the destination: what to run before they are tried again.

#![forbid(unsafe_code)]

use crate::error::quote::{ident, literal};
use crate::error::{SqlError, sqlstate};
use crate::pg::keys::role_name;
use crate::target::Target;

/// The error with a HINT, if the server gives none and the destination's definition is what can change.
pub fn with_hint(target: &Target, error: SqlError) -> SqlError {
    if error.hint.is_some() {
        return error;
    }
    let error = error.with_place();
    let hint = match error.code {
        sqlstate::INVALID_TEXT_REPRESENTATION => enum_value(target, &error),
        sqlstate::INSUFFICIENT_PRIVILEGE if is_of_policy(&error) => policy(target),
        sqlstate::NOT_NULL_VIOLATION => not_null(target, &error),
        // Of a check, the constraint would be known.
        sqlstate::CHECK_VIOLATION if error.constraint.is_none() && error.column.is_none() => {
            no_partition(target, &error)
        }
        sqlstate::CHECK_VIOLATION => check(target, &error),
        _ => None,
    };
    let hint = hint
        .or_else(|| raised(target, &error))
        .or_else(|| misfit(target, &error));
    SqlError { hint, ..error }
}

/// A function that the row's triggers, checks, defaults or SQL call.
fn raised(target: &Target, error: &SqlError) -> Option<String> {
    let detail = error.detail.as_deref()?;
    detail.contains("It was raised in ").then(|| {
        format!(
            "Make right what the function refuses, or the function, then run: {}",
            retry(target)
        )
    })
}

/// A value of the message that the type of a column does not take.
fn misfit(target: &Target, error: &SqlError) -> Option<String> {
    let placed = error.detail.as_deref()?.contains(" into column \"");
    // No type of texts takes the character 0.
    let value =
        error.class() == sqlstate::DATA_EXCEPTION && !error.is(sqlstate::UNTRANSLATABLE_CHARACTER);
    let column = error.column.as_deref().filter(|_| placed && value)?;
    let column = target.destination.column(column)?;
    Some(format!(
        "If the source has such values, let the column take them (ALTER TABLE {} ALTER COLUMN {} TYPE …;) or compute it by SQL, then \
         run: {}",
        target.destination.qualified_name(),
        ident(&column.name),
        retry(target)
    ))
}

/// The source has a value of an enum that the destination's type lacks. The server's message has the type and the value.
fn enum_value(target: &Target, error: &SqlError) -> Option<String> {
    let said = error
        .message
        .strip_prefix("invalid input value for enum ")?;
    let (type_name, value) = said.split_once(": \"")?;
    let value = value.strip_suffix('"')?;
    Some(format!(
        "If the source has the value, run: ALTER TYPE {type_name} ADD VALUE {}; {}",
        literal(value),
        retry(target)
    ))
}

fn is_of_policy(error: &SqlError) -> bool {
    error
        .message
        .starts_with("new row violates row-level security policy")
}

fn policy(target: &Target) -> Option<String> {
    let role = role_name(target.writer())?;
    Some(format!(
        "The row is written as role {}. Let a policy of {} admit it, then run: {}",
        ident(&role),
        target.destination.qualified_name(),
        retry(target)
    ))
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
