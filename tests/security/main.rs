//! Attacks, a file each: what nobody gets, and what nobody can do to the others.

#![forbid(unsafe_code)]

mod a_cast_of_a_fingerprinted_table;
mod a_publication_for_all_tables;
mod a_setting_that_does_not_exist;
mod a_superusers_mapping_to_anothers_table;
mod a_temporary_view;
mod an_owner_changes_the_transaction;
mod an_owner_ends_the_session;
mod an_owner_fails_the_batch;
mod an_owner_fills_the_lock_table;
mod an_owner_hides_drift;
mod an_owner_pauses_the_batch;
mod an_owner_stalls_the_batch;
mod backtraces;
mod cancel;
#[path = "../crash/cluster.rs"]
#[allow(dead_code, reason = "some is for crashes")]
mod cluster;
mod compiled_functions;
mod compiled_structs;
mod deeply_nested;
mod default_privileges;
mod deferred_triggers;
mod event_triggers;
mod every_function;
mod explaining_others_letters;
mod foreign_mappings;
mod forged_letters;
mod internal_functions;
mod long_names;
mod memory;
mod memory_limits;
mod memory_of_shapes;
mod next_row_in_a_trigger;
mod not_unicode;
mod others_cursors;
mod others_messages;
mod others_statements;
mod owners_need_no_tables;
mod plans;
mod planted_operators;
mod planted_types;
mod prepared_transactions;
mod renamed_schemas;
mod restored_mappings;
mod search_paths;
mod sequences_of_anothers_table;
mod standby;
mod temporary_names;
mod truncated_mappings;
mod unknown_settings;
mod values_in_a_nested_call;
mod whose_code;

use postgres::Client;
use support::{Counts, Database, apply, batch, message, run, value};

/// Mallory owns mappings and tables of her own; the superuser's mapping `good` is in the same batches; the
/// forwarder has EXECUTE on sequin_apply and nothing else.
struct Scene {
    database: Database,
    mallory: String,
    forwarder: String,
}

impl Scene {
    fn new(test: &str) -> Scene {
        let mut database = Database::new(&format!("security_{test}"));
        let (mallory, forwarder) = (database.role("mallory"), database.role("forwarder"));
        run(
            &mut database.connect(),
            &format!(
                "create schema mallory authorization {mallory};
                 grant select, insert, update, delete on sequin.mapping to {mallory};
                 grant execute on all functions in schema sequin to {mallory};
                 select sequin.grant_source('*.*', '{mallory}');
                 grant select, delete on sequin.dead_letter to {mallory};
                 grant execute on function sequin_apply(text), sequin_apply(jsonb) to {forwarder};
                 create table good (id integer primary key, name text);
                 select sequin.map('public.good', 'good', guard => 'table', name => 'good')"
            ),
        );
        Scene {
            database,
            mallory,
            forwarder,
        }
    }

    /// Mallory's table `mallory.item`, which the mapping `bad` writes.
    fn with_item(test: &str, map: &str) -> Scene {
        let scene = Scene::new(test);
        run(
            &mut scene.mallory(),
            &format!(
                "create table mallory.item (id integer primary key, name text);
                 select sequin.map('public.item', 'mallory.item', name => 'bad', {map})"
            ),
        );
        scene
    }

    fn admin(&self) -> Client {
        self.database.connect()
    }

    fn mallory(&self) -> Client {
        self.database.connect_as(&self.mallory)
    }

    fn forwarder(&self) -> Client {
        self.database.connect_as(&self.forwarder)
    }

    /// Mallory runs what makes her mapping fail.
    fn trigger(&self, body: &str) {
        run(
            &mut self.mallory(),
            &format!(
                "create or replace function mallory.act() returns trigger language plpgsql as $$ {body} $$;
                 drop trigger if exists act on mallory.item;
                 create trigger act before insert or update on mallory.item
                     for each row execute function mallory.act()"
            ),
        );
    }
}

/// A row for `good` and a row for `item`.
fn mixed(n: u64) -> String {
    let record = format!(r#"{{"id":{n},"name":"n{n}"}}"#);
    batch(&[
        message("insert", "good", n, &record),
        message("insert", "item", n, &record),
    ])
}

/// Applies [`mixed`]: the row of `good` is written, and that of `item` is a letter.
fn only_good(client: &mut Client, n: u64) {
    let counts = apply(client, &mixed(n));
    let wanted = Counts {
        received: 2,
        upserted: 1,
        dead: 1,
        ..Counts::default()
    };
    assert_eq!(counts, wanted, "{n}");
}

/// The one letter: SQLSTATE, error and state. It is removed.
fn letter(admin: &mut Client) -> String {
    value(
        admin,
        "delete from sequin.dead_letter returning mapping, sqlstate, error, state",
    )
}
