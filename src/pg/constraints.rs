//! Deferred constraints.

use super::spi::Plan;
use super::tuples::Rows;
use super::user::ActingAs;
use crate::error::SqlError;

/// Defers all deferrable constraints, until [`check_at_once`] or the transaction's end.
pub fn defer() -> Result<(), SqlError> {
    Plan::prepare("set constraints all deferred")?
        .run(Rows::new())
        .map(|_| ())
}

/// Checks the deferred constraints now. From now on, until the transaction ends, constraints are checked
/// when a statement ends.
pub fn check_at_once() -> Result<(), SqlError> {
    // The caller may have deferred triggers of its own: up to PostgreSQL 17 they run as the current role.
    let _caller = ActingAs::caller();
    Plan::prepare("set constraints all immediate")?
        .run(Rows::new())
        .map(|_| ())
}
