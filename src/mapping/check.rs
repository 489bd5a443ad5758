//! Checks whether a mapping fits its destination, and finds all faults at once.

#![forbid(unsafe_code)]

mod changed;
mod fit;
mod key;
mod shared;

#[cfg(test)]
mod tests;

use super::{Guard, Mapping, Mode, OnDelete};
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::ident;
use crate::error::{list, sqlstate};
use fit::Fit;

pub use changed::{FormerKey, follow_renamed_key};
pub use fit::qualified;
pub use shared::{Shared, Sharer, check_shared, may_meet, written};

/// Every fault of a mapping and of its destination. `destination` is the relation that
/// [`Mapping::destination`] names, `None` if it names none or the relation is gone.
pub fn check(mapping: &Mapping, destination: Option<&Destination>) -> Vec<Fault> {
    let mut faults = Vec::new();
    check_alone(mapping, &mut faults);
    match (mapping.destination, destination) {
        (Some(_), Some(destination)) => {
            if let Some(fault) = check_relation(destination) {
                faults.push(fault);
            } else {
                let mut fit = Fit::new(mapping, destination);
                fit.faults = faults;
                fit.check_columns();
                fit.check_key();
                fit.check_soft_delete();
                fit.check_guard();
                fit.check_not_null();
                faults = fit.faults;
            }
        }
        (Some(oid), None) => faults.push(
            Fault::new(
                sqlstate::UNDEFINED_TABLE,
                format!("destination with OID {oid} does not exist"),
            )
            .hint("Choose another destination, or null to receive these messages and ignore them."),
        ),
        (None, _) => {}
    }
    faults
}

/// The faults that keep a mapping from writing since its destination changed. `former_key`: see [`FormerKey`].
pub fn check_changed(
    mapping: &Mapping,
    destination: &Destination,
    former_key: &FormerKey,
) -> Vec<Fault> {
    if let Some(fault) = check_relation(destination) {
        return vec![fault];
    }
    let mut fit = Fit {
        changed: true,
        former_key,
        ..Fit::new(mapping, destination)
    };
    fit.check_columns();
    fit.check_key();
    fit.check_soft_delete();
    fit.check_guard();
    fit.faults
}

/// The fault of a destination that has lost the columns with the versions of its rows.
pub fn check_guard_gone(mapping: &Mapping, destination: &Destination) -> Fault {
    let given = Mapping {
        guard: Guard::Columns,
        ..mapping.clone()
    };
    let mut fit = Fit {
        changed: true,
        ..Fit::new(&given, destination)
    };
    fit.check_guard();
    let fault = fit.faults.pop();
    fault.expect("a column is missing, or is of another type")
}

/// The faults of a mapping that do not depend on its destination.
fn check_alone(mapping: &Mapping, faults: &mut Vec<Fault>) {
    let soft = mapping.on_delete == OnDelete::Soft;
    if mapping.mode == Mode::Append && soft {
        faults.push(
            Fault::value("mode 'append' cannot have on_delete 'soft'")
                .detail("Every message becomes a row of its own, so there is no row to mark.")
                .hint("Use mode => 'upsert', or leave out on_delete and soft_delete."),
        );
    }
    if soft && mapping.soft_delete.is_none() {
        faults.push(
            Fault::value("on_delete 'soft' needs a soft_delete column").hint(
                "Name the column that marks deleted rows, as in soft_delete => 'deleted_at'.",
            ),
        );
    }
    if let (false, Some(column)) = (soft, &mapping.soft_delete) {
        faults.push(
            Fault::value(format!(
                "soft_delete \"{column}\" is given, but on_delete is not 'soft'"
            ))
            .detail(format!(
                "With on_delete '{}' nothing sets it.",
                mapping.on_delete.as_str()
            ))
            .hint("Use on_delete => 'soft', or leave out soft_delete."),
        );
    }
    if mapping.destination.is_none() {
        let given: Vec<_> = [
            (
                !(mapping.columns.rest && mapping.columns.named.is_empty()),
                "columns",
            ),
            (mapping.key.is_some(), "key"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect();
        if !given.is_empty() {
            faults.push(
                Fault::value(format!(
                    "a null destination cannot have {}",
                    list(&given, "or")
                ))
                .detail("Messages of such a mapping are received and ignored.")
                .hint(format!(
                    "Name a destination, or leave out {}.",
                    list(&given, "and")
                )),
            );
        }
    }
}

/// The fault of a relation to which messages cannot be written.
pub fn check_relation(destination: &Destination) -> Option<Fault> {
    let name = qualified(destination);
    let (kind, hint) = match destination.relkind {
        b'r' | b'p' | b'f' => ("", ""),
        b'v' => ("a view", "Name the table that the view reads from."),
        b'm' => (
            "a materialized view",
            "Name a table, and let the materialized view read from that.",
        ),
        b'S' => ("a sequence", "Name a table."),
        b'i' | b'I' => ("an index", "Name the index's table."),
        b'c' => ("a composite type", "Name a table."),
        _ => ("something else", "Name a table."),
    };
    if !kind.is_empty() {
        return Some(
            Fault::kind(format!("destination {name} is not a table"))
                .detail(format!("It is {kind}; a destination is a table, a partitioned table or a foreign table."))
                .hint(hint),
        );
    }
    if destination.persistence == b't' {
        let name = ident(&destination.name);
        return Some(
            Fault::kind(format!("destination {name} is a temporary table"))
                .detail("Only the session that made it sees it.")
                .hint(format!(
                    "Use a table that stays: CREATE TABLE … (LIKE {name} INCLUDING ALL);"
                )),
        );
    }
    let schema = destination.schema.as_str();
    let is_own = schema == "sequin" || schema == "sequin_internal";
    if is_own || schema == "information_schema" || schema.starts_with("pg_") {
        let whose = if is_own {
            "pg_sequin's own"
        } else {
            "a system catalog"
        };
        return Some(
            Fault::kind(format!("destination {name} is {whose}"))
                .detail("Messages are never written there.")
                .hint("Name a table of your own."),
        );
    }
    None
}
