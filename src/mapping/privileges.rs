//! Checks that a role has the privileges on the destination that a mapping's statements need.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::check::qualified;
use super::{Mapping, Mode, OnDelete};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::ident;
use crate::error::{list, sqlstate};
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

thread_local! {
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
