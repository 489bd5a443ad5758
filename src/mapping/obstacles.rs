//! Checks that neither rules nor row security of a destination refuse every row.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::check::qualified;
use super::{Mapping, Mode, OnDelete};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::ident;
use crate::error::{list, sqlstate};
use crate::prepared::Lookup;

/// The rules for one of the commands ($2: 2 update, 3 insert, 4 delete).
const RULES: &str = "
    select pg_catalog.array_agg(r.rulename::pg_catalog.text order by r.rulename)
    from pg_catalog.pg_rewrite r
    where r.ev_class operator(pg_catalog.=) $1 and r.ev_type operator(pg_catalog.=) any ($2::pg_catalog.text[]::pg_catalog.\"char\"[])
          and r.ev_enabled operator(pg_catalog.<>) 'D'";

/// The commands ($3: r, a, w, d) that no permissive policy allows to the role, if row security applies to it.
const POLICIES: &str = "
    select r.rolname::pg_catalog.text,
           pg_catalog.array_agg(m.command::pg_catalog.text order by m.command)
    from pg_catalog.pg_class c
    cross join pg_catalog.pg_roles r
    cross join pg_catalog.unnest($3::pg_catalog.text[]::pg_catalog.\"char\"[]) m(command)
    where c.oid operator(pg_catalog.=) $1 and r.oid operator(pg_catalog.=) $2
          and c.relrowsecurity and not r.rolsuper and not r.rolbypassrls
          and (c.relforcerowsecurity or not pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'))
          and not exists (
              select from pg_catalog.pg_policy p
              where p.polrelid operator(pg_catalog.=) c.oid and p.polpermissive
                    and p.polcmd operator(pg_catalog.=) any (array['*', m.command]::pg_catalog.\"char\"[])
                    and exists (select from pg_catalog.unnest(p.polroles) o(role)
                                where case o.role when 0 then true
                                      else pg_catalog.pg_has_role(r.oid, o.role, 'USAGE') end))
    group by r.rolname";

thread_local! {
    static FIND_RULES: Lookup = const {
        Lookup::new(RULES, &[BuiltinOid::OIDOID, BuiltinOid::TEXTARRAYOID])
    };
    static FIND_POLICIES: Lookup = const {
        Lookup::new(
            POLICIES,
            &[BuiltinOid::OIDOID, BuiltinOid::OIDOID, BuiltinOid::TEXTARRAYOID],
        )
    };
}

/// The faults of a destination whose rules or row security refuse every row that the role writes.
pub fn check(mapping: &Mapping, destination: &Destination, writer: pg_sys::Oid) -> Vec<Fault> {
    rules(mapping, destination)
        .into_iter()
        .chain(policies(mapping, destination, writer))
        .collect()
}

fn rules(mapping: &Mapping, destination: &Destination) -> Option<Fault> {
    if !destination.rules {
        return None;
    }
    let commands: &[&str] = match mapping.mode {
        Mode::Append => &["3"],
        Mode::Upsert => &["2", "3", "4"],
    };
    let commands: Vec<String> = commands.iter().map(|c| (*c).to_owned()).collect();
    let found = FIND_RULES.with(|query| {
        query.rows(&[destination.oid.into(), commands.into()], |row| {
            row.get::<Vec<String>>(1)
        })
    });
    let rules = found.into_iter().next().flatten()?;
    let table = qualified(destination);
    let drop: Vec<String> = rules
        .iter()
        .map(|rule| format!("DROP RULE {} ON {table};", ident(rule)))
        .collect();
    let rules: Vec<String> = rules.iter().map(|rule| format!("\"{rule}\"")).collect();
    Some(
        Fault::new(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!("destination {table} has rules"),
        )
        .detail(format!(
            "The statements that write the rows cannot run with {}.",
            list(&rules, "and")
        ))
        .hint(format!("Use triggers instead, and run: {}", drop.join(" "))),
    )
}

fn policies(mapping: &Mapping, destination: &Destination, writer: pg_sys::Oid) -> Option<Fault> {
    if !destination.row_security {
        return None;
    }
    let upsert = mapping.mode == Mode::Upsert;
    let deletes = upsert && mapping.on_delete == OnDelete::Delete;
    let commands: Vec<String> = [(true, "a"), (upsert, "r"), (upsert, "w"), (deletes, "d")]
        .into_iter()
        .filter_map(|(needed, command)| needed.then_some(command.to_owned()))
        .collect();
    let args = [
        destination.oid.into(),
        writer.into(),
        commands.clone().into(),
    ];
    let found = FIND_POLICIES.with(|query| {
        query.rows(&args, |row| {
            let role = row.get::<String>(1)?.expect("not null");
            Ok((role, row.get::<Vec<String>>(2)?.unwrap_or_default()))
        })
    });
    let (role, refused) = found.into_iter().next()?;
    let (table, role) = (qualified(destination), ident(&role));
    let all = refused.len() == commands.len();
    let names: Vec<&str> = [
        ("r", "SELECT"),
        ("a", "INSERT"),
        ("w", "UPDATE"),
        ("d", "DELETE"),
    ]
    .into_iter()
    .filter(|(letter, _)| refused.iter().any(|command| command == letter))
    .map(|(_, name)| name)
    .collect();
    let create: Vec<String> = match all {
        true => vec![format!(
            "CREATE POLICY sequin ON {table} TO {role} USING (true) WITH CHECK (true);"
        )],
        false => names
            .iter()
            .map(|name| policy(name, &table, &role))
            .collect(),
    };
    Some(
        Fault::new(
            sqlstate::INSUFFICIENT_PRIVILEGE,
            format!("row security of {table} refuses every row"),
        )
        .detail(format!(
            "No policy allows {} to the mapping's owner {role}.",
            list(&names, "or")
        ))
        .hint(format!("Run: {}", create.join(" "))),
    )
}

/// The statement that allows a command to a role.
fn policy(command: &str, table: &str, role: &str) -> String {
    let condition = match command {
        "INSERT" => "WITH CHECK (true)",
        "UPDATE" => "USING (true) WITH CHECK (true)",
        _ => "USING (true)",
    };
    let name = format!("sequin_{}", command.to_lowercase());
    format!("CREATE POLICY {name} ON {table} FOR {command} TO {role} {condition};")
}
