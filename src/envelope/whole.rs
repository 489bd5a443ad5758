//! Reads a batch as it was given to the call: a text, payloads, or a datum.

#![forbid(unsafe_code)]

use super::batch::{Batch, Item, ItemText};
use super::body::{begins_like_json, decode_named, may_be_base64, without_mark};
use super::content::Where;
use super::reader::Reader;
use crate::json::Jsonb;
use crate::message::{Message, MessageFault};

impl<'a> Reader<'a> {
    pub(super) fn reserve(&mut self, items: usize, fields: usize) {
        self.items.reserve(items);
        self.fields.reserve(fields);
    }

    /// Reads a payload as a broker gives it: a payload that is not JSON is one dead item.
    pub(super) fn payload(&mut self, payload: Option<&'a str>) {
        let Some(text) = payload else {
            return self.dead_text(ItemText::Text("null"), MessageFault::NullPayload);
        };
        let first = self.items.len();
        let text = without_mark(text);
        if self.bare(text) {
            return;
        }
        if let Err(fault) = self.text(text, 0) {
            self.items.truncate(first);
            self.dead_text(ItemText::Text(text), MessageFault::PayloadNotJson(fault));
        }
    }

    /// Reads a text that is base64 without quotes. Returns whether it is.
    pub(super) fn bare(&mut self, text: &'a str) -> bool {
        if !may_be_base64(text) {
            return false;
        }
        match decode_named(text, self.strings.arena) {
            Ok(decoded) if begins_like_json(decoded.as_bytes()) => self.nested(decoded, 0),
            Err(fault @ MessageFault::Compressed(_)) => self.dead_text(ItemText::Text(text), fault),
            _ => return false,
        }
        true
    }

    /// Reads a datum.
    pub(super) fn jsonb(&mut self, mut jsonb: Jsonb<'a>) {
        let Ok(()) = self.item(&mut jsonb, Where::Whole, 0);
    }

    pub(super) fn finish(mut self) -> Batch<'a> {
        // Items before the message may have been taken back.
        for (position, item) in self.items.iter_mut().enumerate() {
            if let Item::Message(message) = item
                && message.position != position
            {
                *message = self.strings.arena.alloc(Message {
                    position,
                    ..message.clone()
                });
            }
        }
        Batch {
            items: self.items,
            fields: self.fields,
        }
    }
}
