//! The contents of the changes of one row.

#![forbid(unsafe_code)]

use super::keyed::Keyed;
use crate::merge::{Change, Provided};
use crate::target::column::{Member, Slot};

/// The contents of the changes of one row.
pub(super) struct Said<'a> {
    /// The numbers of the changes. [`Change::id`] is an index into these lists.
    pub(super) changes: Vec<u32>,
    /// For each change, one slot per column.
    pub(super) slots: Vec<Vec<Slot<'a>>>,
    /// The members of documents that have cells of their own, behind the columns.
    pub(super) members: Vec<Member>,
    pub(super) provided: Vec<Vec<Provided>>,
    /// For each change, the fingerprint of its record; `None` for reads, deletes and departures.
    pub(super) images: Vec<Option<u64>>,
    /// For each change, whether it removed another row than the stored one ([`Change::differs`]).
    pub(super) differs: Vec<bool>,
}

impl Said<'_> {
    pub(super) fn change_no(&self, id: u32) -> u32 {
        self.changes[id as usize]
    }

    /// The changes in the form that [`crate::merge`] takes.
    pub(super) fn changes(&self, keyed: &Keyed) -> Vec<Change<'_>> {
        let changes = self.changes.iter().enumerate();
        changes
            .map(|(id, &i)| {
                let change = keyed.change(i);
                Change {
                    id: id as u32,
                    event: change.event,
                    stamp: change.stamp,
                    image: self.images[id],
                    differs: self.differs[id],
                    provided: &self.provided[id],
                }
            })
            .collect()
    }
}
