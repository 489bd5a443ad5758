//! Deletes are remembered, for as long as the setting says.

use std::slice::from_ref;

use support::{Database, Message, deleted, error, rows, run, send, stale, upserted, value};

use super::{GUARDS, ITEM, ITEMS, item, mapped, record, row};

#[test]
fn what_was_deleted_stays_deleted() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("deleted", ITEM, guard);
        let insert = item("insert", 10, record(1, "a"));
        let late = [
            insert.clone(),
            item("update", 20, record(1, "b")),
            item("read", 15, record(1, "a")),
            item("delete", 25, record(1, "a")),
        ];
        for first in [true, false] {
            // a row that was there, and one that never was
            let delete = if first {
                assert_eq!(send(&mut client, from_ref(&insert)), upserted(1));
                item("delete", 30, record(1, "b"))
            } else {
                item("delete", 60, record(2, "b"))
            };
            assert_eq!(send(&mut client, from_ref(&delete)), deleted(1), "{guard}");
            assert_eq!(send(&mut client, &[delete]), stale(1), "{guard}");
            for message in &late {
                let mut message = message.clone();
                if !first {
                    message.record = message.record.replace(r#""id":1"#, r#""id":2"#);
                }
                assert_eq!(send(&mut client, &[message]), stale(1), "{guard}");
            }
            assert_eq!(rows(&mut client, ITEMS), [""; 0], "{guard}");
        }
        let back = item("insert", 40, record(1, "c"));
        assert_eq!(send(&mut client, &[back]), upserted(1), "{guard}");
        assert_eq!(send(&mut client, &late), stale(4), "{guard}");
        assert_eq!(rows(&mut client, ITEMS), [row(1, "c")], "{guard}");
    }
}

#[test]
fn tombstones_are_pruned() {
    for guard in GUARDS {
        let (database, mut client) = mapped("pruned", ITEM, guard);
        let tombstones = "select count(*) from sequin.row_version where deleted";
        let messages: Vec<Message> = (1..=20)
            .map(|id| item("delete", 30, record(id, "a")).idx(id as u64))
            .collect();
        send(&mut client, &messages);
        send(&mut client, &[item("insert", 40, record(1, "b"))]);
        assert_eq!(value(&mut client, tombstones), "19", "{guard}");
        // The default retention keeps them. A session looks at its first call.
        send(
            &mut database.connect(),
            &[item("insert", 1, record(100, "b"))],
        );
        assert_eq!(value(&mut client, tombstones), "19", "{guard}");
        let late = item("insert", 10, record(2, "late"));
        assert_eq!(send(&mut client, from_ref(&late)), stale(1));

        let name = value(&mut client, "select current_database()");
        run(
            &mut client,
            &format!("alter database {name} set sequin.tombstone_retention = 0"),
        );
        let mut client = database.connect();
        send(&mut client, &[item("insert", 1, record(101, "b"))]);
        assert_eq!(value(&mut client, tombstones), "0", "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from sequin.tombstone"),
            "0",
            "{guard}"
        );
        // Rows that came back keep their versions; nothing is known of the others any more.
        assert_eq!(
            send(&mut client, &[item("update", 35, record(1, "z"))]),
            stale(1),
            "{guard}"
        );
        assert_eq!(send(&mut client, &[late]), upserted(1), "{guard}");
        assert_eq!(
            value(
                &mut client,
                "select string_agg(name, ',' order by id) from item"
            ),
            "b,late,b,b",
            "{guard}"
        );
    }
    // Forwarders cannot change it.
    let mut database = Database::new("convergence_retention");
    let forwarder = database.role("forwarder");
    let mut client = database.connect_as(&forwarder);
    value(&mut client, "select sequin.build_profile()"); // loads the library
    let error = error(&mut client, "set sequin.tombstone_retention = 0");
    assert_eq!(error.code().code(), "42501");
}

/// Tombstones that are due are as many as a call can bring; a call prunes as many as it has time for.
#[test]
fn pruning_keeps_up_with_deletes() {
    let (database, mut client) = mapped("pruning", ITEM, "table");
    let name = value(&mut client, "select current_database()");
    run(
        &mut client,
        &format!("alter database {name} set sequin.tombstone_retention = 0"),
    );
    let left = "select count(*) from sequin.tombstone";
    // A session looks at its first call.
    for batch in 0..5 {
        let mut client = database.connect();
        let deletes: Vec<Message> = (1..=5_000)
            .map(|id| item("delete", 30 + batch, record(batch as i64 * 5_000 + id, "a")))
            .collect();
        send(&mut client, &deletes);
    }
    let due: i64 = value(&mut client, left).parse().expect("a number");
    // a portion a call would leave 20,000
    assert!(due <= 18_000, "{due} of 25000 are left");
    // A later call, of another session, goes on.
    let mut calls = 0;
    while value(&mut client, left) != "0" {
        calls += 1;
        assert!(calls < 20, "{}", value(&mut client, left));
        let insert = item("insert", 1, record(100_000 + calls, "b"));
        send(&mut database.connect(), &[insert]);
    }
    let versions = "select count(*) from sequin.row_version where deleted";
    assert_eq!(value(&mut client, versions), "0");
}

#[test]
fn versions_are_pruned_in_portions() {
    let (database, mut client) = mapped("prune_all", ITEM, "table");
    let deletes: Vec<Message> = (1..=250)
        .map(|id| item("delete", 30, record(id, "a")).idx(id as u64))
        .collect();
    send(&mut client, &deletes);
    run(&mut client, "call sequin.prune()");
    let left = "select count(*) from sequin.row_version";
    assert_eq!(value(&mut client, left), "250");
    // What a resync that is under way has noted stays, what one that was cancelled has noted goes.
    run(
        &mut client,
        "insert into sequin.resync (mapping) values (100), (300);
         insert into sequin.resync_seen
         select m, sequin.row_key(n) from unnest(array[100, 200, 300, 400]) m, generate_series(1, 150) n",
    );
    run(&mut client, "set sequin.tombstone_retention = 0");
    for portion in ["0", "null"] {
        let call = format!("call sequin.prune({portion})");
        assert_eq!(error(&mut client, &call).code().code(), "22023");
    }
    run(&mut client, "begin; call sequin.prune(100); rollback");
    assert_eq!(value(&mut client, left), "250");
    // Another session has locked one: the others do not wait for it.
    let mut holder = database.connect();
    run(
        &mut holder,
        "begin; select from sequin.row_version where key = sequin.row_key(7) for update",
    );
    run(&mut client, "call sequin.prune(100)");
    assert_eq!(value(&mut client, left), "1");
    assert_eq!(
        value(
            &mut client,
            "select (select count(*) from sequin.tombstone),
                    (select string_agg(distinct mapping::text, ',' order by mapping::text) from sequin.resync_seen),
                    (select count(*) from sequin.run)"
        ),
        "1|100,300|0"
    );
    // What was locked is pruned later.
    run(&mut holder, "commit");
    run(&mut client, "call sequin.prune(100)");
    let both =
        "select (select count(*) from sequin.row_version), (select count(*) from sequin.tombstone)";
    assert_eq!(value(&mut client, both), "0|0");
}
