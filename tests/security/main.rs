//! Attacks, each in a file of its name: by roles that have what README.md gives them, over real connections. Nobody gets
//! more than he was given, and nobody stops the others.

#![forbid(unsafe_code)]

mod backtraces;
mod cancel;
#[path = "../crash/cluster.rs"]
#[allow(dead_code, reason = "some is for crashes")]
mod cluster;
mod every_function;
mod memory;
mod memory_limits;
mod not_unicode;
mod plans;
mod prepared_transactions;
mod standby;
