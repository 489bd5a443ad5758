//! Functions that the function manager calls directly, not through `#[pg_extern]`. They read their arguments
//! in place, without copying or parsing them into a tree. An error that a trigger raised keeps its SQLSTATE,
//! constraint and context.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;

use pgrx::pg_sys::{self, Datum, panic::pgrx_extern_c_guard};
use pgrx::{IntoDatum, varlena};

use super::failures::{hand_over, note_failed, note_panic};
use super::memory::OUT_OF_MEMORY;
use super::raise::{raise, throw, to_error_data};
use crate::error::{Error, SqlError};

/// Defines a C function and its record for the function manager: `wrapper, record = enter(work)`. `enter`
/// unpacks the arguments of the call for `work`, as [`counts`] and [`of_any`] do.
macro_rules! function {
    ($(#[$doc:meta])* $wrapper:ident, $record:ident = $enter:ident $(($work:expr))?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// Only the function manager may call the function, as SQL declares it.
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $wrapper(
            fcinfo: ::pgrx::pg_sys::FunctionCallInfo,
        ) -> ::pgrx::pg_sys::Datum {
            // SAFETY: the function manager's record of the call is passed on. No value here has a
            // destructor.
            unsafe { $enter(fcinfo $(, $work)?) }
        }

        /// The function manager's record for the function.
        #[unsafe(no_mangle)]
        pub extern "C" fn $record() -> *const ::pgrx::pg_sys::Pg_finfo_record {
            &$crate::pg::function::V1
        }
    };
}
pub(crate) use function;

/// The calling convention.
pub const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

/// The arguments of a call.
pub struct Arguments<'a>(&'a [pg_sys::NullableDatum]);

impl Arguments<'_> {
    fn value(&self, i: usize) -> Option<Datum> {
        let argument = self.0[i];
        (!argument.isnull).then_some(argument.value)
    }

    /// An argument that is declared as `bigint`.
    pub fn bigint(&self, i: usize) -> Option<i64> {
        self.value(i).map(|value| value.value() as i64)
    }

    /// An argument that is declared as `double precision`.
    pub fn double(&self, i: usize) -> Option<f64> {
        self.value(i)
            .map(|value| f64::from_bits(value.value() as u64))
    }

    /// An argument that is declared as `text`, for a name or a word. Bytes that are not UTF-8 are replaced.
    pub fn text(&self, i: usize) -> Option<String> {
        self.bytes(i)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    /// The size of an argument of variable length. The argument is neither read nor decompressed.
    pub fn size(&self, i: usize) -> usize {
        // SAFETY: the function is declared with a type of variable length.
        self.value(i)
            .map_or(0, |value| unsafe { pg_sys::toast_raw_datum_size(value) }
                as usize)
    }

    /// The bytes of an argument that is declared as `text` or `jsonb`, aligned as `jsonb` needs. The server
    /// does not guarantee that text is UTF-8: casts, functions in C and clients can bypass its checks.
    pub fn bytes(&self, i: usize) -> Option<&[u8]> {
        self.payload(i)
    }

    /// The bytes of the elements of an argument that is declared as `text[]`, in their order, whatever its
    /// dimensions.
    pub fn elements(&self, i: usize) -> Option<Vec<Option<&[u8]>>> {
        // SAFETY: the function is declared with an array of texts. A detoasted copy of the array lives in the
        // context of the call, and so do the elements, which are inside of it.
        self.value(i).map(|value| unsafe {
            let array = pg_sys::pg_detoast_datum(value.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
            let (mut values, mut nulls, mut count) = (ptr::null_mut(), ptr::null_mut(), 0);
            pg_sys::deconstruct_array(
                array,
                pg_sys::TEXTOID,
                -1,
                false,
                pg_sys::TYPALIGN_INT as std::ffi::c_char,
                &mut values,
                &mut nulls,
                &mut count,
            );
            let element = |at: usize| {
                let text = (*values.add(at)).cast_mut_ptr::<pg_sys::varlena>();
                (!*nulls.add(at)).then(|| {
                    std::slice::from_raw_parts(
                        varlena::vardata_any(text).cast::<u8>(),
                        varlena::varsize_any_exhdr(text),
                    )
                })
            };
            (0..count as usize).map(element).collect()
        })
    }

    fn payload(&self, i: usize) -> Option<&[u8]> {
        // SAFETY: the function is declared with a type of variable length. A value with a long
        // header is aligned; a detoasted copy lives in the context of the call.
        self.value(i).map(|value| unsafe {
            let value = pg_sys::pg_detoast_datum_packed(value.cast_mut_ptr());
            std::slice::from_raw_parts(
                varlena::vardata_any(value).cast::<u8>(),
                varlena::varsize_any_exhdr(value),
            )
        })
    }
}

/// Runs a function that returns a row of N bigints. An error is raised with all of its fields.
///
/// # Safety
/// `fcinfo` comes from the function manager, for a function that is declared so. A raised error leaves the
/// caller by a jump: the caller holds no value with a destructor.
pub unsafe fn counts<const N: usize>(
    fcinfo: pg_sys::FunctionCallInfo,
    work: fn(&Arguments<'_>) -> Result<[i64; N], SqlError>,
) -> Datum {
    // SAFETY: the caller upholds the contract. The guard turns a panic into an error. Its result has no
    // destructor.
    unsafe {
        let answer = pgrx_extern_c_guard(move || {
            let count = (*fcinfo).nargs as usize;
            let arguments = Arguments((*fcinfo).args.as_slice(count));
            match catch_unwind(AssertUnwindSafe(|| work(&arguments))).unwrap_or_else(out_of_memory)
            {
                Ok(counts) => {
                    hand_over();
                    Ok(row(fcinfo, counts))
                }
                Err(error) => {
                    note_failed(&error);
                    Err(to_error_data(&error))
                }
            }
        });
        match answer {
            Ok(row) => row,
            Err(error) => throw(error),
        }
    }
}

/// Turns a panic for lack of memory into an error. Any other panic continues.
fn out_of_memory<T>(panic: Box<dyn Any + Send>) -> Result<T, SqlError> {
    match panic.downcast_ref::<&str>() {
        Some(text) if *text == OUT_OF_MEMORY => Err(Error::OutOfMemory.into()),
        _ => {
            note_panic(&*panic);
            resume_unwind(panic)
        }
    }
}

unsafe fn row<const N: usize>(fcinfo: pg_sys::FunctionCallInfo, counts: [i64; N]) -> Datum {
    // SAFETY: the function manager's record of the call. The descriptor's width is checked; its columns
    // are bigints.
    unsafe {
        let mut desc = expected(fcinfo);
        if desc.is_null() {
            pg_sys::get_call_result_type(fcinfo, ptr::null_mut(), &mut desc);
        }
        assert!(!desc.is_null() && (*desc).natts as usize == N);
        let desc = pg_sys::BlessTupleDesc(desc);
        let mut values = counts.map(Datum::from);
        let mut nulls = [false; N];
        let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
    }
}

/// The descriptor of the row that the calling query expects; null if it does not say. Building it from the catalog would
/// take a twentieth of a call with one message.
unsafe fn expected(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::TupleDesc {
    // SAFETY: `resultinfo` is null or a node. The calling query keeps the descriptor while the function runs.
    unsafe {
        let info = (*fcinfo).resultinfo;
        match !info.is_null() && pgrx::is_a(info, pg_sys::NodeTag::T_ReturnSetInfo) {
            true => (*info.cast::<pg_sys::ReturnSetInfo>()).expectedDesc,
            false => ptr::null_mut(),
        }
    }
}

/// An argument of a function that takes values of any type.
pub struct Argument {
    /// The argument's value; `None` is null.
    pub value: Option<Datum>,
    /// The argument's type.
    pub type_oid: pg_sys::Oid,
    pub collation: pg_sys::Oid,
}

/// Runs a function that is declared with `variadic "any"` and returns a bytea; `None` is null.
///
/// # Safety
/// `fcinfo` comes from the function manager, for a function that is declared so.
pub unsafe fn of_any(
    fcinfo: pg_sys::FunctionCallInfo,
    work: fn(&[Argument]) -> Option<Vec<u8>>,
) -> Datum {
    // SAFETY: the caller upholds the contract. The guard turns a panic into an error.
    unsafe {
        pgrx_extern_c_guard(move || {
            let answer = work(&any_arguments(fcinfo)).and_then(Vec::into_datum);
            (*fcinfo).isnull = answer.is_none();
            answer.unwrap_or(Datum::null())
        })
    }
}

/// The arguments, with types and collations from the expression of the call.
unsafe fn any_arguments(fcinfo: pg_sys::FunctionCallInfo) -> Vec<Argument> {
    // SAFETY: the function manager's record of the call has `nargs` arguments. Variable-length values are
    // detoasted, so that their bytes can be read.
    unsafe {
        let call = (*fcinfo).flinfo;
        if pg_sys::get_fn_expr_variadic(call) {
            raise(Error::Variadic);
        }
        let expressions = argument_expressions(call);
        let values = (*fcinfo).args.as_slice((*fcinfo).nargs as usize);
        let argument = |(i, argument): (usize, &pg_sys::NullableDatum)| {
            let type_oid = pg_sys::get_fn_expr_argtype(call, i as i32);
            if type_oid == pg_sys::InvalidOid {
                raise(Error::UnknownArgumentType { number: i + 1 });
            }
            let value = (!argument.isnull).then(|| match pg_sys::get_typlen(type_oid) {
                -1 => Datum::from(pg_sys::pg_detoast_datum_packed(
                    argument.value.cast_mut_ptr(),
                )),
                _ => argument.value,
            });
            let collation = match expressions.as_ref() {
                Some(list) if i < list.length as usize => {
                    pg_sys::exprCollation((*list.elements.add(i)).ptr_value.cast())
                }
                _ => pg_sys::get_typcollation(type_oid),
            };
            Argument {
                value,
                type_oid,
                collation,
            }
        };
        values.iter().enumerate().map(argument).collect()
    }
}

/// The expressions of a call's arguments; null if they are not known. A foreign key calls a cast's
/// function without an expression.
unsafe fn argument_expressions(call: *mut pg_sys::FmgrInfo) -> *mut pg_sys::List {
    // SAFETY: the expression is null or a node, and the tag of a node gives its type.
    unsafe {
        if call.is_null() || (*call).fn_expr.is_null() {
            return ptr::null_mut();
        }
        let node = (*call).fn_expr;
        match (*node).type_ {
            pg_sys::NodeTag::T_FuncExpr => (*node.cast::<pg_sys::FuncExpr>()).args,
            pg_sys::NodeTag::T_OpExpr
            | pg_sys::NodeTag::T_DistinctExpr
            | pg_sys::NodeTag::T_NullIfExpr => (*node.cast::<pg_sys::OpExpr>()).args,
            _ => ptr::null_mut(),
        }
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::pg_sys::{self, Datum};
    use pgrx::prelude::*;

    /// Calls a function without an expression. The protocol's fast path does so, and so does a foreign key
    /// that calls the function of a cast.
    fn call(function: &str, argument: Datum) -> Datum {
        let oid = Spi::get_one_with_args::<pg_sys::Oid>(
            "select $1::regprocedure::oid",
            &[function.into()],
        );
        let oid = oid.unwrap().unwrap();
        // SAFETY: the function has one argument, of this type.
        unsafe { pg_sys::OidFunctionCall1Coll(oid, pg_sys::InvalidOid, argument) }
    }

    #[pg_test(error = "could not determine data type of argument 1 of sequin.row_key")]
    fn row_key_without_an_expression_is_an_error() {
        call("sequin.row_key(\"any\")", Datum::from(1));
    }

    #[pg_test]
    fn counts_without_an_expression_are_a_row() {
        let batch = "[]".into_datum().unwrap();
        let row = call("sequin_apply(text)", batch);
        // SAFETY: the function returns a row.
        let row = unsafe { pgrx::heap_tuple::PgHeapTuple::from_composite_datum(row) };
        assert_eq!(row.get_by_name::<i64>("received").unwrap(), Some(0));
    }

    #[pg_test(error = "sequin_internal.batch() can be called only by sequin_apply")]
    fn batch_without_an_expression_is_an_error() {
        let oid =
            Spi::get_one::<pg_sys::Oid>("select 'sequin_internal.batch()'::regprocedure::oid");
        // SAFETY: a function without arguments.
        unsafe { pg_sys::OidFunctionCall0Coll(oid.unwrap().unwrap(), pg_sys::InvalidOid) };
    }
}
