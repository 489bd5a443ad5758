//! Warnings of `sequin.map`: what is allowed and may go wrong.

#![forbid(unsafe_code)]

use pgrx::PgLogLevel;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;

use super::check::{may_meet, qualified};
use super::marked::held;
use super::members::large_members;
use super::{ColumnSource, Mapping, Mode, Root};
use crate::destination::{Destination, UniqueIndex};
use crate::error::fault::{Fault, summary};
use crate::error::quote::ident;
use crate::error::{SqlError, list, sqlstate};
use crate::pg::typeio::base_type;

/// Warns of what is allowed in a mapping, beside `others`, and may go wrong.
pub fn warn(mapping: &Mapping, destination: &Destination, others: &[Mapping]) {
    let warnings = unkept(mapping, destination).into_iter();
    let warnings = warnings.chain(key_of_log(mapping, destination));
    let warnings = warnings.chain(may_meet(mapping, destination, others));
    for warning in warnings.chain(held(mapping, destination)) {
        ErrorReport::from(warning).report(PgLogLevel::WARNING);
    }
}

/// Warns that a mapping which is resumed would be refused beside others if it were made now.
pub fn shares(mapping: &Mapping, fault: Fault) {
    let warning = SqlError {
        code: sqlstate::WARNING,
        ..summary(&mapping.name, &[fault])
    };
    ErrorReport::from(warning).report(PgLogLevel::WARNING);
}

/// SQL reads members that an update may not repeat, and that no column of the destination keeps.
fn unkept(mapping: &Mapping, destination: &Destination) -> Option<SqlError> {
    let specs = &mapping.columns;
    let document = specs.named.iter().any(|(name, source)| {
        let column = destination.column(name);
        let of_type = column.map(|column| base_type(column.type_oid, -1).0);
        source.is_record() && matches!(of_type, Some(pg_sys::JSONOID | pg_sys::JSONBOID))
    });
    if document && mapping.mode == Mode::Upsert {
        return None;
    }
    let kept = |member: &str| {
        let path = |source: &ColumnSource| {
            matches!(source, ColumnSource::Path(path)
                if path.root == Root::Record && path.keys == [member])
        };
        let named = specs.named.iter().any(|(_, source)| path(source));
        let rest = specs.rest
            && specs.source(member).is_none()
            && !mapping.reserves(member)
            && destination
                .column(member)
                .is_some_and(|column| !column.generated);
        mapping.mode == Mode::Upsert && (named || rest)
    };
    let sql = specs.named.iter().filter_map(|(_, source)| match source {
        ColumnSource::Sql(sql) => Some(sql),
        _ => None,
    });
    // In a log, an expression without a value is null.
    let sql = sql.filter(|_| mapping.mode == Mode::Upsert);
    let mut members: Vec<String> = Vec::new();
    for member in sql
        .chain(&mapping.filter)
        .flat_map(|sql| large_members(sql))
    {
        if !kept(&member) && !members.contains(&member) {
            members.push(member);
        }
    }
    if members.is_empty() {
        return None;
    }
    let quoted: Vec<String> = members.iter().map(|name| format!("\"{name}\"")).collect();
    Some(
        SqlError::new(
            sqlstate::WARNING,
            format!(
                "SQL of mapping \"{}\" reads {} of the record, which no column of {} keeps",
                mapping.name,
                list(&quoted, "and"),
                qualified(destination)
            ),
        )
        .with_detail(
            "Under REPLICA IDENTITY DEFAULT an update says unchanged_toast instead of a large value. The filter then \
             keeps the row as it is, a column keeps its value, and a key makes a dead letter.",
        )
        .with_hint(
            "Add a column for it, or run at the source: ALTER TABLE … REPLICA IDENTITY FULL; Ignore this where the \
             values are small.",
        ),
    )
}

/// A log whose primary key, or another unique index, is the source's own: a row's second change cannot be appended.
fn key_of_log(mapping: &Mapping, destination: &Destination) -> Option<SqlError> {
    if mapping.mode != Mode::Append {
        return None;
    }
    let from_record = |name: &String| {
        matches!(mapping.columns.source(name), Some(ColumnSource::Path(path)) if path.root == Root::Record)
            || mapping.columns.source(name).is_none()
    };
    // Of several columns of the record, one may be the number of the row's version.
    let counts = |index: &&UniqueIndex| {
        let of_record = index.columns.iter().filter(|name| from_record(name));
        index.primary || index.valid && !index.columns.is_empty() && of_record.count() <= 1
    };
    let mut indexes = destination.unique_indexes.iter().filter(counts);
    let index = indexes.find(|index| {
        let mut columns = index.columns.iter();
        columns.all(|name| !tells_changes(mapping, destination, name))
    })?;
    let (kind, remedy) = match index.primary {
        true => (
            "primary key",
            format!(
                "Give the table a key of its own, as in: ALTER TABLE {{table}} DROP CONSTRAINT {}, ADD COLUMN log_id bigint \
                 GENERATED ALWAYS AS IDENTITY PRIMARY KEY;",
                ident(&index.name)
            ),
        ),
        false => (
            "unique index",
            "Drop the index, or add a column that tells changes apart, as metadata.idempotency_key does.".to_owned(),
        ),
    };
    let table = qualified(destination);
    let columns: Vec<String> = index.columns.iter().map(|name| ident(name)).collect();
    Some(
        SqlError::new(
            sqlstate::WARNING,
            format!(
                "the {kind} ({}) of {table} comes from the record, so the second change of a row cannot be \
                 appended",
                columns.join(", ")
            ),
        )
        .with_detail("With mode 'append' every message becomes a row; the next change of a row has the same key.")
        .with_hint(remedy.replace("{table}", &table)),
    )
}

/// Members of the metadata that differ from change to change of a row.
const OF_A_CHANGE: [&str; 5] = [
    "idempotency_key",
    "commit_lsn",
    "commit_idx",
    "commit_timestamp",
    "transaction_annotations",
];

/// Words of SQL whose value may be another one each time.
const VOLATILE: [&str; 6] = [
    "random",
    "uuid_generate",
    "nextval",
    "_timestamp",
    "now(",
    "changes",
];

/// Whether a column of a log may differ from change to change of a row.
fn tells_changes(mapping: &Mapping, destination: &Destination, name: &str) -> bool {
    let of_a_change = |text: &str| OF_A_CHANGE.iter().any(|member| text.contains(member));
    match mapping.columns.source(name) {
        Some(ColumnSource::Path(path)) => match (path.root, path.keys.first()) {
            (Root::Record, first) => first.is_none(),
            (Root::Metadata, Some(member)) => of_a_change(member),
            (Root::Metadata, None) | (Root::Changes, _) => true,
            (Root::Action, _) => false,
        },
        Some(ColumnSource::Sql(sql)) => {
            let reads = ["record", "metadata", "action"];
            let whole = |root: &&str| sql.contains(&format!("{root}::text"));
            of_a_change(sql)
                || VOLATILE.iter().any(|word| sql.contains(word))
                || reads.iter().any(whole)
                || !reads.iter().any(|root| sql.contains(root))
        }
        Some(ColumnSource::Value(_)) => false,
        None => {
            !mapping.columns.rest
                || mapping.reserves(name)
                || destination
                    .column(name)
                    .is_none_or(|column| column.generated)
        }
    }
}
