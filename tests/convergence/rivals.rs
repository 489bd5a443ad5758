//! Two mappings write the same columns of one table: their changes are not compared, so that a row comes by one of them.

use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{Database, Message, deleted, rows, run, send, stale, upserted, value};

const SHOPS: [&str; 2] = ["shop_a", "shop_b"];

fn mapped(test: &str, more: [&str; 2]) -> (Database, Client) {
    let database = Database::new(&format!("convergence_rivals_{test}"));
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error; create table item (id integer primary key, name text)",
    );
    for (table, more) in SHOPS.iter().zip(more) {
        run(
            &mut client,
            &format!(
                "select sequin.map('public.{table}', 'item', name => '{table}', guard => 'table'{more})"
            ),
        );
    }
    (database, client)
}

fn item(action: &str, table: &str, lsn: u64, id: i64, name: &str) -> Message {
    let record = format!(r#"{{"id":{id},"name":"{name}"}}"#);
    Message::new(action, table, lsn, record)
}

const ITEMS: &str = "select id, name from item order by id";

const LETTERS: &str =
    "select mapping, state, sqlstate, key, error, hint like '%one mapping with a wildcard%'
     from sequin.dead_letter order by id";

#[test]
fn rows_that_come_by_one_mapping_are_written() {
    let (_database, mut client) = mapped("apart", ["", ""]);
    let messages = [
        item("insert", "shop_a", 1, 1, "a"),
        item("insert", "shop_b", 2, 2, "b"),
        item("update", "shop_a", 3, 1, "c"),
        item("delete", "shop_b", 4, 2, "b"),
        item("insert", "shop_b", 5, 3, "d"),
        item("read", "shop_a", 1_000, 4, "e"),
    ];
    for message in messages.iter().rev() {
        assert_eq!(send(&mut client, &[message]).dead, 0);
    }
    assert_eq!(rows(&mut client, ITEMS), ["1|c", "3|d", "4|e"]);
    // A resync of one leaves the rows of the other alone.
    run(&mut client, "select sequin.begin_resync('shop_b')");
    send(&mut client, &[item("read", "shop_b", 2_000, 5, "f")]);
    let finish = "select sequin.finish_resync('shop_b', min_confirmed => 0)";
    assert_eq!(value(&mut client, finish), "1");
    assert_eq!(rows(&mut client, ITEMS), ["1|c", "4|e", "5|f"]);
}

#[test]
fn a_row_that_comes_by_both_is_a_letter() {
    let (_database, mut client) = mapped("meet", ["", ""]);
    send(&mut client, &[item("insert", "shop_a", 9, 1, "new")]);
    // Not the older change, nor a read; other rows of the batch are written.
    let both = [
        item("insert", "shop_b", 5, 1, "old"),
        item("insert", "shop_b", 6, 2, "b"),
    ];
    let counts = send(&mut client, &both);
    assert_eq!((counts.dead, counts.upserted), (1, 1));
    let read = item("read", "shop_b", 1_000, 1, "x");
    assert_eq!(send(&mut client, &[read]).dead, 1);
    assert_eq!(rows(&mut client, ITEMS), ["1|new", "2|b"]);
    let letter = "shop_b|dead|21000|[\"1\"]|the row of public.item came by mapping \"shop_a\"|t";
    let letters = rows(&mut client, LETTERS);
    assert!(
        letters.iter().all(|found| found == letter) && !letters.is_empty(),
        "{letters:?}"
    );
    let state = "select state from sequin.status where name = 'shop_b'";
    assert_eq!(value(&mut client, state), "running");
    // One mapping compares them all, and takes the letters.
    run(
        &mut client,
        "select sequin.unmap('shop_b'); select sequin.alter_mapping('shop_a', source => 'public.shop_*');
         select sequin.retry(id) from sequin.dead_letter order by id",
    );
    assert_eq!(rows(&mut client, ITEMS), ["1|x", "2|b"]);
    assert!(rows(&mut client, LETTERS).is_empty());
    let old = item("update", "shop_a", 8, 1, "old");
    assert_eq!(send(&mut client, &[old]), stale(1));
}

/// In one call, and in two calls at the same time.
#[test]
fn a_row_that_comes_by_both_at_once_is_a_letter() {
    let (database, mut client) = mapped("at_once", ["", ""]);
    let both = [
        item("insert", "shop_a", 1, 1, "a"),
        item("insert", "shop_b", 2, 1, "b"),
    ];
    let counts = send(&mut client, &both);
    assert_eq!((counts.dead, counts.upserted), (1, 1));
    run(&mut client, "begin");
    send(&mut client, &[item("insert", "shop_a", 3, 2, "a")]);
    let mut other = database.connect();
    let sent = thread::spawn(move || send(&mut other, &[item("insert", "shop_b", 4, 2, "b")]));
    let end = Instant::now() + Duration::from_secs(30);
    while !sent.is_finished() {
        assert!(Instant::now() < end);
        thread::yield_now();
    }
    assert_eq!(sent.join().expect("the call ends").dead, 1);
    run(&mut client, "commit");
    assert_eq!(rows(&mut client, ITEMS), ["1|a", "2|a"]);
}

/// A table, and a partition of it.
#[test]
fn a_partition_has_rows_of_its_table() {
    for (first, second) in [("item", "item_1"), ("item_1", "item")] {
        let database = Database::new(&format!("convergence_rivals_{first}"));
        let mut client = database.connect();
        run(
            &mut client,
            &format!(
                "set client_min_messages = error;
                 create table item (id integer primary key, name text) partition by range (id);
                 create table item_1 partition of item for values from (0) to (100);
                 create table item_2 partition of item for values from (100) to (200);
                 select sequin.map('public.shop_a', '{first}', name => 'shop_a', guard => 'table');
                 select sequin.map('public.shop_b', '{second}', name => 'shop_b', guard => 'table');
                 select sequin.map('public.shop_c', 'item_2', name => 'shop_c', guard => 'table')"
            ),
        );
        send(&mut client, &[item("insert", "shop_a", 9, 1, "new")]);
        let old = item("insert", "shop_b", 5, 1, "old");
        assert_eq!(send(&mut client, &[old]).dead, 1, "{first}");
        let apart = item("insert", "shop_c", 5, 101, "apart");
        assert_eq!(send(&mut client, &[apart]), upserted(1), "{first}");
        assert_eq!(rows(&mut client, ITEMS), ["1|new", "101|apart"], "{first}");
    }
}

/// Who says that the rows are others is taken at his word.
#[test]
fn filters_say_that_no_row_comes_by_both() {
    let filters = [
        ", filter => '(record->>''id'')::int < 100'",
        ", filter => '(record->>''id'')::int >= 100'",
    ];
    let (_database, mut client) = mapped("filters", filters);
    send(&mut client, &[item("insert", "shop_a", 1, 1, "a")]);
    let counts = send(&mut client, &[item("insert", "shop_b", 3, 100, "b")]);
    assert_eq!((counts.dead, counts.upserted), (0, 1));
    assert_eq!(rows(&mut client, ITEMS), ["1|a", "100|b"]);
    let update = item("update", "shop_a", 4, 1, "c");
    assert_eq!(send(&mut client, &[update]), upserted(1));
}

/// A delete by the other mapping, before and after: it removes nothing, and is no reason to refuse the row.
#[test]
fn a_delete_leaves_the_row_of_the_other() {
    for deletes_first in [true, false] {
        let (_database, mut client) = mapped(&format!("delete_{deletes_first}"), ["", ""]);
        let mut messages = [
            item("insert", "shop_a", 1, 1, "a"),
            item("delete", "shop_b", 2, 1, "b"),
        ];
        if deletes_first {
            messages.reverse();
        }
        for message in &messages {
            assert_eq!(send(&mut client, &[message]).dead, 0);
        }
        let update = item("update", "shop_a", 3, 1, "c");
        assert_eq!(send(&mut client, &[update]), upserted(1));
        assert_eq!(rows(&mut client, ITEMS), ["1|c"]);
        let delete = item("delete", "shop_a", 4, 1, "c");
        assert_eq!(send(&mut client, &[delete]), deleted(1));
        assert!(rows(&mut client, ITEMS).is_empty());
        // What has gone from the one may come by the other.
        let insert = item("insert", "shop_b", 5, 1, "d");
        assert_eq!(send(&mut client, &[insert]), upserted(1));
    }
}

/// Rows that came by both before that was checked.
#[test]
fn rows_that_both_have_go_on_as_before() {
    let filters = [", filter => 'true'", ", filter => 'not false'"];
    let (_database, mut client) = mapped("before", filters);
    for id in 1..=3 {
        send(&mut client, &[item("insert", "shop_a", 1, id, "a")]);
        send(&mut client, &[item("insert", "shop_b", 2, id, "b")]);
    }
    run(
        &mut client,
        "select sequin.alter_mapping('shop_a', reset => '{filter}'), sequin.alter_mapping('shop_b', reset => '{filter}')",
    );
    let update = item("update", "shop_a", 3, 1, "c");
    assert_eq!(send(&mut client, &[update]), upserted(1));
    let update = item("update", "shop_b", 4, 1, "d");
    assert_eq!(send(&mut client, &[update]), upserted(1));
    let record = r#"{"id":2,"name":"unchanged_toast"}"#;
    let partial = Message::new("update", "shop_b", 5, record);
    assert_eq!(send(&mut client, &[partial]), upserted(1));
    assert_eq!(rows(&mut client, ITEMS), ["1|d", "2|b", "3|b"]);
    // A resync of one leaves them to the other.
    run(&mut client, "select sequin.begin_resync('shop_a')");
    let finish = "select sequin.finish_resync('shop_a', min_confirmed => 0)";
    assert_eq!(value(&mut client, finish), "3");
    assert_eq!(rows(&mut client, ITEMS), ["1|d", "2|b", "3|b"]);
    send(&mut client, &[item("insert", "shop_a", 1_000, 3, "b")]);
    // The last one removes the row.
    send(&mut client, &[item("delete", "shop_a", 1_001, 3, "b")]);
    assert_eq!(rows(&mut client, ITEMS), ["1|d", "2|b", "3|b"]);
    send(&mut client, &[item("delete", "shop_b", 7, 3, "b")]);
    assert_eq!(rows(&mut client, ITEMS), ["1|d", "2|b"]);
}

/// A row of the other mapping, in a circle of values that are unique.
#[test]
fn a_row_of_the_other_is_not_written_together_with_own_ones() {
    let (_database, mut client) = mapped("circle", ["", ""]);
    run(&mut client, "alter table item add unique (name)");
    send(&mut client, &[item("insert", "shop_a", 1, 1, "a")]);
    let own = [
        item("insert", "shop_b", 2, 5, "p"),
        item("insert", "shop_b", 3, 6, "q"),
    ];
    send(&mut client, &own);
    let circle = [
        item("update", "shop_b", 4, 5, "q"),
        item("update", "shop_b", 5, 6, "a"),
        item("update", "shop_b", 6, 1, "p"),
    ];
    assert!(send(&mut client, &circle).dead > 0);
    let name = "select name from item where id = 1";
    assert_eq!(value(&mut client, name), "a");
}

/// A key change to the key of a row that the other mapping has, though someone removed it by hand.
#[test]
fn a_row_does_not_move_to_the_key_of_the_other() {
    let (_database, mut client) = mapped("moves", ["", ""]);
    send(&mut client, &[item("insert", "shop_a", 1, 1, "a")]);
    run(&mut client, "delete from item where id = 1");
    send(&mut client, &[item("insert", "shop_b", 2, 5, "b")]);
    let moved = |to: i64| item("update", "shop_b", 3, to, "b").changes(r#"{"id":5}"#);
    assert_eq!(send(&mut client, &[moved(1)]).dead, 1);
    assert_eq!(rows(&mut client, ITEMS), ["5|b"]);
}

/// A resync of a mapping to a table leaves the rows of a mapping to its partition alone, and the other way round.
#[test]
fn a_resync_leaves_rows_of_a_partition_alone() {
    let database = Database::new("convergence_rivals_resync");
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table item (id integer primary key, name text) partition by range (id);
         create table item_1 partition of item for values from (0) to (100);
         select sequin.map('public.shop_a', 'item', name => 'shop_a', guard => 'table');
         select sequin.map('public.shop_b', 'item_1', name => 'shop_b', guard => 'table')",
    );
    let both = [
        item("insert", "shop_a", 1, 1, "a"),
        item("insert", "shop_b", 2, 2, "b"),
    ];
    for (name, left) in [("shop_a", "2|b"), ("shop_b", "1|a")] {
        send(&mut client, &both);
        run(
            &mut client,
            &format!("select sequin.begin_resync('{name}')"),
        );
        let finish = format!("select sequin.finish_resync('{name}', min_confirmed => 0)");
        assert_eq!(value(&mut client, &finish), "1");
        assert_eq!(rows(&mut client, ITEMS), [left]);
        run(
            &mut client,
            "truncate item; select sequin.forget_versions('shop_a'), sequin.forget_versions('shop_b')",
        );
    }
}
