//! Which shape a value has: a message, an envelope of messages, or neither.

use std::borrow::Cow;

use bumpalo::Bump;

use super::body::{Encoding, begins_like_json};
use super::source::Source;
use super::{Batch, Item, MAX_ENVELOPES};
use crate::json::{Json, JsonFault, Jsonb, Kind, Scanner, Str, StringFault};
use crate::message::{self, Field, Message, MessageFault};

/// Collects the items of one batch.
pub(super) struct Reader<'a> {
    arena: &'a Bump,
    pub(super) items: Vec<Item<'a>>,
    fields: Vec<Field<'a>>,
}

/// Whether a value was recognised.
pub(super) enum Shape<'a> {
    /// It was: its messages are among the items.
    Known,
    /// It was not, and nothing was added.
    Unknown(Json<'a>),
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is the batch, or a body.
    Whole,
    /// It is in a member of an envelope.
    Member,
    /// It is an element of an array.
    Element,
    /// It is in an envelope that cannot be anything else, such as the records of a Lambda event.
    Record,
}

/// How the value of an envelope's member holds messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// A list of envelopes.
    Records,
    /// A list of messages, a message, or base64 of one.
    Data,
    /// An envelope.
    Wrapper,
    /// A message or its text.
    Text,
    /// Names and values of a Redis stream's entry.
    Fields,
    /// A Redis command.
    Command,
}

impl Content {
    /// What a member of this name holds, and its rank: if several have content, the lowest rank is
    /// the envelope's, whatever the order of the members.
    fn of(key: &str) -> Option<(u8, Content)> {
        Some(match key {
            "Records" => (0, Content::Records),
            "records" => (1, Content::Records),
            "Messages" => (2, Content::Records),
            "messages" => (3, Content::Records),
            "Entries" => (4, Content::Records),
            "receivedMessages" => (5, Content::Records),
            "data" => (6, Content::Data),
            "Data" => (7, Content::Data),
            "Message" => (8, Content::Text),
            "Sns" => (9, Content::Wrapper),
            "kinesis" => (10, Content::Wrapper),
            "message" => (11, Content::Wrapper),
            "body" => (12, Content::Text),
            "Body" => (13, Content::Text),
            "MessageBody" => (14, Content::Text),
            "payload" => (15, Content::Text),
            "value" => (16, Content::Text),
            "fields" => (17, Content::Fields),
            "command" => (18, Content::Command),
            _ => return None,
        })
    }
}

/// The members of an object that make it a message.
#[derive(Default)]
struct Parts<'a> {
    action: Option<Json<'a>>,
    record: Option<Record<'a>>,
    changes: Option<Json<'a>>,
    metadata: Option<Metadata<'a>>,
}

impl Parts<'_> {
    fn are_a_message(&self) -> bool {
        self.action.is_some() || self.record.is_some() && self.metadata.is_some()
    }
}

struct Record<'a> {
    value: Json<'a>,
    /// Its members among the reader's fields, if it was split.
    fields: Option<(u32, u32)>,
}

/// What is needed of the metadata.
struct Metadata<'a> {
    value: Json<'a>,
    /// Whether it was split, and the rest is right.
    read: bool,
    table_schema: Option<Json<'a>>,
    table_name: Option<Json<'a>>,
    commit_lsn: Option<Json<'a>>,
    commit_idx: Option<Json<'a>>,
    commit_timestamp: Option<Json<'a>>,
    old_database_name: Option<Json<'a>>,
    database_id: Option<Json<'a>>,
    database_name: Option<Json<'a>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(arena: &'a Bump) -> Reader<'a> {
        Reader {
            arena,
            items: Vec::new(),
            fields: Vec::new(),
        }
    }

    pub(super) fn reserve(&mut self, items: usize, fields: usize) {
        self.items.reserve(items);
        self.fields.reserve(fields);
    }

    pub(super) fn finish(mut self) -> Batch<'a> {
        for (position, item) in self.items.iter_mut().enumerate() {
            if let Item::Message(message) = item {
                message.position = position;
            }
        }
        Batch {
            items: self.items,
            fields: self.fields,
        }
    }

    /// All values of a text.
    pub(super) fn text(&mut self, scanner: &mut Scanner<'a>, level: u32) -> Result<(), JsonFault> {
        loop {
            self.item(scanner, Place::Whole, level)?;
            if !scanner.more()? {
                return Ok(());
            }
        }
    }

    /// A datum.
    pub(super) fn jsonb(&mut self, mut jsonb: Jsonb<'a>) {
        let Ok(()) = self.item(&mut jsonb, Place::Whole, 0);
    }

    pub(super) fn arena(&self) -> &'a Bump {
        self.arena
    }

    pub(super) fn dead(&mut self, text: Cow<'a, str>, fault: MessageFault) {
        self.items.push(Item::Dead { text, fault });
    }

    /// A value where a message or an envelope has to be.
    fn item<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Place,
        level: u32,
    ) -> Result<(), S::Fault> {
        if let Shape::Unknown(value) = self.value(source, place, level)? {
            self.dead(value.text(), what_it_is_instead(value));
        }
        Ok(())
    }

    fn value<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Place,
        level: u32,
    ) -> Result<Shape<'a>, S::Fault> {
        match source.kind()? {
            Kind::Object | Kind::Array if level > MAX_ENVELOPES => {
                let value = source.take()?;
                self.dead(value.text(), MessageFault::TooDeep);
                Ok(Shape::Known)
            }
            Kind::Object => self.object(source, place, level),
            Kind::Array => self.array(source, place, level),
            Kind::String => Ok(self.body(source.take()?, Encoding::Text, false, level)),
            Kind::Null | Kind::Bool | Kind::Number => Ok(Shape::Unknown(source.take()?)),
        }
    }

    /// A value that was passed over before. It is known to be valid.
    fn passed(&mut self, value: Json<'a>, place: Place, level: u32) -> bool {
        let shape = match value {
            Json::Text(text) => self.value(&mut Scanner::new(text), place, level).ok(),
            Json::Binary(mut jsonb) => self.value(&mut jsonb, place, level).ok(),
        };
        matches!(shape, Some(Shape::Known))
    }

    fn object<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Place,
        level: u32,
    ) -> Result<Shape<'a>, S::Fault> {
        let first = self.items.len();
        let mut parts = Parts::default();
        let mut rank = u8::MAX;
        let whole = source.object(|source, key| {
            match self.key(key) {
                "action" => parts.action = Some(source.take()?),
                "record" => parts.record = Some(self.record(source)?),
                "changes" => parts.changes = Some(source.take()?),
                "metadata" => parts.metadata = Some(self.metadata(source)?),
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
            match self.message(&parts, whole) {
                Ok(message) => self.items.push(Item::Message(message)),
                Err(fault) => self.dead(whole.text(), fault),
            }
            Ok(Shape::Known)
        } else if rank < u8::MAX {
            Ok(Shape::Known)
        } else {
            Ok(Shape::Unknown(whole))
        }
    }

    /// The value of an envelope's member; whether it holds messages.
    fn content<S: Source<'a>>(
        &mut self,
        source: &mut S,
        content: Content,
        place: Place,
        level: u32,
    ) -> Result<bool, S::Fault> {
        let certain = place == Place::Record;
        let shape = match (content, source.kind()?) {
            (Content::Records, Kind::Array) => {
                source.array(|source| self.item(source, Place::Record, level + 1))?;
                Shape::Known
            }
            (Content::Data, Kind::Array) => {
                source.array(|source| self.item(source, Place::Element, level + 1))?;
                Shape::Known
            }
            (Content::Records, Kind::Object) => self.topics(source, level)?,
            (Content::Wrapper, Kind::Object) => self.value(source, Place::Record, level + 1)?,
            (Content::Data | Content::Text | Content::Fields, Kind::Object) => {
                self.value(source, Place::Member, level + 1)?
            }
            (Content::Data, Kind::String) => {
                self.body(source.take()?, Encoding::Base64, certain, level)
            }
            (Content::Wrapper | Content::Text, Kind::String) => {
                self.body(source.take()?, Encoding::Text, certain, level)
            }
            (Content::Fields, Kind::Array) => {
                let value = source.take()?;
                let elements: Vec<Json> = value.elements().collect();
                return Ok(self.stream_entry(&elements, value));
            }
            (Content::Command, Kind::Array) => {
                let elements: Vec<Json> = source.take()?.elements().collect();
                match elements[..] {
                    [name, _, value, ..] if name.is_string("SET") => {
                        self.body(value, Encoding::Text, true, level)
                    }
                    _ => return Ok(false),
                }
            }
            _ => return Ok(false),
        };
        Ok(matches!(shape, Shape::Known))
    }

    /// `{"topic-0": [record, …], …}`: what a Lambda gets from Kafka as `records`.
    fn topics<S: Source<'a>>(&mut self, source: &mut S, level: u32) -> Result<Shape<'a>, S::Fault> {
        let first = self.items.len();
        let (mut lists, mut others) = (0, 0);
        let whole = source.object(|source, _| {
            if source.kind()? == Kind::Array {
                lists += 1;
                source.array(|source| self.item(source, Place::Record, level + 1))?;
            } else {
                others += 1;
            }
            Ok(())
        })?;
        if lists > 0 && others == 0 {
            return Ok(Shape::Known);
        }
        self.items.truncate(first);
        Ok(Shape::Unknown(whole))
    }

    /// An array that no envelope has announced. If it begins with a string it can be from Redis.
    fn array<S: Source<'a>>(
        &mut self,
        source: &mut S,
        place: Place,
        level: u32,
    ) -> Result<Shape<'a>, S::Fault> {
        let mut leading = None;
        let mut passed = Vec::new();
        let whole = source.array(|source| {
            match *leading.get_or_insert(source.kind()?) {
                Kind::Object | Kind::Array => self.item(source, Place::Element, level + 1)?,
                Kind::String => passed.push(source.take()?),
                Kind::Null | Kind::Bool | Kind::Number if place == Place::Whole => {
                    self.item(source, Place::Element, level + 1)?;
                }
                Kind::Null | Kind::Bool | Kind::Number => {}
            }
            Ok(())
        })?;
        let known = match leading {
            // an empty batch is no message, but an empty list among messages has to be one
            None => place == Place::Whole,
            Some(Kind::Object | Kind::Array) => true,
            Some(Kind::String) => self.strings(&passed, whole, level),
            // no message, but one may come after it
            Some(_) => place == Place::Whole,
        };
        Ok(if known {
            Shape::Known
        } else {
            Shape::Unknown(whole)
        })
    }

    /// The elements of an array that begins with a string: `[id, fields]` and `[stream, entries]`
    /// of Redis, the fields themselves, or bodies.
    fn strings(&mut self, elements: &[Json<'a>], whole: Json<'a>, level: u32) -> bool {
        if let [_, value] = *elements
            && matches!(value.kind(), Kind::Object | Kind::Array)
        {
            return self.passed(value, Place::Element, level + 1);
        }
        if self.stream_entry(elements, whole) {
            return true;
        }
        let are_bodies = elements.iter().all(|element| {
            let string = element.string();
            string.is_some_and(|s| s.is_ok_and(|s| begins_like_json(s.as_bytes())))
        });
        if are_bodies {
            for &element in elements {
                self.body(element, Encoding::Text, true, level);
            }
        }
        are_bodies
    }

    /// Names and values in turn, as `XADD` takes them: `record`, `changes` and `metadata` are JSON
    /// texts, `action` is a plain word.
    fn stream_entry(&mut self, elements: &[Json<'a>], whole: Json<'a>) -> bool {
        let (pairs, odd) = elements.as_chunks();
        let mut parts = Parts::default();
        for &[name, value] in pairs {
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
        if !odd.is_empty() || !parts.are_a_message() {
            return false;
        }
        match self.message(&parts, whole) {
            Ok(message) => self.items.push(Item::Message(message)),
            Err(fault) => self.dead(whole.text(), fault),
        }
        true
    }

    /// A record, split into fields if it is an object.
    fn record<S: Source<'a>>(&mut self, source: &mut S) -> Result<Record<'a>, S::Fault> {
        if source.kind()? != Kind::Object {
            let (value, fields) = (source.take()?, None);
            return Ok(Record { value, fields });
        }
        let start = self.fields.len() as u32;
        let value = source.object(|source, key| {
            let key = self.key(key);
            let value = source.take()?;
            self.fields.push(Field { key, value });
            Ok(())
        })?;
        let fields = Some((start, self.fields.len() as u32));
        Ok(Record { value, fields })
    }

    fn metadata<S: Source<'a>>(&mut self, source: &mut S) -> Result<Metadata<'a>, S::Fault> {
        if source.kind()? != Kind::Object {
            return Ok(Metadata::unread(source.take()?));
        }
        let mut metadata = Metadata::unread(Json::Text("null"));
        metadata.read = true;
        metadata.value = source.object(|source, key| {
            let place = match self.key(key) {
                "table_schema" => &mut metadata.table_schema,
                "table_name" => &mut metadata.table_name,
                "commit_lsn" => &mut metadata.commit_lsn,
                "commit_idx" => &mut metadata.commit_idx,
                "commit_timestamp" => &mut metadata.commit_timestamp,
                "database_name" => &mut metadata.old_database_name,
                "database" => {
                    metadata.database_id = None;
                    metadata.database_name = None;
                    if source.kind()? == Kind::Object {
                        source.object(|source, key| {
                            match self.key(key) {
                                "id" => metadata.database_id = Some(source.take()?),
                                "name" => metadata.database_name = Some(source.take()?),
                                _ => {}
                            }
                            Ok(())
                        })?;
                    }
                    return Ok(());
                }
                _ => return Ok(()),
            };
            *place = Some(source.take()?);
            Ok(())
        })?;
        Ok(metadata)
    }

    /// Checks the parts of a message.
    fn message(&mut self, parts: &Parts<'a>, whole: Json<'a>) -> Result<Message<'a>, MessageFault> {
        let action = message::action(parts.action)?;
        let reread;
        let metadata = match &parts.metadata {
            Some(metadata) if metadata.read => metadata,
            Some(metadata) => {
                let metadata = match self.embedded(metadata.value)? {
                    Some(Json::Text(text)) => self.metadata(&mut Scanner::new(text)).ok(),
                    Some(Json::Binary(mut jsonb)) => self.metadata(&mut jsonb).ok(),
                    None => None,
                };
                reread = metadata
                    .filter(|metadata| metadata.read)
                    .ok_or(MessageFault::NoTable)?;
                &reread
            }
            None => return Err(MessageFault::NoTable),
        };
        let schema = self.optional(metadata.table_schema)?;
        let table = self.optional(metadata.table_name)?;
        let (Some(schema), Some(table)) = (schema, table) else {
            return Err(MessageFault::NoTable);
        };
        let (record, fields) = match parts.record {
            Some(Record {
                value,
                fields: Some(fields),
            }) => (value, fields),
            Some(Record { value, .. }) => {
                let record = match self.embedded(value)? {
                    Some(Json::Text(text)) => self.record(&mut Scanner::new(text)).ok(),
                    Some(Json::Binary(mut jsonb)) => self.record(&mut jsonb).ok(),
                    None => None,
                };
                match record {
                    Some(Record {
                        value,
                        fields: Some(fields),
                    }) => (value, fields),
                    _ => return Err(MessageFault::NoRecord),
                }
            }
            None => return Err(MessageFault::NoRecord),
        };
        let changes = match parts.changes {
            Some(changes) => match self.embedded(changes)? {
                Some(changes) if changes.kind() == Kind::Object => Some(changes),
                Some(changes) if changes.is_null() => None,
                // Redis has no null
                None if changes.is_string("") => None,
                _ => return Err(MessageFault::BadChanges),
            },
            None => None,
        };
        Ok(Message {
            position: 0,
            action,
            schema,
            table,
            database_id: self.optional(metadata.database_id)?,
            database_name: match self.optional(metadata.database_name)? {
                Some(name) => Some(name),
                None => self.optional(metadata.old_database_name)?,
            },
            version: message::version(metadata.commit_lsn, metadata.commit_idx)?,
            committed_at: message::timestamp(metadata.commit_timestamp)?,
            record,
            changes,
            metadata: metadata.value,
            fields,
            whole,
        })
    }

    /// The value that a string holds as JSON text, `None` if it does not; any other value is itself.
    fn embedded(&self, value: Json<'a>) -> Result<Option<Json<'a>>, StringFault> {
        match self.str(value) {
            Some(text) => Ok(Json::parse(text?).ok()),
            None => Ok(Some(value)),
        }
    }

    /// The characters of a string, if there is one.
    fn optional(&self, value: Option<Json<'a>>) -> Result<Option<&'a str>, StringFault> {
        value.and_then(|value| self.str(value)).transpose()
    }

    /// The characters of a string, `None` if it is none.
    pub(super) fn str(&self, value: Json<'a>) -> Option<Result<&'a str, StringFault>> {
        match value {
            Json::Text(_) => value.raw_string().map(|raw| raw.unescape_in(self.arena)),
            Json::Binary(jsonb) => jsonb.string().map(|string| match string {
                Cow::Borrowed(string) => Ok(string),
                Cow::Owned(string) => Ok(&*self.arena.alloc_str(&string)),
            }),
        }
    }

    #[inline]
    fn key(&self, key: Str<'a>) -> &'a str {
        if key.escaped {
            self.arena.alloc_str(&key.unescape_lossy())
        } else {
            key.raw
        }
    }
}

impl<'a> Metadata<'a> {
    fn unread(value: Json<'a>) -> Metadata<'a> {
        Metadata {
            value,
            read: false,
            table_schema: None,
            table_name: None,
            commit_lsn: None,
            commit_idx: None,
            commit_timestamp: None,
            old_database_name: None,
            database_id: None,
            database_name: None,
        }
    }
}

/// Why a value that was not recognised is no message.
fn what_it_is_instead(value: Json<'_>) -> MessageFault {
    if value.kind() != Kind::Object {
        return MessageFault::NotAnObject;
    }
    let kind = value.get("Type");
    let is = |name| kind.is_some_and(|kind| kind.is_string(name));
    if is("SubscriptionConfirmation") || is("UnsubscribeConfirmation") {
        MessageFault::SubscriptionConfirmation
    } else {
        MessageFault::NoAction
    }
}
