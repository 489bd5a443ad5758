//! What a mapping takes from a batch, as it came.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::envelope::{Batch, Item};
use crate::mapping::catalog::Mapped;
use crate::message::{Field, Message};
use crate::outcome::{MessageNo, Position};
use crate::target::projection::Projected;

/// One attempt of a call, as all its mappings see it.
#[derive(Debug)]
pub struct Call {
    /// The role that owns the extension's tables.
    pub definer: pg_sys::Oid,
    /// How much later than a change's commit a read must be to have seen it for certain, in
    /// microseconds.
    pub read_skew: i64,
    /// The OID of `sequin.mapping`.
    pub mappings: pg_sys::Oid,
    /// The tables that mappings write.
    pub mapped: Mapped,
    /// Whether this is one of the first attempts of the call.
    pub early: bool,
    /// Whether the call has one mapping only.
    pub single: bool,
    /// Whether dead letters are tried again, which are not counted with the batch.
    pub letters: bool,
    /// Whether the call is explained: each outcome must be told for its message, where otherwise only
    /// their number matters.
    pub explained: bool,
    /// What [`Self::written`] returns.
    pub sets_written: Cell<u64>,
}

impl Call {
    /// Notes that a set of rows was written, or may have been.
    pub fn wrote(&self) {
        self.sets_written.set(self.sets_written.get() + 1);
    }

    /// Counts what may help a message that failed before: sets of rows that were written by this call or,
    /// before it had exclusive locks, by others.
    pub fn written(&self) -> u64 {
        self.sets_written.get()
    }
}

/// The messages that one mapping takes from a batch. Only the values of its SQL are added later.
pub struct Intake<'a> {
    /// The attempt.
    pub call: Rc<Call>,
    /// Keeps what is made of the messages.
    pub memory: &'a Bump,
    batch: &'a Batch<'a>,
    messages: Vec<Position>,
    projected: HashMap<(MessageNo, bool), (Rc<Projected>, usize)>,
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

    /// Where in the batch the message is.
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

    /// The members of the message's record.
    pub fn fields(&self, message: &Message<'a>) -> &'a [Field<'a>] {
        self.batch.fields(message)
    }

    /// Keeps the values of the mapping's SQL: row `row` of `projected`, for a message, or for the former
    /// image of its row.
    pub fn project(
        &mut self,
        message: MessageNo,
        former: bool,
        projected: &Rc<Projected>,
        row: usize,
    ) {
        self.projected
            .insert((message, former), (Rc::clone(projected), row));
    }

    /// The value of an expression of the mapping's SQL; `None` is null.
    pub fn projected(&self, message: MessageNo, former: bool, expression: usize) -> Option<Datum> {
        let (projected, row) = &self.projected[&(message, former)];
        projected.get(*row, expression)
    }
}
