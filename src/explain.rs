//! What a mapping does, and what a batch would do.

use std::collections::HashMap;

use pgrx::pg_sys::{self, Datum, panic::ErrorReport};
use pgrx::prelude::*;

use crate::apply::explain;
use crate::dead_letter::Letter;
use crate::envelope;
use crate::error::Error;
use crate::error::SqlError;
use crate::group::{Group, Outcome};
use crate::guard::Place;
use crate::mapping::catalog::mine;
use crate::mapping::{GUARD_COLUMNS, Mapping, Mode, OnDelete};
use crate::merge::Event;
use crate::pg::invalidation;
use crate::pg::keys::{extension_owner, stored_text};
use crate::pg::memory::Arena;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::{Connection, Plan};
use crate::pg::tuples::{RowColumn, RowType, Rows};
use crate::pg::user::{ActingAs, current_user, may_act_as};
use crate::registry;
use crate::settings;
use crate::statement;
use crate::target::{Source, Target, Write};
use crate::write::{delete_sql, write_sql};

/// Rows as JSON text, by the bytes of their keys.
pub type Images = HashMap<Vec<u8>, String>;

/// The rows of the group's keys that the destination has now, as the mapping's owner sees them.
pub fn images(group: &Group<'_>) -> Result<Images, SqlError> {
    let mut found = Images::new();
    let width = group.target.key.len();
    if width == 0 || group.entries.is_empty() {
        return Ok(found);
    }
    let mut columns = vec![RowColumn::number("sequin_n")];
    columns.extend(
        group
            .target
            .key
            .iter()
            .map(|&i| group.target.columns[i].row.clone()),
    );
    let row_type = RowType::new(&columns);
    let mut rows = Rows::new();
    for (n, entry) in group.entries.iter().enumerate() {
        let first = entry.key_values as usize;
        let mut values = vec![Datum::from(n as i32)];
        values.extend(&group.key_values[first..first + width]);
        rows.put(&row_type, &mut values, &mut vec![false; width + 1])?;
    }
    let sql = statement::images(&group.target.relation(), &group.target.key_sql());
    let returned = Plan::prepare(&sql)?.run(rows)?.returned;
    let returned = returned.expect("a SELECT returns rows");
    let (mut values, mut nulls) = ([Datum::null(); 2], [false; 2]);
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        let key = group.key(values[0].value() as i32 as u32).to_vec();
        found.extend(stored_text(values[1], nulls[1]).map(|image| (key, image)));
    }
    Ok(found)
}

/// What became of a message in a mapping.
#[derive(Debug)]
pub struct Explained {
    position: usize,
    mapping: Option<String>,
    key: Option<String>,
    outcome: Outcome,
    error: Option<SqlError>,
    before: Option<String>,
    after: Option<String>,
}

/// Watches a call for the role that wants it explained.
#[derive(Debug)]
pub struct Watch {
    caller: pg_sys::Oid,
    rows: Vec<Explained>,
}

impl Watch {
    /// Watches for `caller`.
    pub fn new(caller: pg_sys::Oid) -> Watch {
        Watch {
            caller,
            rows: Vec::new(),
        }
    }

    /// What it has seen, in the order of the messages.
    pub fn into_rows(self) -> Vec<Explained> {
        self.rows
    }

    /// Rows are shown to who has the rights of the mapping's owner, as whom they are read.
    pub fn admit(&self, mapping: &Mapping, position: usize) -> Result<(), SqlError> {
        if may_act_as(self.caller, pg_sys::Oid::from(mapping.owner)) {
            Ok(())
        } else {
            Err(Error::NotYoursToExplain { position }.into())
        }
    }

    /// Notes what an attempt has done, before it is undone: what became of the first `own` items of
    /// the batch (the others are of dead letters), in no table and in those of the groups.
    pub fn see(
        &mut self,
        own: usize,
        settled: impl Iterator<Item = (usize, Outcome, Option<String>)>,
        dead: &[(usize, Letter<'_>)],
        groups: &mut [(usize, Group<'_>)],
    ) -> Result<(), SqlError> {
        let errors: HashMap<(usize, Option<&str>), &SqlError> = dead
            .iter()
            .map(|(place, letter)| ((*place, letter.mapping.as_deref()), &letter.error))
            .collect();
        self.rows = settled
            .filter(|(place, ..)| *place < own)
            .map(|(position, outcome, mapping)| Explained {
                error: (errors.get(&(position, None)).filter(|_| mapping.is_none()))
                    .map(|error| (*error).clone()),
                position,
                mapping,
                key: None,
                outcome,
                before: None,
                after: None,
            })
            .collect();
        for (_, group) in groups {
            let after = {
                let _owner = group.acting_as_owner();
                images(group)?
            };
            self.see_group(own, group, &after, &errors);
        }
        self.rows
            .sort_by(|a, b| (a.position, &a.mapping).cmp(&(b.position, &b.mapping)));
        Ok(())
    }

    fn see_group(
        &mut self,
        own: usize,
        group: &Group<'_>,
        after: &Images,
        errors: &HashMap<(usize, Option<&str>), &SqlError>,
    ) {
        // A message that moved its row has two entries: the row was at one and is at the other.
        let (mut here, mut left) = (HashMap::new(), HashMap::new());
        for (n, entry) in group.entries.iter().enumerate() {
            let entries = match entry.event {
                Event::Leave { .. } => &mut left,
                _ => &mut here,
            };
            entries.insert(entry.message, n as u32);
        }
        for (n, (place, outcome)) in group.messages.iter().zip(&group.outcomes).enumerate() {
            let (n, place) = (n as u32, *place as usize);
            if place >= own {
                continue;
            }
            let key = |entry: &u32| group.key(*entry);
            let now = here.get(&n);
            let name = &group.target.mapping.name;
            self.rows.push(Explained {
                position: place,
                mapping: Some(name.clone()),
                key: now.and_then(|entry| group.entry_key_text(*entry)),
                outcome: outcome.expect("every message of a group has an outcome"),
                error: errors
                    .get(&(place, Some(name)))
                    .map(|error| (*error).clone()),
                before: left
                    .get(&n)
                    .and_then(|entry| group.before.get(key(entry)))
                    .or_else(|| now.and_then(|entry| group.before.get(key(entry))))
                    .cloned(),
                after: now.and_then(|entry| after.get(key(entry))).cloned(),
            });
        }
    }
}

/// What `sequin.explain(batch)` returns: position, mapping, key, outcome, sqlstate, error, before, after.
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

/// `sequin.explain_rows(batch)`: what becomes of each message in each mapping, when all of it is
/// applied. Nothing is.
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
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    let _definer = ActingAs::new(extension_owner(), false);
    let memory = Arena::take();
    let mut batch = envelope::read_text(text, &memory).map_err(Error::from)?;
    let rows = explain(&mut batch, &memory, caller)?;
    let rows: Vec<ExplainedRow> = rows
        .into_iter()
        .map(|row| {
            (
                row.position as i64,
                row.mapping,
                row.key,
                row.outcome.as_str(),
                row.error.as_ref().map(SqlError::sqlstate),
                row.error.map(|error| error.message),
                row.before,
                row.after,
            )
        })
        .collect();
    Ok(TableIterator::new(rows))
}

/// What `sequin.explain(mapping)` returns: part, name, type, source, cast, sql.
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
    let target = Target::make(&found).unwrap_or_else(|| Err(registry::gone(&found)))?;
    let mut parts = columns(&target);
    parts.extend(statements(&target));
    Ok(TableIterator::new(parts))
}

/// A row for each column of the destination.
fn columns(target: &Target) -> Vec<PartRow> {
    let guards = target.place == Place::Columns;
    target
        .destination
        .columns
        .iter()
        .map(|column| {
            let guard = GUARD_COLUMNS.iter().any(|(name, ..)| *name == column.name);
            let at = target.columns.iter().position(|c| c.name == column.name);
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
            // The projection's column after the message's number.
            return (
                format!("SQL, value {}", number + 1),
                Some(format!("assignment from {type_name}")),
            );
        }
    };
    (source, Some(column.caster.describe()))
}

/// The statements that a batch with all columns runs.
fn statements(target: &Target) -> Vec<PartRow> {
    let mapping = &target.mapping;
    let all: Vec<usize> = (0..target.columns.len()).collect();
    let merges = vec![0; target.columns.len().div_ceil(64)];
    let write = |how| write_sql(target, how, &all, &merges, settings::read_skew()).0;
    let mut found = Vec::new();
    if let Some(projection) = &target.projection {
        found.push(("evaluate", projection.sql.clone()));
    }
    if mapping.mode == Mode::Append {
        found.push(("insert", write(Write::Upsert)));
    } else {
        if target.place == Place::Columns {
            found.push(("upsert of changes", write(Write::UpsertNewer)));
            found.push(("upsert of reads", write(Write::UpsertRead)));
        } else {
            found.push(("upsert", write(Write::Upsert)));
        }
        if target.columns.iter().any(|column| column.required) {
            found.push(("update of rows that are there", write(Write::Update)));
        }
        if mapping.on_delete != OnDelete::Ignore {
            found.push(("delete", delete_sql(target).0));
        }
    }
    found
        .into_iter()
        .map(|(name, sql)| ("statement", name.to_owned(), None, None, None, Some(sql)))
        .collect()
}
