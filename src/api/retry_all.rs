//! The function behind `sequin.retry_all`: one step of the run of this session. The procedure commits between
//! steps.

use pgrx::datum::DatumWithOid;

use super::dead_letter::own_mappings;
use super::run::{self, Begun};
use crate::apply::apply_letters;
use crate::error::{Error, SqlError};
use crate::mapping::catalog::mine;
use crate::mapping::grants::{Routine, require_execute};
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

/// Letters that the run has still to try. Letters that were tried after its beginning are left out.
fn left() -> String {
    let (letters, started) = (run::letters_left(), run::of_run("started_at"));
    format!("{letters} and l.last_attempt_at < {started}")
}

fn retry_portion(arguments: &Arguments<'_>) -> Result<[i64; 5], SqlError> {
    let commits = i64::from(!is_atomic());
    require_writable("apply messages")?;
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    require_execute(caller, Routine::Procedure, &["retry_all"])?;
    let (mapping, sqlstate) = (arguments.text(0), arguments.text(1));
    if let Some(name) = &mapping {
        mine(Some(name))?;
    }
    let owner = extension_owner();
    let _definer = ActingAs::new(owner, false);
    let args: [DatumWithOid<'_>; 2] = [
        own_mappings(caller, mapping.is_some())?.into(),
        may_act_as(caller, owner).into(),
    ];
    let Some(letters) = arguments.bigint(2) else {
        run::begin(&Begun {
            work: "retry_all",
            role: caller,
            mapping: mapping.as_deref(),
            sqlstate: sqlstate.as_deref(),
            most: arguments.bigint(3),
            phase: None,
        })?;
        return Ok([i64::from(count_left(&args)? > 0), commits, 0, 0, 0]);
    };
    let sql = format!(
        "select l.id from sequin.dead_letter l where {} order by l.id
         limit (select least({letters}, o.most - o.done) from sequin.run o where o.pid = pg_backend_pid())",
        left()
    );
    let ids = run::ids(&sql, &args)?;
    let Some(&last) = ids.last() else {
        let [done, healed] = ["done", "healed"].map(run::column::<i64>);
        run::end()?;
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
    let failed = run::one::<i64>(
        "select count(*) from sequin.dead_letter l where l.id = any ($1)",
        &[ids.into()],
    )?;
    run::note(
        "last_letter = $1, done = r.done + $2, healed = r.healed + $3, remaining = greatest(r.remaining - $2, 0)",
        &[
            last.into(),
            tried.into(),
            (tried - failed.unwrap_or_default()).into(),
        ],
    )?;
    // Letters are also retried for the rows that other letters bring. Counting the rest takes as long as
    // reading it, so the count is renewed each time that a tenth of the rest was tried.
    if run::column::<bool>("done - r.counted_at >= r.remaining / 10")? == Some(true) {
        count_left(&args)?;
    }
    Ok([1, commits, tried, 0, 0])
}

/// Counts the letters that the run has still to try.
fn count_left(args: &[DatumWithOid<'_>]) -> Result<i64, Error> {
    let sql = format!(
        "update sequin.run w
         set remaining = least(w.most - w.done, (
                 select count(*) from sequin.dead_letter l where {})),
             counted_at = w.done
         where w.pid = pg_backend_pid() returning w.remaining",
        left()
    );
    run::one(&sql, args).map(Option::unwrap_or_default)
}
