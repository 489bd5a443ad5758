//! What SQL calls, a file a family. This file has `sequin_apply`.

mod dead_letter;
mod explain;
mod fingerprint;
mod resync;
mod row_key;

use crate::apply::apply;
use crate::envelope;
use crate::error::{Error, SqlError};
use crate::json::Jsonb;
use crate::outcome::Counts;
use crate::pg::function::{Arguments, counts, function};
use crate::pg::memory::Arena;

function! {
    /// `sequin_apply(text)`: applies a batch given as text, as the sink sent it.
    sequin_apply_text_wrapper, pg_finfo_sequin_apply_text_wrapper = counts(apply_text)
}

fn apply_text(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    let batch = arguments.text(0).ok_or(Error::NullBatch)?;
    let memory = Arena::take();
    let mut batch = envelope::read_text(batch, &memory).map_err(Error::from)?;
    Ok(result(apply(&mut batch, &memory)?))
}

function! {
    /// `sequin_apply(jsonb)`: applies a batch given as `jsonb`, read where it is.
    sequin_apply_jsonb_wrapper, pg_finfo_sequin_apply_jsonb_wrapper = counts(apply_jsonb)
}

fn apply_jsonb(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    let batch = arguments.jsonb(0).ok_or(Error::NullBatch)?;
    let memory = Arena::take();
    let mut batch = envelope::read_jsonb(Jsonb::new(batch), &memory);
    Ok(result(apply(&mut batch, &memory)?))
}

/// The result row: how many messages came, and how many had each outcome.
fn result(counts: Counts) -> [i64; 8] {
    let mut row = [counts.received; 8];
    row[1..].copy_from_slice(&counts.outcomes);
    row
}

/// An error that SPI returns. It raises SQL errors, so this one means that the extension misused SPI.
fn own_statement(what: impl Into<String>) -> impl FnOnce(pgrx::spi::Error) -> Error {
    let what = what.into();
    move |why| Error::OwnStatement {
        what,
        why: why.to_string(),
    }
}

/// `sequin.build_profile()`: `release`, or `debug` if this build is slow on purpose.
#[pgrx::pg_extern(sql = false, immutable)]
fn build_profile() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}
