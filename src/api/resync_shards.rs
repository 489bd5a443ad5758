//! A resync of a table of Citus. Its rows are compared page by page with the rows that messages have confirmed, in this
//! session: see [`crate::guard::pages`].

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::Datum;

use super::finishing::Finishing;
use super::versions_shards::{NOTED, target};
use crate::error::SqlError;
use crate::guard::pages::{PAGE, Page, Pages, confirmed, known};
use crate::mapping::Mapping;
use crate::mapping::versions::VersionsIn;
use crate::pg::spi::Connection;
use crate::pg::user::ActingAs;
use crate::prepared::{BatchRow, Kept, RowReader, Statement};
use crate::statement::Input;
use crate::target::Target;
use crate::target::sql::delete_sql;
use crate::target::statements::Removal;

const NOTE_GONE: &str = "
    select sequin_internal.note_gone(b.mapping, b.key, b.lsn, b.idx, b.committed_at, b.token)
    from sequin_internal.batch() b(mapping integer, key bytea, lsn bigint, idx integer,
                                   committed_at timestamp with time zone, token bigint)";

thread_local! {
    static GONE: Kept = const {
        Kept::new(NOTE_GONE, NOTED)
    };
}

/// The rows of a table of Citus, for a resync.
pub(super) struct Sharded {
    target: Target,
    /// The rows that are not marked as deleted.
    condition: String,
    /// Whether other mappings write to the table, too.
    shared: bool,
}

/// A page of rows, and those of them that are the mapping's and that no message has confirmed.
pub(super) struct Found {
    page: Page,
    /// How many rows are the mapping's.
    rows: usize,
    gone: Vec<usize>,
}

/// What a step has found.
pub(super) struct Step {
    pub(super) found: Option<Found>,
    /// How many rows were looked at.
    pub(super) rows: i64,
    /// The place where the next step goes on; `None` after the last row.
    pub(super) place: Option<String>,
}

impl Sharded {
    pub(super) fn new(mapping: &Mapping, shared: bool) -> Result<Sharded, SqlError> {
        let target = target(mapping)?;
        let condition = match target.mark() {
            Some(mark) => format!("d.{} {}", mark.name(), mark.is_unset()),
            None => "true".to_owned(),
        };
        Ok(Sharded {
            target,
            condition,
            shared,
        })
    }

    fn pages(&self, after: Option<String>) -> Pages<'_> {
        Pages::new(&self.target, &self.condition, &[], after)
    }

    fn find(&self, page: Page) -> Result<Found, SqlError> {
        let id = self.target.mapping.id;
        let confirmed = confirmed(id, &page.keys)?;
        let its = match self.shared {
            true => known(id, &page.keys)?,
            false => vec![true; page.keys.len()],
        };
        let gone = (0..page.keys.len()).filter(|&i| its[i] && !confirmed[i]);
        Ok(Found {
            gone: gone.collect(),
            rows: its.iter().filter(|its| **its).count(),
            page,
        })
    }

    /// How many rows there are, and how many a message has confirmed.
    pub(super) fn count(&self) -> Result<(i64, i64), SqlError> {
        let _connection = Connection::open();
        let (mut rows, mut confirmed) = (0, 0);
        let mut pages = self.pages(None);
        while let Some(page) = pages.next(PAGE)? {
            let found = self.find(page)?;
            rows += found.rows as i64;
            confirmed += (found.rows - found.gone.len()) as i64;
        }
        Ok((rows, confirmed))
    }

    /// Deletes all rows that no message has confirmed, or marks them. Returns how many.
    pub(super) fn remove_all(&self) -> Result<i64, SqlError> {
        let _connection = Connection::open();
        let mut pages = self.pages(None);
        let mut removed = 0;
        while let Some(page) = pages.next(PAGE)? {
            removed += self.remove(&self.find(page)?)?;
        }
        Ok(removed)
    }

    /// Finds up to `most` rows that no message has confirmed, after a place. The caller has a connection to SPI.
    pub(super) fn step(&self, after: Option<String>, most: i64) -> Result<Step, SqlError> {
        let mut pages = self.pages(after);
        let Some(page) = pages.next(PAGE)? else {
            return Ok(Step {
                found: None,
                rows: 0,
                place: None,
            });
        };
        let mut found = self.find(page)?;
        let most = usize::try_from(most).unwrap_or(0).max(1);
        let last = (found.gone.len() > most).then(|| found.gone[most - 1]);
        let place = match last {
            Some(last) => Some(pages.place_of(&found.page, last)),
            None if pages.is_over() => None,
            None => pages.last().map(str::to_owned),
        };
        let rows = last.map_or(found.page.keys.len(), |last| last + 1);
        found.gone.truncate(most);
        Ok(Step {
            found: Some(found),
            rows: rows as i64,
            place,
        })
    }

    /// Deletes rows that were found, or marks them, unless a message has confirmed them since. Returns how many.
    pub(super) fn remove(&self, found: &Found) -> Result<i64, SqlError> {
        let target = &self.target;
        let mapping = target.mapping.id;
        let keys: Vec<Vec<u8>> = (found.gone.iter())
            .map(|&i| found.page.keys[i].clone())
            .collect();
        let confirmed = confirmed(mapping, &keys)?;
        let gone: Vec<usize> = (0..keys.len()).filter(|&i| !confirmed[i]).collect();
        if gone.is_empty() {
            return Ok(0);
        }
        let removal = match target.mark() {
            Some(_) => Removal::Mark,
            None => Removal::Delete,
        };
        let (sql, columns) = delete_sql(Input::Batch, target, &target.relation(), removal);
        let versions = match target.versions {
            VersionsIn::Columns => "d.sequin_lsn, d.sequin_idx, d.sequin_committed_at",
            _ => "null::bigint, null::integer, null::timestamptz",
        };
        let sql = format!("{sql}, {versions}");
        let row = |&i: &usize| -> BatchRow {
            let mark = target.mark().map(|mark| mark.value(None));
            let number = std::iter::once(Some(Datum::from(i as i32)));
            let key = found.page.row(found.gone[i]);
            number.chain(mark.map(Some)).chain(key).collect()
        };
        let owner = ActingAs::untrusted(target.writer());
        let removed = Statement::new(&sql, &columns)?.query(gone.iter(), row)?;
        drop(owner);
        let finishing = Finishing::new(mapping);
        let mut notes: Vec<BatchRow> = Vec::with_capacity(removed.len());
        let mut row = RowReader::new(&removed);
        while row.next() {
            notes.push(vec![
                Some(Datum::from(mapping)),
                keys[row.index(0)].as_slice().into_datum(),
                row.datum(1),
                row.datum(2),
                row.datum(3),
                Some(Datum::from(finishing.token)),
            ]);
        }
        let count = notes.len() as i64;
        GONE.with(|statement| statement.execute(notes.into_iter(), |row| row))?;
        Ok(count)
    }
}
