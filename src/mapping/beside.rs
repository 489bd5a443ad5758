//! The mappings beside others: those that write the same table.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use super::Mapping;
use super::catalog;
use super::check::{Shared, Sharer};
use crate::destination::Destination;

/// For how many tables the mappings are kept.
const MOST: usize = 64;

/// The mappings to the tables that were asked for. They are read once, and mappings to one table have what they know of
/// each other in common: where a thousand mappings write one table, each of them has 999 others.
#[derive(Default)]
pub struct Beside {
    mappings: HashMap<pg_sys::Oid, Vec<Mapping>>,
    known: HashMap<i32, Rc<Sharer>>,
}

impl Beside {
    /// What the other mappings to its destination share with a mapping.
    pub fn shared(&mut self, mapping: &Mapping, destination: &Destination) -> Shared {
        let others = self.others(destination.oid);
        let mut shared = Shared::of(mapping, destination, others);
        for entry in shared.entries() {
            let known = self.known.entry(entry.mapping);
            let known = known.or_insert_with(|| Rc::clone(entry));
            if known != entry {
                *known = Rc::clone(entry);
            }
            *entry = Rc::clone(known);
        }
        shared
    }

    /// The mappings to a table, itself among them; may be empty if there is only one.
    pub fn others(&mut self, destination: pg_sys::Oid) -> &[Mapping] {
        if self.mappings.len() >= MOST && !self.mappings.contains_key(&destination) {
            *self = Beside::default();
        }
        let read = || catalog::to(destination);
        self.mappings.entry(destination).or_insert_with(read)
    }

    /// Forgets what it knows, as definitions have changed.
    pub fn forget(&mut self) {
        *self = Beside::default();
    }
}
