//! A mapping, prepared to write its destination: the source and the cast of each column, and the kept plans
//! of the statements.
//!
//! The backend makes a target from the catalog once. It keeps the target until the mapping, the destination
//! or a type of its columns changes.

#![forbid(unsafe_code)]

pub mod column;
mod expression;
pub mod mark;
pub mod projection;
pub mod reading;
pub mod repeats;
pub mod shapes;
pub mod sql;
pub mod statements;
pub mod supply;
pub mod told;
pub mod versions;

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys::{self, Datum};

use crate::backfill::is_unreadable;
use crate::cast::Caster;
use crate::destination::partitions;
use crate::destination::places::Places;
use crate::destination::shards::require_coordinator;
use crate::destination::{Column, Destination, UniqueIndex, links};
use crate::error::{Error, SqlError};
use crate::json::Json;
use crate::key::KeyColumn;
use crate::mapping::beside::Beside;
use crate::mapping::check::Shared;
use crate::mapping::faults::since_changed;
use crate::mapping::grants::writer;
use crate::mapping::versions::VersionsIn;
use crate::mapping::{ColumnSource, Mapping, Mode, Root, catalog};
use crate::message::{Action, Field, Message};
use crate::pg::invalidation;
use crate::pg::relation;
use crate::pg::tuples::RowColumn;
use crate::pg::typeio::base_type;
use crate::pg::user::{ActingAs, may_lock_rows};
use crate::statement::{Document, SqlColumn, SqlRelation};
use column::{Slot, Source, TargetColumn};
use expression::Expression;
use mark::Mark;
use projection::Projection;
use reading::Reading;
use repeats::Repeats;
use shapes::Shapes;
use statements::Statements;
use supply::Supply;
use told::Told;

/// A mapping, prepared to write its destination.
pub struct Target {
    pub mapping: Mapping,
    pub destination: Destination,
    /// The columns that the mapping writes.
    pub columns: Vec<TargetColumn>,
    /// The numbers of the key's columns.
    pub key: Vec<usize>,
    /// The encoding of the key's values as bytes.
    pub key_encoding: Vec<KeyColumn>,
    /// Under mode append, how a change is recognised that was appended before.
    pub repeats: Repeats,
    /// The encoding of these columns' values as bytes.
    pub repeats_encoding: Vec<KeyColumn>,
    /// The mapping (by id) under which the sources of appended rows are noted: the first one that appends to the
    /// destination.
    pub log: i32,
    /// The mapping's SQL, which the server evaluates, if there is any.
    pub projection: Option<Projection>,
    /// Lists of columns, in the order of the table, that foreign keys refer to and that are not the key.
    pub references: Vec<Vec<usize>>,
    /// Whether the role that writes the rows can lock them.
    pub can_lock_rows: bool,
    /// Where the rows are, and the edition of the definitions by which that was read.
    pub places: Option<(u64, Option<Rc<Places>>)>,
    /// The place of the row versions.
    pub versions: VersionsIn,
    /// With guard columns: the home source, the source database whose positions the columns hold. `None`
    /// until it is read.
    pub home: Option<i64>,
    /// The statements that write the destination.
    pub statements: Statements,
    /// Relations whose change makes the target stale.
    pub depends_on: Vec<pg_sys::Oid>,
    /// The edition of the definitions in which the owner of the destination was read.
    owned_at: u64,
    /// The other mappings that write the same rows.
    pub shared: Shared,
    /// What messages have told of the types at the source.
    pub told: Told,
    /// Which messages bring the columns.
    pub supply: Supply,
    /// The shapes of the records that the mapping takes.
    pub shapes: Shapes,
    reading: Reading,
}

/// What a target takes beside its plans, in bytes, as measured with few columns and with many: by itself, and for each
/// column.
const PER_TARGET: usize = 4 << 10;
const PER_COLUMN: usize = 512;

impl Target {
    /// Prepares the mapping; `beside` knows the others. `None`: the destination is gone.
    pub fn make(mapping: &Mapping, beside: &mut Beside) -> Option<Result<Target, SqlError>> {
        let owned_at = invalidation::edition();
        let destination = Destination::load(mapping.destination_oid()?)?;
        let shared = beside.shared(mapping, &destination);
        let mut made = Self::of(mapping.clone(), destination);
        if let Ok(target) = &mut made {
            (target.shared, target.owned_at) = (shared, owned_at);
        }
        Some(made)
    }

    fn of(mapping: Mapping, destination: Destination) -> Result<Target, SqlError> {
        if destination.shards.is_some() {
            require_coordinator(&destination.qualified_name())?;
        }
        let key_names = mapping.key_of(&destination).to_vec();
        let faults = since_changed(&mapping, &destination, writer(&mapping, &destination));
        if !faults.is_empty() {
            let mapping = mapping.name;
            return Err(Error::Broken { mapping, faults }.into());
        }
        let (mut columns, expressions) = written_columns(&mapping, &destination, &key_names);
        let mut key: Vec<usize> = key_names
            .iter()
            .filter_map(|name| columns.iter().position(|c| c.name == *name))
            .collect();
        if mapping.mode == Mode::Append && key.len() < key_names.len() {
            // A default makes the key, not the message.
            key.clear();
        }
        let append = mapping.mode == Mode::Append;
        let repeats = match append {
            true => Repeats::of(&mapping, &destination, &columns, &key),
            false => Repeats::default(),
        };
        let log = match repeats.by_source {
            true => catalog::first_log(destination.oid).unwrap_or(mapping.id),
            false => mapping.id,
        };
        let encoding = |of: &[usize]| -> Vec<KeyColumn> {
            let rows = of.iter().map(|&i| &columns[i].row);
            rows.map(|row| KeyColumn::new(row.type_oid, row.collation))
                .collect()
        };
        let (repeats_encoding, key_encoding) = (encoding(&repeats.columns), encoding(&key));
        let mut depends_on = vec![destination.oid];
        // statements name these, and act as their owners
        let referrers = destination.links.referrers.iter();
        depends_on.extend(referrers.map(|referrer| referrer.oid));
        depends_on.extend(columns.iter().flat_map(|c| c.caster.depends_on()));
        let versions = VersionsIn::of(&mapping, &destination);
        if versions == VersionsIn::Columns || repeats.by_source {
            depends_on.push(catalog::home_sources());
        }
        if repeats.by_source {
            depends_on.push(catalog::relation());
        }
        let filter = mapping.filter.iter().cloned();
        let sql = expressions.iter().map(|e| e.sql.clone()).chain(filter);
        let told = Told::nothing(&columns, |i| key.contains(&i), sql.collect());
        let supply = Supply::unknown(&mapping, &columns, &expressions, |i| key.contains(&i));
        if (told.listens() || supply.listens()) && !append {
            depends_on.push(catalog::unreadable_members());
        }
        let can_lock_rows = matches!(destination.relkind, b'r' | b'p')
            && destination.shards.is_none()
            && may_lock_rows(destination.oid, writer(&mapping, &destination));
        // The server may run parts of the mapping's SQL while it plans.
        let owner = ActingAs::owner(writer(&mapping, &destination), mapping.id);
        let projection =
            Projection::make(&mapping, &mut columns, &expressions, |i| key.contains(&i))?;
        drop(owner);
        Ok(Target {
            references: references(&destination, &columns, &key),
            reading: Reading::new(&columns),
            told,
            supply,
            mapping,
            destination,
            columns,
            key,
            key_encoding,
            repeats,
            repeats_encoding,
            log,
            projection,
            shared: Shared::default(),
            can_lock_rows,
            places: None,
            versions,
            home: None,
            statements: Statements::default(),
            shapes: Shapes::default(),
            depends_on,
            owned_at: 0,
        })
    }

    /// About how many bytes the target takes, with its plans.
    pub fn memory(&self) -> usize {
        let own = PER_TARGET + PER_COLUMN * self.destination.columns.len();
        let projection = self.projection.as_ref().map_or(0, Projection::memory);
        own + projection + self.shared.memory() + self.statements.memory()
    }

    /// Whether the same role writes the rows as before: a partition changes hands without a change of the table.
    pub fn has_its_owner(&mut self) -> bool {
        let edition = invalidation::edition();
        if !self.destination.has_children || self.owned_at == edition {
            return true;
        }
        self.owned_at = edition;
        links::owner(self.destination.oid) == Some(self.destination.owner)
    }

    /// The role that writes the mapping's rows.
    pub fn writer(&self) -> pg_sys::Oid {
        writer(&self.mapping, &self.destination)
    }

    /// Fills `slots` with the message's value for each column.
    pub fn read<'a>(
        &mut self,
        message: &Message<'a>,
        fields: &[Field<'a>],
        slots: &mut Vec<Slot<'a>>,
    ) {
        let told = &self.told;
        self.reading
            .read(&self.columns, told, message, fields, slots);
    }

    /// Whether a message says nothing of a member that it has: an update, of a value that did not change; a read, of a
    /// value that the backfill could not read.
    pub fn leaves_out(&self, message: &Message<'_>, field: &Field<'_>) -> bool {
        reading::is_unchanged(message, field) || self.told.hides(message, field)
    }

    /// Adds the members of the message's record to a document, or replaces them there. Members of which the message says
    /// nothing are left out.
    pub fn collect<'a>(
        &self,
        message: &Message<'a>,
        fields: &[Field<'a>],
        document: &mut Vec<(&'a str, Json<'a>)>,
    ) {
        let said = |field: &&Field<'a>| !self.leaves_out(message, field);
        for field in fields.iter().filter(said) {
            match document.iter_mut().find(|(key, _)| *key == field.key) {
                Some((_, value)) => *value = field.value,
                None => document.push((field.key, field.value)),
            }
        }
    }

    /// Notes the shape of a message's record, after [`Self::read`]. Deletes have no say: they may hold no more than
    /// the key.
    pub fn note_shape(&mut self, message: &Message<'_>, fields: &[Field<'_>]) {
        if message.action != Action::Delete {
            let same = !self.reading.take_relearned();
            self.shapes.note(message, fields, same);
        }
    }

    /// Whether the message moved its row from another key: whether its `changes` list a member that the key
    /// is read from.
    pub fn changes_key(&self, message: &Message<'_>) -> bool {
        if message.action != Action::Update || self.mapping.mode == Mode::Append {
            return false;
        }
        let Some(changes) = message.changes else {
            return false;
        };
        let mut sources = self.key.iter().map(|&i| &self.columns[i].source);
        sources.any(|source| reading::is_changed(source, changes))
    }

    /// The value of a column in the row's former image: the record overlaid with `changes`.
    pub fn former<'a>(&self, message: &Message<'a>, column: usize) -> Slot<'a> {
        reading::former(&self.columns[column].source, message)
    }

    /// How many members of the record the key may be read from.
    pub fn key_members(&self) -> usize {
        let sources = self.key.iter().map(|&i| &self.columns[i].source);
        sources
            .filter(|source| !matches!(source, Source::Constant(_)))
            .count()
    }

    /// The number of the column of this name, if the mapping writes it.
    pub fn column_number(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The column that soft deletes set, if the mapping has soft deletes.
    pub fn mark(&self) -> Option<Mark<'_>> {
        Mark::of(&self.mapping, &self.destination)
    }

    /// The relation as statements spell it.
    pub fn relation(&self) -> SqlRelation {
        SqlRelation {
            name: self.destination.qualified_name(),
            overriding: self.columns.iter().any(|column| {
                self.destination
                    .column(&column.name)
                    .is_some_and(|c| c.identity == Some(b'a'))
            }),
            within: None,
            shards: self.destination.shards.clone(),
        }
    }

    /// The same, for rows with these keys.
    pub fn relation_of(&self, keys: impl FnOnce() -> Vec<Vec<Datum>>) -> SqlRelation {
        self.relation_within(self.within(keys))
    }

    /// The same, under a condition that [`Self::within`] has made.
    pub fn relation_within(&self, within: Option<String>) -> SqlRelation {
        SqlRelation {
            within,
            ..self.relation()
        }
    }

    /// A condition from which the server tells which partitions can have rows with these keys: see
    /// [`partitions::condition`].
    pub fn within(&self, keys: impl FnOnce() -> Vec<Vec<Datum>>) -> Option<String> {
        if self.destination.relkind != b'p' {
            return None;
        }
        let sql = self.key_sql();
        let key = partitions::Key {
            names: self.names_of_key(),
            spelled: sql
                .iter()
                .map(|column| (column.name.as_str(), column.type_name.as_str()))
                .collect(),
        };
        let keys = keys();
        let keys: Vec<&[Datum]> = keys.iter().map(Vec::as_slice).collect();
        partitions::condition(self.destination.oid, &key, &keys)
    }

    /// The names of the key's columns, in the key's order.
    pub fn names_of_key(&self) -> Vec<&str> {
        let key = self.key.iter();
        key.map(|&i| self.columns[i].name.as_str()).collect()
    }

    /// Where the rows are, and for each column of the index by which they are found its number within the key. `None`:
    /// there is no such index.
    pub fn places(&mut self) -> Option<(Rc<Places>, Vec<usize>)> {
        let edition = invalidation::edition();
        let places = match &self.places {
            Some((read, places)) if *read == edition => places.clone(),
            _ if self.destination.shards.is_some() => None,
            _ => Places::of(&self.destination, &self.names_of_key()).map(Rc::new),
        };
        self.places = Some((edition, places.clone()));
        let places = places?;
        let names = self.names_of_key();
        let order = places.columns.iter();
        let order = order.map(|column| names.iter().position(|name| name == column));
        let order = order.collect::<Option<_>>()?;
        Some((places, order))
    }

    /// The number, within the key, of the column by which Citus finds the shard of a row.
    pub fn shard_column(&self) -> Option<usize> {
        let column = self.destination.shards.as_ref()?.column.as_ref()?;
        let mut key = self.key.iter();
        key.position(|&i| self.columns[i].sql.name == *column)
    }

    /// The columns of a batch relation of keys: a number, then the key.
    pub fn numbered_key(&self) -> Vec<RowColumn> {
        let key = self.key.iter().map(|&i| self.columns[i].row.clone());
        std::iter::once(RowColumn::number("")).chain(key).collect()
    }

    /// The key's columns as statements spell them.
    pub fn key_sql(&self) -> Vec<&SqlColumn> {
        self.key.iter().map(|&i| &self.columns[i].sql).collect()
    }

    /// The numbers of the key's columns in which equal values can differ in their bytes.
    pub fn spelled_key(&self) -> impl Iterator<Item = usize> + '_ {
        let key = self.key.iter().zip(&self.key_encoding);
        key.filter(|(_, encoding)| encoding.has_spellings())
            .map(|(&i, _)| i)
    }

    /// The names of the key's columns, in the order of the table.
    pub fn key_names(&self) -> Vec<String> {
        let key = self.table_order().into_iter().map(|n| self.key[n]);
        key.map(|i| self.columns[i].name.clone()).collect()
    }

    /// The numbers of the key's columns within the key, in the order of the table.
    pub fn table_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.key.len()).collect();
        order.sort_by_key(|&i| self.key[i]);
        order
    }
}

/// See [`Target::references`].
fn references(
    destination: &Destination,
    columns: &[TargetColumn],
    key: &[usize],
) -> Vec<Vec<usize>> {
    let mut lists: Vec<Vec<usize>> = Vec::new();
    for referrer in &destination.links.referrers {
        let number = |name: &str| columns.iter().position(|column| column.name == name);
        let columns = referrer.columns.iter();
        let list: Option<Vec<usize>> = columns.map(|(_, to, _)| number(to)).collect();
        let Some(mut list) = list else { continue };
        list.sort_unstable();
        let is_key = list.len() == key.len() && list.iter().all(|column| key.contains(column));
        if !is_key && !lists.contains(&list) {
            lists.push(list);
        }
    }
    lists
}

/// The columns of the destination that the mapping writes, and the SQL expressions among their sources.
fn written_columns(
    mapping: &Mapping,
    destination: &Destination,
    key_names: &[String],
) -> (Vec<TargetColumn>, Vec<Expression>) {
    let equality = equality_operators(destination, key_names);
    let mut expressions = Vec::new();
    let mut columns = Vec::new();
    for column in &destination.columns {
        if column.generated || mapping.reserves(&column.name) {
            continue;
        }
        let key_position = key_names.iter().position(|name| *name == column.name);
        let Some(source) = source(mapping, column, key_position.is_some(), &mut expressions) else {
            continue;
        };
        columns.push(TargetColumn {
            name: column.name.clone(),
            source,
            caster: Caster::new(column.type_oid, column.typmod),
            row: column.row(),
            sql: SqlColumn {
                name: pgrx::spi::quote_identifier(&column.name),
                type_name: column.type_name.clone(),
                equals: key_position
                    .map(|i| equality[i].clone())
                    .unwrap_or_default(),
                insert_only: column.identity == Some(b'a'),
                merges: None,
            },
            required: column.not_null && !column.has_default,
            document: document(mapping, column),
            nullable: !column.not_null,
            unreadable: is_unreadable(column.type_oid),
        });
    }
    (columns, expressions)
}

/// See [`TargetColumn::document`].
fn document(mapping: &Mapping, column: &Column) -> Option<Document> {
    let source = mapping.columns.source(&column.name)?;
    match base_type(column.type_oid, -1).0 {
        pg_sys::JSONBOID if source.is_record() => Some(Document::Jsonb),
        pg_sys::JSONOID if source.is_record() => Some(Document::Json),
        _ => None,
    }
}

/// The source that the mapping reads a column from; `None` if the mapping does not write the column. SQL is
/// added to `expressions`.
fn source(
    mapping: &Mapping,
    column: &Column,
    in_key: bool,
    expressions: &mut Vec<Expression>,
) -> Option<Source> {
    Some(match mapping.columns.source(&column.name) {
        Some(ColumnSource::Path(path)) => match (path.root, path.keys.as_slice()) {
            (Root::Record, [name]) => Source::Field(name.clone()),
            _ => Source::Path(path.clone()),
        },
        Some(ColumnSource::Value(json)) => Source::Constant(json.clone()),
        Some(ColumnSource::Sql(sql)) => {
            expressions.push(Expression {
                sql: sql.clone(),
                key_type: in_key.then(|| column.type_name.clone()),
            });
            Source::Sql(expressions.len() - 1)
        }
        None if mapping.columns.rest => Source::Field(column.name.clone()),
        None => return None,
    })
}

/// The equality operator of each key column, from the unique index on the key. The search_path is pinned,
/// so a plain `=` would miss the operators of extension types.
pub fn equality_operators(destination: &Destination, key: &[String]) -> Vec<String> {
    let fits = |index: &&UniqueIndex| {
        let columns = &index.columns;
        index.immediate
            && index.valid
            && !index.partial
            && columns.len() == key.len()
            && columns.iter().all(|column| key.contains(column))
    };
    let mut fitting: Vec<&UniqueIndex> = destination.unique_indexes.iter().filter(fits).collect();
    fitting.sort_by_key(|index| (index.primary, index.oid.to_u32()));
    let mut found = HashMap::new();
    for index in fitting {
        let operators = relation::equalities(index.oid);
        for (column, operator) in index.columns.iter().zip(operators) {
            if let Some((schema, operator)) = operator {
                let schema = pgrx::spi::quote_identifier(schema);
                found.insert(column, format!("operator({schema}.{operator})"));
            }
        }
    }
    key.iter()
        .map(|name| {
            let operator = found.get(name).cloned();
            operator.unwrap_or_else(|| "operator(pg_catalog.=)".to_owned())
        })
        .collect()
}
