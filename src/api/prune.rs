//! The function behind `sequin.prune`: one step of the run of this session. The procedure commits between steps.

use super::run::{self, Begun};
use crate::error::SqlError;
use crate::guard::notes::{Pruned, due, prune};
use crate::mapping::grants::{Routine, require_execute};
use crate::pg::function::{Arguments, counts, function};
use crate::pg::isolation::{is_atomic, require_writable};
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::spi::Connection;
use crate::pg::user::{ActingAs, current_user};

function! {
    /// `sequin_internal.prune_portion(rows)`: with null `rows`, begins a run; otherwise prunes up to `rows` rows of
    /// each kind. Returns whether the run continues, whether its caller may commit, and how many rows the run has
    /// pruned.
    prune_portion_wrapper, pg_finfo_prune_portion_wrapper = counts(prune_portion)
}

fn prune_portion(arguments: &Arguments<'_>) -> Result<[i64; 3], SqlError> {
    let commits = i64::from(!is_atomic());
    require_writable("prune")?;
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    require_execute(caller, Routine::Procedure, &["prune"])?;
    let _definer = ActingAs::new(extension_owner(), false);
    let Some(rows) = arguments.bigint(0) else {
        run::begin(&Begun {
            work: "prune",
            role: caller,
            mapping: None,
            sqlstate: None,
            most: None,
            phase: None,
        })?;
        run::note("remaining = $1", &[due()?.into()])?;
        return Ok([1, commits, 0]);
    };
    let Pruned { rows, more } = {
        let _connection = Connection::open();
        prune(rows)?
    };
    run::note(
        "done = r.done + $1, remaining = greatest(r.remaining - $1, 0)",
        &[rows.into()],
    )?;
    let done = run::column::<i64>("done")?.unwrap_or_default();
    if !more {
        run::end()?;
    }
    Ok([more.into(), commits, done])
}
