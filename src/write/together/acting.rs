//! Foreign keys that would act on the rows of this component: a row loses a value, another row gets it, and a row
//! refers to it afterwards. Or no row gets it yet: the message that brings one is still to come.
//!
//! The foreign key acts when the statement ends, on all rows that refer to the value then. So it would delete or change a
//! row that refers to the new row. Where the losing row goes for good, and no other row refers to it now, a statement of
//! its own deletes it beforehand. Else the changes cannot be written in this way.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use super::refused::Refused;
use crate::changes::Changes;
use crate::error::{SqlError, sqlstate};
use crate::write::graph::{Graph, Way};

/// The nodes among `nodes` whose rows must be deleted beforehand.
pub(super) fn deleted_beforehand(
    all: &[Changes<'_>],
    graph: &Graph,
    nodes: &[usize],
    way: Way,
) -> Result<HashSet<usize>, Refused> {
    let mut beforehand = HashSet::new();
    if graph.acting.is_empty() {
        return Ok(beforehand);
    }
    let mut needers: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut given: HashSet<u32> = HashSet::new();
    for &node in nodes {
        for (value, _) in &graph.nodes[node].needs {
            needers.entry(*value).or_default().push(node);
        }
        given.extend(&graph.nodes[node].gives);
    }
    let acting = nodes.iter().filter_map(|&node| {
        let acting = graph.acting.get(&node)?.iter();
        Some(acting.map(move |acting| (node, acting)))
    });
    for (node, acting) in acting.flatten() {
        if acting.releasable && way == Way::WithoutReferences {
            continue;
        }
        let refers_by_it = |&node: &usize| {
            let target = &all[graph.places[node].mapping].target;
            target.destination.oid == acting.referrer
        };
        let mut needers = needers.get(&acting.value).into_iter().flatten();
        if !needers.any(refers_by_it) {
            continue;
        }
        let goes = !graph.nodes[node].present && !graph.moved.contains_key(&node);
        let refused = match given.contains(&acting.value) {
            // It would act in place of failing.
            false => Some("a foreign key would act on rows that refer to a value which goes"),
            true if !goes || acting.is_referred => {
                Some("a foreign key would act on rows that refer to the value's new row")
            }
            true => None,
        };
        if let Some(refused) = refused {
            let error = SqlError::new(sqlstate::FOREIGN_KEY_VIOLATION, refused);
            return Err(Refused::artifact(error));
        }
        beforehand.insert(node);
    }
    Ok(beforehand)
}
