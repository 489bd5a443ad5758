//! Takes over what messages tell of the columns of the source: see [`crate::target::told`] and
//! [`crate::target::supply`].

#![forbid(unsafe_code)]

use pgrx::PgLogLevel;
use pgrx::pg_sys::panic::ErrorReport;

use super::Changes;
use crate::error::quote::ident;
use crate::error::{SqlError, list, sqlstate};
use crate::guard::{supply, told};
use crate::mapping::Mode;
use crate::stop::Stop;
use crate::target::Target;

impl Changes<'_> {
    /// Takes over what all messages tell, before any read of the batch is looked at.
    pub fn listen(&mut self) -> Result<(), Stop> {
        let target = &mut self.target;
        let listens = target.told.listens() || target.supply.listens();
        if !listens || target.mapping.mode == Mode::Append {
            return Ok(());
        }
        let definer = self.intake.call.definer;
        if !target.told.loaded {
            told::load(target, definer)?;
            supply::load(target, definer)?;
        }
        let mut news = Vec::new();
        for number in self.intake.numbers() {
            let message = self.intake.message(number);
            let fields = self.intake.fields(message);
            target.told.listen(message, fields, &mut news);
            target.supply.listen(message, fields);
        }
        told::note(target, definer, &mut news)?;
        let news = target.supply.news();
        supply::note(target, definer, &news)?;
        let stale = news.iter().filter(|(_, by_read)| *by_read == Some(true));
        let (by_sql, stale): (Vec<&str>, Vec<&str>) = stale
            .map(|(name, _)| name.as_str())
            .partition(|name| target.supply.is_by_sql(name));
        if !stale.is_empty() {
            let stale: Vec<String> = stale.into_iter().map(ident).collect();
            ErrorReport::from(warning(target, &stale)).report(PgLogLevel::WARNING);
        }
        if !by_sql.is_empty() {
            ErrorReport::from(warning_of_sql(target, &by_sql)).report(PgLogLevel::WARNING);
        }
        Ok(())
    }
}

/// SQL reads members that changes lack.
fn warning_of_sql(target: &Target, columns: &[&str]) -> SqlError {
    let names: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
    SqlError::new(
        sqlstate::WARNING,
        format!(
            "SQL of mapping \"{}\" reads members that only backfill reads have: {}",
            target.mapping.name,
            list(&names, "and")
        ),
    )
    .with_detail("Changes lack them, as Sequin sends no generated columns in changes: the SQL finds null there.")
    .with_hint("Let the SQL compute the value from members that changes have too, and run a backfill.")
}

/// Changes leave these columns, which reads bring, as they are.
fn warning(target: &Target, columns: &[String]) -> SqlError {
    let (table, names) = (target.destination.qualified_name(), list(columns, "and"));
    SqlError::new(
        sqlstate::WARNING,
        format!(
            "only backfill reads of mapping \"{}\" have values for {names} of {table}",
            target.mapping.name
        ),
    )
    .with_detail(
        "Changes lack them, as Sequin sends no generated columns in changes: the values are those of the last read of each row.",
    )
    .with_hint(format!(
        "Let the destination generate them, as in: ALTER TABLE {table} DROP COLUMN {0}, ADD COLUMN {0} … GENERATED ALWAYS AS (…) STORED;",
        columns[0]
    ))
}
