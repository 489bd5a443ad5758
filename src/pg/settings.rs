//! Settings that are pinned while a batch is applied, so that two forwarders with different
//! sessions write the same bytes.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// What every apply runs under. The names are `pg_settings` names.
pub const PINNED: &[(&CStr, &CStr)] = &[
    (c"datestyle", c"ISO, MDY"),
    (c"intervalstyle", c"postgres"),
    (c"timezone", c"UTC"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"xmloption", c"content"),
    (c"xmlbinary", c"base64"),
    (c"array_nulls", c"on"),
    // how Sequin spells money, if the source has C, en_US or the like
    (c"lc_monetary", c"C"),
    (c"quote_all_identifiers", c"off"),
    // off, it makes an error of every policy that the owner is under
    (c"row_security", c"on"),
    (c"standard_conforming_strings", c"on"),
    (c"jit", c"off"),
];

/// What plans of the batch relation are made under. A plan made while a table was empty is kept when
/// it has ten million rows, so scans of the whole table and joins that need them are priced out.
/// (The price would make the server compile the plan, were `jit` not off.)
pub const INDEX_DRIVEN: &[(&CStr, &CStr)] = &[
    (c"enable_seqscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
    (c"max_parallel_workers_per_gather", c"0"),
];

/// Makes names that begin with `prefix.` the library's: a setting that it does not define is no setting.
pub fn reserve(prefix: &CStr) {
    // SAFETY: reads the string and copies it.
    unsafe {
        #[cfg(any(feature = "pg13", feature = "pg14"))]
        pg_sys::EmitWarningsOnPlaceholders(prefix.as_ptr());
        #[cfg(not(any(feature = "pg13", feature = "pg14")))]
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr());
    }
}

/// Settings changed for as long as the value lives. An error puts them back as well.
pub struct Settings {
    level: i32,
}

impl Settings {
    /// Changes those of `wanted` that have another value now.
    pub fn new(wanted: &[(&CStr, &CStr)]) -> Settings {
        // SAFETY: NewGUCNestLevel counts; set_config_option copies both strings, and
        // GetConfigOption's answer is read before the next call.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for (name, value) in wanted {
                set(name, value);
            }
            Settings { level }
        }
    }

    /// Changes one more setting.
    pub fn set(&self, name: &CStr, value: &str) {
        let value = CString::new(value.replace('\0', "")).expect("no NUL is left");
        // SAFETY: as in `new`.
        unsafe { set(name, &value) }
    }
}

unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: the caller's; both strings are NUL-terminated.
    unsafe {
        let now = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if !now.is_null() && CStr::from_ptr(now) == value {
            return;
        }
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // After an error the level is already gone, and a panic must not meet another.
        if !std::thread::panicking() {
            // SAFETY: ends the level that `new` began. What was set meanwhile, by a trigger, is not
            // kept either.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) }
        }
    }
}
