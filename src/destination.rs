//! The destination relation: its columns, its unique indexes, the tables it refers to.

#![forbid(unsafe_code)]

pub mod constraints;
pub mod partitions;
pub mod places;

use std::rc::Rc;

use pgrx::pg_sys::{self, BuiltinOid};

use crate::memo::Memo;
use crate::pg::tuples::RowColumn;
use crate::prepared::Lookup;

/// A relation that messages are written to, as the catalog describes it.
#[derive(Debug, Clone)]
pub struct Destination {
    /// `pg_class.oid`.
    pub oid: pg_sys::Oid,
    /// The schema's name.
    pub schema: String,
    pub name: String,
    /// The role that owns the relation.
    pub owner: pg_sys::Oid,
    /// `pg_class.relkind`.
    pub relkind: u8,
    /// `pg_class.relpersistence`.
    pub persistence: u8,
    /// The columns in order, without dropped columns.
    pub columns: Vec<Column>,
    /// The unique indexes, the primary key's first.
    pub unique_indexes: Vec<UniqueIndex>,
    /// Whether the relation has constraints that are checked at commit.
    pub deferred: bool,
    /// Whether constraint triggers are among these constraints. Such triggers must run as the mapping's
    /// owner.
    pub deferred_triggers: bool,
    /// Whether the end of a statement may check a constraint over several rows of the relation: one
    /// statement must write such rows.
    pub checks_sets: bool,
    /// Whether the relation (or a partition) has user-defined triggers that fire after its rows are written.
    /// Such a trigger may refuse the row, or complain that another row is missing.
    pub after_triggers: bool,
    /// OIDs of the other tables that the relation's foreign keys refer to.
    pub refers_to: Vec<pg_sys::Oid>,
    /// Foreign keys by which the relation refers to itself, or a partition to its partitioned table: the
    /// columns of each, with the column that each refers to.
    pub self_references: Vec<Vec<(String, String)>>,
    /// Foreign keys that refer to the relation.
    pub referrers: Vec<Referrer>,
}

/// A foreign key that refers to the destination.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// The table that has the foreign key; it can be the destination.
    pub oid: pg_sys::Oid,
    /// The role that owns the table.
    pub owner: pg_sys::Oid,
    /// The effect when a referenced row is deleted: `pg_constraint.confdeltype`.
    pub on_delete: Action,
    /// The effect when a referenced column is updated: `pg_constraint.confupdtype`.
    pub on_update: Action,
    /// The table's schema.
    pub schema: String,
    /// The table's name.
    pub table: String,
    /// Schema and name of the table, quoted where SQL needs it.
    pub name: String,
    /// The name of the foreign key.
    pub constraint: String,
    /// The columns of the foreign key, each with the column that it refers to, and the equality that compares
    /// the two (the referenced column on the left).
    pub columns: Vec<(String, String, Equality)>,
}

/// How a constraint compares two values: its operator, and a collation if operands alone may give another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Equality {
    operator: String,
    /// ` collate …`, or empty.
    collate: String,
}

impl Equality {
    /// The comparison by this operator, as SQL spells it, under the collation of this SQL clause.
    pub fn new(operator: String, collate: String) -> Equality {
        Equality { operator, collate }
    }

    /// The SQL condition that two expressions are equal.
    pub fn sql(&self, left: &str, right: &str) -> String {
        format!("{left} {} {right}{}", self.operator, self.collate)
    }
}

/// The effect of a foreign key on rows that refer to a deleted or changed row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing. The foreign key fails when the statement ends, if a row then refers to a missing row.
    Nothing,
    /// The foreign key fails if rows refer to the row, even if another row takes its place.
    Restrict,
    /// The foreign key deletes or changes the referring rows.
    Cascade,
}

impl Action {
    fn of(catalog: i8) -> Action {
        match catalog as u8 {
            b'a' => Action::Nothing,
            b'r' => Action::Restrict,
            _ => Action::Cascade,
        }
    }
}

/// A column of a destination.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    /// The column's type.
    pub type_oid: pg_sys::Oid,
    /// The type modifier, -1 for none.
    pub typmod: i32,
    /// The collation, `InvalidOid` for none.
    pub collation: pg_sys::Oid,
    /// The type as SQL spells it, with the modifier, schema-qualified unless in `pg_catalog`.
    pub type_name: String,
    /// ` collate …` for a collation that is not the type's own; else empty.
    pub collate: String,
    /// Whether the column refuses null.
    pub not_null: bool,
    /// Whether an insert without the column gives it a value: a default or an identity.
    pub has_default: bool,
    /// Whether the column is generated from other columns.
    pub generated: bool,
    /// `pg_attribute.attidentity`: `a` for always, `d` for by default.
    pub identity: Option<u8>,
}

/// A unique index of a destination.
#[derive(Debug, Clone)]
pub struct UniqueIndex {
    pub name: String,
    /// The key columns in order; empty if one of them is an expression.
    pub columns: Vec<String>,
    /// Whether the index is the primary key's.
    pub primary: bool,
    /// False for the index of a deferrable constraint: `ON CONFLICT` cannot use such an index.
    pub immediate: bool,
    /// Whether the index covers only some of the rows.
    pub partial: bool,
    /// Whether the index was built completely.
    pub valid: bool,
}

const RELATION: &str = "
    select n.nspname::text, c.relname::text, c.relkind, c.relpersistence,
           exists (select from pg_catalog.pg_constraint k
                   where k.condeferred
                     and (k.conrelid = c.oid or k.confrelid = c.oid
                          or k.conrelid in (select p.relid from pg_catalog.pg_partition_tree(c.oid) p)
                          -- what a delete or a key change cascades to
                          or k.conrelid in (select f.conrelid from pg_catalog.pg_constraint f
                                            where f.confrelid = c.oid))),
           exists (select from pg_catalog.pg_constraint k
                   where k.condeferred and k.contype = 't'
                     and (k.conrelid = c.oid
                          or k.conrelid in (select p.relid from pg_catalog.pg_partition_tree(c.oid) p)
                          or k.conrelid in (select f.conrelid from pg_catalog.pg_constraint f
                                            where f.confrelid = c.oid))),
           c.relkind not in ('r', 'p')
           or exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and not i.indimmediate),
           exists (select from pg_catalog.pg_trigger t
                   where (t.tgrelid = c.oid
                          or t.tgrelid in (select p.relid from pg_catalog.pg_partition_tree(c.oid) p))
                     and not t.tgisinternal and t.tgenabled <> 'D'
                     and t.tgtype::integer & 66 = 0), -- not before, not instead
           -- of a superuser's table, the owner of a partition or child that is no superuser: its triggers would
           -- run too
           coalesce((with recursive p as (
                         select c.oid as relid, 0 as level
                         union all
                         select i.inhrelid, p.level + 1
                         from p join pg_catalog.pg_inherits i on i.inhparent = p.relid)
                     select o.relowner
                     from p
                     join pg_catalog.pg_class o on o.oid = p.relid
                     join pg_catalog.pg_roles r on r.oid = o.relowner
                     where not r.rolsuper order by p.level, o.oid limit 1), c.relowner)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.oid = $1";

const COLUMNS: &str = "
    select a.attname::text, a.atttypid, a.atttypmod, a.attcollation,
           pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.atthasdef or a.attidentity <> '', a.attgenerated <> '', a.attidentity,
           coalesce((select pg_catalog.format(' collate %I.%I', n.nspname, l.collname)
                     from pg_catalog.pg_collation l join pg_catalog.pg_namespace n on n.oid = l.collnamespace
                     join pg_catalog.pg_type t on t.oid = a.atttypid and t.typcollation <> l.oid
                     where l.oid = a.attcollation), '')
    from pg_catalog.pg_attribute a
    where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
    order by a.attnum";

const UNIQUE_INDEXES: &str = "
    select c.relname::text, i.indisprimary, i.indimmediate, i.indpred is not null, i.indisvalid,
           case when 0 = any (i.indkey::smallint[]) then '{}'::text[]
                else array(select a.attname::text
                           from pg_catalog.unnest(i.indkey::smallint[]) with ordinality k(attnum, n)
                           join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
                           where k.n <= i.indnkeyatts order by k.n) end
    from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
    where i.indrelid = $1 and i.indisunique
    order by i.indisprimary desc, c.relname";

const REFERS_TO: &str = "
    select distinct k.confrelid from pg_catalog.pg_constraint k
    where k.conrelid = $1 and k.contype = 'f' and k.confrelid <> $1";

const SELF_REFERENCES: &str = "
    select array(select a.attname::text from unnest(k.conkey) with ordinality u(attnum, n)
                 join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum
                 order by u.n),
           array(select a.attname::text from unnest(k.confkey) with ordinality u(attnum, n)
                 join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum
                 order by u.n)
    from pg_catalog.pg_constraint k
    where k.conrelid = $1 and k.contype = 'f'
      and (k.confrelid = $1 or k.confrelid in (select a.relid from pg_catalog.pg_partition_ancestors($1) a))";

const REFERRERS: &str = "
    select k.conrelid, n.nspname::text, c.relname::text, k.conname::text,
           array(select a.attname::text from unnest(k.conkey) with ordinality u(attnum, n)
                 join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.attnum
                 order by u.n),
           array(select a.attname::text from unnest(k.confkey) with ordinality u(attnum, n)
                 join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum
                 order by u.n),
           array(select pg_catalog.format('operator(%I.%s)', s.nspname, o.oprname)
                 from unnest(k.conpfeqop) with ordinality u(operator, n)
                 join pg_catalog.pg_operator o on o.oid = u.operator
                 join pg_catalog.pg_namespace s on s.oid = o.oprnamespace order by u.n),
           c.relowner, k.confdeltype, k.confupdtype,
           -- the server compares under the collation of the referenced column, if that collation matters
           array(select coalesce((select pg_catalog.format(' collate %I.%I', s.nspname, l.collname)
                                  from pg_catalog.pg_collation l
                                  join pg_catalog.pg_namespace s on s.oid = l.collnamespace
                                  where l.oid = a.attcollation and not l.collisdeterministic), '')
                 from unnest(k.confkey) with ordinality u(attnum, n)
                 join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = u.attnum
                 order by u.n)
    from pg_catalog.pg_constraint k join pg_catalog.pg_class c on c.oid = k.conrelid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where k.confrelid = $1 and k.contype = 'f' and k.conparentid = 0
      and not exists (select from pg_catalog.pg_trigger t
                      where t.tgconstraint = k.oid and t.tgrelid = $1 and t.tgenabled = 'D')
    order by k.oid";

impl Column {
    /// The column's definition in a column definition list.
    pub fn definition(&self) -> String {
        let name = pgrx::spi::quote_identifier(&self.name);
        format!("{name} {}{}", self.type_name, self.collate)
    }

    /// The column as a column of a batch relation.
    pub fn row(&self) -> RowColumn {
        RowColumn {
            name: self.name.clone(),
            type_oid: self.type_oid,
            typmod: self.typmod,
            collation: self.collation,
        }
    }
}

impl Destination {
    /// Reads the relation from the catalog; `None` if no relation has this OID.
    pub fn load(oid: pg_sys::Oid) -> Option<Destination> {
        QUERIES.with(|queries| queries.read(oid))
    }

    /// The relation as [`Self::load`] reads it; read once, until definitions change.
    pub fn known(oid: pg_sys::Oid) -> Option<Rc<Destination>> {
        KNOWN.with(|known| known.get(oid, || Destination::load(oid)))
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The relation's schema and name, quoted where SQL needs it.
    pub fn qualified_name(&self) -> String {
        pgrx::spi::quote_qualified_identifier(&self.schema, &self.name)
    }

    /// The columns of the primary key, in order; empty without a primary key.
    pub fn primary_key(&self) -> &[String] {
        self.unique_indexes
            .iter()
            .find(|i| i.primary)
            .map_or(&[], |i| &i.columns)
    }
}

/// The queries of the catalog.
struct Queries {
    relation: Lookup,
    columns: Lookup,
    unique_indexes: Lookup,
    refers_to: Lookup,
    self_references: Lookup,
    referrers: Lookup,
}

thread_local! {
    static KNOWN: Memo<pg_sys::Oid, Destination> = const { Memo::new() };
    static QUERIES: Queries = const {
        const OID: &[BuiltinOid] = &[BuiltinOid::OIDOID];
        Queries {
            relation: Lookup::new(RELATION, OID),
            columns: Lookup::new(COLUMNS, OID),
            unique_indexes: Lookup::new(UNIQUE_INDEXES, OID),
            refers_to: Lookup::new(REFERS_TO, OID),
            self_references: Lookup::new(SELF_REFERENCES, OID),
            referrers: Lookup::new(REFERRERS, OID),
        }
    };
}

impl Queries {
    fn read(&self, oid: pg_sys::Oid) -> Option<Destination> {
        let arg = [oid.into()];
        let relation = self.relation.rows(&arg, |row| {
            Ok(Destination {
                oid,
                schema: row.get(1)?.expect("not null"),
                name: row.get(2)?.expect("not null"),
                relkind: row.get::<i8>(3)?.expect("not null") as u8,
                persistence: row.get::<i8>(4)?.expect("not null") as u8,
                deferred: row.get(5)?.expect("not null"),
                deferred_triggers: row.get(6)?.expect("not null"),
                checks_sets: row.get(7)?.expect("not null"),
                after_triggers: row.get(8)?.expect("not null"),
                owner: row.get(9)?.expect("not null"),
                columns: Vec::new(),
                unique_indexes: Vec::new(),
                refers_to: Vec::new(),
                self_references: Vec::new(),
                referrers: Vec::new(),
            })
        });
        let columns = self.columns.rows(&arg, |row| {
            Ok(Column {
                name: row.get(1)?.expect("not null"),
                type_oid: row.get(2)?.expect("not null"),
                typmod: row.get(3)?.expect("not null"),
                collation: row.get(4)?.expect("not null"),
                type_name: row.get(5)?.expect("not null"),
                not_null: row.get(6)?.expect("not null"),
                has_default: row.get(7)?.expect("not null"),
                generated: row.get(8)?.expect("not null"),
                identity: row.get::<i8>(9)?.map(|c| c as u8).filter(|c| *c != 0),
                collate: row.get(10)?.expect("not null"),
            })
        });
        let unique_indexes = self.unique_indexes.rows(&arg, |row| {
            Ok(UniqueIndex {
                name: row.get(1)?.expect("not null"),
                primary: row.get(2)?.expect("not null"),
                immediate: row.get(3)?.expect("not null"),
                partial: row.get(4)?.expect("not null"),
                valid: row.get(5)?.expect("not null"),
                columns: row.get(6)?.expect("not null"),
            })
        });
        let refers_to = self
            .refers_to
            .rows(&arg, |row| Ok(row.get(1)?.expect("not null")));
        let self_references = self.self_references.rows(&arg, |row| {
            let columns: Vec<String> = row.get(1)?.expect("not null");
            let to: Vec<String> = row.get(2)?.expect("not null");
            Ok(columns.into_iter().zip(to).collect())
        });
        let referrers = self.referrers.rows(&arg, |row| {
            let (schema, table): (String, String) = (
                row.get(2)?.expect("not null"),
                row.get(3)?.expect("not null"),
            );
            let columns: Vec<String> = row.get(5)?.expect("not null");
            let to: Vec<String> = row.get(6)?.expect("not null");
            let operators: Vec<String> = row.get(7)?.expect("not null");
            let collates: Vec<String> = row.get(11)?.expect("not null");
            let equalities = operators.into_iter().zip(collates);
            Ok(Referrer {
                oid: row.get(1)?.expect("not null"),
                name: pgrx::spi::quote_qualified_identifier(&schema, &table),
                schema,
                table,
                constraint: row.get(4)?.expect("not null"),
                owner: row.get(8)?.expect("not null"),
                on_delete: Action::of(row.get::<i8>(9)?.expect("not null")),
                on_update: Action::of(row.get::<i8>(10)?.expect("not null")),
                columns: columns
                    .into_iter()
                    .zip(to)
                    .zip(equalities)
                    .map(|((column, to), (operator, collate))| {
                        (column, to, Equality::new(operator, collate))
                    })
                    .collect(),
            })
        });
        Some(Destination {
            columns,
            unique_indexes,
            refers_to,
            self_references,
            referrers,
            ..relation.into_iter().next()?
        })
    }
}
