//! The texts of what the code of a mapping is refused, while it runs in the session of a forwarder.

#![forbid(unsafe_code)]

use super::{SqlError, sqlstate};

/// Advisory locks that would outlive the transaction.
pub fn session_lock() -> SqlError {
    SqlError::new(
        sqlstate::INSUFFICIENT_PRIVILEGE,
        "the code of a mapping may not take or release advisory locks of the session",
    )
    .with_detail("The session is the forwarder's, and works for other owners too.")
    .with_hint("Use pg_advisory_xact_lock, whose locks end with the transaction.")
}

/// SET CONSTRAINTS, which holds for the whole transaction.
pub fn set_constraints() -> SqlError {
    SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                "the code of a mapping may not run SET CONSTRAINTS",
            )
            .with_detail("It would hold for the whole transaction, which writes the rows of other owners too.")
            .with_hint("Make the constraint INITIALLY IMMEDIATE or INITIALLY DEFERRED: ALTER TABLE ... ALTER CONSTRAINT ...;")
}

/// A name that was given to another schema or table during the call.
pub fn name_taken(name: &str) -> SqlError {
    SqlError::new(
        sqlstate::UNDEFINED_TABLE,
        format!("{name} is not what it was when the call began"),
    )
    .with_detail("A schema or a table was renamed or dropped, and another one has got its name.")
    .with_hint("The next call uses the names of now.")
}

/// A temporary object that the caller has made.
pub fn temporary_object(name: &str) -> SqlError {
    SqlError::new(
                sqlstate::INSUFFICIENT_PRIVILEGE,
                format!("\"{name}\" is a temporary object of another role"),
            )
            .with_detail("SQL that runs as a mapping's owner does not use what the caller has made, which could do anything with the owner's rights.")
            .with_hint("Is there no other object of this name any more, or no right to use its schema? Qualify the name in the mapping, the trigger or the function.")
}
