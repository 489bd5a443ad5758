//! What a call carries over from one attempt to the next.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use pgrx::pg_sys;

use super::explained::Observer;
use crate::counters::Tally;
use crate::dead_letter::circles::beside;
use crate::dead_letter::due::{Candidate, Due, Written};
use crate::error::SqlError;
use crate::mapping::Mapping;
use crate::outcome::Suspects;
use crate::pg::clock;
use crate::pg::turn::LockLimit;
use crate::pg::user::may_act_as;
use crate::settings;
use crate::stop::{Again, Stop};

/// The most attempts of a call. Each restart is stricter than the attempt before:
///
/// 1. The call shares its mappings with others.
/// 2. It locks all its rows before it writes the first.
/// 3. It has its mappings alone, then also those of tables that messages wait for, then it takes along the dead letters
///    that wait for its rows.
///
/// Even then a session that does not run this extension's code can deadlock with the call.
pub const ATTEMPTS: usize = 30;

/// After so many changes of the mappings during a call, the call locks changes out. Otherwise a user who
/// changes a mapping of his own again and again could hold the call up for ever.
pub const PATIENT: usize = 5;

/// When a call begins again to take letters along for the second time, it takes all along that wait in the same tables, if
/// they are few.
const GROWS_BY_ALL: usize = 2;

/// How often a call begins again to take letters along, if it has more messages than the second number.
const GROWN: usize = 3;
const SMALL: usize = 300;

/// How long a call waits for mappings of letters that it retries beside its own messages.
const IN_USE: Duration = Duration::from_secs(1);

/// After so many deadlocks in its turn the call goes on without a mapping: code of the mapping, with another session's
/// help, could make them for ever.
const DEADLOCKS: usize = 8;

/// For how long it tries to. Somebody may have changed a mapping, and not commit.
pub const LOCKING_OUT: Duration = Duration::from_secs(2);

/// After so many attempts it is no reason to begin again that a relation is not found: a trigger may look
/// for one in vain, and make the server say that something changed, every time.
const EARLY: usize = 5;

/// What a call has learnt from its attempts so far.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Whether the call examines all its rows, and so locks them in the order of their keys before it writes any.
    pub careful: bool,
    /// Whether the call takes exclusive locks on its mappings.
    pub exclusive: bool,
    /// The mappings (by id) that the call locks in addition to the mappings of its messages.
    pub mappings: BTreeSet<i32>,
    /// The dead letters (by number) that the call retries.
    pub letters: BTreeSet<i64>,
    /// How often the call has begun again to take letters along.
    pub grown: usize,
    /// By mapping (id), the messages that may have made an attempt fail.
    pub suspects: HashMap<i32, Suspects>,
    /// The mappings (by id) that the call has set aside, and why. Their messages become letters.
    pub aside: BTreeMap<i32, SqlError>,
    /// The mappings (by id) whose kept letters the call has looked up.
    pub replayed: BTreeSet<i32>,
    /// Whether the call was made to retry the letters. Their outcomes are then counted.
    pub explicit: bool,
    /// Whether the call has begun again for messages without an outcome.
    pub missed: bool,
    /// The rows that the attempt has written and letters may wait for.
    pub wrote: Vec<Written>,
    /// Letters that may succeed now although no row that they wait for was written: they are newer than what the attempt
    /// has written to their rows, or may have to be written with letters of the attempt.
    pub candidates: Vec<Candidate>,
    /// What the attempt has counted.
    pub tally: Tally,
    /// The letters (by number) that the attempt has stored.
    pub stored: Vec<i64>,
    /// Whether the call retries letters beside the batch of another call, which holds locks: it waits for no lock.
    pub beside: bool,
    /// How long each mapping may take in such a retry, where the client's statement has little time left.
    pub time: Option<Duration>,
    /// Whether more letters may have to be written together with the call's rows than a call takes along.
    pub crowded: bool,
    /// The open transaction that has written a row of the attempt.
    pub overtaker: Option<pg_sys::TransactionId>,
    /// Whether the call locks mappings for the letters that it retries beside its own messages.
    pub for_letters: bool,
    /// Whether these mappings were not to be had in time, so that later calls retry the letters.
    pub may_leave: bool,
    /// Whether the call goes on without letters, since another session has locked what one of them needs.
    pub alone: bool,
    /// The mappings (by id) whose writers may execute the extension's functions again.
    pub granted: BTreeSet<i32>,
    /// How many attempts have ended by a deadlock while the call worked for a mapping (by id).
    pub deadlocks: HashMap<i32, usize>,
    /// How many attempts have begun.
    pub begun: usize,
    /// Whether this attempt is the last.
    pub last: bool,
    /// The role whose rights limit the mappings that the call takes along and locks, beside those of its messages.
    pub only: Option<pg_sys::Oid>,
    /// Observes the call, if it is made to be explained.
    pub observer: Option<Observer>,
}

impl Attempts {
    /// Whether this is one of the first attempts.
    pub fn is_early(&self) -> bool {
        self.begun < EARLY
    }

    /// Whether the client's statement leaves the time for so many more letters in the attempt. They take up to half a
    /// millisecond each, and may take half of the time.
    pub fn has_time_for(&self, letters: usize) -> bool {
        let letters = (self.letters.len() + letters) as u128;
        clock::statement_time_left().is_none_or(|left| letters <= left.as_millis())
    }

    /// Makes the next attempt stricter than the one that ended with `stop`.
    pub fn escalate(&mut self, stop: &Stop) {
        let by_rows = match stop {
            Stop::BeginAgain(again) => *again == Again::Examine,
            Stop::Failed(_) => true,
        };
        let early = !self.careful || self.overtaker.is_some() && self.is_early();
        self.careful = by_rows && early && !self.exclusive;
        self.exclusive |= !self.careful;
    }

    /// How long each mapping may take, if that is less than `sequin.mapping_timeout`, since the client's statement has
    /// little time left.
    pub fn shortage(&self) -> Option<Duration> {
        let limit = settings::mapping_timeout();
        self.time.filter(|time| limit.is_zero() || *time < limit)
    }

    /// Whether the attempt has taken letters along which can also be written later. Letters that were kept for a mapping
    /// come before its messages.
    pub fn takes_along(&self) -> bool {
        !(self.beside || self.explicit || self.letters.is_empty()) && self.replayed.is_empty()
    }

    /// Notes a deadlock in the turn of a mapping (by id). Returns whether the call is to go on without it.
    pub fn deadlocked(&mut self, mapping: i32) -> bool {
        let deadlocks = self.deadlocks.entry(mapping).or_default();
        *deadlocks += 1;
        *deadlocks >= DEADLOCKS
    }

    /// How long the attempt waits for rows that other sessions have locked, if it takes letters along. Calls wait for each
    /// other's mappings as always.
    pub fn lock_limit(&self) -> Option<LockLimit> {
        self.takes_along()
            .then(|| LockLimit::new(settings::heal_time()))
    }

    /// How long the attempt waits for mappings.
    pub fn mapping_limit(&self) -> Option<LockLimit> {
        self.for_letters.then(|| LockLimit::new(IN_USE))
    }

    /// The call leaves letters whose mappings are in use to later calls.
    pub fn leave(&mut self) {
        self.mappings.clear();
        self.for_letters = false;
        self.may_leave = true;
    }

    /// The call goes on without the letters that it has taken along.
    pub fn go_alone(&mut self) {
        self.letters.clear();
        self.alone = true;
    }

    /// Whether the call may begin again to write letters together with its rows.
    pub fn may_take_along(&self) -> bool {
        !(self.last || self.alone)
    }

    /// Whether the call, with so many messages, has begun again to take letters along so often that it leaves the others
    /// to the retrying that comes after it: that tries them in small portions. A letter tells one row or value that it
    /// waits for, so the next one shows when the first one is there.
    pub fn has_grown(&self, messages: usize) -> bool {
        (self.beside || !self.explicit)
            && self.grown >= GROWN
            && messages + self.letters.len() > SMALL
    }

    /// The call begins again with these letters; the second time, with all that wait beside them.
    pub fn take_along(
        &mut self,
        found: Vec<Candidate>,
        mappings: &[Mapping],
    ) -> Result<(), SqlError> {
        self.grown += 1;
        let mut beside = match self.grown {
            GROWS_BY_ALL => beside(&found)?,
            _ => Vec::new(),
        };
        beside.retain(|due| self.may_retry(mappings, due));
        if !self.has_time_for(found.len() + beside.len()) {
            beside.clear();
        }
        for due in found.into_iter().map(|it| it.due).chain(beside) {
            self.letters.insert(due.letter);
            self.mappings.insert(due.mapping);
        }
        Ok(())
    }

    /// Whether the call may take along the mapping's letters, and lock the mapping for messages of others.
    pub fn may_run(&self, mapping: &Mapping) -> bool {
        self.only
            .is_none_or(|role| may_act_as(role, mapping.owner_oid()))
    }

    /// Whether the call may retry a letter.
    pub fn may_retry(&self, mappings: &[Mapping], due: &Due) -> bool {
        let mut mappings = mappings.iter();
        mappings
            .find(|mapping| mapping.id == due.mapping)
            .is_none_or(|mapping| self.may_run(mapping))
    }

    /// After the mappings changed: leaves out the letters that the call has taken along by itself, since
    /// their mappings may be paused now.
    pub fn forget_implicit_letters(&mut self) {
        if !self.explicit {
            self.letters.clear();
            self.mappings.clear();
        }
    }
}
