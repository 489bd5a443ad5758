//! Builds the query whose result shows whether two tables hold the same rows.
//!
//! The query is plain SQL for PostgreSQL 9.4 and later, so that it runs at the source without this extension.
//! It spells values in ways that depend on no setting and no version.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;

use super::own_statement;
use crate::destination::Destination;
use crate::error::Error;
use crate::error::nearest::nearest;
use crate::error::quote::ident;
use crate::mapping::GUARD_COLUMNS;
use crate::pg::raise::raise;
use crate::pg::typeio::{MONEYOID, base_type, fields, type_row};

/// The most arguments of one call. The server allows 100 arguments (`FUNC_MAX_ARGS`).
const ARGUMENTS: usize = 90;

/// The most levels of composite types in composite types, deeper than any real table.
const MAX_DEPTH: usize = 32;

/// `sequin.fingerprint_query(relation, columns, bucket_count, key, source)`: the query of
/// `sequin.fingerprint`, which can also run at the source. `source` is the table's name there.
#[pg_extern(sql = false)]
fn fingerprint_query(
    relation: Option<pg_sys::Oid>,
    columns: Option<Vec<Option<String>>>,
    bucket_count: Option<i32>,
    key: Option<Vec<Option<String>>>,
    source: Option<&str>,
) -> Result<String, ErrorReport> {
    let null = |argument| Error::NullArgument { argument };
    let oid = relation.ok_or(null("relation"))?;
    let buckets = bucket_count.ok_or(null("bucket_count"))?;
    if buckets < 1 {
        return Err(Error::NoBuckets { count: buckets }.into());
    }
    let table = Destination::load(oid).ok_or(Error::NoRelation { oid: oid.to_u32() })?;
    let all = || {
        let compared = table.columns.iter().filter(|column| {
            !column.generated && !GUARD_COLUMNS.iter().any(|(name, ..)| *name == column.name)
        });
        compared.map(|column| column.name.clone()).collect()
    };
    let mut columns = match columns {
        Some(names) => given(&table, names)?,
        None => all(),
    };
    let key = match key {
        Some(names) => given(&table, names)?,
        None => match table.primary_key() {
            [] => columns.clone(),
            key => key.to_vec(),
        },
    };
    for name in key.iter().rev() {
        if !columns.contains(name) {
            columns.insert(0, name.clone());
        }
    }
    let texts = |names: &[String]| {
        names
            .iter()
            .map(|name| {
                let type_oid = table.column(name).expect("looked up").type_oid;
                text_of(&format!("t.{}", ident(name)), type_oid, MAX_DEPTH)
            })
            .collect::<Vec<_>>()
    };
    let from = source.map_or_else(|| table.qualified_name(), str::to_owned);
    Ok(query(&from, &texts(&key), &texts(&columns), buckets))
}

/// Checks the column names that the caller gave.
fn given(table: &Destination, names: Vec<Option<String>>) -> Result<Vec<String>, Error> {
    let names: Vec<String> = names.into_iter().flatten().collect();
    for name in &names {
        if table.column(name).is_none() {
            let known = table.columns.iter().map(|column| column.name.as_str());
            return Err(Error::NoColumn {
                name: name.clone(),
                relation: table.qualified_name(),
                nearest: nearest(name, known),
            });
        }
    }
    if names.is_empty() {
        return Err(Error::NoColumns);
    }
    Ok(names)
}

/// The query. It adds up hashes, because a sum does not depend on the order of the rows.
fn query(from: &str, key: &[String], columns: &[String], buckets: i32) -> String {
    format!(
        "select b.bucket, count(*) as rows, sum(b.hash) as hash
from (select mod(('x' || substr(md5({}), 1, 8))::bit(32)::bigint, {buckets})::integer as bucket,
             ('x' || substr(md5({}), 1, 15))::bit(60)::bigint as hash
      from {from} t) b
group by b.bucket
order by b.bucket",
        row_text(key),
        row_text(columns)
    )
}

/// The texts joined into one: a JSON array, because no value can be mistaken for its separators.
fn row_text(texts: &[String]) -> String {
    format!("{}::text", json_array(texts))
}

fn json_array(texts: &[String]) -> String {
    if texts.len() <= ARGUMENTS {
        return format!("json_build_array({})", texts.join(", "));
    }
    let parts: Vec<_> = texts.chunks(ARGUMENTS).map(json_array).collect();
    json_array(&parts)
}

/// The text that the type's output function makes of a value. For types that are not built in, a cast to text
/// is avoided: the owner of the type may have defined the cast, which would run with the caller's rights.
fn plain_text(value: &str, type_oid: pg_sys::Oid) -> String {
    let (base, _) = base_type(type_oid, -1);
    if base.to_u32() < pg_sys::FirstNormalObjectId {
        return format!("{value}::text");
    }
    format!("case when {value} is distinct from null then concat({value}) end")
}

/// The text of a value: the output function's, unless a setting can change that text.
fn text_of(value: &str, type_oid: pg_sys::Oid, depth: usize) -> String {
    let (base, _) = base_type(type_oid, -1);
    let finite =
        |text: String| format!("case when isfinite({value}) then {text} else {value}::text end");
    let plain = plain_text(value, type_oid);
    match base {
        pg_sys::DATEOID => return finite(format!("({value} - date '2000-01-01')::text")),
        pg_sys::TIMESTAMPOID => {
            return finite(format!("to_char({value}, 'YYYY-MM-DD HH24:MI:SS.US BC')"));
        }
        pg_sys::TIMESTAMPTZOID => {
            return finite(format!(
                "to_char({value} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US BC')"
            ));
        }
        pg_sys::INTERVALOID => {
            let parts = ["year", "month", "day", "hour", "minute", "microseconds"]
                .map(|part| format!("extract({part} from {value})::bigint"));
            return finite(format!("concat_ws(' ', {})", parts.join(", ")));
        }
        pg_sys::FLOAT4OID => return format!("encode(float4send({value}), 'hex')"),
        pg_sys::FLOAT8OID => return format!("encode(float8send({value}), 'hex')"),
        pg_sys::BYTEAOID => return format!("encode({value}, 'hex')"),
        pg_sys::JSONOID => return json_text(value),
        MONEYOID => return format!("{value}::numeric::text"),
        _ => {}
    }
    let Some(row) = type_row(base).filter(|_| depth > 0) else {
        return plain;
    };
    // The text of a part, if it differs from the output function's.
    let part = |value: &str, type_oid| {
        let text = text_of(value, type_oid, depth - 1);
        (text != plain_text(value, type_oid)).then_some(text)
    };
    // unnest is in the select list: in FROM it would split elements of a composite type into columns.
    let parts = |dimensions: &str, text: String| {
        format!(
            "case when {value} is not null then (select concat({dimensions}string_agg(\
             coalesce(to_json({text})::text, 'null'), ',' order by u.n)) from (select s.e, \
             row_number() over () as n from (select unnest({value}) as e) s) u) end"
        )
    };
    if let Some(element) = row.element {
        return part("u.e", element)
            .map_or(plain, |text| parts(&format!("array_dims({value}), "), text));
    }
    match row.kind {
        b'c' => {
            let texts: Vec<_> = fields(base)
                .into_iter()
                .map(|(name, oid, _)| {
                    text_of(&format!("({value}).{}", ident(&name)), oid, depth - 1)
                })
                .collect();
            format!(
                "case when {value} is distinct from null then {} end",
                row_text(&texts)
            )
        }
        b'r' => match (
            part(&format!("lower({value})"), subtype(base)),
            part(&format!("upper({value})"), subtype(base)),
        ) {
            (Some(lower), Some(upper)) => format!(
                "case when {value} is not null then json_build_array(isempty({value}), \
                 lower_inc({value}), {lower}, {upper}, upper_inc({value}))::text end"
            ),
            _ => plain,
        },
        b'm' => part("u.e", subtype(base)).map_or(plain, |text| parts("", text)),
        _ => plain,
    }
}

/// The text of a `json` value without its white space and order of members, which `jsonb` does not keep. Not every `json`
/// is a `jsonb`: the character U+0000 gives way to U+001A, with a mark in front. A value with half of a surrogate pair or
/// with a number of a large exponent keeps its text.
fn json_text(value: &str) -> String {
    let text = format!("{value}::text");
    let huge = format!("{text} ~ '[eE][-+]?[0-9]{{5}}'");
    let pairs = r"E'\\\\u[dD][89abAB]..\\\\u[dD][c-fC-F]..'";
    let half = format!(r"regexp_replace({text}, {pairs}, '', 'g') ~ E'\\\\u[dD][89a-fA-F]'");
    let without_zero = format!(r"replace({text}, E'\\u0000', E'\\u001a')::jsonb::text");
    format!(
        r"case when {huge} then {text} when strpos({text}, E'\\u') = 0 then {value}::jsonb::text when {half} then {text} when strpos({text}, E'\\u0000') > 0 then concat(E'\\u0000', {without_zero}) else {value}::jsonb::text end"
    )
}

/// The element type of a range, or the range type of a multirange.
fn subtype(range: pg_sys::Oid) -> pg_sys::Oid {
    const SUBTYPE: &str = "
        select rngsubtype from pg_catalog.pg_range where rngtypid operator(pg_catalog.=) $1
        union all select rngtypid from pg_catalog.pg_range where rngmultitypid operator(pg_catalog.=) $1";
    Spi::connect(|client| {
        let found = client.select(SUBTYPE, Some(1), &[range.into()])?;
        found.first().get_one()
    })
    .unwrap_or_else(|why| raise(own_statement("read the catalog")(why)))
    .unwrap_or(pg_sys::InvalidOid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_many_columns_is_an_array_of_arrays() {
        let texts: Vec<_> = (0..ARGUMENTS + 1).map(|n| format!("c{n}")).collect();
        let text = row_text(&texts);
        assert!(
            text.starts_with("json_build_array(json_build_array(c0, "),
            "{text}"
        );
        assert!(text.ends_with("), json_build_array(c90))::text"), "{text}");
        assert_eq!(row_text(&texts[..2]), "json_build_array(c0, c1)::text");
    }

    #[test]
    fn the_query_sums_by_bucket() {
        let query = query("public.t", &["t.id::text".into()], &["t.a::text".into()], 4);
        assert_eq!(
            query,
            "select b.bucket, count(*) as rows, sum(b.hash) as hash\n\
             from (select mod(('x' || substr(md5(json_build_array(t.id::text)::text), 1, 8))\
             ::bit(32)::bigint, 4)::integer as bucket,\n             \
             ('x' || substr(md5(json_build_array(t.a::text)::text), 1, 15))::bit(60)::bigint as hash\n      \
             from public.t t) b\ngroup by b.bucket\norder by b.bucket"
        );
    }
}
