//! pg_sequin applies Sequin's change messages to the tables of the database that it is installed in.
//!
//! The modules stand in the order of a batch's way:
//!
//! ```text
//! batch ─ envelope ─ message ─ route ─ group ─ merge ─ cast ─ write ─ outcome
//!  text    unwrap    validate  mapping  rows    one     typed   SPI    counts
//!  jsonb                                        change  datums
//!                                               per row
//! ```
//!
//! Everything up to `merge`, and the SQL text of `statement`, is pure Rust; only [`pg`] is unsafe.

#![deny(missing_docs)]

::pgrx::pg_module_magic!();

mod api;
mod apply;
mod backfill;
mod cascade;
mod cast;
mod civil;
mod counters;
mod dead_letter;
mod destination;
mod envelope;
mod error;
mod explain;
mod fingerprint;
mod fold;
#[cfg(test)]
mod fuzz;
mod group;
mod guard;
mod image;
mod json;
mod key;
mod mapping;
mod merge;
mod message;
mod pg;
mod prepared;
mod projection;
mod registry;
mod resync;
mod retry;
mod route;
mod sets;
mod settings;
mod spell;
mod statement;
mod tangle;
mod target;
mod units;
mod wait;
mod write;

::pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog");
::pgrx::extension_sql_file!("../sql/guard.sql", name = "guard", requires = ["catalog"]);
::pgrx::extension_sql_file!("../sql/status.sql", name = "status", requires = ["guard"]);
::pgrx::extension_sql_file!(
    "../sql/explain.sql",
    name = "explain",
    requires = ["status"]
);
::pgrx::extension_sql_file!(
    "../sql/fingerprint.sql",
    name = "fingerprint",
    requires = ["explain"]
);
::pgrx::extension_sql_file!(
    "../sql/apply.sql",
    name = "apply",
    requires = ["fingerprint"],
    finalize
);

/// Called by the server when it loads the library.
#[::pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
}

/// Set-up for `cargo pgrx test`.
#[cfg(test)]
pub mod pg_test {
    /// Called once before the tests.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the test server.
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
