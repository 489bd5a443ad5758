//! What the code of a mapping does not see of the session: the client's statement, which may hold a batch with messages of
//! others (`current_query()`), and the CONTEXT of the functions and parameters around the call (`PG_CONTEXT`). With
//! `log_parameter_max_length_on_error`, that shows a bound batch, too.

use std::ffi::{CStr, c_char, c_void};

use pgrx::pg_sys;

/// What `current_query()` shows instead.
const INSTEAD: &CStr = c"sequin_apply(batch)";

/// While the value lives, code that the backend runs does not see the session outside of the call.
pub struct Hidden {
    /// Stands at the bottom of the stack of CONTEXT. `arg` is the stack before.
    _mark: Box<pg_sys::ErrorContextCallback>,
    stack: *mut pg_sys::ErrorContextCallback,
    query: *const c_char,
}

impl Hidden {
    /// Hides it.
    pub fn begin() -> Hidden {
        // SAFETY: backend variables, which are put back when the value is dropped; an error puts the stack back to what it
        // was where the error is caught. The text is never freed, and the mark lives as long as it is on the stack.
        unsafe {
            let (stack, query) = (pg_sys::error_context_stack, pg_sys::debug_query_string);
            let mut mark = Box::new(pg_sys::ErrorContextCallback {
                previous: std::ptr::null_mut(),
                callback: Some(says_nothing),
                arg: stack.cast(),
            });
            pg_sys::error_context_stack = &mut *mark;
            pg_sys::debug_query_string = INSTEAD.as_ptr();
            Hidden {
                _mark: mark,
                stack,
                query,
            }
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe {
            pg_sys::error_context_stack = self.stack;
            pg_sys::debug_query_string = self.query;
        }
    }
}

/// The stack of CONTEXT as the call found it.
pub fn context_stack() -> *mut pg_sys::ErrorContextCallback {
    let mark = says_nothing as unsafe extern "C-unwind" fn(_) as usize;
    // SAFETY: a backend variable. A callback lives while it is on the stack, and the argument of a mark is a stack.
    unsafe {
        let mut stack = pg_sys::error_context_stack;
        while !stack.is_null() && (*stack).callback.map(|callback| callback as usize) == Some(mark)
        {
            stack = (*stack).arg.cast();
        }
        stack
    }
}

unsafe extern "C-unwind" fn says_nothing(_stack: *mut c_void) {}
