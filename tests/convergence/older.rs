//! Messages of Sequin 0.6.77 to 0.8.15: `commit_lsn` without `commit_idx`.

use support::{apply, batch, rows};

use super::{GUARDS, ITEM, mapped};

/// A change at this position; `ikey` is the idempotency key.
fn change(action: &str, lsn: u64, id: u64, name: &str, ikey: Option<u64>) -> String {
    let ikey = ikey.map_or(String::new(), |ikey| {
        format!(r#","idempotency_key":"{ikey}""#)
    });
    format!(
        r#"{{"action":"{action}","record":{{"id":{id},"name":"{name}"}},"changes":null,"metadata":{{
            "table_schema":"public","table_name":"item","commit_timestamp":"2026-01-01T00:00:00Z",
            "commit_lsn":{lsn}{ikey},"database_name":"shop"}}}}"#
    )
}

#[test]
fn changes_of_one_transaction_apply_in_the_order_of_the_batch() {
    for guard in GUARDS {
        for named in [true, false] {
            let (_database, mut client) = mapped(&format!("older_batch_{named}"), ITEM, guard);
            let key = |key| named.then_some(key);
            let whole = batch(&[
                change("insert", 5, 1, "a", key(1)),
                change("update", 5, 1, "b", key(2)),
                change("insert", 5, 2, "x", key(3)),
                change("delete", 5, 2, "x", key(4)),
                change("insert", 5, 3, "y", key(5)),
                change("delete", 5, 3, "y", key(6)),
                change("insert", 5, 3, "z", key(7)),
            ]);
            let names = "select id, name from item order by id";
            apply(&mut client, &whole);
            assert_eq!(rows(&mut client, names), ["1|b", "3|z"], "{guard}");
            let again = apply(&mut client, &whole);
            assert_eq!((again.stale, again.received), (7, 7), "{guard} {named}");
            assert_eq!(rows(&mut client, names), ["1|b", "3|z"], "{guard}");
            // other transactions are ordered by their position
            let older = change("update", 4, 1, "old", key(8));
            assert_eq!(apply(&mut client, &older).stale, 1, "{guard}");
            let newer = change("update", 6, 1, "c", key(9));
            assert_eq!(apply(&mut client, &newer).upserted, 1, "{guard}");
            assert_eq!(apply(&mut client, &whole).stale, 7, "{guard}");
        }
    }
}

#[test]
fn changes_of_one_transaction_apply_from_batch_to_batch() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("older_batches", ITEM, guard);
        for (n, (action, name)) in [
            ("insert", "a"),
            ("update", "b"),
            ("update", "a"),
            ("delete", "a"),
            ("insert", "c"),
        ]
        .into_iter()
        .enumerate()
        {
            let one = change(action, 5, 1, name, Some(n as u64));
            let counts = apply(&mut client, &one);
            assert_eq!(counts.upserted + counts.deleted, 1, "{guard} {n}");
            assert_eq!(apply(&mut client, &one).stale, 1, "{guard} {n}");
            let there = rows(&mut client, "select name from item");
            match action {
                "delete" => assert!(there.is_empty(), "{guard}"),
                _ => assert_eq!(there, [name], "{guard} {n}"),
            }
        }
    }
}

#[test]
fn the_idempotency_key_tells_a_repetition_in_a_batch() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("older_repeated", ITEM, guard);
        let (one, two, three) = (
            change("update", 5, 1, "a", Some(1)),
            change("update", 5, 1, "b", Some(2)),
            change("update", 5, 1, "a", Some(3)),
        );
        apply(&mut client, &batch(&[&one, &two, &one]));
        assert_eq!(rows(&mut client, "select name from item"), ["b"], "{guard}");
        apply(&mut client, &batch(&[&one, &two, &three]));
        assert_eq!(rows(&mut client, "select name from item"), ["a"], "{guard}");
        // without a key, the order alone counts
        let nameless = ["p", "q", "p"].map(|name| change("update", 6, 1, name, None));
        apply(&mut client, &batch(&nameless));
        assert_eq!(rows(&mut client, "select name from item"), ["p"], "{guard}");
    }
}

#[test]
fn a_position_with_an_index_is_newer_than_one_without() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("older_mixed", ITEM, guard);
        apply(&mut client, &change("update", 5, 1, "a", Some(1)));
        let indexed = change("update", 5, 1, "b", Some(2))
            .replace(r#""commit_lsn":5"#, r#""commit_lsn":5,"commit_idx":0"#);
        assert_eq!(apply(&mut client, &indexed).upserted, 1, "{guard}");
        let late = change("update", 5, 1, "a", Some(1));
        assert_eq!(apply(&mut client, &late).stale, 1, "{guard}");
        assert_eq!(rows(&mut client, "select name from item"), ["b"], "{guard}");
    }
}
