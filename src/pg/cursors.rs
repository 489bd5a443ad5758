//! The cursors of a session, while it acts as the owner of a mapping.
//!
//! A cursor has a name that anyone in the session can read in `pg_cursors`, and no owner. PL/pgSQL's loop over a query is
//! one, too. Its rows are often messages: `for r in delete from inbox returning payload loop perform
//! sequin_apply(r.payload)`. The code of a mapping could read the messages of others from it. The loop would not see these
//! rows any more, so that they would be lost.

use std::cell::Cell;
use std::ffi::CStr;
use std::ptr;

use pgrx::pg_sys;

thread_local! {
    /// The memory context of which the context of every cursor is a child.
    static ALL: Cell<pg_sys::MemoryContext> = const { Cell::new(ptr::null_mut()) };
}

/// While the value lives, the cursors that were open before can be neither read nor closed.
pub struct Held(Vec<pg_sys::Portal>);

impl Held {
    /// The server refuses to run or to drop a cursor that is running (55000, 24000): the cursors say that they are.
    pub fn begin() -> Held {
        let mut held = Vec::new();
        // SAFETY: each child of the context belongs to a cursor, by whose name it is called. The server's own table of
        // cursors has the ones that are found. One that is held cannot be dropped. The list is not changed meanwhile.
        unsafe {
            let active = match pg_sys::ActivePortal.is_null() {
                true => ptr::null_mut(),
                false => (*pg_sys::ActivePortal).portalContext,
            };
            let mut context = (*all()).firstchild;
            while !context.is_null() {
                if context != active && !(*context).ident.is_null() {
                    hold((*context).ident, &mut held);
                }
                context = (*context).nextchild;
            }
        }
        Held(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for portal in self.0.drain(..) {
            // SAFETY: as in `begin`.
            unsafe { (*portal).status = pg_sys::PortalStatus::PORTAL_READY };
        }
    }
}

/// Holds the cursor with this name, if it could be run.
unsafe fn hold(name: *const std::ffi::c_char, held: &mut Vec<pg_sys::Portal>) {
    // SAFETY: the name ends with NUL. A cursor that is found lives.
    unsafe {
        // The context of the cursor without a name is called so.
        let nameless = CStr::from_ptr(name) == c"<unnamed>";
        for name in [Some(name), nameless.then_some(c"".as_ptr())] {
            let portal = name.map_or(ptr::null_mut(), |name| pg_sys::GetPortalByName(name));
            if !portal.is_null() && (*portal).status == pg_sys::PortalStatus::PORTAL_READY {
                (*portal).status = pg_sys::PortalStatus::PORTAL_ACTIVE;
                held.push(portal);
            }
        }
    }
}

/// The server makes the context when it starts, and keeps it.
fn all() -> pg_sys::MemoryContext {
    let known = ALL.get();
    if !known.is_null() {
        return known;
    }
    // SAFETY: the contexts of the server, whose names end with NUL.
    unsafe {
        let mut context = (*pg_sys::TopMemoryContext).firstchild;
        while !context.is_null() && CStr::from_ptr((*context).name) != c"TopPortalContext" {
            context = (*context).nextchild;
        }
        if context.is_null() {
            pgrx::error!("the server's cursors were not found");
        }
        ALL.set(context);
        context
    }
}
