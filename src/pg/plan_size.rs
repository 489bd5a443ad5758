//! The sizes of the extension's own tables, as plans take them.
//!
//! Plans are kept. A plan that was made while a table was empty may use any of its indexes, since all cost the same then:
//! with 100,000 rows it would read all of them for each row that it looks for. So plans are made as if the tables were
//! large.

use std::cell::Cell;

use pgrx::pg_sys;

/// How many rows and pages a table has at least, as plans take it, and how many pages each of its indexes has.
const ROWS: f64 = 1e6;
const PAGES: u32 = 100_000;
const INDEX_PAGES: u32 = 5_000;

thread_local! {
    static PLANNING: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, statements are planned as if the extension's tables were large.
pub struct AsIfLarge {
    before: bool,
}

impl AsIfLarge {
    /// Until it is dropped, plans take the tables as large.
    pub fn begin() -> AsIfLarge {
        AsIfLarge {
            before: PLANNING.replace(true),
        }
    }
}

impl Drop for AsIfLarge {
    fn drop(&mut self) {
        PLANNING.set(self.before);
    }
}

/// The `work_mem` in kB of statements that find few rows.
const WORK_MEM: i32 = 256;

/// While it lives, statements have little `work_mem`.
///
/// The server makes a hash table as large as the plan expects, within `work_mem`, and clears it, each time the plan runs.
/// Plans of [`AsIfLarge`] expect millions of rows, and find a few.
pub struct SmallHashTables {
    before: i32,
}

impl SmallHashTables {
    /// Until it is dropped, `work_mem` is at most 256 kB.
    pub fn begin() -> SmallHashTables {
        // SAFETY: the backend has one thread. The server reads the variable whenever it makes a table.
        unsafe {
            let before = pg_sys::work_mem;
            pg_sys::work_mem = before.min(WORK_MEM);
            SmallHashTables { before }
        }
    }
}

impl Drop for SmallHashTables {
    fn drop(&mut self) {
        // SAFETY: as in `begin`.
        unsafe { pg_sys::work_mem = self.before };
    }
}

static mut PREVIOUS: pg_sys::get_relation_info_hook_type = None;

/// Called once, when the library is loaded.
pub fn watch() {
    // SAFETY: the backend has one thread. Whatever is called before is called still.
    unsafe {
        PREVIOUS = pg_sys::get_relation_info_hook;
        pg_sys::get_relation_info_hook = Some(enlarge);
    }
}

unsafe extern "C-unwind" fn enlarge(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inherits: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: passes the server's arguments on, and changes what the hook is for. An error leaves this function by a
    // jump: it holds nothing.
    unsafe {
        if let Some(previous) = PREVIOUS {
            previous(root, relation, inherits, info);
        }
        if !PLANNING.get() || pg_sys::get_rel_namespace(relation) != schema() {
            return;
        }
        (*info).tuples = (*info).tuples.max(ROWS);
        (*info).pages = (*info).pages.max(PAGES);
        let indexes = (*info).indexlist;
        let count = match indexes.is_null() {
            true => 0,
            false => (*indexes).length,
        };
        for n in 0..count as usize {
            let cell = (*indexes).elements.add(n);
            let index = (*cell).ptr_value.cast::<pg_sys::IndexOptInfo>();
            (*index).tuples = (*index).tuples.max(ROWS);
            (*index).pages = (*index).pages.max(INDEX_PAGES);
        }
    }
}

/// The extension's schema.
fn schema() -> pg_sys::Oid {
    // SAFETY: a look into a cache of the server, which copies the name.
    unsafe { pg_sys::get_namespace_oid(c"sequin".as_ptr(), true) }
}
