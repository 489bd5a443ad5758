//! Writes the waiting changes that can be written now. Changes that depend on each other form a component, and are
//! written together.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, HashSet};

use super::bisect::retry;
use super::delete_or_move::may_be_deleted;
use super::graph::collect::collect;
use super::graph::{Graph, Place, Way, takes_part};
use super::pending::Pending;
use super::solve::{Blocked, Solution, ValueNo, released, solve};
use super::together::{self, Blamed, Refused, can_give_up_references};
use crate::blame::{Verdict, blame, cause};
use crate::changes::Changes;
use crate::changes::net::{NetEffect, Unit};
use crate::error::SqlError;
use crate::mapping::Mapping;
use crate::mapping::versions::VersionsIn;
use crate::outcome::Wait;
use crate::stop::Stop;

/// The result of [`write()`].
pub struct Progress {
    /// Whether a unit was written, changed or found at fault.
    pub progress: bool,
    /// For each mapping and unit that still waits, the row or value that it waits for, as far as constraints tell.
    pub waits: Vec<Vec<Option<Wait>>>,
}

/// The most units that a call writes on trial to learn their errors.
const MAX_TRIALS: usize = 100;

/// The most units of a component in which a search finds the unit at fault. In a larger component, an error that does
/// not name a row blames no unit.
const MAX_SEARCHED: usize = 16;

/// Writes the waiting units that can be written, and leaves the others in `pending`.
pub fn write(
    all: &mut [Changes<'_>],
    pending: &mut [Vec<Pending>],
    mappings: &[Mapping],
) -> Result<Progress, Stop> {
    for (changes, pending) in all.iter_mut().zip(pending.iter_mut()) {
        examine(changes, pending)?;
    }
    let graph = collect(all, pending, mappings, Way::Handovers)?;
    let solution = solve(&graph.nodes, &[]);
    let mut work = Work {
        all,
        pending,
        graph: &graph,
        done: HashSet::new(),
        dead: HashSet::new(),
    };
    let (single, together): (Vec<&Vec<usize>>, Vec<&Vec<usize>>) = solution
        .components
        .iter()
        .partition(|component| is_single(work.all, &graph, component));
    work.write_all(&together)?;
    if work.done.is_empty() && work.dead.is_empty() {
        work.write_otherwise(mappings)?;
    }
    // after progress, the next round has a graph of what is there then
    if work.done.is_empty() {
        work.name_causes(&solution)?;
    }
    let Work { done, dead, .. } = work;
    let single: HashSet<(usize, usize)> = single
        .into_iter()
        .flatten()
        .map(|&node| unit_of(graph.places[node]))
        .collect();
    let mut progress = !done.is_empty() || !dead.is_empty();
    progress |= soften(all, pending, &graph, &solution);
    let mut waits = waits(all, pending, &graph, &solution, mappings);
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
            // The solver knows nothing of triggers that look at other rows. So these units are tried again.
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
    Ok(Progress { progress, waits })
}

fn unit_of(place: Place) -> (usize, usize) {
    (place.mapping, place.unit)
}

/// Whether a component is one unit that an ordinary statement can write.
fn is_single(all: &[Changes<'_>], graph: &Graph, component: &[usize]) -> bool {
    let target = &all[graph.places[component[0]].mapping].target;
    let moves = component.len() > 1 && !may_be_deleted(target);
    !moves
        && component.iter().all(|&node| {
            let of = &graph.nodes[node];
            of.unit == graph.nodes[component[0]].unit
                && of.displaces.is_empty()
                && (graph.acting_drops[node].is_empty() || !of.present)
        })
}

/// Examines the rows of the units that were not examined yet. Stale changes must not be written.
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

/// Adapts changes of destinations with soft deletes, in two cases. Returns whether there was one.
///
/// * A row moved to another key, so the row at the old key is deleted. If rows still refer to that row, it is marked
///   instead: referring rows that are themselves marked never move away.
/// * A row was inserted and deleted, so it is inserted with the mark. If the row that it refers to is missing, it is
///   not inserted: the missing row may be gone for good.
fn soften(
    all: &mut [Changes<'_>],
    pending: &mut [Vec<Pending>],
    graph: &Graph,
    solution: &Solution,
) -> bool {
    let mut some = false;
    for (node, blocked) in solution.blocked.iter().enumerate() {
        let place = graph.places[node];
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
            (Some(Blocked::Missing(_)), NetEffect::Mark { .. }) if !graph.there[node] => {
                net.effect = NetEffect::Delete { refused: false };
                some = true;
            }
            _ => {}
        }
    }
    some
}

/// For each unit that the solver left out, the row or value that it waits for.
fn waits(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    solution: &Solution,
    mappings: &[Mapping],
) -> Vec<Vec<Option<Wait>>> {
    let mut waits: Vec<Vec<Option<Wait>>> = pending.iter().map(|p| vec![None; p.len()]).collect();
    for (node, blocked) in solution.blocked.iter().enumerate() {
        let place = graph.places[node];
        let Some(blocked) = blocked else { continue };
        let wait = &mut waits[place.mapping][place.unit];
        match blocked {
            // Two units that must be written together, because a row moves: each waits for the row of the other.
            Blocked::Unit(other) => {
                if unit_of(graph.places[*other]) != unit_of(place) && wait.is_none() {
                    *wait = Some(graph.wait(*blocked, all, mappings));
                }
            }
            blocked => *wait = Some(graph.wait(*blocked, all, mappings)),
        }
    }
    waits
}

/// Writes components.
struct Work<'w, 'a> {
    all: &'w mut [Changes<'a>],
    pending: &'w mut [Vec<Pending>],
    graph: &'w Graph,
    /// The units (by mapping and number) that are written.
    done: HashSet<(usize, usize)>,
    /// The units at fault. Their messages have failed.
    dead: HashSet<(usize, usize)>,
}

impl Work<'_, '_> {
    /// Writes all components at once. If that fails, writes each component by itself.
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

    /// Writes components in ways that ask more of the server, and of which triggers see more. So they come last.
    fn write_otherwise(&mut self, mappings: &[Mapping]) -> Result<(), Stop> {
        if self.graph.has_circles {
            let graph = collect(self.all, self.pending, mappings, Way::Circles)?;
            let solution = solve(&graph.nodes, &[]);
            let in_circle = |nodes: &[usize]| nodes.iter().any(|n| graph.parked.contains(n));
            self.write_in(Way::Circles, &graph, &solution, in_circle)?;
            if !self.done.is_empty() {
                return Ok(());
            }
        }
        let without_handovers;
        let mut graph = self.graph;
        if !graph.handed_over.is_empty() || !graph.given_up.is_empty() {
            without_handovers = collect(self.all, self.pending, mappings, Way::WithoutReferences)?;
            graph = &without_handovers;
        }
        if graph.references.is_empty() {
            return Ok(());
        }
        let solution = solve(&released(&graph.nodes), &[]);
        let helps = |nodes: &[usize]| can_give_up_references(graph, nodes);
        self.write_in(Way::WithoutReferences, graph, &solution, helps)
    }

    /// Writes the components for which a way `helps`.
    fn write_in(
        &mut self,
        way: Way,
        graph: &Graph,
        solution: &Solution,
        helps: impl Fn(&[usize]) -> bool,
    ) -> Result<(), Stop> {
        let components = solution.components.iter().map(Vec::as_slice);
        let helped: Vec<&[usize]> = components.filter(|nodes| helps(nodes)).collect();
        if helped.len() > 1 && self.write_as(way, graph, &helped.concat())?.is_ok() {
            return Ok(());
        }
        for component in helped.into_iter().take(MAX_TRIALS) {
            // If the server refuses it, the changes keep their errors, and wait.
            let _ = self.write_as(way, graph, component)?;
        }
        Ok(())
    }

    /// The changes of a component to write first. If a row is deleted and another row gets its referenced value in
    /// the same statement, the foreign key's action hits the rows that refer to the new row too. So the delete is
    /// written first, if it can be written without the other change and those rows. The same is true of a row that
    /// moves while another row comes to its key.
    fn first(&self, component: &[usize]) -> Vec<usize> {
        let graph = self.graph;
        let mut late: Vec<usize> = Vec::new();
        let mut acting: Vec<usize> = Vec::new();
        let mut givers: HashMap<ValueNo, Vec<usize>> = HashMap::new();
        let mut needers: HashMap<ValueNo, Vec<usize>> = HashMap::new();
        if component
            .iter()
            .any(|&node| !graph.acting_drops[node].is_empty())
        {
            for &node in component {
                for value in &graph.nodes[node].gives {
                    givers.entry(*value).or_default().push(node);
                }
                for (value, _) in &graph.nodes[node].needs {
                    needers.entry(*value).or_default().push(node);
                }
            }
        }
        for &node in component {
            for value in &graph.acting_drops[node] {
                let Some(givers) = givers.get(value) else {
                    continue;
                };
                let needers = needers.get(value).into_iter().flatten();
                let before = late.len();
                late.extend(givers.iter().chain(needers).filter(|&&other| other != node));
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

    /// Corrects the errors of units that failed on a unique index but wait for a referenced row. Writing the whole
    /// unit on trial makes the server name the foreign key.
    fn name_causes(&mut self, solution: &Solution) -> Result<(), Stop> {
        let missing = solution.blocked.iter().enumerate();
        let missing: Vec<usize> = missing
            .filter(|(_, blocked)| matches!(blocked, Some(Blocked::Missing(_))))
            .map(|(node, _)| node)
            .filter(|&node| {
                let place = self.graph.places[node];
                let held = &self.pending[place.mapping][place.unit];
                !held.error.violates_foreign_key()
            })
            .take(MAX_TRIALS)
            .collect();
        for node in missing {
            let unit = self.graph.nodes[node].unit;
            let nodes: Vec<usize> = (0..self.graph.nodes.len())
                .filter(|&other| self.graph.nodes[other].unit == unit)
                .collect();
            if let Err(refused) = self.write(&nodes)? {
                let place = self.graph.places[node];
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
        self.write_as(Way::Handovers, self.graph, nodes)
    }

    fn write_as(
        &mut self,
        way: Way,
        graph: &Graph,
        nodes: &[usize],
    ) -> Result<Result<(), Refused>, Stop> {
        let result = together::write(self.all, self.pending, graph, nodes, way)?;
        if result.is_ok() {
            let units = nodes.iter().map(|&node| unit_of(graph.places[node]));
            self.done.extend(units);
        }
        Ok(result)
    }

    /// Searches a component for the change at fault, fails its message, and writes the changes that do not depend on
    /// it.
    fn find_fault(&mut self, component: &[usize], refused: Refused) -> Result<(), Stop> {
        let Refused {
            error,
            blamed,
            artifact,
        } = refused;
        let first = match &blamed {
            Blamed::Row(node) => *node,
            Blamed::OneOf(nodes) => nodes[0],
            Blamed::Unknown => component[0],
        };
        let mapping = &self.all[self.graph.places[first].mapping].target.mapping;
        let error = blame(error, mapping)?;
        if artifact {
            // No change is at fault. The changes keep their own errors, and wait.
            return Ok(());
        }
        let of_a_message = cause(&error) == Verdict::TheMessage;
        let units: BTreeSet<usize> = component
            .iter()
            .map(|&node| self.graph.nodes[node].unit)
            .collect();
        let mut candidates: Vec<usize> = match blamed {
            Blamed::Row(node) if of_a_message => return self.fail(node, error),
            Blamed::Row(node) => vec![node],
            Blamed::OneOf(nodes) => nodes,
            Blamed::Unknown => Vec::new(),
        };
        let narrowed = candidates.len();
        if units.len() <= MAX_SEARCHED {
            candidates.extend(component);
        }
        candidates.truncate(2 * MAX_SEARCHED);
        for &candidate in &candidates {
            let rest = self.without(component, &[candidate]);
            if !rest.is_empty() && self.write(&rest)?.is_ok() {
                return match of_a_message {
                    true => self.fail(candidate, error),
                    false => self.keep(candidate, error),
                };
            }
        }
        // Without any single change, the others cannot be written either.
        match of_a_message {
            false => self.keep(first, error),
            true if narrowed == 1 || units.len() == 1 => self.fail(first, error),
            true => Ok(()),
        }
    }

    /// Lets a change wait with this error.
    fn keep(&mut self, node: usize, error: SqlError) -> Result<(), Stop> {
        let place = self.graph.places[node];
        self.pending[place.mapping][place.unit].error = error;
        Ok(())
    }

    /// Fails the message of a change.
    fn fail(&mut self, node: usize, error: SqlError) -> Result<(), Stop> {
        let place = self.graph.places[node];
        if self.dead.insert(unit_of(place)) {
            let message = self.pending[place.mapping][place.unit].unit.message();
            self.all[place.mapping].fail(message, error)?;
        }
        Ok(())
    }

    /// The changes of a component that can be written if `some` of them are left out.
    fn without(&self, component: &[usize], some: &[usize]) -> Vec<usize> {
        let outside: HashSet<usize> = component.iter().copied().collect();
        let mut left_out: Vec<usize> = (0..self.graph.nodes.len())
            .filter(|node| !outside.contains(node))
            .collect();
        left_out.extend(some);
        let solution = solve(&self.graph.nodes, &left_out);
        solution.components.concat()
    }
}
