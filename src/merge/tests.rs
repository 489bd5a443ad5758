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
                for column in TEXT..COLUMNS {
                    if !self.full && touched[column].is_none() {
                        here.provided[column] = Provided::Unchanged;
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

/// `fold.rs` has it.
fn forget_plain_image(
    state: &mut State,
    before: &State,
    changes: &[Change<'_>],
    moved: impl Fn(u32) -> bool,
) {
    if state.row_image.is_none() || state.row == before.row {
        return;
    }
    let kept = changes.iter().any(|change| {
        Some(change.stamp) == state.row && change.event == Event::Appear && moved(change.id)
    });
    let same = match (&state.row, &before.row) {
        (Some(row), Some(stored)) => before.row_image.is_some() && row.same_transaction(stored),
        _ => false,
    };
    let kept = kept || same;
    if !kept {
        state.row_image = None;
    }
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
                for column in 0..COLUMNS {
                    let known = state.cells[column].value != Value::Unknown;
                    let right = known && values[column] == Some(row.values[column]);
                    if row.told[column] && !right {
                        return Err(format!(
                            "row {key} has {:?} (known: {known}) in column {column}, not {}",
                            values[column], row.values[column]
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
    #![proptest_config(config(4000))]

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
