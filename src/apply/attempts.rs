//! What the attempts of a call so far have taught.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::explained::Observer;
use crate::error::SqlError;
use crate::outcome::Suspects;

/// The most attempts of a call. Each restart escalates: shared locks, exclusive locks, then also the
/// mappings of tables that messages wait for, then the dead letters that wait for the call's rows. Even
/// then a session that is not one of ours can deadlock with the call.
pub const ATTEMPTS: usize = 30;

/// How often the mappings may change under a call. Then it locks changes out: somebody may change a mapping of
/// his own without end.
pub const PATIENT: usize = 5;

/// After so many attempts it is no reason to begin again that a relation is not found: a trigger may look
/// for one in vain, and make the server say that something changed, every time.
const EARLY: usize = 5;

/// What a call has learnt in its attempts so far. It only grows.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Whether the call takes exclusive locks on its mappings.
    pub exclusive: bool,
    /// The mappings (by id) that it locks beside those of its messages.
    pub mappings: BTreeSet<i32>,
    /// The dead letters (by number) that it tries again.
    pub letters: BTreeSet<i64>,
    /// By mapping (id), the messages that are suspected of having made an attempt fail.
    pub suspects: HashMap<i32, Suspects>,
    /// The mappings (by id) that the call goes on without, and why: their messages become letters.
    pub aside: BTreeMap<i32, SqlError>,
    /// The mappings (by id) whose kept letters the call has looked for.
    pub replayed: BTreeSet<i32>,
    /// Whether the letters are what the call is for: they are counted.
    pub explicit: bool,
    /// Whether the call has begun again for messages without an outcome.
    pub missed: bool,
    /// How many attempts have begun.
    pub begun: usize,
    /// Whether this attempt is the last.
    pub last: bool,
    /// Observes the call, if it is made to be explained.
    pub observer: Option<Observer>,
}

impl Attempts {
    /// Whether this is one of the first attempts.
    pub fn is_early(&self) -> bool {
        self.begun < EARLY
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
