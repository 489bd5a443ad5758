//! The destination relation: its columns, its unique indexes, the tables it refers to.

#![forbid(unsafe_code)]

pub mod constraints;
pub mod links;
pub mod partitions;
pub mod places;
pub mod shards;

pub use links::{Action, Equality, Referrer};

use std::rc::Rc;

use pgrx::pg_sys;
use pgrx::spi::quote_qualified_identifier;

use crate::memo::Memo;
use crate::pg::relation::{self, AttributeRow, IndexRow};
use crate::pg::tuples::RowColumn;
use crate::statement::Shards;
use links::Links;

/// A relation that messages are written to, as the catalog describes it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// `pg_class.oid`.
    pub oid: pg_sys::Oid,
    /// The schema's name.
    pub schema: String,
    pub name: String,
    /// The role that owns the relation.
    pub owner: pg_sys::Oid,
    /// `pg_class.relkind`.
    pub relkind: u8,
    /// `pg_class.relpersistence`.
    pub persistence: u8,
    /// The columns in order, without dropped columns.
    pub columns: Vec<Column>,
    /// The unique indexes, the primary key's first.
    pub unique_indexes: Vec<UniqueIndex>,
    /// Whether the relation has no other access method than `heap`.
    pub is_heap: bool,
    /// Whether the relation may have partitions, or tables that inherit from it.
    pub has_children: bool,
    /// Whether the relation may have rules.
    pub rules: bool,
    /// Whether row security is switched on.
    pub row_security: bool,
    /// What its triggers, foreign keys and children make of it.
    pub links: Links,
    /// For a table of Citus: how its rows are spread. The relation itself has none of them.
    pub shards: Option<Shards>,
}

/// A column of a destination.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// The column's type.
    pub type_oid: pg_sys::Oid,
    /// The type modifier, -1 for none.
    pub typmod: i32,
    /// The collation, `InvalidOid` for none.
    pub collation: pg_sys::Oid,
    /// The type as SQL spells it, with the modifier, schema-qualified unless in `pg_catalog`.
    pub type_name: String,
    /// ` collate …` for a collation that is not the type's own; else empty.
    pub collate: String,
    /// Whether the column refuses null.
    pub not_null: bool,
    /// Whether an insert without the column gives it a value: a default or an identity.
    pub has_default: bool,
    /// Whether the column is generated from other columns.
    pub generated: bool,
    /// `pg_attribute.attidentity`: `a` for always, `d` for by default.
    pub identity: Option<u8>,
}

/// A unique index of a destination.
#[derive(Debug, Clone)]
pub struct UniqueIndex {
    pub oid: pg_sys::Oid,
    pub name: String,
    /// The key columns in order; empty if one of them is an expression.
    pub columns: Vec<String>,
    /// Whether the index is the primary key's.
    pub primary: bool,
    /// False for the index of a deferrable constraint: `ON CONFLICT` cannot use such an index.
    pub immediate: bool,
    /// Whether the index covers only some of the rows.
    pub partial: bool,
    /// Whether the index was built completely.
    pub valid: bool,
}

impl Column {
    fn of(row: AttributeRow) -> Column {
        let collate = relation::other_collation(row.type_oid, row.collation);
        let collate = collate
            .map(|(schema, name)| format!(" collate {}", quote_qualified_identifier(schema, name)));
        Column {
            type_name: relation::type_name(row.type_oid, row.typmod),
            collate: collate.unwrap_or_default(),
            name: row.name,
            type_oid: row.type_oid,
            typmod: row.typmod,
            collation: row.collation,
            not_null: row.not_null,
            has_default: row.has_default || row.identity.is_some(),
            generated: row.generated,
            identity: row.identity,
        }
    }

    /// The column's definition in a column definition list.
    pub fn definition(&self) -> String {
        let name = pgrx::spi::quote_identifier(&self.name);
        format!("{name} {}{}", self.type_name, self.collate)
    }

    /// The column as a column of a batch relation.
    pub fn row(&self) -> RowColumn {
        RowColumn {
            name: self.name.clone(),
            type_oid: self.type_oid,
            typmod: self.typmod,
            collation: self.collation,
        }
    }
}

impl UniqueIndex {
    fn of(row: IndexRow, columns: &[AttributeRow]) -> UniqueIndex {
        let name = |number: &i16| {
            let column = columns.iter().find(|column| column.number == *number);
            column.map(|column| column.name.clone())
        };
        UniqueIndex {
            oid: row.oid,
            columns: match row.has_expressions {
                true => Vec::new(),
                false => row.key.iter().filter_map(name).collect(),
            },
            name: row.name,
            primary: row.primary,
            immediate: row.immediate,
            partial: row.partial,
            valid: row.valid,
        }
    }
}

impl Destination {
    /// Reads the relation from the catalog; `None` if no relation has this OID.
    pub fn load(oid: pg_sys::Oid) -> Option<Destination> {
        relation::refresh();
        let row = relation::row(oid)?;
        let columns = relation::columns(oid);
        let unique_indexes = relation::unique_indexes(oid);
        let links = if row.kind != b'r' || row.has_children || row.is_partition {
            links::ask(oid)?
        } else if row.has_triggers {
            links::look(oid, &columns)?
        } else {
            Links::default()
        };
        Some(Destination {
            oid,
            schema: row.schema,
            name: row.name,
            owner: links.owner.unwrap_or(row.owner),
            relkind: row.kind,
            persistence: row.persistence,
            unique_indexes: unique_indexes
                .into_iter()
                .map(|index| UniqueIndex::of(index, &columns))
                .collect(),
            columns: columns.into_iter().map(Column::of).collect(),
            is_heap: row.is_heap,
            has_children: row.has_children,
            rules: row.has_rules,
            row_security: row.has_row_security,
            links,
            shards: shards::of(oid),
        })
    }

    /// The relation as [`Self::load`] reads it; read once, until definitions change.
    pub fn known(oid: pg_sys::Oid) -> Option<Rc<Destination>> {
        KNOWN.with(|known| known.get(oid, || Destination::load(oid)))
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The relation's schema and name, quoted where SQL needs it.
    pub fn qualified_name(&self) -> String {
        quote_qualified_identifier(&self.schema, &self.name)
    }

    /// The columns of the primary key, in order; empty without a primary key.
    pub fn primary_key(&self) -> &[String] {
        self.unique_indexes
            .iter()
            .find(|i| i.primary)
            .map_or(&[], |i| &i.columns)
    }
}

thread_local! {
    static KNOWN: Memo<pg_sys::Oid, Destination> = const { Memo::new() };
}
