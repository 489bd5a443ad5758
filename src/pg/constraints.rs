//! Deferred constraints.

use super::spi::Plan;
use super::trap::SqlError;
use super::tuples::Rows;

/// Defers what can be deferred, until [`check_at_once`] or the transaction's end.
pub fn defer() -> Result<(), SqlError> {
    Plan::prepare("set constraints all deferred")?
        .run(Rows::new())
        .map(|_| ())
}

/// Checks what is deferred now, and constraints from now on as statements end, until the transaction
/// does.
pub fn check_at_once() -> Result<(), SqlError> {
    Plan::prepare("set constraints all immediate")?
        .run(Rows::new())
        .map(|_| ())
}
