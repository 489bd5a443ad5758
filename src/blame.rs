//! Whose fault an error is: the message's, the absence of another change, or the call's.
//!
//! | SQLSTATE | verdict |
//! |---|---|
//! | the server's classes, or any with `on_error => 'raise'` | the call |
//! | 23503 foreign key, 23505 unique index | another row |
//! | 23502 not null | an older change of the row, if the column's value is unknown |
//! | all others | the message |

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use crate::mapping::{Mapping, OnError};
use crate::pg::trap::SqlError;
use crate::pg::user::caller_may_read;

/// Why an error was raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server, the connection, the operator or the mapping's `on_error`: the call fails, and the
    /// sender tries again.
    TheCall,
    /// The message itself.
    TheMessage,
    /// A row that has not come, or has not gone: the message may work later.
    AnotherRow,
    /// The row's value in a column that may not be null: an older change of the row may bring it.
    AnOlderChange,
}

/// SQLSTATE classes of errors that say nothing of the message.
const OF_THE_CALL: &[&str] = &[
    "08", "25", "40", "53", "55", "57", "58", "72", "F0", "HV", "XX",
];

/// The verdict on an error that was raised for messages of the mapping.
pub fn verdict(error: &SqlError, mapping: &Mapping) -> Verdict {
    if mapping.on_error == OnError::Raise || OF_THE_CALL.contains(&error.class().as_str()) {
        return Verdict::TheCall;
    }
    cause(error)
}

/// The verdict on an error that is not the call's.
pub fn cause(error: &SqlError) -> Verdict {
    match error.sqlstate().as_str() {
        "23503" | "23505" => Verdict::AnotherRow,
        "23502" => Verdict::AnOlderChange,
        _ => Verdict::TheMessage,
    }
}

/// Whether the error is of a foreign key.
pub fn is_foreign_key(error: &SqlError) -> bool {
    error.sqlstate() == "23503"
}

/// Whether the error is of a unique index.
pub fn is_unique(error: &SqlError) -> bool {
    error.sqlstate() == "23505"
}

/// Whether the error says that a relation or its schema was not found.
pub fn is_missing_relation(error: &SqlError) -> bool {
    matches!(error.sqlstate().as_str(), "3F000" | "42P01")
}

/// Whether an error of this kind can be of one message among others, whatever `on_error` says.
pub fn may_be_of_a_message(error: &SqlError) -> bool {
    matches!(error.class().as_str(), "21" | "22" | "23" | "42" | "P0")
}

/// The error, if the call can go on without the message. `Err`: the call fails with it.
pub fn blame(mut error: SqlError, mapping: &Mapping) -> Result<SqlError, SqlError> {
    if verdict(&error, mapping) != Verdict::TheCall {
        return Ok(error);
    }
    let line = format!("sequin_apply, mapping \"{}\"", mapping.name);
    error.context = Some(match error.context {
        Some(context) => format!("{context}\n{line}"),
        None => line,
    });
    // The server shows the mapping's owner the row that a constraint refuses.
    let destination = mapping.destination.map(pg_sys::Oid::from);
    if error.class() == "23" && !destination.is_some_and(caller_may_read) {
        error.detail = None;
    }
    Err(error)
}

/// Forgets an error after which the call can go on. `Err`: the call fails with it.
pub fn forgive(error: SqlError, mapping: &Mapping) -> Result<(), SqlError> {
    blame(error, mapping).map(drop)
}
