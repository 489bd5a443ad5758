//! Limits on time and memory while a batch is read.

#![forbid(unsafe_code)]

/// Sees how many items there are, time and again while a batch is read; it ends the reading by unwinding.
pub type Watch = fn(items: usize);

/// How often, among the members of records, the watch looks too.
pub(super) const WATCHED_FIELDS: usize = 4096;

/// How many times its size a batch may take to read bodies in bodies, each a copy of what is in it.
pub(super) const BODIES: usize = 3;

/// Bytes that a batch may take in addition, for small batches.
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
