//! TRUNCATE knows no owners, and fires no trigger that forgets what is known of a mapping: it is refused.

use support::{code, error, run, value};

use super::Scene;

#[test]
fn by_a_role_that_may_truncate() {
    let scene = Scene::new("truncated_mappings");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!("grant truncate on sequin.mapping to {}", scene.mallory),
    );
    for client in [&mut scene.mallory(), &mut admin] {
        for sql in [
            "truncate sequin.mapping",
            "truncate sequin.mapping, sequin.dead_letter cascade",
        ] {
            let refused = match client.batch_execute(sql) {
                Err(_) => error(client, sql),
                Ok(()) => panic!("truncated"),
            };
            // mallory may not truncate the letters
            let expected = ["0A000", "42501"];
            assert!(expected.contains(&code(&refused)), "{sql}: {refused}");
            if code(&refused) == "0A000" {
                assert_eq!(refused.hint(), Some("Run: DELETE FROM sequin.mapping;"));
            }
        }
    }
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.mapping"),
        "1"
    );
    run(&mut admin, "delete from sequin.mapping");
}
