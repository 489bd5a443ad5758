//! The constraints of a table that concern several rows: foreign keys, unique indexes, exclusion constraints.

#![forbid(unsafe_code)]

use std::rc::Rc;

use pgrx::pg_sys::{self, BuiltinOid};

use super::Equality;
use crate::memo::Memo;
use crate::pg::relation;
use crate::prepared::Lookup;

/// The constraints of a table that concern several rows.
#[derive(Debug, Clone, Default)]
pub struct Constraints {
    /// The foreign keys to other tables and to the table itself.
    pub foreign_keys: Vec<ForeignKey>,
    /// The unique indexes and exclusion constraints.
    pub exclusions: Vec<Exclusion>,
    /// The generated columns, each with its expression.
    pub generated: Vec<(String, String)>,
}

/// A foreign key of a table.
#[derive(Debug, Clone)]
pub struct ForeignKey {
    /// The table that the foreign key refers to.
    pub parent: pg_sys::Oid,
    /// The role that owns the parent table. The server checks foreign keys as this role.
    pub parent_owner: pg_sys::Oid,
    /// The parent table's schema and name, quoted where SQL needs it.
    pub parent_name: String,
    /// The columns, in the order that the referenced columns have in the parent table.
    pub columns: Vec<Reference>,
}

/// A column of a foreign key.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The column's name.
    pub of: String,
    /// The column that it refers to.
    pub to: String,
    /// The type of the referenced column, as SQL spells it, without a modifier.
    pub type_name: String,
    /// The comparison of the referenced column (on the left) with this column.
    pub equality: Equality,
}

/// A unique index, or an exclusion constraint: two rows may not agree in all of its elements.
#[derive(Debug, Clone)]
pub struct Exclusion {
    /// The name of the index, which is also the name of its constraint.
    pub name: String,
    /// The compared elements: columns (quoted where SQL needs it) or expressions over columns, each with the
    /// operator that compares two rows.
    pub elements: Vec<(String, String)>,
    /// The collation of each element; 0 if its type has none.
    pub collations: Vec<pg_sys::Oid>,
    /// The columns that are the elements; empty if an element is an expression.
    pub columns: Vec<String>,
    /// The condition of a partial index, over columns.
    pub predicate: Option<String>,
    /// The columns that the elements and the condition read.
    pub reads: Vec<String>,
    /// Whether two nulls agree.
    pub nulls_agree: bool,
    /// Whether it is an exclusion constraint, whose operators need not be equalities.
    pub of_operators: bool,
}

/// Leaves out the constraints that the catalog has for each partition of a partitioned parent: they say the
/// same.
const FOREIGN_KEYS: &str = "
    select k.confrelid, p.relowner,
           pg_catalog.format('%I.%I', n.nspname, p.relname),
           array(select a.attname::text
                 from rows from (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) u(of, at)
                 join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.of
                 order by u.at),
           array(select a.attname::text
                 from pg_catalog.unnest(k.confkey) u(at)
                 join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.at
                 order by u.at),
           array(select pg_catalog.format_type(a.atttypid, -1)
                 from pg_catalog.unnest(k.confkey) u(at)
                 join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.at
                 order by u.at),
           array(select pg_catalog.format('operator(%I.%s)', s.nspname, o.oprname)
                 from rows from (pg_catalog.unnest(k.conpfeqop), pg_catalog.unnest(k.confkey)) u(operator, at)
                 join pg_catalog.pg_operator o on o.oid = u.operator
                 join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
                 order by u.at),
           -- the server compares under the collation of the referenced column, if that collation matters
           array(select coalesce((select pg_catalog.format(' collate %I.%I', s.nspname, l.collname)
                                  from pg_catalog.pg_collation l
                                  join pg_catalog.pg_namespace s on s.oid = l.collnamespace
                                  where l.oid = a.attcollation and not l.collisdeterministic), '')
                 from pg_catalog.unnest(k.confkey) u(at)
                 join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.at
                 order by u.at)
    from pg_catalog.pg_constraint k
    join pg_catalog.pg_class p on p.oid = k.confrelid
    join pg_catalog.pg_namespace n on n.oid = p.relnamespace
    where k.conrelid = $1 and k.contype = 'f'
      and not exists (select from pg_catalog.pg_constraint up
                      where up.oid = k.conparentid and up.conrelid = k.conrelid)
      and not exists (select from pg_catalog.pg_trigger t
                      where t.tgconstraint = k.oid and t.tgrelid = $1 and t.tgenabled = 'D')
    order by k.oid";

const EXCLUSIONS: &str = "
    select array(select case when l.oid is null or l.oid = a.attcollation then e.text
                             else pg_catalog.format('((%s) collate %I.%I)', e.text, s.nspname, l.collname) end
                 from pg_catalog.generate_series(1, i.indnkeyatts) k
                 cross join lateral (select pg_catalog.pg_get_indexdef(i.indexrelid, k::integer, true)) e(text)
                 left join pg_catalog.pg_collation l on l.oid = i.indcollation[k - 1]
                 left join pg_catalog.pg_namespace s on s.oid = l.collnamespace
                 left join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k - 1]
                 order by k),
           array(select pg_catalog.format('operator(%I.%s)', s.nspname, o.oprname)
                 from pg_catalog.generate_series(1, i.indnkeyatts) k
                 join pg_catalog.pg_opclass f on f.oid = i.indclass[k - 1]
                 join pg_catalog.pg_operator o on o.oid = coalesce(x.conexclop[k], (
                     select m.amopopr from pg_catalog.pg_amop m
                     where m.amopfamily = f.opcfamily and m.amoplefttype = f.opcintype
                       and m.amoprighttype = f.opcintype and m.amopstrategy = 3))
                 join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
                 order by k),
           array(select a.attname::text
                 from pg_catalog.generate_series(1, i.indnkeyatts) k
                 join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[k - 1]
                 where i.indexprs is null order by k),
           pg_catalog.pg_get_expr(i.indpred, i.indrelid),
           array(select a.attname::text from pg_catalog.pg_attribute a
                 where a.attrelid = i.indrelid and a.attnum > 0
                   and (a.attnum = any (i.indkey::smallint[])
                        or exists (select from pg_catalog.pg_depend d
                                   where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                                     and d.objid = i.indexrelid and d.refobjid = i.indrelid
                                     and d.refobjsubid = a.attnum))),
           coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
           x.conexclop is not null,
           array(select i.indcollation[k - 1] from pg_catalog.generate_series(1, i.indnkeyatts) k order by k),
           c.relname::text
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    left join pg_catalog.pg_constraint x
         on x.conindid = i.indexrelid and x.conrelid = i.indrelid and x.conexclop is not null
    where i.indrelid = $1 and (i.indisunique or x.oid is not null) and i.indislive
    order by c.relname";

const GENERATED: &str = "
    select a.attname::text, pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = $1 and a.attgenerated <> '' and not a.attisdropped
    order by a.attnum";

thread_local! {
    static KNOWN: Memo<pg_sys::Oid, Constraints> = const { Memo::new() };
    static OF_FOREIGN_KEYS: Lookup = const { Lookup::new(FOREIGN_KEYS, &[BuiltinOid::OIDOID]) };
    static OF_EXCLUSIONS: Lookup = const { Lookup::new(EXCLUSIONS, &[BuiltinOid::OIDOID]) };
    static OF_GENERATED: Lookup = const { Lookup::new(GENERATED, &[BuiltinOid::OIDOID]) };
}

impl Constraints {
    /// The constraints of a table; read once, until definitions change.
    pub fn of(table: pg_sys::Oid) -> Rc<Constraints> {
        let known = KNOWN.with(|known| known.get(table, || Some(Constraints::load(table))));
        known.unwrap_or_default()
    }

    /// The unique index or exclusion constraint of this name.
    pub fn exclusion(&self, name: &str) -> Option<&Exclusion> {
        self.exclusions.iter().find(|index| index.name == name)
    }

    /// Whether the destination may have set this column to null itself: a row gives up a unique value that another row is
    /// to have, and a foreign key may do so.
    pub fn may_empty(&self, column: &str) -> bool {
        let mut references = self.foreign_keys.iter().flat_map(|key| &key.columns);
        let mut unique = self.exclusions.iter().flat_map(|index| &index.reads);
        references.any(|reference| reference.of == column) || unique.any(|name| name == column)
    }

    /// Reads the constraints of a table from the catalog.
    fn load(table: pg_sys::Oid) -> Constraints {
        let arg = [table.into()];
        let foreign_keys = OF_FOREIGN_KEYS.with(|query| {
            query.rows(&arg, |row| {
                let lists: [Vec<String>; 5] = [
                    row.get(4)?.expect("not null"),
                    row.get(5)?.expect("not null"),
                    row.get(6)?.expect("not null"),
                    row.get(7)?.expect("not null"),
                    row.get(8)?.expect("not null"),
                ];
                let [of, to, types, operators, collates] = lists.map(Vec::into_iter);
                let columns = of.zip(to).zip(types.zip(operators.zip(collates)));
                let parent = row.get(1)?.expect("not null");
                relation::note_name(parent);
                Ok(ForeignKey {
                    parent,
                    parent_owner: row.get(2)?.expect("not null"),
                    parent_name: row.get(3)?.expect("not null"),
                    columns: columns
                        .map(|((of, to), (type_name, (operator, collate)))| Reference {
                            of,
                            to,
                            type_name,
                            equality: Equality::new(operator, collate),
                        })
                        .collect(),
                })
            })
        });
        let exclusions = OF_EXCLUSIONS.with(|query| {
            query.rows(&arg, |row| {
                let elements: Vec<String> = row.get(1)?.expect("not null");
                let operators: Vec<String> = row.get(2)?.expect("not null");
                Ok(Exclusion {
                    elements: elements.into_iter().zip(operators).collect(),
                    columns: row.get(3)?.expect("not null"),
                    predicate: row.get(4)?,
                    reads: row.get(5)?.expect("not null"),
                    nulls_agree: row.get(6)?.expect("not null"),
                    of_operators: row.get(7)?.expect("not null"),
                    collations: row.get(8)?.expect("not null"),
                    name: row.get(9)?.expect("not null"),
                })
            })
        });
        let generated = OF_GENERATED.with(|query| {
            query.rows(&arg, |row| {
                Ok((
                    row.get(1)?.expect("not null"),
                    row.get(2)?.expect("not null"),
                ))
            })
        });
        Constraints {
            foreign_keys,
            exclusions,
            generated,
        }
    }
}
