//! Folds the changes of one row into its net change and casts the values. Where "the newer wins" does not
//! settle the row, the stored state has been loaded before, and [`crate::merge`]'s rule decides.

#![forbid(unsafe_code)]

use std::rc::Rc;

use super::Changes;
use super::keyed::Run;
use super::members::with_members;
use super::net::{Guarded, NetChange, NetEffect, Unit, ValueRow};
use super::repeated::repetitions;
use super::said::Said;
use crate::column_set::ColumnSet;
use crate::error::SqlError;
use crate::guard::stored::Stored;
use crate::mapping::OnDelete;
use crate::mapping::versions::VersionsIn;
use crate::merge::{self, Cell, Change, Effect, Event, Stamp, State, Value};
use crate::message::Version;
use crate::outcome::{MessageNo, Outcome};
use crate::stop::Stop;
use crate::target::column::Slot;

/// A message that fails, and why.
type MessageError = (MessageNo, SqlError);

/// The result of the rule for the changes of one row.
struct Merged {
    before: State,
    state: State,
    /// The change that decided, or else the last change that filled a gap.
    news: Option<u32>,
    /// Whether a change removed the row, even if a later change brought the row back.
    removed: bool,
    /// With soft deletes: the cells of the row before its last removal, if that was a delete.
    last_cells: Option<Vec<Cell>>,
}

impl<'a> Changes<'a> {
    /// Makes the net changes of all rows.
    pub fn fold_all(&mut self, runs: Vec<Run>) -> Result<(), Stop> {
        let mut nets = Vec::with_capacity(runs.len());
        self.nets.values.reserve(runs.len());
        let mut slots = Vec::new();
        // When a message fails, an older message of its row may decide instead: the run is folded once
        // more.
        let mut pending = runs;
        while !pending.is_empty() {
            let mut again = Vec::new();
            self.each(pending.len(), |changes, i| {
                match changes.fold(pending[i], &mut slots) {
                    Ok(net) => nets.extend(net),
                    Err(error) => {
                        again.push(pending[i]);
                        return Err(error);
                    }
                }
                Ok(())
            })?;
            pending = again;
        }
        nets.sort_by_key(|net| net.run);
        self.nets.list = Rc::new(nets);
        Ok(())
    }

    /// The net change of a row without the messages that failed; `None` if nothing is left.
    pub fn fold_again(&mut self, run: Run) -> Result<Option<NetChange>, Stop> {
        let mut folded = None;
        let mut slots = Vec::new();
        loop {
            let mut failed = false;
            self.each(1, |changes, _| match changes.fold(run, &mut slots) {
                Ok(net) => {
                    folded = net;
                    Ok(())
                }
                Err(error) => {
                    failed = true;
                    Err(error)
                }
            })?;
            if !failed {
                return Ok(folded);
            }
        }
    }

    /// Folds those units again whose stored states have been loaded since.
    pub fn fold_examined(&mut self, units: Vec<Unit>) -> Result<Vec<Unit>, Stop> {
        let nets = units.iter().flat_map(Unit::nets);
        let loaded = nets
            .filter(|net| net.is_unexamined() && self.examined.stored.contains_key(&net.run.start));
        let runs: Vec<Run> = loaded.map(|net| net.run).collect();
        self.derive(&runs)?;
        let mut again = Vec::with_capacity(units.len());
        for unit in units {
            let mut nets = Vec::with_capacity(2);
            for net in unit.into_nets() {
                let loaded = self.examined.stored.contains_key(&net.run.start);
                match net.is_unexamined() && loaded {
                    true => nets.extend(self.fold_again(net.run)?),
                    false => nets.push(net),
                }
            }
            again.extend(Unit::of(nets));
        }
        Ok(again)
    }

    /// Folds the changes of one row into its net change, and casts the values. `slots` is a buffer.
    fn fold(
        &mut self,
        run: Run,
        slots: &mut Vec<Slot<'a>>,
    ) -> Result<Option<NetChange>, MessageError> {
        if run.len() == 1 && !self.examined.stored.contains_key(&run.start) {
            return self.fold_one(run, slots);
        }
        let said = self.read_changes(run, slots);
        if said.changes.is_empty() {
            return Ok(None);
        }
        let mut changes = said.changes(&self.keyed);
        let arrival = self.target.versions == VersionsIn::Nowhere;
        if arrival {
            in_arrival_order(&mut changes);
        } else {
            merge::commit_order(&mut changes, |change| said.change_no(change.id) as usize);
        }
        let stored = self.examined.stored.get(&run.start).cloned();
        let merged = self.merge(run, &said, &changes, stored.as_ref());
        let changed = merged.state != merged.before;
        // Even if no change decided, the state may differ: the changes can show that the row is the
        // departed one, or that its values belong to an earlier row.
        if merged.news.is_none() && !changed {
            return Ok(None);
        }
        self.net(run, &said, merged, stored).map(Some)
    }

    /// Applies the rule. Notes the outcomes of the changes that did not decide.
    fn merge(
        &mut self,
        run: Run,
        said: &Said<'a>,
        changes: &[Change<'_>],
        stored: Option<&Stored>,
    ) -> Merged {
        let width = self.target.columns.len();
        let before = match stored {
            Some(stored) => stored.state.clone(),
            None => State::unknown(width),
        };
        let before = with_members(before, width, &said.members);
        let mut state = before.clone();
        let (mut decided, mut filled) = (None, None);
        let soft = self.target.mapping.on_delete == OnDelete::Soft;
        let mut last_cells = None;
        let mut removed = false;
        let repeated = repetitions(changes, &before);
        for (change, repeated) in changes.iter().zip(repeated) {
            if repeated {
                let number = said.change_no(change.id);
                self.ledger.note(&self.keyed, number, Outcome::Stale);
                continue;
            }
            let cells = (soft && state.present).then(|| state.cells.clone());
            let number = said.change_no(change.id);
            match state.apply(change, self.intake.call.read_skew) {
                Effect::Decided => {
                    if !state.present {
                        removed = true;
                        // A row that has moved is not deleted: it has its values at its new key.
                        last_cells = match self.keyed.leaves(number) {
                            true => None,
                            false => cells.or(last_cells),
                        };
                    }
                    if let Some(older) = decided.replace(change.id) {
                        let older = said.change_no(older);
                        self.ledger.note(&self.keyed, older, Outcome::Collapsed);
                    }
                }
                Effect::Filled => {
                    filled = Some(change.id);
                    self.ledger.note(&self.keyed, number, Outcome::Upserted);
                }
                Effect::Stale => self.ledger.note(&self.keyed, number, Outcome::Stale),
            }
        }
        if stored.is_some() && !self.leaves_later(run, &state) {
            merge::forget_plain_image(&mut state, &before, changes, |id| {
                let message = self.keyed.change(said.change_no(id)).message;
                self.target.changes_key(self.intake.message(message))
            });
        }
        Merged {
            before,
            state,
            news: decided.or(filled),
            removed,
            last_cells,
        }
    }

    /// Whether the row goes in the transaction that brought it, by a message that has failed. When that message is written,
    /// the image tells that it is this row which goes: its values may not, if it gives some of them up meanwhile.
    fn leaves_later(&self, run: Run, state: &State) -> bool {
        let Some(row) = state.row else { return false };
        run.changes().any(|i| {
            let change = self.keyed.change(i);
            change.event.image_gone().is_some()
                && change.stamp.same_transaction(&row)
                && self.ledger.is_dead(change.message)
        })
    }

    /// Makes the net change from the result of the rule.
    fn net(
        &mut self,
        run: Run,
        said: &Said<'a>,
        merged: Merged,
        stored: Option<Stored>,
    ) -> Result<NetChange, MessageError> {
        let number = said.change_no(merged.news.unwrap_or(0));
        let change = *self.keyed.change(number);
        let row = self.start_row(number);
        // A row that is only marked as deleted keeps the last values that the batch has for it.
        let has_news = |cells: &[Cell]| cells.iter().any(|c| matches!(c.value, Value::Of(_)));
        let marked = merged.last_cells.as_deref();
        let marked = marked.filter(|cells| !merged.state.present && has_news(cells));
        // A row that other mappings still have is not marked.
        let marked = marked.filter(|_| !self.is_of(&self.target.shared.sharers, run));
        let present = merged.state.present;
        let of_others = !present && self.removes_of_others(run, number, stored.as_ref());
        if of_others {
            let outcome = self.outcome_of_others(number, stored.as_ref());
            self.ledger.note(&self.keyed, number, outcome);
        }
        let arrival = self.target.versions == VersionsIn::Nowhere;
        let (mut touched, mut effect) = (
            !of_others && (merged.news.is_some() || merged.before.present != present),
            NetEffect::Delete {
                refused: change.refused,
            },
        );
        let marked = marked.filter(|_| !of_others);
        let cells = if present {
            Some(merged.state.cells.as_slice())
        } else {
            marked
        };
        if let Some(cells) = cells {
            let stays = merged.before.present && present && !merged.removed;
            let before = stays.then_some(&merged.before);
            let (mut columns, mut merges) = self.put_merged(row, number, said, cells, before)?;
            let mut lost = self.lost_values(&merged);
            if stored.as_ref().is_some_and(|stored| stored.exists) {
                lost.extend(self.values_of_marked_row(&merged));
            }
            touched |= !lost.is_empty() || merges != ColumnSet::new();
            for column in lost {
                columns.add(column);
            }
            let soft = self.target.mapping.on_delete == OnDelete::Soft;
            if merged.removed && (stored.is_some() || arrival) {
                // The stored document is of a row that is gone.
                merges = ColumnSet::new();
            }
            let (state, before) = (&merged.state, &merged.before);
            if before.present && (state.row, state.read_at) == (before.row, before.read_at) {
                // The stored row has the key as a newer change spells it.
                self.target.spelled_key().for_each(|i| merges.add(i));
            }
            let whole = columns.has_all(self.target.columns.len());
            effect = match present {
                true => NetEffect::Write {
                    columns,
                    merges,
                    replaces: merged.removed && !whole && !soft,
                },
                false => NetEffect::Mark { columns, merges },
            };
        }
        let Merged { state, news, .. } = merged;
        Ok(NetChange {
            run,
            message: change.message,
            outcome: match news {
                None => Outcome::Stale,
                Some(_) if present => Outcome::Upserted,
                Some(_) => Outcome::Deleted,
            },
            effect,
            stamp: if stored.is_none() && !arrival {
                Some(change.stamp)
            } else {
                state.row
            },
            image: state.gone.and_then(|gone| gone.image).filter(|_| !present),
            read_at: state.read_at,
            guarded: match stored {
                Some(stored) => Guarded::Examined {
                    touched,
                    has_version_row: stored.has_version_row,
                    exists: stored.exists,
                    state: Box::new(state),
                    members: said.members.clone(),
                },
                None if arrival => Guarded::No,
                None => Guarded::Change,
            },
            row,
        })
    }

    /// Sets the columns of a row whose values are in the batch. Returns the columns that have a value (the
    /// key's included), and the documents that are laid over the stored ones. The row has the key of change
    /// `number`. `before` is the stored state, if the row stays the same row.
    fn put_merged(
        &mut self,
        row: ValueRow,
        number: u32,
        said: &Said<'a>,
        cells: &[Cell],
        before: Option<&State>,
    ) -> Result<(ColumnSet, ColumnSet), MessageError> {
        // The key identifies the row, whatever value the deciding message has for it.
        let mut columns: ColumnSet = self.target.key.iter().copied().collect();
        let mut merges = ColumnSet::new();
        let width = self.target.columns.len();
        for (column, cell) in cells[..width].iter().enumerate() {
            let (message, slot) = match cell.value {
                Value::Of(id) => {
                    let message = self.keyed.change(said.change_no(id)).message;
                    (message, said.slots[id as usize][column])
                }
                // Only members of the document can have values.
                _ => (self.keyed.change(number).message, Slot::Partial),
            };
            if !matches!(slot, Slot::Partial) {
                self.put(row, column, (message, slot), number, &mut columns)?;
                continue;
            }
            let Some(document) = self.document(said, column, cells, before) else {
                continue;
            };
            self.put_document(row, column, message, &document.members)?;
            columns.add(column);
            if !document.whole {
                merges.add(column);
            }
        }
        Ok((columns, merges))
    }

    /// The nullable columns whose stored values turned out to belong to another row. The caller sets them
    /// to null.
    fn lost_values(&self, merged: &Merged) -> Vec<usize> {
        let (before, state) = (&merged.before, &merged.state);
        if !before.present || !state.present {
            return Vec::new();
        }
        let cells = state.cells.iter().zip(&before.cells).enumerate();
        let columns = cells.take(self.target.columns.len());
        columns
            .filter(|(column, (now, before))| {
                now.value == Value::Unknown
                    && before.value != Value::Unknown
                    && self.target.columns[*column].nullable
            })
            .map(|(column, _)| column)
            .collect()
    }

    /// The nullable columns of which a read cannot tell the values in a row that it brings back. With soft deletes,
    /// the stored row still has the values from before its delete.
    fn values_of_marked_row(&self, merged: &Merged) -> impl Iterator<Item = usize> {
        let back = !merged.before.present && merged.state.present;
        let width = self.target.columns.len();
        let cells = merged.state.cells.iter().take(width).enumerate();
        let cells = cells.filter(move |_| back);
        let unknown = cells.filter(|(column, cell)| {
            let column = &self.target.columns[*column];
            cell.lacked
                && cell.value == Value::Stored
                && column.nullable
                && (column.unreadable || self.target.told.is_unreadable(&column.source))
        });
        unknown.map(|(column, _)| column)
    }

    /// The net change of a row that has only one change.
    fn fold_one(
        &mut self,
        run: Run,
        slots: &mut Vec<Slot<'a>>,
    ) -> Result<Option<NetChange>, MessageError> {
        let number = run.start;
        let change = *self.keyed.change(number);
        if self.ledger.is_dead(change.message) {
            return Ok(None);
        }
        let present = !change.event.removes();
        let row = self.start_row(number);
        let effect = if present {
            let (columns, merges) = self.put_all(row, number, slots)?;
            NetEffect::Write {
                columns,
                merges,
                replaces: false,
            }
        } else {
            NetEffect::Delete {
                refused: change.refused,
            }
        };
        let read = change.event == Event::Read;
        Ok(Some(NetChange {
            run,
            message: change.message,
            outcome: if present {
                Outcome::Upserted
            } else {
                Outcome::Deleted
            },
            effect,
            stamp: (!read).then_some(change.stamp),
            image: change.event.image_gone(),
            read_at: change.stamp.committed_at.filter(|_| read),
            guarded: match self.target.versions {
                VersionsIn::Nowhere => Guarded::No,
                _ if read => Guarded::Read,
                _ => Guarded::Change,
            },
            row,
        }))
    }

    /// Sets all columns of a row that a change has values for. Returns these columns, and the documents
    /// among them of which the change brings only a part.
    fn put_all(
        &mut self,
        row: ValueRow,
        number: u32,
        slots: &mut Vec<Slot<'a>>,
    ) -> Result<(ColumnSet, ColumnSet), MessageError> {
        let (mut columns, mut merges) = (ColumnSet::new(), ColumnSet::new());
        let number_of_message = self.keyed.change(number).message;
        let message = self.intake.message(number_of_message);
        let fields = self.intake.fields(message);
        self.target.read(message, fields, slots);
        self.intake.mask(number_of_message, slots);
        self.take_along(number, slots);
        for (column, &slot) in slots.iter().enumerate() {
            if matches!(slot, Slot::Partial) {
                let mut document = Vec::new();
                self.target.collect(message, fields, &mut document);
                self.put_document(row, column, number_of_message, &document)?;
                columns.add(column);
                merges.add(column);
            } else {
                self.put(row, column, (number_of_message, slot), number, &mut columns)?;
            }
        }
        Ok((columns, merges))
    }
}

/// Without a guard, every change is newer than the changes that arrived before it. The image matters in one
/// case only: a row goes from its key in the transaction in which another row came to this key.
fn in_arrival_order(changes: &mut [Change<'_>]) {
    let mut came = None;
    for (at, change) in changes.iter_mut().enumerate() {
        let transaction = change.stamp.version.map(|version| version.lsn);
        match change.event {
            Event::Read => change.event = Event::Update,
            Event::Delete { .. } | Event::Leave { .. } => {
                if transaction.is_none() || transaction != came {
                    change.event = Event::Delete { image: None };
                }
            }
            Event::Appear | Event::Update => came = transaction,
        }
        change.stamp = Stamp {
            source: 0,
            version: Some(Version {
                lsn: 0,
                idx: at as u32,
            }),
            committed_at: None,
        };
    }
}
