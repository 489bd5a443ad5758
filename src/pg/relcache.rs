//! Telling every session that a relation changed.

use pgrx::pg_sys;

/// Invalidates what all sessions keep about the relation, when this transaction commits. It reaches
/// the callback that `pg::invalidation` registers.
pub fn invalidate(relation: pg_sys::Oid) {
    // SAFETY: queues a message for a relation that the caller has open; raises an error if there is
    // none.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(relation) }
}
