//! Writes `sequin.mapping` for a role without privileges on the table. The extension's owner writes, and the
//! trigger checks the rights of the calling role.

#![forbid(unsafe_code)]

use std::cell::RefCell;

use pgrx::pg_sys::{self, panic::ErrorReport};
use pgrx::prelude::*;

use crate::error::Error;
use crate::error::nearest::nearest;
use crate::mapping::grants::{Routine, require_execute};
use crate::pg::isolation::require_writable;
use crate::pg::keys::extension_owner;
use crate::pg::settings::{self, PINNED, Settings};
use crate::pg::user::{ActingAs, begin_call, current_user};

/// Who calls a function of this file.
struct Caller {
    role: pg_sys::Oid,
    search_path: String,
    /// The extension's owner, who acts for the caller.
    definer: pg_sys::Oid,
}

thread_local! {
    static CALLER: RefCell<Option<Caller>> = const { RefCell::new(None) };
}

/// Asks the caller of a function of this file, if the extension's owner acts for it now. Code of a table's owner, which may
/// run meanwhile, acts for itself.
fn of_caller<T>(ask: impl FnOnce(&Caller) -> T) -> Option<T> {
    CALLER.with_borrow(|caller| {
        let acts = |caller: &&Caller| caller.definer == current_user();
        caller.as_ref().filter(acts).map(ask)
    })
}

/// The role that changes a mapping: the caller of a function of this file, or else the current role.
pub fn caller() -> pg_sys::Oid {
    of_caller(|caller| caller.role).unwrap_or_else(current_user)
}

/// The `search_path` of the session that changes a mapping.
pub fn search_path() -> String {
    of_caller(|caller| caller.search_path.clone()).unwrap_or_else(settings::search_path)
}

/// The session of a function's caller, pinned from the beginning: under the caller's `search_path`, a type of the caller's
/// would be found, whose checks run with the rights of whoever uses it.
struct Calling {
    search_path: String,
    _pinned: Settings,
}

impl Calling {
    fn begin() -> Calling {
        begin_call();
        Calling {
            search_path: settings::search_path(),
            _pinned: Settings::new(PINNED),
        }
    }
}

/// While the value lives, the extension's owner changes mappings for the calling role.
struct ForCaller {
    before: Option<Caller>,
    _definer: ActingAs,
}

impl ForCaller {
    fn begin(calling: &Calling) -> ForCaller {
        let definer = extension_owner();
        let caller = Caller {
            role: current_user(),
            search_path: calling.search_path.clone(),
            definer,
        };
        ForCaller {
            before: CALLER.replace(Some(caller)),
            _definer: ActingAs::new(definer, false),
        }
    }
}

impl Drop for ForCaller {
    fn drop(&mut self) {
        CALLER.set(self.before.take());
    }
}

const SAVE: &str = "
    insert into sequin.mapping as m
        (source, destination, columns, key, filter, mode, on_delete, soft_delete, on_error, guard, name)
    values ($1, $2::pg_catalog.oid::pg_catalog.regclass, $3::pg_catalog.jsonb, $4, $5, $6, $7, $8, $9, $10, $11)
    on conflict on constraint mapping_name_key do update set
        source = excluded.source, destination = excluded.destination, columns = excluded.columns,
        key = excluded.key, filter = excluded.filter, mode = excluded.mode,
        on_delete = excluded.on_delete, soft_delete = excluded.soft_delete,
        on_error = excluded.on_error, guard = excluded.guard, search_path = excluded.search_path
    where $11 is not null
       or exists (select from sequin.mapping seen where seen.id operator(pg_catalog.=) m.id)
    returning m.id";

/// `sequin_internal.save_mapping(…)`: makes a mapping of the caller, or replaces the mapping of that name. Returns the
/// id. Names in its SQL are resolved under the caller's `search_path`, so nothing here relies on it.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn save_mapping(
    source: Option<&str>,
    destination: Option<pg_sys::Oid>,
    columns: Option<&str>,
    key: Option<Vec<Option<String>>>,
    filter: Option<&str>,
    mode: Option<&str>,
    on_delete: Option<&str>,
    soft_delete: Option<&str>,
    on_error: Option<&str>,
    guard: Option<&str>,
    name: Option<&str>,
) -> Result<i32, ErrorReport> {
    require_writable("make a mapping")?;
    let calling = Calling::begin();
    // `sequin.map` and `sequin.map_schema` call this function as their caller: every role may execute it.
    require_execute(current_user(), Routine::Function, &["map", "map_schema"])?;
    let _caller = ForCaller::begin(&calling);
    let args = [
        source.into(),
        destination.into(),
        columns.into(),
        key.into(),
        filter.into(),
        mode.into(),
        on_delete.into(),
        soft_delete.into(),
        on_error.into(),
        guard.into(),
        name.into(),
    ];
    // Another session may give the derived name to its mapping meanwhile. The statement does not see that
    // mapping, and leaves it alone. The next attempt derives another name.
    let mut saved = Ok(None);
    for _ in 0..3 {
        // Without a limit: a statement that stops at the first row fires no trigger at its end.
        saved = Spi::connect_mut(|client| match client.update(SAVE, None, &args)? {
            rows if rows.is_empty() => Ok(None),
            rows => rows.first().get_one(),
        });
        if !matches!(saved, Ok(None)) {
            break;
        }
    }
    match saved {
        Ok(Some(id)) => Ok(id),
        other => Err(Error::OwnStatement {
            what: "save the mapping".to_owned(),
            why: format!("{other:?}"),
        }
        .into()),
    }
}

const ALTER: &str = "
    update sequin.mapping as m
    set enabled = case when 'enabled' operator(pg_catalog.=) any ($14) then true else coalesce($2, m.enabled) end,
        source = coalesce($3, m.source),
        destination = case when not 'destination' operator(pg_catalog.=) any ($14)
                      then coalesce($4::pg_catalog.oid::pg_catalog.regclass, m.destination) end,
        columns = case when not 'columns' operator(pg_catalog.=) any ($14)
                  then coalesce($5::pg_catalog.jsonb, m.columns) end,
        key = case when not 'key' operator(pg_catalog.=) any ($14) then coalesce($6, m.key) end,
        filter = case when not 'filter' operator(pg_catalog.=) any ($14) then coalesce($7, m.filter) end,
        mode = case when 'mode' operator(pg_catalog.=) any ($14) then 'upsert' else coalesce($8, m.mode) end,
        on_delete = case when 'on_delete' operator(pg_catalog.=) any ($14) then 'delete'
                    else coalesce($9, m.on_delete) end,
        soft_delete = case when not 'soft_delete' operator(pg_catalog.=) any ($14)
                      then coalesce($10, m.soft_delete) end,
        on_error = case when 'on_error' operator(pg_catalog.=) any ($14) then 'dead_letter'
                   else coalesce($11, m.on_error) end,
        guard = case when 'guard' operator(pg_catalog.=) any ($14) then 'auto' else coalesce($12, m.guard) end,
        name = coalesce($13, m.name)
    where m.name operator(pg_catalog.=) $1";

/// Checks the names of settings that are to be set to their defaults; `given` says which have a new value.
fn check_reset(reset: &[Option<String>], given: &[(&str, bool)]) -> Result<(), Error> {
    for name in reset {
        let name = name.as_deref().unwrap_or_default();
        match given.iter().find(|(setting, _)| *setting == name) {
            None => {
                return Err(Error::NoSetting {
                    name: name.to_owned(),
                    nearest: nearest(name, given.iter().map(|(setting, _)| *setting)),
                });
            }
            Some((_, true)) => {
                return Err(Error::SetAndReset {
                    name: name.to_owned(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// `sequin.alter_mapping(…)`: changes the settings of a mapping that are not null here, and sets those that
/// `reset` names to their defaults.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn alter_mapping(
    name: Option<&str>,
    enabled: Option<bool>,
    source: Option<&str>,
    destination: Option<pg_sys::Oid>,
    columns: Option<&str>,
    key: Option<Vec<Option<String>>>,
    filter: Option<&str>,
    mode: Option<&str>,
    on_delete: Option<&str>,
    soft_delete: Option<&str>,
    on_error: Option<&str>,
    guard: Option<&str>,
    new_name: Option<&str>,
    reset: Option<Vec<Option<String>>>,
) -> Result<(), ErrorReport> {
    require_writable("alter a mapping")?;
    let reset = reset.unwrap_or_default();
    check_reset(
        &reset,
        &[
            ("enabled", enabled.is_some()),
            ("destination", destination.is_some()),
            ("columns", columns.is_some()),
            ("key", key.is_some()),
            ("filter", filter.is_some()),
            ("mode", mode.is_some()),
            ("on_delete", on_delete.is_some()),
            ("soft_delete", soft_delete.is_some()),
            ("on_error", on_error.is_some()),
            ("guard", guard.is_some()),
        ],
    )?;
    // Returns an error if the caller has no such mapping.
    let calling = Calling::begin();
    let mapping = super::catalog::mine(name)?;
    let _caller = ForCaller::begin(&calling);
    let args = [
        mapping.name.as_str().into(),
        enabled.into(),
        source.into(),
        destination.into(),
        columns.into(),
        key.into(),
        filter.into(),
        mode.into(),
        on_delete.into(),
        soft_delete.into(),
        on_error.into(),
        guard.into(),
        new_name.into(),
        reset.into(),
    ];
    Spi::connect_mut(|client| client.update(ALTER, None, &args).map(drop)).map_err(|why| {
        Error::OwnStatement {
            what: "alter the mapping".to_owned(),
            why: why.to_string(),
        }
    })?;
    Ok(())
}

/// `sequin.pause(mapping)`: stops a mapping. The setting `sequin.keep_paused` says what happens to its messages.
#[pg_extern(sql = false)]
fn pause(mapping: Option<&str>) -> Result<(), ErrorReport> {
    set_enabled(mapping, false)
}

/// `sequin.resume(mapping)`: starts a paused mapping again. The next call with a message for it applies those that were
/// kept before.
#[pg_extern(sql = false)]
fn resume(mapping: Option<&str>) -> Result<(), ErrorReport> {
    set_enabled(mapping, true)
}

fn set_enabled(mapping: Option<&str>, enabled: bool) -> Result<(), ErrorReport> {
    let (text, texts) = (None::<&str>, None::<Vec<Option<String>>>);
    alter_mapping(
        mapping,
        Some(enabled),
        text,
        None,
        text,
        texts.clone(),
        text,
        text,
        text,
        text,
        text,
        text,
        text,
        texts,
    )
}
