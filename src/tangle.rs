//! Changes that wait for each other, so that none can be first: rows that exchange values of a unique
//! index, rows whose foreign keys go round. The source made them in one statement, or under a deferred
//! constraint.
//!
//! They are written together, with constraints deferred where they can be. Values of a unique index
//! are exchanged with a step between: all rows give theirs up for null, or for one that nobody else
//! has, and then take the new one. A trigger sees that step.

use std::collections::{HashMap, HashSet};

use pgrx::pg_sys::{self, BuiltinOid, Datum};

use crate::error::SqlError;
use crate::group::{Group, Net};
use crate::pg::constraints;
use crate::pg::spi::Plan;
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::RowType;
use crate::pg::typeio::base_type;
use crate::prepared::{Lookup, Statement};
use crate::statement;
use crate::units::Pending;
use crate::wait::{self, Wait};
use crate::write;

/// What waits, group by group, with what it waits for.
pub type Waiting = Vec<Vec<(Pending, Option<Wait>)>>;

/// Writes the changes that only wait for each other, and takes them out; returns whether there were
/// any.
pub fn untangle(
    groups: &mut [(usize, Group<'_>)],
    waiting: &mut Waiting,
) -> Result<bool, SqlError> {
    let tangled = tangled(groups, waiting);
    if tangled.len() < 2 {
        return Ok(false);
    }
    let before: Vec<_> = groups.iter().map(|(_, g)| g.outcomes.clone()).collect();
    let result = subtransaction(|| {
        constraints::defer()?;
        for (i, (_, group)) in groups.iter_mut().enumerate() {
            let pending: Vec<&Pending> = waiting[i]
                .iter()
                .enumerate()
                .filter(|(j, _)| tangled.contains(&(i, *j)))
                .map(|(_, (pending, _))| pending)
                .collect();
            let _owner = group.acting_as_owner();
            exchange(group, &pending)?;
            let nets: Vec<&Net> = pending.iter().flat_map(|held| &held.unit).collect();
            write::write_set(group, &nets)?;
        }
        constraints::check_at_once()
    });
    match result {
        Ok(()) => {
            groups[0].1.wrote();
            for (i, waiting) in waiting.iter_mut().enumerate() {
                let mut at = 0..;
                waiting.retain(|_| !tangled.contains(&(i, at.next().expect("endless"))));
            }
            Ok(true)
        }
        Err(error) => {
            for ((_, group), before) in groups.iter_mut().zip(before) {
                group.outcomes = before;
            }
            // A cancel, say.
            crate::dead_letter::blame(error, &groups[0].1.target.mapping).map(|_| false)
        }
    }
}

/// Which of them, by group and place, wait for one another and for nobody else.
fn tangled(groups: &mut [(usize, Group<'_>)], waiting: &Waiting) -> HashSet<(usize, usize)> {
    type Row = (pg_sys::Oid, Vec<u8>);
    let mut held: HashMap<Row, ((usize, usize), Row)> = HashMap::new();
    for (i, (_, group)) in groups.iter_mut().enumerate() {
        for (j, (pending, wait)) in waiting[i].iter().enumerate() {
            let Some(Wait {
                relation,
                key: Some(key),
            }) = wait
            else {
                continue;
            };
            let run = wait::subject(group, &pending.unit).run;
            let own = wait::table_key(group, run.0);
            let row = (group.target.destination.oid, own);
            held.insert(row, ((i, j), (*relation, key.clone())));
        }
    }
    // Each waits for one row, so what is left when nobody is missing, and nobody superfluous, is
    // circles.
    loop {
        let before = held.len();
        let rows: HashSet<Row> = held.keys().cloned().collect();
        let holders: HashSet<Row> = held.values().map(|(_, holder)| holder.clone()).collect();
        held.retain(|row, (_, holder)| rows.contains(holder) && holders.contains(row));
        if held.len() == before {
            return held.into_values().map(|(place, _)| place).collect();
        }
    }
}

/// Lets rows give up the values of unique indexes that others of them wait for.
fn exchange(group: &mut Group<'_>, pending: &[&Pending]) -> Result<(), SqlError> {
    let mut by_index: HashMap<Option<&str>, Vec<&Pending>> = HashMap::new();
    for held in pending {
        if held.error.sqlstate() == "23505" {
            let index = held.error.constraint.as_deref();
            by_index.entry(index).or_default().push(held);
        }
    }
    for held in by_index.values() {
        let rows: Vec<&Net> = held
            .iter()
            .map(|held| wait::subject(group, &held.unit))
            .collect();
        if !give_up(group, &held[0].error, &rows)? {
            return Err(held[0].error.clone());
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

/// Lets the rows give up one of their values in the unique index that the error is of. False: there is
/// none that they could do without.
pub fn give_up(group: &mut Group<'_>, error: &SqlError, rows: &[&Net]) -> Result<bool, SqlError> {
    let relation = group.target.destination.oid;
    let referred_to = |column: &str| {
        let args = [relation.into(), column.into()];
        REFERRED.with(|query| query.rows(&args, |row| row.get(1))) == [Some(true)]
    };
    let found = wait::unique_columns(group, error)
        .unwrap_or_default()
        .into_iter()
        .filter(|i| !group.target.key.contains(i))
        .find_map(|i| {
            let column = &group.target.columns[i];
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
    let key = group.target.key_sql();
    let sql = statement::update(&group.target.relation(), &key, &key, &[assignment]);
    let mut statement = Statement {
        plan: Plan::prepare(&sql)?,
        rows: RowType::new(&group.target.numbered_key()),
    };
    statement.run(rows.iter().enumerate(), |(n, net)| {
        let mut row = vec![Some(Datum::from(n as i32))];
        let key = group.target.key.iter();
        row.extend(key.map(|&i| Some(group.values[net.row + i])));
        row
    })?;
    Ok(true)
}

/// An expression for a value of the type that is unlikely to be in use, another one for each
/// `b.sequin_n`.
fn other_value(type_oid: pg_sys::Oid, typmod: i32) -> Option<String> {
    let (base, typmod) = base_type(type_oid, typmod);
    let digest = "pg_catalog.md5(pg_catalog.concat(pg_catalog.random(), b.sequin_n))";
    Some(match base {
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => {
            // The modifier is the length and the size of a header.
            let length = if typmod < 0 { 32 } else { (typmod - 4).min(32) };
            let first = "pg_catalog.chr(57344 + b.sequin_n % 6400)"; // of nobody's alphabet
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
