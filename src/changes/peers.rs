//! Rows of other mappings: those that write the same columns, this mapping does not delete.

#![forbid(unsafe_code)]

use std::rc::Rc;

use super::Changes;
use super::keyed::Run;
use crate::guard::stored::{Stored, have_entries};
use crate::key;
use crate::mapping::check::Sharer;
use crate::outcome::Outcome;
use crate::pg::unique_scan::Sees;

impl Changes<'_> {
    /// Whether the row that a change (number `change` of its run) removes did not come by this mapping, and is that of
    /// another one, or may be: a filter refuses the rows of others.
    pub(super) fn removes_of_others(&self, run: Run, change: u32, stored: Option<&Stored>) -> bool {
        let peers = &self.target.shared.peers;
        let is_own = stored.is_some_and(|it| it.has_version_row && it.state.present);
        if peers.is_empty() || is_own {
            return false;
        }
        let change = self.keyed.change(change);
        change.refused || self.is_refused(change.message) || self.is_of(peers, run)
    }

    /// The outcome of a message that would have removed a row of others.
    pub(super) fn outcome_of_others(&self, change: u32, stored: Option<&Stored>) -> Outcome {
        match stored {
            _ if self.keyed.change(change).refused => Outcome::Filtered,
            Some(stored) if stored.exists => Outcome::Ignored,
            _ => Outcome::Deleted,
        }
    }

    /// Whether one of these mappings has the row, committed or not.
    pub(super) fn is_of(&self, others: &[Rc<Sharer>], run: Run) -> bool {
        others.iter().any(|other| {
            let key = self.key_of_other(other, run);
            have_entries(other.mapping, &[&key], Sees::Dirty, true) == [true]
        })
    }

    /// The key of a row as another mapping notes it.
    pub fn key_of_other(&self, other: &Sharer, run: Run) -> Vec<u8> {
        let mut key = Vec::new();
        let values = self.keyed.key_values(run.start);
        key::encode_in_order(&self.target.key_encoding, values, &other.key, &mut key);
        key
    }
}
