//! The function behind `call sequin.discard(mapping, sqlstate, older_than)`: one step of the run of this session. The
//! procedure commits between steps.

use pgrx::datum::DatumWithOid;

use super::dead_letter::own_mappings;
use super::run::{self, Begun, OF_CALLER};
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

/// Letters that the run has still to remove. Letters that arrived after its beginning are left out.
const LETTERS: &str = "
    l.id > r.last_letter and l.id <= r.upto
    and (r.mapping is null or l.mapping = r.mapping) and (r.sqlstate is null or l.sqlstate = r.sqlstate)
    and (r.before is null or l.received_at < r.before)";

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
        let left = format!(
            "update sequin.run w
             set remaining = (select count(*) from sequin.run r join sequin.dead_letter l on {LETTERS} and {OF_CALLER}
                              where r.pid = w.pid)
             where w.pid = pg_backend_pid()"
        );
        run::change(&left, &args)?;
        return Ok([1, commits, 0]);
    };
    // A call retries those that it has locked: they may be applied.
    let sql = format!(
        "with next as materialized (
             select l.id from sequin.run r join sequin.dead_letter l on {LETTERS} and {OF_CALLER}
             where r.pid = pg_backend_pid() order by l.id limit {letters} for update of l skip locked)
         delete from sequin.dead_letter l using next n where l.id = n.id returning l.id"
    );
    let ids = run::ids(&sql, &args)?;
    let Some(last) = ids.iter().max() else {
        let done = run::column::<i64>("done")?.unwrap_or_default();
        run::end()?;
        return Ok([0, commits, done]);
    };
    run::note(
        "last_letter = $1, done = r.done + $2, remaining = greatest(r.remaining - $2, 0)",
        &[(*last).into(), (ids.len() as i64).into()],
    )?;
    Ok([1, commits, 0])
}
