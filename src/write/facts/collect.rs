//! The queries that find out what the constraints ask of the changes that wait.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys;

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

use super::{Facts, Place, takes_part};

use super::collector::Collector;

/// Finds out what the constraints ask of the changes that wait.
pub fn collect(
    all: &[Changes<'_>],
    pending: &[Vec<Pending>],
    mappings: &[Mapping],
) -> Result<Facts, Stop> {
    let mut facts = Facts::default();
    let mut units = 0;
    let counts: HashMap<pg_sys::Oid, usize> = all
        .iter()
        .zip(pending)
        .map(|(changes, pending)| (changes.target.destination.oid, pending.len() * 2))
        .collect();
    for (i, (changes, pending)) in all.iter().zip(pending).enumerate() {
        let mut nets: Vec<&NetChange> = Vec::new();
        let first = facts.nodes.len();
        let target = &changes.target;
        let keyed = facts.keyed.of((target.destination.oid, target.key_names()));
        for (j, held) in pending.iter().enumerate() {
            if !takes_part(changes, held) {
                continue;
            }
            for (k, net) in held.unit.nets().enumerate() {
                nets.push(net);
                facts.places.push(Place {
                    mapping: i,
                    unit: j,
                    net: k,
                });
                let version = net.stamp.and_then(|stamp| stamp.version);
                let row = facts.rows.of((keyed, changes.table_key(net.run.start)));
                facts.nodes.push(Node {
                    row,
                    unit: units,
                    rank: version.map_or((0, net.message.0), |v| (v.lsn, v.idx)),
                    ..Node::default()
                });
                facts.there.push(false);
                facts.acts.push(Vec::new());
            }
            units += 1;
        }
        if nets.is_empty() {
            continue;
        }
        let _owner = changes.acting_as_owner();
        let mut collector = Collector {
            facts: &mut facts,
            changes,
            mappings,
            counts: &counts,
            first,
            units: HashMap::new(),
        };
        let collected = ask(&mut collector, &nets);
        if let Err(error) = collected {
            forgive(error, &changes.target.mapping)?;
        }
    }
    Ok(facts)
}

/// Adds what the constraints ask of these net changes.
fn ask(this: &mut Collector<'_, '_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    let constraints = Constraints::of(this.changes.target.destination.oid);
    let table = subtransaction(|| Table::read(this.changes, &constraints, nets))?;
    this.find_moves(&table, nets);
    this.find_handovers(&table, nets);
    for (n, now) in table.now.iter().enumerate() {
        this.facts.there[this.first + n] = now.is_some();
        this.facts.nodes[this.first + n].present = table.then[n].is_some();
    }
    for key in &constraints.foreign_keys {
        this.unless_denied(|this| this.needs(&table, key))?;
    }
    for referrer in &this.changes.target.destination.referrers {
        this.unless_denied(|this| this.referred_to(&table, referrer))?;
    }
    for exclusion in &constraints.exclusions {
        if !this.is_of_key(exclusion) {
            this.unless_denied(|this| this.held(&table, exclusion))?;
            this.unless_denied(|this| this.shared(&table, exclusion))?;
        }
    }
    Ok(())
}
