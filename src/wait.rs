//! What a message that failed is waiting for: the row that must come, go or change before it can work.
//!
//! | SQLSTATE | row |
//! |---|---|
//! | 23503, a row is written | the one that its foreign key refers to |
//! | 23503, a row is deleted | one that refers to it |
//! | 23505 | the one that has its unique value |
//! | 23502 | its own: an older change of it has the value |
//!
//! A row is known by its table and its key as bytes, the key's columns in the order of the table. Where
//! no key can be told, any row of the table will do.

use std::collections::HashMap;

use pgrx::pg_sys::{self, BuiltinOid, Datum};
use pgrx::spi::SpiHeapTupleData;

use crate::cascade;
use crate::destination::{Destination, Referrer};
use crate::error::SqlError;
use crate::group::{Group, Net};
use crate::key;
use crate::mapping::Mapping;
use crate::pg::spi::Plan;
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::{RowColumn, RowType};
use crate::prepared::{Lookup, Statement, numbered_keys};
use crate::target::Target;
use crate::units::{Pending, Unit};

/// A row that is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Its table; `InvalidOid` if that is not known.
    pub relation: pg_sys::Oid,
    /// Its key; none if any row of the table will do.
    pub key: Option<Vec<u8>>,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait {
            relation: pg_sys::InvalidOid,
            key: None,
        }
    }
}

/// The key of an entry's row as bytes, its columns in the order of the table.
pub fn table_key(group: &mut Group<'_>, entry: u32) -> Vec<u8> {
    let order = table_order(&group.target);
    if order.is_sorted() {
        return group.key(entry).to_vec();
    }
    let values = group.key_of(entry).to_vec();
    let mut bytes = Vec::new();
    let encoding = &mut group.target.key_encoding;
    key::encode_in_order(encoding, &values, &order, &mut bytes);
    bytes
}

/// The places of the key's columns, in the order of the table.
fn table_order(target: &Target) -> Vec<usize> {
    let mut order: Vec<usize> = (0..target.key.len()).collect();
    order.sort_by_key(|&i| target.key[i]);
    order
}

/// What each of these waits for, as far as that can be told.
pub fn find(
    group: &mut Group<'_>,
    pending: &[Pending],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let mut waits = vec![None; pending.len()];
    let mut by_constraint: HashMap<_, Vec<usize>> = HashMap::new();
    for (i, Pending { error, .. }) in pending.iter().enumerate() {
        let constraint = (&error.schema, &error.table, &error.constraint);
        let key = (error.sqlstate(), constraint);
        by_constraint.entry(key).or_default().push(i);
    }
    for ((sqlstate, _), held) in by_constraint {
        let error = &pending[held[0]].error;
        let key = match sqlstate.as_str() {
            "23503" => ForeignKey::of(error),
            _ => None,
        };
        // Of a message that moved its row the one part may fail, or the other.
        let destination = group.target.destination.oid;
        let goes = key.as_ref().is_some_and(|key| key.child != destination);
        let nets: Vec<&Net> = held
            .iter()
            .map(|&i| match goes {
                true => going(&pending[i].unit),
                false => subject(group, &pending[i].unit),
            })
            .collect();
        let found = subtransaction(|| match sqlstate.as_str() {
            "23503" => match &key {
                Some(key) => parents(group, key, error, &nets, mappings),
                None => Ok(vec![None; nets.len()]),
            },
            "23505" => holders(group, error, &nets),
            _ => Ok(own(group, &nets)),
        });
        match found {
            Ok(found) => held
                .into_iter()
                .zip(found)
                .for_each(|(i, wait)| waits[i] = wait),
            // Not worth failing for: it is tried again from time to time.
            Err(error) => crate::dead_letter::blame(error, &group.target.mapping).map(|_| ())?,
        }
    }
    Ok(waits)
}

/// Of the rows of a unit the one that its message is about: not the key that the row left.
pub fn subject<'n>(group: &Group<'_>, unit: &'n [Net]) -> &'n Net {
    unit.iter()
        .find(|net| !group.leaves(net))
        .unwrap_or(&unit[0])
}

/// Of the rows of a unit the one that is to go.
fn going(unit: &[Net]) -> &Net {
    unit.iter().find(|net| !net.present).unwrap_or(&unit[0])
}

/// The rows themselves.
fn own(group: &mut Group<'_>, nets: &[&Net]) -> Vec<Option<Wait>> {
    let relation = group.target.destination.oid;
    nets.iter()
        .map(|net| {
            Some(Wait {
                relation,
                key: Some(table_key(group, net.run.0)),
            })
        })
        .collect()
}

/// A foreign key, of the partitioned table if it is a partition's.
const FOREIGN_KEY: &str = "
    with recursive up as (
        select k.* from pg_catalog.pg_constraint k
        join pg_catalog.pg_class c on c.oid = k.conrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where k.contype = 'f' and n.nspname = $1 and c.relname = $2 and k.conname = $3
        union all
        select k.* from up join pg_catalog.pg_constraint k on k.oid = up.conparentid)
    select up.conrelid, up.confrelid,
           (select pg_catalog.format('%I.%I', n.nspname, c.relname)
            from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
            where c.oid = up.confrelid),
           array(select a.attname::text
                 from unnest(up.conkey, up.confkey) k(child, parent)
                 join pg_catalog.pg_attribute a on a.attrelid = up.conrelid and a.attnum = k.child
                 order by k.parent),
           array(select a.attname::text from pg_catalog.pg_attribute a
                 where a.attrelid = up.confrelid and a.attnum = any (up.confkey) order by a.attnum),
           array(select pg_catalog.format_type(a.atttypid, a.atttypmod)
                 from pg_catalog.pg_attribute a
                 where a.attrelid = up.confrelid and a.attnum = any (up.confkey) order by a.attnum),
           array(select a.attname::text
                 from pg_catalog.pg_index i join pg_catalog.pg_attribute a
                      on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
                 where i.indrelid = up.confrelid and i.indisprimary order by a.attnum)
    from up where up.conparentid = 0";

/// The rows that a foreign key refers to, or the table of those that refer to the rows.
fn parents(
    group: &mut Group<'_>,
    key: &ForeignKey,
    error: &SqlError,
    nets: &[&Net],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let ForeignKey {
        child,
        parent,
        of,
        to,
        types,
        primary,
        ..
    } = key;
    let (child, parent) = (*child, *parent);
    if child != group.target.destination.oid || !nets[0].present {
        return children(group, child, error.constraint.as_deref(), nets, mappings);
    }
    // What is written of the parent is known by its mapping's key.
    let is_key = mappings.iter().any(|mapping| {
        let mut key = mapping.key.clone().unwrap_or_else(|| primary.clone());
        let mut to = to.clone();
        key.sort_unstable();
        to.sort_unstable();
        mapping.destination.map(pg_sys::Oid::from) == Some(parent) && key == to
    });
    let any = Wait {
        relation: parent,
        key: None,
    };
    let columns: Option<Vec<usize>> = of.iter().map(|name| place(group, name)).collect();
    let Some(columns) = columns.filter(|_| is_key) else {
        return Ok(vec![Some(any); nets.len()]);
    };
    let row: Vec<String> = columns
        .iter()
        .zip(types)
        .map(|(&i, type_name)| format!("b.{}::{type_name}", group.target.columns[i].sql.name))
        .collect();
    let select = format!("select b.sequin_n, sequin.row_key({})", row.join(", "));
    let keys = keys(group, &select, &columns, "", nets)?;
    Ok(keys
        .into_iter()
        .map(|key| Some(Wait { key, ..any.clone() }))
        .collect())
}

/// For each row that is to go, one that still refers to it by this foreign key.
fn children(
    group: &Group<'_>,
    child: pg_sys::Oid,
    constraint: Option<&str>,
    nets: &[&Net],
    mappings: &[Mapping],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let any = Wait {
        relation: child,
        key: None,
    };
    let of_child = |mapping: &&Mapping| mapping.destination.map(pg_sys::Oid::from) == Some(child);
    let (Some(referrer), Some(mapping), Some(table)) = (
        referrer(group, child, constraint),
        mappings.iter().find(of_child),
        Destination::load(child),
    ) else {
        return Ok(vec![Some(any); nets.len()]);
    };
    let names = match &mapping.key {
        Some(key) => key.as_slice(),
        None => table.primary_key(),
    };
    let key: Vec<String> = table
        .columns
        .iter()
        .map(|column| column.name.clone())
        .filter(|name| names.contains(name))
        .collect();
    let keys = cascade::holders(group, referrer, &key, nets)?;
    Ok(keys
        .into_iter()
        .map(|key| Some(Wait { key, ..any.clone() }))
        .collect())
}

/// Which of these units violate the foreign key that the error is of: they hold a row that refers to one
/// that is not there, or are to delete one that another still refers to. False for all where that cannot
/// be told, or rows refer to others of their own table.
pub fn violators(
    group: &mut Group<'_>,
    error: &SqlError,
    units: &[Unit],
) -> Result<Vec<bool>, SqlError> {
    let nothing = vec![false; units.len()];
    let Some(key) = ForeignKey::of(error) else {
        return Ok(nothing);
    };
    if key.parent == key.child {
        return Ok(nothing);
    }
    let found = subtransaction(|| match key.child == group.target.destination.oid {
        true => orphans(group, &key, units),
        false => held(group, &key, error, units),
    });
    match found {
        Ok(found) => Ok(found.map_or(nothing, |keys| keys.iter().map(Option::is_some).collect())),
        // A privilege may be missing.
        Err(error) => crate::dead_letter::blame(error, &group.target.mapping).map(|_| nothing),
    }
}

/// Something for each unit that is to delete a row that another still refers to.
fn held(
    group: &Group<'_>,
    key: &ForeignKey,
    error: &SqlError,
    units: &[Unit],
) -> Result<Option<Vec<Option<Vec<u8>>>>, SqlError> {
    let Some(referrer) = referrer(group, key.child, error.constraint.as_deref()) else {
        return Ok(None);
    };
    let nets: Vec<&Net> = units.iter().map(|unit| going(unit)).collect();
    cascade::holders(group, referrer, &[], &nets).map(Some)
}

/// Something for each unit with a row that refers to one that is not there.
fn orphans(
    group: &Group<'_>,
    key: &ForeignKey,
    units: &[Unit],
) -> Result<Option<Vec<Option<Vec<u8>>>>, SqlError> {
    let columns: Option<Vec<usize>> = key.of.iter().map(|name| place(group, name)).collect();
    let Some(columns) = columns else {
        return Ok(None);
    };
    let value = |i: usize| &group.target.columns[columns[i]].sql.name;
    let (mut there, mut given) = (Vec::new(), Vec::new());
    for (i, (name, type_name)) in key.to.iter().zip(&key.types).enumerate() {
        let name = pgrx::spi::quote_identifier(name);
        there.push(format!("p.{name} = b.{}::{type_name}", value(i)));
        given.push(format!("b.{} is not null", value(i)));
    }
    let from = format!(
        " where {} and not exists (select from {} p where {})",
        given.join(" and "),
        key.name,
        there.join(" and ")
    );
    let nets: Vec<&Net> = units.iter().map(|unit| &unit[0]).collect();
    let select = "select b.sequin_n, ''::bytea";
    keys(group, select, &columns, &from, &nets).map(Some)
}

/// The foreign key of this name by which another table refers to the destination.
fn referrer<'g>(
    group: &'g Group<'_>,
    child: pg_sys::Oid,
    constraint: Option<&str>,
) -> Option<&'g Referrer> {
    let mut referrers = group.target.destination.referrers.iter();
    referrers.find(|r| r.oid == child && Some(&*r.constraint) == constraint)
}

thread_local! {
    static FOREIGN_KEYS: Lookup = const { Lookup::new(FOREIGN_KEY, &[BuiltinOid::TEXTOID; 3]) };
    static CONSTRAINTS: Lookup = const { Lookup::new(CONSTRAINT, &[BuiltinOid::TEXTOID; 3]) };
    static UNIQUE_INDEXES: Lookup = const { Lookup::new(UNIQUE_INDEX, &[BuiltinOid::TEXTOID; 2]) };
}

/// A foreign key, as [`FOREIGN_KEY`] finds it.
struct ForeignKey {
    /// The table that has it.
    child: pg_sys::Oid,
    /// The table that it refers to.
    parent: pg_sys::Oid,
    /// That table's schema and name, quoted where SQL needs it.
    name: String,
    /// Its columns, in the order of those that they refer to.
    of: Vec<String>,
    /// The columns that they refer to, in the order of the table.
    to: Vec<String>,
    /// Their types, as SQL spells them.
    types: Vec<String>,
    /// The primary key of the table that it refers to.
    primary: Vec<String>,
}

impl ForeignKey {
    /// The one that an error is of.
    fn of(error: &SqlError) -> Option<ForeignKey> {
        let name = [&error.schema, &error.table, &error.constraint].map(Option::as_deref);
        let read = |row: SpiHeapTupleData<'_>| {
            Ok(ForeignKey {
                child: row.get(1)?.expect("not null"),
                parent: row.get(2)?.expect("not null"),
                name: row.get(3)?.expect("not null"),
                of: row.get(4)?.expect("not null"),
                to: row.get(5)?.expect("not null"),
                types: row.get(6)?.expect("not null"),
                primary: row.get(7)?.expect("not null"),
            })
        };
        FOREIGN_KEYS.with(|query| query.rows(&name.map(Into::into), read).pop())
    }
}

/// The columns of a unique index, if it is of all rows and of columns alone.
const UNIQUE_INDEX: &str = "
    select a.attname::text
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    cross join pg_catalog.unnest(i.indkey::smallint[]) with ordinality k(attnum, n)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where n.nspname = $1 and c.relname = $2 and i.indisunique and i.indpred is null
      and i.indexprs is null and k.n <= i.indnkeyatts";

/// A constraint of a table; a trigger may name one that does not exist.
const CONSTRAINT: &str = "
    select true from pg_catalog.pg_constraint k
    join pg_catalog.pg_class c on c.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = $2 and k.conname = $3 and k.contype <> 't'";

/// Whether the error is of a constraint of a table, and not of a trigger.
pub fn is_of_constraint(error: &SqlError) -> bool {
    let name = [&error.schema, &error.table, &error.constraint].map(Option::as_deref);
    let found = |query: &Lookup| query.rows(&name.map(Into::into), |row| row.get::<bool>(1));
    error.constraint.is_some() && !CONSTRAINTS.with(found).is_empty()
}

/// The columns of the unique index that an error is of, as places in the target.
pub fn unique_columns(group: &Group<'_>, error: &SqlError) -> Option<Vec<usize>> {
    let name = [&error.schema, &error.constraint].map(Option::as_deref);
    let read = |row: SpiHeapTupleData<'_>| Ok(row.get::<String>(1)?.expect("not null"));
    let names = UNIQUE_INDEXES.with(|query| query.rows(&name.map(Into::into), read));
    let columns: Option<Vec<usize>> = names.iter().map(|name| place(group, name)).collect();
    columns.filter(|columns| !columns.is_empty())
}

/// The rows that have the unique values.
fn holders(
    group: &mut Group<'_>,
    error: &SqlError,
    nets: &[&Net],
) -> Result<Vec<Option<Wait>>, SqlError> {
    let any = Wait {
        relation: group.target.destination.oid,
        key: None,
    };
    let Some(columns) = unique_columns(group, error) else {
        return Ok(vec![Some(any); nets.len()]);
    };
    let name = |i: &usize| &group.target.columns[*i].sql.name;
    let key: Vec<String> = table_order(&group.target)
        .into_iter()
        .map(|i| format!("d.{}", name(&group.target.key[i])))
        .collect();
    let equal: Vec<String> = columns
        .iter()
        .map(|i| format!("d.{0} = b.{0}", name(i)))
        .collect();
    let from = format!(
        " cross join lateral (select d.* from {} d where {} offset 0) d",
        group.target.relation().name,
        equal.join(" and ")
    );
    let select = format!("select b.sequin_n, sequin.row_key({})", key.join(", "));
    let keys = keys(group, &select, &columns, &from, nets)?;
    Ok(keys
        .into_iter()
        .map(|key| Some(Wait { key, ..any.clone() }))
        .collect())
}

/// The place of a column that the mapping writes.
fn place(group: &Group<'_>, name: &str) -> Option<usize> {
    group.target.columns.iter().position(|c| c.name == name)
}

/// Runs a query over some columns of the rows, which returns the number of each and a key.
fn keys(
    group: &Group<'_>,
    select: &str,
    columns: &[usize],
    from: &str,
    nets: &[&Net],
) -> Result<Vec<Option<Vec<u8>>>, SqlError> {
    let definition: Vec<String> = columns
        .iter()
        .map(|&i| &group.target.columns[i].sql)
        .map(|column| format!("{} {}", column.name, column.type_name))
        .collect();
    let mut row = vec![RowColumn::number("sequin_n")];
    row.extend(columns.iter().map(|&i| group.target.columns[i].row.clone()));
    let mut statement = Statement {
        plan: Plan::prepare(&format!(
            "{select} from sequin.batch() b(sequin_n integer, {}){from}",
            definition.join(", ")
        ))?,
        rows: RowType::new(&row),
    };
    let returned = statement
        .run(nets.iter().enumerate(), |(n, net)| {
            let mut row = vec![Some(Datum::from(n as i32))];
            row.extend(
                columns
                    .iter()
                    .map(|&i| (!group.nulls[net.row + i]).then_some(group.values[net.row + i])),
            );
            row
        })?
        .returned
        .expect("a SELECT returns rows");
    Ok(numbered_keys(&returned, nets.len()))
}
