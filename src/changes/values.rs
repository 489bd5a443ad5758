//! Casts the values of columns from messages.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;

use super::Changes;
use super::net::ValueRow;
use crate::column_set::ColumnSet;
use crate::error::SqlError;
use crate::json::Json;
use crate::outcome::MessageNo;
use crate::target::column::{Slot, Source, TargetColumn};

/// The image of a row that a message is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The row after the change: the message's record.
    New,
    /// The row before the change: the record overlaid with `changes`.
    Former,
}

impl<'a> Changes<'a> {
    /// Casts the value that the message has for a column; `None` is null.
    pub(super) fn cast(
        &mut self,
        message: MessageNo,
        image: Image,
        column: usize,
        slot: Slot<'a>,
    ) -> Result<Option<Datum>, SqlError> {
        let memory = self.intake.memory;
        let value = match slot {
            Slot::Nothing | Slot::Unchanged | Slot::Partial => return Ok(None),
            Slot::Sql(expression) | Slot::Derived(expression) => {
                let former = image == Image::Former;
                return Ok(self.intake.projected(message, former, expression));
            }
            Slot::Json(value) => value,
            Slot::Constant => {
                let TargetColumn {
                    source: Source::Constant(json),
                    caster,
                    ..
                } = &mut self.target.columns[column]
                else {
                    unreachable!("a constant slot is of a constant source")
                };
                return caster.cast(Json::Text(json), memory);
            }
        };
        let target = &mut self.target.columns[column];
        target.caster.cast(value, memory).map_err(|error| {
            let position = self.intake.message(message).position;
            let path = match &target.source {
                Source::Field(name) if image == Image::Former => format!("changes.{name}"),
                Source::Field(name) => format!("record.{name}"),
                Source::Path(path) => path.to_string(),
                Source::Constant(_) | Source::Sql(_) => String::from("record"),
            };
            let inner = target.caster.place(value, &error, memory);
            let mut error = error.at(&format!(
                "messages[{position}].{path}{inner} into column \"{}\" of type {}",
                target.name, target.sql.type_name
            ));
            error.column.get_or_insert_with(|| target.name.clone());
            error
        })
    }

    /// Adds a row that has the key of a change's row, and otherwise nulls.
    pub(super) fn start_row(&mut self, change: u32) -> ValueRow {
        let row = self.nets.values.add_row();
        let key = self.keyed.key_values(change);
        for (&column, value) in self.target.key.iter().zip(key) {
            self.nets.values.put(row, column, *value);
        }
        row
    }

    /// Sets a column, if the message has a value for it. The row starts with the key of `change`.
    pub(super) fn put(
        &mut self,
        row: ValueRow,
        column: usize,
        (message, slot): (MessageNo, Slot<'a>),
        change: u32,
        columns: &mut ColumnSet,
    ) -> Result<(), (MessageNo, SqlError)> {
        if matches!(slot, Slot::Nothing | Slot::Unchanged) {
            return Ok(());
        }
        columns.add(column);
        let cast_with_key =
            self.target.key.contains(&column) && message == self.keyed.change(change).message;
        if cast_with_key {
            return Ok(());
        }
        self.put_value(row, column, message, slot)
    }

    /// Sets a document column to an object of these members.
    pub(super) fn put_document(
        &mut self,
        row: ValueRow,
        column: usize,
        message: MessageNo,
        members: &[(&str, Json<'_>)],
    ) -> Result<(), (MessageNo, SqlError)> {
        let text = object(members.iter().copied());
        let text = Json::Text(self.intake.memory.alloc_str(&text));
        self.put_value(row, column, message, Slot::Json(text))
    }

    fn put_value(
        &mut self,
        row: ValueRow,
        column: usize,
        message: MessageNo,
        slot: Slot<'a>,
    ) -> Result<(), (MessageNo, SqlError)> {
        let value = self
            .cast(message, Image::New, column, slot)
            .map_err(|error| (message, error))?;
        if let Some(value) = value {
            self.nets.values.put(row, column, value);
        }
        Ok(())
    }
}

/// The JSON text of an object.
pub(super) fn object<'a, K: AsRef<str>>(members: impl Iterator<Item = (K, Json<'a>)>) -> String {
    let mut text = String::from("{");
    for (key, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(key.as_ref()).to_string());
        text.push(':');
        text.push_str(&value.text());
    }
    text.push('}');
    text
}
