//! The function behind `call sequin.discard(mapping, sqlstate, older_than)`: one step of the run of this session. The
//! procedure commits between steps.

use pgrx::datum::DatumWithOid;

use super::dead_letter::own_mappings;
use super::run::{self, Begun};
use crate::error::{Error, SqlError};
use crate::mapping::catalog::mine;
use crate::mapping::grants::{Routine, require_execute};
use crate::pg::function::{Arguments, counts, function};
use crate::pg::isolation::{is_atomic, require_writable};
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::user::{ActingAs, current_user, may_act_as};

function! {
    /// `sequin_internal.discard_portion(mapping, sqlstate, before, letters)`: with null `letters`, begins a run;
    /// otherwise removes up to `letters` letters that were received before a time. Returns whether the run continues,
    /// whether its caller may commit, and how many letters the run has removed.
    discard_portion_wrapper, pg_finfo_discard_portion_wrapper = counts(discard_portion)
}

/// Letters that the run has still to remove.
fn left() -> String {
    let (letters, before) = (run::letters_left(), run::of_run("before"));
    format!("{letters} and ({before} is null or l.received_at < {before})")
}

fn discard_portion(arguments: &Arguments<'_>) -> Result<[i64; 3], SqlError> {
    let commits = i64::from(!is_atomic());
    require_writable("discard dead letters")?;
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    require_execute(caller, Routine::Procedure, &["discard"])?;
    let (mapping, sqlstate) = (arguments.text(0), arguments.text(1));
    if let Some(name) = &mapping {
        mine(Some(name))?;
    }
    let owner = extension_owner();
    let _definer = ActingAs::new(owner, false);
    let args: [DatumWithOid<'_>; 2] = [
        own_mappings(caller, true)?.into(),
        may_act_as(caller, owner).into(),
    ];
    let Some(letters) = arguments.bigint(3) else {
        let before = arguments.bigint(2);
        if mapping.is_none() && sqlstate.is_none() && before.is_none() {
            return Err(Error::DiscardsAll.into());
        }
        run::begin(&Begun {
            work: "discard",
            role: caller,
            mapping: mapping.as_deref(),
            sqlstate: sqlstate.as_deref(),
            most: None,
            phase: None,
        })?;
        // `before` is in microseconds since 1970: see the procedure.
        run::note(
            "before = to_timestamp(0) + $1 * interval '1 microsecond'",
            &[before.into()],
        )?;
        let count = format!(
            "update sequin.run w set remaining = (select count(*) from sequin.dead_letter l where {})
             where w.pid = pg_backend_pid()",
            left()
        );
        run::change(&count, &args)?;
        return Ok([1, commits, 0]);
    };
    // A call retries those that it has locked: they may be applied.
    let sql = format!(
        "with next as materialized (
             select l.id from sequin.dead_letter l where {} order by l.id limit {letters} for update skip locked)
         delete from sequin.dead_letter l using next n where l.id = n.id returning l.id",
        left()
    );
    let ids = run::ids(&sql, &args)?;
    let removed = ids.len() as i64;
    run::note(
        "last_letter = coalesce($1, r.last_letter), done = r.done + $2, remaining = greatest(r.remaining - $2, 0)",
        &[ids.iter().max().copied().into(), removed.into()],
    )?;
    let done = run::column::<i64>("done")?.unwrap_or_default();
    // Fewer than asked for are the last.
    let more = removed >= letters;
    if !more {
        run::end()?;
    }
    Ok([more.into(), commits, done])
}
