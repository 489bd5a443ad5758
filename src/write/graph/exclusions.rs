//! Unique indexes and exclusion constraints: which rows and which waiting changes conflict with the changes of one
//! mapping.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys::Datum;

use super::table::Table;
use crate::destination::constraints::Exclusion;
use crate::error::SqlError;
use crate::key;
use crate::prepared::RowReader;
use crate::target::Target;
use crate::write::keys::encoding;

use super::collector::Collector;

/// The most pairs of changes that conflict in an exclusion constraint. The server finds the other conflicts when it
/// writes the changes.
const MAX_PAIRS: usize = 1_000_000;

impl Collector<'_, '_> {
    /// Finds the rows that conflict with a changed row now.
    pub fn find_holders(
        &mut self,
        table: &Table<'_>,
        exclusion: &Exclusion,
    ) -> Result<(), SqlError> {
        let target = table.target;
        let keyed = self
            .graph
            .keyed
            .of((target.destination.oid, target.key_names()));
        for (n, bytes) in holders(table, exclusion, true)? {
            let holder = self.graph.rows.of((keyed, bytes));
            let node = &mut self.graph.nodes[self.first + n];
            if !node.displaces.contains(&holder) {
                node.displaces.push(holder);
            }
            let held = self.graph.held.entry(holder).or_default();
            held.insert(exclusion.columns.clone());
        }
        Ok(())
    }

    /// Finds the changes whose rows conflict with each other.
    pub fn find_rivals(
        &mut self,
        table: &Table<'_>,
        exclusion: &Exclusion,
    ) -> Result<(), SqlError> {
        let n = table.number();
        let filter = match &exclusion.predicate {
            Some(predicate) => format!(" where ({predicate})"),
            None => String::new(),
        };
        let list: Vec<String> = exclusion
            .elements
            .iter()
            .enumerate()
            .map(|(i, (element, _))| format!("({element}) as {n}e{i}"))
            .collect();
        let rows = format!("select x.{n}, {} from x{filter}", list.join(", "));
        let columns = columns_of(table, exclusion);
        if !exclusion.of_operators {
            let found = table.ask_of_all(&columns, &rows)?;
            let encoding = encoding(&found, 1, &exclusion.collations);
            let mut row = RowReader::new(&found);
            let mut by_value: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
            while row.next() {
                let values: Vec<Option<Datum>> =
                    (0..encoding.len()).map(|i| row.datum(i + 1)).collect();
                if !exclusion.nulls_agree && values.contains(&None) {
                    continue;
                }
                let mut bytes: Vec<u8> = values.iter().map(|v| u8::from(v.is_none())).collect();
                let values: Vec<Datum> =
                    values.iter().map(|v| v.unwrap_or(Datum::null())).collect();
                if !bytes.contains(&1) {
                    key::encode(&encoding, &values, &mut bytes);
                } else {
                    for (column, value) in encoding.iter().zip(&values) {
                        if !value.is_null() {
                            column.encode(*value, &mut bytes);
                        }
                        bytes.push(0);
                    }
                }
                by_value.entry(bytes).or_default().push(row.index(0));
            }
            for same in by_value.into_values().filter(|same| same.len() > 1) {
                self.graph
                    .share_slot(same.into_iter().map(|n| self.first + n));
            }
            return Ok(());
        }
        let both: Vec<String> = exclusion
            .elements
            .iter()
            .enumerate()
            .map(|(i, (_, operator))| format!("a.{n}e{i} {operator} b.{n}e{i}"))
            .collect();
        let query = format!(
            ", e as materialized ({rows}) select a.{n}, b.{n} from e a join e b on a.{n} < b.{n} and {} \
             limit {MAX_PAIRS}",
            both.join(" and ")
        );
        let found = table.ask_of_all(&columns, &query)?;
        let mut row = RowReader::new(&found);
        while row.next() {
            let pair = [row.index(0), row.index(1)];
            self.graph
                .share_slot(pair.into_iter().map(|n| self.first + n));
        }
        Ok(())
    }
}

/// The rows that conflict with the rows of `table` as they will be: the number of each change with the key of a row as
/// bytes, which are empty if the key has a null. `all`: all such rows; else one for each change.
pub fn holders(
    table: &Table<'_>,
    exclusion: &Exclusion,
    all: bool,
) -> Result<Vec<(usize, Vec<u8>)>, SqlError> {
    let target = table.target;
    let n = table.number();
    let key = target.key_sql();
    let order = target.table_order();
    let mut inner: Vec<String> = Vec::new();
    let mut list: Vec<String> = vec![format!("x.{n}")];
    for (i, (element, operator)) in exclusion.elements.iter().enumerate() {
        list.push(format!("({element}) as {n}e{i}"));
        inner.push(same(
            element,
            operator,
            &format!("e.{n}e{i}"),
            exclusion.nulls_agree,
        ));
    }
    for (i, column) in key.iter().enumerate() {
        list.push(format!("x.{} as {n}k{i}", column.name));
    }
    let itself: Vec<String> = key
        .iter()
        .enumerate()
        .map(|(i, column)| format!("d.{} {} e.{n}k{i}", column.name, column.equals))
        .collect();
    if !is_of_key(target, exclusion) {
        inner.push(format!("not ({})", itself.join(" and ")));
    }
    let mut outer = String::new();
    if let Some(predicate) = &exclusion.predicate {
        inner.push(format!("({predicate})"));
        outer = format!(" where ({predicate})");
    }
    let names: Vec<String> = key
        .iter()
        .map(|column| format!("d.{}", column.name))
        .collect();
    let (list, names, inner) = (list.join(", "), names.join(", "), inner.join(" and "));
    let name = target.relation().name;
    let rows = format!("(select {list} from x{outer} offset 0) e");
    let query = match target.destination.shards {
        None => {
            let most = if all { "offset 0" } else { "limit 1" };
            format!(
                "select e.{n}, d.* from {rows} cross join lateral \
                 (select {names} from {name} d where {inner} {most}) d"
            )
        }
        Some(_) => {
            let one = match all {
                true => String::new(),
                false => format!("distinct on (e.{n}) "),
            };
            format!("select {one}e.{n}, {names} from {rows} join {name} d on {inner}")
        }
    };
    let columns = columns_of(table, exclusion);
    let found = table.ask_of_all(&columns, &query)?;
    let mut row = RowReader::new(&found);
    let mut holders = Vec::with_capacity(found.len());
    while row.next() {
        let mut bytes = Vec::new();
        if let Some(values) = row.datums_from(1) {
            key::encode_in_order(&target.key_encoding, values, &order, &mut bytes);
        }
        holders.push((row.index(0), bytes));
    }
    Ok(holders)
}

/// Whether this is the unique index of the mapping's key. Two changes of one key are no conflict: they are of one row.
pub fn is_of_key(target: &Target, exclusion: &Exclusion) -> bool {
    exclusion.predicate.is_none()
        && !exclusion.of_operators
        && exclusion.columns.len() == target.key.len()
        && target
            .key
            .iter()
            .all(|&i| exclusion.columns.contains(&target.columns[i].name))
}

/// The columns that the index reads, and the key columns.
fn columns_of(table: &Table<'_>, exclusion: &Exclusion) -> Vec<usize> {
    let target = table.target;
    let is_key = |name: &String| target.key.iter().any(|&i| target.columns[i].name == *name);
    (0..table.columns.len())
        .filter(|&i| {
            let name = &table.columns[i].name;
            exclusion.reads.contains(name) || is_key(name)
        })
        .collect()
}

fn same(element: &str, operator: &str, other: &str, nulls_agree: bool) -> String {
    match nulls_agree {
        true => {
            format!("(({element}) {operator} {other} or ({element}) is null and {other} is null)")
        }
        false => format!("({element}) {operator} {other}"),
    }
}
