//! The blame for an error: the message, a missing change (of another row or the same row), or the call.
//!
//! | SQLSTATE | blamed |
//! |---|---|
//! | any: the server was cancelled or lacks a resource, or `on_error => 'raise'` | the call |
//! | of the classes in `OF_THE_CALL`, raised by this extension | the call |
//! | 23503 and 23001 foreign key, 23505 unique index, 23P01 exclusion constraint | another row |
//! | 23502 not null | an older change of the row, if the column's value is unknown |
//! | all others | the message |

#![forbid(unsafe_code)]

use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::sqlstate::{self, Sqlstate};
use crate::mapping::{Mapping, OnError};
use crate::pg::user::caller_may_read;

/// What an error is to be blamed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call fails, and the sender tries again. The cause is the server, the connection or the operator,
    /// or the mapping's `on_error` demands it.
    TheCall,
    /// The message itself.
    TheMessage,
    /// Another row, which has not come yet or has not gone yet: the message may work later.
    AnotherRow,
    /// The row has no value yet in a column that may not be null: an older change of the row may bring the
    /// value.
    AnOlderChange,
}

/// SQLSTATE classes of errors that say nothing about the message. The SQL, triggers and types of a mapping
/// can raise them too, so the [`Origin`] decides.
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

/// SQLSTATE classes of errors that a single message can cause.
const OF_A_MESSAGE: &[Sqlstate] = &[
    sqlstate::CARDINALITY_VIOLATION,
    sqlstate::DATA_EXCEPTION,
    sqlstate::INTEGRITY_CONSTRAINT_VIOLATION,
    sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
    sqlstate::PLPGSQL_ERROR,
];

/// The verdict on an error that was raised while messages of the mapping were written.
pub fn verdict(error: &SqlError, mapping: &Mapping) -> Verdict {
    if mapping.on_error == OnError::Raise {
        return Verdict::TheCall;
    }
    match error.origin {
        // The call starts over without the mapping after `OutOfTime` and `Unreachable`.
        Origin::Server | Origin::OutOfTime(_) | Origin::Unreachable(_) => Verdict::TheCall,
        Origin::Extension if OF_THE_CALL.contains(&error.class()) => Verdict::TheCall,
        Origin::Extension | Origin::Mapping(_) | Origin::Denied(_) => cause(error),
    }
}

/// Whether a GRANT can make the message work.
pub fn heals_by_grant(error: &SqlError) -> bool {
    matches!(error.origin, Origin::Denied(_))
}

/// Whether the error concerns all messages of its mapping: see [`SqlError::no_row`].
pub fn is_of_all(error: &SqlError) -> bool {
    error.no_row && matches!(error.origin, Origin::Mapping(_) | Origin::Denied(_))
}

/// SQLSTATE classes that say that the mapping's SQL, or a trigger of its table, asks for something that is not there, or
/// is not as it was.
const OF_DEFINITIONS: &[Sqlstate] = &[
    sqlstate::FEATURE_NOT_SUPPORTED.class(),
    sqlstate::INVALID_SCHEMA_NAME.class(),
    sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION,
];

/// Whether the error may concern all messages of its mapping, until a definition or a privilege changes. If it was raised
/// for each of them, it does.
pub fn may_be_of_all(error: &SqlError) -> bool {
    match error.origin {
        _ if is_of_all(error) => true,
        Origin::Denied(_) => true,
        // Row security and its like refuse single rows.
        Origin::Mapping(_) => {
            OF_DEFINITIONS.contains(&error.class()) && !error.is(sqlstate::INSUFFICIENT_PRIVILEGE)
        }
        _ => false,
    }
}

/// The mapping (by id) that the call sets aside because of the error. The call then goes on without it.
pub fn mapping_at_fault(error: &SqlError) -> Option<i32> {
    match error.origin {
        Origin::Mapping(mapping)
        | Origin::Denied(mapping)
        | Origin::Unreachable(mapping)
        | Origin::OutOfTime(mapping) => Some(mapping),
        Origin::Extension | Origin::Server => None,
    }
}

/// Whether the same work may succeed the second time: code of the mapping raised an error of a class that
/// otherwise blames the server.
pub fn deserves_another_try(error: &SqlError) -> bool {
    matches!(error.origin, Origin::Mapping(_)) && OF_THE_CALL.contains(&error.class())
}

/// The verdict on an error for which the call is not to blame.
pub fn cause(error: &SqlError) -> Verdict {
    match error.code {
        _ if error.violates_foreign_key() => Verdict::AnotherRow,
        sqlstate::UNIQUE_VIOLATION | sqlstate::EXCLUSION_VIOLATION => Verdict::AnotherRow,
        sqlstate::NOT_NULL_VIOLATION => Verdict::AnOlderChange,
        _ => Verdict::TheMessage,
    }
}

/// Whether the error says that a relation or its schema was not found.
pub fn is_missing_relation(error: &SqlError) -> bool {
    error.is(sqlstate::INVALID_SCHEMA_NAME) || error.is(sqlstate::UNDEFINED_TABLE)
}

/// Whether a single message can cause an error of this kind, whatever `on_error` says.
pub fn may_be_of_a_message(error: &SqlError) -> bool {
    OF_A_MESSAGE.contains(&error.class())
}

/// `Ok(error)`: the call can go on without the message. `Err(error)`: the call must fail with the error.
pub fn blame(mut error: SqlError, mapping: &Mapping) -> Result<SqlError, SqlError> {
    if verdict(&error, mapping) != Verdict::TheCall {
        return Ok(error);
    }
    let line = format!("sequin_apply, mapping \"{}\"", mapping.name);
    error.context = Some(match error.context {
        Some(context) => format!("{context}\n{line}"),
        None => line,
    });
    // The DETAIL of a constraint error shows the refused row to the mapping's owner. The caller may lack the
    // right to read the row.
    let destination = mapping.destination_oid();
    if error.class() == sqlstate::INTEGRITY_CONSTRAINT_VIOLATION
        && !destination.is_some_and(caller_may_read)
    {
        error.detail = None;
    }
    Err(error)
}

/// Drops an error after which the call can go on. `Err`: the call must fail with the error.
pub fn forgive(error: SqlError, mapping: &Mapping) -> Result<(), SqlError> {
    blame(error, mapping).map(drop)
}
