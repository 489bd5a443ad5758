//! What the constraints of the destinations ask of the changes that wait, found by a few queries for each
//! mapping: the work grows with the number of changes, not with its square.
//!
//! | constraint | asked |
//! |---|---|
//! | foreign key | whether the row is there that a change refers to |
//! | foreign key of another table | which rows refer to the row that goes, or changes what they refer to |
//! | unique index, exclusion constraint | which rows have, now, what a change is to have; which changes are to have the same |

#![forbid(unsafe_code)]

mod table;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

use pgrx::pg_sys::{self, Datum};

use super::pending::Pending;
use super::solve::{Blocked, Drop, Node, RowNo, Token};
use super::together::{is_move, may_be_deleted};
use crate::blame::{Verdict, cause, forgive};
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::constraints::{Constraints, Exclusion, ForeignKey};
use crate::destination::{Action, Destination, Referrer};
use crate::error::SqlError;
use crate::key::{self, KeyColumn, value_key};
use crate::mapping::{Mapping, Mode};
use crate::outcome::Wait;
use crate::pg::spi::Returned;
use crate::pg::subtransaction::subtransaction;
use crate::pg::user::ActingAs;
use crate::prepared::RowReader;
use crate::stop::Stop;
use table::{Image, Table, quote};

/// Where a change is: the number of its mapping, of its unit among those that wait, and its own in the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub mapping: usize,
    pub unit: usize,
    pub net: usize,
}

/// A row: its table and its key as bytes, the key's columns in the order of the table. Rows of a table that no
/// mapping writes have no key.
type Row = (pg_sys::Oid, Vec<u8>);

/// What a foreign key refers to: a table, columns in the order of the table, their values as bytes.
type Value = (pg_sys::Oid, Rc<[String]>, Vec<u8>);

/// A row that has what a change is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub row: RowNo,
    /// The columns of the unique index or exclusion constraint; empty if it has expressions.
    pub columns: Vec<String>,
}

/// What the constraints ask.
#[derive(Default)]
pub struct Facts {
    /// The changes.
    pub nodes: Vec<Node>,
    /// Where each is.
    pub places: Vec<Place>,
    /// Whether the row of each is there now.
    pub there: Vec<bool>,
    /// Rows that have what other changes are to have.
    pub holders: Vec<Holder>,
    /// What each takes away that foreign keys refer to whose `on delete` (of a row that goes) or `on update` (of a row
    /// that stays) is not `no action`.
    pub acts: Vec<Vec<Token>>,
    rows: Numbers<Row>,
    values: Numbers<Value>,
    /// Primary keys of tables that foreign keys refer to. To load one takes half a millisecond, and each change that
    /// waits asks for it.
    primary_keys: RefCell<HashMap<pg_sys::Oid, Option<Vec<String>>>>,
}

/// Things by number.
struct Numbers<T> {
    by_thing: HashMap<T, u32>,
    things: Vec<T>,
}

impl<T> Default for Numbers<T> {
    fn default() -> Self {
        Numbers {
            by_thing: HashMap::new(),
            things: Vec::new(),
        }
    }
}

impl<T: Hash + Eq + Clone> Numbers<T> {
    fn of(&mut self, thing: T) -> u32 {
        if let Some(number) = self.by_thing.get(&thing) {
            return *number;
        }
        let number = self.things.len() as u32;
        self.things.push(thing.clone());
        self.by_thing.insert(thing, number);
        number
    }
}

/// Whether the solver can help a unit: it failed for a constraint, or it has not been tried.
pub fn takes_part(changes: &Changes<'_>, held: &Pending) -> bool {
    changes.target.mapping.mode == Mode::Upsert
        && (held.written.is_none() || cause(&held.error) == Verdict::AnotherRow)
}

impl Facts {
    /// Finds out what the constraints ask of the changes that wait.
    pub fn of(
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
                    facts.nodes.push(Node {
                        row: facts.rows.of((
                            changes.target.destination.oid,
                            changes.table_key(net.run.start),
                        )),
                        unit: units,
                        rank: version.map_or((0, net.message.0), |v| (v.lsn, v.idx)),
                        ..Node::default()
                    });
                }
                units += 1;
            }
            if nets.is_empty() {
                continue;
            }
            let _owner = changes.acting_as_owner();
            let collected = Collector {
                facts: &mut facts,
                changes,
                mappings,
                counts: &counts,
                first,
                moved: HashMap::new(),
            }
            .collect(&nets);
            if let Err(error) = collected {
                forgive(error, &changes.target.mapping)?;
            }
            facts.there.resize(facts.nodes.len(), false);
            facts.acts.resize(facts.nodes.len(), Vec::new());
        }
        Ok(facts)
    }

    /// What a change waits for.
    pub fn wait(&self, blocked: Blocked, all: &[Changes<'_>], mappings: &[Mapping]) -> Wait {
        let of_row = |row: RowNo| {
            let (table, key) = &self.rows.things[row as usize];
            Wait::of(*table, (!key.is_empty()).then(|| key.clone()))
        };
        match blocked {
            Blocked::Held(row) => of_row(row),
            Blocked::Excluded(node) | Blocked::Unit(node) => of_row(self.nodes[node].row),
            Blocked::Missing(token) => {
                let (table, ..) = &self.values.things[token as usize];
                let value = self.value(token, all, mappings);
                Wait::of(*table, Some(value.unwrap_or_else(|key| key)))
            }
            Blocked::Referenced(row, token) => {
                let mut wait = of_row(row);
                if let Wait::Row { or, .. } = &mut wait {
                    *or = self.value(token, all, mappings).ok();
                }
                wait
            }
        }
    }

    /// A value that foreign keys refer to, as letters name it. `Err`: it is the key of a row.
    fn value(
        &self,
        token: Token,
        all: &[Changes<'_>],
        mappings: &[Mapping],
    ) -> Result<Vec<u8>, Vec<u8>> {
        let (table, columns, bytes) = &self.values.things[token as usize];
        let is_key = |key: &[String]| {
            key.len() == columns.len() && key.iter().all(|name| columns.contains(name))
        };
        // A row is known by the key of its mapping.
        let mut of_table = mappings.iter().filter(|m| m.destination_oid() == Some(*table));
        let known = of_table.any(|mapping| match &mapping.key {
            Some(key) => is_key(key),
            None => {
                let mut known = self.primary_keys.borrow_mut();
                let key = known.entry(*table).or_insert_with(|| primary_key(all, *table));
                key.as_ref().is_some_and(|key| is_key(key))
            }
        });
        match known {
            true => Err(bytes.clone()),
            false => Ok(value_key(columns.iter().map(String::as_str), bytes)),
        }
    }
}

fn primary_key(all: &[Changes<'_>], table: pg_sys::Oid) -> Option<Vec<String>> {
    let mut known = all.iter().map(|changes| &changes.target.destination);
    match known.find(|destination| destination.oid == table) {
        Some(destination) => Some(destination.primary_key().to_vec()),
        None => Destination::load(table).map(|destination| destination.primary_key().to_vec()),
    }
}

/// The collecting of what is asked of one mapping's changes.
struct Collector<'c, 'b> {
    facts: &'c mut Facts,
    changes: &'c Changes<'b>,
    mappings: &'c [Mapping],
    /// How many changes of each table wait at most.
    counts: &'c HashMap<pg_sys::Oid, usize>,
    /// The number of the mapping's first node.
    first: usize,
    /// Rows that are updated to another key: the number of the old key's change, and that of the new one's.
    moved: HashMap<usize, usize>,
}

impl Collector<'_, '_> {
    fn collect(&mut self, nets: &[&NetChange]) -> Result<(), SqlError> {
        let constraints = Constraints::load(self.changes.target.destination.oid);
        let table = subtransaction(|| Table::read(self.changes, &constraints, nets))?;
        self.find_moves(&table, nets);
        for (n, now) in table.now.iter().enumerate() {
            self.facts.there.push(now.is_some());
            self.facts.acts.push(Vec::new());
            self.facts.nodes[self.first + n].present = table.then[n].is_some();
        }
        // Without a privilege, say, the server decides when the changes are written.
        for key in &constraints.foreign_keys {
            self.unless_denied(|this| this.needs(&table, key))?;
        }
        for referrer in &self.changes.target.destination.referrers {
            self.unless_denied(|this| this.referred_to(&table, referrer))?;
        }
        for exclusion in &constraints.exclusions {
            if !self.is_of_key(exclusion) {
                self.unless_denied(|this| this.held(&table, exclusion))?;
                self.unless_denied(|this| this.shared(&table, exclusion))?;
            }
        }
        Ok(())
    }

    /// Notes which rows are updated to another key.
    fn find_moves(&mut self, table: &Table<'_>, nets: &[&NetChange]) {
        for n in 1..nets.len() {
            let (mut old, mut new) = (n - 1, n);
            let nodes = &self.facts.nodes[self.first..];
            if nodes[old].unit != nodes[new].unit {
                continue;
            }
            if nets[old].present() {
                std::mem::swap(&mut old, &mut new);
            }
            let there = |n: usize| (nets[n], table.now[n].is_some());
            if is_move(table.target, there(old), there(new)) {
                self.moved.insert(old, new);
            }
        }
    }

    fn unless_denied(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mapping = &self.changes.target.mapping;
        match subtransaction(|| work(self)) {
            Ok(()) => Ok(()),
            Err(error) => forgive(error, mapping),
        }
    }

    fn is_of_key(&self, exclusion: &Exclusion) -> bool {
        let target = &self.changes.target;
        exclusion.predicate.is_none()
            && !exclusion.of_operators
            && exclusion.columns.len() == target.key.len()
            && target
                .key
                .iter()
                .all(|&i| exclusion.columns.contains(&target.columns[i].name))
    }

    /// What rows refer to by a foreign key.
    fn needs(&mut self, table: &Table<'_>, key: &ForeignKey) -> Result<(), SqlError> {
        let columns: Option<Vec<usize>> =
            key.columns.iter().map(|c| table.column(&c.of)).collect();
        let Some(columns) = columns else {
            return Ok(());
        };
        let join = |part: &dyn Fn(&crate::destination::constraints::Reference) -> String, by: &str| {
            key.columns.iter().map(part).collect::<Vec<_>>().join(by)
        };
        let n = table.number();
        let query = format!(
            "select x.{n}, exists (select from {} p where {}), {} from x where {}",
            key.parent_name,
            join(
                &|c| format!("p.{} {} x.{}", quote(&c.to), c.operator, quote(&c.of)),
                " and "
            ),
            join(&|c| format!("x.{}::{}", quote(&c.of), c.type_name), ", "),
            join(&|c| format!("x.{} is not null", quote(&c.of)), " and "),
        );
        let found = {
            let _owner = ActingAs::untrusted(key.parent_owner);
            table.ask_of_all(&columns, &query)?
        };
        let names: Rc<[String]> = key.columns.iter().map(|c| c.to.clone()).collect();
        let encoding = encoding(&found, 2, &collations(key.parent, &names));
        let mut row = RowReader::new(&found);
        while row.next() {
            let mut bytes = Vec::new();
            key::encode(&encoding, row.datums_from(2), &mut bytes);
            let token = self
                .facts
                .values
                .of((key.parent, Rc::clone(&names), bytes));
            let there = row.bool(1) == Some(true);
            self.facts.nodes[self.first + row.index(0)]
                .needs
                .push((token, there));
        }
        Ok(())
    }

    /// What other rows can refer to, or do refer to and cannot afterwards.
    fn referred_to(&mut self, table: &Table<'_>, referrer: &Referrer) -> Result<(), SqlError> {
        let mut parts: Vec<(usize, &(String, String, String))> = Vec::new();
        for part in &referrer.columns {
            let Some(column) = table.column(&part.1) else {
                return Ok(());
            };
            parts.push((column, part));
        }
        parts.sort_by_key(|(column, _)| *column);
        let columns: Vec<usize> = parts.iter().map(|(column, _)| *column).collect();
        let names: Rc<[String]> = parts.iter().map(|(_, part)| part.1.clone()).collect();
        let oid = self.changes.target.destination.oid;
        let mut dropped: Vec<(usize, Token)> = Vec::new();
        for n in 0..table.now.len() {
            let mut token = |image: &Option<Image>| {
                let bytes = table.bytes(image.as_ref()?, &columns)?;
                Some(self.facts.values.of((oid, Rc::clone(&names), bytes)))
            };
            let (now, then) = (token(&table.now[n]), token(&table.then[n]));
            let after = match self.moved.get(&n) {
                Some(new) => token(&table.then[*new]),
                None => then,
            };
            let stays = table.then[n].is_some() || self.moved.contains_key(&n);
            let node = &mut self.facts.nodes[self.first + n];
            if let Some(then) = then
                && !node.gives.contains(&then)
            {
                node.gives.push(then);
            }
            if let Some(now) = now
                && Some(now) != after
            {
                dropped.push((n, now));
                let action = match stays {
                    true => referrer.on_update,
                    false => referrer.on_delete,
                };
                if action != Action::Nothing {
                    self.facts.acts[self.first + n].push(now);
                }
            }
        }
        // What the server does to the rows of tables that no mapping writes is right.
        let mapped = self.changes.intake.call.mapped.contains(&referrer.oid);
        if !mapped {
            let stays = |n: usize| table.then[n].is_some() || self.moved.contains_key(&n);
            let action = |n: usize| match stays(n) {
                true => referrer.on_update,
                false => referrer.on_delete,
            };
            dropped.retain(|(n, _)| action(*n) != Action::Cascade);
        }
        if dropped.is_empty() {
            return Ok(());
        }
        let child_key = self.child_key(referrer);
        let list: Vec<String> = match &child_key {
            Some((names, _)) => names.iter().map(|name| format!("c.{}", quote(name))).collect(),
            None => vec![String::from("1")],
        };
        let refers: Vec<String> = parts
            .iter()
            .map(|(_, (of, to, operator))| format!("x.{} {operator} c.{}", quote(to), quote(of)))
            .collect();
        let n = table.number();
        let most = self.counts.get(&referrer.oid).copied().unwrap_or(0) + 1;
        let query = format!(
            "select x.{n}, c.* from x cross join lateral \
             (select {} from {} c where {} limit {most}) c",
            list.join(", "),
            referrer.name,
            refers.join(" and "),
        );
        let found = {
            let _owner = ActingAs::untrusted(referrer.owner);
            let images = dropped
                .iter()
                .filter_map(|(n, _)| Some((*n, table.now[*n].as_ref()?)));
            table.ask(&columns, images, &query)?
        };
        let mut children: HashMap<usize, Vec<RowNo>> = HashMap::new();
        let mut row = RowReader::new(&found);
        while row.next() {
            let mut bytes = Vec::new();
            if let Some((_, encoding)) = &child_key {
                key::encode(encoding, row.datums_from(1), &mut bytes);
            }
            let child = self.facts.rows.of((referrer.oid, bytes));
            children.entry(row.index(0)).or_default().push(child);
        }
        for (n, token) in dropped {
            let children = children.remove(&n).unwrap_or_default();
            let node = &mut self.facts.nodes[self.first + n];
            let strict = match node.present || self.moved.contains_key(&n) {
                // Else it is deleted and inserted again.
                true => referrer.on_update != Action::Nothing && !may_be_deleted(table.target),
                false => referrer.on_delete != Action::Nothing,
            };
            match node.drops.iter_mut().find(|drop| drop.token == token) {
                Some(drop) => {
                    drop.children.extend(children);
                    drop.strict |= strict;
                }
                None => node.drops.push(Drop {
                    token,
                    children,
                    strict,
                }),
            }
        }
        Ok(())
    }

    /// The key of the rows that refer by a foreign key: the names of its columns in the order of the table, and
    /// how they become bytes. `None` if no mapping writes that table.
    fn child_key(&self, referrer: &Referrer) -> Option<(Vec<String>, Vec<KeyColumn>)> {
        let mut mappings = self.mappings.iter();
        let mapping = mappings.find(|m| m.destination_oid() == Some(referrer.oid))?;
        let child = Destination::load(referrer.oid)?;
        let key = mapping.key_of(&child);
        let columns: Vec<_> = child
            .columns
            .iter()
            .filter(|column| key.contains(&column.name))
            .collect();
        (!columns.is_empty()).then(|| {
            columns
                .iter()
                .map(|c| (c.name.clone(), KeyColumn::new(c.type_oid, c.collation)))
                .unzip()
        })
    }

    /// Which rows have, now, what changes are to have.
    fn held(&mut self, table: &Table<'_>, exclusion: &Exclusion) -> Result<(), SqlError> {
        let target = table.target;
        let n = table.number();
        let order: Vec<usize> = target.table_order();
        let key: Vec<_> = order.iter().map(|&i| target.key_sql()[i]).collect();
        let mut inner: Vec<String> = Vec::new();
        let mut list: Vec<String> = vec![format!("x.{n}")];
        for (i, (element, operator)) in exclusion.elements.iter().enumerate() {
            list.push(format!("({element}) as {n}e{i}"));
            inner.push(same(element, operator, &format!("e.{n}e{i}"), exclusion.nulls_agree));
        }
        for (i, column) in key.iter().enumerate() {
            list.push(format!("x.{} as {n}k{i}", column.name));
        }
        let itself: Vec<String> = key
            .iter()
            .enumerate()
            .map(|(i, column)| format!("d.{} {} e.{n}k{i}", column.name, column.equals))
            .collect();
        inner.push(format!("not ({})", itself.join(" and ")));
        let mut outer = String::new();
        if let Some(predicate) = &exclusion.predicate {
            inner.push(format!("({predicate})"));
            outer = format!(" where ({predicate})");
        }
        let names: Vec<String> = key.iter().map(|column| format!("d.{}", column.name)).collect();
        let query = format!(
            "select e.{n}, d.* from (select {} from x{outer} offset 0) e cross join lateral \
             (select {} from {} d where {} offset 0) d",
            list.join(", "),
            names.join(", "),
            target.relation().name,
            inner.join(" and "),
        );
        let columns = self.columns_of(table, exclusion);
        let found = table.ask_of_all(&columns, &query)?;
        let encoding: Vec<KeyColumn> = order
            .iter()
            .map(|&i| &target.columns[target.key[i]].row)
            .map(|column| KeyColumn::new(column.type_oid, column.collation))
            .collect();
        let mut row = RowReader::new(&found);
        while row.next() {
            let mut bytes = Vec::new();
            key::encode(&encoding, row.datums_from(1), &mut bytes);
            let holder = self.facts.rows.of((target.destination.oid, bytes));
            let node = &mut self.facts.nodes[self.first + row.index(0)];
            if !node.displaces.contains(&holder) {
                node.displaces.push(holder);
            }
            let holder = Holder {
                row: holder,
                columns: exclusion.columns.clone(),
            };
            if !self.facts.holders.contains(&holder) {
                self.facts.holders.push(holder);
            }
        }
        Ok(())
    }

    /// Which changes are to have the same.
    fn shared(&mut self, table: &Table<'_>, exclusion: &Exclusion) -> Result<(), SqlError> {
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
        let columns = self.columns_of(table, exclusion);
        if !exclusion.of_operators {
            let found = table.ask_of_all(&columns, &rows)?;
            let collations: Vec<pg_sys::Oid> = exclusion
                .columns
                .iter()
                .filter_map(|name| table.column(name))
                .map(|i| table.columns[i].collation)
                .collect();
            let encoding = encoding(&found, 1, &collations);
            let mut row = RowReader::new(&found);
            let mut by_value: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
            while row.next() {
                let values: Vec<Option<Datum>> =
                    (0..encoding.len()).map(|i| row.datum(i + 1)).collect();
                if !exclusion.nulls_agree && values.contains(&None) {
                    continue;
                }
                let mut bytes: Vec<u8> = values.iter().map(|v| u8::from(v.is_none())).collect();
                let values: Vec<Datum> = values.iter().map(|v| v.unwrap_or(Datum::null())).collect();
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
            for same in by_value.into_values() {
                for (at, &a) in same.iter().enumerate() {
                    for &b in &same[at + 1..] {
                        self.exclude(a, b);
                    }
                }
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
            ", e as materialized ({rows}) select a.{n}, b.{n} from e a join e b on a.{n} < b.{n} and {}",
            both.join(" and ")
        );
        let found = table.ask_of_all(&columns, &query)?;
        let mut row = RowReader::new(&found);
        while row.next() {
            self.exclude(row.index(0), row.index(1));
        }
        Ok(())
    }

    fn exclude(&mut self, a: usize, b: usize) {
        let (a, b) = (self.first + a, self.first + b);
        for (node, other) in [(a, b), (b, a)] {
            let excludes = &mut self.facts.nodes[node].excludes;
            if !excludes.contains(&other) {
                excludes.push(other);
            }
        }
    }

    /// The columns that an index reads, and the key's.
    fn columns_of(&self, table: &Table<'_>, exclusion: &Exclusion) -> Vec<usize> {
        let target = &self.changes.target;
        let is_key = |name: &String| target.key.iter().any(|&i| target.columns[i].name == *name);
        (0..table.columns.len())
            .filter(|&i| {
                let name = &table.columns[i].name;
                exclusion.reads.contains(name) || is_key(name)
            })
            .collect()
    }
}

fn same(element: &str, operator: &str, other: &str, nulls_agree: bool) -> String {
    match nulls_agree {
        true => format!(
            "(({element}) {operator} {other} or ({element}) is null and {other} is null)"
        ),
        false => format!("({element}) {operator} {other}"),
    }
}

/// How the columns that a query returned from this one on become bytes.
fn encoding(found: &Returned, from: usize, collations: &[pg_sys::Oid]) -> Vec<KeyColumn> {
    let types = found.types().into_iter().skip(from).enumerate();
    types
        .map(|(i, type_oid)| {
            let collation = collations.get(i).copied().unwrap_or(pg_sys::InvalidOid);
            KeyColumn::new(type_oid, collation)
        })
        .collect()
}

/// The collations of columns of a table.
fn collations(table: pg_sys::Oid, names: &[String]) -> Vec<pg_sys::Oid> {
    let table = Destination::load(table);
    names
        .iter()
        .map(|name| {
            let column = table.as_ref().and_then(|table| table.column(name));
            column.map_or(pg_sys::InvalidOid, |column| column.collation)
        })
        .collect()
}
