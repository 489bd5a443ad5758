//! A role makes up settings under the extension's name.

use support::{Database, code, error, run, server, value};

#[test]
fn the_prefix_sequin_is_reserved() {
    let mut database = Database::new("reserved_prefix");
    let forwarder = database.role("forwarder");
    let version = value(&mut server(), "show server_version_num");
    let version: i32 = version.parse().expect("a number");
    let mut client = database.connect_as(&forwarder);
    run(
        &mut client,
        "set sequin.before_it_was_loaded = 'x'; select sequin.build_profile()",
    );
    // Before 15 there is a warning and no more.
    if version >= 150_000 {
        let refused = error(&mut client, "set sequin.made_up = 'x'");
        assert_eq!(code(&refused), "42602");
        assert_eq!(
            refused.message(),
            "invalid configuration parameter name \"sequin.made_up\""
        );
        let gone = error(&mut client, "show sequin.before_it_was_loaded");
        assert_eq!(code(&gone), "42704");
    }
    let refused = error(&mut client, "set sequin.read_skew = 0");
    assert_eq!(code(&refused), "42501");
}
