//! A publication wants a replica identity of every table that is updated or deleted from.

use support::{apply, message, run, upserted, value};

use super::Scene;

#[test]
fn tombstones_are_pruned() {
    let scene = Scene::new("publication");
    let mut admin = scene.admin();
    run(
        &mut admin,
        "set client_min_messages = error; create publication every for all tables",
    );
    let mut forwarder = scene.forwarder();
    assert_eq!(
        apply(&mut forwarder, &message("insert", "good", 1, r#"{"id":1}"#)),
        upserted(1)
    );
    assert_eq!(
        apply(&mut forwarder, &message("delete", "good", 2, r#"{"id":1}"#)).deleted,
        1
    );
    run(
        &mut admin,
        &format!(
            "alter role {} set sequin.tombstone_retention = 0;
                  update sequin.row_version set committed_at = '2020-01-01'",
            scene.forwarder
        ),
    );
    // The first call of a session prunes.
    let mut forwarder = scene.forwarder();
    assert_eq!(
        apply(&mut forwarder, &message("insert", "good", 3, r#"{"id":3}"#)),
        upserted(1)
    );
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.tombstone"),
        "0"
    );
    let without = "select count(*) from pg_class c where relnamespace = 'sequin'::regnamespace and relkind = 'r'
                   and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)";
    assert_eq!(value(&mut admin, without), "0");
}

#[test]
fn what_fails_in_pruning_is_a_warning() {
    let scene = Scene::new("pruning");
    let mut admin = scene.admin();
    run(
        &mut admin,
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
         create trigger refuse before delete on sequin.tombstone for each statement execute function refuse()",
    );
    let mut forwarder = scene.forwarder();
    assert_eq!(
        apply(&mut forwarder, &message("insert", "good", 1, r#"{"id":1}"#)),
        upserted(1)
    );
    assert_eq!(value(&mut admin, "select count(*) from good"), "1");
}
