//! Dead letters that are tried again: because a call wrote a row that they wait for, because a while has
//! passed, or because somebody says so; and those that a newer change of their row has made void.
//!
//! A call that writes what letters wait for takes them along: it begins again with its own messages and
//! theirs, so that all are ordered and written as if they had come together.

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use bumpalo::Bump;
use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;

use crate::apply::{self, Plan};
use crate::dead_letter;
use crate::envelope::{self, Batch};
use crate::error::SqlError;
use crate::group::{Entry, Failure, Group, Outcome};
use crate::guard::{self, Place};
use crate::image::{fingerprint, source_number};
use crate::mapping::{Mode, OnError, catalog};
use crate::merge::{Change, Effect, Event, Provided, Stamp, State};
use crate::message::Version;
use crate::pg::keys::stored_text;
use crate::pg::{clock, invalidation};
use crate::prepared::{Kept, Lookup};
use crate::registry::Registry;
use crate::wait::{self, Wait};

/// A dead letter that is tried again.
#[derive(Debug)]
pub struct Known {
    /// Its number.
    pub id: i64,
    /// The mapping that could not write it; none if no mapping took it.
    pub mapping: Option<String>,
    /// Its place in the batch that it came with.
    pub position: usize,
    /// The items of the call's batch that it has become.
    pub items: Range<usize>,
}

/// What there are dead letters of, so that calls whose messages have nothing to do with any do not
/// ask.
#[derive(Debug, Default)]
pub struct Watch {
    /// Mappings (by id) that have letters of known rows.
    of: HashSet<i32>,
    /// Tables that letters wait for rows of.
    on: HashSet<pg_sys::Oid>,
    /// Whether any letter waits.
    any: bool,
}

const WATCH: &str = "
    select m.id, m.destination::oid,
           exists (select from sequin.dead_letter l where l.mapping = m.name and l.row_key is not null),
           exists (select from sequin.dead_letter l
                   where l.state = 'waiting' and l.waits_on = m.destination),
           exists (select from sequin.dead_letter l where l.state = 'waiting')
    from sequin.mapping m";

impl Watch {
    /// Asks the table.
    pub fn load() -> Watch {
        let mut watch = Watch::default();
        let read = |row: SpiHeapTupleData<'_>| {
            let is = |n| Ok::<_, pgrx::spi::Error>(row.get(n)?.unwrap_or(false));
            let mapping: i32 = row.get(1)?.expect("not null");
            let destination = row.get::<pg_sys::Oid>(2)?;
            Ok((mapping, destination, is(3)?, is(4)?, is(5)?))
        };
        for (mapping, destination, of, on, any) in WATCHER.with(|query| query.rows(&[], read)) {
            if of {
                watch.of.insert(mapping);
            }
            if on {
                watch.on.extend(destination);
            }
            watch.any |= any;
        }
        watch
    }
}

/// What tells that there are new letters: announced by a trigger of `sequin.dead_letter`.
pub fn announced() -> pg_sys::Oid {
    catalog::oid("sequin.dead_letter_id_seq")
}

/// After a statement that inserted or updated letters.
#[pg_trigger(sql = false)]
fn dead_letter_changed<'a>(
    _trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgTriggerError> {
    invalidation::announce(announced());
    Ok(None)
}

const READ: &str = "
    select l.id, l.mapping, l.message, l.position from sequin.dead_letter l
    where l.id in (select b.id from sequin.batch() b(id bigint))
    order by l.id for update of l skip locked";

/// Letters that wait for the rows written, and those that wait for the rows of these; those that wait
/// for each other in a circle with a row that could not be written; those that wait for any row of the
/// tables written; and, where a row without a table is among those touched, letters that have waited for
/// a while. What has failed often, twenty times if it waits for any row, is tried once a minute.
const FIND: &str = "
    with recursive t as materialized (
        select b.* from sequin.batch() b(relation oid, key bytea, waits_on oid, waits_for bytea,
                                         written boolean, tried bigint)),
    found as (
        select l.id, l.mapping, l.row_key
        from (select distinct t.relation, t.key from t where t.written) t cross join lateral (
            select l.* from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for = t.key
              and (l.attempts < 1000 or l.last_attempt_at < now() - interval '1 minute') offset 0) l
        union
        select l.id, l.mapping, l.row_key from found f
        join sequin.mapping m on m.name = f.mapping
        cross join lateral (
            select l.* from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = m.destination and l.waits_for = f.row_key
            offset 0) l),
    waited as (
        select t.relation as of, t.key as at, t.waits_on as relation, t.waits_for as key
        from t where not t.written and t.waits_for is not null
        union
        select w.of, w.at, n.relation, n.key from waited w cross join lateral (
            select t.waits_on as relation, t.waits_for as key from t
            where not t.written and t.relation = w.relation and t.key = w.key
            union all
            select l.waits_on::oid, l.waits_for
            from sequin.mapping m join sequin.dead_letter l on l.mapping = m.name
            where m.destination = w.relation and l.row_key = w.key and l.state = 'waiting') n
        where n.key is not null),
    waiting as (
        select w.of, w.at, w.of as relation, w.at as key from waited w
        where w.relation = w.of and w.key = w.at
        union
        select w.of, w.at, n.relation, n.key from waiting w cross join lateral (
            select t.relation, t.key from t
            where not t.written and t.waits_on = w.relation and t.waits_for = w.key
            union all
            select m.destination::oid, l.row_key
            from sequin.dead_letter l join sequin.mapping m on m.name = l.mapping
            where l.state = 'waiting' and l.waits_on = w.relation and l.waits_for = w.key) n
        where n.key is not null),
    circle as (
        select w.relation, w.key from waited w join waiting using (of, at, relation, key)),
    due as (
        (select f.id from found f where f.id not in (select t.tried from t where t.tried is not null)
         limit 1000)
        union
        (select l.id from circle c join sequin.mapping m on m.destination = c.relation
         join sequin.dead_letter l on l.mapping = m.name and l.row_key = c.key
         where l.state = 'waiting')
        union
        (select l.id from (select distinct t.relation from t where t.written) t cross join lateral (
            select l.id from sequin.dead_letter l
            where l.state = 'waiting' and l.waits_on = t.relation and l.waits_for is null
              and (l.attempts < 20 or l.last_attempt_at < now() - interval '1 minute')
            order by l.last_attempt_at limit 100) l)
        union
        (select l.id from sequin.dead_letter l
         where exists (select from t where t.relation is null and t.tried is null) and l.state = 'waiting'
           and l.last_attempt_at < now() - interval '1 minute'
         order by l.last_attempt_at limit 100))
    select l.id, m.id from due
    join sequin.dead_letter l on l.id = due.id
    join sequin.mapping m on m.name = l.mapping
    where m.enabled and m.on_error = 'dead_letter'
      and exists (select from pg_class c where c.oid = m.destination)";

const OF_ROWS: &str = "
    select b.n, l.id, l.source, l.lsn, l.idx, l.committed_at,
           case when l.former_key is null and l.state = 'dead' and l.lsn is not null then null
                else l.attempts < 20 or l.last_attempt_at < now() - interval '1 minute' end
    from sequin.batch() b(n integer, mapping text, key bytea)
    cross join lateral (select l.* from sequin.dead_letter l
                        where l.mapping = b.mapping and l.row_key = b.key
                        union all
                        select l.* from sequin.dead_letter l
                        where l.mapping = b.mapping and l.former_key = b.key offset 0) l";

thread_local! {
    static WATCHER: Lookup = const { Lookup::new(WATCH, &[]) };
    static READER: Kept = const { Kept::new(READ, &[("id", pg_sys::INT8OID)]) };
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
    static ROWS: Kept = const {
        Kept::new(
            OF_ROWS,
            &[("n", pg_sys::INT4OID), ("mapping", pg_sys::TEXTOID), ("key", pg_sys::BYTEAOID)],
        )
    };
    static SWEPT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How many letters one call takes along, about.
const MANY: usize = 20_000;

/// How often a session tries letters that no row has come for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Reads the letters of these numbers into the batch. Those that are gone, or in somebody else's hands
/// at this moment, are left out.
pub fn read<'a>(
    ids: &BTreeSet<i64>,
    batch: &mut Batch<'a>,
    memory: &'a Bump,
) -> Result<Vec<Known>, SqlError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let returned = READER
        .with(|statement| statement.run(ids.iter(), |id| vec![Some(Datum::from(*id))]))?
        .returned
        .expect("a SELECT returns rows");
    let (mut values, mut nulls) = ([Datum::null(); 4], [false; 4]);
    let mut letters = Vec::with_capacity(returned.len());
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        let position = values[3].value();
        let text = stored_text(values[2], nulls[2]).unwrap_or_default();
        let text = memory.alloc_str(&text);
        letters.push(Known {
            id: values[0].value() as i64,
            mapping: stored_text(values[1], nulls[1]),
            position,
            items: batch.add(envelope::read_letter(text, memory), position),
        });
    }
    Ok(letters)
}

/// A row that the call has written, or could not write.
#[derive(Debug, Default)]
struct Touched {
    relation: Option<pg_sys::Oid>,
    key: Option<Vec<u8>>,
    written: bool,
    /// What it waits for now, if it was not written.
    wait: Option<Wait>,
    /// No row: the number of a letter that the call has with it.
    tried: Option<i64>,
}

/// Adds the rows of the group.
fn touched(group: &mut Group<'_>, rows: &mut Vec<Touched>) {
    let relation = Some(group.target.destination.oid);
    let mut failed = HashSet::new();
    for i in 0..group.failures.len() {
        let failure = &group.failures[i];
        let (message, wait) = (failure.message, failure.wait.clone());
        // One that moves its row may have written it, and be left with the delete.
        if group.former_key(message).is_none() {
            failed.insert(message);
        }
        if wait.is_some()
            && let Some(entry) = group.entry_of(message)
        {
            rows.push(Touched {
                relation,
                key: Some(wait::table_key(group, entry)),
                wait,
                ..Touched::default()
            });
        }
    }
    for i in 0..group.nets.len() {
        let net = &group.nets[i];
        // One that failed may have left an older change of its row to be written.
        if !failed.contains(&net.message) || net.run.1 - net.run.0 > 1 {
            let key = wait::table_key(group, net.run.0);
            rows.push(Touched {
                relation,
                key: Some(key),
                written: true,
                ..Touched::default()
            });
        }
    }
}

/// Looks for letters that wait for what the call has written. If there are more than it has with it,
/// it begins again with them.
pub fn look_for_more(
    registry: &Registry,
    plan: &mut Plan,
    groups: &mut [(usize, Group<'_>)],
) -> Result<(), SqlError> {
    let watch = &registry.letters;
    if plan.last || !watch.any || plan.letters.len() >= MANY {
        return Ok(());
    }
    let mut rows: Vec<Touched> = Vec::new();
    for (_, group) in groups.iter_mut() {
        let relation = group.target.destination.oid;
        if watch.on.contains(&relation) {
            touched(group, &mut rows);
        }
    }
    if SWEPT.get().is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
        SWEPT.set(Some(Instant::now()));
        rows.push(Touched::default());
    }
    if rows.is_empty() {
        return Ok(());
    }
    rows.extend(plan.letters.iter().map(|id| Touched {
        tried: Some(*id),
        ..Touched::default()
    }));
    let returned = FINDER
        .with(|statement| {
            statement.run(rows.into_iter(), |row| {
                let wait = row.wait.unwrap_or_default();
                vec![
                    row.relation.map(Datum::from),
                    row.key.and_then(IntoDatum::into_datum),
                    Some(Datum::from(wait.relation)),
                    wait.key.and_then(IntoDatum::into_datum),
                    Some(Datum::from(row.written)),
                    row.tried.map(Datum::from),
                ]
            })
        })?
        .returned
        .expect("a SELECT returns rows");
    let (mut values, mut nulls) = ([Datum::null(); 2], [false; 2]);
    let mut more = false;
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        if plan.letters.insert(values[0].value() as i64) {
            more = true;
            plan.mappings.insert(values[1].value() as i32);
        }
    }
    if more {
        return Err(apply::again_alone());
    }
    Ok(())
}

/// Removes the letters of the group's rows that newer changes have made void.
pub fn supersede(
    registry: &Registry,
    plan: &mut Plan,
    group: &mut Group<'_>,
) -> Result<(), SqlError> {
    let mapping = &group.target.mapping;
    if mapping.mode == Mode::Append || !registry.letters.of.contains(&mapping.id) {
        return Ok(());
    }
    // Which of a statement's rows were stale is not always known: what is stored will tell.
    let decided: Vec<u32> = group
        .nets
        .iter()
        .filter(|net| group.outcomes[net.message as usize] != Some(Outcome::Dead))
        .map(|net| net.run.0)
        .collect();
    let returned = ROWS
        .with(|statement| {
            statement.run(decided.iter().enumerate(), |(n, entry)| {
                vec![
                    Some(Datum::from(n as i32)),
                    mapping.name.as_str().into_datum(),
                    group.key(*entry).into_datum(),
                ]
            })
        })?
        .returned
        .expect("a SELECT returns rows");
    let (mut values, mut nulls) = ([Datum::null(); 7], [false; 7]);
    let mut letters = Vec::new();
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        let id = values[1].value() as i64;
        if plan.letters.contains(&id) {
            continue; // it speaks for itself
        }
        let number = |i: usize| (!nulls[i]).then(|| values[i].value() as i64);
        let stamp = Stamp {
            source: source_number(&stored_text(values[2], nulls[2]).unwrap_or_default()),
            version: number(3).map(|lsn| Version {
                lsn: lsn as u64,
                idx: number(4).unwrap_or_default() as u32,
            }),
            committed_at: number(5).map(clock::to_unix),
        };
        let due = (!nulls[6]).then(|| values[6].value() as u8 != 0);
        letters.push((id, decided[values[0].value() as i32 as usize], stamp, due));
    }
    let standings = if group.target.place == Place::Nowhere {
        vec![Standing::Old; letters.len()] // what arrives is newer
    } else {
        let changes: Vec<Claimed> = letters
            .iter()
            .map(|(_, entry, stamp, _)| Claimed {
                entry: *entry,
                event: match stamp.version {
                    Some(_) => Event::Update,
                    None => Event::Read,
                },
                stamp: *stamp,
                image: None,
            })
            .collect();
        standings(group, &changes)?
    };
    let may_retry = !plan.last && group.target.mapping.on_error == OnError::DeadLetter;
    let mut remove = Vec::new();
    let mut again = false;
    for ((id, _, _, due), standing) in letters.into_iter().zip(standings) {
        match (due, standing) {
            (_, Standing::News) | (None, Standing::Fills) => {}
            (None, Standing::Old) => remove.push(id),
            (Some(due), _) => again |= due && may_retry && plan.letters.insert(id),
        }
    }
    if again {
        return Err(apply::again_alone());
    }
    dead_letter::remove(&remove)
}

/// The group's failures without those that do not matter: something newer of their row was applied, in
/// this call or before. Whatever is wrong with them, they are collapsed, or stale.
pub fn settle_failures(group: &mut Group<'_>) -> Result<Vec<Failure>, SqlError> {
    let failures = std::mem::take(&mut group.failures);
    if failures.is_empty() || group.target.mapping.mode == Mode::Append {
        return Ok(failures);
    }
    // Each with the number of its failure: one that moved its row has two.
    let mut of = Vec::new();
    let mut changes = Vec::new();
    for (i, failure) in failures.iter().enumerate() {
        let message = group.message(failure.message);
        for entry in group.entries_of(failure.message) {
            let Entry { event, stamp, .. } = group.entries[entry as usize];
            let comes = matches!(event, Event::Appear | Event::Update);
            of.push(i);
            changes.push(Claimed {
                entry,
                event,
                stamp,
                image: comes.then(|| fingerprint(message.record, None)),
            });
        }
    }
    let arrival = group.target.place == Place::Nowhere;
    // What waits was no old news when it was to be written.
    let waits = |failure: &Failure| {
        failure.wait.is_some() && matches!(failure.error.sqlstate().as_str(), "23503" | "23505")
    };
    let mut old: Vec<bool> = failures.iter().map(|f| !arrival && !waits(f)).collect();
    if !arrival {
        for (i, standing) in of.iter().zip(standings(group, &changes)?) {
            old[*i] &= standing == Standing::Old;
        }
    }
    let mut run_of = vec![None; failures.len()];
    for (i, change) in of.iter().zip(&changes) {
        run_of[*i] = Some(group.run_of(change.entry));
    }
    let mut kept = Vec::with_capacity(failures.len());
    for ((failure, old), run) in failures.into_iter().zip(old).zip(run_of) {
        let Some((start, end)) = run else {
            kept.push(failure);
            continue;
        };
        let collapsed = (start..end).any(|other| {
            let message = group.entries[other as usize].message;
            let outcome = group.outcomes[message as usize];
            (old || arrival && message > failure.message)
                && matches!(outcome, Some(Outcome::Upserted | Outcome::Deleted))
        });
        if collapsed {
            group.outcomes[failure.message as usize] = Some(Outcome::Collapsed);
        } else if old {
            group.outcomes[failure.message as usize] = Some(Outcome::Stale);
        } else {
            kept.push(failure);
        }
    }
    Ok(kept)
}

/// A change that was not applied, and an entry of its row.
struct Claimed {
    entry: u32,
    event: Event,
    stamp: Stamp,
    image: Option<u64>,
}

/// What such a change is to what is stored of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Newer.
    News,
    /// Older, but it has a value that is missing.
    Fills,
    /// Older, or applied, and nothing would change.
    Old,
}

fn standings(group: &mut Group<'_>, changes: &[Claimed]) -> Result<Vec<Standing>, SqlError> {
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<Vec<u8>> = changes
        .iter()
        .map(|c| group.key(c.entry).to_vec())
        .collect();
    let values: Vec<Vec<Datum>> = changes
        .iter()
        .map(|change| group.key_of(change.entry).to_vec())
        .collect();
    let owner = group.acting_as_owner();
    let stored = guard::load(group, &keys, &values)?;
    drop(owner);
    Ok(changes
        .iter()
        .zip(stored)
        .map(|(change, stored)| standing(change, &stored.state, group.call.read_skew))
        .collect())
}

fn standing(change: &Claimed, state: &State, read_skew: i64) -> Standing {
    let provided = vec![Provided::Value; state.cells.len()];
    let mut after = state.clone();
    let effect = after.apply(
        &Change {
            id: 0,
            event: change.event,
            stamp: change.stamp,
            image: change.image,
            provided: &provided,
        },
        read_skew,
    );
    match effect {
        Effect::Filled => Standing::Fills,
        Effect::Stale if after == *state => Standing::Old,
        _ => Standing::News,
    }
}
