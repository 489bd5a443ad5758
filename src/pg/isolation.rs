//! The caller's transaction.

use pgrx::pg_sys;

/// Whether the transaction sees the database as it was when it began (REPEATABLE READ and above), and
/// so not what other calls have applied since.
pub fn is_snapshot() -> bool {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether the transaction may not write.
pub fn is_read_only() -> bool {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::XactReadOnly }
}

/// Whether the server is a standby, where no transaction may write.
pub fn is_standby() -> bool {
    // SAFETY: reads shared memory that every backend has.
    unsafe { pg_sys::RecoveryInProgress() }
}
