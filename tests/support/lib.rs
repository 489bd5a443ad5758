//! What client tests and benchmarks share: databases in the cluster that PGHOST, PGPORT and PGUSER name (`make test`
//! starts one), messages that are quickly written, and numbers that are the same in every run.

#![forbid(unsafe_code)]

mod corpus;
mod counts;
mod database;
mod message;
mod random;
mod server;

pub use corpus::{corpus_directory, corpus_lines};
pub use counts::{
    Counts, apply, apply_error, apply_jsonb, deleted, send, stale, try_apply, upserted,
};
pub use database::{Database, code, config, connect, error, rows, run, server, value};
pub use message::{Message, batch, item, message};
pub use random::{Random, number};
pub use server::{
    has_extensions, has_icu, has_xml, peak_memory, pg_config, processor_time, resident_memory,
    variable,
};

/// The values of `guard`.
pub const GUARDS: [&str; 3] = ["off", "columns", "table"];
