//! Rows that get the values of each other, stay, and cannot be deleted in between.
//!
//! Usually such a row gives its value up beforehand. It cannot where a foreign key refers to the value: rows may refer to
//! it. So it gets its new value in the statement, before the next row gets its old one. In a circle there is no such
//! order. There the row gives its value up all the same, which works as long as no row refers to the value.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use crate::changes::Changes;
use crate::write::delete_or_move::can_come_back;
use crate::write::give_up::can_give_up;
use crate::write::graph::{Graph, net_of};
use crate::write::pending::Pending;

/// The most turns of a statement. Each needs parts of its own.
const MAX_TURNS: usize = 100;

/// The nodes of such rows.
#[derive(Default)]
pub(super) struct Turns {
    /// The nodes whose rows get their new values first, then those of the next turn, and so on.
    pub in_order: Vec<Vec<usize>>,
    /// The same nodes.
    placed: HashSet<usize>,
    /// The nodes of circles, and of the rows that get values from them.
    pub circles: HashSet<usize>,
}

impl Turns {
    /// The turns of the rows among these nodes. `displaced`: the rows whose values other rows get.
    pub fn of(
        all: &[Changes<'_>],
        pending: &[Vec<Pending>],
        graph: &Graph,
        (nodes, displaced): (&[usize], &HashSet<u32>),
    ) -> Turns {
        let stays = |&node: &usize| {
            let (of, place) = (&graph.nodes[node], graph.places[node]);
            let (target, net) = (&all[place.mapping].target, net_of(pending, place));
            let mut held = graph.held.get(&of.row).into_iter().flatten();
            of.present
                && graph.there[node]
                && displaced.contains(&of.row)
                && !net.is_untouched()
                && !graph.moved.contains_key(&node)
                && !graph.move_targets.contains(&node)
                && !can_come_back(target, net)
                && held.any(|columns| can_give_up(target, columns, |i| net.has(i)).is_none())
        };
        let mut left: Vec<usize> = nodes.iter().copied().filter(stays).collect();
        let rows = left.iter().map(|&node| (graph.nodes[node].row, node));
        let by_row: HashMap<u32, usize> = rows.collect();
        let mut turns = Turns::default();
        while !left.is_empty() && turns.in_order.len() < MAX_TURNS {
            let waiting: HashSet<usize> = left.iter().copied().collect();
            let waits = |node: &usize| {
                let displaces = graph.nodes[*node].displaces.iter();
                let mut holders = displaces.filter_map(|row| by_row.get(row));
                holders.any(|holder| holder != node && waiting.contains(holder))
            };
            let (later, now): (Vec<usize>, Vec<usize>) = left.into_iter().partition(waits);
            left = later;
            if now.is_empty() {
                break;
            }
            turns.placed.extend(&now);
            turns.in_order.push(now);
        }
        turns.circles.extend(left);
        turns
    }

    /// Whether the row gets its values in a turn.
    pub fn has(&self, node: usize) -> bool {
        self.placed.contains(&node)
    }
}
