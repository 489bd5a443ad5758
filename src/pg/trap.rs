//! Catching an SQL error with everything it says, and raising it again unchanged.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;

use cee_scape::{SigJmpBufFields, call_with_sigsetjmp};
use pgrx::pg_sys;

/// How many bytes of an error's texts are kept. The server's quote the value that is wrong, which may
/// be as large as the batch.
const KEPT: usize = 8192;

/// The beginning of a long text.
fn cut(text: &str) -> String {
    if text.len() <= KEPT {
        return text.to_owned();
    }
    let mut end = KEPT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// An SQL error as the server raised it, very long texts cut.
///
/// Source: the fields of `ErrorData` in `utils/elog.h`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqlError {
    /// The SQLSTATE, packed as `MAKE_SQLSTATE` does.
    pub code: i32,
    /// Primary message.
    pub message: String,
    /// DETAIL line.
    pub detail: Option<String>,
    /// HINT line.
    pub hint: Option<String>,
    /// CONTEXT lines.
    pub context: Option<String>,
    /// Schema of the relation concerned.
    pub schema: Option<String>,
    /// Relation concerned.
    pub table: Option<String>,
    /// Column concerned.
    pub column: Option<String>,
    /// Data type concerned.
    pub datatype: Option<String>,
    /// Constraint concerned.
    pub constraint: Option<String>,
    /// How many rows of its batch relation the statement had read when it was raised, if it counts
    /// them: the last of them is the one at fault, unless all had been read.
    pub rows_read: Option<usize>,
}

impl SqlError {
    /// The SQLSTATE as five characters.
    pub fn sqlstate(&self) -> String {
        (0..5)
            .map(|i| char::from((((self.code >> (6 * i)) & 0x3f) as u8) + b'0'))
            .collect()
    }

    /// The SQLSTATE's class: its first two characters.
    pub fn class(&self) -> String {
        self.sqlstate()[..2].to_owned()
    }

    /// An error of this extension in the same clothes.
    pub fn new(sqlstate: &str, message: impl Into<String>) -> SqlError {
        debug_assert_eq!(sqlstate.len(), 5);
        let code = sqlstate.bytes().enumerate().fold(0, |code, (i, c)| {
            code | (((i32::from(c) - 0x30) & 0x3f) << (6 * i))
        });
        SqlError {
            code,
            message: cut(&message.into()),
            ..SqlError::default()
        }
    }

    /// The same error with a DETAIL line.
    pub fn with_detail(mut self, detail: impl Into<String>) -> SqlError {
        self.detail = Some(detail.into());
        self
    }

    /// The same error with its place in the batch at the end of its DETAIL.
    pub fn at(mut self, place: &str) -> SqlError {
        self.detail = Some(match self.detail {
            Some(detail) => format!("{detail} At {place}."),
            None => format!("At {place}."),
        });
        self
    }

    /// The same error with a HINT line.
    pub fn with_hint(mut self, hint: impl Into<String>) -> SqlError {
        self.hint = Some(hint.into());
        self
    }

    /// An `ErrorData` in the current memory context that says the same, for [`throw`].
    pub fn to_error_data(&self) -> *mut pg_sys::ErrorData {
        let text = |s: &Option<String>| s.as_deref().map_or(std::ptr::null_mut(), palloc_cstring);
        // SAFETY: palloc0 gives a zeroed block of the asked size or raises an error; every field of
        // ErrorData may be zero, and the strings are allocated in the same context.
        unsafe {
            let data = pg_sys::palloc0(size_of::<pg_sys::ErrorData>()).cast::<pg_sys::ErrorData>();
            (*data).elevel = pgrx::PgLogLevel::ERROR as i32;
            (*data).sqlerrcode = self.code;
            (*data).message = palloc_cstring(&self.message);
            (*data).detail = text(&self.detail);
            (*data).hint = text(&self.hint);
            (*data).context = text(&self.context);
            (*data).schema_name = text(&self.schema);
            (*data).table_name = text(&self.table);
            (*data).column_name = text(&self.column);
            (*data).datatype_name = text(&self.datatype);
            (*data).constraint_name = text(&self.constraint);
            data
        }
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

/// Raises `data`.
///
/// # Safety
/// The C frames and Rust frames between here and Postgres' handler are left by a jump: none of them
/// may hold a value with a destructor.
pub unsafe fn throw(data: *mut pg_sys::ErrorData) -> ! {
    // SAFETY: `data` was made by `to_error_data`; elevel is ERROR, so the call does not return.
    unsafe { raw_throw_error_data(data) };
    unreachable!("ThrowErrorData returned from an ERROR")
}

thread_local! {
    static UNDONE: Cell<bool> = const { Cell::new(true) };
}

/// Whether everything that raised an error has been undone since. Until then the server may be left in
/// the middle of what it did, and is to be asked for nothing.
pub fn is_undone() -> bool {
    UNDONE.get()
}

/// Notes that what raised an error is undone.
pub fn note_undone() {
    UNDONE.set(true);
}

/// Runs `f` and returns the SQL error that it raised, if it did.
///
/// After an error the surrounding subtransaction must be rolled back (or the error be raised again)
/// before the server is asked for anything else.
///
/// # Safety
/// `f` is left by a jump when an error is raised: it must call raw C functions only (not pgrx's
/// guarded ones, which panic) and hold no value with a destructor while it does.
pub unsafe fn trap<T: Copy>(f: impl FnOnce() -> T) -> Result<T, SqlError> {
    // SAFETY: this is PG_TRY: the handler and the context stack are saved, our jump buffer is put
    // in, and both are put back on either way out. The backend has one thread.
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
                // no more than is kept is looked at: it may end within a character
                let bytes = CStr::from_ptr(s).to_bytes();
                cut(&String::from_utf8_lossy(
                    &bytes[..bytes.len().min(KEPT + 4)],
                ))
            })
        };
        let error = SqlError {
            code: (*data).sqlerrcode,
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
        };
        pg_sys::FreeErrorData(data);
        Err(error)
    }
}

impl From<crate::error::Error> for SqlError {
    fn from(error: crate::error::Error) -> SqlError {
        let report = error.report();
        SqlError {
            code: report.code as i32,
            message: report.message,
            detail: report.detail,
            hint: report.hint,
            ..SqlError::default()
        }
    }
}
