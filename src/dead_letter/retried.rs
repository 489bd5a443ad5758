//! Reads the letters that a call retries into the call's batch.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::ops::Range;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::envelope::{self, Batch};
use crate::error::SqlError;
use crate::pg::interrupts;
use crate::prepared::{Kept, RowReader};

/// A dead letter that the call retries.
#[derive(Debug)]
pub struct Retried {
    /// The letter's number.
    pub id: i64,
    /// The mapping that could not write the message; `None` if no mapping took it.
    pub mapping: Option<String>,
    /// The message's position in the batch that it came with.
    pub position: usize,
    /// The items that the letter adds to the call's batch.
    pub items: Range<usize>,
}

const READ: &str = "
    select l.id, l.mapping, l.message, l.position from sequin.dead_letter l
    where l.id in (select b.id from sequin_internal.batch() b(id bigint))
    order by l.id for update of l skip locked";

thread_local! {
    static READER: Kept = const { Kept::new(READ, &[("id", pg_sys::INT8OID)]) };
}

/// Reads the letters with these numbers into the batch. Letters that are gone, or that another session has
/// locked at this moment, are left out.
pub fn read<'a>(
    ids: &BTreeSet<i64>,
    batch: &mut Batch<'a>,
    memory: &'a Bump,
) -> Result<Vec<Retried>, SqlError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let returned =
        READER.with(|statement| statement.query(ids.iter(), |id| vec![Some(Datum::from(*id))]))?;
    let mut letters = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        let position = row.bigint(3).unwrap_or_default() as usize;
        let text = memory.alloc_str(&row.text(2).unwrap_or_default());
        letters.push(Retried {
            id: row.bigint(0).unwrap_or_default(),
            mapping: row.text(1),
            position,
            items: batch.add(
                envelope::read_letter(text, memory, |_| interrupts::check()),
                position,
                memory,
            ),
        });
    }
    Ok(letters)
}
