//! The mapping that the backend works for. Errors are attributed to this mapping, and the mapping's share of
//! the call's time is limited.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::{PgSqlErrorCode, PgTryBuilder};

use super::settings::Settings;
use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::report::cut;
use crate::error::sqlstate::{self, Sqlstate};

unsafe extern "C-unwind" {
    #[link_name = "RegisterTimeout"]
    fn raw_register_timeout(id: c_int, handler: unsafe extern "C-unwind" fn()) -> c_int;
    #[link_name = "disable_timeout"]
    fn raw_disable_timeout(id: c_int, keep_indicator: bool);
    #[link_name = "enable_timeout_every"]
    fn raw_enable_timeout_every(id: c_int, first: pg_sys::TimestampTz, milliseconds: c_int);
}

/// Not less than `USER_TIMEOUT` in `utils/timeout.h` of any version, and less than `MAX_TIMEOUTS`.
const USER_TIMEOUT: c_int = 14;

/// Milliseconds after which the cancel is sent again, because user code can catch a cancel and continue.
const AGAIN: c_int = 500;

/// The turn of a mapping whose time is limited.
#[derive(Clone, Copy)]
struct Limited {
    mapping: i32,
    since: Instant,
}

thread_local! {
    static CURRENT: Cell<Option<i32>> = const { Cell::new(None) };
    static LIMITED: Cell<Option<Limited>> = const { Cell::new(None) };
    static SPENT: RefCell<HashMap<i32, Duration>> = RefCell::new(HashMap::new());
    static LIMIT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static TIMEOUT: Cell<Option<c_int>> = const { Cell::new(None) };
    static LOCK_TIMEOUT: Cell<c_int> = const { Cell::new(0) };
    /// The mapping whose turn ended with a panic after its time had run out.
    static EXPIRED: Cell<Option<i32>> = const { Cell::new(None) };
    /// The mapping in whose turn the server raised its last error of its own.
    static OF_SERVER: Cell<Option<i32>> = const { Cell::new(None) };
    /// The mapping whose turn a panic has ended.
    static PANICKED: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Whether the time of the limited turn has run out, and no error has reported it yet.
static FIRED: AtomicBool = AtomicBool::new(false);

// Runs in the handler of SIGALRM, which also sets the latch.
unsafe extern "C-unwind" fn fire() {
    FIRED.store(true, Ordering::Relaxed);
    // SAFETY: sets the same variables as the server's own handler of a cancel.
    unsafe {
        pg_sys::QueryCancelPending = 1 as _;
        pg_sys::InterruptPending = 1 as _;
    }
}

/// Begins an attempt, in which each mapping may use up to `limit`. Zero means no limit.
pub fn begin_attempt(limit: Duration) {
    if LIMITED.get().is_none() {
        LIMIT.set(limit);
        SPENT.with_borrow_mut(HashMap::clear);
        see_lock_timeout();
    }
}

/// While the value lives, the call waits for a lock for a limited time.
pub struct LockLimit {
    settings: Option<Settings>,
    before: c_int,
}

impl LockLimit {
    /// The limit, or the session's own if that is shorter.
    pub fn new(limit: Duration) -> LockLimit {
        let before = LOCK_TIMEOUT.get();
        let settings = Some(Settings::lock_timeout(limit));
        see_lock_timeout();
        LockLimit { settings, before }
    }
}

impl Drop for LockLimit {
    fn drop(&mut self) {
        drop(self.settings.take());
        LOCK_TIMEOUT.set(self.before);
    }
}

/// Takes the present `lock_timeout` for the call's, not for one that a function has set.
fn see_lock_timeout() {
    // SAFETY: reads a setting's variable.
    LOCK_TIMEOUT.set(unsafe { pg_sys::LockTimeout });
}

/// While the value lives, the backend works for one mapping, or for none.
pub struct Turn {
    before: Option<i32>,
    limited: bool,
}

impl Turn {
    /// The turn of a mapping (by id).
    pub fn of(mapping: i32) -> Turn {
        Turn {
            before: CURRENT.replace(Some(mapping)),
            limited: begin_limited(mapping),
        }
    }

    /// The current turn.
    pub fn same() -> Turn {
        Turn {
            before: CURRENT.get(),
            limited: false,
        }
    }

    /// The extension's own turn. Its time still counts against the mapping around it.
    pub fn own() -> Turn {
        Turn {
            before: CURRENT.replace(None),
            limited: false,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let current = CURRENT.replace(self.before);
        if std::thread::panicking() && PANICKED.get().is_none() {
            PANICKED.set(current);
        }
        if self.limited {
            end_limited();
        }
    }
}

fn begin_limited(mapping: i32) -> bool {
    let limit = LIMIT.get();
    if limit.is_zero() || LIMITED.get().is_some() {
        return false;
    }
    let spent = SPENT.with_borrow(|spent| spent.get(&mapping).copied().unwrap_or_default());
    let left = limit.saturating_sub(spent).as_millis().max(1) as c_int;
    // SAFETY: the timeout is registered once in a backend, with a static function.
    unsafe {
        let id = TIMEOUT.get().unwrap_or_else(|| {
            let id = raw_register_timeout(USER_TIMEOUT, fire);
            TIMEOUT.set(Some(id));
            id
        });
        FIRED.store(false, Ordering::Relaxed);
        LIMITED.set(Some(Limited {
            mapping,
            since: Instant::now(),
        }));
        raw_enable_timeout_every(
            id,
            pg_sys::GetCurrentTimestamp() + i64::from(left) * 1_000,
            AGAIN,
        );
    }
    true
}

fn end_limited() {
    let (Some(id), Some(limited)) = (TIMEOUT.get(), LIMITED.take()) else {
        return;
    };
    // SAFETY: the timeout is registered. A cancel that is still pending came from it, and is obsolete.
    unsafe {
        raw_disable_timeout(id, false);
        if FIRED.swap(false, Ordering::Relaxed) {
            pg_sys::QueryCancelPending = 0 as _;
            if std::thread::panicking() {
                EXPIRED.set(Some(limited.mapping));
            }
        }
    }
    SPENT.with_borrow_mut(|spent| {
        *spent.entry(limited.mapping).or_default() += limited.since.elapsed();
    });
}

/// The functions of the server that answer a cancel, a time limit, a shutdown or a conflict with recovery.
const INTERRUPTS: [&str; 3] = [
    "ProcessInterrupts",
    "ProcessRecoveryConflictInterrupt",
    "ProcessRecoveryConflictInterrupts",
];

/// The functions of the server that refuse a role without a privilege on a sequence.
const OF_SEQUENCES: [&str; 4] = ["nextval_internal", "currval_oid", "lastval", "do_setval"];

/// The functions of dblink and postgres_fdw that raise an error of another server, with its SQLSTATE. Whoever chooses the
/// server chooses the error. These libraries have the server's text domain.
const OF_OTHER_SERVERS: [&str; 2] = ["dblink_res_error", "pgfdw_report_error"];

/// Whether there was no room for a lock because the session itself holds most of the server's locks: it is the mapping's
/// code that has taken so many, or they are those of its tables.
fn fills_lock_table(function: &str) -> bool {
    if !function.starts_with("LockAcquire") {
        return false;
    }
    // SAFETY: the server raises this error without a light-weight lock in its hands, so that the list can be read before
    // the rollback. The list has as many members as it says.
    unsafe {
        let list = pg_sys::GetLockStatusData();
        let locks = std::slice::from_raw_parts((*list).locks, (*list).nelements.max(0) as usize);
        let own = locks.iter().filter(|lock| lock.pid == pg_sys::MyProcPid);
        let fills = own.count() > locks.len() / 2;
        pg_sys::pfree((*list).locks.cast());
        pg_sys::pfree(list.cast());
        fills
    }
}

/// The origin of an error raised now, in a function and a text domain of the server.
///
/// Errors of the server itself have the server's text domain. Errors that a procedural language raises for a
/// function have the language's. Every cancel, from any source, is raised in the same place.
fn origin(code: Sqlstate, function: &str, domain: &str) -> Origin {
    let of_turn = CURRENT.get().map_or(Origin::Extension, Origin::Mapping);
    if INTERRUPTS.contains(&function) {
        let expired = match FIRED.swap(false, Ordering::Relaxed) {
            true => LIMITED.get().map(|limited| limited.mapping),
            false => EXPIRED.take(),
        };
        if code == sqlstate::QUERY_CANCELED
            && let Some(mapping) = expired
        {
            return Origin::OutOfTime(mapping);
        }
        // SAFETY: reads a setting's variable. The function's own value is still set, because the rollback
        // comes later.
        let lock_timeout = unsafe { pg_sys::LockTimeout };
        // A function has set its own limit.
        if code == sqlstate::LOCK_NOT_AVAILABLE && lock_timeout != LOCK_TIMEOUT.get() {
            return of_turn;
        }
        return Origin::Server;
    }
    let lacks = match code.class() {
        sqlstate::TRANSACTION_ROLLBACK | sqlstate::SNAPSHOT_TOO_OLD => true,
        sqlstate::INSUFFICIENT_RESOURCES => code != sqlstate::CONFIGURATION_LIMIT_EXCEEDED,
        sqlstate::SYSTEM_ERROR => code != sqlstate::UNDEFINED_FILE,
        _ => false,
    };
    if lacks
        && domain.starts_with("postgres")
        && !OF_OTHER_SERVERS.contains(&function)
        && !fills_lock_table(function)
    {
        OF_SERVER.set(CURRENT.get());
        Origin::Server
    } else {
        of_turn
    }
}

/// The mapping (by id) that the backend worked for when the server raised its last error of its own.
pub fn mapping_of_servers_error() -> Option<i32> {
    OF_SERVER.get()
}

/// The origin of a caught error.
///
/// # Safety
/// The server has filled in `data`.
pub unsafe fn origin_of(data: *const pg_sys::ErrorData) -> Origin {
    // SAFETY: the caller upholds the contract. Each text is null or ends with NUL.
    unsafe {
        let text = |s: *const c_char| match s.is_null() {
            true => "",
            false => CStr::from_ptr(s).to_str().unwrap_or_default(),
        };
        let (function, domain) = (text((*data).funcname), text((*data).domain));
        let code = Sqlstate::from_packed((*data).sqlerrcode);
        // What a parallel worker raised has lost its domain on the way: it looks like the server's. Nothing of the
        // extension's own runs in one.
        let found = match (*data).message_id.is_null() {
            true => CURRENT.get().map_or(Origin::Extension, Origin::Mapping),
            false => origin(code, function, domain),
        };
        match found {
            // The server itself must have raised the error: an error of a function may concern only one
            // message.
            Origin::Mapping(mapping)
                if code.class() == sqlstate::CONNECTION_EXCEPTION
                    && domain.starts_with("postgres") =>
            {
                Origin::Unreachable(mapping)
            }
            Origin::Mapping(mapping)
                if function.starts_with("aclcheck_error")
                    || code == sqlstate::INSUFFICIENT_PRIVILEGE
                        && OF_SEQUENCES.contains(&function) =>
            {
                Origin::Denied(mapping)
            }
            origin => origin,
        }
    }
}

/// The function and text domain for an error that is raised again, so that [`origin_of`] recognises its
/// origin.
pub fn marks(origin: Origin) -> (&'static CStr, &'static CStr) {
    match origin {
        Origin::Server => (c"ProcessInterrupts", c"postgres"),
        _ => (c"sequin_apply", c"pg_sequin"),
    }
}

/// Runs `work`, which must undo its effects when it panics. A panic that raised an error in the turn of a
/// mapping is returned as that error, and so is the end of a wait for a lock. Other panics continue.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, SqlError> {
    PANICKED.set(None);
    EXPIRED.set(None);
    let work = std::panic::AssertUnwindSafe(work);
    PgTryBuilder::new(std::panic::AssertUnwindSafe(move || Ok({ work }.0())))
        .catch_others(|error| of_turn(error))
        .catch_rust_panic(|error| of_turn(error))
        .execute()
}

fn of_turn<T>(error: CaughtError) -> Result<T, SqlError> {
    let (CaughtError::PostgresError(report)
    | CaughtError::ErrorReport(report)
    | CaughtError::RustPanic {
        ereport: report, ..
    }) = &error;
    let code = Sqlstate::from_packed(report.sql_error_code() as i32);
    let before = CURRENT.replace(PANICKED.take());
    let function = report.function_name().unwrap_or_default();
    let origin = origin(code, function, report.domain().unwrap_or_default());
    CURRENT.set(before);
    if report.sql_error_code() == PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION
        || !matches!(origin, Origin::Mapping(_) | Origin::OutOfTime(_))
            && code != sqlstate::LOCK_NOT_AVAILABLE
    {
        error.rethrow();
    }
    Err(SqlError {
        code,
        message: cut(report.message()),
        detail: report.detail().map(cut),
        hint: report.hint().map(cut),
        origin,
        ..SqlError::default()
    })
}
