//! The changes that one mapping takes from a batch: keys, order, and the net change of each row.

use std::cell::{Cell, OnceCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::cascade::Mapped;
use crate::envelope::{Batch, Item};
use crate::error::{SqlError, sqlstate};
use crate::explain::{self, Images};
use crate::guard::{self, Stored};
use crate::image::{fingerprint, source_number};
use crate::json::Json;
use crate::key;
use crate::mapping::{Mode, OnDelete};
use crate::merge::{Event, Stamp, State};
use crate::message::{Action, Message};
use crate::pg::keys::output_text;
use crate::pg::subtransaction::subtransaction;
use crate::pg::user::ActingAs;
use crate::pg::{clock, invalidation};
use crate::projection::{Input, Projected};
use crate::target::{Slot, Source, Target, TargetColumn};
use crate::units::Unit;
use crate::wait::Wait;
use crate::write::may_share;

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

impl Outcome {
    /// Its place among the counts of the result row.
    pub fn number(self) -> usize {
        match self {
            Outcome::Upserted => 0,
            Outcome::Deleted => 1,
            Outcome::Collapsed => 2,
            Outcome::Stale => 3,
            Outcome::Filtered => 4,
            Outcome::Ignored => 5,
            Outcome::Dead => 6,
        }
    }

    /// The name of its count.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Upserted => "upserted",
            Outcome::Deleted => "deleted",
            Outcome::Collapsed => "collapsed",
            Outcome::Stale => "stale",
            Outcome::Filtered => "filtered",
            Outcome::Ignored => "ignored",
            Outcome::Dead => "dead",
        }
    }
}

/// A message that could not be applied, and why.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The message, as a number in the group.
    pub message: u32,
    /// What the server said.
    pub error: SqlError,
    /// What it waits for, if it may work later.
    pub wait: Option<Wait>,
}

/// Which messages may be why a set of rows could not be written. Only a hint: they are written after the
/// others.
#[derive(Debug, Clone, Default)]
pub struct Suspects {
    /// The place in the batch of the message whose row was written when the error was raised.
    pub place: Option<u32>,
    /// The error, where a foreign key was checked for all of them in the end.
    pub foreign_key: Option<SqlError>,
}

impl Suspects {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.place.is_none() && self.foreign_key.is_none()
    }
}

/// One change of one row.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The message, as a number in the group.
    pub message: u32,
    /// What it says of the row.
    pub event: Event,
    /// When.
    pub stamp: Stamp,
    key: (u32, u32),
    /// Where the key's values are.
    pub key_values: u32,
    /// Whether the filter refused it.
    pub refused: bool,
}

/// How a net change is guarded.
#[derive(Debug, Clone)]
pub enum Guarded {
    /// Not at all: it arrived last.
    No,
    /// It is a change with a version; the server compares.
    Change,
    /// It is a read; the server compares.
    Read,
    /// The rule was applied to what is stored; this is the row's new state.
    Examined {
        /// The state to store.
        state: Box<State>,
        /// Whether `sequin.row_version` has an entry of the row.
        entry: bool,
        /// Whether the destination has the row.
        exists: bool,
        /// Whether it must be written (or deleted).
        touched: bool,
    },
}

/// What is to be done with a row.
#[derive(Debug, Clone)]
pub struct Net {
    /// Its entries in the group's order.
    pub run: (u32, u32),
    /// The message that decided, and whose fault it is if the row cannot be written.
    pub message: u32,
    /// What becomes of that message when the row is written.
    pub outcome: Outcome,
    /// Whether the row is to be there.
    pub present: bool,
    /// Whether it goes because the filter refused it.
    pub refused: bool,
    /// When the row changed.
    pub stamp: Option<Stamp>,
    /// When it was read.
    pub read_at: Option<i64>,
    /// How it is guarded.
    pub guarded: Guarded,
    /// Where its values start, in the group's values.
    pub row: usize,
    /// Which columns have a value, a bit each.
    pub columns: Vec<u64>,
    /// Which of them are documents of which only a part is known, to be laid over what is there.
    pub merges: Vec<u64>,
    /// Whether the row that may be there is another one, of which nothing must be left.
    pub replaces: bool,
    /// Whether the row is not deleted but marked, with the values that it had at last.
    pub marks: bool,
}

/// What a call is like.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// The role that owns the extension's tables.
    pub definer: pg_sys::Oid,
    /// How much later than a change's commit a read must be to have seen it for certain, in
    /// microseconds.
    pub read_skew: i64,
    /// The OID of `sequin.mapping`.
    pub mappings: pg_sys::Oid,
    /// Whether the call has the mapping for itself.
    pub alone: bool,
    /// Whether this is one of the first attempts of the call.
    pub early: bool,
    /// Whether it is the call's only mapping.
    pub single: bool,
    /// Whether dead letters are tried again, which are not counted with the batch.
    pub letters: bool,
    /// The call is made to be explained: each outcome must be that of its message, where otherwise
    /// only their number matters.
    pub explained: bool,
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
    /// Counts, for all groups of the call, what may help a message that failed before: sets of rows that
    /// were written, by this call or, before it had a mapping for itself, by others.
    pub written: Rc<Cell<u64>>,
    /// Deletes (by the start of their run) that were claimed before their time, and whether they are
    /// news.
    pub claimed: HashMap<u32, bool>,
    /// What is to be done, in key order.
    pub nets: Vec<Net>,
    /// The values of the net changes: a row of the target's width each.
    pub values: Vec<Datum>,
    /// Which of the values are null.
    pub nulls: Vec<bool>,
    /// The call.
    pub call: Call,
    /// With guard columns: the source whose positions the destination's columns hold.
    pub home: i64,
    /// Whether a resync of the mapping is on.
    pub resyncing: bool,
    /// What a set that could not be written is known to have failed for, for as long as it is of use.
    pub suspects: Suspects,
    /// The tables that mappings write.
    pub mapped: Mapped,
    /// How many rows the call is the first to confirm in the resync.
    pub confirmed: i64,
    /// When the call is explained: the rows before it, by key.
    pub before: Images,
    /// Messages that moved a row away from a key.
    pub left: HashSet<u32>,
    /// What is stored of the rows that are examined, by the start of their run.
    pub stored: HashMap<u32, Stored>,
    pub(crate) batch: &'a Batch<'a>,
    pub(crate) memory: &'a Bump,
    source: Option<(&'a str, i64)>,
    pub(crate) entries: Vec<Entry>,
    keys: Vec<u8>,
    pub(crate) key_values: Vec<Datum>,
    /// The entries of each message, made when they are first asked for, after they are sorted.
    by_message: OnceCell<HashMap<u32, Vec<u32>>>,
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
        call: Call,
    ) -> Group<'a> {
        let outcomes = vec![None; messages.len()];
        Group {
            target,
            outcomes,
            failures: Vec::new(),
            written: Rc::default(),
            claimed: HashMap::new(),
            nets: Vec::new(),
            values: Vec::new(),
            nulls: Vec::new(),
            call,
            home: 0,
            resyncing: false,
            suspects: Suspects::default(),
            mapped: Mapped::default(),
            confirmed: 0,
            before: Images::new(),
            left: HashSet::new(),
            stored: HashMap::new(),
            batch,
            memory,
            source: None,
            entries: Vec::with_capacity(messages.len()),
            keys: Vec::new(),
            key_values: Vec::new(),
            by_message: OnceCell::new(),
            projected: HashMap::new(),
            messages,
        }
    }

    /// Acts as the mapping's owner for as long as the value lives.
    pub fn acting_as_owner(&self) -> ActingAs {
        ActingAs::untrusted(pg_sys::Oid::from(self.target.mapping.owner))
    }

    /// Has the mapping for this call alone, or ends the attempt. What the call has seen of it before may
    /// have changed since.
    ///
    /// Not to be called in a subtransaction that may be undone: the lock would go with it.
    pub fn take_alone(&mut self) -> Result<(), SqlError> {
        let (mappings, id) = (self.call.mappings, self.target.mapping.id);
        if self.call.alone {
            return Ok(());
        }
        if !invalidation::try_lock_mapping(mappings, id) {
            return Err(crate::apply::again_alone());
        }
        self.call.alone = true;
        // Others may have written, up to now, what a message of another mapping has failed for.
        self.wrote();
        Ok(())
    }

    /// Notes that a set of rows was written, or may have been.
    pub fn wrote(&self) {
        self.written.set(self.written.get() + 1);
    }

    /// While a resync is on: notes the rows that the batch says are there, also by messages that
    /// are stale.
    pub fn confirm(&mut self) -> Result<(), SqlError> {
        if !self.resyncing || self.target.mapping.mode == Mode::Append {
            return Ok(());
        }
        let keys: Vec<Vec<u8>> = (0..self.entries.len())
            .filter(|&i| {
                matches!(
                    self.entries[i].event,
                    Event::Appear | Event::Update | Event::Read
                )
            })
            .map(|i| self.key(i as u32).to_vec())
            .collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let noted = guard::note_confirmed(&mut self.target, self.call.definer, &keys)?;
        self.confirmed = noted as i64;
        Ok(())
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
        let runs = self.runs();
        self.examine(&runs)?;
        if self.call.explained {
            self.before = explain::images(self)?;
        }
        self.fold_all(runs)?;
        if !self.call.alone && !may_share(self) {
            self.take_alone()?;
        }
        Ok(())
    }

    /// Runs `work` for each number below `count`, each failure noted with its message and undone; an
    /// error that is nobody's fault ends it.
    pub(crate) fn each(
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

    /// Notes that a message failed for good; an error that is not the message's goes on.
    pub fn fail(&mut self, message: u32, error: SqlError) -> Result<(), SqlError> {
        let error = self.blame(error)?;
        self.give_up(message, error, None);
        Ok(())
    }

    /// Returns the error if it is a message's fault. One that is not goes on; and if the destination is not
    /// found any more, since its schema was renamed, which no lock prevents, the call begins again. What
    /// raised the error must be undone.
    pub fn blame(&self, error: SqlError) -> Result<SqlError, SqlError> {
        if self.call.early
            && matches!(error.sqlstate().as_str(), "3F000" | "42P01")
            && invalidation::has_changed(self.target.destination.oid)
        {
            return Err(crate::apply::again_alone());
        }
        crate::dead_letter::blame(error, &self.target.mapping)
    }

    /// Notes that a message failed; it may be waiting for another row.
    pub fn give_up(&mut self, message: u32, error: SqlError, wait: Option<Wait>) {
        self.outcomes[message as usize] = Some(Outcome::Dead);
        self.failures.push(Failure {
            message,
            error,
            wait,
        });
    }

    /// Takes back that messages wait: what is to be done with their rows, once more.
    pub fn revive(&mut self) -> Result<Vec<Unit>, SqlError> {
        let failures = std::mem::take(&mut self.failures);
        let (waiting, dead): (Vec<_>, Vec<_>) = failures
            .into_iter()
            .partition(|failure| failure.wait.is_some());
        self.failures = dead;
        let mut units = Vec::with_capacity(waiting.len());
        for failure in &waiting {
            self.outcomes[failure.message as usize] = None;
        }
        let mut folded = HashSet::new();
        let runs: Vec<Vec<(u32, u32)>> = waiting
            .iter()
            .map(|failure| {
                let runs = self.entries_of(failure.message).map(|e| self.run_of(e));
                runs.filter(|run| folded.insert(*run)).collect()
            })
            .collect();
        // Older changes of a row may have been written instead.
        let examined: Vec<(u32, u32)> = runs
            .iter()
            .flatten()
            .filter(|run| self.stored.contains_key(&run.0))
            .copied()
            .collect();
        self.load(&examined)?;
        for runs in runs {
            let mut unit = Vec::new();
            for run in runs {
                unit.extend(self.fold_again(run)?);
            }
            if !unit.is_empty() {
                units.push(unit);
            }
        }
        Ok(units)
    }

    /// The run that an entry is in.
    pub fn run_of(&self, entry: u32) -> (u32, u32) {
        let key = self.key(entry);
        let start = (0..entry)
            .rev()
            .find(|&i| self.key(i) != key)
            .map_or(0, |i| i + 1);
        (start, self.run_end(start as usize) as u32)
    }

    /// Lets the server evaluate the mapping's SQL: for all messages at once, and one by one if that
    /// fails. Updates that may have moved their row are asked about its former image too.
    fn project(&mut self) -> Result<(), SqlError> {
        let Some(mut projection) = self.target.projection.take() else {
            return Ok(());
        };
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
            // One by one, each in a subtransaction that is kept: what an undone one returned is gone.
            Err(error) => {
                // Who may not be blamed for it here may be below, and then it is known where.
                let of_a_message = matches!(
                    error.class(),
                    sqlstate::CARDINALITY_VIOLATION
                        | sqlstate::DATA_EXCEPTION
                        | sqlstate::INTEGRITY_CONSTRAINT_VIOLATION
                        | sqlstate::SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION
                        | sqlstate::PLPGSQL_ERROR
                );
                if let Err(error) = crate::dead_letter::blame(error, &self.target.mapping)
                    && !of_a_message
                {
                    self.target.projection = Some(projection);
                    return Err(error);
                }
                for (i, &place) in asked.iter().enumerate() {
                    if self.outcomes[place.0 as usize].is_some() {
                        continue;
                    }
                    match subtransaction(|| projection.run(&inputs[i..=i], memory)) {
                        Ok(projected) => {
                            self.projected.insert(place, (Rc::new(projected), 0));
                        }
                        Err(error) => {
                            let error = projection.place(error, &inputs[i], &self.target, memory);
                            if let Err(error) = self.fail(place.0, error) {
                                self.target.projection = Some(projection);
                                return Err(error);
                            }
                        }
                    }
                }
            }
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
            Some(filter) => self
                .projected(n, false, filter)
                .is_none_or(|taken| taken.value() as u8 == 0),
        };
        if refused && (append || message.action == Action::Read) {
            self.outcomes[n as usize] = Some(Outcome::Filtered);
            return Ok(());
        }
        let delete = message.action == Action::Delete && !append;
        if (delete || refused) && self.target.mapping.on_delete == OnDelete::Ignore {
            let outcome = if delete {
                Outcome::Ignored
            } else {
                Outcome::Filtered
            };
            self.outcomes[n as usize] = Some(outcome);
            return Ok(());
        }
        let stamp = self.stamp(message);
        self.target.read(message, self.batch.fields(message), slots);
        let moved = if self.target.changes_key(message) {
            let former: Vec<_> = (0..self.target.key.len())
                .map(|i| self.target.former(message, self.target.key[i]))
                .collect();
            let image = fingerprint(message.record, message.changes);
            Some(
                self.add(n, Event::Leave { image }, stamp, false, true, |i, _| {
                    former[i]
                })?,
            )
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
            self.entries[here as usize].event = if refused {
                Event::Delete
            } else {
                Event::Update
            };
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
    pub(crate) fn cast(
        &mut self,
        message: u32,
        former: bool,
        column: usize,
        slot: Slot<'a>,
    ) -> Result<Option<Datum>, SqlError> {
        let value = match slot {
            Slot::Nothing | Slot::Unchanged | Slot::Partial => return Ok(None),
            Slot::Sql(expression) => return Ok(self.projected(message, former, expression)),
            Slot::Json(value) => value,
            Slot::Constant => {
                let TargetColumn {
                    source: Source::Constant(json),
                    caster,
                    ..
                } = &mut self.target.columns[column]
                else {
                    unreachable!("a constant slot is of a constant source")
                };
                return caster.cast(Json::Text(json), self.memory);
            }
        };
        let target = &mut self.target.columns[column];
        target.caster.cast(value, self.memory).map_err(|error| {
            let position = message_position(self.batch, self.messages[message as usize]);
            let path = match &target.source {
                Source::Field(name) if former => format!("changes.{name}"),
                Source::Field(name) => format!("record.{name}"),
                Source::Path(path) => path.to_string(),
                Source::Constant(_) | Source::Sql(_) => String::from("record"),
            };
            let inner = target.caster.place(value, &error, self.memory);
            let mut error = error.at(&format!(
                "messages[{position}].{path}{inner} into column \"{}\" of type {}",
                target.name, target.sql.type_name
            ));
            error.column.get_or_insert_with(|| target.name.clone());
            error
        })
    }

    fn stamp(&mut self, message: &Message<'a>) -> Stamp {
        let source = message.source();
        let number = match self.source {
            Some((known, number)) if known == source => number,
            _ => source_number(source),
        };
        self.source = Some((source, number));
        Stamp {
            source: number,
            version: message.version,
            committed_at: message.committed_at,
        }
    }

    /// The key of an entry's row, as bytes.
    pub fn key(&self, entry: u32) -> &[u8] {
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

    /// The runs of entries of one row each.
    fn runs(&self) -> Vec<(u32, u32)> {
        let mut runs = Vec::with_capacity(self.entries.len());
        let mut start = 0;
        while start < self.entries.len() {
            let end = self.run_end(start);
            runs.push((start as u32, end as u32));
            start = end;
        }
        runs
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

    /// Notes what became of an entry's message, unless the entry is only the row's old key.
    pub(crate) fn note(&mut self, entry: u32, outcome: Outcome) {
        let entry = &self.entries[entry as usize];
        if !matches!(entry.event, Event::Leave { .. }) {
            self.outcomes[entry.message as usize] = Some(outcome);
        }
    }

    /// Notes what became of the row of `net`.
    pub fn settle(&mut self, net: &Net, outcome: Outcome) {
        if self.leaves(net) {
            return;
        }
        let moved = outcome == Outcome::Filtered && self.left.contains(&net.message);
        self.outcomes[net.message as usize] = Some(if moved { Outcome::Deleted } else { outcome });
    }

    /// Notes that the row of `net` had something newer: that is true of all its changes.
    pub fn settle_stale(&mut self, net: &Net) {
        for i in net.run.0..net.run.1 {
            let message = self.entries[i as usize].message;
            if self.outcomes[message as usize] == Some(Outcome::Collapsed) {
                self.outcomes[message as usize] = Some(Outcome::Stale);
            }
        }
        self.settle(net, Outcome::Stale);
    }

    /// Whether the row goes because the message moved it to another key.
    pub fn leaves(&self, net: &Net) -> bool {
        (net.run.0..net.run.1).any(|i| {
            let entry = &self.entries[i as usize];
            entry.message == net.message && matches!(entry.event, Event::Leave { .. })
        })
    }

    /// Notes that the row of `net` was there, and was deleted.
    pub fn note_left(&mut self, net: &Net) {
        if self.leaves(net) {
            self.left.insert(net.message);
            if self.outcomes[net.message as usize] == Some(Outcome::Filtered) {
                self.outcomes[net.message as usize] = Some(Outcome::Deleted);
            }
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

    /// The entries of a message: of the row that it is about, and of the key that the row left.
    pub fn entries_of(&self, message: u32) -> impl Iterator<Item = u32> + '_ {
        let by_message = self.by_message.get_or_init(|| {
            let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
            for (i, entry) in self.entries.iter().enumerate() {
                found.entry(entry.message).or_default().push(i as u32);
            }
            found
        });
        by_message.get(&message).into_iter().flatten().copied()
    }

    /// The entry of a message: of the row that it is about.
    pub fn entry_of(&self, message: u32) -> Option<u32> {
        let leaves = |i: &u32| matches!(self.entries[*i as usize].event, Event::Leave { .. });
        self.entries_of(message).find(|i| !leaves(i))
    }

    /// The key that a message's row left, as bytes.
    pub fn former_key(&self, message: u32) -> Option<&[u8]> {
        let leaves = |i: &u32| matches!(self.entries[*i as usize].event, Event::Leave { .. });
        self.entries_of(message).find(leaves).map(|i| self.key(i))
    }

    /// The key of a message's row, as bytes.
    pub fn row_key(&self, message: u32) -> Option<&[u8]> {
        (self.target.mapping.mode == Mode::Upsert).then_some(())?;
        self.entry_of(message).map(|entry| self.key(entry))
    }

    /// The values of an entry's key.
    pub fn key_of(&self, entry: u32) -> &[Datum] {
        let start = self.entries[entry as usize].key_values as usize;
        &self.key_values[start..start + self.target.key.len()]
    }

    /// The key of a message's row as a JSON array, for people.
    pub fn key_text(&self, message: u32) -> Option<String> {
        self.entry_key_text(self.entry_of(message)?)
    }

    /// The key of an entry's row as a JSON array, for people.
    pub fn entry_key_text(&self, entry: u32) -> Option<String> {
        let entry = &self.entries[entry as usize];
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
        position: message.position,
        record,
        changes: message.changes,
        metadata: message.metadata,
        action: message.action.as_str(),
    }
}

/// The JSON text of a record with its former values.
fn overlay(record: Json<'_>, changes: Option<Json<'_>>) -> String {
    object(record.members().map(|(key, value)| {
        let former = changes.and_then(|changes| changes.get(&key));
        (key, former.unwrap_or(value))
    }))
}

/// The JSON text of an object.
pub fn object<'a, K: AsRef<str>>(members: impl Iterator<Item = (K, Json<'a>)>) -> String {
    let mut text = String::from("{");
    for (key, value) in members {
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
