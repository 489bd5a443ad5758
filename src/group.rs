//! The changes that one mapping takes from a batch: keys, order, and the net change of each row.

use std::collections::HashMap;
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::envelope::{Batch, Item};
use crate::json::Json;
use crate::key;
use crate::mapping::{Guard, Mode, OnDelete};
use crate::merge::{self, Change, Effect, Event, Provided, Stamp, State, Value};
use crate::message::{Action, Message};
use crate::pg::clock;
use crate::pg::keys::output_text;
use crate::pg::subtransaction::subtransaction;
use crate::pg::trap::SqlError;
use crate::projection::{Input, Projected};
use crate::target::{Slot, Source, Target, TargetColumn};

/// What became of a message in one mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It decided the row, which is there.
    Upserted,
    /// It decided the row, which is gone.
    Deleted,
    /// A newer change of the same row in the same batch decided.
    Collapsed,
    /// Older than what was applied before, or the same change again.
    Stale,
    /// The filter refused it, and there was nothing to delete.
    Filtered,
    /// The mapping ignores it.
    Ignored,
    /// It is a dead letter.
    Dead,
}

/// A message that could not be applied, and why.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The message, as a number in the group.
    pub message: u32,
    /// What the server said.
    pub error: SqlError,
    /// Whether it may work later, when another row is there or gone.
    pub waiting: bool,
}

/// One change of one row.
#[derive(Debug, Clone, Copy)]
struct Entry {
    message: u32,
    event: Event,
    stamp: Stamp,
    key: (u32, u32),
    key_values: u32,
    refused: bool,
}

/// What is to be done with a row.
#[derive(Debug, Clone)]
pub struct Net {
    /// Its entries in the group's order.
    run: (u32, u32),
    /// The message that decided, and whose fault it is if the row cannot be written.
    pub message: u32,
    /// Whether the row is to be there.
    pub present: bool,
    /// Whether it goes because the filter refused it.
    pub refused: bool,
    /// Where its values start, in the group's values.
    pub row: usize,
    /// Which columns have a value, a bit each.
    pub columns: Vec<u64>,
}

/// One mapping's part of a batch.
pub struct Group<'a> {
    /// The mapping.
    pub target: Target,
    /// The messages, by their place in the batch.
    pub messages: Vec<u32>,
    /// What became of each message.
    pub outcomes: Vec<Option<Outcome>>,
    /// The messages that failed.
    pub failures: Vec<Failure>,
    /// What is to be done, in key order.
    pub nets: Vec<Net>,
    /// The values of the net changes: a row of the target's width each.
    pub values: Vec<Datum>,
    /// Which of the values are null.
    pub nulls: Vec<bool>,
    batch: &'a Batch<'a>,
    memory: &'a Bump,
    sources: Vec<&'a str>,
    entries: Vec<Entry>,
    keys: Vec<u8>,
    key_values: Vec<Datum>,
    projected: HashMap<(u32, bool), (Rc<Projected>, usize)>,
}

impl<'a> Group<'a> {
    /// The messages of `batch` that `target` takes. What is made of them is kept in `memory` and in
    /// the current memory context.
    pub fn new(
        target: Target,
        batch: &'a Batch<'a>,
        messages: Vec<u32>,
        memory: &'a Bump,
    ) -> Group<'a> {
        let outcomes = vec![None; messages.len()];
        Group {
            target,
            outcomes,
            failures: Vec::new(),
            nets: Vec::new(),
            values: Vec::new(),
            nulls: Vec::new(),
            batch,
            memory,
            sources: Vec::new(),
            entries: Vec::with_capacity(messages.len()),
            keys: Vec::new(),
            key_values: Vec::new(),
            projected: HashMap::new(),
            messages,
        }
    }

    /// The message with this number in the group.
    pub fn message(&self, number: u32) -> &'a Message<'a> {
        message(self.batch, self.messages[number as usize])
    }

    /// Finds each message's row and each row's net change, and casts its values.
    pub fn prepare(&mut self) -> Result<(), SqlError> {
        self.project()?;
        self.find_rows()?;
        self.sort();
        self.fold_all()
    }

    /// Runs `work` for each number below `count`, each failure noted with its message and undone; an
    /// error that is nobody's fault ends it.
    fn each(
        &mut self,
        count: usize,
        mut work: impl FnMut(&mut Self, usize) -> Result<(), (u32, SqlError)>,
    ) -> Result<(), SqlError> {
        let mut next = 0;
        while next < count {
            let mut failed = None;
            let result = subtransaction(|| {
                while next < count {
                    let at = next;
                    next += 1;
                    if let Err((message, error)) = work(self, at) {
                        failed = Some(message);
                        return Err(error);
                    }
                }
                Ok(())
            });
            if let Err(error) = result {
                self.fail(failed.expect("work failed"), error)?;
            }
        }
        Ok(())
    }

    /// Notes that a message failed; an error that is not the message's goes on.
    pub fn fail(&mut self, message: u32, error: SqlError) -> Result<(), SqlError> {
        let error = crate::dead_letter::blame(error, &self.target.mapping)?;
        let waiting = crate::dead_letter::may_work_later(&error);
        self.outcomes[message as usize] = Some(Outcome::Dead);
        self.failures.push(Failure { message, error, waiting });
        Ok(())
    }

    /// Lets the server evaluate the mapping's SQL: for all messages at once, and one by one if that
    /// fails. Updates that may have moved their row are asked about its former image too.
    fn project(&mut self) -> Result<(), SqlError> {
        let Some(mut projection) = self.target.projection.take() else { return Ok(()) };
        let memory = self.memory;
        let mut asked: Vec<(u32, bool)> = Vec::new();
        for n in 0..self.messages.len() as u32 {
            asked.push((n, false));
            if self.target.changes_key(self.message(n)) {
                asked.push((n, true));
            }
        }
        let inputs: Vec<_> = asked
            .iter()
            .map(|&(n, former)| input(self.message(n), former, memory))
            .collect();
        match subtransaction(|| projection.run(&inputs, memory)) {
            Ok(projected) => {
                let projected = Rc::new(projected);
                for (i, &place) in asked.iter().enumerate() {
                    self.projected.insert(place, (projected.clone(), i));
                }
            }
            Err(_) => self.each(asked.len(), |group, i| {
                if group.outcomes[asked[i].0 as usize].is_some() {
                    return Ok(());
                }
                let projected = projection
                    .run(&inputs[i..=i], memory)
                    .map_err(|error| (asked[i].0, error))?;
                group.projected.insert(asked[i], (Rc::new(projected), 0));
                Ok(())
            })?,
        }
        self.target.projection = Some(projection);
        Ok(())
    }

    fn projected(&self, message: u32, former: bool, expression: usize) -> Option<Datum> {
        let (projected, row) = &self.projected[&(message, former)];
        projected.get(*row, expression)
    }

    /// Makes an entry, with its key, of each message (two if the message moved its row).
    fn find_rows(&mut self) -> Result<(), SqlError> {
        let mut slots = Vec::new();
        self.each(self.messages.len(), |group, n| {
            let n = n as u32;
            if group.outcomes[n as usize].is_some() {
                return Ok(());
            }
            group.find_row(n, &mut slots).map_err(|error| (n, error))
        })
    }

    fn find_row(&mut self, n: u32, slots: &mut Vec<Slot<'a>>) -> Result<(), SqlError> {
        let message = self.message(n);
        let append = self.target.mapping.mode == Mode::Append;
        let refused = match self.target.projection.as_ref().and_then(|p| p.filter) {
            None => false,
            Some(filter) => {
                !self.projected(n, false, filter).is_some_and(|value| value.value() != 0)
            }
        };
        if refused && (append || message.action == Action::Read) {
            self.outcomes[n as usize] = Some(Outcome::Filtered);
            return Ok(());
        }
        let delete = message.action == Action::Delete && !append;
        if delete && self.target.mapping.on_delete == OnDelete::Ignore {
            self.outcomes[n as usize] = Some(Outcome::Ignored);
            return Ok(());
        }
        let stamp = self.stamp(message);
        self.target.read(message, self.batch.fields(message), slots);
        let moved = if self.target.changes_key(message) {
            let former: Vec<_> = (0..self.target.key.len())
                .map(|i| self.target.former(message, self.target.key[i]))
                .collect();
            Some(self.add(n, Event::Leave { image: 0 }, stamp, false, true, |i, _| former[i])?)
        } else {
            None
        };
        let event = match message.action {
            _ if append => Event::Appear,
            Action::Delete => Event::Delete,
            _ if refused => Event::Delete,
            Action::Insert => Event::Appear,
            Action::Update if moved.is_some() => Event::Appear,
            Action::Update => Event::Update,
            Action::Read => Event::Read,
        };
        let here = self.add(n, event, stamp, refused, false, |_, column| slots[column])?;
        if let Some(moved) = moved
            && self.key(moved) == self.key(here)
        {
            // The columns differ, the key does not (its case, say): nothing moved.
            self.entries[here as usize].event =
                if refused { Event::Delete } else { Event::Update };
            self.entries.swap_remove(moved as usize);
        }
        Ok(())
    }

    fn add(
        &mut self,
        message: u32,
        event: Event,
        stamp: Stamp,
        refused: bool,
        former: bool,
        slot: impl Fn(usize, usize) -> Slot<'a>,
    ) -> Result<u32, SqlError> {
        let key_values = self.key_values.len();
        for i in 0..self.target.key.len() {
            let column = self.target.key[i];
            let value = self.cast(message, former, column, slot(i, column))?;
            let Some(value) = value else {
                self.key_values.truncate(key_values);
                let name = &self.target.columns[column].name;
                return Err(SqlError::new(
                    "23502",
                    format!("key column \"{name}\" has no value in the message"),
                )
                .with_hint("Map every key column to something that each message has."));
            };
            self.key_values.push(value);
        }
        let start = self.keys.len();
        key::encode(
            &mut self.target.key_encoding,
            &self.key_values[key_values..],
            &mut self.keys,
        );
        self.entries.push(Entry {
            message,
            event,
            stamp,
            key: (start as u32, self.keys.len() as u32),
            key_values: key_values as u32,
            refused,
        });
        Ok(self.entries.len() as u32 - 1)
    }

    /// Casts what the message says of a column; `None` is null.
    fn cast(
        &mut self,
        message: u32,
        former: bool,
        column: usize,
        slot: Slot<'a>,
    ) -> Result<Option<Datum>, SqlError> {
        let value = match slot {
            Slot::Nothing | Slot::Unchanged => return Ok(None),
            Slot::Sql(expression) => return Ok(self.projected(message, former, expression)),
            Slot::Json(value) => value,
            Slot::Constant => {
                let TargetColumn { source: Source::Constant(json), caster, .. } =
                    &mut self.target.columns[column]
                else {
                    unreachable!("a constant slot is of a constant source")
                };
                return caster.cast(Json::Text(json), self.memory);
            }
        };
        let target = &mut self.target.columns[column];
        target.caster.cast(value, self.memory).map_err(|mut error| {
            let position = message_position(self.batch, self.messages[message as usize]);
            let path = match &target.source {
                Source::Field(name) => format!("record.{name}"),
                Source::Path(path) => path.to_string(),
                Source::Constant(_) | Source::Sql(_) => String::from("record"),
            };
            let place = format!(
                "messages[{position}].{path} into column \"{}\" of type {}",
                target.name, target.sql.type_name
            );
            error.detail = Some(match error.detail {
                Some(detail) => format!("{detail} At {place}."),
                None => format!("At {place}."),
            });
            error.column.get_or_insert_with(|| target.name.clone());
            error
        })
    }

    fn stamp(&mut self, message: &Message<'a>) -> Stamp {
        let source = message.source();
        let number = self.sources.iter().position(|known| *known == source).unwrap_or_else(|| {
            self.sources.push(source);
            self.sources.len() - 1
        });
        Stamp {
            source: number as u32,
            version: message.version,
            committed_at: message.committed_at,
        }
    }

    fn key(&self, entry: u32) -> &[u8] {
        let (start, end) = self.entries[entry as usize].key;
        &self.keys[start as usize..end as usize]
    }

    /// Orders the entries by key, so that sessions lock rows in one order and indexes are walked
    /// from end to end; those of one row as they are to be taken.
    fn sort(&mut self) {
        if self.target.mapping.mode == Mode::Append {
            return;
        }
        let keys = &self.keys;
        self.entries.sort_by(|a, b| {
            let key = |e: &Entry| &keys[e.key.0 as usize..e.key.1 as usize];
            key(a).cmp(key(b)).then(a.message.cmp(&b.message))
        });
    }

    /// The end of the run of entries of one row that begins at `start`.
    fn run_end(&self, start: usize) -> usize {
        if self.target.mapping.mode == Mode::Append {
            return start + 1;
        }
        let key = self.key(start as u32);
        (start + 1..self.entries.len())
            .find(|&i| self.key(i as u32) != key)
            .unwrap_or(self.entries.len())
    }

    /// Makes the net changes.
    fn fold_all(&mut self) -> Result<(), SqlError> {
        let mut runs = Vec::with_capacity(self.entries.len());
        let mut start = 0;
        while start < self.entries.len() {
            let end = self.run_end(start);
            runs.push((start as u32, end as u32));
            start = end;
        }
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
                    Err((message, error)) => {
                        again.push(pending[i]);
                        return Err((message, error));
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

    /// The net change of a row without the message that failed; `None` if nothing is left.
    pub fn fold_without(&mut self, net: &Net) -> Result<Option<Net>, SqlError> {
        let run = net.run;
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
        if run.1 - run.0 == 1 {
            return self.fold_one(run, scratch);
        }
        let mut entries: Vec<u32> = (run.0..run.1)
            .filter(|&i| {
                let message = self.entries[i as usize].message;
                self.outcomes[message as usize] != Some(Outcome::Dead)
            })
            .collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let width = self.target.columns.len();
        let mut slots = Vec::with_capacity(entries.len());
        for &i in &entries {
            let message = self.message(self.entries[i as usize].message);
            self.target.read(message, self.batch.fields(message), &mut scratch.slots);
            slots.push(scratch.slots.clone());
        }
        let provided: Vec<Vec<Provided>> =
            slots.iter().map(|slots| slots.iter().map(Slot::provided).collect()).collect();
        let mut changes: Vec<Change<'_>> = entries
            .iter()
            .enumerate()
            .map(|(id, &i)| {
                let entry = &self.entries[i as usize];
                Change {
                    id: id as u32,
                    event: entry.event,
                    stamp: entry.stamp,
                    image: None,
                    provided: &provided[id],
                }
            })
            .collect();
        let arrival = self.target.mapping.guard == Guard::Off;
        if !arrival {
            merge::commit_order(&mut changes, |c| entries[c.id as usize] as usize);
        }
        let mut state = State::unknown(width);
        let mut decided = None;
        for (at, change) in changes.iter().enumerate() {
            let mut change = *change;
            if arrival {
                // Without versions every change is newer than the one before.
                change.stamp = Stamp {
                    source: 0,
                    version: Some(crate::message::Version { lsn: at as u64, idx: 0 }),
                    committed_at: None,
                };
                if change.event == Event::Read {
                    change.event = Event::Update;
                }
            }
            let effect = state.apply(&change, read_skew());
            let outcome = match effect {
                Effect::Decided => {
                    if let Some(before) = decided.replace(change.id) {
                        self.note(entries[before as usize], Outcome::Collapsed);
                    }
                    continue;
                }
                Effect::Filled => Outcome::Upserted,
                Effect::Stale => Outcome::Stale,
            };
            self.note(entries[change.id as usize], outcome);
        }
        let decided = decided.expect("the first change of a row that nobody knows decides");
        let entry = self.entries[entries[decided as usize] as usize];
        let row = self.start_row(&entry);
        let mut columns = self.no_columns();
        if state.present {
            for column in 0..width {
                let Value::Of(id) = state.cells[column].value else { continue };
                let from = self.entries[entries[id as usize] as usize].message;
                let slot = slots[id as usize][column];
                self.put(row, column, from, slot, &entry, &mut columns)?;
            }
        }
        entries.clear();
        Ok(Some(Net {
            run,
            message: entry.message,
            present: state.present,
            refused: entry.refused,
            row,
            columns,
        }))
    }

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
        if present {
            let message = self.message(entry.message);
            self.target.read(message, self.batch.fields(message), &mut scratch.slots);
            for column in 0..scratch.slots.len() {
                let slot = scratch.slots[column];
                self.put(row, column, entry.message, slot, &entry, &mut columns)?;
            }
        }
        Ok(Some(Net {
            run,
            message: entry.message,
            present,
            refused: entry.refused,
            row,
            columns,
        }))
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

    /// Notes what became of an entry's message, unless the entry is only the row's old key.
    fn note(&mut self, entry: u32, outcome: Outcome) {
        let entry = &self.entries[entry as usize];
        if !matches!(entry.event, Event::Leave { .. }) {
            self.outcomes[entry.message as usize] = Some(outcome);
        }
    }

    /// Notes what became of the row of `net`.
    pub fn settle(&mut self, net: &Net, outcome: Outcome) {
        let leaves = (net.run.0..net.run.1).any(|i| {
            let entry = &self.entries[i as usize];
            entry.message == net.message && matches!(entry.event, Event::Leave { .. })
        });
        if !leaves {
            self.outcomes[net.message as usize] = Some(outcome);
        }
    }

    /// What a soft delete sets: the time of the delete, or true.
    pub fn deletion_mark(&self, net: &Net) -> Datum {
        let mark = self.target.mapping.soft_delete.as_deref();
        match mark.and_then(|name| self.target.destination.column(name)) {
            Some(column) if column.type_oid == pg_sys::BOOLOID => Datum::from(true),
            _ => {
                let time = self.message(net.message).committed_at;
                Datum::from(time.map_or_else(clock::now, clock::from_unix))
            }
        }
    }

    /// The key of a net change's row as a JSON array, for people.
    pub fn key_text(&self, message: u32) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.message == message)?;
        let values: Vec<_> = self
            .target
            .key
            .iter()
            .enumerate()
            .map(|(i, &column)| {
                let value = self.key_values[entry.key_values as usize + i];
                let type_oid = self.target.columns[column].row.type_oid;
                serde_json::Value::from(output_text(type_oid, value))
            })
            .collect();
        (!values.is_empty()).then(|| serde_json::Value::from(values).to_string())
    }
}

#[derive(Default)]
struct Scratch<'a> {
    slots: Vec<Slot<'a>>,
}

fn message<'a, 'b>(batch: &'b Batch<'a>, place: u32) -> &'b Message<'a> {
    match &batch.items[place as usize] {
        Item::Message(message) => message,
        Item::Dead { .. } => unreachable!("only messages are routed"),
    }
}

fn message_position(batch: &Batch<'_>, place: u32) -> usize {
    message(batch, place).position
}

fn input<'a>(message: &Message<'a>, former: bool, memory: &'a Bump) -> Input<'a> {
    let record = if former {
        Json::Text(memory.alloc_str(&overlay(message.record, message.changes)))
    } else {
        message.record
    };
    Input {
        record,
        changes: message.changes,
        metadata: message.metadata,
        action: message.action.as_str(),
    }
}

/// The JSON text of a record with its former values.
fn overlay(record: Json<'_>, changes: Option<Json<'_>>) -> String {
    let mut text = String::from("{");
    for (key, value) in record.members() {
        let value = changes.and_then(|changes| changes.get(&key)).unwrap_or(value);
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(key.as_ref()).to_string());
        text.push(':');
        text.push_str(&value.text());
    }
    text.push('}');
    text
}

/// How much later than a change's commit a read must be to have seen it for certain (microseconds).
fn read_skew() -> i64 {
    5_000_000
}
