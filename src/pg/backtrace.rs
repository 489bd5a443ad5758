//! Keeps backtraces out of errors.

use std::backtrace::Backtrace;
use std::env;

/// The standard library reads this variable to decide whether libraries make backtraces.
const VARIABLE: &str = "RUST_LIB_BACKTRACE";

/// Where the server runs with `RUST_BACKTRACE`, pgrx adds a backtrace to the DETAIL of every error that it
/// handles, which would disclose addresses and paths. The standard library reads the variable once and caches
/// the answer. The cache belongs to this library, so other extensions keep their backtraces.
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
