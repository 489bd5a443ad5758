//! The triggers of `sequin.mapping`, and the functions that its SQL needs.
//!
//! `sql/catalog.sql` declares them. Their C symbols are the names here with `_wrapper`.

#![forbid(unsafe_code)]

use std::convert::Infallible;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::spi;

use super::check::{check_relation, check_shared};
use super::faults::all;
use super::save::{caller, search_path};
use super::warn::{shares, warn};
use super::{MappingRow, SourcePattern, catalog, grants, name};
use crate::destination::Destination;
use crate::error::Error;
use crate::error::fault::Fault;
use crate::error::nearest::nearest;
use crate::pg::invalidation;
use crate::pg::isolation::require_writable;
use crate::pg::keys::extension_owner;
use crate::pg::raise::raise;
use crate::pg::row::{Row, set_oid};
use crate::pg::settings::{PINNED_PATH, Settings, checks_function_bodies, temporary_last};
use crate::pg::user::{ActingAs, begin_call, current_user, is_superuser, may_act_as};

/// The session that changes the mapping: its role and settings.
struct Session {
    user: pg_sys::Oid,
    superuser: bool,
    search_path: String,
    /// `check_function_bodies`, which is off while a dump is restored. The destination's indexes may not
    /// be there yet, so the destination is not checked either.
    checks_bodies: bool,
}

impl Session {
    fn now() -> Session {
        let user = caller();
        Session {
            user,
            superuser: is_superuser(user),
            search_path: search_path(),
            checks_bodies: checks_function_bodies(),
        }
    }
}

/// Before a row of `sequin.mapping` is inserted, updated or deleted: refuses a role without the owner's
/// rights, fills in name, owner and search_path, and raises all faults of the mapping in one error.
#[pg_trigger(sql = false)]
fn mapping_check<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, Infallible> {
    Ok(checked(trigger).unwrap_or_else(|error| raise(error)))
}

fn checked<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, Error> {
    begin_call();
    let of_before = Row::old(trigger);
    if let Some(old) = &of_before {
        let name = old.get("name").unwrap_or_default();
        require_rights(old.oid("owner"), name)?;
    }
    let (Some(new), Some(given)) = (trigger.new(), Row::new(trigger)) else {
        return Ok(trigger.old().map(PgHeapTuple::into_owned));
    };
    let mut new = new.into_owned();
    let session = Session::now();
    let _pinned = Settings::new(PINNED_PATH);

    let mut row = read(&given)?;
    let old = of_before.map(|old| read(&old)).transpose()?;

    let destination = row
        .destination
        .and_then(|oid| Destination::load(pg_sys::Oid::from(oid)));
    if given.get::<String>("name").is_none() {
        let owner = given.oid("owner").unwrap_or(session.user);
        row.name = name::derived(&row, destination.as_ref(), owner);
        set_text(&mut new, "name", &row.name);
    }

    let owner_before = old.as_ref().map_or(session.user.to_u32(), |old| old.owner);
    row.owner = given.oid("owner").map_or(owner_before, pg_sys::Oid::to_u32);
    if row.owner != owner_before && !session.superuser {
        return Err(Error::OwnerNotYours { name: row.name });
    }
    require_rights(Some(pg_sys::Oid::from(row.owner)), row.name.clone())?;
    set_oid(&mut new, "owner", pg_sys::Oid::from(row.owner));

    // names in the mapping's SQL resolve as in the session that writes the mapping
    let given_path = given.get::<String>("search_path");
    let sql_written = old.as_ref().is_some_and(|old| {
        (&old.columns, &old.filter) != (&row.columns, &row.filter)
            && given_path.as_ref() == Some(&old.search_path)
    });
    row.search_path = match given_path {
        Some(path) if !sql_written => path,
        _ => session.search_path.clone(),
    };
    set_text(&mut new, "search_path", &row.search_path);

    let (mapping, mut faults) = row.read();
    if temporary_last(&row.search_path).is_none() {
        faults.push(
            Fault::value(format!(
                "search_path \"{}\" is not a list of schemas",
                row.search_path
            ))
            .hint("Use names with commas between them, as in 'public, \"Other Schema\"'."),
        );
    }
    let keeps_name = old.as_ref().is_some_and(|old| old.name == row.name);
    faults.extend(name::fault(&row.name).filter(|_| !keeps_name));
    let is_new = old.is_none();
    let as_before = old.as_ref().is_some_and(|old| same_work(old, &row));
    // What goes wrong was told when the mapping was made.
    let resumed = as_before && old.as_ref().is_some_and(|old| old.enabled != row.enabled);
    let operated = as_before && old.is_some_and(|old| old.enabled || !row.enabled);
    // Only the extension's owner restores a dump, but any role can set check_function_bodies.
    let restored = !session.checks_bodies && may_act_as(caller(), extension_owner());
    let source_is_read = SourcePattern::parse(&row.source).is_ok();
    if source_is_read && !operated && !restored {
        faults.extend(grants::check(&mapping));
    }
    if session.checks_bodies && !operated {
        let table = destination.as_ref().filter(|d| check_relation(d).is_none());
        faults.extend(all(&mapping, destination.as_ref(), mapping.owner_oid()));
        if let Some(table) = table.filter(|_| faults.is_empty()) {
            let definer = ActingAs::new(extension_owner(), false);
            let others = catalog::beside(table.oid);
            // A mapping that replaces one of its name is inserted, and then updated: that is checked if it changes.
            let replaced = is_new.then(|| catalog::named(&mapping.name)).flatten();
            drop(definer);
            let shared = check_shared(&mapping, table, &others);
            match shared {
                // It worked like that before.
                Some(fault) if resumed => shares(&mapping, fault),
                shared => faults.extend(shared),
            }
            let replaces = replaced.is_some_and(|other| !other.works_as(&mapping));
            if faults.is_empty() && !resumed && !replaces {
                warn(&mapping, table, &others);
            }
        }
    }
    if faults.is_empty() {
        if let Some(destination) = &destination {
            // What other mappings do with the rows depends on this one.
            let _definer = ActingAs::new(extension_owner(), false);
            for oid in catalog::related(destination.oid) {
                invalidation::announce(oid);
            }
        }
        grants::internal_functions(
            destination
                .as_ref()
                .map_or(mapping.owner_oid(), |destination| {
                    grants::writer(&mapping, destination)
                }),
        );
        Ok(Some(new))
    } else {
        Err(Error::InvalidMapping {
            name: row.name,
            faults,
        })
    }
}

/// Refuses a change of a mapping by a role without the rights of the mapping's owner. Row security checks the
/// same, but some roles bypass row security.
fn require_rights(owner: Option<pg_sys::Oid>, name: String) -> Result<(), Error> {
    match owner {
        Some(owner) if !may_act_as(caller(), owner) => Err(Error::MappingNotYours { name }),
        _ => Ok(()),
    }
}

/// Whether no more changes than name, `on_error` and whether the mapping is enabled. Unless the mapping is resumed, such
/// a change must be possible even if the destination no longer fits.
fn same_work(old: &MappingRow, new: &MappingRow) -> bool {
    let same = MappingRow {
        name: new.name.clone(),
        on_error: new.on_error.clone(),
        enabled: new.enabled,
        ..old.clone()
    };
    same == *new
}

/// Reads the row as far as it is filled in. A null in a column that must have a value is an error here
/// already: the error of NOT NULL would show the row half filled in.
fn read(row: &Row) -> Result<MappingRow, Error> {
    let text = |name: &str| row.get::<String>(name);
    let oid = |name: &str| row.oid(name).map(pg_sys::Oid::to_u32);
    let given = |argument| text(argument).ok_or(Error::NullArgument { argument });
    Ok(MappingRow {
        id: row
            .get("id")
            .ok_or(Error::NullArgument { argument: "id" })?,
        name: text("name").unwrap_or_default(),
        source: given("source")?,
        destination: oid("destination"),
        columns: row.jsonb("columns"),
        key: row.get("key"),
        filter: text("filter"),
        mode: given("mode")?,
        on_delete: given("on_delete")?,
        soft_delete: text("soft_delete"),
        on_error: given("on_error")?,
        guard: given("guard")?,
        enabled: row.get("enabled").ok_or(Error::NullArgument {
            argument: "enabled",
        })?,
        owner: oid("owner").unwrap_or_default(),
        search_path: text("search_path").unwrap_or_default(),
    })
}

fn set_text(row: &mut PgHeapTuple<'_, AllocatedByRust>, name: &str, value: &str) {
    row.set_by_name(name, value)
        .unwrap_or_else(|e| error!("sequin.mapping.{name}: {e}"))
}

/// After a statement that changed `sequin.mapping`: makes every session read it again.
#[pg_trigger(sql = false)]
fn mapping_changed<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByRust>>, PgTriggerError> {
    invalidation::announce(trigger.relid()?);
    Ok(None)
}

/// `sequin.unmap(name)`: removes a mapping of an owner whose rights the caller has.
#[pg_extern(sql = false)]
fn unmap(name: Option<&str>) -> Result<(), ErrorReport> {
    require_writable("remove a mapping")?;
    const ALL: &str = "select id, name, owner::pg_catalog.oid from sequin.mapping order by 2";
    const UNMAP: &str = "delete from sequin.mapping where id operator(pg_catalog.=) $1";
    let Some(name) = name else {
        return Err(Error::NullArgument { argument: "name" }.into());
    };
    let caller = current_user();
    let _pinned = Settings::new(PINNED_PATH);
    let _definer = ActingAs::new(extension_owner(), false);
    let removed = Spi::connect_mut(|client| {
        let all: Vec<(i32, String, pg_sys::Oid)> = client
            .update(ALL, None, &[])?
            .map(|row| {
                Ok((
                    row.get(1)?.expect("not null"),
                    row.get(2)?.expect("not null"),
                    row.get(3)?.expect("not null"),
                ))
            })
            .collect::<Result<_, spi::Error>>()?;
        let mut mine = all.iter().filter(|(.., owner)| may_act_as(caller, *owner));
        match mine.clone().find(|(_, known, _)| known == name) {
            Some((id, ..)) => client.update(UNMAP, None, &[(*id).into()]).map(|_| Ok(())),
            None => Ok(Err(Error::MappingNotFound {
                name: name.to_owned(),
                nearest: nearest(name, mine.by_ref().map(|(_, name, _)| name.as_str())),
            })),
        }
    });
    removed.unwrap_or_else(|e: spi::Error| error!("could not remove the mapping: {e}"))?;
    Ok(())
}

/// Run once by `create extension`: refuses a database whose encoding cannot hold every JSON text.
#[pg_extern(sql = false)]
fn require_utf8() -> Result<(), ErrorReport> {
    let encoding =
        Spi::get_one::<String>("select pg_catalog.getdatabaseencoding()::pg_catalog.text")
            .ok()
            .flatten()
            .unwrap_or_default();
    if encoding == "UTF8" {
        Ok(())
    } else {
        Err(Error::NotUtf8 { encoding }.into())
    }
}
