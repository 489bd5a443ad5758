//! Deferred constraints.

use super::spi::Plan;
use super::trap::SqlError;
use super::tuples::Rows;

/// Checks what is deferred now, and constraints from now on as statements end, until the transaction
/// does.
pub fn check_at_once() -> Result<(), SqlError> {
    Plan::prepare("set constraints all immediate")?
        .run(Rows::new())
        .map(|_| ())
}
