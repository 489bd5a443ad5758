//! From the changes of a row to its net change: examined against what is stored where there is more
//! to know than which is newer, folded by [`crate::merge`]'s rule, its values cast.

use pgrx::pg_sys::Datum;

use crate::error::SqlError;
use crate::group::{Entry, Group, Guarded, Net, Outcome, object};
use crate::guard::{self, Place};
use crate::image::fingerprint;
use crate::json::Json;
use crate::mapping::OnDelete;
use crate::merge::{self, Cell, Change, Effect, Event, Provided, Stamp, State, Value};
use crate::message::Version;
use crate::target::{Slot, collect};

/// What is made over and over while folding.
#[derive(Default)]
struct Scratch<'a> {
    slots: Vec<Slot<'a>>,
}

impl<'a> Group<'a> {
    /// Finds the rows that must be examined, and loads what is stored of them.
    pub fn examine(&mut self, runs: &[(u32, u32)]) -> Result<(), SqlError> {
        if self.target.place == Place::Nowhere || runs.is_empty() {
            return Ok(());
        }
        if self.target.place == Place::Columns {
            let first = self.entries[0].stamp.source;
            self.home = guard::home(&mut self.target, self.call.definer, first)?;
        }
        let mut slots = Vec::new();
        let mut examined: Vec<(u32, u32)> = Vec::new();
        let mut simple: Vec<(u32, u32)> = Vec::new();
        for &run in runs {
            if self.is_simple(run, &mut slots) {
                simple.push(run)
            } else {
                examined.push(run)
            }
        }
        // In the destination's columns a claim sees no tombstone and no gap: ask before.
        if self.target.place == Place::Columns {
            let keys: Vec<Vec<u8>> = simple.iter().map(|run| self.key(run.0).to_vec()).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            let reads: Vec<Option<i64>> = simple
                .iter()
                .map(|run| &self.entries[run.0 as usize])
                .map(|entry| {
                    entry
                        .stamp
                        .committed_at
                        .filter(|_| entry.event == Event::Read)
                })
                .collect();
            let definer = self.call.definer;
            let special = guard::special(&mut self.target, definer, &keys, |_| None, |i| reads[i])?;
            examined.extend(
                simple
                    .iter()
                    .zip(special)
                    .filter(|(_, s)| *s)
                    .map(|(run, _)| *run),
            );
        }
        if !examined.is_empty() {
            self.take_alone()?;
        }
        self.load(&examined)
    }

    /// Loads what is stored of these rows, for which the call must have the mapping for itself.
    pub fn load(&mut self, runs: &[(u32, u32)]) -> Result<(), SqlError> {
        if runs.is_empty() {
            return Ok(());
        }
        if !self.call.alone {
            return Err(crate::apply::again_alone());
        }
        let keys: Vec<Vec<u8>> = runs.iter().map(|run| self.key(run.0).to_vec()).collect();
        let values: Vec<Vec<Datum>> = runs
            .iter()
            .map(|run| {
                let start = self.entries[run.0 as usize].key_values as usize;
                self.key_values[start..start + self.target.key.len()].to_vec()
            })
            .collect();
        let stored = guard::load(self, &keys, &values)?;
        self.stored.extend(runs.iter().map(|run| run.0).zip(stored));
        Ok(())
    }

    /// Whether the server can apply the rule while it writes the row.
    fn is_simple(&mut self, run: (u32, u32), slots: &mut Vec<Slot<'a>>) -> bool {
        let columns = self.target.place == Place::Columns;
        let alone = run.1 - run.0 == 1;
        for i in run.0..run.1 {
            let entry = self.entries[i as usize];
            match entry.event {
                Event::Leave { .. } => return false,
                Event::Delete if columns => return false,
                Event::Read if !alone || entry.stamp.committed_at.is_none() => return false,
                Event::Read => {}
                _ if entry.stamp.version.is_none() => return false,
                _ if columns && entry.stamp.source != self.home => return false,
                _ if entry.stamp.source != self.entries[run.0 as usize].stamp.source => {
                    return false;
                }
                _ => {}
            }
            if entry.event == Event::Delete {
                continue;
            }
            let message = self.message(entry.message);
            if entry.event == Event::Appear && self.target.changes_key(message) {
                return false;
            }
            self.target.read(message, self.batch.fields(message), slots);
            let partial = slots
                .iter()
                .zip(&self.target.columns)
                .any(|(slot, column)| match slot {
                    Slot::Unchanged => true,
                    Slot::Nothing => column.required,
                    _ => false,
                });
            if partial {
                return false;
            }
        }
        true
    }

    /// Makes the net changes.
    pub fn fold_all(&mut self, runs: Vec<(u32, u32)>) -> Result<(), SqlError> {
        let mut nets = Vec::with_capacity(runs.len());
        let width = self.target.columns.len();
        self.values.reserve(runs.len() * width);
        self.nulls.reserve(runs.len() * width);
        let mut scratch = Scratch::default();
        // A message that fails may leave an older one of its row to decide: its run comes again.
        let mut pending = runs;
        while !pending.is_empty() {
            let mut again = Vec::new();
            self.each(pending.len(), |group, i| {
                match group.fold(pending[i], &mut scratch) {
                    Ok(net) => nets.extend(net),
                    Err(error) => {
                        again.push(pending[i]);
                        return Err(error);
                    }
                }
                Ok(())
            })?;
            pending = again;
        }
        nets.sort_by_key(|net| net.run);
        self.nets = nets;
        Ok(())
    }

    /// The net change of a row without the messages that failed; `None` if nothing is left.
    pub fn fold_again(&mut self, run: (u32, u32)) -> Result<Option<Net>, SqlError> {
        let mut folded = None;
        let mut scratch = Scratch::default();
        loop {
            let mut failed = false;
            self.each(1, |group, _| match group.fold(run, &mut scratch) {
                Ok(net) => {
                    folded = net;
                    Ok(())
                }
                Err(error) => {
                    failed = true;
                    Err(error)
                }
            })?;
            if !failed {
                return Ok(folded);
            }
        }
    }

    /// The net change of the entries of one row, its values cast.
    fn fold(
        &mut self,
        run: (u32, u32),
        scratch: &mut Scratch<'a>,
    ) -> Result<Option<Net>, (u32, SqlError)> {
        if run.1 - run.0 == 1 && !self.stored.contains_key(&run.0) {
            return self.fold_one(run, scratch);
        }
        let entries: Vec<u32> = (run.0..run.1)
            .filter(|&i| {
                let message = self.entries[i as usize].message;
                self.outcomes[message as usize] != Some(Outcome::Dead)
            })
            .collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let mut slots = Vec::with_capacity(entries.len());
        let mut images = Vec::with_capacity(entries.len());
        for &i in &entries {
            let entry = self.entries[i as usize];
            let message = self.message(entry.message);
            self.target
                .read(message, self.batch.fields(message), &mut scratch.slots);
            slots.push(scratch.slots.clone());
            let came = matches!(entry.event, Event::Appear | Event::Update);
            images.push(came.then(|| fingerprint(message.record, None)));
        }
        let provided: Vec<Vec<Provided>> = slots
            .iter()
            .map(|slots| slots.iter().map(Slot::provided).collect())
            .collect();
        let mut changes: Vec<Change<'_>> = entries
            .iter()
            .enumerate()
            .map(|(id, &i)| {
                let entry = &self.entries[i as usize];
                Change {
                    id: id as u32,
                    event: entry.event,
                    stamp: entry.stamp,
                    image: images[id],
                    provided: &provided[id],
                }
            })
            .collect();
        let arrival = self.target.place == Place::Nowhere;
        if arrival {
            in_arrival_order(&mut changes);
        } else {
            merge::commit_order(&mut changes, |change| entries[change.id as usize] as usize);
        }
        let stored = self.stored.get(&run.0).cloned();
        let before = match &stored {
            Some(stored) => stored.state.clone(),
            None => State::unknown(self.target.columns.len()),
        };
        let mut state = before.clone();
        let mut decided: Option<u32> = None;
        let mut filled: Option<u32> = None;
        let soft = self.target.mapping.on_delete == OnDelete::Soft;
        let mut last_cells = None;
        let mut removed = false;
        for change in &changes {
            let cells = (soft && state.present).then(|| state.cells.clone());
            match state.apply(change, self.call.read_skew) {
                Effect::Decided => {
                    if !state.present {
                        removed = true;
                        last_cells = cells.or(last_cells);
                    }
                    if let Some(older) = decided.replace(change.id) {
                        self.note(entries[older as usize], Outcome::Collapsed);
                    }
                }
                Effect::Filled => {
                    filled = Some(change.id);
                    self.note(entries[change.id as usize], Outcome::Upserted);
                }
                Effect::Stale => self.note(entries[change.id as usize], Outcome::Stale),
            }
        }
        if stored.is_some() {
            merge::forget_plain_image(&mut state, &before, &changes, |id| {
                let entry = &self.entries[entries[id as usize] as usize];
                self.target.changes_key(self.message(entry.message))
            });
        }
        let changed = state != before;
        // No change may have decided, and yet there is more to know now; the row may turn out to be
        // the one that had left, or its values those of a row before it.
        let news = decided.or(filled);
        if news.is_none() && !changed {
            return Ok(None);
        }
        let id = news.unwrap_or(0);
        let mut touched = news.is_some() || before.present != state.present;
        let entry = self.entries[entries[id as usize] as usize];
        let row = self.start_row(&entry);
        let mut columns = self.no_columns();
        let mut merges = self.no_columns();
        // A row that is only marked keeps what the batch says it had.
        let has_news = |cells: &[Cell]| cells.iter().any(|c| matches!(c.value, Value::Of(_)));
        let marked = last_cells.filter(|cells| !state.present && has_news(cells));
        let marks = marked.is_some();
        if state.present || marks {
            let cells = marked.as_ref().unwrap_or(&state.cells);
            for (column, cell) in cells.iter().enumerate() {
                match cell.value {
                    Value::Of(id) => {
                        let from = self.entries[entries[id as usize] as usize].message;
                        let slot = slots[id as usize][column];
                        if matches!(slot, Slot::Partial) {
                            // What older changes of the batch say of the rest of the document.
                            let mut document = Vec::new();
                            let mut complete = false;
                            for change in &changes {
                                let older = self.entries[entries[change.id as usize] as usize];
                                if change.event == Event::Appear {
                                    document.clear();
                                }
                                complete |= change.event == Event::Appear;
                                if !change.provided.is_empty() {
                                    let message = self.message(older.message);
                                    let fields = self.batch.fields(message);
                                    collect(message, fields, &mut document);
                                }
                                if change.id == id {
                                    break;
                                }
                            }
                            self.put_document(row, column, from, &document)?;
                            columns[column / 64] |= 1 << (column % 64);
                            if !complete {
                                merges[column / 64] |= 1 << (column % 64);
                            }
                            continue;
                        }
                        self.put(row, column, from, slot, &entry, &mut columns)?;
                    }
                    Value::Unknown
                        if state.present
                            && before.present
                            && before.cells[column].value != Value::Unknown
                            && self.target.columns[column].nullable =>
                    {
                        touched = true;
                        columns[column / 64] |= 1 << (column % 64);
                    }
                    Value::Unknown | Value::Stored => {}
                }
            }
            // The key names the row, whatever the deciding message says of it.
            for &column in &self.target.key {
                columns[column / 64] |= 1 << (column % 64);
            }
        }
        let whole = (0..self.target.columns.len())
            .all(|column| columns[column / 64] & (1 << (column % 64)) != 0);
        let guarded = match stored {
            Some(stored) => Guarded::Examined {
                touched,
                entry: stored.entry,
                exists: stored.exists,
                state: Box::new(state.clone()),
            },
            None if arrival => Guarded::No,
            None => Guarded::Change,
        };
        Ok(Some(Net {
            run,
            message: entry.message,
            outcome: match news {
                None => Outcome::Stale,
                Some(_) if state.present => Outcome::Upserted,
                Some(_) => Outcome::Deleted,
            },
            present: state.present,
            refused: entry.refused,
            stamp: if matches!(guarded, Guarded::Change) {
                Some(entry.stamp)
            } else {
                state.row
            },
            read_at: state.read_at,
            guarded,
            row,
            columns,
            merges,
            replaces: state.present && removed && !whole && !soft,
            marks,
        }))
    }

    /// The net change of the one entry that a row has.
    fn fold_one(
        &mut self,
        run: (u32, u32),
        scratch: &mut Scratch<'a>,
    ) -> Result<Option<Net>, (u32, SqlError)> {
        let entry = self.entries[run.0 as usize];
        if self.outcomes[entry.message as usize] == Some(Outcome::Dead) {
            return Ok(None);
        }
        let present = !matches!(entry.event, Event::Delete | Event::Leave { .. });
        let row = self.start_row(&entry);
        let mut columns = self.no_columns();
        let mut merges = self.no_columns();
        if present {
            let message = self.message(entry.message);
            self.target
                .read(message, self.batch.fields(message), &mut scratch.slots);
            for column in 0..scratch.slots.len() {
                let slot = scratch.slots[column];
                if matches!(slot, Slot::Partial) {
                    let mut document = Vec::new();
                    collect(message, self.batch.fields(message), &mut document);
                    self.put_document(row, column, entry.message, &document)?;
                    columns[column / 64] |= 1 << (column % 64);
                    merges[column / 64] |= 1 << (column % 64);
                    continue;
                }
                self.put(row, column, entry.message, slot, &entry, &mut columns)?;
            }
        }
        let read = entry.event == Event::Read;
        Ok(Some(Net {
            run,
            message: entry.message,
            outcome: if present {
                Outcome::Upserted
            } else {
                Outcome::Deleted
            },
            present,
            refused: entry.refused,
            stamp: (!read).then_some(entry.stamp),
            read_at: entry.stamp.committed_at.filter(|_| read),
            guarded: match self.target.place {
                Place::Nowhere => Guarded::No,
                _ if read => Guarded::Read,
                _ => Guarded::Change,
            },
            row,
            columns,
            merges,
            replaces: false,
            marks: false,
        }))
    }

    /// The value of a document's column.
    fn put_document(
        &mut self,
        row: usize,
        column: usize,
        message: u32,
        members: &[(&'a str, Json<'a>)],
    ) -> Result<(), (u32, SqlError)> {
        let text = self.memory.alloc_str(&object(members.iter().copied()));
        let value = self
            .cast(message, false, column, Slot::Json(Json::Text(text)))
            .map_err(|error| (message, error))?;
        if let Some(value) = value {
            self.values[row + column] = value;
            self.nulls[row + column] = false;
        }
        Ok(())
    }

    /// The net change of one entry alone, whatever others there are of its row.
    pub fn fold_entry(&mut self, entry: u32) -> Result<Option<Net>, SqlError> {
        self.fold_one((entry, entry + 1), &mut Scratch::default())
            .map_err(|(_, error)| error)
    }

    /// A row of nulls with the entry's key.
    fn start_row(&mut self, entry: &Entry) -> usize {
        let row = self.values.len();
        let width = self.target.columns.len();
        self.values.resize(row + width, Datum::null());
        self.nulls.resize(row + width, true);
        for (i, &column) in self.target.key.iter().enumerate() {
            self.values[row + column] = self.key_values[entry.key_values as usize + i];
            self.nulls[row + column] = false;
        }
        row
    }

    fn no_columns(&self) -> Vec<u64> {
        vec![0; self.target.columns.len().div_ceil(64)]
    }

    fn put(
        &mut self,
        row: usize,
        column: usize,
        message: u32,
        slot: Slot<'a>,
        entry: &Entry,
        columns: &mut [u64],
    ) -> Result<(), (u32, SqlError)> {
        if matches!(slot, Slot::Nothing | Slot::Unchanged) {
            return Ok(());
        }
        columns[column / 64] |= 1 << (column % 64);
        if self.target.key.contains(&column) && message == entry.message {
            return Ok(()); // cast with the key
        }
        let value = self
            .cast(message, false, column, slot)
            .map_err(|error| (message, error))?;
        if let Some(value) = value {
            self.values[row + column] = value;
            self.nulls[row + column] = false;
        }
        Ok(())
    }
}

/// Without a guard every change is newer than the one that arrived before it. Only a row that left
/// its key in the transaction in which another came there is still told apart by its image.
fn in_arrival_order(changes: &mut [Change<'_>]) {
    let mut came = None;
    for (at, change) in changes.iter_mut().enumerate() {
        let transaction = change.stamp.version.map(|version| version.lsn);
        match change.event {
            Event::Read => change.event = Event::Update,
            Event::Leave { .. } if transaction.is_none() || transaction != came => {
                change.event = Event::Delete;
            }
            Event::Leave { .. } | Event::Delete => {}
            Event::Appear | Event::Update => came = transaction,
        }
        change.stamp = Stamp {
            source: 0,
            version: Some(Version {
                lsn: 0,
                idx: at as u32,
            }),
            committed_at: None,
        };
    }
}
