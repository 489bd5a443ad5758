//! Faults in a running stream: what an operator reads in at most two queries, and that the statement of the HINT mends
//! the stream.

#![forbid(unsafe_code)]

mod broken;
mod catalog;
mod check;
#[allow(dead_code)]
#[path = "../crash/cluster.rs"]
mod cluster;
mod dead;
mod page;
mod scene;
mod stream;
