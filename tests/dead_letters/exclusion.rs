//! Exclusion constraints: a row waits for the row that excludes it, as for one that has its unique value.

use support::{Database, GUARDS, Message, rows, send};

use super::{LETTERS, retry};

const BOOKING: &str = "
    create table booking (id integer primary key, room integer not null, span int4range not null,
                          exclude using gist (span with &&))";

const BOOKINGS: &str = "select id, room, span from booking order by id";

fn booking(action: &str, lsn: u64, id: u64, span: &str) -> Message {
    let record = format!(r#"{{"id":{id},"room":1,"span":"{span}"}}"#);
    Message::new(action, "booking", lsn, record)
}

#[test]
fn a_row_waits_for_the_row_that_excludes_it() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("exclusion", BOOKING, &["booking"], guard);
        send(&mut client, &[booking("insert", 1, 1, "[1,5)")]);
        let counts = send(&mut client, &[booking("insert", 3, 2, "[4,9)")]);
        assert_eq!(counts.dead, 1, "{guard}");
        assert_eq!(
            rows(
                &mut client,
                "select state, sqlstate, waits_on::text, waits_for is not null from sequin.dead_letter"
            ),
            ["waiting|23P01|booking|t"],
            "{guard}"
        );
        send(&mut client, &[booking("update", 2, 1, "[1,4)")]);
        assert_eq!(
            rows(&mut client, BOOKINGS),
            ["1|1|[1,4)", "2|1|[4,9)"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// Its own old row excludes the new one until it goes.
#[test]
fn a_row_with_an_exclusion_constraint_changes_its_key() {
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("exclusion_key", BOOKING, &["booking"], guard);
        send(&mut client, &[booking("insert", 1, 1, "[1,5)")]);
        let moved = booking("update", 2, 2, "[2,5)").changes(r#"{"id":1,"span":"[1,5)"}"#);
        let counts = send(&mut client, &[moved]);
        assert_eq!((counts.upserted, counts.dead), (1, 0), "{guard}");
        assert_eq!(rows(&mut client, BOOKINGS), ["2|1|[2,5)"], "{guard}");
    }
}

/// The source moved them apart by a third place.
#[test]
fn rows_exchange_their_places_by_a_third_one() {
    for guard in GUARDS {
        let (_database, mut client) =
            Database::mapped("exclusion_swap", BOOKING, &["booking"], guard);
        send(
            &mut client,
            &[
                booking("insert", 1, 1, "[1,5)"),
                booking("insert", 2, 2, "[5,9)"),
            ],
        );
        let steps = [
            booking("update", 3, 1, "[20,24)"),
            booking("update", 4, 2, "[1,5)"),
            booking("update", 5, 1, "[5,9)"),
        ];
        send(&mut client, &steps);
        assert_eq!(
            rows(&mut client, BOOKINGS),
            ["1|1|[5,9)", "2|1|[1,5)"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// In any order, one message a call.
#[test]
fn rows_that_follow_each_other_arrive_in_any_order() {
    let history = [
        booking("insert", 1, 1, "[1,5)"),
        booking("update", 2, 1, "[10,15)"),
        booking("insert", 3, 2, "[1,5)"),
        booking("delete", 4, 2, "[1,5)"),
        booking("insert", 5, 3, "[3,6)"),
    ];
    // Without a guard the order of arrival decides.
    for guard in GUARDS.into_iter().filter(|guard| *guard != "off") {
        for first in 0..history.len() {
            let (_database, mut client) =
                Database::mapped("exclusion_order", BOOKING, &["booking"], guard);
            for i in 0..history.len() {
                send(
                    &mut client,
                    &[&history[(first + history.len() - i) % history.len()]],
                );
            }
            retry(&mut client, "");
            assert_eq!(
                rows(&mut client, BOOKINGS),
                ["1|1|[10,15)", "3|1|[3,6)"],
                "{guard}, from {first}"
            );
            assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}, from {first}");
        }
    }
}
