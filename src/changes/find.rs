//! Turns messages into changes of rows: each with its event and its key.

#![forbid(unsafe_code)]

use pgrx::pg_sys::Datum;

use super::Changes;
use super::values::Image;
use crate::error::quote::ident;
use crate::error::{Error, SqlError};
use crate::image::{fingerprint, source_number};
use crate::mapping::{Mode, OnDelete};
use crate::merge::{Event, Stamp};
use crate::message::{Action, Message};
use crate::outcome::{MessageNo, Outcome};
use crate::stop::Stop;
use crate::target::column::{Slot, Source};

/// Buffers that are reused from message to message.
#[derive(Default)]
pub(super) struct Scratch<'a> {
    pub(super) slots: Vec<Slot<'a>>,
    pub(super) key: Vec<Datum>,
    /// The source of the last message, and the number of this source.
    source: Option<(&'a str, i64)>,
}

impl<'a> Changes<'a> {
    /// Makes a change with its key from each message (two changes if the message moved its row). Sorts the
    /// changes.
    pub fn find_rows(&mut self) -> Result<(), Stop> {
        let mut scratch = Scratch::default();
        self.each(self.intake.len(), |changes, n| {
            let message = MessageNo(n as u32);
            if changes.ledger.outcome(message).is_some() {
                return Ok(());
            }
            changes
                .find_row(message, &mut scratch)
                .map_err(|error| (message, error))
        })?;
        self.keyed.sort();
        Ok(())
    }

    fn find_row(&mut self, number: MessageNo, scratch: &mut Scratch<'a>) -> Result<(), SqlError> {
        let message = self.intake.message(number);
        let append = self.target.mapping.mode == Mode::Append;
        let kept = self
            .filter()
            .and_then(|f| self.intake.kept_by_filter(number, f));
        if append && kept.is_some() {
            let mapping = self.target.mapping.name.clone();
            return Err(Error::FilterUnchanged {
                mapping,
                source: source_table(message),
            }
            .into());
        }
        let refused = match kept {
            Some(exists) => !exists,
            None => self.is_refused(number),
        };
        // Without a value for the filter, the row stays as it is: it is neither deleted nor let in.
        let leave = kept.is_some() || append || message.action == Action::Read;
        if refused && leave {
            self.ledger.set(number, Outcome::Filtered);
            return Ok(());
        }
        let delete = message.action == Action::Delete && !append;
        if (delete || refused) && self.target.mapping.on_delete == OnDelete::Ignore {
            let outcome = if delete {
                Outcome::Ignored
            } else {
                Outcome::Filtered
            };
            self.ledger.set(number, outcome);
            return Ok(());
        }
        let stamp = stamp(message, &mut scratch.source);
        let fields = self.intake.fields(message);
        self.target.read(message, fields, &mut scratch.slots);
        // Letters can be much older than the records that come now.
        if !self.intake.call.letters {
            self.target.note_shape(message, fields);
        }
        self.intake.mask(number, &mut scratch.slots);
        let mut left = None;
        if self.target.changes_key(message) {
            let image = fingerprint(message.record, message.changes);
            self.read_key(number, Image::Former, scratch)?;
            left = Some(self.keyed.add(
                number,
                Event::Leave { image },
                stamp,
                &scratch.key,
                &self.target.key_encoding,
            )?);
        }
        let event = match message.action {
            _ if append => Event::Appear,
            Action::Delete => Event::Delete {
                image: self.image_of_deleted(message),
            },
            _ if refused => refused_event(message, left.is_some()),
            Action::Insert => Event::Appear,
            Action::Update if left.is_some() => Event::Appear,
            Action::Update => Event::Update,
            Action::Read => Event::Read,
        };
        self.read_key(number, Image::New, scratch)?;
        let encoding = &self.target.key_encoding;
        let here = self
            .keyed
            .add(number, event, stamp, &scratch.key, encoding)?;
        self.keyed.change_mut(here).refused = refused;
        if let Some(left) = left
            && self.keyed.key(left) == self.keyed.key(here)
        {
            // `changes` lists a key column, but the keys are equal (only the case differs, say): the row
            // did not move.
            self.keyed.change_mut(here).event = if refused {
                refused_event(message, false)
            } else {
                Event::Update
            };
            self.keyed.take_back(left);
        }
        Ok(())
    }

    /// The image of the row that a delete removed; `None` if the message may hold only the row's key, as
    /// under REPLICA IDENTITY DEFAULT.
    fn image_of_deleted(&self, message: &Message<'_>) -> Option<u64> {
        let fields = self.intake.fields(message);
        let known = fields.iter().filter(|field| !field.value.is_null()).count();
        if known < 2 {
            return None;
        }
        let names = message.metadata.get("record_pks");
        let named = names.map_or(0, |names| names.elements().count());
        let in_key = if named > 0 {
            named
        } else {
            self.target.key_members()
        };
        (known > in_key).then(|| fingerprint(message.record, None))
    }

    fn filter(&self) -> Option<usize> {
        self.target.projection.as_ref().and_then(|p| p.filter)
    }

    /// Whether the mapping's filter refuses the message.
    pub(super) fn is_refused(&self, message: MessageNo) -> bool {
        self.filter().is_some_and(|filter| {
            self.intake
                .projected(message, false, filter)
                .is_none_or(|taken| taken.value() as u8 == 0)
        })
    }

    /// Casts the values of the message's key into `scratch.key`.
    pub(super) fn read_key(
        &mut self,
        number: MessageNo,
        image: Image,
        scratch: &mut Scratch<'a>,
    ) -> Result<(), SqlError> {
        scratch.key.clear();
        for i in 0..self.target.key.len() {
            let column = self.target.key[i];
            let slot = match image {
                Image::New => scratch.slots[column],
                Image::Former => self.target.former(self.intake.message(number), column),
            };
            let Some(value) = self.cast(number, image, column, slot)? else {
                return Err(self.no_key_value(number, column));
            };
            scratch.key.push(value);
        }
        Ok(())
    }
}

impl Changes<'_> {
    /// The error of a message without a value for a column of the key. If the record has no such member, other records
    /// may have none either: the column was renamed.
    fn no_key_value(&self, number: MessageNo, column: usize) -> SqlError {
        let message = self.intake.message(number);
        let target = &self.target.columns[column];
        let lacks = match &target.source {
            Source::Field(name) => {
                let mut fields = self.intake.fields(message).iter();
                !fields.any(|field| field.key == *name)
            }
            _ => false,
        };
        let error = SqlError::from(Error::NoKeyValue {
            column: target.name.clone(),
            source: source_table(message),
        });
        match lacks {
            true => SqlError {
                no_row: true,
                ..error.of_mapping(self.target.mapping.id)
            },
            false => error,
        }
    }
}

/// The message's source table, quoted where SQL needs it.
fn source_table(message: &Message<'_>) -> String {
    format!("{}.{}", ident(message.schema), ident(message.table))
}

/// A change whose row the filter refuses deletes the row. An update in place says which row it was if it
/// lists the former values.
fn refused_event(message: &Message<'_>, moved: bool) -> Event {
    let former = message.changes.filter(|changes| {
        message.action == Action::Update && !moved && changes.members().next().is_some()
    });
    Event::Delete {
        image: former.map(|changes| fingerprint(message.record, Some(changes))),
    }
}

/// The stamp of the message's change. `known` caches the number of the last source.
pub(super) fn stamp<'a>(message: &Message<'a>, known: &mut Option<(&'a str, i64)>) -> Stamp {
    let source = message.source();
    let number = match known {
        Some((name, number)) if *name == source => *number,
        _ => source_number(source),
    };
    *known = Some((source, number));
    Stamp {
        source: number,
        version: message.version,
        committed_at: message.committed_at,
    }
}
