//! The batch relation's server side: typed rows in a tuplestore, and `sequin_internal.batch()`, the
//! set-returning function that hands the tuplestore to the executor.

use std::cell::Cell;
use std::ffi::CString;
use std::ptr;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum};

use super::function::function;
use super::raise::raise;
use super::trap::trap;
use crate::error::{Error, SqlError};

unsafe extern "C-unwind" {
    #[link_name = "tuplestore_putvalues"]
    fn raw_tuplestore_putvalues(
        state: *mut pg_sys::Tuplestorestate,
        desc: pg_sys::TupleDesc,
        values: *mut Datum,
        isnull: *mut bool,
    );
}

/// One column of a row type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowColumn {
    /// The name in the statement.
    pub name: String,
    /// Type.
    pub type_oid: pg_sys::Oid,
    /// Type modifier, -1 for none.
    pub typmod: i32,
    /// Collation, `InvalidOid` for none.
    pub collation: pg_sys::Oid,
}

impl RowColumn {
    /// A column of a type without modifier and collation.
    pub fn plain(name: &str, type_oid: pg_sys::Oid) -> RowColumn {
        RowColumn {
            name: name.to_owned(),
            type_oid,
            typmod: -1,
            collation: pg_sys::InvalidOid,
        }
    }

    /// A column that numbers the rows. A statement may give it another name.
    pub fn number(name: &str) -> RowColumn {
        RowColumn::plain(name, pg_sys::INT4OID)
    }
}

/// The row type of a batch relation. It lives as long as the backend unless dropped.
pub struct RowType {
    desc: pg_sys::TupleDesc,
    width: usize,
}

impl RowType {
    /// Makes the row type of `columns`.
    pub fn new(columns: &[RowColumn]) -> RowType {
        // SAFETY: the descriptor is filled for each attribute, as CreateTemplateTupleDesc asks, and
        // allocated in a context that lives as long as the backend.
        unsafe {
            let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            let desc = pg_sys::CreateTemplateTupleDesc(columns.len() as i32);
            for (i, column) in columns.iter().enumerate() {
                let name = CString::new(column.name.as_str()).expect("column names hold no NUL");
                let number = i as pg_sys::AttrNumber + 1;
                pg_sys::TupleDescInitEntry(
                    desc,
                    number,
                    name.as_ptr(),
                    column.type_oid,
                    column.typmod,
                    0,
                );
                pg_sys::TupleDescInitEntryCollation(desc, number, column.collation);
            }
            pg_sys::MemoryContextSwitchTo(context);
            RowType {
                desc,
                width: columns.len(),
            }
        }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }
}

impl Drop for RowType {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not reference-counted; the executor only gets copies.
        unsafe { pg_sys::FreeTupleDesc(self.desc) }
    }
}

/// Rows on their way to a statement.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    _memory: Memory,
}

/// A separate memory context: a failed statement does not free its input.
struct Memory(pg_sys::MemoryContext);

impl Memory {
    fn new() -> Memory {
        // SAFETY: a child of the current context, which the caller keeps until the statement has run.
        Memory(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sequin batch".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the statement has succeeded or failed, and does not use the context again.
            unsafe { pg_sys::MemoryContextDelete(self.0) }
        }
    }
}

impl Rows {
    /// An empty store; beyond `work_mem` it goes to a temporary file.
    pub fn new() -> Rows {
        let memory = Memory::new();
        // SAFETY: allocates in the context that it keeps.
        let store = unsafe {
            let before = pg_sys::MemoryContextSwitchTo(memory.0);
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            pg_sys::MemoryContextSwitchTo(before);
            store
        };
        Rows {
            store,
            desc: ptr::null_mut(),
            _memory: memory,
        }
    }

    /// Adds a row. The values are copied.
    pub fn put(
        &mut self,
        row_type: &RowType,
        values: &mut [Datum],
        nulls: &mut [bool],
    ) -> Result<(), SqlError> {
        assert!(values.len() == row_type.width && nulls.len() == row_type.width);
        self.desc = row_type.desc;
        let (store, desc) = (self.store, row_type.desc);
        let (values, nulls) = (values.as_mut_ptr(), nulls.as_mut_ptr());
        // SAFETY: both arrays have the descriptor's width, the values are of its types; only the C
        // function runs inside.
        unsafe { trap(|| raw_tuplestore_putvalues(store, desc, values, nulls)) }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        end(self.store);
    }
}

/// Frees a tuplestore that the executor did not take, and its temporary file. Null is allowed.
fn end(store: *mut pg_sys::Tuplestorestate) {
    if !store.is_null() && !std::thread::panicking() {
        // SAFETY: the caller still owns the store.
        unsafe { pg_sys::tuplestore_end(store) }
    }
}

/// Where a statement calls `sequin_internal.next_row()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counts {
    /// Nowhere.
    Nowhere,
    /// In one place.
    Once,
    /// In each of its parts. A default or a policy of a table could call the function too, so the count is
    /// only a hint.
    InParts,
}

/// The rows that `sequin_internal.batch()` gives to a statement, and the count that `sequin_internal.next_row()` keeps.
#[derive(Clone, Copy)]
struct Offer {
    /// The rows, until the statement has taken them.
    store: *mut pg_sys::Tuplestorestate,
    /// The type of the rows; null if there are no rows.
    desc: pg_sys::TupleDesc,
    /// The error context stack outside the statement.
    told: *mut pg_sys::ErrorContextCallback,
    /// Where the statement calls `sequin_internal.next_row()`.
    counts: Counts,
    /// The call of `sequin_internal.next_row()` in the statement's plan; null before the first row.
    counter: *mut pg_sys::Node,
    /// How many rows the statement has read.
    read: usize,
}

const NOTHING: Offer = Offer {
    store: ptr::null_mut(),
    desc: ptr::null_mut(),
    told: ptr::null_mut(),
    counts: Counts::Nowhere,
    counter: ptr::null_mut(),
    read: 0,
};

thread_local! {
    static CURRENT: Cell<Offer> = const { Cell::new(NOTHING) };
}

impl Offer {
    /// Whether the statement itself makes the current call, and not a function or trigger that it runs. SPI
    /// pushes one error context callback for the statement. Code inside the statement that runs SQL pushes
    /// further ones.
    fn calls(&self) -> bool {
        // SAFETY: a backend variable; each callback lives while it is on the stack.
        unsafe {
            let told = pg_sys::error_context_stack;
            !told.is_null() && (*told).previous == self.told
        }
    }
}

/// While the value lives, `sequin_internal.batch()` returns the rows to the next statement, once. A trigger may apply
/// messages before the statement that fired it has taken its rows. The rows of that statement are offered
/// again afterwards.
pub struct Offered {
    before: Offer,
    _rows: Rows,
}

impl Offered {
    /// Offers `rows`; `counts`: where the statement calls `sequin_internal.next_row()`.
    pub fn new(mut rows: Rows, counts: Counts) -> Offered {
        let store = std::mem::replace(&mut rows.store, ptr::null_mut());
        let offer = Offer {
            store,
            desc: rows.desc,
            // SAFETY: reads a backend variable.
            told: unsafe { pg_sys::error_context_stack },
            counts,
            ..NOTHING
        };
        Offered {
            before: CURRENT.replace(offer),
            _rows: rows,
        }
    }

    /// Whether the statement has taken its rows: it does so when it reads the first of them.
    pub fn is_taken(&self) -> bool {
        CURRENT.get().store.is_null()
    }

    /// How many rows the statement has read; 0 if the statement does not count its rows.
    pub fn read(&self) -> usize {
        CURRENT.get().read
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        end(CURRENT.replace(self.before).store);
    }
}

function! {
    /// `sequin_internal.next_row()`: counts the rows that the statement reads, and returns true. Elsewhere a call is
    /// an error.
    next_row_wrapper, pg_finfo_next_row_wrapper = next_row
}

#[pg_guard]
unsafe extern "C-unwind" fn next_row(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    let mut offer = CURRENT.get();
    // SAFETY: the function manager's record of the call. The record of the function may be null.
    let node = unsafe { (*fcinfo).flinfo.as_ref() }.map_or(ptr::null_mut(), |call| call.fn_expr);
    // The statement itself makes the first call after it has taken its rows. A default or a policy of the
    // table is part of the same plan, but is evaluated later.
    let own = match offer.counts {
        Counts::Nowhere => false,
        Counts::Once => node == offer.counter || offer.counter.is_null(),
        Counts::InParts => true,
    };
    let taken = offer.store.is_null();
    if node.is_null() || !(taken && own && offer.calls()) {
        raise(Error::OutsideApply {
            function: "next_row",
        });
    }
    offer.counter = node;
    offer.read += 1;
    CURRENT.set(offer);
    // SAFETY: the function manager's record of the call.
    unsafe { (*fcinfo).isnull = false };
    Datum::from(true)
}

function! {
    /// `sequin_internal.batch()`: the rows for the statement, as its column definition list names them. Elsewhere a
    /// call is an error.
    sequin_batch_wrapper, pg_finfo_sequin_batch_wrapper = batch
}

#[pg_guard]
unsafe extern "C-unwind" fn batch(fcinfo: pg_sys::FunctionCallInfo) -> Datum {
    let offer = CURRENT.get();
    if offer.store.is_null() || !offer.calls() {
        raise(Error::OutsideApply { function: "batch" });
    }
    // SAFETY: the executor calls set-returning functions with a ReturnSetInfo, and frees the tuplestore. It
    // compares the descriptor with the column definition list, because a trigger might use another list, and
    // frees the descriptor.
    unsafe {
        let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        if info.is_null()
            || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
            || (*info).allowedModes & materialize as i32 == 0
        {
            raise(Error::NotInFrom);
        }
        let store = ptr::null_mut();
        CURRENT.set(Offer { store, ..offer });
        (*info).returnMode = materialize;
        (*info).setResult = offer.store;
        (*info).setDesc = if offer.desc.is_null() {
            ptr::null_mut() // no rows
        } else {
            pg_sys::CreateTupleDescCopy(offer.desc)
        };
        (*fcinfo).isnull = true;
    }
    Datum::from(0)
}
