//! The constraint that raised an error.

#![forbid(unsafe_code)]

use std::rc::Rc;

use pgrx::pg_sys::{self, BuiltinOid};
use pgrx::spi::SpiHeapTupleData;

use crate::destination::constraints::Constraints;
use crate::destination::{Equality, Referrer};
use crate::error::SqlError;
use crate::memo::Memo;
use crate::prepared::Lookup;
use crate::target::Target;

/// A foreign key. For a partition: the foreign key of the partitioned table.
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
           array(select pg_catalog.format_type(a.atttypid, -1)
                 from pg_catalog.pg_attribute a
                 where a.attrelid = up.confrelid and a.attnum = any (up.confkey) order by a.attnum),
           array(select a.attname::text
                 from pg_catalog.pg_index i join pg_catalog.pg_attribute a
                      on a.attrelid = i.indrelid
                         and a.attnum = any ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
                 where i.indrelid = up.confrelid and i.indisprimary order by a.attnum),
           (select p.relowner from pg_catalog.pg_class p where p.oid = up.confrelid),
           array(select pg_catalog.format('operator(%I.%s)', s.nspname, o.oprname)
                 from unnest(up.conpfeqop, up.confkey) k(operator, parent)
                 join pg_catalog.pg_operator o on o.oid = k.operator
                 join pg_catalog.pg_namespace s on s.oid = o.oprnamespace
                 order by k.parent),
           array(select a.attname::text
                 from unnest(up.conkey) with ordinality k(child, n)
                 join pg_catalog.pg_attribute a on a.attrelid = up.conrelid and a.attnum = k.child
                 order by k.n),
           array(select coalesce((select pg_catalog.format(' collate %I.%I', s.nspname, l.collname)
                                  from pg_catalog.pg_collation l
                                  join pg_catalog.pg_namespace s on s.oid = l.collnamespace
                                  where l.oid = a.attcollation and not l.collisdeterministic), '')
                 from pg_catalog.pg_attribute a
                 where a.attrelid = up.confrelid and a.attnum = any (up.confkey) order by a.attnum)
    from up where up.conparentid = 0";

thread_local! {
    static KNOWN: Memo<[Option<String>; 3], ForeignKey> = const { Memo::new() };
    static FOREIGN_KEYS: Lookup = const { Lookup::new(FOREIGN_KEY, &[BuiltinOid::TEXTOID; 3]) };
    static CONSTRAINTS: Lookup = const { Lookup::new(CONSTRAINT, &[BuiltinOid::TEXTOID; 3]) };
    static TABLES: Lookup = const { Lookup::new(TABLE, &[BuiltinOid::TEXTOID; 2]) };
}

/// A foreign key, as [`FOREIGN_KEY`] finds it.
pub struct ForeignKey {
    /// The referring table.
    pub child: pg_sys::Oid,
    /// The referenced table.
    pub parent: pg_sys::Oid,
    /// The schema and name of the referenced table, quoted where SQL needs it.
    pub name: String,
    /// The referring columns, in the order of `to`.
    pub of: Vec<String>,
    /// The referenced columns, in the order of the referenced table.
    pub to: Vec<String>,
    /// The types of the referenced columns, as SQL spells them, without modifiers: a cast must not shorten a value.
    pub types: Vec<String>,
    /// The primary key of the referenced table.
    pub primary: Vec<String>,
    /// The role that owns the referenced table.
    pub parent_owner: pg_sys::Oid,
    /// The comparisons of a referenced column (on the left) with a referring one, in the order of `to`.
    pub equalities: Vec<Equality>,
    /// The referring columns, in the order of the foreign key.
    pub declared: Vec<String>,
}

impl ForeignKey {
    /// The foreign key that raised the error.
    pub fn of(error: &SqlError) -> Option<Rc<ForeignKey>> {
        let name = [&error.schema, &error.table, &error.constraint];
        KNOWN.with(|known| known.get(name.map(Clone::clone), || ForeignKey::load(name)))
    }

    fn load(name: [&Option<String>; 3]) -> Option<ForeignKey> {
        let name = name.map(Option::as_deref);
        let read = |row: SpiHeapTupleData<'_>| {
            let operators: Vec<String> = row.get(9)?.expect("not null");
            let collates: Vec<String> = row.get(11)?.expect("not null");
            let equalities = operators.into_iter().zip(collates);
            Ok(ForeignKey {
                child: row.get(1)?.expect("not null"),
                parent: row.get(2)?.expect("not null"),
                name: row.get(3)?.expect("not null"),
                of: row.get(4)?.expect("not null"),
                to: row.get(5)?.expect("not null"),
                types: row.get(6)?.expect("not null"),
                primary: row.get(7)?.expect("not null"),
                parent_owner: row.get(8)?.expect("not null"),
                equalities: equalities.map(|(o, c)| Equality::new(o, c)).collect(),
                declared: row.get(10)?.expect("not null"),
            })
        };
        FOREIGN_KEYS.with(|query| query.rows(&name.map(Into::into), read).pop())
    }
}

/// The table of this schema and name.
const TABLE: &str = "
    select c.oid from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = $2";

/// A constraint of a table. The query is needed because a trigger may name a constraint that does not
/// exist.
const CONSTRAINT: &str = "
    select true from pg_catalog.pg_constraint k
    join pg_catalog.pg_class c on c.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = $2 and k.conname = $3 and k.contype <> 't'";

/// Whether a constraint of a table raised the error, and not a trigger.
pub fn is_of_constraint(error: &SqlError) -> bool {
    let name = [&error.schema, &error.table, &error.constraint].map(Option::as_deref);
    let found = |query: &Lookup| query.rows(&name.map(Into::into), |row| row.get::<bool>(1));
    error.constraint.is_some() && !CONSTRAINTS.with(found).is_empty()
}

/// The constraints of the table that the error names, and among them the name of the unique index or exclusion
/// constraint that raised it. The table is the destination, or a partition of it.
pub fn exclusive(error: &SqlError) -> Option<(Rc<Constraints>, &str)> {
    let name = [&error.schema, &error.table].map(Option::as_deref);
    let found = TABLES.with(|query| query.rows(&name.map(Into::into), |row| row.get(1)));
    let constraints = Constraints::of(found.into_iter().next()??);
    Some((constraints, error.constraint.as_deref()?))
}

/// The columns of the unique index that raised the error; empty if the index is partial or has expressions.
pub fn unique_columns(error: &SqlError) -> Vec<String> {
    let Some((constraints, name)) = exclusive(error) else {
        return Vec::new();
    };
    let index = constraints.exclusion(name);
    let index = index.filter(|index| index.predicate.is_none() && !index.of_operators);
    index.map_or_else(Vec::new, |index| index.columns.clone())
}

/// The foreign key of this name through which the table `child` refers to the destination.
pub fn referrer<'t>(
    target: &'t Target,
    child: pg_sys::Oid,
    constraint: Option<&str>,
) -> Option<&'t Referrer> {
    let mut referrers = target.destination.links.referrers.iter();
    referrers.find(|r| r.oid == child && Some(&*r.constraint) == constraint)
}
