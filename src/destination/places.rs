//! The tables that hold the rows of a destination: the destination itself, or its partitions.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::{Destination, UniqueIndex};
use crate::prepared::Lookup;

/// The tables that hold the rows, each with its part of a unique index.
#[derive(Debug)]
pub struct Places {
    /// Pairs of OIDs: the table, and its index.
    pub tables: Vec<(pg_sys::Oid, pg_sys::Oid)>,
    /// The columns of the index, in its order.
    pub columns: Vec<String>,
}

const TABLES: &str = "
    with recursive part as (
        select i.indexrelid
        from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
        where i.indrelid = $1 and c.relname = $2
        union all
        select h.inhrelid from part p join pg_catalog.pg_inherits h on h.inhparent = p.indexrelid)
    select i.indrelid, i.indexrelid
    from part p
    join pg_catalog.pg_index i on i.indexrelid = p.indexrelid
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    where c.relkind = 'i'
      and not exists (select from pg_catalog.pg_inherits h
                      join pg_catalog.pg_class t on t.oid = h.inhparent and t.relkind = 'r'
                      where h.inhparent = i.indrelid)";

thread_local! {
    static PARTS: Lookup = const {
        Lookup::new(TABLES, &[BuiltinOid::OIDOID, BuiltinOid::TEXTOID])
    };
}

impl Places {
    /// Where the rows of a table are that have this key. `None`: that cannot be told. No valid index of the whole table
    /// has exactly these columns, or tables inherit from it.
    pub fn of(destination: &Destination, key: &[&str]) -> Option<Places> {
        let index = key_index(destination, key)?;
        let tables = PARTS.with(|parts| {
            let name = index.name.clone();
            parts.rows(&[destination.oid.into(), name.into()], |row| {
                Ok((
                    row.get(1)?.expect("not null"),
                    row.get(2)?.expect("not null"),
                ))
            })
        });
        (!tables.is_empty()).then(|| Places {
            tables,
            columns: index.columns.clone(),
        })
    }
}

/// The valid index of the whole table that has exactly these columns.
pub fn key_index<'d>(destination: &'d Destination, key: &[&str]) -> Option<&'d UniqueIndex> {
    destination.unique_indexes.iter().find(|index| {
        let columns = &index.columns;
        index.immediate
            && index.valid
            && !index.partial
            && columns.len() == key.len()
            && key
                .iter()
                .all(|name| columns.iter().any(|column| column == name))
    })
}
