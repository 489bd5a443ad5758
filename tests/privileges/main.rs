//! Who may do what, and what nobody gets by trying: real roles over real connections.

#![forbid(unsafe_code)]

mod forwarders;
mod impostors;

use postgres::Client;
use support::{Database, rows, run, value};

/// Mallory owns mappings and tables of her own and wants more; the forwarder has EXECUTE on
/// sequin_apply; both are told to the test by name.
struct Scene {
    database: Database,
    mallory: String,
    forwarder: String,
}

impl Scene {
    fn new(test: &str) -> Scene {
        let mut database = Database::new(test);
        let (mallory, forwarder) = (database.role("mallory"), database.role("forwarder"));
        run(
            &mut database.connect(),
            &format!(
                "create schema mallory authorization {mallory};
                 grant select, insert, update, delete on sequin.mapping to {mallory};
                 grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {mallory};
                 select sequin.grant_source('*.*', '{mallory}');
                 grant select, delete on sequin.dead_letter to {mallory};
                 grant execute on function sequin_apply(text), sequin_apply(jsonb) to {forwarder};
                 create table secret (word text); insert into secret values ('hush');
                 create table victim (id integer primary key, name text, at timestamptz);
                 select sequin.map('public.victim', 'victim', guard => 'table', name => 'victim')"
            ),
        );
        let mut client = database.connect_as(&mallory);
        run(
            &mut client,
            "create table mallory.log (what text, who text);
             create function mallory.grab(what text) returns void language plpgsql as $$
             begin
                 insert into mallory.log values (what, current_user);
                 if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
                     execute pg_catalog.format('alter role %I superuser', (select nspowner::regrole
                         from pg_catalog.pg_namespace where nspname = 'mallory'));
                 end if;
             end $$",
        );
        Scene {
            database,
            mallory,
            forwarder,
        }
    }

    fn mallory(&self) -> Client {
        self.database.connect_as(&self.mallory)
    }

    fn forwarder(&self) -> Client {
        self.database.connect_as(&self.forwarder)
    }

    /// She is what she was, and none of her code ran as anybody but herself.
    fn nothing_gained(&self, who: &[&str]) {
        let mut admin = self.database.connect();
        let is_super = format!(
            "select rolsuper from pg_roles where rolname = '{}'",
            self.mallory
        );
        assert_eq!(value(&mut admin, &is_super), "f");
        for found in rows(&mut admin, "select distinct who from mallory.log") {
            assert!(who.contains(&found.as_str()), "it ran as {found}");
        }
        let mallorys = value(&mut admin, "select count(*) from mallory.log");
        eprintln!("{mallorys} times");
    }
}
