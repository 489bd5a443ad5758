//! A subtransaction around work that may fail alone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys;

/// Runs `work` in a subtransaction: kept when it returns `Ok`, undone when it returns `Err`.
///
/// As plpgsql's exception blocks do: the memory context and the resource owner of the caller are
/// put back, and what was allocated inside lives on in the caller's context. A panic undoes the work
/// too, and goes on.
pub fn subtransaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    // SAFETY: plain calls into xact.c in the order that plpgsql's exec_stmt_block has them.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = catch_unwind(AssertUnwindSafe(work));
        match result {
            Ok(Ok(_)) => pg_sys::ReleaseCurrentSubTransaction(),
            _ => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
        match result {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }
}
