//! Limits on time and memory while a batch is read.

#![forbid(unsafe_code)]

/// Called again and again while a batch is read, with the number of items so far. It can end the reading by
/// unwinding.
pub type Watch = fn(items: usize);

/// The watch is also called each time this many members of records have been read.
pub(super) const WATCHED_FIELDS: usize = 4096;

/// The most bytes of bodies that are read, as a multiple of the size of the batch. Bodies can be nested, and
/// each level is a copy of the levels inside it.
pub(super) const BODIES: usize = 3;

/// Bytes of bodies that are read in addition, so that small batches have enough.
pub(super) const SMALL_BODIES: usize = 1 << 20;

/// Adds to a list that may get large. If the system is out of memory, this ends the reading as the arena
/// does.
#[inline]
pub(super) fn push<T>(list: &mut Vec<T>, element: T) {
    if list.len() == list.capacity() && list.try_reserve(1).is_err() {
        panic!("out of memory");
    }
    list.push(element);
}

/// The most envelopes that can be around a message.
pub(super) const MAX_ENVELOPES: u32 = 16;
