//! Why an attempt to apply a batch ends early.

#![forbid(unsafe_code)]

use crate::error::SqlError;

/// Why work ends before it is done.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // an error is made once and passed up
pub enum Stop {
    /// The work must begin again, under other conditions. Nobody is to blame.
    BeginAgain(Again),
    /// The server, or this extension, raised an error.
    Failed(SqlError),
}

/// The condition under which the work begins again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The call must have exclusive locks on its mappings.
    Exclusive,
    /// The call must read the mappings anew: one changed while it waited for a lock.
    Reload,
    /// Rows must be examined that looked simple, or were written by another call meanwhile. With the exclusive lock on the
    /// mapping, the set is folded anew, with the states that are loaded now; else the call begins again and examines all
    /// its rows.
    Examine,
}

impl Stop {
    /// The call begins again with exclusive locks on its mappings.
    pub const EXCLUSIVE: Stop = Stop::BeginAgain(Again::Exclusive);

    /// The call begins again with the mappings as they are now.
    pub const RELOAD: Stop = Stop::BeginAgain(Again::Reload);

    /// The set, or the call, begins again and examines the rows.
    pub const EXAMINE: Stop = Stop::BeginAgain(Again::Examine);

    /// The error, if there is one; a request to begin again goes on upwards.
    pub fn error(self) -> Result<SqlError, Stop> {
        match self {
            Stop::Failed(error) => Ok(error),
            again => Err(again),
        }
    }

    /// Whether the work must begin again under this condition.
    pub fn is(&self, again: Again) -> bool {
        matches!(self, Stop::BeginAgain(found) if *found == again)
    }
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Stop {
        Stop::Failed(error)
    }
}

impl From<crate::error::Error> for Stop {
    fn from(error: crate::error::Error) -> Stop {
        Stop::Failed(error.into())
    }
}
