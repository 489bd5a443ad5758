//! Stores the states of examined rows.

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};
use serde_json::Value as JsonValue;

use super::encoding::{write_gap, write_gone};
use super::entries;
use super::notes::note_tombstones;
use crate::error::SqlError;
use crate::mapping::versions::VersionsIn;
use crate::merge::{Cell, Stamp, State, Value};
use crate::pg::clock;
use crate::pg::user::ActingAs;
use crate::prepared::Kept;
use crate::target::Target;
use crate::target::column::Member;

/// The new state of an examined row.
pub struct NewState<'s> {
    /// The row's key.
    pub key: &'s [u8],
    pub state: &'s State,
    /// The members of documents that have cells in the state, behind the columns.
    pub members: &'s [Member],
    /// Whether `sequin.row_version` has an entry for the row.
    pub has_version_row: bool,
}

/// The statement that stores states, which does this with an entry that is there.
macro_rules! store {
    ($there:literal) => {
        concat!(
            "
    insert into sequin.row_version as v (mapping, key, source, lsn, idx, committed_at, read_at,
                                         deleted, image, gone, gaps)
    select b.mapping, b.key, b.source, b.lsn, b.idx, b.committed_at, b.read_at, b.deleted, b.image,
           b.gone::jsonb, b.gaps::jsonb
    from sequin_internal.batch() b(mapping integer, key bytea, source bigint, lsn bigint, idx integer,
                          committed_at timestamptz, read_at timestamptz, deleted boolean,
                          image bigint, gone text, gaps text)
    on conflict (mapping, key) do ",
            $there
        )
    };
}

const STORE: &str = store!(
    "update
    set source = excluded.source, lsn = excluded.lsn, idx = excluded.idx,
        committed_at = excluded.committed_at, read_at = excluded.read_at,
        deleted = excluded.deleted, image = excluded.image, gone = excluded.gone,
        gaps = excluded.gaps"
);

const STATE: &[(&str, pg_sys::Oid)] = &[
    ("mapping", pg_sys::INT4OID),
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
];

const FORGET: &str = "
    delete from sequin.row_version v using sequin_internal.batch() b(mapping integer, key bytea)
    where v.mapping = b.mapping and v.key = b.key";

thread_local! {
    static KEEP: Kept = const { Kept::new(STORE, STATE) };
    static ADD: Kept = const { Kept::new(store!("nothing"), STATE) };
    static DROP: Kept = const {
        Kept::new(FORGET, &[("mapping", pg_sys::INT4OID), ("key", pg_sys::BYTEAOID)])
    };
}

/// The parts of a row's state that `sequin.row_version` must hold.
#[derive(Debug, Default, PartialEq)]
struct Remembered {
    stamp: Option<Stamp>,
    image: Option<u64>,
    gone: Option<String>,
    gaps: Option<String>,
}

/// The parts of a row's state to remember; `None` if the destination's columns hold the whole state. `name`
/// gives the name of a column by its number.
fn remember<'n>(
    state: &State,
    members: &[Member],
    versions: VersionsIn,
    home: i64,
    name: impl Fn(usize) -> &'n str,
) -> Option<Remembered> {
    let gap = |cell: &Cell| match (state.present, cell.value, &cell.gap) {
        (false, ..) => None,
        (_, Value::Unknown, _) => Some(JsonValue::Null),
        (_, _, Some(gap)) => Some(write_gap(gap, cell.lacked)),
        (_, _, None) => None,
    };
    let (columns, of_members) = state.cells.split_at(state.cells.len() - members.len());
    let gaps = columns.iter().enumerate();
    let mut gaps: serde_json::Map<String, JsonValue> = gaps
        .filter_map(|(i, cell)| Some((name(i).to_owned(), gap(cell)?)))
        .collect();
    for (member, cell) in members.iter().zip(of_members) {
        if let Some(gap) = gap(cell) {
            let of_document = gaps
                .entry(name(member.column))
                .or_insert_with(|| JsonValue::Object(serde_json::Map::new()));
            // An unknown document is null: so are its members.
            if let Some(of_document) = of_document.as_object_mut() {
                of_document.insert(member.name.clone(), gap);
            }
        }
    }
    let gaps = (!gaps.is_empty()).then(|| JsonValue::from(gaps).to_string());
    let (image, gone) = state.to_remember(gaps.is_some());
    let gone = gone.map(|gone| write_gone(&gone).to_string());
    let stamp = stamp_of(state);
    let foreign = stamp.is_some_and(|stamp| stamp.source != home || stamp.version.is_none());
    let in_columns = versions == VersionsIn::Columns
        && state.present
        && gaps.is_none()
        && gone.is_none()
        && image.is_none()
        && !foreign;
    if !in_columns {
        return Some(Remembered {
            stamp,
            image,
            gone,
            gaps,
        });
    }
    // The destination has no place for a read that is newer than the change.
    stamp
        .is_some_and(|stamp| state.read_at > stamp.committed_at)
        .then(Remembered::default)
}

/// The change that decided the row.
fn stamp_of(state: &State) -> Option<Stamp> {
    if state.present {
        state.row
    } else {
        state.gone.map(|gone| gone.stamp)
    }
}

/// Stores the states of examined rows. `home` is the home source. If other calls may write the rows at the same time
/// (`shared`), an entry that was not there when the rows were examined stays as another call has written it. Returns
/// whether there was no such entry. `Err` (40001): another call has just written one.
pub fn store(
    target: &Target,
    (definer, home): (pg_sys::Oid, i64),
    states: &[NewState<'_>],
    shared: bool,
) -> Result<bool, SqlError> {
    let _definer = ActingAs::new(definer, false);
    let mapping = target.mapping.id;
    let (mut keep, mut add, mut drop) = (Vec::new(), Vec::new(), Vec::new());
    for new in states {
        let name = |i: usize| target.columns[i].name.as_str();
        match remember(new.state, new.members, target.versions, home, name) {
            Some(remembered) if shared && !new.has_version_row => add.push((new, remembered)),
            Some(remembered) => keep.push((new, remembered)),
            None if new.has_version_row => drop.push(new.key),
            None => {}
        }
    }
    let simple =
        |(_, remembered): &(_, Remembered)| remembered.gone.is_none() && remembered.gaps.is_none();
    let (new, mut add): (Vec<(&NewState<'_>, Remembered)>, Vec<_>) =
        add.into_iter().partition(simple);
    let value = |(new, remembered): &(&NewState<'_>, Remembered), column: &str| {
        version_value(target, new, remembered, column)
    };
    if !entries::insert(mapping, &new, |(new, _)| new.key, value)? {
        add.extend(new);
    }
    let mut alone = true;
    for (statement, entries) in [(&KEEP, &keep), (&ADD, &add)] {
        if !entries.is_empty() {
            let stored = statement.with(|statement| {
                statement.execute(entries.iter(), |entry| {
                    STATE
                        .iter()
                        .map(|(column, _)| value(entry, column))
                        .collect()
                })
            })?;
            alone &= stored.processed as usize == entries.len();
        }
    }
    if !drop.is_empty() {
        DROP.with(|statement| {
            let row = |key: &&[u8]| vec![Some(Datum::from(mapping)), (*key).into_datum()];
            statement.execute(drop.iter(), row)
        })?;
    }
    let tombs: Vec<&[u8]> = states
        .iter()
        .filter(|new| !new.state.present && stamp_of(new.state).is_some())
        .map(|new| new.key)
        .collect();
    note_tombstones(mapping, &tombs)?;
    Ok(alone)
}

/// What an entry holds in a column: a value of [`STATE`]'s type.
fn version_value(
    target: &Target,
    new: &NewState<'_>,
    remembered: &Remembered,
    column: &str,
) -> Option<Datum> {
    let Remembered {
        stamp,
        image,
        gone,
        gaps,
    } = remembered;
    let version = stamp.and_then(|stamp| stamp.version);
    match column {
        "mapping" => Some(Datum::from(target.mapping.id)),
        "key" => new.key.into_datum(),
        "source" => {
            // With guard columns, the entry of a row that only a read has brought is of the home source.
            let of_read = target.versions == VersionsIn::Table && new.state.read_at.is_some();
            let source = match stamp {
                Some(stamp) => Some(stamp.source),
                None => of_read.then_some(new.state.read_source),
            };
            source.map(Datum::from)
        }
        "lsn" => version.map(|v| Datum::from(v.lsn as i64)),
        "idx" => version.map(|v| Datum::from(v.idx as i32)),
        "committed_at" => clock::datum(stamp.and_then(|stamp| stamp.committed_at)),
        "read_at" => clock::datum(new.state.read_at),
        "deleted" => Some(Datum::from(!new.state.present)),
        "image" => image.map(|image| Datum::from(image as i64)),
        "gone" => gone.as_deref().and_then(IntoDatum::into_datum),
        "gaps" => gaps.as_deref().and_then(IntoDatum::into_datum),
        _ => None,
    }
}
