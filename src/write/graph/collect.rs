//! Builds the dependency graph of the waiting changes by queries.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys;

use super::exclusions::is_of_key;
use super::table::Table;
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::constraints::Constraints;
use crate::error::SqlError;
use crate::mapping::Mapping;
use crate::pg::subtransaction::subtransaction;
use crate::stop::Stop;
use crate::write::pending::Pending;
use crate::write::solve::Node;

use super::{Graph, Place, Way, takes_part};

use super::collector::Collector;

/// Builds the dependency graph of the waiting changes of all mappings.
pub fn collect(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    mappings: &[Mapping],
    way: Way,
) -> Result<Graph, Stop> {
    let mut graph = Graph::default();
    let mut units = 0;
    let counts: HashMap<pg_sys::Oid, usize> = all
        .iter()
        .zip(pending)
        .map(|(changes, pending)| (changes.target.destination.oid, pending.len() * 2))
        .collect();
    for (i, (changes, pending)) in all.iter().zip(pending).enumerate() {
        let mut nets: Vec<&NetChange> = Vec::new();
        let first = graph.nodes.len();
        let target = &changes.target;
        let keyed = graph.keyed.of((target.destination.oid, target.key_names()));
        for (j, held) in pending.iter().enumerate() {
            if !takes_part(changes, held) {
                continue;
            }
            for (k, net) in held.unit.nets().enumerate() {
                nets.push(net);
                graph.places.push(Place {
                    mapping: i,
                    unit: j,
                    net: k,
                });
                let version = net.stamp.and_then(|stamp| stamp.version);
                let row = graph.rows.of((keyed, changes.table_key(net.run.start)));
                graph.nodes.push(Node {
                    row,
                    unit: units,
                    rank: version.map_or((0, net.message.0), |v| (v.lsn, v.idx)),
                    ..Node::default()
                });
                graph.there.push(false);
                graph.acting_drops.push(Vec::new());
            }
            units += 1;
        }
        if nets.is_empty() {
            continue;
        }
        let _owner = changes.acting_as_owner();
        let mut collector = Collector {
            graph: &mut graph,
            changes,
            mappings,
            counts: &counts,
            first,
            units: HashMap::new(),
        };
        let collected = add(&mut collector, &nets, way);
        if let Err(error) = collected {
            forgive(error, &changes.target.mapping)?;
        }
    }
    Ok(graph)
}

/// Adds the dependencies of one mapping's net changes.
fn add(this: &mut Collector<'_, '_>, nets: &[&NetChange], way: Way) -> Result<(), SqlError> {
    let constraints = Constraints::of(this.changes.target.destination.oid);
    let table = subtransaction(|| Table::read(this.changes, &constraints, nets))?;
    this.find_moves(&table, nets);
    if way != Way::WithoutReferences {
        this.find_handovers(&table, nets, way);
    }
    for (n, now) in table.now.iter().enumerate() {
        this.graph.there[this.first + n] = now.is_some();
        this.graph.nodes[this.first + n].present = table.then[n].is_some();
    }
    for key in &constraints.foreign_keys {
        this.if_possible(|this| this.needs(&table, key))?;
    }
    for referrer in &this.changes.target.destination.links.referrers {
        this.if_possible(|this| this.referred_to(&table, referrer))?;
    }
    for exclusion in &constraints.exclusions {
        if !is_of_key(&this.changes.target, exclusion) {
            this.if_possible(|this| this.find_holders(&table, exclusion))?;
            this.if_possible(|this| this.find_rivals(&table, exclusion))?;
        }
    }
    Ok(())
}
