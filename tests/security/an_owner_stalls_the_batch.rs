//! `sequin.mapping_timeout` bounds the time that one call works for one mapping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{apply, run, upserted, value};

use super::{Scene, letter, mixed, only_good};

const TOLD: &str = "bad|57014|canceling mapping \"bad\" due to sequin.mapping_timeout|dead";

/// A session of the forwarder, whose calls end soon.
fn limited(scene: &Scene) -> postgres::Client {
    run(
        &mut scene.admin(),
        &format!(
            "alter role {} set sequin.mapping_timeout = '300ms'",
            scene.forwarder
        ),
    );
    scene.forwarder()
}

fn soon(work: impl FnOnce()) {
    let start = Instant::now();
    work();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn by_sleeping_in_a_trigger() {
    let scene = Scene::with_item("sleep", "guard => 'table'");
    let mut forwarder = limited(&scene);
    assert_eq!(apply(&mut forwarder, &mixed(1)), upserted(2));
    scene.trigger("begin perform pg_sleep(60); return new; end");
    soon(|| only_good(&mut forwarder, 2));
    assert_eq!(letter(&mut scene.admin()), TOLD);
    // The session goes on as before, without a cancel that is left over.
    assert_eq!(value(&mut forwarder, "select 1 from pg_sleep(0.7)"), "1");
    scene.trigger("begin return new; end");
    assert_eq!(apply(&mut forwarder, &mixed(3)), upserted(2));
    let state = "select state from sequin.status where name = 'bad'";
    assert_eq!(value(&mut scene.admin(), state), "running");
}

#[test]
fn by_sleeping_in_the_mappings_sql() {
    let scene = Scene::with_item(
        "sleep_sql",
        r#"guard => 'off', columns => '{"*": "record.*", "name": {"sql": "(select ''x'' from pg_sleep((record->>''id'')::int * 60))"}}'"#,
    );
    let mut forwarder = limited(&scene);
    soon(|| only_good(&mut forwarder, 2));
    assert_eq!(letter(&mut scene.admin()), TOLD);
}

/// A cancel can be caught; the next one comes soon.
#[test]
fn by_catching_the_cancel() {
    let scene = Scene::with_item("catch", "guard => 'off'");
    let version = value(
        &mut scene.admin(),
        "select current_setting('server_version_num')::int / 10000",
    );
    if version.parse::<i32>().expect("a number") < 15 {
        return; // there a timeout comes once
    }
    let mut forwarder = limited(&scene);
    scene.trigger(
        "begin begin perform pg_sleep(60); exception when query_canceled then null; end;
         perform pg_sleep(60); return new; end",
    );
    soon(|| only_good(&mut forwarder, 2));
    assert_eq!(letter(&mut scene.admin()), TOLD);
}

#[test]
fn by_holding_a_lock() {
    let scene = Scene::with_item("lock", "guard => 'off'");
    let mut forwarder = limited(&scene);
    let mut holder = scene.mallory();
    run(&mut holder, "begin; lock table mallory.item");
    soon(|| only_good(&mut forwarder, 1));
    assert_eq!(letter(&mut scene.admin()), TOLD);
    run(
        &mut holder,
        "rollback; begin; insert into mallory.item values (2, 'held')",
    );
    soon(|| only_good(&mut forwarder, 2));
    assert_eq!(letter(&mut scene.admin()), TOLD);
    run(
        &mut holder,
        "rollback; begin; select sequin.begin_resync('bad')",
    );
    soon(|| only_good(&mut forwarder, 3));
    assert_eq!(letter(&mut scene.admin()), TOLD);
}

/// Who changes a mapping of his own without end does not make other calls begin again without end.
#[test]
fn by_changing_a_mapping_all_the_time() {
    let scene = Scene::with_item("changing", "guard => 'off'");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut mallory = scene.mallory();
                while !done.load(Ordering::Relaxed) {
                    run(
                        &mut mallory,
                        "update sequin.mapping set enabled = enabled where name = 'bad'",
                    );
                }
            });
        }
        let mut forwarder = scene.forwarder();
        let applied: Vec<_> = (1..100)
            .map(|n| support::try_apply(&mut forwarder, &mixed(n)).is_ok_and(|c| c == upserted(2)))
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(applied.iter().all(|applied| *applied));
    });
}

/// The caller's own limit is told from the mapping's.
#[test]
fn statement_timeout_is_the_callers() {
    let scene = Scene::with_item("both", "guard => 'off'");
    scene.trigger("begin perform pg_sleep(60); return new; end");
    run(
        &mut scene.admin(),
        &format!(
            "alter role {} set sequin.mapping_timeout = '50s'",
            scene.forwarder
        ),
    );
    let mut forwarder = scene.forwarder();
    run(&mut forwarder, "set statement_timeout = '200ms'");
    let told = support::apply_error(&mut forwarder, &mixed(1));
    assert_eq!(
        told.message(),
        "canceling statement due to statement timeout"
    );
}
