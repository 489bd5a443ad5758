//! The caller's transaction.

use pgrx::pg_sys;

use crate::error::Error;

/// Whether the transaction sees the database as it was when it began (REPEATABLE READ and above), and
/// so does not see rows that other calls have applied since.
pub fn is_snapshot() -> bool {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether the transaction may not write.
fn is_read_only() -> bool {
    // SAFETY: reads a backend variable.
    unsafe { pg_sys::XactReadOnly }
}

/// Returns an error if the transaction may not write. `work` completes the message "cannot …".
pub fn require_writable(work: &'static str) -> Result<(), Error> {
    match is_read_only() {
        false => Ok(()),
        true => Err(Error::ReadOnly {
            work,
            standby: is_standby(),
        }),
    }
}

/// Whether the server is a standby, where no transaction may write.
pub fn is_standby() -> bool {
    // SAFETY: reads shared memory that every backend has.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Whether the current function runs where a procedure cannot commit: in a transaction block, within another
/// function, or in a block with an exception handler.
pub fn is_atomic() -> bool {
    // SAFETY: reads backend variables.
    unsafe { !pg_sys::SPI_inside_nonatomic_context() }
}
