//! No backtraces in errors.

use std::backtrace::Backtrace;
use std::env;

/// What the standard library asks for whether libraries make backtraces.
const VARIABLE: &str = "RUST_LIB_BACKTRACE";

/// Where the server runs with `RUST_BACKTRACE`, pgrx adds a backtrace to the DETAIL of errors that went through
/// it: addresses and paths that are nobody's business. The standard library asks once, and keeps the answer for
/// this library alone.
pub fn never() {
    let before = env::var_os(VARIABLE);
    // SAFETY: a backend has one thread.
    unsafe {
        env::set_var(VARIABLE, "0");
        let _ = Backtrace::capture();
        match before {
            Some(value) => env::set_var(VARIABLE, value),
            None => env::remove_var(VARIABLE),
        }
    }
}
