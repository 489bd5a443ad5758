//! Inserts rows that a table of the extension does not have, without a statement: `insert … on conflict` looks for each
//! row, announces it in the WAL, confirms it there, and starts an executor for all of them.

use std::ops::ControlFlow;
use std::ptr;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum, Oid};

use super::interrupts;
use super::invalidation::lock_relation;
use super::memory::RowContext;
use super::steps::{self, Step};
use super::trap::trap;
use super::unique_scan::{Sees, is_empty, scan};
use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::sqlstate::{SERIALIZATION_FAILURE, UNIQUE_VIOLATION};

unsafe extern "C-unwind" {
    #[link_name = "heap_multi_insert"]
    fn raw_multi_insert(
        relation: pg_sys::Relation,
        slots: *mut *mut pg_sys::TupleTableSlot,
        count: i32,
        command: pg_sys::CommandId,
        options: i32,
        state: *mut pg_sys::BulkInsertStateData,
    );
    #[link_name = "index_insert"]
    fn raw_index_insert(
        index: pg_sys::Relation,
        values: *mut Datum,
        nulls: *mut bool,
        row: pg_sys::ItemPointer,
        relation: pg_sys::Relation,
        unique: pg_sys::IndexUniqueCheck::Type,
        unchanged: bool,
        info: *mut pg_sys::IndexInfo,
    ) -> bool;
    #[link_name = "ExecStoreVirtualTuple"]
    fn raw_store(slot: *mut pg_sys::TupleTableSlot) -> *mut pg_sys::TupleTableSlot;
}

/// A table of the extension: an ordinary one. Its primary key is on its first columns.
pub struct Table {
    /// The table and the index of its primary key.
    pub relations: (Oid, Oid),
    /// A partial index that has no entry of the inserted rows, if there is one. There is no other.
    pub partial: Option<Oid>,
    /// All columns in their order, with their types.
    pub columns: &'static [(&'static str, Oid)],
}

/// A row: the values of its key, and those of the other columns.
type Row = (Vec<Datum>, Vec<Option<Datum>>);

/// How many rows are inserted at a time.
const PORTION: usize = 500;

/// Inserts one row for each item, if the table has none of these rows: not even one that another transaction has written
/// and not committed. `key` gives the last column of the primary key, a `bytea`; the columns before have the values
/// `before` in all rows. `rest` makes the values of the other columns. Returns whether the rows are inserted. If not,
/// nothing has happened, and a statement must do it: also if the keys are not in ascending order.
///
/// `Err`: another transaction has inserted such a row meanwhile (40001), and whatever a statement could meet.
pub fn insert_absent<T>(
    table: &Table,
    before: &[Datum],
    items: &[T],
    key: impl Fn(&T) -> &[u8],
    rest: impl Fn(&T) -> Vec<Option<Datum>>,
) -> Result<bool, SqlError> {
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return Ok(true);
    };
    if !items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])) {
        return Ok(false);
    }
    let relations = table.relations;
    // The locks that a statement takes. The look takes weaker ones, and a lock that must become a stronger one can deadlock.
    for relation in [relations.0, relations.1] {
        lock_relation(relation, pg_sys::RowExclusiveLock)?;
    }
    let datum = |item: &T| key(item).into_datum().unwrap_or(Datum::null());
    let of = |item: &T| [before, &[datum(item)]].concat();
    // Keys of new rows often follow all others.
    let mut absent = is_empty(relations, before, datum(first), datum(last));
    if !absent && items.len() > 1 {
        absent = true;
        scan(
            relations,
            Sees::Dirty,
            &[],
            items.iter().map(&of),
            |_, _| {
                absent = false;
                ControlFlow::Break(())
            },
        );
    }
    if !absent {
        return Ok(false);
    }
    steps::before(Step::Insert);
    let none = pg_sys::NoLock as i32;
    // SAFETY: the relations are locked. Opening raises an error if one is gone.
    unsafe {
        let relation = pg_sys::table_open(relations.0, none);
        let index = pg_sys::index_open(relations.1, none);
        let plain = is_plain(relation, table);
        if plain {
            for portion in items.chunks(PORTION) {
                interrupts::check();
                let memory = RowContext::enter();
                let rows = portion.iter().map(|item| (of(item), rest(item)));
                if let Err(error) = insert(relation, index, rows.collect()) {
                    // until the rollback, nothing of the server may be called
                    std::mem::forget(memory);
                    return Err(overtaken(error));
                }
                drop(memory);
            }
            pg_sys::CommandCounterIncrement();
        }
        pg_sys::index_close(index, none);
        pg_sys::table_close(relation, none);
        Ok(plain)
    }
}

/// The error of the whole call, if another transaction has inserted one of the rows.
fn overtaken(error: SqlError) -> SqlError {
    match error.is(UNIQUE_VIOLATION) {
        true => SqlError {
            code: SERIALIZATION_FAILURE,
            origin: Origin::Server,
            ..error
        },
        false => error,
    }
}

/// Whether the table is as the extension has made it: it has these columns and indexes, and nothing that a statement would
/// have to do besides.
///
/// # Safety
/// The relation is open.
unsafe fn is_plain(relation: pg_sys::Relation, table: &Table) -> bool {
    // SAFETY: the relation is open; the list of indexes is a copy.
    unsafe {
        let of = &*(*relation).rd_rel;
        let indexes = pg_sys::RelationGetIndexList(relation);
        let indexes_of: Vec<Oid> = match indexes.is_null() {
            true => Vec::new(),
            false => (0..(*indexes).length as usize)
                .map(|i| (*(*indexes).elements.add(i)).oid_value)
                .collect(),
        };
        let primary = table.relations.1;
        let known = indexes_of.contains(&primary)
            && indexes_of
                .iter()
                .all(|index| *index == primary || Some(*index) == table.partial);
        pg_sys::list_free(indexes);
        let names = pgrx::PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        known
            && of.relkind == pg_sys::RELKIND_RELATION as std::ffi::c_char
            && of.relam == pg_sys::HEAP_TABLE_AM_OID
            && !(of.relhastriggers || of.relhasrules || of.relrowsecurity || of.relispartition)
            && of.relchecks == 0
            && names.len() == table.columns.len()
            && names
                .iter()
                .zip(table.columns)
                .all(|(found, (name, kind))| {
                    found.name() == *name
                        && found.atttypid == *kind
                        && !found.attisdropped
                        && found.attgenerated == 0
                })
    }
}

/// Inserts rows and their entries of the index. After an error the subtransaction must be rolled back.
///
/// # Safety
/// The relations are open. The rows have a value of its type for each column.
unsafe fn insert(
    relation: pg_sys::Relation,
    index: pg_sys::Relation,
    mut rows: Vec<Row>,
) -> Result<(), SqlError> {
    // SAFETY: a slot has room for a value of each column. The values live until the rows are inserted. Within `trap`, raw
    // functions are called alone, and nothing has a destructor.
    unsafe {
        // a copy is not counted, so that the slots keep no count of it either
        let desc = pg_sys::CreateTupleDescCopy((*relation).rd_att);
        let mut slots: Vec<*mut pg_sys::TupleTableSlot> = rows
            .iter()
            .map(|_| pg_sys::MakeSingleTupleTableSlot(desc, &pg_sys::TTSOpsHeapTuple))
            .collect();
        for (slot, (key, rest)) in slots.iter().zip(&rows) {
            let key = key.iter().map(|value| Some(*value));
            for (i, value) in key.chain(rest.iter().copied()).enumerate() {
                *(**slot).tts_values.add(i) = value.unwrap_or(Datum::null());
                *(**slot).tts_isnull.add(i) = value.is_none();
            }
        }
        let mut nulls = [false; pg_sys::INDEX_MAX_KEYS as usize];
        let command = pg_sys::GetCurrentCommandId(true);
        let info = pg_sys::BuildIndexInfo(index);
        let unique = pg_sys::IndexUniqueCheck::UNIQUE_CHECK_YES;
        let (all, rows, nulls) = (&mut slots, &mut rows, &mut nulls);
        trap(|| {
            for slot in all.iter() {
                raw_store(*slot);
            }
            let (first, count) = (all.as_mut_ptr(), all.len() as i32);
            raw_multi_insert(relation, first, count, command, 0, ptr::null_mut());
            for (slot, (key, _)) in all.iter().zip(rows.iter_mut()) {
                let row = &mut (**slot).tts_tid;
                let (key, nulls) = (key.as_mut_ptr(), nulls.as_mut_ptr());
                raw_index_insert(index, key, nulls, row, relation, unique, false, info);
            }
        })?;
        for slot in slots {
            pg_sys::ExecDropSingleTupleTableSlot(slot);
        }
    }
    Ok(())
}
