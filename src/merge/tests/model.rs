//! A model of the destination, which uses the rule as `fold.rs`, `guard.rs` and `write.rs` do.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::source::{COLUMNS, Entry, Key, Sent, Values};
use super::*;

/// Where the versions are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Columns,
    Table,
}

/// One row as it is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Stored {
    pub(super) row: Option<[Option<u32>; COLUMNS]>,
    /// The guard's columns of the row: version and time.
    columns: Option<(Option<Version>, Option<i64>)>,
    noted: Option<Noted>,
}

/// Its entry in `sequin.row_version`.
#[derive(Debug, Clone, PartialEq)]
struct Noted {
    stamp: Option<Stamp>,
    read_at: Option<i64>,
    read_source: i64,
    deleted: bool,
    image: Option<u64>,
    gone: Option<Gone>,
    gaps: BTreeMap<usize, Option<(Stamp, bool)>>,
}

const HOME: i64 = 1;

impl Stored {
    /// Whether a message has told of the row.
    pub(super) fn is_known(&self) -> bool {
        self.row.is_some() || self.noted.is_some()
    }

    /// As the guard loads it.
    pub(super) fn load(&self, place: Place) -> State {
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
                image: noted.and_then(|noted| noted.image),
                matched: None,
            }));
            return state;
        }
        state.row = stamp;
        state.cells.fill(Cell::new(Value::Stored));
        state.read_at = match self.columns {
            Some((None, read_at)) => read_at,
            _ => noted.and_then(|noted| noted.read_at),
        };
        state.read_source = match (stamp, place, noted) {
            _ if state.read_at.is_none() => 0,
            (Some(stamp), ..) => stamp.source,
            (None, Place::Table, Some(noted)) => noted.read_source,
            _ => HOME,
        };
        if let Some(noted) = noted {
            state.row_image = noted.image;
            state.gone = noted.gone;
            for (column, gap) in &noted.gaps {
                state.cells[*column] = match *gap {
                    Some((gap, lacked)) => Cell {
                        value: Value::Stored,
                        gap: Some(gap),
                        lacked,
                    },
                    None => Cell::new(Value::Unknown),
                };
            }
        }
        state
    }

    /// As the guard asks it: whether there is more to know than a version. `claimed` is the change that decides
    /// the run, and its image if it is a delete.
    fn is_special(&self, run: &[(&Sent, &Entry)], claimed: (Option<Stamp>, Option<u64>)) -> bool {
        self.noted.as_ref().is_some_and(|noted| {
            let (sent, entry) = run[0];
            let read = entry.event == Event::Read;
            let foreign = |stamp: Stamp| stamp.source != sent.stamp.source;
            let same = |stamp: Stamp| claimed.0.is_some_and(|of| of.same_transaction(&stamp));
            // Rows of one transaction are told apart by their images.
            let told_apart = match noted.deleted {
                true => noted.image.is_some() && claimed.1.is_none(),
                false => claimed.1.is_some(),
            };
            !noted.gaps.is_empty()
                || noted.gone.is_some()
                || noted.image.is_some() && (read || !noted.deleted)
                || !read && noted.stamp.is_some_and(foreign)
                || told_apart && noted.stamp.is_some_and(same)
        })
    }

    /// Whether the row is another one than the one that went, by its values.
    fn differs(&self, place: Place, gone: Option<&Values>) -> bool {
        let (Some(row), Some(gone)) = (&self.row, gone) else {
            return false;
        };
        let cells = self.load(place).cells;
        (0..COLUMNS).any(|column| {
            let known = cells[column].value != Value::Unknown && cells[column].gap.is_none();
            known && row[column] != Some(gone[column])
        })
    }

    /// As the guard stores it.
    fn store(&mut self, place: Place, state: &State) {
        let gaps: BTreeMap<_, _> = state
            .cells
            .iter()
            .enumerate()
            .filter(|_| state.present)
            .filter_map(|(column, cell)| match (cell.value, cell.gap) {
                (Value::Unknown, _) => Some((column, None)),
                (_, Some(gap)) => Some((column, Some((gap, cell.lacked)))),
                (_, None) => None,
            })
            .collect();
        let (image, gone) = state.to_remember(!gaps.is_empty());
        let stamp = match state.present {
            true => state.row,
            false => state.gone.map(|gone| gone.stamp),
        };
        let foreign = stamp.is_some_and(|stamp| stamp.source != HOME);
        let plain = gaps.is_empty() && gone.is_none() && image.is_none() && !foreign;
        self.noted = if place == Place::Columns && state.present && plain {
            // The columns have no place for a read that is newer than the change.
            let read = stamp.is_some_and(|stamp| state.read_at > stamp.committed_at);
            read.then(|| Noted {
                stamp: None,
                read_at: state.read_at,
                read_source: HOME,
                deleted: false,
                image: None,
                gone: None,
                gaps: BTreeMap::new(),
            })
        } else {
            Some(Noted {
                stamp,
                read_at: state.read_at,
                read_source: state.read_source,
                deleted: !state.present,
                image,
                gone,
                gaps,
            })
        };
        self.columns = (place == Place::Columns && state.present).then(|| {
            let time = stamp.and_then(|stamp| stamp.committed_at);
            let version = stamp.and_then(|stamp| stamp.version);
            let newest = time.max(state.read_at);
            (version, version.map_or(newest, |_| time))
        });
    }
}

/// A destination table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Destination {
    pub(super) place: Place,
    pub(super) rows: BTreeMap<Key, Stored>,
}

/// The effect of one entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Came {
    pub(super) event: Event,
    pub(super) effect: Effect,
}

impl Destination {
    pub(super) fn new(place: Place) -> Destination {
        Destination {
            place,
            rows: BTreeMap::new(),
        }
    }

    /// Applies one batch.
    pub(super) fn apply(&mut self, batch: &[&Sent]) -> Result<Vec<Came>, String> {
        let mut runs: BTreeMap<Key, Vec<(&Sent, &Entry)>> = BTreeMap::new();
        for sent in batch {
            for entry in &sent.entries {
                runs.entry(entry.key).or_default().push((sent, entry));
            }
        }
        let mut came = Vec::new();
        for (key, run) in runs {
            let stored = self.rows.entry(key).or_default();
            if is_past(stored, self.place, &run)? {
                came.extend(run.iter().map(|(_, entry)| Came {
                    event: entry.event,
                    effect: Effect::Stale,
                }));
                continue;
            }
            came.extend(match self.place {
                Place::Table if is_simple(&run) => match claim(stored, &run)? {
                    Some(came) => came,
                    None => fold(stored, Place::Table, &run)?,
                },
                place => fold(stored, place, &run)?,
            });
        }
        Ok(came)
    }
}

/// Whether all entries are surely stale. Folded they must be, too, and the row must stay as it is.
fn is_past(stored: &Stored, place: Place, run: &[(&Sent, &Entry)]) -> Result<bool, String> {
    let state = stored.load(place);
    let past = |(sent, entry): &(&Sent, &Entry)| state.is_past(entry.event, &sent.stamp);
    if !run.iter().all(past) {
        return Ok(false);
    }
    let mut folded = stored.clone();
    let came = fold(&mut folded, place, run)?;
    match came.iter().all(|came| came.effect == Effect::Stale) && folded.row == stored.row {
        true => Ok(true),
        false => Err(format!("past, but {came:?}: {stored:?} becomes {folded:?}")),
    }
}

/// Whether the server decides while it writes, with versions in a table of their own.
fn is_simple(run: &[(&Sent, &Entry)]) -> bool {
    run.iter().all(|(sent, entry)| {
        let plain = !entry.moved && !entry.provided.contains(&Provided::Unchanged);
        let one_source = sent.stamp.source == run[0].0.stamp.source;
        match entry.event {
            Event::Leave { .. } => false,
            Event::Read => run.len() == 1 && !entry.provided.contains(&Provided::Nothing),
            Event::Delete { image: Some(_) } => run.len() == 1,
            _ => plain && one_source,
        }
    })
}

/// As the guard claims rows on the server. `None`: the row must be examined.
fn claim(stored: &mut Stored, run: &[(&Sent, &Entry)]) -> Result<Option<Vec<Came>>, String> {
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
        return Ok(Some(all(Effect::Stale)));
    };
    let image = noted.image.filter(|_| noted.deleted);
    let plain = stored.noted.as_ref().is_none_or(|stored| {
        let kept = stored.image.is_some() && (event == Event::Read || !stored.deleted);
        stored.gaps.is_empty() && stored.gone.is_none() && !kept
    });
    let newer = if event == Event::Read {
        let time = |stamp: Stamp| stamp.committed_at.map(|time| time + READ_SKEW);
        noted.read_at > stamp.and_then(time) && noted.read_at > read_at
    } else {
        let shared = stored.noted.as_ref().is_some_and(|stored| {
            let mut stamps = noted.stamp.iter().zip(&stored.stamp);
            image.is_some() && !stored.deleted && stamps.any(|(a, b)| a.same_transaction(b))
        });
        let source = |stamp: Stamp| noted.stamp.is_some_and(|of| of.source == stamp.source);
        let time = noted.stamp.and_then(|stamp| stamp.committed_at);
        let of_source = stored.noted.as_ref().is_some_and(|stored| {
            stored
                .stamp
                .map_or(stored.read_source, |stamp| stamp.source)
                == noted.stamp.map_or(HOME, |stamp| stamp.source)
        });
        stamp.is_none_or(source)
            && !shared
            && !(of_source && is_seen(read_at, time, READ_SKEW))
            && noted
                .stamp
                .and_then(|stamp| stamp.version)
                .map(|v| (v.lsn, v.idx))
                > stamp
                    .and_then(|stamp| stamp.version)
                    .map(|v| (v.lsn, v.idx))
    };
    if !(plain && newer) {
        let special = stored.is_special(run, (noted.stamp, image));
        return Ok((!special).then(|| all(Effect::Stale)));
    }
    if event == Event::Read {
        noted.stamp = stamp;
    }
    (noted.image, noted.gone) = (image, None);
    let before = stored.noted.as_ref().map(|stored| stored.read_source);
    noted.read_source = match (stamp, before) {
        (Some(stamp), _) => stamp.source,
        (None, Some(before)) => before,
        (None, None) => run[0].0.stamp.source,
    };
    stored.noted = Some(noted);
    stored.row = made.row.map(|row| {
        let before = stored.row.unwrap_or_default();
        std::array::from_fn(|column| row[column].or(before[column]))
    });
    Ok(Some(came))
}

/// As examined changes are folded, written and stored.
fn fold(stored: &mut Stored, place: Place, run: &[(&Sent, &Entry)]) -> Result<Vec<Came>, String> {
    let mut changes: Vec<_> = run
        .iter()
        .enumerate()
        .map(|(id, (sent, entry))| Change {
            id: id as u32,
            event: entry.event,
            stamp: sent.stamp,
            image: entry.image,
            differs: stored.differs(place, entry.gone.as_ref()),
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

/// Whether the state became what the effect says.
fn is_consistent(
    was: &State,
    change: &Change<'_>,
    effect: Effect,
    is: &State,
) -> Result<(), &'static str> {
    let decides = match change.event {
        Event::Appear | Event::Update => is.present && is.row == Some(change.stamp),
        Event::Delete { .. } | Event::Leave { .. } => !is.present,
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
