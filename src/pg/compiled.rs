//! The functions in PL/pgSQL that the session has compiled.
//!
//! PL/pgSQL looks up the types of a function's variables when it compiles the function, under the search_path of that
//! moment, and keeps the result for the session. A role that compiles a function of somebody else can so slip in a type
//! of its own. The type's checks and casts then run with the rights of each later caller. No other role may rely on
//! such a function, neither the owner of a mapping nor the caller of `sequin_apply`: PL/pgSQL compiles it again.
//!
//! PL/pgSQL calls its plugin before it executes a function. The plugin here notes which role compiled which function.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, c_void};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::raise::raise;
use super::temporary;
use crate::error::Error;

const _: () = assert!(
    size_of::<usize>() == 8,
    "the places below are those of 64 bits"
);

/// The offsets of `fn_oid`, `fn_xmin`, `fn_cxt` and `ndatums`. Source: `PLpgSQL_function` in `plpgsql.h`.
#[cfg(not(feature = "pg18"))]
const PLACES: [usize; 4] = [8, 12, 40, 500];
#[cfg(feature = "pg18")]
const PLACES: [usize; 4] = [48, 8, 64, 524];

const OID: usize = PLACES[0];
const XMIN: usize = PLACES[1];
const CONTEXT: usize = PLACES[2];
const COUNT: usize = PLACES[3];

/// A compiled function, at its address. PL/pgSQL never frees the struct, but may use it for another function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Function(usize);

impl Function {
    /// # Safety
    /// The struct has a field of this type there.
    unsafe fn read<T: Copy>(self, at: usize) -> T {
        // SAFETY: the caller upholds the contract.
        unsafe { ((self.0 + at) as *const T).read() }
    }

    /// The function's OID, the transaction of its definition, and the memory of what was compiled.
    fn compiled(self) -> (pg_sys::Oid, u32, usize) {
        // SAFETY: the fields of every version.
        unsafe { (self.read(OID), self.read(XMIN), self.read(CONTEXT)) }
    }

    /// Makes PL/pgSQL compile the function again before its next execution.
    fn forget(self) {
        // SAFETY: no row of `pg_proc` has this transaction, so that the function is found to be changed.
        unsafe { ((self.0 + XMIN) as *mut u32).write(0) }
    }

    /// The types of its variables.
    fn types(self) -> Vec<pg_sys::Oid> {
        // SAFETY: an array of pointers, and its length in front of it. Variables and records (0, 2 and 4) have a
        // pointer to their type, which holds the OID behind a pointer.
        unsafe {
            let count: i32 = self.read(COUNT);
            let datums: *const *const u8 = self.read((COUNT + 4).next_multiple_of(8));
            let datums = (0..count as usize).map(|i| *datums.add(i));
            datums
                .filter(|datum| matches!(datum.cast::<u32>().read(), 0 | 2 | 4))
                .map(|datum| datum.add(32).cast::<*const u8>().read())
                .filter(|kind| !kind.is_null())
                .map(|kind| kind.add(8).cast::<pg_sys::Oid>().read())
                .collect()
        }
    }
}

thread_local! {
    /// What each function was compiled to when it was seen last.
    static SEEN: RefCell<HashMap<Function, (pg_sys::Oid, u32, usize)>> = RefCell::new(HashMap::new());
    /// Functions that a role has compiled without the rights of their owner, and that role.
    static FOREIGN: RefCell<Vec<(Function, pg_sys::Oid)>> = const { RefCell::new(Vec::new()) };
    /// The memory of what was compiled before this library was loaded.
    static EARLIER: RefCell<HashSet<usize>> = RefCell::new(HashSet::new());
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

type Setup = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void);

/// Source: `PLpgSQL_plugin` in `plpgsql.h`: five functions of the plugin, and up to five that PL/pgSQL sets.
#[repr(C)]
struct Plugin {
    setup: Option<Setup>,
    others: [usize; 15],
}

static mut OWN: Plugin = Plugin {
    setup: None,
    others: [0; 15],
};
static mut PREVIOUS: Option<Setup> = None;

/// Called once, when the library is loaded.
pub fn watch() {
    // SAFETY: reads the list of memory contexts. Their names end with NUL.
    unsafe {
        if pg_sys::MyDatabaseId != pg_sys::InvalidOid
            && pg_sys::IsTransactionState()
            && !pg_sys::superuser_arg(pg_sys::GetSessionUserId())
        {
            let mut context = (*pg_sys::TopMemoryContext).firstchild;
            while !context.is_null() {
                if CStr::from_ptr((*context).name) == c"PL/pgSQL function" {
                    EARLIER.with_borrow_mut(|earlier| earlier.insert(context as usize));
                }
                context = (*context).nextchild;
            }
        }
    }
    plug_in();
}

/// Makes PL/pgSQL call [`setup`]. Another plugin may have come since, and is called still.
fn plug_in() {
    // SAFETY: the backend has one thread. The variable holds null or a plugin, whose first field is a function.
    unsafe {
        let variable =
            pg_sys::find_rendezvous_variable(c"PLpgSQL_plugin".as_ptr()).cast::<*mut Plugin>();
        if (*variable).is_null() {
            *variable = &raw mut OWN;
        }
        let plugin = *variable;
        let ours = (*plugin)
            .setup
            .is_some_and(|its| its as usize == setup as Setup as usize);
        if !ours {
            PREVIOUS = (*plugin).setup;
            (*plugin).setup = Some(setup);
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn setup(state: *mut c_void, function: *mut c_void) {
    if INSIDE.replace(true) {
        return;
    }
    // SAFETY: the arguments of the server are passed on.
    unsafe {
        if let Some(previous) = PREVIOUS {
            previous(state, function);
        }
    }
    INSIDE.set(false);
    see(Function(function as usize));
}

/// Notes who has compiled a function that is about to be executed.
fn see(function: Function) {
    let compiled = function.compiled();
    let (oid, xmin, context) = compiled;
    // A DO block has no OID. Its struct is freed.
    if oid == pg_sys::InvalidOid || SEEN.with_borrow(|seen| seen.get(&function) == Some(&compiled))
    {
        return;
    }
    let Some((owner, defined)) = definition(oid) else {
        return;
    };
    // Of an unknown layout, or just replaced by a statement of its own.
    if defined != xmin {
        return;
    }
    let acting = temporary::is_acting();
    if acting {
        let strange = function
            .types()
            .into_iter()
            .find_map(temporary::strange_type);
        if let Some(name) = strange {
            function.forget();
            raise(Error::TemporaryObject { name });
        }
        if EARLIER.with_borrow_mut(|earlier| earlier.remove(&context)) {
            function.forget();
            raise(Error::CompiledEarlier);
        }
    }
    SEEN.with_borrow_mut(|seen| seen.insert(function, compiled));
    // SAFETY: a backend variable, and look-ups of two roles.
    let (role, may_replace) = unsafe {
        let role = pg_sys::GetUserId();
        (role, pg_sys::has_privs_of_role(role, owner))
    };
    // Whoever may replace the function needs no such trick.
    if !may_replace {
        FOREIGN.with_borrow_mut(|foreign| foreign.push((function, role)));
    }
}

/// The owner of a function, and the transaction of its definition.
fn definition(function: pg_sys::Oid) -> Option<(pg_sys::Oid, u32)> {
    // SAFETY: a catalog look-up; the tuple is held until it is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, function.into());
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(tuple)).proowner;
        let xmin = (*(*tuple).t_data).t_choice.t_heap.t_xmin;
        pg_sys::ReleaseSysCache(tuple);
        Some((owner, u32::from(xmin)))
    }
}

/// Forgets the functions that a role has compiled for which `whose` says so.
fn forget(whose: impl Fn(pg_sys::Oid) -> bool) {
    FOREIGN.with_borrow_mut(|foreign| {
        foreign.retain(|(function, role)| {
            let goes = whose(*role);
            if goes {
                function.forget();
                SEEN.with_borrow_mut(|seen| seen.remove(function));
            }
            !goes
        });
    });
}

/// The backend begins to act as the owner of a mapping: others have compiled nothing for it.
pub fn begin_turn(role: pg_sys::Oid) {
    plug_in();
    forget(|compiler| compiler != role);
}

/// The backend no longer acts as this owner, who has compiled nothing for others.
pub fn end_turn(role: pg_sys::Oid) {
    forget(|compiler| compiler == role);
}
