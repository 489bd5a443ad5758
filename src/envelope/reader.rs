//! Collects the messages of a batch, by the shape of each value: a message, an envelope of messages, or
//! neither.

#![forbid(unsafe_code)]

use std::ops::Range;
use std::rc::Rc;

use bumpalo::Bump;

use super::batch::{Item, ItemText};
use super::body::{Encoding, begins_like_json, decode_named, is_body, without_mark};
use super::content::{Content, Where};
use super::limits::{BODIES, MAX_ENVELOPES, SMALL_BODIES, WATCHED_FIELDS, Watch, push};
use super::lines::Lines;
use super::look::{are_streams, is_task, what_it_is_instead};
use super::parts::{Metadata, Parts, Record};
use super::source::Source;
use super::strings::Strings;
use crate::json::{Json, JsonFault, Kind, Scanner};
use crate::message::{self, Field, Message, MessageFault};

/// Collects the items of one batch.
pub(super) struct Reader<'a> {
    pub(super) strings: Strings<'a>,
    pub(super) items: Vec<Item<'a>>,
    pub(super) fields: Vec<Field<'a>>,
    watch: Watch,
    /// How many bytes of bodies may still be read.
    room: usize,
    /// The last fault, which the next item may share.
    fault: Option<Rc<MessageFault>>,
}

/// Whether a value was recognised.
enum Shape<'a> {
    /// The value was recognised: its messages are among the items.
    Known,
    /// The value was not recognised, and nothing was added.
    Unknown(Json<'a>),
}

impl<'a> Reader<'a> {
    pub(super) fn new(arena: &'a Bump, watch: Watch, size: usize) -> Reader<'a> {
        Reader {
            strings: Strings { arena },
            items: Vec::new(),
            fields: Vec::new(),
            watch,
            room: BODIES.saturating_mul(size).saturating_add(SMALL_BODIES),
            fault: None,
        }
    }

    /// Reads all values of a text. Lines of JSON lines that are not JSON are dead items: see [`Lines`]. After an
    /// error, the items of the text are to be taken back.
    pub(super) fn text(&mut self, text: &'a str, level: u32) -> Result<(), JsonFault> {
        let mut lines = Lines::new(text);
        let (mut scanner, mut limit) = (Scanner::new(text), text.len());
        loop {
            lines.begin(scanner.next_place(), self.items.len());
            let read = self
                .item(&mut scanner, Where::Whole, level)
                .and_then(|()| scanner.more());
            let end = match read {
                Ok(true) => continue,
                Ok(false) => limit,
                Err(fault) => {
                    let bad = lines.fail(fault);
                    self.items.truncate(bad.items);
                    self.bad_line(bad.text, bad.fault, level);
                    bad.end
                }
            };
            match lines.read_on(end) {
                Some(rest) => (scanner, limit) = rest,
                None => return lines.end(),
            }
        }
    }

    /// A line that is not JSON is one dead item, unless it only has a byte order mark.
    fn bad_line(&mut self, line: &'a str, fault: JsonFault, level: u32) {
        let first = self.items.len();
        let text = without_mark(line);
        if text.len() == line.len() || self.text(text, level).is_err() {
            self.items.truncate(first);
            self.dead_text(ItemText::Text(line), MessageFault::LineNotJson(fault));
        }
    }

    fn dead(&mut self, value: Json<'a>, fault: MessageFault) {
        self.dead_text(ItemText::of(value, self.strings.arena), fault);
    }

    pub(super) fn dead_text(&mut self, text: ItemText<'a>, fault: MessageFault) {
        let fault = match &self.fault {
            Some(last) if **last == fault => Rc::clone(last),
            _ => Rc::clone(self.fault.insert(Rc::new(fault))),
        };
        self.add(Item::Dead { text, fault });
    }

    fn add(&mut self, item: Item<'a>) {
        push(&mut self.items, item);
        (self.watch)(self.items.len());
    }

    /// Reads a value where a message or an envelope has to be: any other value is a dead item.
    pub(super) fn item<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Where,
        level: u32,
    ) -> Result<(), S::Fault> {
        if let Shape::Unknown(value) = self.value(source, place, level)? {
            self.dead(value, what_it_is_instead(value));
        }
        Ok(())
    }

    /// Reads a value that may be a message or an envelope.
    fn value<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Where,
        level: u32,
    ) -> Result<Shape<'a>, S::Fault> {
        match source.kind()? {
            Kind::Object | Kind::Array if level > MAX_ENVELOPES => {
                let value = source.take()?;
                self.dead(value, MessageFault::TooDeep);
                Ok(Shape::Known)
            }
            Kind::Object => self.object(source, place, level),
            Kind::Array => self.array(source, place, level),
            Kind::String => Ok(self.body(source.take()?, Encoding::Text, false, level)),
            Kind::Null | Kind::Bool | Kind::Number => Ok(Shape::Unknown(source.take()?)),
        }
    }

    /// Reads a value that was passed over before, and so is known to be valid JSON. Returns whether the value
    /// was recognised.
    fn passed(&mut self, value: Json<'a>, place: Where, level: u32) -> bool {
        let shape = match value {
            Json::Text(text) => self.value(&mut Scanner::new(text), place, level).ok(),
            Json::Binary(mut jsonb) => self.value(&mut jsonb, place, level).ok(),
        };
        matches!(shape, Some(Shape::Known))
    }

    fn object<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Where,
        level: u32,
    ) -> Result<Shape<'a>, S::Fault> {
        let strings = self.strings;
        let first = self.items.len();
        let mut parts = Parts::default();
        let mut rank = u8::MAX;
        let whole = source.object(|source, key| {
            match strings.key(key) {
                "action" => parts.action = Some(source.take()?),
                "record" => parts.record = Some(self.record(source)?),
                "changes" => parts.changes = Some(source.take()?),
                "metadata" => parts.metadata = Some(Metadata::read(source, strings)?),
                _ if parts.are_a_message() => {}
                key => {
                    if let Some((its_rank, content)) = Content::of(key)
                        && its_rank <= rank
                    {
                        if its_rank == rank {
                            // a duplicate key: the last one counts, even if it holds nothing
                            self.items.truncate(first);
                            rank = u8::MAX;
                        }
                        let before = self.items.len();
                        if self.content(source, content, place, level)? {
                            self.items.drain(first..before);
                            rank = its_rank;
                        }
                    }
                }
            }
            Ok(())
        })?;
        if parts.are_a_message() {
            self.items.truncate(first);
            self.push(&parts, whole);
            Ok(Shape::Known)
        } else if rank < u8::MAX || (place != Where::Member && self.streams(whole, level)) {
            Ok(Shape::Known)
        } else {
            Ok(Shape::Unknown(whole))
        }
    }

    /// Reads the value of an envelope's member. Returns whether it holds messages.
    fn content<S: Source<'a>>(
        &mut self,
        source: &mut S,
        content: Content,
        place: Where,
        level: u32,
    ) -> Result<bool, S::Fault> {
        let certain = place == Where::Record;
        let shape = match (content, source.kind()?) {
            (Content::Records, Kind::Array) => {
                source.array(|source| self.item(source, Where::Record, level + 1))?;
                Shape::Known
            }
            (Content::Data, Kind::Array) => {
                source.array(|source| self.item(source, Where::Element, level + 1))?;
                Shape::Known
            }
            (Content::Records, Kind::Object) => self.topics(source, level)?,
            (Content::Wrapper, Kind::Object) => self.value(source, Where::Record, level + 1)?,
            (Content::Data | Content::Text | Content::Args | Content::Fields, Kind::Object) => {
                self.value(source, Where::Member, level + 1)?
            }
            (Content::Data, Kind::String) => {
                self.body(source.take()?, Encoding::Base64, certain, level)
            }
            (Content::Args, Kind::Array) => {
                let list = source.take()?;
                return Ok(self.arguments(list, level));
            }
            (Content::Wrapper | Content::Text | Content::Args, Kind::String) => {
                self.body(source.take()?, Encoding::Text, certain, level)
            }
            (Content::Fields, Kind::Array) => {
                let value = source.take()?;
                return Ok(self.stream_entry(value));
            }
            (Content::Command, Kind::Array) => {
                let mut elements = source.take()?.elements();
                let name = elements.next();
                match elements.nth(1) {
                    Some(value) if name.is_some_and(|name| name.is_string("SET")) => {
                        self.body(value, Encoding::Text, true, level)
                    }
                    _ => return Ok(false),
                }
            }
            _ => return Ok(false),
        };
        Ok(matches!(shape, Shape::Known))
    }

    /// Reads `{"topic-0": [record, …], …}`: the `records` of a Lambda event from Kafka.
    fn topics<S: Source<'a>>(&mut self, source: &mut S, level: u32) -> Result<Shape<'a>, S::Fault> {
        let first = self.items.len();
        let (mut has_lists, mut has_others) = (false, false);
        let whole = source.object(|source, _| {
            if source.kind()? == Kind::Array {
                has_lists = true;
                source.array(|source| self.item(source, Where::Record, level + 1))?;
            } else {
                has_others = true;
            }
            Ok(())
        })?;
        if has_lists && !has_others {
            return Ok(Shape::Known);
        }
        self.items.truncate(first);
        Ok(Shape::Unknown(whole))
    }

    /// Reads the arguments of a job. Arguments that are no messages are left out, if one is a message.
    fn arguments(&mut self, list: Json<'a>, level: u32) -> bool {
        let mut known = false;
        for argument in list.elements() {
            known |= self.passed(argument, Where::Member, level + 1);
        }
        known
    }

    /// Reads an answer of Redis to `XREAD` under RESP3. Returns whether it is one.
    fn streams(&mut self, whole: Json<'a>, level: u32) -> bool {
        if !are_streams(whole) {
            return false;
        }
        for (_, entries) in whole.members() {
            for entry in entries.elements() {
                if !self.passed(entry, Where::Element, level + 1) {
                    self.dead(entry, MessageFault::NoAction);
                }
            }
        }
        true
    }

    /// Reads an array that no envelope announced. An array that begins with a string can come from Redis, and one that
    /// begins with a list from Celery.
    fn array<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Where,
        level: u32,
    ) -> Result<Shape<'a>, S::Fault> {
        let (mut leading, first) = (None, self.items.len());
        let whole = source.array(|source| {
            match *leading.get_or_insert(source.kind()?) {
                Kind::Object | Kind::Array => self.item(source, Where::Element, level + 1)?,
                Kind::Null | Kind::Bool | Kind::Number if place == Where::Whole => {
                    self.item(source, Where::Element, level + 1)?;
                }
                // passed over
                Kind::String | Kind::Null | Kind::Bool | Kind::Number => {}
            }
            Ok(())
        })?;
        let known = match leading {
            // an empty batch has no message, but an empty list in place of a message is a fault
            None => place == Where::Whole,
            Some(Kind::Array) if is_task(whole) => {
                self.items.truncate(first);
                let mut parts = whole.elements();
                parts.next().is_some_and(|list| self.arguments(list, level))
            }
            Some(Kind::Object | Kind::Array) => true,
            Some(Kind::String) => self.strings(whole, level),
            // not a message, but a message may come after it
            Some(_) => place == Where::Whole,
        };
        Ok(if known {
            Shape::Known
        } else {
            Shape::Unknown(whole)
        })
    }

    /// Reads the elements of an array that begins with a string: `[id, fields]` or `[stream, entries]` from
    /// Redis, the fields themselves, or bodies. Returns whether they were recognised. The array is read
    /// several times, because a list of its elements would take many times the memory of the text.
    fn strings(&mut self, whole: Json<'a>, level: u32) -> bool {
        let is_body = |element: Json<'a>| {
            let string = element.string();
            string.is_some_and(|s| s.is_ok_and(|s| is_body(&s, self.strings.arena)))
        };
        let mut elements = whole.elements();
        let (first, second, third) = (elements.next(), elements.next(), elements.next());
        if let (Some(id), Some(value), None) = (first, second, third)
            && matches!(value.kind(), Kind::Object | Kind::Array)
            && !is_body(id)
        {
            return self.passed(value, Where::Element, level + 1);
        }
        if self.stream_entry(whole) {
            return true;
        }
        if !whole.elements().any(is_body) {
            return false;
        }
        let all = whole.elements().all(is_body);
        let before = self.items.len();
        for element in whole.elements() {
            if element.kind() == Kind::String {
                self.body(element, Encoding::Text, true, level);
            } else if !self.passed(element, Where::Element, level + 1) {
                self.dead(element, what_it_is_instead(element));
            }
        }
        // Among others, a text that looks like a body may be the value of a field: it is one if it holds a message.
        let is_message = |item: &Item<'_>| matches!(item, Item::Message(_));
        let known = all || self.items[before..].iter().any(is_message);
        if !known {
            self.items.truncate(before);
        }
        known
    }

    /// Reads names and values in turn, as `XADD` takes them: `record`, `changes` and `metadata` are JSON
    /// texts, `action` is a plain word. Returns whether they make a message.
    fn stream_entry(&mut self, whole: Json<'a>) -> bool {
        let mut elements = whole.elements();
        let mut parts = Parts::default();
        while let Some(name) = elements.next() {
            let Some(value) = elements.next() else {
                return false;
            };
            if name.kind() != Kind::String {
                return false;
            } else if name.is_string("action") {
                parts.action = Some(value);
            } else if name.is_string("record") {
                let fields = None;
                parts.record = Some(Record { value, fields });
            } else if name.is_string("changes") {
                parts.changes = Some(value);
            } else if name.is_string("metadata") {
                parts.metadata = Some(Metadata::unread(value));
            }
        }
        if !parts.are_a_message() {
            return false;
        }
        self.push(&parts, whole);
        true
    }

    /// Reads a record, and splits it into fields if it is an object.
    fn record<S: Source<'a>>(&mut self, source: &mut S) -> Result<Record<'a>, S::Fault> {
        if source.kind()? != Kind::Object {
            let (value, fields) = (source.take()?, None);
            return Ok(Record { value, fields });
        }
        let strings = self.strings;
        let start = self.fields.len();
        let value = source.object(|source, key| {
            let key = strings.key(key);
            let value = source.take()?;
            push(&mut self.fields, Field { key, value });
            if self.fields.len().is_multiple_of(WATCHED_FIELDS) {
                (self.watch)(self.items.len());
            }
            Ok(())
        })?;
        let fields = Some(start..self.fields.len());
        Ok(Record { value, fields })
    }

    /// Adds the message of these parts, or a dead item.
    fn push(&mut self, parts: &Parts<'a>, whole: Json<'a>) {
        match self.message(parts, whole) {
            Ok(message) => self.add(Item::Message(self.strings.arena.alloc(message))),
            Err(fault) => self.dead(whole, fault),
        }
    }

    /// Checks the parts of a message.
    fn message(&mut self, parts: &Parts<'a>, whole: Json<'a>) -> Result<Message<'a>, MessageFault> {
        let strings = self.strings;
        let action = message::action(parts.action)?;
        let reread;
        let metadata = match &parts.metadata {
            Some(metadata) if metadata.read => metadata,
            Some(metadata) => {
                reread = Metadata::embedded(metadata.value, strings)?;
                &reread
            }
            None => return Err(MessageFault::NoTable),
        };
        let schema = strings.optional(metadata.table_schema)?;
        let table = strings.optional(metadata.table_name)?;
        let (Some(schema), Some(table)) = (schema, table) else {
            return Err(MessageFault::NoTable);
        };
        let (record, fields) = match &parts.record {
            Some(Record {
                value,
                fields: Some(fields),
            }) => (*value, fields.clone()),
            Some(Record { value, .. }) => self.embedded_record(*value)?,
            None => return Err(MessageFault::NoRecord),
        };
        let changes = parts.changes(strings)?;
        Ok(Message {
            position: self.items.len(),
            action,
            schema,
            table,
            database_id: strings.optional(metadata.database_id)?,
            database_name: match strings.optional(metadata.database_name)? {
                Some(name) => Some(name),
                None => strings.optional(metadata.old_database_name)?,
            },
            version: message::version(metadata.commit_lsn, metadata.commit_idx, |lsn| {
                metadata.unindexed(lsn, action, record, changes)
            })?,
            committed_at: message::timestamp(metadata.commit_timestamp)?,
            record,
            changes,
            metadata: metadata.value,
            fields,
            whole,
        })
    }

    /// Reads a record that is not an object, but may be the text of an object. Returns the record and the
    /// range of its fields.
    fn embedded_record(
        &mut self,
        value: Json<'a>,
    ) -> Result<(Json<'a>, Range<usize>), MessageFault> {
        let record = match self.strings.embedded(value)? {
            Some(Json::Text(text)) => self.record(&mut Scanner::new(text)).ok(),
            Some(Json::Binary(mut jsonb)) => self.record(&mut jsonb).ok(),
            None => None,
        };
        record
            .and_then(|record| Some((record.value, record.fields?)))
            .ok_or(MessageFault::NoRecord)
    }

    /// Reads a string that may be the body of a message. `certain` is true where the envelope leaves
    /// no doubt, as in the records of a Lambda event: there, a body that is not JSON is a dead message.
    /// Elsewhere the string may be the value of a column that happens to be called `body`.
    fn body(
        &mut self,
        value: Json<'a>,
        encoding: Encoding,
        certain: bool,
        level: u32,
    ) -> Shape<'a> {
        let size = match value {
            Json::Text(text) => text.len(),
            Json::Binary(jsonb) => jsonb.size(),
        };
        if size > self.room {
            self.dead(value, MessageFault::TooDeep);
            return Shape::Known;
        }
        let text = match self.strings.str(value) {
            Some(Ok(text)) => text,
            Some(Err(fault)) if certain => {
                self.dead(value, fault.into());
                return Shape::Known;
            }
            _ => return Shape::Unknown(value),
        };
        if begins_like_json(text.as_bytes()) {
            self.nested(text, level);
            return Shape::Known;
        }
        match decode_named(text, self.strings.arena) {
            Ok(decoded) if begins_like_json(decoded.as_bytes()) => self.nested(decoded, level),
            Err(fault @ MessageFault::Compressed(_)) => self.dead_text(ItemText::Text(text), fault),
            _ if !certain => return Shape::Unknown(value),
            _ if encoding == Encoding::Text => self.nested(text, level),
            Ok(decoded) => self.nested(decoded, level),
            Err(fault) => self.dead_text(ItemText::Text(text), fault),
        }
        Shape::Known
    }

    /// Reads a text inside the batch. If the text is not JSON, it becomes one dead item, and reading
    /// continues with the rest of the batch.
    pub(super) fn nested(&mut self, text: &'a str, level: u32) {
        let text = without_mark(text);
        let first = self.items.len();
        self.room -= text.len().min(self.room);
        if let Err(fault) = self.text(text, level + 1) {
            self.items.truncate(first);
            self.dead_text(ItemText::Text(text), MessageFault::NotJson(fault));
        }
    }
}
