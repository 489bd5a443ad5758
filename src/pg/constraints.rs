//! Deferred constraints.

use pgrx::prelude::*;

/// Checks deferrable constraints as statements end, until the transaction does.
pub fn check_at_once() {
    Spi::run("set constraints all immediate")
        .unwrap_or_else(|e| error!("could not set constraints: {e}"));
}
