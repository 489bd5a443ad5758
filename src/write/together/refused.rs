//! Why the server refused changes that are written together, and which change is at fault.

#![forbid(unsafe_code)]

use crate::error::SqlError;

/// Why changes could not be written together.
pub struct Refused {
    /// The error, of the server or of this extension.
    pub error: SqlError,
    /// The changes that may be at fault.
    pub blamed: Blamed,
    /// Whether the error comes from the steps of the joint statement, and not from the rows that would result.
    pub artifact: bool,
}

/// The changes (nodes of the graph) that may be at fault for an error.
pub enum Blamed {
    /// Any change: the error names no row.
    Unknown,
    /// The change of the row that was being written.
    Row(usize),
    /// One of these changes, or another one that fails a check at the end of the statement.
    OneOf(Vec<usize>),
}

impl Refused {
    /// An error that comes from the steps of the joint statement.
    pub fn artifact(error: SqlError) -> Refused {
        Refused {
            artifact: true,
            ..Refused::at_the_end(error)
        }
    }

    /// An error that comes after all rows are written.
    pub fn at_the_end(error: SqlError) -> Refused {
        Refused {
            error,
            blamed: Blamed::Unknown,
            artifact: false,
        }
    }
}
