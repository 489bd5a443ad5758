//! The messages of a batch.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use bumpalo::Bump;

use crate::json::{Json, Jsonb};
use crate::message::{Field, Message, MessageFault};

/// The messages received in one call.
#[derive(Debug)]
pub struct Batch<'a> {
    /// An item for each message received, in the order of the batch.
    pub items: Vec<Item<'a>>,
    /// The members of all records.
    pub(super) fields: Vec<Field<'a>>,
}

/// One message received. A batch can have items of two bytes each, and must not take a hundred times its size
/// in memory. An item is therefore small, and consecutive items with equal faults share the fault.
#[derive(Debug)]
pub enum Item<'a> {
    /// A message that can be routed.
    Message(&'a Message<'a>),
    /// A value that cannot be a message.
    Dead {
        /// The value in place of a message.
        text: ItemText<'a>,
        /// The reason why the value is not a message.
        fault: Rc<MessageFault>,
    },
}

/// A JSON value, or the text of a body, that should have been a message. Its text is made only on
/// demand: a number of a few bytes in `jsonb` can have a text of 130 kB.
#[derive(Debug, Clone, Copy)]
pub enum ItemText<'a> {
    /// The text as it came.
    Text(&'a str),
    /// A value in a `jsonb` datum.
    Binary(&'a Jsonb<'a>),
}

impl<'a> ItemText<'a> {
    /// The text of a value.
    pub(super) fn of(value: Json<'a>, arena: &'a Bump) -> ItemText<'a> {
        match value {
            Json::Text(text) => ItemText::Text(text),
            Json::Binary(jsonb) => ItemText::Binary(arena.alloc(jsonb)),
        }
    }

    /// The characters of the text.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            ItemText::Text(text) => Cow::Borrowed(text),
            ItemText::Binary(jsonb) => Cow::Owned(jsonb.text()),
        }
    }
}

impl<'a> Batch<'a> {
    /// The members of the message's record, in the order they came. A key that is in the text twice is
    /// here twice, and the last one counts; `jsonb` keeps only the last.
    pub fn fields(&self, message: &Message<'a>) -> &[Field<'a>] {
        &self.fields[message.fields.clone()]
    }

    /// A batch without messages.
    pub fn empty() -> Batch<'a> {
        Batch {
            items: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// The number of members of all records together.
    pub fn members(&self) -> usize {
        self.fields.len()
    }

    /// Where the batch ends now, for [`Self::cut`].
    pub fn end(&self) -> End {
        End {
            items: self.items.len(),
            fields: self.fields.len(),
        }
    }

    /// Removes everything added since [`Self::end`] gave this end.
    pub fn cut(&mut self, end: End) {
        self.items.truncate(end.items);
        self.fields.truncate(end.fields);
    }

    /// Adds the messages of another batch, all of them at this position. Returns their range among the items.
    pub fn add(&mut self, other: Batch<'a>, position: usize, memory: &'a Bump) -> Range<usize> {
        let (start, shift) = (self.items.len(), self.fields.len());
        self.fields.extend(other.fields);
        self.items.extend(other.items.into_iter().map(|item| {
            let Item::Message(message) = item else {
                return item;
            };
            Item::Message(memory.alloc(Message {
                position,
                fields: message.fields.start + shift..message.fields.end + shift,
                ..message.clone()
            }))
        }));
        start..self.items.len()
    }
}

/// An end of a batch, which the batch can be cut back to.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// How many items there are.
    pub items: usize,
    fields: usize,
}
