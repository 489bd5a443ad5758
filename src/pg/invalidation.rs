//! Notices that a relation changed, and locks relations and mappings.

use std::cell::{Cell, RefCell};

use std::time::Duration;

use pgrx::{pg_guard, pg_sys};

use super::settings::{Settings, is_own_lock_timeout};
use super::subtransaction::subtransaction;
use super::trap::trap;
use crate::error::SqlError;

unsafe extern "C-unwind" {
    #[link_name = "LockRelationOid"]
    fn raw_lock_relation(relation: pg_sys::Oid, mode: pg_sys::LOCKMODE);
}

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CHANGED: RefCell<Changed> = const { RefCell::new(Changed::nothing()) };
    static PICKED: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
    static EDITION: Cell<u64> = const { Cell::new(0) };
}

/// Relations whose definition changed since the last look.
pub struct Changed {
    /// Any relation may have changed, the picked ones included.
    all: bool,
    /// Every relation may have changed, except the picked ones ([`pick`]).
    many: bool,
    /// These relations changed.
    oids: Vec<pg_sys::Oid>,
}

impl Changed {
    const fn nothing() -> Changed {
        Changed {
            all: false,
            many: false,
            oids: Vec::new(),
        }
    }

    /// Whether relation `oid` may have changed.
    pub fn contains(&self, oid: pg_sys::Oid) -> bool {
        self.all || self.oids.contains(&oid) || self.many && !is_picked(oid)
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.all && !self.many && self.oids.is_empty()
    }

    fn note_many(&mut self) {
        self.many = true;
        self.oids.retain(|oid| is_picked(*oid));
    }
}

/// The most changed relations that are recorded one by one between two looks. Beyond this number, only picked
/// relations ([`pick`]) are.
const MANY: usize = 256;

/// Picks a relation whose changes are always recorded separately. A call starts over when the mappings
/// changed. A destination's trigger that changes many relations, or creates a schema, must not cause such a
/// restart.
pub fn pick(oid: pg_sys::Oid) {
    PICKED.with_borrow_mut(|picked| {
        if !picked.contains(&oid) {
            picked.push(oid);
        }
    });
}

fn is_picked(oid: pg_sys::Oid) -> bool {
    PICKED.with_borrow(|picked| picked.contains(&oid))
}

/// Registers the callback once in a backend.
pub fn watch() {
    if !REGISTERED.replace(true) {
        // SAFETY: the callback is a static function; the registration lasts as long as the backend.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
                Some(schema_changed),
                pg_sys::Datum::from(0),
            );
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::AUTHOID as i32,
                Some(role_changed),
                pg_sys::Datum::from(0),
            );
        }
    }
}

/// Accepts the invalidations of other sessions' commits, and returns the changes since the last call.
pub fn changed() -> Changed {
    // SAFETY: needs a transaction, and every apply runs in one.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    CHANGED.replace(Changed::nothing())
}

/// Whether `oid` has changed since [`changed`] was called last.
pub fn has_changed(oid: pg_sys::Oid) -> bool {
    // SAFETY: as in `changed`.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    CHANGED.with_borrow(|changed| changed.contains(oid))
}

/// The number of the definitions that this session sees now: another one once any relation but the picked ones, or a role,
/// has changed.
pub fn edition() -> u64 {
    // SAFETY: as in `changed`.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    EDITION.get()
}

/// The same, without accepting the invalidations of other sessions: for code that runs in the midst of the server's.
pub fn seen() -> u64 {
    EDITION.get()
}

/// Takes the lock of a write (`ROW EXCLUSIVE`) on a relation, until the transaction ends.
pub fn lock(oid: pg_sys::Oid) {
    // SAFETY: safe for any OID, even if no relation has it.
    unsafe { pg_sys::LockRelationOid(oid, pg_sys::RowExclusiveLock as i32) }
}

/// Takes the `SHARE` lock on a relation, so that no other session can write to the relation until the
/// transaction ends. The lock waits for the open transactions of sessions that wrote to the relation. Returns
/// whether the lock was granted within `limit`.
pub fn lock_changes_out(oid: pg_sys::Oid, limit: Duration) -> Result<bool, SqlError> {
    lock_within(oid, pg_sys::ShareLock, limit)
}

/// Takes the lock of a write, as [`lock`] does. Returns whether the lock was granted within `limit`.
pub fn try_lock(oid: pg_sys::Oid, limit: Duration) -> Result<bool, SqlError> {
    lock_within(oid, pg_sys::RowExclusiveLock, limit)
}

/// Takes a lock on a relation until the transaction ends. After an error, the subtransaction must be rolled back.
pub fn lock_relation(oid: pg_sys::Oid, mode: u32) -> Result<(), SqlError> {
    // SAFETY: as in `lock`; only the C function runs inside.
    unsafe { trap(|| raw_lock_relation(oid, mode as i32)) }
}

fn lock_within(oid: pg_sys::Oid, mode: u32, limit: Duration) -> Result<bool, SqlError> {
    let locked = subtransaction(|| {
        let _limit = Settings::lock_timeout(limit);
        lock_relation(oid, mode)
    });
    match locked {
        Err(error) if is_own_lock_timeout(&error) => Ok(false),
        locked => locked.map(|()| true),
    }
}

/// Signals a changed relation to every session at commit, and to this session again on rollback.
pub fn announce(oid: pg_sys::Oid) {
    // SAFETY: the OID is an existing relation's.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(oid) }
}

/// Locks a mapping, shared or exclusive, until the (sub)transaction ends.
pub fn lock_mapping(mappings: pg_sys::Oid, id: i32, exclusive: bool) {
    let mode = if exclusive {
        pg_sys::ExclusiveLock
    } else {
        pg_sys::ShareLock
    };
    // SAFETY: two numbers name the lock; no object with these numbers need exist.
    unsafe { pg_sys::LockDatabaseObject(mappings, pg_sys::Oid::from(id as u32), 0, mode as i32) }
}

/// Takes the exclusive lock on a mapping as [`lock_mapping`] does, unless another session holds the lock or
/// waits for it. Returns whether the lock was granted.
pub fn try_lock_mapping(mappings: pg_sys::Oid, id: i32) -> bool {
    try_lock_part(mappings, id, 0)
}

/// Takes an exclusive lock on the notes about a mapping until the transaction ends, unless another session holds it.
/// Returns whether the lock was granted. No function of SQL takes this lock.
pub fn try_lock_notes(mappings: pg_sys::Oid, id: i32) -> bool {
    try_lock_part(mappings, id, 1)
}

/// Does the same with a lock on the home source of a mapping.
pub fn try_lock_home(mappings: pg_sys::Oid, id: i32) -> bool {
    try_lock_part(mappings, id, 2)
}

/// Takes an exclusive lock on a part of a mapping: the mapping itself is part 0.
fn try_lock_part(mappings: pg_sys::Oid, id: i32, part: u16) -> bool {
    let mode = pg_sys::ExclusiveLock as i32;
    // SAFETY: as in `lock_mapping`.
    unsafe {
        pg_sys::ConditionalLockDatabaseObject(mappings, pg_sys::Oid::from(id as u32), part, mode)
    }
}

/// Notes that a relation changed, for the next look.
pub fn note(oid: pg_sys::Oid) {
    CHANGED.with_borrow_mut(|c| {
        if oid == pg_sys::InvalidOid {
            c.all = true;
        } else if !c.contains(oid) {
            c.oids.push(oid);
            if c.oids.len() > MANY {
                c.note_many();
            }
        }
    });
}

// Runs at any time, also in the middle of an abort: it may only note the OID.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, oid: pg_sys::Oid) {
    note(oid);
    if !is_picked(oid) {
        EDITION.set(EDITION.get() + 1);
    }
}

// Statements contain the schema's name. No other invalidation signals that the schema was renamed.
#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    CHANGED.with_borrow_mut(Changed::note_many);
    EDITION.set(EDITION.get() + 1);
}

// Whether a role is a superuser decides who writes rows.
#[pg_guard]
unsafe extern "C-unwind" fn role_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    EDITION.set(EDITION.get() + 1);
}
