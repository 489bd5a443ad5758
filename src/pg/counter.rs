//! Writes `sequin.counter`.
//!
//! The rows are written one by one, as the server writes its catalogs, instead of by SQL. Every call writes
//! counters, and an SQL statement would make a call of one message a fifth slower.

use std::ptr;

use pgrx::pg_sys::{self, Datum};

/// Number of columns of `sequin.counter`.
pub const WIDTH: usize = 17;

/// The primary key: mapping and slot.
const KEY: usize = 2;

/// A small number. No other backend has the same number while this backend lives.
fn backend() -> i32 {
    // SAFETY: reads a backend variable that is set once.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return pg_sys::MyBackendId;
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        return pg_sys::MyProcNumber;
    }
}

/// The distance between two slots of one backend. The server can have at most 2^18 - 1 backends.
const NEXT_SLOT: i32 = 1 << 18;

/// The slots of a backend: its own number, and then numbers that no other backend has. The column is an
/// `integer`, so each backend has 8,192 of them.
fn slots(backend: i32) -> impl Iterator<Item = i32> {
    std::iter::successors(Some(backend), |slot| slot.checked_add(NEXT_SLOT))
}

/// Locks a slot until the transaction ends, and returns the slot; `None` if all slots of the backend are
/// locked. The slot is normally the backend's own number. But an earlier backend with the same number may have
/// left a prepared transaction, which keeps that slot locked. The backend then takes the next slot.
fn lock_slot(counters: pg_sys::Oid) -> Option<i32> {
    slots(backend()).find(|slot| {
        // SAFETY: two numbers name the lock; no object with these numbers need exist.
        unsafe {
            pg_sys::ConditionalLockDatabaseObject(
                counters,
                pg_sys::Oid::from(*slot as u32),
                0,
                pg_sys::ExclusiveLock as i32,
            )
        }
    })
}

/// `sequin.counter`, open to be written by this backend.
pub struct Counters {
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
    slot: i32,
}

impl Counters {
    /// Opens the table; `None` if prepared transactions lock all slots of this backend.
    pub fn open() -> Option<Counters> {
        // SAFETY: catalog look-ups of two names; table_open raises an error if the table is missing.
        unsafe {
            let schema = pg_sys::get_namespace_oid(c"sequin".as_ptr(), false);
            let table = pg_sys::get_relname_relid(c"counter".as_ptr(), schema);
            let slot = lock_slot(table)?;
            Some(Counters {
                relation: pg_sys::table_open(table, pg_sys::RowExclusiveLock as i32),
                index: pg_sys::get_relname_relid(c"counter_pkey".as_ptr(), schema),
                slot,
            })
        }
    }

    /// Changes the row of a mapping and of this backend's slot. `change` receives the row's values and its
    /// null flags; in a new row all of them are zero. All columns have types that are passed by value.
    pub fn change(
        &mut self,
        mapping: i32,
        change: impl FnOnce(&mut [Datum; WIDTH], &mut [bool; WIDTH]),
    ) {
        let key = [Datum::from(mapping), Datum::from(self.slot)];
        let (mut values, mut nulls) = ([Datum::from(0); WIDTH], [false; WIDTH]);
        // SAFETY: the table has WIDTH columns, all of them passed by value, the key first; the scan's
        // tuple is used before the scan ends. As in the server's own catalog updates.
        unsafe {
            let desc = (*self.relation).rd_att;
            assert!((*desc).natts as usize == WIDTH);
            let mut keys: [pg_sys::ScanKeyData; KEY] = std::mem::zeroed();
            for (i, value) in key.iter().enumerate() {
                pg_sys::ScanKeyInit(
                    &mut keys[i],
                    i as pg_sys::AttrNumber + 1,
                    pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
                    pg_sys::Oid::from(pg_sys::F_INT4EQ),
                    *value,
                );
            }
            let scan = pg_sys::systable_beginscan(
                self.relation,
                self.index,
                true,
                ptr::null_mut(),
                KEY as i32,
                keys.as_mut_ptr(),
            );
            let found = pg_sys::systable_getnext(scan);
            if !found.is_null() {
                pg_sys::heap_deform_tuple(found, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            }
            change(&mut values, &mut nulls);
            values[..KEY].copy_from_slice(&key);
            let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            if found.is_null() {
                pg_sys::CatalogTupleInsert(self.relation, tuple);
            } else {
                pg_sys::CatalogTupleUpdate(self.relation, &mut (*found).t_self, tuple);
            }
            pg_sys::systable_endscan(scan);
        }
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `open`. The lock is kept until the transaction ends, as after every write.
            // The next command sees the written rows.
            unsafe {
                pg_sys::table_close(self.relation, pg_sys::NoLock as i32);
                pg_sys::CommandCounterIncrement();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_share_no_slot() {
        let last = NEXT_SLOT - 1;
        for backend in [0, 1, last] {
            let slots: Vec<i32> = slots(backend).collect();
            assert_eq!(slots.len(), 8192);
            assert!(
                slots
                    .iter()
                    .all(|slot| *slot >= 0 && slot % NEXT_SLOT == backend)
            );
        }
        assert_eq!(slots(last).last(), Some(i32::MAX));
    }
}
