//! Deferred constraints.

use super::spi::Plan;
use super::tuples::Rows;
use super::user::ActingAs;
use crate::error::SqlError;

/// Defers what can be deferred, until [`check_at_once`] or the transaction's end.
pub fn defer() -> Result<(), SqlError> {
    Plan::prepare("set constraints all deferred")?
        .run(Rows::new())
        .map(|_| ())
}

/// Checks what is deferred now, and constraints from now on as statements end, until the transaction
/// does.
pub fn check_at_once() -> Result<(), SqlError> {
    // Triggers may wait that the caller has set off: up to PostgreSQL 17 they run as who acts now.
    let _caller = ActingAs::caller();
    Plan::prepare("set constraints all immediate")?
        .run(Rows::new())
        .map(|_| ())
}
