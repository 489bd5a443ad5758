//! Who explains a batch of his own tries nobody else's letters, and waits for no lock on a mapping of theirs.

use support::{apply, code, error, message, rows, run, upserted, value};

use super::Scene;

/// Explains a batch of one message as mallory: outcomes and keys.
fn explained(scene: &Scene, message: &str) -> Vec<String> {
    let mut client = scene.mallory();
    run(&mut client, "set lock_timeout = '2s'");
    rows(
        &mut client,
        &format!("select mapping, outcome, sqlstate from sequin.explain_batch($$ {message} $$)"),
    )
}

/// A letter of the superuser's mapping `child` waits for a row of mallory's table `parent`.
fn child_waits_for_parent(scene: &Scene) {
    run(
        &mut scene.mallory(),
        "create table mallory.parent (id integer primary key);
         select sequin.map('public.parent', 'mallory.parent', name => 'parent')",
    );
    run(
        &mut scene.admin(),
        r#"create table child (id integer primary key, parent integer references mallory.parent, name text);
           create sequence runs;
           select sequin.map('public.child', 'child', name => 'child',
               columns => '{"*": "record.*", "name": {"sql": "''run '' || nextval(''runs'')"}}')"#,
    );
    let child = message("insert", "child", 1, r#"{"id":1,"parent":1}"#);
    assert_eq!(apply(&mut scene.forwarder(), &child).dead, 1);
}

#[test]
fn a_letter_that_waits_for_the_row() {
    let scene = Scene::new("explaining_others_letters");
    child_waits_for_parent(&scene);
    let mut admin = scene.admin();
    let runs = "select last_value from runs";
    let before = value(&mut admin, runs);
    let parent = message("insert", "parent", 2, r#"{"id":1}"#);
    assert_eq!(explained(&scene, &parent), ["parent|upserted|null"]);
    assert_eq!(
        value(&mut admin, runs),
        before,
        "the superuser's SQL was run"
    );
    // Nor does it wait while somebody holds the mapping.
    let mut holder = scene.admin();
    run(&mut holder, "begin; select sequin.begin_resync('child')");
    assert_eq!(explained(&scene, &parent), ["parent|upserted|null"]);
    run(&mut holder, "rollback");
    // What is explained is the batch: letters are not retried for those who may act as its owner either.
    let all = format!("select count(*) from sequin.explain_batch($$ {parent} $$)");
    assert_eq!(value(&mut admin, &all), "1");
    assert_eq!(value(&mut admin, runs), before);
    assert_eq!(apply(&mut scene.forwarder(), &parent), upserted(1));
    assert_eq!(value(&mut admin, "select id, parent from child"), "1|1");
}

#[test]
fn a_row_that_waits_for_a_mapping_of_theirs() {
    let scene = Scene::new("explaining_waits");
    run(
        &mut scene.admin(),
        &format!("grant references on good to {}", scene.mallory),
    );
    run(
        &mut scene.mallory(),
        "create table mallory.mine (id integer primary key, good integer references public.good);
         select sequin.map('public.mine', 'mallory.mine', name => 'mine')",
    );
    let mut holder = scene.admin();
    run(&mut holder, "begin; select sequin.begin_resync('good')");
    let mine = message("insert", "mine", 1, r#"{"id":1,"good":1}"#);
    assert_eq!(explained(&scene, &mine), ["mine|dead|23503"]);
    run(&mut holder, "rollback");
}

#[test]
fn a_mapping_that_is_paused() {
    let scene = Scene::new("explaining_paused");
    let mut admin = scene.admin();
    run(
        &mut admin,
        "update sequin.mapping set enabled = false where name = 'good'",
    );
    let message = message("insert", "good", 1, r#"{"id":1}"#);
    let sql = format!("select * from sequin.explain_batch($$ {message} $$)");
    let refused = error(&mut scene.mallory(), &sql);
    assert_eq!(code(&refused), "42501");
    assert_eq!(
        refused.message(),
        "messages[0] goes to a mapping of another role"
    );
}
