//! The members of an object that make it a message.

#![forbid(unsafe_code)]

use std::ops::Range;

use super::source::Source;
use super::strings::Strings;
use crate::image::of_change;
use crate::json::{Json, Kind, Scanner};
use crate::message::{Action, MessageFault, Version};

/// The members seen so far.
#[derive(Default)]
pub(super) struct Parts<'a> {
    pub(super) action: Option<Json<'a>>,
    pub(super) record: Option<Record<'a>>,
    pub(super) changes: Option<Json<'a>>,
    pub(super) metadata: Option<Metadata<'a>>,
}

impl<'a> Parts<'a> {
    /// The former values, if there are any: an object, or its text.
    pub(super) fn changes(&self, strings: Strings<'a>) -> Result<Option<Json<'a>>, MessageFault> {
        let Some(changes) = self.changes else {
            return Ok(None);
        };
        match strings.embedded(changes)? {
            Some(changes) if changes.kind() == Kind::Object => Ok(Some(changes)),
            Some(changes) if changes.is_null() => Ok(None),
            // Redis has no null
            None if changes.is_string("") => Ok(None),
            _ => Err(MessageFault::BadChanges),
        }
    }

    /// Whether the object is a message, whatever else it has.
    pub(super) fn are_a_message(&self) -> bool {
        self.action.is_some() || self.record.is_some() && self.metadata.is_some()
    }
}

/// The value of `record`.
pub(super) struct Record<'a> {
    pub(super) value: Json<'a>,
    /// The range of its members among the reader's fields; `None` if the value is not an object, and so was
    /// not split.
    pub(super) fields: Option<Range<usize>>,
}

/// The value of `metadata`, and the members of it that a message needs.
pub(super) struct Metadata<'a> {
    pub(super) value: Json<'a>,
    /// Whether the value is an object and the members below were read from it.
    pub(super) read: bool,
    pub(super) table_schema: Option<Json<'a>>,
    pub(super) table_name: Option<Json<'a>>,
    pub(super) commit_lsn: Option<Json<'a>>,
    pub(super) commit_idx: Option<Json<'a>>,
    pub(super) commit_timestamp: Option<Json<'a>>,
    /// `database_name`, which older versions of Sequin sent in place of `database`.
    pub(super) old_database_name: Option<Json<'a>>,
    pub(super) database_id: Option<Json<'a>>,
    pub(super) database_name: Option<Json<'a>>,
}

impl<'a> Metadata<'a> {
    /// Reads metadata that is not an object, but may be the text of an object.
    pub(super) fn embedded(
        value: Json<'a>,
        strings: Strings<'a>,
    ) -> Result<Metadata<'a>, MessageFault> {
        let metadata = match strings.embedded(value)? {
            Some(Json::Text(text)) => Metadata::read(&mut Scanner::new(text), strings).ok(),
            Some(Json::Binary(mut jsonb)) => Metadata::read(&mut jsonb, strings).ok(),
            None => None,
        };
        metadata
            .filter(|metadata| metadata.read)
            .ok_or(MessageFault::NoTable)
    }

    /// The version of a change whose metadata have no `commit_idx`: its content and its idempotency key tell it from
    /// other changes of its transaction.
    pub(super) fn unindexed(
        &self,
        lsn: u64,
        action: Action,
        record: Json<'a>,
        changes: Option<Json<'a>>,
    ) -> Version {
        if action == Action::Read {
            return Version { lsn, idx: 0 };
        }
        let name = self.value.get("idempotency_key");
        let name = name.filter(|name| !name.is_null());
        let change = of_change(action.as_str(), record, changes, name);
        Version::unindexed(lsn, change, name.is_some())
    }

    /// Metadata of which no member was read.
    pub(super) fn unread(value: Json<'a>) -> Metadata<'a> {
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

    /// Reads the members if the next value is an object. Takes any other value as it is.
    pub(super) fn read<S: Source<'a>>(
        source: &mut S,
        strings: Strings<'a>,
    ) -> Result<Metadata<'a>, S::Fault> {
        if source.kind()? != Kind::Object {
            return Ok(Metadata::unread(source.take()?));
        }
        let mut metadata = Metadata::unread(Json::Text("null"));
        metadata.read = true;
        metadata.value = source.object(|source, key| {
            let member = match strings.key(key) {
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
                            match strings.key(key) {
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
            *member = Some(source.take()?);
            Ok(())
        })?;
        Ok(metadata)
    }
}
