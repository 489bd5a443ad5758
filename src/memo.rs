//! What the catalog says, kept until a relation changes.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use crate::pg::invalidation;

/// How many things a session keeps.
const MOST: usize = 500;

/// Things read from the catalog. Definitions that change are read again.
pub struct Memo<K, V> {
    /// The edition of the definitions, and what was read of it.
    kept: RefCell<Option<(u64, Things<K, V>)>>,
}

type Things<K, V> = HashMap<K, Option<Rc<V>>>;

impl<K: Hash + Eq, V> Memo<K, V> {
    /// Nothing is kept.
    pub const fn new() -> Memo<K, V> {
        Memo {
            kept: RefCell::new(None),
        }
    }

    /// The thing that is known by a key. If it is not kept, `read` reads it.
    pub fn get(&self, key: K, read: impl FnOnce() -> Option<V>) -> Option<Rc<V>> {
        let edition = invalidation::edition();
        if let Some((of, things)) = &*self.kept.borrow()
            && *of == edition
            && let Some(thing) = things.get(&key)
        {
            return thing.clone();
        }
        let thing = read().map(Rc::new);
        if invalidation::edition() == edition {
            let mut kept = self.kept.borrow_mut();
            let (of, things) = kept.get_or_insert_with(|| (edition, HashMap::new()));
            if *of != edition || things.len() >= MOST {
                *of = edition;
                things.clear();
            }
            things.insert(key, thing.clone());
        }
        thing
    }
}
