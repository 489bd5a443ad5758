//! What SQL calls.

use crate::apply::{Counts, apply};
use crate::envelope;
use crate::error::Error;
use crate::error::SqlError;
use crate::json::Jsonb;
use crate::pg::memory::Arena;

/// `sequin_apply(text)`: applies a batch given as text, as the sink sent it.
pub fn apply_text(batch: &str) -> Result<Counts, SqlError> {
    let memory = Arena::take();
    let mut batch = envelope::read_text(batch, &memory).map_err(|fault| {
        SqlError::from(Error::BadJson {
            byte: fault.byte,
            expected: fault.expected.to_owned(),
            found: fault.found,
        })
    })?;
    apply(&mut batch, &memory)
}

/// `sequin_apply(jsonb)`: applies a batch given as `jsonb`, read where it is.
pub fn apply_jsonb(batch: &[u8]) -> Result<Counts, SqlError> {
    let memory = Arena::take();
    let mut batch = envelope::read_jsonb(Jsonb::new(batch), &memory);
    apply(&mut batch, &memory)
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
