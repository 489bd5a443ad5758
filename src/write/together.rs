//! Writing changes that can only be written together.
//!
//! One statement with a part for each kind of change writes them: first it deletes the rows that go, and the rows that
//! stay but give up a value which another row takes; then it inserts and updates. Three laws of PostgreSQL make that
//! right:
//!
//! * The server checks foreign keys with `no action` when the statement ends, against what the whole of it has left. So
//!   rows can refer to each other, and a row that others refer to can be deleted and come back.
//! * A row that the statement has deleted is in nobody's way any more, neither in a unique index nor in an exclusion
//!   constraint.
//! * Each part waits for the one before it: its condition counts the rows which that one has written.
//!
//! Where foreign keys act on a delete (`cascade`, `set null`, `restrict`), a row that comes back must not be deleted: the
//! action runs although the row is back. `facts::handovers` has the ways in which another row gets what rows refer to. A
//! row that stays gives the value up before, for null or a value that nobody has, by a
//! statement of its own. Rows of several owners are written by a statement for each owner, because a statement runs
//! as one role.

#![forbid(unsafe_code)]

mod handovers;
mod parts;
mod refused;

use std::collections::HashMap;

use pgrx::pg_sys::{self};

use super::facts::{Facts, displaced, net_of};
use super::give_up::{can_give_up, give_up};
use super::keys::lock_rows;
use super::pending::Pending;
use super::rows::settle_delete;
use super::store_states;
use super::way::can_come_back;
use crate::changes::net::NetChange;
use crate::changes::{Changes, attempt_together};
use crate::error::{Error, SqlError};
use crate::pg::constraints;
use crate::pg::user::is_restricted;
use crate::stop::Stop;

use parts::Together;

pub use refused::{Refused, Suspects};

/// Writes the changes of these nodes, all or none. The first result says whether the call must end.
pub fn write(
    all: &mut [Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    nodes: &[usize],
) -> Result<Result<(), Refused>, Stop> {
    let result = attempt_together(all, |all| -> Result<(), Refused> {
        let groups = by_writer(all, facts, nodes);
        // In a restricted role's turn the server does not defer triggers.
        let defers = groups.len() > 1 && !groups.iter().any(|(role, _)| is_restricted(*role));
        if defers {
            constraints::defer().map_err(Refused::of_our_own)?;
        }
        for (_, group) in &groups {
            let prepared = lock(all, pending, facts, group)
                .and_then(|()| park(all, pending, facts, group, nodes));
            prepared.map_err(Refused::of_our_own)?;
        }
        for (_, group) in &groups {
            let mut statement = Together::new(all, pending, facts, nodes, group);
            statement.collect().map_err(Refused::of_our_own)?;
            statement.execute()?;
            statement.then().execute()?;
        }
        if defers {
            constraints::check_at_once().map_err(Refused::at_the_end)?;
        }
        settle(all, pending, facts, nodes).map_err(Refused::of_our_own)
    });
    if result.is_ok() {
        all[0].intake.call.wrote();
    }
    Ok(result)
}

/// The nodes by the role that writes them.
fn by_writer(
    all: &[Changes<'_>],
    facts: &Facts,
    nodes: &[usize],
) -> Vec<(pg_sys::Oid, Vec<usize>)> {
    let mut groups: Vec<(pg_sys::Oid, Vec<usize>)> = Vec::new();
    for &node in nodes {
        let writer = all[facts.places[node].mapping].target.writer();
        match groups.iter_mut().find(|(role, _)| *role == writer) {
            Some((_, group)) => group.push(node),
            None => groups.push((writer, vec![node])),
        }
    }
    groups
}

/// Locks the rows that are there and stay, so that they are still there, and as they are read, when they are written.
fn lock(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    group: &[usize],
) -> Result<(), SqlError> {
    for (mapping, changes) in all.iter().enumerate() {
        let nodes = group.iter().filter(|&&node| {
            let stays = facts.nodes[node].present || facts.moved.contains_key(&node);
            facts.places[node].mapping == mapping && facts.there[node] && stays
        });
        let nets: Vec<&NetChange> = nodes
            .map(|&node| net_of(pending, facts.places[node]))
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

/// Lets rows that stay, and cannot be deleted, give up what other rows take.
fn park(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    group: &[usize],
    nodes: &[usize],
) -> Result<(), SqlError> {
    let displaced = displaced(facts, nodes);
    let mut parked: HashMap<(usize, usize), Vec<&NetChange>> = HashMap::new();
    for &node in group {
        let place = facts.places[node];
        let target = &all[place.mapping].target;
        let row = facts.nodes[node].row;
        if !displaced.contains(&row)
            || !facts.nodes[node].present
            || facts.makes_room(node, &displaced) && can_come_back(target, net_of(pending, place))
        {
            continue;
        }
        let net = net_of(pending, place);
        let becomes = facts.moved.get(&node).unwrap_or(&node);
        let becomes = net_of(pending, facts.places[*becomes]);
        for columns in facts.held.get(&row).into_iter().flatten() {
            // What the change does not bring would not come back.
            let brought = |i: usize| becomes.has(i);
            if let Some(column) = can_give_up(target, columns, brought) {
                parked.entry((place.mapping, column)).or_default().push(net);
            }
        }
    }
    for ((mapping, column), rows) in parked {
        let changes = &all[mapping];
        let _owner = changes.acting_as_owner();
        give_up(&changes.target, &changes.nets.values, column, &rows)?;
    }
    Ok(())
}

/// Notes what became of the messages, and stores the states of the rows.
fn settle(
    all: &mut [Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    nodes: &[usize],
) -> Result<(), SqlError> {
    let mut by_mapping: Vec<Vec<&NetChange>> = vec![Vec::new(); all.len()];
    for &node in nodes {
        let place = facts.places[node];
        let net = net_of(pending, place);
        by_mapping[place.mapping].push(net);
        if net.is_untouched() {
            continue;
        }
        let changes = &mut all[place.mapping];
        match net.columns() {
            None => settle_delete(changes, net, facts.there[node]),
            Some(_) => changes.ledger.settle(&changes.keyed, net, net.outcome),
        }
    }
    for (changes, nets) in all.iter().zip(&by_mapping) {
        let _owner = changes.acting_as_owner();
        store_states(changes, nets)?;
    }
    Ok(())
}
