//! Circles of a graph.

use std::collections::{BTreeMap, BTreeSet};

/// The groups of nodes that reach each other; a node alone is none.
pub fn circles<'a>(edges: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Vec<&'a str>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in edges {
        next.entry(from).or_default().insert(to);
        next.entry(to).or_default();
    }
    let reached = |from: &'a str| {
        let mut seen = BTreeSet::new();
        let mut left = vec![from];
        while let Some(node) = left.pop() {
            left.extend(next[node].iter().filter(|to| seen.insert(**to)));
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|node| (*node, reached(node))).collect();
    let mut found = BTreeSet::new();
    for (node, from_here) in &reached {
        let circle: Vec<&str> = from_here
            .iter()
            .filter(|other| **other != *node && reached[*other].contains(node))
            .chain([node])
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}
