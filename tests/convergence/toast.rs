//! Values that are older than their row.

use postgres::Client;
use support::{rows, send, stale, value};

use super::{GUARDS, ITEM, ITEMS, document, item, mapped, record};

#[test]
fn a_late_change_fills_just_what_is_missing() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("fill", ITEM, guard);
        let unchanged = |lsn, name: &str| item("update", lsn, document(1, name, "unchanged_toast"));
        let full = |action, lsn, name: &str, body: &str| item(action, lsn, document(1, name, body));
        let items = |client: &mut Client| rows(client, ITEMS);
        // The update overtakes the insert.
        send(&mut client, &[unchanged(20, "b")]);
        assert_eq!(items(&mut client), ["1|b|null"], "{guard}");
        // A stale read knows the value,
        send(&mut client, &[item("read", 5, document(1, "z", "read"))]);
        assert_eq!(items(&mut client), ["1|b|read"], "{guard}");
        // a change knows it better,
        send(&mut client, &[full("insert", 10, "a", "ten")]);
        assert_eq!(items(&mut client), ["1|b|ten"], "{guard}");
        // and a newer one still better.
        send(&mut client, &[full("update", 15, "a", "fifteen")]);
        assert_eq!(items(&mut client), ["1|b|fifteen"], "{guard}");
        assert_eq!(
            send(&mut client, &[full("update", 12, "a", "twelve")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[full("update", 15, "a", "fifteen")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(items(&mut client), ["1|b|fifteen"], "{guard}");
        // The row goes on; its value stays as old as it is.
        send(&mut client, &[unchanged(30, "c")]);
        send(&mut client, &[full("update", 25, "z", "twenty-five")]);
        assert_eq!(items(&mut client), ["1|c|twenty-five"], "{guard}");
        // A newer value ends it.
        send(&mut client, &[full("update", 40, "d", "forty")]);
        assert_eq!(
            send(&mut client, &[full("update", 35, "z", "thirty-five")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(items(&mut client), ["1|d|forty"], "{guard}");

        // A delete that comes late takes the value of the row that it deleted.
        send(&mut client, &[unchanged(60, "e")]);
        assert_eq!(items(&mut client), ["1|e|forty"], "{guard}");
        send(&mut client, &[item("delete", 50, record(1, "d"))]);
        assert_eq!(items(&mut client), ["1|e|null"], "{guard}");
        assert_eq!(
            send(&mut client, &[full("update", 45, "z", "forty-five")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(items(&mut client), ["1|e|null"], "{guard}");
        send(&mut client, &[full("insert", 55, "z", "fifty-five")]);
        assert_eq!(items(&mut client), ["1|e|fifty-five"], "{guard}");
    }
}

/// A look without a statement does not see rows of partitions, nor of shards.
#[test]
fn a_late_delete_takes_the_value_of_a_row_in_a_partition() {
    for guard in GUARDS {
        let ddl = "create table item (id integer primary key, name text, body text) partition by range (id);
                   create table item_1 partition of item for values from (0) to (10)";
        let (_database, mut client) = mapped("fill_part", ddl, guard);
        send(&mut client, &[item("insert", 10, document(1, "a", "ten"))]);
        let update = item("update", 30, document(1, "b", "unchanged_toast"));
        send(&mut client, &[update]);
        // bug: stale, and the value stayed
        send(&mut client, &[item("delete", 20, record(1, "a"))]);
        assert_eq!(rows(&mut client, ITEMS), ["1|b|null"], "{guard}");
    }
}

/// The row cannot be made without the value: the message waits for it.
#[test]
fn a_value_that_must_be_there_is_waited_for() {
    for guard in GUARDS {
        let ddl = "create table item (id integer primary key, name text, body text not null)";
        let (_database, mut client) = mapped("wait", ddl, guard);
        let update = item("update", 20, document(1, "b", "unchanged_toast"));
        assert_eq!(send(&mut client, &[update]).dead, 1, "{guard}");
        // bug: dead, and not tried again
        assert_eq!(
            rows(
                &mut client,
                "select state, sqlstate from sequin.dead_letter"
            ),
            ["waiting|23502"],
            "{guard}"
        );
        send(&mut client, &[item("insert", 10, document(1, "a", "ten"))]);
        assert_eq!(rows(&mut client, ITEMS), ["1|b|ten"], "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from sequin.dead_letter"),
            "0",
            "{guard}"
        );
    }
}
