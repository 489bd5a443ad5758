//! The shape of a mapping's keys: by which columns, and in which encodings, its versions are stored.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, BuiltinOid, Datum};
use serde_json::{Value as JsonValue, json};

use crate::destination::Destination;
use crate::error::SqlError;
use crate::key::KeyColumn;
use crate::mapping::Mapping;
use crate::pg::keys::TypeFacts;
use crate::pg::relation;
use crate::prepared::{Kept, Lookup};

/// A column of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The column's name.
    pub name: String,
    /// `pg_attribute.attnum`, by which a renamed column is recognised.
    pub number: i64,
    /// The type under all domains, as SQL spells it.
    pub type_name: String,
    /// A word for the encoding: where two columns have the same word, equal values have equal bytes.
    pub encoding: String,
    /// The collation that the encoding depends on, as SQL spells it; empty if it depends on none.
    pub collation: String,
}

impl Part {
    /// Whether a value can be read from its bytes.
    pub fn is_readable(&self) -> bool {
        !self.encoding.starts_with("hash")
    }

    /// The column and its type, in words.
    pub fn told(&self) -> String {
        format!("{} {}", self.name, self.type_name)
    }
}

/// The columns of a key, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape(pub Vec<Part>);

/// The columns of a relation: name, number, and collation.
pub type Columns = HashMap<String, (i64, String)>;

const STORED: &str = "select k.columns::text from sequin.key_shape k where k.mapping = $1";

const STORE: &str = "
    insert into sequin.key_shape as k (mapping, columns)
    select b.mapping, b.columns::jsonb from sequin_internal.batch() b(mapping integer, columns text)
    on conflict (mapping) do update set columns = excluded.columns where k.columns <> excluded.columns";

thread_local! {
    static READ: Lookup = const { Lookup::new(STORED, &[BuiltinOid::INT4OID]) };
    static WRITE: Kept = const {
        Kept::new(STORE, &[("mapping", pg_sys::INT4OID), ("columns", pg_sys::TEXTOID)])
    };
}

/// The columns of a relation.
pub fn columns_of(of: pg_sys::Oid) -> Columns {
    let columns = relation::columns(of).into_iter();
    columns
        .map(|column| {
            let collation = relation::collation_text(column.collation);
            (column.name, (column.number.into(), collation))
        })
        .collect()
}

impl Shape {
    /// The shape that the mapping's keys have now. `None` if the mapping has no key.
    pub fn of(mapping: &Mapping, destination: &Destination, columns: &Columns) -> Option<Shape> {
        let key = mapping.key_of(destination);
        let parts: Option<Vec<Part>> = key
            .iter()
            .map(|name| {
                let column = destination.column(name)?;
                let (number, collation) = columns.get(name)?;
                let base = TypeFacts::load(column.type_oid).base;
                let type_name = relation::type_name(base, -1);
                let is_integer = [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID];
                let encoding = match KeyColumn::new(column.type_oid, column.collation) {
                    KeyColumn::Int(_) if is_integer.contains(&base) => "integer".to_owned(),
                    KeyColumn::Int(_) | KeyColumn::Uuid => type_name.clone(),
                    KeyColumn::Bytes if base == pg_sys::BYTEAOID => type_name.clone(),
                    KeyColumn::Bytes | KeyColumn::Label(_) => "text".to_owned(),
                    KeyColumn::Text(_) => format!("text of {type_name}"),
                    KeyColumn::Hash(_) => format!("hash of {type_name} {collation}"),
                };
                let hashed = encoding.starts_with("hash");
                Some(Part {
                    name: name.clone(),
                    number: *number,
                    type_name,
                    encoding,
                    collation: collation.clone().split_off(if hashed {
                        0
                    } else {
                        collation.len()
                    }),
                })
            })
            .collect();
        parts.filter(|parts| !parts.is_empty()).map(Shape)
    }

    /// The shape that the mapping's stored keys have.
    pub fn stored(mapping: i32) -> Option<Shape> {
        let found = READ.with(|query| query.rows(&[mapping.into()], |row| row.get::<String>(1)));
        let json = found.into_iter().next().flatten()?;
        let json: JsonValue = serde_json::from_str(&json).ok()?;
        let parts = json.as_array()?.iter().map(|part| {
            let text = |name: &str| part[name].as_str().unwrap_or_default().to_owned();
            Part {
                name: text("name"),
                number: part["number"].as_i64().unwrap_or_default(),
                type_name: text("type"),
                encoding: text("encoding"),
                collation: text("collation"),
            }
        });
        Some(Shape(parts.collect()))
    }

    /// Stores the shape.
    pub fn store(&self, mapping: i32) -> Result<(), SqlError> {
        let parts = self.0.iter().map(|part| {
            json!({"name": part.name, "number": part.number, "type": part.type_name,
                   "encoding": part.encoding, "collation": part.collation})
        });
        let parts = JsonValue::from(parts.collect::<Vec<_>>()).to_string();
        let row = vec![Some(Datum::from(mapping)), parts.as_str().into_datum()];
        WRITE.with(|statement| statement.execute_of(row)).map(drop)
    }

    /// The columns in words.
    pub fn told(&self) -> String {
        let parts: Vec<String> = self.0.iter().map(Part::told).collect();
        parts.join(", ")
    }
}

/// The name that a part's column has now: the column can have been renamed. `None` if it is gone.
pub fn name_now<'c>(part: &'c Part, columns: &'c Columns) -> Option<&'c str> {
    if columns.contains_key(&part.name) {
        return Some(&part.name);
    }
    let mut all = columns.iter();
    all.find(|(_, (number, _))| *number == part.number)
        .map(|(name, _)| name.as_str())
}

/// A value of a part of a key, as SQL, under the part's collation.
pub fn with_collation(value: String, part: &Part) -> String {
    match part.collation.as_str() {
        "" => value,
        collation => format!("({value} collate {collation})"),
    }
}

thread_local! {
    static TYPE: Lookup = const {
        Lookup::new("select pg_catalog.to_regtype($1)::pg_catalog.oid", &[BuiltinOid::TEXTOID])
    };
}

/// The type of this name; `None` if there is none any more.
pub fn type_oid(name: &str) -> Option<pg_sys::Oid> {
    let found = TYPE.with(|query| query.rows(&[name.into()], |row| row.get(1)));
    found.into_iter().next().flatten()
}
