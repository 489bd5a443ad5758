//! The server's time, and the two epochs.

use std::time::Duration;

use pgrx::pg_sys;

/// 2000-01-01 in microseconds since 1970-01-01.
const EPOCH: i64 = 946_684_800_000_000;

/// Now, as a timestamptz: microseconds since 2000.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// Microseconds since 1970 as a timestamptz.
pub fn from_unix(micros: i64) -> i64 {
    micros.saturating_sub(EPOCH)
}

/// A timestamptz as microseconds since 1970.
pub fn to_unix(micros: i64) -> i64 {
    micros.saturating_add(EPOCH)
}

/// A `timestamptz` datum of microseconds since 1970; `None` is null.
pub fn datum(micros: Option<i64>) -> Option<pgrx::pg_sys::Datum> {
    micros.map(|micros| pgrx::pg_sys::Datum::from(from_unix(micros)))
}

/// When the client's statement began, as a `timestamptz` datum: `statement_timestamp()`.
pub fn statement_start() -> pgrx::pg_sys::Datum {
    // SAFETY: reads a variable.
    pgrx::pg_sys::Datum::from(unsafe { pg_sys::GetCurrentStatementStartTimestamp() })
}

/// How much time `statement_timeout` leaves the client's statement; `None`: no limit.
pub fn statement_time_left() -> Option<Duration> {
    // SAFETY: a setting's variable, and the time when the statement began.
    let (limit, began) = unsafe {
        (
            pg_sys::StatementTimeout,
            pg_sys::GetCurrentStatementStartTimestamp(),
        )
    };
    let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0)?;
    let elapsed = Duration::from_micros(now().saturating_sub(began).unsigned_abs());
    Some(Duration::from_millis(limit).saturating_sub(elapsed))
}
