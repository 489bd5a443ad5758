//! The outcome of each message of a mapping. The notes of an attempt are undone with its subtransaction.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use super::keyed::Keyed;
use super::net::NetChange;
use crate::outcome::{Failure, MessageNo, Outcome};

/// The outcomes of messages, and the failures among them.
pub struct Ledger {
    outcomes: Vec<Option<Outcome>>,
    /// The messages that failed.
    pub failures: Vec<Failure>,
    /// Messages whose row was found at its old key, and deleted there.
    left: HashSet<MessageNo>,
    /// The notes since the outermost open attempt began, in order. The undo goes backwards.
    journal: Vec<Undo>,
    attempts: usize,
}

/// How to undo one note.
enum Undo {
    Outcome(MessageNo, Option<Outcome>),
    Left(MessageNo),
}

/// Where an attempt began.
#[must_use]
pub struct Mark {
    journal: usize,
    failures: usize,
}

impl Ledger {
    /// A ledger for this number of messages, without outcomes.
    pub fn new(messages: usize) -> Ledger {
        Ledger {
            outcomes: vec![None; messages],
            failures: Vec::new(),
            left: HashSet::new(),
            journal: Vec::new(),
            attempts: 0,
        }
    }

    /// The outcome of a message so far.
    pub fn outcome(&self, message: MessageNo) -> Option<Outcome> {
        self.outcomes[message.index()]
    }

    /// The outcomes of all messages so far, by message number.
    pub fn outcomes(&self) -> &[Option<Outcome>] {
        &self.outcomes
    }

    /// The messages without an outcome.
    pub fn missing(&self) -> Vec<MessageNo> {
        let numbers = (0..self.outcomes.len() as u32).map(MessageNo);
        numbers.filter(|no| self.outcome(*no).is_none()).collect()
    }

    /// Whether a message failed.
    pub fn is_dead(&self, message: MessageNo) -> bool {
        self.outcome(message) == Some(Outcome::Dead)
    }

    /// Notes the outcome of a message.
    pub fn set(&mut self, message: MessageNo, outcome: Outcome) {
        self.put(message, Some(outcome));
    }

    fn put(&mut self, message: MessageNo, outcome: Option<Outcome>) {
        let before = std::mem::replace(&mut self.outcomes[message.index()], outcome);
        if self.attempts > 0 && before != outcome {
            self.journal.push(Undo::Outcome(message, before));
        }
    }

    /// Notes that a message failed.
    pub fn fail(&mut self, failure: Failure) {
        self.set(failure.message, Outcome::Dead);
        self.failures.push(failure);
    }

    /// Forgets the failures of waiting messages, and returns them.
    pub fn revive(&mut self) -> Vec<Failure> {
        let failures = std::mem::take(&mut self.failures);
        let (waiting, dead): (Vec<_>, Vec<_>) = failures
            .into_iter()
            .partition(|failure| failure.wait.is_some());
        self.failures = dead;
        for failure in &waiting {
            self.put(failure.message, None);
        }
        waiting
    }

    /// Begins an attempt, which [`Self::end`] ends. The newest attempt ends first.
    pub fn begin(&mut self) -> Mark {
        self.attempts += 1;
        Mark {
            journal: self.journal.len(),
            failures: self.failures.len(),
        }
    }

    /// Ends an attempt. The notes of an attempt that is not kept are undone.
    pub fn end(&mut self, mark: Mark, kept: bool) {
        self.attempts -= 1;
        if !kept {
            self.undo(mark);
        } else if self.attempts == 0 {
            self.journal.clear();
        }
    }

    fn undo(&mut self, mark: Mark) {
        for undo in self.journal.drain(mark.journal..).rev() {
            match undo {
                Undo::Outcome(message, before) => self.outcomes[message.index()] = before,
                Undo::Left(message) => {
                    self.left.remove(&message);
                }
            }
        }
        self.failures.truncate(mark.failures);
    }

    /// Notes the outcome of a change's message, unless the change is the departure from the row's old key.
    pub fn note(&mut self, keyed: &Keyed, change: u32, outcome: Outcome) {
        if !keyed.leaves(change) {
            self.set(keyed.change(change).message, outcome);
        }
    }

    /// Notes the outcome of the message that decided `net`, unless the message's row left the key of `net`.
    /// A filtered message whose row was deleted at its old key counts as deleted.
    pub fn settle(&mut self, keyed: &Keyed, net: &NetChange, outcome: Outcome) {
        if keyed.has_left(net.run, net.message) {
            return;
        }
        let moved = outcome == Outcome::Filtered && self.left.contains(&net.message);
        self.set(net.message, if moved { Outcome::Deleted } else { outcome });
    }

    /// Notes that the stored row is newer than `net`: all its changes are stale.
    pub fn settle_stale(&mut self, keyed: &Keyed, net: &NetChange) {
        for i in net.run.changes() {
            let message = keyed.change(i).message;
            if self.outcome(message) == Some(Outcome::Collapsed) {
                self.set(message, Outcome::Stale);
            }
        }
        self.settle(keyed, net, Outcome::Stale);
    }

    /// If `net` is a departure: notes that the row was found at its old key, and deleted there.
    pub fn note_left(&mut self, keyed: &Keyed, net: &NetChange) {
        if !keyed.has_left(net.run, net.message) {
            return;
        }
        if self.left.insert(net.message) && self.attempts > 0 {
            self.journal.push(Undo::Left(net.message));
        }
        if self.outcome(net.message) == Some(Outcome::Filtered) {
            self.set(net.message, Outcome::Deleted);
        }
    }

    /// Restores outcomes after rows were written once more. A message that decided a row in `before` is not
    /// stale only because its own change is stored now.
    pub fn ignore_rewrites(&mut self, before: &[Option<Outcome>]) {
        for (i, before) in before.iter().enumerate() {
            let stale = self.outcomes[i] == Some(Outcome::Stale);
            if stale && matches!(before, Some(Outcome::Upserted | Outcome::Deleted)) {
                self.put(MessageNo(i as u32), *before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_attempt_noted_is_undone_with_it() {
        let mut ledger = Ledger::new(3);
        let [a, b, c] = [0, 1, 2].map(MessageNo);
        ledger.set(a, Outcome::Collapsed);
        let outer = ledger.begin();
        ledger.set(a, Outcome::Stale);
        let inner = ledger.begin();
        ledger.set(a, Outcome::Upserted);
        ledger.set(b, Outcome::Deleted);
        ledger.fail(Failure {
            message: c,
            error: crate::error::SqlError::default(),
            wait: None,
        });
        ledger.end(inner, false);
        assert_eq!(ledger.outcome(a), Some(Outcome::Stale));
        assert_eq!(ledger.missing(), [b, c]);
        assert!(ledger.failures.is_empty());
        let kept = ledger.begin();
        ledger.set(b, Outcome::Upserted);
        ledger.end(kept, true);
        assert_eq!(ledger.outcome(b), Some(Outcome::Upserted));
        // The attempt around a kept attempt still undoes the notes of both.
        ledger.end(outer, false);
        assert_eq!(ledger.outcome(a), Some(Outcome::Collapsed));
        assert_eq!(ledger.missing(), [b, c]);
    }

    #[test]
    fn waiting_messages_are_revived_and_dead_ones_are_not() {
        let mut ledger = Ledger::new(2);
        for (i, wait) in [None, Some(crate::outcome::Wait::Unknown)]
            .into_iter()
            .enumerate()
        {
            ledger.fail(Failure {
                message: MessageNo(i as u32),
                error: crate::error::SqlError::default(),
                wait,
            });
        }
        let revived = ledger.revive();
        assert_eq!(revived.len(), 1);
        assert!(ledger.is_dead(MessageNo(0)) && !ledger.is_dead(MessageNo(1)));
        assert_eq!(ledger.failures.len(), 1);
    }
}
