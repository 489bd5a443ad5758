//! The words at the head of a container of `jsonb`.

#![forbid(unsafe_code)]

use crate::json::jsonb::{COUNT, ENTRY_HAS_OFFSET, ENTRY_TYPE};
use crate::json::numeric::Unfit;

/// The most bytes of text, and of a datum: an entry of `jsonb` has 28 bits for a length.
const MAX_SIZE: usize = COUNT as usize;

/// Values whose text is no longer than this are written from notes.
pub(super) const SMALL: usize = 1 << 20;

/// One child in this many has its end offset in place of its length: `JB_OFFSET_STRIDE`.
const STRIDE: u32 = 32;

/// The words at the head of a container that describe its children.
#[derive(Debug)]
pub(super) struct Entries {
    /// Where in `out` the words are.
    start: usize,
    /// Where the children's bytes begin.
    data: usize,
    written: u32,
}

impl Entries {
    /// Describes the next child, whose bytes, padding included, go from `start` to the end of `out`.
    #[inline]
    pub(super) fn write(&mut self, form: u32, start: usize, out: &mut [u8]) {
        let entry = if self.written.is_multiple_of(STRIDE) {
            form | ENTRY_HAS_OFFSET | (out.len() - self.data) as u32
        } else {
            form | (out.len() - start) as u32
        };
        debug_assert_eq!(entry & ENTRY_TYPE, form);
        let at = self.start + 4 * self.written as usize;
        out[at..at + 4].copy_from_slice(&entry.to_ne_bytes());
        self.written += 1;
    }
}

/// Whether an entry can hold the length. The server's function raises the error.
#[inline]
pub(super) fn fits(length: usize) -> Result<(), Unfit> {
    if length > MAX_SIZE {
        return Err(Unfit);
    }
    Ok(())
}

/// Writes the header of a container of `count` children or pairs, and makes room for its entries.
#[inline]
pub(super) fn begin(header: u32, count: u32, entries: u32, out: &mut Vec<u8>) -> Entries {
    debug_assert!(count <= COUNT);
    out.extend_from_slice(&(header | count).to_ne_bytes());
    let start = out.len();
    let data = start + 4 * entries as usize;
    out.resize(data, 0);
    Entries {
        start,
        data,
        written: 0,
    }
}

/// Pads to a multiple of four, where numbers and containers begin: `padBufferToInt`.
#[inline]
pub(super) fn pad(out: &mut Vec<u8>) {
    let missing = out.len().wrapping_neg() % 4;
    out.extend_from_slice(&[0; 3][..missing]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_28_bits_for_a_length() {
        assert!(fits((1 << 28) - 1).is_ok());
        assert!(fits(1 << 28).is_err());
    }
}
