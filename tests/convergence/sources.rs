//! Several source databases, and one that starts over.

use support::{Message, deleted, rows, run, send, stale, upserted};

use super::{GUARDS, ITEM, ITEMS, document, item, map, mapped, record, row};

#[test]
fn positions_of_databases_are_not_compared() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("positions", ITEM, guard);
        run(
            &mut client,
            "create table everywhere (place text, id integer, name text, primary key (place, id))",
        );
        map(
            &mut client,
            "everywhere",
            guard,
            r#", columns => '{"place": "metadata.database.name", "*": "record.*"}'"#,
        );
        // equal positions, equal ids, equal times
        let of = |source, lsn, name: &str| {
            Message::new("update", "everywhere", lsn, record(1, name)).of(source)
        };
        let three = ["eu", "us", "ap"].map(|source| of(source, 10, source));
        assert_eq!(send(&mut client, &three), upserted(3), "{guard}");
        assert_eq!(send(&mut client, &three), stale(3), "{guard}");
        assert_eq!(
            send(&mut client, &[of("us", 9, "old")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("us", 11, "new")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            rows(
                &mut client,
                "select place, id, name from everywhere order by place"
            ),
            ["ap|1|ap", "eu|1|eu", "us|1|new"],
            "{guard}"
        );

        // One row of two databases: the later commit.
        let of =
            |source, lsn, at, name: &str| item("update", lsn, record(1, name)).at(at).of(source);
        assert_eq!(
            send(&mut client, &[of("eu", 1_000, 10_000, "a")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("us", 5, 9_000, "b")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("us", 6, 11_000, "c")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("us", 6, 11_000, "c")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("eu", 2_000, 10_500, "d")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(rows(&mut client, ITEMS), [row(1, "c")], "{guard}");
        let delete = item("delete", 2_001, record(1, "d")).at(12_000).of("eu");
        assert_eq!(send(&mut client, &[delete]), deleted(1), "{guard}");
        assert_eq!(
            send(&mut client, &[of("us", 7, 11_500, "e")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("us", 8, 13_000, "f")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(rows(&mut client, ITEMS), [row(1, "f")], "{guard}");
    }
}

#[test]
fn a_read_does_not_come_between_the_changes_of_two_sources() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("between", ITEM, guard);
        let of = |source, at, name: &str| item("update", at, record(1, name)).of(source);
        let read = |at, name: &str| item("read", 0, record(1, name)).at(at);
        send(&mut client, &[of("eu", 10, "a")]);
        // The read saw eu's change, and is not a change itself. A change of us from before it, and a read of soon
        // after it, are compared with what changed the row.
        assert_eq!(
            send(&mut client, &[read(30_000, "a")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[read(31_000, "a")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[of("us", 20, "b")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(send(&mut client, &[of("eu", 15, "c")]), stale(1), "{guard}");
        assert_eq!(rows(&mut client, ITEMS), [row(1, "b")], "{guard}");
    }
}

#[test]
fn a_source_that_starts_over() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("over", ITEM, guard);
        send(
            &mut client,
            &[
                item("insert", 1_000, record(1, "a")).at(1_000),
                item("insert", 1_001, record(2, "a")).at(1_000),
                item("update", 1_002, document(3, "a", "unchanged_toast")).at(1_000),
            ],
        );
        send(
            &mut client,
            &[item("delete", 1_003, record(2, "a")).at(1_000)],
        );
        let again = [
            item("update", 10, record(1, "b")).at(100_000),
            item("insert", 11, record(2, "b")).at(100_000),
            item("update", 12, record(3, "b")).at(100_000),
        ];
        assert_eq!(send(&mut client, &again), stale(3), "{guard}");
        assert_eq!(
            rows(&mut client, ITEMS),
            [row(1, "a"), row(3, "a")],
            "{guard}"
        );
        run(&mut client, "select sequin.forget_versions('item')");
        assert_eq!(
            rows(&mut client, ITEMS),
            [row(1, "a"), row(3, "a")],
            "{guard}"
        );
        assert_eq!(send(&mut client, &again), upserted(3), "{guard}");
        assert_eq!(
            rows(&mut client, ITEMS),
            [row(1, "b"), row(2, "b"), row(3, "b")],
            "{guard}"
        );
        assert_eq!(send(&mut client, &again), stale(3), "{guard}");
    }
}
