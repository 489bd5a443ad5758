//! What is one mapping's fault costs that mapping: its messages become letters.

use std::thread;
use std::time::Duration;

use support::{apply, apply_error, has_extensions, message, run, try_apply, upserted, value};

use super::{Scene, letter, mixed, only_good};

/// States that say "not the message" when the server raises them.
const STATES: [&str; 17] = [
    "53100", "53200", "53300", "53400", "40001", "40P01", "57014", "57P01", "57P03", "58030",
    "58P01", "XX000", "XX001", "08006", "55000", "55P03", "25006",
];

#[test]
fn by_a_sqlstate_of_the_servers() {
    let scene = Scene::with_item("sqlstate", "guard => 'table'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    for (n, state) in STATES.into_iter().enumerate() {
        scene.trigger(&format!(
            "begin raise exception 'no' using errcode = '{state}'; end"
        ));
        only_good(&mut forwarder, n as u64);
        assert_eq!(letter(&mut admin), format!("bad|{state}|no|dead"));
    }
    // Raised again, it is still the function's.
    scene.trigger(
        "begin begin raise exception 'no' using errcode = '40001';
         exception when others then raise; end; end",
    );
    only_good(&mut forwarder, 100);
    assert_eq!(letter(&mut admin), "bad|40001|no|dead");
}

#[test]
fn by_a_sqlstate_from_the_mappings_sql() {
    let scene = Scene::with_item("sqlstate_sql", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        r#"create function mallory.f(state text) returns text language plpgsql as $$
           begin raise exception 'no' using errcode = state; end $$"#,
    );
    for (n, state) in STATES.into_iter().enumerate() {
        let sql = format!("mallory.f(left(record->>'id', 0) || '{state}')").replace('\'', "''");
        run(
            &mut scene.mallory(),
            &format!(
                r#"update sequin.mapping set columns = '{{"*": "record.*", "name": {{"sql": "{sql}"}}}}'
                   where name = 'bad'"#
            ),
        );
        only_good(&mut forwarder, n as u64);
        assert!(letter(&mut admin).starts_with(&format!("bad|{state}|no|")));
    }
}

/// What is raised once only is tried once more.
#[test]
fn an_error_that_passes_is_none() {
    let scene = Scene::with_item("passes", "guard => 'off'");
    run(&mut scene.mallory(), "create sequence mallory.tries");
    scene.trigger(
        "begin if nextval('mallory.tries') < 2 then raise exception 'no' using errcode = 'XX000'; end if;
         return new; end",
    );
    assert_eq!(apply(&mut scene.forwarder(), &mixed(1)), upserted(2));
}

#[test]
fn by_privileges_that_are_gone() {
    let scene = Scene::new("privileges");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    let mallory = &scene.mallory;
    run(
        &mut admin,
        &format!(
            "create schema shared; create table shared.item (id integer primary key, name text);
             grant usage on schema shared to {mallory};
             grant select, insert, update, delete on shared.item to {mallory}"
        ),
    );
    run(
        &mut scene.mallory(),
        "select sequin.map('public.item', 'shared.item', name => 'bad', guard => 'table')",
    );
    assert_eq!(apply(&mut forwarder, &mixed(1)), upserted(2));
    for (n, right) in [
        "select, insert, update, delete on shared.item",
        "usage on schema shared",
    ]
    .into_iter()
    .enumerate()
    {
        for guard in ["table", "off"] {
            let n = 10 + 10 * n as u64 + u64::from(guard == "off");
            run(
                &mut admin,
                &format!(
                    "update sequin.mapping set guard = '{guard}' where name = 'bad'; revoke {right} from {mallory}"
                ),
            );
            let mut session = scene.forwarder();
            only_good(&mut session, n);
            only_good(&mut forwarder, n + 100);
            let status = "select state, broken_reason from sequin.status where name = 'bad'";
            let told = value(&mut admin, status);
            let broken =
                format!("broken|mapping \"bad\" is broken: role \"{mallory}\" may not write");
            assert!(told.starts_with(&broken), "{told}");
            let letters = "select count(*), min(sqlstate), min(state) from sequin.dead_letter";
            assert_eq!(value(&mut admin, letters), "2|42501|waiting");
            run(&mut admin, &format!("grant {right} to {mallory}"));
            run(&mut admin, "select * from sequin.retry('bad')");
            assert_eq!(
                value(&mut admin, "select count(*) from sequin.dead_letter"),
                "0"
            );
            assert_eq!(value(&mut admin, status), "running|null");
        }
    }
}

#[test]
fn by_a_dropped_owner() {
    let scene = Scene::new("owner");
    let mut admin = scene.admin();
    run(
        &mut admin,
        "create role security_gone; create table item (id integer primary key, name text);
         alter table item owner to security_gone;
         select sequin.grant_source('public.item', 'security_gone');
         select sequin.map('public.item', 'item', name => 'bad', guard => 'off');
         update sequin.mapping set owner = 'security_gone' where name = 'bad'",
    );
    let mut forwarder = scene.forwarder();
    assert_eq!(apply(&mut forwarder, &mixed(1)), upserted(2));
    run(
        &mut admin,
        "alter table item owner to current_user; select sequin.revoke_source('public.item', 'security_gone');
         drop owned by security_gone; drop role security_gone",
    );
    only_good(&mut forwarder, 2);
    let told = value(
        &mut admin,
        "select state, broken_reason from sequin.status where name = 'bad'",
    );
    assert_eq!(told, "broken|the owner of mapping \"bad\" does not exist");
    assert_eq!(
        letter(&mut admin),
        "bad|42704|the owner of mapping \"bad\" does not exist|waiting"
    );
}

/// What cannot be made ready is broken, and its messages are applied, in order, when it is mended.
#[test]
fn by_a_mapping_that_cannot_be_made_ready() {
    let scene = Scene::with_item(
        "ready",
        r#"guard => 'off', columns => '{"id": "record.id", "name": "record.name"}'"#,
    );
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    let broken = [
        (
            "alter table mallory.item rename name to label",
            "alter table mallory.item rename label to name",
            "42703",
        ),
        (
            "alter table mallory.item drop constraint item_pkey",
            "alter table mallory.item add primary key (id)",
            "42P10",
        ),
        (
            "set check_function_bodies = off; update sequin.mapping set filter = 'no such thing' where name = 'bad'",
            "update sequin.mapping set filter = null where name = 'bad'",
            "42601",
        ),
        (
            "set check_function_bodies = off; update sequin.mapping set filter = 'nothing(record)' where name = 'bad'",
            "update sequin.mapping set filter = null where name = 'bad'",
            "42883",
        ),
    ];
    for (n, (breaks, mends, state)) in broken.into_iter().enumerate() {
        let n = 10 * n as u64;
        run(&mut scene.mallory(), breaks);
        only_good(&mut forwarder, n + 1);
        only_good(&mut forwarder, n + 2);
        let status =
            "select state, broken_reason is not null from sequin.status where name = 'bad'";
        assert_eq!(value(&mut admin, status), "broken|t", "{breaks}");
        let letters = "select count(*), min(sqlstate), min(state) from sequin.dead_letter";
        assert_eq!(
            value(&mut admin, letters),
            format!("2|{state}|waiting"),
            "{breaks}"
        );
        run(&mut scene.mallory(), mends);
        // The letters are older than this change of the same row.
        let newer = message(
            "update",
            "item",
            n + 3,
            &format!(r#"{{"id":{},"name":"newer"}}"#, n + 2),
        );
        assert_eq!(apply(&mut forwarder, &newer), upserted(1));
        assert_eq!(
            value(&mut admin, "select count(*) from sequin.dead_letter"),
            "0"
        );
        assert_eq!(value(&mut admin, status), "running|f");
        let sql =
            format!("select string_agg(name, ',' order by id) from mallory.item where id > {n}");
        assert_eq!(
            value(&mut admin, &sql),
            format!("n{},newer", n + 1),
            "{breaks}"
        );
    }
}

#[test]
fn by_a_malformed_search_path() {
    let scene = Scene::with_item(
        "search_path",
        r#"guard => 'off', columns => '{"*": "record.*", "name": {"sql": "upper(record->>''name'')"}}'"#,
    );
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    for (n, path) in ["\"", "a,,b", "''''", "\"a"].into_iter().enumerate() {
        let set = format!(
            "alter table sequin.mapping disable trigger mapping_check;
             update sequin.mapping set search_path = '{}' where name = 'bad';
             alter table sequin.mapping enable trigger mapping_check",
            path.replace('\'', "''")
        );
        run(&mut admin, &set);
        let counts = apply(&mut forwarder, &mixed(n as u64));
        assert!(
            counts.upserted >= 1 && counts.outcomes() == 2,
            "{path} {counts:?}"
        );
        assert_eq!(
            apply(&mut scene.forwarder(), &mixed(n as u64 + 10)).received,
            2
        );
    }
}

/// What is the server's, and what the caller asked for, still fails the call.
#[test]
fn cancels_and_the_callers_limits_end_the_call() {
    let scene = Scene::with_item("cancels", "guard => 'off'");
    scene.trigger("begin perform pg_sleep(60); return new; end");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(&mut forwarder, "set statement_timeout = '300ms'");
    let told = apply_error(&mut forwarder, &mixed(1));
    assert_eq!(told.code().code(), "57014");
    assert_eq!(
        told.message(),
        "canceling statement due to statement timeout"
    );
    run(&mut forwarder, "set statement_timeout = 0");

    let cancel = forwarder.cancel_token();
    let pid = value(&mut forwarder, "select pg_backend_pid()");
    let waiter = thread::spawn(move || try_apply(&mut forwarder, &mixed(1)).err());
    let asleep = format!(
        "select count(*) from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep'"
    );
    while value(&mut admin, &asleep) == "0" {
        thread::sleep(Duration::from_millis(10));
    }
    cancel.cancel_query(postgres::NoTls).expect("cancelled");
    let told = waiter.join().expect("no panic").expect("an error");
    assert_eq!(told.code().expect("of the server").code(), "57014");
    assert_eq!(value(&mut admin, "select count(*) from good"), "0");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );

    scene.trigger("begin return new; end");
    let mut holder = scene.mallory();
    run(
        &mut holder,
        "begin; insert into mallory.item values (1, 'held')",
    );
    let mut forwarder = scene.forwarder();
    run(&mut forwarder, "set lock_timeout = '100ms'");
    let told = apply_error(&mut forwarder, &mixed(1));
    assert_eq!(told.code().code(), "55P03");
    // A limit that the function has set itself is the function's.
    run(&mut forwarder, "set lock_timeout = 0");
    run(
        &mut holder,
        "rollback; begin; create table mallory.other (); commit; begin; lock mallory.other",
    );
    scene.trigger("begin set local lock_timeout = '50ms'; lock mallory.other; return new; end");
    only_good(&mut forwarder, 2);
    assert!(letter(&mut admin).starts_with("bad|55P03|"));
}

/// `on_error => 'raise'` is a wish that the operator can grant; it fails the call as before.
#[test]
fn raise_still_fails_the_call() {
    let scene = Scene::with_item("raise", "guard => 'off', on_error => 'raise'");
    let mut forwarder = scene.forwarder();
    scene.trigger("begin raise exception 'no' using errcode = 'XX000'; end");
    assert_eq!(
        apply_error(&mut forwarder, &mixed(1)).code().code(),
        "XX000"
    );
    run(&mut scene.mallory(), "drop table mallory.item");
    let gone = apply_error(&mut forwarder, &mixed(1));
    assert_eq!(gone.code().code(), "42P01");
    assert!(
        gone.hint()
            .is_some_and(|hint| hint.contains("sequin.unmap('bad')"))
    );
}

/// A trigger that applies messages itself passes on what its batch raised, as its own error.
#[test]
fn by_a_call_within_a_trigger() {
    let scene = Scene::with_item("nested", "guard => 'off'");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!(
            "grant execute on function sequin_apply(text) to {}",
            scene.mallory
        ),
    );
    scene.trigger("begin perform public.sequin_apply('['); return new; end");
    only_good(&mut scene.forwarder(), 1);
    assert!(letter(&mut admin).starts_with("bad|22P02|"));
}

/// With another session of its own, whose deadlocks never end.
#[test]
fn by_deadlocks() {
    let scene = Scene::with_item("deadlocks", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        "create table mallory.other (n integer); insert into mallory.other values (0)",
    );
    scene.trigger(
        "begin
             update mallory.other set n = n + 1;
             perform pg_advisory_xact_lock(77, hashtext(current_database()));
             return new;
         end",
    );
    let mut other = scene.mallory();
    let pid = value(&mut other, "select pg_backend_pid()");
    let again = thread::spawn(move || {
        let looped = other.batch_execute(
            "do $$ begin
                 loop
                     perform pg_advisory_xact_lock(77, hashtext(current_database()));
                     while not exists (select from pg_locks where locktype = 'advisory' and not granted) loop
                         perform pg_sleep(0.001);
                     end loop;
                     begin
                         update mallory.other set n = n + 1;
                     exception when deadlock_detected then null;
                     end;
                     commit;
                 end loop;
             end $$",
        );
        looped.expect_err("it is cancelled");
    });
    only_good(&mut forwarder, 1);
    run(&mut admin, &format!("select pg_cancel_backend({pid})"));
    again.join().expect("it ends");
    let letter =
        "select mapping, sqlstate, state, error ~ 'deadlock detected' from sequin.dead_letter";
    assert_eq!(value(&mut admin, letter), "bad|40P01|waiting|t");
    assert_eq!(apply(&mut forwarder, &mixed(2)), upserted(2));
    assert_eq!(
        value(
            &mut admin,
            "select count(*), (select state from sequin.status where name = 'bad') from sequin.dead_letter"
        ),
        "0|running"
    );
}

/// An error of a parallel worker comes without a trace of who raised it.
#[test]
fn by_an_error_in_a_parallel_worker() {
    let scene = Scene::with_item("parallel", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        "create table mallory.many as select g from generate_series(1, 1000) g;
         create table mallory.leader (pid integer);
         create function mallory.fails(g integer) returns integer immutable parallel safe language plpgsql as
             $$ begin
                 if pg_backend_pid() <> (select pid from mallory.leader) then
                     raise exception 'no' using errcode = '53100';
                 end if;
                 perform pg_sleep(0.001);
                 return g;
             end $$",
    );
    let mut counts_of = |n: u64, does: &str| {
        scene.trigger(&format!(
            "begin
                 delete from mallory.leader;
                 insert into mallory.leader values (pg_backend_pid());
                 set parallel_setup_cost = 0;
                 set parallel_tuple_cost = 0;
                 set min_parallel_table_scan_size = 0;
                 set max_parallel_workers_per_gather = 2;
                 set max_parallel_maintenance_workers = 2;
                 set maintenance_work_mem = '128MB';
                 {does};
                 return new;
             end"
        ));
        apply(&mut forwarder, &mixed(n))
    };
    // A query has no parallel workers.
    let query = "perform max(mallory.fails(g)) from mallory.many";
    assert_eq!(counts_of(1, query), upserted(2));
    // The build of an index has one, if the server has one free.
    let index = "create index on mallory.many (mallory.fails(g))";
    if counts_of(2, index) != upserted(2) {
        assert_eq!(letter(&mut admin), "bad|53100|no|dead");
    }
    assert_eq!(value(&mut admin, "select count(*) from good"), "2");
}

/// An error of another server, which is Mallory's.
#[test]
fn by_an_error_of_another_server() {
    let scene = Scene::with_item("another_server", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    if !has_extensions(&mut admin, &["dblink", "postgres_fdw"]) {
        return;
    }
    let (name, mallory) = (scene.database.name(), &scene.mallory);
    let host = value(
        &mut admin,
        "select split_part(current_setting('unix_socket_directories'), ',', 1)",
    );
    run(
        &mut admin,
        &format!(
            "create extension dblink;
             grant execute on function dblink_connect_u(text) to {mallory};
             create extension postgres_fdw;
             create server far foreign data wrapper postgres_fdw options (host '{host}', dbname '{name}');
             create user mapping for {mallory} server far options (user '{mallory}', password_required 'false');
             grant usage on foreign server far to {mallory}"
        ),
    );
    run(
        &mut scene.mallory(),
        "create function mallory.fails() returns integer language plpgsql as
             $$ begin raise exception 'no' using errcode = '53100'; end $$;
         create view mallory.failing as select mallory.fails() as n;
         create foreign table mallory.far (n integer) server far options (schema_name 'mallory', table_name 'failing')",
    );
    for (n, does) in [
        format!(
            "perform public.dblink_connect_u('host={host} dbname={name} user={mallory}');
             perform public.dblink_exec('do $x$ begin perform mallory.fails(); end $x$')"
        ),
        "perform n from mallory.far".into(),
    ]
    .into_iter()
    .enumerate()
    {
        scene.trigger(&format!("begin {does}; return new; end"));
        only_good(&mut forwarder, n as u64 + 1);
        assert_eq!(letter(&mut admin), "bad|53100|no|dead", "{does}");
    }
}
