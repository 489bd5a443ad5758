//! Raises errors: by pgrx's panic where Rust frames must be unwound, by the server's jump (`longjmp`) where
//! no Rust frame holds a value with a destructor.

use std::ffi::{CString, c_char};

use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode};

use super::turn::marks;
use crate::error::{Error, SqlError};

/// Keeps only SQLSTATE, message, DETAIL and HINT: a pgrx report has fewer fields than an error of the server.
impl From<SqlError> for ErrorReport {
    fn from(error: SqlError) -> ErrorReport {
        let code = PgSqlErrorCode::from(error.code.packed());
        let mut report = ErrorReport::new(code, error.message, "pg_sequin");
        if let Some(detail) = error.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(hint);
        }
        report
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        SqlError::from(error).into()
    }
}

/// Raises an error by a panic, for callers that cannot return a `Result`.
pub fn raise(error: impl Into<SqlError>) -> ! {
    ErrorReport::from(error.into()).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

/// Copies every field of the error to an `ErrorData` in the current memory context, for [`throw`].
pub fn to_error_data(error: &SqlError) -> *mut pg_sys::ErrorData {
    let text = |s: &Option<String>| s.as_deref().map_or(std::ptr::null_mut(), palloc_cstring);
    // SAFETY: palloc0 returns a zeroed block of this size or raises an error. Every field of ErrorData may be
    // zero. The strings are allocated in the same context.
    unsafe {
        let data = pg_sys::palloc0(size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
        (*data).elevel = PgLogLevel::ERROR as i32;
        (*data).sqlerrcode = error.code.packed();
        (*data).message = palloc_cstring(&error.message);
        (*data).detail = text(&error.detail);
        (*data).hint = text(&error.hint);
        (*data).context = text(&error.context);
        (*data).schema_name = text(&error.schema);
        (*data).table_name = text(&error.table);
        (*data).column_name = text(&error.column);
        (*data).datatype_name = text(&error.datatype);
        (*data).constraint_name = text(&error.constraint);
        let (function, domain) = marks(error.origin);
        (*data).funcname = function.as_ptr();
        // only an error of a parallel worker has none
        (*data).message_id = function.as_ptr();
        (*data).domain = domain.as_ptr();
        data
    }
}

fn palloc_cstring(text: &str) -> *mut c_char {
    let text = CString::new(text.replace('\0', "")).expect("no NUL is left");
    // SAFETY: pstrdup copies a NUL-terminated string.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

unsafe extern "C-unwind" {
    #[link_name = "ThrowErrorData"]
    fn raw_throw_error_data(edata: *mut pg_sys::ErrorData);
}

/// Raises `data` by a jump.
///
/// # Safety
/// The jump leaves the C frames and Rust frames between here and Postgres' handler: none of them
/// may hold a value with a destructor.
pub unsafe fn throw(data: *mut pg_sys::ErrorData) -> ! {
    // SAFETY: `data` was made by `to_error_data`; elevel is ERROR, so the call does not return.
    unsafe { raw_throw_error_data(data) };
    unreachable!("ThrowErrorData returned from an ERROR")
}
