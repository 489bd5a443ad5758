//! PL/pgSQL keeps what it has compiled for the session. Nobody slips a type into a function that others call.

use postgres::Client;
use support::{Database, batch, error, message, run, send, try_apply, value};

/// Alice's function declares variables of unqualified types, has no search_path of its own, and may be called by all.
/// Mallory has a schema of her own, and a mapping of her own.
struct Scene {
    database: Database,
    alice: String,
    mallory: String,
    forwarder: String,
}

impl Scene {
    fn new(test: &str) -> Scene {
        let mut database = Database::new(&format!("compiled_{test}"));
        let (alice, mallory, forwarder) = (
            database.role("alice"),
            database.role("mallory"),
            database.role("forwarder"),
        );
        run(
            &mut database.connect(),
            &format!(
                "create schema app authorization {alice};
                 create schema mallory authorization {mallory};
                 grant usage on schema app to public;
                 grant execute on function sequin.map to {alice}, {mallory};
                 grant execute on function sequin_apply(text) to {forwarder}, {mallory};
                 select sequin.grant_source('*.*', '{alice}'), sequin.grant_source('*.*', '{mallory}');
                 create table taken (by_role text);
                 grant insert on taken to public"
            ),
        );
        run(
            &mut database.connect_as(&alice),
            r#"set search_path = app, public;
               create type mood as enum ('sad', 'ok');
               create table item (id integer primary key, name text);
               create function norm(t text) returns text language plpgsql as
                   $$ declare m mood = 'ok'; v text = t; begin return v || m; end $$;
               select sequin.map('public.item', 'item', '{"id": "record.id", "name": {"sql": "norm(record->>''id'')"}}')"#,
        );
        Scene {
            database,
            alice,
            mallory,
            forwarder,
        }
    }

    /// Nobody but these roles ran the check of the domain.
    fn taken(&self) -> String {
        value(
            &mut self.database.connect(),
            "select coalesce(string_agg(distinct by_role, ','), 'nobody') from taken",
        )
    }

    fn item(&self) -> String {
        value(
            &mut self.database.connect(),
            "select coalesce(string_agg(name, ',' order by id), 'none') from app.item",
        )
    }
}

/// Domains in a schema whose check notes who runs it.
fn domains(client: &mut Client, schema: &str) {
    run(
        client,
        &format!(
            "create function {schema}.take(text) returns boolean language plpgsql as
                 $$ begin insert into public.taken values (current_user); return true; end $$;
             create domain {schema}.mood as pg_catalog.text check ({schema}.take(value));
             create domain {schema}.text as pg_catalog.text check ({schema}.take(value))"
        ),
    );
}

fn row(id: u64) -> String {
    message("insert", "item", id, &format!(r#"{{"id":{id}}}"#))
}

#[test]
fn a_forwarder_slips_no_type_into_an_owners_function() {
    for schema in ["pg_temp", "mallory"] {
        for before in [true, false] {
            let scene = Scene::new(&format!("forwarder_{schema}_{before}"));
            // Mallory may forward, and has a schema of her own.
            let role = if schema == "mallory" {
                &scene.mallory
            } else {
                &scene.forwarder
            };
            let mut client = scene.database.connect_as(role);
            domains(&mut client, schema);
            if !before {
                send(&mut client, &[row(1)]);
            }
            run(
                &mut client,
                &format!(
                    "set search_path = {schema}, app, pg_catalog; select app.norm('x'); reset search_path"
                ),
            );
            // What the owner has compiled first is as it should be.
            let ran = if before { role } else { "nobody" };
            assert_eq!(scene.taken(), ran, "{schema}, {before}");
            // A call may fail for a function that was compiled before the library was loaded. It is sent again.
            let again = try_apply(&mut client, &batch(&[row(2)])).is_err();
            assert!(before || !again, "{schema}");
            send(&mut client, &[row(3)]);
            assert_eq!(scene.taken(), ran, "{schema}, {before}");
            let item = scene.item();
            assert!(item.ends_with("3ok"), "{schema}, {before}: {item}");
        }
    }
}

#[test]
fn a_temporary_type_does_not_stand_in_for_one_that_is_gone() {
    let scene = Scene::new("gone");
    run(
        &mut scene.database.connect_as(&scene.alice),
        "alter type app.mood rename to feeling",
    );
    let mut client = scene.database.connect_as(&scene.forwarder);
    domains(&mut client, "pg_temp");
    send(&mut client, &[row(1)]);
    assert_eq!(scene.taken(), "nobody");
    let letter = "select sqlstate, error from sequin.dead_letter";
    assert_eq!(
        value(&mut scene.database.connect(), letter),
        r#"42704|mapping "item" is broken: type "mood" does not exist"#
    );
}

/// The owner's own trigger runs in the same call, before the other mapping.
#[test]
fn an_owner_slips_no_type_into_anothers_function() {
    let scene = Scene::new("owner");
    let mut mallory = scene.database.connect_as(&scene.mallory);
    domains(&mut mallory, "mallory");
    run(
        &mut mallory,
        "create table mallory.a (id integer primary key);
         create function mallory.act() returns trigger language plpgsql as
             $$ begin
                    perform set_config('search_path', 'mallory, app, pg_catalog', true);
                    perform app.norm('x');
                    return new;
                end $$;
         create trigger act before insert on mallory.a for each row execute function mallory.act();
         select sequin.map('public.a', 'mallory.a', name => '0')",
    );
    let mut client = scene.database.connect_as(&scene.forwarder);
    for id in 1..=3 {
        let record = format!(r#"{{"id":{id}}}"#);
        send(&mut client, &[message("insert", "a", id, &record)]);
        send(
            &mut client,
            &[
                message("insert", "a", id + 10, &format!(r#"{{"id":{}}}"#, id + 10)),
                row(id),
            ],
        );
    }
    assert_eq!(scene.taken(), scene.mallory);
    assert_eq!(scene.item(), "1ok,2ok,3ok");
    // Nor for the caller, whoever that is.
    let mut admin = scene.database.connect();
    send(&mut admin, &[message("insert", "a", 20, r#"{"id":20}"#)]);
    assert_eq!(
        value(
            &mut admin,
            "set search_path = app, public; select norm('y')"
        ),
        "yok"
    );
    assert_eq!(scene.taken(), scene.mallory);
}

/// What an owner has compiled of its own stays compiled, and a function that was replaced is the new one.
#[test]
fn functions_are_what_they_are() {
    let scene = Scene::new("replaced");
    let mut alice = scene.database.connect_as(&scene.alice);
    let mut client = scene.database.connect_as(&scene.forwarder);
    send(&mut client, &[row(1)]);
    run(
        &mut alice,
        "create or replace function app.norm(t text) returns text language plpgsql as
             $$ declare v text = t; begin return v || '!'; end $$",
    );
    send(&mut client, &[row(2)]);
    run(
        &mut alice,
        "create or replace function app.norm(t text) returns text language plpgsql as $$ begin return $1; end $$",
    );
    send(&mut client, &[row(3)]);
    assert_eq!(scene.item(), "1ok,2!,3");
    run(&mut alice, "drop function app.norm(text)");
    assert!(try_apply(&mut client, &batch(&[row(4)])).is_ok());
    assert_eq!(scene.item(), "1ok,2!,3");
    error(&mut client, "select app.norm('x')");
}
