//! Changes that wait for each other in a circle: rows that exchange values of a unique index, and rows
//! whose foreign keys form a circle. None of them can be written first. The source wrote them in one
//! statement, or with a deferred constraint.
//!
//! The call writes them together, with constraints deferred where that is possible. Values of a unique
//! index are exchanged in two steps: first, all rows replace their value by null, or by a value that no
//! other row has; then they take the new values. Triggers see the intermediate step.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::{self, BuiltinOid, Datum};

use super::constraint::unique_columns;
use super::pending::Pending;
use super::rows::key_values;
use super::write_set;
use crate::blame::forgive;
use crate::changes::net::{NetChange, Values};
use crate::changes::{Changes, attempt_together};
use crate::error::SqlError;
use crate::error::sqlstate::UNIQUE_VIOLATION;
use crate::outcome::Wait;
use crate::pg::constraints;
use crate::pg::typeio::base_type;
use crate::prepared::{Lookup, Statement};
use crate::statement;
use crate::stop::{Again, Stop};
use crate::target::Target;

/// The pending units of each mapping, with their waits.
pub type Waiting = Vec<Vec<(Pending, Option<Wait>)>>;

/// A unit of [`Waiting`]: the number of its mapping, and its number there.
type UnitNo = (usize, usize);

/// Writes the changes that only wait for each other, and removes them from `waiting`. Returns whether there
/// were any.
pub fn write_cycles(all: &mut [Changes<'_>], waiting: &mut Waiting) -> Result<bool, Stop> {
    let cycles = find(all, waiting);
    if cycles.len() < 2 {
        return Ok(false);
    }
    let result = attempt_together(all, |all| -> Result<(), Stop> {
        constraints::defer()?;
        for (i, changes) in all.iter_mut().enumerate() {
            let pending: Vec<&Pending> = waiting[i]
                .iter()
                .enumerate()
                .filter(|(j, _)| cycles.contains(&(i, *j)))
                .map(|(_, (pending, _))| pending)
                .collect();
            let _owner = changes.acting_as_owner();
            exchange(changes, &pending)?;
            let nets: Vec<&NetChange> = pending.iter().flat_map(|held| held.unit.nets()).collect();
            write_set(changes, &nets)?;
        }
        Ok(constraints::check_at_once()?)
    });
    match result {
        Ok(()) => {}
        // Every unit was tried alone before, so this is not expected. The units go on waiting.
        Err(stop) if stop.is(Again::Examine) => return Ok(false),
        Err(stop) => {
            forgive(stop.error()?, &all[0].target.mapping)?;
            return Ok(false);
        }
    }
    all[0].intake.call.wrote();
    for (i, waiting) in waiting.iter_mut().enumerate() {
        let mut at = 0..;
        waiting.retain(|_| !cycles.contains(&(i, at.next().expect("endless"))));
    }
    Ok(true)
}

/// The units that wait for each other, and for no other row.
fn find(all: &[Changes<'_>], waiting: &Waiting) -> HashSet<UnitNo> {
    type Row = (pg_sys::Oid, Vec<u8>);
    let mut held: HashMap<Row, (UnitNo, Row)> = HashMap::new();
    for (i, (changes, waiting)) in all.iter().zip(waiting).enumerate() {
        for (j, (pending, wait)) in waiting.iter().enumerate() {
            let Some(Wait::Row { table, key }) = wait else {
                continue;
            };
            let run = pending.unit.subject(&changes.keyed).run;
            let row = (changes.target.destination.oid, changes.table_key(run.start));
            held.insert(row, ((i, j), (*table, key.clone())));
        }
    }
    // Each unit waits for one row. Remove the units whose row is not held, and the units that no other unit
    // waits for, until nothing changes: only circles remain.
    loop {
        let before = held.len();
        let rows: HashSet<Row> = held.keys().cloned().collect();
        let holders: HashSet<Row> = held.values().map(|(_, holder)| holder.clone()).collect();
        held.retain(|row, (_, holder)| rows.contains(holder) && holders.contains(row));
        if held.len() == before {
            return held.into_values().map(|(number, _)| number).collect();
        }
    }
}

/// Makes rows release the values of unique indexes that other rows among them wait for.
fn exchange(changes: &Changes<'_>, pending: &[&Pending]) -> Result<(), SqlError> {
    let mut by_index: HashMap<Option<&str>, Vec<&Pending>> = HashMap::new();
    for held in pending {
        if held.error.is(UNIQUE_VIOLATION) {
            let index = held.error.constraint.as_deref();
            by_index.entry(index).or_default().push(held);
        }
    }
    for held in by_index.values() {
        let rows: Vec<&NetChange> = held
            .iter()
            .map(|held| held.unit.subject(&changes.keyed))
            .collect();
        let error = &held[0].error;
        if !give_up(&changes.target, &changes.nets.values, error, &rows)? {
            return Err(error.clone());
        }
    }
    Ok(())
}

const REFERRED_TO: &str = "
    select exists (select from pg_catalog.pg_constraint k
                   join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = any (k.confkey)
                   where k.contype = 'f' and k.confrelid = $1 and a.attname = $2)";

thread_local! {
    static REFERRED: Lookup = const {
        Lookup::new(REFERRED_TO, &[BuiltinOid::OIDOID, BuiltinOid::TEXTOID])
    };
}

/// Replaces the value of each row in one column of the unique index that raised the error. False if no
/// column allows that.
pub fn give_up(
    target: &Target,
    values: &Values,
    error: &SqlError,
    rows: &[&NetChange],
) -> Result<bool, SqlError> {
    let relation = target.destination.oid;
    let referred_to = |column: &str| {
        let args = [relation.into(), column.into()];
        REFERRED.with(|query| query.rows(&args, |row| row.get(1))) == [Some(true)]
    };
    let found = unique_columns(target, error)
        .unwrap_or_default()
        .into_iter()
        .filter(|i| !target.key.contains(i))
        .find_map(|i| {
            let column = &target.columns[i];
            let value = if column.nullable {
                Some(String::from("null"))
            } else {
                other_value(column.row.type_oid, column.row.typmod)
            };
            value.filter(|_| !referred_to(&column.name)).map(|value| {
                (
                    column.sql.name.clone(),
                    format!("({value})::{}", column.sql.type_name),
                )
            })
        });
    let Some(assignment) = found else {
        return Ok(false);
    };
    let key = target.key_sql();
    let sql = statement::update(&target.relation(), &key, &key, &[assignment]);
    let mut statement = Statement::new(&sql, &target.numbered_key())?;
    statement.execute(rows.iter().enumerate(), |(n, net)| {
        let mut row = vec![Some(Datum::from(n as i32))];
        row.extend(key_values(target, values, net).into_iter().map(Some));
        row
    })?;
    Ok(true)
}

/// An SQL expression for a value of the type that is probably not in use, different for each `b.sequin_n`.
/// `None`: the type has no such values.
fn other_value(type_oid: pg_sys::Oid, typmod: i32) -> Option<String> {
    let (base, typmod) = base_type(type_oid, typmod);
    let digest = "pg_catalog.md5(pg_catalog.concat(pg_catalog.random(), b.sequin_n))";
    Some(match base {
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => {
            // The type modifier is the length plus the size of a header (4).
            let length = if typmod < 0 { 32 } else { (typmod - 4).min(32) };
            let first = "pg_catalog.chr(57344 + b.sequin_n % 6400)"; // private use area: U+E000 to U+F8FF
            format!("pg_catalog.left({first} || {digest}, {length})")
        }
        pg_sys::BYTEAOID => format!("pg_catalog.decode({digest}, 'hex')"),
        pg_sys::UUIDOID => String::from("pg_catalog.gen_random_uuid()"),
        pg_sys::INT2OID => String::from("-32768 + b.sequin_n"),
        pg_sys::INT4OID => String::from("-2147483648 + b.sequin_n"),
        pg_sys::INT8OID => String::from("-9223372036854775807 + b.sequin_n"),
        pg_sys::NUMERICOID if typmod < 0 => String::from("-1e30 + b.sequin_n"),
        pg_sys::DATEOID => String::from("pg_catalog.date '0001-01-01' + b.sequin_n"),
        pg_sys::TIMESTAMPOID | pg_sys::TIMESTAMPTZOID => {
            String::from("pg_catalog.timestamp '0001-01-01' + b.sequin_n * interval '1 second'")
        }
        _ => return None,
    })
}
