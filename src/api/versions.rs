//! Carries the versions of a mapping's rows over when the mapping gets another key or guard, and from a removed
//! mapping to the next one of the same source and destination.

#![forbid(unsafe_code)]

use std::convert::Infallible;

use pgrx::PgLogLevel;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::finishing::Finishing;
use super::own_statement;
use super::resync::{deferred_at_once, settle};
use super::versions_shards;
use crate::destination::Destination;
use crate::error::{Error, SqlError, quote, sqlstate};
use crate::guard::rekey::Settled;
use crate::mapping::grants::writer;
use crate::mapping::versions::{VersionsIn, has_guard_columns};
use crate::mapping::{Guard, Mapping, Mode, SourcePattern, catalog};
use crate::pg::invalidation;
use crate::pg::raise::raise;
use crate::pg::row::Row;
use crate::pg::settings::checks_function_bodies;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::user::ActingAs;

/// After a mapping was made, or got another destination, key, guard or mode.
#[pg_trigger(sql = false)]
fn mapping_versions<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, Infallible> {
    carried(trigger).unwrap_or_else(|error| raise(error));
    Ok(None)
}

fn carried(trigger: &PgTrigger<'_>) -> Result<(), SqlError> {
    let Some(id) = Row::new(trigger).and_then(|row| row.get::<i32>("id")) else {
        return Ok(());
    };
    let old = Row::old(trigger);
    if old.is_none() && !checks_function_bodies() {
        // A dump is restored, which brings the versions too.
        return Ok(());
    }
    let _settings = Settings::new(PINNED);
    let mapping = catalog::load()?
        .into_iter()
        .find(|mapping| mapping.id == id);
    let Some(mapping) = mapping else {
        return Ok(());
    };
    let Some(destination) = mapping.destination_oid().and_then(Destination::load) else {
        return Ok(());
    };
    let before = match &old {
        Some(old) => {
            if old.oid("destination") != mapping.destination_oid() {
                settle(&mapping, &destination)?;
                return Ok(());
            }
            let word = |name: &str| old.get::<String>(name).unwrap_or_default();
            let before = Mapping {
                guard: Guard::parse(&word("guard")).unwrap_or(mapping.guard),
                mode: Mode::parse(&word("mode")).unwrap_or(mapping.mode),
                ..mapping.clone()
            };
            Some(VersionsIn::of(&before, &destination))
        }
        None => None,
    };
    // Calls that apply messages to the mapping have then ended.
    if old.is_some() {
        invalidation::lock_mapping(catalog::relation(), id, true);
    }
    let taken = match before {
        None => take_over(&mapping, &destination)?,
        Some(before) => Some((before, 0)),
    };
    let Some((before, rows)) = taken else {
        settle(&mapping, &destination)?;
        return Ok(());
    };
    match settle(&mapping, &destination) {
        Ok(Settled::OfOtherColumns(rows)) if rows > 0 => of_other_columns(&mapping, rows),
        Ok(_) => {}
        Err(error) if old.is_some() => return Err(error),
        Err(_) => return forgotten(&mapping, &destination, rows),
    }
    match (before, VersionsIn::of(&mapping, &destination)) {
        // Without the columns, the versions are lost.
        (VersionsIn::Columns, VersionsIn::Table) if !has_guard_columns(&destination) => {}
        (VersionsIn::Columns, VersionsIn::Table) => copy(&mapping, &destination)?,
        (VersionsIn::Table, VersionsIn::Columns) => clear(&mapping, &destination)?,
        _ => {}
    }
    if rows > 0 {
        taken_over(&mapping, rows);
    }
    Ok(())
}

/// Takes over the versions of the removed mapping of the same destination and owner whose source is the same, or has
/// tables in common, if there is one. Returns the place of the versions of its rows, and how many are in
/// `sequin.row_version`.
fn take_over(
    mapping: &Mapping,
    destination: &Destination,
) -> Result<Option<(VersionsIn, i64)>, Error> {
    let what = || "take over versions".to_owned();
    if VersionsIn::of(mapping, destination) == VersionsIn::Nowhere {
        return Ok(None);
    }
    if !find_former(mapping, destination).map_err(own_statement(what()))? {
        return Ok(None);
    }
    let empty = {
        let _owner = ActingAs::untrusted(writer(mapping, destination));
        let sql = format!(
            "select not exists (select from {})",
            destination.qualified_name()
        );
        Spi::get_one::<bool>(&sql).map_err(own_statement(what()))?
    };
    let sql =
        "select in_columns, rows from sequin_internal.take_over($1, $2) where former is not null";
    Spi::connect_mut(|client| {
        let args = [mapping.id.into(), empty.unwrap_or_default().into()];
        let taken = client.update(sql, None, &args)?;
        if taken.is_empty() {
            return Ok(None);
        }
        let (in_columns, rows) = taken.first().get_two::<bool, i64>()?;
        let place = match in_columns {
            Some(true) => VersionsIn::Columns,
            _ => VersionsIn::Table,
        };
        Ok(Some((place, rows.unwrap_or_default())))
    })
    .map_err(own_statement(what()))
}

/// Whether there is such a mapping: it gets the source of this one. Tells of others to the destination, whose versions are
/// not used.
fn find_former(mapping: &Mapping, destination: &Destination) -> Result<bool, pgrx::spi::Error> {
    let sql = "select f.id, f.source from sequin.former_mapping f
               where f.destination::oid = $1 and f.owner::oid = $2 order by f.removed_at desc, f.id desc";
    let args = [destination.oid.into(), mapping.owner_oid().into()];
    let mut found: Vec<(i32, SourcePattern, String)> = Spi::connect(|client| {
        let rows = client.select(sql, None, &args)?;
        let rows = rows.map(|row| {
            let source = row.get::<String>(2)?.unwrap_or_default();
            let pattern = SourcePattern::parse(&source).ok();
            Ok(pattern.map(|pattern| {
                (
                    row.get(1).ok().flatten().unwrap_or_default(),
                    pattern,
                    source,
                )
            }))
        });
        rows.filter_map(Result::transpose)
            .collect::<Result<_, pgrx::spi::Error>>()
    })?;
    let same = found
        .iter()
        .position(|(_, source, _)| *source == mapping.source);
    let common = || {
        found
            .iter()
            .position(|(_, source, _)| source.overlaps(&mapping.source))
    };
    let taken = same.or_else(common).map(|i| found.remove(i));
    if !found.is_empty() {
        let sources: Vec<String> = found.into_iter().map(|(_, _, source)| source).collect();
        unused(mapping, destination, &sources);
    }
    let Some((id, ..)) = taken else {
        return Ok(false);
    };
    let sql = "update sequin.former_mapping f set source = m.source from sequin.mapping m where f.id = $1 and m.id = $2";
    Spi::run_with_args(sql, &[id.into(), mapping.id.into()])?;
    Ok(true)
}

/// The key of the row `d`, as SQL.
fn row_key(mapping: &Mapping, destination: &Destination) -> String {
    let key = mapping.key_of(destination).iter();
    let columns: Vec<String> = key
        .map(|name| format!("d.{}", pgrx::spi::quote_identifier(name)))
        .collect();
    format!("sequin.row_key({})", columns.join(", "))
}

/// Clears guard columns with former versions, where `sequin.row_version` has newer ones.
fn clear(mapping: &Mapping, destination: &Destination) -> Result<(), SqlError> {
    if destination.shards.is_some() {
        deferred_at_once(mapping, destination)?;
        return versions_shards::clear(mapping);
    }
    let clearing = Finishing::new(mapping.id);
    let sql = format!(
        "update {} d set sequin_lsn = null, sequin_idx = null, sequin_committed_at = null
         where (d.sequin_lsn is not null or d.sequin_committed_at is not null)
           and sequin_internal.is_known({}, {}, $1)",
        destination.qualified_name(),
        mapping.id,
        row_key(mapping, destination)
    );
    deferred_at_once(mapping, destination)?;
    let _owner = ActingAs::untrusted(writer(mapping, destination));
    Spi::run_with_args(&sql, &[clearing.token.into()])
        .map_err(own_statement("clear the guard columns".to_owned()))?;
    Ok(())
}

/// Copies the versions in the guard columns to `sequin.row_version`.
fn copy(mapping: &Mapping, destination: &Destination) -> Result<(), SqlError> {
    let id = mapping.id;
    if destination.shards.is_some() {
        versions_shards::copy(mapping)?;
    } else {
        copy_here(mapping, destination)?;
    }
    let sql = format!("select count(*) from sequin.row_version v where v.mapping = {id}");
    let rows = Spi::get_one::<i64>(&sql)
        .map_err(own_statement(format!("run \"{sql}\"")))?
        .unwrap_or_default();
    if rows > 0 {
        tell(
            PgLogLevel::NOTICE,
            SqlError::new(
                sqlstate::SUCCESSFUL_COMPLETION,
                format!(
                    "the versions of {rows} rows of mapping \"{}\" are in sequin.row_version now",
                    mapping.name
                ),
            ),
        );
    }
    Ok(())
}

/// Does that where the rows are in the destination itself.
fn copy_here(mapping: &Mapping, destination: &Destination) -> Result<(), SqlError> {
    let id = mapping.id;
    let copying = Finishing::new(id);
    let sql = format!(
        "select count(*) from (
             select sequin_internal.note_version({id}, k.key, k.sequin_lsn, k.sequin_idx, k.sequin_committed_at, $1) as noted
             from (select {} as key, d.sequin_lsn, d.sequin_idx, d.sequin_committed_at
                   from {} d
                   where d.sequin_lsn is not null or d.sequin_committed_at is not null) k
             where k.key is not null offset 0) n
         where n.noted",
        row_key(mapping, destination),
        destination.qualified_name()
    );
    let _owner = ActingAs::untrusted(writer(mapping, destination));
    Spi::run_with_args(&sql, &[copying.token.into()]).map_err(own_statement(
        "copy versions from the guard columns".to_owned(),
    ))?;
    Ok(())
}

/// Tells that a new mapping has taken over versions.
fn taken_over(mapping: &Mapping, rows: i64) {
    tell(
        PgLogLevel::NOTICE,
        SqlError::new(
            sqlstate::SUCCESSFUL_COMPLETION,
            format!(
                "mapping \"{}\" takes over the versions of {rows} rows from the mapping before it",
                mapping.name
            ),
        )
        .with_hint(format!(
            "To start over, run: SELECT sequin.forget_versions({});",
            quote::literal(&mapping.name)
        )),
    );
}

/// Tells that versions of removed mappings stay where they are.
fn unused(mapping: &Mapping, destination: &Destination, sources: &[String]) {
    tell(
        PgLogLevel::NOTICE,
        SqlError::new(
            sqlstate::SUCCESSFUL_COMPLETION,
            format!(
                "mapping \"{}\" does not take over the versions of rows of {} that came from {}",
                mapping.name,
                destination.qualified_name(),
                sources.join(", ")
            ),
        )
        .with_detail(
            "They are kept for that source, and sequin.tombstone_retention. To an older change, such a row is new.",
        )
        .with_hint(format!(
            "If the source was renamed, run: SELECT sequin.begin_resync({0}); then start a backfill in Sequin, and run: SELECT \
             sequin.finish_resync({0}); Another time, change the source of the mapping: SELECT \
             sequin.alter_mapping({0}, source => …);",
            quote::literal(&mapping.name)
        )),
    );
}

/// The keys of a new mapping cannot be computed from the keys of the mapping before it.
fn forgotten(mapping: &Mapping, destination: &Destination, rows: i64) -> Result<(), SqlError> {
    let id = mapping.id;
    for table in ["tombstone", "home_source", "key_shape", "row_version"] {
        let sql = format!("delete from sequin.{table} where mapping = {id}");
        Spi::run(&sql).map_err(own_statement(format!("run \"{sql}\"")))?;
    }
    settle(mapping, destination)?;
    tell(
        PgLogLevel::WARNING,
        SqlError::new(
            sqlstate::WARNING,
            format!(
                "the versions of {rows} rows of the mapping before \"{}\" are forgotten",
                mapping.name
            ),
        )
        .with_detail(
            "They are kept by another key. Until the next message of a row, an older change is applied, and a \
             deleted row can come back.",
        )
        .with_hint(resync(mapping)),
    );
    Ok(())
}

/// Warns that the rows' former values in the key's columns are not known.
fn of_other_columns(mapping: &Mapping, rows: usize) {
    tell(
        PgLogLevel::WARNING,
        SqlError::new(
            sqlstate::WARNING,
            format!(
                "the versions of {rows} rows of mapping \"{}\" are kept by the key of the rows now",
                mapping.name
            ),
        )
        .with_detail(
            "Under which other values of the key the rows were before is not known: an older change with such a \
             value is applied.",
        )
        .with_hint(resync(mapping)),
    );
}

fn resync(mapping: &Mapping) -> String {
    let name = quote::literal(&mapping.name);
    format!(
        "Run: SELECT sequin.begin_resync({name}); then start a backfill in Sequin, and run: SELECT \
         sequin.finish_resync({name});"
    )
}

fn tell(level: PgLogLevel, told: SqlError) {
    ErrorReport::from(told).report(level);
}
