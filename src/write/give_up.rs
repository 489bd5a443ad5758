//! Letting rows give up a value that other rows are to have, before these are written: for null, or for a value that
//! nobody has. A trigger sees that step.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::keys::by_key;
use crate::changes::net::{NetChange, Values};
use crate::error::SqlError;
use crate::pg::typeio::base_type;
use crate::prepared::{Lookup, Recent};
use crate::statement::{self, Input};
use crate::target::Target;

const REFERRED_TO: &str = "
    select exists (select from pg_catalog.pg_constraint k
                   join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = any (k.confkey)
                   where k.contype = 'f' and k.confrelid = $1 and a.attname = $2)";

thread_local! {
    static REFERRED: Lookup = const {
        Lookup::new(REFERRED_TO, &[BuiltinOid::OIDOID, BuiltinOid::TEXTOID])
    };
}

/// One of these columns of a unique index (its number in the target) in which rows can give their value up: one that no
/// foreign key refers to, that `allowed` allows, and that can be null or has values that nobody has.
pub fn can_give_up(
    target: &Target,
    columns: &[String],
    allowed: impl Fn(usize) -> bool,
) -> Option<usize> {
    let relation = target.destination.oid;
    let referred_to = |column: &str| {
        let args = [relation.into(), column.into()];
        REFERRED.with(|query| query.rows(&args, |row| row.get(1))) == [Some(true)]
    };
    let columns = columns
        .iter()
        .filter_map(|name| target.column_number(name))
        .filter(|&i| !target.key.contains(&i) && allowed(i));
    columns
        .filter(|&i| free_value(target, i).is_some())
        .find(|&i| !referred_to(&target.columns[i].name))
}

/// Replaces the value of each row in a column that [`can_give_up`] chose.
pub fn give_up(
    target: &Target,
    values: &Values,
    column: usize,
    rows: &[&NetChange],
) -> Result<(), SqlError> {
    let Some(sql) = give_up_sql(Input::Batch, target, &[column]) else {
        return Ok(());
    };
    let mut statement = Recent::new(sql, &target.numbered_key())?;
    statement.execute(rows.iter().enumerate(), |(n, net)| {
        by_key(target, values, n, net)
    })?;
    Ok(())
}

/// The statement that gives rows, found by key, values in these columns that no other row has. `None`: there are none.
pub fn give_up_sql(input: Input<'_>, target: &Target, columns: &[usize]) -> Option<String> {
    let key = target.key_sql();
    let number = format!("b.{}", statement::number_name(&key));
    let assignments = columns.iter().map(|&i| {
        let value = free_value(target, i)?.replace("b.sequin_n", &number);
        let column = &target.columns[i].sql;
        let value = format!("({value})::{}", column.type_name);
        Some((column.name.clone(), value))
    });
    let assignments: Vec<_> = assignments.collect::<Option<_>>()?;
    Some(statement::update(
        input,
        &target.relation(),
        &key,
        &key,
        &assignments,
    ))
}

/// An SQL expression for a value of a column that no other row has.
pub fn free_value(target: &Target, column: usize) -> Option<String> {
    let column = &target.columns[column];
    match column.nullable {
        true => Some(String::from("null")),
        false => other_value(column.row.type_oid, column.row.typmod),
    }
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
