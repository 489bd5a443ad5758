//! What is written together, set by set: when a set cannot be written, who is to blame is found, and the
//! others are written.
//!
//! A call begins sharing the mapping with others, and has it for itself from the first failure on: while
//! who is to blame is found, and kept as a dead letter, nobody else may write what it waits for, or
//! something newer.

use std::collections::HashSet;

use crate::apply::{EXAMINE_MORE, again_alone, is_signal};
use crate::cascade;
use crate::dead_letter::blame;
use crate::error::SqlError;
use crate::group::{Group, Guarded, Net, Outcome, Suspects};
use crate::guard::Place;
use crate::mapping::OnDelete;
use crate::pg::subtransaction::{open_subtransaction, subtransaction};
use crate::sets::set_size;
use crate::tangle;
use crate::target::Write;
use crate::wait;
use crate::write::{claim, delete, has, store_states, upsert, write_news, write_set};

/// Which half of a group's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows that are to be there.
    Upserts,
    /// Rows that are to be gone.
    Deletes,
}

/// What must be written together: the net change of a row, or of the two rows that a message with
/// another key concerns.
pub type Unit = Vec<Net>;

/// A unit that may work when others are written.
pub struct Pending {
    /// The changes.
    pub unit: Unit,
    /// Why they did not work yet.
    pub error: SqlError,
    /// How many sets the call had written when they failed; none if they have not been tried as they
    /// are now.
    pub written: Option<u64>,
}

/// The fewest rows of which it is worth to keep those that do not fail; with fewer, the call begins
/// again.
const MIN_KEPT: usize = 16;

/// Writes the group's net changes of one phase, as the mapping's owner. What fails but may work when
/// other rows are written is added to `pending`, to be tried again; what fails for good is noted in the
/// group. From the first failure on the call must have the mapping for itself.
pub fn write(
    group: &mut Group<'_>,
    phase: Phase,
    pending: &mut Vec<Pending>,
) -> Result<(), SqlError> {
    let nets = std::mem::take(&mut group.nets);
    let result = write_phase(group, phase, &nets, pending);
    group.nets = nets;
    result
}

fn write_phase(
    group: &mut Group<'_>,
    phase: Phase,
    nets: &[Net],
    pending: &mut Vec<Pending>,
) -> Result<(), SqlError> {
    let of_phase = |net: &Net| net.present == (phase == Phase::Upserts);
    let set_size = set_size(group, nets);
    let mut rest: Vec<&Net> = nets.iter().filter(|net| of_phase(net)).collect();
    if phase == Phase::Deletes && !group.claimed.is_empty() {
        let won = |net: &&&Net| group.claimed.get(&net.run.0) == Some(&true);
        let won: Vec<&Net> = rest.iter().filter(won).copied().collect();
        let _owner = group.acting_as_owner();
        if let Err(error) = write_news(group, &won) {
            // Their claims are among others', and would stay.
            blame(error, &group.target.mapping)?;
            return Err(again_alone());
        }
        rest.retain(|net| !group.claimed.contains_key(&net.run.0));
    }
    if !group.call.alone {
        // So that the claims of all are made in one order, those of deletes are made with the others.
        let deletes_too = phase == Phase::Upserts
            && group.target.place == Place::Table
            && !(group.call.single && rest.is_empty());
        if deletes_too {
            rest = nets.iter().collect();
        }
        rest = share(group, phase, rest, set_size)?;
    }
    let _owner = group.acting_as_owner();
    let mut units = Vec::new();
    for net in rest.into_iter().filter(|net| of_phase(net)) {
        // While the row is not at its new key, it stays at the old one.
        let held = pending
            .iter_mut()
            .find(|held| held.unit[0].message == net.message);
        match held {
            Some(held) => {
                held.unit.push(net.clone());
                held.written = None;
            }
            None => units.push(vec![net.clone()]),
        }
    }
    pending.extend(write_units(group, units, set_size)?);
    Ok(())
}

/// Claims net changes, and writes those of the phase, while other calls may share the mapping. Returns
/// what was left to do when that did not work any more; the call has the mapping for itself then.
fn share<'n>(
    group: &mut Group<'_>,
    phase: Phase,
    nets: Vec<&'n Net>,
    set_size: usize,
) -> Result<Vec<&'n Net>, SqlError> {
    let mut done = 0;
    while done < nets.len() {
        let set = &nets[done..nets.len().min(done.saturating_add(set_size))];
        let mut work = || {
            let _owner = group.acting_as_owner();
            let news = claim(group, set)?;
            let (now, later): (Vec<&Net>, Vec<&Net>) = news
                .into_iter()
                .partition(|net| net.present == (phase == Phase::Upserts));
            write_news(group, &now)?;
            Ok(later)
        };
        let keep = nets.len() >= MIN_KEPT;
        let result = if keep {
            open_subtransaction(work)
        } else {
            work()
        };
        match result {
            Ok(later) => {
                let claimed = set
                    .iter()
                    .filter(|net| net.present != (phase == Phase::Upserts))
                    .map(|net| (net.run.0, false));
                group.claimed.extend(claimed);
                let won = later.iter().map(|net| (net.run.0, true));
                group.claimed.extend(won);
                group.wrote();
                done += set.len();
            }
            Err(error) => {
                match is_signal(&error) {
                    true => {}
                    false if keep => drop(group.blame(error)?),
                    // It is not undone: nothing more is asked of the server.
                    false => drop(blame(error, &group.target.mapping)?),
                }
                if !keep {
                    return Err(again_alone());
                }
                group.take_alone()?;
                return Ok(nets[done..].to_vec());
            }
        }
    }
    Ok(Vec::new())
}

/// Tries units once more that could not be written, all at once.
pub fn retry(group: &mut Group<'_>, units: Vec<Unit>) -> Result<Vec<Pending>, SqlError> {
    let units = alike(group, units)?;
    write_units(group, units, usize::MAX)
}

/// With guard columns, rows that are examined are written by another statement than the others. If there
/// are some of both, all are examined: rows that refer to each other must be written by one.
fn alike(group: &mut Group<'_>, units: Vec<Unit>) -> Result<Vec<Unit>, SqlError> {
    let simple = |net: &&Net| matches!(net.guarded, Guarded::Change | Guarded::Read);
    let nets = || units.iter().flatten();
    let runs: Vec<(u32, u32)> = nets().filter(simple).map(|net| net.run).collect();
    if group.target.place != Place::Columns || runs.is_empty() || runs.len() == nets().count() {
        return Ok(units);
    }
    group.load(&runs)?;
    examined(group, units)
}

/// Writes units of a mapping that the call has for itself, set by set, and if a set fails, those before
/// the one that is suspected, those after it, and that one alone; in halves where nobody is suspected.
fn write_units(
    group: &mut Group<'_>,
    units: Vec<Unit>,
    set_size: usize,
) -> Result<Vec<Pending>, SqlError> {
    let mut later = Vec::new();
    let suspects = std::mem::take(&mut group.suspects);
    let mut stack = Stack::new(units, set_size);
    if let Some(first) = stack.pop() {
        stack.push(first);
        stack.divide(group, &suspects)?;
    }
    while let Some(units) = stack.pop() {
        let mut units = without_dead(group, units)?;
        if units.is_empty() {
            continue;
        }
        let nets: Vec<&Net> = units.iter().flatten().collect();
        let Err(error) = subtransaction(|| write_set(group, &nets)) else {
            group.wrote();
            stack.worked(units.len());
            continue;
        };
        if error.sqlstate() == EXAMINE_MORE {
            stack.push(examined(group, units)?);
            continue;
        }
        let error = group.blame(error)?;
        let suspects = std::mem::take(&mut group.suspects);
        if units.len() > 1 {
            let half = units.len() / 2;
            stack.push(units);
            if !stack.divide(group, &suspects)? {
                units = stack.pop_all();
                let second = units.split_off(half);
                stack.push(second);
                stack.push(units);
            }
            continue;
        }
        stack.failed();
        if let Some(leaves) = arrive(group, &nets)? {
            group.wrote();
            stack.push(vec![leaves]);
            continue;
        }
        let unit = units.remove(0);
        let held = Pending {
            unit,
            error,
            written: Some(group.written.get()),
        };
        if held.may_work_later(group) || held.may_work_together(group) {
            later.push(held);
        } else {
            group.fail(held.unit[0].message, held.error)?;
            stack.push(vec![held.unit]);
        }
    }
    Ok(later)
}

/// Of a message that moves its row to another key: writes the row there, and leaves it at the old key for
/// the moment. Rows that refer to it by the old key may need it at the new one first. Returns what is
/// left to do, if that worked.
fn arrive(group: &mut Group<'_>, nets: &[&Net]) -> Result<Option<Unit>, SqlError> {
    let (arrives, gone): (Vec<&Net>, Vec<&Net>) = nets.iter().partition(|net| net.present);
    if arrives.is_empty() || gone.is_empty() {
        return Ok(None);
    }
    let leaves: Unit = gone.iter().copied().cloned().collect();
    let error = match subtransaction(|| write_set(group, &arrives)) {
        Ok(()) => return Ok(Some(leaves)),
        Err(error) if error.sqlstate() == EXAMINE_MORE => return Ok(None),
        Err(error) => blame(error, &group.target.mapping)?,
    };
    if error.sqlstate() != "23505" {
        return Ok(None);
    }
    // It may be itself, at the old key, that has its unique value.
    let result = subtransaction(|| {
        if !tangle::give_up(group, &error, &gone)? {
            return Err(error.clone());
        }
        write_set(group, &arrives)
    });
    match result {
        Ok(()) => Ok(Some(leaves)),
        Err(error) if error.sqlstate() == EXAMINE_MORE => Ok(None),
        Err(error) => blame(error, &group.target.mapping).map(|_| None),
    }
}

/// Sets of units that are still to be written, the next one last.
struct Stack {
    sets: Vec<Vec<Unit>>,
    /// How many are written at once: few after failures, more and more after successes.
    at_once: usize,
    /// How many at most.
    at_most: usize,
}

impl Stack {
    fn new(units: Vec<Unit>, at_most: usize) -> Stack {
        Stack {
            sets: vec![units],
            at_once: at_most,
            at_most,
        }
    }

    fn push(&mut self, units: Vec<Unit>) {
        if !units.is_empty() {
            self.sets.push(units);
        }
    }

    /// The next set.
    fn pop(&mut self) -> Option<Vec<Unit>> {
        let mut units = self.sets.pop()?;
        if units.len() > self.at_once {
            let rest = units.split_off(self.at_once);
            self.sets.push(rest);
        }
        Some(units)
    }

    /// The set that was pushed last, however large.
    fn pop_all(&mut self) -> Vec<Unit> {
        self.sets.pop().unwrap_or_default()
    }

    fn worked(&mut self, units: usize) {
        self.at_once = self.at_once.max(units.saturating_mul(4)).min(self.at_most);
    }

    fn failed(&mut self) {
        self.at_once = (self.at_once / 4).max(1);
    }

    /// Puts what is suspected behind the rest of the last set; false if that tells nothing.
    fn divide(&mut self, group: &mut Group<'_>, suspects: &Suspects) -> Result<bool, SqlError> {
        if suspects.is_empty() || self.sets.last().is_none_or(|units| units.len() < 2) {
            return Ok(false);
        }
        let units = self.pop_all();
        if let Some(place) = suspects.place {
            let found = units.iter().position(|unit| {
                unit.iter()
                    .any(|net| group.messages[net.message as usize] == place)
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
        let violators = wait::violators(group, error, &units)?;
        let (mut kept, mut suspected) = (Vec::new(), Vec::new());
        for (unit, violates) in units.into_iter().zip(violators) {
            if violates {
                suspected.push(unit);
            } else {
                kept.push(unit);
            }
        }
        let told = !suspected.is_empty();
        if kept.is_empty() {
            self.at_once = 1;
        }
        self.push(suspected);
        self.push(kept);
        Ok(told)
    }
}

/// The units once more, with what has been loaded of their rows.
fn examined(group: &mut Group<'_>, units: Vec<Unit>) -> Result<Vec<Unit>, SqlError> {
    let mut again = Vec::with_capacity(units.len());
    for unit in units {
        let mut nets = Vec::with_capacity(unit.len());
        for net in unit {
            let loaded = group.stored.contains_key(&net.run.0);
            match net.guarded {
                Guarded::Change | Guarded::Read if loaded => {
                    nets.extend(group.fold_again(net.run)?);
                }
                _ => nets.push(net),
            }
        }
        if !nets.is_empty() {
            again.push(nets);
        }
    }
    Ok(again)
}

impl Pending {
    /// Whether it may be an after trigger that refused it, which misses a row that is still to come.
    fn may_work_together(&self, group: &Group<'_>) -> bool {
        let error = &self.error;
        let of_a_value = || error.column.is_some() || error.datatype.is_some();
        group.target.destination.after_triggers && !of_a_value() && !wait::is_of_constraint(error)
    }

    /// Whether a row that arrives, or leaves, can make it work; or an older change of the row itself, when
    /// a column that may not be null is not known yet.
    pub fn may_work_later(&self, group: &Group<'_>) -> bool {
        let name = self.error.column.as_deref();
        let mut columns = group.target.columns.iter();
        let column = columns.position(|c| Some(c.name.as_str()) == name);
        let unknown =
            |net: &Net| net.present && column.is_some_and(|column| !has(&net.columns, column));
        match self.error.sqlstate().as_str() {
            "23502" => self.unit.iter().any(unknown),
            _ => crate::dead_letter::may_work_later(&self.error),
        }
    }
}

/// Writes rows that could not be written at once, such as two that swap a unique value by way of a
/// third, as the source did: change by change, in commit order. All or none; returns whether.
pub fn replay_all(group: &mut Group<'_>, pending: &[Pending]) -> Result<bool, SqlError> {
    let nets: Vec<&Net> = pending.iter().flat_map(|held| &held.unit).collect();
    let columns = group.target.place == Place::Columns;
    let is_read = |net: &&Net| matches!(net.guarded, Guarded::Read);
    if nets.len() < 2 || columns && nets.iter().any(is_read) {
        return Ok(false);
    }
    let before = group.outcomes.clone();
    match subtransaction(|| replay(group, &nets)) {
        Ok(()) => {
            group.wrote();
            Ok(true)
        }
        Err(error) => {
            group.outcomes = before;
            // A cancel, say.
            blame(error, &group.target.mapping).map(|_| false)
        }
    }
}

fn replay(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    let news = claim(group, nets)?;
    let mut steps = Vec::new();
    for net in news.iter().copied() {
        if matches!(net.guarded, Guarded::Examined { .. }) {
            steps.push((
                net.stamp.and_then(|stamp| stamp.version),
                net.message,
                net.clone(),
            ));
            continue;
        }
        for i in net.run.0..net.run.1 {
            let entry = group.entries[i as usize];
            if group.outcomes[entry.message as usize] == Some(Outcome::Dead) {
                continue;
            }
            if let Some(mut step) = group.fold_entry(i)? {
                // With guard columns the server compares; else it is claimed.
                step.guarded = match group.target.place {
                    Place::Columns => Guarded::Change,
                    _ => Guarded::No,
                };
                steps.push((entry.stamp.version, entry.message, step));
            }
        }
    }
    steps.sort_by_key(|(version, message, _)| (*version, *message));
    let mut stale = HashSet::new();
    for (_, message, step) in &steps {
        if step.present && matches!(step.guarded, Guarded::Change) {
            upsert(group, Write::UpsertNewer, &[step])?;
            if group.outcomes[*message as usize] == Some(Outcome::Stale) {
                stale.insert(*message);
            }
        } else if step.present {
            upsert(group, Write::Upsert, &[step])?;
        } else if !matches!(step.guarded, Guarded::Examined { touched: false, .. }) {
            if group.target.mapping.on_delete == OnDelete::Delete {
                cascade::check(group, &[step])?;
            }
            delete(group, &[step])?;
        }
        group.outcomes[*message as usize] = Some(Outcome::Collapsed);
    }
    for net in &news {
        match stale.contains(&net.message) {
            true => group.settle_stale(net),
            false => group.settle(net, net.outcome),
        }
    }
    store_states(group, &news)
}

/// A message that failed has no effect at all, also not at the key that its row left: what is left of
/// its rows' changes stands for itself.
fn without_dead(group: &mut Group<'_>, units: Vec<Unit>) -> Result<Vec<Unit>, SqlError> {
    if group.failures.is_empty() {
        return Ok(units);
    }
    let mut kept = Vec::with_capacity(units.len());
    for unit in units {
        let dead = |net: &Net| group.outcomes[net.message as usize] == Some(Outcome::Dead);
        if !unit.iter().any(dead) {
            kept.push(unit);
            continue;
        }
        for net in unit {
            if let Some(net) = group.fold_again(net.run)? {
                kept.push(vec![net]);
            }
        }
    }
    Ok(kept)
}
