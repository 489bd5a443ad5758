//! Decides which of the waiting changes can be written together.
//!
//! A change alone may violate a constraint that it satisfies together with others: another change inserts its
//! parent, gives its unique value up, or moves its children away. The caller lists for each change what the
//! constraints ask of it. The solver finds the largest set of changes after which all constraints hold. It
//! leaves out each change that depends on something outside the set.
//!
//! Why the set is right: the constraints ask only about the rows *after* all changes of the set. One statement
//! writes the set. The server checks foreign keys when that statement ends, and the statement frees unique
//! values before it uses them again.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};

/// The number that the caller gives to a row.
pub type RowNo = u32;

/// The number that the caller gives to a referenced value: the values of one row in the columns that a foreign
/// key refers to. Values of other columns have other numbers.
pub type ValueNo = u32;

/// The number that the caller gives to a slot. Only one row may occupy a slot: a unique value is one. A slot
/// matters here if several changes would occupy it.
pub type SlotNo = u32;

/// A change of one row, and what the constraints ask of it.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// The row that the change writes or deletes.
    pub row: RowNo,
    /// The change's unit. The changes of a unit are written together or not at all.
    pub unit: usize,
    /// The change's place in commit order. If two changes exclude each other, the later one is left out: a change
    /// between them has not arrived yet.
    pub rank: (u64, u32),
    /// Whether the row exists after the change.
    pub present: bool,
    /// The values that the row's foreign keys refer to, each with whether a row of the destination has it now.
    pub needs: Vec<(ValueNo, bool)>,
    /// The values of the row after the change that foreign keys can refer to.
    pub gives: Vec<ValueNo>,
    /// The values that foreign keys can refer to now, and that the row loses by the change.
    pub drops: Vec<Dropped>,
    /// Other rows that now occupy a slot of the row.
    pub displaces: Vec<RowNo>,
    /// The slots of the row that other waiting changes would occupy too.
    pub slots: Vec<SlotNo>,
}

/// A value that foreign keys can refer to, and that a row loses.
#[derive(Debug, Clone)]
pub struct Dropped {
    pub value: ValueNo,
    /// The rows that refer to the value now.
    pub children: Vec<RowNo>,
    /// Whether a foreign key acts on the referring rows even if another row gets the value.
    pub strict: bool,
    /// Whether the referring rows can give their references up before the value goes from row to row, and get them
    /// back after.
    pub releasable: bool,
}

/// The changes as they are if referring rows give their references up wherever they can. No foreign key acts then.
pub fn released(nodes: &[Node]) -> Vec<Node> {
    let mut nodes = nodes.to_vec();
    for drop in nodes.iter_mut().flat_map(|node| &mut node.drops) {
        drop.strict &= !drop.releasable;
    }
    nodes
}

/// Why a change is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The row would refer to a value that no row has or gets.
    Missing(ValueNo),
    /// This row keeps referring to the value, and no other row gets the value.
    Referenced(RowNo, ValueNo),
    /// This row keeps a slot that the change needs.
    Held(RowNo),
    /// This older change needs the same slot.
    Excluded(usize),
    /// This change of the same unit is left out.
    Unit(usize),
}

/// The result of [`solve`].
#[derive(Debug, Default)]
pub struct Solution {
    /// For each change, why it is left out; `None` if it can be written.
    pub blocked: Vec<Option<Blocked>>,
    /// The changes that can be written, component by component. The changes of a component depend on each other.
    pub components: Vec<Vec<usize>>,
}

/// Finds the changes that can be written together. The changes in `without` (by index) are left out.
pub fn solve(nodes: &[Node], without: &[usize]) -> Solution {
    let mut search = Search::new(nodes);
    for &i in without {
        search.leave_out(i, Blocked::Unit(i));
    }
    search.eliminate();
    // Only a change that everything else allows may exclude another.
    search.exclude();
    search.eliminate();
    let Search { index, blocked, .. } = search;
    let taken: Vec<usize> = (0..nodes.len()).filter(|&i| blocked[i].is_none()).collect();
    let components = components(nodes, &index, &blocked, &taken);
    Solution {
        blocked,
        components,
    }
}

/// Finds the changes that concern a row, a unit or a value.
struct Index {
    /// Several changes, because two mappings may write one row.
    by_row: HashMap<RowNo, Vec<usize>>,
    by_unit: BTreeMap<usize, Vec<usize>>,
    givers: HashMap<ValueNo, Vec<usize>>,
    droppers: HashMap<ValueNo, Vec<usize>>,
    needers: HashMap<ValueNo, Vec<usize>>,
    /// The changes that displace the row, or drop a value that it refers to.
    waiters: HashMap<RowNo, Vec<usize>>,
}

impl Index {
    fn new(nodes: &[Node]) -> Index {
        let mut index = Index {
            by_row: HashMap::new(),
            by_unit: BTreeMap::new(),
            givers: HashMap::new(),
            droppers: HashMap::new(),
            needers: HashMap::new(),
            waiters: HashMap::new(),
        };
        for (i, node) in nodes.iter().enumerate() {
            index.by_row.entry(node.row).or_default().push(i);
            index.by_unit.entry(node.unit).or_default().push(i);
            for value in &node.gives {
                index.givers.entry(*value).or_default().push(i);
            }
            for Dropped {
                value, children, ..
            } in &node.drops
            {
                index.droppers.entry(*value).or_default().push(i);
                for child in children {
                    index.waiters.entry(*child).or_default().push(i);
                }
            }
            for (value, _) in &node.needs {
                index.needers.entry(*value).or_default().push(i);
            }
            for row in &node.displaces {
                index.waiters.entry(*row).or_default().push(i);
            }
        }
        index
    }

    fn of<'i, K: std::hash::Hash + Eq>(map: &'i HashMap<K, Vec<usize>>, key: &K) -> &'i [usize] {
        map.get(key).map_or(&[], Vec::as_slice)
    }
}

struct Search<'n> {
    nodes: &'n [Node],
    index: Index,
    blocked: Vec<Option<Blocked>>,
    /// For each slot, its changes in commit order. The front is always a change that takes part. Empty until
    /// [`Self::exclude`].
    by_slot: HashMap<SlotNo, VecDeque<usize>>,
    /// The changes to look at again, because a change that they may need was left out.
    queue: VecDeque<usize>,
}

impl<'n> Search<'n> {
    fn new(nodes: &'n [Node]) -> Search<'n> {
        Search {
            nodes,
            index: Index::new(nodes),
            blocked: vec![None; nodes.len()],
            by_slot: HashMap::new(),
            queue: (0..nodes.len()).collect(),
        }
    }

    /// Leaves changes out until the others satisfy all constraints. Each step leaves out one change, and looks
    /// again only at the changes that may depend on it. So the work grows with the number of dependencies.
    fn eliminate(&mut self) {
        while let Some(i) = self.queue.pop_front() {
            if self.blocked[i].is_some() {
                continue;
            }
            if let Some(why) = self.why_not(i) {
                self.leave_out(i, why);
            }
        }
    }

    /// From now on, changes of one slot exclude each other. Looks at all changes again, the oldest first.
    fn exclude(&mut self) {
        let mut order: Vec<usize> = (0..self.nodes.len())
            .filter(|&i| self.takes_part(i))
            .collect();
        order.sort_by_key(|&i| (self.nodes[i].rank, i));
        for &i in &order {
            for slot in &self.nodes[i].slots {
                self.by_slot.entry(*slot).or_default().push_back(i);
            }
        }
        self.queue = order.into();
    }

    fn takes_part(&self, i: usize) -> bool {
        self.blocked[i].is_none()
    }

    /// Whether a change that takes part gives the value to a row.
    fn is_given(&self, value: ValueNo) -> bool {
        let mut givers = Index::of(&self.index.givers, &value).iter();
        givers.any(|&i| self.takes_part(i))
    }

    /// Why a change cannot be written with the others that take part; `None` if it can.
    fn why_not(&self, i: usize) -> Option<Blocked> {
        let node = &self.nodes[i];
        let mut oldest = node.slots.iter().filter_map(|slot| {
            let by_slot = self.by_slot.get(slot)?;
            by_slot.front().copied()
        });
        if let Some(older) = oldest.find(|&oldest| oldest != i) {
            return Some(Blocked::Excluded(older));
        }
        for &(value, there) in &node.needs {
            // If a row has the value and loses it, that row's change must wait, not this one.
            if !there && !self.is_given(value) {
                return Some(Blocked::Missing(value));
            }
        }
        for &row in &node.displaces {
            let leaves = |&holder: &usize| {
                let slots = &self.nodes[holder].slots;
                self.takes_part(holder)
                    && (!self.nodes[holder].present
                        || !slots.iter().any(|slot| node.slots.contains(slot)))
            };
            if !Index::of(&self.index.by_row, &row).iter().any(leaves) {
                return Some(Blocked::Held(row));
            }
        }
        for Dropped {
            value,
            children,
            strict,
            ..
        } in &node.drops
        {
            let given = self.is_given(*value);
            if given && !strict {
                continue;
            }
            let needs = |&other: &usize| {
                let mut needs = self.nodes[other].needs.iter();
                needs.any(|(needed, _)| needed == value)
            };
            let stays = |child: &&RowNo| {
                let changes = Index::of(&self.index.by_row, child).iter();
                let mut changes = changes.filter(|&&other| self.takes_part(other)).peekable();
                match changes.peek() {
                    Some(_) => changes.any(needs),
                    None => **child != node.row,
                }
            };
            if let Some(&child) = children.iter().find(stays) {
                return Some(Blocked::Referenced(child, *value));
            }
            if given {
                continue;
            }
            let mut needers = Index::of(&self.index.needers, value).iter();
            if let Some(&needer) = needers.find(|&&needer| self.takes_part(needer)) {
                return Some(match needer == i {
                    // The row would refer to its own value, which it loses.
                    true => Blocked::Missing(*value),
                    false => Blocked::Referenced(self.nodes[needer].row, *value),
                });
            }
        }
        None
    }

    fn leave_out(&mut self, i: usize, why: Blocked) {
        self.blocked[i] = Some(why);
        let node = &self.nodes[i];
        for other in self.index.by_unit[&node.unit].clone() {
            if self.blocked[other].is_none() {
                self.blocked[other] = Some(Blocked::Unit(i));
                self.look_again(other);
            }
        }
        self.look_again(i);
    }

    /// Looks again at the changes that may depend on a change that was left out. Its slots go to the next change.
    fn look_again(&mut self, i: usize) {
        let node = &self.nodes[i];
        for slot in &node.slots {
            if let Some(by_slot) = self.by_slot.get_mut(slot) {
                while by_slot.front().is_some_and(|&i| self.blocked[i].is_some()) {
                    by_slot.pop_front();
                }
            }
        }
        for value in &node.gives {
            self.queue
                .extend(Index::of(&self.index.needers, value).iter().copied());
            // A row could lose the value as long as this change gave the value to another row.
            self.queue
                .extend(Index::of(&self.index.droppers, value).iter().copied());
        }
        self.queue
            .extend(Index::of(&self.index.waiters, &node.row).iter().copied());
    }
}

/// Divides the changes into components: the changes of a component depend on each other.
fn components(
    nodes: &[Node],
    index: &Index,
    blocked: &[Option<Blocked>],
    taken: &[usize],
) -> Vec<Vec<usize>> {
    let mut sets = Sets::new(nodes.len());
    let takes_part = |i: &&usize| blocked[**i].is_none();
    for &i in taken {
        let node = &nodes[i];
        if let Some(&first) = index.by_unit[&node.unit].iter().find(takes_part) {
            sets.join(i, first);
        }
        for (value, _) in &node.needs {
            for map in [&index.givers, &index.droppers] {
                for &other in Index::of(map, value).iter().filter(takes_part) {
                    sets.join(i, other);
                }
            }
        }
        for Dropped {
            value, children, ..
        } in &node.drops
        {
            for &other in Index::of(&index.givers, value).iter().filter(takes_part) {
                sets.join(i, other);
            }
            let children = children
                .iter()
                .flat_map(|row| Index::of(&index.by_row, row));
            for &other in children.filter(takes_part) {
                sets.join(i, other);
            }
        }
        let displaced = node
            .displaces
            .iter()
            .flat_map(|row| Index::of(&index.by_row, row));
        for &other in displaced.filter(takes_part) {
            sets.join(i, other);
        }
    }
    let mut found: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &i in taken {
        found.entry(sets.find(i)).or_default().push(i);
    }
    // In the order of their first changes.
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by_key(|component| component[0]);
    found
}

/// Disjoint sets of numbers.
struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    fn new(count: usize) -> Sets {
        Sets {
            parents: (0..count).collect(),
        }
    }

    fn find(&mut self, mut i: usize) -> usize {
        while self.parents[i] != i {
            self.parents[i] = self.parents[self.parents[i]];
            i = self.parents[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parents[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(row: RowNo, unit: usize) -> Node {
        Node {
            row,
            unit,
            rank: (u64::from(row), 0),
            present: true,
            ..Node::default()
        }
    }

    fn drops(value: ValueNo, children: &[RowNo], strict: bool) -> Dropped {
        Dropped {
            value,
            children: children.to_vec(),
            strict,
            releasable: false,
        }
    }

    #[test]
    fn rows_that_exchange_a_value_are_one_component() {
        let (mut a, mut b) = (node(1, 0), node(2, 1));
        a.displaces = vec![2];
        b.displaces = vec![1];
        let solution = solve(&[a, b, node(3, 2)], &[]);
        assert_eq!(solution.blocked, [None; 3]);
        assert_eq!(solution.components, [vec![0, 1], vec![2]]);
    }

    #[test]
    fn leaving_a_change_out_leaves_out_its_dependents() {
        let (mut parent, mut child, mut grandchild) = (node(1, 0), node(2, 1), node(3, 2));
        parent.needs = vec![(9, false)];
        parent.gives = vec![1];
        child.needs = vec![(1, false)];
        child.gives = vec![2];
        grandchild.needs = vec![(2, false)];
        let solution = solve(&[parent, child, grandchild], &[]);
        let missing = |value| Some(Blocked::Missing(value));
        assert_eq!(solution.blocked, [missing(9), missing(1), missing(2)]);
        assert!(solution.components.is_empty());
    }

    #[test]
    fn a_referenced_row_is_deleted_with_its_children_or_replaced() {
        let mut parent = node(1, 0);
        parent.present = false;
        parent.drops = vec![drops(7, &[5], false)];
        let alone = solve(&[parent.clone()], &[]);
        assert_eq!(alone.blocked, [Some(Blocked::Referenced(5, 7))]);
        let mut child = node(5, 1);
        child.present = false;
        assert_eq!(solve(&[parent.clone(), child], &[]).blocked, [None; 2]);
        let mut other = node(2, 1);
        other.gives = vec![7];
        assert_eq!(
            solve(&[parent.clone(), other.clone()], &[]).blocked,
            [None; 2]
        );
        // A foreign key with an action acts even if another row gets the value.
        parent.drops[0].strict = true;
        let strict = solve(&[parent, other], &[]);
        assert_eq!(strict.blocked, [Some(Blocked::Referenced(5, 7)), None]);
    }

    #[test]
    fn references_are_given_up_where_another_row_gets_the_value() {
        let (mut parent, mut other) = (node(1, 0), node(2, 1));
        parent.drops = vec![drops(7, &[5], true)];
        other.displaces = vec![1];
        let blocked = |nodes: &[Node]| solve(&released(nodes), &[]).blocked;
        parent.drops[0].releasable = true;
        let referenced = Some(Blocked::Referenced(5, 7));
        assert_eq!(
            blocked(&[parent.clone(), other.clone()]),
            [referenced, Some(Blocked::Held(1))]
        );
        other.gives = vec![7];
        assert_eq!(blocked(&[parent.clone(), other.clone()]), [None, None]);
        parent.drops[0].releasable = false;
        assert_eq!(
            blocked(&[parent, other]),
            [referenced, Some(Blocked::Held(1))]
        );
    }

    #[test]
    fn the_older_of_two_exclusive_changes_is_written() {
        let (mut old, mut new) = (node(1, 0), node(2, 1));
        old.slots = vec![1];
        new.slots = vec![1];
        let solution = solve(&[old.clone(), new.clone()], &[]);
        assert_eq!(solution.blocked, [None, Some(Blocked::Excluded(0))]);
        // The newer one is written if the older one cannot be.
        old.needs = vec![(9, false)];
        let solution = solve(&[old, new], &[]);
        assert_eq!(solution.blocked, [Some(Blocked::Missing(9)), None]);
    }

    #[test]
    fn changes_of_a_unit_are_written_together_or_not_at_all() {
        let (mut gone, arrives) = (node(1, 0), node(2, 0));
        gone.present = false;
        gone.drops = vec![drops(1, &[8], false)];
        let solution = solve(&[gone, arrives], &[]);
        assert_eq!(
            solution.blocked,
            [Some(Blocked::Referenced(8, 1)), Some(Blocked::Unit(0))]
        );
    }

    #[test]
    fn a_row_does_not_refer_to_a_value_that_it_loses() {
        let mut row = node(1, 0);
        row.needs = vec![(1, true)];
        row.drops = vec![drops(1, &[], false)];
        let blocked = |nodes: &[Node]| solve(nodes, &[]).blocked;
        assert_eq!(blocked(&[row.clone()]), [Some(Blocked::Missing(1))]);
        let mut giver = node(2, 1);
        giver.gives = vec![1];
        assert_eq!(blocked(&[row, giver]), [None, None]);
    }

    #[test]
    fn the_caller_can_leave_a_change_out() {
        let (mut parent, mut child) = (node(1, 0), node(2, 1));
        parent.gives = vec![1];
        child.needs = vec![(1, false)];
        let solution = solve(&[parent, child, node(3, 2)], &[0]);
        assert_eq!(solution.components, [vec![2]]);
    }

    /// No change of the set is blocked, and the set has all or none of each unit.
    #[test]
    fn the_set_satisfies_all_constraints() {
        let mut random = 1_u64;
        let mut below = |n: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (random >> 33) % n
        };
        for _ in 0..2_000 {
            let count = 1 + below(6) as usize;
            let nodes: Vec<Node> = (0..count)
                .map(|i| {
                    let mut node = node(i as RowNo, below(count as u64) as usize);
                    node.present = below(4) > 0;
                    if below(2) == 0 {
                        node.needs = vec![(below(4) as ValueNo, below(2) == 0)];
                    }
                    if below(2) == 0 {
                        node.gives = vec![below(4) as ValueNo];
                    }
                    if below(3) == 0 {
                        node.displaces = vec![below(8) as RowNo];
                        node.displaces.retain(|row| *row != i as RowNo);
                    }
                    if !node.present && below(2) == 0 {
                        node.drops = vec![drops(below(4) as ValueNo, &[below(8) as RowNo], false)];
                    }
                    node
                })
                .collect();
            let found = solve(&nodes, &[]);
            let taken = |set: u32, i: usize| set & (1 << i) != 0;
            let holds = |set: u32| {
                let mut search = Search::new(&nodes);
                for i in 0..count {
                    if !taken(set, i) {
                        search.blocked[i] = Some(Blocked::Unit(i));
                    }
                }
                (0..count).all(|i| !taken(set, i) || search.why_not(i).is_none())
                    && (0..count).all(|i| {
                        let unit = |j: usize| nodes[j].unit == nodes[i].unit;
                        !taken(set, i) || (0..count).all(|j| !unit(j) || taken(set, j))
                    })
            };
            let set = (0..count)
                .filter(|&i| found.blocked[i].is_none())
                .fold(0, |set, i| set | 1 << i);
            assert!(holds(set), "{nodes:?}");
        }
    }
}
