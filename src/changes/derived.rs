//! Columns of SQL whose value is made of values of several ages.
//!
//! An expression has been evaluated over the values that were known when the batch came. Where the rule
//! takes members of a row from several changes, or from the stored row, the expression is evaluated once more, over the row as
//! it is to be.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::Changes;
use super::kept::{Members, Rows};
use super::keyed::Run;
use super::members::with_members;
use super::project::input;
use super::repeated::repetitions;
use super::said::Said;
use super::values::object;
use crate::json::Json;
use crate::mapping::versions::VersionsIn;
use crate::merge::{Cell, State, Value, commit_order};
use crate::outcome::MessageNo;
use crate::pg::subtransaction::subtransaction;
use crate::stop::Stop;
use crate::target::column::{Member, Slot, Source};
use crate::target::projection::{Input, Projection};

impl<'a> Changes<'a> {
    /// Evaluates SQL of columns again whose values are older than their rows.
    pub fn derive(&mut self, runs: &[Run]) -> Result<(), Stop> {
        if self.target.versions == VersionsIn::Nowhere {
            return Ok(());
        }
        let Some(mut projection) = self.target.projection.take() else {
            return Ok(());
        };
        let result = self.derive_by(runs, &mut projection);
        self.target.projection = Some(projection);
        result
    }

    fn derive_by(&mut self, runs: &[Run], projection: &mut Projection) -> Result<(), Stop> {
        let runs: Vec<Run> = runs
            .iter()
            .copied()
            .filter(|run| self.is_mixed(*run))
            .collect();
        if runs.is_empty() {
            return Ok(());
        }
        let keys = runs.iter().map(|run| {
            let values = self.keyed.key_values(run.start).to_vec();
            let key = (self.keyed.key(run.start).to_vec(), values);
            (MessageNo(run.start), (key, None))
        });
        let keys: HashMap<_, _> = keys.collect();
        let rows = self.stored_rows(&keys)?;
        let mut asked = Vec::new();
        for run in runs {
            asked.extend(self.mixed_records(run, &rows));
        }
        let memory = self.intake.memory;
        for (number, record) in asked {
            let message = self.intake.message(number);
            let record = Json::Text(memory.alloc_str(&record));
            let input = [Input {
                record,
                ..input(message, None, false, memory)
            }];
            // What is written in a set that fails is written again.
            match subtransaction(|| Ok(projection.run(&input, memory)?.copied())) {
                Ok(projected) => self.intake.project(number, false, &Rc::new(projected), 0),
                Err(error) => {
                    let (columns, destination) = (&self.target.columns, &self.target.destination);
                    let error = projection.locate(error, &input[0], columns, destination, memory);
                    self.fail(number, error)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a column of SQL may be made of values of several ages.
    fn is_mixed(&self, run: Run) -> bool {
        let kept = |i: u32| {
            let kept = self.intake.kept(self.keyed.change(i).message);
            kept.is_some_and(|kept| !kept.derived.is_empty())
        };
        let stored = self.examined.stored.get(&run.start);
        let has_gap = || {
            stored.is_some_and(|stored| {
                let cells = stored.state.cells.iter().zip(&self.target.columns);
                let mut sql = cells.filter(|(_, column)| matches!(column.source, Source::Sql(_)));
                sql.any(|(cell, _)| cell.gap.is_some() || cell.value == Value::Unknown)
            })
        };
        run.changes().any(kept) || has_gap()
    }

    /// The messages whose SQL is to be evaluated again, each with the record that it then sees.
    fn mixed_records(&mut self, run: Run, rows: &Rows<'a>) -> Vec<(MessageNo, String)> {
        let said = self.read_changes(run, &mut Vec::new());
        if said.changes.is_empty() {
            return Vec::new();
        }
        let cells = self.merged_cells(run, &said);
        let mut again = BTreeSet::new();
        for (column, cell) in cells.iter().take(self.target.columns.len()).enumerate() {
            if let Value::Of(id) = cell.value
                && match said.slots[id as usize][column] {
                    Slot::Derived(_) => true,
                    Slot::Sql(_) => cell.gap.is_some(),
                    _ => false,
                }
            {
                again.insert(id);
            }
        }
        let stored = rows.get(self.keyed.key(run.start));
        let number = |id: u32| self.keyed.change(said.change_no(id)).message;
        let again = again.into_iter();
        again
            .map(|id| (number(id), self.mixed_record(&said, id, &cells, stored)))
            .collect()
    }

    /// The cells of the row as the rule leaves them.
    fn merged_cells(&self, run: Run, said: &Said<'a>) -> Vec<Cell> {
        let width = self.target.columns.len();
        let stored = self.examined.stored.get(&run.start);
        let before = stored.map_or_else(|| State::unknown(width), |stored| stored.state.clone());
        let before = with_members(before, width, &said.members);
        let mut changes = said.changes(&self.keyed);
        commit_order(&mut changes, |change| said.change_no(change.id) as usize);
        let mut state = before.clone();
        let repeated = repetitions(&changes, &before);
        for (change, _) in changes.iter().zip(repeated).filter(|(_, again)| !again) {
            state.apply(change, self.intake.call.read_skew);
        }
        state.cells
    }

    /// The record of a change, with the members that the row is to have. Members that no column keeps are those that the
    /// change was seen with.
    fn mixed_record(
        &self,
        said: &Said<'a>,
        id: u32,
        cells: &[Cell],
        stored: Option<&Members<'a>>,
    ) -> String {
        let message = self.message_of(said, id);
        let number = self.keyed.change(said.change_no(id)).message;
        let seen = self.intake.kept(number).and_then(|kept| kept.record);
        let seen = seen.unwrap_or(message.record);
        let document = self
            .target
            .columns
            .iter()
            .position(|c| c.document.is_some());
        let cell = |name: &str| {
            let mut columns = self.target.columns.iter();
            let own = columns.position(|c| matches!(&c.source, Source::Field(n) if n == name));
            let member = |column| {
                let is_it = |m: &Member| m.column == column && m.name == name;
                let own = said.members.iter().position(is_it);
                own.map_or(column, |member| self.target.columns.len() + member)
            };
            own.or_else(|| document.map(member)).map(|i| cells[i].value)
        };
        let of = |id: u32, name: &str| {
            let message = self.message_of(said, id);
            let field = self.member(message, name)?;
            (!self.target.leaves_out(message, field)).then_some(field.value)
        };
        let mut names: Vec<String> = seen.members().map(|(name, _)| name.into_owned()).collect();
        for name in stored.into_iter().flat_map(HashMap::keys) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let members = names.into_iter().filter_map(|name| {
            let value = match cell(&name) {
                Some(Value::Of(other)) if other != id => of(other, &name),
                Some(Value::Stored) => stored.and_then(|row| row.get(&name)).copied(),
                _ => None,
            };
            let value = value.or_else(|| seen.get(&name))?;
            Some((name, value))
        });
        object(members)
    }
}
