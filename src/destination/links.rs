//! What the triggers, foreign keys and children of a relation make of it.
//!
//! The server's caches tell that of a table that is no partition and has none. For others the catalog is queried.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};
use pgrx::spi::{quote_identifier, quote_qualified_identifier};

use crate::pg::links::{
    ForeignKeyRow, TriggerRow, check_of, foreign_keys, is_of_delete, is_of_update, triggers,
};
use crate::pg::names;
use crate::pg::relation::{self, AttributeRow};
use crate::prepared::Lookup;

/// What triggers, foreign keys and children make of a relation.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// The role whose rights the relation's triggers run with, if it is another one than the owner.
    pub owner: Option<pg_sys::Oid>,
    /// Whether the relation has constraints that can be deferred to the commit. The caller may have deferred those that are
    /// initially immediate, too.
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

/// Looks into the caches, for a table that is no partition and has no children. `None` if it is gone.
pub fn look(oid: pg_sys::Oid, columns: &[AttributeRow]) -> Option<Links> {
    let own = triggers(oid);
    let mut others: Vec<pg_sys::Oid> = Vec::new();
    for trigger in own
        .iter()
        .filter(|trigger| trigger.other != pg_sys::InvalidOid)
    {
        if !others.contains(&trigger.other) {
            others.push(trigger.other);
        }
    }
    // A foreign key from or to a partitioned table is one constraint for each partition.
    let is_plain = |other: &pg_sys::Oid| {
        relation::row(*other).is_some_and(|row| row.kind == b'r' && !row.is_partition)
    };
    if !others.iter().all(is_plain) {
        return ask(oid);
    }
    let mut referring: Vec<(pg_sys::Oid, ForeignKeyRow)> = others
        .iter()
        .flat_map(|other| foreign_keys(*other).into_iter().map(|key| (*other, key)))
        .filter(|(_, key)| key.to == oid)
        .collect();
    referring.sort_by_key(|(_, key)| key.oid.to_u32());
    // what a delete or a key change cascades to, too
    let cascaded = others
        .iter()
        .filter(|other| referring.iter().any(|(from, _)| from == *other))
        .flat_map(|other| triggers(*other));
    let deferred: Vec<bool> = own
        .iter()
        .filter(|trigger| trigger.deferrable)
        .map(is_of_users)
        .chain(cascaded.filter(|t| t.deferrable).map(|t| is_of_users(&t)))
        .collect();
    let mut links = Links {
        owner: None,
        deferred: !deferred.is_empty(),
        deferred_triggers: deferred.contains(&true),
        // Only a unique or exclusion constraint that can be deferred has such a trigger.
        checks_sets: own.iter().any(|trigger| {
            trigger.internal && trigger.has_index && trigger.other == pg_sys::InvalidOid
        }),
        after_triggers: own.iter().any(|trigger| {
            let before_or_instead = trigger.events & 66 != 0;
            !trigger.internal && trigger.enabled && !before_or_instead
        }),
        refers_to: Vec::new(),
        self_references: Vec::new(),
        referrers: Vec::new(),
    };
    for key in foreign_keys(oid) {
        if key.to == oid {
            let pairs = key.columns.iter();
            let pairs = pairs.map(|(from, to, _)| (name(columns, *from), name(columns, *to)));
            links.self_references.push(pairs.collect());
        } else if !links.refers_to.contains(&key.to) {
            links.refers_to.push(key.to);
        }
    }
    links.referrers = referring
        .into_iter()
        .filter_map(|(from, key)| referrer(columns, &own, from, key))
        .collect();
    Some(links)
}

/// Whether a trigger is a constraint trigger that somebody has made.
fn is_of_users(trigger: &TriggerRow) -> bool {
    !trigger.internal
}

/// The name of a column by its number.
fn name(columns: &[AttributeRow], number: i16) -> String {
    let column = columns.iter().find(|column| column.number == number);
    column.map(|column| column.name.clone()).unwrap_or_default()
}

/// The foreign key `key` of the table `from`. `None` if the table's triggers for it are disabled.
fn referrer(
    columns: &[AttributeRow],
    own: &[TriggerRow],
    from: pg_sys::Oid,
    key: ForeignKeyRow,
) -> Option<Referrer> {
    let of_key = || own.iter().filter(|trigger| trigger.constraint == key.oid);
    if of_key().any(|trigger| !trigger.enabled) {
        return None;
    }
    // Triggers that check the referring rows of the table itself are no actions.
    let action = |is_of: fn(&TriggerRow) -> bool| {
        let mut all = of_key().filter(|trigger| is_of(trigger));
        let found = all.find(|trigger| trigger.function != CHECK_UPDATE);
        match found.map(|trigger| check_of(trigger.function)) {
            Some(Some(true)) => Action::Restrict,
            Some(Some(false)) => Action::Nothing,
            _ => Action::Cascade,
        }
    };
    let row = relation::row(from)?;
    let own_columns = relation::columns(from);
    Some(Referrer {
        oid: from,
        name: quote_qualified_identifier(&row.schema, &row.name),
        schema: row.schema,
        table: row.name,
        owner: row.owner,
        on_delete: action(is_of_delete),
        on_update: action(is_of_update),
        columns: key
            .columns
            .iter()
            .map(|(column, to, operator)| {
                (
                    name(&own_columns, *column),
                    name(columns, *to),
                    equality(columns, *to, *operator),
                )
            })
            .collect(),
        constraint: key.name,
    })
}

/// The trigger function that checks an updated row of the table that has the foreign key: `RI_FKey_check_upd`.
const CHECK_UPDATE: u32 = pg_sys::F_RI_FKEY_CHECK_UPD;

/// How a foreign key compares a value with that of the column that it refers to.
fn equality(columns: &[AttributeRow], to: i16, operator: pg_sys::Oid) -> Equality {
    let operator = relation::operator(operator).map(|(schema, operator)| {
        let schema = quote_identifier(schema);
        format!("operator({schema}.{operator})")
    });
    let referenced = columns.iter().find(|column| column.number == to);
    // the server compares under the collation of the referenced column, if that collation matters
    let collate = referenced.and_then(|column| relation::loose_collation(column.collation));
    let collate = collate
        .map(|(schema, name)| format!(" collate {}", quote_qualified_identifier(schema, name)));
    Equality::new(operator.unwrap_or_default(), collate.unwrap_or_default())
}

/// Asks the catalog, for any relation. `None` if it is gone.
pub fn ask(oid: pg_sys::Oid) -> Option<Links> {
    QUERIES.with(|queries| queries.ask(oid))
}

/// What triggers and children of the relation make of it.
const LINKS: &str = "
    -- the partitions as the catalog has them: pg_partition_tree would lock every one
    with recursive part as (
        select $1 as relid
        union all
        select h.inhrelid
        from part p join pg_catalog.pg_inherits h on h.inhparent = p.relid
        join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relispartition),
    referring as (
        -- every foreign key is a trigger of the table that it refers to: no index finds it by that table
        select f.conrelid as relid, f.condeferrable
        from pg_catalog.pg_trigger t join pg_catalog.pg_constraint f on f.oid = t.tgconstraint
        where t.tgrelid = $1 and f.confrelid = $1
        union
        select h.inhrelid, r.condeferrable
        from referring r join pg_catalog.pg_inherits h on h.inhparent = r.relid
        join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relispartition),
    constrained as materialized (
        select k.contype
        from pg_catalog.pg_constraint k
        -- what a delete or a key change cascades to, too
        where k.conrelid = any (array(select p.relid from part p union select r.relid from referring r))
              and k.condeferrable)
    select exists (select from constrained) or exists (select from referring r where r.condeferrable),
           exists (select from constrained k where k.contype = 't'),
           c.relkind not in ('r', 'p')
           or exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and not i.indimmediate),
           exists (select from pg_catalog.pg_trigger t
                   where t.tgrelid = any (array(select p.relid from part p))
                     and not t.tgisinternal and t.tgenabled <> 'D'
                     and t.tgtype::integer & 66 = 0) -- not before, not instead
    from pg_catalog.pg_class c
    where c.oid = $1";

/// Of a superuser's table, the owner of a partition or child that is no superuser: its triggers would run too.
const OWNER: &str = "
    with recursive p as (
        select $1 as relid, 0 as level
        union all
        select i.inhrelid, p.level + 1
        from p join pg_catalog.pg_inherits i on i.inhparent = p.relid)
    select o.relowner
    from p
    join pg_catalog.pg_class o on o.oid = p.relid
    join pg_catalog.pg_roles r on r.oid = o.relowner
    order by r.rolsuper, p.level, o.oid limit 1";

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
    where k.oid = any (array(select t.tgconstraint from pg_catalog.pg_trigger t where t.tgrelid = $1))
      and k.confrelid = $1 and k.contype = 'f' and k.conparentid = 0
      and not exists (select from pg_catalog.pg_trigger t
                      where t.tgconstraint = k.oid and t.tgrelid = $1 and t.tgenabled = 'D')
    order by k.oid";

/// The queries of the catalog.
struct Queries {
    links: Lookup,
    owner: Lookup,
    refers_to: Lookup,
    self_references: Lookup,
    referrers: Lookup,
}

thread_local! {
    static QUERIES: Queries = const {
        const OID: &[BuiltinOid] = &[BuiltinOid::OIDOID];
        Queries {
            links: Lookup::new(LINKS, OID),
            owner: Lookup::new(OWNER, OID),
            refers_to: Lookup::new(REFERS_TO, OID),
            self_references: Lookup::new(SELF_REFERENCES, OID),
            referrers: Lookup::new(REFERRERS, OID),
        }
    };
}

/// The role whose rights the triggers of a table run with, and those of its partitions and children.
pub fn owner(oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
    QUERIES.with(|queries| queries.owner(oid))
}

impl Queries {
    fn owner(&self, oid: pg_sys::Oid) -> Option<pg_sys::Oid> {
        let found = self.owner.rows(&[oid.into()], |row| row.get(1));
        found.into_iter().next().flatten()
    }

    fn ask(&self, oid: pg_sys::Oid) -> Option<Links> {
        let arg = [oid.into()];
        let links = self.links.rows(&arg, |row| {
            Ok(Links {
                deferred: row.get(1)?.expect("not null"),
                deferred_triggers: row.get(2)?.expect("not null"),
                checks_sets: row.get(3)?.expect("not null"),
                after_triggers: row.get(4)?.expect("not null"),
                ..Links::default()
            })
        });
        let mut of = links.into_iter().next()?;
        of.owner = self.owner(oid);
        of.refers_to = self
            .refers_to
            .rows(&arg, |row| Ok(row.get(1)?.expect("not null")));
        of.self_references = self.self_references.rows(&arg, |row| {
            let columns: Vec<String> = row.get(1)?.expect("not null");
            let to: Vec<String> = row.get(2)?.expect("not null");
            Ok(columns.into_iter().zip(to).collect())
        });
        of.referrers = self.referrers.rows(&arg, |row| {
            let (schema, table): (String, String) = (
                row.get(2)?.expect("not null"),
                row.get(3)?.expect("not null"),
            );
            let columns: Vec<String> = row.get(5)?.expect("not null");
            let to: Vec<String> = row.get(6)?.expect("not null");
            let operators: Vec<String> = row.get(7)?.expect("not null");
            let collates: Vec<String> = row.get(11)?.expect("not null");
            let equalities = operators.into_iter().zip(collates);
            let oid = row.get(1)?.expect("not null");
            names::note_relation(&schema, &table, oid);
            Ok(Referrer {
                oid,
                name: quote_qualified_identifier(&schema, &table),
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
        Some(of)
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use super::*;

    const TABLES: &str = "
        create schema linked;
        set local search_path = linked, public;
        -- loose
        create table plain (id integer primary key);
        create table gone (id integer, drop_me text, a integer, b text collate loose, primary key (id),
                           unique (a), unique (b, a));
        alter table gone drop column drop_me;
        create table child (drop_me text, id integer primary key, to_a integer references gone (a) on delete cascade,
                            to_b text, b_a integer,
                            constraint both_columns foreign key (to_b, b_a) references gone (b, a)
                                on update set null on delete set default,
                            later integer references gone deferrable initially deferred);
        alter table child drop column drop_me;
        create table grandchild (id integer primary key, child integer references child on delete restrict,
                                 twice integer references child on update cascade);
        create table tree (id integer primary key, parent integer references tree on delete cascade);
        create table shifted (id integer primary key deferrable, n integer unique deferrable initially deferred);
        create table excluded (id integer primary key, r int4range, exclude using gist (r with &&) deferrable);
        create table unchecked (id integer primary key references plain);
        alter table plain disable trigger all;
        create function nothing() returns trigger language plpgsql as 'begin return null; end';
        create table noted (id integer primary key);
        create trigger after after insert on noted for each row execute function nothing();
        create table early (id integer primary key references noted);
        create trigger before before insert on early for each row execute function nothing();
        create constraint trigger late after insert on early deferrable initially deferred
            for each row execute function nothing();
        create table silent (id integer primary key);
        create trigger after after insert on silent for each row execute function nothing();
        alter table silent disable trigger after;
        create table whole (id integer primary key, n integer references plain) partition by range (id);
        create table part partition of whole for values from (0) to (10);
        create table of_whole (id integer primary key references whole on delete cascade);";

    #[pg_test]
    fn the_caches_say_what_the_catalog_says() {
        // The catalog lists such collations where the server cannot use them, too.
        Spi::run(
            "do $$ begin
                 create collation public.any_case (provider = icu, locale = 'und');
                 drop collation public.any_case;
                 perform set_config('test.icu', 'true', true);
             exception when feature_not_supported then
                 perform set_config('test.icu', 'false', true);
             end $$",
        )
        .expect("tried");
        let has_icu = Spi::get_one::<bool>("select current_setting('test.icu')::boolean");
        let tables = match has_icu.expect("read") {
            Some(true) => TABLES.replace(
                "-- loose",
                "create collation loose (provider = icu, locale = 'und', deterministic = false);",
            ),
            _ => TABLES.replace("collate loose", ""),
        };
        Spi::run(&tables).expect("created");
        let tables: Vec<pg_sys::Oid> = Spi::connect(|client| {
            client
                .select(
                    "select oid from pg_class where relnamespace = 'linked'::regnamespace and relkind = 'r'
                     and not relispartition order by relname",
                    None,
                    &[],
                )?
                .map(|row| Ok(row.get(1)?.expect("not null")))
                .collect::<Result<_, pgrx::spi::Error>>()
        })
        .expect("read");
        assert_eq!(tables.len(), 12);
        for table in tables {
            let looked = look(table, &relation::columns(table)).expect("a table");
            let asked = ask(table).expect("a table");
            let owner = relation::row(table).map(|row| row.owner);
            let [looked, asked] = [looked, asked].map(|mut links| {
                links.refers_to.sort_by_key(|oid| oid.to_u32());
                links.owner = links.owner.or(owner);
                format!("{links:#?}")
            });
            assert_eq!(looked, asked);
        }
    }
}
