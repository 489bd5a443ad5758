//! `sequin.retry` and `sequin.discard`.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::apply;
use crate::error::Error;
use crate::mapping::{Mapping, catalog};
use crate::outcome::Counts;
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::trap::SqlError;
use crate::pg::user::{ActingAs, current_user, may_act_as};
use crate::resync::mine;

/// How many letters one pass of `sequin.retry` has in its hands.
const PASS: i64 = 1000;

/// Which letters `sequin.retry` is to try.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// All that the caller may.
    All,
    /// The one of this number.
    Letter(i64),
    /// Those of this mapping.
    Mapping(&'a str),
}

/// `sequin.retry(…)`: tries letters again, those of mappings that the caller has the owner's rights of.
/// Letters that no mapping took are for who has the rights of the extension's owner.
pub fn retry(which: Which<'_>) -> Result<Counts, SqlError> {
    let caller = current_user();
    let _settings = Settings::new(PINNED);
    let owner = extension_owner();
    let condition = match which {
        Which::All => String::from("true"),
        Which::Letter(id) => {
            letter(id, caller)?;
            format!("l.id = {id}")
        }
        Which::Mapping(name) => {
            let mapping = mine(Some(name))?;
            format!("l.mapping = {}", pgrx::spi::quote_literal(&mapping.name))
        }
    };
    let _definer = ActingAs::new(owner, false);
    let mine: Vec<String> = catalog::load()?
        .into_iter()
        .filter(|mapping| may(caller, mapping) && (mapping.enabled || !matches!(which, Which::All)))
        .map(|mapping| mapping.name)
        .collect();
    let unrouted = may_act_as(caller, owner);
    let sql = format!(
        "select l.id from sequin.dead_letter l
         where {condition} and l.id > $1
           and (l.mapping = any ($2) or $3 and (l.mapping is null or not exists (
                select from sequin.mapping m where m.name = l.mapping)))
         order by l.id limit {PASS}"
    );
    let mut counts = Counts::default();
    let mut last = 0;
    loop {
        let args = [last.into(), mine.clone().into(), unrouted.into()];
        let ids: Vec<i64> = Spi::connect_mut(|client| {
            client
                .update(&sql, None, &args)?
                .map(|row| Ok(row.get(1)?.expect("not null")))
                .collect::<Result<_, pgrx::spi::Error>>()
        })
        .unwrap_or_else(|e| error!("could not read sequin.dead_letter: {e}"));
        let Some(end) = ids.last() else {
            return Ok(counts);
        };
        last = *end;
        counts.add(&apply::apply_letters(ids)?);
    }
}

fn may(caller: pg_sys::Oid, mapping: &Mapping) -> bool {
    may_act_as(caller, pg_sys::Oid::from(mapping.owner))
}

/// Checks that there is a letter of this number, and that the caller may touch it.
fn letter(id: i64, caller: pg_sys::Oid) -> Result<(), Error> {
    let owner = extension_owner();
    let _definer = ActingAs::new(owner, false);
    let sql = "select m.owner::oid from sequin.dead_letter l
               left join sequin.mapping m on m.name = l.mapping where l.id = $1";
    let found = Spi::connect_mut(|client| {
        client
            .update(sql, None, &[id.into()])?
            .map(|row| row.get::<pg_sys::Oid>(1))
            .collect::<Result<Vec<_>, pgrx::spi::Error>>()
    })
    .unwrap_or_else(|e| error!("could not read sequin.dead_letter: {e}"));
    match found.first() {
        Some(of) if may_act_as(caller, of.unwrap_or(owner)) => Ok(()),
        _ => Err(Error::LetterNotFound { id }),
    }
}

/// `sequin.discard(id)`: forgets a letter.
#[pg_extern(sql = false)]
fn discard(id: Option<i64>) -> Result<(), pgrx::pg_sys::panic::ErrorReport> {
    let Some(id) = id else {
        return Err(Error::NullArgument { argument: "id" }.into());
    };
    let _settings = Settings::new(PINNED);
    letter(id, current_user())?;
    let _definer = ActingAs::new(extension_owner(), false);
    let sql = "delete from sequin.dead_letter l where l.id = $1";
    Spi::run_with_args(sql, &[id.into()])
        .unwrap_or_else(|e| error!("could not remove the dead letter: {e}"));
    Ok(())
}
