//! Reads what the changes of one row say.

#![forbid(unsafe_code)]

use super::Changes;
use super::keyed::Run;
use super::said::Said;
use crate::image::fingerprint;
use crate::mapping::versions::VersionsIn;
use crate::merge::{Event, Provided};
use crate::target::column::Slot;

impl<'a> Changes<'a> {
    /// Reads the changes of a run, except those of failed messages.
    pub(super) fn read_changes(&mut self, run: Run, slots: &mut Vec<Slot<'a>>) -> Said<'a> {
        let changes: Vec<u32> = run
            .changes()
            .filter(|&i| !self.ledger.is_dead(self.keyed.change(i).message))
            .collect();
        let mut said = Said {
            slots: Vec::with_capacity(changes.len()),
            members: Vec::new(),
            provided: Vec::with_capacity(changes.len()),
            images: Vec::with_capacity(changes.len()),
            differs: Vec::with_capacity(changes.len()),
            changes,
        };
        let arrival = self.target.versions == VersionsIn::Nowhere;
        for &i in &said.changes {
            let change = self.keyed.change(i);
            let message = self.intake.message(change.message);
            let came = matches!(change.event, Event::Appear | Event::Update);
            let image = came.then(|| fingerprint(message.record, None));
            self.target
                .read(message, self.intake.fields(message), slots);
            self.intake.mask(change.message, slots);
            self.take_along(i, slots);
            let provided = slots.iter().map(|slot| match slot.provided() {
                // Without a guard, what comes last wins.
                Provided::Derived if arrival => Provided::Value,
                provided => provided,
            });
            said.provided.push(provided.collect());
            said.slots.push(slots.clone());
            said.images.push(image);
            said.differs.push(self.examined.others.contains(&i));
        }
        self.add_members(&mut said, run);
        said
    }
}
