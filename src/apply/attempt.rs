//! One attempt: lock, prepare, write, store dead letters, count.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys;

use super::attempts::Attempts;
use super::broken::{note_broken, of_all};
use super::drift;
use super::missing::give_up_missing;
use super::prepare::{confirm, prepare};
use super::registry::Registry;
use super::routes::{Kept, Refused, Routes};
use super::settle::write_all;
use crate::changes::intake::Call;
use crate::changes::{Changes, MappingLock};
use crate::counters::Tally;
use crate::dead_letter::circles::circles_of;
use crate::dead_letter::due::{kept_for, rows_of, written};
use crate::dead_letter::retried::{self, Retried};
use crate::dead_letter::superseded::{settle_failures, supersede};
use crate::dead_letter::words::{Words, add_bound};
use crate::dead_letter::{self, Letter, State};
use crate::envelope::{Batch, End, Item};
use crate::error::{Error, SqlError};
use crate::outcome::{Counts, Failed, Failure, Position};
use crate::pg::invalidation;
use crate::pg::overlap::Moment;
use crate::pg::steps::{self, Step};
use crate::pg::turn::Turn;
use crate::pg::user::current_user;
use crate::settings;
use crate::stop::Stop;

/// A message that becomes a letter.
enum Dead<'d> {
    Refused(&'d Refused),
    Failed(&'d Failed),
    Kept(&'d Kept),
}

impl Dead<'_> {
    fn position(&self) -> Position {
        match self {
            Dead::Refused(refused) => refused.position,
            Dead::Failed(failed) => failed.position,
            Dead::Kept(kept) => kept.position,
        }
    }
}

/// Locks the mappings, reads the dead letters to retry, writes all messages, and stores the new dead
/// letters.
pub fn attempt<'a>(
    batch: &mut Batch<'a>,
    own: End,
    mut routes: Routes,
    memory: &'a Bump,
    registry: &mut Registry,
    attempts: &mut Attempts,
) -> Result<Counts, Stop> {
    let mut locked = attempts.mappings.clone();
    locked.extend(routes.taken.keys().map(|i| registry.mappings[*i].id));
    locked.retain(|id| !attempts.aside.contains_key(id));
    let limit = attempts.mapping_limit();
    for id in &locked {
        let _turn = Turn::of(*id);
        if !attempts.beside {
            invalidation::lock_mapping(registry.relation, *id, attempts.exclusive);
        } else if !invalidation::try_lock_mapping(registry.relation, *id) {
            return Err(Error::MappingInUse.into());
        }
    }
    drop(limit);
    if invalidation::has_changed(registry.relation) {
        return Err(Stop::RELOAD);
    }
    registry.see_letters()?;
    let letters = retried::read(&attempts.letters, batch, memory)?;
    for letter in &letters {
        routes.add_letter(letter, batch, registry)?;
    }
    routes.set_aside(&attempts.aside, registry);
    let missing: Vec<i32> = routes
        .taken
        .keys()
        .map(|i| registry.mappings[*i].id)
        .filter(|id| !locked.contains(id))
        .collect();
    if !missing.is_empty() {
        attempts.mappings.extend(missing);
        return Err(Stop::EXCLUSIVE);
    }
    let work = Work {
        batch,
        own: own.items,
        letters,
        routes,
        memory,
    };
    let mut all = Vec::new();
    let result = work.run(registry, attempts, &locked, &mut all);
    for mut changes in all {
        if result.is_err() {
            let suspects = changes.progress.suspects;
            if !suspects.is_empty() {
                let id = changes.target.mapping.id;
                attempts.suspects.insert(id, suspects);
            }
            // The attempt may have stored the home source, and what messages have told, and is undone now.
            changes.target.home = None;
            changes.target.told.forget();
            changes.target.supply.forget();
        }
        registry.put_back(changes.target);
    }
    result
}

/// The work of one attempt.
struct Work<'a, 'b> {
    batch: &'b Batch<'a>,
    /// How many of the batch's items are the call's own. The items after them belong to dead letters.
    own: usize,
    letters: Vec<Retried>,
    routes: Routes,
    memory: &'b Bump,
}

impl<'b> Work<'_, 'b> {
    /// Does the work. Fills `all` with the changes of each mapping, parents first, even if an error ends
    /// the work.
    fn run(
        &self,
        registry: &mut Registry,
        attempts: &mut Attempts,
        locked: &BTreeSet<i32>,
        all: &mut Vec<Changes<'b>>,
    ) -> Result<Counts, Stop> {
        let _limit = attempts.lock_limit();
        self.take(registry, attempts, all)?;
        parents_first(all);
        for changes in all.iter_mut() {
            let _owner = changes.acting_as_owner();
            prepare(changes)?;
            if registry.resyncing.contains(&changes.target.mapping.id) {
                confirm(changes)?;
            }
        }
        steps::before(Step::Write);
        {
            let shown = registry.showing(attempts.only);
            write_all(&shown, attempts, locked, all)?;
        }
        steps::before(Step::Check);
        for changes in all.iter_mut().filter(|changes| changes.has_failed()) {
            // Meanwhile no other call may write a newer change of the row: it would not see the letter.
            changes.take_exclusive()?;
        }
        for changes in all.iter_mut() {
            let undisturbed = changes.require_undisturbed();
            attempts.overtaker = changes.intake.call.overtaker.get();
            undisturbed?;
        }
        if let Some(error) = all.iter().find_map(of_all) {
            return Err(error.into());
        }
        let rows = rows_of(&registry.letters, all);
        if attempts.may_take_along() {
            let (mut due, more) = circles_of(&registry.letters, &rows, &attempts.letters)?;
            attempts.crowded |= more;
            due.retain(|candidate| attempts.may_retry(&registry.mappings, &candidate.due));
            if attempts.has_grown(self.own) {
                attempts.candidates.append(&mut due);
            }
            if !due.is_empty() && attempts.has_time_for(due.len()) {
                attempts.take_along(due, &registry.mappings)?;
                return Err(Stop::EXCLUSIVE);
            }
            if self.replay_kept(registry, attempts, all) {
                return Err(Stop::EXCLUSIVE);
            }
        }
        attempts.wrote = written(rows);
        self.finish(registry, attempts, all)
    }

    /// Adds the letters that were kept while a mapping was paused or broken, now that the mapping works.
    /// They come before the batch. Returns whether there are any.
    fn replay_kept(
        &self,
        registry: &Registry,
        attempts: &mut Attempts,
        all: &[Changes<'b>],
    ) -> bool {
        let mut some = false;
        for mapping in all.iter().map(|changes| &changes.target.mapping) {
            if registry.letters.kept_for(mapping.id) && attempts.replayed.insert(mapping.id) {
                let letters = kept_for(&mapping.name);
                let before = attempts.letters.len();
                attempts.letters.extend(letters);
                some |= attempts.letters.len() > before;
            }
        }
        some
    }

    /// Collects the changes of each mapping.
    fn take(
        &self,
        registry: &mut Registry,
        attempts: &Attempts,
        all: &mut Vec<Changes<'b>>,
    ) -> Result<(), Stop> {
        let call = Rc::new(Call {
            definer: current_user(),
            read_skew: settings::read_skew(),
            mappings: registry.relation,
            mapped: Rc::clone(&registry.mapped),
            early: attempts.is_early(),
            single: self.routes.taken.len() == 1,
            letters: !attempts.letters.is_empty() && !attempts.explicit,
            careful: attempts.careful,
            began: Moment::now(),
            overtaken: Cell::default(),
            overtaker: Cell::default(),
            explained: attempts.observer.is_some(),
            sets_written: Cell::default(),
        });
        let lock = if attempts.exclusive {
            MappingLock::Exclusive
        } else {
            MappingLock::Shared
        };
        for (index, messages) in &self.routes.taken {
            let target = {
                let _turn = Turn::of(registry.mappings[*index].id);
                registry.target(*index, attempts.exclusive)?
            };
            // Dead letters arrived before the batch.
            let first = messages.partition_point(|at| at.index() < self.own);
            let messages = [&messages[first..], &messages[..first]].concat();
            let batch: &'b Batch<'b> = self.batch;
            let call = Rc::clone(&call);
            let mut changes = Changes::new(target, call, lock, batch, messages, self.memory);
            if let Some(suspects) = attempts.suspects.get(&changes.target.mapping.id) {
                changes.progress.suspects = suspects.clone();
            }
            all.push(changes);
        }
        Ok(())
    }

    /// Whether the item's outcome is counted.
    fn is_counted(&self, attempts: &Attempts, position: Position) -> bool {
        attempts.explicit || position.index() < self.own
    }

    /// The dead letter that the item belongs to.
    fn letter(&self, position: Position) -> Option<&Retried> {
        let n = self
            .letters
            .partition_point(|letter| letter.items.end <= position.index());
        self.letters.get(n).filter(|_| position.index() >= self.own)
    }

    /// Stores new dead letters, removes letters that were applied or superseded, and counts.
    fn finish(
        &self,
        registry: &Registry,
        attempts: &mut Attempts,
        all: &mut [Changes<'b>],
    ) -> Result<Counts, Stop> {
        note_broken(registry, attempts, all)?;
        let mut failed = Vec::new();
        for (i, changes) in all.iter_mut().enumerate() {
            self.supersede(registry, attempts, changes)?;
            give_up_missing(changes, attempts)?;
            failed.extend(settle_failures(changes)?.into_iter().map(|failure| Failed {
                position: changes.intake.position(failure.message),
                changes: i,
                failure,
            }));
        }
        failed.sort_by_key(|failed| failed.position);
        let (counts, mut tally) = self.count(registry, attempts, all);
        if let Some(observer) = &mut attempts.observer {
            let refused = self.routes.refused.iter();
            let refused = refused.map(|refused| (refused.position, refused.error(self.batch)));
            let ignored = self.routes.ignored.iter();
            let ignored = ignored.map(|(at, index)| (*at, registry.mappings[*index].name.clone()));
            let kept = self.routes.kept.iter().map(|kept| {
                let mapping = registry.mappings[kept.mapping].name.clone();
                (kept.position, mapping, Rc::clone(&kept.error))
            });
            observer.see(self.own, refused, ignored, kept, &failed, all)?;
        }
        attempts.stored = self.keep(registry, attempts.crowded, &failed, all, &mut tally)?;
        attempts.tally = tally;
        drift::note(all, current_user())?;
        Ok(counts)
    }

    /// Removes the letters that newer changes of the mapping's rows supersede. The call starts over if the
    /// rows need some of the letters.
    fn supersede(
        &self,
        registry: &Registry,
        attempts: &mut Attempts,
        changes: &mut Changes<'_>,
    ) -> Result<(), Stop> {
        let superseded = supersede(
            &registry.letters,
            &attempts.letters,
            attempts.may_take_along(),
            changes,
        )?;
        if !superseded.again.is_empty() {
            attempts.letters.extend(superseded.again);
            return Err(Stop::EXCLUSIVE);
        }
        attempts.candidates.extend(superseded.newer);
        Ok(dead_letter::remove(&superseded.remove)?)
    }

    /// Counts the outcomes of the messages, for the result row and for each mapping.
    fn count(
        &self,
        registry: &Registry,
        attempts: &Attempts,
        all: &[Changes<'b>],
    ) -> (Counts, Tally) {
        let mut counts = Counts::default();
        let mut tally = Tally::default();
        let mut count = |position: Position, outcome, mapping| {
            if self.is_counted(attempts, position) {
                counts.count(outcome);
                let item = &self.batch.items[position.index()];
                if let (Some(id), Item::Message(message)) = (mapping, item) {
                    tally.count(id, outcome, message);
                }
            }
        };
        for (position, outcome, mapping) in self.routes.outcomes() {
            count(position, outcome, mapping.map(|i| registry.mappings[i].id));
        }
        for changes in all {
            let id = changes.target.mapping.id;
            for message in changes.intake.numbers() {
                if let Some(outcome) = changes.ledger.outcome(message) {
                    count(changes.intake.position(message), outcome, Some(id));
                }
            }
        }
        for changes in all {
            tally.confirm(changes.target.mapping.id, changes.progress.confirmed);
        }
        counts.received = (0..self.batch.items.len() as u32)
            .filter(|at| self.is_counted(attempts, Position(*at)))
            .count() as i64;
        (counts, tally)
    }

    /// The messages that become letters, in the order of the batch. The messages that are kept for mappings
    /// which cannot take them now come last.
    fn dead<'d>(&'d self, failed: &'d [Failed]) -> impl Iterator<Item = Dead<'d>> {
        let mut refused = self.routes.refused.iter().peekable();
        let mut failed = failed.iter().peekable();
        std::iter::from_fn(move || {
            let next = failed.peek().map(|failed| failed.position);
            match refused.next_if(|refused| next.is_none_or(|next| refused.position <= next)) {
                Some(refused) => Some(Dead::Refused(refused)),
                None => failed.next().map(Dead::Failed),
            }
        })
        .chain(self.routes.kept.iter().map(Dead::Kept))
    }

    /// Stores letters, in this order. Removes the retried letters whose messages did not fail again, and counts them.
    fn keep(
        &self,
        registry: &Registry,
        crowded: bool,
        failed: &[Failed],
        all: &[Changes<'b>],
        tally: &mut Tally,
    ) -> Result<Vec<i64>, SqlError> {
        let known = |dead: &Dead<'_>| self.letter(dead.position()).map(|letter| letter.id);
        let brought: Vec<_> = match failed.is_empty() {
            true => Vec::new(),
            false => all.iter().map(Changes::brought).collect(),
        };
        let renewed: HashSet<i64> = match self.letters.is_empty() {
            true => HashSet::new(),
            false => self.dead(failed).filter_map(|dead| known(&dead)).collect(),
        };
        let mut ids = Vec::new();
        let tried = self.letters.iter();
        for letter in tried.filter(|letter| !renewed.contains(&letter.id)) {
            ids.push(letter.id);
            tally.heal(registry.id_of(letter.mapping.as_deref()));
        }
        dead_letter::remove(&ids)?;
        // If several mappings now take a letter's message, each mapping that fails has a letter. The first
        // of these keeps the letter's number.
        let mut left = renewed;
        let mut words = Words::new(&registry.mappings);
        dead_letter::store(self.dead(failed).map(|dead| {
            let mut letter = match dead {
                Dead::Refused(refused) => self.refused(refused),
                Dead::Failed(failed) => {
                    let brought = brought[failed.changes].get(&failed.failure.message);
                    let brought = brought.cloned().unwrap_or_default();
                    self.failed(&all[failed.changes], &failed.failure, brought)
                }
                Dead::Kept(kept) => self.kept(registry, kept),
            };
            words.add(&mut letter);
            if crowded {
                add_bound(&mut letter);
            }
            let id = known(&dead).filter(|id| left.remove(id));
            Letter { id, ..letter }
        }))
    }

    /// The letter of a message that is kept for a mapping.
    fn kept<'d>(&'d self, registry: &'d Registry, kept: &'d Kept) -> Letter<'d> {
        Letter {
            mapping: Some(registry.mappings[kept.mapping].name.clone()),
            state: kept.state,
            ..self.unwritten(kept.position, Cow::Borrowed(&kept.error))
        }
    }

    /// The letter of an item that no mapping takes.
    fn refused(&self, refused: &Refused) -> Letter<'b> {
        self.unwritten(refused.position, Cow::Owned(refused.error(self.batch)))
    }

    /// The letter of an item that no mapping has tried to write.
    fn unwritten<'d>(&self, position_in_batch: Position, error: Cow<'d, SqlError>) -> Letter<'d>
    where
        'b: 'd,
    {
        let at = position_in_batch.index();
        let (text, position, message) = match &self.batch.items[at] {
            Item::Message(message) => (message.whole.text(), message.position, Some(message)),
            Item::Dead { text, .. } => (text.text(), at, None),
        };
        let known = self.letter(position_in_batch);
        Letter {
            id: None,
            mapping: known.and_then(|letter| letter.mapping.clone()),
            text,
            position: known.map_or(position, |letter| letter.position),
            error,
            wait: None,
            waits_for_key: None,
            state: State::Dead,
            key: None,
            row_key: None,
            former_key: None,
            brings: Vec::new(),
            source: message.map(|message| message.source()),
            version: message.and_then(|message| message.version),
            committed_at: message.and_then(|message| message.committed_at),
        }
    }

    /// The letter of a message that a mapping could not write.
    fn failed<'d>(
        &self,
        changes: &'d Changes<'b>,
        failure: &'d Failure,
        mut brings: Vec<Vec<u8>>,
    ) -> Letter<'d> {
        let message = changes.intake.message(failure.message);
        let keyed = &changes.keyed;
        let subject = keyed.of_subject(failure.message);
        if failure.wait.is_none() {
            brings.clear();
        } else {
            let moved = keyed
                .of_message(failure.message)
                .filter(|i| keyed.leaves(*i));
            brings.extend(moved.map(|i| changes.table_key(i)));
        }
        Letter {
            id: None,
            mapping: Some(changes.target.mapping.name.clone()),
            text: message.whole.text(),
            position: message.position,
            error: Cow::Borrowed(&failure.error),
            state: match failure.wait {
                Some(_) => State::Waiting,
                None => State::Dead,
            },
            wait: failure.wait.clone(),
            waits_for_key: None,
            key: subject.and_then(|change| changes.key_text(change)),
            row_key: keyed.row_key(failure.message).map(<[u8]>::to_vec),
            former_key: keyed.former_key(failure.message).map(<[u8]>::to_vec),
            brings,
            source: Some(message.source()),
            version: message.version,
            committed_at: message.committed_at,
        }
    }
}

/// Orders the changes so that a table comes after those that its foreign keys refer to; where they
/// refer to each other, by mapping.
fn parents_first(all: &mut Vec<Changes<'_>>) {
    let mut waiting = std::mem::take(all);
    while !waiting.is_empty() {
        let oids: Vec<pg_sys::Oid> = waiting
            .iter()
            .map(|changes| changes.target.destination.oid)
            .collect();
        let free = waiting.iter().position(|changes| {
            let destination = &changes.target.destination;
            !destination
                .links
                .refers_to
                .iter()
                .any(|o| *o != destination.oid && oids.contains(o))
        });
        all.push(waiting.remove(free.unwrap_or(0)));
    }
}
