//! Handovers: a row loses a referenced value and another row gets it, while a foreign key acts on deletes.
//!
//! Such a foreign key acts when the first row is deleted, although the second row has the value when the statement
//! ends. A foreign key that acts on updates does so when the first row gets another value. Two rules of PostgreSQL offer a
//! way around that:
//!
//! * An update that keeps the value triggers no action. So the first row is not deleted: an update of its key and of
//!   all other columns makes it the second row. Several rows can follow each other in such a chain. They are updated
//!   one after the other, the last row first, because a unique index checks each row as it is written.
//! * The server checks `no action` on an update when the statement ends, against the result of the whole statement.
//!   So the first row can give the value up in the same statement that gives the value to the second row. After that
//!   nothing refers to the first row, and the next statement deletes it.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::collector::Collector;
use super::table::Table;
use crate::changes::net::{NetChange, NetEffect};
use crate::destination::{Action, Referrer};
use crate::target::Target;
use crate::write::delete_or_move::{can_change_key, is_move, may_be_deleted};
use crate::write::give_up::{parking_column, unused_value};
use crate::write::graph::Way;

/// The longest chain of rows that follow each other. Each row needs its own part of the statement.
const MAX_CHAIN: usize = 100;

/// Rows by number, each with the number of the row that it becomes.
#[derive(Default)]
struct Chains {
    to: HashMap<usize, usize>,
    from: HashMap<usize, usize>,
}

impl Chains {
    fn add(&mut self, old: usize, new: usize) {
        self.to.insert(old, new);
        self.from.insert(new, old);
    }

    fn remove(&mut self, old: usize) {
        if let Some(new) = self.to.remove(&old) {
            self.from.remove(&new);
        }
    }

    fn is_free(&self, old: usize, new: usize) -> bool {
        old != new && !self.to.contains_key(&old) && !self.from.contains_key(&new)
    }

    /// The circles. Each is the list of its rows, each row after the one that it becomes; the first is the last too.
    fn circles(&self) -> Vec<Vec<usize>> {
        let mut circles: Vec<Vec<usize>> = Vec::new();
        let mut seen: HashSet<usize> = HashSet::new();
        let mut starts: Vec<usize> = self.to.keys().copied().collect();
        starts.sort_unstable();
        for start in starts {
            let mut circle = vec![start];
            let mut row = start;
            while seen.insert(row)
                && let Some(&old) = self.from.get(&row)
            {
                circle.push(old);
                row = old;
            }
            if circle.len() > 1 && row == start {
                circles.push(circle);
            }
        }
        circles
    }

    /// The last row of each chain.
    fn ends(&self) -> Vec<usize> {
        let mut ends: Vec<usize> = self.from.keys().copied().collect();
        ends.retain(|end| !self.to.contains_key(end));
        ends.sort_unstable();
        ends
    }
}

impl Collector<'_, '_> {
    /// Finds the rows that hand a referenced value over, for all foreign keys that act on deletes.
    pub fn find_handovers(&mut self, table: &Table<'_>, nets: &[&NetChange], way: Way) {
        if may_be_deleted(table.target) {
            return;
        }
        let mut chains = Chains::default();
        let mut stay = Chains::default();
        for referrer in &table.target.destination.links.referrers {
            // A row that stays cannot be deleted and inserted again, so updates of its values act, too.
            if referrer.on_delete != Action::Nothing || referrer.on_update != Action::Nothing {
                self.find_handovers_of(table, nets, referrer, (&mut chains, &mut stay));
            }
        }
        let can_be_written = |circle: &Vec<usize>| {
            circle.len() <= MAX_CHAIN && circle.iter().all(|&n| is_whole(table.target, nets[n]))
        };
        let mut circles = stay.circles();
        circles.retain(can_be_written);
        self.graph.has_circles |= !circles.is_empty() && parking_column(table.target).is_some();
        if way == Way::Circles && parking_column(table.target).is_some() {
            for circle in circles {
                self.keep_circle(&circle);
                circle.iter().for_each(|old| chains.remove(*old));
            }
        }
        self.keep_chains(table, nets, chains);
    }

    fn find_handovers_of(
        &mut self,
        table: &Table<'_>,
        nets: &[&NetChange],
        referrer: &Referrer,
        (chains, stay): (&mut Chains, &mut Chains),
    ) {
        let Some(columns) = table.referred(referrer) else {
            return;
        };
        let first = self.first;
        let target = table.target;
        let bytes = |n: usize| {
            let of = |image: &Option<_>| table.bytes(image.as_ref()?, &columns);
            (of(&table.now[n]), of(&table.then[n]))
        };
        let mut takers: HashMap<Vec<u8>, usize> = HashMap::new();
        for n in 0..nets.len() {
            if let (now, Some(then)) = bytes(n)
                && now.as_ref() != Some(&then)
                && !self.graph.move_targets.contains(&(first + n))
            {
                takers.insert(then, n);
            }
        }
        for old in 0..nets.len() {
            let (Some(now), then) = bytes(old) else {
                continue;
            };
            if then.as_ref() == Some(&now) || self.graph.moved.contains_key(&(first + old)) {
                continue;
            }
            let Some(&new) = takers.get(&now) else {
                continue;
            };
            let acts = match table.then[old] {
                Some(_) => referrer.on_update,
                None => referrer.on_delete,
            };
            if table.then[old].is_some()
                && table.now[new].is_some()
                && can_change_key(target)
                && stay.is_free(old, new)
            {
                stay.add(old, new);
            }
            if acts == Action::Nothing {
                // The server checks the row when the statement ends. A row that stays gets its new value in it first.
                continue;
            }
            let goes = matches!(nets[old].effect, NetEffect::Delete { refused: false });
            let there = table.now[new].is_some();
            if is_move(target, (nets[old], true), (nets[new], there)) {
                takers.remove(&now);
                self.moves(old, new);
                self.graph.handed_over.insert(first + new);
            } else if goes
                && there
                && referrer.on_update == Action::Nothing
                && let Some(column) = gives_up_in(target, referrer)
            {
                self.graph.given_up.insert(first + old, column);
            } else if can_change_key(target) && chains.is_free(old, new) {
                chains.add(old, new);
            }
        }
    }

    /// Notes that the rows of a circle become each other: see [`Chains::circles`].
    fn keep_circle(&mut self, circle: &[usize]) {
        self.graph.parked.insert(self.first + circle[0]);
        for (level, pair) in circle.windows(2).enumerate() {
            let (new, old) = (pair[0], pair[1]);
            self.graph.levels.insert(self.first + new, level);
            self.moves(old, new);
            self.graph.handed_over.insert(self.first + new);
        }
    }

    /// Keeps the chains that can be written. The key at the end of a chain must be free, or its row must be
    /// deletable.
    fn keep_chains(&mut self, table: &Table<'_>, nets: &[&NetChange], mut chains: Chains) {
        let mut kept: HashSet<usize> = HashSet::new();
        let mut evicted: Vec<usize> = Vec::new();
        for end in chains.ends() {
            let mut end = end;
            while let Some(&old) = chains.from.get(&end) {
                let anew = |n: usize| table.then[n].is_none() || is_whole(table.target, nets[n]);
                let start = std::iter::successors(Some(end), |n| chains.from.get(n).copied());
                let chain: Vec<usize> = start.take(MAX_CHAIN + 1).collect();
                let free = table.now[end].is_none() || can_be_evicted(table, end);
                if free && chain.len() <= MAX_CHAIN && chain.iter().all(|&n| anew(n)) {
                    if table.now[end].is_some() {
                        evicted.push(end);
                    }
                    for (level, pair) in chain.windows(2).enumerate() {
                        kept.insert(pair[1]);
                        self.graph.levels.insert(self.first + pair[0], level);
                    }
                    break;
                }
                chains.remove(old);
                end = old;
            }
        }
        let mut kept: Vec<(usize, usize)> = kept.iter().map(|old| (*old, chains.to[old])).collect();
        kept.sort_unstable();
        for (old, new) in kept {
            self.moves(old, new);
            self.graph.handed_over.insert(self.first + new);
        }
        let evicted = evicted.into_iter().map(|n| self.first + n);
        self.graph.evicted.extend(evicted);
    }
}

/// Whether a change has a value for every column of its row.
fn is_whole(target: &Target, net: &NetChange) -> bool {
    let columns = &target.destination.columns;
    net.replaces()
        || columns.iter().all(|column| {
            let number = target.column_number(&column.name);
            column.generated
                || target.mapping.reserves(&column.name)
                || number.is_some_and(|number| net.has(number))
        })
}

/// Whether a row can be deleted while another row moves to its key: no referenced value on which a foreign key acts
/// stays.
fn can_be_evicted(table: &Table<'_>, n: usize) -> bool {
    let mut referrers = table.target.destination.links.referrers.iter();
    referrers.all(|referrer| {
        let Some(columns) = table.referred(referrer) else {
            return false;
        };
        let now = table.now[n]
            .as_ref()
            .and_then(|now| table.bytes(now, &columns));
        let then = table.then[n]
            .as_ref()
            .and_then(|then| table.bytes(then, &columns));
        referrer.on_delete == Action::Nothing || now.is_none() || now != then
    })
}

/// The column in which rows give a referenced value up. No foreign key acts on updates of this column.
fn gives_up_in(target: &Target, referrer: &Referrer) -> Option<usize> {
    let acts = |name: &String| {
        let mut referrers = target.destination.links.referrers.iter();
        referrers.any(|referrer| {
            referrer.on_update != Action::Nothing
                && referrer.columns.iter().any(|(_, to, _)| to == name)
        })
    };
    let columns = referrer.columns.iter().filter(|(_, to, _)| !acts(to));
    columns
        .filter_map(|(_, to, _)| target.column_number(to))
        .find(|i| !target.key.contains(i) && unused_value(target, *i).is_some())
}
