//! The memory of a call, kept from one call to the next.
//!
//! A batch needs some megabytes for a moment. Memory that a session requests and returns each time costs
//! a page fault for every 4 kB. Measured: up to 4 µs a message, half as much as all other work. So a
//! session that applies batches keeps the memory that it used, up to a limit.

use std::cell::Cell;

use bumpalo::Bump;
use pgrx::pg_sys;

/// The size in bytes (1 MiB) of a new arena, and of the block that the memory context keeps.
const KEPT: usize = 1 << 20;

thread_local! {
    static ARENA: Cell<Option<Bump>> = const { Cell::new(None) };
    static CONTEXT: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
}

/// Blocks up to this size (8 MiB) come from the heap. The heap keeps up to twice as much freed memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAP_BLOCK: i32 = 8 << 20;

/// Once in a session: lets the heap keep the memory of a batch for the next batch. `mallopt` acts on the
/// whole backend, other extensions and the server's own memory contexts included, because glibc cannot set
/// the limit for one arena. From its first batch on, a session keeps up to 16 MiB of freed memory until the
/// session ends.
fn keep_heap() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers of the allocator.
    ONCE.call_once(|| unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, HEAP_BLOCK);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * HEAP_BLOCK);
    });
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    ONCE.call_once(|| ());
}

/// After a large batch: returns freed memory to the system. By itself, the heap keeps freed memory that lies
/// below a block in use.
fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: releases only free memory.
    unsafe {
        libc::malloc_trim(HEAP_BLOCK as usize);
    }
}

/// Whether the system would allocate `bytes` now. If it refuses, an error now is better than an abort later:
/// an abort ends the whole server.
pub fn is_there(bytes: usize) -> bool {
    let mut probe = Vec::<u8>::new();
    let is_there = probe.try_reserve_exact(bytes).is_ok();
    std::hint::black_box(&probe);
    is_there
}

/// The message with which [`bumpalo`] panics when the system is out of memory.
pub const OUT_OF_MEMORY: &str = "out of memory";

/// An arena for Rust values without destructors.
pub struct Arena {
    bump: Option<Bump>,
    /// Whether the values beside the arena take much memory: that of many members, say.
    large: bool,
}

impl Arena {
    /// Takes the kept arena. A nested call gets an arena of its own.
    pub fn take() -> Arena {
        Arena::of(0)
    }

    /// Takes the kept arena for a batch of this many bytes.
    pub fn of(bytes: usize) -> Arena {
        keep_heap();
        Arena {
            bump: Some(ARENA.take().unwrap_or_else(|| Bump::with_capacity(KEPT))),
            large: bytes > 4 * KEPT,
        }
    }
}

impl std::ops::Deref for Arena {
    type Target = Bump;

    fn deref(&self) -> &Bump {
        self.bump.as_ref().expect("taken only when dropped")
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Some(mut bump) = self.bump.take() {
            // `reset` keeps the largest chunk of the arena.
            bump.reset();
            let keep = bump.allocated_bytes() <= 4 * KEPT;
            ARENA.set(keep.then_some(bump));
            if !keep || self.large {
                trim_heap();
            }
        }
    }
}

/// While the value lives, work on one row after another allocates in this memory context. The memory of
/// earlier rows is freed from time to time, because the memory of a million rows would not fit.
pub struct RowContext {
    context: pg_sys::MemoryContext,
    before: pg_sys::MemoryContext,
}

impl RowContext {
    /// Enters a new context.
    pub fn enter() -> RowContext {
        // SAFETY: a child of the current context, which outlives the value.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sequin row".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            RowContext {
                context,
                before: pg_sys::MemoryContextSwitchTo(context),
            }
        }
    }

    /// Runs work that allocates in the context around this one.
    pub fn outside<T>(&self, work: impl FnOnce() -> T) -> T {
        // SAFETY: both contexts live longer than the work. After an error the server switches to another one.
        unsafe {
            pg_sys::MemoryContextSwitchTo(self.before);
            let result = work();
            pg_sys::MemoryContextSwitchTo(self.context);
            result
        }
    }

    /// Declares that all memory allocated so far may be freed.
    pub fn next_row(&self) {
        // SAFETY: the value owns the context. The caller declares that nothing points into the context.
        unsafe {
            if pg_sys::MemoryContextMemAllocated(self.context, false) > KEPT as _ {
                pg_sys::MemoryContextReset(self.context);
            }
        }
    }
}

impl Drop for RowContext {
    fn drop(&mut self) {
        // After a panic the server switches to another context, and the parent context frees this one.
        if !std::thread::panicking() {
            // SAFETY: nothing allocated in it is used any more.
            unsafe {
                pg_sys::MemoryContextSwitchTo(self.before);
                pg_sys::MemoryContextDelete(self.context);
            }
        }
    }
}

/// A memory context that the server's functions allocate in while the value lives.
pub struct Context {
    context: pg_sys::MemoryContext,
    before: pg_sys::MemoryContext,
}

impl Context {
    /// Enters the kept context. A nested call gets a context of its own.
    pub fn enter() -> Context {
        let kept = CONTEXT.replace(std::ptr::null_mut());
        // SAFETY: a child of TopMemoryContext lives until it is deleted; its first block, of KEPT
        // bytes, survives a reset.
        unsafe {
            let context = if kept.is_null() {
                pg_sys::AllocSetContextCreateInternal(
                    pg_sys::TopMemoryContext,
                    c"sequin_apply".as_ptr(),
                    KEPT,
                    KEPT,
                    pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
                )
            } else {
                kept
            };
            Context {
                context,
                before: pg_sys::MemoryContextSwitchTo(context),
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nothing allocated in the context is used any more. After a panic the previous context may
        // be gone, and the server switches to another context.
        unsafe {
            if !std::thread::panicking() {
                pg_sys::MemoryContextSwitchTo(self.before);
            }
            let kept = CONTEXT.replace(self.context);
            if kept.is_null() {
                pg_sys::MemoryContextReset(self.context);
            } else {
                CONTEXT.set(kept);
                pg_sys::MemoryContextDelete(self.context);
            }
        }
    }
}
