//! Whose fault an error is: the message's, the absence of another change, or the call's.
//!
//! | SQLSTATE | verdict |
//! |---|---|
//! | any that the server raised because it was cancelled or lacks something, or with `on_error => 'raise'` | the call |
//! | of the server's classes, raised by this extension | the call |
//! | 23503 foreign key, 23505 unique index, 23P01 exclusion constraint | another row |
//! | 23502 not null | an older change of the row, if the column's value is unknown |
//! | all others | the message |

#![forbid(unsafe_code)]

use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::sqlstate::{self, Sqlstate};
use crate::mapping::{Mapping, OnError};
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

/// SQLSTATE classes of errors that say nothing of the message. A mapping's SQL, triggers and types can raise
/// them too: see [`Origin`].
const OF_THE_CALL: &[Sqlstate] = &[
    sqlstate::CONNECTION_EXCEPTION,
    sqlstate::INVALID_TRANSACTION_STATE,
    sqlstate::TRANSACTION_ROLLBACK,
    sqlstate::INSUFFICIENT_RESOURCES,
    sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
    sqlstate::OPERATOR_INTERVENTION,
    sqlstate::SYSTEM_ERROR,
    sqlstate::SNAPSHOT_TOO_OLD,
    sqlstate::CONFIG_FILE_ERROR,
    sqlstate::FDW_ERROR,
    sqlstate::INTERNAL_ERROR,
];

/// SQLSTATE classes of errors that can be of one message among others.
const OF_A_MESSAGE: &[Sqlstate] = &[
    sqlstate::CARDINALITY_VIOLATION,
    sqlstate::DATA_EXCEPTION,
    sqlstate::INTEGRITY_CONSTRAINT_VIOLATION,
    sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    sqlstate::PLPGSQL_ERROR,
];

/// The verdict on an error that was raised for messages of the mapping.
pub fn verdict(error: &SqlError, mapping: &Mapping) -> Verdict {
    if mapping.on_error == OnError::Raise {
        return Verdict::TheCall;
    }
    match error.origin {
        // With the last two, the call goes on without the mapping.
        Origin::Server | Origin::OutOfTime(_) | Origin::Unreachable(_) => Verdict::TheCall,
        Origin::Extension if OF_THE_CALL.contains(&error.class()) => Verdict::TheCall,
        Origin::Extension | Origin::Mapping(_) | Origin::Denied(_) => cause(error),
    }
}

/// Whether a GRANT makes the message work.
pub fn heals_by_grant(error: &SqlError) -> bool {
    matches!(error.origin, Origin::Denied(_))
}

/// The mapping (by id) that is set aside for an error, so that the call can go on without it.
pub fn mapping_at_fault(error: &SqlError) -> Option<i32> {
    match error.origin {
        Origin::Mapping(mapping)
        | Origin::Denied(mapping)
        | Origin::Unreachable(mapping)
        | Origin::OutOfTime(mapping) => Some(mapping),
        Origin::Extension | Origin::Server => None,
    }
}

/// Whether an error that is a mapping's may not be raised a second time: as if the server had raised it.
pub fn deserves_another_try(error: &SqlError) -> bool {
    matches!(error.origin, Origin::Mapping(_)) && OF_THE_CALL.contains(&error.class())
}

/// The verdict on an error that is not the call's.
pub fn cause(error: &SqlError) -> Verdict {
    match error.code {
        sqlstate::FOREIGN_KEY_VIOLATION
        | sqlstate::UNIQUE_VIOLATION
        | sqlstate::EXCLUSION_VIOLATION => Verdict::AnotherRow,
        sqlstate::NOT_NULL_VIOLATION => Verdict::AnOlderChange,
        _ => Verdict::TheMessage,
    }
}

/// Whether the error says that a relation or its schema was not found.
pub fn is_missing_relation(error: &SqlError) -> bool {
    error.is(sqlstate::INVALID_SCHEMA_NAME) || error.is(sqlstate::UNDEFINED_TABLE)
}

/// Whether an error of this kind can be of one message among others, whatever `on_error` says.
pub fn may_be_of_a_message(error: &SqlError) -> bool {
    OF_A_MESSAGE.contains(&error.class())
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
    let destination = mapping.destination_oid();
    if error.class() == sqlstate::INTEGRITY_CONSTRAINT_VIOLATION
        && !destination.is_some_and(caller_may_read)
    {
        error.detail = None;
    }
    Err(error)
}

/// Forgets an error after which the call can go on. `Err`: the call fails with it.
pub fn forgive(error: SqlError, mapping: &Mapping) -> Result<(), SqlError> {
    blame(error, mapping).map(drop)
}
