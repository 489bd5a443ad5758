//! pg_sequin applies Sequin's change messages to the tables of the database that it is installed in.
//!
//! A batch goes down through the rooms, and its outcomes come back up:
//!
//! ```text
//! api ─ apply ─┬─ envelope ─ message          text or jsonb → messages
//!              ├─ route                       message → mappings
//!              ├─ changes ─ merge ─ cast      messages → the net change of each row, typed
//!              ├─ write ─ guard ─ target      net changes → statements over a batch relation
//!              ├─ dead_letter                 messages that could not be applied
//!              └─ counters                    what became of all
//! ```
//!
//! The modules below stand in layers, the highest first. A module uses modules of lower layers only; the test
//! `tests/layers` checks that. The pure ones (`json`, `envelope`, `message`, `route`, `merge`, `spell`,
//! `statement` and others) know no server. Only `pg` has unsafe code.

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
mod memo;
mod outcome;
mod prepared;
mod settings;
mod stop;

mod envelope;
mod merge;
mod pg;

mod error;
mod image;
mod message;
mod spell;

mod civil;
mod column_set;
mod json;
mod statement;

#[cfg(test)]
mod fuzz;

// What views, indexes, policies and triggers call is bound when they are made. `create extension` searches
// the schema that it was given, where anybody may have made operators that fit better.
::pgrx::extension_sql!(
    "set local search_path = pg_catalog, pg_temp;",
    name = "search_path",
    bootstrap
);
::pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog");
::pgrx::extension_sql_file!("../sql/guard.sql", name = "guard", requires = ["catalog"]);
::pgrx::extension_sql_file!("../sql/status.sql", name = "status", requires = ["guard"]);
::pgrx::extension_sql_file!(
    "../sql/monitoring.sql",
    name = "monitoring",
    requires = ["status"]
);
::pgrx::extension_sql_file!(
    "../sql/explain.sql",
    name = "explain",
    requires = ["monitoring"]
);
::pgrx::extension_sql_file!("../sql/check.sql", name = "check", requires = ["explain"]);
::pgrx::extension_sql_file!(
    "../sql/fingerprint.sql",
    name = "fingerprint",
    requires = ["check"]
);
::pgrx::extension_sql_file!(
    "../sql/sequences.sql",
    name = "sequences",
    requires = ["fingerprint"]
);
::pgrx::extension_sql_file!("../sql/apply.sql", name = "apply", requires = ["sequences"]);
::pgrx::extension_sql_file!(
    "../sql/portions.sql",
    name = "portions",
    requires = ["apply"]
);
::pgrx::extension_sql_file!(
    "../sql/privileges.sql",
    name = "privileges",
    requires = ["portions"],
    finalize
);

/// Called by the server when it loads the library.
#[::pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::backtrace::never();
    pg::plan_size::watch();
    pg::temporary::watch();
    pg::compiled::watch();
    pg::forbidden::watch();
    json::at_pauses(pg::interrupts::check);
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
