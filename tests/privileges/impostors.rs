//! Code of one owner does not run with the rights of another, nor of the caller.

use postgres::Client;
use support::{apply, batch, message, rows, run, try_apply, value};

use super::Scene;

/// Operators, functions and types that stand in for those of pg_catalog, where the search_path lets them.
const IMPOSTORS: &str = "
    create function mallory.eq8(bigint, bigint) returns boolean language plpgsql as
        $$ begin perform mallory.grab('='); return true; end $$;
    create function mallory.eq4(integer, integer) returns boolean language plpgsql as
        $$ begin perform mallory.grab('='); return true; end $$;
    create function mallory.eqt(text, text) returns boolean language plpgsql as
        $$ begin perform mallory.grab('='); return true; end $$;
    create function mallory.lt8(timestamptz, timestamptz) returns boolean language plpgsql as
        $$ begin perform mallory.grab('<'); return true; end $$;
    create function mallory.plus(timestamptz, interval) returns timestamptz language plpgsql as
        $$ begin perform mallory.grab('+'); return $1; end $$;
    create function mallory.times(bigint, interval) returns interval language plpgsql as
        $$ begin perform mallory.grab('*'); return $2; end $$;
    create function mallory.times8(integer, interval) returns interval language plpgsql as
        $$ begin perform mallory.grab('*'); return $2; end $$;
    create operator mallory.= (leftarg = bigint, rightarg = bigint, function = mallory.eq8);
    create operator mallory.= (leftarg = integer, rightarg = integer, function = mallory.eq4);
    create operator mallory.= (leftarg = text, rightarg = text, function = mallory.eqt);
    create operator mallory.< (leftarg = timestamptz, rightarg = timestamptz, function = mallory.lt8);
    create operator mallory.+ (leftarg = timestamptz, rightarg = interval, function = mallory.plus);
    create operator mallory.* (leftarg = bigint, rightarg = interval, function = mallory.times);
    create operator mallory.* (leftarg = integer, rightarg = interval, function = mallory.times8);
    create function mallory.bad(pg_catalog.text) returns boolean language plpgsql as
        $$ begin perform mallory.grab('type'); return true; end $$;
    create domain mallory.text as pg_catalog.text check (mallory.bad(value));
    create function mallory.count() returns bigint language plpgsql as
        $$ begin perform mallory.grab('count'); return 0; end $$;
    create function mallory.take_over() returns pg_catalog.text language plpgsql as $$
    begin
        perform pg_catalog.set_config('search_path', 'mallory, pg_catalog', false);
        perform pg_catalog.set_config('timezone', 'Asia/Kolkata', false);
        return 'x';
    end $$;";

fn of(action: &str, table: &str, lsn: u64, id: u64) -> String {
    message(
        action,
        table,
        lsn,
        &format!(r#"{{"id":{id},"name":"n{lsn}","at":"2026-03-01T00:00:00"}}"#),
    )
}

/// Sends all kinds of messages, so that a call does everything that it can do.
fn everything(client: &mut Client, table: &str) {
    for lsn in [10, 20] {
        for action in ["insert", "update", "read", "delete"] {
            let _ = try_apply(
                client,
                &batch(&[of(action, table, lsn, 1), of(action, "victim", lsn, 1)]),
            );
            let _ = try_apply(
                client,
                &batch(&[
                    of(action, table, lsn, 2),
                    "42".to_owned(),
                    of(action, "none", 1, 1),
                ]),
            );
        }
        let dead = message("insert", table, lsn, r#"{"id":"x"}"#);
        let _ = try_apply(client, &dead);
    }
}

#[test]
fn the_search_path_of_a_caller_is_not_followed() {
    let scene = Scene::new("privileges_path");
    let mut mallory = scene.mallory();
    run(&mut mallory, IMPOSTORS);
    let mut admin = scene.database.connect();
    run(
        &mut admin,
        &format!(
            "grant usage on schema mallory to {0}; grant all on all tables in schema mallory to {0}",
            scene.forwarder
        ),
    );
    for mut session in [scene.forwarder(), scene.mallory()] {
        run(
            &mut session,
            "set search_path = mallory, pg_catalog, public",
        );
        everything(&mut session, "victim");
    }
    run(
        &mut mallory,
        "create table mallory.item (id integer primary key, name varchar, at timestamptz)",
    );
    run(
        &mut mallory,
        "select sequin.map('public.item', 'mallory.item', guard => 'table', name => 'item')",
    );
    run(
        &mut mallory,
        "set search_path = mallory, pg_catalog, public",
    );
    for sql in [
        "select sequin.begin_resync('item')",
        "select sequin.finish_resync('item', true)",
        "select sequin.finish_resync('item', min_confirmed => 0)",
        "select sequin.forget_versions('item')",
        "select * from sequin.explain('item')",
        "select * from sequin.explain(batch => '[{\"action\":\"insert\",\"record\":{\"id\":1},\"metadata\":{\"table_schema\":\"public\",\"table_name\":\"item\"}}]')",
        "select * from sequin.status",
        "select * from sequin.versions",
        "select * from sequin.retry()",
        "select * from sequin.retry(1)",
        "select * from sequin.retry('item')",
        "select sequin.discard(2)",
        "select * from sequin.fingerprint('mallory.item')",
        "update sequin.mapping set enabled = false",
        "select * from sequin.map_schema('public', 'mallory')",
        "select sequin.unmap('item')",
    ] {
        // Errors are allowed.
        let _ = mallory.batch_execute(sql);
    }
    scene.nothing_gained(&[&scene.mallory, &scene.forwarder]);
}

#[test]
fn sql_of_a_mapping_does_not_outlive_its_owners_turn() {
    for guard in ["table", "columns", "off"] {
        let scene = Scene::new(&format!("privileges_sql_{guard}"));
        let mut mallory = scene.mallory();
        run(&mut mallory, IMPOSTORS);
        run(
            &mut mallory,
            &format!(
                "create table mallory.item (id integer primary key, name varchar, at timestamptz);
                 select sequin.map('public.item', 'mallory.item', guard => '{guard}', name => 'item', columns =>
                     '{{\"name\": {{\"sql\": \"mallory.take_over()\"}}, \"*\": \"record.*\"}}')"
            ),
        );
        let mut session = scene.forwarder();
        run(&mut session, "set timezone = 'America/New_York'");
        everything(&mut session, "item");
        scene.nothing_gained(&[&scene.mallory]);
        // Rows of others are written as before, and the session keeps its settings.
        let mut admin = scene.database.connect();
        run(&mut admin, "set timezone = 'UTC'");
        apply(
            &mut session,
            &batch(&[of("insert", "item", 99, 5), of("insert", "victim", 99, 5)]),
        );
        assert_eq!(
            value(&mut admin, "select at from victim where id = 5"),
            "2026-03-01 00:00:00+00"
        );
        assert_eq!(value(&mut session, "show timezone"), "America/New_York");
        assert_eq!(value(&mut session, "show search_path"), "\"$user\", public");
    }
}

#[test]
fn triggers_and_domains_do_not_outlive_their_turn() {
    for guard in ["table", "columns", "off"] {
        let scene = Scene::new(&format!("privileges_trigger_{guard}"));
        let mut mallory = scene.mallory();
        run(&mut mallory, IMPOSTORS);
        run(
            &mut mallory,
            &format!(
                "create function mallory.checked(pg_catalog.text) returns boolean language plpgsql as
                     $$ begin perform mallory.take_over(); perform mallory.grab('domain'); return true; end $$;
                 create domain mallory.word as pg_catalog.text check (mallory.checked(value));
                 create table mallory.item (id integer primary key, name mallory.word, at timestamptz);
                 create function mallory.fired() returns trigger language plpgsql as $$
                 begin
                     perform mallory.take_over(); perform mallory.grab('trigger');
                     return case tg_op when 'DELETE' then old else new end;
                 end $$;
                 create trigger fired before insert or update or delete on mallory.item
                     for each row execute function mallory.fired();
                 select sequin.map('public.item', 'mallory.item', guard => '{guard}', name => 'item')"
            ),
        );
        everything(&mut scene.forwarder(), "item");
        scene.nothing_gained(&[&scene.mallory]);
        let mut admin = scene.database.connect();
        let fired =
            "select count(distinct what) from mallory.log where what in ('trigger', 'domain')";
        assert_eq!(value(&mut admin, fired), "2");
        run(
            &mut mallory,
            "select sequin.begin_resync('item'); insert into mallory.item values (77)",
        );
        run(
            &mut mallory,
            "select sequin.finish_resync('item', min_confirmed => 0)",
        );
        scene.nothing_gained(&[&scene.mallory]);
    }
}

/// Triggers that fire at the end of the caller's transaction get no more rights than the caller has.
#[test]
fn deferred_triggers_fire_as_nobody_else() {
    let scene = Scene::new("privileges_deferred");
    let mut admin = scene.database.connect();
    run(
        &mut admin,
        &format!(
            "create table node (id integer primary key, next integer references node deferrable initially deferred);
             select sequin.map('public.node', 'node', guard => 'off', name => 'node');
             grant execute on function sequin_apply(text) to {}",
            scene.mallory
        ),
    );
    let mut mallory = scene.mallory();
    run(
        &mut mallory,
        "create table mallory.bait (id integer);
         create function mallory.fired() returns trigger language plpgsql as
             $$ begin perform mallory.grab('deferred'); return null; end $$;
         create constraint trigger fired after insert on mallory.bait deferrable initially deferred
             for each row execute function mallory.fired();
         create table mallory.item (id integer primary key references mallory.item deferrable initially deferred);
         create constraint trigger fired after insert on mallory.item deferrable initially deferred
             for each row execute function mallory.fired();
         select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'item')",
    );
    for table in ["node", "item"] {
        run(
            &mut mallory,
            "begin; insert into mallory.bait values (1); insert into mallory.item values (1)",
        );
        apply(&mut mallory, &message("insert", table, 1, r#"{"id":2}"#));
        run(&mut mallory, "commit; truncate mallory.item");
        scene.nothing_gained(&[&scene.mallory]);
    }
    apply(
        &mut scene.forwarder(),
        &message("insert", "item", 1, r#"{"id":2}"#),
    );
    scene.nothing_gained(&[&scene.mallory]);
}

#[test]
fn sql_of_a_mapping_gets_no_further_than_its_owner() {
    let scene = Scene::new("privileges_attempts");
    let mut mallory = scene.mallory();
    run(
        &mut mallory,
        "create function mallory.attempt(statement text) returns text language plpgsql as
             $$ begin execute statement; return 'done'; end $$;
         create table mallory.item (id integer primary key, name text);
         select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'item', columns =>
             '{\"name\": {\"sql\": \"mallory.attempt(record->>''name'')\"}, \"*\": \"record.*\"}')",
    );
    let mut session = scene.forwarder();
    for (lsn, statement) in (1..).zip([
        "set role postgres",
        "reset role",
        "set session authorization default",
        "create temp table t (id integer)",
        "prepare p as select 1",
        "select * from public.secret",
        "insert into public.victim values (1)",
        "select * from sequin.row_version",
        "update sequin.mapping set owner = 10",
        "alter role current_user superuser",
        "set sequin.read_skew = 0",
        "set session_replication_role = replica",
        "copy mallory.item to program 'true'",
    ]) {
        let record = format!(r#"{{"id":1,"name":"{statement}"}}"#);
        let counts = apply(&mut session, &message("insert", "item", lsn, &record));
        assert_eq!(counts.dead, 1, "{statement}");
    }
    let mut admin = scene.database.connect();
    assert_eq!(
        rows(
            &mut admin,
            "select distinct sqlstate from sequin.dead_letter order by 1"
        ),
        ["42501"]
    );
    assert_eq!(value(&mut session, "select current_user"), scene.forwarder);
    scene.nothing_gained(&[]);
}
