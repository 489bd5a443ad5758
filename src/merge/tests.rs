//! The law, on histories of a simulated source: whatever was delivered, in whatever order, how often
//! and in which batches, the destination ends as the source does. Then each clause by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;
const READ_SKEW: i64 = 5 * SECOND;
/// A number, a text that may be in a TOAST table, and one of which backfills cannot read the type.
const COLUMNS: usize = 3;
const TEXT: usize = 1;
const UNREADABLE: usize = 2;

type Key = u8;
type Values = [u32; COLUMNS];

// What a source does.

#[derive(Debug, Clone)]
enum Moment {
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
enum Statement {
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
    /// Each row to any key, the rows taken in any order; 0 leaves it as it is.
    Rekey {
        to: [Key; 5],
        start: u8,
    },
}

/// A change or a read as it is sent.
#[derive(Debug, Clone)]
struct Sent {
    stamp: Stamp,
    entries: Vec<Entry>,
}

/// What it says of one row.
#[derive(Debug, Clone)]
struct Entry {
    key: Key,
    event: Event,
    image: Option<u64>,
    provided: Vec<Provided>,
    values: Values,
    moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    values: Values,
    /// Which of its columns any message carries.
    told: [bool; COLUMNS],
}

/// REPLICA IDENTITY FULL or DEFAULT, and what it sends.
#[derive(Debug, Default)]
struct Source {
    full: bool,
    rows: BTreeMap<Key, Row>,
    sent: Vec<Sent>,
    now: i64,
    numbered: u32,
}

/// Which is exact here; see `image.rs`.
fn image(key: Key, values: &Values) -> u64 {
    values
        .iter()
        .fold(u64::from(key), |sum, value| sum << 16 | u64::from(*value))
}

impl Source {
    fn new(full: bool, moments: &[Moment]) -> Source {
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
                    let mut entry = entry(*key, Event::Delete, &row.values);
                    entry.image = None;
                    self.send(stamp(self.now), vec![entry]);
                }
            }
            Statement::Move { key, to, values } => self.rekey(&[(*key, *to, *values)], stamp),
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
            let image = image(key, &self.rows[&key].values);
            let stamp = stamp(self.now);
            let mut here = entry(to, Event::Update, &row.values);
            if key == to {
                let columns = here.provided.iter_mut().zip(touched).skip(TEXT);
                for (provided, _) in columns.filter(|(_, touched)| touched.is_none()) {
                    if !self.full {
                        *provided = Provided::Unchanged;
                    }
                }
                self.send(stamp, vec![here]);
            } else {
                here.event = Event::Appear;
                here.moved = true;
                let mut left = entry(key, Event::Leave { image }, &row.values);
                left.image = None;
                self.send(stamp, vec![left, here]);
            }
        }
        self.rows = after;
    }

    fn send(&mut self, stamp: Stamp, entries: Vec<Entry>) {
        self.sent.push(Sent { stamp, entries });
    }
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
        moved: false,
    }
}

// What the destination makes of it: as `fold.rs`, `guard.rs` and `write.rs` use the rule.

/// Where the versions are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Columns,
    Table,
}

/// What is stored of one row.
#[derive(Debug, Clone, Default, PartialEq)]
struct Stored {
    row: Option<[Option<u32>; COLUMNS]>,
    /// The guard's columns of the row: version and time.
    columns: Option<(Option<Version>, Option<i64>)>,
    noted: Option<Noted>,
}

/// Its entry in `sequin.row_version`.
#[derive(Debug, Clone, PartialEq)]
struct Noted {
    stamp: Option<Stamp>,
    read_at: Option<i64>,
    deleted: bool,
    image: Option<u64>,
    gone: Option<Gone>,
    gaps: BTreeMap<usize, Option<Stamp>>,
}

const HOME: i64 = 1;

impl Stored {
    /// As `guard::stored`.
    fn load(&self, place: Place) -> State {
        let mut state = State::unknown(COLUMNS);
        let noted = self.noted.as_ref();
        let deleted = noted.is_some_and(|noted| noted.deleted);
        let stamp = match (noted, self.columns) {
            (Some(noted), _) if place == Place::Table || deleted || self.row.is_none() => {
                noted.stamp
            }
            (noted, Some((Some(version), committed_at))) => Some(Stamp {
                source: noted
                    .and_then(|noted| noted.stamp)
                    .filter(|stamp| stamp.version == Some(version))
                    .map_or(HOME, |stamp| stamp.source),
                version: Some(version),
                committed_at,
            }),
            _ => None,
        };
        state.present = self.row.is_some() && !deleted;
        if !state.present {
            let known = noted.filter(|_| deleted).and_then(|noted| noted.gone);
            state.gone = known.or(stamp.map(|stamp| Gone {
                stamp,
                image: None,
                matched: None,
            }));
            return state;
        }
        state.row = stamp;
        let stored = Cell {
            value: Value::Stored,
            gap: None,
        };
        state.cells.fill(stored);
        state.read_at = match self.columns {
            Some((None, read_at)) => read_at,
            _ => noted.and_then(|noted| noted.read_at),
        };
        if let Some(noted) = noted {
            state.row_image = noted.image;
            state.gone = noted.gone;
            for (column, gap) in &noted.gaps {
                state.cells[*column] = match gap {
                    Some(_) => Cell {
                        value: Value::Stored,
                        gap: *gap,
                    },
                    None => Cell {
                        value: Value::Unknown,
                        gap: None,
                    },
                };
            }
        }
        state
    }

    /// As `guard::special`: whether there is more to know than a version.
    fn is_special(&self, run: &[(&Sent, &Entry)]) -> bool {
        self.noted.as_ref().is_some_and(|noted| {
            let (sent, entry) = run[0];
            let foreign = |stamp: Stamp| stamp.source != sent.stamp.source;
            !noted.gaps.is_empty()
                || noted.gone.is_some()
                || noted.image.is_some()
                || entry.event != Event::Read && noted.stamp.is_some_and(foreign)
        })
    }

    /// As `guard::store`.
    fn store(&mut self, place: Place, state: &State) {
        let gaps: BTreeMap<_, _> = state
            .cells
            .iter()
            .enumerate()
            .filter(|_| state.present)
            .filter_map(|(column, cell)| match (cell.value, cell.gap) {
                (Value::Unknown, _) => Some((column, None)),
                (_, Some(gap)) => Some((column, Some(gap))),
                (_, None) => None,
            })
            .collect();
        let gone = state
            .gone
            .filter(|gone| gone.image.is_some() || state.present && !gaps.is_empty());
        let image = state.row_image.filter(|_| state.present);
        let stamp = match state.present {
            true => state.row,
            false => state.gone.map(|gone| gone.stamp),
        };
        let foreign = stamp.is_some_and(|stamp| stamp.source != HOME);
        let plain = gaps.is_empty() && gone.is_none() && image.is_none() && !foreign;
        self.noted = if place == Place::Columns && state.present && plain {
            None
        } else {
            Some(Noted {
                stamp,
                read_at: state.read_at,
                deleted: !state.present,
                image,
                gone,
                gaps,
            })
        };
        self.columns = (place == Place::Columns && state.present).then(|| {
            let time = stamp.and_then(|stamp| stamp.committed_at);
            let version = stamp.and_then(|stamp| stamp.version);
            (version, time.max(state.read_at))
        });
    }
}

/// A destination table.
#[derive(Debug, Clone, PartialEq)]
struct Destination {
    place: Place,
    rows: BTreeMap<Key, Stored>,
}

/// What came of one entry.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Came {
    event: Event,
    effect: Effect,
}

impl Destination {
    fn new(place: Place) -> Destination {
        Destination {
            place,
            rows: BTreeMap::new(),
        }
    }

    /// Applies one batch.
    fn apply(&mut self, batch: &[&Sent]) -> Result<Vec<Came>, String> {
        let mut runs: BTreeMap<Key, Vec<(&Sent, &Entry)>> = BTreeMap::new();
        for sent in batch {
            for entry in &sent.entries {
                runs.entry(entry.key).or_default().push((sent, entry));
            }
        }
        let mut came = Vec::new();
        for (key, run) in runs {
            let stored = self.rows.entry(key).or_default();
            came.extend(match self.place {
                Place::Table if is_simple(&run) && !stored.is_special(&run) => claim(stored, &run)?,
                place => fold(stored, place, &run)?,
            });
        }
        Ok(came)
    }
}

/// As `Group::is_simple`: with versions in a table of their own.
fn is_simple(run: &[(&Sent, &Entry)]) -> bool {
    run.iter().all(|(sent, entry)| {
        let plain = !entry.moved && !entry.provided.contains(&Provided::Unchanged);
        let one_source = sent.stamp.source == run[0].0.stamp.source;
        match entry.event {
            Event::Leave { .. } => false,
            Event::Read => run.len() == 1,
            _ => plain && one_source,
        }
    })
}

/// As the server does it while it writes: `guard::claim` and `guard::claim_reads`.
fn claim(stored: &mut Stored, run: &[(&Sent, &Entry)]) -> Result<Vec<Came>, String> {
    let event = run[0].1.event;
    let (stamp, read_at) = match &stored.noted {
        Some(noted) => (noted.stamp, noted.read_at),
        None => (None, None),
    };
    let all = |effect| {
        run.iter()
            .map(|(_, e)| Came {
                event: e.event,
                effect,
            })
            .collect()
    };
    let mut made = Stored::default();
    let came = fold(&mut made, Place::Table, run)?;
    let Some(mut noted) = made.noted else {
        return Ok(all(Effect::Stale));
    };
    let news = if event == Event::Read {
        let time = |stamp: Stamp| stamp.committed_at.map(|time| time + READ_SKEW);
        noted.read_at > stamp.and_then(time) && noted.read_at > read_at
    } else {
        noted.stamp.and_then(|stamp| stamp.version) > stamp.and_then(|stamp| stamp.version)
    };
    if !news {
        return Ok(all(Effect::Stale));
    }
    if event == Event::Read {
        noted.stamp = stamp;
    }
    (noted.image, noted.gone) = (None, None);
    stored.noted = Some(noted);
    stored.row = made.row.map(|row| {
        let before = stored.row.unwrap_or_default();
        std::array::from_fn(|column| row[column].or(before[column]))
    });
    Ok(came)
}

/// As `Group::fold`, with what is written and stored after it.
fn fold(stored: &mut Stored, place: Place, run: &[(&Sent, &Entry)]) -> Result<Vec<Came>, String> {
    let mut changes: Vec<_> = run
        .iter()
        .enumerate()
        .map(|(id, (sent, entry))| Change {
            id: id as u32,
            event: entry.event,
            stamp: sent.stamp,
            image: entry.image,
            provided: &entry.provided,
        })
        .collect();
    commit_order(&mut changes, |change| change.id as usize);
    let before = stored.load(place);
    let mut state = before.clone();
    let mut came = Vec::new();
    for change in &changes {
        let was = state.clone();
        let effect = state.apply(change, READ_SKEW);
        is_consistent(&was, change, effect, &state)
            .map_err(|fault| format!("{fault}: {change:?} is {effect:?}\n{was:#?}\n{state:#?}"))?;
        came.push(Came {
            event: change.event,
            effect,
        });
    }
    forget_plain_image(&mut state, &before, &changes, |id| run[id as usize].1.moved);
    let written = came.iter().any(|came| came.effect != Effect::Stale);
    if !state.present {
        stored.row = None;
    } else if written {
        let row = stored.row.get_or_insert_default();
        for (column, cell) in state.cells.iter().enumerate() {
            match cell.value {
                Value::Of(id) => row[column] = Some(run[id as usize].1.values[column]),
                Value::Unknown => row[column] = None,
                Value::Stored => {}
            }
        }
    }
    if state != before {
        stored.store(place, &state);
    }
    Ok(came)
}

/// Whether an effect is what became of the state.
fn is_consistent(
    was: &State,
    change: &Change<'_>,
    effect: Effect,
    is: &State,
) -> Result<(), &'static str> {
    let decides = match change.event {
        Event::Appear | Event::Update => is.present && is.row == Some(change.stamp),
        Event::Delete | Event::Leave { .. } => !is.present,
        Event::Read => is.present && is.read_at == change.stamp.committed_at,
    };
    let brought = is.cells.iter().any(|c| c.value == Value::Of(change.id));
    let same_row = (was.present, was.row) == (is.present, is.row);
    let right = match effect {
        Effect::Decided => decides,
        Effect::Filled => same_row && is.present && brought,
        // What turns out to be the row that had left goes; nothing comes.
        Effect::Stale => !brought && (same_row || !is.present),
    };
    if right {
        Ok(())
    } else {
        Err("the effect is not what became of the state")
    }
}

// The law.

/// Delivers by `order`: numbers of messages, and whether a batch ends after them.
fn deliver(
    sent: &[Sent],
    order: impl IntoIterator<Item = (usize, bool)>,
    place: Place,
) -> Result<Destination, String> {
    let mut destination = Destination::new(place);
    let mut batch = Vec::new();
    for (n, ends) in order {
        batch.push(&sent[n]);
        if ends {
            destination.apply(&batch)?;
            batch.clear();
        }
    }
    destination.apply(&batch)?;
    Ok(destination)
}

/// Whether the destination is as the source is, as far as the messages tell it.
fn is_reached(source: &Source, destination: &Destination) -> Result<(), String> {
    let told: BTreeSet<Key> = source
        .sent
        .iter()
        .flat_map(|sent| sent.entries.iter().map(|entry| entry.key))
        .collect();
    for key in told {
        let stored = &destination.rows[&key];
        let state = stored.load(destination.place);
        match (source.rows.get(&key), &stored.row) {
            (None, None) => {}
            (None, Some(_)) => return Err(format!("row {key} is there")),
            (Some(_), None) => return Err(format!("row {key} is missing")),
            (Some(row), Some(values)) => {
                for (column, cell) in state.cells.iter().enumerate() {
                    let known = cell.value != Value::Unknown;
                    let (is, expected) = (values[column], row.values[column]);
                    if row.told[column] && !(known && is == Some(expected)) {
                        return Err(format!(
                            "row {key} has {is:?} (known: {known}) in column {column}, not {expected}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Whether all messages again change nothing and are stale. A read can be applied again where what
/// it was applied to has been replaced since: it says the same.
fn is_idempotent(sent: &[Sent], destination: &Destination) -> Result<(), String> {
    let mut again = destination.clone();
    for sent in sent {
        for came in again.apply(&[sent])? {
            let read = came.event == Event::Read && came.effect == Effect::Decided;
            if came.effect != Effect::Stale && !read {
                return Err(format!("again {sent:?} is {came:?}"));
            }
        }
    }
    for (key, stored) in &again.rows {
        if stored.row != destination.rows[key].row {
            return Err(format!("row {key} is another one after all again"));
        }
    }
    Ok(())
}

fn holds(
    source: &Source,
    order: impl IntoIterator<Item = (usize, bool)> + Clone,
    place: Place,
) -> Result<(), String> {
    let sent = &source.sent;
    deliver(sent, order.clone(), place)
        .and_then(|destination| {
            is_reached(source, &destination)?;
            is_idempotent(sent, &destination)
        })
        .map_err(|fault| {
            let mut text = format!("{fault}\n");
            for (n, ends) in order {
                let Sent { stamp, entries } = &sent[n];
                let version = stamp.version.map(|v| (v.lsn, v.idx));
                let _ = write!(
                    text,
                    "{version:?} s{} at {:?}:",
                    stamp.source, stamp.committed_at
                );
                for e in entries {
                    let _ = write!(text, " [{}] {:?} {:?}", e.key, e.event, e.image);
                    let _ = write!(text, " {:?} {:?};", e.values, e.provided);
                }
                text.push_str(if ends { "\n--\n" } else { "\n" });
            }
            text
        })
}

fn value() -> impl Strategy<Value = u8> {
    0u8..5
}

fn touched() -> impl Strategy<Value = [Option<u8>; COLUMNS]> {
    proptest::array::uniform3(proptest::option::of(value()))
}

fn statement(keys: Key) -> impl Strategy<Value = Statement> {
    let key = move || 1..=keys;
    prop_oneof![
        3 => (key(), proptest::array::uniform3(value()))
            .prop_map(|(key, values)| Statement::Insert { key, values }),
        4 => (key(), touched()).prop_map(|(key, values)| Statement::Update { key, values }),
        2 => key().prop_map(|key| Statement::Delete { key }),
        3 => (key(), key(), touched())
            .prop_map(|(key, to, values)| Statement::Move { key, to, values }),
        2 => (key(), prop_oneof![Just(1i8), Just(-1), Just(2)], any::<bool>())
            .prop_map(|(first, by, descending)| Statement::Shift { first, by, descending }),
        2 => (proptest::array::uniform5(0..=keys), any::<u8>())
            .prop_map(|(to, start)| Statement::Rekey { to, start }),
    ]
}

fn moments(sources: u8, keys: Key) -> impl Strategy<Value = Vec<Moment>> {
    let moment = prop_oneof![
        3 => (proptest::collection::vec(statement(keys), 1..6), 0u8..12, 1..=sources).prop_map(
            |(statements, after, source)| Moment::Transaction { statements, after, source }
        ),
        1 => (1..=keys, -5i8..=5, 1..=sources)
            .prop_map(|(key, fast, source)| Moment::Read { key, fast, source }),
    ];
    proptest::collection::vec(moment, 1..6)
}

fn delivery() -> impl Strategy<Value = Vec<(u16, bool)>> {
    proptest::collection::vec((any::<u16>(), any::<bool>()), 0..40)
}

/// All of `count` messages: as `draws` say, many of them more than once, and then what they left out.
fn complete(count: usize, draws: &[(u16, bool)]) -> Vec<(usize, bool)> {
    if count == 0 {
        return Vec::new();
    }
    let mut order: Vec<_> = draws
        .iter()
        .map(|(n, ends)| (usize::from(*n) % count, *ends))
        .collect();
    let drawn: BTreeSet<usize> = order.iter().map(|(n, _)| *n).collect();
    let rest = (0..count).rev().filter(|n| !drawn.contains(n));
    order.extend(rest.map(|n| (n, n % 3 != 0)));
    order
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(3500))]

    #[test]
    fn any_delivery_of_a_full_table_converges(
        moments in moments(1, 4), draws in delivery(), columns in any::<bool>(),
    ) {
        let source = Source::new(true, &moments);
        let place = if columns { Place::Columns } else { Place::Table };
        let held = holds(&source, complete(source.sent.len(), &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }

    #[test]
    fn any_delivery_of_a_default_table_converges(
        moments in moments(1, 2), draws in delivery(), columns in any::<bool>(),
    ) {
        let source = Source::new(false, &moments);
        let place = if columns { Place::Columns } else { Place::Table };
        let held = holds(&source, complete(source.sent.len(), &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }

    #[test]
    fn any_delivery_from_two_sources_converges(
        moments in moments(2, 2), draws in delivery(), columns in any::<bool>(), full in any::<bool>(),
    ) {
        let source = Source::new(full, &moments);
        // Excluded: reads of rows that several sources write, with the versions in the destination's
        // columns. Those hold one time, that of the read once there was one, and so a change of the
        // other source that was committed shortly before a read by a fast clock is lost.
        let read = moments.iter().any(|moment| matches!(moment, Moment::Read { .. }));
        let place = if columns && !read { Place::Columns } else { Place::Table };
        let held = holds(&source, complete(source.sent.len(), &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }
}

// Every arrival of a few messages, in batches of every size.

/// All orders of the numbers below `count`.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![Vec::new()], |shorter, n| {
        let longer = |order: &Vec<usize>| {
            let order = order.clone();
            (0..=n).map(move |at| {
                let mut order = order.clone();
                order.insert(at, n);
                order
            })
        };
        shorter.iter().flat_map(longer).collect()
    })
}

/// The law for every arrival of what a source under REPLICA IDENTITY FULL sends: at most six
/// messages. Of six not every split is tried: each alone, in twos, in threes, all together.
fn converges(moments: &[Moment], count: usize) {
    let source = Source::new(true, moments);
    assert_eq!(source.sent.len(), count, "{:#?}", source.sent);
    let splits: Vec<u32> = match count {
        6 => vec![0b111111, 0b101010, 0b100100, 0],
        _ => (0..1 << (count - 1)).collect(),
    };
    for order in permutations(count) {
        for split in &splits {
            let order = order.iter().enumerate();
            let order = order.map(|(at, n)| (*n, split >> at & 1 == 1));
            for place in [Place::Table, Place::Columns] {
                if let Err(fault) = holds(&source, order.clone(), place) {
                    panic!("{place:?}: {fault}");
                }
            }
        }
    }
}

fn transaction(statements: &[Statement]) -> Moment {
    Moment::Transaction {
        statements: statements.to_vec(),
        after: 9,
        source: 1,
    }
}

fn read(key: Key) -> Moment {
    Moment::Read {
        key,
        fast: 0,
        source: 1,
    }
}

fn insert(key: Key) -> Statement {
    let values = [2; COLUMNS];
    Statement::Insert { key, values }
}

fn update(key: Key) -> Statement {
    let values = [Some(2), None, None];
    Statement::Update { key, values }
}

fn delete(key: Key) -> Statement {
    Statement::Delete { key }
}

fn move_to(key: Key, to: Key) -> Statement {
    let values = [None; COLUMNS];
    Statement::Move { key, to, values }
}

fn shift(descending: bool) -> Statement {
    Statement::Shift {
        first: 1,
        by: 1,
        descending,
    }
}

// The source begins with rows 1 and 2.

#[test]
fn chain_through_keys_in_one_transaction() {
    let chain = [delete(2), move_to(1, 2), move_to(2, 3), move_to(3, 4)];
    converges(&[transaction(&chain)], 4);
}

#[test]
fn chain_with_updates_in_between() {
    let chain = [
        insert(3),
        update(3),
        move_to(3, 4),
        update(4),
        move_to(4, 5),
    ];
    converges(&[transaction(&chain)], 5);
}

#[test]
fn chain_over_several_transactions() {
    let [one, two] = [[update(2), move_to(2, 3)], [update(3), move_to(3, 2)]];
    converges(&[transaction(&one), transaction(&two), read(2)], 5);
}

#[test]
fn row_that_leaves_a_key_and_comes_back() {
    let there = [update(2), move_to(2, 3), move_to(3, 2), move_to(2, 3)];
    converges(&[transaction(&there), read(3)], 5);
    let back = [move_to(2, 3), move_to(3, 2), update(2), move_to(2, 3)];
    let again = [move_to(3, 2)];
    converges(&[transaction(&back), transaction(&again)], 5);
}

#[test]
fn swap_through_a_temporary_key() {
    let swap = [move_to(1, 3), move_to(2, 1), move_to(3, 2)];
    converges(&[transaction(&swap)], 3);
    let swap = [update(1), move_to(1, 3), move_to(2, 1), move_to(3, 2)];
    converges(&[transaction(&swap), read(1), read(2)], 6);
}

#[test]
fn swap_in_one_statement() {
    for start in [0, 1] {
        let to = [2, 1, 0, 0, 0];
        let swap = Statement::Rekey { to, start };
        converges(
            &[transaction(std::slice::from_ref(&swap)), read(1), read(2)],
            4,
        );
        converges(&[transaction(&[update(1), swap, update(1)])], 4);
    }
}

#[test]
fn shift_of_several_rows() {
    for descending in [false, true] {
        converges(&[transaction(&[shift(descending)])], 2);
        converges(&[transaction(&[insert(3), shift(descending)])], 4);
        let twice = [shift(descending), shift(descending)];
        converges(&[transaction(&twice)], 4);
        converges(&[transaction(&twice[..1]), transaction(&twice[1..])], 4);
    }
}

#[test]
fn shift_with_updates_before_and_after() {
    for descending in [false, true] {
        let shift = shift(descending);
        let before = [update(2), update(2), shift.clone()];
        converges(&[transaction(&before)], 4);
        let both = [update(2), shift.clone(), update(2)];
        converges(&[transaction(&both)], 4);
        let gone = [shift, update(2), delete(2)];
        converges(&[transaction(&gone)], 4);
    }
}

#[test]
fn shift_and_reads_of_it() {
    for descending in [false, true] {
        let shift = shift(descending);
        converges(
            &[transaction(std::slice::from_ref(&shift)), read(2), read(3)],
            4,
        );
        let moments = [
            read(2),
            transaction(&[shift]),
            transaction(&[update(2)]),
            read(2),
        ];
        converges(&moments, 5);
    }
}

// Clauses, on the state of one row with two columns.

const ALL: &[Provided] = &[Provided::Value, Provided::Value];
const FIRST: &[Provided] = &[Provided::Value, Provided::Unchanged];
const LACKS: &[Provided] = &[Provided::Value, Provided::Nothing];

/// The only change of the transaction with this position, committed in that second.
fn at(lsn: u64) -> Stamp {
    Stamp {
        source: 1,
        version: Some(Version { lsn, idx: 0 }),
        committed_at: Some(lsn as i64 * SECOND),
    }
}

fn change(id: u32, event: Event, stamp: Stamp, provided: &[Provided]) -> Change<'_> {
    Change {
        id,
        event,
        stamp,
        image: None,
        provided,
    }
}

fn inserted(id: u32, lsn: u64) -> Change<'static> {
    change(id, Event::Appear, at(lsn), ALL)
}

fn updated(id: u32, lsn: u64, provided: &[Provided]) -> Change<'_> {
    change(id, Event::Update, at(lsn), provided)
}

fn deleted(id: u32, lsn: u64) -> Change<'static> {
    change(id, Event::Delete, at(lsn), &[])
}

fn read_in(id: u32, second: i64) -> Change<'static> {
    let stamp = Stamp {
        source: 1,
        version: None,
        committed_at: Some(second * SECOND),
    };
    change(id, Event::Read, stamp, ALL)
}

/// The state after these changes, in the order in which they are given, and the last one's effect.
fn after(changes: &[Change<'_>]) -> (State, Effect) {
    let mut state = State::unknown(2);
    let mut effect = Effect::Stale;
    for change in changes {
        effect = state.apply(change, READ_SKEW);
    }
    (state, effect)
}

/// Where the values are; `None` if there is no row.
fn values(state: &State) -> Option<[Value; 2]> {
    state
        .present
        .then(|| [state.cells[0].value, state.cells[1].value])
}

#[track_caller]
fn check(changes: &[Change<'_>], effect: Effect, expected: Option<[Value; 2]>) {
    let (state, came) = after(changes);
    assert_eq!((came, values(&state)), (effect, expected), "{state:#?}");
}

const fn both(id: u32) -> Option<[Value; 2]> {
    Some([Value::Of(id), Value::Of(id)])
}

#[test]
fn newest_change_decides() {
    check(
        &[inserted(0, 1), updated(1, 2, ALL)],
        Effect::Decided,
        both(1),
    );
    check(
        &[updated(1, 2, ALL), inserted(0, 1)],
        Effect::Stale,
        both(1),
    );
    let mut later = updated(1, 1, ALL);
    later.stamp.version = Some(Version { lsn: 1, idx: 7 });
    check(&[inserted(0, 1), later], Effect::Decided, both(1));
}

#[test]
fn same_change_again_is_stale() {
    check(&[inserted(0, 1), inserted(1, 1)], Effect::Stale, both(0));
    check(&[deleted(0, 1), deleted(1, 1)], Effect::Stale, None);
    check(&[read_in(0, 9), read_in(1, 9)], Effect::Stale, both(0));
    let unknown = Some([Value::Of(0), Value::Unknown]);
    check(
        &[updated(0, 1, FIRST), updated(1, 1, FIRST)],
        Effect::Stale,
        unknown,
    );
}

#[test]
fn delete_of_a_row_that_nobody_knows_decides() {
    check(&[deleted(0, 1)], Effect::Decided, None);
}

#[test]
fn tombstone_outlives_a_late_insert_update_and_read() {
    check(&[deleted(0, 3), inserted(1, 1)], Effect::Stale, None);
    check(&[deleted(0, 3), updated(1, 2, ALL)], Effect::Stale, None);
    check(&[deleted(0, 3), read_in(1, 2)], Effect::Stale, None);
    check(&[deleted(0, 3), read_in(1, 8)], Effect::Stale, None);
}

#[test]
fn newer_change_ends_a_tombstone() {
    check(&[deleted(0, 3), inserted(1, 4)], Effect::Decided, both(1));
    let unknown = Some([Value::Of(1), Value::Unknown]);
    check(
        &[deleted(0, 3), updated(1, 5, FIRST)],
        Effect::Decided,
        unknown,
    );
}

#[test]
fn read_later_than_tombstone_and_skew_brings_the_row_back() {
    let read = [inserted(0, 1), deleted(1, 3), read_in(2, 9)];
    check(&read, Effect::Decided, both(2));
    let [insert, delete, read] = read;
    check(&[insert, delete, read, insert], Effect::Stale, both(2));
    check(&[insert, delete, read, delete], Effect::Stale, both(2));
    let newer = inserted(3, 4);
    check(&[insert, delete, read, newer], Effect::Decided, both(3));
}

#[test]
fn read_applies_over_a_change_only_if_later_than_the_skew() {
    check(&[inserted(0, 1), read_in(1, 6)], Effect::Stale, both(0));
    check(&[inserted(0, 1), read_in(1, 7)], Effect::Decided, both(1));
}

#[test]
fn change_applies_over_any_read() {
    check(
        &[read_in(0, 9), updated(1, 1, ALL)],
        Effect::Decided,
        both(1),
    );
    check(
        &[inserted(0, 1), read_in(1, 9), updated(2, 2, ALL)],
        Effect::Decided,
        both(2),
    );
    check(
        &[inserted(0, 1), read_in(1, 9), inserted(2, 1)],
        Effect::Stale,
        both(1),
    );
}

#[test]
fn older_read_than_the_last_one_is_stale() {
    check(&[read_in(0, 9), read_in(1, 8)], Effect::Stale, both(0));
    check(&[read_in(0, 8), read_in(1, 9)], Effect::Decided, both(1));
}

#[test]
fn read_does_not_overwrite_what_it_cannot_tell() {
    let mut read = read_in(1, 9);
    read.provided = LACKS;
    check(
        &[inserted(0, 1), read],
        Effect::Decided,
        Some([Value::Of(1), Value::Of(0)]),
    );
}

#[test]
fn unchanged_value_stays_and_a_late_change_fills_it_alone() {
    let kept = Some([Value::Of(1), Value::Of(0)]);
    let (insert, update) = (inserted(0, 1), updated(1, 3, FIRST));
    check(&[insert, update], Effect::Decided, kept);
    let filled = Some([Value::Of(1), Value::Of(2)]);
    check(
        &[insert, update, updated(2, 2, ALL)],
        Effect::Filled,
        filled,
    );
    check(&[insert, update, updated(2, 2, FIRST)], Effect::Stale, kept);
    let older = [update, updated(2, 2, ALL), insert];
    check(&older, Effect::Stale, filled);
}

#[test]
fn value_from_before_the_gap_does_not_fill_it() {
    let changes = [updated(0, 2, ALL), updated(1, 3, FIRST), inserted(2, 1)];
    check(&changes, Effect::Stale, Some([Value::Of(1), Value::Of(0)]));
}

#[test]
fn unknown_value_is_filled_by_an_older_change_or_any_read() {
    let update = updated(0, 3, FIRST);
    check(
        &[update],
        Effect::Decided,
        Some([Value::Of(0), Value::Unknown]),
    );
    let filled = Some([Value::Of(0), Value::Of(1)]);
    check(&[update, inserted(1, 1)], Effect::Filled, filled);
    check(&[update, read_in(1, 2)], Effect::Filled, filled);
}

#[test]
fn change_knows_better_than_the_stale_read_that_filled() {
    let changes = [updated(0, 3, FIRST), read_in(1, 2), inserted(2, 1)];
    check(&changes, Effect::Filled, Some([Value::Of(0), Value::Of(2)]));
    let [update, read, insert] = changes;
    let changes = [update, insert, read];
    check(&changes, Effect::Stale, Some([Value::Of(0), Value::Of(2)]));
}

#[test]
fn late_delete_empties_what_was_filled_from_before_it() {
    let update = updated(0, 5, FIRST);
    let filled = [update, updated(1, 2, ALL), deleted(2, 3)];
    check(&filled, Effect::Stale, Some([Value::Of(0), Value::Unknown]));
    let [update, old, delete] = filled;
    let insert = inserted(3, 4);
    let right = Some([Value::Of(0), Value::Of(3)]);
    check(&[update, old, delete, insert], Effect::Filled, right);
    check(&[update, old, insert, delete], Effect::Stale, right);
}

#[test]
fn floor_keeps_the_dead_rows_values_out() {
    let changes = [deleted(0, 3), updated(1, 5, FIRST), updated(2, 2, ALL)];
    check(
        &changes,
        Effect::Stale,
        Some([Value::Of(1), Value::Unknown]),
    );
}

#[test]
fn floor_stays_under_a_row_that_a_read_brought_back() {
    let mut read = read_in(2, 9);
    read.provided = LACKS;
    let changes = [
        deleted(0, 3),
        updated(1, 1, ALL),
        read,
        updated(3, 10, FIRST),
    ];
    let (state, _) = after(&changes);
    assert_eq!(state.gone.map(|gone| gone.stamp), Some(at(3)));
    let [delete, old, read, update] = changes;
    check(
        &[delete, read, update, old],
        Effect::Stale,
        Some([Value::Of(3), Value::Stored]),
    );
}

#[test]
fn column_that_the_source_lacks_keeps_its_value_or_takes_its_default() {
    let insert = change(0, Event::Appear, at(1), LACKS);
    check(
        &[insert],
        Effect::Decided,
        Some([Value::Of(0), Value::Stored]),
    );
    // The delete between the two is late.
    let again = change(1, Event::Appear, at(3), LACKS);
    let default = Some([Value::Of(1), Value::Stored]);
    check(&[inserted(0, 1), again], Effect::Decided, default);
    let kept = Some([Value::Of(1), Value::Of(0)]);
    check(
        &[inserted(0, 1), updated(1, 2, LACKS)],
        Effect::Decided,
        kept,
    );
}

#[test]
fn between_sources_the_commit_time_decides() {
    let of = |mut change: Change<'static>, source, second| {
        change.stamp.source = source;
        change.stamp.committed_at = Some(second * SECOND);
        change
    };
    let (one, other) = (of(inserted(0, 9), 1, 1), of(inserted(1, 2), 2, 3));
    check(&[one, other], Effect::Decided, both(1));
    check(&[other, one], Effect::Stale, both(1));
    let gone = of(deleted(2, 1), 2, 2);
    check(&[one, gone], Effect::Decided, None);
    check(&[gone, one], Effect::Stale, None);
    check(&[gone, other, one], Effect::Stale, both(1));
    let at_once = of(inserted(2, 1), 2, 1);
    check(&[one, at_once], Effect::Decided, both(2));
}

#[test]
fn without_a_position_the_commit_time_decides() {
    let at = |id, second: i64| Change {
        stamp: Stamp {
            source: 1,
            version: None,
            committed_at: Some(second * SECOND),
        },
        ..updated(id, 1, ALL)
    };
    check(&[at(0, 1), at(1, 2)], Effect::Decided, both(1));
    check(&[at(1, 2), at(0, 1)], Effect::Stale, both(1));
    check(&[at(0, 1), at(1, 1)], Effect::Decided, both(1));
}

#[test]
fn batch_is_taken_in_commit_order_and_reads_last() {
    let mut changes = [
        read_in(0, 1),
        updated(1, 3, ALL),
        inserted(2, 2),
        deleted(3, 1),
    ];
    commit_order(&mut changes, |change| change.id as usize);
    assert_eq!(changes.map(|change| change.id), [3, 2, 1, 0]);
    let mut foreign = updated(4, 1, ALL);
    foreign.stamp.source = 2;
    foreign.stamp.committed_at = Some(2 * SECOND + 1);
    let mut changes = [foreign, updated(1, 3, ALL), inserted(2, 2)];
    commit_order(&mut changes, |change| change.id as usize);
    assert_eq!(changes.map(|change| change.id), [2, 4, 1]);
}

// Two rows at one key. Changes of the transaction at 5, by their index in it.

fn of_transaction(id: u32, event: Event, idx: u32, image: Option<u64>) -> Change<'static> {
    let mut stamp = at(5);
    stamp.version = Some(Version { lsn: 5, idx });
    Change {
        image,
        ..change(id, event, stamp, if image.is_some() { ALL } else { &[] })
    }
}

const ONE: u64 = 11;
const OTHER: u64 = 22;

fn leaves(id: u32, idx: u32, image: u64) -> Change<'static> {
    of_transaction(id, Event::Leave { image }, idx, None)
}

fn comes(id: u32, idx: u32, image: u64) -> Change<'static> {
    of_transaction(id, Event::Appear, idx, Some(image))
}

#[test]
fn row_that_leaves_does_not_take_along_the_one_that_came() {
    let (came, left) = (comes(0, 1, ONE), leaves(1, 2, OTHER));
    check(&[came, left], Effect::Stale, both(0));
    check(&[left, came], Effect::Decided, both(0));
    check(&[left, came, left], Effect::Stale, both(0));
}

#[test]
fn row_that_came_and_left_is_gone() {
    let (came, left) = (comes(0, 1, ONE), leaves(1, 2, ONE));
    check(&[came, left], Effect::Decided, None);
    check(&[left, came], Effect::Stale, None);
}

#[test]
fn former_image_of_the_row_that_left_goes_when_the_last_one_comes() {
    let (left, last, first) = (leaves(0, 3, ONE), comes(1, 2, ONE), comes(2, 1, OTHER));
    check(&[left, first], Effect::Decided, both(2));
    check(&[left, first, last], Effect::Stale, None);
    check(&[left, last, first], Effect::Stale, None);
    check(&[last, left, first], Effect::Stale, None);
}

#[test]
fn former_image_stays_away_though_that_of_the_row_that_left_was_not_kept() {
    let mut state = State::unknown(2);
    state.apply(&comes(0, 2, ONE), READ_SKEW);
    state.row_image = None;
    assert_eq!(state.apply(&leaves(1, 3, ONE), READ_SKEW), Effect::Decided);
    assert_eq!(state.apply(&comes(2, 1, OTHER), READ_SKEW), Effect::Stale);
    assert!(!state.present);
}

#[test]
fn read_does_not_make_the_row_that_came_another_one() {
    let came = [comes(0, 1, ONE), read_in(1, 11), leaves(2, 2, OTHER)];
    check(&came, Effect::Stale, both(1));
}

#[test]
fn row_that_came_fills_what_the_read_before_it_could_not_tell() {
    let mut read = read_in(1, 11);
    read.provided = LACKS;
    let (left, came) = (leaves(0, 2, OTHER), comes(2, 1, ONE));
    let filled = Some([Value::Of(1), Value::Of(2)]);
    check(&[left, read, came], Effect::Filled, filled);
    check(&[left, read, came, left], Effect::Stale, filled);
}

#[test]
fn departure_in_an_earlier_transaction_is_of_the_row_that_was_there() {
    let left = leaves(0, 2, OTHER);
    check(&[inserted(1, 4), left], Effect::Decided, None);
    check(&[left, inserted(1, 4)], Effect::Stale, None);
    check(&[left, inserted(1, 6)], Effect::Decided, both(1));
    check(&[inserted(1, 6), left], Effect::Stale, both(1));
}
