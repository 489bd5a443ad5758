//! The messages that one mapping takes from a batch, unchanged.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::envelope::{Batch, Item};
use crate::json::Json;
use crate::mapping::catalog::Mapped;
use crate::message::{Field, Message};
use crate::outcome::{MessageNo, Position};
use crate::pg::interrupts;
use crate::pg::overlap::Moment;
use crate::target::column::Slot;
use crate::target::projection::Projected;

/// One attempt of a call, shared by all its mappings.
#[derive(Debug)]
pub struct Call {
    /// The role that owns the extension's tables.
    pub definer: pg_sys::Oid,
    /// `sequin.read_skew` in microseconds. A read has certainly seen a change if it is later than the
    /// change's commit by more than this time.
    pub read_skew: i64,
    /// The OID of `sequin.mapping`.
    pub mappings: pg_sys::Oid,
    /// The tables that mappings write.
    pub mapped: Mapped,
    /// Whether this is one of the first attempts of the call.
    pub early: bool,
    /// Whether the call has only one mapping.
    pub single: bool,
    /// Whether the call retries dead letters, which the counts of the batch leave out.
    pub letters: bool,
    /// Whether the call examines all its rows, and so locks them in the order of their keys before it writes any.
    pub careful: bool,
    /// When the attempt began, after it had locked its mappings.
    pub began: Moment,
    /// Whether the attempt has met a row that another call has written since.
    pub overtaken: Cell<bool>,
    /// The transaction that has written it, if that was still open.
    pub overtaker: Cell<Option<pg_sys::TransactionId>>,
    /// Whether the call is explained. An explained call needs the outcome of each message; other calls only
    /// need the number of each outcome.
    pub explained: bool,
    /// The value of [`Self::written`].
    pub sets_written: Cell<u64>,
}

impl Call {
    /// Notes that a set of rows was written, or may have been.
    pub fn wrote(&self) {
        self.sets_written.set(self.sets_written.get() + 1);
    }

    /// The number of sets of rows that this call wrote, or that other calls may have written before this
    /// call had exclusive locks. A new set may help a message that failed before.
    pub fn written(&self) -> u64 {
        self.sets_written.get()
    }
}

/// What is known of the values that a message does not repeat.
#[derive(Default)]
pub struct Kept<'a> {
    /// The record with the kept values; members without a known value are left out.
    pub record: Option<Json<'a>>,
    /// The expressions that read a member without a known value.
    pub unknown: Vec<usize>,
    /// The expressions that read a member which the message does not repeat.
    pub derived: Vec<usize>,
    /// Whether the row is there.
    pub exists: bool,
}

/// The messages that one mapping takes from a batch. Only the results of the mapping's SQL are added later.
pub struct Intake<'a> {
    /// The attempt that applies the messages.
    pub call: Rc<Call>,
    /// The memory for data that is made from the messages.
    pub memory: &'a Bump,
    batch: &'a Batch<'a>,
    messages: Vec<Position>,
    projected: HashMap<(MessageNo, bool), (Rc<Projected>, usize)>,
    /// Earlier results: values of keys are in their memory.
    replaced: Vec<Rc<Projected>>,
    kept: HashMap<MessageNo, Kept<'a>>,
}

impl<'a> Intake<'a> {
    /// The messages of `batch` at these positions.
    pub fn new(
        call: Rc<Call>,
        batch: &'a Batch<'a>,
        messages: Vec<Position>,
        memory: &'a Bump,
    ) -> Intake<'a> {
        Intake {
            call,
            memory,
            batch,
            messages,
            projected: HashMap::new(),
            replaced: Vec::new(),
            kept: HashMap::new(),
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The numbers of all messages.
    pub fn numbers(&self) -> impl Iterator<Item = MessageNo> + use<> {
        (0..self.messages.len() as u32).map(MessageNo)
    }

    /// The message's position in the batch.
    pub fn position(&self, message: MessageNo) -> Position {
        self.messages[message.index()]
    }

    /// The message with this number.
    pub fn message(&self, message: MessageNo) -> &'a Message<'a> {
        match &self.batch.items[self.position(message).index()] {
            Item::Message(message) => message,
            Item::Dead { .. } => unreachable!("only messages are routed"),
        }
    }

    /// The members of the message's record. A record can have millions of them, which the caller goes through: a cancel is
    /// heard before.
    pub fn fields(&self, message: &Message<'a>) -> &'a [Field<'a>] {
        interrupts::check();
        self.batch.fields(message)
    }

    /// Keeps the results of the mapping's SQL for a message, or for the former image of its row: row `row`
    /// of `projected`.
    pub fn project(
        &mut self,
        message: MessageNo,
        former: bool,
        projected: &Rc<Projected>,
        row: usize,
    ) {
        let results = (Rc::clone(projected), row);
        let before = self.projected.insert((message, former), results);
        self.replaced.extend(before.map(|(projected, _)| projected));
    }

    /// Keeps the values that a message does not repeat.
    pub(super) fn keep(&mut self, message: MessageNo, kept: Kept<'a>) {
        self.kept.insert(message, kept);
    }

    /// The values that a message does not repeat; `None` if the mapping's SQL reads none of them.
    pub(super) fn kept(&self, message: MessageNo) -> Option<&Kept<'a>> {
        self.kept.get(&message)
    }

    /// Whether the filter takes the message, where it reads a value that is not known: it does if the row is there.
    pub fn kept_by_filter(&self, message: MessageNo, filter: usize) -> Option<bool> {
        let kept = self.kept(message)?;
        kept.unknown.contains(&filter).then_some(kept.exists)
    }

    /// Marks the columns as unchanged whose SQL reads a value that is not known, and those whose SQL reads a value that is
    /// known from elsewhere.
    pub fn mask(&self, message: MessageNo, slots: &mut [Slot<'a>]) {
        let Some(kept) = self.kept(message) else {
            return;
        };
        for slot in slots {
            match *slot {
                Slot::Sql(number) if kept.unknown.contains(&number) => *slot = Slot::Unchanged,
                Slot::Sql(number) if kept.derived.contains(&number) => {
                    *slot = Slot::Derived(number);
                }
                _ => {}
            }
        }
    }

    /// The value of an expression of the mapping's SQL; `None` is null.
    pub fn projected(&self, message: MessageNo, former: bool, expression: usize) -> Option<Datum> {
        let (projected, row) = &self.projected[&(message, former)];
        projected.get(*row, expression)
    }
}
