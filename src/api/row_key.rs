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
