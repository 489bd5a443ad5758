//! The sources that each role may map, and the privileges that owners of mappings need on the extension.

#![forbid(unsafe_code)]

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::{pg_sys, spi};

use super::{Mapping, SourcePattern};
use crate::destination::Destination;
use crate::error::Error;
use crate::error::fault::Fault;
use crate::error::quote::{ident, literal};
use crate::error::sqlstate;
use crate::pg::keys::{extension_owner, role_name};
use crate::pg::parse;
use crate::pg::raise::raise;
use crate::pg::row::Row;
use crate::pg::settings::checks_function_bodies;
use crate::pg::user::{ActingAs, is_superuser, may_act_as, role_exists};
use crate::settings;

/// The fault of an owner to whom the mapping's source was not granted. Members of the extension's owner may
/// map every source.
pub fn check(mapping: &Mapping) -> Option<Fault> {
    let owner = mapping.owner_oid();
    if may_act_as(owner, extension_owner()) || granted(owner, &mapping.source) {
        return None;
    }
    let role = role_name(owner)?;
    let grantor = role_name(extension_owner()).unwrap_or_default();
    let source = mapping.source.to_string();
    Some(
        Fault::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!("role \"{role}\" may not map source \"{source}\""),
        )
        .detail(
            "Members of the extension's owner may map every source, others those granted to them.",
        )
        .hint(format!(
            "Let role \"{}\" run: SELECT sequin.grant_source({}, {});",
            grantor,
            literal(&source),
            literal(&ident(&role))
        )),
    )
}

/// Whether a source granted to `owner`, or to a role with `owner` as a member, covers `source`.
fn granted(owner: pg_sys::Oid, source: &SourcePattern) -> bool {
    const GRANTED: &str = "select source, role::pg_catalog.oid from sequin.granted_source";
    let _definer = ActingAs::new(extension_owner(), false);
    let grants: Vec<(String, pg_sys::Oid)> = Spi::connect_mut(|client| {
        client
            .update(GRANTED, None, &[])?
            .map(|row| {
                Ok((
                    row.get(1)?.expect("not null"),
                    row.get(2)?.expect("not null"),
                ))
            })
            .collect::<Result<_, spi::Error>>()
    })
    .unwrap_or_else(|e| error!("could not read sequin.granted_source: {e}"));
    grants.iter().any(|(pattern, role)| {
        SourcePattern::parse(pattern).is_ok_and(|pattern| pattern.covers(source))
            && may_act_as(owner, *role)
    })
}

/// Before a row of `sequin.granted_source` is inserted or updated: refuses a source that is not a pattern.
#[pg_trigger(sql = false)]
fn source_check<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, std::convert::Infallible> {
    let source: Option<String> = Row::new(trigger).and_then(|row| row.get("source"));
    if let Some(Err(fault)) = source.map(|source| SourcePattern::parse(&source)) {
        raise(Error::InvalidSource { fault });
    }
    // A role that is made later could have the same OID.
    let role = Row::new(trigger).and_then(|row| row.oid("role"));
    if let Some(role) = role.filter(|role| !role_exists(*role)) {
        // Dumps of earlier versions have the grants of roles that were dropped.
        if !checks_function_bodies() {
            return Ok(None);
        }
        raise(Error::NoRole { oid: role.to_u32() });
    }
    Ok(trigger.new().map(PgHeapTuple::into_owned))
}

/// What users call: a function of schema `sequin`, or a procedure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routine {
    Function,
    Procedure,
}

/// Refuses a role that may execute no routine of this kind and these names in schema `sequin`; the error names the
/// first. Internal functions that every role may execute ask so for the privilege on what users call.
pub fn require_execute(
    role: pg_sys::Oid,
    kind: Routine,
    names: &[&'static str],
) -> Result<(), Error> {
    const MAY: &str = "
        select exists (
            select from pg_catalog.pg_proc p
            where p.pronamespace operator(pg_catalog.=) 'sequin'::pg_catalog.regnamespace
              and p.proname::pg_catalog.text operator(pg_catalog.=) any ($2)
              and (p.prokind operator(pg_catalog.=) 'p') operator(pg_catalog.=) $3
              and pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE'))";
    let asked: Vec<String> = names.iter().map(|&name| name.into()).collect();
    let procedure = kind == Routine::Procedure;
    let may = Spi::connect(|client| {
        client
            .select(MAY, None, &[role.into(), asked.into(), procedure.into()])?
            .first()
            .get_one::<bool>()
    });
    match may {
        Ok(Some(true)) => Ok(()),
        _ => Err(Error::MayNotExecute {
            kind: match kind {
                Routine::Function => "function",
                Routine::Procedure => "procedure",
            },
            name: names.first().copied().unwrap_or_default(),
        }),
    }
}

/// The role that writes a mapping's rows: the mapping's owner. For a superuser's mapping, the table's
/// owner, so that the table's triggers, defaults and checks do not run as the superuser.
pub fn writer(mapping: &Mapping, destination: &Destination) -> pg_sys::Oid {
    let (owner, table_owner) = (mapping.owner_oid(), destination.owner);
    if settings::allow_superuser_mappings() || !is_superuser(owner) || is_superuser(table_owner) {
        owner
    } else {
        table_owner
    }
}

/// Lets the writer of a mapping's rows execute the functions that the statements call. They are nobody else's. Returns
/// whether the role lacked that right.
pub fn internal_functions(writer: pg_sys::Oid) -> bool {
    const LACKING: &str = "
        select p.oid::pg_catalog.regprocedure::pg_catalog.text
        from pg_catalog.pg_proc p
        where (p.pronamespace operator(pg_catalog.=) 'sequin_internal'::pg_catalog.regnamespace
               and p.proname operator(pg_catalog.=) any (array['batch', 'next_row', 'in_resync', 'is_confirmed',
                   'is_known', 'has_row', 'note_gone', 'note_version']::pg_catalog.name[])
               or p.pronamespace operator(pg_catalog.=) 'sequin'::pg_catalog.regnamespace
               and p.proname operator(pg_catalog.=) 'row_key'::pg_catalog.name)
          and not pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE')";
    // Keeps others from granting the same functions, and nobody from granting sources.
    const ONE_AT_A_TIME: &str = "lock table sequin.granted_source in share update exclusive mode";
    let _definer = ActingAs::new(extension_owner(), false);
    let lacking = || {
        Spi::connect_mut(|client| {
            client
                .update(LACKING, None, &[writer.into()])?
                .map(|row| Ok(row.get::<String>(1)?.expect("not null")))
                .collect::<Result<Vec<_>, spi::Error>>()
        })
        .unwrap_or_else(|e| error!("could not read privileges: {e}"))
    };
    let Some(role) = role_name(writer).filter(|_| !lacking().is_empty()) else {
        return false;
    };
    let role = ident(&role);
    Spi::run(ONE_AT_A_TIME).unwrap_or_else(|e| error!("could not lock the grants: {e}"));
    for function in lacking() {
        parse::grant(&format!("grant execute on function {function} to {role}"))
            .unwrap_or_else(|error| raise(error));
    }
    true
}
