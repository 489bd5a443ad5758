//! Finds the units that make a set fail, and writes all others.

#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};

use super::constraint::unique_columns;
use super::give_up::{can_give_up, give_up};
use super::pending::Pending;
use super::{store_images, violations, wait, write_set};
use crate::blame::{deserves_another_try, forgive, is_of_all};
use crate::changes::Changes;
use crate::changes::net::{NetChange, Unit};
use crate::error::SqlError;
use crate::error::sqlstate::UNIQUE_VIOLATION;
use crate::mapping::Mode;
use crate::mapping::versions::VersionsIn;
use crate::outcome::{MessageNo, Suspects};
use crate::stop::{Again, Stop};

/// Writes units that failed before, all at once.
pub fn retry(changes: &mut Changes<'_>, units: Vec<Unit>) -> Result<Vec<Pending>, Stop> {
    let units = alike(changes, units)?;
    write_units(changes, units, usize::MAX, Failing::Searched)
}

/// Writes each pending unit alone whose error is the error of a set. Returns whether a unit was written or
/// found at fault.
pub fn try_alone(changes: &mut Changes<'_>, pending: &mut Vec<Pending>) -> Result<bool, Stop> {
    if name_violators(changes, pending)? {
        return Ok(true);
    }
    let untried = pending.iter().filter(|held| held.of_set);
    let units: Vec<Unit> = untried.map(|held| held.unit.clone()).collect();
    if units.is_empty() {
        return Ok(false);
    }
    let tried = units.len();
    let _owner = changes.acting_as_owner();
    let failed = write_units(changes, units, 1, Failing::Searched)?;
    let progress = failed.len() < tried;
    let mut failed: HashMap<MessageNo, Pending> = failed
        .into_iter()
        .map(|held| (held.unit.message(), held))
        .collect();
    *pending = std::mem::take(pending)
        .into_iter()
        .filter_map(|held| match held.of_set {
            true => failed.remove(&held.unit.message()),
            false => Some(held),
        })
        .collect();
    Ok(progress)
}

/// Gives the error that it would raise alone to each unit that violates a foreign key and is pending with the error of
/// a set. Returns whether a unit was written, or found to be at fault.
fn name_violators(changes: &mut Changes<'_>, pending: &mut Vec<Pending>) -> Result<bool, Stop> {
    let mut groups: HashMap<_, Vec<usize>> = HashMap::new();
    for (i, held) in pending.iter().enumerate() {
        let (error, net) = (&held.error, held.unit.first());
        if held.of_set && error.violates_foreign_key() && held.unit.nets().count() == 1 {
            let of = [&error.schema, &error.table, &error.constraint].map(Clone::clone);
            let deletes = net.columns().is_none();
            groups.entry((of, deletes)).or_default().push(i);
        }
    }
    for ((_, deletes), group) in groups {
        let _owner = changes.acting_as_owner();
        let units: Vec<&Unit> = group.iter().map(|&i| &pending[i].unit).collect();
        let error = &pending[group[0]].error;
        let Some(found) = violations::find(changes, error, &units, deletes)? else {
            continue;
        };
        let mut errors = found.errors(error, false);
        let first = found.values.iter().position(Option::is_some);
        if errors.is_none()
            && let Some(first) = first
        {
            // The error of the set was about a unit that is written by now.
            let unit = pending[group[first]].unit.clone();
            let mut failed = write_units(changes, vec![unit], 1, Failing::Searched)?;
            let Some(own) = failed.pop() else {
                pending.remove(group[first]);
                return Ok(true);
            };
            let same = own.error.code == error.code && own.error.constraint == error.constraint;
            errors = found.errors(&own.error, true).filter(|_| same);
        }
        let written = Some(changes.intake.call.written());
        for (i, error) in group.into_iter().zip(errors.into_iter().flatten()) {
            if let Some(error) = error {
                let held = &mut pending[i];
                (held.error, held.written, held.of_set) = (error, written, false);
            }
        }
    }
    Ok(false)
}

/// What [`write_units`] does with a set that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Searches for the units at fault.
    Searched,
    /// As `Searched`, except for a table that refers to itself: its units become pending as they are. Whether
    /// a unit can be written depends on all of them, and one by one in this order they would fail again and
    /// again.
    Deferred,
}

/// Makes one statement write all units. With guard columns, examined rows need another statement than the
/// others, but one statement must write rows that refer to each other. So if only some rows are examined,
/// all are.
fn alike(changes: &mut Changes<'_>, units: Vec<Unit>) -> Result<Vec<Unit>, Stop> {
    let nets = || units.iter().flat_map(Unit::nets);
    let unexamined = nets().filter(|net| net.is_unexamined());
    let runs: Vec<_> = unexamined.map(|net| net.run).collect();
    let columns = changes.target.versions == VersionsIn::Columns;
    if !columns || runs.is_empty() || runs.len() == nets().count() {
        return Ok(units);
    }
    changes.load(&runs)?;
    changes.fold_examined(units)
}

/// Writes units set by set. The call must hold the exclusive lock on the mapping. A set that fails is
/// divided: the units before the suspected one, the suspected one alone, and the units after it. A set
/// without a suspect is halved.
pub fn write_units(
    changes: &mut Changes<'_>,
    units: Vec<Unit>,
    set_size: usize,
    failing: Failing,
) -> Result<Vec<Pending>, Stop> {
    let suspects = std::mem::take(&mut changes.progress.suspects);
    let mut stack = Stack::new(units, set_size);
    if let Some(first) = stack.pop() {
        stack.push(first);
        stack.divide(changes, &suspects)?;
    }
    let mut search = Search {
        stack,
        later: Vec::new(),
        failing,
        tried_again: false,
        again: None,
    };
    while let Some(units) = search.stack.pop() {
        search.write(changes, units)?;
    }
    Ok(search.later)
}

/// The work of [`write_units`].
struct Search {
    stack: Stack,
    /// The units that may work later.
    later: Vec<Pending>,
    failing: Failing,
    /// Whether a set was tried again after an error of the whole call.
    tried_again: bool,
    /// The last unit that was tried alone again: its message.
    again: Option<MessageNo>,
}

impl Search {
    /// Writes a set, or puts its parts back on the stack.
    fn write(&mut self, changes: &mut Changes<'_>, units: Vec<Unit>) -> Result<(), Stop> {
        let mut units = without_dead(changes, units)?;
        if units.is_empty() {
            return Ok(());
        }
        let nets: Vec<&NetChange> = units.iter().flat_map(Unit::nets).collect();
        let error = match changes.attempt(|changes| write_set(changes, &nets)) {
            Ok(()) => {
                changes.intake.call.wrote();
                self.stack.worked(units.len());
                return Ok(());
            }
            Err(stop) if stop.is(Again::Examine) => {
                self.stack.push(changes.fold_examined(units)?);
                return Ok(());
            }
            Err(stop) => changes.blame(stop.error()?)?,
        };
        if is_of_all(&error) {
            if deserves_another_try(&error) && !std::mem::replace(&mut self.tried_again, true) {
                self.stack.push(units);
                return Ok(());
            }
            return Err(error.into());
        }
        let suspects = std::mem::take(&mut changes.progress.suspects);
        if units.len() > 1
            && let Some(key) = &suspects.foreign_key
        {
            units = match self.without_violators(changes, (units, &error), key)? {
                Some(units) => units,
                None => return Ok(()),
            };
        }
        match units.len() {
            0 => Ok(()),
            1 => self.failed_alone(changes, units.remove(0), error),
            _ => self.divide(changes, units, &suspects),
        }
    }

    /// Divides a set that failed on the foreign key `key` into violators and others. `None` if that puts the units
    /// somewhere; otherwise they are returned.
    fn without_violators(
        &mut self,
        changes: &mut Changes<'_>,
        (units, error): (Vec<Unit>, &SqlError),
        key: &SqlError,
    ) -> Result<Option<Vec<Unit>>, Stop> {
        if self.failing == Failing::Deferred
            && changes.target.mapping.mode == Mode::Upsert
            && wait::is_of_itself(key)
        {
            self.later.extend(units.into_iter().map(|unit| Pending {
                unit,
                error: error.clone(),
                written: None,
                of_set: true,
            }));
            return Ok(None);
        }
        // The end of the statement checks foreign keys: nothing else is wrong with any of its rows.
        if !is_one_shape(&units) {
            return Ok(Some(units));
        }
        let tried = units.len();
        let (kept, violators) = apart(changes, key, units)?;
        let written = Some(changes.intake.call.written());
        let mut suspected = Vec::new();
        for (unit, error) in violators {
            match error {
                Some(error) => self.later.push(Pending {
                    unit,
                    error,
                    written,
                    of_set: false,
                }),
                None => suspected.push(unit),
            }
        }
        if kept.len() == tried {
            return Ok(Some(kept));
        }
        if kept.is_empty() && suspected.len() == tried {
            self.stack.at_once = 1;
        }
        self.stack.push(suspected);
        self.stack.push(kept);
        Ok(None)
    }

    /// Divides a set by its suspects, or into halves.
    fn divide(
        &mut self,
        changes: &Changes<'_>,
        units: Vec<Unit>,
        suspects: &Suspects,
    ) -> Result<(), Stop> {
        let half = units.len() / 2;
        self.stack.push(units);
        if !self.stack.divide(changes, suspects)? {
            let mut units = self.stack.pop_all();
            let second = units.split_off(half);
            self.stack.push(second);
            self.stack.push(units);
        }
        Ok(())
    }

    /// Decides what becomes of a unit that failed with this error when it was written alone.
    fn failed_alone(
        &mut self,
        changes: &mut Changes<'_>,
        unit: Unit,
        error: SqlError,
    ) -> Result<(), Stop> {
        self.stack.failed();
        let message = Some(unit.message());
        if deserves_another_try(&error) && std::mem::replace(&mut self.again, message) != message {
            self.stack.push(vec![unit]);
            return Ok(());
        }
        if let Some(leaves) = arrive(changes, &unit)? {
            changes.intake.call.wrote();
            self.stack.push(vec![leaves]);
            return Ok(());
        }
        let held = Pending {
            unit,
            error,
            written: Some(changes.intake.call.written()),
            of_set: false,
        };
        if held.may_work_later(changes) || held.may_work_together(&changes.target) {
            self.later.push(held);
        } else {
            changes.fail(held.unit.message(), held.error)?;
            self.stack.push(vec![held.unit]);
        }
        Ok(())
    }
}

/// For a message that moves its row to another key: writes the row at the new key and leaves it at the old
/// key for now. Rows that refer to the old key may need the new one before they can change. Returns the
/// rest of the work if that succeeds.
fn arrive(changes: &mut Changes<'_>, unit: &Unit) -> Result<Option<Unit>, Stop> {
    let (arrives, gone): (Vec<&NetChange>, Vec<&NetChange>) =
        unit.nets().partition(|net| net.present());
    if arrives.is_empty() || gone.is_empty() {
        return Ok(None);
    }
    let leaves = Unit::of(gone.iter().copied().cloned());
    let error = match changes.attempt(|changes| write_set(changes, &arrives)) {
        Ok(()) => return Ok(leaves),
        Err(stop) if stop.is(Again::Examine) => return Ok(None),
        Err(stop) => crate::blame::blame(stop.error()?, &changes.target.mapping)?,
    };
    if !error.is(UNIQUE_VIOLATION) {
        return Ok(None);
    }
    // The row itself, at its old key, may hold the unique value that its new key needs.
    let result = changes.attempt(|changes| {
        let target = &changes.target;
        let Some(column) = can_give_up(target, &unique_columns(&error), |_| true) else {
            return Err(Stop::Failed(error.clone()));
        };
        give_up(target, &changes.nets.values, column, &gone)?;
        // Its values do not tell any more that it is the row which goes.
        store_images(changes, &gone)?;
        write_set(changes, &arrives)
    });
    match result {
        Ok(()) => Ok(leaves),
        Err(stop) if stop.is(Again::Examine) => Ok(None),
        Err(stop) => {
            forgive(stop.error()?, &changes.target.mapping)?;
            Ok(None)
        }
    }
}

/// Sets of units that are not written yet; the last set is the next.
struct Stack {
    /// Deques: taking a few units from the front of many does not move the rest.
    sets: Vec<VecDeque<Unit>>,
    /// How many units to write at once: fewer after a failure, more after a success.
    at_once: usize,
    /// The upper limit of `at_once`.
    at_most: usize,
}

impl Stack {
    fn new(units: Vec<Unit>, at_most: usize) -> Stack {
        Stack {
            sets: vec![units.into()],
            at_once: at_most,
            at_most,
        }
    }

    fn push(&mut self, units: Vec<Unit>) {
        if !units.is_empty() {
            self.sets.push(units.into());
        }
    }

    /// The next set.
    fn pop(&mut self) -> Option<Vec<Unit>> {
        let last = self.sets.last_mut()?;
        if last.len() > self.at_once {
            return Some(last.drain(..self.at_once).collect());
        }
        self.sets.pop().map(Vec::from)
    }

    /// The set that was pushed last, however large.
    fn pop_all(&mut self) -> Vec<Unit> {
        self.sets.pop().map(Vec::from).unwrap_or_default()
    }

    fn worked(&mut self, units: usize) {
        self.at_once = self.at_once.max(units.saturating_mul(4)).min(self.at_most);
    }

    fn failed(&mut self) {
        self.at_once = (self.at_once / 4).max(1);
    }

    /// Divides the last set by its suspects. A unit that was being written is tried alone, between the units
    /// before and after it; violators of a foreign key come after all others. Returns false if the suspects
    /// do not divide the set.
    fn divide(&mut self, changes: &Changes<'_>, suspects: &Suspects) -> Result<bool, Stop> {
        if suspects.is_empty() || self.sets.last().is_none_or(|units| units.len() < 2) {
            return Ok(false);
        }
        let units = self.pop_all();
        if let Some(position) = suspects.position {
            let found = units.iter().position(|unit| {
                unit.nets()
                    .any(|net| changes.intake.position(net.message) == position)
            });
            let Some(at) = found else {
                self.push(units);
                return Ok(false);
            };
            let mut before = units;
            let mut suspect = before.split_off(at);
            let after = suspect.split_off(1);
            self.at_once = self.at_once.min((2 * at).max(1));
            self.push(after);
            self.push(suspect);
            self.push(before);
            return Ok(true);
        }
        let Some(error) = &suspects.foreign_key else {
            return Ok(false);
        };
        let (kept, violators) = apart(changes, error, units)?;
        let mut suspected: Vec<Vec<Unit>> = Vec::new();
        for (unit, _) in violators {
            let same = |set: &&mut Vec<Unit>| is_like(&set[0], &unit);
            match suspected.iter_mut().find(same) {
                Some(set) => set.push(unit),
                None => suspected.push(vec![unit]),
            }
        }
        let told = !suspected.is_empty();
        suspected.into_iter().for_each(|set| self.push(set));
        self.push(kept);
        Ok(told)
    }
}

/// Whether one statement writes these units.
fn is_one_shape(units: &[Unit]) -> bool {
    units.iter().all(|unit| is_like(&units[0], unit))
}

/// Whether two units have one net change each, of the same kind.
fn is_like(one: &Unit, other: &Unit) -> bool {
    let (a, b) = (one.first(), other.first());
    one.nets().count() == 1
        && other.nets().count() == 1
        && a.present() == b.present()
        && a.columns() == b.columns()
        && a.replaces() == b.replaces()
}

/// Units, each with its error if that is known.
type Violators = Vec<(Unit, Option<SqlError>)>;

/// Takes the units out that violate the foreign key, of which one has raised the error.
fn apart(
    changes: &Changes<'_>,
    error: &SqlError,
    units: Vec<Unit>,
) -> Result<(Vec<Unit>, Violators), Stop> {
    let all: Vec<&Unit> = units.iter().collect();
    let deletes = units.iter().all(|unit| unit.first().columns().is_none());
    let found = match wait::is_of_itself(error) {
        true => None,
        false => violations::find(changes, error, &all, deletes)?,
    };
    let Some(found) = found else {
        return Ok((units, Vec::new()));
    };
    let mut errors = found.errors(error, true).into_iter().flatten();
    let (mut kept, mut violators) = (Vec::new(), Vec::new());
    for (unit, values) in units.into_iter().zip(&found.values) {
        let error = errors.next().flatten();
        match values {
            Some(_) => violators.push((unit, error)),
            None => kept.push(unit),
        }
    }
    Ok((kept, violators))
}

/// Takes the failed messages out of the units. A failed message has no effect at all, also not at the key
/// that its row left. The other changes of its rows become units of their own.
fn without_dead(changes: &mut Changes<'_>, units: Vec<Unit>) -> Result<Vec<Unit>, Stop> {
    if changes.ledger.failures.is_empty() {
        return Ok(units);
    }
    let mut kept = Vec::with_capacity(units.len());
    for unit in units {
        let dead = |net: &NetChange| changes.ledger.is_dead(net.message);
        if !unit.nets().any(dead) {
            kept.push(unit);
            continue;
        }
        // A message that was sent twice can decide both rows now.
        let mut left: Vec<Unit> = Vec::with_capacity(2);
        for net in unit.nets() {
            let Some(net) = changes.fold_again(net.run)? else {
                continue;
            };
            match left.iter_mut().find(|unit| unit.message() == net.message) {
                Some(unit) => unit.add(net),
                None => left.push(Unit::one(net)),
            }
        }
        kept.extend(left);
    }
    Ok(kept)
}
