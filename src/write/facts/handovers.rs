//! Which rows hand over what other rows refer to, and how, where foreign keys act when a row goes.
//!
//! A foreign key that acts on a delete does so although another row has the value by then. Two laws of PostgreSQL show a
//! way around that:
//!
//! * A row that keeps the value is not deleted, so nothing acts. The row becomes the row that has the value afterwards, by
//!   an update of its key and of all else. Rows that follow each other in this way are updated one after the other, the
//!   last one first: a unique index looks at each row as it is written.
//! * `no action` on an update is checked when the statement ends, against what the whole of it has left. So a row can give
//!   the value up in the statement that gives it to another row. Nothing refers to the row any more then, and the next
//!   statement deletes it.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::collector::Collector;
use super::table::Table;
use crate::changes::net::{NetChange, NetEffect};
use crate::destination::{Action, Referrer};
use crate::target::Target;
use crate::write::give_up::free_value;
use crate::write::way::{can_change_key, is_move, may_be_deleted};

/// How many rows can follow each other: each needs a part of the statement of its own.
const LONGEST: usize = 100;

/// Rows, by number, each with the row that it becomes.
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

    /// The rows that nothing follows.
    fn ends(&self) -> Vec<usize> {
        let mut ends: Vec<usize> = self.from.keys().copied().collect();
        ends.retain(|end| !self.to.contains_key(end));
        ends.sort_unstable();
        ends
    }
}

impl Collector<'_, '_> {
    /// Notes which rows hand over what rows refer to by foreign keys that act when a row goes.
    pub fn find_handovers(&mut self, table: &Table<'_>, nets: &[&NetChange]) {
        if may_be_deleted(table.target) {
            return;
        }
        let mut chains = Chains::default();
        for referrer in &table.target.destination.referrers {
            if referrer.on_delete != Action::Nothing {
                self.find_handovers_of(table, nets, referrer, &mut chains);
            }
        }
        self.keep_chains(table, nets, chains);
    }

    fn find_handovers_of(
        &mut self,
        table: &Table<'_>,
        nets: &[&NetChange],
        referrer: &Referrer,
        chains: &mut Chains,
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
                && !self.facts.targets.contains(&(first + n))
            {
                takers.insert(then, n);
            }
        }
        for old in 0..nets.len() {
            let (Some(now), then) = bytes(old) else {
                continue;
            };
            if then.as_ref() == Some(&now) || self.facts.moved.contains_key(&(first + old)) {
                continue;
            }
            let Some(&new) = takers.get(&now) else {
                continue;
            };
            let goes = matches!(nets[old].effect, NetEffect::Delete { refused: false });
            let there = table.now[new].is_some();
            if is_move(target, (nets[old], true), (nets[new], there)) {
                takers.remove(&now);
                self.moves(old, new);
                self.facts.handed_over.insert(first + new);
            } else if goes && there && referrer.on_update == Action::Nothing {
                if let Some(column) = gives_up_in(target, referrer) {
                    self.facts.given_up.insert(first + old, column);
                }
            } else if can_change_key(target) && chains.is_free(old, new) {
                chains.add(old, new);
            }
        }
    }

    /// Notes the rows that become other rows one after the other. What stands at the end must be free, or be a row that
    /// can be deleted.
    fn keep_chains(&mut self, table: &Table<'_>, nets: &[&NetChange], mut chains: Chains) {
        let mut kept: HashSet<usize> = HashSet::new();
        let mut evicted: Vec<usize> = Vec::new();
        for end in chains.ends() {
            let mut end = end;
            while let Some(&old) = chains.from.get(&end) {
                let anew = |n: usize| table.then[n].is_none() || is_whole(table.target, nets[n]);
                let start = std::iter::successors(Some(end), |n| chains.from.get(n).copied());
                let chain: Vec<usize> = start.take(LONGEST + 1).collect();
                let free = table.now[end].is_none() || can_be_evicted(table, end);
                if free && chain.len() <= LONGEST && chain.iter().all(|&n| anew(n)) {
                    if table.now[end].is_some() {
                        evicted.push(end);
                    }
                    for (level, pair) in chain.windows(2).enumerate() {
                        kept.insert(pair[1]);
                        self.facts.levels.insert(self.first + pair[0], level);
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
            self.facts.handed_over.insert(self.first + new);
        }
        let evicted = evicted.into_iter().map(|n| self.first + n);
        self.facts.evicted.extend(evicted);
    }
}

/// Whether a change brings all that its row is to have.
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

/// Whether a row can be deleted while another one comes to its key: nothing that foreign keys act on is there again.
fn can_be_evicted(table: &Table<'_>, n: usize) -> bool {
    let mut referrers = table.target.destination.referrers.iter();
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

/// The column in which rows give up what rows refer to: no foreign key acts on its update.
fn gives_up_in(target: &Target, referrer: &Referrer) -> Option<usize> {
    let acts = |name: &String| {
        let mut referrers = target.destination.referrers.iter();
        referrers.any(|referrer| {
            referrer.on_update != Action::Nothing
                && referrer.columns.iter().any(|(_, to, _)| to == name)
        })
    };
    let columns = referrer.columns.iter().filter(|(_, to, _)| !acts(to));
    columns
        .filter_map(|(_, to, _)| target.column_number(to))
        .find(|i| !target.key.contains(i) && free_value(target, *i).is_some())
}
