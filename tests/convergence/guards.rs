//! Where versions are kept, how large they can be, and that what comes again is stale.

use std::slice::from_ref;
use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use support::{Database, config, error, rows, run, send, stale, upserted, value};

use super::{GUARDS, ITEM, ITEMS, document, item, map, mapped, moved, record, row};

/// A connection that keeps the notices.
pub fn with_notices(database: &Database) -> (Client, Arc<Mutex<Vec<String>>>) {
    let notices = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&notices);
    let mut config = config(database.name(), None);
    config.notice_callback(move |notice| {
        let text = format!(
            "{}; {}",
            notice.message(),
            notice.hint().unwrap_or_default()
        );
        kept.lock().expect("the notices").push(text);
    });
    (config.connect(NoTls).expect("a connection"), notices)
}

#[test]
fn where_versions_are_kept() {
    let database = Database::new("convergence_places");
    let (mut client, notices) = with_notices(&database);
    let taken = || std::mem::take(&mut *notices.lock().expect("the notices"));
    let columns = |client: &mut Client, table: &str| {
        let sql = format!(
            "select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum)
             from pg_attribute where attrelid = '{table}'::regclass and attname like 'sequin%' and not attisdropped"
        );
        value(client, &sql)
    };
    let three =
        "sequin_lsn bigint, sequin_idx integer, sequin_committed_at timestamp with time zone";
    run(&mut client, ITEM);

    map(&mut client, "item", "auto", "");
    let notice = taken().join("\n");
    assert!(
        notice.contains("sequin.row_version") && notice.contains("guard => 'columns'"),
        "{notice}"
    );
    assert_eq!(columns(&mut client, "item"), "null");
    send(&mut client, &[item("insert", 10, record(1, "a"))]);
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "1"
    );

    run(&mut client, "select sequin.unmap('item'); truncate item");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "0"
    );
    let notice = taken().join("\n");
    assert!(notice.starts_with("the versions of 1 rows"), "{notice}");
    map(&mut client, "item", "columns", "");
    assert_eq!(taken(), [""; 0]);
    assert_eq!(columns(&mut client, "item"), three);
    map(&mut client, "item", "columns", "");
    assert_eq!(columns(&mut client, "item"), three);
    send(&mut client, &[item("insert", 10, record(1, "a")).idx(3)]);
    assert_eq!(
        value(
            &mut client,
            "select sequin_lsn, sequin_idx, extract(epoch from sequin_committed_at - '2026-01-01Z')::int from item"
        ),
        "10|3|10"
    );
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "0"
    );

    taken();
    map(&mut client, "item", "auto", "");
    let notice = taken().join("\n");
    assert!(
        notice.contains("sequin_lsn") && notice.contains("guard => 'table'"),
        "{notice}"
    );
    assert_eq!(
        send(&mut client, &[item("insert", 10, record(1, "b")).idx(2)]),
        stale(1)
    );
    assert_eq!(
        value(&mut client, "select count(*) from sequin.row_version"),
        "0"
    );

    // Another type of that name is refused, and nothing is left behind.
    run(
        &mut client,
        "create table other (id integer primary key, sequin_idx text)",
    );
    let error = error(
        &mut client,
        "select sequin.map('public.other', 'other', guard => 'columns')",
    );
    assert!(
        error.code().code().starts_with("42") || error.code().code().starts_with("22"),
        "{error:?}"
    );
    assert_eq!(columns(&mut client, "other"), "sequin_idx text");
    taken();
    map(&mut client, "other", "table", "");
    assert_eq!(taken(), [""; 0]);
}

#[test]
fn positions_are_large_numbers() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("large", ITEM, guard);
        let top = i64::MAX as u64;
        let at =
            |lsn: u64, idx, name: &str| item("update", lsn, record(1, name)).at(1_000).idx(idx);
        assert_eq!(
            send(&mut client, &[at(top - 1, 0, "a")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[at(top, 0, "b")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[at(top - 1, 5, "c")]),
            stale(1),
            "{guard}"
        );
        let most = u64::from(u16::MAX) * 32_767;
        assert_eq!(
            send(&mut client, &[at(top, most, "d")]),
            upserted(1),
            "{guard}"
        );
        assert_eq!(
            send(&mut client, &[at(top, most - 1, "e")]),
            stale(1),
            "{guard}"
        );
        assert_eq!(rows(&mut client, ITEMS), [row(1, "d")], "{guard}");
    }
}

#[test]
fn what_comes_again_is_stale() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("again", ITEM, guard);
        let messages = [
            item("insert", 10, record(1, "a")),
            item("insert", 11, record(2, "a")),
            item("delete", 12, record(3, "a")),
            moved(13, 0, 4, 5, "a"),
            item("update", 14, document(6, "a", "unchanged_toast")),
            item("read", 100, record(7, "a")),
        ];
        for message in &messages {
            let counts = send(&mut client, from_ref(message));
            assert_eq!(counts.stale, 0, "{guard}: {counts:?}");
            assert_eq!(
                send(&mut client, from_ref(message)),
                stale(1),
                "{guard} {message:?}"
            );
        }
        let places = rows(&mut client, "select ctid, xmin from item");
        assert_eq!(send(&mut client, &messages), stale(6), "{guard}");
        assert_eq!(
            rows(&mut client, "select ctid, xmin from item"),
            places,
            "{guard}"
        );
        // twice in one call
        for message in [
            item("update", 20, record(1, "b")),
            item("delete", 21, record(2, "a")),
        ] {
            let counts = send(&mut client, &[message.clone(), message.clone()]);
            assert_eq!(
                (counts.upserted + counts.deleted, counts.stale),
                (1, 1),
                "{guard}: {counts:?}"
            );
            assert_eq!(
                send(&mut client, &[message.clone(), message]),
                stale(2),
                "{guard}"
            );
        }
    }
}

/// `collapsed` says that a newer change of the batch decided. Where none decided, all are stale.
#[test]
fn a_batch_that_comes_again_is_stale() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("batch_again", ITEM, guard);
        let messages = [
            item("insert", 10, record(1, "a")),
            item("update", 11, record(1, "b")),
        ];
        let counts = send(&mut client, &messages);
        assert_eq!(
            (counts.upserted, counts.collapsed),
            (1, 1),
            "{guard}: {counts:?}"
        );
        // bug: collapsed 1, stale 1
        assert_eq!(send(&mut client, &messages), stale(2), "{guard}");
    }
}
