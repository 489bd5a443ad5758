//! Which partitions of a destination have the rows of some keys. A statement that joins the destination with a batch
//! plans and locks every partition, unless a constant condition leaves some out.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pgrx::pg_sys::{Datum, Oid};
use pgrx::spi::quote_literal;

use crate::pg::partition::{Comparison, Partitioned, Strategy};

/// The key of a destination.
pub struct Key<'k> {
    /// The names of its columns.
    pub names: Vec<&'k str>,
    /// The same, as SQL spells them, with their types.
    pub spelled: Vec<(&'k str, &'k str)>,
}

/// With fewer partitions, a statement plans and locks all of them.
const FEW: usize = 8;

/// With fewer partitions, a condition is not worth while that only serves these rows: its statement is prepared and planned
/// for each call.
const MANY: usize = 64;

/// The most comparisons of a condition.
const MOST: usize = 256;

/// A condition on `d`, the table, which holds for all rows with these keys, and from which the server tells which
/// partitions can have such rows. It depends on the partitions alone where it can, so that the same statement serves
/// other keys. `None`: the table is not partitioned, or most partitions can have such rows.
pub fn condition(table: Oid, key: &Key<'_>, keys: &[&[Datum]]) -> Option<String> {
    let mut comparisons = 0;
    let condition = narrowed(table, key, keys, &mut comparisons)?;
    (comparisons <= MOST).then_some(condition)
}

/// A table of partitions, and where the columns of its partition key are in the key.
fn open(table: Oid, key: &Key<'_>) -> Option<(Partitioned, Vec<usize>)> {
    let table = Partitioned::open(table)?;
    let columns = (0..table.width()).map(|i| {
        let name = table.column(i);
        key.names.iter().position(|other| *other == name)
    });
    let columns = columns.collect::<Option<Vec<_>>>()?;
    Some((table, columns))
}

/// The keys of each partition that can have some. No partition can have the others.
fn split<'k>(
    table: &Partitioned,
    columns: &[usize],
    keys: &[&'k [Datum]],
) -> BTreeMap<usize, Vec<&'k [Datum]>> {
    let mut parts: BTreeMap<usize, Vec<&[Datum]>> = BTreeMap::new();
    for key in keys {
        let mut values: Vec<Datum> = columns.iter().map(|&i| key[i]).collect();
        if let Some(part) = table.route(&mut values) {
            parts.entry(part).or_default().push(key);
        }
    }
    parts
}

fn narrowed(
    table: Oid,
    key: &Key<'_>,
    keys: &[&[Datum]],
    comparisons: &mut usize,
) -> Option<String> {
    let (table, columns) = open(table, key)?;
    let parts = split(&table, &columns, keys);
    let leaves = parts.keys().all(|&part| table.part(part).1);
    if leaves && (table.count() < FEW || parts.len() * 2 > table.count()) {
        return None;
    }
    let mut any: BTreeSet<String> = BTreeSet::new();
    for (part, keys) in parts {
        let (oid, leaf) = table.part(part);
        let clause = clause(&table, part, (key, &columns), &keys, comparisons);
        let within = match leaf {
            true => None,
            false => narrowed(oid, key, &keys, comparisons),
        };
        let both: Vec<String> = clause.into_iter().chain(within).collect();
        if both.is_empty() || *comparisons > MOST {
            return None;
        }
        any.insert(format!("({})", both.join(" and ")));
    }
    Some(match any.is_empty() {
        true => String::from("false"),
        false => format!("({})", Vec::from_iter(any).join(" or ")),
    })
}

/// A condition for the rows of one partition.
fn clause(
    table: &Partitioned,
    part: usize,
    (key, columns): (&Key<'_>, &[usize]),
    keys: &[&[Datum]],
    comparisons: &mut usize,
) -> Option<String> {
    let mut compare = |i: usize, comparison, value| {
        *comparisons += 1;
        let operator = table.operator(i, comparison)?;
        let (name, type_name) = key.spelled[columns[i]];
        let value = quote_literal(table.text(i, value)?);
        Some(format!("d.{name} {operator} {value}::{type_name}"))
    };
    let mut any: BTreeSet<String> = BTreeSet::new();
    match table.strategy() {
        Strategy::Range if !table.is_default(part) => {
            let (lower, upper) = table.range(part);
            // The next partition can begin with the same value of the first of several columns.
            let below = match columns.len() {
                1 => Comparison::Less,
                _ => Comparison::AtMost,
            };
            let mut both = Vec::new();
            if let Some(value) = lower {
                both.push(compare(0, Comparison::AtLeast, value)?);
            }
            if let Some(value) = upper {
                both.push(compare(0, below, value)?);
            }
            if both.is_empty() {
                return None;
            }
            return Some(both.join(" and "));
        }
        Strategy::List
            if !table.is_default(part) && table.values(part).len() <= keys.len().max(FEW) =>
        {
            for value in table.values(part) {
                any.insert(compare(0, Comparison::Equal, value)?);
            }
        }
        _ if table.count() < MANY => return None,
        strategy => {
            let told = match strategy {
                Strategy::Hash => columns.len(),
                _ => 1,
            };
            for key in keys {
                let all = (0..told).map(|i| compare(i, Comparison::Equal, key[columns[i]]));
                let all = all.collect::<Option<Vec<_>>>()?;
                any.insert(format!("({})", all.join(" and ")));
                if any.len() > MOST {
                    return None;
                }
            }
        }
    }
    Some(format!("({})", Vec::from_iter(any).join(" or ")))
}

/// The keys by the tables that can have their rows. The keys in the last part can be in any table: that cannot be told.
pub type ByTable<'k> = (HashMap<Oid, Vec<&'k [Datum]>>, Vec<&'k [Datum]>);

/// Finds the table of each key's row: the destination, or one of its partitions.
pub fn by_table<'k>(table: Oid, names: Vec<&str>, keys: Vec<&'k [Datum]>) -> ByTable<'k> {
    let key = Key {
        names,
        spelled: Vec::new(),
    };
    let mut found = ByTable::default();
    collect(table, true, &key, keys, &mut found);
    found
}

fn collect<'k>(
    table: Oid,
    partitioned: bool,
    key: &Key<'_>,
    keys: Vec<&'k [Datum]>,
    found: &mut ByTable<'k>,
) {
    if !partitioned {
        found.0.insert(table, keys);
        return;
    }
    let Some((table, columns)) = open(table, key) else {
        found.1.extend(keys);
        return;
    };
    for (part, keys) in split(&table, &columns, &keys) {
        let (oid, leaf) = table.part(part);
        collect(oid, !leaf, key, keys, found);
    }
}
