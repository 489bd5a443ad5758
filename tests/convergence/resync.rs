//! A backfill between `begin_resync` and `finish_resync` brings back what was lost.

use support::{Database, Message, error, rows, run, send, stale, upserted, value};

use super::{GUARDS, ITEM, ITEMS, document, item, map, mapped, moved, record, row};

#[test]
fn a_resync_removes_what_is_gone() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("resync", ITEM, guard);
        let insert = |id: i64| item("insert", 10, record(id, "a")).idx(id as u64);
        let read = |id: i64, name: &str| item("read", 1_000, record(id, name));
        send(&mut client, &(1..=10).map(insert).collect::<Vec<_>>());
        send(&mut client, &[item("delete", 20, record(10, "a"))]);
        // Lost: 3 and 4 were deleted, 5 was changed, 10 and 11 came.
        run(&mut client, "select sequin.begin_resync('item')");
        assert_eq!(
            value(
                &mut client,
                "select sequin.finish_resync('item', dry_run => true)"
            ),
            "9",
            "{guard}"
        );
        let reads = [read(1, "a"), read(5, "b"), read(10, "new"), read(11, "new")];
        assert_eq!(send(&mut client, &reads), upserted(4), "{guard}");
        // 2: a read that is stale; 6: a change; 7: an old change again; 8: a change and its delete; 9: moved to 12
        send(&mut client, &[item("update", 999, record(2, "c"))]);
        run(
            &mut client,
            "select sequin.cancel_resync('item'); select sequin.begin_resync('item')",
        );
        assert_eq!(
            value(
                &mut client,
                "select sequin.finish_resync('item', dry_run => true)"
            ),
            "11",
            "{guard}"
        );
        send(&mut client, &reads);
        assert_eq!(send(&mut client, &[read(2, "stale")]), stale(1), "{guard}");
        send(&mut client, &[item("update", 1_001, record(6, "d"))]);
        assert_eq!(send(&mut client, &[insert(7)]), stale(1), "{guard}");
        send(
            &mut client,
            &[
                item("update", 1_002, record(8, "d")),
                item("delete", 1_003, record(8, "d")),
            ],
        );
        send(&mut client, &[moved(1_004, 0, 9, 12, "a")]);
        let before = rows(&mut client, ITEMS);
        assert_eq!(
            value(
                &mut client,
                "select sequin.finish_resync('item', dry_run => true)"
            ),
            "2",
            "{guard}"
        );
        assert_eq!(rows(&mut client, ITEMS), before, "{guard}");
        assert_eq!(
            value(&mut client, "select sequin.finish_resync('item')"),
            "2",
            "{guard}"
        );
        let wanted = [
            (1, "a"),
            (2, "c"),
            (5, "b"),
            (6, "d"),
            (7, "a"),
            (10, "new"),
            (11, "new"),
            (12, "a"),
        ];
        let wanted = wanted.map(|(id, name)| row(id, name));
        assert_eq!(rows(&mut client, ITEMS), wanted, "{guard}");
        // A known message does not bring back a row that the resync removed,
        assert_eq!(send(&mut client, &[insert(3)]), stale(1), "{guard}");
        assert_eq!(rows(&mut client, ITEMS), wanted, "{guard}");
        // a newer one does
        assert_eq!(
            send(&mut client, &[item("insert", 2_000, record(3, "z"))]),
            upserted(1),
            "{guard}"
        );

        let error = error(&mut client, "select sequin.finish_resync('item')");
        assert_eq!(error.code().code(), "55000", "{guard}");
        assert!(
            error
                .hint()
                .unwrap_or_default()
                .contains("sequin.begin_resync('item')"),
            "{error:?}"
        );
    }
}

#[test]
fn a_backfill_repairs_a_destination() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("repair", ITEM, guard);
        let inserts: Vec<Message> = (1..=100)
            .map(|id| item("insert", 10, document(id, "a", "b")).idx(id as u64))
            .collect();
        let reads: Vec<Message> = (1..=100)
            .map(|id| item("read", 100, document(id, "a", "b")))
            .collect();
        send(&mut client, &inserts);
        let wanted = rows(&mut client, ITEMS);
        let mut later = 100;
        for damage in [
            "truncate item",
            "delete from item where id > 10",
            "update item set name = 'damaged', body = null where id % 2 = 0",
            "update item set id = id + 1000 where id > 50",
            "insert into item values (2000, 'damaged')",
        ] {
            run(&mut client, damage);
            assert_ne!(rows(&mut client, ITEMS), wanted);
            run(&mut client, "select sequin.begin_resync('item')");
            later += 100;
            let reads: Vec<Message> = reads.iter().cloned().map(|m| m.at(later * 1_000)).collect();
            send(&mut client, &reads);
            run(&mut client, "select sequin.finish_resync('item')");
            assert_eq!(rows(&mut client, ITEMS), wanted, "{guard}: {damage}");
        }
        // and the stream goes on from where it was. (In columns of the destination the positions go with the rows.)
        if guard == "table" {
            assert_eq!(send(&mut client, &inserts), stale(100), "{guard}");
        }
        assert_eq!(rows(&mut client, ITEMS), wanted, "{guard}");
        let update = |lsn| [item("update", lsn, document(7, "c", "d"))];
        assert_eq!(send(&mut client, &update(11)), stale(1), "{guard}");
        assert_eq!(send(&mut client, &update(later)), upserted(1), "{guard}");
        // Without a backfill: once the versions are forgotten, all messages are applied.
        run(
            &mut client,
            "truncate item; select sequin.forget_versions('item')",
        );
        assert_eq!(send(&mut client, &inserts), upserted(100), "{guard}");
    }
}

#[test]
fn a_resync_among_changes() {
    for guard in GUARDS {
        let (database, mut client) = mapped("resync_live", ITEM, guard);
        let inserts: Vec<Message> = (1..=500)
            .map(|id| item("insert", 10, record(id, "a")).idx(id as u64))
            .collect();
        send(&mut client, &inserts);
        run(&mut client, "select sequin.begin_resync('item')");
        let database = &database;
        // 1 to 50 are gone at the source. The rest is read and changed, and new rows come and go.
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut client = database.connect();
                let reads: Vec<Message> = (51..=500)
                    .map(|id| item("read", 50, record(id, "a")))
                    .collect();
                reads.chunks(40).for_each(|reads| {
                    send(&mut client, reads);
                });
            });
            for session in 0..2 {
                scope.spawn(move || {
                    let mut client = database.connect();
                    for round in 0..20 {
                        let messages: Vec<Message> = (51..=500)
                            .filter(|id| id % 7 == round % 7 && id % 2 == session)
                            .map(|id| {
                                item(
                                    "update",
                                    100 + round as u64,
                                    record(id, &format!("r{round}")),
                                )
                            })
                            .collect();
                        send(&mut client, &messages);
                        let (new, old) = (
                            1_000 * (session + 1) + round,
                            1_000 * (session + 1) + round - 1,
                        );
                        let mut messages = vec![item("insert", 200, record(new, "new"))];
                        if round % 2 == 1 {
                            messages.push(item("delete", 201, record(old, "new")));
                        }
                        send(&mut client, &messages);
                    }
                });
            }
            scope.spawn(move || {
                let mut client = database.connect();
                for _ in 0..5 {
                    let count = value(
                        &mut client,
                        "select sequin.finish_resync('item', dry_run => true)",
                    );
                    let count: i64 = count.parse().expect("a number");
                    assert!((50..=500).contains(&count), "{count}");
                }
            });
        });
        // finished while changes go on
        std::thread::scope(|scope| {
            for session in 0..2 {
                scope.spawn(move || {
                    let mut client = database.connect();
                    for round in 0..20 {
                        let messages: Vec<Message> = (51..=500)
                            .filter(|id| id % 2 == session)
                            .map(|id| item("update", 300 + round, record(id, "last")))
                            .collect();
                        send(&mut client, &messages);
                    }
                });
            }
            assert_eq!(
                value(&mut client, "select sequin.finish_resync('item')"),
                "50",
                "{guard}"
            );
        });
        assert_eq!(
            value(
                &mut client,
                "select count(*) filter (where id between 51 and 500 and name = 'last'),
                        count(*) filter (where name = 'new'), count(*) from item"
            ),
            "450|20|470",
            "{guard}"
        );
    }
}

#[test]
fn a_resync_deletes_as_the_mapping_does() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_resync_soft_{guard}"));
        let mut client = database.connect();
        for (table, more) in [
            ("soft", ", on_delete => 'soft', soft_delete => 'gone'"),
            ("flagged", ", on_delete => 'soft', soft_delete => 'flag'"),
            ("kept", ", on_delete => 'ignore'"),
        ] {
            run(
                &mut client,
                &format!(
                    "create table {table} (id integer primary key, name text, gone timestamptz, flag boolean)"
                ),
            );
            let columns = r#", columns => '{"id": "record.id", "name": "record.name"}'"#;
            map(&mut client, table, guard, &format!("{more}{columns}"));
            let of = |message: Message| message.table(table);
            let inserts: Vec<Message> = (1..=3)
                .map(|id| of(item("insert", 10, record(id, "a"))))
                .collect();
            assert_eq!(send(&mut client, &inserts), upserted(3));
            run(
                &mut client,
                &format!("select sequin.begin_resync('{table}')"),
            );
            send(&mut client, &[of(item("read", 100, record(1, "a")))]);
            let dry = value(
                &mut client,
                &format!("select sequin.finish_resync('{table}', dry_run => true)"),
            );
            let finish = format!("select sequin.finish_resync('{table}', min_confirmed => 0.3)");
            let finished = value(&mut client, &finish);
            let state = format!(
                "select id, gone is not null, coalesce(flag, false) from {table} order by id"
            );
            let state = rows(&mut client, &state);
            match table {
                "soft" => assert_eq!(state, ["1|f|f", "2|t|f", "3|t|f"], "{guard}"),
                "flagged" => assert_eq!(state, ["1|f|f", "2|f|t", "3|f|t"], "{guard}"),
                _ => assert_eq!(state, ["1|f|f", "2|f|f", "3|f|f"], "{guard}"),
            }
            let wanted = if table == "kept" { "0" } else { "2" };
            assert_eq!(
                (dry.as_str(), finished.as_str()),
                ("2", wanted),
                "{guard} {table}"
            );
            // Rows that are marked already are not marked again.
            run(
                &mut client,
                &format!("select sequin.begin_resync('{table}')"),
            );
            send(&mut client, &[of(item("read", 200, record(1, "a")))]);
            assert_eq!(value(&mut client, &finish), "0", "{guard} {table}");
            if table != "kept" {
                // A row that comes back is there again.
                send(&mut client, &[of(item("insert", 300, record(2, "b")))]);
                let marks = format!(
                    "select name, gone is null and flag is not true from {table} where id = 2"
                );
                assert_eq!(value(&mut client, &marks), "b|t", "{guard} {table}");
            }
        }
    }
}

#[test]
fn a_resync_is_its_owners() {
    let mut database = Database::new("convergence_resync_owner");
    let stranger = database.role("stranger");
    let mut client = database.connect();
    run(&mut client, ITEM);
    map(&mut client, "item", "table", "");
    run(&mut client, "select sequin.begin_resync('item')");
    let mut client = database.connect_as(&stranger);
    for call in [
        "sequin.begin_resync('item')",
        "sequin.finish_resync('item')",
        "sequin.finish_resync('item', true)",
        "sequin.forget_versions('item')",
    ] {
        let error = error(&mut client, &format!("select {call}"));
        let code = error.code().code();
        assert!(["42704", "42501"].contains(&code), "{call}: {error:?}");
    }
    let mut client = database.connect();
    for (call, code) in [
        ("sequin.begin_resync('itme')", "42704"),
        ("sequin.begin_resync(null)", "22004"),
        ("sequin.forget_versions('itme')", "42704"),
    ] {
        let error = error(&mut client, &format!("select {call}"));
        assert_eq!(error.code().code(), code, "{call}");
    }
}
