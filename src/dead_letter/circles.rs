//! Letters that wait in a circle with rows of a call. They can only be written together with these rows: the call starts
//! over with its own messages and these letters.
//!
//! A message that is older than a letter of its row waits for that letter, whatever else it waits for: the newer message
//! decides the row, and the older one may free what the newer one needs. The same is true of two letters.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap, HashSet};

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use super::due::{Candidate, Due, Touched, Written};
use super::presence::Presence;
use crate::error::SqlError;
use crate::message::Version;
use crate::prepared::{Kept, RowReader};

/// Finds the letters that the call's unwritten rows wait for, then the letters that these letters wait for,
/// and so on. A letter is found by the key of its row, and by the other keys and values that it brings. Also finds
/// the newer letters of a row, from a position on.
macro_rules! awaited {
    ($brings:literal) => {
        concat!(
            "
    with recursive awaited as (
        select null::bigint as id, null::integer as mapping, b.relation, sha256(b.key) as key,
               null::bytea[] as brings, b.waits_on, sha256(b.waits_for) as waits_for, null::bytea as waits_or,
               b.lsn, b.idx
        from sequin_internal.batch() b(waits_on oid, waits_for bytea, relation oid, key bytea, lsn bigint, idx integer)
        union
        select l.* from awaited a
        cross join lateral (
            values (a.waits_on, a.waits_for, null::bigint, null::integer), (a.relation, a.waits_or, null, null),
                   (a.relation, case when a.lsn is not null then a.key end, a.lsn, a.idx)
            ) w(waits_on, waits_for, lsn, idx)
        cross join lateral (
            (select i.id, i.mapping, i.row_key, i.brings, i.waits_on, i.waits_for, i.waits_or, i.lsn, i.idx
             from sequin.dead_letter i
             where i.state = 'waiting' and sha256(i.row_key) = w.waits_for
               and (w.lsn is null or (i.lsn, i.idx) > (w.lsn, w.idx)) offset 0)",
            $brings,
            ") i
        cross join lateral (
            select i.id, m.id as mapping, m.destination::oid as relation, sha256(i.row_key) as key, i.brings,
                   i.waits_on::oid as waits_on, i.waits_for, i.waits_or, i.lsn, i.idx
            from sequin.mapping m
            where m.name = i.mapping and m.destination = w.waits_on and m.enabled and m.on_error = 'dead_letter'
            offset 0) l
        where w.waits_for is not null)
    select a.id, a.mapping, a.relation, a.key, (
               select pg_catalog.string_agg(u, ''::bytea) from pg_catalog.unnest(a.brings) u),
           a.waits_on, a.waits_for, a.waits_or, a.lsn, a.idx
    from awaited a where a.id is not null limit 20000"
        )
    };
}

const AWAITED: &str = awaited!("");

const AWAITED_BRINGING: &str = awaited!(
    "
            union all
            (select i.id, i.mapping, i.row_key, i.brings, i.waits_on, i.waits_for, i.waits_or, i.lsn, i.idx
             from sequin.dead_letter i
             where i.state = 'waiting' and i.brings is not null and i.brings @> array[w.waits_for]
               and (w.lsn is null or (i.lsn, i.idx) > (w.lsn, w.idx)) offset 0)"
);

/// The columns of their batch relations.
const WAITS: [(&str, pg_sys::Oid); 6] = [
    ("waits_on", pg_sys::OIDOID),
    ("waits_for", pg_sys::BYTEAOID),
    ("relation", pg_sys::OIDOID),
    ("key", pg_sys::BYTEAOID),
    ("lsn", pg_sys::INT8OID),
    ("idx", pg_sys::INT4OID),
];

/// The letters that wait for rows or values of tables, if there are not many.
const BESIDE: &str = "
    select l.id, m.id, l.size
    from (select distinct b.relation from sequin_internal.batch() b(relation oid)) b
    cross join lateral (select i.id, i.mapping, i.attempts, i.last_attempt_at, pg_column_size(i.message) as size
                        from sequin.dead_letter i
                        where i.state = 'waiting' and i.waits_on = b.relation limit 2001) l
    join sequin.mapping m on m.name = l.mapping and m.enabled and m.on_error = 'dead_letter'
    where l.attempts < 1000 or l.last_attempt_at < now() - interval '1 minute'";

/// What is not many: letters, and bytes of their messages as they are stored.
const FEW: usize = 2_000;
const SMALL: usize = 8 << 20;

/// Hashes keys of rows (or values) as letters store them.
const HASHED: &str = "
    select b.n, sha256(b.key) from sequin_internal.batch() b(n integer, key bytea)";

thread_local! {
    static AWAITER: Kept = const { Kept::new(AWAITED, &WAITS).finding_few() };
    static BRINGING: Kept = const { Kept::new(AWAITED_BRINGING, &WAITS).finding_few() };
    static ALL_BESIDE: Kept = const { Kept::new(BESIDE, &[("relation", pg_sys::OIDOID)]).finding_few() };
    static HASHER: Kept = const {
        Kept::new(HASHED, &[("n", pg_sys::INT4OID), ("key", pg_sys::BYTEAOID)])
    };
}

/// How many letters a call takes along, because they can only be written together with its rows. It holds all their
/// messages in memory.
pub const MANY: usize = 20_000;

/// A thing that rows and letters wait for: a table, and the hash of a row's key or of a value.
type Thing = (u32, Vec<u8>);

/// A row of the call, or a letter.
#[derive(Debug, Default)]
struct Node {
    /// Its row, and the other keys and values that it brings.
    is: Vec<Thing>,
    waits_for: Vec<Thing>,
    /// The call's message, which can have several nodes.
    message: Option<usize>,
    /// Whether the first of what it is, is the row that its message is about.
    is_subject: bool,
    /// The position of its message in the source.
    version: Option<Version>,
}

/// Letters that must be applied together with the call's messages, without the letters that the call `has` already.
/// Also tells whether there may be more than a call takes along.
pub fn circles_of(
    presence: &Presence,
    rows: &[Touched],
    has: &BTreeSet<i64>,
) -> Result<(Vec<Candidate>, bool), SqlError> {
    // What is written, or waits for a row that is not known, may be what a letter needs: letters begin there.
    let (mut own, waiting): (Vec<&Touched>, Vec<&Touched>) =
        rows.iter().partition(|row| things_of(row).is_empty());
    if waiting.is_empty() {
        return Ok((Vec::new(), false));
    }
    let (letters, mut nodes) = awaited(&waiting, presence.any_brings())?;
    if letters.is_empty() {
        return Ok((Vec::new(), false));
    }
    let first = own.len();
    own.extend(waiting);
    let mut all = hashed(&own)?;
    let count = all.len();
    all.append(&mut nodes);
    let circles = together(&all, first, count);
    let due = circles.into_iter().map(|node| Candidate {
        due: letters[node - count],
        waits_for: all[node]
            .waits_for
            .first()
            .map(|(table, hash)| Written::hashed(pg_sys::Oid::from(*table), hash.clone())),
    });
    let due: Vec<Candidate> = due.filter(|it| !has.contains(&it.due.letter)).collect();
    let more = letters.len() >= MANY;
    if has.len() >= MANY {
        return Ok((Vec::new(), more || !due.is_empty()));
    }
    Ok((due, more))
}

/// The letters of the mappings of `found` that wait for anything in the tables in which these wait, or none if they are
/// many. Of what a letter waits for it tells one thing. If the next ones showed one by one, a call would begin again for
/// each.
pub fn beside(found: &[Candidate]) -> Result<Vec<Due>, SqlError> {
    let waits_for = found.iter().filter_map(|it| it.waits_for.as_ref());
    let tables: BTreeSet<u32> = waits_for.map(|row| row.table().to_u32()).collect();
    let returned = ALL_BESIDE.with(|statement| {
        statement.query(tables.into_iter(), |table| vec![Some(Datum::from(table))])
    })?;
    let mappings: BTreeSet<i32> = found.iter().map(|it| it.due.mapping).collect();
    let mut letters = Vec::with_capacity(returned.len());
    let mut size = 0;
    let mut row = RowReader::new(&returned);
    while row.next() {
        letters.extend(Due::of(&row).filter(|due| mappings.contains(&due.mapping)));
        size += row.index(2);
    }
    let many = returned.len() > FEW || size > SMALL;
    Ok(if many { Vec::new() } else { letters })
}

/// The row, and the value, that a row of the call waits for.
fn things_of(row: &Touched) -> Vec<(pg_sys::Oid, &[u8])> {
    let Some(wait) = &row.wait else {
        return Vec::new();
    };
    let of_row = wait.table().zip(wait.key());
    let of_value = wait.or().map(|or| (row.table, or));
    of_row.into_iter().chain(of_value).collect()
}

/// Whether each of these rows is the one that its message is about: the first of the message's rows.
fn subjects<'r>(rows: &'r [&Touched]) -> impl Iterator<Item = bool> + 'r {
    let mut seen = HashSet::new();
    let first = move |row: &&Touched| row.by.is_some_and(|by| seen.insert((row.table, by.number)));
    rows.iter().map(first)
}

/// The letters that rows of the call wait for, the letters that these wait for, and so on.
fn awaited(rows: &[&Touched], brings: bool) -> Result<(Vec<Due>, Vec<Node>), SqlError> {
    let waits = rows.iter().flat_map(|row| things_of(row));
    let waits = waits.map(|(table, key)| {
        let wait = vec![Some(Datum::from(table)), key.into_datum()];
        [wait, vec![None; 4]].concat()
    });
    let own = rows
        .iter()
        .zip(subjects(rows))
        .filter_map(|(row, is_subject)| {
            let version = row.by.and_then(|by| by.version).filter(|_| is_subject)?;
            let key = vec![
                Some(Datum::from(row.table)),
                row.key.as_slice().into_datum(),
            ];
            let position = vec![
                Some(Datum::from(version.lsn as i64)),
                Some(Datum::from(version.idx as i32)),
            ];
            Some([vec![None; 2], key, position].concat())
        });
    let statement = match brings {
        true => &BRINGING,
        false => &AWAITER,
    };
    let returned = statement.with(|statement| statement.query(waits.chain(own), |row| row))?;
    let mut letters = Vec::with_capacity(returned.len());
    let mut nodes = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        let oid = |i: usize| row.oid(i).map(pg_sys::Oid::to_u32);
        let table = oid(2).unwrap_or_default();
        let brings = row.bytes(4).unwrap_or_default();
        let brings = brings.chunks_exact(HASH).map(<[u8]>::to_vec);
        letters.push(Due {
            letter: row.bigint(0).unwrap_or_default(),
            mapping: row.int(1).unwrap_or_default(),
        });
        let keys = row.bytes(3).into_iter().chain(brings);
        let waits_for = oid(5).zip(row.bytes(6)).into_iter();
        nodes.push(Node {
            is: keys.map(|key| (table, key)).collect(),
            waits_for: waits_for
                .chain(row.bytes(7).map(|or| (table, or)))
                .collect(),
            message: None,
            is_subject: true,
            version: row.version(8, 9),
        });
    }
    Ok((letters, nodes))
}

/// The length of a hash.
const HASH: usize = 32;

/// The rows of the call, with hashed keys.
fn hashed(rows: &[&Touched]) -> Result<Vec<Node>, SqlError> {
    let own = rows.iter().map(|row| (row.table, row.key.as_slice()));
    let waits = rows.iter().map(|row| things_of(row));
    let keys: Vec<Vec<(pg_sys::Oid, &[u8])>> = own
        .zip(waits)
        .map(|(own, waits)| std::iter::once(own).chain(waits).collect())
        .collect();
    let numbered = keys.iter().enumerate();
    let items = numbered.flat_map(|(n, keys)| keys.iter().map(move |(_, key)| (n, *key)));
    let returned = HASHER.with(|statement| {
        statement.query(items, |(n, key)| {
            vec![Some(Datum::from(n as i32)), key.into_datum()]
        })
    })?;
    let of_row = |(row, is_subject): (&&Touched, bool)| Node {
        message: row.by.map(|by| by.number),
        version: row.by.and_then(|by| by.version),
        is_subject,
        ..Node::default()
    };
    let mut nodes: Vec<Node> = rows.iter().zip(subjects(rows)).map(of_row).collect();
    let mut row = RowReader::new(&returned);
    while row.next() {
        // The server returns them as it got them.
        let n = row.index(0);
        let node = &mut nodes[n];
        let of = keys[n][node.is.len() + node.waits_for.len()].0.to_u32();
        let Some(hash) = row.bytes(1) else { continue };
        match node.is.is_empty() {
            true => node.is.push((of, hash)),
            false => node.waits_for.push((of, hash)),
        }
    }
    Ok(nodes)
}

/// The nodes behind the first `own` that can only be written together with one of these, or that wait for one of the
/// first `written`, directly or not.
fn together(nodes: &[Node], written: usize, own: usize) -> BTreeSet<usize> {
    let mut by_wait: HashMap<&Thing, Vec<usize>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for wait in &node.waits_for {
            by_wait.entry(wait).or_default().push(i);
        }
    }
    let older = older(nodes);
    let behind = |i: usize| {
        let things = nodes[i].is.iter();
        let waiting = things.flat_map(|thing| by_wait.get(thing).into_iter().flatten());
        waiting.chain(older.get(&i).into_iter().flatten()).copied()
    };
    let mut reached: BTreeSet<usize> = (0..written).collect();
    let mut next: Vec<usize> = (0..written).collect();
    while let Some(i) = next.pop() {
        next.extend(behind(i).filter(|&j| reached.insert(j)));
    }
    let mut found = reached.split_off(&own);
    for circle in circles(nodes.len(), behind) {
        if circle.iter().any(|&i| i < own) {
            found.extend(circle.into_iter().filter(|&i| i >= own));
        }
    }
    found
}

/// For each node, those of older messages of its row, of which no node is between.
fn older(nodes: &[Node]) -> HashMap<usize, Vec<usize>> {
    let mut by_thing: HashMap<&Thing, Vec<(Version, usize, bool)>> = HashMap::new();
    let mut by_message: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, node) in nodes.iter().enumerate() {
        if let Some(message) = node.message {
            by_message.entry(message).or_default().push(i);
        }
        let Some(version) = node.version else {
            continue;
        };
        for (n, thing) in node.is.iter().enumerate() {
            let is_subject = n == 0 && node.is_subject;
            let of_thing = by_thing.entry(thing).or_default();
            of_thing.push((version, i, is_subject));
        }
    }
    let mut older: HashMap<usize, Vec<usize>> = HashMap::new();
    for mut all in by_thing.into_values().filter(|all| all.len() > 1) {
        all.sort_by_key(|(version, ..)| (version.lsn, version.index()));
        for (at, (version, i, is_subject)) in all.iter().enumerate() {
            let mut newer = all[at + 1..].iter();
            let newer = newer.find(|(other, ..)| version.is_before(*other));
            if let Some((_, newer, _)) = newer.filter(|_| *is_subject) {
                let message = nodes[*i].message;
                let same = message.map_or(vec![*i], |message| by_message[&message].clone());
                older.entry(*newer).or_default().extend(same);
            }
        }
    }
    older
}

/// The nodes of a graph in groups whose members all reach each other, by Tarjan's algorithm without recursion.
fn circles<I: Iterator<Item = usize>>(count: usize, edges: impl Fn(usize) -> I) -> Vec<Vec<usize>> {
    const NEW: usize = usize::MAX;
    let mut numbers = vec![NEW; count];
    let mut lowest = vec![NEW; count];
    let mut on_stack = vec![false; count];
    let (mut stack, mut circles) = (Vec::new(), Vec::new());
    let mut visited = 0;
    for root in 0..count {
        if numbers[root] != NEW {
            continue;
        }
        let mut path: Vec<(usize, I)> = Vec::new();
        let mut enter = Some(root);
        loop {
            if let Some(node) = enter.take() {
                (numbers[node], lowest[node]) = (visited, visited);
                visited += 1;
                stack.push(node);
                on_stack[node] = true;
                path.push((node, edges(node)));
            }
            let Some((node, left)) = path.last_mut() else {
                break;
            };
            let node = *node;
            match left.next() {
                Some(to) if numbers[to] == NEW => enter = Some(to),
                Some(to) if on_stack[to] => lowest[node] = lowest[node].min(numbers[to]),
                Some(_) => {}
                None => {
                    path.pop();
                    if let Some((above, _)) = path.last() {
                        lowest[*above] = lowest[*above].min(lowest[node]);
                    }
                    if lowest[node] == numbers[node] {
                        let at = stack.iter().rposition(|&other| other == node);
                        let circle = stack.split_off(at.unwrap_or_default());
                        circle.iter().for_each(|&member| on_stack[member] = false);
                        circles.push(circle);
                    }
                }
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(is: u32, waits_for: &[u32]) -> Node {
        let thing = |n: u32| (n, Vec::new());
        Node {
            is: vec![thing(is)],
            waits_for: waits_for.iter().copied().map(thing).collect(),
            ..Node::default()
        }
    }

    #[test]
    fn letters_between_rows_that_wait_for_others_stay() {
        // 1 waits for what has not come; the letters 2 and 3 for it, and 4 for them.
        let nodes = [node(1, &[9]), node(4, &[3]), node(2, &[1]), node(3, &[2])];
        assert!(together(&nodes, 0, 2).is_empty());
    }

    #[test]
    fn letters_in_a_circle_with_a_row_come_along() {
        let nodes = [
            node(1, &[3]),
            node(2, &[1]),
            node(3, &[2]),
            node(4, &[1]),
            node(5, &[6]),
            node(6, &[5]),
        ];
        assert_eq!(together(&nodes, 0, 1), BTreeSet::from([1, 2]));
    }

    #[test]
    fn letters_that_wait_for_a_written_row_come_along() {
        // The row 4 is written once the letters 2 and 3 are, and the letter 5 waits for it.
        let nodes = [
            node(1, &[]),
            node(4, &[3]),
            node(7, &[9]),
            node(2, &[1]),
            node(3, &[2]),
            node(5, &[4]),
            node(6, &[7]),
        ];
        assert_eq!(together(&nodes, 1, 3), BTreeSet::from([3, 4, 5]));
    }

    #[test]
    fn a_newer_letter_of_a_row_that_waits_comes_along() {
        let of = |idx: u32, is: &[u32], node: Node| Node {
            is: is.iter().map(|&n| (n, Vec::new())).collect(),
            is_subject: true,
            version: Some(Version { lsn: 1, idx }),
            ..node
        };
        // The message 0 moves its row from 1 to 2 and waits for 9; the letter waits for 1.
        let own = |is_subject: bool, is: u32| Node {
            message: Some(0),
            is_subject,
            ..of(1, &[is], node(is, &[9]))
        };
        let nodes =
            |newer: u32, is: &[u32]| [own(true, 2), own(false, 1), of(newer, is, node(0, &[1]))];
        assert_eq!(together(&nodes(2, &[2]), 0, 2), BTreeSet::from([2]));
        assert_eq!(together(&nodes(2, &[3, 2]), 0, 2), BTreeSet::from([2]));
        assert!(together(&nodes(0, &[2]), 0, 2).is_empty());
        assert!(together(&nodes(2, &[3]), 0, 2).is_empty());
    }

    #[test]
    fn circles_are_those_of_a_search_for_paths() {
        let mut state = 1_u64;
        for _ in 0..500 {
            let mut dice = |below: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % below) as usize
            };
            let count = 1 + dice(8);
            let edges: Vec<Vec<usize>> = (0..count)
                .map(|_| (0..dice(4)).map(|_| dice(count as u64)).collect())
                .collect();
            let reaches = |from: usize, to: usize| {
                let (mut seen, mut next) = (vec![false; count], vec![from]);
                while let Some(at) = next.pop() {
                    if !std::mem::replace(&mut seen[at], true) {
                        next.extend(&edges[at]);
                    }
                }
                seen[to]
            };
            let found = circles(count, |i| edges[i].iter().copied());
            assert_eq!(found.iter().map(Vec::len).sum::<usize>(), count);
            for circle in &found {
                for other in 0..count {
                    let both = reaches(circle[0], other) && reaches(other, circle[0]);
                    assert_eq!(circle.contains(&other), both, "{edges:?}");
                }
            }
        }
    }
}
