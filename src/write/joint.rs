//! Writes changes that wait, as far as they can be written now: those that depend on each other together.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, HashSet};

use super::bisect::retry;
use super::facts::collect::collect;
use super::facts::{Facts, Place, takes_part};
use super::pending::Pending;
use super::solve::{Blocked, Solution, Token, solve};
use super::together::{self, Refused, Suspects};
use super::way::may_be_deleted;
use crate::blame::{Verdict, blame, cause};
use crate::changes::Changes;
use crate::changes::net::{NetEffect, Unit};
use crate::error::SqlError;
use crate::mapping::Mapping;
use crate::mapping::versions::VersionsIn;
use crate::outcome::Wait;
use crate::stop::Stop;

/// What [`write()`] came to.
pub struct Joint {
    /// Whether something was written, or found to be at fault.
    pub progress: bool,
    /// What each of the units that still wait waits for, mapping by mapping, as far as constraints tell.
    pub waits: Vec<Vec<Option<Wait>>>,
}

/// Of how many units a call finds out what the server says of all of the unit.
const NAMED: usize = 100;

/// In a component of more units nobody is blamed for an error that does not tell whose it is.
const SEARCHED: usize = 16;

/// Writes what can be written of the units that wait, and leaves the others in `pending`.
pub fn write(
    all: &mut [Changes<'_>],
    pending: &mut [Vec<Pending>],
    mappings: &[Mapping],
) -> Result<Joint, Stop> {
    for (changes, pending) in all.iter_mut().zip(pending.iter_mut()) {
        examine(changes, pending)?;
    }
    let facts = collect(all, pending, mappings)?;
    let solution = solve(&facts.nodes, &[]);
    let mut work = Work {
        all,
        pending,
        facts: &facts,
        done: HashSet::new(),
        dead: HashSet::new(),
    };
    let (single, joint): (Vec<&Vec<usize>>, Vec<&Vec<usize>>) = solution
        .components
        .iter()
        .partition(|component| is_single(work.all, &facts, component));
    work.write_all(&joint)?;
    work.name_causes(&solution)?;
    let Work { done, dead, .. } = work;
    let single: HashSet<(usize, usize)> = single
        .into_iter()
        .flatten()
        .map(|&node| unit_of(facts.places[node]))
        .collect();
    let mut progress = !done.is_empty() || !dead.is_empty();
    progress |= soften(all, pending, &facts, &solution);
    let mut waits = waits(all, pending, &facts, &solution, mappings);
    for (i, changes) in all.iter_mut().enumerate() {
        let mut again: Vec<Unit> = Vec::new();
        let mut left = Vec::new();
        let mut left_waits = Vec::new();
        let held = std::mem::take(&mut pending[i]).into_iter();
        let several = held.len() > 1;
        let mut tried = 0;
        for ((j, held), wait) in held.enumerate().zip(std::mem::take(&mut waits[i])) {
            let unit = (i, j);
            if done.contains(&unit) {
                continue;
            }
            // What the solver does not know of, such as a trigger that looks at other rows, is tried again.
            let unknown = !takes_part(changes, &held)
                && (several || held.written != Some(changes.intake.call.written()));
            if single.contains(&unit) || dead.contains(&unit) || unknown {
                tried += 1;
                again.push(held.unit);
            } else {
                left.push(held);
                left_waits.push(wait);
            }
        }
        let _owner = changes.acting_as_owner();
        let failed = retry(changes, again)?;
        progress |= failed.len() < tried;
        left_waits.extend(failed.iter().map(|_| None));
        left.extend(failed);
        pending[i] = left;
        waits[i] = left_waits;
    }
    Ok(Joint { progress, waits })
}

fn unit_of(place: Place) -> (usize, usize) {
    (place.mapping, place.unit)
}

/// Whether a component is one unit that an ordinary statement can write.
fn is_single(all: &[Changes<'_>], facts: &Facts, component: &[usize]) -> bool {
    let target = &all[facts.places[component[0]].mapping].target;
    let moves = component.len() > 1 && !may_be_deleted(target);
    !moves
        && component.iter().all(|&node| {
            let of = &facts.nodes[node];
            of.unit == facts.nodes[component[0]].unit
                && of.displaces.is_empty()
                && (facts.acts[node].is_empty() || !of.present)
        })
}

/// Applies the rule to the units whose rows have not been examined yet: what is stale is not to be written.
fn examine(changes: &mut Changes<'_>, pending: &mut Vec<Pending>) -> Result<(), Stop> {
    if changes.target.versions == VersionsIn::Nowhere {
        return Ok(());
    }
    let runs: Vec<_> = pending
        .iter()
        .filter(|held| takes_part(changes, held))
        .flat_map(|held| held.unit.nets())
        .filter(|net| net.is_unexamined())
        .map(|net| net.run)
        .collect();
    if runs.is_empty() {
        return Ok(());
    }
    changes.take_exclusive()?;
    let _owner = changes.acting_as_owner();
    changes.load(&runs)?;
    for held in std::mem::take(pending) {
        let Pending {
            unit,
            error,
            written,
            of_set,
        } = held;
        for unit in changes.fold_examined(vec![unit])? {
            pending.push(Pending {
                unit,
                error: error.clone(),
                written,
                of_set,
            });
        }
    }
    Ok(())
}

/// Where deletes are soft, a row that goes on under another key is deleted at the old one; if rows refer to it there, it
/// is marked instead, because rows that are marked themselves never move away. A row that comes and goes at once is made
/// to be marked; if the row that it refers to is not there, it is not made, because that row may be gone for good. Returns
/// whether there is such a row.
fn soften(
    all: &mut [Changes<'_>],
    pending: &mut [Vec<Pending>],
    facts: &Facts,
    solution: &Solution,
) -> bool {
    let mut some = false;
    for (node, blocked) in solution.blocked.iter().enumerate() {
        let place = facts.places[node];
        let changes = &mut all[place.mapping];
        if changes.target.mark().is_none() {
            continue;
        }
        let unit = &mut pending[place.mapping][place.unit].unit;
        let Some(net) = unit.nets_mut().nth(place.net) else {
            continue;
        };
        match (blocked, &net.effect) {
            (Some(Blocked::Referenced(..)), NetEffect::Delete { .. })
                if !changes.is_marked(net) =>
            {
                some |= changes.progress.kept_marked.insert(net.run.start);
            }
            (Some(Blocked::Missing(_)), NetEffect::Mark { .. }) if !facts.there[node] => {
                net.effect = NetEffect::Delete { refused: false };
                some = true;
            }
            _ => {}
        }
    }
    some
}

/// What the units wait for that the solver left out.
fn waits(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    solution: &Solution,
    mappings: &[Mapping],
) -> Vec<Vec<Option<Wait>>> {
    let mut waits: Vec<Vec<Option<Wait>>> = pending.iter().map(|p| vec![None; p.len()]).collect();
    for (node, blocked) in solution.blocked.iter().enumerate() {
        let place = facts.places[node];
        let Some(blocked) = blocked else { continue };
        let wait = &mut waits[place.mapping][place.unit];
        match blocked {
            // Messages whose rows are written together, though each is a unit of its own: one waits for the other's row.
            Blocked::Unit(other) => {
                if unit_of(facts.places[*other]) != unit_of(place) && wait.is_none() {
                    *wait = Some(facts.wait(*blocked, all, mappings));
                }
            }
            blocked => *wait = Some(facts.wait(*blocked, all, mappings)),
        }
    }
    waits
}

/// The writing of components.
struct Work<'w, 'a> {
    all: &'w mut [Changes<'a>],
    pending: &'w mut [Vec<Pending>],
    facts: &'w Facts,
    /// The units (by mapping and number) that were written.
    done: HashSet<(usize, usize)>,
    /// The units that cannot be written whatever others do. Their messages have been given up.
    dead: HashSet<(usize, usize)>,
}

impl Work<'_, '_> {
    /// Writes components: all at once, or else each by itself.
    fn write_all(&mut self, components: &[&Vec<usize>]) -> Result<(), Stop> {
        let mut first: Vec<Vec<usize>> = Vec::with_capacity(components.len());
        for component in components {
            first.push(self.first(component));
        }
        let nodes = first.concat();
        if nodes.is_empty() || self.write(&nodes)?.is_ok() {
            return Ok(());
        }
        for component in &first {
            if let Err(refused) = self.write(component)? {
                self.find_fault(component, refused)?;
            }
        }
        Ok(())
    }

    /// The changes of a component that are to be written first. A foreign key that acts when a row goes does so
    /// when the statement ends, also to rows that refer to another row which has the same value by then. So the row
    /// goes first, if it can go without the other.
    fn first(&self, component: &[usize]) -> Vec<usize> {
        let facts = self.facts;
        let mut late: Vec<usize> = Vec::new();
        let mut acting: Vec<usize> = Vec::new();
        let mut givers: HashMap<Token, Vec<usize>> = HashMap::new();
        if component.iter().any(|&node| !facts.acts[node].is_empty()) {
            for &node in component {
                for token in &facts.nodes[node].gives {
                    givers.entry(*token).or_default().push(node);
                }
            }
        }
        for &node in component {
            for token in &facts.acts[node] {
                let givers = givers.get(token).into_iter().flatten();
                let before = late.len();
                late.extend(givers.filter(|&&giver| giver != node));
                if late.len() > before {
                    acting.push(node);
                }
            }
        }
        if late.is_empty() {
            return component.to_vec();
        }
        let rest = self.without(component, &late);
        match acting.iter().any(|node| rest.contains(node)) {
            true => rest,
            false => component.to_vec(),
        }
    }

    /// A unit that failed for its unique value may wait for a row that its foreign key refers to: the server says so if
    /// all of the unit is written.
    fn name_causes(&mut self, solution: &Solution) -> Result<(), Stop> {
        let missing = solution.blocked.iter().enumerate();
        let missing: Vec<usize> = missing
            .filter(|(_, blocked)| matches!(blocked, Some(Blocked::Missing(_))))
            .map(|(node, _)| node)
            .filter(|&node| {
                let place = self.facts.places[node];
                let held = &self.pending[place.mapping][place.unit];
                !held.error.violates_foreign_key()
            })
            .take(NAMED)
            .collect();
        for node in missing {
            let unit = self.facts.nodes[node].unit;
            let nodes: Vec<usize> = (0..self.facts.nodes.len())
                .filter(|&other| self.facts.nodes[other].unit == unit)
                .collect();
            if let Err(refused) = self.write(&nodes)? {
                let place = self.facts.places[node];
                let mapping = &self.all[place.mapping].target.mapping;
                let error = blame(refused.error, mapping)?;
                if error.violates_foreign_key() {
                    self.pending[place.mapping][place.unit].error = error;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, nodes: &[usize]) -> Result<Result<(), Refused>, Stop> {
        let result = together::write(self.all, self.pending, self.facts, nodes)?;
        if result.is_ok() {
            let units = nodes.iter().map(|&node| unit_of(self.facts.places[node]));
            self.done.extend(units);
        }
        Ok(result)
    }

    /// Finds the change of a component that cannot be written whatever the others do, gives up its message, and
    /// writes what can do without it.
    fn find_fault(&mut self, component: &[usize], refused: Refused) -> Result<(), Stop> {
        let Refused {
            error,
            suspects,
            of_our_own,
        } = refused;
        let first = match &suspects {
            Suspects::This(node) => *node,
            Suspects::OneOf(nodes) => nodes[0],
            Suspects::Unknown => component[0],
        };
        let mapping = &self.all[self.facts.places[first].mapping].target.mapping;
        let error = blame(error, mapping)?;
        if of_our_own {
            // Nobody is to blame: the changes keep the errors that they have on their own, and wait.
            return Ok(());
        }
        let of_a_message = cause(&error) == Verdict::TheMessage;
        let units: BTreeSet<usize> = component
            .iter()
            .map(|&node| self.facts.nodes[node].unit)
            .collect();
        let mut candidates: Vec<usize> = match suspects {
            Suspects::This(node) if of_a_message => return self.give_up(node, error),
            Suspects::This(node) => vec![node],
            Suspects::OneOf(nodes) => nodes,
            Suspects::Unknown => Vec::new(),
        };
        let narrowed = candidates.len();
        if units.len() <= SEARCHED {
            candidates.extend(component);
        }
        candidates.truncate(2 * SEARCHED);
        for &candidate in &candidates {
            let rest = self.without(component, &[candidate]);
            if !rest.is_empty() && self.write(&rest)?.is_ok() {
                return match of_a_message {
                    true => self.give_up(candidate, error),
                    false => self.keep(candidate, error),
                };
            }
        }
        // None can be written without the others.
        match of_a_message {
            false => self.keep(first, error),
            true if narrowed == 1 || units.len() == 1 => self.give_up(first, error),
            true => Ok(()),
        }
    }

    /// Notes what a change waits for.
    fn keep(&mut self, node: usize, error: SqlError) -> Result<(), Stop> {
        let place = self.facts.places[node];
        self.pending[place.mapping][place.unit].error = error;
        Ok(())
    }

    /// Gives up the message of a change.
    fn give_up(&mut self, node: usize, error: SqlError) -> Result<(), Stop> {
        let place = self.facts.places[node];
        if self.dead.insert(unit_of(place)) {
            let message = self.pending[place.mapping][place.unit].unit.message();
            self.all[place.mapping].fail(message, error)?;
        }
        Ok(())
    }

    /// The changes of a component that can be written without some of them.
    fn without(&self, component: &[usize], some: &[usize]) -> Vec<usize> {
        let outside: HashSet<usize> = component.iter().copied().collect();
        let mut left_out: Vec<usize> = (0..self.facts.nodes.len())
            .filter(|node| !outside.contains(node))
            .collect();
        left_out.extend(some);
        let solution = solve(&self.facts.nodes, &left_out);
        solution.components.concat()
    }
}
