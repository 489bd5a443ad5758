//! The faults of a mapping: all when it is made, and later those that keep it from writing.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::check::{
    FormerKey, check, check_changed, check_guard_gone, check_relation, follow_renamed_key,
};
use super::{Guard, Mapping, Mode, obstacles, privileges, sql};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::mapping::versions::VersionsIn;
use crate::prepared::Lookup;

const FORMER_KEY: &str = "
    select p.value ->> 'name',
           coalesce((select a.attname::text from pg_catalog.pg_attribute a
                     where a.attrelid = $2 and a.attname::text = p.value ->> 'name' and not a.attisdropped),
                    (select a.attname::text from pg_catalog.pg_attribute a
                     where a.attrelid = $2 and a.attnum = (p.value ->> 'number')::int2 and not a.attisdropped))
    from sequin.key_shape k
    cross join lateral pg_catalog.jsonb_array_elements(k.columns) with ordinality p(value, n)
    where k.mapping = $1
    order by p.n";

const HAD_COLUMNS: &str = "select exists (select from sequin.home_source h where h.mapping = $1)";

thread_local! {
    static KEY: Lookup = const {
        Lookup::new(FORMER_KEY, &[BuiltinOid::INT4OID, BuiltinOid::OIDOID])
    };
    static HAD: Lookup = const { Lookup::new(HAD_COLUMNS, &[BuiltinOid::INT4OID]) };
}

/// Every fault of a mapping whose rows the role `writer` writes.
pub fn all(
    mapping: &Mapping,
    destination: Option<&Destination>,
    writer: pg_sys::Oid,
) -> Vec<Fault> {
    let mut faults = check(mapping, destination);
    let table = destination.filter(|destination| check_relation(destination).is_none());
    faults.extend(sql::check(mapping, table));
    if let Some(table) = table {
        faults.extend(privileges::check(mapping, table, writer));
        faults.extend(obstacles::check(mapping, table, writer));
    }
    faults
}

/// The faults of a mapping that has worked, and that can write nothing since its destination changed. The caller acts as
/// the extension's owner.
pub fn since_changed(
    mapping: &Mapping,
    destination: &Destination,
    writer: pg_sys::Oid,
) -> Vec<Fault> {
    if !mapping.faults.is_empty() {
        return mapping.faults.clone();
    }
    let mut faults = check_changed(mapping, destination, &FormerKey::new());
    if !faults.is_empty() {
        faults = check_changed(mapping, destination, &former_key(mapping, destination));
    }
    if check_relation(destination).is_none() {
        faults.extend(guard_columns_gone(mapping, destination));
        faults.extend(privileges::check(mapping, destination, writer));
        faults.extend(obstacles::check(mapping, destination, writer));
    }
    faults
}

/// The statement that lets a mapping follow a key whose columns were renamed: the records still have the former names.
pub fn follow_key(mapping: &Mapping, destination: &Destination) -> Option<String> {
    follow_renamed_key(mapping, destination, &former_key(mapping, destination))
}

/// The columns of the key by which the rows' versions are stored.
fn former_key(mapping: &Mapping, destination: &Destination) -> FormerKey {
    KEY.with(|query| {
        query.rows(&[mapping.id.into(), destination.oid.into()], |row| {
            Ok((row.get::<String>(1)?.unwrap_or_default(), row.get(2)?))
        })
    })
}

/// Under guard `auto`, the versions were in columns of the destination, and the columns are gone.
fn guard_columns_gone(mapping: &Mapping, destination: &Destination) -> Option<Fault> {
    let gone = mapping.mode == Mode::Upsert
        && mapping.guard == Guard::Auto
        && VersionsIn::of(mapping, destination) == VersionsIn::Table
        && HAD.with(|query| query.rows(&[mapping.id.into()], |row| row.get(1))) == [Some(true)];
    gone.then(|| check_guard_gone(mapping, destination))
}
