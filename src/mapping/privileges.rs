//! Checks that a role has the privileges on the destination that a mapping's statements need.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::check::{qualified, written};
use super::{Mapping, Mode, OnDelete};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::ident;
use crate::error::{list, sqlstate};
use crate::pg::keys::role_name;
use crate::pg::user::has_privileges;
use crate::prepared::Lookup;

const PRIVILEGES: &str = "
    select r.rolname::pg_catalog.text,
           pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE'),
           pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT'),
           pg_catalog.has_any_column_privilege(r.oid, c.oid, 'INSERT'),
           pg_catalog.has_any_column_privilege(r.oid, c.oid, 'UPDATE'),
           pg_catalog.has_table_privilege(r.oid, c.oid, 'DELETE')
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
    cross join pg_catalog.pg_roles r
    where c.oid operator(pg_catalog.=) $1 and r.oid operator(pg_catalog.=) $2";

/// The sequences in defaults of the destination's columns that the role may not use.
const SEQUENCES: &str = "
    select distinct pg_catalog.format('%I.%I', n.nspname, s.relname)
    from pg_catalog.pg_attrdef a
    join pg_catalog.pg_depend d on d.classid operator(pg_catalog.=) 'pg_catalog.pg_attrdef'::pg_catalog.regclass
         and d.objid operator(pg_catalog.=) a.oid and d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
    join pg_catalog.pg_class s on s.oid operator(pg_catalog.=) d.refobjid and s.relkind operator(pg_catalog.=) 'S'
    join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) s.relnamespace
    join pg_catalog.pg_roles r on r.rolname operator(pg_catalog.=) $2
    where a.adrelid operator(pg_catalog.=) $1 and not pg_catalog.has_sequence_privilege(r.oid, s.oid, 'USAGE, UPDATE')
    order by 1";

/// The functions and sequences that each row of the destination ($1) needs, and that the role ($2) may not use: those of
/// checks, domains, generated columns, indexes, and conditions of triggers; and those of the defaults of columns that
/// the mapping ($4) never brings ($3), or that its messages lack.
const OF_ROWS: &str = "
    with recursive part(oid) as (
        select $1
        union all
        select h.inhrelid
        from part join pg_inherits h on h.inhparent = part.oid
        join pg_class c on c.oid = h.inhrelid and c.relispartition),
    needs(class, object, but) as (
        select 'pg_attrdef'::regclass, f.oid, 0::oid
        from pg_attrdef f join pg_attribute a on a.attrelid = f.adrelid and a.attnum = f.adnum
        where f.adrelid = $1
          and (a.attgenerated <> '' or a.attname::text = any ($3)
               or exists (select from sequin.lacking_column l where l.mapping = $4 and l.name = a.attname::text))
        union all
        select 'pg_constraint'::regclass, c.oid, 0::oid
        from pg_constraint c
        where c.contype = 'c'
          and (c.conrelid in (select p.oid from part p)
               or c.contypid in (select a.atttypid from pg_attribute a
                                 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped))
        union all
        select 'pg_class'::regclass, i.indexrelid, 0::oid from pg_index i where i.indrelid in (select p.oid from part p)
        union all
        -- The right to execute its function is asked for when a trigger is made.
        select 'pg_trigger'::regclass, t.oid, t.tgfoid
        from pg_trigger t
        where t.tgrelid in (select p.oid from part p) and not t.tgisinternal and t.tgenabled <> 'D')
    select distinct case when p.oid is not null then 'EXECUTE on function ' || p.oid::regprocedure::text
                         else 'USAGE on sequence ' || format('%I.%I', m.nspname, s.relname) end,
           case when p.oid is not null then 'EXECUTE ON FUNCTION ' || p.oid::regprocedure::text
                else 'USAGE ON SEQUENCE ' || format('%I.%I', m.nspname, s.relname) end
    from needs n
    join pg_depend d on d.classid = n.class and d.objid = n.object
    left join pg_proc p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid and p.oid <> n.but
                           and not has_function_privilege($2, p.oid, 'EXECUTE')
    left join pg_class s on d.refclassid = 'pg_class'::regclass and s.oid = d.refobjid and s.relkind = 'S'
                            and case s.relkind when 'S' then not has_sequence_privilege($2, s.oid, 'USAGE, UPDATE') end
    left join pg_namespace m on m.oid = s.relnamespace
    where p.oid is not null or s.oid is not null
    order by 1";

thread_local! {
    static FIND_OF_ROWS: Lookup = const {
        Lookup::new(
            OF_ROWS,
            &[
                BuiltinOid::OIDOID,
                BuiltinOid::OIDOID,
                BuiltinOid::TEXTARRAYOID,
                BuiltinOid::INT4OID,
            ],
        )
    };
    static QUERY: Lookup = const {
        Lookup::new(PRIVILEGES, &[BuiltinOid::OIDOID, BuiltinOid::OIDOID])
    };
    static FIND_SEQUENCES: Lookup = const {
        Lookup::new(SEQUENCES, &[BuiltinOid::OIDOID, BuiltinOid::TEXTOID])
    };
}

/// The privileges on the destination that the mapping's statements need.
pub fn needed(mapping: &Mapping) -> Vec<&'static str> {
    let upsert = mapping.mode == Mode::Upsert;
    let deletes = upsert && mapping.on_delete == OnDelete::Delete;
    [
        (upsert, "SELECT"),
        (true, "INSERT"),
        (upsert, "UPDATE"),
        (deletes, "DELETE"),
    ]
    .into_iter()
    .filter_map(|(needed, privilege)| needed.then_some(privilege))
    .collect()
}

/// The fault of a role that lacks privileges which it needs to write the mapping's rows. A role that does not exist has
/// none.
pub fn check(mapping: &Mapping, destination: &Destination, writer: pg_sys::Oid) -> Option<Fault> {
    if has_privileges(destination.oid, writer, &needed(mapping)) {
        return None;
    }
    let found = QUERY.with(|query| {
        query.rows(&[destination.oid.into(), writer.into()], |row| {
            let mut has = [false; 5];
            for (i, has) in has.iter_mut().enumerate() {
                *has = row.get(i + 2)?.unwrap_or(false);
            }
            Ok((row.get::<String>(1)?.expect("not null"), has))
        })
    });
    let (role, [usage, has @ ..]) = found.into_iter().next()?;
    let known = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let missing: Vec<&str> = needed(mapping)
        .into_iter()
        .filter(|needed| {
            let mut known = known.iter().zip(has);
            known.any(|(privilege, has)| privilege == needed && !has)
        })
        .collect();
    if usage && missing.is_empty() {
        return None;
    }
    let (table, schema) = (qualified(destination), ident(&destination.schema));
    let mut lacks = Vec::new();
    let mut grants = Vec::new();
    if !usage {
        lacks.push(format!("USAGE on schema {schema}"));
        grants.push(format!(
            "GRANT USAGE ON SCHEMA {schema} TO {};",
            ident(&role)
        ));
    }
    if !missing.is_empty() {
        lacks.push(format!("{} on {table}", list(&missing, "and")));
        grants.push(grant(&missing, &table, &role));
    }
    grants.extend(sequences(destination, &role));
    Some(
        Fault::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!("role \"{role}\" may not write to {table}"),
        )
        .detail(format!(
            "The rows are written as the {}'s owner, which lacks {}.",
            if writer == mapping.owner_oid() {
                "mapping"
            } else {
                "table"
            },
            list(&lacks, "and")
        ))
        .hint(format!("Run: {}", grants.join(" "))),
    )
}

/// The fault of a role that lacks privileges on functions and sequences which each row needs. A statement shows them when
/// it writes a row, and not when it is planned. The caller acts as the extension's owner, under its search_path.
pub fn of_rows(mapping: &Mapping, destination: &Destination, writer: pg_sys::Oid) -> Option<Fault> {
    let written = written(mapping, destination);
    let key = mapping.key_of(destination);
    let columns = destination.columns.iter().filter(|column| {
        !key.contains(&column.name)
            && !written.contains(&column.name.as_str())
            && !mapping.reserves(&column.name)
    });
    let unwritten: Vec<String> = columns.map(|column| column.name.clone()).collect();
    let args = [
        destination.oid.into(),
        writer.into(),
        unwritten.into(),
        mapping.id.into(),
    ];
    let found = FIND_OF_ROWS.with(|query| {
        query.rows(&args, |row| {
            let text = |n| row.get::<String>(n).map(Option::unwrap_or_default);
            Ok((text(1)?, text(2)?))
        })
    });
    let role = role_name(writer).filter(|_| !found.is_empty())?;
    let (lacks, grants): (Vec<String>, Vec<String>) = found.into_iter().unzip();
    let to = ident(&role);
    let grants: Vec<String> = grants
        .iter()
        .map(|what| format!("GRANT {what} TO {to};"))
        .collect();
    Some(
        Fault::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!(
                "role \"{role}\" lacks {}, which rows of {} need",
                list(&lacks, "and"),
                qualified(destination)
            ),
        )
        .detail("A default, a generated column, a check, a domain, an index or a trigger uses it, as the role that writes the rows.")
        .hint(format!("Run: {}", grants.join(" "))),
    )
}

/// The statements that let a role use the sequences in defaults of the destination. Whether the defaults are needed
/// depends on the messages.
pub fn sequences(destination: &Destination, role: &str) -> Vec<String> {
    let found = FIND_SEQUENCES.with(|query| {
        query.rows(&[destination.oid.into(), role.into()], |row| {
            Ok(row.get::<String>(1)?.unwrap_or_default())
        })
    });
    found
        .iter()
        .map(|sequence| format!("GRANT USAGE ON SEQUENCE {sequence} TO {};", ident(role)))
        .collect()
}

/// The statement that grants privileges on a table.
pub fn grant(privileges: &[&str], table: &str, role: &str) -> String {
    format!(
        "GRANT {} ON {table} TO {};",
        privileges.join(", "),
        ident(role)
    )
}
