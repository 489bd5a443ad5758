//! A simulated source: what statements do to its rows, and which messages Sequin sends of that.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::*;

/// A number, a text that may be in a TOAST table, and one of which backfills cannot read the type.
pub(super) const COLUMNS: usize = 3;
const TEXT: usize = 1;
const UNREADABLE: usize = 2;

pub(super) type Key = u8;
pub(super) type Values = [u32; COLUMNS];

#[derive(Debug, Clone)]
pub(super) enum Moment {
    Transaction {
        statements: Vec<Statement>,
        /// Seconds since the moment before.
        after: u8,
        source: u8,
    },
    /// A backfill reads the row, by a clock that is so many seconds fast.
    Read { key: Key, fast: i8, source: u8 },
}

/// Values are taken literally up to 1, so that images repeat; greater ones are numbered through.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    Insert {
        key: Key,
        values: [u8; COLUMNS],
    },
    /// Sets the columns that have a value.
    Update {
        key: Key,
        values: [Option<u8>; COLUMNS],
    },
    Delete {
        key: Key,
    },
    /// `set id = to, … where id = key`
    Move {
        key: Key,
        to: Key,
        values: [Option<u8>; COLUMNS],
    },
    /// `set id = id + by where id >= first`, the rows taken in one order or the other.
    Shift {
        first: Key,
        by: i8,
        descending: bool,
    },
    /// A row comes to `key` (the one of key `from`, or a new one), and then the row that was there goes: to
    /// the key `to`, or it is deleted. The constraint is deferred.
    Takeover {
        key: Key,
        from: Option<Key>,
        to: Option<Key>,
        values: [u8; COLUMNS],
    },
    /// Each row to any key, the rows taken in any order; 0 leaves it as it is.
    Rekey {
        to: [Key; 5],
        start: u8,
    },
}

/// A change or a read as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) stamp: Stamp,
    pub(super) entries: Vec<Entry>,
}

/// One row's part of a message.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) event: Event,
    pub(super) image: Option<u64>,
    pub(super) provided: Vec<Provided>,
    pub(super) values: Values,
    /// Of a delete or a departure: the row that went, as far as the message holds it.
    pub(super) gone: Option<Values>,
    pub(super) moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Row {
    pub(super) values: Values,
    /// Which of its columns any message carries.
    pub(super) told: [bool; COLUMNS],
}

/// REPLICA IDENTITY FULL or DEFAULT, and what it sends.
#[derive(Debug, Default)]
pub(super) struct Source {
    full: bool,
    pub(super) rows: BTreeMap<Key, Row>,
    pub(super) sent: Vec<Sent>,
    now: i64,
    numbered: u32,
}

/// It is exact here; `image.rs` makes a hash.
fn image(key: Key, values: &Values) -> u64 {
    values
        .iter()
        .fold(u64::from(key), |sum, value| sum << 16 | u64::from(*value))
}

impl Source {
    pub(super) fn new(full: bool, moments: &[Moment]) -> Source {
        let mut source = Source {
            full,
            now: 1000 * SECOND,
            numbered: 1,
            ..Source::default()
        };
        // Rows from before Sequin listened: no insert of them is ever sent.
        for key in [1, 2] {
            let values = source.numbers([2; COLUMNS]);
            let told = [false; COLUMNS];
            source.rows.insert(key, Row { values, told });
        }
        for (n, moment) in moments.iter().enumerate() {
            match moment {
                Moment::Transaction {
                    statements,
                    after,
                    source: number,
                } => {
                    source.now += SECOND * i64::from(*after) + 1;
                    // Of two databases the positions say nothing: the second one's are greater.
                    let lsn = (1000 * u64::from(*number) + n as u64) * 10;
                    source.transaction(statements, i64::from(*number), lsn);
                }
                Moment::Read {
                    key,
                    fast,
                    source: number,
                } => source.read(*key, i64::from(*fast), i64::from(*number)),
            }
        }
        source
    }

    fn numbers(&mut self, values: [u8; COLUMNS]) -> Values {
        values.map(|value| match value {
            0 | 1 => u32::from(value),
            _ => {
                self.numbered += 1;
                self.numbered
            }
        })
    }

    fn read(&mut self, key: Key, fast: i64, source: i64) {
        let Some(row) = self.rows.get_mut(&key) else {
            return;
        };
        for column in 0..UNREADABLE {
            row.told[column] = true;
        }
        let values = row.values;
        self.sent.push(Sent {
            stamp: Stamp {
                source,
                version: None,
                committed_at: Some(self.now + fast * SECOND),
            },
            entries: vec![Entry {
                key,
                event: Event::Read,
                image: None,
                provided: vec![Provided::Value, Provided::Value, Provided::Nothing],
                values,
                gone: None,
                moved: false,
            }],
        });
    }

    fn transaction(&mut self, statements: &[Statement], source: i64, lsn: u64) {
        let mut idx = 0;
        for statement in statements {
            self.statement(statement, |place| {
                idx += 1 + place % 2;
                let version = Some(Version { lsn, idx });
                (source, version)
            });
        }
    }

    fn statement(
        &mut self,
        statement: &Statement,
        mut version: impl FnMut(u32) -> (i64, Option<Version>),
    ) {
        let mut place = 0;
        let mut stamp = |committed_at| {
            place += 1;
            let (source, version) = version(place);
            Stamp {
                source,
                version,
                committed_at: Some(committed_at),
            }
        };
        let keep = [None; COLUMNS];
        match statement {
            Statement::Insert { key, values } => {
                if self.rows.contains_key(key) {
                    return;
                }
                let values = self.numbers(*values);
                let told = [true; COLUMNS];
                self.rows.insert(*key, Row { values, told });
                let entry = entry(*key, Event::Appear, &values);
                self.send(stamp(self.now), vec![entry]);
            }
            Statement::Update { key, values } => self.rekey(&[(*key, *key, *values)], stamp),
            Statement::Delete { key } => {
                if let Some(row) = self.rows.remove(key) {
                    let deleted = self.deleted(*key, &row.values);
                    self.send(stamp(self.now), vec![deleted]);
                }
            }
            Statement::Move { key, to, values } => self.rekey(&[(*key, *to, *values)], stamp),
            Statement::Takeover {
                key,
                from,
                to,
                values,
            } => self.take_over(*key, (*from, *to), *values, stamp),
            Statement::Shift {
                first,
                by,
                descending,
            } => {
                let mut rows: Vec<_> = self
                    .rows
                    .range(first..)
                    .map(|(key, _)| (*key, key.saturating_add_signed(*by), keep))
                    .collect();
                if *descending {
                    rows.reverse();
                }
                self.rekey(&rows, stamp);
            }
            Statement::Rekey { to, start } => {
                let mut rows: Vec<_> = self
                    .rows
                    .keys()
                    .filter_map(|key| {
                        let to = *to.get(usize::from(*key) - 1)?;
                        (to != 0).then_some((*key, to, keep))
                    })
                    .collect();
                if !rows.is_empty() {
                    let start = usize::from(*start) % rows.len();
                    rows.rotate_left(start);
                }
                self.rekey(&rows, stamp);
            }
        }
    }

    fn take_over(
        &mut self,
        key: Key,
        (from, to): (Option<Key>, Option<Key>),
        values: [u8; COLUMNS],
        mut stamp: impl FnMut(i64) -> Stamp,
    ) {
        let Some(there) = self.rows.get(&key).copied() else {
            return;
        };
        // The key `to` must be free then; the row that comes may have left it.
        let taken = to.is_some_and(|to| self.rows.contains_key(&to) && Some(to) != from);
        let came = match from {
            Some(from) => self.rows.get(&from).copied(),
            None => Some(Row {
                values: self.numbers(values),
                told: [true; COLUMNS],
            }),
        };
        let Some(came) = came else { return };
        // Excluded as in `rekey`, and where the messages do not hold the row that goes.
        if !self.full
            || from == Some(key)
            || to == Some(key)
            || taken
            || came.values == there.values
        {
            return;
        }
        let told = [true; COLUMNS];
        match from {
            None => {
                let here = entry(key, Event::Appear, &came.values);
                self.send(stamp(self.now), vec![here]);
            }
            Some(from) => {
                self.rows.remove(&from);
                let entries = moved((from, &came.values), (key, &came.values));
                self.send(stamp(self.now), entries);
            }
        }
        match to {
            None => {
                let deleted = self.deleted(key, &there.values);
                self.send(stamp(self.now), vec![deleted]);
            }
            Some(to) => {
                let row = Row { told, ..there };
                self.rows.insert(to, row);
                let entries = moved((key, &there.values), (to, &there.values));
                self.send(stamp(self.now), entries);
            }
        }
        self.rows.insert(key, Row { told, ..came });
    }

    /// The delete of a row.
    fn deleted(&self, key: Key, values: &Values) -> Entry {
        let mut entry = entry(key, Event::Delete { image: None }, values);
        if self.full {
            entry.event = Event::Delete {
                image: Some(image(key, values)),
            };
            entry.gone = Some(*values);
        }
        entry
    }

    /// One statement that updates these rows in this order: from a key, to a key, to these values.
    fn rekey(
        &mut self,
        rows: &[(Key, Key, [Option<u8>; COLUMNS])],
        mut stamp: impl FnMut(i64) -> Stamp,
    ) {
        let mut after = self.rows.clone();
        let mut changed = Vec::new();
        for (key, to, touched) in rows {
            // Under DEFAULT an update does not say which key the row had.
            if !(1..=9).contains(to) || !self.full && key != to {
                return;
            }
            let Some(mut row) = after.remove(key) else {
                return;
            };
            let numbers = self.numbers(touched.map(|value| value.unwrap_or(0)));
            for column in 0..COLUMNS {
                if touched[column].is_some() {
                    row.values[column] = numbers[column];
                }
                row.told[column] |= self.full || column < TEXT || touched[column].is_some();
            }
            changed.push((*key, *to, *touched, row));
        }
        for (key, to, _, row) in &changed {
            // The constraint is checked at the statement's end.
            if after.insert(*to, *row).is_some() {
                return;
            }
            // Excluded: a row that comes to a key from which a row equal in every column goes away in
            // the same statement. Then the messages of the key are those of one row that passed it.
            let there = self.rows.get(to);
            if key != to && there.is_some_and(|there| there.values == row.values) {
                return;
            }
        }
        for (key, to, touched, row) in changed {
            let stamp = stamp(self.now);
            if key == to {
                let mut here = entry(to, Event::Update, &row.values);
                let columns = here.provided.iter_mut().zip(touched).skip(TEXT);
                for (provided, _) in columns.filter(|(_, touched)| touched.is_none()) {
                    if !self.full {
                        *provided = Provided::Unchanged;
                    }
                }
                self.send(stamp, vec![here]);
            } else {
                let before = self.rows[&key].values;
                self.send(stamp, moved((key, &before), (to, &row.values)));
            }
        }
        self.rows = after;
    }

    fn send(&mut self, stamp: Stamp, entries: Vec<Entry>) {
        self.sent.push(Sent { stamp, entries });
    }
}

/// The two entries of a row that moves: what it was where, and what it is where.
fn moved((from, before): (Key, &Values), (to, after): (Key, &Values)) -> Vec<Entry> {
    let image = image(from, before);
    let mut left = entry(from, Event::Leave { image }, after);
    left.gone = Some(*before);
    let mut here = entry(to, Event::Appear, after);
    here.moved = true;
    vec![left, here]
}

fn entry(key: Key, event: Event, values: &Values) -> Entry {
    let came = matches!(event, Event::Appear | Event::Update);
    Entry {
        key,
        event,
        image: came.then(|| image(key, values)),
        provided: if came {
            vec![Provided::Value; COLUMNS]
        } else {
            Vec::new()
        },
        values: *values,
        gone: None,
        moved: false,
    }
}
