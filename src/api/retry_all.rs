//! The function behind `sequin.retry_all`: one step of the run of this session. The procedure commits between
//! steps.

use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;

use super::dead_letter::own_mappings;
use super::own_statement;
use crate::apply::apply_letters;
use crate::error::{Error, SqlError};
use crate::mapping::catalog::mine;
use crate::mapping::grants::may_execute;
use crate::pg::function::{Arguments, counts, function};
use crate::pg::isolation::{is_atomic, require_writable};
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::user::{ActingAs, current_user, may_act_as};

function! {
    /// `sequin_internal.retry_portion(mapping, sqlstate, letters, most)`: with null `letters`, begins a run of up to
    /// `most` letters; otherwise tries up to `letters` letters. Returns whether the run continues, whether
    /// its caller may commit, and how many letters were tried; at the end of the run, also its totals.
    retry_portion_wrapper, pg_finfo_retry_portion_wrapper = counts(retry_portion)
}

/// The lock by which `sequin.progress` sees that the run is under way. It is released when the transaction
/// ends.
const HOLD: &str = "select pg_try_advisory_xact_lock_shared(1936028777, pg_backend_pid())";

/// Removes this session's former run, and runs that were stopped: not updated for a minute, and without the
/// lock.
const FORGET: &str = "
    delete from sequin.retry_run r
    where r.pid in (select o.pid from sequin.retry_run o
                    where o.pid = pg_backend_pid()
                       or o.updated_at < clock_timestamp() - interval '1 minute'
                          and not exists (select from pg_locks l
                                          where l.locktype = 'advisory' and l.classid = 1936028777
                                            and l.objsubid = 2 and l.pid = o.pid)
                    for update skip locked)";

/// Letters that the run has still to try. Letters that arrived, or were tried, after its beginning are left
/// out.
const LETTERS: &str = "
    l.id > r.last_letter and l.id <= r.upto and l.last_attempt_at < r.started_at
    and (r.mapping is null or l.mapping = r.mapping) and (r.sqlstate is null or l.sqlstate = r.sqlstate)
    and (l.mapping = any ($1) or $2 and (l.mapping is null or not exists (
         select from sequin.mapping m where m.name = l.mapping)))";

fn retry_portion(arguments: &Arguments<'_>) -> Result<[i64; 5], SqlError> {
    let commits = i64::from(!is_atomic());
    require_writable("apply messages")?;
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    // The procedure runs with its caller's rights: every role may execute this function.
    if !may_execute(caller, &["retry_all"]) {
        return Err(Error::MayNotExecute {
            kind: "procedure",
            name: "retry_all",
        }
        .into());
    }
    let text = |i: usize| {
        let bytes = arguments.bytes(i);
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let (mapping, sqlstate) = (text(0), text(1));
    if let Some(name) = &mapping {
        mine(Some(name))?;
    }
    let owner = extension_owner();
    let _definer = ActingAs::new(owner, false);
    let args: [DatumWithOid<'_>; 2] = [
        own_mappings(caller, mapping.is_some())?.into(),
        may_act_as(caller, owner).into(),
    ];
    one::<bool>(HOLD, &[])?;
    let Some(letters) = arguments.bigint(2) else {
        run(FORGET, &[])?;
        let most = arguments.bigint(3);
        run(
            "insert into sequin.retry_run (pid, role, mapping, sqlstate, started_at, upto, most, updated_at)
             select pg_backend_pid(), $1::oid::regrole, $2, $3, clock_timestamp(), coalesce(max(l.id), 0), $4,
                    clock_timestamp()
             from sequin.dead_letter l",
            &[caller.into(), mapping.into(), sqlstate.into(), most.into()],
        )?;
        return Ok([i64::from(count_left(&args)? > 0), commits, 0, 0, 0]);
    };
    let sql = format!(
        "select l.id from sequin.retry_run r join sequin.dead_letter l on {LETTERS}
         where r.pid = pg_backend_pid() order by l.id
         limit (select least({letters}, o.most - o.done) from sequin.retry_run o where o.pid = pg_backend_pid())"
    );
    let ids: Vec<i64> = Spi::connect_mut(|client| {
        client
            .update(&sql, None, &args)?
            .map(|row| Ok(row.get(1)?.expect("not null")))
            .collect::<Result<_, pgrx::spi::Error>>()
    })
    .map_err(own_statement("read sequin.dead_letter"))?;
    let Some(&last) = ids.last() else {
        let [done, healed] = ["done", "healed"].map(|column| {
            one::<i64>(
                &format!(
                    "select r.{column} from sequin.retry_run r where r.pid = pg_backend_pid()"
                ),
                &[],
            )
        });
        run(
            "delete from sequin.retry_run r where r.pid = pg_backend_pid()",
            &[],
        )?;
        return Ok([
            0,
            commits,
            0,
            done?.unwrap_or_default(),
            healed?.unwrap_or_default(),
        ]);
    };
    let tried = ids.len() as i64;
    apply_letters(ids.iter().copied(), caller)?;
    let failed = one::<i64>(
        "select count(*) from sequin.dead_letter l where l.id = any ($1)",
        &[ids.into()],
    )?;
    run(
        "update sequin.retry_run r
         set last_letter = $1, done = r.done + $2, healed = r.healed + $3, remaining = greatest(r.remaining - $2, 0),
             updated_at = clock_timestamp()
         where r.pid = pg_backend_pid()",
        &[
            last.into(),
            tried.into(),
            (tried - failed.unwrap_or_default()).into(),
        ],
    )?;
    // Letters are also retried for the rows that other letters bring. Counting the rest takes as long as
    // reading it, so the count is renewed each time that a tenth of the rest was tried.
    if one::<bool>(
        "select (r.done - r.counted_at) * 10 >= r.remaining from sequin.retry_run r
         where r.pid = pg_backend_pid()",
        &[],
    )?
    .unwrap_or_default()
    {
        count_left(&args)?;
    }
    Ok([1, commits, tried, 0, 0])
}

/// Counts the letters that the run has still to try.
fn count_left(args: &[DatumWithOid<'_>]) -> Result<i64, Error> {
    let sql = format!(
        "update sequin.retry_run w
         set remaining = least(w.most - w.done, (
                 select count(*) from sequin.retry_run r join sequin.dead_letter l on {LETTERS}
                 where r.pid = w.pid)),
             counted_at = w.done
         where w.pid = pg_backend_pid() returning w.remaining"
    );
    one(&sql, args).map(Option::unwrap_or_default)
}

fn run(sql: &str, args: &[DatumWithOid<'_>]) -> Result<(), Error> {
    Spi::run_with_args(sql, args).map_err(own_statement("note the progress of sequin.retry_all"))
}

// Not read-only for SPI, so that the query sees the changes of transactions that this call has waited for.
fn one<T: pgrx::FromDatum + pgrx::IntoDatum>(
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>, Error> {
    let read = |client: &mut pgrx::spi::SpiClient<'_>| {
        let rows = client.update(sql, None, args)?;
        match rows.is_empty() {
            true => Ok(None),
            false => rows.first().get_one::<T>(),
        }
    };
    Spi::connect_mut(read).map_err(own_statement("read the progress of sequin.retry_all"))
}
