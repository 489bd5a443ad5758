//! Letters that may work once the rows of this call are written.
//!
//! A call that writes rows which letters wait for retries these letters. It starts over with its own
//! messages and the letters' messages, so that all are ordered and written as if they had arrived together.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use super::presence::Presence;
use crate::changes::Changes;
use crate::error::SqlError;
use crate::outcome::Wait;
use crate::prepared::{Kept, Lookup, RowReader};

/// Letters that may work now. Keys are stored and compared as SHA-256 hashes. The query finds letters that
/// - wait for a row that the call wrote, or for the row of another letter found so (`found`);
/// - wait for any row of a table that the call wrote;
/// - were not tried for a minute, if the batch relation has a row without a table (a sweep).
///
/// Letters that failed often (1000 times, or 20 times if they wait for any row) are tried at most once a
/// minute.
const FIND: &str = "
    with recursive t as materialized (
        select b.relation, sha256(b.key) as key, b.waits_on, sha256(b.waits_for) as waits_for, b.written, b.tried
        from sequin.batch() b(relation oid, key bytea, waits_on oid, waits_for bytea,
                              written boolean, tried bigint)),
    found as (
        select l.id, l.mapping, l.row_key
        from (select distinct t.relation, t.key from t where t.written) t cross join lateral (
            select l.* from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for = t.key
              and (l.attempts < 1000 or l.last_attempt_at < now() - interval '1 minute')
            union all
            select l.* from sequin.dead_letter l join sequin.mapping m on m.name = l.mapping
            where l.state = 'waiting' and l.waits_or is not null and l.waits_or = t.key
              and m.destination = t.relation
              and (l.attempts < 1000 or l.last_attempt_at < now() - interval '1 minute') offset 0) l
        union
        select l.id, l.mapping, l.row_key from found f
        join sequin.mapping m on m.name = f.mapping
        cross join lateral (
            select l.* from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = m.destination and l.waits_for = sha256(f.row_key)
            offset 0) l),
    due as (
        (select f.id from found f where f.id not in (select t.tried from t where t.tried is not null)
         limit 1000)
        union
        (select l.id from (select distinct t.relation from t where t.written) t cross join lateral (
            select l.id from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for is null
              and (l.attempts < 20 or l.last_attempt_at < now() - interval '1 minute')
            order by l.last_attempt_at limit 100) l)
        union
        (select l.id from sequin.dead_letter l
         where exists (select from t where t.relation is null and t.tried is null)
           and l.state in ('waiting', 'paused') and l.last_attempt_at < now() - interval '1 minute'
         order by l.last_attempt_at limit 100))
    select l.id, m.id from due
    join sequin.dead_letter l on l.id = due.id
    join sequin.mapping m on m.name = l.mapping
    where m.enabled and m.on_error = 'dead_letter'
      and exists (select from pg_class c where c.oid = m.destination)";

/// The letters that rows which the call could not write wait for, and the letters that these wait for, and so on. A
/// letter is found by its row's key and by what it brings.
const AWAITED: &str = "
    with recursive awaited as (
        select l.* from (
            select distinct b.waits_on, sha256(b.waits_for) as waits_for
            from sequin.batch() b(waits_on oid, waits_for bytea)) w
        cross join lateral (
            select l.id, m.id as mapping, m.destination::oid as relation, sha256(l.row_key) as key, l.brings,
                   l.waits_on::oid as waits_on, l.waits_for, l.waits_or
            from sequin.mapping m join sequin.dead_letter l on l.mapping = m.name
            where m.destination = w.waits_on and m.enabled and m.on_error = 'dead_letter'
              and l.state = 'waiting' and sha256(l.row_key) = w.waits_for
            union
            select l.id, m.id, m.destination::oid, sha256(l.row_key), l.brings, l.waits_on::oid, l.waits_for,
                   l.waits_or
            from sequin.dead_letter l join sequin.mapping m on m.name = l.mapping
            where m.destination = w.waits_on and m.enabled and m.on_error = 'dead_letter'
              and l.state = 'waiting' and l.brings is not null and l.brings @> array[w.waits_for]) l
        union
        select l.* from awaited a
        cross join lateral (values (a.waits_on, a.waits_for), (a.relation, a.waits_or)) w(waits_on, waits_for)
        cross join lateral (
            select l.id, m.id as mapping, m.destination::oid as relation, sha256(l.row_key) as key, l.brings,
                   l.waits_on::oid as waits_on, l.waits_for, l.waits_or
            from sequin.mapping m join sequin.dead_letter l on l.mapping = m.name
            where m.destination = w.waits_on and m.enabled and m.on_error = 'dead_letter'
              and l.state = 'waiting' and sha256(l.row_key) = w.waits_for
            union
            select l.id, m.id, m.destination::oid, sha256(l.row_key), l.brings, l.waits_on::oid, l.waits_for,
                   l.waits_or
            from sequin.dead_letter l join sequin.mapping m on m.name = l.mapping
            where m.destination = w.waits_on and m.enabled and m.on_error = 'dead_letter'
              and l.state = 'waiting' and l.brings is not null and l.brings @> array[w.waits_for]) l)
    select a.id, a.mapping, a.relation, a.key, (
               select pg_catalog.string_agg(u, ''::bytea) from pg_catalog.unnest(a.brings) u),
           a.waits_on, a.waits_for, a.waits_or
    from awaited a limit 20000";

/// The keys of rows (or values) as letters have them.
const HASHED: &str = "
    select b.n, sha256(b.key) from sequin.batch() b(n integer, key bytea)";

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

thread_local! {
    static KEPT_FOR: Lookup = const { Lookup::new(KEPT, &[pg_sys::BuiltinOid::TEXTOID]) };
    static FINDER: Kept = const {
        Kept::new(
            FIND,
            &[
                ("relation", pg_sys::OIDOID),
                ("key", pg_sys::BYTEAOID),
                ("waits_on", pg_sys::OIDOID),
                ("waits_for", pg_sys::BYTEAOID),
                ("written", pg_sys::BOOLOID),
                ("tried", pg_sys::INT8OID),
            ],
        )
    };
    static AWAITER: Kept = const {
        Kept::new(AWAITED, &[("waits_on", pg_sys::OIDOID), ("waits_for", pg_sys::BYTEAOID)])
    };
    static HASHER: Kept = const {
        Kept::new(HASHED, &[("n", pg_sys::INT4OID), ("key", pg_sys::BYTEAOID)])
    };
    static SWEPT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// A call that has this many letters does not look for more.
const MANY: usize = 20_000;

/// How often a session also tries letters whose rows have not come.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// A row of [`FIND`]'s batch relation.
#[derive(Debug, Default)]
struct Touched {
    /// The table of a row that the call wrote or could not write.
    table: Option<pg_sys::Oid>,
    key: Option<Vec<u8>>,
    written: bool,
    /// The wait of a row that was not written.
    wait: Option<Wait>,
    /// Instead of a row: the number of a letter that the call retries already.
    tried: Option<i64>,
}

/// Adds the rows that a mapping's changes concern.
fn touched(changes: &Changes<'_>, presence: &Presence, rows: &mut Vec<Touched>) {
    let table = Some(changes.target.destination.oid);
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
            let moved = keyed.of_message(failure.message).filter(|i| keyed.leaves(*i));
            let keys = std::iter::once(changes.table_key(change))
                .chain(moved.map(|i| changes.table_key(i)))
                .chain(brought);
            rows.extend(keys.map(|key| Touched {
                table,
                key: Some(key),
                wait: failure.wait.clone(),
                ..Touched::default()
            }));
        }
    }
    if !presence.wait_for(changes.target.destination.oid) {
        return;
    }
    for net in changes.nets.list.iter() {
        // Although the message failed, an older change of its row may have been written.
        if !failed.contains(&net.message) || net.run.len() > 1 {
            let keys = std::iter::once(changes.table_key(net.run.start));
            rows.extend(keys.chain(changes.values_referred_to(net)).map(|key| Touched {
                table,
                key: Some(key),
                written: true,
                ..Touched::default()
            }));
        }
    }
}

/// A thing that letters wait for: a table, and the hash of a row's key or of a value.
type Thing = (u32, Vec<u8>);

/// A letter that rows of the call wait for.
struct Awaited {
    due: Due,
    /// Its row, and what else it brings.
    is: Vec<Thing>,
    waits_for: Vec<Thing>,
}

/// Finds letters that rows of the call wait for, and that wait in turn for rows of the call: they can be written
/// together only.
fn circles(rows: &[Touched]) -> Result<Vec<Due>, SqlError> {
    let waits: Vec<(pg_sys::Oid, &[u8])> = rows
        .iter()
        .filter_map(|row| Some((row.table?, row.wait.as_ref()?)))
        .flat_map(|(own, wait)| {
            let row = wait.table().zip(wait.key());
            row.into_iter().chain(wait.or().map(|or| (own, or)))
        })
        .collect();
    if waits.is_empty() {
        return Ok(Vec::new());
    }
    let returned = AWAITER.with(|statement| {
        statement.query(waits.into_iter(), |(table, key)| {
            vec![Some(Datum::from(table)), key.into_datum()]
        })
    })?;
    let mut awaited: Vec<Awaited> = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        let oid = |i: usize| row.datum(i).map(|oid| oid.value() as u32);
        let table = oid(2).unwrap_or_default();
        let brings = row.bytes(4).unwrap_or_default();
        let brings = brings.chunks_exact(HASH).map(<[u8]>::to_vec);
        awaited.push(Awaited {
            due: Due {
                letter: row.bigint(0).unwrap_or_default(),
                mapping: row.int(1).unwrap_or_default(),
            },
            is: row.bytes(3).into_iter().chain(brings).map(|key| (table, key)).collect(),
            waits_for: oid(5)
                .zip(row.bytes(6))
                .into_iter()
                .chain(row.bytes(7).map(|or| (table, or)))
                .collect(),
        });
    }
    if awaited.is_empty() {
        return Ok(Vec::new());
    }
    let mut by_wait: HashMap<&Thing, Vec<usize>> = HashMap::new();
    for (i, letter) in awaited.iter().enumerate() {
        for wait in &letter.waits_for {
            by_wait.entry(wait).or_default().push(i);
        }
    }
    let mut taken = vec![false; awaited.len()];
    // From the rows of the call on, whatever waits for them.
    let mut next: Vec<Thing> = things(rows)?.into_iter().collect();
    let mut due = Vec::new();
    while let Some(thing) = next.pop() {
        for i in by_wait.remove(&thing).unwrap_or_default() {
            if !std::mem::replace(&mut taken[i], true) {
                next.extend(awaited[i].is.iter().cloned());
                due.push(awaited[i].due);
            }
        }
    }
    Ok(due)
}

/// The length of a hash.
const HASH: usize = 32;

/// The rows of the call as letters name them.
fn things(rows: &[Touched]) -> Result<HashSet<Thing>, SqlError> {
    let named: Vec<(pg_sys::Oid, &[u8])> = rows
        .iter()
        .filter_map(|row| Some((row.table?, row.key.as_deref()?)))
        .collect();
    let returned = HASHER.with(|statement| {
        statement.query(named.iter().enumerate(), |(n, (_, key))| {
            vec![Some(Datum::from(n as i32)), (*key).into_datum()]
        })
    })?;
    let mut things = HashSet::with_capacity(named.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        let (table, _) = named[row.index(0)];
        things.extend(row.bytes(1).map(|hash| (table.to_u32(), hash)));
    }
    Ok(things)
}

/// A letter that may work now.
#[derive(Debug, Clone, Copy)]
pub struct Due {
    /// The letter's number.
    pub letter: i64,
    /// The id of the letter's mapping.
    pub mapping: i32,
}

/// Finds letters that wait for rows which the call wrote. `has` are the letters that the call retries
/// already.
pub fn look_for_more(
    presence: &Presence,
    has: &BTreeSet<i64>,
    all: &[Changes<'_>],
) -> Result<Vec<Due>, SqlError> {
    if !presence.any_waits() || has.len() >= MANY {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Touched> = Vec::new();
    for changes in all {
        touched(changes, presence, &mut rows);
    }
    if SWEPT.get().is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
        SWEPT.set(Some(Instant::now()));
        rows.push(Touched::default());
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let circles = circles(&rows)?;
    rows.extend(has.iter().map(|id| Touched {
        tried: Some(*id),
        ..Touched::default()
    }));
    let returned = FINDER.with(|statement| {
        statement.query(rows.into_iter(), |row| {
            let wait = row.wait.unwrap_or_default();
            // The query joins on this OID, so it must not be null.
            let waits_on = wait.table().unwrap_or(pg_sys::InvalidOid);
            vec![
                row.table.map(Datum::from),
                row.key.and_then(IntoDatum::into_datum),
                Some(Datum::from(waits_on)),
                wait.key().and_then(IntoDatum::into_datum),
                Some(Datum::from(row.written)),
                row.tried.map(Datum::from),
            ]
        })
    })?;
    let mut due: Vec<Due> = circles
        .into_iter()
        .filter(|due| !has.contains(&due.letter))
        .collect();
    let mut row = RowReader::new(&returned);
    while row.next() {
        let letter = row.bigint(0).unwrap_or_default();
        if !has.contains(&letter) {
            due.push(Due {
                letter,
                mapping: row.int(1).unwrap_or_default(),
            });
        }
    }
    Ok(due)
}
