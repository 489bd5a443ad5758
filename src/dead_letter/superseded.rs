//! Letters, and failures of this call, that newer changes of their rows supersede.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use super::due::{Candidate, Due, Written};
use super::presence::Presence;
use crate::blame::{Verdict, cause};
use crate::changes::Changes;
use crate::error::SqlError;
use crate::guard::stored::load;
use crate::image::{fingerprint, source_number};
use crate::mapping::versions::VersionsIn;
use crate::mapping::{Mode, OnError};
use crate::merge::{Change, Effect, Event, Provided, Stamp, State};
use crate::outcome::{Failure, Outcome};
use crate::prepared::{Kept, RowReader};
use crate::statement::lookup::RowLock;

const OF_ROWS: &str = "
    select b.n, l.id, l.source, l.lsn, l.idx, l.committed_at,
           case when l.former_key is null and l.state = 'dead' and l.lsn is not null then null
                else l.attempts < 20 or l.last_attempt_at < now() - interval '1 minute' end,
           l.waits_on, l.waits_for
    from sequin_internal.batch() b(n integer, mapping text, key bytea)
    cross join lateral (select l.* from sequin.dead_letter l
                        where l.mapping = b.mapping and l.row_key = b.key
                        union all
                        select l.* from sequin.dead_letter l
                        where l.mapping = b.mapping and l.former_key = b.key offset 0) l";

thread_local! {
    static ROWS: Kept = const {
        Kept::new(
            OF_ROWS,
            &[("n", pg_sys::INT4OID), ("mapping", pg_sys::TEXTOID), ("key", pg_sys::BYTEAOID)],
        )
    };
}

/// The superseded letters of a mapping's rows, and the letters to retry.
#[derive(Debug, Default)]
pub struct Superseded {
    /// The letters (by number) that are superseded.
    pub remove: Vec<i64>,
    /// The letters (by number) that must be retried with the call's messages: only a retry shows whether
    /// they still change something.
    pub again: Vec<i64>,
    /// The letters that are newer than what the call has written to their rows: what was in their way may be gone.
    pub newer: Vec<Candidate>,
}

/// A letter of a row of the call.
struct LetterOfRow {
    id: i64,
    unapplied: Unapplied,
    /// Whether the letter may be retried now. `None`: the letter is dead and is not retried.
    due: Option<bool>,
    /// What the letter waits for, if that is known.
    waits_for: Option<Written>,
}

/// Finds the letters of the mapping's rows that newer changes supersede. `has` are the letters that the
/// call retries already. `may_retry`: whether the call may start over with more letters.
pub fn supersede(
    presence: &Presence,
    has: &BTreeSet<i64>,
    may_retry: bool,
    changes: &mut Changes<'_>,
) -> Result<Superseded, SqlError> {
    let mapping = &changes.target.mapping;
    if mapping.mode == Mode::Append || !presence.of_mapping(mapping.id) {
        return Ok(Superseded::default());
    }
    let mapping_id = mapping.id;
    let keeps_letters = mapping.on_error == OnError::DeadLetter;
    let may_retry = may_retry && keeps_letters;
    let letters = letters_of_rows(changes, has)?;
    let standings = if changes.target.versions == VersionsIn::Nowhere {
        vec![Standing::Old; letters.len()] // the last change to arrive is the newest
    } else {
        standings(changes, letters.iter().map(|letter| &letter.unapplied))?
    };
    let mut superseded = Superseded::default();
    for (letter, standing) in letters.into_iter().zip(standings) {
        match (letter.due, standing) {
            (Some(true), Standing::News)
                if keeps_letters && is_written(changes, letter.unapplied.change) =>
            {
                superseded.newer.push(Candidate {
                    due: Due {
                        letter: letter.id,
                        mapping: mapping_id,
                    },
                    waits_for: letter.waits_for,
                });
            }
            (_, Standing::News) | (None, Standing::Fills | Standing::Unclear) => {}
            (None, Standing::Old) => superseded.remove.push(letter.id),
            (Some(true), _) if may_retry => superseded.again.push(letter.id),
            (Some(_), _) => {}
        }
    }
    Ok(superseded)
}

/// Whether the call has written something to the row of this change.
fn is_written(changes: &Changes<'_>, change: u32) -> bool {
    changes.keyed.run_of(change).changes().any(|change| {
        let message = changes.keyed.change(change).message;
        let outcome = changes.ledger.outcome(message);
        matches!(outcome, Some(Outcome::Upserted | Outcome::Deleted))
    })
}

/// The letters of the call's rows. Letters that the call retries are left out: they have outcomes of their own.
fn letters_of_rows(
    changes: &Changes<'_>,
    has: &BTreeSet<i64>,
) -> Result<Vec<LetterOfRow>, SqlError> {
    // A statement does not always report which rows were stale, so all rows count here. The stored state
    // decides. A row of which the call writes nothing counts too: what the call repeats for it may have been written
    // with a message that failed then, so that no call has looked at the row's letters.
    let runs = changes.keyed.runs().into_iter();
    let decided: Vec<u32> = runs
        // Although the deciding message failed, another change of its row may have been written.
        .filter(|run| {
            let mut messages = run.changes().map(|i| changes.keyed.change(i).message);
            messages.any(|message| !changes.ledger.is_dead(message))
        })
        .map(|run| run.start)
        .collect();
    let returned = ROWS.with(|statement| {
        statement.query(decided.iter().enumerate(), |(n, change)| {
            vec![
                Some(Datum::from(n as i32)),
                changes.target.mapping.name.as_str().into_datum(),
                changes.keyed.key(*change).into_datum(),
            ]
        })
    })?;
    let mut letters = Vec::new();
    let mut row = RowReader::new(&returned);
    while row.next() {
        let id = row.bigint(1).unwrap_or_default();
        if has.contains(&id) {
            continue;
        }
        let stamp = Stamp {
            source: source_number(&row.text(2).unwrap_or_default()),
            version: row.version(3, 4),
            committed_at: row.time(5),
        };
        letters.push(LetterOfRow {
            id,
            unapplied: Unapplied {
                change: decided[row.index(0)],
                event: match stamp.version {
                    Some(_) => Event::Update,
                    None => Event::Read,
                },
                stamp,
                image: None,
            },
            due: row.bool(6),
            waits_for: Written::stored(&row, 7, 8),
        });
    }
    Ok(letters)
}

/// Takes the failures of a mapping and returns the failures that must become letters. A failure does not
/// matter if a newer change of its row was applied, in this call or before. Whatever its error is, the
/// outcome is then collapsed or stale.
pub fn settle_failures(changes: &mut Changes<'_>) -> Result<Vec<Failure>, SqlError> {
    let failures = std::mem::take(&mut changes.ledger.failures);
    if failures.is_empty() || changes.target.mapping.mode == Mode::Append {
        return Ok(failures);
    }
    // `of` has the index of the failure of each unapplied change: a message that moved its row has two
    // changes.
    let mut of = Vec::new();
    let mut unapplied = Vec::new();
    for (i, failure) in failures.iter().enumerate() {
        let message = changes.intake.message(failure.message);
        for number in changes.keyed.of_message(failure.message) {
            let change = changes.keyed.change(number);
            let comes = matches!(change.event, Event::Appear | Event::Update);
            of.push(i);
            unapplied.push(Unapplied {
                change: number,
                event: change.event,
                stamp: change.stamp,
                image: comes.then(|| fingerprint(message.record, None)),
            });
        }
    }
    let arrival = changes.target.versions == VersionsIn::Nowhere;
    // A message that waits for another row was newer than the stored state when it was tried.
    let waits =
        |failure: &Failure| failure.wait.is_some() && cause(&failure.error) == Verdict::AnotherRow;
    let mut old: Vec<bool> = failures.iter().map(|f| !arrival && !waits(f)).collect();
    if !arrival {
        for (i, standing) in of.iter().zip(standings(changes, unapplied.iter())?) {
            old[*i] &= standing == Standing::Old;
        }
    }
    let mut run_of = vec![None; failures.len()];
    for (i, unapplied) in of.iter().zip(&unapplied) {
        run_of[*i] = Some(changes.keyed.run_of(unapplied.change));
    }
    let mut kept = Vec::with_capacity(failures.len());
    for ((failure, old), run) in failures.into_iter().zip(old).zip(run_of) {
        let Some(run) = run else {
            kept.push(failure);
            continue;
        };
        let collapsed = run.changes().any(|other| {
            let message = changes.keyed.change(other).message;
            let outcome = changes.ledger.outcome(message);
            (old || arrival && message > failure.message)
                && matches!(outcome, Some(Outcome::Upserted | Outcome::Deleted))
        });
        if collapsed {
            changes.ledger.set(failure.message, Outcome::Collapsed);
        } else if old {
            changes.ledger.set(failure.message, Outcome::Stale);
        } else {
            kept.push(failure);
        }
    }
    Ok(kept)
}

/// A change that was not applied.
struct Unapplied {
    /// A change of the same row in this call, which gives the key.
    change: u32,
    event: Event,
    stamp: Stamp,
    image: Option<u64>,
}

/// An unapplied change, compared with the stored state of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The change is newer.
    News,
    /// The change is older but has a missing value.
    Fills,
    /// The change is older, or was applied: it would change nothing.
    Old,
    /// The change is of the same transaction as the stored state: only images could show which of two rows
    /// with this key the change is for.
    Unclear,
}

fn standings<'u>(
    changes: &mut Changes<'_>,
    unapplied: impl Iterator<Item = &'u Unapplied> + Clone,
) -> Result<Vec<Standing>, SqlError> {
    let keyed = &changes.keyed;
    let keys: Vec<Vec<u8>> = unapplied
        .clone()
        .map(|u| keyed.key(u.change).to_vec())
        .collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<Vec<Datum>> = unapplied
        .clone()
        .map(|u| keyed.key_values(u.change).to_vec())
        .collect();
    let _owner = changes.acting_as_owner();
    let (definer, read_skew) = (changes.intake.call.definer, changes.intake.call.read_skew);
    let guard = (definer, changes.examined.home);
    let stored = load(
        &mut changes.target,
        guard,
        (&keys, &values),
        RowLock::None,
        true,
    )?;
    Ok(unapplied
        .zip(stored)
        .map(|(unapplied, stored)| standing(unapplied, &stored.state, read_skew))
        .collect())
}

fn standing(unapplied: &Unapplied, state: &State, read_skew: i64) -> Standing {
    let provided = vec![Provided::Value; state.cells.len()];
    let mut after = state.clone();
    let effect = after.apply(
        &Change {
            id: 0,
            event: unapplied.event,
            stamp: unapplied.stamp,
            image: unapplied.image,
            differs: false,
            provided: &provided,
        },
        read_skew,
    );
    match effect {
        Effect::Filled => Standing::Fills,
        Effect::Stale if after == *state => Standing::Old,
        _ if unapplied.image.is_none() && is_of_transaction(unapplied.stamp, state) => {
            Standing::Unclear
        }
        _ => Standing::News,
    }
}

/// Whether a change belongs to the transaction that wrote or deleted the row.
fn is_of_transaction(stamp: Stamp, state: &State) -> bool {
    let stored = state
        .row
        .into_iter()
        .chain(state.gone.map(|gone| gone.stamp));
    let transaction = |stamp: &Stamp| stamp.version.map(|version| (stamp.source, version.lsn));
    stored
        .map(|stored| transaction(&stored))
        .any(|stored| stored.is_some() && stored == transaction(&stamp))
}
