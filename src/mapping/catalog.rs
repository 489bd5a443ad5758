//! Reading `sequin.mapping`.
//!
//! The queries are not read-only for SPI, so that each takes a new snapshot. The snapshot of the caller's
//! statement would not show a change that the call has just waited for.

#![forbid(unsafe_code)]

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{Mapping, MappingRow};
use crate::error::nearest::nearest;
use crate::error::{Error, SqlError};
use crate::pg::keys::extension_owner;
use crate::pg::mapped::may_be_shared;
use crate::pg::raise::raise;
use crate::pg::relation;
use crate::pg::spi::{self, Connection, Returned};
use crate::pg::user::{ActingAs, begin_call, current_user, may_act_as};
use crate::prepared::{BatchRow, Kept, Lookup, RowReader};

macro_rules! mappings {
    ($those:literal) => {
        concat!(
            "
    select id, name, source, destination::oid, columns::text, pg_catalog.array_to_json(key)::text, filter, mode,
           on_delete, soft_delete, on_error, guard, enabled, owner::oid, search_path
    from sequin.mapping ",
            $those,
            " order by id"
        )
    };
}

const MAPPINGS: &str = mappings!("");

const MAPPINGS_TO: &str =
    mappings!("where destination in (select b.oid from sequin_internal.batch() b(oid oid))");

const MAPPING_NAMED: &str =
    mappings!("where name in (select b.name from sequin_internal.batch() b(name text))");

thread_local! {
    static LOAD_NAMED: Kept = const { Kept::new(MAPPING_NAMED, &[("name", pg_sys::TEXTOID)]) };
    static LOAD: Kept = const { Kept::new(MAPPINGS, &[("nothing", pg_sys::INT4OID)]) };
    static LOAD_TO: Kept = const { Kept::new(MAPPINGS_TO, &[("oid", pg_sys::OIDOID)]) };
}

/// Every mapping of the database, by id. A row with faults, which the trigger has not checked, must not keep the others from
/// being read.
pub fn load() -> Result<Vec<Mapping>, Error> {
    Ok(read_rows(|| {
        LOAD.with(|query| query.query(std::iter::empty(), |row: BatchRow| row))
    }))
}

/// The mappings to these relations, by id. The caller acts as the extension's owner.
fn load_to(destinations: &[pg_sys::Oid]) -> Vec<Mapping> {
    let row = |oid: &pg_sys::Oid| vec![Some(pg_sys::Datum::from(*oid))];
    read_rows(|| LOAD_TO.with(|query| query.query(destinations.iter(), row)))
}

/// The mapping of this name. The caller acts as the extension's owner.
pub fn named(name: &str) -> Option<Mapping> {
    let found = read_rows(|| LOAD_NAMED.with(|query| query.query_of(vec![name.into_datum()])));
    found.into_iter().next()
}

fn read_rows(query: impl FnOnce() -> Result<Returned, SqlError>) -> Vec<Mapping> {
    let rows = select(query).unwrap_or_else(|error| raise(error));
    let read = |row: MappingRow| {
        let (mapping, faults) = row.read();
        Mapping { faults, ..mapping }
    };
    rows.into_iter().map(read).collect()
}

fn select(query: impl FnOnce() -> Result<Returned, SqlError>) -> Result<Vec<MappingRow>, SqlError> {
    let _connection = Connection::open();
    let returned = query()?;
    let mut row = RowReader::new(&returned);
    let mut rows = Vec::with_capacity(returned.len());
    while row.next() {
        let text = |column| row.text(column).expect("not null");
        let oid = |column| row.oid(column).map(pg_sys::Oid::to_u32);
        rows.push(MappingRow {
            id: row.int(0).expect("not null"),
            name: text(1),
            source: text(2),
            destination: oid(3),
            columns: row.text(4),
            key: row
                .text(5)
                .map(|key| serde_json::from_str(&key).expect("a list of texts")),
            filter: row.text(6),
            mode: text(7),
            on_delete: text(8),
            soft_delete: row.text(9),
            on_error: text(10),
            guard: text(11),
            enabled: row.bool(12).expect("not null"),
            owner: oid(13).expect("not null"),
            search_path: text(14),
        });
    }
    Ok(rows)
}

/// The mapping of this name, if the caller has the rights of its owner.
pub fn mine(name: Option<&str>) -> Result<Mapping, Error> {
    let Some(name) = name else {
        return Err(Error::NullArgument {
            argument: "mapping",
        });
    };
    begin_call();
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

/// The OID of one of the extension's tables.
pub fn oid(table: &str) -> pg_sys::Oid {
    let name = table.strip_prefix("sequin.").unwrap_or(table);
    relation::named("sequin", name).unwrap_or_else(|| error!("table {table} is gone"))
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

thread_local! {
    static FIRST_LOG: Lookup = const {
        Lookup::new(
            "select min(m.id) from sequin.mapping m where m.destination::oid = $1 and m.mode = 'append'",
            &[pg_sys::BuiltinOid::OIDOID],
        )
    };
}

/// The first mapping (by id) that appends to a table. What is known of the table's rows is noted under it.
pub fn first_log(destination: pg_sys::Oid) -> Option<i32> {
    let _definer = ActingAs::new(extension_owner(), false);
    let found = FIRST_LOG.with(|query| query.rows(&[destination.into()], |row| row.get(1)));
    found.into_iter().next().flatten()
}

/// The tables of mappings that have rows in common with a table ($1): itself, and, if it is partitioned or a partition, its
/// partitions and what it is a partition of. Mapped partitions are few, and the partitions of a table may be many.
const RELATED: &str = "
    with recursive up(base, oid) as (
        select d.oid, d.oid
        from (select m.destination::oid as oid from sequin.mapping m union select $1) d
        where exists (select from pg_catalog.pg_class c where c.oid = $1 and (c.relkind = 'p' or c.relispartition))
        union all
        select u.base, h.inhparent
        from up u
        join pg_catalog.pg_class c on c.oid = u.oid and c.relispartition
        join pg_catalog.pg_inherits h on h.inhrelid = c.oid)
    select r.oid, (select count(*) from sequin.mapping m where m.destination = r.oid::regclass)
    from (
        select u.base as oid from up u where u.oid = $1
        union
        select u.oid from up u where u.base = $1
        union
        select $1) r";

thread_local! {
    static RELATIVES: Lookup = const { Lookup::new(RELATED, &[pg_sys::BuiltinOid::OIDOID]) };
}

/// The mappings to a table, to its partitions, or to what it is a partition of, as if all were to the table. May be
/// empty if there is only one.
pub fn to(destination: pg_sys::Oid) -> Vec<Mapping> {
    if !may_be_shared(destination) {
        return Vec::new();
    }
    let _definer = ActingAs::new(extension_owner(), false);
    let relatives = relatives(destination);
    // To read all mappings takes time, and most partitioned tables have one.
    if relatives.iter().map(|(_, mappings)| mappings).sum::<i64>() < 2 {
        return Vec::new();
    }
    let related: Vec<pg_sys::Oid> = relatives.into_iter().map(|(oid, _)| oid).collect();
    as_one(load_to(&related), destination)
}

/// As [`to`], also if there is only one: the caller is about to add another. The caller acts as the extension's owner.
pub fn beside(destination: pg_sys::Oid) -> Vec<Mapping> {
    let related = related(destination);
    as_one(load_to(&related), destination)
}

/// The table, its partitions with mappings, and what it is a partition of. The caller acts as the extension's owner.
pub fn related(destination: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let relatives = relatives(destination).into_iter();
    relatives.map(|(oid, _)| oid).collect()
}

/// As [`related`], each with the number of its mappings.
fn relatives(destination: pg_sys::Oid) -> Vec<(pg_sys::Oid, i64)> {
    let read = |row: pgrx::spi::SpiHeapTupleData<'_>| Ok(row.get(1)?.zip(row.get(2)?));
    let found = RELATIVES.with(|query| query.rows(&[destination.into()], read));
    found.into_iter().flatten().collect()
}

fn as_one(mut mappings: Vec<Mapping>, destination: pg_sys::Oid) -> Vec<Mapping> {
    for mapping in &mut mappings {
        mapping.destination = Some(destination.to_u32());
    }
    mappings
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
