//! Brings a destination back in line with its source. In a resync, a backfill confirms every row of the
//! source, and the rows that no message confirmed are deleted. Forgetting versions lets a source start over.

#![forbid(unsafe_code)]

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::finishing::Finishing;
use super::own_statement;
use super::resync_shards::Sharded;
use super::resync_shared::{Elsewhere, cleared};
use super::run::one;
use crate::destination::Destination;
use crate::error::{Error, SqlError};
use crate::guard::rekey::{self, Settled};
use crate::mapping::catalog::{self, mine};
use crate::mapping::faults::since_changed;
use crate::mapping::grants::{internal_functions, writer};
use crate::mapping::versions::VersionsIn;
use crate::mapping::{Mapping, Mode, OnDelete};
use crate::pg::constraints::check_at_once;
use crate::pg::invalidation;
use crate::pg::isolation::{is_snapshot, require_writable};
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::user::{ActingAs, is_restricted};
use crate::stop::Stop;
use crate::target::mark::Mark;

/// Takes the exclusive lock on the mapping. Calls that apply messages to the mapping have then ended, and new
/// ones wait until this transaction ends.
pub(super) fn lock(mapping: &Mapping) {
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

/// The time of a resync as its errors tell it.
fn time(column: &str, id: i32) -> Result<Option<String>, Error> {
    one(
        &format!("select r.{column}::text from sequin.resync r where r.mapping = {id}"),
        &[],
    )
}

/// Whether the mapping has rows that a read can confirm. In a transaction that sees the past, confirmations
/// of others would be missing.
pub(super) fn require_confirmable(mapping: &Mapping) -> Result<(), Error> {
    if is_snapshot() {
        return Err(Error::Isolation {
            function: "a resync",
        });
    }
    match mapping.mode {
        Mode::Upsert => Ok(()),
        Mode::Append => Err(Error::NothingToConfirm {
            name: mapping.name.clone(),
        }),
    }
}

/// `sequin.begin_resync(mapping)`: from now on, the extension records the rows that messages confirm.
///
/// Returns the start time. It is an error if a resync is in progress.
#[pg_extern(sql = false)]
fn begin_resync(mapping: Option<&str>) -> Result<TimestampWithTimeZone, ErrorReport> {
    require_writable("begin a resync")?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    require_confirmable(&mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    lock(&mapping);
    let id = mapping.id;
    if let Some(since) = time("started_at", id)? {
        let confirmed = count(
            &format!(
                "select coalesce(sum(c.confirmed), 0)::bigint
                     - (select r.confirmed_before from sequin.resync r where r.mapping = {id})
                 from sequin.counter c where c.mapping = {id}"
            ),
            &[],
        )?;
        return Err(Error::ResyncUnderWay {
            name: mapping.name,
            since,
            confirmed,
        }
        .into());
    }
    execute(&format!(
        "delete from sequin.resync_seen where mapping = {id}"
    ))?;
    execute(&format!(
        "insert into sequin.resync (mapping, confirmed_before)
         select {id}, coalesce(sum(c.confirmed), 0) from sequin.counter c where c.mapping = {id}"
    ))?;
    invalidation::announce(catalog::relation());
    let started = Spi::get_one::<TimestampWithTimeZone>(&format!(
        "select started_at from sequin.resync where mapping = {id}"
    ));
    Ok(started.ok().flatten().expect("just written"))
}

/// `sequin.finish_resync(mapping, dry_run, min_confirmed)`: deletes the rows that no message has confirmed since
/// [`begin_resync`], in the way that the mapping's `on_delete` sets, and returns their number. A dry run only
/// counts the rows. Refuses if less than the share of the rows was confirmed, or no read has come.
#[pg_extern(sql = false)]
fn finish_resync(
    mapping: Option<&str>,
    dry_run: Option<bool>,
    min_confirmed: Option<f64>,
) -> Result<i64, ErrorReport> {
    require_writable("finish a resync")?;
    let dry_run = dry_run.ok_or(Error::NullArgument {
        argument: "dry_run",
    })?;
    let share = share(min_confirmed)?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    require_confirmable(&mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    lock(&mapping);
    require_begun(&mapping)?;
    let gone = match mapping.destination_oid().and_then(Destination::load) {
        Some(destination) => {
            settle(&mapping, &destination)?;
            let rows = Compared::new(&mapping, &destination)?;
            if dry_run {
                let standing = rows.count()?;
                if let Err(error) = standing.require(&rows, share) {
                    ErrorReport::from(SqlError::from(error)).report(PgLogLevel::NOTICE);
                }
                standing.unconfirmed()
            } else if mapping.on_delete == OnDelete::Ignore {
                0
            } else {
                if share > 0.0 {
                    rows.count()?.require(&rows, share)?;
                }
                rows.remove("true")?
            }
        }
        None => 0,
    };
    if !dry_run {
        forget(mapping.id, None)?;
    }
    Ok(gone)
}

/// `sequin.cancel_resync(mapping)`: ends a resync and deletes no rows.
#[pg_extern(sql = false)]
fn cancel_resync(mapping: Option<&str>) -> Result<(), ErrorReport> {
    require_writable("cancel a resync")?;
    let _settings = Settings::new(PINNED);
    let mapping = mine(mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    lock(&mapping);
    require_begun(&mapping)?;
    forget(mapping.id, Some(SEEN))?;
    Ok(())
}

/// The share of the rows that must be confirmed.
pub(super) fn share(min_confirmed: Option<f64>) -> Result<f64, Error> {
    let share = min_confirmed.ok_or(Error::NullArgument {
        argument: "min_confirmed",
    })?;
    match (0.0..=1.0).contains(&share) {
        true => Ok(share),
        false => Err(Error::NoShare {
            share: share.to_string(),
        }),
    }
}

/// Checks that a resync of the mapping is in progress.
pub(super) fn require_begun(mapping: &Mapping) -> Result<(), Error> {
    let begun = format!(
        "select count(*) from sequin.resync where mapping = {}",
        mapping.id
    );
    match count(&begun, &[])? {
        0 => Err(Error::NoResync {
            name: mapping.name.clone(),
        }),
        _ => Ok(()),
    }
}

/// How many notes of confirmed rows a short transaction removes. Notes of no resync are pruned.
pub(super) const SEEN: i64 = 10_000;

/// Ends the resync of a mapping (by id). Removes up to `most` of its notes. The caller holds the exclusive lock.
pub(super) fn forget(id: i32, most: Option<i64>) -> Result<(), Error> {
    execute(&format!("delete from sequin.resync where mapping = {id}"))?;
    forget_seen(id, most)?;
    invalidation::announce(catalog::relation());
    Ok(())
}

/// Removes up to `most` notes of confirmed rows. Returns how many.
pub(super) fn forget_seen(id: i32, most: Option<i64>) -> Result<i64, Error> {
    let limit = most.map_or("all".to_owned(), |most| most.to_string());
    let gone = format!(
        "with gone as (delete from sequin.resync_seen s where s.mapping = {id} and s.key = any (array(
             select o.key from sequin.resync_seen o where o.mapping = {id} limit {limit})) returning 1)
         select count(*) from gone"
    );
    let all = format!(
        "with gone as (delete from sequin.resync_seen s where s.mapping = {id} returning 1)
         select count(*) from gone"
    );
    count(if most.is_some() { &gone } else { &all }, &[])
}

/// Has deferred constraints and triggers come when a statement ends, if the writer may not defer. Triggers would else
/// run at commit, as the caller.
pub(super) fn deferred_at_once(
    mapping: &Mapping,
    destination: &Destination,
) -> Result<(), SqlError> {
    let at_once =
        destination.links.deferred_triggers || is_restricted(writer(mapping, destination));
    if destination.links.deferred && at_once {
        Spi::connect(|_| check_at_once())?;
    }
    Ok(())
}

/// The rows of a destination, for a resync to compare with the messages that have confirmed rows.
pub(super) struct Compared<'m> {
    mapping: &'m Mapping,
    destination: &'m Destination,
    pub(super) relation: String,
    /// SQL: the key of the row `d`.
    row_key: String,
    /// SQL: the row `d` is the mapping's, and not marked as deleted. `$1` is the token.
    pub(super) is_its: String,
    /// SQL: no message has confirmed the row `d`.
    pub(super) unconfirmed: String,
    mark: Option<Mark<'m>>,
    elsewhere: Elsewhere,
    /// A table of Citus is compared in another way.
    pub(super) sharded: Option<Sharded>,
}

/// How many rows there are, and how many were confirmed.
pub(super) struct Standing {
    pub(super) rows: i64,
    confirmed: i64,
}

impl Standing {
    fn unconfirmed(&self) -> i64 {
        self.rows - self.confirmed
    }

    /// Refuses to end a resync that has hardly confirmed anything.
    pub(super) fn require(&self, rows: &Compared<'_>, share: f64) -> Result<(), Error> {
        if share == 0.0 || self.unconfirmed() == 0 {
            return Ok(());
        }
        let id = rows.mapping.id;
        let read = time("first_read_at", id)?.is_some();
        if read && self.confirmed as f64 >= share * self.rows as f64 {
            return Ok(());
        }
        Err(Error::HardlyConfirmed {
            name: rows.mapping.name.clone(),
            destination: rows.relation.clone(),
            since: time("started_at", id)?.unwrap_or_default(),
            confirmed: self.confirmed,
            rows: self.rows,
            share: read.then(|| share.to_string()),
        })
    }
}

impl<'m> Compared<'m> {
    pub(super) fn new(
        mapping: &'m Mapping,
        destination: &'m Destination,
    ) -> Result<Compared<'m>, SqlError> {
        let id = mapping.id;
        let key = mapping.key_of(destination);
        let columns: Vec<_> = key
            .iter()
            .map(|name| format!("d.{}", pgrx::spi::quote_identifier(name)))
            .collect();
        let row_key = format!("sequin.row_key({})", columns.join(", "));
        let mark = Mark::of(mapping, destination);
        let faults = since_changed(mapping, destination, writer(mapping, destination));
        if !faults.is_empty() {
            let mapping = mapping.name.clone();
            return Err(Error::Broken { mapping, faults }.into());
        }
        let mut is_its = "true".to_owned();
        for column in &columns {
            is_its.push_str(&format!(" and {column} is not null"));
        }
        if let Some(mark) = mark {
            is_its.push_str(&format!(" and d.{} {}", mark.name(), mark.is_unset()));
        }
        // The resync leaves the rows of other mappings to the same table alone. Where versions live in the
        // destination, no column shows which mapping wrote a row.
        let others = catalog::to(destination.oid);
        let here = |it: &Mapping| it.id != id && it.destination == mapping.destination;
        let shared = others.iter().any(here);
        if shared {
            if VersionsIn::of(mapping, destination) != VersionsIn::Table {
                return Err(Error::SharedDestination {
                    name: mapping.name.clone(),
                }
                .into());
            }
            // Granted when the mapping was made, if it was made since there is this function.
            internal_functions(writer(mapping, destination));
            is_its.push_str(&format!(
                " and sequin_internal.has_row({id}, {id}, {row_key}, false, $1)"
            ));
        }
        let elsewhere = Elsewhere::of(mapping, destination, (&columns, &others));
        if elsewhere.cleared.is_some() && destination.shards.is_some() {
            return Err(Error::SharedDestination {
                name: mapping.name.clone(),
            }
            .into());
        }
        Ok(Compared {
            mapping,
            destination,
            relation: destination.qualified_name(),
            unconfirmed: format!("not sequin_internal.is_confirmed({id}, {row_key}, $1)"),
            row_key,
            is_its,
            mark,
            elsewhere,
            sharded: match &destination.shards {
                Some(_) => Some(Sharded::new(mapping, shared)?),
                None => None,
            },
        })
    }

    /// Runs a query over the rows as their writer, with the resync's token for `$1`.
    pub(super) fn query<T>(
        &self,
        sql: &str,
        read: impl FnOnce(pgrx::spi::SpiTupleTable<'_>) -> Result<T, pgrx::spi::Error>,
    ) -> Result<T, Error> {
        let finishing = Finishing::new(self.mapping.id);
        let _owner = ActingAs::untrusted(writer(self.mapping, self.destination));
        // Not read-only for SPI: see `count`.
        Spi::connect_mut(|client| {
            read(client.update(sql, None, &[finishing.token.into()])?.first())
        })
        .map_err(own_statement(
            "compare the rows of a destination".to_owned(),
        ))
    }

    /// Counts all rows.
    pub(super) fn count(&self) -> Result<Standing, SqlError> {
        if let Some(sharded) = &self.sharded {
            let (rows, confirmed) = sharded.count()?;
            return Ok(Standing { rows, confirmed });
        }
        let sql = format!(
            "select count(*), count(*) filter (where {}) from {} d where {}",
            self.unconfirmed, self.relation, self.is_its
        );
        self.query(&sql, |row| {
            let (rows, unconfirmed) = row.get_two::<i64, i64>()?;
            let rows = rows.unwrap_or_default();
            Ok(Standing {
                rows,
                confirmed: rows - unconfirmed.unwrap_or_default(),
            })
        })
        .map_err(SqlError::from)
    }

    /// Deletes the rows that no message has confirmed and for which the condition holds, or marks them. The
    /// caller holds the exclusive lock on the mapping. Returns how many.
    pub(super) fn remove(&self, condition: &str) -> Result<i64, SqlError> {
        let (id, relation, row_key) = (self.mapping.id, &self.relation, &self.row_key);
        deferred_at_once(self.mapping, self.destination)?;
        if let Some(sharded) = &self.sharded {
            return sharded.remove_all();
        }
        let all = format!("{condition} and {} and {}", self.unconfirmed, self.is_its);
        let Elsewhere {
            cleared: elsewhere,
            left,
        } = &self.elsewhere;
        let rows = match left {
            Some(left) => format!("{all} and not {left}"),
            None => all.clone(),
        };
        let versions = match VersionsIn::of(self.mapping, self.destination) {
            VersionsIn::Columns => "d.sequin_lsn, d.sequin_idx, d.sequin_committed_at",
            _ => "null::bigint, null::integer, null::timestamptz",
        };
        let change = match self.mark {
            Some(mark) => format!(
                "update {relation} d set {} = {} where {rows}",
                mark.name(),
                mark.value_now()
            ),
            None => format!("delete from {relation} d where {rows}"),
        };
        let returning = format!("returning {row_key} as key, {versions}");
        let gone = match elsewhere {
            None => format!("removed as ({change} {returning})"),
            Some(elsewhere) => format!(
                "deleted as ({change} and not {elsewhere} {returning}),
                 cleared as (update {relation} d set {} where {rows} and {elsewhere} {returning}),
                 removed as (select * from deleted union all select * from cleared)",
                cleared(self.mapping, self.destination)
            ),
        };
        let left = left.as_ref().map_or(String::new(), |left| {
            format!(
                "union all select {row_key}, {versions} from {relation} d where {all} and {left}"
            )
        });
        let change = format!(
            "with {gone},
                  gone as (select * from removed {left}),
                  noted as (select sequin_internal.note_gone({id}, g.key, g.sequin_lsn, g.sequin_idx,
                                                    g.sequin_committed_at, $1)
                            from gone g(key, sequin_lsn, sequin_idx, sequin_committed_at))
             select count(*) from noted"
        );
        Ok(self
            .query(&change, |row| row.get_one())?
            .unwrap_or_default())
    }
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
