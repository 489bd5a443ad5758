//! The functions that SQL calls, one file for each family. This file has `sequin_apply`.

mod check;
mod dead_letter;
mod discard;
mod explain;
mod fingerprint;
mod finishing;
mod prune;
mod resync;
mod resync_portion;
mod resync_shards;
mod resync_shared;
mod retry_all;
mod row_key;
mod run;
mod sequences;
mod versions;
mod versions_shards;

use bumpalo::Bump;

use crate::apply::apply;
use crate::envelope::{self, Batch};
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
    let memory = Arena::of(batch.len());
    let batch = envelope::read_text(batch, &memory, watch).map_err(Error::from)?;
    apply_read(batch, &memory)
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
    let memory = Arena::of(arguments.size(0));
    apply_read(envelope::read_jsonb(batch, &memory, watch), &memory)
}

function! {
    /// `sequin_apply(text[])`: applies payloads as a broker gives them.
    sequin_apply_payloads_wrapper, pg_finfo_sequin_apply_payloads_wrapper = counts(apply_payloads)
}

fn apply_payloads(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    admit(arguments.size(0))?;
    let payloads = arguments.elements(0).ok_or(Error::NullBatch)?;
    let payloads = payloads
        .into_iter()
        .map(|payload| payload.map(unicode).transpose())
        .collect::<Result<Vec<_>, _>>()?;
    let memory = Arena::take();
    let batch = envelope::read_payloads(&payloads, &memory, watch);
    apply_read(batch, &memory)
}

/// Batches up to `SMALL` bytes are read, and calls up to `SMALL_CALL` bytes are applied, without asking the
/// system first whether it has the memory.
const SMALL: usize = 256 << 10;
const SMALL_CALL: usize = 4 << 20;

/// The most memory, in bytes: of a message beside its text, of a member of a record beside its text, and of a
/// call beside its messages.
const PER_MESSAGE: usize = 1024;
const PER_MEMBER: usize = 256;
const PER_CALL: usize = 16 << 20;

/// Refuses a batch that exceeds the limit of the setting, or the memory that the system has.
fn admit(bytes: usize) -> Result<(), Error> {
    let most = settings::max_batch_bytes();
    if bytes > most {
        return Err(Error::BatchTooLarge { bytes, most });
    }
    // The batch is in memory twice already: in the protocol's buffer and as a datum. Applying it can take as
    // much again.
    if bytes > SMALL && !memory::is_there(2 * bytes + PER_CALL) {
        return Err(Error::OutOfMemory);
    }
    Ok(())
}

/// Applies a batch that was read, if the system has memory for its messages.
fn apply_read<'a>(mut batch: Batch<'a>, memory: &'a Bump) -> Result<[i64; 8], SqlError> {
    let bytes = batch.items.len() * PER_MESSAGE + batch.members() * PER_MEMBER;
    if bytes > SMALL_CALL && !memory::is_there(bytes + PER_CALL) {
        return Err(Error::OutOfMemory.into());
    }
    Ok(result(apply(&mut batch, memory)?))
}

/// Checks that the bytes are UTF-8. Measured on a batch of 1 MB, the check takes 40 µs, and reading the whole
/// batch takes 1.4 ms.
fn unicode(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| Error::NotUnicode {
        byte: Some(error.valid_up_to()),
    })
}

/// Called while a batch is read: ends the call if the batch has too many messages or the call is cancelled.
fn watch(items: usize) {
    let most = settings::max_batch_messages();
    if items > most {
        raise(Error::TooManyMessages { most });
    }
    interrupts::check();
}

/// The result row: the number of messages received, and the number of messages with each outcome.
fn result(counts: Counts) -> [i64; 8] {
    let mut row = [counts.received; 8];
    row[1..].copy_from_slice(&counts.outcomes);
    row
}

/// An error that SPI returns. SPI raises SQL errors: a returned error means that the extension misused SPI.
fn own_statement(what: impl Into<String>) -> impl FnOnce(pgrx::spi::Error) -> Error {
    let what = what.into();
    move |why| Error::OwnStatement {
        what,
        why: why.to_string(),
    }
}

/// `sequin.build_profile()`: `release`, or `debug` for a build with debug assertions, which is slow.
#[pgrx::pg_extern(sql = false, immutable)]
fn build_profile() -> &'static str {
    if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    }
}
