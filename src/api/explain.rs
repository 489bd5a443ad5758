//! `sequin.explain`: shows how a mapping writes, and what a batch would do.

#![forbid(unsafe_code)]

use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;

use super::{admit, unicode, watch};
use crate::apply::explain;
use crate::apply::registry;
use crate::column_set::ColumnSet;
use crate::envelope;
use crate::error::Error;
use crate::mapping::beside::Beside;
use crate::mapping::catalog::mine;
use crate::mapping::grants::{Routine, require_execute};
use crate::mapping::versions::VersionsIn;
use crate::mapping::{GUARD_COLUMNS, Mode, OnDelete};
use crate::pg::invalidation;
use crate::pg::keys::extension_owner;
use crate::pg::memory::Arena;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::user::{ActingAs, current_user};
use crate::settings;
use crate::statement::Input;
use crate::target::Target;
use crate::target::column::Source;
use crate::target::sql::{delete_sql, write_sql};
use crate::target::statements::{Removal, Shape, WriteKind};

/// A row of `sequin.explain(batch)`: position, mapping, key, outcome, sqlstate, error, before, after.
type ExplainedRow = (
    i64,
    Option<String>,
    Option<String>,
    &'static str,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// `sequin_internal.explain_rows(batch)`: the outcome that each message would have in each mapping if the batch were
/// applied. All changes are rolled back.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn explain_rows(
    batch: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(position, i64),
            name!(mapping, Option<String>),
            name!(key, Option<String>),
            name!(outcome, &'static str),
            name!(sqlstate, Option<String>),
            name!(error, Option<String>),
            name!(before, Option<String>),
            name!(after, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let text = batch.ok_or(Error::NullBatch)?;
    admit(text.len())?;
    let text = unicode(text.as_bytes())?;
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    // `sequin.explain` and `sequin.explain_batch` run as their caller: every role may execute this function.
    require_execute(caller, Routine::Function, &["explain_batch"])?;
    let _definer = ActingAs::new(extension_owner(), false);
    let memory = Arena::take();
    let mut batch = envelope::read_text(text, &memory, watch).map_err(Error::from)?;
    let rows = explain(&mut batch, &memory, caller)?;
    // Each row is made only when the executor asks for it.
    let rows = rows.into_iter().map(|row| -> ExplainedRow {
        (
            row.position as i64,
            row.mapping,
            row.key,
            row.outcome.as_str(),
            row.error.as_ref().map(|error| error.sqlstate()),
            row.error.map(|error| error.message.clone()),
            row.before,
            row.after,
        )
    });
    Ok(TableIterator::new(rows))
}

/// A row of `sequin.explain(mapping)`: part, name, type, source, cast, sql.
type PartRow = (
    &'static str,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// `sequin.explain(mapping)`: where each column of the destination comes from, and the statements
/// that write it.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn explain_mapping(
    mapping: Option<&str>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(part, &'static str),
            name!(name, String),
            name!(type, Option<String>),
            name!(source, Option<String>),
            name!(cast, Option<String>),
            name!(sql, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let batch = mapping.is_some_and(|text| text.trim_start().starts_with(['{', '[']));
    let _settings = Settings::new(PINNED);
    let found = mine(mapping).map_err(|error| match batch {
        true => Error::BatchNotMapping,
        false => error,
    })?;
    let _definer = ActingAs::new(extension_owner(), false);
    let _connection = Connection::open();
    let Some(oid) = found.destination else {
        return Ok(TableIterator::new(Vec::new()));
    };
    invalidation::lock(pg_sys::Oid::from(oid));
    let target = Target::make(&found, &mut Beside::default())
        .unwrap_or_else(|| Err(registry::gone(&found)))?;
    let mut parts = columns(&target);
    parts.extend(statements(&target));
    Ok(TableIterator::new(parts))
}

/// A row for each column of the destination.
fn columns(target: &Target) -> Vec<PartRow> {
    let guards = target.versions == VersionsIn::Columns;
    target
        .destination
        .columns
        .iter()
        .map(|column| {
            let guard = GUARD_COLUMNS.iter().any(|(name, ..)| *name == column.name);
            let at = target.column_number(&column.name);
            let part = match at {
                Some(at) if target.key.contains(&at) => "key",
                _ if guard && guards => "guard",
                _ => "column",
            };
            let (source, cast) = match at {
                Some(at) => source(target, at),
                None if guard && guards => ("version of the row".to_owned(), None),
                None if target.mapping.soft_delete.as_ref() == Some(&column.name) => {
                    ("mark of a delete".to_owned(), None)
                }
                None if column.generated => ("generated".to_owned(), None),
                None => ("not written".to_owned(), None),
            };
            let type_name = column.type_name.clone();
            (
                part,
                column.name.clone(),
                Some(type_name),
                Some(source),
                cast,
                None,
            )
        })
        .collect()
}

fn source(target: &Target, at: usize) -> (String, Option<String>) {
    let column = &target.columns[at];
    let source = match &column.source {
        Source::Field(name) => format!("record.{name}"),
        Source::Path(path) => path.to_string(),
        Source::Constant(json) => format!("constant {json}"),
        Source::Sql(number) => {
            let type_name = &column.sql.type_name;
            let type_name = type_name.strip_prefix("pg_catalog.").unwrap_or(type_name);
            // Counted from 1. In the projection, the message's number comes first.
            return (
                format!("SQL, value {}", number + 1),
                Some(format!("assignment from {type_name}")),
            );
        }
    };
    (source, Some(column.caster.describe()))
}

/// The statements that write a batch whose messages have all columns, and the mapping's SQL.
fn statements(target: &Target) -> Vec<PartRow> {
    let projection = target.projection.iter();
    let evaluate = projection.map(|projection| ("evaluate", projection.sql.clone()));
    evaluate
        .chain(written(target))
        .map(|(name, sql)| ("statement", name.to_owned(), None, None, None, Some(sql)))
        .collect()
}

/// The statements that write a batch whose messages have all columns.
pub fn written(target: &Target) -> Vec<(&'static str, String)> {
    let mapping = &target.mapping;
    let write = |kind| {
        let shape = Shape {
            kind,
            columns: (0..target.columns.len()).collect(),
            merges: ColumnSet::new(),
            read_skew: settings::read_skew(),
            absent: false,
            within: None,
        };
        write_sql(Input::Batch, target, &shape).0
    };
    if mapping.mode == Mode::Append {
        return vec![("insert", write(WriteKind::Upsert))];
    }
    let mut found = match target.versions {
        VersionsIn::Columns => vec![
            ("upsert of changes", write(WriteKind::UpsertNewer)),
            ("upsert of reads", write(WriteKind::UpsertRead)),
        ],
        _ => vec![("upsert", write(WriteKind::Upsert))],
    };
    if target.columns.iter().any(|column| column.required) {
        found.push(("update of rows that are there", write(WriteKind::Update)));
    }
    if mapping.on_delete != OnDelete::Ignore {
        found.push((
            "delete",
            delete_sql(Input::Batch, target, &target.relation(), Removal::Mark).0,
        ));
    }
    if !target.shared.sharers.is_empty() {
        found.push((
            "delete of a row that other mappings have",
            delete_sql(Input::Batch, target, &target.relation(), Removal::Clear).0,
        ));
    }
    found
}
