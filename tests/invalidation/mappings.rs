//! Mappings that change.

use support::{Database, apply, apply_error, code, item, run, upserted, value};

#[test]
fn a_changed_mapping_is_seen_by_other_sessions() {
    let database = Database::new("mapping_changed");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text, note text);
         create table other (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off', name => 'item')",
    );
    assert_eq!(apply(&mut forwarder, &item(1, "one")), upserted(1));

    run(
        &mut admin,
        r#"update sequin.mapping set columns = '{"id":"record.id","note":"record.name"}'"#,
    );
    assert_eq!(apply(&mut forwarder, &item(2, "two")), upserted(1));
    assert_eq!(value(&mut admin, "select * from item"), "1|one|two");

    run(&mut admin, "update sequin.mapping set enabled = false");
    assert_eq!(
        code(&apply_error(&mut forwarder, &item(3, "three"))),
        "55000"
    );
    run(
        &mut admin,
        "update sequin.mapping set enabled = true, filter = 'false'",
    );
    assert_eq!(apply(&mut forwarder, &item(3, "three")).deleted, 1);

    run(
        &mut admin,
        "select sequin.map('public.item', 'other', guard => 'off', name => 'item')",
    );
    assert_eq!(apply(&mut forwarder, &item(4, "four")), upserted(1));
    assert_eq!(value(&mut admin, "select * from other"), "1|four");

    run(
        &mut admin,
        "select sequin.map('public.item', 'item', guard => 'off', name => 'second')",
    );
    assert_eq!(apply(&mut forwarder, &item(5, "five")).upserted, 2);

    run(
        &mut admin,
        "select sequin.unmap('second'), sequin.unmap('item')",
    );
    assert_eq!(apply(&mut forwarder, &item(6, "six")).dead, 1);

    run(&mut admin, "delete from sequin.mapping");
    run(&mut admin, "select sequin.map('public.*', null)");
    assert_eq!(apply(&mut forwarder, &item(7, "seven")).ignored, 1);
}

#[test]
fn a_changed_mapping_is_seen_within_a_transaction() {
    let database = Database::new("mapping_changed_transaction");
    let (mut admin, mut forwarder) = (database.connect(), database.connect());
    run(
        &mut admin,
        "create table item (id integer primary key, name text, note text);
         select sequin.map('public.item', 'item', guard => 'off', name => 'item')",
    );
    run(&mut forwarder, "begin isolation level read committed");
    apply(&mut forwarder, &item(1, "one"));
    // Not yet committed: not yet seen.
    run(&mut admin, "begin");
    run(
        &mut admin,
        r#"update sequin.mapping set columns = '{"id":"record.id","note":"record.name"}'"#,
    );
    apply(&mut forwarder, &item(2, "two"));
    run(&mut admin, "commit");
    apply(&mut forwarder, &item(3, "three"));
    assert_eq!(value(&mut forwarder, "select * from item"), "1|two|three");
    run(&mut forwarder, "commit");
    assert_eq!(value(&mut admin, "select * from item"), "1|two|three");
}
