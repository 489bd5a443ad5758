//! Columns that only reads bring: changes lack what they are read from. A backfill sends the stored generated columns of the
//! source, and changes do not, so that a column which is not generated in the destination goes stale with the next change.
//! SQL that reads such a member finds null there in changes.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::column::{Source, TargetColumn};
use super::expression::Expression;
use crate::mapping::members::members;
use crate::mapping::{Mapping, Path, Root};
use crate::message::{Action, Field, Message};

/// Which messages have the member that a column, or SQL, is read from.
struct Supplied {
    /// The column; for a member that SQL reads, what reads it, and the member.
    name: String,
    member: String,
    by_sql: bool,
    /// A change has.
    by_change: bool,
    /// A read has.
    by_read: bool,
    /// A change lacked it.
    lacked: bool,
    /// What the catalog has: a change lacked it, and (true) a read had it.
    stored: Option<bool>,
}

impl Supplied {
    fn new(name: String, member: String, by_sql: bool) -> Supplied {
        Supplied {
            name,
            member,
            by_sql,
            by_change: false,
            by_read: false,
            lacked: false,
            stored: None,
        }
    }

    fn of_column(column: &str, member: &str) -> Supplied {
        Supplied::new(column.to_owned(), member.to_owned(), false)
    }

    /// The members that an expression reads.
    fn of_sql(reader: &str, sql: &str) -> Vec<Supplied> {
        let mut names: Vec<String> = members(sql).into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        let supplied = |member| Supplied::new(format!("{reader} ({member})"), member, true);
        names.into_iter().map(supplied).collect()
    }

    fn to_store(&self) -> Option<bool> {
        (self.lacked && !self.by_change).then_some(self.by_read)
    }
}

/// Which messages supply the columns of a mapping.
#[derive(Default)]
pub struct Supply {
    columns: Vec<Supplied>,
    /// The shapes of records that were looked at: hashes of their members and of whether they are of reads.
    seen: HashSet<u64>,
    /// The members of the last record, of a change and of a read.
    last: [Vec<String>; 2],
}

/// The most shapes that are told apart.
const MOST: usize = 64;

/// The most members that a row of a source table can have.
const MOST_MEMBERS: usize = 2000;

impl Supply {
    /// Nothing is known yet of these columns, but for those of the key, and of the filter.
    pub fn unknown(
        mapping: &Mapping,
        columns: &[TargetColumn],
        expressions: &[Expression],
        in_key: impl Fn(usize) -> bool,
    ) -> Supply {
        let columns = columns.iter().enumerate().filter(|(i, _)| !in_key(*i));
        let columns = columns.flat_map(|(_, column)| match &column.source {
            Source::Field(name) => vec![Supplied::of_column(&column.name, name)],
            Source::Path(Path {
                root: Root::Record,
                keys,
            }) => {
                let first = keys.first().into_iter();
                let first = first.map(|name| Supplied::of_column(&column.name, name));
                first.collect()
            }
            Source::Sql(number) => Supplied::of_sql(&column.name, &expressions[*number].sql),
            Source::Path(_) | Source::Constant(_) => Vec::new(),
        });
        let filter = mapping.filter.iter();
        let columns = columns.chain(filter.flat_map(|sql| Supplied::of_sql("filter", sql)));
        Supply {
            columns: columns.collect(),
            ..Supply::default()
        }
    }

    /// Whether SQL reads the member of a name that [`Self::news`] returns.
    pub fn is_by_sql(&self, name: &str) -> bool {
        let mut columns = self.columns.iter();
        columns.any(|column| column.by_sql && column.name == name)
    }

    /// Whether messages can tell something.
    pub fn listens(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Forgets all that was told: it is read from the catalog again.
    pub fn forget(&mut self) {
        for column in &mut self.columns {
            column.by_change = false;
            column.by_read = false;
            column.lacked = false;
            column.stored = None;
        }
        self.seen.clear();
        self.last = Default::default();
    }

    /// Takes over what the catalog has of a column.
    pub fn restore(&mut self, name: &str, by_read: bool) {
        let mut columns = self.columns.iter_mut();
        if let Some(column) = columns.find(|column| column.name == name) {
            column.lacked = true;
            column.by_read |= by_read;
            column.stored = Some(by_read);
        }
    }

    /// Looks at the members of a record. A delete has no say: it may hold no more than the key.
    pub fn listen(&mut self, message: &Message<'_>, fields: &[Field<'_>]) {
        let is_row = fields.len() <= MOST_MEMBERS;
        if self.columns.is_empty() || message.action == Action::Delete || !is_row {
            return;
        }
        let by_read = message.action == Action::Read;
        let last = &mut self.last[usize::from(by_read)];
        let same = last.len() == fields.len()
            && last.iter().zip(fields).all(|(key, field)| key == field.key);
        if same {
            return;
        }
        let mut hasher = DefaultHasher::new();
        by_read.hash(&mut hasher);
        for field in fields {
            field.key.hash(&mut hasher);
        }
        if self.seen.len() >= MOST || !self.seen.insert(hasher.finish()) {
            return;
        }
        *last = fields.iter().map(|field| field.key.to_owned()).collect();
        for column in &mut self.columns {
            match fields.iter().any(|field| field.key == column.member) {
                true if by_read => column.by_read = true,
                true => column.by_change = true,
                false => column.lacked |= !by_read,
            }
        }
    }

    /// What the catalog must learn: of each column, whether changes lack it, and whether reads have it.
    pub fn news(&mut self) -> Vec<(String, Option<bool>)> {
        let changed = self.columns.iter_mut().filter_map(|column| {
            let now = column.to_store();
            (now != column.stored).then(|| {
                column.stored = now;
                (column.name.clone(), now)
            })
        });
        changed.collect()
    }
}
