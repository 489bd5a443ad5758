//! The dependency graph of the waiting changes: which changes and rows stand in each change's way. A few queries for
//! each mapping build it, so the work grows with the number of changes, not with its square.
//!
//! | constraint | questions |
//! |---|---|
//! | foreign key of the destination | does the referenced row exist? |
//! | foreign key to the destination | which rows refer to a row that is deleted, or to a value that changes? |
//! | unique index, exclusion constraint | which rows conflict with the new row now? which waiting changes conflict with each other? |

#![forbid(unsafe_code)]

pub mod collect;
mod collector;
pub mod exclusions;
mod givers;
mod handovers;
pub mod table;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::rc::Rc;

use pgrx::pg_sys;

use super::pending::Pending;
use super::solve::{Blocked, Node, RowNo, SlotNo, ValueNo};
use crate::blame::{Verdict, cause};
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::{Destination, Referrer};
use crate::key::{KeyColumn, value_key};
use crate::mapping::{Mapping, Mode};
use crate::outcome::Wait;

/// How a referenced value goes from one row to another where foreign keys act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The rows hand it over: see [`handovers`].
    Handovers,
    /// So do rows that follow each other in a circle: one of them leaves its key first, for a key that no row has.
    Circles,
    /// The rows that refer to it give their references up, and get them back afterwards.
    WithoutReferences,
}

/// The place of a change: the number of its mapping, the number of its unit among the mapping's waiting units, and
/// its own number in the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub mapping: usize,
    pub unit: usize,
    pub net: usize,
}

/// A table and its mapping's key columns, in the order of the table. If no mapping writes the table, there are no
/// columns.
type Keyed = (pg_sys::Oid, Vec<String>);

/// A row: the number of its table and key columns in [`Graph::keyed`], and its key as bytes. The bytes are empty if
/// the key has a null: no message can name such a row.
type Row = (u32, Vec<u8>);

/// A referenced value: a table, columns in the order of the table, and the values of these columns as bytes.
type Value = (pg_sys::Oid, Rc<[String]>, Vec<u8>);

/// The dependency graph.
#[derive(Default)]
pub struct Graph {
    /// The changes, with what the constraints ask of each.
    pub nodes: Vec<Node>,
    /// The place of each node.
    pub places: Vec<Place>,
    /// For each node, whether its row exists now.
    pub there: Vec<bool>,
    /// Rows that now occupy slots of other changes. For each row: the columns of the unique indexes and exclusion
    /// constraints in question (none for a constraint on expressions).
    pub held: HashMap<RowNo, HashSet<Vec<String>>>,
    /// Rows that an update moves to another key: from the node of the old key to the node of the new key.
    pub moved: HashMap<usize, usize>,
    /// The nodes of the new keys in [`Self::moved`].
    pub move_targets: HashSet<usize>,
    /// The nodes among [`Self::move_targets`] whose rows come from another source row.
    pub handed_over: HashSet<usize>,
    /// The nodes among [`Self::move_targets`] whose keys other moves must free first, each with the number of these
    /// moves.
    pub levels: HashMap<usize, usize>,
    /// Nodes whose rows must be deleted although another row moves to their keys.
    pub evicted: HashSet<usize>,
    /// Whether rows follow each other in circles that [`Way::Handovers`] does not serve.
    pub has_circles: bool,
    /// The nodes of rows that first leave their keys for keys that no row has.
    pub parked: HashSet<usize>,
    /// Nodes of deleted rows that first give a referenced value up, in the statement that gives the value to another
    /// row. With each the number of the column.
    pub given_up: HashMap<usize, usize>,
    /// For each node, the dropped values on which a foreign key acts: its `on delete` (for a deleted row) or its `on
    /// update` (for another row) is not `no action`.
    pub acting_drops: Vec<Vec<ValueNo>>,
    /// For the node of each row that loses values: the foreign keys that act as
    /// [`Dropped::strict`](super::solve::Dropped) says.
    pub acting: HashMap<usize, Vec<Acting>>,
    /// The foreign keys to dropped values whose rows can give their references up.
    pub references: Vec<References>,
    pub keyed: Numbers<Keyed>,
    pub rows: Numbers<Row>,
    /// The number of slots.
    pub slots: SlotNo,
    pub values: Numbers<Value>,
    /// Primary keys of referenced tables. To load one takes half a millisecond, and each waiting change needs one.
    primary_keys: RefCell<HashMap<pg_sys::Oid, Option<Vec<String>>>>,
}

/// The key of a referring table's mapping: the names of its columns in the order of the table, and the encoding of each.
pub type ChildKey = Rc<(Vec<String>, Vec<KeyColumn>)>;

/// A foreign key that acts on the rows that refer to a dropped value.
pub struct Acting {
    pub value: ValueNo,
    /// The table that has the foreign key.
    pub referrer: pg_sys::Oid,
    /// Whether its rows can give their references up: see [`References`].
    pub releasable: bool,
    /// Whether other rows refer to the value now.
    pub is_referred: bool,
}

/// A foreign key whose rows can give their references up: a column is nullable, and a mapping writes the rows.
pub struct References {
    pub referrer: Referrer,
    /// The referring table.
    pub child: Rc<Destination>,
    /// The role that writes the rows: the writer of the only mapping of the referring table.
    pub writer: pg_sys::Oid,
    /// The column that becomes null.
    pub column: String,
    /// The number of the referring table and its mapping's key in [`Graph::keyed`].
    pub keyed: u32,
    pub key: ChildKey,
    /// The number of the mapping whose rows lose values.
    pub mapping: usize,
    /// The values, each with the node of the row that loses it.
    pub drops: Vec<(usize, ValueNo)>,
}

/// Numbers things, equal things alike.
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
    /// The number of a thing that has one.
    pub fn known(&self, thing: &T) -> Option<u32> {
        self.by_thing.get(thing).copied()
    }

    /// The number of a thing. A new thing gets the next number.
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

/// Whether the solver can help a unit: the unit failed on a constraint, or was not tried yet.
pub fn takes_part(changes: &Changes<'_>, held: &Pending) -> bool {
    changes.target.mapping.mode == Mode::Upsert
        && (held.written.is_none() || cause(&held.error) == Verdict::AnotherRow)
}

impl Graph {
    /// Adds a slot that all these nodes would occupy.
    pub fn share_slot(&mut self, nodes: impl Iterator<Item = usize>) {
        for node in nodes {
            self.nodes[node].slots.push(self.slots);
        }
        self.slots += 1;
    }

    /// Whether a row that exists before and after must be deleted in between: another row takes over one of its
    /// slots, or a foreign key would act on a value that it drops.
    pub fn makes_room(&self, node: usize, displaced: &HashSet<RowNo>) -> bool {
        let of = &self.nodes[node];
        (displaced.contains(&of.row) || !self.acting_drops[node].is_empty())
            && self.there[node]
            && of.present
    }

    /// The row or value that a blocked change waits for.
    pub fn wait(&self, blocked: Blocked, all: &[Changes<'_>], mappings: &[Mapping]) -> Wait {
        let of_row = |row: RowNo| {
            let (keyed, key) = &self.rows.things[row as usize];
            let (table, _) = &self.keyed.things[*keyed as usize];
            Wait::of(*table, (!key.is_empty()).then(|| key.clone()))
        };
        match blocked {
            Blocked::Held(row) => of_row(row),
            Blocked::Excluded(node) | Blocked::Unit(node) => of_row(self.nodes[node].row),
            Blocked::Missing(value) => {
                let (table, ..) = &self.values.things[value as usize];
                Wait::of(*table, Some(self.value(value, all, mappings)))
            }
            Blocked::Referenced(row, value) => {
                let mut wait = of_row(row);
                if let Wait::Row { or, .. } = &mut wait {
                    *or = Some(self.value(value, all, mappings));
                }
                wait
            }
        }
    }

    /// A referenced value in the form in which dead letters store it. If the columns are the key of a row, it is the
    /// row's key.
    fn value(&self, value: ValueNo, all: &[Changes<'_>], mappings: &[Mapping]) -> Vec<u8> {
        let (table, columns, bytes) = &self.values.things[value as usize];
        let is_key = |key: &[String]| {
            key.len() == columns.len() && key.iter().all(|name| columns.contains(name))
        };
        // Dead letters name a row by its mapping's key.
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
    unit.nets().nth(place.net).expect("a place names a change")
}

/// The rows whose slots other changes among `nodes` take over.
pub fn displaced(graph: &Graph, nodes: &[usize]) -> HashSet<u32> {
    let displaced = nodes.iter().flat_map(|&node| &graph.nodes[node].displaces);
    displaced.copied().collect()
}
