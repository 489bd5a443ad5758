//! Settings that are pinned while a batch is applied, so that two forwarders whose sessions have different
//! settings write the same bytes.

use std::ffi::{CStr, CString};
use std::time::Duration;

use pgrx::pg_sys;

use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::sqlstate::LOCK_NOT_AVAILABLE;

/// The settings of every apply, by their names in `pg_settings`.
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
    // a source whose lc_monetary is C, en_US or similar spells money so
    (c"lc_monetary", c"C"),
    (c"quote_all_identifiers", c"off"),
    // with `off`, a query would fail wherever a policy applies to the owner
    (c"row_security", c"on"),
    (c"standard_conforming_strings", c"on"),
    // with `on`, SQL that compares with null means something else
    (c"transform_null_equals", c"off"),
    (c"jit", c"off"),
];

/// The search_path of [`PINNED`] alone.
pub const PINNED_PATH: &[(&CStr, &CStr)] = &[(c"search_path", c"pg_catalog, pg_temp")];

/// The settings for planning statements on the batch relation. The server keeps a plan made for an empty
/// table when the table has grown to ten million rows. So these settings price out scans of the whole table
/// and joins that need such scans. (With `jit` on, the price would make the server compile the plan.)
pub const INDEX_DRIVEN: &[(&CStr, &CStr)] = &[
    (c"enable_seqscan", c"off"),
    (c"enable_hashjoin", c"off"),
    (c"enable_mergejoin", c"off"),
    (c"max_parallel_workers_per_gather", c"0"),
];

/// Reserves names that begin with `prefix.` for the library: the server rejects or warns of any name that
/// the library does not define.
pub fn reserve(prefix: &CStr) {
    // SAFETY: reads the string and copies it.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr());
    }
}

/// Whether the server, or a library that the session has loaded, defines this setting.
pub fn is_defined(name: &CStr) -> bool {
    // SAFETY: a look-up by name; the answer is not read.
    unsafe { !pg_sys::GetConfigOption(name.as_ptr(), true, false).is_null() }
}

/// The setting `search_path`, as it was set.
pub fn search_path() -> String {
    // SAFETY: reads a setting, whose text ends with NUL and is copied.
    unsafe {
        let path = pg_sys::GetConfigOption(c"search_path".as_ptr(), true, false);
        match path.is_null() {
            true => String::new(),
            false => CStr::from_ptr(path).to_string_lossy().into_owned(),
        }
    }
}

/// The setting `check_function_bodies`, which is off while a dump is restored. Any role can set it.
pub fn checks_function_bodies() -> bool {
    // SAFETY: reads a setting's variable.
    unsafe { pg_sys::check_function_bodies }
}

/// Whether the limit of [`Settings::lock_timeout`] caused the error, and not the session's own
/// `lock_timeout`.
pub fn is_own_lock_timeout(error: &SqlError) -> bool {
    error.is(LOCK_NOT_AVAILABLE) && error.origin != Origin::Server
}

/// While the value lives, settings are changed. Its drop restores them, and so does an error.
pub struct Settings {
    level: i32,
}

impl Settings {
    /// Sets the settings `wanted`, except the settings that have the wanted value already.
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

    /// Sets `lock_timeout` to `limit`, unless the session's own limit is shorter. See
    /// [`is_own_lock_timeout`].
    pub fn lock_timeout(limit: Duration) -> Settings {
        let settings = Settings::new(&[]);
        let limit = limit.as_millis().clamp(1, i32::MAX as u128) as i32;
        // SAFETY: reads a setting's variable.
        let sessions = unsafe { pg_sys::LockTimeout };
        if sessions == 0 || sessions > limit {
            settings.set(c"lock_timeout", &limit.to_string());
        }
        settings
    }

    /// Makes the server look for a deadlock after at most `after` milliseconds of waiting. Two calls can
    /// deadlock when they write rows that refer to each other. One of the calls then starts over without a
    /// long wait.
    pub fn look_for_deadlocks(&self, after: i32) {
        // SAFETY: as in `new`. Only a superuser may change this setting; the change ends with this call.
        unsafe {
            if pg_sys::DeadlockTimeout > after {
                let value = CString::new(after.to_string()).expect("digits");
                set_as(c"deadlock_timeout", &value, pg_sys::GucContext::PGC_SUSET);
            }
        }
    }

    /// Sets the `search_path` of a mapping, with `pg_temp` last. A path that is not a list of names is
    /// replaced by `pg_catalog, pg_temp`.
    pub fn search_path(path: &str) -> Settings {
        let settings = Settings::new(&[]);
        let path = temporary_last(path);
        settings.set(
            c"search_path",
            path.as_deref().unwrap_or("pg_catalog, pg_temp"),
        );
        settings
    }

    /// Changes one more setting.
    pub fn set(&self, name: &CStr, value: &str) {
        let value = CString::new(value.replace('\0', "")).expect("no NUL is left");
        // SAFETY: as in `new`.
        unsafe { set(name, &value) }
    }
}

unsafe fn set(name: &CStr, value: &CStr) {
    // SAFETY: the caller upholds the contract. Both strings are NUL-terminated.
    unsafe {
        let now = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if !now.is_null() && CStr::from_ptr(now) == value {
            return;
        }
        set_as(name, value, pg_sys::GucContext::PGC_USERSET);
    }
}

unsafe fn set_as(name: &CStr, value: &CStr, context: pg_sys::GucContext::Type) {
    // SAFETY: the caller upholds the contract. Both strings are NUL-terminated.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            context,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

/// A `search_path` with `pg_temp` last. The server searches `pg_temp` first if the path does not name it, and
/// a caller's temporary view would hide a table. `None` if `path` is not a list of names.
pub fn temporary_last(path: &str) -> Option<String> {
    let mut names = names(path)?;
    names.retain(|name| name != "pg_temp" && !name.starts_with("pg_temp_"));
    names.push("pg_temp".to_owned());
    let quoted = names
        .iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")));
    Some(quoted.collect::<Vec<_>>().join(", "))
}

/// Splits a list of names as the server's `SplitIdentifierString` does. An empty text is an empty list.
fn names(list: &str) -> Option<Vec<String>> {
    let space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    let mut names = Vec::new();
    let mut rest = list.trim_matches(space);
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut name = String::new();
            let mut parts = quoted;
            loop {
                let (part, after) = parts.split_once('"')?;
                name.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        parts = more;
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
            names.push(name);
        } else {
            let end = rest.find(|c| c == ',' || space(c)).unwrap_or(rest.len());
            // in a database of UTF-8 the server lowers the letters of ASCII alone
            names.push(rest[..end].to_ascii_lowercase());
            rest = &rest[end..];
        }
        if names.last().is_some_and(String::is_empty) {
            return None;
        }
        rest = rest.trim_start_matches(space);
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start_matches(space);
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // After an error the level is already gone. A second panic during a panic would abort.
        if !std::thread::panicking() {
            // SAFETY: ends the level that `new` began. Settings that a trigger changed meanwhile are restored
            // too.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::temporary_last;

    #[test]
    fn pg_temp_is_searched_last() {
        for (path, last) in [
            ("", "\"pg_temp\""),
            ("public", "\"public\", \"pg_temp\""),
            ("\"$user\", Public", "\"$user\", \"public\", \"pg_temp\""),
            ("PG_TEMP, a", "\"a\", \"pg_temp\""),
            ("ÄpfeL, \u{212A}", "\"Äpfel\", \"\u{212A}\", \"pg_temp\""),
            ("\"pg_temp\",a , pg_temp_3", "\"a\", \"pg_temp\""),
            ("\"a\"\"b\", \"c, d\"", "\"a\"\"b\", \"c, d\", \"pg_temp\""),
        ] {
            assert_eq!(temporary_last(path).as_deref(), Some(last), "{path}");
        }
        for path in [",", "a,", "a b", "\"a", "\"\"", "a,,b"] {
            assert_eq!(temporary_last(path), None, "{path}");
        }
    }
}
