//! Foreign keys: which rows the changes of one mapping refer to, and which rows refer to theirs.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::spi::quote_identifier as quote;

use super::table::{Image, Table};
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::constraints::{ForeignKey, Reference};
use crate::destination::{Action, Destination, Equality, Referrer};
use crate::error::SqlError;
use crate::key::{self, KeyColumn};
use crate::mapping::Mapping;
use crate::mapping::grants::writer;
use crate::pg::links::{TriggerRow, is_of_update, triggers};
use crate::pg::subtransaction::subtransaction;
use crate::pg::user::ActingAs;
use crate::prepared::RowReader;
use crate::write::delete_or_move::{is_move, may_be_deleted};
use crate::write::keys::{collations, encoding};
use crate::write::solve::{Dropped, RowNo, ValueNo};

use super::givers::Givers;
use super::{Acting, ChildKey, Graph, References};

/// Adds the changes of one mapping to the graph.
pub struct Collector<'c, 'b> {
    pub graph: &'c mut Graph,
    pub changes: &'c Changes<'b>,
    pub mappings: &'c [Mapping],
    /// For each table, at least the number of its waiting changes.
    pub counts: &'c HashMap<pg_sys::Oid, usize>,
    /// The number of the mapping's first node.
    pub first: usize,
    /// The mapping's changes of each unit, once units are joined; counted from `first`.
    pub units: HashMap<usize, Vec<usize>>,
}

/// The columns that a foreign key refers to, in the order of the table: their numbers, and for each the names of the
/// referring and the referred column with how the foreign key compares them.
type Referred<'r> = (&'r [usize], &'r [&'r (String, String, Equality)]);

/// What becomes of the row of a change, as a foreign key to it sees it.
struct Fate {
    /// Whether the row exists before and after, and is not deleted in between.
    stays: bool,
    /// What the foreign key does when the row loses a value.
    action: Action,
    /// The change whose values the row has afterwards: its own, or that of the key that it moves to.
    becomes: Option<usize>,
}

impl Collector<'_, '_> {
    /// Finds the rows that an update moves to another key, and joins the two changes of each to one unit. They may be
    /// in two units, because later messages may have decided them.
    pub fn find_moves(&mut self, table: &Table<'_>, nets: &[&NetChange]) {
        if may_be_deleted(table.target) {
            return;
        }
        let by_run: HashMap<u32, usize> = nets
            .iter()
            .enumerate()
            .map(|(n, net)| (net.run.start, n))
            .collect();
        let givers = Givers::of(table);
        for old in 0..nets.len() {
            let Some(new) = self.new_key(nets, &by_run, old) else {
                continue;
            };
            if givers.replaces(table, old, new) {
                continue;
            }
            let there = |n: usize| (nets[n], table.now[n].is_some());
            if self.graph.move_targets.contains(&(self.first + new)) {
                continue;
            }
            if is_move(table.target, there(old), there(new)) && !nets[new].replaces() {
                self.moves(old, new);
            }
        }
    }

    /// Notes that an update moves a row from one key (`old`) to another (`new`).
    pub fn moves(&mut self, old: usize, new: usize) {
        self.graph.moved.insert(self.first + old, self.first + new);
        self.graph.move_targets.insert(self.first + new);
        let nodes = &mut self.graph.nodes[self.first..];
        if self.units.is_empty() {
            for (n, node) in nodes.iter().enumerate() {
                self.units.entry(node.unit).or_default().push(n);
            }
        }
        let (unit, other) = (nodes[old].unit, nodes[new].unit);
        if unit == other {
            return;
        }
        let mut members = |unit| self.units.remove(&unit).unwrap_or_default();
        let (mut larger, mut smaller) = ((unit, members(unit)), (other, members(other)));
        if larger.1.len() < smaller.1.len() {
            std::mem::swap(&mut larger, &mut smaller);
        }
        for &n in &smaller.1 {
            nodes[n].unit = larger.0;
        }
        larger.1.append(&mut smaller.1);
        self.units.insert(larger.0, larger.1);
    }

    /// The change at the key that the row of the change `old` moved to, if that change is among `nets`.
    fn new_key(
        &self,
        nets: &[&NetChange],
        by_run: &HashMap<u32, usize>,
        old: usize,
    ) -> Option<usize> {
        let (changes, keyed) = (self.changes, &self.changes.keyed);
        if nets[old].columns().is_some() {
            return None;
        }
        let mut message = changes.stored_row_left_by(nets[old].run)?;
        for _ in 0..nets.len() {
            let change = keyed.of_subject(message)?;
            let at = *by_run.get(&keyed.run_of(change).start)?;
            let net = nets[at];
            if !changes.came_last(change) {
                return None;
            }
            if net.present() {
                return changes.stayed(change).then_some(at);
            }
            if net.columns().is_some() || !keyed.has_left(net.run, net.message) {
                return None;
            }
            message = net.message;
        }
        None
    }

    /// Does the work in a subtransaction, and ignores its failure, such as a missing privilege. The graph then lacks
    /// some dependencies, and the server finds the violations when it writes the changes.
    pub fn if_possible(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), SqlError>,
    ) -> Result<(), SqlError> {
        let mapping = &self.changes.target.mapping;
        match subtransaction(|| work(self)) {
            Ok(()) => Ok(()),
            Err(error) => forgive(error, mapping),
        }
    }

    /// Adds the values that the changed rows refer to through a foreign key.
    pub fn needs(&mut self, table: &Table<'_>, key: &ForeignKey) -> Result<(), SqlError> {
        let columns: Option<Vec<usize>> = key.columns.iter().map(|c| table.column(&c.of)).collect();
        let Some(columns) = columns else {
            return Ok(());
        };
        let join = |part: &dyn Fn(&Reference) -> String, by: &str| {
            key.columns.iter().map(part).collect::<Vec<_>>().join(by)
        };
        let n = table.number();
        let query = format!(
            "select x.{n}, exists (select from {} p where {}), {} from x where {}",
            key.parent_name,
            join(
                &|c| {
                    let (to, of) = (quote(&c.to), quote(&c.of));
                    c.equality.sql(&format!("p.{to}"), &format!("x.{of}"))
                },
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
            let Some(values) = row.datums_from(2) else {
                continue;
            };
            let mut bytes = Vec::new();
            key::encode(&encoding, values, &mut bytes);
            let value = self.graph.values.of((key.parent, Rc::clone(&names), bytes));
            let there = row.bool(1) == Some(true);
            self.graph.nodes[self.first + row.index(0)]
                .needs
                .push((value, there));
        }
        Ok(())
    }

    /// Adds the values of the changed rows to which other rows can refer, and the rows that now refer to a value that
    /// is dropped.
    pub fn referred_to(&mut self, table: &Table<'_>, referrer: &Referrer) -> Result<(), SqlError> {
        let Some(columns) = table.referred(referrer) else {
            return Ok(());
        };
        let mut parts: Vec<_> = columns.into_iter().zip(&referrer.columns).collect();
        parts.sort_by_key(|(column, _)| *column);
        let (columns, parts): (Vec<usize>, Vec<_>) = parts.into_iter().unzip();
        let referred = (columns.as_slice(), parts.as_slice());
        let fates = self.fates(table, referrer);
        let mut dropped = self.dropped(table, referred, &fates);
        // The server may act on rows of tables that no mapping writes.
        let mapped = self.changes.intake.call.mapped.contains(&referrer.oid);
        if !mapped {
            dropped.retain(|(n, _)| fates[*n].action != Action::Cascade);
        }
        if dropped.is_empty() {
            return Ok(());
        }
        let key = self.child_key(referrer);
        let releasable = self.note_references(referrer, key.as_ref(), &dropped);
        let rows: Vec<usize> = dropped.iter().map(|(n, _)| *n).collect();
        let mut children = self.children(table, (referrer, key.as_ref()), referred, &rows)?;
        for (n, value) in dropped {
            let children = children.remove(&n).unwrap_or_default();
            // A row that stays can be deleted and inserted again instead of updated.
            let again = fates[n].stays && may_be_deleted(table.target);
            let strict = fates[n].action != Action::Nothing && !again;
            if strict {
                let row = self.graph.nodes[self.first + n].row;
                let acting = self.graph.acting.entry(self.first + n).or_default();
                acting.push(Acting {
                    value,
                    referrer: referrer.oid,
                    releasable,
                    is_referred: children.iter().any(|child| *child != row),
                });
            }
            let node = &mut self.graph.nodes[self.first + n];
            let mut drops = node.drops.iter_mut();
            let same = |drop: &&mut Dropped| {
                (drop.value, drop.strict, drop.releasable) == (value, strict, releasable)
            };
            match drops.find(same) {
                Some(drop) => drop.children.extend(children),
                None => node.drops.push(Dropped {
                    value,
                    children,
                    strict,
                    releasable,
                }),
            }
        }
        Ok(())
    }

    /// Notes the foreign key if its rows can give their references up, and returns whether they can.
    fn note_references(
        &mut self,
        referrer: &Referrer,
        key: Option<&ChildKey>,
        dropped: &[(usize, ValueNo)],
    ) -> bool {
        let mappings = self.mappings.iter();
        let mut mappings = mappings.filter(|m| m.destination_oid() == Some(referrer.oid));
        // Another mapping may know a row by another key, and bring a reference of its own.
        let (Some(mapping), None) = (mappings.next(), mappings.next()) else {
            return false;
        };
        let Some(key) = key else { return false };
        let child = Destination::known(referrer.oid).filter(|child| hides_nothing(child));
        let Some(child) = child else { return false };
        let gives_up = |(of, ..): &&(String, String, Equality)| {
            let column = child.column(of);
            let mut onward = child.links.referrers.iter();
            column.is_some_and(|c| !c.not_null && !c.generated && !key.0.contains(of))
                && !onward.any(|onward| onward.columns.iter().any(|(_, to, _)| to == of))
        };
        let Some((column, ..)) = referrer.columns.iter().find(gives_up) else {
            return false;
        };
        let drops = dropped.iter().map(|&(n, value)| (self.first + n, value));
        let references = References {
            referrer: referrer.clone(),
            column: column.clone(),
            writer: writer(mapping, &child),
            keyed: self.graph.keyed.of((referrer.oid, key.0.clone())),
            child,
            key: Rc::clone(key),
            mapping: self.graph.places[self.first].mapping,
            drops: drops.collect(),
        };
        self.graph.references.push(references);
        true
    }

    /// What becomes of the row of each change of the table, as the foreign key sees it.
    fn fates(&self, table: &Table<'_>, referrer: &Referrer) -> Vec<Fate> {
        let fate = |n: usize| {
            let node = self.first + n;
            let evicted = self.graph.evicted.contains(&node);
            let moved_to = self.graph.moved.get(&node).map(|new| new - self.first);
            let stays = !evicted && (table.then[n].is_some() || moved_to.is_some());
            let gives_up = self.graph.given_up.get(&node).is_some_and(|&i| {
                let name = &table.target.columns[i].name;
                referrer.columns.iter().any(|(_, to, _)| to == name)
            });
            let action = match stays || gives_up {
                true => referrer.on_update,
                false => referrer.on_delete,
            };
            let becomes = match moved_to {
                Some(new) => Some(new),
                None => (!evicted).then_some(n),
            };
            Fate {
                stays,
                action,
                becomes,
            }
        };
        (0..table.now.len()).map(fate).collect()
    }

    /// Adds the values that the changed rows get, and notes on which dropped values the foreign key acts. Returns the
    /// dropped values, each with the number of the change.
    fn dropped(
        &mut self,
        table: &Table<'_>,
        (columns, parts): Referred<'_>,
        fates: &[Fate],
    ) -> Vec<(usize, ValueNo)> {
        let names: Rc<[String]> = parts.iter().map(|part| part.1.clone()).collect();
        let oid = self.changes.target.destination.oid;
        let mut dropped: Vec<(usize, ValueNo)> = Vec::new();
        for (n, fate) in fates.iter().enumerate() {
            let mut value = |image: &Option<Image>| {
                let bytes = table.bytes(image.as_ref()?, columns)?;
                Some(self.graph.values.of((oid, Rc::clone(&names), bytes)))
            };
            let (now, then) = (value(&table.now[n]), value(&table.then[n]));
            let after = fate.becomes.and_then(|row| value(&table.then[row]));
            let node = &mut self.graph.nodes[self.first + n];
            if let Some(then) = then
                && !node.gives.contains(&then)
            {
                node.gives.push(then);
            }
            if let Some(now) = now
                && Some(now) != after
            {
                dropped.push((n, now));
                if fate.action != Action::Nothing {
                    self.graph.acting_drops[self.first + n].push(now);
                }
            }
        }
        dropped
    }

    /// The rows that refer to the rows of these changes now.
    fn children(
        &mut self,
        table: &Table<'_>,
        (referrer, child_key): (&Referrer, Option<&ChildKey>),
        (columns, parts): Referred<'_>,
        rows: &[usize],
    ) -> Result<HashMap<usize, Vec<RowNo>>, SqlError> {
        let list: Vec<String> = match child_key.map(Rc::as_ref) {
            Some((names, _)) => names
                .iter()
                .map(|name| format!("c.{}", quote(name)))
                .collect(),
            None => vec![String::from("1")],
        };
        let refers: Vec<String> = parts
            .iter()
            .map(|(of, to, equality)| {
                equality.sql(&format!("x.{}", quote(to)), &format!("c.{}", quote(of)))
            })
            .collect();
        let n = table.number();
        let most = self.counts.get(&referrer.oid).copied().unwrap_or(0) + 1;
        let (list, refers) = (list.join(", "), refers.join(" and "));
        let name = &referrer.name;
        let query = match self.changes.target.destination.shards {
            None => format!(
                "select x.{n}, c.* from x cross join lateral \
                 (select {list} from {name} c where {refers} limit {most}) c"
            ),
            Some(_) => format!("select x.{n}, {list} from x join {name} c on {refers}"),
        };
        let found = {
            let _owner = ActingAs::untrusted(referrer.owner);
            let images = rows
                .iter()
                .filter_map(|n| Some((*n, table.now[*n].as_ref()?)));
            table.ask(columns, images, &query)?
        };
        let names = child_key.map(|key| key.0.clone());
        let keyed = (referrer.oid, names.unwrap_or_default());
        let keyed = self.graph.keyed.of(keyed);
        let mut children: HashMap<usize, Vec<RowNo>> = HashMap::new();
        let mut row = RowReader::new(&found);
        while row.next() {
            let mut bytes = Vec::new();
            if let Some((_, encoding)) = child_key.map(Rc::as_ref)
                && let Some(values) = row.datums_from(1)
            {
                key::encode(encoding, values, &mut bytes);
            }
            let child = self.graph.rows.of((keyed, bytes));
            children.entry(row.index(0)).or_default().push(child);
        }
        Ok(children)
    }

    /// The mapping's key of the referring table: the names of its columns in the order of the table, and the encoding
    /// of each. `None` if no mapping writes that table.
    fn child_key(&self, referrer: &Referrer) -> Option<ChildKey> {
        let mut mappings = self.mappings.iter();
        let mapping = mappings.find(|m| m.destination_oid() == Some(referrer.oid))?;
        let child = Destination::known(referrer.oid)?;
        let key = mapping.key_of(&child);
        let columns: Vec<_> = child
            .columns
            .iter()
            .filter(|column| key.contains(&column.name))
            .collect();
        (!columns.is_empty()).then(|| {
            let columns = columns.iter();
            let columns =
                columns.map(|c| (c.name.clone(), KeyColumn::new(c.type_oid, c.collation)));
            Rc::new(columns.unzip())
        })
    }
}

/// Whether a table's rows can be changed and changed back without a trace: no trigger, rule or child table takes notice,
/// and row security hides no row.
fn hides_nothing(table: &Destination) -> bool {
    let plain = table.relkind == b'r' && !table.has_children && table.shards.is_none();
    let notices =
        |trigger: &TriggerRow| !trigger.internal && trigger.enabled && is_of_update(trigger);
    plain && !table.row_security && !table.rules && !triggers(table.oid).iter().any(notices)
}
