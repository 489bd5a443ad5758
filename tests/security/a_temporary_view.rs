//! A forwarder makes temporary objects with the names that a mapping's SQL uses. Their functions would run
//! as the mapping's owner.

use postgres::Client;
use support::{Database, apply, message, rows, run, upserted, value};

struct Scene {
    database: Database,
    forwarder: String,
    admin: Client,
}

impl Scene {
    /// A superuser's mapping, whose SQL names a table, a type, a function and an operator without a schema.
    fn new(test: &str, search_path: &str) -> Scene {
        let mut database = Database::new(test);
        let forwarder = database.role("forwarder");
        let mut admin = database.connect();
        run(
            &mut admin,
            &format!(
                "revoke temporary on database {0} from public;
                 grant temporary on database {0} to {forwarder};
                 create table people (id integer primary key, city text, mood text, said text);
                 create table cities (id integer primary key, city text);
                 insert into cities values (1, 'Bern');
                 create domain mood as text;
                 create function said(text) returns text language sql as $$ select 'said ' || $1 $$;
                 grant execute on function sequin_apply(text), sequin_apply(jsonb) to {forwarder};
                 set search_path = {search_path}",
                database.name(),
            ),
        );
        run(
            &mut admin,
            r#"select sequin.map('public.people', 'people', name => 'people',
                   filter => $f$exists (select from cities) and (record->>'id')::mood is not null$f$,
                   columns => $c${"id": "record.id",
                       "city": {"sql": "(select c.city from cities c where c.id = (record->>'c')::int)"},
                       "mood": {"sql": "(record->>'m')::mood"},
                       "said": {"sql": "said(record->>'m')"}}$c$)"#,
        );
        Scene {
            database,
            forwarder,
            admin,
        }
    }

    fn is_safe(&mut self) {
        let is_super = format!(
            "select rolsuper from pg_roles where rolname = '{}'",
            self.forwarder
        );
        assert_eq!(value(&mut self.admin, &is_super), "f");
        for row in rows(&mut self.admin, "select city, mood, said from people") {
            assert_eq!(row, "Bern|well|said well");
        }
    }
}

fn person(id: u64) -> String {
    message(
        "insert",
        "people",
        id,
        &format!(r#"{{"id":{id},"c":1,"m":"well"}}"#),
    )
}

/// The attack: temporary objects that make the forwarder a superuser when the owner reads them.
fn plant(client: &mut Client, forwarder: &str) {
    run(
        client,
        &format!(
            "create function pg_temp.evil() returns text language plpgsql as $$
             begin execute 'alter role {forwarder} superuser'; return 'x'; end $$;
             create function pg_temp.said(text) returns text language sql as 'select pg_temp.evil()';
             create temp view cities as select 1 as id, pg_temp.evil() as city;
             create domain pg_temp.mood as text check (pg_temp.evil() is not null);
             grant select on cities to public"
        ),
    );
}

fn attack(test: &str, search_path: &str) {
    let mut scene = Scene::new(test, search_path);
    let mut client = scene.database.connect_as(&scene.forwarder);
    plant(&mut client, &scene.forwarder);
    assert_eq!(apply(&mut client, &person(1)), upserted(1));
    run(&mut client, "set search_path = pg_temp, public");
    assert_eq!(apply(&mut client, &person(2)), upserted(1));
    scene.is_safe();
    // What a plan was made for before the view is there stays.
    let mut client = scene.database.connect_as(&scene.forwarder);
    for id in 3..10 {
        assert_eq!(apply(&mut client, &person(id)), upserted(1));
    }
    plant(&mut client, &scene.forwarder);
    // plans are made again
    run(
        &mut scene.admin,
        "analyze cities; alter table cities add x int",
    );
    for id in 10..17 {
        assert_eq!(apply(&mut client, &person(id)), upserted(1));
    }
    scene.is_safe();
    assert_eq!(value(&mut scene.admin, "select count(*) from people"), "16");
}

#[test]
fn it_does_not_hide_the_owners_objects() {
    attack("temporary_view", "public");
}

#[test]
fn it_does_not_hide_them_where_the_owners_path_names_pg_temp_first() {
    attack("temporary_view_first", "PG_TEMP, \"$user\", public");
}

#[test]
fn a_path_that_names_pg_temp_first_is_read_with_it_last() {
    let mut scene = Scene::new("temporary_view_stored", "\"$user\", public");
    run(
        &mut scene.admin,
        "update sequin.mapping set search_path = 'pg_temp, public'",
    );
    let mut first = scene.database.connect_as(&scene.forwarder);
    plant(&mut first, &scene.forwarder);
    assert_eq!(apply(&mut first, &person(2)), upserted(1));
    scene.is_safe();
    // A row that came without the trigger is read by the same rule.
    run(
        &mut scene.admin,
        "alter table sequin.mapping disable trigger mapping_check;
         update sequin.mapping set search_path = 'public';
         alter table sequin.mapping enable trigger mapping_check",
    );
    let mut client = scene.database.connect_as(&scene.forwarder);
    plant(&mut client, &scene.forwarder);
    assert_eq!(apply(&mut client, &person(1)), upserted(1));
    scene.is_safe();
}

/// Superusers explain and change mappings; their own session's temporary objects are not meant either.
#[test]
fn explain_and_the_check_of_a_mapping_do_not_find_it() {
    let mut scene = Scene::new("temporary_view_explain", "public");
    let mut client = scene.database.connect();
    plant(&mut client, &scene.forwarder);
    let explained = format!(
        "select outcome, after->>'city' from sequin.explain_batch($m${}$m$)",
        person(1)
    );
    assert_eq!(rows(&mut client, &explained), ["upserted|Bern"]);
    run(
        &mut client,
        "select * from sequin.explain('people');
         update sequin.mapping set filter = filter || ' and true'",
    );
    scene.is_safe();
}
