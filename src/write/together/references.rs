//! Rows give up their references to a value before it goes from one row to another, and get them back after.
//!
//! A foreign key acts on the rows that refer to a value when the value's row loses it (`restrict`, `cascade`, `set
//! null`), although another row has the value when the statement ends. If the foreign key has a nullable column, a
//! statement before the joint statement makes the references null. A statement after it restores them. The foreign key
//! finds no referring row in between. This serves rows that have no waiting change too: the role that writes them for
//! their own mapping writes these two updates.
//!
//! The rows that lose the value are locked before, so no other session adds a reference. Then a query makes sure that no
//! reference is left: another session may have changed a row meanwhile.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::Datum;
use pgrx::spi::quote_identifier as quote;

use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::{Column, Referrer};
use crate::error::{Error, SqlError};
use crate::key;
use crate::pg::spi::Returned;
use crate::pg::tuples::RowColumn;
use crate::pg::user::ActingAs;
use crate::prepared::{BatchRow, Recent, RowReader};
use crate::statement::{self, Input, free_name};
use crate::target::equality_operators;
use crate::write::graph::{Graph, References, net_of};
use crate::write::keys::{by_key, lock_rows, read_rows};
use crate::write::pending::Pending;

/// The most rows of a foreign key that give their references up. They are held in memory, and written twice.
const MOST_ROWS: usize = 10_000;

/// The references that rows give up for a component.
#[derive(Default)]
pub(super) struct GivenUp<'g> {
    /// The foreign keys, each with the nodes of the rows whose values go to other rows.
    of: Vec<(&'g References, Vec<usize>)>,
    /// The references that waiting changes bring. They are null until the joint statement has run.
    withheld: Vec<Withheld>,
}

/// A reference that a waiting change brings.
struct Withheld {
    node: usize,
    /// The number of the column in the change's target.
    column: usize,
    reference: Datum,
}

/// The references that rows of a table gave up.
pub(super) struct Taken<'g> {
    references: &'g References,
    /// The rows: their keys, then their references.
    rows: Returned,
    /// What gets the reference of each row back.
    back: Vec<Back>,
}

/// What gets a reference back.
enum Back {
    /// The row that gave it up: no waiting change writes it.
    Itself,
    /// The row of this node.
    Node(usize),
    /// Nothing: the row is gone, or a waiting change brings another reference.
    Nothing,
}

impl<'g> GivenUp<'g> {
    /// Finds the references that rows give up so that these nodes can be written, and makes them null in the waiting
    /// changes.
    pub fn withhold(
        all: &mut [Changes<'_>],
        pending: &[Vec<Pending>],
        graph: &'g Graph,
        nodes: &[usize],
    ) -> GivenUp<'g> {
        let (of, values) = handed_on(graph, nodes);
        let mut withheld = Vec::new();
        for &node in nodes {
            let (place, net) = (graph.places[node], net_of(pending, graph.places[node]));
            let mut needs = graph.nodes[node].needs.iter();
            if net.is_untouched() || !needs.any(|(value, _)| values.contains(value)) {
                continue;
            }
            let changes = &mut all[place.mapping];
            for (references, _) in &of {
                let target = &changes.target;
                let column = target.column_number(&references.column);
                if references.referrer.oid == target.destination.oid
                    && let Some(column) = column.filter(|&column| net.has(column))
                    && let Some(reference) = changes.nets.values.get(net.row, column)
                {
                    changes.nets.values.clear(net.row, column);
                    withheld.push(Withheld {
                        node,
                        column,
                        reference,
                    });
                }
            }
        }
        GivenUp { of, withheld }
    }

    /// Whether the rows that refer to a mapping's rows by a foreign key give their references up.
    pub fn gives_up(&self, mapping: usize, referrer: &Referrer) -> bool {
        let name = |of: &Referrer| (of.oid, &of.constraint) == (referrer.oid, &referrer.constraint);
        let mut of = self.of.iter();
        of.any(|(of, _)| of.mapping == mapping && name(&of.referrer))
    }

    /// Brings the withheld references back into the waiting changes.
    pub fn restore(&self, all: &mut [Changes<'_>], pending: &[Vec<Pending>], graph: &Graph) {
        for withheld in &self.withheld {
            let place = graph.places[withheld.node];
            let net = net_of(pending, place);
            let values = &mut all[place.mapping].nets.values;
            values.put(net.row, withheld.column, withheld.reference);
        }
    }

    /// Makes the references of existing rows null.
    pub fn take(
        &self,
        all: &[Changes<'_>],
        pending: &[Vec<Pending>],
        graph: &Graph,
        nodes: &[usize],
    ) -> Result<Vec<Taken<'g>>, SqlError> {
        let mut by_row: HashMap<u32, usize> = HashMap::new();
        for &node in nodes {
            by_row.insert(graph.nodes[node].row, node);
        }
        let mut taken = Vec::with_capacity(self.of.len());
        for (references, losing) in &self.of {
            let losing = losing.iter();
            let losing: Vec<&NetChange> = losing
                .map(|&node| net_of(pending, graph.places[node]))
                .collect();
            let rows = take(&all[references.mapping], references, &losing)?;
            taken.push(Taken::of(all, pending, graph, references, rows, &by_row));
        }
        Ok(taken)
    }

    /// Gives the references back, after the joint statement.
    pub fn give_back(
        &self,
        all: &[Changes<'_>],
        pending: &[Vec<Pending>],
        graph: &Graph,
        taken: &[Taken<'_>],
    ) -> Result<(), SqlError> {
        let mut by_column: HashMap<(usize, usize), Vec<(usize, Datum)>> = HashMap::new();
        let mut back = |node: usize, column: usize, reference: Datum| {
            let column = (graph.places[node].mapping, column);
            let rows = by_column.entry(column).or_default();
            rows.push((node, reference));
        };
        for withheld in &self.withheld {
            back(withheld.node, withheld.column, withheld.reference);
        }
        for taken in taken {
            let column = &taken.references.column;
            let mut row = RowReader::new(&taken.rows);
            for to in &taken.back {
                row.next();
                if let Back::Node(node) = *to
                    && let Some(reference) = row.datum(taken.references.key.0.len())
                {
                    let target = &all[graph.places[node].mapping].target;
                    match target.column_number(column) {
                        Some(column) => back(node, column, reference),
                        None => return Err(Error::RowsWent.into()),
                    }
                }
            }
            taken.give_back()?;
        }
        for ((mapping, column), rows) in by_column {
            let changes = &all[mapping];
            let _owner = changes.acting_as_owner();
            let target = &changes.target;
            let mut columns = target.key_sql();
            columns.push(&target.columns[column].sql);
            let sql = statement::update(
                Input::Batch,
                &target.relation(),
                &columns,
                &target.key_sql(),
                &[],
            );
            let mut row = target.numbered_key();
            row.push(target.columns[column].row.clone());
            let numbered = rows.iter().enumerate();
            let updated = Recent::new(sql, &row)?.query(numbered, |(n, (node, reference))| {
                let net = net_of(pending, graph.places[*node]);
                let mut row = by_key(target, &changes.nets.values, n, net);
                row.push(Some(*reference));
                row
            })?;
            if updated.len() < rows.len() {
                return Err(Error::RowsWent.into());
            }
        }
        Ok(())
    }
}

/// The foreign keys that refer to values that go from one of the nodes to another, each with the nodes that lose
/// such a value; and the values.
fn handed_on<'g>(
    graph: &'g Graph,
    nodes: &[usize],
) -> (Vec<(&'g References, Vec<usize>)>, HashSet<u32>) {
    let in_set: HashSet<usize> = nodes.iter().copied().collect();
    let given = nodes.iter().flat_map(|&node| &graph.nodes[node].gives);
    let given: HashSet<u32> = given.copied().collect();
    let mut values = HashSet::new();
    let mut of = Vec::new();
    for references in &graph.references {
        let drops = references.drops.iter();
        let handed_on =
            drops.filter(|(node, value)| in_set.contains(node) && given.contains(value));
        let (losing, handed_on): (Vec<usize>, Vec<u32>) = handed_on.copied().unzip();
        if !losing.is_empty() {
            values.extend(handed_on);
            of.push((references, losing));
        }
    }
    (of, values)
}

/// Whether referring rows can give references up for these nodes.
pub fn can_give_up_references(graph: &Graph, nodes: &[usize]) -> bool {
    let given = nodes.iter().flat_map(|&node| &graph.nodes[node].gives);
    let given: HashSet<u32> = given.copied().collect();
    let mut drops = nodes.iter().flat_map(|&node| &graph.nodes[node].drops);
    drops.any(|drop| drop.releasable && given.contains(&drop.value))
}

/// A batch relation of these columns after a number: the name of the number, the column definition list, and the types.
fn numbered(columns: &[&Column]) -> (String, String, Vec<RowColumn>) {
    let n = free_name("sequin_n", columns.iter().map(|c| c.name.as_str()));
    let mut definition = format!("{n} integer");
    let mut row = vec![RowColumn::number(&n)];
    for column in columns {
        definition += &format!(", {}", column.definition());
        row.push(column.row());
    }
    (n, definition, row)
}

/// Makes the references to the rows of these changes null. Returns the keys and the former references of the rows
/// that had them.
fn take(
    changes: &Changes<'_>,
    references: &References,
    losing: &[&NetChange],
) -> Result<Returned, SqlError> {
    let (target, referrer) = (&changes.target, &references.referrer);
    let column = |name: &String| target.destination.column(name);
    let referred: Option<Vec<&Column>> = referrer
        .columns
        .iter()
        .map(|(_, to, _)| column(to))
        .collect();
    let referred = referred.ok_or(Error::RowsWent)?;
    let found = {
        let _owner = changes.acting_as_owner();
        if lock_rows(target, &changes.nets.values, losing)? < losing.len() {
            return Err(Error::RowsWent.into());
        }
        let losing = losing.iter().copied();
        read_rows(target, &changes.nets.values, &referred, losing)?
    };
    let (_, definition, row) = numbered(&referred);
    let refers = referrer.columns.iter().map(|(of, to, equality)| {
        equality.sql(&format!("x.{}", quote(to)), &format!("c.{}", quote(of)))
    });
    let refers: Vec<String> = refers.collect();
    let refers = refers.join(" and ");
    let x = format!("x as materialized (select * from sequin_internal.batch() x({definition}))");
    let names = references.key.0.iter().chain([&references.column]);
    let list = |alias: &str, as_: &dyn Fn(usize) -> String| {
        let names = names.clone().enumerate();
        let list = names.map(|(i, name)| format!("{alias}.{}{}", quote(name), as_(i)));
        list.collect::<Vec<_>>().join(", ")
    };
    let former = (0..references.key.0.len() + 1).map(|i| format!("o.k{i}"));
    let sql = format!(
        "with {x}, \
         o as materialized (select c.tableoid as t, c.ctid as i, {} from x join {child} c on {refers} \
         limit {} for update of c) \
         update {child} d set {} = null from o \
         where d.ctid operator(pg_catalog.=) o.i and d.tableoid operator(pg_catalog.=) o.t returning {}",
        list("c", &|i| format!(" as k{i}")),
        MOST_ROWS + 1,
        quote(&references.column),
        former.collect::<Vec<_>>().join(", "),
        child = referrer.name,
    );
    let mut values: Vec<BatchRow> = Vec::with_capacity(found.len());
    let mut reader = RowReader::new(&found);
    while reader.next() {
        let referred = (0..referred.len()).map(|i| reader.datum(i + 1));
        let n = Datum::from(values.len() as i32);
        values.push(std::iter::once(Some(n)).chain(referred).collect());
    }
    let _writer = ActingAs::untrusted(references.writer);
    let taken = Recent::new(sql, &row)?.query(values.iter(), |row| row.clone())?;
    let left = format!(
        "with {x} select from x join {} c on {refers} limit 1",
        referrer.name
    );
    let left = Recent::new(left, &row)?.query(values.iter(), |row| row.clone())?;
    match left.len() > 0 || taken.len() > MOST_ROWS {
        true => Err(Error::RowsWent.into()),
        false => Ok(taken),
    }
}

impl<'g> Taken<'g> {
    /// `by_row`: the nodes of the component, by their rows.
    fn of(
        all: &[Changes<'_>],
        pending: &[Vec<Pending>],
        graph: &Graph,
        references: &'g References,
        rows: Returned,
        by_row: &HashMap<u32, usize>,
    ) -> Taken<'g> {
        let (names, encoding) = references.key.as_ref();
        let mut back = Vec::with_capacity(rows.len());
        let mut row = RowReader::new(&rows);
        while row.next() {
            let values: Option<Vec<Datum>> = (0..names.len()).map(|i| row.datum(i)).collect();
            let mut bytes = Vec::new();
            if let Some(values) = values {
                key::encode(encoding, &values, &mut bytes);
            }
            let known = graph.rows.known(&(references.keyed, bytes));
            let node = known.and_then(|row| by_row.get(&row)).copied();
            let node = node.map(|node| graph.moved.get(&node).copied().unwrap_or(node));
            back.push(match node {
                None => Back::Itself,
                Some(node) => {
                    let place = graph.places[node];
                    let (net, target) = (net_of(pending, place), &all[place.mapping].target);
                    let column = target.column_number(&references.column);
                    let brings =
                        column.is_some_and(|column| net.has(column)) && !net.is_untouched();
                    match graph.nodes[node].present && !brings {
                        true => Back::Node(node),
                        false => Back::Nothing,
                    }
                }
            });
        }
        drop(row);
        Taken {
            references,
            rows,
            back,
        }
    }

    /// Gives the references back to the rows without a waiting change.
    fn give_back(&self) -> Result<(), SqlError> {
        let child = &self.references.child;
        let names = &self.references.key.0;
        let columns = names.iter().chain([&self.references.column]);
        let columns: Option<Vec<&Column>> = columns.map(|name| child.column(name)).collect();
        let columns = columns.ok_or(Error::RowsWent)?;
        let (n, definition, row) = numbered(&columns);
        let same = names.iter().zip(equality_operators(child, names));
        let same = same.map(|(name, equals)| format!("d.{0} {equals} b.{0}", quote(name)));
        let sql = format!(
            "update {} d set {column} = b.{column} from sequin_internal.batch() b({definition}) where {} returning b.{n}",
            self.references.referrer.name,
            same.collect::<Vec<_>>().join(" and "),
            column = quote(&self.references.column),
        );
        let mut rows: Vec<BatchRow> = Vec::new();
        let mut reader = RowReader::new(&self.rows);
        for to in &self.back {
            reader.next();
            if matches!(to, Back::Itself) {
                let values = (0..columns.len()).map(|i| reader.datum(i));
                let n = Datum::from(rows.len() as i32);
                rows.push(std::iter::once(Some(n)).chain(values).collect());
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        let count = rows.len();
        let _writer = ActingAs::untrusted(self.references.writer);
        let updated = Recent::new(sql, &row)?.query(rows.into_iter(), |row| row)?;
        match updated.len() == count {
            true => Ok(()),
            false => Err(Error::RowsWent.into()),
        }
    }
}
