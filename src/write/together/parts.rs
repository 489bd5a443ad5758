//! The parts of the statement that writes changes together.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::{self, Datum};
use pgrx::spi::quote_identifier;

use super::refused::{Blamed, Refused};
use super::turns::Turns;
use crate::changes::Changes;
use crate::changes::net::NetChange;
use crate::destination::Column;
use crate::error::{SqlError, sqlstate};
use crate::mapping::versions::VersionsIn;
use crate::mapping::{GUARD_COLUMNS, OnDelete};
use crate::pg::spi::Returned;
use crate::pg::tuples::RowColumn;
use crate::prepared::{BatchRow, Recent, RowReader};
use crate::statement::{self, Input, SqlColumn, SqlRelation, after, part_column, together};
use crate::target::sql::{delete_sql, write_sql};
use crate::target::statements::{Removal, Shape, WriteKind};
use crate::target::versions::version_values;
use crate::write::delete_or_move::can_come_back;
use crate::write::give_up::give_up_sql;
use crate::write::graph::{Graph, net_of};
use crate::write::keys::read_rows;
use crate::write::pending::Pending;
use crate::write::rows::{self, RowMaker, deleted_row, insertable, shape};
use crate::write::shared_rows::Fate;

/// The work of a part.
pub(super) enum Work {
    Remove(Removal),
    Write(Shape),
    Insert(Vec<SqlColumn>),
    /// Rows give up their values in these columns. A later statement deletes the rows.
    GiveUp(Vec<usize>),
}

/// A part of the statement: changes of one mapping and one kind.
pub(super) struct Part {
    pub mapping: usize,
    pub work: Work,
    /// The columns of the rows.
    pub row: Vec<RowColumn>,
    pub rows: Vec<BatchRow>,
    /// The node of each row.
    pub nodes: Vec<usize>,
}

impl Part {
    /// Whether the statement counts the part's rows as it reads them.
    fn counts_rows(&self) -> bool {
        match &self.work {
            Work::Remove(_) | Work::GiveUp(_) => false,
            Work::Insert(_) => true,
            Work::Write(shape) => !shape.kind.is_update(),
        }
    }
}

/// The batch relation that all parts read.
struct Layout {
    /// The columns, each with the name of its type in SQL.
    columns: Vec<(String, RowColumn)>,
    /// For each part, the places of its columns in `columns`.
    places: Vec<Vec<usize>>,
}

/// The keys of rows that left their own keys for keys that no row has.
#[derive(Default)]
pub struct Parked {
    /// By the node of the old key.
    pub keys: HashMap<usize, Vec<Datum>>,
    // Owns the values of the keys.
    pub returned: Vec<Returned>,
}

/// One statement for the changes of one role.
pub struct Together<'s, 'a> {
    pub(super) all: &'s [Changes<'a>],
    pub(super) pending: &'s [Vec<Pending>],
    pub(super) graph: &'s Graph,
    pub(super) group: &'s [usize],
    /// The rows whose values rows of any role get.
    pub(super) displaced: HashSet<u32>,
    pub(super) turns: Turns,
    pub(super) parked: Parked,
    pub(super) parts: Vec<Part>,
    /// The nodes of rows that an earlier statement has deleted.
    pub(super) deleted: HashSet<usize>,
    /// The nodes of deleted rows that stay, for other mappings have them too.
    pub(super) staying: HashMap<usize, Fate>,
    /// The nodes of rows that a later statement deletes.
    pub(super) late: Vec<usize>,
    // Owns the values of rows that are deleted and inserted again.
    pub(super) returned: Vec<Returned>,
}

impl<'s, 'a> Together<'s, 'a> {
    /// A statement without parts for `group`: the nodes of one role.
    pub fn new(
        all: &'s [Changes<'a>],
        pending: &'s [Vec<Pending>],
        graph: &'s Graph,
        group: &'s [usize],
    ) -> Together<'s, 'a> {
        Together {
            all,
            pending,
            graph,
            group,
            displaced: HashSet::new(),
            turns: Turns::default(),
            parked: Parked::default(),
            parts: Vec::new(),
            deleted: HashSet::new(),
            staying: HashMap::new(),
            late: Vec::new(),
            returned: Vec::new(),
        }
    }

    pub(super) fn net(&self, node: usize) -> &'s NetChange {
        net_of(self.pending, self.graph.places[node])
    }

    /// Makes the parts, deletes first.
    pub fn collect(&mut self) -> Result<(), SqlError> {
        let mut writes = Vec::new();
        for mapping in 0..self.all.len() {
            let of_mapping = |node: &usize| self.graph.places[*node].mapping == mapping;
            let nodes = self.group.iter().copied().filter(of_mapping);
            let left = |n: &usize| {
                !self.net(*n).is_untouched()
                    && !self.deleted.contains(n)
                    && self.staying.get(n) != Some(&Fate::Left)
            };
            let nodes: Vec<usize> = nodes.filter(left).collect();
            let target = &self.all[mapping].target;
            let (moved, nodes) = self.moved(nodes);
            let evicted = moved.iter().map(|(_, new)| *new);
            let evicted = evicted.filter(|new| self.graph.evicted.contains(new));
            self.remove(mapping, evicted.collect(), Removal::Delete);
            for turn in &self.turns.in_order {
                let turn: Vec<usize> = turn.iter().copied().filter(of_mapping).collect();
                writes.extend(self.upserts(mapping, &turn));
            }
            let nodes = nodes.into_iter().filter(|&n| !self.turns.has(n)).collect();
            writes.extend(self.moves(mapping, &moved));
            let nodes = self.give_up(mapping, nodes);
            let (back, rest): (Vec<usize>, Vec<usize>) = nodes.into_iter().partition(|&n| {
                self.graph.makes_room(n, &self.displaced) && can_come_back(target, self.net(n))
            });
            let (gone, there): (Vec<usize>, Vec<usize>) = rest
                .into_iter()
                .partition(|&n| self.net(n).columns().is_none());
            let (marked, gone): (Vec<usize>, Vec<usize>) = gone.into_iter().partition(|&n| {
                self.all[mapping].is_marked(self.net(n)) && !self.staying.contains_key(&n)
            });
            self.remove(mapping, marked, Removal::Mark);
            self.delete(mapping, gone);
            self.remove(mapping, back.clone(), Removal::Delete);
            // Another source row replaces the row, so the old values do not come back.
            let (anew, back): (Vec<usize>, Vec<usize>) =
                back.into_iter().partition(|&n| self.net(n).replaces());
            if !back.is_empty() {
                writes.push(self.insert(mapping, back)?);
            }
            writes.extend(self.upserts(mapping, &[there, anew].concat()));
        }
        self.parts.extend(writes);
        Ok(())
    }

    /// Adds parts for rows that their mapping deletes.
    pub(super) fn delete(&mut self, mapping: usize, nodes: Vec<usize>) {
        let fate = |node: &usize| self.staying.get(node).copied();
        let (gone, rest): (Vec<usize>, Vec<usize>) =
            nodes.into_iter().partition(|node| fate(node).is_none());
        let kept = rest.into_iter();
        let kept = kept
            .filter(|node| fate(node) == Some(Fate::Cleared))
            .collect();
        self.remove(mapping, gone, Removal::Delete);
        self.remove(mapping, kept, Removal::Clear);
    }

    /// Adds a part that removes rows in this way.
    fn remove(&mut self, mapping: usize, nodes: Vec<usize>, removal: Removal) {
        if nodes.is_empty() {
            return;
        }
        let changes = &self.all[mapping];
        let (target, values) = (&changes.target, &changes.nets.values);
        let rows = nodes.iter().enumerate().map(|(n, &node)| {
            deleted_row(
                target,
                &changes.intake,
                values,
                removal,
                (n, self.net(node)),
            )
        });
        self.parts.push(Part {
            mapping,
            work: Work::Remove(removal),
            row: delete_sql(Input::Batch, target, &target.relation(), removal).1,
            rows: rows.collect(),
            nodes,
        });
    }

    /// A part that inserts deleted rows again, with all their values.
    fn insert(&mut self, mapping: usize, nodes: Vec<usize>) -> Result<Part, SqlError> {
        let changes = &self.all[mapping];
        let target = &changes.target;
        let columns: Vec<&Column> = target
            .destination
            .columns
            .iter()
            .filter(|column| !column.generated)
            .collect();
        let nets = nodes.iter().map(|&node| self.net(node));
        let found = {
            let _owner = changes.acting_as_owner();
            read_rows(target, &changes.nets.values, &columns, nets)?
        };
        let mut rows = Vec::with_capacity(nodes.len());
        let mut found_nodes = Vec::with_capacity(nodes.len());
        let mut row = RowReader::new(&found);
        while row.next() {
            let node = nodes[row.index(0)];
            let net = self.net(node);
            let now = (0..columns.len()).map(|i| row.datum(i + 1));
            let values = columns.iter().zip(now);
            rows.push(
                values
                    .map(|(column, now)| value(changes, net, column, now))
                    .collect(),
            );
            found_nodes.push(node);
        }
        drop(row);
        self.returned.push(found);
        let spelled = columns.iter().map(|column| SqlColumn {
            name: quote_identifier(&column.name),
            type_name: column.type_name.clone(),
            equals: String::new(),
            insert_only: false,
            merges: None,
        });
        Ok(Part {
            mapping,
            work: Work::Insert(spelled.collect()),
            row: columns.iter().map(|column| column.row()).collect(),
            rows,
            nodes: found_nodes,
        })
    }

    /// Parts that write rows, one part for each shape.
    fn upserts(&self, mapping: usize, nodes: &[usize]) -> Vec<Part> {
        let target = &self.all[mapping].target;
        self.parts_of(mapping, nodes, |node| {
            let net = self.net(node);
            match rows::kind(target, net, false) {
                Some(WriteKind::Upsert) if self.graph.there[node] && !insertable(target, net) => {
                    Some(WriteKind::Update)
                }
                kind => kind,
            }
        })
    }

    /// Parts that write rows, each by the kind of statement that `kind` gives for its node.
    pub(super) fn parts_of(
        &self,
        mapping: usize,
        nodes: &[usize],
        kind: impl Fn(usize) -> Option<WriteKind>,
    ) -> Vec<Part> {
        let changes = &self.all[mapping];
        let target = &changes.target;
        let mut shapes: Vec<(Shape, Vec<usize>)> = Vec::new();
        for &node in nodes {
            let net = self.net(node);
            let Some(kind) = kind(node) else { continue };
            let shape = shape(&changes.intake, kind, net);
            match shapes.iter_mut().find(|(other, _)| *other == shape) {
                Some((_, nodes)) => nodes.push(node),
                None => shapes.push((shape, vec![node])),
            }
        }
        let part = |(shape, nodes): (Shape, Vec<usize>)| {
            let (_, row) = write_sql(Input::Batch, target, &shape);
            let maker = RowMaker::new(target, &shape);
            let width = row.len();
            let rows = nodes.iter().enumerate().map(|(n, &node)| {
                let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
                let net = (n, self.net(node));
                let stored = &changes.nets.values;
                maker.fill(&changes.intake, stored, net, &mut values, &mut nulls);
                let values = values.into_iter().zip(nulls);
                values
                    .map(|(value, null)| (!null).then_some(value))
                    .collect()
            });
            Part {
                mapping,
                row,
                rows: rows.collect(),
                nodes,
                work: Work::Write(shape),
            }
        };
        shapes.into_iter().map(part).collect()
    }

    /// Executes the parts as one statement. The error names the row that was being written, if that is known.
    pub fn execute(&self) -> Result<(), Refused> {
        let Some(first) = self.parts.first() else {
            return Ok(());
        };
        let layout = self.layout();
        let width = 1 + layout.columns.len();
        if width > MAX_COLUMNS {
            return Err(Refused::artifact(SqlError::new(
                sqlstate::TOO_MANY_COLUMNS,
                "changes that depend on each other have too many columns for one statement",
            )));
        }
        let mut columns = vec![RowColumn::number("sequin_part")];
        let mut definition = String::from("sequin_part integer");
        for (place, (type_name, column)) in layout.columns.into_iter().enumerate() {
            let name = part_column(place);
            definition += &format!(", {name} {type_name}");
            columns.push(RowColumn { name, ..column });
        }
        let parts = self.parts.iter().zip(&layout.places).enumerate();
        let parts: Vec<String> = parts
            .map(|(i, (part, places))| self.sql(i, part, places))
            .collect();
        let sql = together(&definition, &parts);
        let changes = &self.all[first.mapping];
        let _owner = changes.acting_as_owner();
        let mut statement = Recent::new(sql, &columns).map_err(Refused::artifact)?;
        let rows = self.parts.iter().zip(&layout.places).enumerate();
        let rows =
            rows.flat_map(|(i, (part, places))| part.rows.iter().map(move |row| (i, places, row)));
        let result = statement.query(rows, |(i, places, row)| {
            let mut whole = vec![None; width];
            whole[0] = Some(Datum::from(i as i32));
            for (place, value) in places.iter().zip(row) {
                whole[1 + place] = *value;
            }
            whole
        });
        match result {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused(error)),
        }
    }

    /// The batch relation of all parts. Each row belongs to one part, so the parts share the columns of each type.
    fn layout(&self) -> Layout {
        let mut layout = Layout {
            columns: Vec::new(),
            places: Vec::new(),
        };
        let mut by_type: HashMap<_, Vec<usize>> = HashMap::new();
        for part in &self.parts {
            let mut used: HashMap<_, usize> = HashMap::new();
            let mut places = Vec::with_capacity(part.row.len());
            for (column, type_name) in part.row.iter().zip(self.type_names(part)) {
                let of = (type_name.clone(), column.type_oid, column.typmod);
                let used = used.entry(of.clone()).or_default();
                let of_type = by_type.entry(of).or_default();
                if *used == of_type.len() {
                    of_type.push(layout.columns.len());
                    layout.columns.push((type_name, column.clone()));
                }
                places.push(of_type[*used]);
                *used += 1;
            }
            layout.places.push(places);
        }
        layout
    }

    /// Blames the row that was being written when the error came. The error carries a count: the statement counts one
    /// when a part begins, and one for each row of a part that inserts.
    fn refused(&self, error: SqlError) -> Refused {
        let mut steps: Vec<Blamed> = Vec::new();
        for part in &self.parts {
            match part.counts_rows() {
                true => {
                    steps.push(Blamed::Unknown);
                    steps.extend(part.nodes.iter().map(|&node| Blamed::Row(node)));
                }
                false => steps.push(Blamed::OneOf(part.nodes.clone())),
            }
        }
        let read = error.rows_read.unwrap_or(0);
        let all = read == steps.len();
        let gives_up = |part: &Part| matches!(part.work, Work::GiveUp(_));
        let artifact = !all && self.part_at(read).is_some_and(gives_up);
        let last = read.checked_sub(1).filter(|&last| last < steps.len());
        let blamed = match last.map(|last| steps.swap_remove(last)) {
            // After the last row, the error may also come from the end of the statement.
            Some(Blamed::Row(node)) if all => Blamed::OneOf(vec![node]),
            Some(Blamed::OneOf(nodes)) if !all && nodes.len() == 1 => Blamed::Row(nodes[0]),
            Some(blamed) => blamed,
            None => Blamed::Unknown,
        };
        Refused {
            error,
            blamed,
            artifact,
        }
    }

    /// The part that was running after this many counted steps.
    fn part_at(&self, steps: usize) -> Option<&Part> {
        let mut begins = 0;
        self.parts.iter().find(|part| {
            begins += 1 + if part.counts_rows() {
                part.nodes.len()
            } else {
                0
            };
            steps <= begins
        })
    }

    /// The names of the types of a part's columns in SQL.
    fn type_names(&self, part: &Part) -> Vec<String> {
        let target = &self.all[part.mapping].target;
        let own = |column: &RowColumn| match column.type_oid {
            pg_sys::INT8OID => String::from("bigint"),
            pg_sys::TIMESTAMPTZOID => String::from("timestamp with time zone"),
            _ => String::from("integer"),
        };
        let type_name = |column: &RowColumn| match target.destination.column(&column.name) {
            Some(column) => column.type_name.clone(),
            None => own(column),
        };
        part.row.iter().map(type_name).collect()
    }

    /// The SQL of a part.
    fn sql(&self, number: usize, part: &Part, columns: &[usize]) -> String {
        let target = &self.all[part.mapping].target;
        let condition = after(number);
        let input = Input::Part {
            number,
            columns,
            after: &condition,
        };
        match &part.work {
            Work::Remove(removal) => delete_sql(input, target, &target.relation(), *removal).0,
            Work::GiveUp(columns) => give_up_sql(input, target, columns).unwrap_or_default(),
            Work::Write(shape) => {
                let sql = write_sql(input, target, shape).0;
                match shape.kind {
                    kind if kind.is_update() => sql,
                    _ => sql + " returning 1",
                }
            }
            Work::Insert(columns) => {
                let columns: Vec<&SqlColumn> = columns.iter().collect();
                // The row keeps all its values, also those of identity columns.
                let relation = SqlRelation {
                    overriding: true,
                    ..target.relation()
                };
                statement::insert(input, &relation, &columns) + " returning 1"
            }
        }
    }
}

/// The most columns that a function in FROM can return.
const MAX_COLUMNS: usize = 1600;

/// The value of a column in a row that is deleted and inserted again.
fn value(
    changes: &Changes<'_>,
    net: &NetChange,
    column: &Column,
    now: Option<Datum>,
) -> Option<Datum> {
    let target = &changes.target;
    if let Some(mark) = target.mark()
        && mark.is_column(&column.name)
        && target.mapping.on_delete == OnDelete::Soft
    {
        return match net.present() {
            true => mark.unset(),
            false => Some(mark.value(changes.intake.message(net.message).committed_at)),
        };
    }
    if target.versions == VersionsIn::Columns && target.mapping.reserves(&column.name) {
        let mut names = GUARD_COLUMNS.iter();
        if let Some(i) = names.position(|(name, ..)| *name == column.name) {
            return version_values(net.stamp.as_ref(), net.read_at)[i];
        }
    }
    match target.column_number(&column.name) {
        Some(number) if net.has(number) => changes.nets.values.get(net.row, number),
        _ => now,
    }
}
