//! `sequin.check()`: whom it shows what, and that it holds nothing up.

use support::{code, error, rows, run, value};

use super::scene::{Scene, TABLE};

#[test]
fn each_role_sees_its_own() {
    let mut scene = Scene::new("check_roles", TABLE, "");
    let nobody = scene.database.role("nobody");
    run(
        &mut scene.admin,
        "alter table shop.item drop constraint item_pkey",
    );
    let check = "select mapping, state, sqlstate from sequin.check()";
    assert_eq!(
        rows(&mut scene.admin, check),
        ["bad|broken|42P10", "good|running|null"]
    );
    let mut owner = scene.database.connect_as(&scene.owner);
    assert_eq!(rows(&mut owner, check), ["bad|broken|42P10"]);
    let mut nobody = scene.database.connect_as(&nobody);
    assert!(rows(&mut nobody, check).is_empty());
    // Nothing was noted.
    assert_eq!(
        value(
            &mut scene.admin,
            "select count(*) from sequin.broken_mapping"
        ),
        "0"
    );
    run(&mut owner, "set default_transaction_read_only = on");
    assert_eq!(rows(&mut owner, check), ["bad|broken|42P10"]);
}

#[test]
fn states_are_told() {
    let mut scene = Scene::new("check_states", TABLE, "");
    assert_eq!(scene.check().state, "running");
    run(&mut scene.admin, "select sequin.begin_resync('bad')");
    assert_eq!(scene.check().state, "resyncing");
    run(
        &mut scene.admin,
        "update sequin.mapping set enabled = false where name = 'bad'; alter table shop.item drop constraint item_pkey",
    );
    let told = scene.check();
    assert_eq!((&*told.state, &*told.sqlstate), ("paused", "42P10"));
}

#[test]
fn no_lock_is_waited_for_and_none_stays() {
    let mut scene = Scene::new("check_locks", TABLE, "");
    let mut holder = scene.database.connect();
    run(&mut holder, "begin; lock table shop.item");
    let told = scene.check();
    assert_eq!(
        (&*told.state, &*told.sqlstate),
        ("locked", "55P03"),
        "{told:?}"
    );
    let query = super::scene::statements(&told.hint);
    let found = rows(&mut scene.admin, &query[0]);
    let pid = value(&mut holder, "select pg_backend_pid()");
    assert!(
        found
            .iter()
            .any(|row| row.starts_with(&format!("{pid}|AccessExclusiveLock|"))),
        "{found:?}"
    );
    run(&mut holder, "rollback");
    run(&mut scene.admin, "begin");
    assert_eq!(scene.check().state, "running");
    run(
        &mut holder,
        "set lock_timeout = '5s'; alter table shop.item add more integer",
    );
    run(&mut scene.admin, "commit");
    // A time limit of the caller still ends it.
    run(&mut holder, "begin; lock table shop.item");
    run(&mut scene.admin, "set statement_timeout = '100ms'");
    let told = error(&mut scene.admin, "select * from sequin.check()");
    assert_eq!(code(&told), "57014");
}

/// The view does not fail because one mapping is broken, whatever is broken.
#[test]
fn status_does_not_fail() {
    let mut scene = Scene::new("check_status", TABLE, "");
    run(
        &mut scene.admin,
        "alter table sequin.mapping disable trigger mapping_check;
         update sequin.mapping set destination = 4294967295, owner = 4294967295, mode = 'x', columns = '3', key = '{}',
             guard = 'y', on_delete = 'z', source = '', search_path = '\"' where name = 'bad'",
    );
    let sql = "select name, state from sequin.status order by name";
    assert_eq!(rows(&mut scene.admin, sql), ["bad|broken", "good|running"]);
    let sql = "select mapping, state from sequin.check() order by mapping";
    assert_eq!(rows(&mut scene.admin, sql), ["bad|broken", "good|running"]);
    assert_eq!(scene.send().dead, Scene::EACH);
    scene.the_others_are_written();
}
