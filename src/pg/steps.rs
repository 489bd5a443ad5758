//! Lets a test decide in which order the steps of two calls happen. In a release build nothing of it is there.

/// A step of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All rows are read, and nothing is written.
    Write = 1,
    /// All rows are written.
    Check = 2,
    /// Rows of the extension's tables are known to be absent, and are not inserted.
    Insert = 3,
}

/// Waits until the test lets the call go on: for the advisory lock (`sequin.steps`, number of the step), which the test
/// holds until then.
#[cfg(debug_assertions)]
pub fn before(step: Step) {
    use pgrx::{IntoDatum, direct_function_call, pg_sys};
    let test = settings::STEPS.get();
    if test == 0 {
        return;
    }
    // SAFETY: both functions take two integers.
    unsafe {
        let lock = [test.into_datum(), (step as i32).into_datum()];
        direct_function_call::<()>(pg_sys::pg_advisory_lock_int4, &lock);
        direct_function_call::<bool>(pg_sys::pg_advisory_unlock_int4, &lock);
    }
}

/// Does nothing.
#[cfg(not(debug_assertions))]
pub fn before(_step: Step) {}

/// Defines `sequin.steps`.
#[cfg(debug_assertions)]
pub use settings::define;

/// Defines nothing.
#[cfg(not(debug_assertions))]
pub fn define() {}

#[cfg(debug_assertions)]
mod settings {
    use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

    /// `sequin.steps`; 0: the call waits nowhere.
    pub static STEPS: GucSetting<i32> = GucSetting::<i32>::new(0);

    /// Defines `sequin.steps`, which only a debug build has.
    pub fn define() {
        GucRegistry::define_int_guc(
            c"sequin.steps",
            c"Makes calls wait for advisory locks of this number before their steps.",
            c"For tests of this library.",
            &STEPS,
            0,
            i32::MAX,
            GucContext::Suset,
            GucFlags::NO_SHOW_ALL,
        );
    }
}
