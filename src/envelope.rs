//! From a batch to its messages, in whatever envelopes the sink, and the services behind it, put them.
//!
//! Envelopes are recognised by their shape and can be nested: an SNS notification in the body of an
//! SQS message in the event of a Lambda. An object with an `action`, or with `record` and
//! `metadata`, is a message whatever else it has.
//!
//! | shape | from |
//! |---|---|
//! | a message | webhook without batching, SQS, NATS, RabbitMQ, Kafka |
//! | `{"data":[…]}` | webhook, Sequin Stream; an element can be `{"ack_id":…,"data":{…}}` |
//! | `{"data":{…}}` | Event Hubs |
//! | `{"data":"base64"}`, `{"Data":…}` | Pub/Sub, Kinesis, Firehose |
//! | `{"Records":[…]}`, `records`, `Messages`, `messages`, `Entries`, `receivedMessages` | Lambda and the requests and answers of AWS, Google and S2 |
//! | `{"records":{"topic-0":[…]}}` | Kafka through Lambda |
//! | `{"body":"…"}`, `Body`, `MessageBody` | SQS, S2, Event Hubs |
//! | `{"Message":"…"}`, `{"Sns":{…}}` | SNS |
//! | `{"kinesis":{…}}`, `{"message":{…}}` | Kinesis through Lambda; Pub/Sub |
//! | `{"value":…}`, `{"payload":…}` | records of Kafka, NATS, RabbitMQ |
//! | `{"fields":{…}}`, `{"fields":["action","insert",…]}`, `["action",…]`, `["1-0",[…]]` | Redis streams |
//! | `{"command":["SET","key","…"]}` | Redis strings |
//! | `[…]` | several of any of these |
//!
//! Text is read once, front to back: an element of `data` is already a message, its record already
//! split into fields, when the scanner comes to the next element. Messages and fields are taken back if
//! the value that held them turns out to be something else.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation)]

mod body;
mod content;
mod parts;
mod reader;
mod source;
mod strings;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use bumpalo::Bump;

use crate::json::{JsonFault, Jsonb, Scanner};
use crate::message::{Field, Message, MessageFault};
use reader::Reader;

/// The most envelopes that can be around a message.
pub const MAX_ENVELOPES: u32 = 16;

/// The messages received in one call.
#[derive(Debug)]
pub struct Batch<'a> {
    /// An item for each message received, in the order of the batch.
    pub items: Vec<Item<'a>>,
    fields: Vec<Field<'a>>,
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

/// Reads the JSON values of a text: one, or several with white space between them. After an array or
/// object no white space is needed.
///
/// Unescaped and decoded strings are put into the arena. A text that is not JSON is a fault as a whole.
/// Inside of it, a text that is not JSON, such as the body of an SQS message, is one dead item.
pub fn read_text<'a>(text: &'a str, arena: &'a Bump) -> Result<Batch<'a>, JsonFault> {
    let mut reader = Reader::new(arena);
    // a small message has 900 bytes and 8 fields, and a batch from Sequin has up to 1000 messages
    reader.reserve(
        (text.len() / 900 + 1).min(1000),
        (text.len() / 100 + 1).min(10_000),
    );
    reader.text(&mut Scanner::new(text), 0)?;
    Ok(reader.finish())
}

/// Reads the text of a dead letter: if it is not JSON, it is one dead item.
pub fn read_letter<'a>(text: &'a str, arena: &'a Bump) -> Batch<'a> {
    read_text(text, arena).unwrap_or_else(|fault| Batch {
        items: vec![Item::Dead {
            text: Cow::Borrowed(text),
            fault: MessageFault::NotJson(fault),
        }],
        ..Batch::empty()
    })
}

/// Reads a `jsonb` datum as [`read_text`] would read its text.
pub fn read_jsonb<'a>(jsonb: Jsonb<'a>, arena: &'a Bump) -> Batch<'a> {
    let mut reader = Reader::new(arena);
    reader.jsonb(jsonb);
    reader.finish()
}
