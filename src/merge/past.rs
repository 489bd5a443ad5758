//! Changes that are stale whatever they bring.

#![forbid(unsafe_code)]

use std::cmp::Ordering;

use super::state::{Event, Stamp, State};

impl State {
    /// Whether a change with this stamp is surely stale, and leaves nothing to remember. It is told without what the
    /// change brings, and it stays true: a state only gets newer. `false`: only [`Self::apply`] can tell.
    pub fn is_past(&self, event: Event, stamp: &Stamp) -> bool {
        let newest = match self.present {
            true => self.row,
            false => self.gone.map(|gone| gone.stamp),
        };
        let Some(newest) = newest else {
            return false;
        };
        let indexed = |stamp: &Stamp| stamp.version.is_some_and(|v| v.index().is_some());
        let ordered = stamp.source == newest.source && indexed(stamp) && indexed(&newest);
        // Rows of one transaction are told apart by their images.
        let apart =
            |other: &Stamp| !stamp.same_transaction(other) || stamp.version == other.version;
        if !ordered
            || event == Event::Read
            || stamp.compare(&newest) == Ordering::Greater
            || !apart(&newest)
        {
            return false;
        }
        if !self.present {
            return true;
        }
        let gone = self.gone.map(|gone| gone.stamp);
        let known = match event.removes() {
            // A departure under the row is remembered while there are gaps to be filled.
            true => !self.has_gaps(),
            false => *stamp == newest || !self.cells.iter().any(|cell| cell.lacks(stamp)),
        };
        known && self.read_at.is_none() && gone.is_none_or(|gone| apart(&gone))
    }
}
