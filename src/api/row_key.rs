//! `sequin.row_key`: a row's key as bytes, as row versions, dead letters and resyncs store it.

use crate::key::{self, KeyColumn};
use crate::pg::function::{Argument, function, of_any};

function! {
    /// `sequin.row_key(key…)`: the bytes under which a row with this key is known. Null if a part is.
    row_key_wrapper, pg_finfo_row_key_wrapper = of_any(row_key)
}

fn row_key(arguments: &[Argument]) -> Option<Vec<u8>> {
    let values: Option<Vec<_>> = arguments.iter().map(|argument| argument.value).collect();
    let columns: Vec<_> = arguments
        .iter()
        .map(|argument| KeyColumn::new(argument.type_oid, argument.collation))
        .collect();
    let mut bytes = Vec::new();
    key::encode(&columns, &values?, &mut bytes);
    Some(bytes)
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::pg_sys::{self, Datum};
    use pgrx::prelude::*;

    /// Calls a function without an expression, as the fast path of the protocol does, and a foreign key
    /// with the function of a cast.
    fn call(function: &str, argument: Datum) -> Datum {
        let oid = Spi::get_one_with_args::<pg_sys::Oid>(
            "select $1::regprocedure::oid",
            &[function.into()],
        );
        let oid = oid.unwrap().unwrap();
        // SAFETY: a function with one argument, called with one of its type.
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

    #[pg_test(error = "sequin.batch() can be called only by sequin_apply")]
    fn batch_without_an_expression_is_an_error() {
        let oid = Spi::get_one::<pg_sys::Oid>("select 'sequin.batch()'::regprocedure::oid");
        // SAFETY: a function without arguments.
        unsafe { pg_sys::OidFunctionCall0Coll(oid.unwrap().unwrap(), pg_sys::InvalidOid) };
    }
}
