//! One call: a batch goes to its mappings, and every message ends as one counted outcome in each.
//! Dead letters that may work now go with it.
//!
//! A call is tried until one attempt stands. The first attempt shares its mappings with other calls; when
//! that does not do, the next holds exclusive locks, on further mappings and with dead letters as needed.

#![forbid(unsafe_code)]

mod attempt;
mod attempts;
pub mod explained;
mod images;
mod missing;
mod prepare;
pub mod registry;
mod routes;
mod settle;

use bumpalo::Bump;
use pgrx::PgLogLevel;
use pgrx::pg_sys::{self, panic::ErrorReport};

use crate::blame::mapping_at_fault;
use crate::envelope::{Batch, End};
use crate::error::SqlError;
use crate::error::origin::Origin;
use crate::error::{Error, sqlstate};
use crate::guard::notes::{is_prune_due, prune};
use crate::mapping::OnError;
use crate::outcome::Counts;
use crate::pg::invalidation;
use crate::pg::isolation;
use crate::pg::memory::{Arena, Context};
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::subtransaction::subtransaction;
use crate::pg::turn::{Turn, begin_attempt, caught};
use crate::settings;
use crate::stop::{Again, Stop};
use attempt::attempt;
use attempts::{ATTEMPTS, Attempts, PATIENT};
use explained::{Explained, Observer};
use registry::Registry;
use routes::Routes;

/// Applies the batch. What is made on the way is kept in `memory`.
pub fn apply<'a>(batch: &mut Batch<'a>, memory: &'a Bump) -> Result<Counts, SqlError> {
    call(batch, memory, &mut Attempts::default())
}

/// What [`apply`] does with the batch, for a role that may see it. All of it is undone.
pub fn explain<'a>(
    batch: &mut Batch<'a>,
    memory: &'a Bump,
    caller: pg_sys::Oid,
) -> Result<Vec<Explained>, SqlError> {
    let mut attempts = Attempts {
        observer: Some(Observer::new(caller)),
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

/// Tries dead letters (by number) again, and those that wait for their rows.
pub fn apply_letters(letters: impl IntoIterator<Item = i64>) -> Result<Counts, SqlError> {
    let memory = Arena::take();
    let mut attempts = Attempts {
        exclusive: true,
        letters: letters.into_iter().collect(),
        explicit: true,
        ..Attempts::default()
    };
    call(&mut Batch::empty(), &memory, &mut attempts)
}

/// Attempts the call until one attempt stands, with the mappings as they are then.
fn call<'a>(
    batch: &mut Batch<'a>,
    memory: &'a Bump,
    attempts: &mut Attempts,
) -> Result<Counts, SqlError> {
    isolation::require_writable("apply messages")?;
    if isolation::is_snapshot() {
        return Err(Error::Isolation.into());
    }
    let _connection = Connection::open();
    let _context = Context::enter();
    let _settings = Settings::new(PINNED);
    // A call within a mapping's trigger is not that mapping's any more.
    let _turn = Turn::own();
    let own = batch.end();
    for tried in 0..ATTEMPTS {
        let mut registry = Registry::take()?;
        if tried >= PATIENT {
            invalidation::lock_changes_out(registry.relation);
        }
        let result = with_registry(batch, own, memory, &mut registry, attempts);
        registry.give_back();
        match result {
            Ok(counts) => return Ok(counts),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::BeginAgain(Again::Reload)) => attempts.forget_implicit_letters(),
            Err(Stop::BeginAgain(Again::Exclusive | Again::Examine)) => {
                return Err(Error::NoAttemptStands { attempts: ATTEMPTS }.into());
            }
        }
    }
    Err(Error::MappingsChange.into())
}

/// Attempts the call until one attempt stands, with these mappings.
fn with_registry<'a>(
    batch: &mut Batch<'a>,
    own: End,
    memory: &'a Bump,
    registry: &mut Registry,
    attempts: &mut Attempts,
) -> Result<Counts, Stop> {
    batch.cut(own);
    let mut routes = Routes::default();
    routes.add(batch, 0..own.items, registry)?;
    routes.warn();
    if let Some(observer) = &attempts.observer {
        for (index, positions) in &routes.taken {
            observer.admit(&registry.mappings[*index], positions[0].index())?;
        }
    }
    let mut tried = 0;
    loop {
        tried += 1;
        batch.cut(own);
        attempts.begun += 1;
        attempts.last = tried == ATTEMPTS;
        begin_attempt(settings::mapping_timeout());
        let result = caught(|| {
            subtransaction(|| attempt(batch, own, routes.clone(), memory, registry, attempts))
        });
        match result.unwrap_or_else(|error| Err(Stop::Failed(error))) {
            Err(Stop::Failed(error)) if set_aside(&error, registry, attempts) => tried -= 1,
            Err(stop) if !attempts.last && needs_exclusive_locks(&stop) => {
                attempts.exclusive = true;
            }
            Ok(counts) if attempts.observer.is_some() => return Ok(counts),
            Ok(counts) => {
                prune_if_possible();
                return Ok(counts);
            }
            Err(stop) => return Err(stop),
        }
    }
}

/// Sets the mapping aside whose fault the error is: the call goes on without it. Returns whether.
fn set_aside(error: &SqlError, registry: &Registry, attempts: &mut Attempts) -> bool {
    let id = mapping_at_fault(error).filter(|id| !attempts.aside.contains_key(id));
    let mapping = id.and_then(|id| registry.mappings.iter().find(|m| m.id == id));
    let Some(mapping) = mapping.filter(|mapping| mapping.on_error == OnError::DeadLetter) else {
        return false;
    };
    let origin = error.origin;
    let error = match origin {
        Origin::OutOfTime(_) => Error::OutOfTime {
            mapping: mapping.name.clone(),
        }
        .report(),
        _ => error.clone(),
    };
    attempts
        .aside
        .insert(mapping.id, SqlError { origin, ..error });
    true
}

/// Prunes tombstones, if it is time to. What fails in it is undone, and is no reason to apply nothing.
///
/// A subtransaction in vain would take 5,000 instructions, 2% of a batch of one message.
fn prune_if_possible() {
    if is_prune_due()
        && let Err(error) = subtransaction(prune)
        && error.origin != Origin::Server
    {
        let message = format!("tombstones could not be pruned: {}", error.message);
        let report = SqlError { message, ..error };
        ErrorReport::from(report).report(PgLogLevel::WARNING);
    }
}

/// Whether an attempt with exclusive locks may stand where one ended so. A deadlock is another reason: that
/// attempt takes its locks in another way.
fn needs_exclusive_locks(stop: &Stop) -> bool {
    match stop {
        Stop::BeginAgain(again) => *again != Again::Reload,
        Stop::Failed(error) => error.is(sqlstate::DEADLOCK_DETECTED),
    }
}
