//! One call: hands a batch to its mappings. In each mapping, every message ends with one counted outcome.
//! Dead letters that may work now are retried with the batch.
//!
//! A call makes attempts until one succeeds. The first attempt takes shared locks on its mappings. Later
//! attempts lock their rows first, or take exclusive locks on mappings, also on further ones if needed, and retry dead
//! letters.

#![forbid(unsafe_code)]

mod attempt;
mod attempts;
mod broken;
pub mod diagnosis;
mod drift;
pub mod explained;
mod heal;
mod images;
mod missing;
mod prepare;
pub mod registry;
mod routes;
mod settle;

use std::time::{Duration, Instant};

use bumpalo::Bump;
use pgrx::PgLogLevel;
use pgrx::pg_sys::{self, panic::ErrorReport};

use crate::blame::mapping_at_fault;
use crate::counters::{self, Tally};
use crate::envelope::{Batch, End};
use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::{Error, sqlstate};
use crate::guard::notes::{is_prune_due, prune, pruned_for_now};
use crate::mapping::OnError;
use crate::outcome::Counts;
use crate::pg::clock;
use crate::pg::failures::note_retried;
use crate::pg::interrupts;
use crate::pg::invalidation;
use crate::pg::isolation;
use crate::pg::memory::{Arena, Context};
use crate::pg::overlap::wait_for;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::subtransaction::subtransaction;
use crate::pg::turn::{Turn, begin_attempt, caught, mapping_of_servers_error};
use crate::settings;
use crate::stop::{Again, Stop};
use attempt::attempt;
use attempts::{ATTEMPTS, Attempts, LOCKING_OUT, PATIENT};
use diagnosis::{diagnosed, is_granted_again};
use explained::{Explained, Observer};
use heal::heal;
use registry::Registry;
use routes::Routes;

/// How long a call waits for a lock before the server looks for a deadlock, in milliseconds.
const DEADLOCK: i32 = 50;

/// How long a call that ended a deadlock waits before it begins again.
const PAUSE: Duration = Duration::from_millis(20);

/// Applies the batch. `memory` holds the intermediate data.
pub fn apply<'a>(batch: &mut Batch<'a>, memory: &'a Bump) -> Result<Counts, SqlError> {
    call(batch, memory, &mut Attempts::default())
}

/// Applies the batch as [`apply`] does, for a `caller` who may see its rows; reports the outcomes and
/// undoes everything.
pub fn explain<'a>(
    batch: &mut Batch<'a>,
    memory: &'a Bump,
    caller: pg_sys::Oid,
) -> Result<Vec<Explained>, SqlError> {
    let mut attempts = Attempts {
        observer: Some(Observer::new(caller)),
        only: Some(caller),
        ..Attempts::default()
    };
    let undone = subtransaction(|| -> Result<(), Option<SqlError>> {
        call(batch, memory, &mut attempts).map_err(Some)?;
        Err(None)
    });
    match undone {
        Err(Some(error)) => Err(error),
        _ => Ok(attempts
            .observer
            .map(Observer::into_rows)
            .unwrap_or_default()),
    }
}

/// Tries dead letters (by number) again, and those that wait for their rows, of mappings whose owner's rights
/// `caller` has.
pub fn apply_letters(
    letters: impl IntoIterator<Item = i64>,
    caller: pg_sys::Oid,
) -> Result<Counts, SqlError> {
    let memory = Arena::take();
    let mut attempts = Attempts {
        exclusive: true,
        letters: letters.into_iter().collect(),
        explicit: true,
        only: Some(caller),
        ..Attempts::default()
    };
    call(&mut Batch::empty(), &memory, &mut attempts)
}

/// Makes attempts until one succeeds. Reloads the mappings when they change.
fn call<'a>(
    batch: &mut Batch<'a>,
    memory: &'a Bump,
    attempts: &mut Attempts,
) -> Result<Counts, SqlError> {
    let began = Instant::now();
    isolation::require_writable("apply messages")?;
    if isolation::is_snapshot() {
        return Err(Error::Isolation {
            function: "sequin_apply",
        }
        .into());
    }
    let _connection = Connection::open();
    let _context = Context::enter();
    let settings = Settings::new(PINNED);
    settings.look_for_deadlocks(DEADLOCK);
    // A call from inside a mapping's trigger no longer runs for that mapping.
    let _turn = Turn::own();
    let own = batch.end();
    for tried in 0..ATTEMPTS {
        let mut registry = Registry::take()?;
        // To explain is no reason to keep others from changing their mappings.
        if tried == PATIENT && attempts.observer.is_none() {
            invalidation::lock_changes_out(registry.relation, LOCKING_OUT)?;
        }
        let result = with_registry(batch, own, memory, &mut registry, attempts);
        registry.give_back();
        match result {
            Ok(counts) => {
                if attempts.observer.is_none() {
                    prune_if_possible(began.elapsed());
                }
                return Ok(counts);
            }
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::BeginAgain(Again::Reload)) => attempts.forget_implicit_letters(),
            Err(Stop::BeginAgain(Again::Exclusive | Again::Examine)) => {
                return Err(Error::NoAttemptStands { attempts: ATTEMPTS }.into());
            }
        }
    }
    Err(Error::MappingsChange.into())
}

/// Makes attempts with these mappings until one succeeds.
fn with_registry<'a>(
    batch: &mut Batch<'a>,
    own: End,
    memory: &'a Bump,
    registry: &mut Registry,
    attempts: &mut Attempts,
) -> Result<Counts, Stop> {
    batch.cut(own);
    let mut routes = Routes::default();
    routes.add(batch, 0..own.items, registry, attempts.observer.as_ref())?;
    routes.warn();
    let mut tried = 0;
    loop {
        tried += 1;
        batch.cut(own);
        attempts.begun += 1;
        attempts.last = tried == ATTEMPTS;
        attempts.wrote.clear();
        attempts.candidates.clear();
        attempts.tally = Tally::default();
        let takes_along = attempts.takes_along();
        begin_attempt(
            attempts
                .shortage()
                .unwrap_or_else(settings::mapping_timeout),
        );
        let result = caught(|| {
            subtransaction(|| {
                let mut counts = attempt(batch, own, routes.clone(), memory, registry, attempts)?;
                if !attempts.beside {
                    counts.revise(&heal(registry, attempts, with_registry)?);
                }
                Ok(counts)
            })
        });
        match result.unwrap_or_else(|error| Err(Stop::Failed(error))) {
            // Outside of the attempt's subtransaction: a call that writes nothing else takes no transaction id for that.
            Ok(counts) => {
                counters::store(&attempts.tally)?;
                return Ok(counts);
            }
            Err(Stop::Failed(error)) if takes_along && is_locked_out(&error) => attempts.go_alone(),
            Err(Stop::Failed(error)) if attempts.for_letters && is_locked_out(&error) => {
                attempts.leave()
            }
            Err(Stop::Failed(error)) if set_aside(&error, registry, attempts) => tried -= 1,
            Err(Stop::Failed(error)) if deadlocks_again(&error, registry, attempts) => tried -= 1,
            Err(stop) if !attempts.last && needs_stricter_locks(&stop) => {
                if let Stop::Failed(error) = &stop {
                    note_retried(error);
                    give_way();
                }
                attempts.escalate(&stop);
                give_precedence(attempts)?;
            }
            Err(Stop::Failed(error)) => return Err(named(error, registry).into()),
            result => return result,
        }
    }
}

/// Whether the time to wait for a lock has run out.
fn is_locked_out(error: &SqlError) -> bool {
    error.is(sqlstate::LOCK_NOT_AVAILABLE) && error.origin == Origin::Server
}

/// The error with the name of the mapping that is to blame for it.
fn named(error: SqlError, registry: &Registry) -> SqlError {
    let id = mapping_at_fault(&error);
    let mapping = id.and_then(|id| registry.mappings.iter().find(|m| m.id == id));
    match mapping {
        // The error of a message has a line of CONTEXT.
        Some(mapping) if error.no_row || error.context.is_none() => diagnosed(mapping, &error),
        _ => error,
    }
}

/// Lets the other session of a deadlock go on. Without the pause this session could have the lock that the other one
/// has just got before that one wakes up.
fn give_way() {
    std::thread::sleep(PAUSE);
    interrupts::check();
}

/// Waits for the transaction that has written a row of this call. The attempt is rolled back, so that it can go on.
fn give_precedence(attempts: &mut Attempts) -> Result<(), SqlError> {
    let Some(overtaker) = attempts.overtaker.take() else {
        return Ok(());
    };
    match subtransaction(|| wait_for(overtaker)) {
        Err(error) if error.is(sqlstate::DEADLOCK_DETECTED) => {
            note_retried(&error);
            Ok(())
        }
        waited => waited,
    }
}

/// Sets aside the mapping that is to blame for the error: the call goes on without it. Returns whether that
/// was possible.
fn set_aside(error: &SqlError, registry: &Registry, attempts: &mut Attempts) -> bool {
    if attempts.shortage().is_some() && matches!(error.origin, Origin::OutOfTime(_)) {
        return false;
    }
    let id = mapping_at_fault(error).filter(|id| !attempts.aside.contains_key(id));
    let mapping = id.and_then(|id| registry.mappings.iter().find(|m| m.id == id));
    let Some(mapping) = mapping.filter(|mapping| mapping.on_error == OnError::DeadLetter) else {
        return false;
    };
    if attempts.observer.is_none()
        && !attempts.granted.contains(&mapping.id)
        && is_granted_again(mapping, error)
    {
        attempts.granted.insert(mapping.id);
        return true;
    }
    let origin = error.origin;
    let error = match origin {
        Origin::OutOfTime(_) => Error::OutOfTime {
            mapping: mapping.name.clone(),
        }
        .report(),
        _ => diagnosed(mapping, error),
    };
    attempts
        .aside
        .insert(mapping.id, SqlError { origin, ..error });
    true
}

/// Sets aside the mapping in whose turn one attempt after the other ended by a deadlock.
fn deadlocks_again(error: &SqlError, registry: &Registry, attempts: &mut Attempts) -> bool {
    if !error.is(sqlstate::DEADLOCK_DETECTED) || error.origin != Origin::Server {
        return false;
    }
    mapping_of_servers_error().is_some_and(|mapping| {
        let of_mapping = SqlError {
            origin: Origin::Mapping(mapping),
            ..error.clone()
        };
        attempts.deadlocked(mapping) && set_aside(&of_mapping, registry, attempts)
    })
}

/// How many rows a call prunes at a time, and how long it may prune, if it took no longer itself than twice that.
const PRUNED: i64 = 1000;
const PRUNING: Duration = Duration::from_millis(20);

/// With less time left to the client's statement, a call does not prune.
const SHORT: Duration = Duration::from_millis(200);

/// Prunes tombstones, for up to half of the time that the call took itself: pruning a row takes less than deleting it,
/// so that calls keep up with the deletes that they bring. A failure is undone and must not fail the call.
fn prune_if_possible(took: Duration) {
    let left = clock::statement_time_left();
    if !is_prune_due() || left.is_some_and(|left| left < SHORT) {
        return;
    }
    let time = left
        .map_or(took / 2, |left| (took / 2).min(left / 2))
        .max(PRUNING);
    let began = Instant::now();
    loop {
        match subtransaction(|| prune(PRUNED)) {
            Ok(pruned) if pruned.more && began.elapsed() < time => {}
            // The next call goes on.
            Ok(pruned) if pruned.more => return,
            Ok(_) => return pruned_for_now(),
            Err(error) => {
                pruned_for_now();
                if error.origin != Origin::Server {
                    let message = format!("tombstones could not be pruned: {}", error.message);
                    let report = SqlError { message, ..error };
                    ErrorReport::from(report).report(PgLogLevel::WARNING);
                }
                return;
            }
        }
    }
}

/// Whether an attempt with stricter locks may succeed after an attempt ended like this. After a deadlock it may, because
/// the locks are taken in another way. A row that another session has moved to another partition is found there then.
fn needs_stricter_locks(stop: &Stop) -> bool {
    match stop {
        Stop::BeginAgain(again) => *again != Again::Reload,
        Stop::Failed(error) => {
            let of_server = error.origin == Origin::Server;
            error.is(sqlstate::DEADLOCK_DETECTED)
                || of_server && error.is(sqlstate::SERIALIZATION_FAILURE)
        }
    }
}
