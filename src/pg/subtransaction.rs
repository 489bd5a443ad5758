//! Runs work that may fail in a subtransaction, so that the transaction can continue.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys;

use super::trap::note_undone;

/// Runs `work` in a subtransaction. The subtransaction is released when `work` returns `Ok`, and rolled back
/// when `work` returns `Err`. So are the subtransactions that [`open_subtransaction`] left open inside.
///
/// As in plpgsql's exception blocks, the caller's memory context and resource owner are restored, and memory
/// allocated inside lives on in the caller's context. A panic rolls the work back too, and continues.
pub fn subtransaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    run(work, true)
}

/// As [`subtransaction`], but after `Ok` the subtransaction stays open and ends with the surrounding
/// subtransaction. A surrounding subtransaction must exist.
///
/// A session that waits for a row that a subtransaction wrote waits for the end of that subtransaction. If
/// the subtransaction was released, the session then waits for the end of the whole transaction, even if the
/// surrounding subtransaction is rolled back. A call that starts over must not keep other sessions waiting
/// like that.
///
/// Settings and users that are changed inside must be restored inside.
pub fn open_subtransaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    run(work, false)
}

fn run<T, E>(work: impl FnOnce() -> Result<T, E>, end: bool) -> Result<T, E> {
    // SAFETY: plain calls into xact.c in the order of plpgsql's exec_stmt_block. A subtransaction that stays
    // open keeps its resource owner.
    unsafe {
        let level = pg_sys::GetCurrentTransactionNestLevel();
        let context = pg_sys::CurrentMemoryContext;
        let owner = pg_sys::CurrentResourceOwner;
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
        let result = catch_unwind(AssertUnwindSafe(work));
        let kept = matches!(result, Ok(Ok(_)));
        if end || !kept {
            while pg_sys::GetCurrentTransactionNestLevel() > level {
                match kept {
                    true => pg_sys::ReleaseCurrentSubTransaction(),
                    false => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
                }
            }
            pg_sys::CurrentResourceOwner = owner;
        }
        if !kept {
            note_undone();
        }
        pg_sys::MemoryContextSwitchTo(context);
        match result {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }
}
