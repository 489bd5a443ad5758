//! Letters that may succeed once the rows of this call are written.
//!
//! A call that writes rows which letters wait for retries these letters besides its own messages ([`find`]). When a
//! call runs out of time, it leaves its rows with waiting letters to later calls ([`leave`], [`take_over`]).

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use super::presence::{Presence, announced};
use crate::changes::Changes;
use crate::error::SqlError;
use crate::message::Version;
use crate::outcome::Wait;
use crate::pg::{clock, invalidation};
use crate::prepared::{BatchRow, Kept, Lookup, RowReader};

/// Letters that may succeed now. Keys are stored and compared as SHA-256 hashes. The query finds letters that
/// - wait for a row that was written, or for the row of another letter found so (`found`);
/// - wait for any row of a table that the call wrote;
/// - were not tried for a minute, if the batch relation has a row without a table (a sweep).
///
/// A letter comes after the letter whose row it waits for: the server finds the rows of a recursive query
/// level by level, and no more of them than are read. Letters that were tried after the row was written are
/// not found (`before`). Letters that failed often (1000 times, or 20 times if they wait for any row) are
/// tried at most once a minute.
macro_rules! find {
    ($or:literal) => {
        concat!(
            "
    with recursive t as materialized (
        select b.relation, coalesce(b.hash, sha256(b.key)) as key, b.hash is not null as hashed, b.before
        from sequin_internal.batch() b(relation oid, key bytea, hash bytea, before timestamptz)),
    found as (
        select l.id, l.mapping, l.row_key
        from (select t.relation, t.key,
                     max(coalesce(t.before, 'infinity')) as before
              from t where t.key is not null
              group by t.relation, t.key) t
        cross join lateral (
            (select l.* from sequin.dead_letter l
             where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for = t.key
               and (l.attempts < 1000 or l.last_attempt_at < now() - interval '1 minute')
               and l.last_attempt_at < t.before
             limit 2000)",
            $or,
            ") l
        union
        select l.id, l.mapping, l.row_key from found f
        join sequin.mapping m on m.name = f.mapping
        cross join lateral (
            select l.* from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = m.destination and l.waits_for = sha256(f.row_key)
            offset 0) l),
    due as (
        select u.id, min(u.n) as n from (
            (select f.id, row_number() over () as n from found f limit 2000)
            union all
            (select l.id, 2001 from (select t.relation, max(coalesce(t.before, 'infinity')) as before from t
                                     where t.key is not null and not t.hashed group by t.relation) t
             cross join lateral (
                select l.id from sequin.dead_letter l
                where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for is null
                  and (l.attempts < 20 or l.last_attempt_at < now() - interval '1 minute')
                  and l.last_attempt_at < t.before
                order by l.last_attempt_at limit 100) l)
            union all
            (select l.id, 2001 from sequin.dead_letter l
             where exists (select from t where t.key is null)
               and l.state in ('waiting', 'paused') and l.last_attempt_at < now() - interval '1 minute'
             order by l.last_attempt_at limit 100)) u
        group by u.id)
    select l.id, m.id, due.n from due
    join sequin.dead_letter l on l.id = due.id
    left join sequin.mapping m on m.name = l.mapping and m.enabled and m.on_error = 'dead_letter'
      and exists (select from pg_class c where c.oid = m.destination)
    order by due.n, l.id"
        )
    };
}

const FIND: &str = find!("");

const FIND_BY_VALUE: &str = find!(
    "
            union all
            (select l.* from sequin.mapping m cross join lateral (
                 select l.* from sequin.dead_letter l
                 where l.mapping = m.name and l.state = 'waiting' and l.waits_or is not null and l.waits_or = t.key
                   and (l.attempts < 1000 or l.last_attempt_at < now() - interval '1 minute')
                   and l.last_attempt_at < t.before
                 offset 0) l
             where m.destination = t.relation
             limit 2000)"
);

/// The most letters that [`FIND`] finds by row. Letters that wait for any row of a table are not counted.
const FOUND: i64 = 2000;

/// The letters that were kept while a mapping was paused or broken, the oldest first.
const KEPT: &str = "
    select l.id from sequin.dead_letter l
    where l.mapping = $1 and (l.state = 'paused' or l.state = 'waiting'
          and l.row_key is null and l.waits_on is null)
    order by l.id limit 20000";

/// The letters of [`KEPT`], by number.
pub fn kept_for(mapping: &str) -> Vec<i64> {
    KEPT_FOR.with(|query| {
        query.rows(&[mapping.into()], |row| {
            Ok(row.get::<i64>(1)?.unwrap_or_default())
        })
    })
}

/// The columns of [`Written::row`].
const WRITTEN: [(&str, pg_sys::Oid); 4] = [
    ("relation", pg_sys::OIDOID),
    ("key", pg_sys::BYTEAOID),
    ("hash", pg_sys::BYTEAOID),
    ("before", pg_sys::TIMESTAMPTZOID),
];

thread_local! {
    static KEPT_FOR: Lookup = const { Lookup::new(KEPT, &[pg_sys::BuiltinOid::TEXTOID]) };
    static FINDER: Kept = const { Kept::new(FIND, &WRITTEN).finding_few() };
    static BY_VALUE: Kept = const { Kept::new(FIND_BY_VALUE, &WRITTEN).finding_few() };
    static LEFT: Kept = const { Kept::new(LEAVE, &WRITTEN).finding_few() };
    static TAKEN: Kept = const { Kept::new(TAKE, &[("nothing", pg_sys::INT4OID)]) };
    static STILL_KEPT: Kept = const { Kept::new(KEPT_STILL, &[("id", pg_sys::INT8OID)]) };
    static SWEPT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How often a session also tries letters whose rows have not arrived.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// A row that the changes of a call concern.
pub struct Touched {
    pub table: pg_sys::Oid,
    pub key: Vec<u8>,
    /// What the row waits for; `None`: it is written.
    pub wait: Option<Wait>,
    /// The message that waits.
    pub by: Option<Waiting>,
}

/// A message of the call that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// Its number among those that wait.
    pub number: usize,
    /// Its position in the source.
    pub version: Option<Version>,
}

/// Adds the rows that a mapping's changes concern.
fn touched(changes: &Changes<'_>, presence: &Presence, rows: &mut Vec<Touched>) {
    let table = changes.target.destination.oid;
    let keyed = &changes.keyed;
    let brought = match changes.ledger.failures.is_empty() {
        true => HashMap::new(),
        false => changes.brought(),
    };
    let mut failed = HashSet::new();
    for failure in &changes.ledger.failures {
        // A message that moves its row may have written the row and only wait to delete it at its old key.
        if keyed.former_key(failure.message).is_none() {
            failed.insert(failure.message);
        }
        if failure.wait.is_some()
            && let Some(change) = keyed.of_subject(failure.message)
        {
            let brought = brought.get(&failure.message).into_iter().flatten().cloned();
            let moved = keyed
                .of_message(failure.message)
                .filter(|i| keyed.leaves(*i));
            let keys = std::iter::once(changes.table_key(change))
                .chain(moved.map(|i| changes.table_key(i)))
                .chain(brought);
            let by = Waiting {
                number: rows.len(),
                version: changes.intake.message(failure.message).version,
            };
            rows.extend(keys.map(|key| Touched {
                table,
                key,
                wait: failure.wait.clone(),
                by: Some(by),
            }));
        }
    }
    if !presence.wait_for(table) {
        return;
    }
    for net in changes.nets.list.iter() {
        // Although the message failed, an older change of its row may have been written.
        if !failed.contains(&net.message) || net.run.len() > 1 {
            let keys = std::iter::once(changes.table_key(net.run.start));
            let keys = keys.chain(changes.values_referred_to(net));
            rows.extend(keys.map(|key| Touched {
                table,
                key,
                wait: None,
                by: None,
            }));
        }
    }
}

/// A letter that may succeed now.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// The letter's number.
    pub letter: i64,
    /// The id of the letter's mapping.
    pub mapping: i32,
}

impl Due {
    /// The letter that a query has returned: its number, and the id of its mapping.
    pub(super) fn of(row: &RowReader<'_>) -> Option<Due> {
        let due = row.bigint(0).zip(row.int(1));
        due.map(|(letter, mapping)| Due { letter, mapping })
    }
}

/// A letter that may succeed now, although no row that it waits for was written.
#[derive(Debug)]
pub struct Candidate {
    pub due: Due,
    /// What the letter waits for, if that is known.
    pub waits_for: Option<Written>,
}

/// The rows that the changes of a call concern. Empty if no letter is waiting or paused.
pub fn rows_of(presence: &Presence, all: &[Changes<'_>]) -> Vec<Touched> {
    let mut rows: Vec<Touched> = Vec::new();
    if presence.any_waits() {
        for changes in all {
            touched(changes, presence, &mut rows);
        }
    }
    rows
}

/// A written row that letters may wait for.
#[derive(Debug, Clone)]
pub struct Written {
    table: pg_sys::Oid,
    key: Vec<u8>,
    /// Whether the key is a hash already.
    hashed: bool,
    /// When the row was written (in microseconds since 1970), if not by the call's own messages.
    before: Option<i64>,
}

impl Written {
    /// A row, by its table and the hash of its key, as letters store what they wait for.
    pub fn hashed(table: pg_sys::Oid, hash: Vec<u8>) -> Written {
        Written {
            table,
            key: hash,
            hashed: true,
            before: None,
        }
    }

    /// The row that these columns of a query tell; `None` if one of them is null.
    pub(super) fn stored(row: &RowReader<'_>, table: usize, hash: usize) -> Option<Written> {
        let stored = row.oid(table).zip(row.bytes(hash));
        stored.map(|(table, hash)| Written::hashed(table, hash))
    }

    /// The table of the row.
    pub fn table(&self) -> pg_sys::Oid {
        self.table
    }

    /// The row, written since `time`.
    pub fn since(self, time: i64) -> Written {
        let before = Some(time);
        Written { before, ..self }
    }

    /// As a row of a batch relation: table, key, hash, time.
    fn row(&self) -> BatchRow {
        let key = self.key.as_slice().into_datum();
        let (key, hash) = match self.hashed {
            true => (None, key),
            false => (key, None),
        };
        vec![
            Some(Datum::from(self.table)),
            key,
            hash,
            clock::datum(self.before),
        ]
    }
}

/// Selects the rows that are written.
pub fn written(rows: Vec<Touched>) -> Vec<Written> {
    let written = rows.into_iter().filter(|row| row.wait.is_none());
    written
        .map(|Touched { table, key, .. }| Written {
            table,
            key,
            hashed: false,
            before: None,
        })
        .collect()
}

/// A turn to try letters whose rows have not arrived.
pub struct Sweep {
    /// When the session swept before.
    before: Option<Instant>,
}

impl Sweep {
    /// The turn, if it is due. It is noted at once: if a letter of the sweep makes calls fail, only one call a minute
    /// fails. The letters of a sweep that failed are tried again a minute later.
    pub fn due() -> Option<Sweep> {
        let before = SWEPT.get();
        let due = before.is_none_or(|at| at.elapsed() >= SWEEP_EVERY);
        due.then(|| {
            SWEPT.set(Some(Instant::now()));
            Sweep { before }
        })
    }

    /// Gives the turn back, because the call begins again before it has swept.
    pub fn give_back(self) {
        SWEPT.set(self.before);
    }
}

/// Letters that wait for written rows.
pub struct Found {
    /// The letters, each after the letter whose row it waits for.
    pub letters: Vec<Due>,
    /// Whether more letters may wait for the rows.
    pub more: bool,
}

/// Finds the letters that wait for these rows; with `sweep`, also letters that were not tried for a minute.
pub fn find(presence: &Presence, rows: &[Written], sweep: bool) -> Result<Found, SqlError> {
    let sweep = sweep.then(|| vec![None; 4]);
    let batch = rows.iter().map(Written::row).chain(sweep);
    let statement = match presence.any_or() {
        true => &BY_VALUE,
        false => &FINDER,
    };
    let returned = statement.with(|statement| statement.query(batch, |row| row))?;
    let mut found = Found {
        letters: Vec::with_capacity(returned.len()),
        more: false,
    };
    let mut row = RowReader::new(&returned);
    while row.next() {
        found.more |= row.bigint(2) == Some(FOUND);
        found.letters.extend(Due::of(&row));
    }
    Ok(found)
}

const KEPT_STILL: &str = "select from sequin.dead_letter l where l.id in (select b.id from sequin_internal.batch() b(id bigint))";

/// How many of these letters still exist.
pub fn still_kept(letters: &BTreeSet<i64>) -> Result<i64, SqlError> {
    STILL_KEPT
        .with(|statement| statement.execute(letters.iter(), |id| vec![Some(Datum::from(*id))]))
        .map(|outcome| outcome.processed as i64)
}

/// Stores the rows that letters still wait for, so that a later call retries these letters.
const LEAVE: &str = "
    insert into sequin.ready_row (relation, key, written_at)
    select t.relation, t.key, max(coalesce(t.before, clock_timestamp()))
    from (select b.relation, coalesce(b.hash, sha256(b.key)) as key, b.before
          from sequin_internal.batch() b(relation oid, key bytea, hash bytea, before timestamptz)) t
    where coalesce(
        (select true from sequin.dead_letter l
         where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for = t.key limit 1),
        (select true from sequin.mapping m cross join lateral (
             select from sequin.dead_letter l
             where l.mapping = m.name and l.state = 'waiting' and l.waits_or is not null and l.waits_or = t.key
             limit 1) l
         where m.destination = t.relation limit 1))
    group by t.relation, t.key
    order by t.relation, t.key
    on conflict (relation, key) do update set written_at = greatest(ready_row.written_at, excluded.written_at)";

/// Leaves the letters that wait for these rows to later calls.
pub fn leave(rows: &[Written]) -> Result<(), SqlError> {
    if rows.is_empty() {
        return Ok(());
    }
    let left = LEFT.with(|statement| statement.execute(rows.iter(), Written::row))?;
    if left.processed > 0 {
        invalidation::announce(announced());
    }
    Ok(())
}

const TAKE: &str = "
    delete from sequin.ready_row r
    where r.ctid = any (array(select o.ctid from sequin.ready_row o order by o.written_at limit 100
                              for update skip locked))
    returning r.relation::oid, r.key, r.written_at";

/// Takes over rows whose waiting letters an earlier call left.
pub fn take_over() -> Result<Vec<Written>, SqlError> {
    let returned =
        TAKEN.with(|statement| statement.query(std::iter::empty(), |row: BatchRow| row))?;
    let mut rows = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        let before = row.time(2);
        let left = Written::stored(&row, 0, 1);
        rows.extend(left.map(|left| Written { before, ..left }));
    }
    Ok(rows)
}
