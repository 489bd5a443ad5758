//! Checks that a destination does not refuse every row: by rules, by row security, by publications, by its access method.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, BuiltinOid};

use super::check::qualified;
use super::{Mapping, Mode, OnDelete};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::ident;
use crate::error::{list, sqlstate};
use crate::pg::links::is_published;
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

/// A published table without replica identity, whose updates ($2) or deletes ($3) fail: the destination or a partition, a
/// publication, and an index that can be the replica identity.
const PUBLISHED: &str = "
    with recursive part(oid) as (
        select $1
        union all
        select h.inhrelid
        from part join pg_catalog.pg_inherits h on h.inhparent = part.oid
        join pg_catalog.pg_class c on c.oid = h.inhrelid and c.relispartition),
    whole(oid) as (
        select $1
        union all
        select h.inhparent from whole join pg_catalog.pg_inherits h on h.inhrelid = whole.oid)
    select t.oid::pg_catalog.regclass::pg_catalog.text, p.pubname::pg_catalog.text,
           (select c.relname::pg_catalog.text
            from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
            where i.indrelid = t.oid and i.indisunique and i.indimmediate and i.indisvalid
                  and i.indpred is null and i.indexprs is null
                  and not exists (select from pg_catalog.pg_attribute a
                                  where a.attrelid = t.oid and a.attnum = any (i.indkey) and not a.attnotnull)
            order by 1 limit 1)
    from pg_catalog.pg_publication p cross join part
    join pg_catalog.pg_class t on t.oid = part.oid and t.relkind = 'r' and t.relpersistence = 'p'
    where (p.pubupdate and $2 or p.pubdelete and $3)
          and (p.puballtables
               or exists (select from pg_catalog.pg_publication_rel r
                          where r.prpubid = p.oid
                                and (r.prrelid = t.oid or r.prrelid in (select oid from whole)))
               or exists (select from pg_catalog.pg_publication_namespace n
                          join pg_catalog.pg_class o on o.relnamespace = n.pnnspid
                          where n.pnpubid = p.oid
                                and (o.oid = t.oid or o.oid in (select oid from whole))))
          and t.relreplident <> 'f'
          and not exists (select from pg_catalog.pg_index i
                          where i.indrelid = t.oid and i.indisvalid and i.indimmediate
                                and case t.relreplident when 'd' then i.indisprimary
                                                        when 'i' then i.indisreplident end)
    order by 2, 1 limit 1";

/// The access method of a table that takes inserts alone.
const INSERTS_ONLY: &str = "
    select a.amname::pg_catalog.text
    from pg_catalog.pg_class c join pg_catalog.pg_am a on a.oid = c.relam
    where c.oid = $1 and a.amname = 'columnar'";

/// A foreign table among the partitions.
const FOREIGN_PART: &str = "
    with recursive part(oid, parent) as (
        select $1, $1
        union all
        select h.inhrelid, h.inhparent
        from part join pg_catalog.pg_inherits h on h.inhparent = part.oid)
    select part.parent::pg_catalog.regclass::pg_catalog.text, c.oid::pg_catalog.regclass::pg_catalog.text
    from part join pg_catalog.pg_class c on c.oid = part.oid and c.relkind = 'f'
    order by 2 limit 1";

thread_local! {
    static FIND_FOREIGN_PART: Lookup = const { Lookup::new(FOREIGN_PART, &[BuiltinOid::OIDOID]) };
    static FIND_PUBLISHED: Lookup = const {
        Lookup::new(PUBLISHED, &[BuiltinOid::OIDOID, BuiltinOid::BOOLOID, BuiltinOid::BOOLOID])
    };
    static FIND_INSERTS_ONLY: Lookup = const { Lookup::new(INSERTS_ONLY, &[BuiltinOid::OIDOID]) };
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

/// The faults of a destination that refuses every row that the role writes.
pub fn check(mapping: &Mapping, destination: &Destination, writer: pg_sys::Oid) -> Vec<Fault> {
    rules(mapping, destination)
        .into_iter()
        .chain(policies(mapping, destination, writer))
        .chain(inserts_only(mapping, destination))
        .chain(foreign_part(mapping, destination))
        .chain(published(mapping, destination))
        .collect()
}

fn inserts_only(mapping: &Mapping, destination: &Destination) -> Option<Fault> {
    if mapping.mode == Mode::Append || destination.is_heap {
        return None;
    }
    let found =
        FIND_INSERTS_ONLY.with(|query| query.rows(&[destination.oid.into()], |row| row.get(1)));
    let method: String = found.into_iter().next().flatten()?;
    let table = qualified(destination);
    Some(
        Fault::kind(format!("mode 'upsert' cannot write to table {table}, whose access method is {method}"))
            .detail("This access method has inserts alone.")
            .hint(format!(
                "Use mode => 'append', or run, where the server has the statement: ALTER TABLE {table} SET ACCESS METHOD heap;"
            )),
    )
}

/// No unique index can be made then.
fn foreign_part(mapping: &Mapping, destination: &Destination) -> Option<Fault> {
    if mapping.mode == Mode::Append || destination.relkind != b'p' {
        return None;
    }
    let found = FIND_FOREIGN_PART.with(|query| {
        query.rows(&[destination.oid.into()], |row| {
            Ok((row.get::<String>(1)?, row.get::<String>(2)?))
        })
    });
    let (parent, part) = found.into_iter().next()?;
    let (table, parent, part) = (qualified(destination), parent?, part?);
    Some(
        Fault::kind(format!(
            "mode 'upsert' cannot write to partitioned table {table}, which has a foreign partition"
        ))
        .detail(format!(
            "With foreign table {part}, no unique index can find a row."
        ))
        .hint(format!(
            "Run: ALTER TABLE {parent} DETACH PARTITION {part}; or use mode => 'append'."
        )),
    )
}

fn published(mapping: &Mapping, destination: &Destination) -> Option<Fault> {
    if mapping.mode == Mode::Append || !is_published(destination.oid) {
        return None;
    }
    let deletes = mapping.on_delete == OnDelete::Delete;
    let args = [destination.oid.into(), true.into(), deletes.into()];
    let found = FIND_PUBLISHED.with(|query| {
        query.rows(&args, |row| {
            let text = |n| row.get::<String>(n);
            Ok((text(1)?, text(2)?, text(3)?))
        })
    });
    let (table, publication, index) = found.into_iter().next()?;
    let (table, publication) = (table?, publication?);
    let identity = match index {
        Some(index) => format!("USING INDEX {}", ident(&index)),
        None => String::from("FULL"),
    };
    Some(
        Fault::new(
            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table {table} is published and has no replica identity"),
        )
        .detail(format!(
            "Publication \"{publication}\" sends its updates and deletes, which fail."
        ))
        .hint(format!(
            "Run: ALTER TABLE {table} REPLICA IDENTITY {identity};"
        )),
    )
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
