//! Writes changes that can only be written together.
//!
//! One statement writes them, with a part for each kind of change. The first parts delete rows: those that are gone
//! afterwards, and those that must free a value for another row. The other parts insert and update. Three rules of
//! PostgreSQL make the result right:
//!
//! * The server checks foreign keys with `no action` when the statement ends, against the result of the whole
//!   statement. So rows can refer to each other, and a referenced row can be deleted and inserted again.
//! * A row that the statement has deleted no longer conflicts in a unique index or an exclusion constraint.
//! * Each part waits for the part before it, because its condition counts the rows that the part before it wrote.
//!
//! If a foreign key acts on deletes (`cascade`, `set null`, `restrict`), a row that exists afterwards must not be
//! deleted: the action would run although the row is back. [`super::graph`] (`handovers`) says how another row gets a
//! referenced value then. A row that stays gives such a value up beforehand: a statement of its own replaces the
//! value by null or by an unused value. If rows refer to it all the same, `references` says how they let it go. A
//! statement runs as one role, so the rows of each owner need a statement of their own.

#![forbid(unsafe_code)]

mod acting;
mod handovers;
mod parts;
mod references;
mod refused;
mod turns;

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::{self, Datum};

use super::delete_or_move::can_come_back;
use super::give_up::{
    can_give_up, can_give_up_referred, give_up, park as park_rows, parking_column,
};
use super::graph::{Graph, Way, displaced, net_of};
use super::keys::lock_rows;
use super::pending::Pending;
use super::rows::settle_delete;
use super::shared_rows::{Fate, rival_of, staying};
use super::store_states;
use crate::blame::blame;
use crate::changes::net::NetChange;
use crate::changes::{Changes, attempt_together};
use crate::error::{Error, SqlError, sqlstate};
use crate::pg::constraints;
use crate::pg::user::is_restricted;
use crate::prepared::RowReader;
use crate::stop::Stop;

use acting::deleted_beforehand;
use parts::{Parked, Together};
use references::GivenUp;
use turns::Turns;

pub use references::can_give_up_references;
pub use refused::{Blamed, Refused};

/// Writes the changes of these nodes, all or none. The outer error ends the call; the inner error says why the server
/// refused the changes.
pub fn write(
    all: &mut [Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    nodes: &[usize],
    way: Way,
) -> Result<Result<(), Refused>, Stop> {
    let references = match way {
        Way::Handovers | Way::Circles => GivenUp::default(),
        Way::WithoutReferences => GivenUp::withhold(all, pending, graph, nodes),
    };
    let result = attempt_together(all, |all| -> Result<(), Refused> {
        let beforehand = deleted_beforehand(all, graph, nodes, way)?;
        let groups = by_writer(all, graph, nodes);
        // The server does not defer triggers of a restricted role.
        let defers = groups.len() > 1 && !groups.iter().any(|(role, _)| is_restricted(*role));
        if defers {
            constraints::defer().map_err(Refused::artifact)?;
        }
        let displaced = displaced(graph, nodes);
        let turns = |group| Turns::of(all, pending, graph, (group, &displaced));
        let turns: Vec<Turns> = groups.iter().map(|(_, group)| turns(group)).collect();
        let mut stay = HashMap::new();
        for (_, group) in &groups {
            lock(all, pending, graph, group).map_err(Refused::artifact)?;
            stay.extend(staying(all, pending, graph, group).map_err(Refused::artifact)?);
        }
        let taken = references.take(all, pending, graph, nodes);
        let taken = taken.map_err(Refused::artifact)?;
        for ((_, group), turns) in groups.iter().zip(&turns) {
            let rows = (group.as_slice(), &displaced, &turns.circles);
            give_up_values(all, pending, graph, rows, &references).map_err(Refused::artifact)?;
        }
        for (_, group) in &groups {
            let mut deletes = Together::new(all, pending, graph, group);
            deletes.staying = stay.clone();
            let nodes = group.iter().filter(|node| beforehand.contains(node));
            deletes.delete_nodes(&nodes.copied().collect::<Vec<_>>());
            deletes.execute()?;
        }
        for ((_, group), turns) in groups.iter().zip(turns) {
            let mut statement = Together::new(all, pending, graph, group);
            statement.displaced = displaced.clone();
            statement.staying = stay.clone();
            statement.turns = turns;
            statement.parked = park(all, pending, graph, group).map_err(Refused::artifact)?;
            statement.deleted = beforehand.clone();
            statement.collect().map_err(Refused::artifact)?;
            statement.execute()?;
            statement.then().execute()?;
        }
        let back = references.give_back(all, pending, graph, &taken);
        back.map_err(Refused::artifact)?;
        if defers {
            constraints::check_at_once().map_err(Refused::at_the_end)?;
        }
        settle(all, pending, graph, (nodes, &stay))
    });
    references.restore(all, pending, graph);
    match &result {
        Ok(()) => all[0].intake.call.wrote(),
        // After a conflict with another session the changes wait.
        Err(refused) if refused.error.class() == sqlstate::TRANSACTION_ROLLBACK => {}
        Err(refused) => {
            let mapping = &all[graph.places[nodes[0]].mapping].target.mapping;
            blame(refused.error.clone(), mapping)?;
        }
    }
    Ok(result)
}

/// Groups the nodes by the role that writes them.
fn by_writer(
    all: &[Changes<'_>],
    graph: &Graph,
    nodes: &[usize],
) -> Vec<(pg_sys::Oid, Vec<usize>)> {
    let mut groups: Vec<(pg_sys::Oid, Vec<usize>)> = Vec::new();
    for &node in nodes {
        let writer = all[graph.places[node].mapping].target.writer();
        match groups.iter_mut().find(|(role, _)| *role == writer) {
            Some((_, group)) => group.push(node),
            None => groups.push((writer, vec![node])),
        }
    }
    groups
}

/// Locks the existing rows that are not deleted. So no other session changes them between their reading and their
/// writing.
fn lock(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    group: &[usize],
) -> Result<(), SqlError> {
    for (mapping, changes) in all.iter().enumerate() {
        let nodes = group.iter().filter(|&&node| {
            let stays = graph.nodes[node].present || graph.moved.contains_key(&node);
            graph.places[node].mapping == mapping && graph.there[node] && stays
        });
        let nets: Vec<&NetChange> = nodes
            .map(|&node| net_of(pending, graph.places[node]))
            .collect();
        if nets.is_empty() {
            continue;
        }
        let _owner = changes.acting_as_owner();
        if lock_rows(&changes.target, &changes.nets.values, &nets)? < nets.len() {
            return Err(Error::RowsWent.into());
        }
    }
    Ok(())
}

/// Gives the rows of parked nodes keys that no row has.
fn park(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    group: &[usize],
) -> Result<Parked, SqlError> {
    let mut parked = Parked::default();
    for (mapping, changes) in all.iter().enumerate() {
        let of_mapping = |node: &usize| graph.places[*node].mapping == mapping;
        let nodes = group.iter().copied().filter(of_mapping);
        let nodes: Vec<usize> = nodes.filter(|node| graph.parked.contains(node)).collect();
        let (target, values) = (&changes.target, &changes.nets.values);
        let Some(column) = parking_column(target).filter(|_| !nodes.is_empty()) else {
            continue;
        };
        let nets = nodes
            .iter()
            .map(|&node| net_of(pending, graph.places[node]));
        let _owner = changes.acting_as_owner();
        let found = park_rows(target, values, column, &nets.collect::<Vec<_>>())?;
        let mut row = RowReader::new(&found);
        while row.next() {
            let key = (0..target.key.len()).map(|i| row.datum(i + 1));
            let key: Option<Vec<Datum>> = key.collect();
            let key = key.ok_or(Error::RowsWent)?;
            parked.keys.insert(nodes[row.index(0)], key);
        }
        drop(row);
        parked.returned.push(found);
    }
    Ok(parked)
}

/// Makes rows give up the values that other rows get, if the rows stay and cannot be deleted in between.
fn give_up_values(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    (group, displaced, circles): (&[usize], &HashSet<u32>, &HashSet<usize>),
    references: &GivenUp<'_>,
) -> Result<(), SqlError> {
    let mut given_up: HashMap<(usize, usize), Vec<&NetChange>> = HashMap::new();
    for &node in group {
        let place = graph.places[node];
        let target = &all[place.mapping].target;
        let row = graph.nodes[node].row;
        if !displaced.contains(&row)
            || !graph.nodes[node].present
            || graph.makes_room(node, displaced) && can_come_back(target, net_of(pending, place))
        {
            continue;
        }
        let net = net_of(pending, place);
        let becomes = graph.moved.get(&node).unwrap_or(&node);
        let becomes = net_of(pending, graph.places[*becomes]);
        for columns in graph.held.get(&row).into_iter().flatten() {
            // The change must bring a value, or the row would lose its own for good.
            let brought = |i: usize| becomes.has(i);
            let column = can_give_up(target, columns, brought).or_else(|| {
                let circle = circles.contains(&node);
                let refers = |referrer: &_| !references.gives_up(place.mapping, referrer);
                circle.then(|| can_give_up_referred(target, columns, brought, refers))?
            });
            if let Some(column) = column {
                given_up
                    .entry((place.mapping, column))
                    .or_default()
                    .push(net);
            }
        }
    }
    for ((mapping, column), rows) in given_up {
        let changes = &all[mapping];
        let _owner = changes.acting_as_owner();
        give_up(&changes.target, &changes.nets.values, column, &rows)?;
    }
    Ok(())
}

/// Notes the outcomes of the messages, and stores the states of the rows.
fn settle(
    all: &mut [Changes<'_>],
    pending: &[Vec<Pending>],
    graph: &Graph,
    (nodes, staying): (&[usize], &HashMap<usize, Fate>),
) -> Result<(), Refused> {
    let mut by_mapping: Vec<(Vec<usize>, Vec<&NetChange>)> = vec![Default::default(); all.len()];
    for &node in nodes {
        let place = graph.places[node];
        let net = net_of(pending, place);
        by_mapping[place.mapping].0.push(node);
        by_mapping[place.mapping].1.push(net);
        if net.is_untouched() {
            continue;
        }
        let changes = &mut all[place.mapping];
        match net.columns() {
            None => {
                let left = staying.get(&node) == Some(&Fate::Left);
                settle_delete(changes, net, graph.there[node] && !left);
            }
            Some(_) => changes.ledger.settle(&changes.keyed, net, net.outcome),
        }
    }
    for (changes, (nodes, nets)) in all.iter().zip(&by_mapping) {
        let _owner = changes.acting_as_owner();
        store_states(changes, nets).map_err(Refused::artifact)?;
        if let Some((found, error)) = rival_of(changes, nets) {
            return Err(Refused {
                blamed: Blamed::Row(nodes[found]),
                ..Refused::at_the_end(error)
            });
        }
    }
    Ok(())
}
