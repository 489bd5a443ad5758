//! Loads the stored state of rows: versions from `sequin.row_version`, rows from the destination.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};
use serde_json::Value as JsonValue;

use super::encoding::{read_gap, read_gone};
use crate::error::SqlError;
use crate::mapping::check::Sharer;
use crate::mapping::versions::VersionsIn;
use crate::merge::{Cell, Gone, Stamp, State, Value, is_seen};
use crate::message::Version;
use crate::pg::clock;
use crate::pg::keys::output_text;
use crate::pg::row_version::{has_any, relations};
use crate::pg::unique_scan::{Sees, scan};
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, RowReader, Statement};
use crate::settings;
use crate::statement::lookup::{self, RowLock};
use crate::target::Target;
use crate::target::column::Member;
use crate::target::statements::Purpose;

/// The stored state of a row.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The state in the form that [`crate::merge`] takes: a cell for each column, then one for each of the members.
    pub state: State,
    /// The members of documents whose value is older than the row, or unknown.
    pub members: Vec<Member>,
    /// Whether the destination has the row.
    pub exists: bool,
    /// Whether `sequin.row_version` has an entry for the row.
    pub has_version_row: bool,
}

/// Locks entries and reads them.
const VERSION_ROWS: &str = "
    select b.n, v.source, v.lsn, v.idx, v.committed_at, v.read_at, v.deleted, v.image,
           v.gone::text, v.gaps::text
    from sequin_internal.batch() b(n integer, mapping integer, key bytea)
    cross join lateral (select r.* from sequin.row_version r
                        where r.mapping = b.mapping and r.key = b.key offset 0 for update) v";

/// The columns of an entry, behind its number.
const VERSION: &[&str] = &[
    "source",
    "lsn",
    "idx",
    "committed_at",
    "read_at",
    "deleted",
    "image",
    "gone",
    "gaps",
];

const KEY: &[(&str, pg_sys::Oid)] = &[
    ("n", pg_sys::INT4OID),
    ("mapping", pg_sys::INT4OID),
    ("key", pg_sys::BYTEAOID),
];

thread_local! {
    static LOCKED: Kept = const { Kept::new(VERSION_ROWS, KEY) };
}

/// A row of `sequin.row_version`.
pub(super) struct VersionRow {
    source: i64,
    version: Option<Version>,
    committed_at: Option<i64>,
    read_at: Option<i64>,
    pub(super) deleted: bool,
    image: Option<u64>,
    gone: Option<JsonValue>,
    gaps: Option<JsonValue>,
}

impl VersionRow {
    /// Reads the columns [`VERSION`]: each has a value, and those of JSON a text.
    fn of(
        value: impl Fn(usize) -> Option<Datum>,
        text: impl Fn(usize) -> Option<String>,
    ) -> VersionRow {
        let number = |column| value(column).map(|value| value.value() as i64);
        let json = |column| serde_json::from_str(&text(column)?).ok();
        VersionRow {
            source: number(0).unwrap_or_default(),
            version: number(1).map(|lsn| Version {
                lsn: lsn as u64,
                idx: number(2).unwrap_or_default() as u32,
            }),
            committed_at: number(3).map(clock::to_unix),
            read_at: number(4).map(clock::to_unix),
            deleted: number(5).is_some_and(|deleted| deleted as u8 != 0),
            image: number(6).map(|image| image as u64),
            gone: json(7),
            gaps: json(8),
        }
    }

    /// Whether the entry holds only the time of the newest read. With guard columns, the time of the row's
    /// change is in the destination.
    fn is_note_of_read(&self) -> bool {
        self.version.is_none()
            && self.committed_at.is_none()
            && !self.deleted
            && self.image.is_none()
            && self.gone.is_none()
            && self.gaps.is_none()
    }

    /// The change that decided the row, if the entry has one.
    fn stamp(&self) -> Option<Stamp> {
        (self.version.is_some() || self.committed_at.is_some()).then_some(Stamp {
            source: self.source,
            version: self.version,
            committed_at: self.committed_at,
        })
    }
}

/// The entries of these keys, each at the index of its key.
pub(super) fn version_rows(
    mapping: i32,
    definer: pg_sys::Oid,
    keys: &[&[u8]],
    lock: RowLock,
) -> Result<Vec<Option<VersionRow>>, SqlError> {
    match lock {
        RowLock::None => Ok(seen_versions(mapping, keys)),
        RowLock::Change => locked_versions(mapping, definer, keys),
    }
}

/// Whether another mapping has the rows with these keys, as its entries tell; `None` for a row without an entry.
pub fn have(sharer: &Sharer, keys: &[&[u8]]) -> Vec<Option<bool>> {
    let entries = seen_versions(sharer.mapping, keys).into_iter();
    entries
        .map(|entry| entry.map(|entry| sharer.keeps_rows || !entry.deleted))
        .collect()
}

/// For which of these keys a mapping (by id) has an entry. `live`: of a row that is not deleted.
pub fn have_entries(mapping: i32, keys: &[&[u8]], sees: Sees, live: bool) -> Vec<bool> {
    let mut found = vec![false; keys.len()];
    let keys = index_keys(mapping, keys);
    scan(relations(), sees, &["deleted"], keys, |n, row| {
        let deleted = row
            .value(0)
            .is_some_and(|deleted| deleted.value() as u8 != 0);
        found[n] |= !(live && deleted);
        ControlFlow::Continue(())
    });
    found
}

fn seen_versions(mapping: i32, keys: &[&[u8]]) -> Vec<Option<VersionRow>> {
    let mut found: Vec<Option<VersionRow>> = keys.iter().map(|_| None).collect();
    let keys = index_keys(mapping, keys);
    scan(relations(), Sees::Committed, VERSION, keys, |n, row| {
        let text = |column| Some(output_text(pg_sys::JSONBOID, row.value(column)?));
        found[n] = Some(VersionRow::of(|column| row.value(column), text));
        ControlFlow::Continue(())
    });
    found
}

/// Keys of a mapping's entries, as the primary key has them.
fn index_keys<'k>(mapping: i32, keys: &'k [&[u8]]) -> impl Iterator<Item = Vec<Datum>> + 'k {
    keys.iter().map(move |key| {
        let key = key.into_datum();
        vec![Datum::from(mapping), key.unwrap_or(Datum::null())]
    })
}

fn locked_versions(
    mapping: i32,
    definer: pg_sys::Oid,
    keys: &[&[u8]],
) -> Result<Vec<Option<VersionRow>>, SqlError> {
    let mut found: Vec<Option<VersionRow>> = keys.iter().map(|_| None).collect();
    let _definer = ActingAs::new(definer, false);
    let returned = LOCKED.with(|statement| {
        statement.query(keys.iter().enumerate(), |(n, key)| {
            vec![
                Some(Datum::from(n as i32)),
                Some(Datum::from(mapping)),
                (*key).into_datum(),
            ]
        })
    })?;
    let mut row = RowReader::new(&returned);
    while row.next() {
        let value = |column| row.datum(column + 1);
        let text = |column| row.text(column + 1);
        found[row.index(0)] = Some(VersionRow::of(value, text));
    }
    Ok(found)
}

/// A change whose version was to be claimed, and was not newer than the stored one.
#[derive(Debug, Clone, Copy)]
pub struct Lost {
    /// The stamp of the change.
    pub stamp: Stamp,
    /// Whether the change deletes the row, and which row.
    pub deleted: bool,
    /// The image of the row that it deletes.
    pub image: Option<u64>,
}

impl Lost {
    /// Whether the comparison of versions does not settle this change: the stored version is of another
    /// source, or of the same transaction, in which rows are told apart by their images.
    fn needs_more(&self, row: &VersionRow) -> bool {
        let Some(stored) = row.stamp().filter(|stamp| stamp.version.is_some()) else {
            return false;
        };
        let another = match row.deleted {
            true => row.image.is_some() && !self.deleted,
            false => self.image.is_some(),
        };
        self.stamp.source != stored.source
            || another
                && self.stamp.same_transaction(&stored)
                && row.deleted == self.stamp.is_before(&stored)
    }
}

/// The newest change of a key that may be written.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    /// A change that was claimed in vain.
    Lost(Lost),
    /// A read that was claimed in vain.
    LostRead,
    /// With guard columns: a change that was committed at this time.
    Change(Option<i64>),
    /// With guard columns: a read at this time.
    Read(Option<i64>),
}

/// Whether the mapping may have entries. With guard table, every row has one.
pub fn may_have_entries(target: &Target) -> bool {
    match target.versions {
        VersionsIn::Nowhere => false,
        VersionsIn::Columns => has_any(target.mapping.id),
        VersionsIn::Table => true,
    }
}

/// For each of these keys, whether the entry holds more than a version, or a read that is not older.
pub fn special(
    target: &Target,
    definer: pg_sys::Oid,
    keys: &[&[u8]],
    asked: impl Fn(usize) -> Asked,
) -> Result<Vec<bool>, SqlError> {
    let read_skew = settings::read_skew();
    let columns = target.versions == VersionsIn::Columns;
    Ok(
        version_rows(target.mapping.id, definer, keys, RowLock::None)?
            .iter()
            .enumerate()
            .map(|(i, row)| match row {
                None => false,
                Some(row) if columns => {
                    !row.is_note_of_read()
                        || match asked(i) {
                            Asked::Read(at) => row.read_at >= at,
                            Asked::Change(at) => is_seen(row.read_at, at, read_skew),
                            Asked::Lost(_) | Asked::LostRead => false,
                        }
                }
                Some(row) => {
                    let lost = match asked(i) {
                        Asked::Lost(lost) => Some(lost),
                        _ => None,
                    };
                    row.gaps.is_some()
                        || row.gone.is_some()
                        || row.image.is_some() && (lost.is_none() || !row.deleted)
                        || (row.version.is_none() && row.committed_at.is_some())
                        || lost.is_some_and(|lost| lost.needs_more(row))
                }
            })
            .collect(),
    )
}

/// A row of the destination, with its version columns.
#[derive(Default)]
pub(super) struct Row {
    pub(super) version: Option<Version>,
    pub(super) committed_at: Option<i64>,
}

/// The rows of the destination with these keys, each at the index of its key.
fn rows_there(
    target: &mut Target,
    keys: &[Vec<Datum>],
    lock: RowLock,
) -> Result<Vec<Option<Row>>, SqlError> {
    let by_key = (Purpose::Read(lock), target.within(|| keys.to_vec()));
    let mut statement = match target.statements.by_key.take(&by_key) {
        Some(statement) => statement,
        None => {
            let versions = match target.versions {
                VersionsIn::Columns => ["d.sequin_lsn", "d.sequin_idx", "d.sequin_committed_at"],
                _ => ["null::bigint", "null::integer", "null::timestamptz"],
            };
            let versions = versions.map(str::to_owned);
            let relation = target.relation_within(by_key.1.clone());
            let sql = lookup::rows_of_keys(&relation, &target.key_sql(), &versions, lock);
            Statement::new(&sql, &target.numbered_key())?
        }
    };
    let returned = statement.query(keys.iter().enumerate(), |(n, key)| {
        let mut row = vec![Some(Datum::from(n as i32))];
        row.extend(key.iter().map(|value| Some(*value)));
        row
    });
    target.statements.by_key.keep(by_key, statement);
    let returned = returned?;
    let mut found: Vec<Option<Row>> = keys.iter().map(|_| None).collect();
    let mut row = RowReader::new(&returned);
    while row.next() {
        found[row.index(0)] = Some(Row {
            version: row.version(1, 2),
            committed_at: row.time(3),
        });
    }
    Ok(found)
}

/// For each of these keys, whether the destination has the row.
pub fn exist(target: &mut Target, keys: &[Vec<Datum>]) -> Result<Vec<bool>, SqlError> {
    Ok(rows_there(target, keys, RowLock::None)?
        .iter()
        .map(Option::is_some)
        .collect())
}

/// The stored states of the rows with these keys (as bytes, and as values). `home` is the home source. `entries`: whether
/// they may have entries.
///
/// With a lock, the rows and their entries are locked in the order in which other calls write them: first the entry
/// with guard table, first the row with guard columns.
pub fn load(
    target: &mut Target,
    (definer, home): (pg_sys::Oid, i64),
    (keys, values): (&[Vec<u8>], &[Vec<Datum>]),
    lock: RowLock,
    entries: bool,
) -> Result<Vec<Stored>, SqlError> {
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let mapping = target.mapping.id;
    let read = || match entries {
        true => version_rows(mapping, definer, &keys, lock),
        false => Ok(keys.iter().map(|_| None).collect()),
    };
    let (versions, rows) = if target.versions == VersionsIn::Columns {
        let rows = rows_there(target, values, lock)?;
        (read()?, rows)
    } else {
        let versions = read()?;
        (versions, rows_there(target, values, RowLock::None)?)
    };
    Ok(versions
        .into_iter()
        .zip(rows)
        .map(|(version, row)| stored(target, home, version, row))
        .collect())
}

/// The change that wrote or deleted the row last.
fn stamp(
    versions: VersionsIn,
    home: i64,
    version: Option<&VersionRow>,
    row: Option<&Row>,
) -> Option<Stamp> {
    let deleted = version.is_some_and(|version| version.deleted);
    match (version, row) {
        (Some(version), _) if versions == VersionsIn::Table || deleted || row.is_none() => {
            version.stamp()
        }
        // With guard columns, the destination holds the version of its row. For a change without a
        // position, and for a change that was made under guard table, the version row holds the stamp.
        (Some(version), Some(row)) if versions == VersionsIn::Columns && row.version.is_none() => {
            version.stamp()
        }
        (version, Some(row)) if versions == VersionsIn::Columns => {
            row.version.map(|position| Stamp {
                source: version
                    .filter(|version| version.version == Some(position))
                    .map_or(home, |version| version.source),
                version: Some(position),
                committed_at: row.committed_at,
            })
        }
        _ => None,
    }
}

pub(super) fn stored(
    target: &Target,
    home: i64,
    version: Option<VersionRow>,
    row: Option<Row>,
) -> Stored {
    let mut state = State::unknown(target.columns.len());
    let mut members = Vec::new();
    let exists = row.is_some();
    let deleted = version.as_ref().is_some_and(|version| version.deleted);
    let stamp = stamp(target.versions, home, version.as_ref(), row.as_ref());
    // A row without an entry may be that of other mappings alone.
    let has = version.is_some() || target.shared.sharers.is_empty();
    state.present = exists && !deleted && has;
    if state.present {
        state.row = stamp;
        state.cells.fill(Cell::new(Value::Stored));
        state.read_at = match target.versions {
            VersionsIn::Columns if stamp.is_none() => row.as_ref().and_then(|row| row.committed_at),
            // A change that the read may not have seen has replaced the read, and with guard columns its note stays.
            _ => version
                .as_ref()
                .and_then(|version| version.read_at)
                .filter(|&at| {
                    stamp.is_none_or(|stamp| {
                        is_seen(Some(at), stamp.committed_at, settings::read_skew())
                    })
                }),
        };
        state.read_source = match (stamp, target.versions, &version) {
            _ if state.read_at.is_none() => 0,
            (Some(stamp), ..) => stamp.source,
            (None, VersionsIn::Table, Some(version)) => version.source,
            _ => home,
        };
        if let Some(version) = &version {
            state.row_image = version.image;
            state.gone = version.gone.as_ref().and_then(read_gone);
            members = read_gaps(target, version, &mut state);
        }
    } else {
        // Deleted by a change, or by hand: an older change does not bring the row back.
        let known = version
            .as_ref()
            .filter(|_| deleted)
            .and_then(|version| version.gone.as_ref());
        state.gone = known.and_then(read_gone).or(stamp.map(|stamp| Gone {
            stamp,
            image: version.as_ref().and_then(|version| version.image),
            matched: None,
        }));
    }
    Stored {
        state,
        members,
        exists,
        has_version_row: version.is_some(),
    }
}

/// Sets the cells of columns whose value is older than the row, or unknown. Adds cells for members of documents of which
/// that is true; returns these members.
fn read_gaps(target: &Target, version: &VersionRow, state: &mut State) -> Vec<Member> {
    let mut members = Vec::new();
    let gaps = version.gaps.iter().filter_map(JsonValue::as_object);
    for (name, gap) in gaps.flatten() {
        let Some(column) = target.column_number(name) else {
            continue;
        };
        let Some(of_document) = gap.as_object() else {
            state.cells[column] = cell(gap);
            continue;
        };
        for (name, gap) in of_document {
            let name = name.clone();
            members.push(Member { column, name });
            state.cells.push(cell(gap));
        }
    }
    members
}

/// The cell of a value with this entry in the gaps.
fn cell(gap: &JsonValue) -> Cell {
    match read_gap(gap) {
        Some((stamp, lacked)) => Cell {
            value: Value::Stored,
            gap: Some(stamp),
            lacked,
        },
        None => Cell::new(Value::Unknown),
    }
}
