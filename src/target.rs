//! A mapping made ready to write its destination: what each column is read from, how it is cast,
//! and the kept plans of the statements.
//!
//! A target is made from the catalog once and kept by the backend until the mapping, the destination
//! or a type that it is made of changes.

use std::collections::HashMap;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::backfill::is_unreadable;
use crate::cast::Caster;
use crate::destination::Destination;
use crate::error::SqlError;
use crate::guard::{self, Place};
use crate::json::Json;
use crate::key::KeyColumn;
use crate::mapping::{ColumnSource, Mapping, Mode, Path, Root};
use crate::merge::Provided;
use crate::message::{Action, Field, Message};
use crate::pg::tuples::RowColumn;
use crate::pg::user::ActingAs;
use crate::prepared::Statement;
use crate::projection::Projection;
use crate::statement::{Expression, SqlColumn, SqlRelation};

/// What a column is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The record's member of this name.
    Field(String),
    /// A deeper place, or another part of the message.
    Path(Path),
    /// A constant's JSON text.
    Constant(String),
    /// The projection's expression of this number.
    Sql(usize),
}

/// A column that the mapping writes.
pub struct TargetColumn {
    /// Its name.
    pub name: String,
    /// Where its values come from.
    pub source: Source,
    /// What makes datums of them; for SQL expressions the server does.
    pub caster: Caster,
    /// Its type in a batch relation.
    pub row: RowColumn,
    /// Its spelling in statements.
    pub sql: SqlColumn,
    /// Whether a row cannot be inserted without it.
    pub required: bool,
    /// Whether it is the whole record as jsonb, of which an update may bring a part.
    pub document: bool,
    /// Whether it can be null.
    pub nullable: bool,
    /// Whether a read's null says nothing.
    pub unreadable: bool,
}

/// What a message says of one column.
#[derive(Debug, Clone, Copy)]
pub enum Slot<'a> {
    /// Nothing.
    Nothing,
    /// That it did not change.
    Unchanged,
    /// This value.
    Json(Json<'a>),
    /// The whole record, but for members that did not change.
    Partial,
    /// The constant of the column's source.
    Constant,
    /// The projection's expression of this number has it.
    Sql(usize),
}

impl Slot<'_> {
    /// What [`crate::merge`] needs to know of it.
    pub fn provided(&self) -> Provided {
        match self {
            Slot::Nothing => Provided::Nothing,
            Slot::Unchanged => Provided::Unchanged,
            Slot::Json(_) | Slot::Partial | Slot::Constant | Slot::Sql(_) => Provided::Value,
        }
    }
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Write {
    /// Rows that may exist, whatever they have.
    Upsert,
    /// The same, where the version that the row has is older.
    UpsertNewer,
    /// The same, returning the keys of the rows that were written.
    UpsertNewerNamed,
    /// The same, where the read is late enough.
    UpsertRead,
    /// Rows that do exist: an insert could not name every column that it must.
    Update,
    /// Rows that may exist and are others than these: columns that are not named get their defaults.
    Replace,
    /// Rows that may exist, marked as deleted.
    UpsertMarked,
}

/// A mapping, ready.
pub struct Target {
    /// The mapping.
    pub mapping: Mapping,
    /// Its destination.
    pub destination: Destination,
    /// The columns that it writes.
    pub columns: Vec<TargetColumn>,
    /// Which of them are the key.
    pub key: Vec<usize>,
    /// How the key's values become bytes.
    pub key_encoding: Vec<KeyColumn>,
    /// SQL that the server evaluates, if there is any.
    pub projection: Option<Projection>,
    /// The statements for each way to write each set of present columns (one bit each).
    pub shapes: HashMap<(Write, Vec<u64>), Statement>,
    /// Where row versions live.
    pub place: Place,
    /// With guard columns: the source database whose positions the columns hold.
    pub home: Option<i64>,
    /// The guard's statements.
    pub guard: guard::Statements,
    /// Deletes (or marks) rows by key.
    pub delete: Option<Statement>,
    /// Find rows that a delete would take along, by the number of the destination's referrer.
    pub referrers: HashMap<usize, Statement>,
    /// Relations whose change makes the target stale.
    pub depends_on: Vec<pg_sys::Oid>,
    fields: HashMap<String, Vec<usize>>,
    others: Vec<usize>,
    layout: Vec<(String, Vec<usize>)>,
}

/// More statements than this are not kept.
const SHAPES: usize = 64;

impl Target {
    /// Makes the mapping ready. `None`: the destination is gone.
    pub fn make(mapping: &Mapping) -> Option<Result<Target, SqlError>> {
        let oid = pg_sys::Oid::from(mapping.destination?);
        let destination = Destination::load(oid)?;
        Some(Self::of(mapping.clone(), destination))
    }

    fn of(mapping: Mapping, destination: Destination) -> Result<Target, SqlError> {
        let key_names = match (&mapping.key, mapping.mode) {
            (Some(key), _) => key.clone(),
            (None, _) => destination.primary_key().to_vec(),
        };
        let named = mapping.columns.named.iter();
        let gone: Vec<_> = named
            .map(|(name, _)| name)
            .filter(|name| destination.column(name).is_none())
            .collect();
        if let Some(name) = gone.first() {
            return Err(no_column(&mapping, &destination, name));
        }
        let equality = equality_operators(destination.oid, &key_names);
        let mut expressions = Vec::new();
        let mut columns = Vec::new();
        for column in &destination.columns {
            if column.generated || mapping.reserves(&column.name) {
                continue;
            }
            let source = match mapping.columns.source(&column.name) {
                Some(ColumnSource::Path(path)) => match (path.root, path.keys.as_slice()) {
                    (Root::Record, [name]) => Source::Field(name.clone()),
                    _ => Source::Path(path.clone()),
                },
                Some(ColumnSource::Value(json)) => Source::Constant(json.clone()),
                Some(ColumnSource::Sql(sql)) => {
                    let in_key = key_names.contains(&column.name);
                    // Key bytes are made of values of the column's own type.
                    let sql = if in_key {
                        format!("(\n{sql}\n)::{}", column.type_name)
                    } else {
                        sql.clone()
                    };
                    expressions.push(Expression {
                        sql,
                        always: in_key,
                    });
                    Source::Sql(expressions.len() - 1)
                }
                None if mapping.columns.rest => Source::Field(column.name.clone()),
                None => continue,
            };
            let key_position = key_names.iter().position(|name| *name == column.name);
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
                    merges: false,
                },
                required: column.not_null && !column.has_default,
                document: column.type_oid == pg_sys::JSONBOID
                    && matches!(mapping.columns.source(&column.name),
                                Some(ColumnSource::Path(path))
                                if path.root == Root::Record && path.keys.is_empty()),
                nullable: !column.not_null,
                unreadable: is_unreadable(column.type_oid),
            });
        }
        let mut key: Vec<usize> = key_names
            .iter()
            .filter_map(|name| columns.iter().position(|c| c.name == *name))
            .collect();
        if mapping.mode == Mode::Append && key.len() < key_names.len() {
            // The key is not the message's: a default makes it.
            key.clear();
        }
        if mapping.mode == Mode::Upsert && (key.is_empty() || key.len() < key_names.len()) {
            return Err(no_key(&mapping, &destination));
        }
        let key_encoding = key
            .iter()
            .map(|&i| KeyColumn::new(columns[i].row.type_oid, columns[i].row.collation))
            .collect();
        let mut fields: HashMap<String, Vec<usize>> = HashMap::new();
        let mut others = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            match &column.source {
                Source::Field(name) => fields.entry(name.clone()).or_default().push(i),
                _ => others.push(i),
            }
        }
        let mut depends_on = vec![destination.oid];
        depends_on.extend(columns.iter().flat_map(|c| c.caster.depends_on()));
        let place = Place::of(&mapping, &destination);
        if place == Place::Columns {
            depends_on.push(guard::home_sources());
        }
        // The server may run parts of it while it plans.
        let owner = ActingAs::untrusted(pg_sys::Oid::from(mapping.owner));
        let projection =
            Projection::make(&mapping, &mut columns, &expressions, |i| key.contains(&i))?;
        drop(owner);
        Ok(Target {
            mapping,
            destination,
            columns,
            key,
            key_encoding,
            projection,
            shapes: HashMap::new(),
            place,
            home: None,
            guard: guard::Statements::default(),
            delete: None,
            referrers: HashMap::new(),
            depends_on,
            fields,
            others,
            layout: Vec::new(),
        })
    }

    /// Reads what the message says of each column into `slots`.
    pub fn read<'a>(
        &mut self,
        message: &Message<'a>,
        fields: &[Field<'a>],
        slots: &mut Vec<Slot<'a>>,
    ) {
        slots.clear();
        slots.resize(self.columns.len(), Slot::Nothing);
        let mut partial = false;
        for (position, field) in fields.iter().enumerate() {
            // Messages of one table have their fields in one order, as a rule.
            if self
                .layout
                .get(position)
                .is_none_or(|(key, _)| key != field.key)
            {
                let columns = self.fields.get(field.key).cloned().unwrap_or_default();
                let entry = (field.key.to_owned(), columns);
                if position < self.layout.len() {
                    self.layout[position] = entry;
                } else {
                    self.layout.push(entry);
                }
            }
            let slot = if is_unchanged(message, field) {
                partial = true;
                Slot::Unchanged
            } else {
                Slot::Json(field.value)
            };
            let unknown = message.action == Action::Read && field.value.is_null();
            for &column in &self.layout[position].1 {
                slots[column] = if unknown && self.columns[column].unreadable {
                    Slot::Nothing
                } else {
                    slot
                };
            }
        }
        for &column in &self.others {
            slots[column] = if partial && self.columns[column].document {
                Slot::Partial
            } else {
                other(&self.columns[column].source, message)
            };
        }
    }

    /// Whether the message moved its row from another key, as far as its `changes` tell: a column
    /// that the key is read from is among them.
    pub fn changes_key<'a>(&self, message: &Message<'a>) -> bool {
        if message.action != Action::Update || self.mapping.mode == Mode::Append {
            return false;
        }
        let Some(changes) = message.changes else {
            return false;
        };
        self.key.iter().any(|&i| match &self.columns[i].source {
            Source::Field(name) => changes.get(name).is_some(),
            Source::Path(Path {
                root: Root::Record,
                keys,
            }) => keys.first().is_some_and(|name| changes.get(name).is_some()),
            Source::Sql(_) => changes.members().next().is_some(),
            Source::Path(_) | Source::Constant(_) => false,
        })
    }

    /// What the row's former image says of a key column: the record overlaid with `changes`.
    pub fn former<'a>(&self, message: &Message<'a>, column: usize) -> Slot<'a> {
        let changes = message.changes;
        let member = |name: &str| {
            changes
                .and_then(|changes| changes.get(name))
                .or_else(|| message.record.get(name))
        };
        let value = match &self.columns[column].source {
            Source::Field(name) => member(name),
            Source::Path(Path {
                root: Root::Record,
                keys,
            }) if !keys.is_empty() => member(&keys[0]).and_then(|value| value.path(&keys[1..])),
            source => return other(source, message),
        };
        value.map_or(Slot::Nothing, Slot::Json)
    }

    /// Keeps a statement for the next call.
    pub fn keep(&mut self, key: (Write, Vec<u64>), statement: Statement) {
        if self.shapes.len() >= SHAPES {
            self.shapes.clear();
        }
        self.shapes.insert(key, statement);
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
        }
    }

    /// The columns of a batch relation of keys, each behind its number.
    pub fn numbered_key(&self) -> Vec<RowColumn> {
        let key = self.key.iter().map(|&i| self.columns[i].row.clone());
        std::iter::once(RowColumn::number("sequin_n"))
            .chain(key)
            .collect()
    }

    /// The key's columns as statements spell them.
    pub fn key_sql(&self) -> Vec<&SqlColumn> {
        self.key.iter().map(|&i| &self.columns[i].sql).collect()
    }

    /// What an upsert sets beside the message's columns: the mark of a soft delete is taken away.
    pub fn revival(&self) -> Vec<(String, String)> {
        let Some(mark) = &self.mapping.soft_delete else {
            return Vec::new();
        };
        let boolean = self
            .destination
            .column(mark)
            .is_some_and(|c| c.type_oid == pg_sys::BOOLOID);
        let value = if boolean { "false" } else { "null" };
        vec![(pgrx::spi::quote_identifier(mark), value.to_owned())]
    }
}

/// Adds what the message says of the record to a document: the members that changed, or all.
pub fn collect<'a>(
    message: &Message<'a>,
    fields: &[Field<'a>],
    document: &mut Vec<(&'a str, Json<'a>)>,
) {
    for field in fields.iter().filter(|field| !is_unchanged(message, field)) {
        match document.iter_mut().find(|(key, _)| *key == field.key) {
            Some((_, value)) => *value = field.value,
            None => document.push((field.key, field.value)),
        }
    }
}

/// Whether an update says of the field that its value did not change, and not what it is. A value
/// that did change is listed in `changes`, so a text that happens to read the same is told apart.
fn is_unchanged(message: &Message<'_>, field: &Field<'_>) -> bool {
    message.action == Action::Update
        && field.value.is_string("unchanged_toast")
        && message
            .changes
            .and_then(|changes| changes.get(field.key))
            .is_none()
}

fn other<'a>(source: &Source, message: &Message<'a>) -> Slot<'a> {
    match source {
        Source::Field(_) => Slot::Nothing,
        Source::Sql(number) => Slot::Sql(*number),
        Source::Constant(_) => Slot::Constant,
        Source::Path(path) => {
            if path.root == Root::Record
                && let Some(name) = path.keys.first()
                && let Some(value) = message.record.get(name)
                && is_unchanged(message, &Field { key: name, value })
            {
                return Slot::Unchanged;
            }
            let root = match path.root {
                Root::Record => Some(message.record),
                Root::Metadata => Some(message.metadata),
                Root::Changes => message.changes,
                Root::Action => {
                    return Slot::Json(Json::Text(match message.action {
                        Action::Insert => "\"insert\"",
                        Action::Update => "\"update\"",
                        Action::Delete => "\"delete\"",
                        Action::Read => "\"read\"",
                    }));
                }
            };
            match root.and_then(|root| root.path(&path.keys)) {
                Some(value) => Slot::Json(value),
                // A record that lacks the member says nothing of the column; other parts say null.
                None if path.root == Root::Record
                    && path
                        .keys
                        .first()
                        .is_none_or(|k| message.record.get(k).is_none()) =>
                {
                    Slot::Nothing
                }
                None => Slot::Json(Json::Text("null")),
            }
        }
    }
}

/// A mapping is checked when it is made; since then the table, or its key, has become another.
fn no_key(mapping: &Mapping, destination: &Destination) -> SqlError {
    SqlError::new(
        "42P10",
        format!(
            "mapping \"{}\" has no key in {}",
            mapping.name,
            destination.qualified_name()
        ),
    )
    .with_detail("The table has changed since the mapping was made. Nothing of this batch was applied.")
    .with_hint(
        "Give the table its primary key back, or name the key's columns with sequin.map(…, key => …).",
    )
}

/// The same: a column that the mapping names was dropped, or has another name.
fn no_column(mapping: &Mapping, destination: &Destination, name: &str) -> SqlError {
    SqlError::new(
        "42703",
        format!(
            "column \"{name}\" of {}, which mapping \"{}\" writes, does not exist",
            destination.qualified_name(),
            mapping.name
        ),
    )
    .with_detail("The table has changed since the mapping was made. Nothing of this batch was applied.")
    .with_hint(
        "Give the column its name back, or name the columns as they are now with sequin.map(…, columns => …).",
    )
}

const EQUALITY: &str = "
    select a.attname::text,
           'operator(' || pg_catalog.quote_ident(n.nspname) || '.' || o.oprname || ')'
    from pg_catalog.pg_index i
    cross join lateral rows from (pg_catalog.unnest(i.indkey::smallint[]),
                                  pg_catalog.unnest(i.indclass::oid[])) k(attnum, opclass)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_catalog.pg_opclass c on c.oid = k.opclass
    join pg_catalog.pg_amop m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype
         and m.amoprighttype = c.opcintype and m.amopstrategy = 3
    join pg_catalog.pg_operator o on o.oid = m.amopopr
    join pg_catalog.pg_namespace n on n.oid = o.oprnamespace
    where i.indrelid = $1 and i.indisunique and i.indimmediate and i.indisvalid
          and i.indpred is null and i.indnkeyatts = pg_catalog.cardinality($2)
          and not exists (select from pg_catalog.generate_series(0, i.indnkeyatts - 1) n
                          where not exists (select from pg_catalog.pg_attribute x
                                            where x.attrelid = i.indrelid and x.attnum = i.indkey[n]
                                                  and x.attname::text = any ($2)))
    order by i.indisprimary, i.indexrelid";

/// The equality operator of each key column in the unique index on the key. With the search_path
/// pinned, a plain `=` would miss those of extension types.
fn equality_operators(relation: pg_sys::Oid, key: &[String]) -> Vec<String> {
    let found = Spi::connect_mut(|client| {
        client
            .update(EQUALITY, None, &[relation.into(), key.to_vec().into()])?
            .map(|row| Ok((row.get::<String>(1)?, row.get::<String>(2)?)))
            .collect::<Result<HashMap<_, _>, pgrx::spi::Error>>()
    })
    .unwrap_or_else(|e| error!("could not read the catalog: {e}"));
    key.iter()
        .map(|name| {
            let operator = found.get(&Some(name.clone())).cloned().flatten();
            operator.unwrap_or_else(|| "operator(pg_catalog.=)".to_owned())
        })
        .collect()
}
