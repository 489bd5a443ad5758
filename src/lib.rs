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

mod dead_letter;
mod write;

mod changes;

mod guard;

mod target;

mod blame;
mod route;

mod mapping;

mod counters;
mod destination;

mod backfill;
mod cast;
mod key;
mod outcome;
mod prepared;
mod stop;

mod envelope;
mod merge;
mod pg;

mod error;
mod image;
mod message;
mod settings;
mod spell;

mod civil;
mod column_set;
mod json;
mod statement;

#[cfg(test)]
mod fuzz;

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
    requires = ["fingerprint"]
);
::pgrx::extension_sql_file!(
    "../sql/privileges.sql",
    name = "privileges",
    requires = ["apply"],
    finalize
);

/// Called by the server when it loads the library.
#[::pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    pg::settings::reserve_prefix();
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
