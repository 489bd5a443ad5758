//! A subtransaction around work that may fail while the transaction goes on.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys;

use super::trap::note_undone;

/// Runs `work` in a subtransaction: kept when it returns `Ok`, undone when it returns `Err`, together with
/// the subtransactions that [`open_subtransaction`] left open in it.
///
/// As plpgsql's exception blocks do: the memory context and the resource owner of the caller are
/// restored, and memory allocated inside lives on in the caller's context. A panic undoes the work
/// too, and goes on.
pub fn subtransaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    run(work, true)
}

/// As [`subtransaction`], but work that is kept ends with the subtransaction around it, in which there
/// must be one.
///
/// A session that waits for a row that a subtransaction has written waits for the end of that
/// subtransaction; and then, if it was kept, for the end of the whole transaction, even if the
/// subtransaction around it is undone. A call that begins again must not keep others waiting like that.
///
/// Settings and users that are changed inside must be put back inside.
pub fn open_subtransaction<T, E>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    run(work, false)
}

fn run<T, E>(work: impl FnOnce() -> Result<T, E>, end: bool) -> Result<T, E> {
    // SAFETY: plain calls into xact.c in the order that plpgsql's exec_stmt_block has them. Where a
    // subtransaction is left open, its resource owner is left too.
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
