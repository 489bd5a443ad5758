//! How an append mapping recognises a change that was appended before: by a unique index, or an exclusion constraint,
//! whose columns tell the changes of a source database apart.

#![forbid(unsafe_code)]

use pgrx::pg_sys::BuiltinOid;

use super::column::TargetColumn;
use crate::destination::Destination;
use crate::mapping::{ColumnSource, Mapping, Root};
use crate::prepared::Lookup;

/// Unique indexes, and exclusion constraints by equality, of a table ($1), with: whether `ON CONFLICT` can use it; what
/// that names; the columns that it is made of, those behind expressions and generated columns too; the expressions; and
/// its name with those of its parts in partitions.
const INDEXES: &str = "
    select i.indimmediate,
           case when k.oid is not null then format('on constraint %I', k.conname)
                else format('(%s)', e.list) || coalesce(' where ' || pg_get_expr(i.indpred, i.indrelid), '') end,
           c.names, concat(e.text, c.text),
           (select array_agg(n.relname::text)
            from (select i.indexrelid union select p.relid from pg_partition_tree(i.indexrelid) p) t(oid)
            join pg_class n on n.oid = t.oid)
    from pg_index i
    join pg_class x on x.oid = i.indexrelid
    left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid and k.contype = 'x'
    cross join lateral (
        select string_agg(d.text, ', ' order by s.n) as list,
               string_agg(d.text, ' ') filter (where (i.indkey::smallint[])[s.n - 1] = 0) as text
        from generate_series(1, i.indnkeyatts) s(n)
        cross join lateral (select pg_get_indexdef(i.indexrelid, s.n, false) as text) d) e
    cross join lateral (
        with own as (
            select a.attnum, a.attname, a.attgenerated
            from pg_attribute a
            where a.attrelid = i.indrelid and a.attnum > 0 and not a.attisdropped
              and (a.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
                   -- an expression; a condition depends on its columns too
                   or position(quote_ident(a.attname) in e.text) > 0
                      and exists (select from pg_depend d
                                  where d.classid = 'pg_class'::regclass and d.objid = i.indexrelid
                                    and d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
                                    and d.refobjsubid = a.attnum)))
        select array_agg(distinct z.name) as names, string_agg(z.text, ' ') as text
        from (select o.attname::text as name, null::text as text from own o where o.attgenerated = ''
              union all
              select b.attname::text, pg_get_expr(f.adbin, f.adrelid)
              from own o
              join pg_attrdef f on f.adrelid = i.indrelid and f.adnum = o.attnum
              join pg_attribute b on b.attrelid = i.indrelid and b.attnum > 0 and b.attnum <> o.attnum
              where o.attgenerated <> ''
                and exists (select from pg_depend d
                            where d.refclassid = 'pg_class'::regclass and d.refobjid = i.indrelid
                              and d.refobjsubid = b.attnum
                              and (d.classid = 'pg_attrdef'::regclass and d.objid = f.oid
                                   or d.classid = 'pg_class'::regclass and d.objid = i.indrelid
                                      and d.objsubid = o.attnum))) z) c
    where i.indrelid = $1 and i.indisvalid and c.names is not null
      and (i.indisunique
           or not exists (select from unnest(k.conexclop) u(oid) join pg_operator o on o.oid = u.oid
                          where o.oprname <> '='))
    order by x.relname";

thread_local! {
    static FIND: Lookup = const { Lookup::new(INDEXES, &[BuiltinOid::OIDOID]) };
}

/// A unique index, or an exclusion constraint.
struct Index {
    /// Whether `ON CONFLICT` can use it: it is checked row by row.
    immediate: bool,
    /// What `ON CONFLICT` names.
    arbiter: String,
    /// The columns of the table that it is made of.
    columns: Vec<String>,
    /// Its expressions, and those of generated columns.
    text: String,
    /// Its name, and those of its parts in partitions.
    names: Vec<String>,
}

/// How a repetition is recognised.
#[derive(Debug, Default)]
pub struct Repeats {
    /// The columns (of those that the mapping writes) that tell changes apart, or the key.
    pub columns: Vec<usize>,
    /// What `ON CONFLICT` names; `None` if nothing that it can use tells changes apart.
    pub arbiter: Option<String>,
    /// Further indexes and constraints: a change that violates one was appended before.
    pub violated: Vec<String>,
    /// Whether the columns tell the changes of one source database apart, and not those of several.
    pub by_source: bool,
    /// Whether a change is noted by its position: the columns hold more of it than what the index compares.
    pub by_position: bool,
}

impl Repeats {
    /// How an append mapping recognises repetitions. `key`: its key, if messages bring it.
    pub fn of(
        mapping: &Mapping,
        destination: &Destination,
        columns: &[TargetColumn],
        key: &[usize],
    ) -> Repeats {
        let args = [destination.oid.into()];
        let found = FIND.with(|query| {
            query.rows(&args, |row| {
                let names = |n| row.get::<Vec<String>>(n).map(Option::unwrap_or_default);
                let text = |n| row.get::<String>(n).map(Option::unwrap_or_default);
                Ok(Index {
                    immediate: row.get(1)?.unwrap_or_default(),
                    arbiter: text(2)?,
                    columns: names(3)?,
                    text: text(4)?,
                    names: names(5)?,
                })
            })
        });
        let key_names: Vec<String> = key.iter().map(|&i| columns[i].name.clone()).collect();
        let of_key = |index: &&Index| {
            index.text.is_empty()
                && index.columns.len() == key.len()
                && key_names.iter().all(|name| index.columns.contains(name))
        };
        let written = |index: &Index| -> Vec<usize> {
            let number = |name: &String| columns.iter().position(|column| column.name == *name);
            index.columns.iter().filter_map(number).collect()
        };
        let telling: Vec<&Index> = found
            .iter()
            .filter(|index| tell_changes(mapping, &index.columns, &index.text))
            .collect();
        if !key.is_empty() && (telling.is_empty() || tell_changes(mapping, &key_names, "")) {
            let list: Vec<&str> = key.iter().map(|&i| columns[i].sql.name.as_str()).collect();
            return Repeats {
                columns: key.to_vec(),
                arbiter: Some(format!("({})", list.join(", "))),
                violated: Vec::new(),
                by_source: tell_changes(mapping, &key_names, "")
                    && !tell_sources(mapping, &key_names, ""),
                by_position: false,
            };
        }
        let usable = telling.iter().filter(|index| index.immediate);
        let arbiter = usable.min_by_key(|index| index.columns.len());
        let Some(index) = arbiter.or(telling.first()) else {
            return Repeats::default();
        };
        let others = telling
            .iter()
            .filter(|other| arbiter.is_none_or(|a| a.arbiter != other.arbiter));
        let key_index = found
            .iter()
            .filter(|index| !key.is_empty() && of_key(index));
        let violated = others
            .copied()
            .chain(key_index)
            .flat_map(|index| index.names.clone());
        Repeats {
            columns: written(index),
            arbiter: arbiter.map(|index| index.arbiter.clone()),
            violated: violated.collect(),
            by_source: !tell_sources(mapping, &index.columns, &index.text),
            by_position: !index.text.is_empty()
                && index.columns.iter().any(|name| is_metadata(mapping, name)),
        }
    }

    /// Whether the mapping recognises repetitions.
    pub fn are_told(&self) -> bool {
        !self.columns.is_empty()
    }
}

/// Whether values made of these columns tell the changes of a source database apart. `text`: the expressions.
fn tell_changes(mapping: &Mapping, columns: &[String], text: &str) -> bool {
    let has = |member: &str| mentions(mapping, columns, text, member);
    has("idempotency_key") || has("commit_lsn") && has("commit_idx")
}

/// Whether they tell source databases apart.
fn tell_sources(mapping: &Mapping, columns: &[String], text: &str) -> bool {
    ["database", "database_name"]
        .iter()
        .any(|member| mentions(mapping, columns, text, member))
}

/// Whether the column holds all of the metadata.
fn is_metadata(mapping: &Mapping, name: &str) -> bool {
    matches!(mapping.columns.source(name), Some(ColumnSource::Path(path))
        if path.root == Root::Metadata && path.keys.is_empty())
}

/// Whether one of the columns is made of this member of the metadata.
fn mentions(mapping: &Mapping, columns: &[String], text: &str, member: &str) -> bool {
    columns
        .iter()
        .any(|name| match mapping.columns.source(name) {
            Some(ColumnSource::Path(path)) if path.root == Root::Metadata => {
                match path.keys.first() {
                    Some(key) => key == member,
                    // all of the metadata; an expression may read one member of it
                    None => text.is_empty() || text.contains(member),
                }
            }
            Some(ColumnSource::Sql(sql)) => sql.contains(member),
            Some(ColumnSource::Path(_) | ColumnSource::Value(_)) | None => false,
        })
}
