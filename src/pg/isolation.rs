//! The caller's transaction.

use pgrx::pg_sys;

/// Whether the transaction sees the database as it was when it began (REPEATABLE READ and above), and
/// so not what other calls have applied since.
pub fn is_snapshot() -> bool {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}
