//! The parts for rows that move to another key, and for rows that give values up to other rows of the statement. See
//! `graph::handovers`.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, HashSet};

use super::parts::{Part, Together, Work};
use crate::target::statements::WriteKind;
use crate::write::give_up::can_give_up;
use crate::write::keys::by_key;

impl<'s, 'a> Together<'s, 'a> {
    /// Separates the rows that an update moves to another key. Returns pairs of nodes (old key, new key), and the
    /// remaining nodes.
    pub fn moved(&self, nodes: Vec<usize>) -> (Vec<(usize, usize)>, Vec<usize>) {
        let in_set: HashSet<usize> = nodes.iter().copied().collect();
        let pairs: Vec<(usize, usize)> = nodes
            .iter()
            .filter_map(|old| Some((*old, *self.graph.moved.get(old)?)))
            .filter(|(_, new)| in_set.contains(new))
            .collect();
        let (old, new): (HashSet<usize>, HashSet<usize>) = pairs.iter().copied().unzip();
        let rest = nodes.into_iter().filter(|node| {
            // After a row has left its key, a new row can get that key.
            let comes = old.contains(node) && self.net(*node).columns().is_some();
            !new.contains(node) && (comes || !old.contains(node))
        });
        (pairs, rest.collect())
    }

    /// Parts that move rows to other keys: first the rows whose new keys are free, then the rows that follow them.
    pub fn moves(&self, mapping: usize, pairs: &[(usize, usize)]) -> Vec<Part> {
        let level = |new: &usize| self.graph.levels.get(new).copied().unwrap_or(0);
        let mut by_level: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for pair in pairs {
            by_level.entry(level(&pair.1)).or_default().push(*pair);
        }
        let levels = by_level.values();
        levels
            .flat_map(|pairs| self.moves_of_level(mapping, pairs))
            .collect()
    }

    fn moves_of_level(&self, mapping: usize, pairs: &[(usize, usize)]) -> Vec<Part> {
        let former: HashMap<usize, usize> = pairs.iter().map(|&(old, new)| (new, old)).collect();
        let new: Vec<usize> = pairs.iter().map(|(_, new)| *new).collect();
        let changes = &self.all[mapping];
        let mut parts = self.parts_of(mapping, &new, |node| {
            Some(match self.graph.handed_over.contains(&node) {
                true => WriteKind::Handover,
                false => WriteKind::Move,
            })
        });
        for part in &mut parts {
            for (row, node) in part.rows.iter_mut().zip(&part.nodes) {
                let old = former[node];
                let key = match self.parked.keys.get(&old) {
                    Some(key) => key,
                    None => changes.keyed.key_values(self.net(old).run.start),
                };
                for (value, key) in row[1..].iter_mut().zip(key) {
                    *value = Some(*key);
                }
            }
        }
        parts
    }

    /// Adds parts in which rows give values up that other rows of the statement get. Returns the remaining nodes.
    pub fn give_up(&mut self, mapping: usize, nodes: Vec<usize>) -> Vec<usize> {
        let mut by_columns: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        let mut rest = Vec::with_capacity(nodes.len());
        for node in nodes {
            match self.given_up(mapping, node) {
                Some(columns) => by_columns.entry(columns).or_default().push(node),
                None => rest.push(node),
            }
        }
        let changes = &self.all[mapping];
        for (columns, nodes) in by_columns {
            let rows = nodes
                .iter()
                .enumerate()
                .map(|(n, &node)| by_key(&changes.target, &changes.nets.values, n, self.net(node)));
            self.parts.push(Part {
                mapping,
                work: Work::GiveUp(columns),
                row: changes.target.numbered_key(),
                rows: rows.collect(),
                nodes: nodes.clone(),
            });
            self.late.extend(nodes);
        }
        rest
    }

    /// The columns in which a row gives its referenced value up. With them come the columns of its other slots that
    /// other rows get, because the row still exists when these rows are written.
    fn given_up(&self, mapping: usize, node: usize) -> Option<Vec<usize>> {
        let row = self.graph.nodes[node].row;
        let column = self.graph.given_up.get(&node);
        let mut columns = vec![*column.filter(|_| self.displaced.contains(&row))?];
        let target = &self.all[mapping].target;
        for held in self.graph.held.get(&row).into_iter().flatten() {
            let is_among = |&i: &usize| held.contains(&target.columns[i].name);
            if !columns.iter().any(is_among) {
                columns.extend(can_give_up(target, held, |_| true));
            }
        }
        columns.sort_unstable();
        Some(columns)
    }

    /// The statement that deletes the rows that gave their values up in this statement.
    pub fn then(&self) -> Together<'s, 'a> {
        let mut then = Together::new(self.all, self.pending, self.graph, self.group);
        then.staying = self.staying.clone();
        then.delete_nodes(&self.late);
        then
    }

    /// Adds parts that delete the rows of these nodes.
    pub fn delete_nodes(&mut self, nodes: &[usize]) {
        for mapping in 0..self.all.len() {
            let of_mapping = |node: &usize| self.graph.places[*node].mapping == mapping;
            let nodes = nodes.iter().copied().filter(of_mapping);
            self.delete(mapping, nodes.collect());
        }
    }
}
