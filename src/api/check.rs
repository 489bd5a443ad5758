//! `sequin.check`: whether each mapping can write.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::explain::written;
use crate::apply::diagnosis::{diagnosed, granted_in_time};
use crate::apply::registry;
use crate::destination::Destination;
use crate::error::fault::summary;
use crate::error::origin::Origin;
use crate::error::{Error, SqlError, quote, sqlstate};
use crate::guard::rekey::noted;
use crate::mapping::beside::Beside;
use crate::mapping::check::check_shared;
use crate::mapping::grants::writer;
use crate::mapping::{Mapping, catalog, faults, privileges};
use crate::pg::invalidation;
use crate::pg::isolation::require_writable;
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::{self, Connection};
use crate::pg::subtransaction::subtransaction;
use crate::pg::turn::{Turn, begin_attempt, caught};
use crate::pg::user::{ActingAs, begin_call, current_user, may_act_as, role_exists};
use crate::settings;
use crate::target::Target;

/// How long the check of a mapping waits for the lock on its destination.
const PATIENCE: Duration = Duration::from_secs(1);

/// `sequin.check()`: a row for each mapping whose owner's rights the caller has. Each mapping is made ready and its
/// statements are planned, as in a call. All is undone, so that no lock stays.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn check_mappings() -> Result<
    TableIterator<
        'static,
        (
            name!(mapping, String),
            name!(state, &'static str),
            name!(sqlstate, Option<String>),
            name!(error, Option<String>),
            name!(hint, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    begin_call();
    let _definer = ActingAs::new(extension_owner(), false);
    let _connection = Connection::open();
    let mut mappings = catalog::load()?;
    mappings.retain(|mapping| may_act_as(caller, mapping.owner_oid()));
    mappings.sort_by(|a, b| a.name.cmp(&b.name));
    let resyncing = catalog::resyncing();
    let beside = RefCell::new(Beside::default());
    let mut rows = Vec::with_capacity(mappings.len());
    for mapping in mappings {
        begin_attempt(settings::mapping_timeout());
        let error = checked(&mapping, |mapping| {
            evaluate(mapping, &mut beside.borrow_mut())
        })?;
        let locked = |error: &SqlError| error.is(sqlstate::LOCK_NOT_AVAILABLE);
        let state = match &error {
            _ if !mapping.enabled => "paused",
            Some(error) if locked(error) => "locked",
            Some(_) => "broken",
            None if resyncing.contains(&mapping.id) => "resyncing",
            None => "running",
        };
        let error = match error {
            None => checked(&mapping, |mapping| doubt(mapping, &mut beside.borrow_mut()))?,
            error => error,
        };
        let (code, message, hint) = match error {
            Some(error) => (Some(error.sqlstate()), Some(error.message), error.hint),
            None => (None, None, None),
        };
        rows.push((mapping.name, state, code, message, hint));
    }
    Ok(TableIterator::new(rows))
}

/// The error that `check` finds. All that it did is undone. `Err`: the check itself must end.
fn checked(
    mapping: &Mapping,
    check: impl Fn(&Mapping) -> Result<(), SqlError>,
) -> Result<Option<SqlError>, SqlError> {
    let result = caught(|| {
        subtransaction(|| -> Result<(), Option<SqlError>> {
            check(mapping).map_err(Some)?;
            Err(None)
        })
    });
    let error = match result {
        Ok(Ok(()) | Err(None)) => return Ok(None),
        Ok(Err(Some(error))) | Err(error) => error,
    };
    match error.origin {
        Origin::Server => Err(error),
        Origin::OutOfTime(_) => {
            let mapping = mapping.name.clone();
            Ok(Some(Error::OutOfTime { mapping }.report()))
        }
        _ => Ok(Some(diagnosed(mapping, &error))),
    }
}

/// What would keep the mapping from being made anew beside the others, although it can write: some of its messages will fail,
/// or other mappings write the same rows.
fn doubt(mapping: &Mapping, beside: &mut Beside) -> Result<(), SqlError> {
    let destination = mapping.destination_oid().and_then(Destination::load);
    let Some(destination) = destination else {
        return Ok(());
    };
    let _turn = Turn::of(mapping.id);
    let mut faults = faults::all(mapping, Some(&destination), writer(mapping, &destination));
    if faults.is_empty() {
        let others = beside.others(destination.oid);
        faults.extend(check_shared(mapping, &destination, others));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let error = summary(&mapping.name, &faults);
    // As it is: it does not break the mapping.
    let message = match error.message.contains("mapping \"") {
        true => error.message,
        false => format!("mapping \"{}\": {}", mapping.name, error.message),
    };
    Err(SqlError { message, ..error })
}

/// What a call with messages for the mapping does before it writes.
fn evaluate(mapping: &Mapping, beside: &mut Beside) -> Result<(), SqlError> {
    let (id, name) = (mapping.id, &mapping.name);
    if !mapping.faults.is_empty() {
        let (mapping, faults) = (name.clone(), mapping.faults.clone());
        return Err(Error::Broken { mapping, faults }.into());
    }
    let Some(destination) = mapping.destination_oid() else {
        return Ok(());
    };
    if !role_exists(mapping.owner_oid()) {
        let error = registry::owner_gone(mapping);
        return Err(error);
    }
    if !invalidation::try_lock(destination, PATIENCE)? {
        return Err(locked(mapping));
    }
    let target = Target::make(mapping, beside).unwrap_or_else(|| Err(registry::gone(mapping)))?;
    noted::check(mapping, &target.destination)?;
    if let Some(fault) = privileges::of_rows(mapping, &target.destination, target.writer()) {
        let (mapping, faults) = (name.clone(), vec![fault]);
        return Err(Error::Broken { mapping, faults }.into());
    }
    // As a call would, that the owner has lost the right to.
    if require_writable("check").is_ok() {
        granted_in_time(target.writer());
    }
    let _owner = ActingAs::owner(target.writer(), id);
    if let Some(projection) = &target.projection {
        let _path = Settings::search_path(&mapping.search_path);
        spi::explain(&projection.sql)?;
    }
    for (_, sql) in written(&target) {
        spi::explain(&sql)?;
    }
    Ok(())
}

/// Calls wait for the lock too, so that the mapping stands still.
fn locked(mapping: &Mapping) -> SqlError {
    SqlError::new(
        sqlstate::LOCK_NOT_AVAILABLE,
        format!(
            "mapping \"{}\" waits for a lock on its destination",
            mapping.name
        ),
    )
    .with_hint(format!(
        "To see who holds it, run: SELECT l.pid, l.mode, a.state, a.xact_start, a.query FROM pg_locks l JOIN \
         pg_stat_activity a USING (pid) WHERE l.granted AND l.relation = (SELECT m.destination FROM sequin.own_mapping m \
         WHERE m.name = {});",
        quote::literal(&mapping.name)
    ))
}
