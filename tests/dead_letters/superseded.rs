//! Letters that newer changes of their row make void.

use support::{Database, message, rows, run, send, value};

use super::{LETTERS, PRICED, priced, retry};

#[test]
fn newer_changes_supersede() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = Database::mapped("supersede", PRICED, &["item"], guard);
        let count = "select count(*) from sequin.dead_letter";
        // One that cannot be cast, and one that the table refuses.
        for (lsn, bad) in [(10, "\"x\""), (30, "-1")] {
            send(&mut client, &[priced("insert", lsn, bad, "a")]);
            assert_eq!(value(&mut client, count), "1", "{guard}");
            // The same again is the same letter.
            assert_eq!(
                send(&mut client, &[priced("insert", lsn, bad, "a")]).dead,
                1,
                "{guard}"
            );
            assert_eq!(
                rows(
                    &mut client,
                    "select count(*), min(attempts) from sequin.dead_letter"
                ),
                ["1|2"],
                "{guard}"
            );
            // Neither an older change nor one of another row supersedes it.
            send(&mut client, &[priced("update", lsn - 1, "1", "a")]);
            send(
                &mut client,
                &[message(
                    "insert",
                    "item",
                    lsn + 5,
                    r#"{"id":2,"price":1,"body":"b"}"#,
                )],
            );
            assert_eq!(value(&mut client, count), "1", "{guard}");
            send(&mut client, &[priced("update", lsn + 1, "2", "a")]);
            assert_eq!(value(&mut client, count), "0", "{guard}");
            // The message comes late: its fault does not matter.
            let counts = send(&mut client, &[priced("insert", lsn, bad, "a")]);
            assert_eq!((counts.stale, counts.dead), (1, 0), "{guard}");
            assert_eq!(value(&mut client, count), "0", "{guard}");
        }
        // A newer one in the same batch, and a delete.
        let counts = send(
            &mut client,
            &[
                priced("update", 50, "-5", "a"),
                priced("update", 51, "5", "a"),
            ],
        );
        assert_eq!(
            (counts.collapsed, counts.upserted, counts.dead),
            (1, 1, 0),
            "{guard}"
        );
        send(&mut client, &[priced("update", 60, "-6", "a")]);
        send(&mut client, &[priced("delete", 61, "null", "")]);
        assert_eq!(value(&mut client, count), "0", "{guard}");
    }
}

/// A change that is older than the row may be the only one with a value that a newer one did not touch.
#[test]
fn what_has_the_only_copy_of_a_value_is_kept() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = Database::mapped("copy", PRICED, &["item"], guard);
        send(&mut client, &[priced("insert", 10, "1", "old")]);
        send(&mut client, &[priced("update", 20, "-2", "new")]);
        send(&mut client, &[priced("update", 30, "3", "unchanged_toast")]);
        assert_eq!(
            value(&mut client, "select count(*) from sequin.dead_letter"),
            "1",
            "{guard}"
        );
        run(
            &mut client,
            "alter table item drop constraint item_price_check",
        );
        assert_eq!(retry(&mut client, ""), "1|1|0|0", "{guard}");
        assert_eq!(rows(&mut client, "select * from item").len(), 1);
        assert_eq!(
            rows(&mut client, "select id, price, body from item"),
            ["1|3|new"],
            "{guard}"
        );
        assert_eq!(
            value(&mut client, "select count(*) from sequin.dead_letter"),
            "0",
            "{guard}"
        );
    }
}

/// Messages of old versions of Sequin have a time and no position. They must not be taken for reads.
#[test]
fn letters_without_a_position_are_not_lost() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = Database::mapped("positions", PRICED, &["item"], guard);
        let old = |action: &str, lsn: u64, price: &str| {
            let position = format!("\"commit_lsn\":{lsn},\"commit_idx\":0");
            priced(action, lsn, price, "a").replace(&position, "\"commit_lsn\":null")
        };
        send(&mut client, &[old("insert", 100, "1")]);
        assert_eq!(
            send(&mut client, &[old("update", 102, "\"x\"")]).dead,
            1,
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[old("update", 102, "\"y\"")]).dead,
            1,
            "{guard}"
        );
        // An older one does not make them void, a newer one does.
        send(&mut client, &[old("update", 101, "2")]);
        assert_eq!(rows(&mut client, LETTERS).len(), 2, "{guard}");
        send(&mut client, &[old("update", 110, "3")]);
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}
