//! The messages of a batch.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::ops::Range;

use crate::message::{Field, Message, MessageFault};

/// The messages received in one call.
#[derive(Debug)]
pub struct Batch<'a> {
    /// An item for each message received, in the order of the batch.
    pub items: Vec<Item<'a>>,
    /// The members of all records.
    pub(super) fields: Vec<Field<'a>>,
}

/// One message received.
#[derive(Debug)]
pub enum Item<'a> {
    /// A message that can be routed.
    Message(Message<'a>),
    /// A value that cannot be a message.
    Dead {
        /// The JSON value, or the text of the body, that should have been a message.
        text: Cow<'a, str>,
        /// Why it is not one.
        fault: MessageFault,
    },
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

    /// Where the batch ends now, for [`Self::cut`].
    pub fn end(&self) -> End {
        End {
            items: self.items.len(),
            fields: self.fields.len(),
        }
    }

    /// Takes off what was added since [`Self::end`] gave this end.
    pub fn cut(&mut self, end: End) {
        self.items.truncate(end.items);
        self.fields.truncate(end.fields);
    }

    /// Adds the messages of another batch, all of them at this position; returns where they are among
    /// the items.
    pub fn add(&mut self, other: Batch<'a>, position: usize) -> Range<usize> {
        let (start, shift) = (self.items.len(), self.fields.len());
        self.fields.extend(other.fields);
        self.items.extend(other.items.into_iter().map(|item| {
            let Item::Message(mut message) = item else {
                return item;
            };
            message.position = position;
            message.fields = message.fields.start + shift..message.fields.end + shift;
            Item::Message(message)
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
