//! Letters: messages that could not be applied, kept in `sequin.dead_letter`.
//!
//! A later call retries a waiting letter when it writes the row that the letter waits for ([`due`]).
//! Retried letters are read into the batch of that call ([`retried`]). A letter is removed when it is
//! applied, or when a newer change of its row was applied ([`superseded`]).

#![forbid(unsafe_code)]

pub mod broken;
pub mod circles;
pub mod due;
pub mod presence;
pub mod retried;
pub mod superseded;
pub mod words;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use bumpalo::Bump;
use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::SqlError;
use crate::json::{Encoder, Json, Jsonb};
use crate::message::Version;
use crate::outcome::Wait;
use crate::pg::clock;
use crate::pg::settings::{Settings, is_own_lock_timeout};
use crate::pg::subtransaction::subtransaction;
use crate::pg::typeio;
use crate::prepared::{BatchRow, Kept, Lookup, RowReader};
use crate::settings;

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
    /// The awaited row, if the message may succeed later.
    pub wait: Option<Wait>,
    /// The key of the awaited row in words, as far as the mapping's owner may know it.
    pub waits_for_key: Option<String>,
    pub state: State,
    /// The row's key, as a JSON array.
    pub key: Option<String>,
    /// The row's key, as bytes.
    pub row_key: Option<Vec<u8>>,
    /// The key that the message moved its row from, as bytes.
    pub former_key: Option<Vec<u8>>,
    /// Further keys and values that the letter brings and other letters may wait for, as bytes.
    pub brings: Vec<Vec<u8>>,
    /// The source database.
    pub source: Option<&'a str>,
    /// The position of the change in the source.
    pub version: Option<Version>,
    /// When the change was committed, in microseconds since 1970.
    pub committed_at: Option<i64>,
}

/// Whether the extension's SQL is that of this library: it may be older, until `alter extension … update`.
const HAS_CONTENT: &str =
    "select pg_catalog.to_regprocedure('sequin_internal.content(pg_catalog.text)') is not null";

/// Finds letters that are stored already. If the row is known, a letter is the same if mapping, row, source,
/// version and commit time are equal; without an LSN, the content must be equal too. If the row is not known, a
/// letter is the same if mapping and content are equal.
macro_rules! known {
    ($content:literal) => {
        concat!(
            "
    select k.n, k.known from (
        select b.n, coalesce((
            select min(l.id) from sequin.dead_letter l
            where l.mapping = b.mapping and l.row_key = b.row_key
              and l.source is not distinct from b.source and l.lsn is not distinct from b.lsn
              and l.idx is not distinct from b.idx
              and l.committed_at is not distinct from b.committed_at
              and (b.lsn is not null or ", $content, " = b.content)), (
            select min(l.id) from sequin.dead_letter l
            where b.row_key is null and l.row_key is null
              and hashtextextended(", $content, ", 0) = hashtextextended(b.content, 0)
              and ", $content, " = b.content
              and l.mapping is not distinct from b.mapping)) as known
        from sequin_internal.batch() b(n integer, mapping text, content text, row_key bytea, source text, lsn bigint,
                              idx integer, committed_at timestamptz)
        offset 0) k
    where k.known is not null"
        )
    };
}

// As the index dead_letter_message has it: see `content`.
const KNOWN: &str = known!(
    "case when pg_catalog.octet_length(l.message) operator(pg_catalog.>) 1048576 then l.message \
     else sequin_internal.content(l.message) end"
);

/// The same where the SQL of the extension is older: by the text.
const KNOWN_BEFORE: &str = known!("l.message");

const RENEW: &str = "
    update sequin.dead_letter l
    set sqlstate = b.sqlstate, error = b.error, detail = b.detail, hint = b.hint, key = b.key,
        row_key = b.row_key, former_key = b.former_key, source = b.source, lsn = b.lsn, idx = b.idx,
        committed_at = b.committed_at, waits_on = b.waits_on, waits_for = sha256(b.waits_for),
        waits_or = sha256(b.waits_or), waits_for_key = b.waits_for_key, brings = (select array_agg(sha256(u)) from unnest(b.brings) u),
        state = b.state, attempts = l.attempts + b.times, last_attempt_at = pg_catalog.clock_timestamp()
    from sequin_internal.batch() b(id bigint, mapping text, message text, sqlstate text, error text, detail text, hint text,
                          position bigint, key text, row_key bytea, former_key bytea, source text, lsn bigint,
                          idx integer, committed_at timestamptz, waits_on oid, waits_for bytea, state text,
                          brings bytea[], waits_or bytea, waits_for_key text, times integer)
    where l.id = b.id";

/// A plain statement. Each node of a larger plan would copy the letter's text, which may be as large as its
/// batch.
const STORE: &str = "
    insert into sequin.dead_letter (mapping, message, sqlstate, error, detail, hint, position, key,
                                    row_key, former_key, source, lsn, idx, committed_at, waits_on, waits_for,
                                    state, brings, waits_or, waits_for_key, attempts)
    select b.mapping, b.message, b.sqlstate, b.error, b.detail, b.hint, b.position, b.key, b.row_key,
           b.former_key, b.source, b.lsn, b.idx, b.committed_at, b.waits_on, sha256(b.waits_for),
           b.state, (select array_agg(sha256(u)) from unnest(b.brings) u), sha256(b.waits_or),
           b.waits_for_key, b.times
    from sequin_internal.batch() b(id bigint, mapping text, message text, sqlstate text, error text, detail text, hint text,
                          position bigint, key text, row_key bytea, former_key bytea, source text, lsn bigint,
                          idx integer, committed_at timestamptz, waits_on oid, waits_for bytea, state text,
                          brings bytea[], waits_or bytea, waits_for_key text, times integer)
    returning id";

const COLUMNS: [(&str, pg_sys::Oid); 22] = [
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
    ("waits_for_key", pg_sys::TEXTOID),
    ("times", pg_sys::INT4OID),
];

const ASKED: [(&str, pg_sys::Oid); 8] = [
    ("n", pg_sys::INT4OID),
    ("mapping", pg_sys::TEXTOID),
    ("content", pg_sys::TEXTOID),
    ("row_key", pg_sys::BYTEAOID),
    ("source", pg_sys::TEXTOID),
    ("lsn", pg_sys::INT8OID),
    ("idx", pg_sys::INT4OID),
    ("committed_at", pg_sys::TIMESTAMPTZOID),
];

thread_local! {
    static FIND_CONTENT: Lookup = const { Lookup::new(HAS_CONTENT, &[]) };
    static LOOK_UP: [Kept; 2] =
        const { [Kept::new(KNOWN_BEFORE, &ASKED), Kept::new(KNOWN, &ASKED)] };
    static STORED: Kept = const { Kept::new(STORE, &COLUMNS) };
    static RENEWED: Kept = const { Kept::new(RENEW, &COLUMNS) };
    static REMOVED: Kept = const { Kept::new(REMOVE, &[("id", pg_sys::INT8OID)]) };
    static LOCKED: Kept = const { Kept::new(LOCK, &[("id", pg_sys::INT8OID)]) };
}

/// A larger text in bytes stands for itself, so that its letter takes no more memory than its message.
const MOST_SPELLED: usize = 1 << 20;

/// What a message says, however it is spelled: as `jsonb` writes it. A text that is no `jsonb`, or large, stands for
/// itself.
pub fn content(text: &str) -> Cow<'_, str> {
    if text.len() > MOST_SPELLED {
        return Cow::Borrowed(text);
    }
    let mut encoder = Encoder::default();
    let json = Json::parse(text).ok();
    let datum = json.and_then(|json| encoder.jsonb(json).ok());
    match datum {
        Some(datum) => Cow::Owned(Jsonb::new(datum).text()),
        None => Cow::Borrowed(text),
    }
}

/// How many letters, and how many bytes of their texts, are stored at a time.
const SET: usize = 1000;
const SET_BYTES: usize = 1 << 20;

/// Stores the letters in this order. Returns the numbers of the new letters.
pub fn store<'a>(mut letters: impl Iterator<Item = Letter<'a>>) -> Result<Vec<i64>, SqlError> {
    let mut stored = Vec::new();
    loop {
        let mut set = Vec::new();
        let mut bytes = 0;
        while set.len() < SET
            && bytes < SET_BYTES
            && let Some(letter) = letters.next()
        {
            bytes += letter.text.len();
            set.push(letter);
        }
        if set.is_empty() {
            return Ok(stored);
        }
        stored.extend(store_set(set)?);
    }
}

/// A letter, and how often it comes in its set.
type Counted<'a> = (Letter<'a>, i32);

/// Counts letters whose row is not known and that are equal.
fn count(set: Vec<Letter<'_>>) -> Vec<Counted<'_>> {
    // By a hash, so that no text is kept twice.
    let hasher = RandomState::new();
    let mut first: HashMap<u64, usize> = HashMap::new();
    let mut counted: Vec<Counted<'_>> = Vec::with_capacity(set.len());
    for letter in set {
        if letter.id.is_none() && letter.row_key.is_none() {
            let says = content(&letter.text);
            let hash = hasher.hash_one((&letter.mapping, &says));
            let at = *first.entry(hash).or_insert(counted.len());
            if let Some((known, times)) = counted.get_mut(at)
                && known.mapping == letter.mapping
                && content(&known.text) == says
            {
                *times += 1;
                continue;
            }
        }
        counted.push((letter, 1));
    }
    counted
}

fn store_set(set: Vec<Letter<'_>>) -> Result<Vec<i64>, SqlError> {
    let mut set = count(set);
    for (letter, known) in known(&set)? {
        set[letter].0.id = Some(known);
    }
    let (mut renewed, mut new): (Vec<_>, Vec<_>) =
        set.iter().partition(|(letter, _)| letter.id.is_some());
    let renew = |letters: &[&Counted<'_>]| {
        let letters = letters.iter().filter(|(letter, _)| letter.id.is_some());
        RENEWED.with(|statement| {
            statement
                .execute(letters, |letter| row(letter, None))
                .map(drop)
        })
    };
    if !renewed.is_empty() && patiently(|| renew(&renewed))?.is_none() {
        // Letters that another session has locked are stored once more: that session may be about to remove
        // them.
        let ids: Vec<i64> = renewed.iter().filter_map(|(letter, _)| letter.id).collect();
        let free = free(&ids)?;
        let (mine, held): (Vec<_>, Vec<_>) = renewed
            .into_iter()
            .partition(|(letter, _)| letter.id.is_some_and(|id| free.contains(&id)));
        renew(&mine)?;
        renewed = mine;
        new.extend(held);
    }
    drop(renewed);
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let large = Bump::new();
    let returned =
        STORED.with(|statement| statement.query(new.iter(), |letter| row(letter, Some(&large))))?;
    let mut stored = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        stored.extend(row.bigint(0));
    }
    Ok(stored)
}

/// Finds the letters that are stored already: their indexes in `set`, and their numbers.
fn known(set: &[Counted<'_>]) -> Result<Vec<(usize, i64)>, SqlError> {
    let letters = set.iter().map(|(letter, _)| letter).enumerate();
    let asked: Vec<(usize, &Letter<'_>)> =
        letters.filter(|(_, letter)| letter.id.is_none()).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let large = Bump::new();
    let found = FIND_CONTENT.with(|query| query.rows(&[], |row| row.get(1)));
    let by_content = found.into_iter().next().flatten().unwrap_or(false);
    let returned = LOOK_UP.with(|statements| {
        statements[usize::from(by_content)].query(asked.iter(), |(n, letter)| {
            let by_text = letter.row_key.is_none() || letter.version.is_none();
            let [lsn, idx] = version(letter);
            vec![
                Some(Datum::from(*n as i32)),
                text(letter.mapping.as_deref()),
                by_text
                    .then(|| match by_content {
                        true => message(&content(&letter.text), &large),
                        false => message(&letter.text, &large),
                    })
                    .flatten(),
                letter.row_key.as_deref().and_then(IntoDatum::into_datum),
                text(letter.source),
                lsn,
                idx,
                clock::datum(letter.committed_at),
            ]
        })
    })?;
    let mut known = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        known.push((row.index(0), row.bigint(1).unwrap_or_default()));
    }
    Ok(known)
}

/// A letter as a row of [`COLUMNS`].
fn row((letter, times): &Counted<'_>, with_text: Option<&Bump>) -> BatchRow {
    let wait = letter.wait.as_ref();
    let [lsn, idx] = version(letter);
    vec![
        letter.id.map(Datum::from),
        text(letter.mapping.as_deref()),
        with_text.and_then(|large| message(&letter.text, large)),
        text(Some(&letter.error.sqlstate())),
        text(Some(&letter.error.message)),
        text(letter.error.detail.as_deref()),
        text(letter.error.hint.as_deref()),
        Some(Datum::from(letter.position as i64)),
        text(letter.key.as_deref()),
        letter.row_key.as_deref().and_then(IntoDatum::into_datum),
        letter.former_key.as_deref().and_then(IntoDatum::into_datum),
        text(letter.source),
        lsn,
        idx,
        clock::datum(letter.committed_at),
        wait.and_then(Wait::table).map(Datum::from),
        wait.and_then(Wait::key).and_then(IntoDatum::into_datum),
        text(Some(letter.state.as_str())),
        (!letter.brings.is_empty())
            .then(|| letter.brings.clone().into_datum())
            .flatten(),
        wait.and_then(Wait::or).and_then(IntoDatum::into_datum),
        text(letter.waits_for_key.as_deref()),
        Some(Datum::from(*times)),
    ]
}

fn version(letter: &Letter<'_>) -> [Option<Datum>; 2] {
    let version = letter.version;
    [
        version.map(|version| Datum::from(version.lsn as i64)),
        version.map(|version| Datum::from(version.idx as i32)),
    ]
}

const REMOVE: &str =
    "delete from sequin.dead_letter l using sequin_internal.batch() b(id bigint) where l.id = b.id";

const LOCK: &str = "
    select l.id from sequin.dead_letter l
    where l.id in (select b.id from sequin_internal.batch() b(id bigint)) for update of l skip locked";

/// Removes the letters with these numbers, except letters that another session has locked.
pub fn remove(ids: &[i64]) -> Result<(), SqlError> {
    if ids.is_empty() {
        return Ok(());
    }
    let remove = |ids: &[i64]| {
        REMOVED
            .with(|statement| statement.execute(ids.iter(), |id| vec![Some(Datum::from(*id))]))
            .map(drop)
    };
    match patiently(|| remove(ids))? {
        Some(()) => Ok(()),
        None => remove(&free(ids)?),
    }
}

/// Locks the letters that no other session has locked.
fn free(ids: &[i64]) -> Result<Vec<i64>, SqlError> {
    let returned =
        LOCKED.with(|statement| statement.query(ids.iter(), |id| vec![Some(Datum::from(*id))]))?;
    let mut free = Vec::with_capacity(returned.len());
    let mut row = RowReader::new(&returned);
    while row.next() {
        free.push(row.bigint(0).unwrap_or_default());
    }
    Ok(free)
}

/// Runs `work`, which may wait for the open transaction of another session, for example one that discards a
/// letter. `None` if the wait takes longer than `sequin.mapping_timeout`.
fn patiently(work: impl FnOnce() -> Result<(), SqlError>) -> Result<Option<()>, SqlError> {
    let limit = settings::mapping_timeout();
    if limit.is_zero() {
        return work().map(Some);
    }
    let done = subtransaction(|| {
        let _limit = Settings::lock_timeout(limit);
        work()
    });
    match done {
        Err(error) if is_own_lock_timeout(&error) => Ok(None),
        done => done.map(Some),
    }
}

/// The text of a message. The batch relation has a pointer to a large one, in place of another copy.
fn message(message: &str, large: &Bump) -> Option<Datum> {
    if message.len() < typeio::LARGE || message.contains('\0') {
        return text(Some(message));
    }
    typeio::varlena(message.as_bytes(), large)
}

// A `text` value cannot contain NUL, so NUL is stored as its JSON escape.
fn text(text: Option<&str>) -> Option<Datum> {
    let text = text?;
    match text.contains('\0') {
        true => text.replace('\0', "\\u0000").into_datum(),
        false => text.into_datum(),
    }
}
