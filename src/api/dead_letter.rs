//! `sequin.retry` and `sequin.discard`: how an operator handles dead letters.

use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;

use super::{own_statement, result};
use crate::apply::apply_letters;
use crate::dead_letter;
use crate::error::{Error, SqlError};
use crate::mapping::Mapping;
use crate::mapping::catalog::{self, mine};
use crate::outcome::Counts;
use crate::pg::function::{Arguments, counts, function};
use crate::pg::isolation::require_writable;
use crate::pg::keys::extension_owner;
use crate::pg::settings::{PINNED, Settings};
use crate::pg::user::{ActingAs, current_user, may_act_as};

/// The most letters that one pass of `sequin.retry` reads.
const PASS: i64 = 1000;

/// The letters that `sequin.retry` is to try.
#[derive(Debug, Clone, Copy)]
enum Which<'a> {
    /// All letters that the caller may retry, except letters of paused mappings.
    All,
    /// The letter with this number.
    Letter(i64),
    /// The letters of this mapping.
    Mapping(&'a str),
}

function! {
    /// `sequin.retry()`.
    retry_wrapper, pg_finfo_retry_wrapper = counts(retry_all)
}

fn retry_all(_: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    retry(Which::All)
}

function! {
    /// `sequin.retry(id)`.
    retry_letter_wrapper, pg_finfo_retry_letter_wrapper = counts(retry_letter)
}

fn retry_letter(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    let id = arguments.bigint(0);
    retry(Which::Letter(
        id.ok_or(Error::NullArgument { argument: "id" })?,
    ))
}

function! {
    /// `sequin.retry(mapping)`.
    retry_mapping_wrapper, pg_finfo_retry_mapping_wrapper = counts(retry_mapping)
}

fn retry_mapping(arguments: &Arguments<'_>) -> Result<[i64; 8], SqlError> {
    let name = arguments.bytes(0).ok_or(Error::NullArgument {
        argument: "mapping",
    })?;
    // a name that is not UTF-8 is not the name of a mapping
    retry(Which::Mapping(&String::from_utf8_lossy(name)))
}

/// Retries letters. The caller needs the rights of the owner of each letter's mapping. For letters without a
/// mapping, the caller needs the rights of the extension's owner.
fn retry(which: Which<'_>) -> Result<[i64; 8], SqlError> {
    require_writable("apply messages")?;
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
    let mine = own_mappings(caller, !matches!(which, Which::All))?;
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
        .map_err(own_statement("read sequin.dead_letter"))?;
        let Some(end) = ids.last() else {
            return Ok(result(counts));
        };
        last = *end;
        counts.add(&apply_letters(ids, caller)?);
    }
}

/// The names of the mappings whose letters a role may retry. Paused mappings are included `with_paused`.
pub(super) fn own_mappings(role: pg_sys::Oid, with_paused: bool) -> Result<Vec<String>, Error> {
    let may = |mapping: &Mapping| {
        (mapping.enabled || with_paused) && may_act_as(role, mapping.owner_oid())
    };
    let mappings = catalog::load()?.into_iter();
    Ok(mappings.filter(may).map(|mapping| mapping.name).collect())
}

/// Checks that a letter with this number exists, and that the caller may touch the letter.
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
    .map_err(own_statement("read sequin.dead_letter"))?;
    match found.first() {
        Some(of) if may_act_as(caller, of.unwrap_or(owner)) => Ok(()),
        _ => Err(Error::LetterNotFound { id }),
    }
}

/// What a letter's message says, however it is spelled: equal letters are stored once.
#[pg_extern(sql = false)]
fn content(message: &str) -> String {
    dead_letter::content(message).into_owned()
}

/// `sequin.discard(id)`: removes a letter.
#[pg_extern(sql = false)]
fn discard(id: Option<i64>) -> Result<(), ErrorReport> {
    require_writable("discard a dead letter")?;
    let Some(id) = id else {
        return Err(Error::NullArgument { argument: "id" }.into());
    };
    let _settings = Settings::new(PINNED);
    letter(id, current_user())?;
    let _definer = ActingAs::new(extension_owner(), false);
    let sql = "delete from sequin.dead_letter l where l.id = $1";
    Spi::run_with_args(sql, &[id.into()]).map_err(own_statement("remove the dead letter"))?;
    Ok(())
}
