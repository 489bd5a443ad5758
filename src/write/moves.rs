//! Updates the keys of rows that go from one key to another.
//!
//! A message that changes the key of a row has two net changes: the row is gone at its old key, and there at its new
//! one. Where the destination has the row under its old key and none under the new one, the row itself gets the key: it
//! keeps what only the destination has, its triggers see an update, and rows of tables that no mapping writes follow by
//! their foreign keys. All other rows, and those whose update fails, are written as two rows.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use pgrx::pg_sys::Datum;

use super::carried::{self, Carried, as_two_rows};
use super::rows::{RowMaker, numbers, settle_delete, shape};
use super::shared_rows::require_no_rival;
use super::{cascade, store_states};
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::{Guarded, NetChange, NetEffect};
use crate::error::SqlError;
use crate::guard::stored::exist;
use crate::mapping::Mode;
use crate::merge::{Cell, Event, Value};
use crate::outcome::MessageNo;
use crate::pg::tuples::Rows;
use crate::prepared::returned;
use crate::stop::Stop;
use crate::target::sql::prepare_write;
use crate::target::statements::{Shape, WriteKind};

/// A row that gets another key.
#[derive(Clone)]
struct Pair {
    /// The net change of the old key.
    old: NetChange,
    /// Whether no other row comes to the old key.
    frees: bool,
    /// The net change of the new key.
    new: NetChange,
}

/// Updates the keys of rows. Notes the net changes that are written by that ([`crate::changes::Progress::moved`]).
/// Returns what only the destination has of other rows that go to another key.
pub fn write(changes: &mut Changes<'_>) -> Result<Option<Carried>, Stop> {
    let target = &changes.target;
    if target.mapping.mode != Mode::Upsert {
        return Ok(None);
    }
    let mut key = target.key.iter();
    // What other mappings have of the row stays under its key.
    let fixed =
        !target.shared.sharers.is_empty() || key.any(|&i| target.columns[i].sql.insert_only);
    let nets = Rc::clone(&changes.nets.list);
    let pairs = found(changes, &nets);
    if pairs.is_empty() {
        return Ok(None);
    }
    let _owner = changes.acting_as_owner();
    let (pairs, carried) = match changes.attempt(|changes| there(changes, pairs)) {
        Ok(found) => found,
        Err(error) => {
            forgive(error, &as_two_rows(changes))?;
            return Ok(None);
        }
    };
    let mut rest = match fixed {
        true => Vec::new(),
        false => in_order(pairs),
    };
    while !rest.is_empty() {
        let first = shape(&changes.intake, WriteKind::Move, &rest[0].new);
        let same = |pair: &&Pair| shape(&changes.intake, WriteKind::Move, &pair.new) == first;
        let count = rest.iter().take_while(same).count();
        let set: Vec<Pair> = rest.drain(..count).collect();
        write_some(changes, &set)?;
    }
    Ok(carried)
}

/// The rows that go from one key to another, by what the batch says.
fn found(changes: &Changes<'_>, nets: &[NetChange]) -> Vec<Pair> {
    let keyed = &changes.keyed;
    if !nets
        .iter()
        .any(|net| net.run.changes().any(|i| keyed.leaves(i)))
    {
        return Vec::new();
    }
    let by_run: HashMap<u32, usize> = nets
        .iter()
        .enumerate()
        .map(|(n, net)| (net.run.start, n))
        .collect();
    let mut taken = HashSet::new();
    let mut pairs = Vec::new();
    for old in nets {
        let Some(message) = left_by(changes, old) else {
            continue;
        };
        let mut message = message;
        for _ in 0..nets.len() {
            let Some(change) = keyed.of_subject(message) else {
                break;
            };
            let Some(&at) = by_run.get(&keyed.run_of(change).start) else {
                break;
            };
            let net = &nets[at];
            if net.run == old.run {
                break;
            }
            if net.present() {
                let is_it = arrivals(changes, net).eq([change]) && changes.stayed(change);
                if is_it && !net.is_untouched() && taken.insert(at) {
                    pairs.push(Pair {
                        old: old.clone(),
                        frees: !old.present(),
                        new: net.clone(),
                    });
                }
                break;
            }
            let goes_on = changes.came_last(change) && keyed.has_left(net.run, net.message);
            if net.columns().is_some() || !goes_on {
                break;
            }
            message = net.message;
        }
    }
    pairs
}

/// The changes that brought another row to the key of a net change.
fn arrivals<'c>(changes: &'c Changes<'_>, net: &NetChange) -> impl Iterator<Item = u32> + 'c {
    let keyed = &changes.keyed;
    let appears = net
        .run
        .changes()
        .filter(|&i| keyed.change(i).event == Event::Appear);
    appears.filter(|&i| !changes.ledger.is_dead(keyed.change(i).message))
}

/// The message by which the stored row has left the key of a net change, as far as that is certain.
fn left_by(changes: &Changes<'_>, net: &NetChange) -> Option<MessageNo> {
    let keyed = &changes.keyed;
    let leaves = |i: &u32| keyed.leaves(*i) && !changes.ledger.is_dead(keyed.change(*i).message);
    if changes.is_marked(net) && !net.present() || net.is_untouched() {
        return None;
    }
    let stored = changes.examined.stored.get(&net.run.start);
    if stored.is_some_and(|stored| !stored.exists || !stored.state.present) {
        return None;
    }
    match net.effect {
        NetEffect::Delete { refused: false } => changes.stored_row_left_by(net.run),
        NetEffect::Write { .. } => {
            // Another row has come to the key.
            let mut all = net.run.changes().filter(leaves);
            let (left, more) = (all.next()?, all.next());
            let removes = |i: &u32| keyed.change(*i).event.removes();
            let alone = more.is_none() && net.run.changes().filter(removes).count() == 1;
            let stamp = keyed.change(left).stamp;
            let newer = stored
                .and_then(|stored| stored.state.row)
                .is_none_or(|row| stamp.compare(&row) == std::cmp::Ordering::Greater);
            (alone && newer && arrivals(changes, net).count() == 1)
                .then_some(keyed.change(left).message)
        }
        _ => None,
    }
}

/// The pairs whose rows can get the new key: the destination has the row under the old key, none under the new one, and
/// no row that a mapping writes would follow, be it there or new. Also reads what only the destination has of the rows.
fn there(
    changes: &mut Changes<'_>,
    mut pairs: Vec<Pair>,
) -> Result<(Vec<Pair>, Option<Carried>), SqlError> {
    let key =
        |changes: &Changes<'_>, net: &NetChange| changes.keyed.key_values(net.run.start).to_vec();
    if pairs
        .iter()
        .any(|pair| matches!(pair.old.guarded, Guarded::No))
    {
        let keys: Vec<Vec<Datum>> = pairs.iter().map(|pair| key(changes, &pair.old)).collect();
        let mut there = exist(&mut changes.target, &keys)?.into_iter();
        pairs.retain(|_| there.next() == Some(true));
    }
    let keys: Vec<Vec<Datum>> = pairs.iter().map(|pair| key(changes, &pair.new)).collect();
    let mut taken = exist(&mut changes.target, &keys)?;
    if !changes.target.shared.sharers.is_empty() {
        // The row there may be that of other mappings alone.
        let stored = &changes.examined.stored;
        let has = |pair: &Pair| {
            stored
                .get(&pair.new.run.start)
                .is_some_and(|it| it.state.present)
        };
        taken = pairs.iter().map(has).collect();
    }
    // The row at the new key goes, too, or else it is this row already.
    let keyed = &changes.keyed;
    let goes = |net: &NetChange| {
        let mut all = net.run.changes();
        all.any(|i| keyed.change(i).event.removes())
    };
    let mut free = taken.iter();
    pairs.retain(|pair| free.next() == Some(&false) || goes(&pair.new));
    let old: Vec<&NetChange> = pairs.iter().map(|pair| &pair.old).collect();
    let new: Vec<NetChange> = pairs.iter().map(|pair| pair.new.clone()).collect();
    let carried = carried::read(changes, &old, new)?;
    pairs.retain(|pair| stays_in_shard(changes, pair));
    let nets: Vec<_> = pairs.iter().map(|pair| (&pair.old, &pair.new)).collect();
    let mut followed = cascade::followed(changes, &nets)?.into_iter();
    pairs.retain(|_| followed.next() == Some(false));
    let nets: Vec<_> = pairs.iter().map(|pair| (&pair.old, &pair.new)).collect();
    let mut catches = cascade::catches(changes, &nets)?.into_iter();
    pairs.retain(|_| catches.next() == Some(false));
    let leaving: HashSet<u32> = pairs.iter().map(|pair| pair.old.run.start).collect();
    let keys: Vec<Vec<Datum>> = pairs.iter().map(|pair| key(changes, &pair.new)).collect();
    let mut taken = exist(&mut changes.target, &keys)?.into_iter();
    pairs.retain(|pair| taken.next() == Some(false) || leaving.contains(&pair.new.run.start));
    Ok((pairs, carried))
}

/// Whether the row can have both keys where it is. Citus moves no row to another shard.
fn stays_in_shard(changes: &Changes<'_>, pair: &Pair) -> bool {
    let Some(at) = changes.target.shard_column() else {
        return true;
    };
    let bytes = |net: &NetChange| {
        let mut bytes = Vec::new();
        let value = changes.keyed.key_values(net.run.start)[at];
        changes.target.key_encoding[at].encode(value, &mut bytes);
        bytes
    };
    bytes(&pair.old) == bytes(&pair.new)
}

/// The pairs in an order in which each new key is free when its row comes. Rows that exchange their keys are left out.
fn in_order(pairs: Vec<Pair>) -> Vec<Pair> {
    let from: HashMap<u32, usize> = pairs
        .iter()
        .enumerate()
        .map(|(n, pair)| (pair.old.run.start, n))
        .collect();
    let mut order: Vec<usize> = Vec::with_capacity(pairs.len());
    let (mut placed, mut seen) = (HashSet::new(), HashSet::new());
    for first in 0..pairs.len() {
        let mut path = Vec::new();
        let mut at = Some(first);
        while let Some(n) = at.filter(|n| seen.insert(*n)) {
            path.push(n);
            at = from.get(&pairs[n].new.run.start).copied();
        }
        // A path that ends at one of its own rows is a circle, and so are the rows that wait for it.
        let blocked = at.is_some_and(|n| !placed.contains(&n));
        if !blocked {
            placed.extend(path.iter().copied());
            order.extend(path.into_iter().rev());
        }
    }
    order.into_iter().map(|n| pairs[n].clone()).collect()
}

/// Updates the keys of these rows of one shape. Those whose update fails are left.
fn write_some(changes: &mut Changes<'_>, pairs: &[Pair]) -> Result<(), Stop> {
    match changes.attempt(|changes| write_set(changes, pairs)) {
        Ok(moved) => {
            changes.progress.moved.extend(moved);
            changes.intake.call.wrote();
            Ok(())
        }
        Err(error) => {
            forgive(error, &as_two_rows(changes))?;
            changes.take_exclusive()?;
            if pairs.len() > 1 {
                let (first, rest) = pairs.split_at(pairs.len() / 2);
                write_some(changes, first)?;
                write_some(changes, rest)?;
            }
            Ok(())
        }
    }
}

/// Updates the keys of these rows. Returns the net changes that this has written, by the start of their run.
fn write_set(changes: &mut Changes<'_>, pairs: &[Pair]) -> Result<Vec<u32>, SqlError> {
    let former = || {
        pairs
            .iter()
            .map(|pair| changes.keyed.key_values(pair.old.run.start).to_vec())
    };
    let shape = Shape {
        within: changes.target.within(|| former().collect()),
        ..shape(&changes.intake, WriteKind::Move, &pairs[0].new)
    };
    let kept = changes.target.statements.shapes.take(&shape);
    let mut statement = match kept {
        Some(statement) => statement,
        None => prepare_write(&changes.target, &shape)?,
    };
    let width = statement.rows.width();
    let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
    let maker = RowMaker::new(&changes.target, &shape);
    let mut rows = Rows::new();
    for (n, pair) in pairs.iter().enumerate() {
        let stored = &changes.nets.values;
        maker.fill(
            &changes.intake,
            stored,
            (n, &pair.new),
            &mut values,
            &mut nulls,
        );
        let former = changes.keyed.key_values(pair.old.run.start);
        for (i, value) in former.iter().enumerate() {
            (values[1 + i], nulls[1 + i]) = (*value, false);
        }
        rows.put(&statement.rows, &mut values, &mut nulls)?;
    }
    let outcome = statement.execute_over(rows);
    changes.target.statements.shapes.keep(shape, statement);
    let there = numbers(&returned(outcome?), pairs.len());
    let mut states = Vec::new();
    for (pair, _) in pairs.iter().zip(there).filter(|(_, there)| *there) {
        changes
            .ledger
            .settle(&changes.keyed, &pair.new, pair.new.outcome);
        states.push(with_values(changes, pair));
        if pair.frees {
            settle_delete(changes, &pair.old, true);
            states.push(pair.old.clone());
        }
    }
    let states: Vec<&NetChange> = states.iter().collect();
    store_states(changes, &states)?;
    require_no_rival(changes, &states)?;
    Ok(states.iter().map(|net| net.run.start).collect())
}

/// The net change of the new key. Values that the message does not repeat are there: they are as old as they were
/// under the old key.
fn with_values(changes: &Changes<'_>, pair: &Pair) -> NetChange {
    let mut net = pair.new.clone();
    let stored = changes.examined.stored.get(&pair.old.run.start);
    if let (Guarded::Examined { state, .. }, Some(stored)) = (&mut net.guarded, stored) {
        let before = &stored.state;
        for (cell, old) in state.cells.iter_mut().zip(&before.cells) {
            if cell.value == Value::Unknown && old.value != Value::Unknown {
                *cell = Cell {
                    value: Value::Stored,
                    gap: old.gap.or(before.row),
                    lacked: old.lacked,
                };
            }
        }
    }
    net
}
