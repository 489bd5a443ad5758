//! The functions in PL/pgSQL that the session has compiled.
//!
//! PL/pgSQL looks up the types of a function's variables when it compiles the function, under the search_path of that
//! moment, and keeps the result for the session. A role that compiles a function of somebody else can so slip in a type
//! of its own. The type's checks and casts then run with the rights of each later caller. No other role may rely on
//! such a function, neither the owner of a mapping nor the caller of `sequin_apply`: PL/pgSQL compiles it again.
//!
//! PL/pgSQL calls its plugin before it executes a function. The plugin here notes which role compiled which function. It
//! reads PL/pgSQL's own structs, whose layout `tests/security` compares with the header of each version. Where a struct does
//! not look as it should, nothing is noted, and nothing is written into it.

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

/// The offsets of fields of `PLpgSQL_function`, from `plpgsql.h`: `fn_oid`, `fn_xmin` (with `fn_tid` behind it), `fn_cxt`,
/// `ndatums` and `datums`.
#[cfg(not(feature = "pg18"))]
const FUNCTION: [usize; 5] = [8, 12, 40, 500, 504];
#[cfg(feature = "pg18")]
const FUNCTION: [usize; 5] = [48, 8, 64, 524, 528];

const OID: usize = FUNCTION[0];
const XMIN: usize = FUNCTION[1];
const CONTEXT: usize = FUNCTION[2];
const COUNT: usize = FUNCTION[3];
const DATUMS: usize = FUNCTION[4];

/// The offsets of `func` and `ndatums` of `PLpgSQL_execstate`.
const STATE: [usize; 2] = [0, 108];

/// The offsets of `dno` and `datatype` of `PLpgSQL_var` and `PLpgSQL_rec`, and of `typoid` of `PLpgSQL_type`.
const DATUM: [usize; 3] = [4, 32, 8];

/// `PLPGSQL_DTYPE_VAR`, `PLPGSQL_DTYPE_REC` and `PLPGSQL_DTYPE_PROMISE`: the datums that have a `datatype`.
const TYPED: [u32; 3] = [0, 2, 4];

/// The field at an offset of a struct.
///
/// # Safety
/// The struct has a field of this type there.
unsafe fn field<T: Copy>(at: *const u8, offset: usize) -> T {
    // SAFETY: the caller upholds the contract.
    unsafe { at.add(offset).cast::<T>().read() }
}

/// A compiled function, at its address. PL/pgSQL never frees the struct, but may use it for another function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Function(*const u8);

impl Function {
    /// The function's OID, the transaction of its definition, and the memory of what was compiled.
    fn compiled(self) -> (pg_sys::Oid, u32, usize) {
        // SAFETY: the struct is longer than that in every version. What is read is compared before it is used.
        unsafe {
            (
                field(self.0, OID),
                field(self.0, XMIN),
                field(self.0, CONTEXT),
            )
        }
    }

    /// The place of its definition in `pg_proc`: block and number.
    fn place(self) -> [u16; 3] {
        // SAFETY: as in `compiled`.
        unsafe { field(self.0, XMIN + 4) }
    }

    /// Makes PL/pgSQL compile the function again before its next execution. The field was found to be what it should be:
    /// see [`Definition::is_of`].
    fn forget(self) {
        // SAFETY: no row of `pg_proc` has this transaction, so that the function is found to be changed.
        unsafe { self.0.add(XMIN).cast_mut().cast::<u32>().write(0) }
    }

    /// The types of its variables. None if its datums do not look as they should.
    fn types(self, state: *const u8) -> Vec<pg_sys::Oid> {
        // SAFETY: the state is longer than that in every version, and is compared with the function before any pointer
        // is followed: it names the function, and counts the same datums. Each datum knows its number.
        unsafe {
            let count: i32 = field(self.0, COUNT);
            let datums: *const *const u8 = field(self.0, DATUMS);
            let known = field::<*const u8>(state, STATE[0]) == self.0
                && field::<i32>(state, STATE[1]) == count
                && is_pointer(datums.cast());
            if !known {
                return Vec::new();
            }
            (0..count.max(0) as usize)
                .map(|i| (i, *datums.add(i)))
                .take_while(|(i, datum)| {
                    is_pointer(*datum) && field::<i32>(*datum, DATUM[0]) == *i as i32
                })
                .filter(|(_, datum)| TYPED.contains(&field::<u32>(*datum, 0)))
                .map(|(_, datum)| field::<*const u8>(datum, DATUM[1]))
                .filter(|kind| is_pointer(*kind))
                .map(|kind| field(kind, DATUM[2]))
                .collect()
        }
    }
}

/// Whether an address can be that of a struct of PL/pgSQL, which has pointers in it.
fn is_pointer(address: *const u8) -> bool {
    !address.is_null() && address.addr().is_multiple_of(align_of::<usize>())
}

/// A function's row of `pg_proc`.
struct Definition {
    owner: pg_sys::Oid,
    xmin: u32,
    place: [u16; 3],
}

impl Definition {
    /// Whether the function was compiled from it. Not so if a statement of its own has just replaced it, and not so
    /// if the struct has another layout.
    fn is_of(&self, function: Function) -> bool {
        self.xmin == function.compiled().1 && self.place == function.place()
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
            EARLIER.with_borrow_mut(|earlier| note_compiled(pg_sys::TopMemoryContext, earlier));
        }
    }
    plug_in();
}

/// Notes the memory of compiled functions below a context: below the topmost one or, since PostgreSQL 18, that of caches.
///
/// # Safety
/// The context is one of the server's.
unsafe fn note_compiled(context: pg_sys::MemoryContext, found: &mut HashSet<usize>) {
    // SAFETY: the caller upholds the contract. The children of a context are contexts.
    unsafe {
        let mut child = (*context).firstchild;
        while !child.is_null() {
            if CStr::from_ptr((*child).name) == c"PL/pgSQL function" {
                found.insert(child.addr());
            }
            note_compiled(child, found);
            child = (*child).nextchild;
        }
    }
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
    if INSIDE.get() {
        return;
    }
    {
        let _inside = Inside::enter();
        // SAFETY: the arguments of the server are passed on. An error of the plugin becomes a panic.
        unsafe {
            if let Some(previous) = PREVIOUS {
                pg_sys::ffi::pg_guard_ffi_boundary(|| previous(state, function));
            }
        }
    }
    see(Function(function.cast()), state.cast());
}

/// While the value lives, the plugin that was there before is called, which may call this one.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        INSIDE.set(true);
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// Notes who has compiled a function that is about to be executed.
fn see(function: Function, state: *const u8) {
    let compiled = function.compiled();
    let (oid, _, context) = compiled;
    // A DO block has no OID. Its struct is freed.
    if oid == pg_sys::InvalidOid || SEEN.with_borrow(|seen| seen.get(&function) == Some(&compiled))
    {
        return;
    }
    let Some(definition) = definition(oid).filter(|definition| definition.is_of(function)) else {
        return;
    };
    let earlier = EARLIER.with_borrow(|earlier| earlier.contains(&context));
    if temporary::is_acting() {
        let types = function.types(state).into_iter();
        if let Some(name) = { types }.find_map(temporary::strange_type) {
            function.forget();
            raise(Error::TemporaryObject { name });
        }
        if earlier {
            EARLIER.with_borrow_mut(|earlier| earlier.remove(&context));
            function.forget();
            raise(Error::CompiledEarlier);
        }
    } else if earlier {
        // Whoever executes it now is not known to have compiled it.
        return;
    }
    SEEN.with_borrow_mut(|seen| seen.insert(function, compiled));
    // SAFETY: a backend variable, and look-ups of two roles.
    let (role, may_replace) = unsafe {
        let role = pg_sys::GetUserId();
        (role, pg_sys::has_privs_of_role(role, definition.owner))
    };
    // Whoever may replace the function needs no such trick.
    if !may_replace {
        FOREIGN.with_borrow_mut(|foreign| foreign.push((function, role)));
    }
}

/// The definition of a function.
fn definition(function: pg_sys::Oid) -> Option<Definition> {
    // SAFETY: a catalog look-up; the tuple is held until it is released.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, function.into());
        if tuple.is_null() {
            return None;
        }
        let owner = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_proc>(tuple)).proowner;
        let xmin = (*(*tuple).t_data).t_choice.t_heap.t_xmin;
        let place = (*tuple).t_self;
        pg_sys::ReleaseSysCache(tuple);
        Some(Definition {
            owner,
            xmin: u32::from(xmin),
            place: [place.ip_blkid.bi_hi, place.ip_blkid.bi_lo, place.ip_posid],
        })
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
