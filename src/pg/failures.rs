//! Keeps failed calls for `sequin.failed_calls`.
//!
//! A call that fails undoes everything that it wrote. So a background worker writes the failure, in a transaction of
//! its own. A session starts one at most every few seconds, and counts the failures between.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use pgrx::GucSetting;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;

use crate::error::SqlError;
use crate::error::sqlstate::Sqlstate;

/// `sequin.log_failures`.
pub static LOG_FAILURES: GucSetting<bool> = GucSetting::<bool>::new(true);

/// The time between two workers of a session.
const PAUSE: Duration = Duration::from_secs(5);

/// Kinds of failures that a session counts between two workers.
const KINDS: usize = 8;

/// What a worker is told in words: SQLSTATE, role, and the beginning of the message.
const WORDS: usize = 127;

/// Failures of one kind that no worker has written yet.
struct Pending {
    sqlstate: String,
    /// Whether the call was tried again, and has not failed.
    retried: bool,
    calls: u32,
    message: String,
}

thread_local! {
    static PENDING: RefCell<Vec<Pending>> = const { RefCell::new(Vec::new()) };
    static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Notes that a call failed.
pub fn note_failed(error: &SqlError) {
    note(error, false);
}

/// Notes that a call failed by a panic, which carries an error of the server, or of this extension.
pub fn note_panic(panic: &(dyn Any + Send)) {
    let report = match panic.downcast_ref::<CaughtError>() {
        Some(
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic {
                ereport: report, ..
            },
        ) => Some(report),
        None => panic.downcast_ref::<ErrorReportWithLevel>(),
    };
    if let Some(report) = report {
        let code = Sqlstate::from_packed(report.sql_error_code() as i32);
        note(&SqlError::new(code, report.message()), false);
    }
}

/// Notes that a call begins again after an error that ended one of its attempts.
pub fn note_retried(error: &SqlError) {
    note(error, true);
}

fn note(error: &SqlError, retried: bool) {
    // SAFETY: reads a variable of the backend.
    let has_workers = unsafe { pg_sys::IsUnderPostmaster };
    if !LOG_FAILURES.get() || !has_workers {
        return;
    }
    let sqlstate = error.sqlstate();
    PENDING.with_borrow_mut(|pending| {
        let same = |kind: &Pending| kind.sqlstate == sqlstate && kind.retried == retried;
        if let Some(known) = pending.iter().position(same) {
            pending[known].calls = pending[known].calls.saturating_add(1);
            pending[known].message.clone_from(&error.message);
        } else if pending.len() < KINDS {
            pending.push(Pending {
                sqlstate,
                retried,
                calls: 1,
                message: error.message.clone(),
            });
        }
    });
    if !retried {
        hand_over();
    }
}

/// Lets workers write what the session has counted, unless it did so a moment ago. A standby cannot write: what the
/// session has counted there is written after the promotion.
pub fn hand_over() {
    let is_empty = PENDING.with_borrow(Vec::is_empty);
    if is_empty || LAST.get().is_some_and(|last| last.elapsed() < PAUSE) {
        return;
    }
    // SAFETY: reads shared memory.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return;
    }
    LAST.set(Some(Instant::now()));
    // SAFETY: reads variables of the backend.
    let (database, role) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetOuterUserId()) };
    let written = |kind: &Pending| {
        let mut words = format!(
            "{}{}{:010}{}",
            kind.sqlstate,
            if kind.retried { 'r' } else { 'f' },
            role.to_u32(),
            kind.message.replace('\0', "")
        );
        while words.len() > WORDS {
            words.pop();
        }
        let argument = u64::from(database.to_u32()) | u64::from(kind.calls) << 32;
        BackgroundWorkerBuilder::new("pg_sequin failed call")
            .set_library("pg_sequin")
            .set_function("pg_sequin_write_failure")
            .set_argument(Some(Datum::from(argument)))
            .set_extra(&words)
            .enable_spi_access()
            .load_dynamic()
            .is_ok()
    };
    // What no worker was free for stays for the next time.
    PENDING.with_borrow_mut(|pending| pending.retain(|kind| !written(kind)));
}

const WRITE: &str = "
    insert into sequin.failed_call as f (sqlstate, retried, role, error, calls, first_at, last_at)
    values ($1, $2, $3, $4, $5, clock_timestamp(), clock_timestamp())
    on conflict (sqlstate, retried, role) do update set
        error = excluded.error, calls = f.calls + excluded.calls, last_at = excluded.last_at";

/// Whether the table is the extension's. The worker is a superuser: where the extension was dropped meanwhile, somebody may
/// have made a table of this name, with a trigger.
const IS_THERE: &str = "
    select exists (
        select from pg_class c
        join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
        join pg_extension e on d.refclassid = 'pg_extension'::regclass and e.oid = d.refobjid
        where c.oid = to_regclass('sequin.failed_call') and e.extname = 'pg_sequin')";

/// The worker: writes one kind of failure. `argument` has the database and the number of calls.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_sequin_write_failure(argument: Datum) {
    let argument = argument.value() as u64;
    let database = pg_sys::Oid::from(argument as u32);
    let calls = (argument >> 32) as i64;
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    // The calls of a database that is read-only by default fail for that: they are to be seen, too.
    // SAFETY: the setting exists, and any role may set it.
    unsafe {
        pg_sys::SetConfigOption(
            c"default_transaction_read_only".as_ptr(),
            c"off".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
        );
    }
    let words = BackgroundWorker::get_extra();
    let (Some(sqlstate), Some(kind), Some(role), Some(message)) = (
        words.get(..5),
        words.get(5..6),
        words.get(6..16).and_then(|role| role.parse::<u32>().ok()),
        words.get(16..),
    ) else {
        return;
    };
    let args = [
        sqlstate.into(),
        (kind == "r").into(),
        pg_sys::Oid::from(role).into(),
        message.into(),
        calls.into(),
    ];
    BackgroundWorker::transaction(std::panic::AssertUnwindSafe(|| {
        let written = Spi::run(
            "set local search_path = pg_catalog, pg_temp; set local lock_timeout = '1s';
             set local synchronous_commit = off",
        )
        .and_then(|()| match Spi::get_one::<bool>(IS_THERE)? {
            Some(true) => Spi::run_with_args(WRITE, &args),
            _ => Ok(()),
        });
        written.unwrap_or_else(|why| error!("could not write sequin.failed_call: {why}"));
    }));
}
