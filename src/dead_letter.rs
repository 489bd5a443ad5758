//! Letters: messages that could not be applied, kept in `sequin.dead_letter`.
//!
//! A later call retries a waiting letter when it writes the row that the letter waits for ([`due`]).
//! Retried letters are read into the batch of that call ([`retried`]). A letter is removed when it is
//! applied, or when a newer change of its row was applied ([`superseded`]).

#![forbid(unsafe_code)]

pub mod broken;
pub mod due;
pub mod presence;
pub mod retried;
pub mod superseded;

use std::borrow::Cow;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::message::Version;
use crate::outcome::Wait;
use crate::pg::clock;
use crate::prepared::Kept;

/// The state of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The letter needs intervention.
    Dead,
    /// The letter is retried automatically.
    Waiting,
    /// The letter is retried when its mapping is enabled.
    Paused,
}

impl State {
    /// The state's name in `sequin.dead_letter.state`.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Dead => "dead",
            State::Waiting => "waiting",
            State::Paused => "paused",
        }
    }
}

/// A message that is kept in `sequin.dead_letter`.
pub struct Letter<'a> {
    /// The letter's number, if it is stored already.
    pub id: Option<i64>,
    /// The mapping's name; `None` if no mapping took the message.
    pub mapping: Option<String>,
    /// The message as it came.
    pub text: Cow<'a, str>,
    /// The message's position in its batch, from 0.
    pub position: usize,
    /// Why the message was not applied.
    pub error: Cow<'a, SqlError>,
    /// The row that the message waits for, if it may work later.
    pub wait: Option<Wait>,
    pub state: State,
    /// The row's key, as a JSON array.
    pub key: Option<String>,
    /// The row's key, as bytes.
    pub row_key: Option<Vec<u8>>,
    /// The key that the message moved its row from, as bytes.
    pub former_key: Option<Vec<u8>>,
    /// What others may wait for that it brings, beside its row, as bytes.
    pub brings: Vec<Vec<u8>>,
    /// The source database.
    pub source: Option<&'a str>,
    /// The position of the change in the source.
    pub version: Option<Version>,
    /// When the change was committed, in microseconds since 1970.
    pub committed_at: Option<i64>,
}

/// A letter that exists is renewed instead of stored twice. It is found by its number, or by its row and
/// version; a letter without an LSN must also have the same text. If the row is not known, the letter is
/// found by LSN and text. A message without a known row and without an LSN is stored each time.
const STORE: &str = "
    with b as materialized (
        select b.*, coalesce(b.id, (
            select min(l.id) from sequin.dead_letter l
            where l.mapping = b.mapping and l.row_key = b.row_key
              and l.source is not distinct from b.source and l.lsn is not distinct from b.lsn
              and l.idx is not distinct from b.idx
              and l.committed_at is not distinct from b.committed_at
              and (b.lsn is not null or l.message = b.message)), (
            select min(l.id) from sequin.dead_letter l
            where b.row_key is null and b.lsn is not null and l.row_key is null and l.lsn = b.lsn
              and l.message = b.message and l.mapping is not distinct from b.mapping)) as known
        from sequin.batch() b(id bigint, mapping text, message text, sqlstate text, error text,
                              detail text, hint text, position bigint, key text, row_key bytea,
                              former_key bytea,
                              source text, lsn bigint, idx integer, committed_at timestamptz,
                              waits_on oid, waits_for bytea, state text, brings bytea[], waits_or bytea)),
    renewed as (
        update sequin.dead_letter l
        set sqlstate = b.sqlstate, error = b.error, detail = b.detail, hint = b.hint, key = b.key,
            row_key = b.row_key, former_key = b.former_key, source = b.source, lsn = b.lsn, idx = b.idx,
            committed_at = b.committed_at, waits_on = b.waits_on, waits_for = sha256(b.waits_for),
            waits_or = sha256(b.waits_or), brings = (select array_agg(sha256(u)) from unnest(b.brings) u), state = b.state, attempts = l.attempts + 1, last_attempt_at = pg_catalog.clock_timestamp()
        from b where l.id = b.known)
    insert into sequin.dead_letter (mapping, message, sqlstate, error, detail, hint, position, key,
                                    row_key, former_key, source, lsn, idx, committed_at, waits_on, waits_for,
                                    state, brings, waits_or)
    select b.mapping, b.message, b.sqlstate, b.error, b.detail, b.hint, b.position, b.key, b.row_key,
           b.former_key, b.source, b.lsn, b.idx, b.committed_at, b.waits_on, sha256(b.waits_for),
           b.state, (select array_agg(sha256(u)) from unnest(b.brings) u), sha256(b.waits_or)
    from b where b.known is null";

const COLUMNS: [(&str, pg_sys::Oid); 20] = [
    ("id", pg_sys::INT8OID),
    ("mapping", pg_sys::TEXTOID),
    ("message", pg_sys::TEXTOID),
    ("sqlstate", pg_sys::TEXTOID),
    ("error", pg_sys::TEXTOID),
    ("detail", pg_sys::TEXTOID),
    ("hint", pg_sys::TEXTOID),
    ("position", pg_sys::INT8OID),
    ("key", pg_sys::TEXTOID),
    ("row_key", pg_sys::BYTEAOID),
    ("former_key", pg_sys::BYTEAOID),
    ("source", pg_sys::TEXTOID),
    ("lsn", pg_sys::INT8OID),
    ("idx", pg_sys::INT4OID),
    ("committed_at", pg_sys::TIMESTAMPTZOID),
    ("waits_on", pg_sys::OIDOID),
    ("waits_for", pg_sys::BYTEAOID),
    ("state", pg_sys::TEXTOID),
    ("brings", pg_sys::BYTEAARRAYOID),
    ("waits_or", pg_sys::BYTEAOID),
];

thread_local! {
    static STORED: Kept = const { Kept::new(STORE, &COLUMNS) };
    static REMOVED: Kept = const { Kept::new(REMOVE, &[("id", pg_sys::INT8OID)]) };
}

/// Stores the letters, in this order.
pub fn store<'a>(letters: impl Iterator<Item = Letter<'a>>) -> Result<(), SqlError> {
    let mut letters = letters.peekable();
    if letters.peek().is_none() {
        return Ok(());
    }
    let outcome = STORED.with(|statement| {
        statement.execute(letters, |letter| {
            let wait = letter.wait.as_ref();
            vec![
                letter.id.map(Datum::from),
                text(letter.mapping.as_deref()),
                text(Some(&*letter.text)),
                text(Some(&letter.error.sqlstate())),
                text(Some(&letter.error.message)),
                text(letter.error.detail.as_deref()),
                text(letter.error.hint.as_deref()),
                Some(Datum::from(letter.position as i64)),
                text(letter.key.as_deref()),
                letter.row_key.as_deref().and_then(IntoDatum::into_datum),
                letter.former_key.as_deref().and_then(IntoDatum::into_datum),
                text(letter.source),
                letter
                    .version
                    .map(|version| Datum::from(version.lsn as i64)),
                letter
                    .version
                    .map(|version| Datum::from(version.idx as i32)),
                clock::datum(letter.committed_at),
                wait.and_then(Wait::table).map(Datum::from),
                wait.and_then(Wait::key).and_then(IntoDatum::into_datum),
                text(Some(letter.state.as_str())),
                (!letter.brings.is_empty())
                    .then(|| letter.brings.into_datum())
                    .flatten(),
                wait.and_then(Wait::or).and_then(IntoDatum::into_datum),
            ]
        })
    });
    outcome.map(drop)
}

const REMOVE: &str =
    "delete from sequin.dead_letter l using sequin.batch() b(id bigint) where l.id = b.id";

/// Deletes the letters with these numbers.
pub fn remove(ids: &[i64]) -> Result<(), SqlError> {
    if ids.is_empty() {
        return Ok(());
    }
    REMOVED
        .with(|statement| statement.execute(ids.iter(), |id| vec![Some(Datum::from(*id))]))
        .map(drop)
}

// A `text` value cannot contain NUL, so NUL is stored as its JSON escape.
fn text(text: Option<&str>) -> Option<Datum> {
    let text = text?;
    match text.contains('\0') {
        true => text.replace('\0', "\\u0000").into_datum(),
        false => text.into_datum(),
    }
}
