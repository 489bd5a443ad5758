//! What an observer of a call sees.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys;

use super::images::images;
use crate::changes::Changes;
use crate::changes::net::Images;
use crate::dead_letter::Letter;
use crate::error::Error;
use crate::error::SqlError;
use crate::mapping::Mapping;
use crate::outcome::{Outcome, Position};
use crate::pg::user::may_act_as;

/// What became of a message in a mapping.
#[derive(Debug)]
pub struct Explained {
    /// The message's position in the batch, from 0.
    pub position: usize,
    /// The mapping's name; `None` if no mapping takes the message.
    pub mapping: Option<String>,
    /// The row's key, as a JSON array.
    pub key: Option<String>,
    /// What became of the message.
    pub outcome: Outcome,
    /// Why it is a dead letter, if it is one.
    pub error: Option<SqlError>,
    /// The row before the call, as JSON.
    pub before: Option<String>,
    /// The row after the call, as JSON.
    pub after: Option<String>,
}

/// The errors of dead letters, by the message's position and the mapping's name.
type Errors<'d> = HashMap<(Position, Option<&'d str>), &'d SqlError>;

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

    /// What it has seen, in the order of the messages.
    pub fn into_rows(self) -> Vec<Explained> {
        self.rows
    }

    /// Rows are read as the mapping's owner, so the caller needs the owner's rights.
    pub fn admit(&self, mapping: &Mapping, position: usize) -> Result<(), SqlError> {
        if may_act_as(self.caller, mapping.owner_oid()) {
            Ok(())
        } else {
            Err(Error::NotYoursToExplain { position }.into())
        }
    }

    /// Notes what an attempt has done, before it is undone: what became of the first `own` items of
    /// the batch (the others are of dead letters). `settled` are the items that no mapping writes.
    pub fn see(
        &mut self,
        own: usize,
        settled: impl Iterator<Item = (Position, Outcome, Option<String>)>,
        dead: &[(Position, Letter<'_>)],
        all: &[Changes<'_>],
    ) -> Result<(), SqlError> {
        let errors: Errors<'_> = dead
            .iter()
            .map(|(position, letter)| ((*position, letter.mapping.as_deref()), &letter.error))
            .collect();
        self.rows = settled
            .filter(|(position, ..)| position.index() < own)
            .map(|(position, outcome, mapping)| Explained {
                error: errors
                    .get(&(position, mapping.as_deref()))
                    .map(|error| (*error).clone()),
                position: position.index(),
                mapping,
                key: None,
                outcome,
                before: None,
                after: None,
            })
            .collect();
        for changes in all {
            let after = {
                let _owner = changes.acting_as_owner();
                images(changes)?
            };
            self.see_mapping(own, changes, &after, &errors);
        }
        self.rows
            .sort_by(|a, b| (a.position, &a.mapping).cmp(&(b.position, &b.mapping)));
        Ok(())
    }

    fn see_mapping(
        &mut self,
        own: usize,
        changes: &Changes<'_>,
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
            // A message that moved its row has two changes: the row was at one key and is at the other.
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
                    .get(&(position, Some(name)))
                    .map(|error| (*error).clone()),
                before: before(left).or_else(|| before(key)).cloned(),
                after: key.and_then(|key| after.get(key)).cloned(),
            });
        }
    }
}
