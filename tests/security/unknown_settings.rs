//! A setting of the extension that it does not know is an error, not a placeholder.

use support::{Database, code, error, run};

#[test]
fn an_unknown_setting_is_refused() {
    let database = Database::new("unknown_settings");
    let mut admin = database.connect();
    let version = admin.query_one("select current_setting('server_version_num')::integer", &[]);
    if version.expect("it has a version").get::<_, i32>(0) < 150_000 {
        return;
    }
    run(&mut admin, "select * from sequin_apply('[]'::text)");
    let refused = error(&mut admin, "set sequin.read_skw = 1");
    assert_eq!(code(&refused), "42602");
}
