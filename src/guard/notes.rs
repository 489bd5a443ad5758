//! Notes of the guard besides versions: tombstones and reads that will be pruned, and the rows that a
//! resync has seen.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::pg::clock;
use crate::pg::spi::Plan;
use crate::pg::tuples::Rows;
use crate::pg::user::ActingAs;
use crate::prepared::{BatchRow, Kept};
use crate::settings;

const TOMBSTONE: &str = "
    insert into sequin.tombstone (mapping, key)
    select b.mapping, b.key from sequin_internal.batch() b(mapping integer, key bytea)
    on conflict do nothing";

const READ: &str = "
    insert into sequin.row_version as v (mapping, key, read_at)
    select b.mapping, b.key, b.read_at
    from sequin_internal.batch() b(mapping integer, key bytea, read_at timestamptz)
    on conflict (mapping, key) do update set read_at = excluded.read_at";

const CONFIRMED: &str = "
    insert into sequin.resync_seen (mapping, key)
    select b.mapping, b.key from sequin_internal.batch() b(mapping integer, key bytea)
    on conflict do nothing";

/// Does not wait for a call that notes the same.
const FIRST_READ: &str = "
    update sequin.resync r set first_read_at = clock_timestamp()
    where r.ctid = any (array(
        select o.ctid from sequin.resync o
        where o.mapping in (select b.mapping from sequin_internal.batch() b(mapping integer)) and o.first_read_at is null
        for update skip locked))";

const KEY: &[(&str, pg_sys::Oid)] = &[("mapping", pg_sys::INT4OID), ("key", pg_sys::BYTEAOID)];

thread_local! {
    static NOTE_TOMBSTONE: Kept = const { Kept::new(TOMBSTONE, KEY) };
    static NOTE_READ: Kept = const {
        Kept::new(
            READ,
            &[
                ("mapping", pg_sys::INT4OID),
                ("key", pg_sys::BYTEAOID),
                ("read_at", pg_sys::TIMESTAMPTZOID),
            ],
        )
    };
    static NOTE_CONFIRMED: Kept = const { Kept::new(CONFIRMED, KEY) };
    static NOTE_FIRST_READ: Kept = const { Kept::new(FIRST_READ, &[("mapping", pg_sys::INT4OID)]) };
    static PRUNED: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn key_row(mapping: i32, key: &[u8]) -> BatchRow {
    vec![Some(Datum::from(mapping)), key.into_datum()]
}

/// Queues tombstones, and notes of reads, for pruning. The caller acts as the extension's owner.
pub fn note_tombstones(mapping: i32, keys: &[&[u8]]) -> Result<(), SqlError> {
    if keys.is_empty() {
        return Ok(());
    }
    NOTE_TOMBSTONE
        .with(|statement| statement.execute(keys.iter(), |key| key_row(mapping, key)))
        .map(drop)
}

/// With guard columns: notes the times of reads of rows whose columns hold the time of a change.
pub fn note_reads(
    mapping: i32,
    definer: pg_sys::Oid,
    reads: &[(Vec<u8>, Option<i64>)],
) -> Result<(), SqlError> {
    if reads.is_empty() {
        return Ok(());
    }
    let _definer = ActingAs::new(definer, false);
    NOTE_READ.with(|statement| {
        statement.execute(reads.iter(), |(key, read_at)| {
            let mut row = key_row(mapping, key);
            row.push(clock::datum(*read_at));
            row
        })
    })?;
    let keys: Vec<&[u8]> = reads.iter().map(|(key, _)| key.as_slice()).collect();
    note_tombstones(mapping, &keys)
}

/// Notes that these rows exist at the source. Returns how many of the notes are new.
pub fn note_confirmed(mapping: i32, definer: pg_sys::Oid, keys: &[&[u8]]) -> Result<u64, SqlError> {
    let _definer = ActingAs::new(definer, false);
    NOTE_CONFIRMED
        .with(|statement| statement.execute(keys.iter(), |key| key_row(mapping, key)))
        .map(|outcome| outcome.processed)
}

/// Notes that a read of a resync has arrived.
pub fn note_first_read(mapping: i32, definer: pg_sys::Oid) -> Result<(), SqlError> {
    let _definer = ActingAs::new(definer, false);
    NOTE_FIRST_READ
        .with(|statement| {
            statement.execute([mapping].into_iter(), |mapping| {
                vec![Some(Datum::from(mapping))]
            })
        })
        .map(drop)
}

/// How long a session waits between two prunings.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Whether a session should look for tombstones to prune.
pub fn is_prune_due() -> bool {
    PRUNED.get().is_none_or(|at| at.elapsed() >= PRUNE_EVERY)
}

/// Prunes tombstones older than `sequin.tombstone_retention`: a thousand at a time, the oldest
/// first. It is done last, so that it makes no other call wait for this one.
pub fn prune() -> Result<(), SqlError> {
    PRUNED.set(Some(Instant::now()));
    let retention = settings::tombstone_retention();
    let cutoff = format!("pg_catalog.now() - {retention} * interval '1 second'");
    let mut plan = Plan::prepare(&format!(
        "with old as materialized (
             select t.ctid as place, t.mapping, t.key from sequin.tombstone t
             where t.made_at < {cutoff} order by t.made_at limit 1000 for update skip locked),
         line as (delete from sequin.tombstone t using old where t.ctid = old.place),
         gone as materialized (
             select v.ctid as place from old
             join sequin.row_version v on v.mapping = old.mapping and v.key = old.key
             where v.deleted and (v.committed_at is null or v.committed_at < {cutoff})
                or v.source is null and v.read_at < {cutoff}
             for update of v skip locked)
         delete from sequin.row_version v using gone where v.ctid = gone.place"
    ))?;
    plan.run(Rows::new())?;
    prune_former(&cutoff)
}

/// Prunes the versions of mappings that were removed before `cutoff`, as many.
fn prune_former(cutoff: &str) -> Result<(), SqlError> {
    let mut plan = Plan::prepare(&format!(
        "with former as materialized (
             select f.id from sequin.former_mapping f where f.removed_at < {cutoff} limit 1 for update skip locked),
         old as materialized (
             select v.mapping, v.key from sequin.former_version v
             where v.mapping = (select f.id from former f) limit 1000),
         gone as (delete from sequin.former_version v using old where v.mapping = old.mapping and v.key = old.key)
         delete from sequin.former_mapping f using former
         where f.id = former.id and not exists (select from old)"
    ))?;
    plan.run(Rows::new()).map(drop)
}
