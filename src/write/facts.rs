//! What the constraints of the destinations ask of the changes that wait, found by a few queries for each
//! mapping: the work grows with the number of changes, not with its square.
//!
//! | constraint | asked |
//! |---|---|
//! | foreign key | whether the row is there that a change refers to |
//! | foreign key of another table | which rows refer to the row that goes, or changes what they refer to |
//! | unique index, exclusion constraint | which rows have, now, what a change is to have; which changes are to have the same |

#![forbid(unsafe_code)]

pub mod collect;
mod collector;
mod exclusions;
mod givers;
mod handovers;
mod table;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use pgrx::pg_sys;

use super::pending::Pending;
use super::solve::{Blocked, Claim, Node, RowNo, Token};
use crate::blame::{Verdict, cause};
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::Destination;
use crate::key::value_key;
use crate::mapping::{Mapping, Mode};
use crate::outcome::Wait;

/// Where a change is: the number of its mapping, of its unit among those that wait, and its own in the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub mapping: usize,
    pub unit: usize,
    pub net: usize,
}

/// A table and the columns by which a mapping knows its rows, in the order of the table. Of a table that no mapping
/// writes these are not known.
type Keyed = (pg_sys::Oid, Vec<String>);

/// A row: the number of its table and key columns in [`Facts::keyed`], and the key as bytes. Rows with a null in the
/// key have no bytes here: messages cannot mean them.
type Row = (u32, Vec<u8>);

/// What a foreign key refers to: a table, columns in the order of the table, their values as bytes.
type Value = (pg_sys::Oid, Rc<[String]>, Vec<u8>);

/// What the constraints ask.
#[derive(Default)]
pub struct Facts {
    /// The changes.
    pub nodes: Vec<Node>,
    /// Where each is.
    pub places: Vec<Place>,
    /// Whether the row of each is there now.
    pub there: Vec<bool>,
    /// Rows that have what other changes are to have: the columns of each unique index or exclusion constraint, which
    /// are empty if it has expressions.
    pub held: HashMap<RowNo, HashSet<Vec<String>>>,
    /// Rows that are updated to another key: the node of the old key, and the node of the new one.
    pub moved: HashMap<usize, usize>,
    /// The nodes of the new keys.
    pub targets: HashSet<usize>,
    /// Those of them whose rows become other rows.
    pub handed_over: HashSet<usize>,
    /// Those of them that must be moved after others, because these leave their keys first: after how many.
    pub levels: HashMap<usize, usize>,
    /// Rows that must be deleted although there is a row at their key afterwards: another one.
    pub evicted: HashSet<usize>,
    /// Rows that are deleted, and give up what rows refer to (the number of the column) in the statement that gives it
    /// to another row.
    pub given_up: HashMap<usize, usize>,
    /// What each takes away that foreign keys refer to whose `on delete` (of a row that goes) or `on update` (of a row
    /// that stays) is not `no action`.
    pub acts: Vec<Vec<Token>>,
    pub keyed: Numbers<Keyed>,
    pub rows: Numbers<Row>,
    /// How many claims there are.
    pub claims: Claim,
    pub values: Numbers<Value>,
    /// Primary keys of tables that foreign keys refer to. To load one takes half a millisecond, and each change that
    /// waits asks for it.
    primary_keys: RefCell<HashMap<pg_sys::Oid, Option<Vec<String>>>>,
}

/// Things by number.
pub struct Numbers<T> {
    by_thing: HashMap<T, u32>,
    things: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers {
            by_thing: HashMap::new(),
            things: Vec::new(),
        }
    }
}

impl<T: Hash + Eq + Clone> Numbers<T> {
    /// The number of a thing, which is new or known.
    pub fn of(&mut self, thing: T) -> u32 {
        if let Some(number) = self.by_thing.get(&thing) {
            return *number;
        }
        let number = self.things.len() as u32;
        self.things.push(thing.clone());
        self.by_thing.insert(thing, number);
        number
    }
}

/// Whether the solver can help a unit: it failed for a constraint, or it has not been tried.
pub fn takes_part(changes: &Changes<'_>, held: &Pending) -> bool {
    changes.target.mapping.mode == Mode::Upsert
        && (held.written.is_none() || cause(&held.error) == Verdict::AnotherRow)
}

impl Facts {
    /// A new claim of these changes.
    pub fn claim(&mut self, nodes: impl Iterator<Item = usize>) {
        for node in nodes {
            self.nodes[node].claims.push(self.claims);
        }
        self.claims += 1;
    }

    /// Whether a row that stays must be gone for a moment: another row takes what it has, or a foreign key would act on
    /// what it gives up.
    pub fn makes_room(&self, node: usize, displaced: &HashSet<RowNo>) -> bool {
        let of = &self.nodes[node];
        (displaced.contains(&of.row) || !self.acts[node].is_empty())
            && self.there[node]
            && of.present
    }

    /// What a change waits for.
    pub fn wait(&self, blocked: Blocked, all: &[Changes<'_>], mappings: &[Mapping]) -> Wait {
        let of_row = |row: RowNo| {
            let (keyed, key) = &self.rows.things[row as usize];
            let (table, _) = &self.keyed.things[*keyed as usize];
            Wait::of(*table, (!key.is_empty()).then(|| key.clone()))
        };
        match blocked {
            Blocked::Held(row) => of_row(row),
            Blocked::Excluded(node) | Blocked::Unit(node) => of_row(self.nodes[node].row),
            Blocked::Missing(token) => {
                let (table, ..) = &self.values.things[token as usize];
                Wait::of(*table, Some(self.value(token, all, mappings)))
            }
            Blocked::Referenced(row, token) => {
                let mut wait = of_row(row);
                if let Wait::Row { or, .. } = &mut wait {
                    *or = Some(self.value(token, all, mappings));
                }
                wait
            }
        }
    }

    /// A value that foreign keys refer to, as letters name it: the key of a row as it is.
    fn value(&self, token: Token, all: &[Changes<'_>], mappings: &[Mapping]) -> Vec<u8> {
        let (table, columns, bytes) = &self.values.things[token as usize];
        let is_key = |key: &[String]| {
            key.len() == columns.len() && key.iter().all(|name| columns.contains(name))
        };
        // A row is known by the key of its mapping.
        let mut of_table = mappings
            .iter()
            .filter(|m| m.destination_oid() == Some(*table));
        let known = of_table.any(|mapping| match &mapping.key {
            Some(key) => is_key(key),
            None => {
                let mut known = self.primary_keys.borrow_mut();
                let key = known
                    .entry(*table)
                    .or_insert_with(|| primary_key(all, *table));
                key.as_ref().is_some_and(|key| is_key(key))
            }
        });
        match known {
            true => bytes.clone(),
            false => value_key(columns.iter().map(String::as_str), bytes),
        }
    }
}

fn primary_key(all: &[Changes<'_>], table: pg_sys::Oid) -> Option<Vec<String>> {
    let mut known = all.iter().map(|changes| &changes.target.destination);
    match known.find(|destination| destination.oid == table) {
        Some(destination) => Some(destination.primary_key().to_vec()),
        None => Destination::known(table).map(|destination| destination.primary_key().to_vec()),
    }
}

/// The change at a place.
pub fn net_of(pending: &[Vec<Pending>], place: Place) -> &NetChange {
    let unit = &pending[place.mapping][place.unit].unit;
    unit.nets().nth(place.net).expect("the place of a change")
}

/// The rows that other changes among `nodes` displace.
pub fn displaced(facts: &Facts, nodes: &[usize]) -> HashSet<u32> {
    let displaced = nodes.iter().flat_map(|&node| &facts.nodes[node].displaces);
    displaced.copied().collect()
}
