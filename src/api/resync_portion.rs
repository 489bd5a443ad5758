//! The function behind `sequin.finish_resync_in_portions`: one step of the run of this session. The procedure
//! commits between steps.
//!
//! The rows of the destination are looked at block by block, without a lock on the mapping. Only while rows are
//! deleted do calls wait for the step. Rows that a message writes meanwhile are confirmed, wherever they move.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::prelude::*;

use super::resync::{
    Compared, SEEN, deferred_at_once, forget, forget_seen, lock, require_begun,
    require_confirmable, settle, share,
};
use super::resync_shards::Sharded;
use super::run::{self, Begun};
use crate::destination::Destination;
use crate::error::{Error, SqlError};
use crate::mapping::catalog::mine;
use crate::mapping::grants::{Routine, require_execute};
use crate::mapping::{Mapping, OnDelete};
use crate::pg::function::{Arguments, counts, function};
use crate::pg::isolation::{is_atomic, require_writable};
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::subtransaction::subtransaction;
use crate::pg::user::{ActingAs, current_user};

function! {
    /// `sequin_internal.resync_portion(mapping, min_confirmed, rows)`: with null `rows`, begins a run; otherwise deletes up
    /// to `rows` rows. Returns whether the run continues, whether its caller may commit, whether it should wait
    /// for a moment, and how many rows were deleted.
    resync_portion_wrapper, pg_finfo_resync_portion_wrapper = counts(resync_portion)
}

/// How long a step waits for locks: calls wait for the mapping as long as the step does.
const PATIENCE: Duration = Duration::from_millis(500);

/// After so many steps in turn without the locks, the run gives up.
const TRIES: i32 = 60;

/// A step that looked at its blocks in less time is followed by one of more blocks, and one that took more than
/// four times as long by one of fewer.
const SHORT: Duration = Duration::from_millis(50);

/// The most blocks that a step looks at.
const MOST_BLOCKS: i64 = 4096;

/// The place of a run that has not looked at rows yet.
const FIRST: &str = "(0,0)";

const WORK: &str = "finish_resync_in_portions";

/// What a step does. A run goes through these in turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Makes the stored keys fit the mapping's key.
    Settle,
    /// Counts, and refuses to go on if hardly any row was confirmed.
    Compare,
    /// Deletes rows.
    Delete,
    /// Ends the resync.
    End,
    /// Removes the notes of confirmed rows.
    Forget,
}

impl Phase {
    const ALL: [Phase; 5] = [
        Phase::Settle,
        Phase::Compare,
        Phase::Delete,
        Phase::End,
        Phase::Forget,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Phase::Settle => "settle",
            Phase::Compare => "compare",
            Phase::Delete => "delete",
            Phase::End => "end",
            Phase::Forget => "forget",
        }
    }
}

fn resync_portion(arguments: &Arguments<'_>) -> Result<[i64; 4], SqlError> {
    let commits = !is_atomic();
    require_writable("finish a resync")?;
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    require_execute(caller, Routine::Procedure, &[WORK])?;
    let share = share(arguments.double(1))?;
    let mapping = mine(arguments.text(0).as_deref())?;
    require_confirmable(&mapping)?;
    let _definer = ActingAs::new(extension_owner(), false);
    let Some(most) = arguments.bigint(2) else {
        require_begun(&mapping)?;
        run::begin(&Begun {
            work: WORK,
            role: caller,
            mapping: Some(&mapping.name),
            sqlstate: None,
            most: None,
            phase: Some(Phase::Settle.as_str()),
        })?;
        return Ok([1, commits.into(), 0, 0]);
    };
    let phase = run::column::<String>("phase")?;
    let phase = Phase::ALL
        .into_iter()
        .find(|known| phase.as_deref() == Some(known.as_str()));
    let step = Step {
        mapping,
        patient: commits,
        most,
        share,
    };
    let Some(phase) = phase else {
        return Ok([0, commits.into(), 0, 0]);
    };
    let end = |more: bool, waits: bool| -> Result<[i64; 4], SqlError> {
        let deleted = run::column::<i64>("deleted")?.unwrap_or_default();
        if !more {
            run::end()?;
        }
        Ok([more.into(), commits.into(), waits.into(), deleted])
    };
    match step.take(phase)? {
        Taken::More => {
            run::note("waits = 0", &[])?;
            end(true, false)
        }
        Taken::Last => end(false, false),
        Taken::Waits => {
            run::note("waits = r.waits + 1", &[])?;
            let tries = run::column::<i32>("waits")?.unwrap_or_default();
            if tries >= TRIES {
                return Err(Error::RowsLocked {
                    name: step.mapping.name,
                    tries,
                }
                .into());
            }
            end(true, true)
        }
    }
}

/// How a step ended.
enum Taken {
    More,
    Last,
    /// It did not get a lock in time.
    Waits,
}

struct Step {
    mapping: Mapping,
    /// Whether the step gives up what it does when it has to wait for long.
    patient: bool,
    /// How many rows it deletes at most.
    most: i64,
    share: f64,
}

impl Step {
    fn take(&self, phase: Phase) -> Result<Taken, SqlError> {
        if phase != Phase::Forget {
            require_begun(&self.mapping)?;
            let since = format!(
                "select r.started_at > w.started_at from sequin.resync r, sequin.run w
                 where r.mapping = {} and w.pid = pg_backend_pid()",
                self.mapping.id
            );
            if run::one::<bool>(&since, &[])? == Some(true) {
                return Err(self.began_again());
            }
        }
        let destination = match self.mapping.on_delete {
            OnDelete::Ignore => None,
            _ => self.mapping.destination_oid().and_then(Destination::load),
        };
        match (phase, destination) {
            (Phase::Settle, Some(destination)) => {
                let settled = self.locked(|| settle(&self.mapping, &destination).map(drop))?;
                self.next(settled.map(|()| Phase::Compare))
            }
            (Phase::Compare, Some(destination)) => self.compare(&destination),
            (Phase::Delete, Some(destination)) => self.delete(&destination),
            (Phase::Settle | Phase::Compare | Phase::Delete, None) => self.next(Some(Phase::End)),
            (Phase::End, _) => {
                let ended = self.locked(|| Ok(forget(self.mapping.id, Some(0))?))?;
                self.next(ended.map(|()| Phase::Forget))
            }
            (Phase::Forget, _) => self.forget(),
        }
    }

    fn began_again(&self) -> SqlError {
        Error::ResyncBeganAgain {
            name: self.mapping.name.clone(),
        }
        .into()
    }

    /// Goes on to a phase; `None`: the step has to be tried again.
    fn next(&self, phase: Option<Phase>) -> Result<Taken, SqlError> {
        let Some(phase) = phase else {
            return Ok(Taken::Waits);
        };
        run::note("phase = $1", &[phase.as_str().into()])?;
        Ok(Taken::More)
    }

    fn compare(&self, destination: &Destination) -> Result<Taken, SqlError> {
        let rows = Compared::new(&self.mapping, destination)?;
        if self.share > 0.0 {
            let standing = rows.count()?;
            standing.require(&rows, self.share)?;
            run::note("remaining = $1", &[standing.rows.into()])?;
        }
        self.next(Some(Phase::Delete))
    }

    /// Looks at some blocks, and deletes up to `most` rows in them.
    fn delete(&self, destination: &Destination) -> Result<Taken, SqlError> {
        let began = Instant::now();
        let place = run::column::<String>("place")?.unwrap_or_default();
        let blocks = run::column::<i64>("blocks")?.unwrap_or(1);
        let upto = block(&place) + blocks;
        let rows = Compared::new(&self.mapping, destination)?;
        if let Some(sharded) = &rows.sharded {
            return self.delete_sharded(sharded, destination);
        }
        let found = self.find(&rows, &place, upto)?;
        let took = began.elapsed();
        if let Some(places) = &found.places {
            let condition = format!("d.ctid = any ({places}::tid[])");
            let deleted = self.locked(|| {
                settle(&self.mapping, destination)?;
                rows.remove(&condition)
            })?;
            let Some(deleted) = deleted else {
                return Ok(Taken::Waits);
            };
            run::note("deleted = r.deleted + $1", &[deleted.into()])?;
        }
        if let Some(last) = found.last {
            // More rows of these blocks are to be deleted.
            run::note("place = $1", &[last.into()])?;
            return Ok(Taken::More);
        }
        let blocks = match took {
            took if took < SHORT => (blocks * 2).min(MOST_BLOCKS),
            took if took > SHORT * 4 => (blocks / 2).max(1),
            _ => blocks,
        };
        run::note(
            "place = $1, blocks = $2, done = r.done + $3, remaining = greatest(r.remaining - $3, 0)",
            &[
                format!("({upto},0)").into(),
                blocks.into(),
                found.rows.into(),
            ],
        )?;
        let is_over = upto >= size(destination)?;
        self.next(Some(if is_over { Phase::End } else { Phase::Delete }))
    }

    /// Does the same with a page of the rows of a table of Citus, whose place is a key.
    fn delete_sharded(
        &self,
        sharded: &Sharded,
        destination: &Destination,
    ) -> Result<Taken, SqlError> {
        let place = run::column::<String>("place")?.filter(|place| place != FIRST);
        let connection = Connection::open();
        let step = sharded.step(place, self.most)?;
        if let Some(found) = &step.found {
            let deleted = self.locked(|| {
                settle(&self.mapping, destination)?;
                deferred_at_once(&self.mapping, destination)?;
                sharded.remove(found)
            })?;
            let Some(deleted) = deleted else {
                return Ok(Taken::Waits);
            };
            run::note("deleted = r.deleted + $1", &[deleted.into()])?;
        }
        drop(connection);
        let Some(place) = step.place else {
            return self.next(Some(Phase::End));
        };
        run::note(
            "place = $1, done = r.done + $2, remaining = greatest(r.remaining - $2, 0)",
            &[place.into(), step.rows.into()],
        )?;
        Ok(Taken::More)
    }

    /// Finds rows that no message has confirmed, after a place and before a block.
    fn find(&self, rows: &Compared<'_>, place: &str, upto: i64) -> Result<Found, SqlError> {
        let most = self.most;
        let sql = format!(
            "select count(*), (array_agg(w.place order by w.place) filter (where w.gone))[1:{most}]::text,
                    (array_agg(w.place order by w.place) filter (where w.gone))[{most} + 1] is not null
             from (select d.ctid as place, {} as gone from {} d where {} and {} offset 0) w",
            rows.unconfirmed,
            rows.relation,
            within(place, upto),
            rows.is_its
        );
        let (count, places, more) = rows.query(&sql, |row| row.get_three::<i64, String, bool>())?;
        let last = match more {
            Some(true) => places.as_deref().and_then(last_of),
            _ => None,
        };
        Ok(Found {
            rows: count.unwrap_or_default(),
            places: places.map(|places| pgrx::spi::quote_literal(&places)),
            last,
        })
    }

    fn forget(&self) -> Result<Taken, SqlError> {
        let id = self.mapping.id;
        // The notes of a resync that has begun since then stay.
        let gone = self.locked(|| {
            let begun = format!("select true from sequin.resync r where r.mapping = {id}");
            match run::one::<bool>(&begun, &[])? {
                Some(_) => Ok(0),
                None => Ok(forget_seen(id, Some(SEEN))?),
            }
        })?;
        Ok(match gone {
            None => Taken::Waits,
            Some(SEEN) => Taken::More,
            Some(_) => Taken::Last,
        })
    }

    /// Works under the exclusive lock on the mapping. `None`: a lock was not to be had in time, and nothing was
    /// done.
    fn locked<T>(&self, work: impl FnOnce() -> Result<T, SqlError>) -> Result<Option<T>, SqlError> {
        if !self.patient {
            lock(&self.mapping);
            return work().map(Some);
        }
        let work = AssertUnwindSafe(work);
        PgTryBuilder::new(AssertUnwindSafe(move || {
            subtransaction(|| {
                let _limit = Settings::lock_timeout(PATIENCE);
                lock(&self.mapping);
                { work }.0().map(Some)
            })
        }))
        .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |_| Ok(None))
        .execute()
    }
}

/// The rows that a step has found.
struct Found {
    /// How many rows were looked at.
    rows: i64,
    /// The places of unconfirmed ones, as SQL.
    places: Option<String>,
    /// The last of these places, if more rows are unconfirmed.
    last: Option<String>,
}

/// The block of a place: of `(12,3)`, 12.
fn block(place: &str) -> i64 {
    let block = place.trim_start_matches('(').split(',').next();
    block
        .and_then(|block| block.parse().ok())
        .unwrap_or_default()
}

/// The last place of an array of them: `{"(0,1)","(0,2)"}`.
fn last_of(places: &str) -> Option<String> {
    let last = places.rsplit('(').next()?;
    Some(format!("({})", last.split(')').next()?))
}

/// The condition that the row `d` comes after a place and before a block: the server scans a range of blocks.
fn within(place: &str, upto: i64) -> String {
    format!("d.ctid > '{place}'::tid and d.ctid < '({upto},0)'::tid")
}

/// How many blocks the largest of the destination's partitions has.
fn size(destination: &Destination) -> Result<i64, Error> {
    let sql = format!(
        "with recursive part(oid) as (
             select {}::oid
             union all
             select i.inhrelid from part p join pg_inherits i on i.inhparent = p.oid)
         select max(pg_relation_size(p.oid)) / current_setting('block_size')::bigint from part p",
        destination.oid.to_u32()
    );
    run::one(&sql, &[]).map(Option::unwrap_or_default)
}
