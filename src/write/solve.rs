//! Which of the changes that wait can be written together.
//!
//! A change alone may violate a constraint that it satisfies together with others: its parent comes with it,
//! its unique value is given up by another change, its children move away. The solver is told of each change
//! what the constraints ask of it, and finds the largest set of changes after which all constraints hold. It
//! leaves out a change whose cause is not among them, and all changes that need it.
//!
//! Why the set is right: the constraints ask only for rows as they are *after* all changes of the set. The set is
//! written by one statement, whose foreign keys the server checks when it ends, and whose unique values are
//! given up before they are taken.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};

/// A row, by a number that the caller gives it.
pub type RowNo = u32;

/// Values of a referenced list of columns, by a number that the caller gives them. Values of another foreign
/// key have other numbers.
pub type Token = u32;

/// What only one row may have (a unique value, say), and several changes are to have: by a number that the caller gives it.
pub type Claim = u32;

/// A change of one row.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// The row that it changes.
    pub row: RowNo,
    /// The unit that it belongs to. Changes of a unit are written together or not at all.
    pub unit: usize,
    /// Where it stands in commit order. Of two changes that exclude each other the later one is left out: a change that
    /// lies between them has not come.
    pub rank: (u64, u32),
    /// Whether the row is to be there.
    pub present: bool,
    /// What its foreign keys refer to, and whether a row of the destination has it now.
    pub needs: Vec<(Token, bool)>,
    /// What foreign keys can refer to in the row afterwards.
    pub gives: Vec<Token>,
    /// What foreign keys can refer to in the row now, and not afterwards.
    pub drops: Vec<Drop>,
    /// Other rows that have, now, a value which the row is to have and only one row may have.
    pub displaces: Vec<RowNo>,
    /// What only one row may have, and this change and others are to have.
    pub claims: Vec<Claim>,
}

/// What foreign keys can refer to in a row no more.
#[derive(Debug, Clone)]
pub struct Drop {
    pub token: Token,
    /// The rows that refer to it now.
    pub children: Vec<RowNo>,
    /// Whether another row cannot stand in: a foreign key acts on the rows that refer to it, whatever comes.
    pub strict: bool,
}

/// Why a change is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// It refers to a row that is not there and does not come.
    Missing(Token),
    /// A row that refers to its row does not move away, and no other row gets what it refers to.
    Referenced(RowNo, Token),
    /// A row does not give up a value that it is to have.
    Held(RowNo),
    /// An older change is to have the same value.
    Excluded(usize),
    /// Another change of its unit is left out.
    Unit(usize),
}

/// What the solver found.
#[derive(Debug, Default)]
pub struct Solution {
    /// Why each change is left out; `None`: it can be written.
    pub blocked: Vec<Option<Blocked>>,
    /// The changes that can be written, component by component: the changes of a component depend on each
    /// other.
    pub components: Vec<Vec<usize>>,
}

/// Finds the changes that can be written together, without these (by index).
pub fn solve(nodes: &[Node], without: &[usize]) -> Solution {
    let mut search = Search::new(nodes);
    for &i in without {
        search.leave_out(i, Blocked::Unit(i));
    }
    search.eliminate();
    // Changes exclude each other only where all else lets both take part.
    search.claim();
    search.eliminate();
    let Search { index, blocked, .. } = search;
    let taken: Vec<usize> = (0..nodes.len()).filter(|&i| blocked[i].is_none()).collect();
    let components = components(nodes, &index, &blocked, &taken);
    Solution {
        blocked,
        components,
    }
}

/// Who gives, drops and needs what.
struct Index {
    /// Two mappings may write one row.
    by_row: HashMap<RowNo, Vec<usize>>,
    by_unit: BTreeMap<usize, Vec<usize>>,
    givers: HashMap<Token, Vec<usize>>,
    droppers: HashMap<Token, Vec<usize>>,
    needers: HashMap<Token, Vec<usize>>,
    /// The changes that displace a row, or drop what it refers to.
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
            for token in &node.gives {
                index.givers.entry(*token).or_default().push(i);
            }
            for Drop {
                token, children, ..
            } in &node.drops
            {
                index.droppers.entry(*token).or_default().push(i);
                for child in children {
                    index.waiters.entry(*child).or_default().push(i);
                }
            }
            for (token, _) in &node.needs {
                index.needers.entry(*token).or_default().push(i);
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
    /// The changes of each claim in commit order, but for those at the front that are left out. Empty while changes do
    /// not exclude each other yet.
    claimants: HashMap<Claim, VecDeque<usize>>,
    /// Changes that must be looked at, since something that they may need is left out.
    queue: VecDeque<usize>,
}

impl<'n> Search<'n> {
    fn new(nodes: &'n [Node]) -> Search<'n> {
        Search {
            nodes,
            index: Index::new(nodes),
            blocked: vec![None; nodes.len()],
            claimants: HashMap::new(),
            queue: (0..nodes.len()).collect(),
        }
    }

    /// Leaves changes out until those that are left satisfy all constraints. Each step leaves one out, and
    /// looks again only at changes that it may concern, so the work grows with the number of dependencies.
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

    /// From now on, changes exclude each other: all that take part are looked at again, the oldest first.
    fn claim(&mut self) {
        let mut order: Vec<usize> = (0..self.nodes.len())
            .filter(|&i| self.takes_part(i))
            .collect();
        order.sort_by_key(|&i| (self.nodes[i].rank, i));
        for &i in &order {
            for claim in &self.nodes[i].claims {
                self.claimants.entry(*claim).or_default().push_back(i);
            }
        }
        self.queue = order.into();
    }

    fn takes_part(&self, i: usize) -> bool {
        self.blocked[i].is_none()
    }

    /// Whether some change that takes part gives the token.
    fn is_given(&self, token: Token) -> bool {
        let mut givers = Index::of(&self.index.givers, &token).iter();
        givers.any(|&i| self.takes_part(i))
    }

    /// Why a change cannot be written with the others that take part.
    fn why_not(&self, i: usize) -> Option<Blocked> {
        let node = &self.nodes[i];
        let mut oldest = node.claims.iter().filter_map(|claim| {
            let claimants = self.claimants.get(claim)?;
            claimants.front().copied()
        });
        if let Some(older) = oldest.find(|&oldest| oldest != i) {
            return Some(Blocked::Excluded(older));
        }
        for &(token, there) in &node.needs {
            // Where a row goes that it refers to, that row is what has to wait.
            if !there && !self.is_given(token) {
                return Some(Blocked::Missing(token));
            }
        }
        for &row in &node.displaces {
            let leaves = |&holder: &usize| {
                let claims = &self.nodes[holder].claims;
                self.takes_part(holder)
                    && (!self.nodes[holder].present
                        || !claims.iter().any(|claim| node.claims.contains(claim)))
            };
            if !Index::of(&self.index.by_row, &row).iter().any(leaves) {
                return Some(Blocked::Held(row));
            }
        }
        for Drop {
            token,
            children,
            strict,
        } in &node.drops
        {
            let given = self.is_given(*token);
            if given && !strict {
                continue;
            }
            let needs = |&other: &usize| {
                let mut needs = self.nodes[other].needs.iter();
                needs.any(|(needed, _)| needed == token)
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
                return Some(Blocked::Referenced(child, *token));
            }
            if given {
                continue;
            }
            let needers = Index::of(&self.index.needers, token).iter();
            let mut others = needers.filter(|&&other| other != i && self.takes_part(other));
            if let Some(&other) = others.next() {
                return Some(Blocked::Referenced(self.nodes[other].row, *token));
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

    /// Looks again at the changes that may need the one that was left out. What it claimed is the next change's.
    fn look_again(&mut self, i: usize) {
        let node = &self.nodes[i];
        for claim in &node.claims {
            if let Some(claimants) = self.claimants.get_mut(claim) {
                while claimants
                    .front()
                    .is_some_and(|&i| self.blocked[i].is_some())
                {
                    claimants.pop_front();
                }
            }
        }
        for token in &node.gives {
            self.queue
                .extend(Index::of(&self.index.needers, token).iter().copied());
            // What gave the token had made a change free to drop it.
            self.queue
                .extend(Index::of(&self.index.droppers, token).iter().copied());
        }
        self.queue
            .extend(Index::of(&self.index.waiters, &node.row).iter().copied());
    }
}

/// Divides the changes into those that depend on each other.
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
        for (token, _) in &node.needs {
            for map in [&index.givers, &index.droppers] {
                for &other in Index::of(map, token).iter().filter(takes_part) {
                    sets.join(i, other);
                }
            }
        }
        for Drop {
            token, children, ..
        } in &node.drops
        {
            for &other in Index::of(&index.givers, token).iter().filter(takes_part) {
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
    // The one that begins first goes first.
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

    fn drops(token: Token, children: &[RowNo], strict: bool) -> Drop {
        Drop {
            token,
            children: children.to_vec(),
            strict,
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
    fn what_needs_a_change_that_is_left_out_is_left_out_with_it() {
        let (mut parent, mut child, mut grandchild) = (node(1, 0), node(2, 1), node(3, 2));
        parent.needs = vec![(9, false)];
        parent.gives = vec![1];
        child.needs = vec![(1, false)];
        child.gives = vec![2];
        grandchild.needs = vec![(2, false)];
        let solution = solve(&[parent, child, grandchild], &[]);
        let missing = |token| Some(Blocked::Missing(token));
        assert_eq!(solution.blocked, [missing(9), missing(1), missing(2)]);
        assert!(solution.components.is_empty());
    }

    #[test]
    fn a_row_that_is_referred_to_goes_when_its_children_do_or_another_has_its_value() {
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
        // A foreign key that acts does so whatever comes.
        parent.drops[0].strict = true;
        let strict = solve(&[parent, other], &[]);
        assert_eq!(strict.blocked, [Some(Blocked::Referenced(5, 7)), None]);
    }

    #[test]
    fn of_changes_that_exclude_each_other_the_older_one_is_written() {
        let (mut old, mut new) = (node(1, 0), node(2, 1));
        old.claims = vec![1];
        new.claims = vec![1];
        let solution = solve(&[old.clone(), new.clone()], &[]);
        assert_eq!(solution.blocked, [None, Some(Blocked::Excluded(0))]);
        // Unless the older one cannot be written anyway.
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
    fn a_change_can_be_left_out_from_outside() {
        let (mut parent, mut child) = (node(1, 0), node(2, 1));
        parent.gives = vec![1];
        child.needs = vec![(1, false)];
        let solution = solve(&[parent, child, node(3, 2)], &[0]);
        assert_eq!(solution.components, [vec![2]]);
    }

    /// No change of the set is blocked by the others, and no unit is in it by halves.
    #[test]
    fn what_is_found_holds() {
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
                        node.needs = vec![(below(4) as Token, below(2) == 0)];
                    }
                    if below(2) == 0 {
                        node.gives = vec![below(4) as Token];
                    }
                    if below(3) == 0 {
                        node.displaces = vec![below(8) as RowNo];
                        node.displaces.retain(|row| *row != i as RowNo);
                    }
                    if !node.present && below(2) == 0 {
                        node.drops = vec![drops(below(4) as Token, &[below(8) as RowNo], false)];
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
