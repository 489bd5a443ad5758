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
//! A text can hold several values: JSON lines. A line that is not JSON is one dead item ([`lines`]).
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
mod lines;
mod look;
mod parts;
mod reader;
mod source;
mod strings;
mod whole;

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
/// fault, unless other lines of it are. If a text inside it is not JSON, such as the body of an SQS message, that
/// text is one dead item. So is an empty text, as a broker gives for a message without a body. White space alone
/// is a batch without messages.
pub fn read_text<'a>(text: &'a str, arena: &'a Bump, watch: Watch) -> Result<Batch<'a>, JsonFault> {
    let mut reader = Reader::new(arena, watch, text.len());
    // a small message has 900 bytes and 8 fields, and a batch from Sequin has up to 1000 messages
    reader.reserve(
        (text.len() / 900 + 1).min(1000),
        (text.len() / 100 + 1).min(10_000),
    );
    let values = body::without_mark(text);
    if text.is_empty() {
        reader.payload(Some(text));
    } else if !values.trim_ascii().is_empty() && !reader.bare(values) {
        reader.text(values, 0)?;
    }
    Ok(reader.finish())
}

/// Reads payloads as a broker gives them, each as [`read_text`] reads a text. A payload that is not JSON, and a
/// null one, is one dead item.
pub fn read_payloads<'a>(payloads: &[Option<&'a str>], arena: &'a Bump, watch: Watch) -> Batch<'a> {
    let size = payloads.iter().flatten().map(|text| text.len()).sum();
    let mut reader = Reader::new(arena, watch, size);
    reader.reserve(payloads.len().min(1000), (size / 100 + 1).min(10_000));
    for payload in payloads {
        reader.payload(*payload);
    }
    reader.finish()
}

/// Reads the text of a dead letter: if it is not JSON, or has no message, it is one dead item.
pub fn read_letter<'a>(text: &'a str, arena: &'a Bump, watch: Watch) -> Batch<'a> {
    let fault = match read_text(text, arena, watch) {
        Ok(batch) if !batch.items.is_empty() => return batch,
        Ok(_) => match Scanner::new(body::without_mark(text)).kind() {
            Ok(_) => MessageFault::NotAnObject,
            // white space is a batch, but no letter
            Err(fault) => MessageFault::PayloadNotJson(fault),
        },
        Err(fault) => MessageFault::PayloadNotJson(fault),
    };
    Batch {
        items: vec![Item::Dead {
            text: ItemText::Text(text),
            fault: Rc::new(fault),
        }],
        ..Batch::empty()
    }
}

/// Reads a `jsonb` datum as [`read_text`] would read its text.
pub fn read_jsonb<'a>(jsonb: Jsonb<'a>, arena: &'a Bump, watch: Watch) -> Batch<'a> {
    let mut reader = Reader::new(arena, watch, jsonb.size());
    reader.jsonb(jsonb);
    reader.finish()
}
