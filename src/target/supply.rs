//! Columns that only reads bring: changes lack what they are read from. A backfill sends the stored generated columns of the
//! source, and changes do not, so that a column which is not generated in the destination goes stale with the next change.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::column::{Source, TargetColumn};
use crate::mapping::{Path, Root};
use crate::message::{Action, Field, Message};

/// Which messages have the member that a column is read from.
struct Supplied {
    column: String,
    member: String,
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
    /// Nothing is known yet of these columns, but for those of the key.
    pub fn unknown(columns: &[TargetColumn], in_key: impl Fn(usize) -> bool) -> Supply {
        let columns = columns.iter().enumerate().filter(|(i, _)| !in_key(*i));
        let columns = columns.filter_map(|(_, column)| {
            let member = match &column.source {
                Source::Field(name) => name,
                Source::Path(Path {
                    root: Root::Record,
                    keys,
                }) => keys.first()?,
                Source::Path(_) | Source::Constant(_) | Source::Sql(_) => return None,
            };
            Some(Supplied {
                column: column.name.clone(),
                member: member.clone(),
                by_change: false,
                by_read: false,
                lacked: false,
                stored: None,
            })
        });
        Supply {
            columns: columns.collect(),
            ..Supply::default()
        }
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
        if let Some(column) = columns.find(|column| column.column == name) {
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
                (column.column.clone(), now)
            })
        });
        changed.collect()
    }
}
