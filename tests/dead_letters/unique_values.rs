//! Values of unique columns that another row still has.

use support::{Database, GUARDS, rows, send};

use super::{ITEM, ITEMS, LETTERS, item};

#[test]
fn a_unique_value_is_waited_for() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("unique", ITEM, &["item"], guard);
        send(
            &mut client,
            &[item("insert", 1, 1, "a"), item("insert", 2, 2, "b")],
        );
        assert_eq!(
            send(&mut client, &[item("insert", 4, 3, "a")]).dead,
            1,
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[item("insert", 6, 4, "b")]).dead,
            1,
            "{guard}"
        );
        send(&mut client, &[item("update", 3, 1, "c")]);
        assert_eq!(rows(&mut client, ITEMS), ["1|c", "2|b", "3|a"], "{guard}");
        send(&mut client, &[item("delete", 5, 2, "b")]);
        assert_eq!(rows(&mut client, ITEMS), ["1|c", "3|a", "4|b"], "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// Under a deferred constraint the source swaps values in one statement. The destination's constraint does not allow
/// that.
#[test]
fn unique_values_are_swapped() {
    for guard in GUARDS {
        for ddl in [
            ITEM,
            "create table item (id integer primary key, slug text unique)",
            "create table item (id integer primary key, slug varchar(1) not null unique)",
        ] {
            let (_database, mut client) = Database::mapped("swap", ddl, &["item"], guard);
            let all: Vec<String> = (1..=5)
                .zip(["a", "b", "c", "d", "e"])
                .map(|(id, slug)| item("insert", id, id, slug))
                .collect();
            send(&mut client, &all);
            // Two rows swap and three rotate in one batch; one more wants a value that is taken.
            let counts = send(
                &mut client,
                &[
                    item("update", 11, 1, "b"),
                    item("update", 12, 2, "a"),
                    item("update", 13, 3, "d"),
                    item("update", 14, 4, "e"),
                    item("update", 15, 5, "c"),
                    item("insert", 16, 6, "a"),
                ],
            );
            assert_eq!((counts.upserted, counts.dead), (5, 1), "{guard}");
            assert_eq!(
                rows(&mut client, ITEMS),
                ["1|b", "2|a", "3|d", "4|e", "5|c"],
                "{guard}"
            );
            // The same over several batches.
            assert_eq!(
                send(&mut client, &[item("update", 21, 1, "a")]).dead,
                1,
                "{guard}"
            );
            assert_eq!(
                send(&mut client, &[item("update", 23, 3, "e")]).dead,
                1,
                "{guard}"
            );
            assert_eq!(
                send(&mut client, &[item("update", 24, 4, "c")]).dead,
                1,
                "{guard}"
            );
            send(&mut client, &[item("update", 25, 5, "d")]);
            assert_eq!(
                rows(&mut client, ITEMS),
                ["1|b", "2|a", "3|e", "4|c", "5|d"],
                "{guard}"
            );
            send(&mut client, &[item("update", 22, 2, "b")]);
            assert_eq!(
                rows(&mut client, ITEMS),
                ["1|a", "2|b", "3|e", "4|c", "5|d"],
                "{guard}"
            );
            assert_eq!(
                rows(&mut client, LETTERS),
                ["waiting|23505|[\"6\"]"],
                "{guard}"
            );
        }
    }
}

/// Older changes of a row are written without the change that waits: another row may wait for them.
#[test]
fn older_changes_of_a_row_do_not_wait() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("older", ITEM, &["item"], guard);
        send(
            &mut client,
            &[item("insert", 1, 1, "a"), item("insert", 2, 2, "b")],
        );
        // 1: a → tmp → b; 2: b → a, which comes later.
        let counts = send(
            &mut client,
            &[item("update", 3, 1, "tmp"), item("update", 5, 1, "b")],
        );
        assert_eq!((counts.upserted, counts.dead), (1, 1), "{guard}");
        assert_eq!(rows(&mut client, ITEMS), ["1|tmp", "2|b"], "{guard}");
        send(&mut client, &[item("update", 4, 2, "a")]);
        assert_eq!(rows(&mut client, ITEMS), ["1|b", "2|a"], "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}
