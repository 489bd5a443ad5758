//! The temporary objects of a session, while it acts as the owner of a mapping.
//!
//! `pg_temp` stands last in every search_path. A name that has no other object, because a table was renamed or a schema
//! is closed to the owner, would still be found there, and a forwarder's view calls functions with the rights of
//! whoever reads it. So a statement that uses a temporary object of another role is not planned. Planning comes
//! before anything is called, for the statements of triggers and functions too.

pub mod hidden;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::names;
use super::raise::raise;
use crate::error::Error;

thread_local! {
    static ACTING: Cell<bool> = const { Cell::new(false) };
}

/// Says whether the backend acts as the owner of a mapping, and returns what was said before.
pub fn acts_as_owner(acts: bool) -> bool {
    ACTING.replace(acts)
}

/// Whether the backend acts as the owner of a mapping.
pub fn is_acting() -> bool {
    ACTING.get()
}

/// The name of a type, if it is a temporary one of a role that is neither the present one nor a superuser.
pub fn strange_type(oid: pg_sys::Oid) -> Option<String> {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads two backend variables.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    if schema == pg_sys::InvalidOid {
        return None;
    }
    in_schema(pg_sys::SysCacheIdentifier::TYPEOID as c_int, oid, schema)
}

static mut PREVIOUS: pg_sys::planner_hook_type = None;

/// Called once, when the library is loaded.
pub fn watch() {
    // SAFETY: the backend has one thread. Whatever is called before is called still.
    unsafe {
        PREVIOUS = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner);
    }
    hidden::watch();
}

unsafe extern "C-unwind" {
    /// The server's own, without pgrx's guard, which would lose parts of an error.
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        parameters: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    parameters: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    let mut options = options;
    if ACTING.get() {
        refuse(query);
        refuse_taken(text);
        // In a parallel worker, what is refused to the code of a mapping would be allowed.
        options &= !(pg_sys::CURSOR_OPT_PARALLEL_OK as c_int);
    }
    // SAFETY: passes the server's arguments on. An error leaves this function by a jump: it holds nothing.
    unsafe {
        match PREVIOUS {
            Some(planner) => planner(query, text, options, parameters),
            None => standard_planner(query, text, options, parameters),
        }
    }
}

/// Raises an error if the query uses a temporary object of a role that is neither the present one nor a superuser.
#[pg_guard]
extern "C-unwind" fn refuse(query: *mut pg_sys::Query) {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: the query is the server's, and is printed as it is; the text is freed after its last use.
    unsafe {
        pg_sys::GetTempNamespaceState(&mut schema, &mut toast);
        if schema == pg_sys::InvalidOid {
            return;
        }
        let printed = pg_sys::nodeToString(query.cast());
        let names = strangers(&CStr::from_ptr(printed).to_string_lossy(), schema);
        pg_sys::pfree(printed.cast());
        if let Some(name) = names {
            raise(Error::TemporaryObject { name });
        }
    }
}

/// Raises an error if a name in the statement has got another meaning since the extension read it: see [`names`].
#[pg_guard]
extern "C-unwind" fn refuse_taken(text: *const c_char) {
    if text.is_null() {
        return;
    }
    // SAFETY: the text ends with a NUL.
    let statement = unsafe { CStr::from_ptr(text) };
    if let Some(name) = names::taken_in(statement) {
        raise(Error::NameTaken { name });
    }
}

/// The first temporary object of another role in a printed query: a relation, a function or a domain.
fn strangers(printed: &str, schema: pg_sys::Oid) -> Option<String> {
    for (field, cache) in [
        (":relid ", pg_sys::SysCacheIdentifier::RELOID),
        (":funcid ", pg_sys::SysCacheIdentifier::PROCOID),
        (":resulttype ", pg_sys::SysCacheIdentifier::TYPEOID),
    ] {
        for (at, _) in printed.match_indices(field) {
            let digits = printed[at + field.len()..].split([' ', '}', ')']).next();
            let Some(oid) = digits.and_then(|digits| digits.parse::<u32>().ok()) else {
                continue;
            };
            let found = in_schema(cache as c_int, oid.into(), schema);
            if found.is_some() {
                return found;
            }
        }
    }
    None
}

/// The name of an object, if it is in the schema and a stranger's.
fn in_schema(cache: c_int, oid: pg_sys::Oid, schema: pg_sys::Oid) -> Option<String> {
    // SAFETY: a tuple of each of the three caches begins with the struct that is read, and is held until it is
    // released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(cache, oid.into());
        if tuple.is_null() {
            return None;
        }
        let (name, namespace, owner) = if cache == pg_sys::SysCacheIdentifier::RELOID as c_int {
            let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple);
            ((*form).relname, (*form).relnamespace, (*form).relowner)
        } else if cache == pg_sys::SysCacheIdentifier::PROCOID as c_int {
            let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(tuple);
            ((*form).proname, (*form).pronamespace, (*form).proowner)
        } else {
            let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_type>(tuple);
            ((*form).typname, (*form).typnamespace, (*form).typowner)
        };
        pg_sys::ReleaseSysCache(tuple);
        let stranger = owner != pg_sys::GetUserId() && !pg_sys::superuser_arg(owner);
        let text = || {
            CStr::from_ptr(name.data.as_ptr())
                .to_string_lossy()
                .into_owned()
        };
        (namespace == schema && stranger).then(text)
    }
}
