//! Where the function manager enters `sequin_apply` and `sequin.retry`.
//!
//! By hand rather than by `#[pg_extern]`: the batch is taken as it lies in memory, without a copy
//! or a tree, and an error of a trigger leaves with the SQLSTATE, constraint and context it has.

use std::ptr;

use pgrx::pg_sys::{self, Datum};
use pgrx::{FromDatum, pg_guard, varlena};

use super::raise::{throw, to_error_data};
use crate::api;
use crate::apply::Counts;
use crate::error::{Error, SqlError};
use crate::retry::{Which, retry};

/// A function that returns counts: its wrapper, which raises errors as they are, and its record.
macro_rules! entry {
    ($(#[$doc:meta])* $wrapper:ident, $record:ident, $inner:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Called by the server's function manager.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $wrapper(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
            // SAFETY: the server's arguments are passed on; nothing here has a destructor.
            unsafe {
                let mut failure = ptr::null_mut();
                let result = $inner(fcinfo, &mut failure);
                if !failure.is_null() {
                    throw(failure);
                }
                result
            }
        }

        /// The function manager's record for it.
        #[unsafe(no_mangle)]
        pub extern "C" fn $record() -> *const pg_sys::Pg_finfo_record {
            &V1
        }
    };
}

entry! {
    /// `sequin_apply(text)`.
    sequin_apply_text_wrapper, pg_finfo_sequin_apply_text_wrapper, enter_text
}
entry! {
    /// `sequin_apply(jsonb)`.
    sequin_apply_jsonb_wrapper, pg_finfo_sequin_apply_jsonb_wrapper, enter_jsonb
}
entry! {
    /// `sequin.retry()`.
    retry_wrapper, pg_finfo_retry_wrapper, enter_retry
}
entry! {
    /// `sequin.retry(id)`.
    retry_letter_wrapper, pg_finfo_retry_letter_wrapper, enter_retry_letter
}
entry! {
    /// `sequin.retry(mapping)`.
    retry_mapping_wrapper, pg_finfo_retry_mapping_wrapper, enter_retry_mapping
}

#[pg_guard]
unsafe extern "C-unwind" fn enter_text(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
) -> Datum {
    // SAFETY: the argument is a text datum, detoasted; a database with this extension is UTF-8.
    unsafe {
        enter(fcinfo, failure, |bytes| {
            api::apply_text(std::str::from_utf8_unchecked(bytes))
        })
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn enter_jsonb(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
) -> Datum {
    // SAFETY: the argument is a jsonb datum, detoasted.
    unsafe { enter(fcinfo, failure, api::apply_jsonb) }
}

unsafe fn enter(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
    apply: impl FnOnce(&[u8]) -> Result<Counts, SqlError>,
) -> Datum {
    // SAFETY: the functions are declared with one argument and a row type as result; `failure` is
    // a place in the caller's frame.
    unsafe {
        let argument = (*fcinfo).args.as_slice(1)[0];
        let result = if argument.isnull {
            Err(SqlError::from(Error::NullBatch))
        } else {
            let batch = pg_sys::pg_detoast_datum_packed(argument.value.cast_mut_ptr());
            // A value with a long header is aligned, as jsonb needs it.
            let bytes = std::slice::from_raw_parts(
                varlena::vardata_any(batch).cast::<u8>(),
                varlena::varsize_any_exhdr(batch),
            );
            apply(bytes)
        };
        answer(fcinfo, failure, result)
    }
}

unsafe fn answer(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
    result: Result<Counts, SqlError>,
) -> Datum {
    // SAFETY: as in `enter`.
    unsafe {
        match result {
            Ok(counts) => row(fcinfo, &counts),
            Err(error) => {
                *failure = to_error_data(&error);
                Datum::from(0)
            }
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn enter_retry(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
) -> Datum {
    // SAFETY: as in `enter`.
    unsafe { answer(fcinfo, failure, retry(Which::All)) }
}

#[pg_guard]
unsafe extern "C-unwind" fn enter_retry_letter(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
) -> Datum {
    // SAFETY: as in `enter`; the function is declared with a bigint.
    unsafe {
        let id = (*fcinfo).args.as_slice(1)[0];
        let result = match i64::from_datum(id.value, id.isnull) {
            Some(id) => retry(Which::Letter(id)),
            None => Err(Error::NullArgument { argument: "id" }.into()),
        };
        answer(fcinfo, failure, result)
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn enter_retry_mapping(
    fcinfo: pg_sys::FunctionCallInfo,
    failure: *mut *mut pg_sys::ErrorData,
) -> Datum {
    // SAFETY: as in `enter`; the function is declared with a text.
    unsafe {
        let name = (*fcinfo).args.as_slice(1)[0];
        let result = match String::from_datum(name.value, name.isnull) {
            Some(name) => retry(Which::Mapping(&name)),
            None => Err(Error::NullArgument {
                argument: "mapping",
            }
            .into()),
        };
        answer(fcinfo, failure, result)
    }
}

unsafe fn row(fcinfo: pg_sys::FunctionCallInfo, counts: &Counts) -> Datum {
    // SAFETY: the function's result type is a row of eight bigints.
    unsafe {
        let mut desc = ptr::null_mut();
        pg_sys::get_call_result_type(fcinfo, ptr::null_mut(), &mut desc);
        let desc = pg_sys::BlessTupleDesc(desc);
        let mut values = [Datum::from(counts.received); 8];
        for (value, count) in values[1..].iter_mut().zip(counts.outcomes) {
            *value = Datum::from(count);
        }
        let mut nulls = [false; 8];
        let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
