//! Hides the session's temporary objects while the backend acts as the owner of a mapping, if some of them could run code
//! of another role.
//!
//! To refuse a statement when it is planned is not enough. When the server reads a literal of an array of a domain, or of
//! a composite type, it checks the domain, and that is before planning. A plan that was kept, of a function in SQL, is not
//! planned again. With the schema hidden, no name leads to it.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Owners of objects in the schema that can run code when they are used: functions, views, tables with triggers, rules or
/// policies, and types that are domains or may have a domain in them.
const OWNERS: &str = "
    select distinct o.owner from (
        select p.proowner as owner from pg_catalog.pg_proc p where p.pronamespace operator(pg_catalog.=) $1
        union all
        select c.relowner from pg_catalog.pg_class c
        where c.relnamespace operator(pg_catalog.=) $1
          and (c.relkind operator(pg_catalog.=) 'v'::pg_catalog.\"char\" or c.relhasrules or c.relhastriggers or c.relrowsecurity)
        union all
        select t.typowner from pg_catalog.pg_type t
        where t.typnamespace operator(pg_catalog.=) $1
          and (t.typtype operator(pg_catalog.=) 'd'::pg_catalog.\"char\" or exists (
                   select from pg_catalog.pg_attribute a join pg_catalog.pg_type u on u.oid operator(pg_catalog.=) a.atttypid
                   where a.attrelid operator(pg_catalog.=) t.typrelid
                     and u.typnamespace operator(pg_catalog.<>) 'pg_catalog'::pg_catalog.regnamespace))) o";

thread_local! {
    /// The owners found last, and the schema.
    static KNOWN: RefCell<Option<(pg_sys::Oid, Vec<pg_sys::Oid>)>> = const { RefCell::new(None) };
    /// How often the server has dropped all that it kept of its catalogs.
    static RESETS: Cell<u64> = const { Cell::new(0) };
    /// Whether it did so while the schema was hidden, and has not been told since.
    static STALE: Cell<bool> = const { Cell::new(false) };
}

/// Called once, when the library is loaded.
pub fn watch() {
    for cache in [
        pg_sys::SysCacheIdentifier::PROCOID,
        pg_sys::SysCacheIdentifier::RELOID,
        pg_sys::SysCacheIdentifier::TYPEOID,
    ] {
        // SAFETY: the callback is a static function; the registration lasts as long as the backend.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as i32,
                Some(changed),
                pg_sys::Datum::from(cache as i32),
            );
        }
    }
}

// Runs at any time, also in the middle of an abort. Without a hash, everything is dropped.
unsafe extern "C-unwind" fn changed(_cache: pg_sys::Datum, _id: i32, hash: u32) {
    _ = KNOWN.try_with(|known| known.try_borrow_mut().map(|mut known| *known = None));
    if hash == 0 {
        RESETS.set(RESETS.get() + 1);
    }
}

/// While the value lives, the session's temporary schema is hidden. Nothing, if it was not to be hidden.
pub struct Hidden(Option<State>);

struct State {
    schema: pg_sys::Oid,
    toast: pg_sys::Oid,
    resets: u64,
}

impl Hidden {
    /// Hides the schema from the code of a role if others own objects in it that can run code.
    pub fn from(role: pg_sys::Oid) -> Hidden {
        let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        // SAFETY: reads two backend variables.
        unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
        if schema == pg_sys::InvalidOid {
            return Hidden(None);
        }
        if STALE.take() {
            // SAFETY: within a transaction.
            unsafe { pg_sys::InvalidateSystemCaches() };
        }
        let strange = owners(schema)
            .into_iter()
            .any(|owner| is_stranger(owner, role));
        if !strange || has_assertions() {
            return Hidden(None);
        }
        let resets = RESETS.get();
        // SAFETY: sets these variables, and makes the server read the search_path again.
        unsafe { pg_sys::SetTempNamespaceState(pg_sys::InvalidOid, pg_sys::InvalidOid) };
        Hidden(Some(State {
            schema,
            toast,
            resets,
        }))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            // SAFETY: as in `from`.
            unsafe { pg_sys::SetTempNamespaceState(state.schema, state.toast) };
            // What the server has read again of a temporary table says that the table is another session's.
            if RESETS.get() != state.resets {
                STALE.set(true);
            }
        }
    }
}

/// Whether the server was built with assertions, one of which the hiding would violate.
fn has_assertions() -> bool {
    // SAFETY: reads a setting, whose text ends with NUL.
    unsafe {
        let set = pg_sys::GetConfigOption(c"debug_assertions".as_ptr(), true, false);
        !set.is_null() && CStr::from_ptr(set) == c"on"
    }
}

fn is_stranger(owner: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a catalog look-up.
    owner != role && unsafe { !pg_sys::superuser_arg(owner) }
}

fn owners(schema: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    let known = KNOWN.with_borrow(|known| known.clone());
    if let Some((of, owners)) = known
        && of == schema
    {
        return owners;
    }
    let owners: Vec<pg_sys::Oid> = Spi::connect(|client| {
        client
            .select(OWNERS, None, &[schema.into()])?
            .map(|row| Ok(row.get(1)?.expect("not null")))
            .collect::<Result<_, pgrx::spi::Error>>()
    })
    .unwrap_or_else(|e| error!("could not read the session's temporary objects: {e}"));
    KNOWN.set(Some((schema, owners.clone())));
    owners
}
