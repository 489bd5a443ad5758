//! `sequin.status` of a mapping whose owner cannot write any more.

use support::{Database, apply, message, rows, run, value};

const STATUS: &str = "select state, broken_reason, broken_hint from sequin.status where name = 'm'";

#[test]
fn an_owner_without_privileges_is_told_with_the_statement_that_helps() {
    let mut database = Database::new("owner_lost");
    let owner = database.role("owner");
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "set client_min_messages = error;
             create schema \"My App\"; create table \"My App\".item (id integer primary key, name text);
             grant usage on schema \"My App\" to \"{owner}\";
             grant select, insert, update, delete on \"My App\".item to \"{owner}\";
             select sequin.grant_source('public.item', '\"{owner}\"');
             insert into sequin.mapping (name, source, destination, owner)
             values ('m', 'public.item', '\"My App\".item', '\"{owner}\"')"
        ),
    );
    assert_eq!(rows(&mut client, STATUS), ["running|null|null"]);
    let revoke = |what: &str| format!("revoke {what} from \"{owner}\"");
    for (revoked, lacks) in [
        ("select on \"My App\".item", "SELECT on the destination"),
        (
            "insert, update on \"My App\".item",
            "INSERT, UPDATE on the destination",
        ),
        ("delete on \"My App\".item", "DELETE on the destination"),
        ("usage on schema \"My App\"", "USAGE on schema \"My App\""),
    ] {
        run(&mut client, &revoke(revoked));
        assert_eq!(
            value(
                &mut client,
                "select state || ': ' || broken_reason from sequin.status"
            ),
            format!("broken: the owner lacks {lacks}")
        );
        let hint = value(&mut client, "select broken_hint from sequin.status");
        run(&mut client, hint.strip_prefix("Run: ").unwrap());
        assert_eq!(rows(&mut client, STATUS), ["running|null|null"], "{hint}");
    }
    run(&mut client, &revoke("all on \"My App\".item"));
    run(&mut client, &revoke("all on schema \"My App\""));
    assert_eq!(
        value(&mut client, "select broken_reason from sequin.status"),
        "the owner lacks USAGE on schema \"My App\" and SELECT, INSERT, UPDATE, DELETE on the destination"
    );

    // what the mapping does not need is not missed
    run(
        &mut client,
        &format!(
            "grant usage on schema \"My App\" to \"{owner}\"; grant insert (id) on \"My App\".item to \"{owner}\";
             set check_function_bodies = off; update sequin.mapping set mode = 'append'"
        ),
    );
    assert_eq!(rows(&mut client, STATUS), ["running|null|null"]);

    run(
        &mut client,
        &format!("drop owned by \"{owner}\" cascade; drop role \"{owner}\""),
    );
    assert_eq!(
        rows(&mut client, STATUS),
        [
            "broken|the owner does not exist|Give the mapping to another role: UPDATE sequin.mapping SET owner = 'role_name' WHERE name = 'm';"
        ]
    );
    run(&mut client, "drop schema \"My App\" cascade");
    assert_eq!(
        rows(&mut client, STATUS),
        [
            "broken|the destination does not exist|If there is a table in its place, run: SELECT sequin.alter_mapping('m', destination => 'schema.table'); to remove the mapping, run: SELECT sequin.unmap('m');"
        ]
    );
}

/// A log needs SELECT too where it recognises repetitions, and the HINT says so.
#[test]
fn a_log_that_reads_is_told_with_the_statement_that_helps() {
    let mut database = Database::new("owner_lost_log");
    let owner = database.role("owner");
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create table log (id bigint generated always as identity, ikey text unique, name text);
             grant select, insert on log to \"{owner}\";
             select sequin.grant_source('public.item', '\"{owner}\"');
             insert into sequin.mapping (name, source, destination, owner, mode, columns)
             values ('m', 'public.item', 'log', '\"{owner}\"', 'append',
                     '{{\"ikey\": \"metadata.idempotency_key\", \"name\": \"record.name\"}}');
             revoke select on log from \"{owner}\""
        ),
    );
    let change = message("insert", "item", 1, r#"{"name":"a"}"#);
    assert_eq!(apply(&mut client, &change).dead, 1);
    let hint = value(&mut client, "select broken_hint from sequin.status");
    run(
        &mut client,
        hint.strip_prefix("Run: ").expect("a statement"),
    );
    run(&mut client, "select sequin.retry('m')");
    assert_eq!(rows(&mut client, "select name from log"), ["a"]);
    assert_eq!(rows(&mut client, STATUS), ["running|null|null"]);
}
