//! Row versions: what was applied to a row before, and so which changes of a batch are news.
//!
//! The rule is [`crate::merge`]'s. Most rows need only its first clause, newer wins, and the server
//! applies it while it writes: in the upsert's `WHERE` where the destination holds the versions
//! (`columns`), in a *claim* of `sequin.row_version` before the write where it does not (`table`).
//! Rows of which there is more to know (deletes under `columns`, moved keys, unchanged TOAST, gaps,
//! several sources) are *examined*: their state is loaded, the rule applied here, and the new state
//! stored. So that nothing changes between the two, a call that examines rows of a mapping has the
//! mapping for itself; calls that only claim share it.

use std::cell::Cell;
use std::collections::HashSet;
use std::time::{Duration, Instant};

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};
use serde_json::{Value as JsonValue, json};

use crate::error::SqlError;
use crate::group::Group;
use crate::mapping::{GUARD_COLUMNS, Guard, Mapping, Mode, check};
use crate::merge::{self, Gone, Stamp, State, Value};
use crate::message::Version;
use crate::pg::spi::{Plan, Returned};
use crate::pg::tuples::{RowColumn, RowType, Rows};
use crate::pg::user::ActingAs;
use crate::pg::{clock, invalidation};
use crate::prepared::Statement;
use crate::statement::SqlColumn;
use crate::target::Target;

/// Where a mapping's row versions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    Nowhere,
    /// In three columns of the destination; what those cannot hold in `sequin.row_version`.
    Columns,
    /// In `sequin.row_version`.
    Table,
}

impl Place {
    /// Where the mapping wants them, given what the destination has.
    pub fn of(mapping: &Mapping, destination: &crate::destination::Destination) -> Place {
        match check::guard(mapping, destination) {
            _ if mapping.mode == Mode::Append => Place::Nowhere,
            Guard::Off => Place::Nowhere,
            Guard::Columns => Place::Columns,
            Guard::Table | Guard::Auto => Place::Table,
        }
    }
}

/// The guard's columns as statements spell them, with their types in a batch relation.
pub fn version_columns() -> [(SqlColumn, RowColumn); 3] {
    GUARD_COLUMNS.map(|(name, type_oid, type_name)| {
        let sql = SqlColumn {
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            equals: String::new(),
            insert_only: false,
            merges: false,
        };
        (sql, RowColumn::plain(name, pg_sys::Oid::from(type_oid)))
    })
}

/// The values of the guard's columns. The time is that of the row's change; without a position, of
/// whatever was last, a change or a read.
pub fn version_values(stamp: Option<&Stamp>, read_at: Option<i64>) -> [Option<Datum>; 3] {
    let version = stamp.and_then(|stamp| stamp.version);
    let committed_at = stamp.and_then(|stamp| stamp.committed_at);
    let time = match version {
        Some(_) => committed_at,
        None => committed_at.max(read_at),
    };
    [
        version.map(|v| Datum::from(v.lsn as i64)),
        version.map(|v| Datum::from(v.idx as i32)),
        time.map(|micros| Datum::from(clock::from_unix(micros))),
    ]
}

/// The guard's statements of one mapping, made when they are first needed.
#[derive(Default)]
pub struct Statements {
    claim: Option<Statement>,
    claim_reads: Option<(i64, Statement)>,
    load: Option<Statement>,
    load_rows: Option<Statement>,
    store: Option<Statement>,
    forget: Option<Statement>,
    note: Option<Statement>,
    confirm: Option<Statement>,
    note_reads: Option<Statement>,
    any: Option<Plan>,
}

/// What is stored of a row.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its state, as the rule wants it.
    pub state: State,
    /// Whether the destination has the row.
    pub exists: bool,
    /// Whether `sequin.row_version` has an entry.
    pub entry: bool,
}

/// A key and what is claimed for it.
pub struct Claim<'k> {
    /// The row's key.
    pub key: &'k [u8],
    /// The change, or the time of the read.
    pub stamp: Stamp,
    /// Whether the change deletes the row.
    pub deleted: bool,
}

fn time(micros: Option<i64>) -> Option<Datum> {
    micros.map(|micros| Datum::from(clock::from_unix(micros)))
}

/// Writes the claims of changes into `sequin.row_version`; returns which of them were news.
pub fn claim(
    target: &mut Target,
    definer: pg_sys::Oid,
    claims: &[Claim<'_>],
) -> Result<Vec<bool>, SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mut statement = match target.guard.claim.take() {
        Some(statement) => statement,
        None => Statement::new(
            &format!(
                "insert into sequin.row_version as v
                     (mapping, key, source, lsn, idx, committed_at, deleted)
                 select {}, b.key, b.source, b.lsn, b.idx, b.committed_at, b.deleted
                 from sequin.batch() b(key bytea, source bigint, lsn bigint, idx integer,
                                       committed_at timestamptz, deleted boolean)
                 on conflict (mapping, key) do update
                 set source = excluded.source, lsn = excluded.lsn, idx = excluded.idx,
                     committed_at = excluded.committed_at, deleted = excluded.deleted,
                     read_at = null
                 where v.gaps is null and v.gone is null and v.image is null
                   and (v.lsn is null and v.committed_at is null
                        or v.source = excluded.source
                           and (v.lsn, v.idx) < (excluded.lsn, excluded.idx))
                 returning v.key",
                target.mapping.id
            ),
            &[
                ("key", pg_sys::BYTEAOID),
                ("source", pg_sys::INT8OID),
                ("lsn", pg_sys::INT8OID),
                ("idx", pg_sys::INT4OID),
                ("committed_at", pg_sys::TIMESTAMPTZOID),
                ("deleted", pg_sys::BOOLOID),
            ],
        )?,
    };
    let outcome = statement.run(claims.iter(), |claim| {
        let version = claim
            .stamp
            .version
            .expect("only changes with a version are claimed");
        vec![
            claim.key.into_datum(),
            Some(Datum::from(claim.stamp.source)),
            Some(Datum::from(version.lsn as i64)),
            Some(Datum::from(version.idx as i32)),
            time(claim.stamp.committed_at),
            Some(Datum::from(claim.deleted)),
        ]
    });
    target.guard.claim = Some(statement);
    let winners = winners(claims, &outcome?.returned.expect("RETURNING"));
    let tombs: Vec<&[u8]> = claims
        .iter()
        .zip(&winners)
        .filter(|(claim, news)| claim.deleted && **news)
        .map(|(claim, _)| claim.key)
        .collect();
    note_tombstones(target, &tombs)?;
    Ok(winners)
}

/// Notes reads in `sequin.row_version`; returns which of them are late enough to be applied.
pub fn claim_reads(
    target: &mut Target,
    definer: pg_sys::Oid,
    claims: &[Claim<'_>],
    read_skew: i64,
) -> Result<Vec<bool>, SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mut statement = match target.guard.claim_reads.take() {
        Some((skew, statement)) if skew == read_skew => statement,
        _ => Statement::new(
            &format!(
                "insert into sequin.row_version as v (mapping, key, source, read_at)
                 select {}, b.key, b.source, b.read_at
                 from sequin.batch() b(key bytea, source bigint, read_at timestamptz)
                 on conflict (mapping, key) do update
                 set read_at = excluded.read_at, deleted = false
                 where v.gaps is null and v.gone is null and v.image is null
                   and (v.committed_at is null and v.lsn is null
                        or v.committed_at + {read_skew} * interval '1 microsecond'
                           < excluded.read_at)
                   and (v.read_at is null or v.read_at < excluded.read_at)
                 returning v.key",
                target.mapping.id
            ),
            &[
                ("key", pg_sys::BYTEAOID),
                ("source", pg_sys::INT8OID),
                ("read_at", pg_sys::TIMESTAMPTZOID),
            ],
        )?,
    };
    let outcome = statement.run(claims.iter(), |claim| {
        vec![
            claim.key.into_datum(),
            Some(Datum::from(claim.stamp.source)),
            time(claim.stamp.committed_at),
        ]
    });
    target.guard.claim_reads = Some((read_skew, statement));
    Ok(winners(claims, &outcome?.returned.expect("RETURNING")))
}

/// Which claims came back. The server returns them in the order in which it was given them.
fn winners(claims: &[Claim<'_>], returned: &Returned) -> Vec<bool> {
    if returned.len() == claims.len() {
        return vec![true; claims.len()];
    }
    let (mut values, mut nulls) = ([Datum::null()], [false]);
    let keys: HashSet<Vec<u8>> = (0..returned.len())
        .map(|i| {
            returned.read(i, &mut values, &mut nulls);
            crate::pg::keys::stored_bytes(values[0])
        })
        .collect();
    claims
        .iter()
        .map(|claim| keys.contains(claim.key))
        .collect()
}

/// Whether `sequin.row_version` has any entry of the mapping.
fn any_entry(target: &mut Target) -> Result<bool, SqlError> {
    let mut plan = match target.guard.any.take() {
        Some(plan) => plan,
        None => Plan::prepare(&format!(
            "select from sequin.row_version v where v.mapping = {} limit 1",
            target.mapping.id
        ))?,
    };
    let outcome = plan.run(Rows::new());
    target.guard.any = Some(plan);
    Ok(outcome?.processed > 0)
}

/// An entry of `sequin.row_version`.
struct Entry {
    source: i64,
    version: Option<Version>,
    committed_at: Option<i64>,
    read_at: Option<i64>,
    deleted: bool,
    image: Option<u64>,
    gone: Option<JsonValue>,
    gaps: Option<JsonValue>,
}

impl Entry {
    /// Whether it has the time of the newest read of a row, and nothing else: with guard columns, that
    /// of the row's change is in the destination.
    fn is_note_of_read(&self) -> bool {
        self.version.is_none()
            && self.committed_at.is_none()
            && !self.deleted
            && self.image.is_none()
            && self.gone.is_none()
            && self.gaps.is_none()
    }
}

/// The entries of these keys, by their place among them.
fn entries(
    target: &mut Target,
    definer: pg_sys::Oid,
    keys: &[&[u8]],
) -> Result<Vec<Option<Entry>>, SqlError> {
    let mut found: Vec<Option<Entry>> = keys.iter().map(|_| None).collect();
    let _definer = ActingAs::new(definer, false);
    if keys.is_empty() || !any_entry(target)? {
        return Ok(found);
    }
    let mut statement = match target.guard.load.take() {
        Some(statement) => statement,
        None => Statement::new(
            &format!(
                "select b.n, v.source, v.lsn, v.idx, v.committed_at, v.read_at, v.deleted, v.image,
                        v.gone::text, v.gaps::text
                 from sequin.batch() b(n integer, key bytea)
                 cross join lateral (select r.* from sequin.row_version r
                                     where r.mapping = {} and r.key = b.key offset 0) v",
                target.mapping.id
            ),
            &[("n", pg_sys::INT4OID), ("key", pg_sys::BYTEAOID)],
        )?,
    };
    let outcome = statement.run(keys.iter().enumerate(), |(n, key)| {
        vec![Some(Datum::from(n as i32)), (*key).into_datum()]
    });
    target.guard.load = Some(statement);
    let returned = outcome?.returned.expect("a SELECT returns rows");
    let (mut values, mut nulls) = ([Datum::null(); 10], [false; 10]);
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        let number = |i: usize| (!nulls[i]).then(|| values[i].value() as i64);
        let text = |i: usize| crate::pg::keys::stored_text(values[i], nulls[i]);
        let parse = |text: Option<String>| text.and_then(|t| serde_json::from_str(&t).ok());
        found[values[0].value() as i32 as usize] = Some(Entry {
            source: number(1).unwrap_or_default(),
            version: number(2).map(|lsn| Version {
                lsn: lsn as u64,
                idx: number(3).unwrap_or_default() as u32,
            }),
            committed_at: number(4).map(clock::to_unix),
            read_at: number(5).map(clock::to_unix),
            deleted: number(6).is_some_and(|deleted| deleted as u8 != 0),
            image: number(7).map(|image| image as u64),
            gone: parse(text(8)),
            gaps: parse(text(9)),
        });
    }
    Ok(found)
}

/// Which of these keys there is more to know of than a version. `read_at` has the time of what is a
/// read.
pub fn special(
    target: &mut Target,
    definer: pg_sys::Oid,
    keys: &[&[u8]],
    source_of: impl Fn(usize) -> Option<i64>,
    read_at: impl Fn(usize) -> Option<i64>,
) -> Result<Vec<bool>, SqlError> {
    let columns = target.place == Place::Columns;
    Ok(entries(target, definer, keys)?
        .iter()
        .enumerate()
        .map(|(i, entry)| match entry {
            None => false,
            Some(entry) if columns => {
                !entry.is_note_of_read() || read_at(i).is_some_and(|at| entry.read_at >= Some(at))
            }
            Some(entry) => {
                entry.gaps.is_some()
                    || entry.gone.is_some()
                    || entry.image.is_some()
                    || (entry.version.is_none() && entry.committed_at.is_some())
                    || source_of(i).is_some_and(|s| entry.version.is_some() && s != entry.source)
            }
        })
        .collect())
}

/// A row that the destination has, and the version columns it has.
struct Row {
    version: Option<Version>,
    committed_at: Option<i64>,
}

/// The rows of these nets in the destination.
fn rows_there(group: &mut Group<'_>, keys: &[Vec<Datum>]) -> Result<Vec<Option<Row>>, SqlError> {
    let columns = group.target.place == Place::Columns;
    let mut statement = match group.target.guard.load_rows.take() {
        Some(statement) => statement,
        None => {
            let target = &group.target;
            let list = target.key_sql();
            let definition: Vec<_> = list
                .iter()
                .map(|c| format!("{} {}", c.name, c.type_name))
                .collect();
            let on: Vec<_> = list
                .iter()
                .map(|c| format!("d.{0} {1} b.{0}", c.name, c.equals))
                .collect();
            let versions = if columns {
                ", d.sequin_lsn, d.sequin_idx, d.sequin_committed_at"
            } else {
                ", null::bigint, null::integer, null::timestamptz"
            };
            let sql = format!(
                "select b.sequin_n{versions} from sequin.batch() b(sequin_n integer, {}) \
                 cross join lateral (select d.* from {} d where {} offset 0) d",
                definition.join(", "),
                target.relation().name,
                on.join(" and "),
            );
            let mut row = vec![RowColumn::plain("sequin_n", pg_sys::INT4OID)];
            row.extend(target.key.iter().map(|&i| target.columns[i].row.clone()));
            Statement {
                plan: Plan::prepare(&sql)?,
                rows: RowType::new(&row),
            }
        }
    };
    let outcome = statement.run(keys.iter().enumerate(), |(n, key)| {
        let mut row = vec![Some(Datum::from(n as i32))];
        row.extend(key.iter().map(|value| Some(*value)));
        row
    });
    group.target.guard.load_rows = Some(statement);
    let returned = outcome?.returned.expect("a SELECT returns rows");
    let mut found: Vec<Option<Row>> = keys.iter().map(|_| None).collect();
    let (mut values, mut nulls) = ([Datum::null(); 4], [false; 4]);
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        let number = |i: usize| (!nulls[i]).then(|| values[i].value() as i64);
        found[values[0].value() as i32 as usize] = Some(Row {
            version: number(1).map(|lsn| Version {
                lsn: lsn as u64,
                idx: number(2).unwrap_or_default() as u32,
            }),
            committed_at: number(3).map(clock::to_unix),
        });
    }
    Ok(found)
}

/// Which of the rows with these keys the destination has.
pub fn exist(group: &mut Group<'_>, keys: &[Vec<Datum>]) -> Result<Vec<bool>, SqlError> {
    Ok(rows_there(group, keys)?
        .iter()
        .map(Option::is_some)
        .collect())
}

/// What is stored of the rows with these keys (as bytes, and as values).
pub fn load(
    group: &mut Group<'_>,
    keys: &[Vec<u8>],
    values: &[Vec<Datum>],
) -> Result<Vec<Stored>, SqlError> {
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let definer = group.call.definer;
    let home = group.home;
    let entries = entries(&mut group.target, definer, &keys)?;
    let rows = rows_there(group, values)?;
    Ok(entries
        .into_iter()
        .zip(rows)
        .map(|(entry, row)| stored(&group.target, home, entry, row))
        .collect())
}

fn stored(target: &Target, home: i64, entry: Option<Entry>, row: Option<Row>) -> Stored {
    let mut state = State::unknown(target.columns.len());
    let exists = row.is_some();
    let has_entry = entry.is_some();
    let deleted = entry.as_ref().is_some_and(|entry| entry.deleted);
    // With guard columns the destination says which version its row has.
    let stamp = match (&entry, &row) {
        (Some(entry), _) if target.place == Place::Table || deleted || row.is_none() => {
            (entry.version.is_some() || entry.committed_at.is_some()).then_some(Stamp {
                source: entry.source,
                version: entry.version,
                committed_at: entry.committed_at,
            })
        }
        // (Changes without a position, and those made under guard table, have it in their entry.)
        (Some(entry), Some(row)) if target.place == Place::Columns && row.version.is_none() => {
            (entry.version.is_some() || entry.committed_at.is_some()).then_some(Stamp {
                source: entry.source,
                version: entry.version,
                committed_at: entry.committed_at,
            })
        }
        (entry, Some(row)) if target.place == Place::Columns => row.version.map(|version| Stamp {
            source: entry
                .as_ref()
                .filter(|entry| entry.version == Some(version))
                .map_or(home, |entry| entry.source),
            version: Some(version),
            committed_at: row.committed_at,
        }),
        _ => None,
    };
    state.present = exists && !deleted;
    if state.present {
        state.row = stamp;
        state.cells.fill(merge::Cell {
            value: Value::Stored,
            gap: None,
        });
        state.read_at = match target.place {
            Place::Columns if stamp.is_none() => row.as_ref().and_then(|row| row.committed_at),
            _ => entry.as_ref().and_then(|entry| entry.read_at),
        };
    } else {
        // Gone by a delete, or by somebody's hand: what is older does not bring it back.
        let known = entry
            .as_ref()
            .filter(|_| deleted)
            .and_then(|entry| entry.gone.as_ref());
        state.gone = known.and_then(read_gone).or(stamp.map(|stamp| Gone {
            stamp,
            image: None,
            matched: None,
        }));
    }
    let Some(entry) = entry else {
        return Stored {
            state,
            exists,
            entry: has_entry,
        };
    };
    if state.present {
        state.row_image = entry.image;
        state.gone = entry.gone.as_ref().and_then(read_gone);
        for (name, gap) in entry.gaps.iter().filter_map(JsonValue::as_object).flatten() {
            let Some(column) = target.columns.iter().position(|c| c.name == *name) else {
                continue;
            };
            state.cells[column] = match read_stamp(gap) {
                Some(stamp) => merge::Cell {
                    value: Value::Stored,
                    gap: Some(stamp),
                },
                None => merge::Cell {
                    value: Value::Unknown,
                    gap: None,
                },
            };
        }
    }
    Stored {
        state,
        exists,
        entry: has_entry,
    }
}

fn write_stamp(stamp: &Stamp) -> JsonValue {
    json!([
        stamp.source,
        stamp.version.map(|v| v.lsn),
        stamp.version.map(|v| v.idx),
        stamp.committed_at
    ])
}

fn read_stamp(value: &JsonValue) -> Option<Stamp> {
    let parts = value.as_array()?;
    let number = |i: usize| parts.get(i).and_then(JsonValue::as_i64);
    Some(Stamp {
        source: number(0)?,
        version: number(1).map(|lsn| Version {
            lsn: lsn as u64,
            idx: number(2).unwrap_or_default() as u32,
        }),
        committed_at: number(3),
    })
}

fn read_gone(value: &JsonValue) -> Option<Gone> {
    let part = |i: usize| value.as_array()?.get(i)?.as_i64();
    Some(Gone {
        stamp: read_stamp(value)?,
        image: part(4).map(|image| image as u64),
        matched: part(5).map(|matched| matched as u32),
    })
}

fn write_gone(gone: &Gone) -> JsonValue {
    let mut value = write_stamp(&gone.stamp);
    if let Some(parts) = value.as_array_mut() {
        parts.push(json!(gone.image.map(|image| image as i64)));
        parts.push(json!(gone.matched));
    }
    value
}

/// Stores the states of examined rows.
pub fn store(group: &mut Group<'_>, states: &[(Vec<u8>, State, bool)]) -> Result<(), SqlError> {
    let _definer = ActingAs::new(group.call.definer, false);
    let home = group.home;
    let columns = group.target.place == Place::Columns;
    let target = &mut group.target;
    let (mut keep, mut drop, mut tombs) = (Vec::new(), Vec::new(), Vec::<&[u8]>::new());
    for (key, state, entry) in states {
        let gaps: serde_json::Map<String, JsonValue> = state
            .cells
            .iter()
            .enumerate()
            .filter_map(|(i, cell)| match (state.present, cell.value, &cell.gap) {
                (false, ..) => None,
                (_, Value::Unknown, _) => Some((i, JsonValue::Null)),
                (_, _, Some(gap)) => Some((i, write_stamp(gap))),
                (_, _, None) => None,
            })
            .map(|(i, gap)| (target.columns[i].name.clone(), gap))
            .collect();
        let gaps = (!gaps.is_empty()).then(|| JsonValue::from(gaps).to_string());
        // The floor matters as long as there is something to fill, or to be told apart.
        let gone = state
            .gone
            .as_ref()
            .filter(|gone| gone.image.is_some() || state.present && gaps.is_some())
            .map(|gone| write_gone(gone).to_string());
        let image = state.row_image.filter(|_| state.present);
        let stamp = if state.present {
            state.row
        } else {
            state.gone.map(|gone| gone.stamp)
        };
        let foreign = stamp.is_some_and(|stamp| stamp.source != home || stamp.version.is_none());
        if !state.present && stamp.is_some() {
            tombs.push(key);
        }
        if columns
            && state.present
            && gaps.is_none()
            && gone.is_none()
            && image.is_none()
            && !foreign
        {
            if stamp.is_some_and(|stamp| state.read_at > stamp.committed_at) {
                keep.push((key, None, state, image, gone, gaps));
            } else if *entry {
                drop.push(key);
            }
        } else {
            keep.push((key, stamp, state, image, gone, gaps));
        }
    }
    if !keep.is_empty() {
        let mut statement = match target.guard.store.take() {
            Some(statement) => statement,
            None => Statement::new(
                &format!(
                    "insert into sequin.row_version as v (mapping, key, source, lsn, idx,
                         committed_at, read_at, deleted, image, gone, gaps)
                     select {}, b.key, b.source, b.lsn, b.idx, b.committed_at, b.read_at, b.deleted,
                            b.image, b.gone::jsonb, b.gaps::jsonb
                     from sequin.batch() b(key bytea, source bigint, lsn bigint, idx integer,
                         committed_at timestamptz, read_at timestamptz, deleted boolean,
                         image bigint, gone text, gaps text)
                     on conflict (mapping, key) do update
                     set source = excluded.source, lsn = excluded.lsn, idx = excluded.idx,
                         committed_at = excluded.committed_at, read_at = excluded.read_at,
                         deleted = excluded.deleted, image = excluded.image, gone = excluded.gone,
                         gaps = excluded.gaps",
                    target.mapping.id
                ),
                &[
                    ("key", pg_sys::BYTEAOID),
                    ("source", pg_sys::INT8OID),
                    ("lsn", pg_sys::INT8OID),
                    ("idx", pg_sys::INT4OID),
                    ("committed_at", pg_sys::TIMESTAMPTZOID),
                    ("read_at", pg_sys::TIMESTAMPTZOID),
                    ("deleted", pg_sys::BOOLOID),
                    ("image", pg_sys::INT8OID),
                    ("gone", pg_sys::TEXTOID),
                    ("gaps", pg_sys::TEXTOID),
                ],
            )?,
        };
        let outcome = statement.run(keep.iter(), |(key, stamp, state, image, gone, gaps)| {
            let version = stamp.and_then(|stamp| stamp.version);
            vec![
                key.as_slice().into_datum(),
                stamp.map(|stamp| Datum::from(stamp.source)),
                version.map(|v| Datum::from(v.lsn as i64)),
                version.map(|v| Datum::from(v.idx as i32)),
                time(stamp.and_then(|stamp| stamp.committed_at)),
                time(state.read_at),
                Some(Datum::from(!state.present)),
                image.map(|image| Datum::from(image as i64)),
                gone.as_deref().and_then(IntoDatum::into_datum),
                gaps.as_deref().and_then(IntoDatum::into_datum),
            ]
        });
        target.guard.store = Some(statement);
        outcome?;
    }
    if !drop.is_empty() {
        let mut statement = match target.guard.forget.take() {
            Some(statement) => statement,
            None => Statement::new(
                &format!(
                    "delete from sequin.row_version v using sequin.batch() b(key bytea)
                     where v.mapping = {} and v.key = b.key",
                    target.mapping.id
                ),
                &[("key", pg_sys::BYTEAOID)],
            )?,
        };
        let outcome = statement.run(drop.iter(), |key| vec![key.as_slice().into_datum()]);
        target.guard.forget = Some(statement);
        outcome?;
    }
    note_tombstones(target, &tombs)
}

/// Lines tombstones, and notes of reads, up to be pruned.
fn note_tombstones(target: &mut Target, keys: &[&[u8]]) -> Result<(), SqlError> {
    if keys.is_empty() {
        return Ok(());
    }
    let mut statement = match target.guard.note.take() {
        Some(statement) => statement,
        None => Statement::new(
            &format!(
                "insert into sequin.tombstone (mapping, key)
                 select {}, b.key from sequin.batch() b(key bytea)",
                target.mapping.id
            ),
            &[("key", pg_sys::BYTEAOID)],
        )?,
    };
    let outcome = statement.run(keys.iter(), |key| vec![(*key).into_datum()]);
    target.guard.note = Some(statement);
    outcome.map(|_| ())
}

/// With guard columns: notes when rows were read that have a change's time in the destination.
pub fn note_reads(
    target: &mut Target,
    definer: pg_sys::Oid,
    reads: &[(Vec<u8>, Option<i64>)],
) -> Result<(), SqlError> {
    if reads.is_empty() {
        return Ok(());
    }
    let _definer = ActingAs::new(definer, false);
    let mut statement = match target.guard.note_reads.take() {
        Some(statement) => statement,
        None => Statement::new(
            &format!(
                "insert into sequin.row_version as v (mapping, key, read_at)
                 select {}, b.key, b.read_at from sequin.batch() b(key bytea, read_at timestamptz)
                 on conflict (mapping, key) do update set read_at = excluded.read_at",
                target.mapping.id
            ),
            &[
                ("key", pg_sys::BYTEAOID),
                ("read_at", pg_sys::TIMESTAMPTZOID),
            ],
        )?,
    };
    let outcome = statement.run(reads.iter(), |(key, read_at)| {
        vec![key.as_slice().into_datum(), time(*read_at)]
    });
    target.guard.note_reads = Some(statement);
    outcome?;
    let keys: Vec<&[u8]> = reads.iter().map(|(key, _)| key.as_slice()).collect();
    note_tombstones(target, &keys)
}

/// Notes that these rows are there at the source; returns of how many that was not known.
pub fn note_confirmed(
    target: &mut Target,
    definer: pg_sys::Oid,
    keys: &[&[u8]],
) -> Result<u64, SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mut statement = match target.guard.confirm.take() {
        Some(statement) => statement,
        None => Statement::new(
            &format!(
                "insert into sequin.resync_seen (mapping, key)
                 select {}, b.key from sequin.batch() b(key bytea) on conflict do nothing",
                target.mapping.id
            ),
            &[("key", pg_sys::BYTEAOID)],
        )?,
    };
    let outcome = statement.run(keys.iter(), |key| vec![(*key).into_datum()]);
    target.guard.confirm = Some(statement);
    outcome.map(|outcome| outcome.processed)
}

/// The source whose positions the destination's columns hold: the first one that wrote there.
pub fn home(target: &mut Target, definer: pg_sys::Oid, first: i64) -> Result<i64, SqlError> {
    if let Some(home) = target.home {
        return Ok(home);
    }
    let _definer = ActingAs::new(definer, false);
    let id = target.mapping.id;
    let read = |sql: &str| -> Result<Option<i64>, SqlError> {
        let Some(returned) = Plan::prepare(sql)?.run(Rows::new())?.returned else {
            return Ok(None);
        };
        if returned.len() == 0 {
            return Ok(None);
        }
        let (mut values, mut nulls) = ([Datum::null()], [false]);
        returned.read(0, &mut values, &mut nulls);
        Ok(Some(values[0].value() as i64))
    };
    let select = format!("select source from sequin.home_source where mapping = {id}");
    let home = match read(&select)? {
        Some(home) => home,
        None => {
            Plan::prepare(&format!(
                "insert into sequin.home_source (mapping, source) values ({id}, {first})
                 on conflict do nothing"
            ))?
            .run(Rows::new())?;
            // What is kept of it must go if this transaction is rolled back.
            invalidation::announce(home_sources());
            read(&select)?.unwrap_or(first)
        }
    };
    target.home = Some(home);
    Ok(home)
}

/// The OID of `sequin.home_source`: targets with guard columns depend on it.
pub fn home_sources() -> pg_sys::Oid {
    crate::mapping::catalog::oid("sequin.home_source")
}

/// How often a session looks for tombstones to prune.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

thread_local! {
    static PRUNED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Prunes tombstones older than `sequin.tombstone_retention`: a thousand at a time, once a minute
/// in a session, the oldest first. It is done last, so that it makes no other call wait for this one.
pub fn prune() -> Result<(), SqlError> {
    if PRUNED.get().is_some_and(|at| at.elapsed() < PRUNE_EVERY) {
        return Ok(());
    }
    PRUNED.set(Some(Instant::now()));
    let retention = crate::settings::tombstone_retention();
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
    plan.run(Rows::new()).map(|_| ())
}
