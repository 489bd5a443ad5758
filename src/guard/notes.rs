//! Notes of the guard besides versions: tombstones and reads that will be pruned, and the rows that a
//! resync has seen.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::pg_sys::{self, Datum};
use pgrx::{IntoDatum, Spi};

use crate::error::SqlError;
use crate::pg::absent::{Table, insert_absent};
use crate::pg::clock;
use crate::pg::row_version::tombstones;
use crate::pg::user::ActingAs;
use crate::prepared::{BatchRow, Kept, RowReader};
use crate::settings;

const TOMBSTONE: &str = "
    insert into sequin.tombstone (mapping, key)
    select b.mapping, b.key from sequin_internal.batch() b(mapping integer, key bytea)
    on conflict do nothing";

const READ: &str = "
    insert into sequin.row_version as v (mapping, key, read_at)
    select b.mapping, b.key, b.read_at
    from sequin_internal.batch() b(mapping integer, key bytea, read_at timestamptz)
    on conflict (mapping, key) do update set read_at = excluded.read_at
    where v.lsn is null and v.committed_at is null and not v.deleted and v.image is null and v.gone is null
      and v.gaps is null";

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

const PRUNING: &[(&str, pg_sys::Oid)] = &[
    ("cutoff", pg_sys::TIMESTAMPTZOID),
    ("most", pg_sys::INT8OID),
];

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
    static LOOK: Kept = const { Kept::new(ANY_DUE, PRUNING) };
    static PRUNED_VERSIONS: Kept = const { Kept::new(PRUNE_VERSIONS, PRUNING) };
    static PRUNED_FORMER: Kept = const { Kept::new(PRUNE_FORMER, PRUNING) };
    static PRUNED_SEEN: Kept = const { Kept::new(PRUNE_SEEN, PRUNING) };
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
    let tombstones = Table {
        relations: tombstones(),
        partial: None,
        columns: &[
            ("made_at", pg_sys::TIMESTAMPTZOID),
            ("mapping", pg_sys::INT4OID),
            ("key", pg_sys::BYTEAOID),
        ],
    };
    let before = [clock::statement_start(), Datum::from(mapping)];
    if insert_absent(&tombstones, &before, keys, |key| key, |_| Vec::new())? {
        return Ok(());
    }
    NOTE_TOMBSTONE
        .with(|statement| statement.execute(keys.iter(), |key| key_row(mapping, key)))
        .map(drop)
}

/// With guard columns: notes the times of reads of rows whose columns hold the time of a change. Returns whether all
/// are noted: an entry that says more stays as another call has written it.
pub fn note_reads(
    mapping: i32,
    definer: pg_sys::Oid,
    reads: &[(Vec<u8>, Option<i64>)],
) -> Result<bool, SqlError> {
    if reads.is_empty() {
        return Ok(true);
    }
    let _definer = ActingAs::new(definer, false);
    let noted = NOTE_READ.with(|statement| {
        statement.execute(reads.iter(), |(key, read_at)| {
            let mut row = key_row(mapping, key);
            row.push(clock::datum(*read_at));
            row
        })
    })?;
    let keys: Vec<&[u8]> = reads.iter().map(|(key, _)| key.as_slice()).collect();
    note_tombstones(mapping, &keys)?;
    Ok(noted.processed as usize == reads.len())
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

/// How long a session waits between two prunings, if the first left nothing.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Whether a session should look for rows to prune.
pub fn is_prune_due() -> bool {
    PRUNED.get().is_none_or(|at| at.elapsed() >= PRUNE_EVERY)
}

/// Notes that a session need not look for rows to prune for a while.
pub fn pruned_for_now() {
    PRUNED.set(Some(Instant::now()));
}

/// What [`prune`] did.
pub struct Pruned {
    /// How many rows it has removed.
    pub rows: i64,
    /// Whether more may be due.
    pub more: bool,
}

/// Whether anything may be due. Most of the time nothing is, and planning what prunes takes a session some milliseconds.
const ANY_DUE: &str = "
    select exists (select from sequin.tombstone t where t.made_at < b.cutoff)
           or exists (select from sequin.former_mapping f where f.removed_at < b.cutoff)
           or exists (select from sequin.resync_seen s order by s.mapping limit 1)
    from sequin_internal.batch() b(cutoff timestamptz, most bigint)";

/// Removes the oldest tombstones, and notes of reads, with their versions.
const PRUNE_VERSIONS: &str = "
    with b as materialized (
        select b.cutoff, b.most from sequin_internal.batch() b(cutoff timestamptz, most bigint)),
    old as materialized (
        select t.ctid as place, t.mapping, t.key from sequin.tombstone t
        where t.made_at < (select b.cutoff from b) order by t.made_at limit (select b.most from b)
        for update skip locked),
    due as materialized (
        select v.ctid as place, old.place as line from old
        join sequin.row_version v on v.mapping = old.mapping and v.key = old.key
        where v.deleted and (v.committed_at is null or v.committed_at < (select b.cutoff from b))
           or v.source is null and v.read_at < (select b.cutoff from b)),
    gone as materialized (
        select v.ctid as place, due.line from due join sequin.row_version v on v.ctid = due.place
        for update of v skip locked),
    line as (
        delete from sequin.tombstone t using old
        where t.ctid = old.place
          and old.place not in (select due.line from due except select gone.line from gone)),
    version as (delete from sequin.row_version v using gone where v.ctid = gone.place)
    select count(*) from old";

/// Removes versions of mappings that were removed themselves.
const PRUNE_FORMER: &str = "
    with b as materialized (
        select b.cutoff, b.most from sequin_internal.batch() b(cutoff timestamptz, most bigint)),
    former as materialized (
        select f.id from sequin.former_mapping f where f.removed_at < (select b.cutoff from b) limit 1
        for update skip locked),
    old as materialized (
        select v.mapping, v.key from sequin.former_version v
        where v.mapping = (select f.id from former f) limit (select b.most from b)),
    version as (delete from sequin.former_version v using old where v.mapping = old.mapping and v.key = old.key),
    gone as (
        delete from sequin.former_mapping f using former
        where f.id = former.id and not exists (select from old))
    select count(*) from old";

/// Removes what resyncs that have ended have noted. The mappings are found one by one, since a resync under way may
/// have as many notes as the destination has rows.
const PRUNE_SEEN: &str = "
    with recursive b as materialized (
        select b.most from sequin_internal.batch() b(cutoff timestamptz, most bigint)),
    m as (
        (select s.mapping from sequin.resync_seen s order by s.mapping limit 1)
        union all
        select (select s.mapping from sequin.resync_seen s where s.mapping > m.mapping order by s.mapping limit 1)
        from m where m.mapping is not null),
    ended as materialized (
        select m.mapping from m
        where m.mapping is not null and not exists (select from sequin.resync r where r.mapping = m.mapping)
        limit 1),
    old as materialized (
        select s.ctid as place from sequin.resync_seen s
        where s.mapping = (select e.mapping from ended e) limit (select b.most from b)
        for update skip locked),
    seen as (delete from sequin.resync_seen s using old where s.ctid = old.place)
    select count(*) from old";

/// Prunes what is older than `sequin.tombstone_retention`, up to `most` rows of each kind, the oldest first. It is
/// done last in a call, so that it makes no other call wait for this one.
pub fn prune(most: i64) -> Result<Pruned, SqlError> {
    let retention = settings::tombstone_retention().saturating_mul(1_000_000);
    let cutoff = clock::to_unix(clock::now()).saturating_sub(retention);
    let mut pruned = Pruned {
        rows: 0,
        more: false,
    };
    let arguments = || vec![clock::datum(Some(cutoff)), Some(Datum::from(most))];
    let found = LOOK.with(|statement| statement.query_of(arguments()))?;
    let mut row = RowReader::new(&found);
    if row.next() && row.bool(0) == Some(false) {
        return Ok(pruned);
    }
    for statement in [&PRUNED_VERSIONS, &PRUNED_FORMER, &PRUNED_SEEN] {
        let returned = statement.with(|statement| statement.query_of(arguments()))?;
        let mut row = RowReader::new(&returned);
        row.next();
        let rows = row.bigint(0).unwrap_or_default();
        pruned.rows += rows;
        pruned.more |= rows == most;
    }
    Ok(pruned)
}

/// How many tombstones are due.
pub fn due() -> Result<i64, SqlError> {
    let sql = format!(
        "select count(*) from sequin.tombstone t where t.made_at < clock_timestamp() - {} * interval '1 second'",
        settings::tombstone_retention()
    );
    let due = Spi::connect_mut(|client| client.update(&sql, None, &[])?.first().get_one::<i64>());
    Ok(due.ok().flatten().unwrap_or_default())
}
