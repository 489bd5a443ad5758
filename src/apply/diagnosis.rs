//! Why a mapping cannot write, in words that name the mapping, and what to run.
//!
//! The server's error does not name the mapping. The checks that a mapping has to pass when it is made find the cause of
//! most errors, and say what to run.

#![forbid(unsafe_code)]

use std::time::Duration;

use pgrx::pg_sys::{self, BuiltinOid};

use crate::blame::heals_by_grant;
use crate::destination::Destination;
use crate::error::fault::{Fault, broken};
use crate::error::quote::{ident, literal};
use crate::error::{SqlError, sqlstate};
use crate::mapping::check::qualified;
use crate::mapping::grants::{internal_functions, writer};
use crate::mapping::{ColumnSource, Mapping, Mode, faults, privileges};
use crate::pg::keys::role_name;
use crate::pg::subtransaction::subtransaction;
use crate::pg::turn::{LockLimit, Turn, caught};
use crate::pg::user::has_privileges;
use crate::prepared::Lookup;

/// How long a call waits to grant the internal functions.
const PATIENCE: Duration = Duration::from_millis(200);

/// The error of a mapping that cannot write: it names the mapping, and its HINT says what to run. The caller acts as the
/// extension's owner.
pub fn diagnosed(mapping: &Mapping, error: &SqlError) -> SqlError {
    if error
        .message
        .contains(&format!("mapping \"{}\"", mapping.name))
    {
        return error.clone();
    }
    let found = caught(|| subtransaction(|| Ok::<_, SqlError>(causes(mapping, error))));
    let mut causes = match found {
        Ok(Ok(causes)) => causes,
        _ => Vec::new(),
    };
    if causes.is_empty() {
        causes.push(elsewhere(mapping, error));
    }
    SqlError {
        origin: error.origin,
        context: error.context.clone(),
        ..broken(&mapping.name, &causes)
    }
}

/// Lets the writer of the mapping's rows execute the extension's functions again, if it lost that right: by
/// `DROP OWNED`, or because somebody revoked it. Returns whether it did.
pub fn is_granted_again(mapping: &Mapping, error: &SqlError) -> bool {
    if !heals_by_grant(error) {
        return false;
    }
    let Some(destination) = mapping.destination_oid().and_then(Destination::load) else {
        return false;
    };
    let role = writer(mapping, &destination);
    granted_in_time(role)
}

/// Lets a role execute the internal functions, and returns whether it lacked that right. An open transaction that grants
/// them to another role is not waited for: then a later call grants them.
pub fn granted_in_time(role: pg_sys::Oid) -> bool {
    let _limit = LockLimit::new(PATIENCE);
    let granted = caught(|| subtransaction(|| Ok::<_, SqlError>(internal_functions(role))));
    matches!(granted, Ok(Ok(true)))
}

/// The faults of the mapping that explain the error.
fn causes(mapping: &Mapping, error: &SqlError) -> Vec<Fault> {
    // To analyse the mapping's SQL locks the tables that it reads.
    let _turn = Turn::of(mapping.id);
    let destination = mapping.destination_oid().and_then(Destination::load);
    let role = match &destination {
        Some(destination) => writer(mapping, destination),
        None => mapping.owner_oid(),
    };
    let mut causes = faults::all(mapping, destination.as_ref(), role);
    causes.retain(|fault| fault.code == error.code);
    if error.is(sqlstate::NOT_NULL_VIOLATION)
        && let Some(follow) = destination
            .as_ref()
            .and_then(|destination| faults::follow_key(mapping, destination))
    {
        return vec![Fault::from(error.clone()).hint(format!("Run: {follow}"))];
    }
    if causes.is_empty() && heals_by_grant(error) {
        let role = role_name(role).unwrap_or_default();
        let hint = missing_grant(mapping, destination.as_ref(), &role, error);
        causes.push(Fault::from(error.clone().with_place()).hint(hint));
    }
    if error.class() == sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION && !heals_by_grant(error) {
        causes = causes
            .into_iter()
            .map(|fault| with_search_path(mapping, fault))
            .collect();
    }
    causes
}

/// The fault of what no check of the mapping finds: a trigger, a default or a function that the rows use. DETAIL says
/// which function, if it is one.
fn elsewhere(mapping: &Mapping, error: &SqlError) -> Fault {
    if heals_by_grant(error) {
        return Fault::from(error.clone());
    }
    let fault = Fault::from(error.clone().with_place());
    if error.class() == sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION {
        return fault.hint(
            "A trigger, a default or a function that the rows use needs what is missing or has changed. Make it right \
             there: the next call applies the messages.",
        );
    }
    // What a function says itself.
    if error.hint.is_some() {
        return fault;
    }
    let of_others = [sqlstate::DEADLOCK_DETECTED, sqlstate::LOCK_NOT_AVAILABLE];
    fault.hint(match of_others.contains(&error.code) {
        true => "The next call tries the messages again. To see which sessions hold locks, run: SELECT * FROM \
                 sequin.activity;"
            .to_owned(),
        false => format!(
            "The table, the mapping's SQL, or a trigger, a default, a check or a function that its rows use, raises this error. Make \
             it right there: the next call applies the messages. To see the SQL, run: SELECT * FROM sequin.explain({});",
            literal(&mapping.name)
        ),
    })
}

/// The same fault with the search_path in its HINT, where an object was not found under that search_path.
fn with_search_path(mapping: &Mapping, fault: Fault) -> Fault {
    let missing = [
        sqlstate::UNDEFINED_FUNCTION,
        sqlstate::UNDEFINED_OBJECT,
        sqlstate::UNDEFINED_TABLE,
    ];
    if !missing.contains(&fault.code) || !has_sql(mapping) {
        return fault;
    }
    let hint = format!(
        "Names in the SQL are looked up in search_path \"{}\". If the object is gone, create it again, or change the SQL by \
         sequin.alter_mapping. If it is in another schema, run: UPDATE sequin.mapping SET search_path = 'schema_name' \
         WHERE name = {};",
        mapping.search_path,
        literal(&mapping.name)
    );
    fault.hint(hint)
}

fn has_sql(mapping: &Mapping) -> bool {
    let mut sources = mapping.columns.named.iter();
    mapping.filter.is_some() || sources.any(|(_, source)| matches!(source, ColumnSource::Sql(_)))
}

const FUNCTIONS: &str = "
    select p.oid::pg_catalog.regprocedure::text from pg_catalog.pg_proc p join pg_catalog.pg_roles r on r.rolname = $2
    where p.proname = $1 and not pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE')";

const TABLES: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_roles r on r.rolname = $2
    where c.relname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f')
      and exists (select from pg_catalog.unnest('{SELECT, INSERT, UPDATE, DELETE}'::pg_catalog.text[]) p
                  where not pg_catalog.has_table_privilege(r.oid, c.oid, p))";

const SEQUENCES: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_roles r on r.rolname = $2
    where c.relname = $1 and c.relkind = 'S' and not pg_catalog.has_sequence_privilege(r.oid, c.oid, 'USAGE')";

thread_local! {
    static FIND: [Lookup; 3] = const {
        const NAMES: &[BuiltinOid] = &[BuiltinOid::TEXTOID, BuiltinOid::TEXTOID];
        [
            Lookup::new(FUNCTIONS, NAMES),
            Lookup::new(SEQUENCES, NAMES),
            Lookup::new(TABLES, NAMES),
        ]
    };
}

/// The HINT for a privilege that the mapping's statements, its SQL or the table's triggers need. The server names the
/// kind and the name of the object, and neither its schema nor the privilege.
fn missing_grant(
    mapping: &Mapping,
    destination: Option<&Destination>,
    role: &str,
    error: &SqlError,
) -> String {
    let said = error.message.strip_prefix("permission denied for ");
    let (kind, name) = said
        .and_then(|said| said.split_once(' '))
        .unwrap_or_default();
    let found =
        |of: usize| FIND.with(|find| find[of].rows(&[name.into(), role.into()], |row| row.get(1)));
    let only = |mut found: Vec<Option<String>>| match found.len() {
        1 => found.pop().flatten(),
        _ => None,
    };
    let to = ident(role);
    let statement = match kind {
        "table" => destination
            .filter(|destination| destination.name == name)
            .map(|table| {
                let mut needed = privileges::needed(mapping);
                // ON CONFLICT reads the columns by which a log recognises repetitions.
                let inserts = has_privileges(table.oid, writer(mapping, table), &["INSERT"]);
                if mapping.mode == Mode::Append && inserts {
                    needed.insert(0, "SELECT");
                }
                privileges::grant(&needed, &qualified(table), role)
            }),
        "schema" => Some(format!("GRANT USAGE ON SCHEMA {} TO {to};", ident(name))),
        "function" => {
            only(found(0)).map(|name| format!("GRANT EXECUTE ON FUNCTION {name} TO {to};"))
        }
        "sequence" => {
            let all = destination.map(|table| privileges::sequences(table, role));
            match all.filter(|all| !all.is_empty()) {
                Some(all) => Some(all.join(" ")),
                None => {
                    only(found(1)).map(|name| format!("GRANT USAGE ON SEQUENCE {name} TO {to};"))
                }
            }
        }
        _ => None,
    };
    // The server does not say which privilege a statement of a trigger or of the SQL lacks.
    let all = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    let other = match (&statement, kind) {
        (None, "table") => only(found(2)).map(|name| privileges::grant(&all, &name, role)),
        _ => None,
    };
    match statement {
        Some(statement) => format!("Run: {statement}"),
        None if other.is_some() => format!(
            "The SQL and the triggers run as role {to}, and the server does not say which privilege they lack. Grant what they \
             need of these, or run: {}",
            other.unwrap_or_default()
        ),
        None => format!(
            "The statements, the SQL and the triggers run as role {to}: grant it the privilege that they need."
        ),
    }
}
