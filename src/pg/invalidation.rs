//! Learning that a relation changed.

use std::cell::{Cell, RefCell};

use pgrx::{pg_guard, pg_sys};

thread_local! {
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static CHANGED: RefCell<Changed> = const { RefCell::new(Changed { all: false, oids: Vec::new() }) };
}

/// Relations whose definition changed since the last look.
pub struct Changed {
    /// Everything may have changed.
    pub all: bool,
    /// These relations did.
    pub oids: Vec<pg_sys::Oid>,
}

impl Changed {
    /// Whether `oid` is among them.
    pub fn contains(&self, oid: pg_sys::Oid) -> bool {
        self.all || self.oids.contains(&oid)
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        !self.all && self.oids.is_empty()
    }
}

/// More distinct relations than this between two looks count as everything.
const MANY: usize = 256;

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
        }
    }
}

/// Takes in what other sessions have committed, and returns what changed since the last call.
pub fn changed() -> Changed {
    // SAFETY: needs a transaction, which an apply always is in.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    CHANGED.with_borrow_mut(|c| {
        std::mem::replace(
            c,
            Changed {
                all: false,
                oids: Vec::new(),
            },
        )
    })
}

/// Whether `oid` has changed since [`changed`] was called last.
pub fn has_changed(oid: pg_sys::Oid) -> bool {
    // SAFETY: as in `changed`.
    unsafe { pg_sys::AcceptInvalidationMessages() };
    CHANGED.with_borrow(|changed| changed.contains(oid))
}

/// Locks a relation as a write does, until the transaction ends.
pub fn lock(oid: pg_sys::Oid) {
    // SAFETY: locking an OID that is no relation's (any more) is allowed.
    unsafe { pg_sys::LockRelationOid(oid, pg_sys::RowExclusiveLock as i32) }
}

/// Tells every session, at commit, that a relation changed; and this one again if it rolls back.
pub fn announce(oid: pg_sys::Oid) {
    // SAFETY: the OID is an existing relation's.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(oid) }
}

/// Locks a mapping until the (sub)transaction ends: shared with others that do the same, or alone.
pub fn lock_mapping(mappings: pg_sys::Oid, id: i32, alone: bool) {
    let mode = if alone {
        pg_sys::ExclusiveLock
    } else {
        pg_sys::ShareLock
    };
    // SAFETY: the lock's name is two numbers; nothing needs to exist under it.
    unsafe { pg_sys::LockDatabaseObject(mappings, pg_sys::Oid::from(id as u32), 0, mode as i32) }
}

/// Has a mapping alone, as [`lock_mapping`] does, if nobody else has it or waits for it; returns whether.
pub fn try_lock_mapping(mappings: pg_sys::Oid, id: i32) -> bool {
    let mode = pg_sys::ExclusiveLock as i32;
    // SAFETY: as in `lock_mapping`.
    unsafe {
        pg_sys::ConditionalLockDatabaseObject(mappings, pg_sys::Oid::from(id as u32), 0, mode)
    }
}

/// Notes that a relation changed, for the next look.
pub fn note(oid: pg_sys::Oid) {
    CHANGED.with_borrow_mut(|c| {
        if oid == pg_sys::InvalidOid || c.oids.len() >= MANY {
            c.all = true;
            c.oids.clear();
        } else if !c.all && !c.oids.contains(&oid) {
            c.oids.push(oid);
        }
    });
}

// Runs at any time, also in the middle of an abort: it may only note the OID.
#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, oid: pg_sys::Oid) {
    note(oid);
}

// Statements spell the schema's name out; that it was renamed is told in no other way.
#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    note(pg_sys::InvalidOid);
}
