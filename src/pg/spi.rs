//! Statements that run over a batch relation. Each is prepared once, planned to use indexes, and kept.

use std::ffi::{CString, c_int, c_long};

use pgrx::pg_sys::{self, Datum};

use super::isolation::is_standby;
use super::plan_size::AsIfLarge;
use super::settings::{INDEX_DRIVEN, Settings};
use super::trap::{is_undone, note_undone, trap};
use super::tuples::{Counts, Offered, Rows};
use crate::error::{SqlError, sqlstate};

unsafe extern "C-unwind" {
    #[link_name = "SPI_prepare"]
    fn raw_spi_prepare(
        src: *const std::ffi::c_char,
        nargs: c_int,
        argtypes: *mut pg_sys::Oid,
    ) -> pg_sys::SPIPlanPtr;
    #[link_name = "SPI_execute_plan"]
    fn raw_spi_execute_plan(
        plan: pg_sys::SPIPlanPtr,
        values: *mut Datum,
        nulls: *const std::ffi::c_char,
        read_only: bool,
        count: c_long,
    ) -> c_int;
    #[link_name = "SPI_plan_get_cached_plan"]
    fn raw_spi_plan_get_cached_plan(plan: pg_sys::SPIPlanPtr) -> *mut pg_sys::CachedPlan;
}

/// Runs a read-only query through pgrx. It sees all commits of other transactions up to this moment,
/// and the changes of this transaction. For that the transaction gets an ID, which a standby cannot assign.
pub fn select<'c, Q: pgrx::spi::Query<'c>>(
    client: &mut pgrx::spi::SpiClient<'c>,
    query: Q,
    args: &[pgrx::datum::DatumWithOid<'_>],
) -> Result<pgrx::spi::SpiTupleTable<'c>, pgrx::spi::Error> {
    match is_standby() {
        true => client.select(query, None, args),
        false => client.update(query, None, args),
    }
}

/// While it lives, queries of the catalog are planned for all values of their parameters, and by indexes.
///
/// By itself the server plans a statement anew for each of its first five executions, which takes longer than a query of
/// the catalog runs. And it reads whole catalogs while they are small. The settings are the server's variables: a query
/// of the catalog takes no longer than ten settings.
pub struct CatalogPlans {
    mode: c_int,
    ways: [bool; 4],
}

impl CatalogPlans {
    /// Until it is dropped, plans are made like that.
    pub fn begin() -> CatalogPlans {
        let generic = pg_sys::PlanCacheMode::PLAN_CACHE_MODE_FORCE_GENERIC_PLAN as c_int;
        CatalogPlans::set(generic, [false; 4])
    }

    /// Returns the values before.
    fn set(mode: c_int, ways: [bool; 4]) -> CatalogPlans {
        // SAFETY: the variables of settings. Their values are put back when the value is dropped, also by an error.
        unsafe {
            use pg_sys::{enable_hashjoin, enable_mergejoin, enable_seqscan, jit_enabled};
            let before = CatalogPlans {
                mode: pg_sys::plan_cache_mode,
                ways: [
                    enable_seqscan,
                    enable_hashjoin,
                    enable_mergejoin,
                    jit_enabled,
                ],
            };
            pg_sys::plan_cache_mode = mode;
            [
                enable_seqscan,
                enable_hashjoin,
                enable_mergejoin,
                jit_enabled,
            ] = ways;
            before
        }
    }
}

impl Drop for CatalogPlans {
    fn drop(&mut self) {
        std::mem::forget(CatalogPlans::set(self.mode, self.ways));
    }
}

/// A connection to SPI. Memory allocated while the connection lives is freed with the connection.
pub struct Connection;

impl Connection {
    /// Connects.
    pub fn open() -> Connection {
        note_undone(); // with the transaction before, if not earlier
        // SAFETY: SPI_connect raises an error when it fails.
        unsafe { pg_sys::SPI_connect() };
        Connection
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: pairs with SPI_connect; after a panic the transaction's end does it.
            unsafe { pg_sys::SPI_finish() };
        }
    }
}

/// A kept plan.
pub struct Plan {
    plan: pg_sys::SPIPlanPtr,
    planned: bool,
    counts: Counts,
}

/// Plans a statement and checks the privileges that it needs. It is not executed.
pub fn explain(sql: &str) -> Result<(), SqlError> {
    let mut plan = Plan::prepare(&format!("explain (costs off) {sql}"))?;
    plan.execute().map(drop)
}

/// The result of a statement.
pub struct Executed {
    /// Rows written (or read).
    pub processed: u64,
    /// Rows returned, by `RETURNING` or a `SELECT`.
    pub returned: Option<Returned>,
}

impl Plan {
    /// Prepares and keeps `sql`. Needs a [`Connection`].
    pub fn prepare(sql: &str) -> Result<Plan, SqlError> {
        let text = CString::new(sql).map_err(|_| {
            SqlError::new(
                sqlstate::CHARACTER_NOT_IN_REPERTOIRE,
                "statement holds a NUL",
            )
        })?;
        let text = text.as_ptr();
        // SAFETY: only the C function runs inside; the text outlives it.
        let plan = unsafe { trap(|| raw_spi_prepare(text, 0, std::ptr::null_mut())) };
        let plan = plan.map_err(before_rows)?;
        if plan.is_null() {
            return Err(SqlError::new(
                sqlstate::INTERNAL_ERROR,
                format!("could not prepare: {sql}"),
            ));
        }
        // SAFETY: the plan is new. A kept plan lives until SPI_freeplan.
        unsafe { pg_sys::SPI_keepplan(plan) };
        Ok(Plan {
            plan,
            planned: false,
            counts: Counts::Nowhere,
        })
    }

    /// How many bytes the server keeps for the statement and its plan.
    pub fn memory(&self) -> usize {
        // SAFETY: the plan is kept, and so are its sources, and the plans of these.
        unsafe {
            let sources = pg_sys::SPI_plan_get_plan_sources(self.plan);
            let count = if sources.is_null() {
                0
            } else {
                (*sources).length
            };
            let of_source = |n: usize| {
                let source = (*(*sources).elements.add(n)).ptr_value;
                let source = source.cast::<pg_sys::CachedPlanSource>();
                let plan = (*source).gplan;
                let of_plan = match plan.is_null() {
                    true => 0,
                    false => pg_sys::MemoryContextMemAllocated((*plan).context, true),
                };
                pg_sys::MemoryContextMemAllocated((*source).context, true) + of_plan
            };
            (0..count as usize).map(of_source).sum()
        }
    }

    /// For a statement that calls `sequin_internal.next_row()`: an error of the statement then has the number of rows
    /// that were read.
    pub fn counting(mut self, counts: Counts) -> Plan {
        self.counts = counts;
        self
    }

    /// Makes the generic plan under [`INDEX_DRIVEN`] unless there is a valid one.
    fn plan(&mut self) -> Result<(), SqlError> {
        let plan = self.plan;
        // SAFETY: the plan is kept and has one statement without parameters, so the server makes a generic
        // plan. The reference that planning takes is released at once.
        unsafe {
            if self.planned && pg_sys::SPI_plan_is_valid(plan) {
                return Ok(());
            }
            let _settings = Settings::new(INDEX_DRIVEN);
            let _sizes = AsIfLarge::begin();
            let cached = trap(|| raw_spi_plan_get_cached_plan(plan))?;
            if !cached.is_null() {
                pg_sys::ReleaseCachedPlan(cached, pg_sys::CurrentResourceOwner);
            }
        }
        self.planned = true;
        Ok(())
    }

    /// Executes the statement over `rows`, which `sequin_internal.batch()` returns to it.
    pub fn run(&mut self, rows: Rows) -> Result<Executed, SqlError> {
        self.plan().map_err(before_rows)?;
        let offered = Offered::new(rows, self.counts);
        self.execute().map_err(|error| SqlError {
            rows_read: Some(offered.read()).filter(|read| *read > 0),
            no_row: !offered.is_taken(),
            ..error
        })
    }

    fn execute(&mut self) -> Result<Executed, SqlError> {
        let plan = self.plan;
        // SAFETY: only C functions run inside. SPI's globals are read directly after the call. SPI may leave
        // the backend in SPI's memory context, so the previous context is restored.
        let (status, processed, table) = unsafe {
            let context = pg_sys::CurrentMemoryContext;
            let result = trap(|| {
                let status =
                    raw_spi_execute_plan(plan, std::ptr::null_mut(), std::ptr::null(), false, 0);
                (status, pg_sys::SPI_processed, pg_sys::SPI_tuptable)
            });
            pg_sys::CurrentMemoryContext = context;
            result?
        };
        if status < 0 {
            return Err(SqlError::new(
                sqlstate::INTERNAL_ERROR,
                format!("SPI_execute_plan failed: {status}"),
            ));
        }
        let returned = (!table.is_null()).then(|| Returned { table });
        Ok(Executed {
            processed,
            returned,
        })
    }
}

/// The error of a statement that has not read a row yet.
fn before_rows(error: SqlError) -> SqlError {
    SqlError {
        no_row: true,
        ..error
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `prepare`, and no other value has the plan.
            unsafe { pg_sys::SPI_freeplan(self.plan) };
        }
    }
}

/// The rows that a statement returned. They are valid until the connection closes, or until the
/// subtransaction that ran the statement is rolled back.
pub struct Returned {
    table: *mut pg_sys::SPITupleTable,
}

impl Drop for Returned {
    fn drop(&mut self) {
        // After an error SPI may be in an intermediate state, and frees the rows itself.
        if !std::thread::panicking() && is_undone() {
            // SAFETY: the rows are still valid, as the type requires.
            unsafe { pg_sys::SPI_freetuptable(self.table) }
        }
    }
}

impl Returned {
    /// Number of rows.
    pub fn len(&self) -> usize {
        // SAFETY: the table belongs to SPI and lives as long as this value.
        unsafe { (*self.table).numvals as usize }
    }

    /// The types of the columns.
    pub fn types(&self) -> Vec<pg_sys::Oid> {
        // SAFETY: the descriptor lives as long as the table; the numbers are within it.
        unsafe {
            let desc = (*self.table).tupdesc;
            (1..=(*desc).natts)
                .map(|n| pg_sys::SPI_gettypeid(desc, n))
                .collect()
        }
    }

    /// The values of row `i`, copied into the current memory context: they outlive the rows. `None` is null.
    pub fn copy(&self, i: usize) -> Vec<Option<Datum>> {
        assert!(i < self.len());
        // SAFETY: the index is within the table, and the arrays are as wide as its rows.
        let (values, nulls) = unsafe {
            let desc = (*self.table).tupdesc;
            let width = (*desc).natts as usize;
            let tuple = pg_sys::heap_copytuple(*(*self.table).vals.add(i));
            let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
            pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            (values, nulls)
        };
        let row = values.into_iter().zip(nulls);
        row.map(|(value, null)| (!null).then_some(value)).collect()
    }

    /// Splits row `i` into `values` and `nulls`, which have the row's width. The memory behind the datums
    /// lives as long as the rows.
    pub fn read(&self, i: usize, values: &mut [Datum], nulls: &mut [bool]) {
        assert!(i < self.len());
        // SAFETY: the assertions check the index and the widths.
        unsafe {
            let desc = (*self.table).tupdesc;
            assert!((*desc).natts as usize == values.len() && values.len() == nulls.len());
            let tuple = *(*self.table).vals.add(i);
            pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        }
    }
}
