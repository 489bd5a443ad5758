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
use crate::pg::interrupts;
use crate::pg::memory::{self, Arena};
use crate::pg::raise::raise;
use crate::settings;

function! {
    /// `sequin_apply(text)`: applies a batch given as text, as the sink sent it.
    sequin_apply_text_wrapper, pg_finfo_sequin_apply_text_wrapper = counts(apply_text)
}

fn apply_text(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    admit(arguments.size(0))?;
    let batch = unicode(arguments.bytes(0).ok_or(Error::NullBatch)?)?;
    let memory = Arena::take();
    let mut batch = envelope::read_text(batch, &memory, watch).map_err(Error::from)?;
    Ok(result(apply(&mut batch, &memory)?))
}

function! {
    /// `sequin_apply(jsonb)`: applies a batch given as `jsonb`, read where it is.
    sequin_apply_jsonb_wrapper, pg_finfo_sequin_apply_jsonb_wrapper = counts(apply_jsonb)
}

fn apply_jsonb(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    admit(arguments.size(0))?;
    let batch = Jsonb::new(arguments.bytes(0).ok_or(Error::NullBatch)?);
    if !batch.is_utf8() {
        return Err(Error::NotUnicode { byte: None }.into());
    }
    let memory = Arena::take();
    let mut batch = envelope::read_jsonb(batch, &memory, watch);
    Ok(result(apply(&mut batch, &memory)?))
}

/// Batches up to this size are applied without a look at how much memory there is.
const SMALL: usize = 4 << 20;

/// Refuses a batch that is too large, or too large for the memory that there is.
fn admit(bytes: usize) -> Result<(), Error> {
    let most = settings::max_batch_bytes();
    if bytes > most {
        return Err(Error::BatchTooLarge { bytes, most });
    }
    // It is there twice already.
    if bytes > SMALL && !memory::is_there(2 * bytes) {
        return Err(Error::OutOfMemory);
    }
    Ok(())
}

/// The text that the bytes are. Measured on batches of 1 MB: 40 µs, of 1.4 ms that it takes to read them.
fn unicode(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| Error::NotUnicode {
        byte: Some(error.valid_up_to()),
    })
}

/// While a batch is read: ends the call if it has too many messages, or is cancelled.
fn watch(items: usize) {
    let most = settings::max_batch_messages();
    if items > most {
        raise(Error::TooManyMessages { most });
    }
    interrupts::check();
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
