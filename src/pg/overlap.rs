//! What other transactions have done since a moment, as far as no snapshot shows it: rows that are written and not
//! committed yet, too.
//!
//! Two calls can write one row without a lock that both take: one deletes a row that is not there and leaves a
//! tombstone, the other inserts that row. Each writes first, and looks for the other's row then. So at least one of
//! them finds the other, and begins again.

use std::ops::ControlFlow;
use std::ptr;

use pgrx::pg_sys::{self, Datum, Oid, TransactionId};

use super::trap::trap;
use super::unique_scan::{Found, Sees, scan};
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
/// not. With a moment, only what was not visible then counts. For the index see [`scan`].
pub fn find_stranger(
    (table, index): (Oid, Oid),
    keys: impl Iterator<Item = Vec<Datum>>,
    since: Option<&Moment>,
) -> Option<Stranger> {
    let mut stranger = None;
    scan((table, index), Sees::Dirty, &[], keys, |_, row| {
        stranger = stranger_in(row, since);
        match stranger {
            Some(_) => ControlFlow::Break(()),
            None => ControlFlow::Continue(()),
        }
    });
    stranger
}

fn stranger_in(row: &Found<'_>, since: Option<&Moment>) -> Option<Stranger> {
    let open = row.open_transaction();
    if open != pg_sys::InvalidTransactionId {
        return Some(Stranger::Open(open));
    }
    let known = row.written_by().is_some_and(|written_by| {
        is_own(written_by) || since.is_some_and(|moment| moment.shows(written_by))
    });
    (!known).then_some(Stranger::Committed)
}
