//! The rows of a table of Citus, page by page in the order of the key.
//!
//! A statement over such a table runs on the nodes that have its shards, and in other sessions. There it sees neither the
//! state of this session nor the extension's tables. So the keys come here, and the versions of their rows are looked up
//! here.

#![forbid(unsafe_code)]

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::error::{SqlError, quote};
use crate::key;
use crate::pg::keys::output_text;
use crate::pg::spi::Returned;
use crate::pg::user::ActingAs;
use crate::prepared::{BatchRow, Kept, RowReader, Statement};
use crate::target::Target;

/// How many rows a page has.
pub const PAGE: usize = 10_000;

/// Reads the rows for which a condition on `d` holds.
pub struct Pages<'t> {
    target: &'t Target,
    condition: String,
    /// Further values of a row, as SQL over `d`.
    also: &'t [&'t str],
    /// The key of the last row of the page before, as SQL.
    after: Option<String>,
    ended: bool,
}

/// Some rows. Their values live as long as the page.
pub struct Page {
    /// The keys as bytes.
    pub keys: Vec<Vec<u8>>,
    returned: Returned,
}

impl Page {
    /// The key of a row, and the further values.
    pub fn row(&self, at: usize) -> BatchRow {
        let mut row = RowReader::new(&self.returned);
        row.go_to(at);
        let width = self.returned.types().len();
        (0..width).map(|column| row.datum(column)).collect()
    }
}

/// The types of the system have their order in `pg_catalog`.
const FIRST_NORMAL: u32 = 16_384;

impl<'t> Pages<'t> {
    /// Begins after the row of this key, as [`Self::place`] tells it, or at the first row.
    pub fn new(
        target: &'t Target,
        condition: &str,
        also: &'t [&'t str],
        after: Option<String>,
    ) -> Pages<'t> {
        let not_null = target.key_sql();
        let not_null = not_null
            .iter()
            .map(|column| format!("d.{} is not null and ", column.name));
        Pages {
            target,
            condition: not_null.collect::<String>() + condition,
            also,
            after,
            ended: false,
        }
    }

    /// The next page, of so many rows at most, as the mapping's owner sees them; `None` after the last. The caller has a
    /// connection to SPI.
    pub fn next(&mut self, most: usize) -> Result<Option<Page>, SqlError> {
        if self.ended {
            return Ok(None);
        }
        let target = self.target;
        let names: Vec<String> = target
            .key_sql()
            .iter()
            .map(|column| format!("d.{}", column.name))
            .collect();
        let names = names.join(", ");
        let in_order =
            (target.key.iter()).all(|&i| target.columns[i].row.type_oid.to_u32() < FIRST_NORMAL);
        let also: String = self.also.iter().map(|sql| format!(", {sql}")).collect();
        let mut sql = format!(
            "select {names}{also} from {} d where {}",
            target.relation().name,
            self.condition
        );
        if let Some(after) = &self.after {
            sql += &format!(" and row({names}) operator(pg_catalog.>) row({after})");
        }
        if in_order {
            sql += &format!(" order by {names} limit {most}");
        }
        let returned = {
            let _owner = ActingAs::untrusted(target.writer());
            Statement::new(&sql, &[])?.query(std::iter::empty(), |row: BatchRow| row)?
        };
        self.ended = !in_order || returned.len() < most;
        let mut keys = Vec::with_capacity(returned.len());
        let mut row = RowReader::new(&returned);
        while row.next() {
            let values = self.key_of(&row);
            let mut bytes = Vec::new();
            key::encode(&target.key_encoding, &values, &mut bytes);
            keys.push(bytes);
        }
        if let Some(last) = returned.len().checked_sub(1) {
            row.go_to(last);
            self.after = Some(self.place(&self.key_of(&row)));
        }
        drop(row);
        Ok((!keys.is_empty()).then_some(Page { keys, returned }))
    }

    fn key_of(&self, row: &RowReader<'_>) -> Vec<Datum> {
        let key = 0..self.target.key.len();
        key.map(|i| row.datum(i).expect("not null")).collect()
    }

    /// A key as SQL.
    fn place(&self, key: &[Datum]) -> String {
        let columns = self.target.key.iter().zip(key);
        let values = columns.map(|(&i, value)| {
            let column = &self.target.columns[i];
            let text = output_text(column.row.type_oid, *value);
            format!("{}::{}", quote::literal(&text), column.sql.type_name)
        });
        values.collect::<Vec<_>>().join(", ")
    }

    /// The place of a row of a page, for [`Self::new`].
    pub fn place_of(&self, page: &Page, at: usize) -> String {
        let row = page.row(at);
        let key = row.into_iter().take(self.target.key.len());
        self.place(
            &key.map(|value| value.expect("not null"))
                .collect::<Vec<_>>(),
        )
    }

    /// Whether there are no more pages.
    pub fn is_over(&self) -> bool {
        self.ended
    }

    /// The place of the last row, for [`Self::new`].
    pub fn last(&self) -> Option<&str> {
        self.after.as_deref()
    }
}

const CONFIRMED: &str = "
    select b.n from sequin_internal.batch() b(n integer, mapping integer, key bytea)
    where exists (select from sequin.resync_seen s where s.mapping = b.mapping and s.key = b.key)";

const KNOWN: &str = "
    select b.n from sequin_internal.batch() b(n integer, mapping integer, key bytea)
    where exists (select from sequin.row_version v where v.mapping = b.mapping and v.key = b.key)";

const ASKED: &[(&str, pg_sys::Oid)] = &[
    ("n", pg_sys::INT4OID),
    ("mapping", pg_sys::INT4OID),
    ("key", pg_sys::BYTEAOID),
];

thread_local! {
    static IS_CONFIRMED: Kept = const { Kept::new(CONFIRMED, ASKED) };
    static IS_KNOWN: Kept = const { Kept::new(KNOWN, ASKED) };
}

/// Which of these rows of a mapping a message has confirmed. The caller acts as the extension's owner.
pub fn confirmed(mapping: i32, keys: &[Vec<u8>]) -> Result<Vec<bool>, SqlError> {
    IS_CONFIRMED.with(|statement| ask(statement, mapping, keys))
}

/// Which of these rows of a mapping have an entry in `sequin.row_version`. The caller acts as the extension's owner.
pub fn known(mapping: i32, keys: &[Vec<u8>]) -> Result<Vec<bool>, SqlError> {
    IS_KNOWN.with(|statement| ask(statement, mapping, keys))
}

fn ask(statement: &Kept, mapping: i32, keys: &[Vec<u8>]) -> Result<Vec<bool>, SqlError> {
    let found = statement.query(keys.iter().enumerate(), |(n, key)| {
        vec![
            Some(Datum::from(n as i32)),
            Some(Datum::from(mapping)),
            key.as_slice().into_datum(),
        ]
    })?;
    let mut is = vec![false; keys.len()];
    let mut row = RowReader::new(&found);
    while row.next() {
        is[row.index(0)] = true;
    }
    Ok(is)
}
