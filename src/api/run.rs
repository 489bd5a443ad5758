//! The runs of long work in portions: `sequin.run`, which `sequin.progress` shows.

#![forbid(unsafe_code)]

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::own_statement;
use crate::error::{Error, SqlError};

/// Removes this session's former run, and runs that were stopped. A session whose statements are not tracked
/// has stopped if it has not ended a portion for a minute.
const FORGET: &str = "
    delete from sequin.run r
    where r.pid in (select o.pid from sequin.run o
                    where o.pid = pg_backend_pid()
                       or not exists (select from pg_stat_activity a
                                      where a.pid = o.pid
                                        and (a.query_start = o.statement_at and a.state = 'active'
                                             or a.query_start is null
                                                and o.updated_at > clock_timestamp() - interval '1 minute'))
                    for update skip locked)";

const BEGIN: &str = "
    insert into sequin.run (pid, work, role, mapping, sqlstate, most, upto, phase)
    select pg_backend_pid(), $1, $2::oid::regrole, $3, $4, $5, coalesce(max(l.id), 0), $6
    from sequin.dead_letter l";

/// A run that begins.
pub(super) struct Begun<'a> {
    /// The procedure.
    pub work: &'static str,
    pub role: pg_sys::Oid,
    pub mapping: Option<&'a str>,
    pub sqlstate: Option<&'a str>,
    /// How many dead letters it may come to.
    pub most: Option<i64>,
    /// What the next portion does.
    pub phase: Option<&'static str>,
}

/// Notes that this session begins a run. The caller acts as the extension's owner.
pub(super) fn begin(run: &Begun<'_>) -> Result<(), Error> {
    change(FORGET, &[])?;
    change(
        BEGIN,
        &[
            run.work.into(),
            run.role.into(),
            run.mapping.into(),
            run.sqlstate.into(),
            run.most.into(),
            run.phase.into(),
        ],
    )
}

/// Changes columns of this session's run, as in `done = r.done + $1`.
pub(super) fn note(columns: &str, args: &[DatumWithOid<'_>]) -> Result<(), Error> {
    change(
        &format!(
            "update sequin.run r set {columns}, updated_at = clock_timestamp() where r.pid = pg_backend_pid()"
        ),
        args,
    )
}

/// Ends this session's run.
pub(super) fn end() -> Result<(), Error> {
    change(
        "delete from sequin.run r where r.pid = pg_backend_pid()",
        &[],
    )
}

/// A column of this session's run.
pub(super) fn column<T: pgrx::FromDatum + pgrx::IntoDatum>(name: &str) -> Result<Option<T>, Error> {
    one(
        &format!("select r.{name} from sequin.run r where r.pid = pg_backend_pid()"),
        &[],
    )
}

/// The caller's letters that a mapping of these has, or no mapping.
const OF_CALLER: &str = "
    (l.mapping = any ($1) or $2 and (l.mapping is null or not exists (
         select from sequin.mapping m where m.name = l.mapping)))";

/// A column of this session's run, for a condition. After a join with the run, the server would sort all letters that the
/// run has still to come to, portion by portion.
pub(super) fn of_run(column: &str) -> String {
    format!("(select r.{column} from sequin.run r where r.pid = pg_backend_pid())")
}

/// The condition for letters that this session's run has still to come to, of its mapping and SQLSTATE. Letters that
/// arrived after its beginning are left out.
pub(super) fn letters_left() -> String {
    let [last, upto, mapping, sqlstate] =
        ["last_letter", "upto", "mapping", "sqlstate"].map(of_run);
    format!(
        "l.id > {last} and l.id <= {upto} and ({mapping} is null or l.mapping = {mapping})
         and ({sqlstate} is null or l.sqlstate = {sqlstate}) and {OF_CALLER}"
    )
}

pub(super) fn change(sql: &str, args: &[DatumWithOid<'_>]) -> Result<(), Error> {
    Spi::run_with_args(sql, args).map_err(own_statement("note the progress of a run"))
}

// Not read-only for SPI, so that the query sees the changes of transactions that this call has waited for.
pub(super) fn one<T: pgrx::FromDatum + pgrx::IntoDatum>(
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
    Spi::connect_mut(read).map_err(own_statement("read the progress of a run"))
}

/// Letters by number.
pub(super) fn ids(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Vec<i64>, SqlError> {
    Spi::connect_mut(|client| {
        client
            .update(sql, None, args)?
            .map(|row| Ok(row.get(1)?.expect("not null")))
            .collect::<Result<_, pgrx::spi::Error>>()
    })
    .map_err(own_statement("read sequin.dead_letter"))
    .map_err(SqlError::from)
}
