//! Privileges on `sequin.mapping` and BYPASSRLS do not give the rights of other owners.

use support::{Database, code, error, run, value};

#[test]
fn a_mapping_of_another_owner_cannot_be_rewritten() {
    let mut database = Database::new("foreign_mappings");
    let mallory = database.role("mallory");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table t (id integer primary key, name text);
             select sequin.map('public.t', 't', guard => 'off', name => 't');
             alter role {mallory} bypassrls;
             grant select, insert, update, delete on sequin.mapping to {mallory};
             select sequin.grant_source('*.*', '{mallory}')"
        ),
    );
    let mut client = database.connect_as(&mallory);
    for sql in [
        r#"update sequin.mapping set columns = '{"*": "record.*", "name": {"sql": "pg_read_file(''x'')"}}'"#,
        "update sequin.mapping set enabled = false",
        "update sequin.mapping set name = 'other'",
        "delete from sequin.mapping",
        &format!("update sequin.mapping set owner = '{mallory}'"),
    ] {
        let refused = error(&mut client, sql);
        assert_eq!(code(&refused), "42501", "{sql}");
        assert_eq!(
            refused.message(),
            "must have the rights of the owner of mapping \"t\""
        );
        assert!(refused.hint().is_some());
    }
    assert_eq!(value(&mut admin, "select enabled from sequin.mapping"), "t");
}
