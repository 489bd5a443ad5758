//! `sequin.row_key`: the bytes of a row's key, in the form that row versions, dead letters and resyncs store.

use crate::key::{self, KeyColumn};
use crate::pg::function::{Argument, function, of_any};

function! {
    /// `sequin.row_key(key…)`: the bytes that stand for this key; null if a value of the key is null.
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
