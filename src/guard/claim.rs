//! Claims: versions that are written into `sequin.row_version` before the rows, if they are news.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashSet;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use super::entries;
use super::notes::note_tombstones;
use crate::error::SqlError;
use crate::error::sqlstate::SERIALIZATION_FAILURE;
use crate::merge::Stamp;
use crate::pg::clock;
use crate::pg::spi::Returned;
use crate::pg::tuples::RowColumn;
use crate::pg::user::ActingAs;
use crate::prepared::{RowReader, Statement};
use crate::stop::Stop;

/// A key, and the version that is claimed for it.
pub struct Claim<'k> {
    /// The row's key.
    pub key: &'k [u8],
    /// The stamp of the change; of a read, only the source and the time count.
    pub stamp: Stamp,
    /// Whether the change deletes the row.
    pub deleted: bool,
    /// The image of the row that it deletes.
    pub image: Option<u64>,
}

/// The statement for changes. A delete that may be of another row than the one that an earlier change of the
/// transaction brought is not news here, nor is a change that the row's read has surely seen. `sequin.read_skew` (in
/// microseconds) is part of its text, since the condition of `ON CONFLICT` sees nothing but the row to insert.
fn changes(read_skew: i64) -> String {
    format!(
        "
    insert into sequin.row_version as v (mapping, key, source, lsn, idx, committed_at, deleted, image)
    select b.mapping, b.key, b.source, b.lsn, b.idx, b.committed_at, b.deleted, b.image
    from sequin_internal.batch() b(mapping integer, key bytea, source bigint, lsn bigint, idx integer,
                          committed_at timestamptz, deleted boolean, image bigint)
    on conflict (mapping, key) do update
    set source = excluded.source, lsn = excluded.lsn, idx = excluded.idx,
        committed_at = excluded.committed_at, deleted = excluded.deleted, image = excluded.image,
        read_at = null
    where v.gaps is null and v.gone is null and (v.image is null or v.deleted)
      and (v.lsn is null and v.committed_at is null
           or v.source = excluded.source and (v.lsn, v.idx) < (excluded.lsn, excluded.idx)
              and (v.lsn < excluded.lsn or v.deleted or excluded.image is null))
      and (v.read_at is null or excluded.committed_at is null or v.source <> excluded.source
           or v.read_at <= excluded.committed_at + {read_skew} * interval '1 microsecond')
    returning v.key"
    )
}

/// The statement for reads.
fn reads(read_skew: i64) -> String {
    format!(
        "insert into sequin.row_version as v (mapping, key, source, read_at)
         select b.mapping, b.key, b.source, b.read_at
         from sequin_internal.batch() b(mapping integer, key bytea, source bigint, read_at timestamptz)
         on conflict (mapping, key) do update set read_at = excluded.read_at, deleted = false
         where v.gaps is null and v.gone is null and v.image is null
           and (v.committed_at is null and v.lsn is null
                or v.committed_at + {read_skew} * interval '1 microsecond' < excluded.read_at)
           and (v.read_at is null or v.read_at < excluded.read_at)
         returning v.key"
    )
}

/// The columns of a batch relation.
type Columns = &'static [(&'static str, pg_sys::Oid)];

const CHANGE: Columns = &[
    ("mapping", pg_sys::INT4OID),
    ("key", pg_sys::BYTEAOID),
    ("source", pg_sys::INT8OID),
    ("lsn", pg_sys::INT8OID),
    ("idx", pg_sys::INT4OID),
    ("committed_at", pg_sys::TIMESTAMPTZOID),
    ("deleted", pg_sys::BOOLOID),
    ("image", pg_sys::INT8OID),
];

const READ: Columns = &[
    ("mapping", pg_sys::INT4OID),
    ("key", pg_sys::BYTEAOID),
    ("source", pg_sys::INT8OID),
    ("read_at", pg_sys::TIMESTAMPTZOID),
];

/// A prepared statement, with the skew in its text. Most calls need it, and [`crate::prepared::Recent`] would
/// make and compare the whole text to find it.
type Skewed = RefCell<Option<(i64, Statement)>>;

thread_local! {
    static CLAIM: Skewed = const { RefCell::new(None) };
    static CLAIM_READS: Skewed = const { RefCell::new(None) };
}

/// Runs the statement for this skew.
fn query(
    kept: &'static std::thread::LocalKey<Skewed>,
    (text, columns): (fn(i64) -> String, Columns),
    read_skew: i64,
    claims: &[Claim<'_>],
    value: impl Fn(&Claim<'_>, &str) -> Option<Datum>,
) -> Result<Returned, SqlError> {
    let mut statement = match kept.take() {
        Some((skew, statement)) if skew == read_skew => statement,
        _ => {
            let columns = columns.iter();
            let columns: Vec<_> = columns.map(|(n, t)| RowColumn::plain(n, *t)).collect();
            Statement::new(&text(read_skew), &columns)?
        }
    };
    let returned = statement.query(claims.iter(), |claim| {
        columns.iter().map(|(name, _)| value(claim, name)).collect()
    });
    kept.set(Some((read_skew, statement)));
    returned
}

/// Writes the claims of changes of a mapping (by id) into `sequin.row_version`. Returns for each claim
/// whether it was news. Every claim must have a position.
///
/// `Err(EXAMINE)`: another call has just written the first entry of such a row.
pub fn claim(
    mapping: i32,
    definer: pg_sys::Oid,
    claims: &[Claim<'_>],
    read_skew: i64,
) -> Result<Vec<bool>, Stop> {
    let _definer = ActingAs::new(definer, false);
    let value = |claim: &Claim<'_>, column: &str| {
        let version = claim.stamp.version;
        let version = version.expect("only changes with a version are claimed");
        match column {
            "mapping" => Some(Datum::from(mapping)),
            "key" => claim.key.into_datum(),
            "source" => Some(Datum::from(claim.stamp.source)),
            "lsn" => Some(Datum::from(version.lsn as i64)),
            "idx" => Some(Datum::from(version.idx as i32)),
            "committed_at" => clock::datum(claim.stamp.committed_at),
            "deleted" => Some(Datum::from(claim.deleted)),
            "image" => claim.image.map(|image| Datum::from(image as i64)),
            _ => None,
        }
    };
    let winners = match insert_new(mapping, claims, value)? {
        true => vec![true; claims.len()],
        false => {
            let returned = query(&CLAIM, (changes, CHANGE), read_skew, claims, value)?;
            winners(claims, &returned)
        }
    };
    let tombs: Vec<&[u8]> = claims
        .iter()
        .zip(&winners)
        .filter(|(claim, news)| claim.deleted && **news)
        .map(|(claim, _)| claim.key)
        .collect();
    note_tombstones(mapping, &tombs)?;
    Ok(winners)
}

/// Notes reads in `sequin.row_version`. Returns for each read whether it is late enough to be applied.
///
/// `Err(EXAMINE)`: as of [`claim`].
pub fn claim_reads(
    mapping: i32,
    definer: pg_sys::Oid,
    claims: &[Claim<'_>],
    read_skew: i64,
) -> Result<Vec<bool>, Stop> {
    let _definer = ActingAs::new(definer, false);
    let value = |claim: &Claim<'_>, column: &str| match column {
        "mapping" => Some(Datum::from(mapping)),
        "key" => claim.key.into_datum(),
        "source" => Some(Datum::from(claim.stamp.source)),
        "read_at" => clock::datum(claim.stamp.committed_at),
        "deleted" => Some(Datum::from(false)),
        _ => None,
    };
    if insert_new(mapping, claims, value)? {
        return Ok(vec![true; claims.len()]);
    }
    let returned = query(&CLAIM_READS, (reads, READ), read_skew, claims, value)?;
    Ok(winners(claims, &returned))
}

/// Inserts the entries of the claims if all are new, as those of new rows are. Returns whether they were.
fn insert_new(
    mapping: i32,
    claims: &[Claim<'_>],
    value: impl Fn(&Claim<'_>, &str) -> Option<Datum>,
) -> Result<bool, Stop> {
    let inserted = entries::insert(mapping, claims, |claim| claim.key, value);
    inserted.map_err(|error| match error.is(SERIALIZATION_FAILURE) {
        true => Stop::EXAMINE,
        false => error.into(),
    })
}

/// For each claim, whether its key was returned.
fn winners(claims: &[Claim<'_>], returned: &Returned) -> Vec<bool> {
    if returned.len() == claims.len() {
        return vec![true; claims.len()];
    }
    let mut keys = HashSet::new();
    let mut row = RowReader::new(returned);
    while row.next() {
        keys.extend(row.bytes(0));
    }
    claims
        .iter()
        .map(|claim| keys.contains(claim.key))
        .collect()
}
