//! Unique values of rows that a soft delete marks: such a row keeps them, so that no other row gets them.

#![forbid(unsafe_code)]

use pgrx::pg_sys::BuiltinOid;

use super::check::qualified;
use super::{Mapping, OnDelete};
use crate::destination::{Column, Destination};
use crate::error::{SqlError, sqlstate};
use crate::prepared::Lookup;

/// The unique indexes and exclusion constraints of a table ($1) and its partitions that do not leave out marked rows, and
/// that have values of the columns that the mapping writes ($4). An index over the mark ($2), or with it in its condition,
/// knows marked rows; the index of the key ($3) has one row for each key. With each: the table, whether it is an exclusion
/// constraint, and the statement that makes it leave out marked rows; null if foreign keys refer to the index.
const HELD: &str = "
    select c.relname::text, i.indrelid::regclass::text, k.contype is not distinct from 'x',
           case when not exists (select from pg_constraint f where f.conindid = i.indexrelid and f.contype = 'f')
                then case when i.indisreplident
                          then format('ALTER TABLE %s REPLICA IDENTITY %s; ', i.indrelid::regclass,
                                      case when exists (select from pg_index p
                                                        where p.indrelid = i.indrelid and p.indisprimary
                                                          and p.indexrelid <> i.indexrelid)
                                           then 'DEFAULT' else 'FULL' end)
                          else '' end
                     || case when k.oid is null then format('DROP INDEX %s; ', i.indexrelid::regclass)
                          else format('ALTER TABLE %s DROP CONSTRAINT %I; ', i.indrelid::regclass, k.conname) end
                     || case when k.contype = 'x'
                             then format('ALTER TABLE %s ADD CONSTRAINT %I ', i.indrelid::regclass, k.conname)
                                  || case when i.indpred is null then d.text || ' WHERE (' || m.unmarked || ')'
                                          else left(d.text, -1) || ' AND ' || m.unmarked || ')' end
                                  || d.checked
                             else d.text || case when i.indpred is null then ' WHERE ' else ' AND ' end
                                  || m.unmarked end
                     || ';' end
    from pg_index i
    join pg_class c on c.oid = i.indexrelid
    join pg_attribute a on a.attrelid = i.indrelid and a.attname = $2
    left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype in ('p', 'u', 'x')
    cross join lateral (
        select format(case when a.atttypid = 'bool'::regtype then '%I IS NOT TRUE' else '%I IS NULL' end, a.attname)
               as unmarked) m
    cross join lateral (
        select case when k.contype = 'x'
                    then regexp_replace(pg_get_constraintdef(k.oid), '( DEFERRABLE)?( INITIALLY DEFERRED)?$', '')
                    -- with ONLY, the index of a partitioned table would have no parts
                    else regexp_replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') end as text,
               case when k.condeferrable then ' DEFERRABLE' else '' end
               || case when k.condeferred then ' INITIALLY DEFERRED' else '' end as checked) d
    cross join lateral (
        select array_agg(b.attname::text) as columns
        from pg_attribute b
        where b.attrelid = i.indrelid
          and b.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])) u
    where (i.indrelid = $1 or i.indrelid in (select p.relid from pg_partition_tree($1::regclass) p))
      and not exists (select from pg_inherits h where h.inhrelid = i.indexrelid)
      and (i.indisunique or i.indisexclusion)
      and (i.indisexclusion or (u.columns <@ $3 and u.columns @> $3) is not true)
      -- the columns behind an expression count as written
      and (0 = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
           or exists (select from pg_attribute b
                      where b.attrelid = i.indrelid and (b.attgenerated <> '' or b.attname = any ($4))
                        and b.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])))
      and not exists (select from pg_depend d
                      where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                        and d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
                        and d.refobjsubid = a.attnum)
      and a.attnum <> all (i.indkey::smallint[])
    order by 1";

thread_local! {
    static FIND_HELD: Lookup = const {
        Lookup::new(
            HELD,
            &[
                BuiltinOid::OIDOID,
                BuiltinOid::TEXTOID,
                BuiltinOid::TEXTARRAYOID,
                BuiltinOid::TEXTARRAYOID,
            ],
        )
    };
}

/// The columns that the mapping writes. Where records bring what they have, a column that makes its own values in a primary
/// key is not theirs.
fn written(mapping: &Mapping, destination: &Destination) -> Vec<String> {
    let own = |column: &Column| {
        let makes = column.has_default || column.identity.is_some();
        makes && destination.primary_key().contains(&column.name)
    };
    let columns = destination.columns.iter().filter(|column| {
        mapping.columns.source(&column.name).is_some()
            || mapping.columns.rest && !mapping.reserves(&column.name) && !own(column)
    });
    columns.map(|column| column.name.clone()).collect()
}

/// A warning for each index that does not leave out the rows that this mapping marks.
pub fn held(mapping: &Mapping, destination: &Destination) -> Vec<SqlError> {
    let (OnDelete::Soft, Some(mark)) = (&mapping.on_delete, &mapping.soft_delete) else {
        return Vec::new();
    };
    let mut indexes = destination.unique_indexes.iter();
    let mut primary = || indexes.find(|index| index.primary);
    let key = mapping.key.clone();
    let key = key.or_else(|| primary().map(|index| index.columns.clone()));
    let args = [
        destination.oid.into(),
        mark.clone().into(),
        key.unwrap_or_default().into(),
        written(mapping, destination).into(),
    ];
    let found = FIND_HELD.with(|query| {
        query.rows(&args, |row| {
            Ok((
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<String>(2)?.unwrap_or_default(),
                row.get::<bool>(3)?.unwrap_or_default(),
                row.get::<String>(4)?,
            ))
        })
    });
    let all = found.into_iter();
    all.map(|(index, table, excludes, statement)| {
        let (kind, other) = match excludes {
            true => ("exclusion constraint", "Another row in its place"),
            false => ("unique index", "Another row with the value"),
        };
        let of = if table.is_empty() { qualified(destination) } else { table };
        let hint = match statement {
            Some(statement) => format!("Let the {kind} leave out marked rows. Run: {statement}"),
            None => "Foreign keys refer to it, so that it cannot leave out rows: use on_delete => 'delete', or drop them first."
                .to_owned(),
        };
        SqlError::new(
            sqlstate::WARNING,
            format!("a row that is marked as deleted keeps its value in {kind} \"{index}\" of {of}"),
        )
        .with_detail(format!("{other} waits as a dead letter."))
        .with_hint(hint)
    })
    .collect()
}
