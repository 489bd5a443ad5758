//! An owner puts no message of its own into the mappings of others by way of a dead letter.

use support::{code, error, message, run, send, value};

use super::Scene;

#[test]
fn an_owner_does_not_write_the_message_of_a_letter() {
    let scene = Scene::with_item("forged", "guard => 'table'");
    let mut admin = scene.admin();
    run(
        &mut admin,
        &format!("grant all on sequin.dead_letter to {}", scene.mallory),
    );
    let bad = message("insert", "item", 1, r#"{"id":"x"}"#);
    assert_eq!(send(&mut scene.forwarder(), &[bad]).dead, 1);
    let forged = message("insert", "good", 2, r#"{"id":666,"name":"forged"}"#);
    let mut mallory = scene.mallory();
    for sql in [
        format!("update sequin.dead_letter set message = '{forged}'"),
        format!(
            "insert into sequin.dead_letter (mapping, message, sqlstate, error, position)
             values ('bad', '{forged}', 'P0001', 'x', 0)"
        ),
        "update sequin.dead_letter set mapping = null".to_owned(),
        format!(
            "merge into sequin.dead_letter l using (values (1)) v on l.mapping = 'bad'
             when matched then update set message = '{forged}'"
        ),
    ] {
        let refused = error(&mut mallory, &sql);
        // Before PostgreSQL 15 there is no MERGE.
        if code(&refused) == "42601" {
            continue;
        }
        assert_eq!(code(&refused), "42501", "{sql}");
        assert!(
            refused
                .hint()
                .unwrap_or_default()
                .contains("member of role"),
            "{refused:?}"
        );
    }
    // What does not matter to others stays the owner's.
    run(&mut mallory, "update sequin.dead_letter set state = 'dead'");
    run(&mut mallory, "select sequin.unmap('bad')");
    send(&mut admin, &[message("insert", "good", 1, r#"{"id":1}"#)]);
    run(&mut admin, "select * from sequin.retry()");
    assert_eq!(value(&mut admin, "select count(*) from good"), "1");
    run(
        &mut admin,
        &format!("update sequin.dead_letter set message = '{forged}'"),
    );
}
