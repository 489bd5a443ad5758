//! Reads the messages of a batch, in any envelope of the sink and of the services behind the sink.
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
//! | `{"stream":[["1-0",[…]],…]}` | Redis, the answer to `XREAD` under RESP3 |
//! | `{"detail":{…}}` | EventBridge |
//! | `{"args":{…}}`, `{"args":[…]}` | jobs of Oban and Celery |
//! | `["base64",…]` | several bodies |
//! | `[…]` | several of any of these |
//!
//! Text is read once, front to back: an element of `data` is already a message, its record already
//! split into fields, when the scanner comes to the next element. Messages are taken back if the value that
//! held them turns out to be something else. Their fields stay in the list, but no message refers to them.

#![forbid(unsafe_code)]
#![warn(clippy::cast_possible_truncation)]

mod batch;
mod body;
mod content;
mod limits;
mod look;
mod parts;
mod reader;
mod source;
mod strings;

#[cfg(test)]
mod tests;

use std::rc::Rc;

use bumpalo::Bump;

use crate::json::{JsonFault, Jsonb, Scanner};
use crate::message::MessageFault;
use reader::Reader;

pub use batch::{Batch, End, Item, ItemText};
pub use limits::Watch;

/// Watches nothing.
#[cfg(test)]
pub(crate) const UNWATCHED: Watch = |_| ();

/// Reads the JSON values of a text: one, or several with white space between them. After an array or
/// object no white space is needed.
///
/// Unescaped and decoded strings are put into the arena. If the text itself is not JSON, the whole batch is a
/// fault. If a text inside it is not JSON, such as the body of an SQS message, that text is one dead item.
pub fn read_text<'a>(text: &'a str, arena: &'a Bump, watch: Watch) -> Result<Batch<'a>, JsonFault> {
    let mut reader = Reader::new(arena, watch, text.len());
    // a small message has 900 bytes and 8 fields, and a batch from Sequin has up to 1000 messages
    reader.reserve(
        (text.len() / 900 + 1).min(1000),
        (text.len() / 100 + 1).min(10_000),
    );
    reader.text(&mut Scanner::new(body::without_mark(text)), 0)?;
    Ok(reader.finish())
}

/// Reads the text of a dead letter: if it is not JSON, it is one dead item.
pub fn read_letter<'a>(text: &'a str, arena: &'a Bump, watch: Watch) -> Batch<'a> {
    read_text(text, arena, watch).unwrap_or_else(|fault| Batch {
        items: vec![Item::Dead {
            text: ItemText::Text(text),
            fault: Rc::new(MessageFault::NotJson(fault)),
        }],
        ..Batch::empty()
    })
}

/// Reads a `jsonb` datum as [`read_text`] would read its text.
pub fn read_jsonb<'a>(jsonb: Jsonb<'a>, arena: &'a Bump, watch: Watch) -> Batch<'a> {
    let mut reader = Reader::new(arena, watch, jsonb.size());
    reader.jsonb(jsonb);
    reader.finish()
}
