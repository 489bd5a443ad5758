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
mod envelope;
mod json;
mod message;
mod mapping;
mod registry;
mod route;
mod group;
mod key;
mod merge;
mod destination;
mod target;
mod projection;
mod spell;
mod cast;
mod statement;
mod write;
mod dead_letter;
mod error;
mod pg;

::pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog");
::pgrx::extension_sql_file!("../sql/apply.sql", name = "apply", requires = ["catalog"], finalize);

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
