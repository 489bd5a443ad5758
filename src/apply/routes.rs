//! Which mapping takes which message of a batch.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use super::explained::Observer;
use super::registry::Registry;
use crate::dead_letter::State;
use crate::dead_letter::retried::Retried;
use crate::envelope::{Batch, Item};
use crate::error::origin::Origin;
use crate::error::{Error, SqlError};
use crate::message::MessageFault;
use crate::outcome::{Outcome, Position};
use crate::pg::interrupts;
use crate::settings;

/// An item that no mapping takes. There may be a million of them, so the error is made only on request.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The item's position.
    pub position: Position,
    /// Why no mapping takes the item; `None` if that follows from the item.
    other: Option<Rc<SqlError>>,
}

impl Refused {
    /// Why no mapping takes the item.
    pub fn error(&self, batch: &Batch<'_>) -> SqlError {
        match (&self.other, &batch.items[self.position.index()]) {
            (Some(error), _) => (**error).clone(),
            (None, Item::Dead { fault, .. }) => {
                let text = fault.to_string();
                let error: SqlError = match fault.is_not_json() {
                    true => Error::NotJson { fault: text },
                    false => Error::NotAMessage { fault: text },
                }
                .into();
                match **fault {
                    MessageFault::Compressed(_) => {
                        error.with_hint("Decompress it in the forwarder, before the call.")
                    }
                    _ => error,
                }
            }
            (None, Item::Message(message)) => Error::Unmapped {
                table: format!("{}.{}", message.schema, message.table),
            }
            .into(),
        }
    }
}

/// A message that is kept for a mapping which cannot take it now.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The message's position.
    pub position: Position,
    /// The mapping's index.
    pub mapping: usize,
    /// Why the mapping cannot take the message.
    pub error: Rc<SqlError>,
    /// The state of the letter.
    pub state: State,
}

/// Where the messages of a batch go. Mappings are given by their index in the registry.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The messages that each mapping with a destination takes.
    pub taken: BTreeMap<usize, Vec<Position>>,
    /// The messages that mappings without a destination take.
    pub ignored: Vec<(Position, usize)>,
    /// The items that no mapping takes, in the order of their positions.
    pub refused: Rc<Vec<Refused>>,
    /// The messages that are kept for paused or broken mappings.
    pub kept: Vec<Kept>,
    /// The first table that no mapping takes messages of, and the number of such messages of all tables.
    unmapped: Option<(String, usize)>,
}

impl Routes {
    /// Routes the batch's items in this range.
    pub fn add(
        &mut self,
        batch: &Batch<'_>,
        positions: Range<usize>,
        registry: &Registry,
        observer: Option<&Observer>,
    ) -> Result<(), SqlError> {
        // Each owner's mappings are searched for each source table, and there may be many owners.
        let mut routes: Vec<Cow<'_, [usize]>> = Vec::new();
        let mut by_source: HashMap<_, usize> = HashMap::new();
        let mut last = None;
        for position in positions {
            interrupts::check();
            let at = Position(position as u32);
            let message = match &batch.items[position] {
                Item::Message(message) => message,
                Item::Dead { .. } => {
                    self.refuse(at, None);
                    continue;
                }
            };
            let source = (
                message.database_name,
                message.database_id,
                message.schema,
                message.table,
            );
            let number = match last {
                Some((known, number)) if known == source => number,
                _ => *by_source.entry(source).or_insert_with(|| {
                    let router = &registry.router;
                    routes.push(router.route(source.0, source.1, source.2, source.3));
                    routes.len() - 1
                }),
            };
            last = Some((source, number));
            let found = &routes[number];
            for &index in &**found {
                if let Some(observer) = observer {
                    observer.admit(&registry.mappings[index], position)?;
                }
                self.take(at, index, registry)?;
            }
            if found.is_empty() {
                self.refuse(at, None);
                let unmapped = self.unmapped.get_or_insert_with(|| {
                    let table = format!("{}.{}", message.schema, message.table);
                    (table, 0)
                });
                unmapped.1 += 1;
            }
        }
        Ok(())
    }

    /// Routes the items of a dead letter. The mapping that could not write the letter takes it again; a
    /// letter without a mapping is routed anew.
    pub fn add_letter(
        &mut self,
        letter: &Retried,
        batch: &Batch<'_>,
        registry: &Registry,
    ) -> Result<(), SqlError> {
        let Some(name) = &letter.mapping else {
            return match self.add(batch, letter.items.clone(), registry, None) {
                // It stays, and others are tried.
                Err(error) if letter.items.len() == 1 => {
                    self.refuse(Position(letter.items.start as u32), Some(error));
                    Ok(())
                }
                result => result,
            };
        };
        let found = registry.mappings.iter().position(|m| m.name == *name);
        for position in letter.items.clone() {
            let at = Position(position as u32);
            match (&batch.items[position], found) {
                (Item::Message(_), Some(index)) => self.take(at, index, registry)?,
                (Item::Message(_), None) => self.refuse(
                    at,
                    Some(
                        Error::MappingNotFound {
                            name: name.clone(),
                            nearest: Vec::new(),
                        }
                        .into(),
                    ),
                ),
                (Item::Dead { .. }, _) => {
                    self.add(batch, position..position + 1, registry, None)?
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, at: Position, index: usize, registry: &Registry) -> Result<(), SqlError> {
        let mapping = &registry.mappings[index];
        if !mapping.enabled {
            let keep = settings::keep_paused();
            let error = match self.kept.last() {
                Some(kept) if kept.mapping == index => Rc::clone(&kept.error),
                _ => {
                    let name = mapping.name.clone();
                    let error = SqlError::from(Error::MappingPaused { name, keep });
                    if !keep {
                        return Err(error);
                    }
                    Rc::new(error)
                }
            };
            self.kept.push(Kept {
                position: at,
                mapping: index,
                error,
                state: State::Paused,
            });
            return Ok(());
        }
        if mapping.destination.is_none() {
            self.ignored.push((at, index));
        } else {
            self.taken.entry(index).or_default().push(at);
        }
        Ok(())
    }

    fn refuse(&mut self, position: Position, other: Option<SqlError>) {
        let other = other.map(Rc::new);
        Rc::make_mut(&mut self.refused).push(Refused { position, other });
    }

    /// Takes the messages of mappings (by id) that are set aside: they become letters.
    pub fn set_aside(&mut self, aside: &BTreeMap<i32, SqlError>, registry: &Registry) {
        for (id, error) in aside {
            let index = registry.mappings.iter().position(|m| m.id == *id);
            let taken = index.and_then(|index| Some((index, self.taken.remove(&index)?)));
            let Some((mapping, messages)) = taken else {
                continue;
            };
            let state = match error.origin {
                Origin::OutOfTime(_) => State::Dead,
                _ => State::Waiting,
            };
            let error = Rc::new(error.clone());
            self.kept.extend(messages.into_iter().map(|position| Kept {
                position,
                mapping,
                error: Rc::clone(&error),
                state,
            }));
        }
    }

    /// The outcomes of the items that no mapping writes, each with the mapping that ignores or keeps the
    /// item.
    pub fn outcomes(&self) -> impl Iterator<Item = (Position, Outcome, Option<usize>)> + '_ {
        let refused = self.refused.iter();
        let ignored = self.ignored.iter();
        let kept = self.kept.iter();
        refused
            .map(|refused| (refused.position, Outcome::Dead, None))
            .chain(ignored.map(|(at, index)| (*at, Outcome::Ignored, Some(*index))))
            .chain(kept.map(|kept| (kept.position, Outcome::Dead, Some(kept.mapping))))
    }

    /// Warns of messages that no mapping takes.
    pub fn warn(&self) {
        let Some((table, count)) = &self.unmapped else {
            return;
        };
        let error = SqlError::from(Error::Unmapped {
            table: table.clone(),
        });
        pgrx::pg_sys::panic::ErrorReport::new(
            pgrx::PgSqlErrorCode::ERRCODE_WARNING,
            error.message,
            "sequin_apply",
        )
        .set_detail(format!(
            "{count} messages that no mapping takes were kept in sequin.dead_letter."
        ))
        .set_hint(error.hint.unwrap_or_default())
        .report(pgrx::PgLogLevel::WARNING);
    }
}
