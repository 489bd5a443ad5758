//! The changes of rows, with their keys, in the order in which rows are written.

#![forbid(unsafe_code)]

use std::cell::OnceCell;
use std::collections::HashMap;

use pgrx::pg_sys::Datum;

use crate::error::SqlError;
use crate::key::{self, KeyColumn};
use crate::merge::{Event, Stamp};
use crate::outcome::MessageNo;

/// One change of one row.
#[derive(Debug, Clone, Copy)]
pub struct RowChange {
    pub message: MessageNo,
    /// What happened to the row.
    pub event: Event,
    /// When and where it happened.
    pub stamp: Stamp,
    /// Whether the filter refused the message.
    pub refused: bool,
    key: (u32, u32),
    key_values: u32,
}

/// The changes of one row, which are neighbours once the changes are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    /// The number of the first change.
    pub start: u32,
    /// The number after the last change.
    pub end: u32,
}

impl Run {
    /// A run of one change.
    pub fn one(change: u32) -> Run {
        Run {
            start: change,
            end: change + 1,
        }
    }

    /// The number of changes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// The numbers of the changes.
    pub fn changes(self) -> std::ops::Range<u32> {
        self.start..self.end
    }
}

/// The changes of rows, with their keys. A message has one change, or two if it moved its row: one at the
/// old key, one at the new key.
pub struct Keyed {
    changes: Vec<RowChange>,
    /// The keys as bytes, concatenated.
    keys: Vec<u8>,
    /// The values of the keys, `width` per change.
    values: Vec<Datum>,
    width: usize,
    /// Whether each change is a row of its own.
    append: bool,
    /// The changes of each message. The map is made on first use, after the changes are sorted.
    by_message: OnceCell<HashMap<MessageNo, Vec<u32>>>,
}

impl Keyed {
    /// An empty list for rows with `width` key columns, with room for `capacity` changes. `append`: each
    /// change is a row of its own.
    pub fn new(width: usize, append: bool, capacity: usize) -> Keyed {
        Keyed {
            changes: Vec::with_capacity(capacity),
            keys: Vec::new(),
            values: Vec::new(),
            width,
            append,
            by_message: OnceCell::new(),
        }
    }

    /// Adds a change of the row with this key; returns its number.
    pub fn add(
        &mut self,
        message: MessageNo,
        event: Event,
        stamp: Stamp,
        key: &[Datum],
        encoding: &[KeyColumn],
    ) -> Result<u32, SqlError> {
        let start = self.keys.len();
        key::encode(encoding, key, &mut self.keys);
        let number = |n: usize| {
            u32::try_from(n).map_err(|_| {
                SqlError::new("53400", "the keys of a batch need more than 4 GiB")
                    .with_hint("Send smaller batches.")
            })
        };
        let change = RowChange {
            message,
            event,
            stamp,
            refused: false,
            key: (number(start)?, number(self.keys.len())?),
            key_values: number(self.values.len())?,
        };
        self.values.extend_from_slice(key);
        self.changes.push(change);
        number(self.changes.len() - 1)
    }

    /// All changes, by number.
    pub fn changes(&self) -> &[RowChange] {
        &self.changes
    }

    /// The change with this number.
    pub fn change(&self, change: u32) -> &RowChange {
        &self.changes[change as usize]
    }

    /// A change to correct, before the changes are sorted.
    pub fn change_mut(&mut self, change: u32) -> &mut RowChange {
        &mut self.changes[change as usize]
    }

    /// Removes a change, before the changes are sorted. The last change takes its number.
    pub fn take_back(&mut self, change: u32) {
        self.changes.swap_remove(change as usize);
    }

    /// The key of a change's row, as bytes.
    pub fn key(&self, change: u32) -> &[u8] {
        let (start, end) = self.change(change).key;
        &self.keys[start as usize..end as usize]
    }

    /// The values of the key of a change's row.
    pub fn key_values(&self, change: u32) -> &[Datum] {
        let start = self.change(change).key_values as usize;
        &self.values[start..start + self.width]
    }

    /// The key of a change's row as bytes, with the columns in this order.
    pub fn key_in_order(&self, change: u32, encoding: &[KeyColumn], order: &[usize]) -> Vec<u8> {
        if order.is_sorted() {
            return self.key(change).to_vec();
        }
        let mut bytes = Vec::new();
        key::encode_in_order(encoding, self.key_values(change), order, &mut bytes);
        bytes
    }

    /// Sorts the changes by key, so that sessions lock rows in one order and walk indexes from end to end.
    /// The changes of one row stay in the order of their messages.
    pub fn sort(&mut self) {
        if self.append {
            return;
        }
        let keys = &self.keys;
        self.changes.sort_by(|a, b| {
            let key = |c: &RowChange| &keys[c.key.0 as usize..c.key.1 as usize];
            key(a).cmp(key(b)).then(a.message.cmp(&b.message))
        });
    }

    /// The runs of the sorted changes.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = Vec::with_capacity(self.changes.len());
        let mut start = 0;
        while (start as usize) < self.changes.len() {
            let end = self.run_end(start);
            runs.push(Run { start, end });
            start = end;
        }
        runs
    }

    /// The end of the run that begins at `start`.
    fn run_end(&self, start: u32) -> u32 {
        if self.append {
            return start + 1;
        }
        let key = self.key(start);
        let all = self.changes.len() as u32;
        (start + 1..all)
            .find(|&change| self.key(change) != key)
            .unwrap_or(all)
    }

    /// The run that contains a change.
    pub fn run_of(&self, change: u32) -> Run {
        if self.append {
            return Run::one(change);
        }
        let key = self.key(change);
        let start = (0..change)
            .rev()
            .find(|&before| self.key(before) != key)
            .map_or(0, |before| before + 1);
        Run {
            start,
            end: self.run_end(start),
        }
    }

    /// The changes of a message.
    pub fn of_message(&self, message: MessageNo) -> impl Iterator<Item = u32> + '_ {
        let by_message = self.by_message.get_or_init(|| {
            let mut found: HashMap<MessageNo, Vec<u32>> = HashMap::new();
            for (i, change) in self.changes.iter().enumerate() {
                found.entry(change.message).or_default().push(i as u32);
            }
            found
        });
        by_message.get(&message).into_iter().flatten().copied()
    }

    /// Whether the change is the departure of a row from its key.
    pub fn leaves(&self, change: u32) -> bool {
        matches!(self.change(change).event, Event::Leave { .. })
    }

    /// Whether the message moved its row away from the key of this run.
    pub fn has_left(&self, run: Run, message: MessageNo) -> bool {
        run.changes()
            .any(|i| self.change(i).message == message && self.leaves(i))
    }

    /// The change of the row that the message is about, not of the key that the row left.
    pub fn of_subject(&self, message: MessageNo) -> Option<u32> {
        self.of_message(message).find(|i| !self.leaves(*i))
    }

    /// The key of a message's row, as bytes; `None` if keys do not identify rows.
    pub fn row_key(&self, message: MessageNo) -> Option<&[u8]> {
        if self.append {
            return None;
        }
        self.of_subject(message).map(|change| self.key(change))
    }

    /// The key that a message's row left, as bytes.
    pub fn former_key(&self, message: MessageNo) -> Option<&[u8]> {
        let mut changes = self.of_message(message);
        changes
            .find(|i| self.leaves(*i))
            .map(|change| self.key(change))
    }
}
