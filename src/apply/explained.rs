//! Records what a call does, to explain it.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_sys;

use super::images::images;
use crate::changes::Changes;
use crate::changes::net::Images;
use crate::error::Error;
use crate::error::SqlError;
use crate::mapping::Mapping;
use crate::outcome::{Failed, Outcome, Position};
use crate::pg::user::may_act_as;

/// The outcome of a message in a mapping.
#[derive(Debug)]
pub struct Explained {
    /// The message's position in the batch, from 0.
    pub position: usize,
    /// The mapping's name; `None` if no mapping takes the message.
    pub mapping: Option<String>,
    /// The row's key, as a JSON array.
    pub key: Option<String>,
    pub outcome: Outcome,
    /// The error, if the message is a dead letter.
    pub error: Option<Rc<SqlError>>,
    /// The row before the call, as JSON.
    pub before: Option<String>,
    /// The row after the call, as JSON.
    pub after: Option<String>,
}

/// The errors of messages that a mapping could not write, by position and by the index of the mapping's
/// changes.
type Errors<'d> = HashMap<(Position, usize), &'d SqlError>;

/// Observes a call for the role that wants it explained.
#[derive(Debug)]
pub struct Observer {
    caller: pg_sys::Oid,
    rows: Vec<Explained>,
}

impl Observer {
    /// Observes for `caller`.
    pub fn new(caller: pg_sys::Oid) -> Observer {
        Observer {
            caller,
            rows: Vec::new(),
        }
    }

    /// The recorded rows, in the order of the messages.
    pub fn into_rows(self) -> Vec<Explained> {
        self.rows
    }

    /// Fails unless the caller has the rights of the mapping's owner: rows are read as the owner.
    pub fn admit(&self, mapping: &Mapping, position: usize) -> Result<(), SqlError> {
        if mapping.destination.is_none() || may_act_as(self.caller, mapping.owner_oid()) {
            Ok(())
        } else {
            Err(Error::NotYoursToExplain { position }.into())
        }
    }

    /// Records an attempt before it is undone: the outcomes of the first `own` items of the batch (the
    /// others belong to dead letters). No mapping takes the `refused` items. The `ignored` items go to
    /// mappings that ignore them, and the `kept` items to mappings that cannot take them now.
    pub fn see(
        &mut self,
        own: usize,
        refused: impl Iterator<Item = (Position, SqlError)>,
        ignored: impl Iterator<Item = (Position, String)>,
        kept: impl Iterator<Item = (Position, String, Rc<SqlError>)>,
        failed: &[Failed],
        all: &[Changes<'_>],
    ) -> Result<(), SqlError> {
        self.rows.clear();
        let row = |position: Position, outcome| Explained {
            position: position.index(),
            mapping: None,
            key: None,
            outcome,
            error: None,
            before: None,
            after: None,
        };
        // Items that fail in the same way share one error.
        let mut last: Option<Rc<SqlError>> = None;
        for (position, error) in refused.filter(|(position, _)| position.index() < own) {
            let error = match &last {
                Some(last) if **last == error => Rc::clone(last),
                _ => Rc::clone(last.insert(Rc::new(error))),
            };
            self.rows.push(Explained {
                error: Some(error),
                ..row(position, Outcome::Dead)
            });
        }
        for (position, mapping) in ignored.filter(|(position, _)| position.index() < own) {
            self.rows.push(Explained {
                mapping: Some(mapping),
                ..row(position, Outcome::Ignored)
            });
        }
        for (position, mapping, error) in kept.filter(|(position, ..)| position.index() < own) {
            self.rows.push(Explained {
                mapping: Some(mapping),
                error: Some(error),
                ..row(position, Outcome::Dead)
            });
        }
        let errors: Errors<'_> = failed
            .iter()
            .map(|failed| ((failed.position, failed.changes), &failed.failure.error))
            .collect();
        for (i, changes) in all.iter().enumerate() {
            let after = {
                let _owner = changes.acting_as_owner();
                images(changes)?
            };
            self.see_mapping(own, (i, changes), &after, &errors);
        }
        self.rows
            .sort_by(|a, b| (a.position, &a.mapping).cmp(&(b.position, &b.mapping)));
        Ok(())
    }

    fn see_mapping(
        &mut self,
        own: usize,
        (number, changes): (usize, &Changes<'_>),
        after: &Images,
        errors: &Errors<'_>,
    ) {
        let keyed = &changes.keyed;
        let name = &changes.target.mapping.name;
        for message in changes.intake.numbers() {
            let position = changes.intake.position(message);
            let Some(outcome) = changes.ledger.outcome(message) else {
                continue;
            };
            if position.index() >= own {
                continue;
            }
            // A message that moved its row has two keys: the row was at `left` before and is at `key` now.
            let here = keyed.of_subject(message);
            let left = keyed.former_key(message);
            let key = here.map(|change| keyed.key(change));
            let before = |key: Option<&[u8]>| changes.before.get(key?);
            self.rows.push(Explained {
                position: position.index(),
                mapping: Some(name.clone()),
                key: here.and_then(|change| changes.key_text(change)),
                outcome,
                error: errors
                    .get(&(position, number))
                    .map(|error| Rc::new((*error).clone())),
                before: before(left).or_else(|| before(key)).cloned(),
                after: key.and_then(|key| after.get(key)).cloned(),
            });
        }
    }
}
