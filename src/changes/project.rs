//! Evaluates the mapping's SQL in the server.

#![forbid(unsafe_code)]

use std::rc::Rc;

use bumpalo::Bump;

use super::Changes;
use super::intake::Kept;
use crate::blame;
use crate::json::Json;
use crate::message::Message;
use crate::outcome::MessageNo;
use crate::pg::subtransaction::subtransaction;
use crate::stop::Stop;
use crate::target::projection::{Input, Projection};

impl Changes<'_> {
    /// Evaluates the mapping's SQL in the server: for all messages at once, or one by one if that fails.
    /// For an update that may have moved its row, the SQL also sees the former image.
    pub fn project(&mut self) -> Result<(), Stop> {
        let Some(mut projection) = self.target.projection.take() else {
            return Ok(());
        };
        let result = self.project_by(&mut projection);
        self.target.projection = Some(projection);
        result
    }

    fn project_by(&mut self, projection: &mut Projection) -> Result<(), Stop> {
        let memory = self.intake.memory;
        let mut asked: Vec<(MessageNo, bool)> = Vec::new();
        for message in self.intake.numbers() {
            asked.push((message, false));
            if self.target.changes_key(self.intake.message(message)) {
                asked.push((message, true));
            }
        }
        let inputs: Vec<_> = asked
            .iter()
            .map(|&(number, former)| {
                let kept = self.intake.kept(number);
                input(self.intake.message(number), kept, former, memory)
            })
            .collect();
        let error = match subtransaction(|| projection.run(&inputs, memory)) {
            Ok(projected) => {
                let projected = Rc::new(projected);
                for (i, &(message, former)) in asked.iter().enumerate() {
                    self.intake.project(message, former, &projected, i);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        // Where every failure fails the call, an error that a message may have caused is located first.
        let of_a_message = blame::may_be_of_a_message(&error);
        if let Err(error) = blame::forgive(error, &self.target.mapping)
            && !of_a_message
        {
            return Err(error.into());
        }
        // Each message has a subtransaction of its own: a rollback frees the results of all statements in
        // it.
        for (i, &(message, former)) in asked.iter().enumerate() {
            if self.ledger.outcome(message).is_some() {
                continue;
            }
            match subtransaction(|| projection.run(&inputs[i..=i], memory)) {
                Ok(projected) => self.intake.project(message, former, &Rc::new(projected), 0),
                Err(error) => {
                    let (columns, destination) = (&self.target.columns, &self.target.destination);
                    let error = projection.locate(error, &inputs[i], columns, destination, memory);
                    self.fail(message, error)?;
                }
            }
        }
        Ok(())
    }
}

/// The parts of a message for the mapping's SQL, with the values that the message does not repeat.
pub(super) fn input<'a>(
    message: &Message<'a>,
    kept: Option<&Kept<'a>>,
    former: bool,
    memory: &'a Bump,
) -> Input<'a> {
    let record = kept.and_then(|kept| kept.record).unwrap_or(message.record);
    let record = if former {
        Json::Text(memory.alloc_str(&overlay(record, message.changes)))
    } else {
        record
    };
    Input {
        position: message.position,
        record,
        changes: message.changes,
        metadata: message.metadata,
        action: message.action.as_str(),
    }
}

/// The JSON text of a record, overlaid with the former values.
pub(super) fn overlay(record: Json<'_>, changes: Option<Json<'_>>) -> String {
    super::values::object(record.members().map(|(key, value)| {
        let former = changes.and_then(|changes| changes.get(&key));
        (key, former.unwrap_or(value))
    }))
}
