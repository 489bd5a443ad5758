//! Finds rows by their keys in a unique index, without a statement: a statement would plan and start an executor for
//! a few look-ups.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::ptr;

use pgrx::pg_sys::{self, Datum, Oid};

use super::interrupts;
use super::memory::RowContext;

/// Which rows a scan finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// The rows that are committed now, and those of the own transaction.
    Committed,
    /// Also rows that other transactions have written and not committed yet, or deleted and not committed yet.
    Dirty,
}

/// A row that a scan has found. It lasts until the scan goes on.
pub struct Found<'s> {
    slot: *mut pg_sys::TupleTableSlot,
    snapshot: &'s pg_sys::SnapshotData,
    columns: &'s [i16],
}

impl Found<'_> {
    /// The value of a column, by its place in the list of names; `None` is null, or no such column.
    pub fn value(&self, column: usize) -> Option<Datum> {
        let number = self.columns[column];
        if number == 0 {
            return None;
        }
        // SAFETY: the slot holds a row of the table, which has the column. A value by reference lasts as long as the row.
        unsafe {
            if (*self.slot).tts_nvalid < number {
                pg_sys::slot_getsomeattrs_int(self.slot, number.into());
            }
            let at = number as usize - 1;
            (!*(*self.slot).tts_isnull.add(at)).then(|| *(*self.slot).tts_values.add(at))
        }
    }

    /// The transaction, not committed yet, that has written the row; `InvalidTransactionId` if there is none.
    pub fn open_transaction(&self) -> pg_sys::TransactionId {
        self.snapshot.xmin
    }

    /// The transaction that has written the row, if its table says so.
    pub fn written_by(&self) -> Option<pg_sys::TransactionId> {
        // SAFETY: the slot is of the table's kind, which knows the row's transaction.
        unsafe {
            let mut null = false;
            let attribute = pg_sys::MinTransactionIdAttributeNumber;
            let of_kind = (*(*self.slot).tts_ops).getsysattr;
            let value = of_kind.map(|read| read(self.slot, attribute, &mut null))?;
            Some((value.value() as u32).into())
        }
    }
}

/// Calls `found` with the place of each key (in the order of the index) and the rows that have it, until it says to stop.
/// `columns` are the names of the columns that it asks for. The index is a unique B-tree, without expressions, of the
/// whole table.
pub fn scan(
    (table, index): (Oid, Oid),
    sees: Sees,
    columns: &[&str],
    keys: impl Iterator<Item = Vec<Datum>>,
    mut found: impl FnMut(usize, &Found<'_>) -> ControlFlow<()>,
) {
    let mut keys = keys.enumerate().peekable();
    let Some((_, first)) = keys.peek() else {
        return;
    };
    let width = first.len();
    // SAFETY: opening raises an error if a relation is gone. All is closed again, or released when an error ends the
    // transaction. The scan keys compare by the operator class of the index, with values of its columns' types.
    unsafe {
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
        let mut dirty = dirty();
        let snapshot: pg_sys::Snapshot = match sees {
            Sees::Dirty => &mut dirty,
            Sees::Committed => pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()),
        };
        let slot = pg_sys::table_slot_create(table, ptr::null_mut());
        let mut scan_keys = scan_keys(index, width);
        let scan = begin_scan(table, index, snapshot, width as i32);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        let mut flow = ControlFlow::Continue(());
        let mut known: Option<Vec<i16>> = None;
        // Only for the keys: what the scan keeps must last longer.
        let memory = RowContext::enter();
        for (n, key) in keys {
            interrupts::check();
            for (scan_key, value) in scan_keys.iter_mut().zip(&key) {
                scan_key.sk_argument = *value;
            }
            memory.outside(|| {
                let start = scan_keys.as_mut_ptr();
                pg_sys::index_rescan(scan, start, width as i32, ptr::null_mut(), 0);
                while flow.is_continue() && pg_sys::index_getnext_slot(scan, forward, slot) {
                    let columns = known.get_or_insert_with(|| numbers(table, columns));
                    let row = Found {
                        slot,
                        snapshot: &*snapshot,
                        columns,
                    };
                    flow = found(n, &row);
                }
            });
            if flow.is_break() {
                break;
            }
            memory.next_row();
        }
        drop(memory);
        pg_sys::index_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        if sees == Sees::Committed {
            pg_sys::UnregisterSnapshot(snapshot);
        }
        pg_sys::index_close(index, pg_sys::NoLock as i32);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
    }
}

/// The numbers of a table's columns; 0 for one that it does not have.
///
/// # Safety
/// The table is open.
unsafe fn numbers(table: pg_sys::Relation, names: &[&str]) -> Vec<i16> {
    // SAFETY: the descriptor is read while the table is open.
    let all = unsafe { pgrx::PgTupleDesc::from_pg_unchecked((*table).rd_att) };
    let number = |name: &&str| {
        let mut all = all.iter();
        let column = all.find(|column| {
            // SAFETY: names end in a null byte.
            let bytes = unsafe { CStr::from_ptr(column.attname.data.as_ptr()) };
            bytes.to_bytes() == name.as_bytes()
        });
        column.map_or(0, |column| column.attnum)
    };
    names.iter().map(number).collect()
}

/// # Safety
/// The relations are open, and the snapshot lives as long as the scan.
unsafe fn begin_scan(
    table: pg_sys::Relation,
    index: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
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
unsafe fn scan_keys(index: pg_sys::Relation, count: usize) -> Vec<pg_sys::ScanKeyData> {
    // SAFETY: the caller upholds the contract.
    let of_column = |i| unsafe { scan_key(index, i, pg_sys::BTEqualStrategyNumber, Datum::null()) };
    (0..count).map(of_column).collect()
}

/// A scan key that compares a column of the index (from 0) with a value by one of a B-tree's strategies.
///
/// # Safety
/// The index is open, and has the column.
unsafe fn scan_key(
    index: pg_sys::Relation,
    i: usize,
    strategy: u32,
    value: Datum,
) -> pg_sys::ScanKeyData {
    // SAFETY: the arrays have an element for each column of the index. The function exists: every operator class of a
    // B-tree compares values of its own type.
    unsafe {
        let mut scan_key: pg_sys::ScanKeyData = std::mem::zeroed();
        let family = *(*index).rd_opfamily.add(i);
        let kind = *(*index).rd_opcintype.add(i);
        let operator = pg_sys::get_opfamily_member(family, kind, kind, strategy as i16);
        pg_sys::ScanKeyEntryInitialize(
            &mut scan_key,
            0,
            i as i16 + 1,
            strategy as pg_sys::StrategyNumber,
            kind,
            *(*index).rd_indcollation.add(i),
            pg_sys::get_opcode(operator),
            value,
        );
        scan_key
    }
}

/// How many entries of an index [`is_empty`] looks at.
const FEW: usize = 100;

/// Whether there is no row, not even one that another transaction has written and not committed, whose key has these values
/// in its first columns and one from `first` to `last` in the next one. False also if there are many entries of rows that
/// are gone. The index is as for [`scan`].
pub fn is_empty((table, index): (Oid, Oid), equal: &[Datum], first: Datum, last: Datum) -> bool {
    // SAFETY: as in `scan`.
    unsafe {
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
        let mut snapshot = dirty();
        let equals = equal.iter().enumerate();
        let mut keys: Vec<pg_sys::ScanKeyData> = equals
            .map(|(i, value)| scan_key(index, i, pg_sys::BTEqualStrategyNumber, *value))
            .collect();
        for (strategy, value) in [
            (pg_sys::BTGreaterEqualStrategyNumber, first),
            (pg_sys::BTLessEqualStrategyNumber, last),
        ] {
            keys.push(scan_key(index, equal.len(), strategy, value));
        }
        let (start, count) = (keys.as_mut_ptr(), keys.len() as i32);
        let scan = begin_scan(table, index, &mut snapshot, count);
        let slot = pg_sys::table_slot_create(table, ptr::null_mut());
        pg_sys::index_rescan(scan, start, count, ptr::null_mut(), 0);
        let forward = pg_sys::ScanDirection::ForwardScanDirection;
        let mut gone = 0;
        let empty = loop {
            if pg_sys::index_getnext_tid(scan, forward).is_null() {
                break true;
            }
            gone += 1;
            if gone > FEW || pg_sys::index_fetch_heap(scan, slot) {
                break false;
            }
        };
        pg_sys::index_endscan(scan);
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        pg_sys::index_close(index, pg_sys::NoLock as i32);
        pg_sys::table_close(table, pg_sys::NoLock as i32);
        empty
    }
}

/// A snapshot that shows rows that are not committed, too.
fn dirty() -> pg_sys::SnapshotData {
    // SAFETY: no field is read but the kind, before the server has set it.
    let mut dirty: pg_sys::SnapshotData = unsafe { std::mem::zeroed() };
    dirty.snapshot_type = pg_sys::SnapshotType::SNAPSHOT_DIRTY;
    dirty
}
