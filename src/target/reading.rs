//! Reads the values of a mapping's columns from a message.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::column::{Slot, Source, TargetColumn};
use super::told::Told;
use crate::json::Json;
use crate::mapping::{Path, Root};
use crate::message::{Action, Field, Message};

/// The most members whose places are kept. Records of more members are no rows of a table.
const MOST: usize = 2000;

/// The members of a message that a mapping's columns are read from.
#[derive(Default)]
pub struct Reading {
    /// The columns that are read from a member of the record, by the member's name.
    fields: HashMap<String, Vec<usize>>,
    /// The other columns.
    others: Vec<usize>,
    /// The members of the last record in order, each with its columns. Messages of one table usually have
    /// their members in one order.
    layout: Vec<(String, Vec<usize>)>,
    /// Whether the layout has changed since this was asked.
    relearned: bool,
}

impl Reading {
    /// The reading for these columns.
    pub fn new(columns: &[TargetColumn]) -> Reading {
        let mut reading = Reading::default();
        for (i, column) in columns.iter().enumerate() {
            match &column.source {
                Source::Field(name) => reading.fields.entry(name.clone()).or_default().push(i),
                _ => reading.others.push(i),
            }
        }
        reading
    }

    /// Fills `slots` with the message's value for each of these columns.
    pub fn read<'a>(
        &mut self,
        columns: &[TargetColumn],
        told: &Told,
        message: &Message<'a>,
        fields: &[Field<'a>],
        slots: &mut Vec<Slot<'a>>,
    ) {
        slots.clear();
        slots.resize(columns.len(), Slot::Nothing);
        let mut partial = false;
        for (position, field) in fields.iter().enumerate() {
            let known = self.layout.get(position);
            if position < MOST && known.is_none_or(|(key, _)| key != field.key) {
                self.learn(position, field.key);
            }
            let slot = if is_unchanged(message, field) {
                partial = true;
                Slot::Unchanged
            } else {
                Slot::Json(field.value)
            };
            let slot = match told.hides(message, field) {
                true => {
                    partial = true;
                    Slot::Nothing
                }
                false => slot,
            };
            let read = match self.layout.get(position) {
                Some((_, columns)) => Some(columns),
                None => self.fields.get(field.key),
            };
            for &column in read.into_iter().flatten() {
                slots[column] = slot;
            }
        }
        for &column in &self.others {
            slots[column] = if partial && columns[column].document.is_some() {
                Slot::Partial
            } else {
                other(&columns[column].source, told, message)
            };
        }
    }

    /// Whether a record had other members than the one before, in this order, since this was asked.
    pub fn take_relearned(&mut self) -> bool {
        std::mem::take(&mut self.relearned)
    }

    fn learn(&mut self, position: usize, key: &str) {
        self.relearned = true;
        let columns = self.fields.get(key).cloned().unwrap_or_default();
        let entry = (key.to_owned(), columns);
        if position < self.layout.len() {
            self.layout[position] = entry;
        } else {
            self.layout.push(entry);
        }
    }
}

/// Whether `changes` lists a member that a column of this source is read from.
pub fn is_changed(source: &Source, changes: Json<'_>) -> bool {
    match source {
        Source::Field(name) => changes.get(name).is_some(),
        Source::Path(Path {
            root: Root::Record,
            keys,
        }) => keys.first().is_some_and(|name| changes.get(name).is_some()),
        Source::Sql(_) => changes.members().next().is_some(),
        Source::Path(_) | Source::Constant(_) => false,
    }
}

/// The value of a column of this source in the row's former image: the record overlaid with `changes`.
pub fn former<'a>(source: &Source, message: &Message<'a>) -> Slot<'a> {
    let changes = message.changes;
    let member = |name: &str| {
        changes
            .and_then(|changes| changes.get(name))
            .or_else(|| message.record.get(name))
    };
    let value = match source {
        Source::Field(name) => member(name),
        Source::Path(Path {
            root: Root::Record,
            keys,
        }) if !keys.is_empty() => member(&keys[0]).and_then(|value| value.path(&keys[1..])),
        source => return other(source, &Told::default(), message),
    };
    value.map_or(Slot::Nothing, Slot::Json)
}

/// Whether an update says that the field's value did not change, without giving the value. `changes` lists
/// every changed value, so that a real text of this wording is told apart.
pub fn is_unchanged(message: &Message<'_>, field: &Field<'_>) -> bool {
    message.action == Action::Update
        && field.value.is_string("unchanged_toast")
        && message
            .changes
            .and_then(|changes| changes.get(field.key))
            .is_none()
}

fn other<'a>(source: &Source, told: &Told, message: &Message<'a>) -> Slot<'a> {
    match source {
        Source::Field(_) => Slot::Nothing,
        Source::Sql(number) => Slot::Sql(*number),
        Source::Constant(_) => Slot::Constant,
        Source::Path(path) => {
            if path.root == Root::Record
                && let Some(name) = path.keys.first()
                && let Some(value) = message.record.get(name)
            {
                let field = Field { key: name, value };
                if is_unchanged(message, &field) {
                    return Slot::Unchanged;
                }
                if told.hides(message, &field) {
                    return Slot::Nothing;
                }
            }
            let root = match path.root {
                Root::Record => Some(message.record),
                Root::Metadata => Some(message.metadata),
                Root::Changes => message.changes,
                Root::Action => {
                    return Slot::Json(Json::Text(match message.action {
                        Action::Insert => "\"insert\"",
                        Action::Update => "\"update\"",
                        Action::Delete => "\"delete\"",
                        Action::Read => "\"read\"",
                    }));
                }
            };
            match root.and_then(|root| root.path(&path.keys)) {
                Some(value) => Slot::Json(value),
                // A record without the member does not mention the column; in other parts, a missing member
                // is null.
                None if path.root == Root::Record
                    && path
                        .keys
                        .first()
                        .is_none_or(|k| message.record.get(k).is_none()) =>
                {
                    Slot::Nothing
                }
                None => Slot::Json(Json::Text("null")),
            }
        }
    }
}
