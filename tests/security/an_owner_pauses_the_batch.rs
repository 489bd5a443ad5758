//! A paused mapping fails the calls that have messages for it, or keeps them: the operator chooses.

use support::{apply, apply_error, message, rows, run, upserted, value};

use super::{Scene, mixed, only_good};

#[test]
fn the_operator_chooses() {
    let scene = Scene::with_item("paused", "guard => 'off'");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        "update sequin.mapping set enabled = false where name = 'bad'",
    );
    assert_eq!(
        apply_error(&mut forwarder, &mixed(1)).code().code(),
        "55000"
    );
    run(
        &mut admin,
        &format!("alter role {} set sequin.keep_paused = on", scene.forwarder),
    );
    let mut forwarder = scene.forwarder();
    only_good(&mut forwarder, 1);
    let update = |n: u64| message("update", "item", n, &format!(r#"{{"id":1,"name":"n{n}"}}"#));
    for n in 2..5 {
        assert_eq!(apply(&mut forwarder, &update(n)).dead, 1);
    }
    assert_eq!(
        rows(
            &mut admin,
            "select sqlstate, state, count(*) from sequin.dead_letter group by 1, 2"
        ),
        ["55000|paused|4"]
    );
    assert_eq!(
        value(
            &mut admin,
            "select state, dead_letters_paused from sequin.status where name = 'bad'"
        ),
        "paused|4"
    );
    // A role that may not change the setting does not choose.
    assert_eq!(
        support::error(&mut forwarder, "set sequin.keep_paused = off")
            .code()
            .code(),
        "42501"
    );
    run(
        &mut scene.mallory(),
        "update sequin.mapping set enabled = true where name = 'bad'",
    );
    // In their order, and before the batch: under guard off the last one wins.
    run(
        &mut scene.mallory(),
        "create table mallory.log (n serial, name text)",
    );
    scene.trigger("begin insert into mallory.log (name) values (new.name); return new; end");
    assert_eq!(apply(&mut forwarder, &update(5)), upserted(1));
    assert_eq!(value(&mut admin, "select name from mallory.item"), "n5");
    assert_eq!(
        value(&mut admin, "select count(*) from sequin.dead_letter"),
        "0"
    );
}
