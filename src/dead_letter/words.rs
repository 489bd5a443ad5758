//! Says in words what a letter waits for, as far as the mapping's owner may know it.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys::{self, BuiltinOid};

use super::circles::MANY;
use super::{Letter, State};
use crate::destination::{self, Destination};
use crate::error::SqlError;
use crate::error::sqlstate::{EXCLUSION_VIOLATION, NOT_NULL_VIOLATION, UNIQUE_VIOLATION};
use crate::key::{KeyColumn, decode, decode_value};
use crate::mapping::Mapping;
use crate::outcome::Wait;
use crate::pg::user::may_act_as;
use crate::prepared::Lookup;

/// A table with row security does not count: the policies may hide rows from a role with SELECT.
const MAY_SELECT: &str = "
    select c.oid::pg_catalog.regclass::text,
           not c.relrowsecurity and pg_catalog.has_table_privilege($2, c.oid, 'SELECT')
    from pg_catalog.pg_class c
    where c.oid = $1 and exists (select from pg_catalog.pg_roles r where r.oid = $2)";

thread_local! {
    static MAY: Lookup = const {
        Lookup::new(MAY_SELECT, &[BuiltinOid::OIDOID, BuiltinOid::OIDOID])
    };
}

/// A table that letters wait for.
struct Table {
    columns: Vec<Column>,
    /// The keys of the mappings to this table, each with its columns in the order of the table.
    keys: Vec<Vec<usize>>,
}

struct Column {
    name: String,
    type_oid: pg_sys::Oid,
    key: KeyColumn,
}

/// How a table is shown to an owner.
#[derive(Clone)]
struct Shown {
    /// The table's name, as SQL spells it.
    name: String,
    /// Whether the owner may know keys of the table's rows.
    keys: bool,
    /// Whether a mapping writes the table.
    written: bool,
}

/// Adds to a waiting letter that more letters than a call takes along may have to be written together with it.
pub fn add_bound(letter: &mut Letter<'_>) {
    if letter.state == State::Waiting {
        let bound = format!(
            "More letters may have to be written together with it than the {MANY} that a call takes along: \
             deliver their messages again in one batch, which has no such limit."
        );
        let error = letter.error.to_mut();
        error.hint = Some(match error.hint.take() {
            Some(hint) => format!("{hint} {bound}"),
            None => bound,
        });
    }
}

/// Puts into words what letters wait for.
pub struct Words<'m> {
    mappings: &'m [Mapping],
    /// The mapping of the previous letter.
    last: Option<&'m Mapping>,
    tables: HashMap<pg_sys::Oid, Table>,
    shown: HashMap<(pg_sys::Oid, pg_sys::Oid), Option<Shown>>,
}

impl<'m> Words<'m> {
    /// Words for letters of these mappings.
    pub fn new(mappings: &'m [Mapping]) -> Words<'m> {
        Words {
            mappings,
            last: None,
            tables: HashMap::new(),
            shown: HashMap::new(),
        }
    }

    /// Adds to a waiting letter the awaited key in words, and a hint if the error has none.
    pub fn add(&mut self, letter: &mut Letter<'_>) {
        let Some(wait) = letter
            .wait
            .as_ref()
            .filter(|_| letter.state == State::Waiting)
        else {
            return;
        };
        let (Some(table), Some(name)) = (wait.table(), letter.mapping.as_deref()) else {
            return;
        };
        let is_its = |mapping: &&Mapping| mapping.name == name;
        let found = self.last.filter(is_its);
        let Some(mapping) = found.or_else(|| self.mappings.iter().find(is_its)) else {
            return;
        };
        self.last = Some(mapping);
        let owner = mapping.owner_oid();
        let own = mapping
            .destination_oid()
            .and_then(|own| self.shown(own, owner));
        let (Some(shown), Some(own)) = (self.shown(table, owner), own) else {
            return;
        };
        let words = wait
            .key()
            .filter(|_| shown.keys)
            .and_then(|key| self.key(table, key));
        if letter.error.hint.is_none()
            && let Some(hint) = hint(&letter.error, wait, [&own, &shown], words.as_deref(), name)
        {
            letter.error.to_mut().hint = Some(hint);
        }
        letter.waits_for_key = words;
    }

    fn shown(&mut self, table: pg_sys::Oid, owner: pg_sys::Oid) -> Option<Shown> {
        let mappings = self.mappings;
        let shown = self.shown.entry((table, owner)).or_insert_with(|| {
            let read = MAY.with(|query| {
                query.rows(&[table.into(), owner.into()], |row| {
                    Ok((row.get::<String>(1)?, row.get::<bool>(2)?))
                })
            });
            let (name, may) = read.into_iter().next()?;
            let of_table = |mapping: &&Mapping| mapping.destination_oid() == Some(table);
            let mut of_table = mappings.iter().filter(of_table).peekable();
            let written = of_table.peek().is_some();
            let writes = of_table.any(|mapping| may_act_as(owner, mapping.owner_oid()));
            Some(Shown {
                name: name?,
                keys: writes || may == Some(true),
                written,
            })
        });
        shown.clone()
    }

    /// Spells a key, or a value that foreign keys refer to, as the server does: `(a, b)=(1, x)`.
    fn key(&mut self, table: pg_sys::Oid, key: &[u8]) -> Option<String> {
        let mappings = self.mappings;
        let table = self
            .tables
            .entry(table)
            .or_insert_with(|| read(table, mappings));
        let of_names = |names: &[&str]| -> Option<Vec<usize>> {
            let place = |name: &&str| table.columns.iter().position(|c| c.name == **name);
            names.iter().map(place).collect()
        };
        let value = decode_value(key)
            .and_then(|(names, values)| Some((of_names(&names)?, values)))
            .and_then(|(columns, values)| spell(table, &columns, values));
        value.or_else(|| {
            table
                .keys
                .iter()
                .find_map(|columns| spell(table, columns, key))
        })
    }
}

/// The hint for a letter of this mapping. `own` is the mapping's table, `awaited` is the table that the
/// letter waits for.
fn hint(
    error: &SqlError,
    wait: &Wait,
    [own, awaited]: [&Shown; 2],
    words: Option<&str>,
    mapping: &str,
) -> Option<String> {
    let table = &awaited.name;
    let row = match (words, wait.key()) {
        (Some(words), _) => format!("row {words} of table {table}"),
        (None, Some(_)) => format!("a certain row of table {table}"),
        (None, None) => format!("a row of table {table}"),
    };
    let constraint = match &error.constraint {
        Some(name) => format!("constraint \"{name}\""),
        None => "a constraint".to_owned(),
    };
    let when = if error.violates_foreign_key() {
        // The server names the referring table. A partition has a name of its own.
        let names = error.schema.as_deref().zip(error.table.as_deref());
        let child = names.map(|(schema, name)| pgrx::spi::quote_qualified_identifier(schema, name));
        let is_child = |shown: &Shown| child.as_ref() == Some(&shown.name);
        match (own.name == awaited.name, is_child(own), is_child(awaited)) {
            (false, true, _) => format!("a message brings {row}, to which {constraint} refers"),
            (false, _, true) => {
                format!("a message deletes or changes {row}, which refers to it by {constraint}")
            }
            _ => format!("a message brings, changes or deletes {row}, which {constraint} is about"),
        }
    } else if error.is(UNIQUE_VIOLATION) || error.is(EXCLUSION_VIOLATION) {
        format!("a message deletes or changes {row}, which {constraint} does not allow beside it")
    } else if error.is(NOT_NULL_VIOLATION) && own.name == awaited.name {
        format!("an older message brings {row} with the value")
    } else {
        return None;
    };
    let exchange = match error.is(UNIQUE_VIOLATION) || error.is(EXCLUSION_VIOLATION) {
        true => " Rows can always exchange values if the constraint is DEFERRABLE.",
        false => "",
    };
    let or_else = match awaited.written {
        true => "If none will,",
        false => "No mapping writes that table: map it with sequin.map, or",
    };
    let mapping = pgrx::spi::quote_literal(mapping);
    Some(format!(
        "It is applied when {when}.{exchange} {or_else} make it right by hand and run: \
         SELECT * FROM sequin.retry({mapping});"
    ))
}

fn read(table: pg_sys::Oid, mappings: &[Mapping]) -> Table {
    let Some(known) = Destination::known(table) else {
        return Table {
            columns: Vec::new(),
            keys: Vec::new(),
        };
    };
    let mut keys: Vec<Vec<usize>> = Vec::new();
    let of_table = |mapping: &&Mapping| mapping.destination_oid() == Some(table);
    for mapping in mappings.iter().filter(of_table) {
        let names = mapping.key_of(&known);
        let columns = known.columns.iter().enumerate();
        let key: Vec<usize> = columns
            .filter(|(_, column)| names.contains(&column.name))
            .map(|(i, _)| i)
            .collect();
        if !key.is_empty() && !keys.contains(&key) {
            keys.push(key);
        }
    }
    let column = |column: &destination::Column| Column {
        name: column.name.clone(),
        type_oid: column.type_oid,
        key: KeyColumn::new(column.type_oid, column.collation),
    };
    Table {
        keys,
        columns: known.columns.iter().map(column).collect(),
    }
}

fn spell(table: &Table, columns: &[usize], bytes: &[u8]) -> Option<String> {
    let of_columns = || columns.iter().map(|&i| &table.columns[i]);
    let types: Vec<_> = of_columns()
        .map(|column| (&column.key, column.type_oid))
        .collect();
    let values = decode(&types, bytes)?;
    let names: Vec<_> = of_columns()
        .map(|column| pgrx::spi::quote_identifier(&column.name))
        .collect();
    Some(format!("({})=({})", names.join(", "), values.join(", ")))
}
