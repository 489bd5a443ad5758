//! One call: a batch goes to its mappings, and every message ends as one counted outcome in each.

use std::collections::{BTreeMap, HashMap};

use bumpalo::Bump;
use pgrx::pg_sys;

use crate::dead_letter::{self, Letter};
use crate::envelope::{Batch, Item};
use crate::error::Error;
use crate::group::{Call, Group, Outcome};
use crate::guard;
use crate::pg::memory::Context;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::subtransaction::subtransaction;
use crate::pg::trap::SqlError;
use crate::pg::user::{ActingAs, current_user, is_restricted};
use crate::pg::{constraints, invalidation, isolation};
use crate::registry::Registry;
use crate::settings;
use crate::write::{self, Pending, Phase};

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
        self.outcomes[match outcome {
            Outcome::Upserted => 0,
            Outcome::Deleted => 1,
            Outcome::Collapsed => 2,
            Outcome::Stale => 3,
            Outcome::Filtered => 4,
            Outcome::Ignored => 5,
            Outcome::Dead => 6,
        }] += 1;
    }
}

/// The first attempt shares its mappings with other calls and writes all at once. If that turns out
/// not to do, it ends with this SQLSTATE, and the second has the mappings for itself.
pub const AGAIN_ALONE: &str = "40SQA";

/// The end of a write that must examine rows first.
pub const EXAMINE_MORE: &str = "40SQE";

/// A mapping changed while the call waited for it: the call begins again.
pub const RELOAD: &str = "40SQR";

/// A deadlock: the second attempt takes its locks in another way.
const DEADLOCK: &str = "40P01";

/// How often a call is tried. Alone, it can still meet a session that is not one of ours.
const ATTEMPTS: usize = 4;

/// The error that ends a first attempt.
pub fn again_alone() -> SqlError {
    SqlError::new(AGAIN_ALONE, "the call must have its mappings for itself")
}

/// Applies the batch. What is made on the way is kept in `memory`.
pub fn apply<'a>(batch: &'a Batch<'a>, memory: &'a Bump) -> Result<Counts, SqlError> {
    if isolation::is_snapshot() {
        return Err(Error::Isolation.into());
    }
    let _connection = Connection::open();
    let _context = Context::enter();
    let _settings = Settings::new(PINNED);
    let mut attempts = 1;
    loop {
        let mut registry = Registry::take()?;
        let result = with_registry(batch, memory, &mut registry);
        registry.give_back();
        match result {
            Err(error) if error.sqlstate() == RELOAD && attempts < ATTEMPTS => attempts += 1,
            result => return result,
        }
    }
}

fn with_registry<'a>(
    batch: &'a Batch<'a>,
    memory: &'a Bump,
    registry: &mut Registry,
) -> Result<Counts, SqlError> {
    let routes = route(batch, memory, registry)?;
    let mut call = Call {
        definer: current_user(),
        read_skew: settings::read_skew(),
        alone: false,
    };
    let mut groups = Vec::new();
    for (index, messages) in &routes.groups {
        let target = registry.target(*index)?;
        let mut group = Group::new(target, batch, messages.clone(), memory, call);
        group.resyncing = registry.resyncing.contains(&group.target.mapping.id);
        groups.push((*index, group));
    }
    parents_first(&mut groups);
    let mut attempts = 1;
    let result = loop {
        let relation = registry.relation;
        match subtransaction(|| write_all(relation, &mut groups)) {
            Err(error)
                if attempts < ATTEMPTS
                    && matches!(error.sqlstate().as_str(), AGAIN_ALONE | DEADLOCK) =>
            {
                attempts += 1;
                call.alone = true;
                groups = groups
                    .into_iter()
                    .map(|(index, group)| (index, group.again(call)))
                    .collect();
            }
            result => break result,
        }
    };
    let counts = result
        .and_then(|()| finish(&routes, &groups, memory))
        .and_then(|counts| guard::prune().map(|()| counts));
    for (index, group) in groups {
        registry.put_back(index, group.target);
    }
    counts
}

/// Stores what is dead, and counts.
fn finish<'a>(
    routes: &Routes<'a>,
    groups: &[(usize, Group<'a>)],
    memory: &'a Bump,
) -> Result<Counts, SqlError> {
    let mut counts = Counts {
        received: routes.received,
        ..Counts::default()
    };
    for outcome in &routes.outcomes {
        counts.count(*outcome);
    }
    let mut letters = Vec::new();
    for (_, group) in groups {
        for failure in &group.failures {
            let message = group.message(failure.message);
            letters.push(Letter {
                mapping: Some(&group.target.mapping.name),
                text: memory.alloc_str(&message.whole.text()),
                position: message.position,
                error: failure.error.clone(),
                waiting: failure.waiting,
                key: group.key_text(failure.message),
                message: Some(message),
            });
        }
        for outcome in &group.outcomes {
            counts.count(outcome.expect("every message of a group has an outcome"));
        }
    }
    letters.sort_by_key(|letter| letter.position);
    dead_letter::store(routes.letters.iter().chain(&letters))?;
    let outcomes: i64 = counts.outcomes.iter().sum();
    assert_eq!(
        outcomes, routes.expected,
        "every message must end as one outcome per mapping"
    );
    Ok(counts)
}

/// Where the messages of a batch go.
struct Routes<'a> {
    /// How many messages there are.
    received: i64,
    /// By mapping, in the order of their ids, the messages' places in the batch.
    groups: BTreeMap<usize, Vec<u32>>,
    /// What is settled already.
    outcomes: Vec<Outcome>,
    letters: Vec<Letter<'a>>,
    /// How many outcomes there must be in the end.
    expected: i64,
}

fn route<'a>(
    batch: &'a Batch<'a>,
    memory: &'a Bump,
    registry: &Registry,
) -> Result<Routes<'a>, SqlError> {
    let mut routes = Routes {
        received: batch.items.len() as i64,
        groups: BTreeMap::new(),
        outcomes: Vec::new(),
        letters: Vec::new(),
        expected: 0,
    };
    let mut known: HashMap<_, Vec<usize>> = HashMap::new();
    let mut last: Option<(_, Vec<usize>)> = None;
    let mut unmapped: Option<(String, usize)> = None;
    for (place, item) in batch.items.iter().enumerate() {
        let message = match item {
            Item::Message(message) => message,
            Item::Dead { text, fault } => {
                routes.outcomes.push(Outcome::Dead);
                routes.expected += 1;
                routes.letters.push(Letter {
                    mapping: None,
                    text,
                    position: place,
                    error: SqlError::new("22023", fault.to_string()).with_hint(
                        "Send change messages of Sequin as they are, without a transform.",
                    ),
                    waiting: false,
                    key: None,
                    message: None,
                });
                continue;
            }
        };
        let source = (
            message.database_name,
            message.database_id,
            message.schema,
            message.table,
        );
        if last.as_ref().is_none_or(|(route, _)| *route != source) {
            let found = known.entry(source).or_insert_with(|| {
                registry
                    .router
                    .route(source.0, source.1, source.2, source.3)
                    .into_owned()
            });
            last = Some((source, found.clone()));
        }
        let (_, found) = last.as_ref().expect("just set");
        routes.expected += found.len().max(1) as i64;
        for &index in found {
            let mapping = &registry.mappings[index];
            if !mapping.enabled {
                return Err(Error::MappingPaused {
                    name: mapping.name.clone(),
                }
                .into());
            }
            if mapping.destination.is_none() {
                routes.outcomes.push(Outcome::Ignored);
            } else {
                routes.groups.entry(index).or_default().push(place as u32);
            }
        }
        if found.is_empty() {
            let table = format!("{}.{}", message.schema, message.table);
            routes.outcomes.push(Outcome::Dead);
            routes.letters.push(Letter {
                mapping: None,
                text: memory.alloc_str(&message.whole.text()),
                position: message.position,
                error: unmapped_error(&table),
                waiting: false,
                key: None,
                message: Some(message),
            });
            unmapped.get_or_insert((table, 0)).1 += 1;
        }
    }
    if let Some((table, count)) = unmapped {
        warn_unmapped(&table, count);
    }
    Ok(routes)
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
fn write_all(relation: pg_sys::Oid, groups: &mut [(usize, Group<'_>)]) -> Result<(), SqlError> {
    let mut ids: Vec<_> = groups
        .iter()
        .map(|(_, group)| (group.target.mapping.id, group.call.alone))
        .collect();
    ids.sort_unstable();
    for (id, alone) in ids {
        invalidation::lock_mapping(relation, id, alone);
    }
    if invalidation::has_changed(relation) {
        return Err(SqlError::new(RELOAD, "a mapping changed"));
    }
    // What is deferred must not fail at commit, where nobody could be blamed for it. It is checked
    // when all is written, which serves rows that refer to each other; to find who is to blame, and
    // for owners that may not defer, as each statement ends.
    let deferred = groups
        .iter()
        .any(|(_, group)| group.target.destination.deferred);
    let at_once = groups.iter().any(|(_, group)| {
        group.call.alone || is_restricted(pg_sys::Oid::from(group.target.mapping.owner))
    });
    if deferred && at_once {
        constraints::check_at_once()?;
    }
    let mut pending: Vec<Vec<Pending>> = groups.iter().map(|_| Vec::new()).collect();
    for (_, group) in groups.iter_mut() {
        let _owner = acting_as_owner(group);
        group.prepare()?;
        group.confirm()?;
        match write::claim_all(group) {
            Err(error) if error.sqlstate() != AGAIN_ALONE => {
                dead_letter::blame(error, &group.target.mapping)?;
                return Err(again_alone());
            }
            result => result?,
        }
    }
    for (i, (_, group)) in groups.iter_mut().enumerate() {
        let _owner = acting_as_owner(group);
        write::write(group, Phase::Upserts, &mut pending[i])?;
    }
    for (i, (_, group)) in groups.iter_mut().enumerate().rev() {
        let _owner = acting_as_owner(group);
        write::write(group, Phase::Deletes, &mut pending[i])?;
    }
    if deferred
        && !at_once
        && let Err(error) = constraints::check_at_once()
    {
        dead_letter::blame(error, &groups[0].1.target.mapping)?;
        return Err(again_alone());
    }
    let mut left: usize = pending.iter().map(Vec::len).sum();
    while left > 0 {
        for (i, (_, group)) in groups.iter_mut().enumerate() {
            let _owner = acting_as_owner(group);
            let units = std::mem::take(&mut pending[i])
                .into_iter()
                .map(|pending| pending.unit)
                .collect();
            pending[i] = write::retry(group, units)?;
        }
        let now = pending.iter().map(Vec::len).sum();
        if now == left {
            break;
        }
        left = now;
    }
    for ((_, group), pending) in groups.iter_mut().zip(pending) {
        if pending.is_empty() {
            continue;
        }
        let _owner = acting_as_owner(group);
        let nets: Vec<_> = pending
            .iter()
            .flat_map(|pending| pending.unit.clone())
            .collect();
        let before = group.outcomes.clone();
        if nets.len() > 1 {
            match subtransaction(|| write::replay(group, &nets)) {
                Ok(()) => continue,
                // A cancel, say.
                Err(error) => dead_letter::blame(error, &group.target.mapping).map(|_| ())?,
            }
        }
        group.outcomes = before;
        for Pending { unit, error } in pending {
            group.give_up(unit[0].message, error, true);
        }
    }
    Ok(())
}

fn acting_as_owner(group: &Group<'_>) -> ActingAs {
    ActingAs::untrusted(pg_sys::Oid::from(group.target.mapping.owner))
}
