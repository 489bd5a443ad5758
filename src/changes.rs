//! The changes that one mapping takes from a batch, from messages to the net change of each row.
//!
//! ```text
//! intake   ─ project   ─ find     ─ keyed    ─ examine ─ fold    ─ net
//! messages   mapping's   events     changes    stored    one net   effect
//!            SQL         and keys   by row     state     per row   on the row
//! ```
//!
//! The parts of [`Changes`] can be borrowed separately: a function that takes only `&Keyed` and `&Values`
//! can change neither the outcomes of messages nor the target.

#![forbid(unsafe_code)]

mod brings;
mod contents;
mod derived;
mod examine;
mod find;
pub mod fold;
pub mod intake;
mod kept;
pub mod keyed;
pub mod ledger;
mod locks;
mod members;
mod moved;
pub mod net;
mod other_row;
mod past;
mod peers;
mod project;
mod remedy;
mod repeated;
mod said;
mod told;
mod values;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys::Datum;

use crate::blame;
use crate::envelope::Batch;
use crate::error::SqlError;
use crate::guard::stored::Stored;
use crate::mapping::Mode;
use crate::outcome::{Failure, MessageNo, Position, Suspects, Wait};
use crate::pg::interrupts;
use crate::pg::invalidation;
use crate::pg::subtransaction::{open_subtransaction, subtransaction};
use crate::pg::user::ActingAs;
use crate::stop::Stop;
use crate::target::Target;
use intake::{Call, Intake};
use keyed::{Keyed, Run};
use ledger::Ledger;
use net::{Images, NetChange, NetChanges, Values};

/// The lock that the call holds on a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingLock {
    /// Other calls may write the mapping's rows at the same time.
    Shared,
    /// No other call writes the mapping's rows until the transaction ends.
    Exclusive,
}

/// The stored state of the rows that were loaded.
#[derive(Default)]
pub struct Examined {
    /// With guard columns: the home source, whose positions the destination's columns hold.
    pub home: i64,
    /// Whether the mapping had entries in `sequin.row_version` before the call wrote, once that is asked.
    pub entries: Option<bool>,
    /// The stored states, by the start of the row's run.
    pub stored: HashMap<u32, Stored>,
    /// Rows (by the start of their run) whose changes are all stale: they are neither loaded nor written.
    pub past: HashSet<u32>,
    /// Deletes and departures whose row is another one than the stored row, by its values.
    pub others: HashSet<u32>,
}

/// How far the writing of the rows has come.
#[derive(Default)]
pub struct Progress {
    /// The deletes that were claimed together with the upserts, by the start of their run. True: the delete
    /// is news.
    pub claimed_deletes: HashMap<u32, bool>,
    /// Hints at the messages that made the last set of rows fail. The next division of a set uses these
    /// hints.
    pub suspects: Suspects,
    /// Where deletes are soft: rows (by the start of their run) that go on under another key, and are marked at the old
    /// one because other rows refer to it.
    pub kept_marked: HashSet<u32>,
    /// Net changes (by the start of their run) that are written: the row has got another key.
    pub moved: HashSet<u32>,
    /// Rows (by the start of their run) that had no entry before the call claimed them. Noted where other mappings may not
    /// have them.
    pub first: HashSet<u32>,
    /// The number of rows that this call is the first to confirm in a resync.
    pub confirmed: i64,
}

/// The changes that one mapping takes from a batch.
pub struct Changes<'a> {
    /// The mapping, prepared to write its destination.
    pub target: Target,
    /// The messages, which do not change.
    pub intake: Intake<'a>,
    /// The changes of rows, with their keys. Sorted changes do not change any more.
    pub keyed: Keyed,
    /// The stored state of the examined rows.
    pub examined: Examined,
    /// The net change of each row.
    pub nets: NetChanges,
    /// The outcomes of the messages.
    pub ledger: Ledger,
    /// The lock that the call holds on the mapping.
    pub lock: MappingLock,
    /// How far the writing has come.
    pub progress: Progress,
    /// For an explained call: the rows before the call, by key.
    pub before: Images,
    /// The keys of rows that were not there when the mapping's SQL needed their values.
    absent: HashMap<Vec<u8>, Vec<Datum>>,
}

impl<'a> Changes<'a> {
    /// The messages of `batch` at these positions, which `target` takes. Data that is made from the
    /// messages is kept in `memory` and in the current memory context.
    pub fn new(
        target: Target,
        call: Rc<Call>,
        lock: MappingLock,
        batch: &'a Batch<'a>,
        messages: Vec<Position>,
        memory: &'a Bump,
    ) -> Changes<'a> {
        let append = target.mapping.mode == Mode::Append;
        let count = messages.len();
        Changes {
            keyed: Keyed::new(target.key.len(), append, count),
            nets: NetChanges {
                list: Rc::default(),
                values: Values::new(target.columns.len()),
            },
            intake: Intake::new(call, batch, messages, memory),
            examined: Examined::default(),
            ledger: Ledger::new(count),
            lock,
            progress: Progress::default(),
            before: Images::new(),
            absent: HashMap::new(),
            target,
        }
    }

    /// Acts as the mapping's owner for as long as the value lives.
    pub fn acting_as_owner(&self) -> ActingAs {
        let mapping = &self.target.mapping;
        ActingAs::owner(self.target.writer(), mapping.id)
    }

    /// Whether the row of a deleting net change is marked rather than deleted: where deletes are soft, unless the row
    /// goes on under another key.
    pub fn is_marked(&self, net: &NetChange) -> bool {
        self.target.mark().is_some()
            && (!self.keyed.has_left(net.run, net.message)
                || self.progress.kept_marked.contains(&net.run.start))
    }

    /// Whether a message has failed whose row is known.
    pub fn has_failed(&self) -> bool {
        let mut failures = self.ledger.failures.iter();
        self.target.mapping.mode == Mode::Upsert
            && failures.any(|failure| self.keyed.of_subject(failure.message).is_some())
    }

    /// Runs `work` for each number below `count`. The failure of a message is rolled back and noted, and
    /// the work continues. An error of the call ends the work.
    fn each(
        &mut self,
        count: usize,
        mut work: impl FnMut(&mut Self, usize) -> Result<(), (MessageNo, SqlError)>,
    ) -> Result<(), Stop> {
        let mut next = 0;
        let mut again = None;
        while next < count {
            let result = subtransaction(|| {
                while next < count {
                    interrupts::check();
                    let at = next;
                    next += 1;
                    work(self, at)?;
                }
                Ok(())
            });
            if let Err((message, error)) = result {
                if blame::deserves_another_try(&error) && again.replace(next) != Some(next) {
                    next -= 1;
                    continue;
                }
                self.fail(message, error)?;
            }
        }
        Ok(())
    }

    /// Runs `work` in a subtransaction. If `work` fails, the outcomes that it noted are undone too.
    ///
    /// Under the shared lock, a subtransaction that is kept ends with the one around it: see
    /// [`open_subtransaction`].
    pub fn attempt<T, E>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let mark = self.ledger.begin();
        let result = match self.lock {
            MappingLock::Shared => open_subtransaction(|| work(self)),
            MappingLock::Exclusive => subtransaction(|| work(self)),
        };
        self.ledger.end(mark, result.is_ok());
        result
    }

    /// Notes that a message failed for good. `Err`: the call must fail, or begin again.
    pub fn fail(&mut self, message: MessageNo, error: SqlError) -> Result<(), Stop> {
        let error = self.blame(error)?;
        let wait = blame::heals_by_grant(&error).then(Wait::default);
        let error = remedy::with_hint(&self.target, error);
        self.give_up(message, error, wait);
        Ok(())
    }

    /// `Ok(error)`: the message is to blame. `Err`: the call must fail, or begin again because the
    /// destination's schema was renamed, which no lock prevents. The subtransaction that failed must have
    /// been rolled back.
    pub fn blame(&self, error: SqlError) -> Result<SqlError, Stop> {
        if self.intake.call.early
            && blame::is_missing_relation(&error)
            && invalidation::has_changed(self.target.destination.oid)
        {
            return Err(Stop::EXCLUSIVE);
        }
        Ok(blame::blame(error, &self.target.mapping)?)
    }

    /// Notes that a message failed. With `wait`, the message waits for another row.
    pub fn give_up(&mut self, message: MessageNo, error: SqlError, wait: Option<Wait>) {
        self.ledger.fail(Failure {
            message,
            error,
            wait,
        });
    }

    /// The key of a change's row as bytes, its columns in the order of the table.
    pub fn table_key(&self, change: u32) -> Vec<u8> {
        let order = self.target.table_order();
        self.keyed
            .key_in_order(change, &self.target.key_encoding, &order)
    }

    /// The key of a change's row as a JSON array, for people; `None` for rows without a key.
    pub fn key_text(&self, change: u32) -> Option<String> {
        let types = self.target.key.iter().map(|&column| {
            // The type in the batch relation is the column's own for keys.
            self.target.columns[column].row.type_oid
        });
        let values: Vec<_> = types
            .zip(self.keyed.key_values(change))
            .map(|(type_oid, value)| {
                serde_json::Value::from(crate::pg::keys::output_text(type_oid, *value))
            })
            .collect();
        (!values.is_empty()).then(|| serde_json::Value::from(values).to_string())
    }
}

/// Runs `work` over the changes of several mappings in one subtransaction. If `work` fails, the outcomes
/// that it noted are undone too.
pub fn attempt_together<T, E>(
    all: &mut [Changes<'_>],
    work: impl FnOnce(&mut [Changes<'_>]) -> Result<T, E>,
) -> Result<T, E> {
    let marks: Vec<_> = all.iter_mut().map(|c| c.ledger.begin()).collect();
    let result = subtransaction(|| work(all));
    for (changes, mark) in all.iter_mut().zip(marks) {
        changes.ledger.end(mark, result.is_ok());
    }
    result
}

/// The keys of these runs, as bytes.
fn keys_of(keyed: &Keyed, runs: &[Run]) -> Vec<Vec<u8>> {
    runs.iter()
        .map(|run| keyed.key(run.start).to_vec())
        .collect()
}
