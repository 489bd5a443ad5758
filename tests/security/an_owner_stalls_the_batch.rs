//! `sequin.mapping_timeout` bounds the time that one call works for one mapping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{apply, message, run, upserted, value};

use super::{Scene, letter, mixed, only_good};

const TOLD: &str = "bad|57014|canceling mapping \"bad\" due to sequin.mapping_timeout|dead";

/// A session of the forwarder, whose calls end soon.
fn limited(scene: &Scene) -> postgres::Client {
    run(
        &mut scene.admin(),
        &format!(
            "alter role {0} set sequin.mapping_timeout = '300ms'; alter role {0} set statement_timeout = '20s'",
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

/// Works as the forwarder while sessions change the mapping `bad` without end.
fn while_a_mapping_changes<T>(scene: &Scene, work: impl FnOnce(&mut postgres::Client) -> T) -> T {
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
        let worked = work(&mut scene.forwarder());
        done.store(true, Ordering::Relaxed);
        worked
    })
}

/// Who changes a mapping of his own without end does not make other calls begin again without end.
#[test]
fn by_changing_a_mapping_all_the_time() {
    let scene = Scene::with_item("changing", "guard => 'off'");
    let applied = while_a_mapping_changes(&scene, |forwarder| {
        let calls = (1..100).map(|n| support::try_apply(forwarder, &mixed(n)));
        calls.collect::<Vec<_>>()
    });
    let mut counts = applied.into_iter();
    assert!(counts.all(|counts| counts.is_ok_and(|counts| counts == upserted(2))));
}

/// Its letters are rows that a call writes: a message that comes again is kept once.
#[test]
fn by_holding_a_letter() {
    let scene = Scene::with_item("hold_letter", "guard => 'off'");
    run(
        &mut scene.admin(),
        &format!("revoke delete on sequin.dead_letter from {}", scene.mallory),
    );
    let mut forwarder = limited(&scene);
    scene.trigger("begin raise exception 'no'; end");
    only_good(&mut forwarder, 1);
    let ids = "select string_agg(id::text, ',' order by id) from sequin.dead_letter";
    for hold in [
        "select sequin.discard(id) from sequin.dead_letter",
        "select sequin.alter_mapping('bad', new_name => 'worse')",
        "select * from sequin.retry()",
    ] {
        let mut holder = scene.mallory();
        run(&mut holder, &format!("begin; {hold}"));
        soon(|| {
            let counts = apply(&mut forwarder, &mixed(1));
            assert_eq!((counts.dead, counts.stale), (1, 1), "{hold}");
        });
        run(&mut holder, "rollback");
        // Both are there, and one is kept when it comes again.
        let kept = value(&mut scene.admin(), ids);
        assert_eq!(kept.split(',').count(), 2, "{hold}: {kept}");
        let counts = apply(&mut forwarder, &mixed(1));
        assert_eq!(counts.dead, 1);
        assert_eq!(value(&mut scene.admin(), ids), kept, "{hold}");
        run(
            &mut scene.admin(),
            "delete from sequin.dead_letter where id > (select min(id) from sequin.dead_letter)",
        );
    }
    // Without the trigger the change is applied, though its letter cannot be removed now.
    run(&mut scene.mallory(), "drop trigger act on mallory.item");
    let mut holder = scene.mallory();
    run(
        &mut holder,
        "begin; select sequin.discard(id) from sequin.dead_letter",
    );
    soon(|| {
        let newer = message("update", "item", 5, r#"{"id":1,"name":"newer"}"#);
        assert_eq!(apply(&mut forwarder, &newer), upserted(1));
    });
    run(&mut holder, "commit");
    assert_eq!(
        value(
            &mut scene.admin(),
            "select count(*) from sequin.dead_letter"
        ),
        "0"
    );
}

/// What is known of its rows, and that it is broken, is forgotten when it gets another table.
#[test]
fn by_moving_a_mapping() {
    for guard in ["table", "off"] {
        let scene = Scene::with_item(&format!("move_{guard}"), &format!("guard => '{guard}'"));
        let mut forwarder = limited(&scene);
        assert_eq!(apply(&mut forwarder, &mixed(1)), upserted(2));
        // It is broken, and mended.
        run(
            &mut scene.mallory(),
            "create table mallory.other (id integer primary key, name text);
             alter table mallory.item rename name to label",
        );
        let broken = "select count(*) from sequin.broken_mapping";
        run(
            &mut scene.mallory(),
            r#"alter table mallory.item rename label to name;
               select sequin.alter_mapping('bad', columns => '{"id": "record.id", "name": "record.name"}');
               alter table mallory.item rename name to label"#,
        );
        only_good(&mut forwarder, 2);
        assert_eq!(value(&mut scene.admin(), broken), "1");
        run(
            &mut scene.mallory(),
            "alter table mallory.item rename label to name",
        );
        let mut holder = scene.mallory();
        run(
            &mut holder,
            "begin; select sequin.alter_mapping('bad', destination => 'mallory.other')",
        );
        soon(|| {
            let counts = apply(&mut forwarder, &mixed(3));
            assert_eq!(counts.received, 2, "{guard}");
        });
        soon(|| {
            let update = message("update", "item", 9, r#"{"id":1,"name":"again"}"#);
            assert_eq!(apply(&mut forwarder, &update).received, 1, "{guard}");
        });
        let written = "select count(*) from good";
        assert_eq!(value(&mut scene.admin(), written), "3");
        run(&mut holder, "rollback");
        assert_eq!(apply(&mut forwarder, &mixed(4)), upserted(2));
        assert_eq!(value(&mut scene.admin(), broken), "0");
    }
}

/// What he tries again takes along, and locks, nobody else's mapping.
#[test]
fn by_trying_letters_again() {
    let scene = Scene::new("hold_retry");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!("grant references on good to {}", scene.mallory),
    );
    run(
        &mut scene.mallory(),
        "create table mallory.item (id integer primary key check (id < 0), good integer references public.good);
         select sequin.map('public.item', 'mallory.item', guard => 'off', name => 'bad')",
    );
    run(
        &mut admin,
        "create table child (id integer primary key, item integer references mallory.item);
         select sequin.map('public.child', 'child', guard => 'off', name => 'child')",
    );
    let mut forwarder = limited(&scene);
    let apply_dead = |forwarder: &mut postgres::Client, table: &str, n, record: &str| {
        assert_eq!(
            apply(forwarder, &message("insert", table, n, record)).dead,
            1
        );
    };
    apply_dead(&mut forwarder, "child", 1, r#"{"id":1,"item":1}"#);
    apply_dead(&mut forwarder, "item", 2, r#"{"id":1}"#);
    apply_dead(&mut forwarder, "item", 3, r#"{"id":2,"good":7}"#);
    run(
        &mut scene.mallory(),
        "alter table mallory.item drop constraint item_id_check",
    );
    let mut holder = scene.mallory();
    run(&mut holder, "begin");
    assert_eq!(
        value(
            &mut holder,
            "select upserted || ' ' || dead from sequin.retry('bad')"
        ),
        "1 1"
    );
    // The row of `child` and the row of `good` that are waited for are written at once.
    for (table, n) in [("child", 4), ("good", 5)] {
        let record = format!(r#"{{"id":{n}}}"#);
        soon(|| {
            let counts = apply(&mut forwarder, &message("insert", table, n, &record));
            assert_eq!(counts, upserted(1), "{table}");
        });
    }
    run(&mut holder, "commit");
    // A later call heals the letter that waited for his row.
    run(
        &mut admin,
        "update sequin.dead_letter set last_attempt_at = now() - interval '1 hour'",
    );
    let mut forwarder = scene.forwarder();
    assert_eq!(
        apply(&mut forwarder, &message("insert", "good", 6, r#"{"id":6}"#)),
        upserted(1)
    );
    assert_eq!(
        value(&mut admin, "select id, item from child where item = 1"),
        "1|1"
    );
}

/// Who changes one mapping without end, and does not commit the change of another.
#[test]
fn by_not_committing_a_change() {
    let scene = Scene::with_item("uncommitted", "guard => 'off'");
    run(
        &mut scene.mallory(),
        "select sequin.map('public.other', null, name => 'other')",
    );
    let mut holder = scene.mallory();
    run(
        &mut holder,
        "begin; select sequin.alter_mapping('other', on_error => 'raise')",
    );
    let applied = while_a_mapping_changes(&scene, |forwarder| {
        run(forwarder, "set statement_timeout = '20s'");
        let calls = (1..60).map(|n| support::try_apply(forwarder, &mixed(n)));
        calls.collect::<Vec<_>>()
    });
    for error in applied.into_iter().filter_map(Result::err) {
        let code = error.code().map(|code| code.code().to_owned());
        assert_eq!(code.as_deref(), Some("40001"), "{error}");
    }
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

/// Who makes a first mapping gets the right to the internal functions, and does not commit. A call that has to give that
/// right to somebody else goes on, and so does whoever grants sources.
#[test]
fn by_not_committing_a_mapping() {
    let scene = Scene::new("first_mapping");
    let mut admin = scene.admin();
    let writer = format!("{}_writer", scene.mallory);
    run(
        &mut admin,
        &format!(
            "drop role if exists {writer}; create role {writer};
             create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'off', name => 'bad');
             alter table item owner to {writer}"
        ),
    );
    let mut holder = scene.mallory();
    run(
        &mut holder,
        "begin; create table mallory.item (id integer primary key);
         select sequin.map('public.other', 'mallory.item', name => 'other')",
    );
    run(&mut admin, "set lock_timeout = '5s'");
    run(
        &mut admin,
        &format!("select sequin.grant_source('a.b', '{}')", scene.mallory),
    );
    let mut forwarder = scene.forwarder();
    run(&mut forwarder, "set statement_timeout = '20s'");
    soon(|| only_good(&mut forwarder, 1));
    let broken = "select state, sqlstate from sequin.check() where mapping = 'bad'";
    assert_eq!(value(&mut admin, broken), "broken|42501");
    run(&mut holder, "rollback");
    assert_eq!(apply(&mut forwarder, &mixed(2)), upserted(2));
    assert_eq!(
        value(
            &mut admin,
            "select count(*), (select count(*) from sequin.dead_letter) from item"
        ),
        "2|0"
    );
    run(
        &mut admin,
        &format!("alter table item owner to postgres; drop owned by {writer}; drop role {writer}"),
    );
}
