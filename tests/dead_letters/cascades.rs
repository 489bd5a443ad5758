//! Foreign keys that cascade.

use support::{Database, GUARDS, Message, message, rows, run, send, value};

use super::LETTERS;

const CASCADE: &str = "
    create table parent (id integer primary key, slug text unique);
    create table child (id integer primary key, parent_id integer not null references parent on delete cascade on update cascade);
    create table note (parent_id integer references parent on delete set null);";

/// A referring row may be newer than the delete of the row that it refers to.
#[test]
fn deletes_do_not_take_along_what_is_newer() {
    for guard in ["columns", "table"] {
        let (_database, mut client) =
            Database::mapped("cascade", CASCADE, &["parent", "child"], guard);
        let parent = |action: &str, lsn: u64, slug: &str| {
            message(
                action,
                "parent",
                lsn,
                &format!(r#"{{"id":1,"slug":"{slug}"}}"#),
            )
        };
        send(&mut client, &[parent("insert", 1, "a")]);
        run(&mut client, "insert into note values (1)");
        // The parent was deleted at 10 and came back at 20 with a child, which arrives first.
        send(
            &mut client,
            &[message("insert", "child", 21, r#"{"id":7,"parent_id":1}"#)],
        );
        assert_eq!(
            send(&mut client, &[parent("delete", 10, "a")]).dead,
            1,
            "{guard}"
        );
        assert_eq!(
            value(&mut client, "select count(*) from child"),
            "1",
            "{guard}"
        );
        send(&mut client, &[parent("insert", 20, "b")]);
        assert_eq!(
            rows(&mut client, "select id, slug from parent"),
            ["1|b"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        // Now they go, the parent first. No mapping writes the notes: the database handles them.
        assert_eq!(
            send(&mut client, &[parent("delete", 30, "b")]).dead,
            1,
            "{guard}"
        );
        let delete = message("delete", "child", 30, r#"{"id":7,"parent_id":1}"#);
        assert_eq!(send(&mut client, &[delete]).deleted, 1, "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from parent"),
            "0",
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, "select parent_id from note"),
            ["null"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// Parent and child change their keys in messages of their own, in both orders.
#[test]
fn a_key_that_is_referred_to_moves() {
    for guard in ["columns", "table"] {
        for parent_first in [true, false] {
            let (_database, mut client) =
                Database::mapped("moves2", CASCADE, &["parent", "child"], guard);
            send(
                &mut client,
                &[
                    message("insert", "parent", 1, r#"{"id":1,"slug":"a"}"#),
                    message("insert", "child", 2, r#"{"id":7,"parent_id":1}"#),
                ],
            );
            let mut messages = [
                Message::new("update", "parent", 3, r#"{"id":2,"slug":"a"}"#)
                    .changes(r#"{"id":1}"#)
                    .to_string(),
                Message::new("update", "child", 4, r#"{"id":7,"parent_id":2}"#)
                    .changes(r#"{"parent_id":1}"#)
                    .to_string(),
            ];
            if !parent_first {
                messages.reverse();
            }
            for message in messages {
                send(&mut client, &[message]);
            }
            assert_eq!(
                rows(&mut client, "select id, slug from parent"),
                ["2|a"],
                "{guard}"
            );
            assert_eq!(
                rows(&mut client, "select id, parent_id from child"),
                ["7|2"],
                "{guard}"
            );
            assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        }
    }
}

/// A row that was deleted and inserted again is a new row, although others refer to its key.
#[test]
fn what_replaces_a_row_leaves_nothing_of_it() {
    for guard in GUARDS {
        let ddl = "create table parent (id integer primary key, slug text, mark text default 'new');
                   create table child (id integer primary key, parent_id integer references parent);";
        let (_database, mut client) = Database::mapped("replace", ddl, &["parent", "child"], guard);
        send(
            &mut client,
            &[message("insert", "parent", 1, r#"{"id":1,"slug":"a"}"#)],
        );
        send(
            &mut client,
            &[message("insert", "child", 4, r#"{"id":1,"parent_id":1}"#)],
        );
        run(&mut client, "update parent set mark = 'old'");
        let counts = send(
            &mut client,
            &[
                message("delete", "parent", 2, r#"{"id":1,"slug":"a"}"#),
                message("insert", "parent", 3, r#"{"id":1,"slug":"b"}"#),
            ],
        );
        assert_eq!(counts.dead, 0, "{guard}");
        assert_eq!(
            rows(&mut client, "select slug, mark from parent"),
            ["b|new"],
            "{guard}"
        );
    }
}
