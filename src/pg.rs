//! The only module with `unsafe` in it. It wraps the server's functions in types that release their
//! resources when they are dropped.
//!
//! There are two ways to call Postgres. A call whose failure ends the whole `sequin_apply` uses pgrx's own
//! guarded functions: an SQL error becomes a panic that pgrx turns back into the SQL error. A call whose
//! failure concerns one message goes through [`trap`], which returns the error with all of its fields (pgrx's
//! guard loses unknown SQLSTATEs, the constraint and the context).

pub mod absent;
pub mod backtrace;
pub mod clock;
pub mod compiled;
pub mod constraints;
pub mod counter;
pub mod cursors;
pub mod failures;
pub mod forbidden;
pub mod function;
pub mod interrupts;
pub mod invalidation;
pub mod isolation;
pub mod keys;
pub mod links;
pub mod mapped;
pub mod memory;
pub mod names;
pub mod outside;
pub mod overlap;
pub mod parse;
pub mod partition;
pub mod plan_size;
pub mod raise;
pub mod relation;
pub mod row;
pub mod row_version;
pub mod settings;
pub mod spi;
pub mod steps;
pub mod subtransaction;
pub mod temporary;
pub mod trap;
pub mod tuples;
pub mod turn;
pub mod typeio;
pub mod unique_scan;
pub mod user;
