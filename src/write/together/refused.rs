//! Why changes cannot be written together, and which of them is to blame.

#![forbid(unsafe_code)]

use crate::error::SqlError;

/// Why changes could not be written together.
pub struct Refused {
    /// What the server raised, or this extension.
    pub error: SqlError,
    /// Whose row it may be about.
    pub suspects: Suspects,
    /// Whether the error comes of the way in which they are written together, and not of what they are to become.
    pub of_our_own: bool,
}

/// The changes (nodes of the facts) whose row was being written when an error came.
pub enum Suspects {
    /// The error does not tell.
    Unknown,
    /// It is about this one.
    This(usize),
    /// It is about one of these, or about what the server does at the end.
    OneOf(Vec<usize>),
}

impl Refused {
    /// An error that comes of the way in which changes are written together.
    pub fn of_our_own(error: SqlError) -> Refused {
        Refused {
            of_our_own: true,
            ..Refused::at_the_end(error)
        }
    }

    /// An error that comes when all rows are written.
    pub fn at_the_end(error: SqlError) -> Refused {
        Refused {
            error,
            suspects: Suspects::Unknown,
            of_our_own: false,
        }
    }
}
