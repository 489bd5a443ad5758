//! Mappings whose destination or owner is gone, and rows of the catalog that nothing has checked.

use support::{GUARDS, apply, apply_error, code, message, rows, run, value};

use super::scene::{Scene, TABLE, guard_columns, statements};

fn scene(test: &str, guard: &str) -> Scene {
    let mut scene = Scene::guarded(test, guard, TABLE, "");
    scene.send_well();
    scene
}

fn breaks(scene: &mut Scene, sql: &str, sqlstate: &str) -> String {
    run(&mut scene.admin, sql);
    let before = scene.check();
    assert_eq!(
        (&*before.state, &*before.sqlstate),
        ("broken", sqlstate),
        "{before:?}"
    );
    for _ in 0..2 {
        assert_eq!(scene.send().dead, Scene::EACH);
        scene.the_others_are_written();
    }
    let told = scene.status();
    assert_eq!(
        (&*told.state, &*told.sqlstate),
        ("broken", sqlstate),
        "{told:?}"
    );
    assert!(told.error.contains("mapping \"bad\""), "{told:?}");
    assert_eq!(told.hint, before.hint);
    scene.letters_wait(&told, 2 * Scene::EACH);
    println!("    {}", told.hint);
    told.hint
}

fn works(scene: &mut Scene) {
    let told = scene.check();
    assert_eq!((&*told.state, &*told.error), ("running", ""), "{told:?}");
    scene.send_well();
    let letters = "select count(*) from sequin.dead_letter";
    assert_eq!(value(&mut scene.admin, letters), "0");
    let told = scene.status();
    assert_eq!((&*told.state, &*told.error), ("running", ""), "{told:?}");
}

#[test]
fn a_table_that_was_dropped() {
    for guard in GUARDS {
        let mut scene = scene("dropped", guard);
        let hint = breaks(&mut scene, "drop table shop.item", "42P01");
        let columns = guard_columns(guard);
        let owner = scene.owner.clone();
        run(
            &mut scene.admin,
            &format!(
                "{TABLE}; {columns}; grant select, insert, update, delete on shop.item to {owner}"
            ),
        );
        let follow = statements(&hint)[0].replace("schema.table", "shop.item");
        let follow = follow.split(" to remove").next().expect("a statement");
        run(&mut scene.admin, follow);
        works(&mut scene);
        // What came before the table was dropped is not there.
        let sql = "select id, name, n from shop.item where id not in (10, 11) order by id";
        let wanted: Vec<String> = scene.wanted();
        let wanted: Vec<String> = wanted
            .into_iter()
            .filter(|row| !row.starts_with("10|") && !row.starts_with("11|"))
            .collect();
        assert_eq!(rows(&mut scene.admin, sql), wanted);
    }
}

/// The mapping follows a table that gets another name or schema.
#[test]
fn a_table_that_was_renamed() {
    for guard in GUARDS {
        let mut scene = scene("renamed", guard);
        let owner = scene.owner.clone();
        run(
            &mut scene.admin,
            &format!(
                "alter table shop.item rename to thing; create schema other; alter table shop.thing set schema other;
                 grant usage on schema other to {owner}"
            ),
        );
        scene.send_well();
        let sql = "select state, destination from sequin.status where name = 'bad'";
        assert_eq!(value(&mut scene.admin, sql), "running|other.thing");
        run(
            &mut scene.admin,
            "alter table other.thing set schema shop; alter table shop.thing rename to item",
        );
        scene.send_well();
        scene.is_complete("id, name, n");
    }
}

#[test]
fn an_owner_that_was_dropped() {
    for guard in GUARDS {
        let mut scene = scene("owner", guard);
        let owner = scene.owner.clone();
        let hint = breaks(
            &mut scene,
            &format!("drop owned by {owner}; drop role {owner}"),
            "42704",
        );
        run(&mut scene.admin, &statements(&hint)[0]);
        works(&mut scene);
        scene.is_complete("id, name, n");
        // The database drops the role at its end.
        run(&mut scene.admin, &format!("create role {owner}"));
    }
}

/// A role that is no member any more: nothing of the table has changed, and the statement itself finds it.
#[test]
fn a_membership_that_was_revoked() {
    let mut scene = scene("member", "table");
    let (owner, group) = (scene.owner.clone(), scene.database.role("group"));
    run(
        &mut scene.admin,
        &format!(
            "grant select, insert, update, delete on shop.item to {group}; grant {group} to {owner};
             revoke all on shop.item from {owner}"
        ),
    );
    scene.send_well();
    let hint = breaks(&mut scene, &format!("revoke {group} from {owner}"), "42501");
    run(&mut scene.admin, &statements(&hint)[0]);
    works(&mut scene);
    scene.is_complete("id, name, n");
}

/// The versions of the rows are in columns of the table.
#[test]
fn guard_columns_that_were_dropped() {
    for (guard, mend) in [("columns", 0), ("columns", 1), ("auto", 0), ("auto", 1)] {
        let mut scene = Scene::guarded(&format!("guard_{mend}"), guard, TABLE, "");
        scene.send_well();
        let hint = breaks(&mut scene, "alter table shop.item drop sequin_lsn", "42703");
        run(&mut scene.admin, &statements(&hint)[mend]);
        works(&mut scene);
        scene.is_complete("id, name, n");
        let sql = "select guard from sequin.status where name = 'bad'";
        let now = if mend == 0 { "columns" } else { "table" };
        assert_eq!(value(&mut scene.admin, sql), now);
    }
}

/// As after a restore, or where a superuser has put the trigger out.
#[test]
fn rows_that_nothing_has_checked() {
    let mut scene = scene("unchecked", "table");
    let set = |what: &str| {
        format!(
            "alter table sequin.mapping disable trigger mapping_check;
             update sequin.mapping set {what} where name = 'bad';
             alter table sequin.mapping enable always trigger mapping_check"
        )
    };
    for (breaks_it, mends, sqlstate) in [
        ("mode = 'merge'", "mode = 'upsert'", "22023"),
        ("columns = '[1]'", "columns = null", "22023"),
        ("key = '{}'", "key = null", "22023"),
    ] {
        breaks(&mut scene, &set(breaks_it), sqlstate);
        run(&mut scene.admin, &set(mends));
        works(&mut scene);
        scene.is_complete("id, name, n");
    }
    // It takes no messages.
    run(&mut scene.admin, &set("source = 'item'"));
    let told = scene.check();
    assert_eq!(
        (&*told.state, &*told.sqlstate),
        ("broken", "42602"),
        "{told:?}"
    );
    assert_eq!(scene.send().dead, Scene::EACH);
    scene.the_others_are_written();
    run(&mut scene.admin, &set("source = 'public.item'"));
    run(&mut scene.admin, "select * from sequin.retry()");
    works(&mut scene);
    scene.is_complete("id, name, n");
}

/// With `on_error => 'raise'` the call fails with the same words.
#[test]
fn raise_fails_the_call_with_the_same_words() {
    let columns = r#"columns => '{"id": "record.id", "name": "record.name", "n": {"sql": "twice(record->>''n'')"}}'"#;
    let mut scene = Scene::guarded(
        "raise",
        "table",
        &format!(
            "{TABLE}; create function public.twice(text) returns bigint language sql as 'select 2 * $1::bigint'"
        ),
        &format!(", on_error => 'raise', {columns}"),
    );
    for (breaks, mends, sqlstate) in [
        (
            "alter table shop.item rename name to label",
            "alter table shop.item rename label to name",
            "42703",
        ),
        (
            "revoke insert on shop.item from {owner}",
            "grant insert on shop.item to {owner}",
            "42501",
        ),
        (
            "revoke execute on function twice from public",
            "grant execute on function twice to public",
            "42501",
        ),
        (
            "create function no() returns trigger language plpgsql as $$ begin raise 'no' using hint = 'Wait.'; end $$;
             create trigger no before insert on shop.item execute function no()",
            "drop trigger no on shop.item",
            "P0001",
        ),
    ] {
        let owner = scene.owner.clone();
        run(&mut scene.admin, &breaks.replace("{owner}", &owner));
        let one = message("insert", "item", 5, r#"{"id":5,"name":"a","n":1}"#);
        let told = apply_error(&mut scene.forwarder, &one);
        assert_eq!(code(&told), sqlstate, "{told}");
        assert!(
            told.message().starts_with("mapping \"bad\" is broken: "),
            "{told}"
        );
        assert!(told.hint().is_some(), "{told}");
        run(&mut scene.admin, &mends.replace("{owner}", &owner));
    }
    let one = message("insert", "item", 5, r#"{"id":5,"name":"a","n":1}"#);
    assert_eq!(apply(&mut scene.forwarder, &one).upserted, 1);
}
