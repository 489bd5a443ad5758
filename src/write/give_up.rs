//! Makes rows give a value up before other rows get it: an update replaces it by null, or by a value that no row has.
//! Triggers see this update.

#![forbid(unsafe_code)]

use pgrx::pg_sys;

use super::keys::by_key;
use crate::changes::net::{NetChange, Values};
use crate::destination::{Action, Referrer};
use crate::error::{Error, SqlError};
use crate::pg::spi::Returned;
use crate::pg::typeio::base_type;
use crate::prepared::Recent;
use crate::statement::{self, Input};
use crate::target::Target;

/// The number of a column in which rows can give their value of a unique index up; `columns` are the columns of the
/// index. No foreign key refers to the column, `allowed` accepts it, and it is nullable or its type has an unused
/// value.
pub fn can_give_up(
    target: &Target,
    columns: &[String],
    allowed: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut columns = with_unused_value(target, columns, allowed);
    columns.find(|&i| !is_referred(target, i, |_| true))
}

/// The same for a column to which foreign keys refer, if none of them cascades its updates. Rows can give their values up
/// that no row refers to. `refers` says whether rows may refer by a foreign key.
pub fn can_give_up_referred(
    target: &Target,
    columns: &[String],
    allowed: impl Fn(usize) -> bool,
    refers: impl Fn(&Referrer) -> bool,
) -> Option<usize> {
    let mut columns = with_unused_value(target, columns, allowed);
    let acts = |referrer: &Referrer| referrer.on_update == Action::Cascade && refers(referrer);
    columns.find(|&i| !is_referred(target, i, acts))
}

/// Whether such a foreign key refers to the column.
fn is_referred(target: &Target, column: usize, such: impl Fn(&Referrer) -> bool) -> bool {
    let name = &target.columns[column].name;
    let mut referrers = target.destination.links.referrers.iter();
    referrers.any(|referrer| such(referrer) && referrer.columns.iter().any(|(_, to, _)| to == name))
}

fn with_unused_value(
    target: &Target,
    columns: &[String],
    allowed: impl Fn(usize) -> bool,
) -> impl Iterator<Item = usize> {
    let columns = columns.iter().filter_map(|name| target.column_number(name));
    columns.filter(move |&i| {
        !target.key.contains(&i) && allowed(i) && unused_value(target, i).is_some()
    })
}

/// Replaces the value of each row in a column from [`can_give_up`].
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

/// The statement that replaces the values of rows (found by key) in these columns by unused values. `None` if a
/// column's type has no unused value.
pub fn give_up_sql(input: Input<'_>, target: &Target, columns: &[usize]) -> Option<String> {
    let key = target.key_sql();
    let assignments = columns
        .iter()
        .map(|&i| Some(assignment(target, i, &unused_value(target, i)?)));
    let assignments: Vec<_> = assignments.collect::<Option<_>>()?;
    Some(statement::update(
        input,
        &target.relation(),
        &key,
        &key,
        &assignments,
    ))
}

/// A column, and the expression that a statement over the keys of rows assigns to it. `value`: of [`unused_of_type`].
fn assignment(target: &Target, column: usize, value: &str) -> (String, String) {
    let number = format!("b.{}", statement::number_name(&target.key_sql()));
    let value = value.replace("b.sequin_n", &number);
    let column = &target.columns[column].sql;
    (
        column.name.clone(),
        format!("({value})::{}", column.type_name),
    )
}

/// A column of the key in which a row can get a key that no row has; `None` if there is none.
pub fn parking_column(target: &Target) -> Option<usize> {
    let mut key = target.key.iter().copied();
    key.find(|&i| {
        let column = &target.columns[i];
        let fixed = target.relation().is_fixed(&column.sql.name);
        !fixed && !column.sql.insert_only && unused_key(target, i).is_some()
    })
}

fn unused_key(target: &Target, column: usize) -> Option<String> {
    let row = &target.columns[column].row;
    unused_of_type(row.type_oid, row.typmod)
}

/// Gives rows keys that no row has. Returns the new keys, each after the number of its row.
pub fn park(
    target: &Target,
    values: &Values,
    column: usize,
    rows: &[&NetChange],
) -> Result<Returned, SqlError> {
    let key = target.key_sql();
    let value = unused_key(target, column).ok_or(Error::RowsWent)?;
    let mut sql = statement::update(
        Input::Batch,
        &target.relation(),
        &key,
        &key,
        &[assignment(target, column, &value)],
    );
    // The statement returns the number first.
    for column in &key {
        sql += &format!(", d.{}", column.name);
    }
    let mut statement = Recent::new(sql, &target.numbered_key())?;
    let parked = statement.query(rows.iter().enumerate(), |(n, net)| {
        by_key(target, values, n, net)
    })?;
    match parked.len() == rows.len() {
        true => Ok(parked),
        false => Err(Error::RowsWent.into()),
    }
}

/// An SQL expression for a value of a column that no row has; `None` if there is none.
pub fn unused_value(target: &Target, column: usize) -> Option<String> {
    let column = &target.columns[column];
    match column.nullable {
        true => Some(String::from("null")),
        false => unused_of_type(column.row.type_oid, column.row.typmod),
    }
}

/// An SQL expression for a value of the type that is probably unused, different for each `b.sequin_n`. `None` if the
/// type has no such value.
fn unused_of_type(type_oid: pg_sys::Oid, typmod: i32) -> Option<String> {
    let (base, typmod) = base_type(type_oid, typmod);
    let digest = "pg_catalog.md5(pg_catalog.concat(pg_catalog.random(), b.sequin_n))";
    let range = |constructor: &str, (of, name): (pg_sys::Oid, &str)| {
        let bound = format!("({})::pg_catalog.{name}", unused_of_type(of, -1)?);
        Some(format!("pg_catalog.{constructor}({bound}, {bound}, '[]')"))
    };
    Some(match base {
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => {
            // The type modifier is the length plus the size of a header (4).
            let length = if typmod < 0 { 32 } else { (typmod - 4).min(32) };
            let first = "pg_catalog.chr(57344 + b.sequin_n % 6400)"; // private use area: U+E000 to U+F8FF
            format!("pg_catalog.left({first} || {digest}, {length})")
        }
        pg_sys::BYTEAOID => format!("pg_catalog.decode({digest}, 'hex')"),
        pg_sys::UUIDOID => String::from("pg_catalog.gen_random_uuid()"),
        pg_sys::JSONBOID => format!("pg_catalog.to_jsonb({digest})"),
        pg_sys::INT2OID => String::from("-32768 + b.sequin_n"),
        pg_sys::INT4OID => String::from("-2147483648 + b.sequin_n"),
        pg_sys::INT8OID => String::from("-9223372036854775807 + b.sequin_n"),
        pg_sys::FLOAT4OID => String::from("-16777216 + b.sequin_n"),
        pg_sys::FLOAT8OID => String::from("-9007199254740991 + b.sequin_n"),
        pg_sys::NUMERICOID if typmod < 0 => String::from("-1e30 + b.sequin_n"),
        pg_sys::NUMERICOID => {
            // The type modifier holds the precision and the scale, plus the size of a header (4).
            let (precision, scale) = ((typmod - 4) >> 16, (typmod - 4) & 0x7ff);
            let digits = usize::try_from(precision - scale).ok()?;
            (6..=1000)
                .contains(&digits)
                .then(|| format!("-{}::numeric + b.sequin_n", "9".repeat(digits)))?
        }
        pg_sys::DATEOID => String::from("pg_catalog.date '0001-01-01' + b.sequin_n"),
        pg_sys::TIMESTAMPOID => {
            String::from("pg_catalog.timestamp '0001-01-01' + b.sequin_n * interval '1 second'")
        }
        pg_sys::TIMESTAMPTZOID => String::from(
            "pg_catalog.timestamptz '0001-01-01 00:00:00+00' + b.sequin_n * interval '1 second'",
        ),
        pg_sys::INTERVALOID => {
            String::from("pg_catalog.make_interval(years => -100000 - b.sequin_n)")
        }
        // The prefix of addresses that are discarded: RFC 6666.
        pg_sys::INETOID => String::from("pg_catalog.inet '100::' + b.sequin_n"),
        pg_sys::INT4RANGEOID => range("int4range", (pg_sys::INT4OID, "int4"))?,
        pg_sys::INT8RANGEOID => range("int8range", (pg_sys::INT8OID, "int8"))?,
        pg_sys::NUMRANGEOID => range("numrange", (pg_sys::NUMERICOID, "numeric"))?,
        pg_sys::DATERANGEOID => range("daterange", (pg_sys::DATEOID, "date"))?,
        pg_sys::TSRANGEOID => range("tsrange", (pg_sys::TIMESTAMPOID, "timestamp"))?,
        pg_sys::TSTZRANGEOID => range("tstzrange", (pg_sys::TIMESTAMPTZOID, "timestamptz"))?,
        _ => return None,
    })
}
