//! No lock that a role can take keeps the drift of another's mapping from being noted.

use support::{apply, message, run, value};

use super::Scene;

#[test]
fn advisory_locks_do_not_matter() {
    let scene = Scene::new("drift");
    let mut mallory = scene.mallory();
    run(
        &mut mallory,
        "select pg_advisory_lock(1936028778, m) from generate_series(1, 10) m",
    );
    let mut forwarder = scene.forwarder();
    let rows = [r#"{"id":1,"name":"a"}"#, r#"{"id":1,"title":"b"}"#];
    for (lsn, row) in (1..).zip(rows) {
        apply(&mut forwarder, &message("insert", "good", lsn, row));
    }
    assert_eq!(
        value(
            &mut scene.admin(),
            "select string_agg(key, ',' order by key) from sequin.record_key where drift is not null"
        ),
        "name,title"
    );
}
