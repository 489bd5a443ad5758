//! Catches an SQL error with all of its fields.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys;

use super::turn::origin_of;
use crate::error::SqlError;
use crate::error::report::{KEPT, cut};
use crate::error::shards::with_table_names;
use crate::error::sqlstate::Sqlstate;

thread_local! {
    static UNDONE: Cell<bool> = const { Cell::new(true) };
}

/// Whether all work that raised an error has been rolled back since. Until then the server may be in an
/// inconsistent state, and no function of the server may be called.
pub fn is_undone() -> bool {
    UNDONE.get()
}

/// Notes that the work that raised an error was rolled back.
pub fn note_undone() {
    UNDONE.set(true);
}

/// Runs `f`. Returns the SQL error if `f` raised one.
///
/// After an error, the surrounding subtransaction must be rolled back (or the error raised again) before any
/// other function of the server is called.
///
/// # Safety
/// An error leaves `f` by a jump. So `f` must call raw C functions only (not pgrx's guarded functions, which
/// panic), and must not hold a value with a destructor during such a call.
pub unsafe fn trap<T: Copy>(f: impl FnOnce() -> T) -> Result<T, SqlError> {
    // SAFETY: this is PG_TRY. The handler and the context stack are saved, our jump buffer is installed, and
    // both are restored on every way out. The backend has one thread.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let exception_stack = pg_sys::PG_exception_stack;
        let error_context_stack = pg_sys::error_context_stack;
        let mut result = MaybeUninit::<T>::uninit();
        let jumped = call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = std::mem::transmute::<
                *const SigJmpBufFields,
                *mut pg_sys::sigjmp_buf,
            >(buffer as *const SigJmpBufFields);
            result.write(f());
            0
        });
        pg_sys::PG_exception_stack = exception_stack;
        pg_sys::error_context_stack = error_context_stack;
        if jumped == 0 {
            return Ok(result.assume_init());
        }
        UNDONE.set(false);
        pg_sys::CurrentMemoryContext = context;
        let data = pg_sys::CopyErrorData();
        pg_sys::FlushErrorState();
        let text = |s: *const c_char| {
            (!s.is_null()).then(|| {
                // reads only a little more than `cut` keeps: the end may split a character
                let bytes = CStr::from_ptr(s).to_bytes();
                cut(&String::from_utf8_lossy(
                    &bytes[..bytes.len().min(KEPT + 4)],
                ))
            })
        };
        let error = SqlError {
            code: Sqlstate::from_packed((*data).sqlerrcode),
            message: text((*data).message).unwrap_or_default(),
            detail: text((*data).detail),
            hint: text((*data).hint),
            context: text((*data).context),
            schema: text((*data).schema_name),
            table: text((*data).table_name),
            column: text((*data).column_name),
            datatype: text((*data).datatype_name),
            constraint: text((*data).constraint_name),
            rows_read: None,
            no_row: false,
            origin: origin_of(data),
        };
        pg_sys::FreeErrorData(data);
        Err(with_table_names(error))
    }
}
