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
//! action runs although the row is back. Such a row gives the value up before, for null or a value that nobody has, by a
//! statement of its own. Rows of several owners are written by a statement for each owner, because a statement runs
//! as one role.

#![forbid(unsafe_code)]

mod parts;

use std::collections::HashMap;

use pgrx::pg_sys::{self};

use super::facts::{Facts, displaced, net_of};
use super::give_up::give_up;
use super::pending::Pending;
use super::rows::settle_delete;
use super::store_states;
use super::way::can_come_back;
use crate::changes::net::NetChange;
use crate::changes::{Changes, attempt_together};
use crate::error::SqlError;
use crate::pg::constraints;
use crate::stop::Stop;

use parts::Together;

/// Why changes could not be written together.
pub struct Refused {
    pub error: SqlError,
    /// The change (a node of the facts) whose row was being written.
    pub suspect: Option<usize>,
}

/// Writes the changes of these nodes, all or none. The first result says whether the call must end.
pub fn write(
    all: &mut [Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    nodes: &[usize],
) -> Result<Result<(), Refused>, Stop> {
    let mut suspect = None;
    let result = attempt_together(all, |all| -> Result<(), Stop> {
        let groups = by_writer(all, facts, nodes);
        if groups.len() > 1 {
            constraints::defer()?;
        }
        for group in &groups {
            park(all, pending, facts, group, nodes)?;
        }
        for group in &groups {
            let mut statement = Together::new(all, pending, facts, nodes, group);
            statement.collect()?;
            suspect = None;
            if let Err((error, at)) = statement.execute() {
                suspect = at;
                return Err(error.into());
            }
        }
        if groups.len() > 1 {
            constraints::check_at_once()?;
        }
        settle(all, pending, facts, nodes)?;
        Ok(())
    });
    match result {
        Ok(()) => {
            all[0].intake.call.wrote();
            Ok(Ok(()))
        }
        Err(stop) => {
            let error = stop.error()?;
            Ok(Err(Refused { error, suspect }))
        }
    }
}

/// The nodes by the role that writes them.
fn by_writer(all: &[Changes<'_>], facts: &Facts, nodes: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(pg_sys::Oid, Vec<usize>)> = Vec::new();
    for &node in nodes {
        let writer = all[facts.places[node].mapping].target.writer();
        match groups.iter_mut().find(|(role, _)| *role == writer) {
            Some((_, group)) => group.push(node),
            None => groups.push((writer, vec![node])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Lets rows that stay, and cannot be deleted, give up what other rows take.
fn park(
    all: &mut [Changes<'_>],
    pending: &[Vec<Pending>],
    facts: &Facts,
    group: &[usize],
    nodes: &[usize],
) -> Result<(), SqlError> {
    let displaced = displaced(facts, nodes);
    let mut parked: HashMap<(usize, &[String]), Vec<&NetChange>> = HashMap::new();
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
        for holder in facts.holders.iter().filter(|holder| holder.row == row) {
            let rows = parked.entry((place.mapping, &holder.columns)).or_default();
            rows.push(net_of(pending, place));
        }
    }
    for ((mapping, columns), rows) in parked {
        let changes = &all[mapping];
        let _owner = changes.acting_as_owner();
        give_up(&changes.target, &changes.nets.values, columns, &rows)?;
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
