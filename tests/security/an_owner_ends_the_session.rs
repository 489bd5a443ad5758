//! The code of an owner's mapping sets what makes its error fatal, or takes locks that stay. The session is the forwarder's.

use support::{apply, run, upserted, value};

use super::{Scene, letter, mixed, only_good};

#[test]
fn by_settings() {
    let scene = Scene::with_item("ends_the_session", "guard => 'off'");
    let mut admin = scene.admin();
    let has_timeout = value(
        &mut admin,
        "select count(*) from pg_settings where name = 'transaction_timeout'",
    ) == "1";
    let mut forwarder = scene.forwarder();
    let pid = value(&mut forwarder, "select pg_backend_pid()");
    let mut n = 0;
    let mut refused = |body: &str, setting: &str| {
        n += 1;
        scene.trigger(body);
        only_good(&mut forwarder, n);
        assert_eq!(
            letter(&mut admin),
            format!("bad|42501|the code of a mapping may not change setting \"{setting}\"|dead"),
            "{body}"
        );
    };
    for body in [
        "begin perform set_config('exit_on_error', 'on', true); raise exception 'fatal'; end",
        "begin set exit_on_error = on; raise exception 'fatal'; end",
        "begin perform set_config('Exit_On_Error', 'off', false); return new; end",
    ] {
        refused(body, "exit_on_error");
    }
    for body in [
        "begin perform set_config('tcp_user_timeout', '1', true); return new; end",
        "begin set tcp_user_timeout = 0; return new; end",
    ] {
        refused(body, "tcp_user_timeout");
    }
    if has_timeout {
        for body in [
            "begin perform set_config('transaction_timeout', '1', true); perform pg_sleep(1); return new; end",
            "begin set local transaction_timeout = 0; return new; end",
        ] {
            refused(body, "transaction_timeout");
        }
    }
    // By the clause of a function, in the SQL of a mapping.
    run(
        &mut scene.mallory(),
        "drop trigger act on mallory.item;
         create function mallory.fatal(text) returns text language plpgsql set exit_on_error = on
             as $$ begin raise exception 'fatal'; end $$;
         select sequin.alter_mapping('bad', columns =>
             '{\"id\": \"record.id\", \"name\": {\"sql\": \"mallory.fatal(record->>''id'')\"}}')",
    );
    only_good(&mut forwarder, 10);
    assert_eq!(
        value(
            &mut admin,
            "delete from sequin.dead_letter returning sqlstate"
        ),
        "42501"
    );
    assert_eq!(value(&mut forwarder, "select pg_backend_pid()"), pid);
    // Everybody else may.
    run(
        &mut forwarder,
        "set exit_on_error = on; set exit_on_error = off",
    );
}

#[test]
fn by_locks_of_the_session() {
    let scene = Scene::with_item("locks_of_the_session", "guard => 'off'");
    let mut admin = scene.admin();
    let mut forwarder = scene.forwarder();
    run(&mut forwarder, "select pg_advisory_lock(7)");
    let held = "select count(*), min(objid) from pg_locks where locktype = 'advisory'
                and database = (select oid from pg_database where datname = current_database())";
    for (n, call) in [
        "perform pg_advisory_lock(g) from generate_series(1, 100) g",
        "perform pg_try_advisory_lock_shared(1, 2)",
        "perform pg_advisory_unlock(7)",
        "execute 'select pg_advisory_unlock_all()'",
    ]
    .into_iter()
    .enumerate()
    {
        scene.trigger(&format!("begin {call}; return new; end"));
        only_good(&mut forwarder, n as u64 + 1);
        assert!(letter(&mut admin).starts_with("bad|42501|the code of a mapping may not take"));
        assert_eq!(value(&mut admin, held), "1|7", "{call}");
    }
    // Operators and aggregates call functions too.
    run(
        &mut scene.mallory(),
        "create operator mallory.## (function = pg_catalog.pg_try_advisory_lock, leftarg = integer, rightarg = integer)",
    );
    scene.trigger("begin perform 1 operator(mallory.##) 2; return new; end");
    only_good(&mut forwarder, 5);
    assert!(letter(&mut admin).starts_with("bad|42501|the code of a mapping may not take"));
    assert_eq!(value(&mut admin, held), "1|7");
    // Locks of the transaction are allowed.
    scene.trigger("begin perform pg_advisory_xact_lock(9); return new; end");
    assert_eq!(apply(&mut forwarder, &mixed(6)), upserted(2));
    assert_eq!(value(&mut admin, held), "1|7");
}
