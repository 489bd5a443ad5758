//! Reading `sequin.mapping`.
//!
//! The queries are not read-only for SPI, so that each takes a new snapshot. The snapshot of the caller's
//! statement would not show a change that the call has just waited for.

#![forbid(unsafe_code)]

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{Mapping, MappingRow};
use crate::error::Error;
use crate::error::nearest::nearest;
use crate::pg::keys::extension_owner;
use crate::pg::spi;
use crate::pg::user::{ActingAs, current_user, may_act_as};
use crate::prepared::Lookup;

const MAPPINGS: &str = "
    select id, name, source, destination::oid, columns::text, key, filter, mode, on_delete,
           soft_delete, on_error, guard, enabled, owner::oid, search_path
    from sequin.mapping order by id";

/// Every mapping of the database, by id. A row with faults, which the trigger has not checked, must not keep the others from
/// being read.
pub fn load() -> Result<Vec<Mapping>, Error> {
    let rows = select().unwrap_or_else(|e| error!("could not read sequin.mapping: {e}"));
    let read = |row: MappingRow| {
        let (mapping, faults) = row.read();
        Mapping { faults, ..mapping }
    };
    Ok(rows.into_iter().map(read).collect())
}

fn select() -> Result<Vec<MappingRow>, pgrx::spi::Error> {
    Spi::connect_mut(|client| {
        spi::select(client, MAPPINGS, &[])?
            .map(|row| {
                Ok(MappingRow {
                    id: row.get(1)?.expect("not null"),
                    name: row.get(2)?.expect("not null"),
                    source: row.get(3)?.expect("not null"),
                    destination: row.get::<pg_sys::Oid>(4)?.map(pg_sys::Oid::to_u32),
                    columns: row.get(5)?,
                    key: row.get(6)?,
                    filter: row.get(7)?,
                    mode: row.get(8)?.expect("not null"),
                    on_delete: row.get(9)?.expect("not null"),
                    soft_delete: row.get(10)?,
                    on_error: row.get(11)?.expect("not null"),
                    guard: row.get(12)?.expect("not null"),
                    enabled: row.get(13)?.expect("not null"),
                    owner: row.get::<pg_sys::Oid>(14)?.expect("not null").to_u32(),
                    search_path: row.get(15)?.expect("not null"),
                })
            })
            .collect()
    })
}

/// The mapping of this name, if the caller has the rights of its owner.
pub fn mine(name: Option<&str>) -> Result<Mapping, Error> {
    let Some(name) = name else {
        return Err(Error::NullArgument {
            argument: "mapping",
        });
    };
    let mappings = {
        let _definer = ActingAs::new(extension_owner(), false);
        load()?
    };
    let caller = current_user();
    let mut mine: Vec<_> = mappings
        .into_iter()
        .filter(|mapping| may_act_as(caller, mapping.owner_oid()))
        .collect();
    match mine.iter().position(|mapping| mapping.name == name) {
        Some(found) => {
            let mapping = mine.swap_remove(found);
            match mapping.faults.is_empty() {
                true => Ok(mapping),
                false => Err(Error::InvalidMapping {
                    name: mapping.name,
                    faults: mapping.faults,
                }),
            }
        }
        None => Err(Error::MappingNotFound {
            name: name.to_owned(),
            nearest: nearest(name, mine.iter().map(|mapping| mapping.name.as_str())),
        }),
    }
}

/// The OID of `sequin.mapping`. Its invalidation signals a changed mapping.
pub fn relation() -> pg_sys::Oid {
    oid("sequin.mapping")
}

thread_local! {
    static OID: Lookup = const {
        Lookup::new("select $1::regclass::oid", &[pg_sys::BuiltinOid::TEXTOID])
    };
}

/// The OID of one of the extension's tables.
pub fn oid(table: &str) -> pg_sys::Oid {
    OID.with(|query| query.rows(&[table.into()], |row| row.get(1)))
        .pop()
        .flatten()
        .expect("a regclass is not null")
}

/// The ids of the mappings that are being resynced.
pub fn resyncing() -> Vec<i32> {
    Spi::connect_mut(|client| {
        spi::select(client, "select mapping from sequin.resync", &[])?
            .map(|row| Ok(row.get(1)?.expect("not null")))
            .collect::<Result<_, pgrx::spi::Error>>()
    })
    .unwrap_or_else(|e| error!("could not read sequin.resync: {e}"))
}

/// The OID of `sequin.home_source`. Targets with guard columns depend on it.
pub fn home_sources() -> pg_sys::Oid {
    oid("sequin.home_source")
}

/// The OID of `sequin.unreadable_member`. Targets depend on it.
pub fn unreadable_members() -> pg_sys::Oid {
    oid("sequin.unreadable_member")
}

/// The tables that mappings write and delete from.
pub type Mapped = std::rc::Rc<std::collections::HashSet<pg_sys::Oid>>;
