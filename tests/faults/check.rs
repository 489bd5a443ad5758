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

/// Functions and sequences that each row needs: their rights are asked for when a row is written.
#[test]
fn rights_that_rows_need_are_found_without_a_message() {
    const F: &str =
        "create function shop.f(bigint) returns bigint language sql immutable as 'select $1'";
    const LOST: &str = "revoke execute on function shop.f(bigint) from public";
    const FUNCTION: &str = "EXECUTE on function shop.f(bigint)";
    let named = r#", columns => '{"id": "record.id", "name": "record.name"}'"#;
    let serial = "alter table shop.item add extra bigserial; grant usage on sequence shop.item_extra_seq to public";
    let no_use = "revoke usage on sequence shop.item_extra_seq from public";
    let check = format!("{F}; alter table shop.item add check (shop.f(n) < 1000000)");
    let domain = format!(
        "{F}; create domain shop.small as bigint check (shop.f(value) < 1000000);
         alter table shop.item alter n type shop.small"
    );
    let generated = format!(
        "{F}; alter table shop.item add twice bigint generated always as (shop.f(n) * 2) stored"
    );
    let index = format!("{F}; create index on shop.item (shop.f(n))");
    let partial = format!("{F}; create index on shop.item (id) where shop.f(n) > 3");
    let default = format!("{F}; alter table shop.item add extra bigint default shop.f(7)");
    let trigger = format!(
        "{F}; create function shop.notes() returns trigger language plpgsql as 'begin return new; end';
         create trigger notes before insert or update on shop.item for each row when (shop.f(new.n) < 0)
         execute function shop.notes()"
    );
    let cases = [
        (
            "sequence",
            serial,
            named,
            no_use,
            "USAGE on sequence shop.item_extra_seq",
        ),
        (
            "lacking",
            serial,
            "",
            no_use,
            "USAGE on sequence shop.item_extra_seq",
        ),
        ("constraint", &check, "", LOST, FUNCTION),
        ("domain", &domain, "", LOST, FUNCTION),
        ("generated", &generated, "", LOST, FUNCTION),
        ("index", &index, "", LOST, FUNCTION),
        ("partial", &partial, "", LOST, FUNCTION),
        ("default", &default, "", LOST, FUNCTION),
        ("condition", &trigger, "", LOST, FUNCTION),
    ];
    for (name, ddl, map, breaks, lacks) in cases {
        let test = format!("check_rows_{name}");
        let mut scene = Scene::new(&test, &format!("{TABLE}; {ddl}"), map);
        scene.send_well();
        assert_eq!(scene.check().state, "running", "{name}");
        run(&mut scene.admin, breaks);
        let told = scene.check();
        assert_eq!(
            (&*told.state, &*told.sqlstate),
            ("broken", "42501"),
            "{name} {told:?}"
        );
        let role = format!(
            "role \"{}\" lacks {lacks}, which rows of shop.item need",
            scene.owner
        );
        assert!(told.error.contains(&role), "{name} {told:?}");
        // It is the error of a session's next call, too, and the same statement mends it.
        scene.forwarder = scene.database.connect();
        assert_eq!(scene.send().dead, Scene::EACH, "{name}");
        run(&mut scene.admin, &super::scene::statements(&told.hint)[0]);
        assert_eq!(scene.check().state, "running", "{name}");
        scene.send_well();
    }
}

/// What messages bring needs no default.
#[test]
fn rights_that_no_row_needs_are_not_asked_for() {
    let ddl = format!(
        "{TABLE}; create sequence shop.ids; alter table shop.item alter id set default nextval('shop.ids');
         create function shop.f(bigint) returns bigint language sql immutable as 'select $1';
         alter table shop.item alter n set default shop.f(1);
         create function shop.notes() returns trigger language plpgsql as 'begin return new; end';
         create trigger notes before insert or update on shop.item for each row execute function shop.notes()"
    );
    let mut scene = Scene::new("check_rows_unneeded", &ddl, "");
    scene.send_well();
    run(
        &mut scene.admin,
        "revoke execute on function shop.f(bigint) from public; revoke execute on function shop.notes() from public",
    );
    let told = scene.check();
    assert_eq!((&*told.state, &*told.error), ("running", ""), "{told:?}");
    scene.send_well();
}
