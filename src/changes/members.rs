//! Members of documents whose values are older than the row. An update that brings only a part of a document says of each
//! other member that it is unchanged: as a column, the member is a gap then.

#![forbid(unsafe_code)]

use super::Changes;
use super::keyed::Run;
use super::said::Said;
use crate::json::Json;
use crate::mapping::versions::VersionsIn;
use crate::merge::{Cell, Provided, State, Value};
use crate::message::{Field, Message};
use crate::target::column::{Member, Slot};

/// A document, or a part of one.
pub(super) struct Document<'m> {
    pub members: Vec<(&'m str, Json<'m>)>,
    /// Whether the document has no other members: it replaces the stored one.
    pub whole: bool,
}

impl<'a> Changes<'a> {
    /// Adds cells for the members of documents that need some: those that are older than the stored row, then those
    /// of which a change says nothing.
    pub(super) fn add_members(&self, said: &mut Said<'a>, run: Run) {
        let stored = self.examined.stored.get(&run.start);
        let mut members = stored.map_or_else(Vec::new, |stored| stored.members.clone());
        for (id, slots) in said.slots.iter().enumerate() {
            let partial = |(_, slot): &(usize, &Slot<'_>)| matches!(slot, Slot::Partial);
            for (column, _) in slots.iter().enumerate().filter(partial) {
                for name in self.left_out(said, id as u32) {
                    let is_it = |m: &Member| m.column == column && m.name == name;
                    if !members.iter().any(is_it) {
                        let name = name.to_owned();
                        members.push(Member { column, name });
                    }
                }
            }
        }
        for id in 0..said.changes.len() {
            let provided: Vec<Provided> = members
                .iter()
                .map(|member| self.provides(said, id as u32, member))
                .collect();
            said.provided[id].extend(provided);
        }
        said.members = members;
    }

    /// The names of the members of which a change says nothing: see [`crate::target::Target::leaves_out`].
    fn left_out(&self, said: &Said<'a>, id: u32) -> impl Iterator<Item = &'a str> {
        let message = self.message_of(said, id);
        let fields = self.intake.fields(message).iter();
        fields
            .filter(move |field| self.target.leaves_out(message, field))
            .map(|field| field.key)
    }

    /// What a change says of a member.
    pub(super) fn provides(&self, said: &Said<'a>, id: u32, member: &Member) -> Provided {
        match said.slots[id as usize][member.column] {
            Slot::Partial => {
                let message = self.message_of(said, id);
                match self.member(message, &member.name) {
                    None => Provided::Nothing,
                    Some(field) if self.target.leaves_out(message, field) => Provided::Unchanged,
                    Some(_) => Provided::Value,
                }
            }
            // The document has the member's value, or lacks the member.
            Slot::Json(_) => Provided::Value,
            _ => Provided::Nothing,
        }
    }

    /// The document in `column`, or the part of it that the changes bring: of the change that decided it, what the change
    /// repeats, and of the other members what was decided for each. `before` is the stored state, if the row stays the
    /// same row. `None`: nothing of the document changes.
    pub(super) fn document<'m>(
        &self,
        said: &'m Said<'a>,
        column: usize,
        cells: &[Cell],
        before: Option<&State>,
    ) -> Option<Document<'m>> {
        let decided = cells[column].value;
        let mut members: Vec<(&'m str, Json<'m>)> = Vec::new();
        let mut whole = false;
        if let Value::Of(id) = decided {
            let message = self.message_of(said, id);
            let fields = self.intake.fields(message);
            self.target.collect(message, fields, &mut members);
            whole = true;
        }
        let width = self.target.columns.len();
        let own = said.members.iter().zip(&cells[width..]).enumerate();
        for (i, (member, cell)) in own.filter(|(_, (member, _))| member.column == column) {
            match cell.value {
                Value::Of(_) if cell.value == decided => {}
                Value::Of(id) => {
                    let field = self.member(self.message_of(said, id), &member.name);
                    members.extend(field.map(|field| (field.key, field.value)));
                }
                Value::Stored => whole = false,
                // The stored value turned out to belong to another row, or there is none.
                Value::Unknown => match before {
                    Some(before) if before.cells[width + i].value != Value::Unknown => {
                        members.push((member.name.as_str(), Json::Text("null")));
                    }
                    Some(_) => {}
                    // Without a guard, the stored document may have it.
                    None => whole &= self.target.versions != VersionsIn::Nowhere,
                },
            }
        }
        (whole || !members.is_empty()).then_some(Document { members, whole })
    }

    pub(super) fn message_of(&self, said: &Said<'a>, id: u32) -> &'a Message<'a> {
        let change = self.keyed.change(said.change_no(id));
        self.intake.message(change.message)
    }

    pub(super) fn member(&self, message: &'a Message<'a>, name: &str) -> Option<&'a Field<'a>> {
        let fields = self.intake.fields(message).iter();
        let mut fields = fields.filter(|field| field.key == name);
        // As in jsonb, the last one counts.
        fields.next_back()
    }
}

/// The state with a cell for each of the members. A member is as old as its document, unless the state tells.
pub(super) fn with_members(mut state: State, width: usize, members: &[Member]) -> State {
    for member in members.iter().skip(state.cells.len() - width) {
        let cell = state.cells[member.column];
        state.cells.push(cell);
    }
    state
}
