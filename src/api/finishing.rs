//! The secret by which the functions of a resync, and of a change of the guard, know the statement that may call them.

#![forbid(unsafe_code)]

use std::cell::Cell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::pg::keys::random;

thread_local! {
    static FINISHING: Cell<Option<(i32, i64)>> = const { Cell::new(None) };
}

/// While the value lives, this session is finishing a resync of a mapping, or carries its versions to another
/// guard.
pub(super) struct Finishing {
    /// A random number, which only the resync's own statement knows.
    pub(super) token: i64,
    before: Option<(i32, i64)>,
}

impl Finishing {
    pub(super) fn new(mapping: i32) -> Finishing {
        let token = random();
        Finishing {
            token,
            before: FINISHING.replace(Some((mapping, token))),
        }
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        FINISHING.set(self.before);
    }
}

/// `sequin_internal.in_resync(mapping, token)`: true for the statement that finishes a resync of the mapping right
/// now. Any other call is an error, also by a trigger that the statement fires.
#[pg_extern(sql = false)]
fn in_resync(mapping: Option<i32>, token: Option<i64>) -> Result<bool, ErrorReport> {
    match FINISHING.get() {
        Some((of, its)) if mapping == Some(of) && token == Some(its) => Ok(true),
        _ => Err(Error::OutsideResync.into()),
    }
}
