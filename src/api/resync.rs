//! Brings a destination back in line with its source. In a resync, a backfill confirms every row of the
//! source, and the rows that no message confirmed are deleted. Forgetting versions lets a source start over.

#![forbid(unsafe_code)]

use std::cell::Cell;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::own_statement;
use crate::destination::Destination;
use crate::error::{Error, SqlError};
use crate::guard::rekey::{self, Settled};
use crate::mapping::catalog::{self, mine};
use crate::mapping::grants::writer;
use crate::mapping::versions::VersionsIn;
use crate::mapping::{Mapping, OnDelete};
use crate::pg::constraints::check_at_once;
use crate::pg::invalidation;
use crate::pg::isolation::require_writable;
use crate::pg::keys::{extension_owner, random};
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::user::{ActingAs, is_restricted};
use crate::stop::Stop;
use crate::target::column_gone;
use crate::target::mark::Mark;

/// Takes the exclusive lock on the mapping. Calls that apply messages to the mapping have then ended, and new
/// ones wait until this transaction ends.
fn lock(mapping: &Mapping) {
    invalidation::lock_mapping(catalog::relation(), mapping.id, true);
}

/// Makes the stored keys fit the mapping's key. The caller holds the exclusive lock on the mapping.
pub(super) fn settle(mapping: &Mapping, destination: &Destination) -> Result<Settled, SqlError> {
    let _connection = Connection::open();
    match rekey::settle(mapping, destination, true) {
        Ok(settled) => Ok(settled),
        Err(Stop::Failed(error)) => Err(error),
        Err(Stop::BeginAgain(_)) => unreachable!("the lock is exclusive"),
    }
}

fn execute(sql: &str) -> Result<(), Error> {
    Spi::run(sql).map_err(own_statement(format!("run \"{sql}\"")))
}

// Not read-only for SPI, so that the query sees the changes of transactions that this call has waited for.
fn count(sql: &str, arguments: &[DatumWithOid<'_>]) -> Result<i64, Error> {
    Spi::connect_mut(|client| client.update(sql, None, arguments)?.first().get_one())
        .map(Option::unwrap_or_default)
        .map_err(own_statement(format!("run \"{sql}\"")))
}

/// `sequin.begin_resync(mapping)`: from now on, the extension records the rows that messages confirm.
///
/// Returns the start time. A resync that is already in progress starts over.
#[pg_extern(sql = false)]
fn begin_resync(mapping: Option<&str>) -> Result<TimestampWithTimeZone, ErrorReport> {
    require_writable("begin a resync")?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    lock(&mapping);
    let id = mapping.id;
    execute(&format!(
        "delete from sequin.resync_seen where mapping = {id}"
    ))?;
    execute(&format!(
        "insert into sequin.resync (mapping, confirmed_before)
         select {id}, coalesce(sum(c.confirmed), 0) from sequin.counter c where c.mapping = {id}
         on conflict (mapping) do update set started_at = pg_catalog.clock_timestamp(),
                                             confirmed_before = excluded.confirmed_before"
    ))?;
    invalidation::announce(catalog::relation());
    let started = Spi::get_one::<TimestampWithTimeZone>(&format!(
        "select started_at from sequin.resync where mapping = {id}"
    ));
    Ok(started.ok().flatten().expect("just written"))
}

/// `sequin.finish_resync(mapping, dry_run)`: deletes the rows that no message has confirmed since
/// [`begin_resync`], in the way that the mapping's `on_delete` sets, and returns their number. A dry run only
/// counts the rows.
#[pg_extern(sql = false)]
fn finish_resync(mapping: Option<&str>, dry_run: Option<bool>) -> Result<i64, ErrorReport> {
    require_writable("finish a resync")?;
    let dry_run = dry_run.ok_or(Error::NullArgument {
        argument: "dry_run",
    })?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    lock(&mapping);
    let id = mapping.id;
    let begun = format!("select count(*) from sequin.resync where mapping = {id}");
    if count(&begun, &[])? == 0 {
        return Err(Error::NoResync { name: mapping.name }.into());
    }
    let gone = match mapping.destination_oid().and_then(Destination::load) {
        Some(destination) => {
            settle(&mapping, &destination)?;
            unconfirmed(&mapping, &destination, dry_run)?
        }
        None => 0,
    };
    if !dry_run {
        execute(&format!(
            "delete from sequin.resync_seen where mapping = {id}"
        ))?;
        execute(&format!("delete from sequin.resync where mapping = {id}"))?;
        invalidation::announce(catalog::relation());
    }
    Ok(gone)
}

thread_local! {
    static FINISHING: Cell<Option<(i32, i64)>> = const { Cell::new(None) };
}

/// While the value lives, this session is finishing a resync of a mapping, or carries its versions to another
/// guard.
pub(super) struct Finishing {
    /// A random number, which only the resync's own statement knows.
    pub(super) token: i64,
    before: Option<(i32, i64)>,
}

impl Finishing {
    pub(super) fn new(mapping: i32) -> Finishing {
        let token = random();
        Finishing {
            token,
            before: FINISHING.replace(Some((mapping, token))),
        }
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        FINISHING.set(self.before);
    }
}

/// `sequin_internal.in_resync(mapping, token)`: true for the statement that finishes a resync of the mapping right
/// now. Any other call is an error, also by a trigger that the statement fires.
#[pg_extern(sql = false)]
fn in_resync(mapping: Option<i32>, token: Option<i64>) -> Result<bool, ErrorReport> {
    match FINISHING.get() {
        Some((of, its)) if mapping == Some(of) && token == Some(its) => Ok(true),
        _ => Err(Error::OutsideResync.into()),
    }
}

/// Has deferred constraints and triggers come when a statement ends, if the writer may not defer. Triggers would else
/// run at commit, as the caller.
pub(super) fn deferred_at_once(
    mapping: &Mapping,
    destination: &Destination,
) -> Result<(), SqlError> {
    let at_once = destination.deferred_triggers || is_restricted(writer(mapping, destination));
    if destination.deferred && at_once {
        Spi::connect(|_| check_at_once())?;
    }
    Ok(())
}

/// Counts or deletes the rows of the destination that no message has confirmed.
fn unconfirmed(
    mapping: &Mapping,
    destination: &Destination,
    dry_run: bool,
) -> Result<i64, ErrorReport> {
    let id = mapping.id;
    let key = mapping.key_of(destination);
    let columns: Vec<_> = key
        .iter()
        .map(|name| format!("d.{}", pgrx::spi::quote_identifier(name)))
        .collect();
    let row_key = format!("sequin.row_key({})", columns.join(", "));
    let relation = destination.qualified_name();
    let mark = Mark::of(mapping, destination);
    if mapping.on_delete == OnDelete::Soft && mark.is_none() {
        let name = mapping.soft_delete.as_deref().unwrap_or_default();
        return Err(column_gone(mapping, destination, name).into());
    }
    let mut rows = format!("not sequin_internal.is_confirmed({id}, {row_key}, $1)");
    // The resync leaves the rows of other mappings to the same table alone. Where versions live in the
    // destination, no column shows which mapping wrote a row.
    let others = format!(
        "select count(*) from sequin.mapping where destination = {}::oid and id <> {id}",
        destination.oid.to_u32()
    );
    if count(&others, &[])? > 0 {
        if VersionsIn::of(mapping, destination) != VersionsIn::Table {
            return Err(Error::SharedDestination {
                name: mapping.name.clone(),
            }
            .into());
        }
        rows.push_str(&format!(
            " and sequin_internal.is_known({id}, {row_key}, $1)"
        ));
    }
    for column in &columns {
        rows.push_str(&format!(" and {column} is not null"));
    }
    if let Some(mark) = mark {
        rows.push_str(&format!(" and d.{} {}", mark.name(), mark.is_unset()));
    }
    let finishing = Finishing::new(id);
    let token = [finishing.token.into()];
    if !dry_run {
        deferred_at_once(mapping, destination)?;
    }
    let _owner = ActingAs::untrusted(writer(mapping, destination));
    if dry_run || mapping.on_delete == OnDelete::Ignore {
        let found = format!("select count(*) from {relation} d where {rows}");
        let found = count(&found, &token)?;
        return Ok(if dry_run { found } else { 0 });
    }
    let versions = match VersionsIn::of(mapping, destination) {
        VersionsIn::Columns => "d.sequin_lsn, d.sequin_idx, d.sequin_committed_at",
        _ => "null::bigint, null::integer, null::timestamptz",
    };
    let change = match mark {
        Some(mark) => format!(
            "update {relation} d set {} = {} where {rows}",
            mark.name(),
            mark.value_now()
        ),
        None => format!("delete from {relation} d where {rows}"),
    };
    let change = format!(
        "with gone as ({change} returning {row_key} as key, {versions}),
              noted as (select sequin_internal.note_gone({id}, g.key, g.sequin_lsn, g.sequin_idx,
                                                g.sequin_committed_at, $1)
                        from gone g(key, sequin_lsn, sequin_idx, sequin_committed_at))
         select count(*) from noted"
    );
    Ok(count(&change, &token)?)
}

/// `sequin.accept_drift(mapping)`: the records of the mapping's sources are as they should be. Returns how many keys
/// drifted.
#[pg_extern(sql = false)]
fn accept_drift(mapping: Option<&str>) -> Result<i64, ErrorReport> {
    require_writable("accept the drift of a mapping")?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    let accept = format!(
        "with accepted as (
             update sequin.record_key set drift = case when drift <> 'not_taken' then 'accepted' end
             where mapping = {} and drift in ('not_taken', 'lacking', 'suspected') returning key)
         select pg_catalog.count(distinct key) from accepted",
        mapping.id
    );
    Ok(count(&accept, &[])?)
}

/// `sequin.forget_versions(mapping)`: deletes the row versions of the mapping, so that the next message of
/// each row is applied whatever its position. This is for a source whose LSNs started over after a restore,
/// and for a destination that was altered by hand. The rows stay.
#[pg_extern(sql = false)]
fn forget_versions(mapping: Option<&str>) -> Result<(), ErrorReport> {
    require_writable("forget versions")?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    lock(&mapping);
    let id = mapping.id;
    for table in ["row_version", "tombstone", "home_source"] {
        execute(&format!("delete from sequin.{table} where mapping = {id}"))?;
    }
    if let Some(destination) = mapping.destination_oid().and_then(Destination::load)
        && VersionsIn::of(&mapping, &destination) == VersionsIn::Columns
    {
        deferred_at_once(&mapping, &destination)?;
        let _owner = ActingAs::untrusted(writer(&mapping, &destination));
        execute(&format!(
            "update {} set sequin_lsn = null, sequin_idx = null, sequin_committed_at = null
             where sequin_lsn is not null or sequin_committed_at is not null",
            destination.qualified_name()
        ))?;
    }
    invalidation::announce(catalog::relation());
    Ok(())
}
