//! What other transactions have done since a moment, as far as no snapshot shows it: rows that are written and not
//! committed yet, too.
//!
//! Two calls can write one row without a lock that both take: one deletes a row that is not there and leaves a
//! tombstone, the other inserts that row. Each writes first, and looks for the other's row then. So at least one of
//! them finds the other, and begins again.

use std::ptr;

use pgrx::pg_sys::{self, Datum, Oid, TransactionId};

use super::interrupts;
use super::memory::RowContext;
use super::trap::trap;
use crate::error::SqlError;

unsafe extern "C-unwind" {
    #[link_name = "XactLockTableWait"]
    fn raw_wait(
        transaction: TransactionId,
        relation: pg_sys::Relation,
        row: pg_sys::ItemPointer,
        what: pg_sys::XLTW_Oper::Type,
    );
}

/// The transactions whose effects were visible at a moment.
#[derive(Debug)]
pub struct Moment {
    /// Older ones had ended.
    oldest: TransactionId,
    /// This one and newer ones had not ended.
    next: TransactionId,
    /// The older transactions of others that had not ended.
    running: Vec<TransactionId>,
    /// Whether the list is incomplete: there were too many subtransactions.
    more: bool,
}

/// With more transactions than this since a moment, one of them counts as another's.
const MANY: usize = 10_000;

impl Moment {
    /// The present moment.
    pub fn now() -> Moment {
        // SAFETY: the transaction is not parallel. The snapshot is static, and valid until the next one is taken.
        unsafe {
            let snapshot = &*pg_sys::GetLatestSnapshot();
            let list = |start: *mut TransactionId, count: usize| match count {
                0 => &[],
                _ => std::slice::from_raw_parts(start, count),
            };
            let top = list(snapshot.xip, snapshot.xcnt as usize);
            let sub = list(snapshot.subxip, snapshot.subxcnt.max(0) as usize);
            Moment {
                oldest: snapshot.xmin,
                next: snapshot.xmax,
                running: [top, sub].concat(),
                more: snapshot.suboverflowed,
            }
        }
    }

    /// Whether a transaction of another session may have written since then, or was about to.
    pub fn is_past(&self) -> bool {
        if self.more || !self.running.is_empty() {
            return true;
        }
        // SAFETY: reads shared memory. The lower half is the number without the epoch.
        let end = unsafe { pg_sys::ReadNextFullTransactionId() }.value as u32;
        let mut next = self.next;
        for _ in 0..MANY {
            if next.into_inner() == end {
                return false;
            }
            if !is_own(next) {
                return true;
            }
            next = next.into_inner().wrapping_add(1).max(FIRST_NORMAL).into();
        }
        true
    }

    /// Whether the transaction's effects were certainly visible.
    fn shows(&self, transaction: TransactionId) -> bool {
        if transaction.into_inner() < FIRST_NORMAL {
            return true;
        }
        let precedes = |other| {
            // SAFETY: compares two numbers.
            unsafe { pg_sys::TransactionIdPrecedes(transaction, other) }
        };
        precedes(self.next)
            && !self.running.contains(&transaction)
            && (!self.more || precedes(self.oldest))
    }
}

/// The first number of an ordinary transaction: `FirstNormalTransactionId`.
const FIRST_NORMAL: u32 = 3;

/// Whether it is the current transaction, or one of its subtransactions that is not rolled back.
fn is_own(transaction: TransactionId) -> bool {
    // SAFETY: reads backend variables.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(transaction) }
}

/// A row that another transaction has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It is committed.
    Committed,
    /// It is not.
    Open(TransactionId),
}

/// Waits until another session's transaction ends. Call it in a subtransaction.
pub fn wait_for(transaction: TransactionId) -> Result<(), SqlError> {
    // SAFETY: only the C function runs inside. No row is named, for which it would add a line of context.
    unsafe {
        trap(|| {
            let what = pg_sys::XLTW_Oper::XLTW_None;
            raw_wait(transaction, ptr::null_mut(), ptr::null_mut(), what)
        })
    }
}

/// The first row with one of these keys (in the order of the index) that another transaction has written, committed or
/// not. With a moment, only what was not visible then counts. The index is a unique B-tree, without expressions, of the
/// whole table.
pub fn find_stranger(
    (table, index): (Oid, Oid),
    keys: impl Iterator<Item = Vec<Datum>>,
    since: Option<&Moment>,
) -> Option<Stranger> {
    let mut keys = keys.peekable();
    let first = keys.peek()?.clone();
    // SAFETY: opening raises an error if a relation is gone. All is closed again, or released when an error ends the
    // transaction. The scan keys compare by the operator class of the index, with values of its columns' types.
    unsafe {
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
        let mut snapshot: pg_sys::SnapshotData = std::mem::zeroed();
        snapshot.snapshot_type = pg_sys::SnapshotType::SNAPSHOT_DIRTY;
        let slot = pg_sys::table_slot_create(table, ptr::null_mut());
        let count = first.len() as i32;
        let mut scan_keys = make_scan_keys(index, first.len());
        let scan = begin_scan(table, index, &mut snapshot, count);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        let mut found = None;
        // Only for the keys: what the scan keeps must last longer.
        let memory = RowContext::enter();
        for key in keys {
            interrupts::check();
            for (scan_key, value) in scan_keys.iter_mut().zip(&key) {
                scan_key.sk_argument = *value;
            }
            memory.outside(|| {
                pg_sys::index_rescan(scan, scan_keys.as_mut_ptr(), count, ptr::null_mut(), 0);
                while found.is_none() && pg_sys::index_getnext_slot(scan, forward, slot) {
                    found = stranger(&snapshot, slot, since);
                }
            });
            if found.is_some() {
                break;
            }
            memory.next_row();
        }
        drop(memory);
        pg_sys::index_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_close(index, pg_sys::NoLock as i32);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        found
    }
}

/// # Safety
/// The relations are open, and the snapshot lives as long as the scan.
unsafe fn begin_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: &mut pg_sys::SnapshotData,
    keys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: the caller upholds the contract.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        let scan = pg_sys::index_beginscan(table, index, snapshot, keys, 0);
        #[cfg(feature = "pg18")]
        let scan = pg_sys::index_beginscan(table, index, snapshot, ptr::null_mut(), keys, 0);
        scan
    }
}

/// Scan keys for equality with the first columns of the index, without values yet.
///
/// # Safety
/// The index is open, and has so many columns.
unsafe fn make_scan_keys(index: pg_sys::Relation, count: usize) -> Vec<pg_sys::ScanKeyData> {
    let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
    let of_column = |i: usize| {
        // SAFETY: the arrays have an element for each column of the index. The function exists: every operator class of a
        // B-tree has an equality of its own type.
        unsafe {
            let mut scan_key: pg_sys::ScanKeyData = std::mem::zeroed();
            let family = *(*index).rd_opfamily.add(i);
            let kind = *(*index).rd_opcintype.add(i);
            let operator = pg_sys::get_opfamily_member(family, kind, kind, equal as i16);
            pg_sys::ScanKeyEntryInitialize(
                &mut scan_key,
                0,
                i as i16 + 1,
                equal,
                kind,
                *(*index).rd_indcollation.add(i),
                pg_sys::get_opcode(operator),
                Datum::null(),
            );
            scan_key
        }
    };
    (0..count).map(of_column).collect()
}

/// # Safety
/// The scan has put the row into the slot, and what it knows of its transactions into the snapshot.
unsafe fn stranger(
    snapshot: &pg_sys::SnapshotData,
    slot: *mut pg_sys::TupleTableSlot,
    since: Option<&Moment>,
) -> Option<Stranger> {
    if snapshot.xmin != pg_sys::InvalidTransactionId {
        return Some(Stranger::Open(snapshot.xmin));
    }
    // SAFETY: the slot is of the table's kind, which knows the row's transaction.
    let written_by = unsafe {
        let mut null = false;
        let attribute = pg_sys::MinTransactionIdAttributeNumber;
        let of_kind = (*(*slot).tts_ops).getsysattr;
        of_kind.map(|read| read(slot, attribute, &mut null))
    };
    let known = written_by.is_some_and(|written_by| {
        let written_by = TransactionId::from(written_by.value() as u32);
        is_own(written_by) || since.is_some_and(|moment| moment.shows(written_by))
    });
    (!known).then_some(Stranger::Committed)
}
