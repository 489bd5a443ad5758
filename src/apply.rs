//! One call: a batch goes to its mappings, and every message ends as one counted outcome in each.
//! Dead letters that may work now go with it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use bumpalo::Bump;
use pgrx::pg_sys;

use crate::counters::{self, Tally};
use crate::dead_letter::{self, Letter};
use crate::envelope::{Batch, End, Item};
use crate::error::Error;
use crate::error::SqlError;
use crate::explain::{Explained, Watch};
use crate::group::{Call, Failure, Group, Outcome, Suspects};
use crate::guard;
use crate::pg::memory::{Arena, Context};
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::subtransaction::subtransaction;
use crate::pg::user::{current_user, is_restricted};
use crate::pg::{constraints, invalidation, isolation};
use crate::registry::Registry;
use crate::retry;
use crate::settings;
use crate::tangle::{self, Waiting};
use crate::units::{self, Pending, Phase, Unit};
use crate::wait;

/// The result row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages in the batch.
    pub received: i64,
    /// Outcomes, in the order of the result row: upserted, deleted, collapsed, stale, filtered,
    /// ignored, dead.
    pub outcomes: [i64; 7],
}

impl Counts {
    fn count(&mut self, outcome: Outcome) {
        self.outcomes[outcome.number()] += 1;
    }

    /// Adds those of another call.
    pub fn add(&mut self, other: &Counts) {
        self.received += other.received;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
    }
}

/// The first attempt shares its mappings with other calls. If one must be had alone, and that cannot be
/// at this moment, it ends with this SQLSTATE, and the next has the mappings for itself.
///
/// This one and the next two are signals between modules. SQL can raise a SQLSTATE of digits and
/// capitals only, so that no trigger's error is taken for one; of the small letters, `a` to `o` fit
/// into a packed SQLSTATE.
pub const AGAIN_ALONE: &str = "40aln";

/// The end of a write that must examine rows first.
pub const EXAMINE_MORE: &str = "40lod";

/// A mapping changed while the call waited for it: the call begins again.
pub const RELOAD: &str = "40chg";

/// A deadlock: the next attempt takes its locks in another way.
const DEADLOCK: &str = "40P01";

/// How often a call is tried: shared, alone, with the mappings of the tables that its messages wait
/// for, with the dead letters that wait for its rows. Alone, it can still meet a session that is not
/// one of ours.
const ATTEMPTS: usize = 30;

/// After so many attempts it is no reason to begin again that a relation is not found: a trigger may look
/// for one in vain, and make the server say that something changed, every time.
const EARLY: usize = 5;

/// The error that ends an attempt.
pub fn again_alone() -> SqlError {
    SqlError::new(AGAIN_ALONE, "the call must have its mappings for itself")
}

/// Whether an error is such a signal, and nobody's fault.
pub fn is_signal(error: &SqlError) -> bool {
    matches!(
        error.sqlstate().as_str(),
        AGAIN_ALONE | EXAMINE_MORE | RELOAD
    )
}

fn mapping_changed() -> SqlError {
    SqlError::new(RELOAD, "a mapping changed")
}

/// What a call has learnt in its attempts so far.
#[derive(Debug, Default)]
pub struct Plan {
    /// Whether it has its mappings for itself.
    alone: bool,
    /// The mappings (by id) that it must have beside those of its messages.
    pub mappings: BTreeSet<i32>,
    /// The dead letters (by id) that it tries again.
    pub letters: BTreeSet<i64>,
    /// By mapping (id), who is suspected of having made an attempt fail.
    suspects: HashMap<i32, Suspects>,
    /// Whether the letters are what the call is for: they are counted.
    explicit: bool,
    /// How many attempts have begun.
    begun: usize,
    /// Whether this attempt is the last.
    pub last: bool,
    /// Who watches, if the call is made to be explained.
    watch: Option<Watch>,
}

/// Applies the batch. What is made on the way is kept in `memory`.
pub fn apply<'a>(batch: &mut Batch<'a>, memory: &'a Bump) -> Result<Counts, SqlError> {
    run(batch, memory, &mut Plan::default())
}

/// What [`apply`] does with the batch, for a role that may see it. All of it is undone.
pub fn explain<'a>(
    batch: &mut Batch<'a>,
    memory: &'a Bump,
    caller: pg_sys::Oid,
) -> Result<Vec<Explained>, SqlError> {
    let mut plan = Plan {
        watch: Some(Watch::new(caller)),
        ..Plan::default()
    };
    let undone = subtransaction(|| -> Result<(), Option<SqlError>> {
        run(batch, memory, &mut plan).map_err(Some)?;
        Err(None)
    });
    match undone {
        Err(Some(error)) => Err(error),
        _ => Ok(plan.watch.map(Watch::into_rows).unwrap_or_default()),
    }
}

/// Tries dead letters (by id) again, and those that wait for their rows.
pub fn apply_letters(letters: impl IntoIterator<Item = i64>) -> Result<Counts, SqlError> {
    let memory = Arena::take();
    let mut plan = Plan {
        alone: true,
        letters: letters.into_iter().collect(),
        explicit: true,
        ..Plan::default()
    };
    run(&mut Batch::empty(), &memory, &mut plan)
}

fn run<'a>(batch: &mut Batch<'a>, memory: &'a Bump, plan: &mut Plan) -> Result<Counts, SqlError> {
    if isolation::is_read_only() {
        let standby = isolation::is_standby();
        return Err(Error::ReadOnly { standby }.into());
    }
    if isolation::is_snapshot() {
        return Err(Error::Isolation.into());
    }
    let _connection = Connection::open();
    let _context = Context::enter();
    let _settings = Settings::new(PINNED);
    let own = batch.end();
    let mut reloads = 0;
    loop {
        let mut registry = Registry::take()?;
        let result = with_registry(batch, own, memory, &mut registry, plan);
        registry.give_back();
        match result {
            Err(error) if error.sqlstate() == RELOAD && reloads < ATTEMPTS => {
                reloads += 1;
                if !plan.explicit {
                    // Their mappings may be paused now.
                    plan.letters.clear();
                    plan.mappings.clear();
                }
            }
            Err(error) if error.sqlstate() == RELOAD => return Err(Error::MappingsChange.into()),
            result => return result,
        }
    }
}

fn with_registry<'a>(
    batch: &mut Batch<'a>,
    own: End,
    memory: &'a Bump,
    registry: &mut Registry,
    plan: &mut Plan,
) -> Result<Counts, SqlError> {
    batch.cut(own);
    let mut routes = Routes::default();
    routes.add(batch, 0..own.items, registry)?;
    routes.warn();
    if let Some(watch) = &plan.watch {
        for (index, places) in &routes.groups {
            watch.admit(&registry.mappings[*index], places[0] as usize)?;
        }
    }
    let mut attempts = 1;
    loop {
        batch.cut(own);
        plan.begun += 1;
        plan.last = attempts == ATTEMPTS;
        let result = subtransaction(|| attempt(batch, own, routes.clone(), memory, registry, plan));
        match result {
            Err(error)
                if attempts < ATTEMPTS
                    && matches!(error.sqlstate().as_str(), AGAIN_ALONE | DEADLOCK) =>
            {
                attempts += 1;
                plan.alone = true;
            }
            Ok(counts) if plan.watch.is_some() => return Ok(counts),
            Ok(counts) => return guard::prune().map(|()| counts),
            Err(error) => return Err(error),
        }
    }
}

/// Locks the mappings, reads the dead letters that are tried again, writes all, and stores what is
/// dead.
fn attempt<'a>(
    batch: &mut Batch<'a>,
    own: End,
    mut routes: Routes,
    memory: &'a Bump,
    registry: &mut Registry,
    plan: &mut Plan,
) -> Result<Counts, SqlError> {
    let mut locked = plan.mappings.clone();
    locked.extend(routes.groups.keys().map(|i| registry.mappings[*i].id));
    for id in &locked {
        invalidation::lock_mapping(registry.relation, *id, plan.alone);
    }
    if invalidation::has_changed(registry.relation) {
        return Err(mapping_changed());
    }
    registry.see_letters();
    let letters = retry::read(&plan.letters, batch, memory)?;
    for letter in &letters {
        routes.add_letter(letter, batch, registry)?;
    }
    let missing: Vec<i32> = routes
        .groups
        .keys()
        .map(|i| registry.mappings[*i].id)
        .filter(|id| !locked.contains(id))
        .collect();
    if !missing.is_empty() {
        plan.mappings.extend(missing);
        return Err(again_alone());
    }
    let work = Work {
        batch,
        own: own.items,
        letters,
        routes,
        memory,
    };
    let mut groups = Vec::new();
    let result = work
        .groups(registry, plan, &mut groups)
        .and_then(|()| write_all(registry, plan, &locked, &mut groups))
        .and_then(|()| retry::look_for_more(registry, plan, &mut groups))
        .and_then(|()| work.finish(registry, plan, &mut groups));
    for (index, group) in groups {
        if result.is_err() && !group.suspects.is_empty() {
            plan.suspects
                .insert(group.target.mapping.id, group.suspects);
        }
        let mut target = group.target;
        if result.is_err() {
            // Noted in what is undone now.
            target.home = None;
        }
        registry.put_back(index, target);
    }
    result
}

/// What one attempt has to do.
struct Work<'a, 'b> {
    batch: &'b Batch<'a>,
    /// How many of the batch's items are the call's own; the others are of dead letters.
    own: usize,
    letters: Vec<retry::Known>,
    routes: Routes,
    memory: &'b Bump,
}

impl<'a, 'b> Work<'a, 'b> {
    /// Makes the groups, those of parents first.
    fn groups(
        &self,
        registry: &mut Registry,
        plan: &Plan,
        groups: &mut Vec<(usize, Group<'b>)>,
    ) -> Result<(), SqlError> {
        let written = Rc::default();
        let call = Call {
            definer: current_user(),
            read_skew: settings::read_skew(),
            mappings: registry.relation,
            alone: plan.alone,
            early: plan.begun < EARLY,
            single: self.routes.groups.len() == 1,
            letters: !plan.letters.is_empty() && !plan.explicit,
            explained: plan.watch.is_some(),
        };
        for (index, messages) in &self.routes.groups {
            let target = registry.target(*index)?;
            // Dead letters came before the batch.
            let first = messages.partition_point(|place| (*place as usize) < self.own);
            let messages = [&messages[first..], &messages[..first]].concat();
            let batch: &'b Batch<'b> = self.batch;
            let mut group = Group::new(target, batch, messages, self.memory, call);
            group.mapped = registry.mapped.clone();
            group.written = Rc::clone(&written);
            group.resyncing = registry.resyncing.contains(&group.target.mapping.id);
            if let Some(suspects) = plan.suspects.get(&group.target.mapping.id) {
                group.suspects = suspects.clone();
            }
            groups.push((*index, group));
        }
        parents_first(groups);
        Ok(())
    }

    /// Whether what becomes of the item is counted.
    fn is_counted(&self, plan: &Plan, place: usize) -> bool {
        plan.explicit || place < self.own
    }

    /// The dead letter that the item is of.
    fn letter(&self, place: usize) -> Option<usize> {
        let n = self.letters.partition_point(|l| l.items.end <= place);
        (place >= self.own).then_some(n)
    }

    /// Stores what is dead, removes what no longer is, and counts.
    fn finish(
        &self,
        registry: &Registry,
        plan: &mut Plan,
        groups: &mut [(usize, Group<'b>)],
    ) -> Result<Counts, SqlError> {
        let mut dead = Vec::new();
        for refused in &self.routes.refused {
            dead.push(self.refused(refused));
        }
        for (_, group) in groups.iter_mut() {
            retry::supersede(registry, plan, group)?;
            for failure in retry::settle_failures(group)? {
                dead.push(self.failed(group, failure));
            }
        }
        let mut counts = Counts::default();
        let mut tally = Tally::default();
        let mut outcomes = 0;
        let mut count = |place: usize, outcome, mapping| {
            outcomes += 1;
            if self.is_counted(plan, place) {
                counts.count(outcome);
                if let (Some(id), Item::Message(message)) = (mapping, &self.batch.items[place]) {
                    tally.count(id, outcome, message);
                }
            }
        };
        for (place, outcome) in &self.routes.outcomes {
            count(*place, *outcome, None);
        }
        for (place, index) in &self.routes.ignored {
            let id = registry.mappings[*index].id;
            count(*place, Outcome::Ignored, Some(id));
        }
        for (_, group) in groups.iter() {
            for (place, outcome) in group.messages.iter().zip(&group.outcomes) {
                let outcome = outcome.expect("every message of a group has an outcome");
                count(*place as usize, outcome, Some(group.target.mapping.id));
            }
        }
        for (_, group) in groups.iter() {
            tally.confirm(group.target.mapping.id, group.confirmed);
        }
        counts.received = (0..self.batch.items.len())
            .filter(|place| self.is_counted(plan, *place))
            .count() as i64;
        assert_eq!(
            outcomes, self.routes.expected,
            "every message must end as one outcome per mapping"
        );
        dead.sort_by_key(|(place, _)| *place);
        if let Some(watch) = &mut plan.watch {
            let ignored = self.routes.ignored.iter().map(|(place, index)| {
                let mapping = registry.mappings[*index].name.clone();
                (*place, Outcome::Ignored, Some(mapping))
            });
            let refused = self.routes.refused.iter();
            let refused = refused.map(|refused| (refused.place, Outcome::Dead, None));
            watch.see(self.own, ignored.chain(refused), &dead, groups)?;
        }
        // A letter that several mappings take now is one of each of them that fails.
        let mut renewed = HashSet::new();
        let mut letters: Vec<Letter<'_>> = Vec::with_capacity(dead.len());
        for (place, mut letter) in dead {
            letter.id = self
                .letter(place)
                .map(|n| self.letters[n].id)
                .filter(|id| renewed.insert(*id));
            letters.push(letter);
        }
        let healed: Vec<i64> = self
            .letters
            .iter()
            .map(|letter| letter.id)
            .filter(|id| !renewed.contains(id))
            .collect();
        dead_letter::remove(&healed)?;
        dead_letter::store(&letters)?;
        counters::store(&tally);
        Ok(counts)
    }

    /// The dead letter of an item that no mapping takes.
    fn refused(&self, refused: &Refused) -> (usize, Letter<'b>) {
        let (text, position, message) = match &self.batch.items[refused.place] {
            Item::Message(message) => (
                &*self.memory.alloc_str(&message.whole.text()),
                message.position,
                Some(message),
            ),
            Item::Dead { text, .. } => (&**text, refused.place, None),
        };
        let known = self.letter(refused.place).map(|n| &self.letters[n]);
        let letter = Letter {
            id: None,
            mapping: known.and_then(|letter| letter.mapping.clone()),
            text,
            position: known.map_or(position, |letter| letter.position),
            error: refused.error.clone(),
            wait: None,
            key: None,
            row_key: None,
            former_key: None,
            source: message.map(|message| message.source()),
            version: message.and_then(|message| message.version),
            committed_at: message.and_then(|message| message.committed_at),
        };
        (refused.place, letter)
    }

    /// The dead letter of a message that a mapping could not write.
    fn failed(&self, group: &Group<'b>, failure: Failure) -> (usize, Letter<'b>) {
        let message = group.message(failure.message);
        let letter = Letter {
            id: None,
            mapping: Some(group.target.mapping.name.clone()),
            text: self.memory.alloc_str(&message.whole.text()),
            position: message.position,
            error: failure.error,
            wait: failure.wait,
            key: group.key_text(failure.message),
            row_key: group.row_key(failure.message).map(<[u8]>::to_vec),
            former_key: group.former_key(failure.message).map(<[u8]>::to_vec),
            source: Some(message.source()),
            version: message.version,
            committed_at: message.committed_at,
        };
        (group.messages[failure.message as usize] as usize, letter)
    }
}

/// An item that no mapping takes.
#[derive(Debug, Clone)]
struct Refused {
    place: usize,
    error: SqlError,
}

/// Where the messages of a batch go.
#[derive(Debug, Clone, Default)]
struct Routes {
    /// By mapping, in the order of their ids, the messages' places in the batch.
    groups: BTreeMap<usize, Vec<u32>>,
    /// What is settled already, by place.
    outcomes: Vec<(usize, Outcome)>,
    /// What mappings without a destination take: place and mapping.
    ignored: Vec<(usize, usize)>,
    /// What no mapping takes.
    refused: Vec<Refused>,
    /// How many outcomes there must be in the end.
    expected: i64,
    /// A table that no mapping takes, and how many such messages there are.
    unmapped: Option<(String, usize)>,
}

impl Routes {
    /// Adds what becomes of the batch's items in this range.
    fn add(
        &mut self,
        batch: &Batch<'_>,
        places: Range<usize>,
        registry: &Registry,
    ) -> Result<(), SqlError> {
        let mut last = None;
        for place in places {
            let message = match &batch.items[place] {
                Item::Message(message) => message,
                Item::Dead { fault, .. } => {
                    let error = SqlError::new("22023", fault.to_string()).with_hint(
                        "Send change messages of Sequin as they are, without a transform.",
                    );
                    self.refuse(place, error);
                    continue;
                }
            };
            let source = (
                message.database_name,
                message.database_id,
                message.schema,
                message.table,
            );
            let found = match last.take() {
                Some((known, found)) if known == source => found,
                _ => registry
                    .router
                    .route(source.0, source.1, source.2, source.3),
            };
            for &index in &*found {
                self.take(place, index, registry)?;
            }
            if found.is_empty() {
                let table = format!("{}.{}", message.schema, message.table);
                self.refuse(place, unmapped_error(&table));
                self.unmapped.get_or_insert((table, 0)).1 += 1;
            }
            last = Some((source, found));
        }
        Ok(())
    }

    /// Adds the items of a dead letter. The mapping that could not write it takes it again; that of
    /// none is routed.
    fn add_letter(
        &mut self,
        letter: &retry::Known,
        batch: &Batch<'_>,
        registry: &Registry,
    ) -> Result<(), SqlError> {
        let Some(name) = &letter.mapping else {
            return match self.add(batch, letter.items.clone(), registry) {
                // It stays, and others are tried.
                Err(error) if letter.items.len() == 1 => {
                    self.refuse(letter.items.start, error);
                    Ok(())
                }
                result => result,
            };
        };
        let found = registry.mappings.iter().position(|m| m.name == *name);
        for place in letter.items.clone() {
            match (&batch.items[place], found) {
                (Item::Message(_), Some(index)) => self.take(place, index, registry)?,
                (Item::Message(_), None) => self.refuse(
                    place,
                    Error::MappingNotFound {
                        name: name.clone(),
                        nearest: Vec::new(),
                    }
                    .into(),
                ),
                (Item::Dead { .. }, _) => self.add(batch, place..place + 1, registry)?,
            }
        }
        Ok(())
    }

    fn take(&mut self, place: usize, index: usize, registry: &Registry) -> Result<(), SqlError> {
        let mapping = &registry.mappings[index];
        if !mapping.enabled {
            return Err(Error::MappingPaused {
                name: mapping.name.clone(),
            }
            .into());
        }
        self.expected += 1;
        if mapping.destination.is_none() {
            self.ignored.push((place, index));
        } else {
            self.groups.entry(index).or_default().push(place as u32);
        }
        Ok(())
    }

    fn refuse(&mut self, place: usize, error: SqlError) {
        self.expected += 1;
        self.outcomes.push((place, Outcome::Dead));
        self.refused.push(Refused { place, error });
    }

    fn warn(&self) {
        if let Some((table, count)) = &self.unmapped {
            warn_unmapped(table, *count);
        }
    }
}

fn unmapped_error(table: &str) -> SqlError {
    SqlError::new(
        "42704",
        format!("no mapping takes messages of table {table}"),
    )
    .with_hint(unmapped_hint(table))
}

fn unmapped_hint(table: &str) -> String {
    let source = pgrx::spi::quote_literal(table);
    format!(
        "To write them to a table, run: SELECT sequin.map({source}, 'schema.table'); \
         to receive and ignore them, run: SELECT sequin.map({source}, null);"
    )
}

fn warn_unmapped(table: &str, count: usize) {
    pgrx::pg_sys::panic::ErrorReport::new(
        pgrx::PgSqlErrorCode::ERRCODE_WARNING,
        format!("no mapping takes messages of table {table}"),
        "sequin_apply",
    )
    .set_detail(format!(
        "{count} messages that no mapping takes were kept in sequin.dead_letter."
    ))
    .set_hint(unmapped_hint(table))
    .report(pgrx::PgLogLevel::WARNING);
}

/// Orders the groups so that a table comes after those that its foreign keys refer to; where they
/// refer to each other, by mapping.
fn parents_first(groups: &mut Vec<(usize, Group<'_>)>) {
    let mut waiting = std::mem::take(groups);
    while !waiting.is_empty() {
        let oids: Vec<pg_sys::Oid> = waiting
            .iter()
            .map(|(_, group)| group.target.destination.oid)
            .collect();
        let free = waiting.iter().position(|(_, group)| {
            let destination = &group.target.destination;
            !destination
                .refers_to
                .iter()
                .any(|o| *o != destination.oid && oids.contains(o))
        });
        groups.push(waiting.remove(free.unwrap_or(0)));
    }
}

/// Upserts parents first, deletes children first, and what failed for want of another row again as
/// long as that helps.
fn write_all(
    registry: &Registry,
    plan: &mut Plan,
    locked: &BTreeSet<i32>,
    groups: &mut [(usize, Group<'_>)],
) -> Result<(), SqlError> {
    if groups.is_empty() {
        return Ok(());
    }
    // What is deferred must not fail at commit, where nobody could be blamed for it. It is checked
    // when all is written, which serves rows that refer to each other; to find who is to blame, for
    // owners that may not defer, and for triggers, which run as who writes, as each statement ends.
    let deferred = groups
        .iter()
        .any(|(_, group)| group.target.destination.deferred);
    let at_once = plan.alone
        || groups.iter().any(|(_, group)| {
            group.target.destination.deferred_triggers
                || is_restricted(pg_sys::Oid::from(group.target.mapping.owner))
        });
    if deferred && at_once {
        constraints::check_at_once()?;
    }
    let mut pending: Vec<Vec<Pending>> = groups.iter().map(|_| Vec::new()).collect();
    let mut alone = match plan.alone {
        true => locked.clone(),
        false => BTreeSet::new(),
    };
    for (_, group) in groups.iter_mut() {
        let _owner = group.acting_as_owner();
        group.prepare()?;
        group.confirm()?;
    }
    for (i, (_, group)) in groups.iter_mut().enumerate() {
        units::write(group, Phase::Upserts, &mut pending[i])?;
    }
    for (i, (_, group)) in groups.iter_mut().enumerate().rev() {
        units::write(group, Phase::Deletes, &mut pending[i])?;
    }
    if deferred
        && !at_once
        && let Err(error) = constraints::check_at_once()
    {
        dead_letter::blame(error, &groups[0].1.target.mapping)?;
        return Err(again_alone());
    }
    let written = Rc::clone(&groups[0].1.written);
    let mut given_up = settle_pending(registry, plan, &mut alone, groups, &mut pending)?;
    // What was written instead of those that wait may be what others of them wait for.
    let mut left = waiting_failures(groups);
    for _ in 0..REVIVALS {
        if left == 0 || written.get() == given_up {
            break;
        }
        let before: Vec<_> = groups.iter().map(|(_, g)| g.outcomes.clone()).collect();
        for ((_, group), pending) in groups.iter_mut().zip(&mut pending) {
            let _owner = group.acting_as_owner();
            let units = group.revive()?;
            pending.extend(units::retry(group, units)?);
        }
        given_up = settle_pending(registry, plan, &mut alone, groups, &mut pending)?;
        // What had been written was so again: that is no news of it.
        for ((_, group), before) in groups.iter_mut().zip(before) {
            for (now, before) in group.outcomes.iter_mut().zip(before) {
                if *now == Some(Outcome::Stale)
                    && matches!(before, Some(Outcome::Upserted | Outcome::Deleted))
                {
                    *now = before;
                }
            }
        }
        let now = waiting_failures(groups);
        if now == left {
            break;
        }
        left = now;
    }
    Ok(())
}

/// How often what has been given up is tried once more before a call ends.
const REVIVALS: usize = 4;

fn waiting_failures(groups: &[(usize, Group<'_>)]) -> usize {
    groups
        .iter()
        .flat_map(|(_, group)| &group.failures)
        .filter(|failure| failure.wait.is_some())
        .count()
}

/// Tries what could not be written until nothing more helps, and gives the rest up; returns how many
/// sets the call had written when it first did.
fn settle_pending(
    registry: &Registry,
    plan: &mut Plan,
    alone: &mut BTreeSet<i32>,
    groups: &mut [(usize, Group<'_>)],
    pending: &mut [Vec<Pending>],
) -> Result<u64, SqlError> {
    let written = Rc::clone(&groups[0].1.written);
    let mut given_up = None;
    while pending.iter().any(|pending| !pending.is_empty()) {
        retry_pending(groups, pending)?;
        let mut waiting: Waiting = Vec::with_capacity(groups.len());
        let mut dead: Vec<Vec<Unit>> = Vec::with_capacity(groups.len());
        for ((_, group), pending) in groups.iter_mut().zip(pending.iter_mut()) {
            let _owner = group.acting_as_owner();
            let (mut pending, failed): (Vec<_>, Vec<_>) = std::mem::take(pending)
                .into_iter()
                .partition(|held| held.may_work_later(group));
            let mut units = Vec::with_capacity(failed.len());
            for held in failed {
                group.fail(held.unit[0].message, held.error)?;
                units.push(held.unit);
            }
            dead.push(units);
            if units::replay_all(group, &pending)? {
                pending.clear();
            }
            let waits = wait::find(group, &pending, &registry.mappings)?;
            waiting.push(pending.into_iter().zip(waits).collect());
        }
        let again = tangle::untangle(groups, &mut waiting)?
            || have_writers(registry, plan, alone, groups, &waiting)?;
        if !again {
            given_up.get_or_insert(written.get());
        }
        for (i, (_, group)) in groups.iter_mut().enumerate() {
            let mut units = std::mem::take(&mut dead[i]);
            for (held, wait) in std::mem::take(&mut waiting[i]) {
                if again {
                    pending[i].push(held); // it may work now
                    continue;
                }
                group.give_up(
                    held.unit[0].message,
                    held.error,
                    Some(wait.unwrap_or_default()),
                );
                units.push(held.unit);
            }
            // What older changes of a row can do without the one that waits, they do now.
            let _owner = group.acting_as_owner();
            pending[i].extend(units::retry(group, units)?);
        }
    }
    Ok(given_up.unwrap_or(written.get()))
}

/// Makes sure that no other call writes the tables that are waited for: one that does at this moment
/// would not see that somebody waits for its row. Returns whether one may have done so before. If the
/// call cannot have all of their mappings alone now, it begins again with them.
fn have_writers(
    registry: &Registry,
    plan: &mut Plan,
    alone: &mut BTreeSet<i32>,
    groups: &mut [(usize, Group<'_>)],
    waiting: &Waiting,
) -> Result<bool, SqlError> {
    let relations: HashSet<pg_sys::Oid> = waiting
        .iter()
        .flatten()
        .filter_map(|(_, wait)| wait.as_ref())
        .map(|wait| wait.relation)
        .collect();
    let missing: Vec<i32> = registry
        .mappings
        .iter()
        .filter(|mapping| {
            let relation = mapping.destination.map(pg_sys::Oid::from);
            relation.is_some_and(|relation| relations.contains(&relation))
        })
        .map(|mapping| mapping.id)
        .filter(|id| !alone.contains(id))
        .collect();
    let mut again = false;
    for &id in &missing {
        let group = groups.iter_mut().find(|(_, g)| g.target.mapping.id == id);
        let taken = match group {
            Some((_, group)) if group.call.alone => true,
            Some((_, group)) => {
                again = true;
                group.take_alone().is_ok()
            }
            None => {
                again = true;
                invalidation::try_lock_mapping(registry.relation, id)
            }
        };
        if !taken && !plan.last {
            plan.mappings.extend(missing);
            return Err(again_alone());
        }
    }
    if again && invalidation::has_changed(registry.relation) {
        return Err(mapping_changed());
    }
    alone.extend(missing);
    if again {
        // Others may have done so.
        groups[0].1.wrote();
    }
    Ok(again)
}

/// Tries what failed for want of another row again as long as that helps.
fn retry_pending(
    groups: &mut [(usize, Group<'_>)],
    pending: &mut [Vec<Pending>],
) -> Result<(), SqlError> {
    let mut left: usize = pending.iter().map(Vec::len).sum();
    while left > 0 {
        for (i, (_, group)) in groups.iter_mut().enumerate() {
            let _owner = group.acting_as_owner();
            if let [held] = pending[i].as_slice()
                && held.written == Some(group.written.get())
            {
                continue; // nothing has changed since
            }
            let units = std::mem::take(&mut pending[i])
                .into_iter()
                .map(|pending| pending.unit)
                .collect();
            pending[i] = units::retry(group, units)?;
        }
        let now = pending.iter().map(Vec::len).sum();
        if now == left {
            break;
        }
        left = now;
    }
    Ok(())
}
