//! An owner takes no other owner's messages, and copies only what was granted to him.

use support::{Database, apply, code, error, item, rows, run, value};

#[test]
fn an_exact_mapping_leaves_anothers_wildcard_its_messages() {
    let mut database = Database::new("others_messages");
    let mallory = database.role("mallory");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text);
             create table hers (id integer primary key, name text);
             alter table hers owner to {mallory};
             select sequin.map('public.*', 'item', guard => 'off', name => 'all');
             grant select, insert, update, delete on sequin.mapping to {mallory};
             grant execute on function sequin.map to {mallory}"
        ),
    );
    let mut client = database.connect_as(&mallory);
    let map = "select sequin.map('public.item', 'hers', guard => 'off', name => 'hers')";
    let check_off = "set check_function_bodies = off";
    for setting in ["select 1", check_off] {
        run(&mut client, setting);
        let refused = error(&mut client, map);
        assert_eq!(code(&refused), "42501");
        assert_eq!(
            refused.hint().map(|hint| hint.contains(&format!(
                "SELECT sequin.grant_source('public.item', '{mallory}');"
            ))),
            Some(true),
            "{refused:?}"
        );
    }
    run(&mut client, "reset check_function_bodies");
    for (granted, works) in [("public.it", false), ("*.item", true)] {
        run(
            &mut admin,
            &format!("select sequin.grant_source('{granted}', '{mallory}')"),
        );
        assert_eq!(client.batch_execute(map).is_ok(), works, "{granted}");
    }
    let wider = "update sequin.mapping set source = 'public.*' where name = 'hers'";
    assert_eq!(code(&error(&mut client, wider)), "42501");
    assert_eq!(apply(&mut admin, &item(1, "one")).upserted, 2);
    assert_eq!(value(&mut admin, "table item"), "1|one");
    assert_eq!(value(&mut admin, "table hers"), "1|one");
    assert_eq!(
        rows(
            &mut client,
            "select source from sequin.source_grant order by 1"
        ),
        ["*.item", "public.it"]
    );
    let when = "select distinct granted_by = session_user and granted_at between now() - interval '1 hour' and now()
                from sequin.source_grant";
    assert_eq!(value(&mut admin, when), "t");
    run(
        &mut admin,
        &format!("select sequin.revoke_source('*.item', '{mallory}')"),
    );
    let again = format!("select sequin.revoke_source('*.item', '{mallory}')");
    assert_eq!(code(&error(&mut admin, &again)), "42704");
    let malformed = format!("select sequin.grant_source('item', '{mallory}')");
    assert_eq!(code(&error(&mut admin, &malformed)), "42602");
}

/// A role that is made later could have the OID of one that is gone.
#[test]
fn sources_are_granted_to_roles_only() {
    let mut database = Database::new("granted_to_nobody");
    let gone = database.role("gone");
    let mut admin = database.connect();
    for nobody in ["-", "0", "99999"] {
        let refused = error(
            &mut admin,
            &format!("select sequin.grant_source('*.*', '{nobody}')"),
        );
        assert_eq!(code(&refused), "42704", "{nobody}");
    }
    run(
        &mut admin,
        &format!("select sequin.grant_source('public.*', '{gone}'); drop role {gone}"),
    );
    // A dump has no grant of a role that is gone.
    let dumped =
        "select extcondition[array_position(extconfig, 'sequin.granted_source'::regclass::oid)]
                  from pg_extension where extname = 'pg_sequin'";
    let condition = value(&mut admin, dumped);
    let grants = format!("select count(*) from sequin.granted_source {condition}");
    assert_eq!(value(&mut admin, &grants), "0");
    // An older dump may have one.
    run(
        &mut admin,
        "set check_function_bodies = off; insert into sequin.granted_source values ('old.*', 99999)",
    );
    let grants = "select string_agg(source, ',') from sequin.granted_source";
    assert_eq!(value(&mut admin, grants), "public.*");
}

/// Where the source cannot be read, no HINT says to grant everything.
#[test]
fn a_source_that_is_no_pattern_gets_no_grant() {
    let mut database = Database::new("no_pattern");
    let mallory = database.role("mallory");
    run(
        &mut database.connect(),
        &format!(
            "grant execute on function sequin.map to {mallory}; create schema hers authorization {mallory}"
        ),
    );
    let mut client = database.connect_as(&mallory);
    run(
        &mut client,
        "create table hers.item (id integer primary key)",
    );
    let refused = error(
        &mut client,
        "select sequin.map('public .item', 'hers.item')",
    );
    assert_eq!(code(&refused), "42602");
    assert!(
        !format!("{refused:?}").contains("grant_source"),
        "{refused:?}"
    );
}
