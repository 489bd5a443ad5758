//! Retrying the letters that wait for what a call has written.
//!
//! The call's own messages are written by then. The letters are retried in portions, each in a subtransaction of its
//! own, for as long as `sequin.heal_time` lets it. Letters that are left are noted by the rows that they wait for; any
//! later call of any mapping goes on with them.

#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bumpalo::Bump;

use super::attempts::Attempts;
use super::registry::Registry;
use crate::dead_letter::due::{self, Candidate, Due, Sweep, Written};
use crate::envelope::{Batch, End};
use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::sqlstate::LOCK_NOT_AVAILABLE;
use crate::outcome::{Counts, Outcome};
use crate::pg::clock;
use crate::pg::memory::Arena;
use crate::pg::settings::Settings;
use crate::pg::subtransaction::subtransaction;
use crate::settings;
use crate::stop::{Again, Stop};

/// How many letters the first portion has, and how many a portion has at most.
const FIRST: usize = 100;
const MOST: usize = 2_000;

/// How many letters the first portion has where the client's statement has a time limit, which a portion of slow
/// letters must not use up.
const FIRST_LIMITED: usize = 10;

/// How many parts of the time one portion may wait for a lock. The portion that meets one is divided, until the letter is
/// alone that needs the lock.
const PARTS: u32 = 8;

/// How long a portion may wait for a lock while the session knows letters that met one, and for how long it does.
const BRIEFLY: Duration = Duration::from_millis(5);
const KNOWN: Duration = Duration::from_secs(10);

/// After so many letters that met a lock the call leaves the rest to later calls.
const ENOUGH: usize = 2;

thread_local! {
    /// How many letters the next first portion has at most: fewer after a portion for which the time did not do.
    static AT_FIRST: Cell<usize> = const { Cell::new(MOST) };
    /// The letters (by number) that met a lock of another session, and when.
    static LOCKED: RefCell<HashMap<i64, Instant>> = RefCell::new(HashMap::new());
    /// When a call has waited in vain for the mapping of a letter.
    static IN_USE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A portion that took less is followed by a larger one, and one that took more than twice as long by a smaller one.
const SHORT: Duration = Duration::from_millis(40);

/// What makes attempts of a call until one stands.
pub type Apply =
    for<'a> fn(&mut Batch<'a>, End, &'a Bump, &mut Registry, &mut Attempts) -> Result<Counts, Stop>;

/// How often a call tries a letter: again only if a row that it waits for has been written since.
const TIMES: u32 = 3;

/// Retries letters that wait for the rows that the call has written, and letters that earlier calls have left.
/// `Err`: the call must fail, or begin again to get the lock on a mapping.
pub fn heal(
    registry: &mut Registry,
    attempts: &mut Attempts,
    apply: Apply,
) -> Result<Counts, Stop> {
    let rows = std::mem::take(&mut attempts.wrote);
    let candidates = std::mem::take(&mut attempts.candidates);
    registry.see_letters()?;
    let letters = &registry.letters;
    if attempts.observer.is_some() || !letters.any_waits() {
        return Ok(Counts::default());
    }
    let ready = letters.any_ready();
    let sweep = Sweep::due();
    if rows.is_empty() && candidates.is_empty() && !ready && sweep.is_none() {
        return Ok(Counts::default());
    }
    let mut healing = Healing {
        began: Instant::now(),
        time: time(attempts.explicit),
        rows,
        candidates,
        in_the_way: Vec::new(),
        since: clock::to_unix(clock::now()),
        tried: attempts.letters.iter().map(|letter| (*letter, 1)).collect(),
        size: AT_FIRST.get().min(match clock::statement_time_left() {
            Some(_) => FIRST_LIMITED,
            None => FIRST,
        }),
        apply,
        stored: attempts.stored.iter().copied().collect(),
        own: Counts::default(),
        portions: 0,
        patience: (!attempts.explicit).then(patience),
        locked: 0,
    };
    let result = healing.portions(registry, attempts, sweep.is_some());
    if let (Err(Stop::BeginAgain(_)), Some(sweep)) = (&result, sweep) {
        sweep.give_back();
    }
    result?;
    while ready && healing.locked == 0 && !healing.is_over() {
        healing.rows = due::take_over()?;
        if healing.rows.is_empty() {
            break;
        }
        healing.portions(registry, attempts, false)?;
    }
    healing.settle_superseded()?;
    Ok(healing.own)
}

/// How long letters may be retried: half of the time that the session's statement has left, at most.
fn time(explicit: bool) -> Option<Duration> {
    let left = clock::statement_time_left().map(|left| left / 2);
    match explicit {
        true => left,
        false => Some(left.map_or(settings::heal_time(), |left| {
            left.min(settings::heal_time())
        })),
    }
}

/// How long a portion may wait for a lock of another session: a part of the time, which is for the other letters too.
fn patience() -> Duration {
    let known = LOCKED.with_borrow_mut(|locked| {
        locked.retain(|_, at| at.elapsed() < KNOWN);
        !locked.is_empty()
    });
    match known {
        true => BRIEFLY,
        false => (settings::heal_time() / PARTS).max(BRIEFLY),
    }
}

/// Whether a lock on a mapping was not to be had.
fn is_in_use(error: &SqlError) -> bool {
    error.is(LOCK_NOT_AVAILABLE) && error.origin == Origin::Extension
}

/// Whether letters whose mapping is in use are left to later calls: this call has waited for it, or one before.
fn may_leave(attempts: &Attempts) -> bool {
    if attempts.may_leave {
        IN_USE.set(Some(Instant::now()));
    }
    IN_USE.get().is_some_and(|at| at.elapsed() < KNOWN)
}

/// The retrying of letters.
struct Healing {
    began: Instant,
    /// How long it may take; `None`: as long as it takes.
    time: Option<Duration>,
    /// The rows whose letters are retried.
    rows: Vec<Written>,
    /// Other letters that may succeed.
    candidates: Vec<Candidate>,
    /// What these letters wait for.
    in_the_way: Vec<Written>,
    /// When the retrying began (in microseconds since 1970).
    since: i64,
    /// The letters (by number) that were retried, and how often.
    tried: HashMap<i64, u32>,
    /// How many letters the next portion has.
    size: usize,
    apply: Apply,
    /// How many portions were tried.
    portions: usize,
    /// The letters that the call itself has stored. What becomes of them is the call's own outcome.
    stored: BTreeSet<i64>,
    /// The outcomes of these.
    own: Counts,
    /// How long a portion may wait for a lock; `None`: as long as it takes.
    patience: Option<Duration>,
    /// How many letters have met a lock.
    locked: usize,
}

impl Healing {
    /// Whether the time is over. Each call that has letters to retry retries some, so that calls get on.
    fn is_over(&self) -> bool {
        self.locked >= ENOUGH
            || self.portions > 0 && self.time.is_some_and(|time| self.began.elapsed() >= time)
    }

    /// Retries the letters that wait for the rows, portion by portion.
    fn portions(
        &mut self,
        registry: &mut Registry,
        attempts: &mut Attempts,
        mut sweep: bool,
    ) -> Result<(), Stop> {
        loop {
            if self.is_over() {
                return self.leave();
            }
            registry.see_letters()?;
            let found = due::find(&registry.letters, &self.rows, std::mem::take(&mut sweep))?;
            let known = self.rows.len();
            let mut letters = found.letters;
            for candidate in self.candidates.drain(..) {
                letters.push(candidate.due);
                let since = |row: Written| row.since(self.since);
                self.in_the_way.extend(candidate.waits_for.map(since));
            }
            letters.retain(|due| {
                self.tried
                    .get(&due.letter)
                    .is_none_or(|times| *times < TIMES)
                    && attempts.may_retry(&registry.mappings, due)
            });
            if letters.is_empty() {
                return Ok(());
            }
            // First those that are free, then those that met a lock longest ago.
            LOCKED
                .with_borrow(|locked| letters.sort_by_key(|due| locked.get(&due.letter).copied()));
            let mut letters = letters.as_slice();
            while !letters.is_empty() {
                if self.is_over() {
                    return self.leave();
                }
                let (portion, rest) = letters.split_at(self.size.min(letters.len()));
                letters = rest;
                self.portion(portion, registry, attempts)?;
            }
            if self.locked > 0 {
                // After the rows of others, so that these have their turn.
                let now = clock::to_unix(clock::now());
                let rows = std::mem::take(&mut self.rows).into_iter();
                self.rows = rows.map(|row| row.since(now)).collect();
                return self.leave();
            }
            if !found.more {
                // What is left to look for are letters that wait for the rows of these letters.
                self.rows.drain(..known);
            }
            if self.rows.is_empty() && self.candidates.is_empty() {
                return Ok(());
            }
        }
    }

    /// Leaves the letters that were not retried to later calls.
    fn leave(&mut self) -> Result<(), Stop> {
        let left = self
            .candidates
            .drain(..)
            .filter_map(|candidate| candidate.waits_for);
        self.rows.extend(left);
        self.rows.append(&mut self.in_the_way);
        Ok(due::leave(&self.rows)?)
    }

    /// Letters of the call that are gone without having been retried: a letter that was retried had a newer change of
    /// their row.
    fn settle_superseded(&mut self) -> Result<(), SqlError> {
        if self.portions == 0 || self.stored.is_empty() {
            return Ok(());
        }
        let gone = self.stored.len() as i64 - due::still_kept(&self.stored)?;
        let [.., dead] = self.own.outcomes;
        let retried = self.own.outcomes.iter().sum::<i64>() - dead;
        self.own.outcomes[Outcome::Stale.number()] += (gone - retried).max(0);
        Ok(())
    }

    /// Retries a portion: the call's own letters by themselves, since their outcomes are counted.
    fn portion(
        &mut self,
        portion: &[Due],
        registry: &mut Registry,
        attempts: &mut Attempts,
    ) -> Result<(), Stop> {
        let (own, others): (Vec<Due>, Vec<Due>) = portion
            .iter()
            .partition(|due| self.stored.contains(&due.letter));
        for (letters, own) in [(own, true), (others, false)] {
            if !letters.is_empty() {
                self.retry(&letters, own, registry, attempts)?;
            }
        }
        Ok(())
    }

    /// Retries letters. If that fails, the letters stay as they were.
    fn retry(
        &mut self,
        portion: &[Due],
        is_own: bool,
        registry: &mut Registry,
        attempts: &mut Attempts,
    ) -> Result<(), Stop> {
        self.portions += 1;
        let began = Instant::now();
        let since = clock::to_unix(clock::now());
        for due in portion {
            *self.tried.entry(due.letter).or_default() += 1;
        }
        let memory = Arena::take();
        let mut batch = Batch::empty();
        let own = batch.end();
        let mut beside = Attempts {
            exclusive: true,
            beside: true,
            time: clock::statement_time_left().map(|left| left / 2),
            letters: portion.iter().map(|due| due.letter).collect(),
            mappings: portion.iter().map(|due| due.mapping).collect(),
            explicit: is_own,
            only: attempts.only,
            ..Attempts::default()
        };
        let limit = self.patience.map(Settings::lock_timeout);
        let result =
            subtransaction(|| (self.apply)(&mut batch, own, &memory, registry, &mut beside));
        drop(limit);
        match result {
            Ok(counts) => {
                IN_USE.set(None);
                LOCKED.with_borrow_mut(|locked| {
                    if !locked.is_empty() {
                        portion
                            .iter()
                            .for_each(|due| _ = locked.remove(&due.letter));
                    }
                });
                // Others may have come along.
                if is_own && beside.letters.len() == portion.len() {
                    self.own.add(&counts);
                }
                for letter in beside.letters {
                    self.tried.entry(letter).or_insert(1);
                }
                self.candidates.append(&mut beside.candidates);
                let wrote = beside.wrote.drain(..);
                self.rows.extend(wrote.map(|row| row.since(since)));
                let took = began.elapsed();
                if took < SHORT / 4 {
                    self.size = (self.size * 4).min(MOST);
                } else if took < SHORT {
                    self.size = (self.size * 2).min(MOST);
                } else if took > SHORT * 2 {
                    self.size = (self.size / 2).max(FIRST_LIMITED);
                }
                AT_FIRST.set(self.size);
                Ok(())
            }
            // A transaction that has called for the mapping stays open. Later calls go on.
            Err(Stop::Failed(error)) if is_in_use(&error) && may_leave(attempts) => {
                self.locked = ENOUGH;
                Ok(())
            }
            Err(Stop::Failed(error)) if is_in_use(&error) => {
                // Another call may end without a look at these letters.
                attempts.mappings.extend(beside.mappings);
                attempts.for_letters = true;
                Err(Stop::EXCLUSIVE)
            }
            // The client's time was running out: the call's own work is more important.
            Err(Stop::Failed(error)) if matches!(error.origin, Origin::OutOfTime(_)) => {
                AT_FIRST.set((portion.len() / 4).max(1));
                self.time = Some(Duration::ZERO);
                Ok(())
            }
            Err(Stop::Failed(error)) if error.is(LOCK_NOT_AVAILABLE) => {
                self.divide(portion, is_own, registry, attempts)
            }
            Err(Stop::Failed(error)) => {
                self.tried
                    .extend(portion.iter().map(|due| (due.letter, TIMES)));
                match error.origin {
                    Origin::Server => Err(error.into()),
                    _ => Ok(()),
                }
            }
            Err(Stop::BeginAgain(Again::Reload)) => Err(Stop::RELOAD),
            Err(Stop::BeginAgain(_)) => Ok(()),
        }
    }

    /// Another session has locked what a letter of the portion needs. Retries the portion in halves while there is time.
    fn divide(
        &mut self,
        portion: &[Due],
        is_own: bool,
        registry: &mut Registry,
        attempts: &mut Attempts,
    ) -> Result<(), Stop> {
        self.size = (portion.len() / 2).max(1);
        AT_FIRST.set(self.size);
        if let [letter] = portion {
            self.locked += 1;
            self.tried.insert(letter.letter, TIMES);
            LOCKED.with_borrow_mut(|locked| locked.insert(letter.letter, Instant::now()));
            return Ok(());
        }
        let (first, rest) = portion.split_at(portion.len() / 2);
        for half in [first, rest] {
            if !self.is_over() {
                self.retry(half, is_own, registry, attempts)?;
            }
        }
        Ok(())
    }
}
