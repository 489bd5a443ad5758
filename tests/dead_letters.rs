//! Dead letters heal: by themselves when what they wait for comes, when somebody says so, or because a newer change
//! of their row makes them void.

mod support;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postgres::Client;
use support::{
    Counts, Database, Random, apply, batch, error, message, message_with, rows, run, try_apply,
    value,
};

const GUARDS: [&str; 3] = ["columns", "table", "off"];

const LETTERS: &str = "select state, sqlstate, key from sequin.dead_letter order by id";

/// A database with these tables, each mapped to the source table of its name.
fn mapped(test: &str, ddl: &str, tables: &[&str], guard: &str) -> (Database, Client) {
    let database = Database::new(test);
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    run(&mut client, ddl);
    for table in tables {
        run(
            &mut client,
            &format!(
                "select sequin.map('public.{table}', '{table}', guard => '{guard}', name => '{table}')"
            ),
        );
    }
    (database, client)
}

fn send(client: &mut Client, messages: &[String]) -> Counts {
    let counts = apply(client, &batch(messages));
    assert_eq!(counts.received, messages.len() as i64);
    assert_eq!(counts.outcomes(), counts.received, "{counts:?}");
    counts
}

/// What `sequin.retry` returns, as `received|upserted|stale|dead`.
fn retry(client: &mut Client, which: &str) -> String {
    value(
        client,
        &format!(
            "select concat_ws('|', received, upserted, stale, dead) from sequin.retry({which})"
        ),
    )
}

const FAMILY: &str = "
    create table grandparent (id integer primary key, name text);
    create table parent (id bigint primary key, grandparent_id integer not null references grandparent, name text);
    create table child (id integer primary key, parent_id integer references parent, name text);";

const FAMILIES: &[&str] = &["grandparent", "parent", "child"];

#[test]
fn children_wait_for_their_parents() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("parents", FAMILY, FAMILIES, guard);
        let child = |id: u64, parent: u64| {
            let record = format!(r#"{{"id":{id},"parent_id":{parent},"name":"c"}}"#);
            message("insert", "child", 100 + id, &record)
        };
        let parent = |id: u64, grandparent: u64| {
            let record = format!(r#"{{"id":{id},"grandparent_id":{grandparent},"name":"p"}}"#);
            message("insert", "parent", 50 + id, &record)
        };
        let counts = send(
            &mut client,
            &[child(1, 10), child(2, 20), parent(10, 7), child(3, 30)],
        );
        assert_eq!(counts.dead, 4, "{guard}");
        // A parent that is somebody else's changes nothing, and a call has only its own messages to count.
        run(&mut client, "insert into grandparent values (9)");
        assert_eq!(send(&mut client, &[parent(99, 9)]).upserted, 1, "{guard}");
        assert_eq!(
            value(&mut client, "select sum(attempts) from sequin.dead_letter"),
            "4",
            "{guard}: none of them was tried"
        );
        // The grandparent frees the parent, and that the child, in one call.
        let grandparent = message("insert", "grandparent", 7, r#"{"id":7,"name":"g"}"#);
        let counts = send(&mut client, &[grandparent]);
        assert_eq!((counts.upserted, counts.dead), (1, 0), "{guard}");
        assert_eq!(
            rows(&mut client, "select id, parent_id from child order by id"),
            ["1|10"],
            "{guard}"
        );
        assert_eq!(
            rows(&mut client, LETTERS),
            [
                "waiting|23503|[\"2\"]".to_owned(),
                "waiting|23503|[\"3\"]".to_owned()
            ],
            "{guard}"
        );
        // Its parent was made by somebody else: it is tried when it is asked for.
        run(&mut client, "insert into parent values (30, 9), (20, 9)");
        assert_eq!(retry(&mut client, "'child'"), "2|2|0|0", "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from child"),
            "3",
            "{guard}"
        );
    }
}

#[test]
fn a_parent_waits_until_its_children_are_gone() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("leave", FAMILY, FAMILIES, guard);
        run(&mut client, "insert into grandparent values (1)");
        send(
            &mut client,
            &[
                message(
                    "insert",
                    "parent",
                    1,
                    r#"{"id":1,"grandparent_id":1,"name":"p"}"#,
                ),
                message("insert", "child", 2, r#"{"id":1,"parent_id":1,"name":"c"}"#),
            ],
        );
        let delete = message(
            "delete",
            "parent",
            4,
            r#"{"id":1,"grandparent_id":null,"name":null}"#,
        );
        assert_eq!(send(&mut client, &[delete]).dead, 1, "{guard}");
        assert_eq!(
            rows(&mut client, LETTERS),
            ["waiting|23503|[\"1\"]"],
            "{guard}"
        );
        let delete = message(
            "delete",
            "child",
            3,
            r#"{"id":1,"parent_id":null,"name":null}"#,
        );
        assert_eq!(send(&mut client, &[delete]).deleted, 1, "{guard}");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from parent"),
            "0",
            "{guard}"
        );
    }
}

/// Tables that refer to each other, and a table that refers to itself.
#[test]
fn rows_in_a_circle_wait_for_each_other() {
    let ddl = "
        create table head (id integer primary key, tail_id integer not null);
        create table tail (id integer primary key, head_id integer not null references head deferrable);
        alter table head add foreign key (tail_id) references tail deferrable;
        create table node (id integer primary key, next integer references node);";
    for guard in GUARDS {
        let (_database, mut client) = mapped("circle", ddl, &["head", "tail", "node"], guard);
        send(
            &mut client,
            &[message("insert", "head", 1, r#"{"id":1,"tail_id":2}"#)],
        );
        send(
            &mut client,
            &[message("insert", "node", 1, r#"{"id":1,"next":2}"#)],
        );
        assert_eq!(rows(&mut client, LETTERS).len(), 2, "{guard}");
        send(
            &mut client,
            &[message("insert", "node", 2, r#"{"id":2,"next":1}"#)],
        );
        assert_eq!(
            rows(&mut client, "select id, next from node order by id"),
            ["1|2", "2|1"],
            "{guard}"
        );
        send(
            &mut client,
            &[message("insert", "tail", 2, r#"{"id":2,"head_id":1}"#)],
        );
        assert_eq!(
            rows(
                &mut client,
                "select head.id, tail.id from head join tail on tail_id = tail.id"
            ),
            ["1|2"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

fn item(action: &str, lsn: u64, id: u64, slug: &str) -> String {
    message(
        action,
        "item",
        lsn,
        &format!(r#"{{"id":{id},"slug":"{slug}"}}"#),
    )
}

const ITEM: &str = "create table item (id integer primary key, slug text not null unique)";

const ITEMS: &str = "select id, slug from item order by id";

#[test]
fn a_unique_value_is_waited_for() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("unique", ITEM, &["item"], guard);
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

/// Under a deferred constraint the source swaps values in one statement, which the destination's cannot.
#[test]
fn unique_values_are_swapped() {
    for guard in GUARDS {
        for ddl in [
            ITEM,
            "create table item (id integer primary key, slug text unique)",
            "create table item (id integer primary key, slug varchar(1) not null unique)",
        ] {
            let (_database, mut client) = mapped("swap", ddl, &["item"], guard);
            let all: Vec<String> = (1..=5)
                .zip(["a", "b", "c", "d", "e"])
                .map(|(id, slug)| item("insert", id, id, slug))
                .collect();
            send(&mut client, &all);
            // Two swap and three go round in one batch; one takes what it does not get.
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

/// What a row can do without the change that waits, it does: another may wait for that.
#[test]
fn older_changes_of_a_row_do_not_wait() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("older", ITEM, &["item"], guard);
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

/// Whatever the order in which changes arrive, one by one, unique values and foreign keys come right.
#[test]
fn any_order_comes_right() {
    let ddl = "
        create table parent (id integer primary key, slug text not null unique);
        create table child (id integer primary key, parent_id integer not null references parent);";
    for guard in ["columns", "table"] {
        for seed in 0..25 {
            let (_database, mut client) = mapped("order", ddl, &["parent", "child"], guard);
            let mut random = Random::new(seed);
            // The source, which holds to its constraints after each of its statements.
            let (mut slugs, mut children) = (vec![None; 5], vec![None; 5]);
            let mut messages = Vec::new();
            let slug = |i: u64| char::from(b'a' + i as u8);
            let of_parent = |action: &str, lsn: u64, id: usize, s: u64| {
                let record = format!(r#"{{"id":{id},"slug":"{}"}}"#, slug(s));
                message(action, "parent", lsn, &record)
            };
            let of_child = |action: &str, lsn: u64, id: usize, parent: usize| {
                let record = format!(r#"{{"id":{id},"parent_id":{parent}}}"#);
                message(action, "child", lsn, &record)
            };
            for lsn in 1..60 {
                let id = random.below(5) as usize;
                let free: Vec<u64> = (0..6).filter(|s| !slugs.contains(&Some(*s))).collect();
                let referred_to = children.contains(&Some(id));
                match (random.below(6), slugs[id], children[id]) {
                    (0 | 1, None, _) => {
                        let new = *random.of(&free);
                        slugs[id] = Some(new);
                        messages.push(of_parent("insert", lsn, id, new));
                    }
                    (0, Some(_), _) if !free.is_empty() => {
                        let new = *random.of(&free);
                        slugs[id] = Some(new);
                        messages.push(of_parent("update", lsn, id, new));
                    }
                    // Under a deferred constraint.
                    (1, Some(old), _) => {
                        let other = random.below(5) as usize;
                        if let Some(new) = slugs[other].filter(|new| *new != old) {
                            slugs[id] = Some(new);
                            slugs[other] = Some(old);
                            messages.push(of_parent("update", lsn, id, new));
                            messages.push(
                                of_parent("update", lsn, other, old)
                                    .replace("\"commit_idx\":0", "\"commit_idx\":1"),
                            );
                        }
                    }
                    (2, Some(old), _) if !referred_to => {
                        slugs[id] = None;
                        messages.push(of_parent("delete", lsn, id, old));
                    }
                    (3 | 4, _, child) => {
                        let parent = random.below(5) as usize;
                        if slugs[parent].is_some() {
                            children[id] = Some(parent);
                            let action = if child.is_some() { "update" } else { "insert" };
                            messages.push(of_child(action, lsn, id, parent));
                        }
                    }
                    (5, _, Some(parent)) => {
                        children[id] = None;
                        messages.push(of_child("delete", lsn, id, parent));
                    }
                    _ => {}
                }
            }
            random.shuffle(&mut messages);
            for messages in messages.chunks(1 + random.below(4) as usize) {
                send(&mut client, messages);
            }
            let parents: Vec<String> = slugs
                .iter()
                .enumerate()
                .filter_map(|(id, s)| s.map(|s| format!("{id}|{}", slug(s))))
                .collect();
            let at = format!("{guard}, seed {seed}");
            let letters = rows(
                &mut client,
                "select mapping, key, sqlstate, message::json->>'record', message::json->>'action', lsn, attempts from sequin.dead_letter",
            );
            assert_eq!(
                rows(&mut client, "select id, slug from parent order by id"),
                parents,
                "{at}: {letters:#?}"
            );
            let wanted: Vec<String> = children
                .iter()
                .enumerate()
                .filter_map(|(id, parent)| parent.map(|parent| format!("{id}|{parent}")))
                .collect();
            assert_eq!(
                rows(&mut client, "select id, parent_id from child order by id"),
                wanted,
                "{at}: {letters:#?}"
            );
            assert_eq!(letters, [""; 0], "{at}");
        }
    }
}

/// A child and its parent at the same moment, in two calls: neither sees the other's row.
#[test]
fn calls_at_the_same_moment_do_not_miss_each_other() {
    for guard in GUARDS {
        let (database, mut client) = mapped("moment", FAMILY, FAMILIES, guard);
        run(&mut client, "insert into grandparent values (1)");
        run(&mut client, "begin");
        let parent = message(
            "insert",
            "parent",
            1,
            r#"{"id":1,"grandparent_id":1,"name":"p"}"#,
        );
        send(&mut client, &[parent]);
        let (done, is_done) = mpsc::channel();
        let mut other = database.connect();
        let call = thread::spawn(move || {
            let child = message("insert", "child", 2, r#"{"id":1,"parent_id":1,"name":"c"}"#);
            let counts = apply(&mut other, &batch(&[child]));
            done.send(()).expect("somebody listens");
            counts
        });
        assert!(
            is_done.recv_timeout(Duration::from_millis(300)).is_err(),
            "{guard}: it waits"
        );
        run(&mut client, "commit");
        let counts = call.join().expect("no panic");
        assert_eq!((counts.upserted, counts.dead), (1, 0), "{guard}");
    }
}

/// Letters that nothing helps cost a call little, and each only so often.
#[test]
fn what_does_not_heal_is_tried_within_bounds() {
    let ddl = "create table item (id integer primary key, slug text, lower text generated always as (lower(slug)) stored);
               create unique index on item (lower(slug));";
    let (_database, mut client) = mapped("bounds", ddl, &["item"], "table");
    send(&mut client, &[item("insert", 1, 0, "A")]);
    let same: Vec<String> = (1..=300)
        .map(|id| item("insert", 10 + id, id, "a"))
        .collect();
    assert_eq!(send(&mut client, &same).dead, 300);
    assert_eq!(
        value(
            &mut client,
            "select count(*) from sequin.dead_letter where waits_for is null"
        ),
        "300",
        "who has the value of an expression cannot be told"
    );
    // Any write of the table may help: a hundred are tried, those that waited longest, twenty times at most.
    for i in 0..70 {
        send(&mut client, &[item("update", 1000 + i, 0, "A")]);
    }
    let attempts = "select min(attempts), max(attempts) from sequin.dead_letter";
    assert_eq!(rows(&mut client, attempts), ["20|20"]);
    send(&mut client, &[item("update", 2000, 0, "A")]);
    assert_eq!(rows(&mut client, attempts), ["20|20"]);
    // Then once a minute.
    run(
        &mut client,
        "update sequin.dead_letter set last_attempt_at = now() - interval '2 minutes' where id = 7",
    );
    send(&mut client, &[item("update", 2001, 0, "b")]);
    assert_eq!(value(&mut client, "select count(*) from item"), "2");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "299"
    );
}

const PRICED: &str =
    "create table item (id integer primary key, price integer check (price > 0), body text)";

fn priced(action: &str, lsn: u64, price: &str, body: &str) -> String {
    message(
        action,
        "item",
        lsn,
        &format!(r#"{{"id":1,"price":{price},"body":"{body}"}}"#),
    )
}

#[test]
fn newer_changes_supersede() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = mapped("supersede", PRICED, &["item"], guard);
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
            // An older change does not supersede it, another row's neither.
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
            // It comes late, and it does not matter what is wrong with it.
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
        let (_database, mut client) = mapped("copy", PRICED, &["item"], guard);
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

#[test]
fn letters_are_retried_and_discarded() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("retry", PRICED, &["item"], guard);
        let bad = |lsn: u64, id: u64, price: &str| {
            message(
                "insert",
                "item",
                lsn,
                &format!(r#"{{"id":{id},"price":{price},"body":"b"}}"#),
            )
        };
        send(
            &mut client,
            &[
                bad(10, 1, "-1"),
                bad(11, 2, "\"many\""),
                bad(12, 3, "-3"),
                message("insert", "other", 13, r#"{"id":1,"name":"o"}"#),
                "{}".to_owned(),
            ],
        );
        assert_eq!(retry(&mut client, ""), "5|0|0|5", "{guard}");
        assert_eq!(
            rows(
                &mut client,
                "select id, mapping, sqlstate, attempts from sequin.dead_letter order by id"
            ),
            [
                "1|item|23514|2",
                "2|item|22P02|2",
                "3|item|23514|2",
                "4|null|42704|2",
                "5|null|22023|2"
            ],
            "{guard}"
        );
        // Edited in place.
        run(
            &mut client,
            r#"update sequin.dead_letter set message = replace(message, '"many"', '2') where id = 2"#,
        );
        assert_eq!(retry(&mut client, "2"), "1|1|0|0", "{guard}");
        // A message of a table that is mapped now.
        run(
            &mut client,
            "create table other (id integer primary key, name text)",
        );
        run(
            &mut client,
            &format!("select sequin.map('public.other', 'other', guard => '{guard}')"),
        );
        assert_eq!(retry(&mut client, "4"), "1|1|0|0", "{guard}");
        assert_eq!(
            rows(&mut client, "select name from other"),
            ["o"],
            "{guard}"
        );
        // What an edit breaks.
        run(
            &mut client,
            "update sequin.dead_letter set message = 'oops' where id = 3",
        );
        assert_eq!(retry(&mut client, "3"), "1|0|0|1", "{guard}");
        assert_eq!(
            rows(
                &mut client,
                "select sqlstate, error, message, mapping from sequin.dead_letter where id = 3"
            )[0]
            .split_once('|')
            .expect("several")
            .0,
            "22023",
            "{guard}"
        );
        run(
            &mut client,
            "alter table item drop constraint item_price_check",
        );
        assert_eq!(retry(&mut client, "'item'"), "2|1|0|1", "{guard}");
        run(&mut client, "select sequin.discard(3)");
        run(&mut client, "select sequin.discard(5)");
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
        assert_eq!(
            rows(&mut client, "select id, price from item order by id"),
            ["1|-1", "2|2"],
            "{guard}"
        );
        for (sql, code) in [
            ("select sequin.retry(5)", "42704"),
            ("select sequin.discard(5)", "42704"),
            ("select sequin.retry('nobody')", "42704"),
            ("select sequin.discard(null)", "22004"),
            ("select sequin.retry(null::bigint)", "22004"),
            ("select sequin.retry(null::text)", "22004"),
        ] {
            let error = error(&mut client, sql);
            assert_eq!(error.code().code(), code, "{sql}");
        }
    }
}

#[test]
fn letters_are_their_owners() {
    let mut database = Database::new("owners");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    run(
        &mut client,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {alice}, {bob};
             grant create on schema public to {alice}, {bob}"
        ),
    );
    let mut clients = [(&alice, "a"), (&bob, "b")].map(|(role, table)| {
        let mut client = database.connect_as(role);
        run(&mut client, "set client_min_messages = error");
        run(
            &mut client,
            &format!("create table {table} (id integer primary key check (id > 0))"),
        );
        run(
            &mut client,
            &format!("select sequin.map('public.{table}', '{table}', name => '{table}')"),
        );
        client
    });
    send(
        &mut client,
        &[
            message("insert", "a", 1, r#"{"id":-1}"#),
            message("insert", "b", 2, r#"{"id":-1}"#),
            "{}".to_owned(),
        ],
    );
    run(
        &mut client,
        "alter table a drop constraint a_id_check; alter table b drop constraint b_id_check",
    );
    let [alice, bob] = &mut clients;
    for sql in [
        "select sequin.retry(2)",
        "select sequin.discard(2)",
        "select sequin.retry('b')",
        "select sequin.retry(3)",
    ] {
        assert_eq!(error(alice, sql).code().code(), "42704", "{sql}");
    }
    assert_eq!(retry(alice, ""), "1|1|0|0");
    assert_eq!(
        rows(&mut client, "select id from sequin.dead_letter order by 1"),
        ["2", "3"]
    );
    assert_eq!(retry(bob, "2"), "1|1|0|0");
    assert_eq!(rows(bob, "select id from b"), ["-1"]);
    assert_eq!(retry(&mut client, ""), "1|0|0|1");
}

/// A paused mapping keeps its letters: by themselves they are not tried, and who asks is told.
#[test]
fn letters_of_a_paused_mapping_wait() {
    let (_database, mut client) = mapped("paused", FAMILY, FAMILIES, "table");
    send(
        &mut client,
        &[message(
            "insert",
            "child",
            2,
            r#"{"id":1,"parent_id":1,"name":"c"}"#,
        )],
    );
    run(&mut client, "insert into grandparent values (1)");
    run(
        &mut client,
        "update sequin.mapping set enabled = false where name = 'child'",
    );
    let parent = |lsn: u64| {
        let record = r#"{"id":1,"grandparent_id":1,"name":"p"}"#;
        message("insert", "parent", lsn, record)
    };
    assert_eq!(send(&mut client, &[parent(1)]).upserted, 1);
    assert_eq!(retry(&mut client, ""), "0|0|0|0");
    assert_eq!(
        error(&mut client, "select sequin.retry('child')")
            .code()
            .code(),
        "55000"
    );
    run(
        &mut client,
        "update sequin.mapping set enabled = true where name = 'child'",
    );
    assert_eq!(send(&mut client, &[parent(3)]).upserted, 1);
    assert_eq!(value(&mut client, "select count(*) from child"), "1");
}

/// A key that moves, with the letter of its arrival, under REPLICA IDENTITY FULL.
#[test]
fn a_key_change_waits_as_one() {
    for guard in ["columns", "table"] {
        let ddl = "create table parent (id integer primary key);
                   create table item (id integer primary key, parent_id integer references parent, slug text)";
        let (_database, mut client) = mapped("moves", ddl, &["parent", "item"], guard);
        let of =
            |id: u64, parent: &str| format!(r#"{{"id":{id},"parent_id":{parent},"slug":"a"}}"#);
        send(&mut client, &[message("insert", "item", 1, &of(1, "null"))]);
        let moved = message_with(
            "update",
            "item",
            2,
            &of(2, "7"),
            r#"{"id":1,"parent_id":null}"#,
        );
        let counts = send(&mut client, &[moved]);
        assert_eq!(counts.dead, 1, "{guard}");
        assert_eq!(rows(&mut client, "select id from item"), ["1"], "{guard}");
        send(
            &mut client,
            &[message("insert", "parent", 3, r#"{"id":7}"#)],
        );
        assert_eq!(
            rows(&mut client, "select id, parent_id from item"),
            ["2|7"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// Four sessions, rows that refer to each other, in any order: nothing is left behind.
#[test]
fn sessions_at_once_leave_nothing_waiting() {
    let ddl = "
        create table parent (id integer primary key, slug text not null unique);
        create table child (id integer primary key, parent_id integer not null references parent);";
    for guard in ["columns", "table"] {
        let (database, mut client) = mapped("sessions", ddl, &["parent", "child"], guard);
        let mut messages = Vec::new();
        for id in 0..200_u64 {
            let record = format!(r#"{{"id":{id},"slug":"{id}"}}"#);
            messages.push(message("insert", "parent", id + 1, &record));
            let record = format!(r#"{{"id":{id},"parent_id":{}}}"#, (id * 7) % 200);
            messages.push(message("insert", "child", id + 1001, &record));
            // Each passes its value on to the one before.
            let record = format!(r#"{{"id":{id},"slug":"{}"}}"#, (id + 1) % 200);
            messages.push(
                message("update", "parent", 2001, &record)
                    .replace("\"commit_idx\":0", &format!("\"commit_idx\":{id}")),
            );
        }
        let mut random = Random::new(1);
        random.shuffle(&mut messages);
        thread::scope(|scope| {
            for messages in messages.chunks(150) {
                let mut client = database.connect();
                scope.spawn(move || {
                    run(&mut client, "set client_min_messages = error");
                    for messages in messages.chunks(7) {
                        while try_apply(&mut client, &batch(messages)).is_err() {}
                    }
                });
            }
        });
        let letters = rows(
            &mut client,
            "select mapping, key, sqlstate, state, attempts, waits_on, waits_for, message::json->>'record',
                    (select p from parent p where p.slug = message::json->'record'->>'slug')
             from sequin.dead_letter",
        );
        assert_eq!(letters, [""; 0], "{guard}");
        assert_eq!(
            value(
                &mut client,
                "select count(*) from parent where slug::int = (id + 1) % 200"
            ),
            "200",
            "{guard}"
        );
        assert_eq!(
            value(
                &mut client,
                "select count(*) from child where parent_id = id * 7 % 200"
            ),
            "200",
            "{guard}"
        );
    }
}

const CASCADE: &str = "
    create table parent (id integer primary key, slug text unique);
    create table child (id integer primary key, parent_id integer not null references parent on delete cascade on update cascade);
    create table note (parent_id integer references parent on delete set null);";

/// A row that refers to the one that goes may be newer than the delete.
#[test]
fn deletes_do_not_take_along_what_is_newer() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = mapped("cascade", CASCADE, &["parent", "child"], guard);
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
        // Now they go, the parent first. Nobody maps the notes: they are the database's.
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
            let (_database, mut client) = mapped("moves2", CASCADE, &["parent", "child"], guard);
            send(
                &mut client,
                &[
                    message("insert", "parent", 1, r#"{"id":1,"slug":"a"}"#),
                    message("insert", "child", 2, r#"{"id":7,"parent_id":1}"#),
                ],
            );
            let mut messages = [
                message_with(
                    "update",
                    "parent",
                    3,
                    r#"{"id":2,"slug":"a"}"#,
                    r#"{"id":1}"#,
                ),
                message_with(
                    "update",
                    "child",
                    4,
                    r#"{"id":7,"parent_id":2}"#,
                    r#"{"parent_id":1}"#,
                ),
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

/// A row that was deleted and made again is another one, although others refer to its key.
#[test]
fn what_replaces_a_row_leaves_nothing_of_it() {
    for guard in GUARDS {
        let ddl = "create table parent (id integer primary key, slug text, mark text default 'new');
                   create table child (id integer primary key, parent_id integer references parent);";
        let (_database, mut client) = mapped("replace", ddl, &["parent", "child"], guard);
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

/// Messages of old versions of Sequin have a time and no position. They are no reads.
#[test]
fn letters_without_a_position_are_not_lost() {
    for guard in ["columns", "table"] {
        let (_database, mut client) = mapped("positions", PRICED, &["item"], guard);
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

/// A change that waits may be the only one with a value that the row lacks.
#[test]
fn a_letter_fills_a_gap_when_its_row_comes() {
    for guard in ["columns", "table"] {
        let ddl = "create table parent (id integer primary key);
                   create table item (id integer primary key, parent_id integer references parent, body text)";
        let (_database, mut client) = mapped("gap", ddl, &["parent", "item"], guard);
        send(
            &mut client,
            &[message("insert", "parent", 1, r#"{"id":5}"#)],
        );
        let of =
            |parent: u64, body: &str| format!(r#"{{"id":1,"parent_id":{parent},"body":"{body}"}}"#);
        assert_eq!(
            send(&mut client, &[message("insert", "item", 2, &of(9, "big"))]).dead,
            1,
            "{guard}"
        );
        send(
            &mut client,
            &[message("update", "item", 3, &of(5, "unchanged_toast"))],
        );
        assert_eq!(
            rows(&mut client, "select parent_id, body from item"),
            ["5|big"],
            "{guard}"
        );
        assert_eq!(rows(&mut client, LETTERS), [""; 0], "{guard}");
    }
}

/// However many wait for a row.
#[test]
fn all_that_wait_for_a_row_are_tried() {
    let ddl = "create table parent (id integer primary key);
               create table item (id integer primary key, parent_id integer references parent)";
    let (_database, mut client) = mapped("many", ddl, &["parent", "item"], "table");
    let items: Vec<String> = (1..=2500)
        .map(|id| {
            message(
                "insert",
                "item",
                id,
                &format!(r#"{{"id":{id},"parent_id":1}}"#),
            )
        })
        .collect();
    assert_eq!(send(&mut client, &items).dead, 2500);
    send(
        &mut client,
        &[message("insert", "parent", 9000, r#"{"id":1}"#)],
    );
    assert_eq!(value(&mut client, "select count(*) from item"), "2500");
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
}

/// Letters keep to their mapping when it gets another name, and to nobody when it goes.
#[test]
fn letters_follow_their_mapping() {
    let (_database, mut client) = mapped("names", FAMILY, FAMILIES, "table");
    run(&mut client, "insert into grandparent values (1)");
    send(
        &mut client,
        &[message(
            "insert",
            "child",
            2,
            r#"{"id":1,"parent_id":1,"name":"c"}"#,
        )],
    );
    run(
        &mut client,
        "update sequin.mapping set name = 'infant' where name = 'child'",
    );
    assert_eq!(
        rows(&mut client, "select mapping from sequin.dead_letter"),
        ["infant"]
    );
    send(
        &mut client,
        &[message(
            "insert",
            "parent",
            1,
            r#"{"id":1,"grandparent_id":1,"name":"p"}"#,
        )],
    );
    assert_eq!(value(&mut client, "select count(*) from child"), "1");
    send(
        &mut client,
        &[message(
            "insert",
            "child",
            3,
            r#"{"id":2,"parent_id":2,"name":"c"}"#,
        )],
    );
    run(&mut client, "select sequin.unmap('infant')");
    assert_eq!(
        rows(&mut client, "select mapping from sequin.dead_letter"),
        ["null"]
    );
}

/// What the check of a foreign key evaluates belongs to the referring table's owner, and runs as that role.
#[test]
fn checks_of_foreign_keys_run_as_the_owner_of_the_table() {
    let mut database = Database::new("checks");
    let mut client = database.connect();
    let mallory = database.role("mallory");
    run(
        &mut client,
        &format!(
            "grant select, insert, update, delete on sequin.mapping to {mallory};
             create schema m authorization {mallory}; grant usage on schema m to public"
        ),
    );
    let mut owner = database.connect_as(&mallory);
    run(
        &mut owner,
        "set client_min_messages = error;
         create table m.log (who text); grant all on m.log to public;
         create function m.look() returns integer language plpgsql volatile as
             'begin insert into m.log values (current_user); return 1; end';
         create function m.constant(x integer) returns integer language plpgsql immutable as
             'begin perform m.look(); return x; end';
         create table m.parent (id integer primary key);
         create table m.child (id integer primary key, parent_id integer references m.parent on delete cascade);
         create index on m.child ((m.constant(1)));
         truncate m.log;
         select sequin.map('public.parent', 'm.parent'), sequin.map('public.child', 'm.child')",
    );
    let mut forwarder = database.connect();
    send(
        &mut forwarder,
        &[message("delete", "parent", 1, r#"{"id":7}"#)],
    );
    send(
        &mut forwarder,
        &[
            message("insert", "parent", 2, r#"{"id":1}"#),
            message("insert", "child", 3, r#"{"id":1,"parent_id":1}"#),
        ],
    );
    assert_eq!(
        send(
            &mut forwarder,
            &[message("delete", "parent", 4, r#"{"id":1}"#)]
        )
        .dead,
        1
    );
    let who = rows(&mut client, "select distinct who from m.log");
    assert_eq!(who, [mallory], "and it was evaluated");
}

/// A policy of the destination is not evaluated as the owner of a table that refers to it.
#[test]
fn policies_do_not_run_as_the_owner_of_another_table() {
    for guard in GUARDS {
        let mut database = Database::new("policies");
        let mut client = database.connect();
        let (mallory, alice) = (database.role("mallory"), database.role("alice"));
        run(
            &mut client,
            &format!(
                "grant select, insert, update, delete on sequin.mapping to {mallory}, {alice};
                 create schema m authorization {mallory}; grant usage on schema m to public;
                 create schema a authorization {alice}; grant usage on schema a to public"
            ),
        );
        run(
            &mut database.connect_as(&mallory),
            &format!(
                "set client_min_messages = error;
                 create table m.log (who text); grant all on m.log to public;
                 create function m.look() returns boolean language plpgsql volatile as
                     'begin insert into m.log values (current_user); return true; end';
                 create table m.parent (id integer primary key, slug text unique);
                 grant select, references on m.parent to public;
                 alter table m.parent enable row level security;
                 create policy look on m.parent using (m.look());
                 select sequin.map('public.parent', 'm.parent', guard => '{guard}')"
            ),
        );
        run(
            &mut database.connect_as(&alice),
            &format!(
                "set client_min_messages = error;
                 create table a.child (id integer primary key,
                                       slug text references m.parent (slug) on delete cascade);
                 select sequin.map('public.child', 'a.child', guard => '{guard}')"
            ),
        );
        let mut forwarder = database.connect();
        send(
            &mut forwarder,
            &[
                message("insert", "parent", 2, r#"{"id":1,"slug":"one"}"#),
                message("insert", "parent", 3, r#"{"id":2,"slug":"two"}"#),
                message("insert", "child", 4, r#"{"id":1,"slug":"one"}"#),
            ],
        );
        run(&mut client, "truncate m.log");
        let counts = send(
            &mut forwarder,
            &[
                message("delete", "parent", 5, r#"{"id":1}"#),
                message("delete", "parent", 6, r#"{"id":2}"#),
                message("delete", "parent", 7, r#"{"id":3}"#),
            ],
        );
        assert_eq!((counts.deleted, counts.dead), (2, 1), "{guard}");
        let waits = "select waits_on, waits_for = sequin.row_key(1) from sequin.dead_letter";
        assert_eq!(rows(&mut client, waits), ["a.child|t"], "{guard}");
        let by = format!("select count(*) from m.log where who = '{alice}'");
        assert_eq!(value(&mut client, &by), "0", "{guard}");
        let moved = message("delete", "child", 8, r#"{"id":1}"#);
        assert_eq!(send(&mut forwarder, &[moved]).deleted, 1, "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from m.parent"),
            "0",
            "{guard}"
        );
    }
}

/// A change that has no row to be known by is known by its text; what is no change is kept each time.
#[test]
fn what_comes_again_is_kept_once() {
    let ddl = "create table item (id integer primary key, name text check (name <> 'no'));
               create table log (id integer, name text check (name <> 'no'))";
    for guard in GUARDS {
        let (_database, mut client) = mapped("again", ddl, &["item"], guard);
        run(
            &mut client,
            "select sequin.map('public.log', 'log', mode => 'append', name => 'log');
             select sequin.map('public.log', 'item', guard => 'off', name => 'second')",
        );
        let batch = batch(&[
            message("insert", "item", 1, r#"{"id":1,"name":"no"}"#),
            message("insert", "item", 2, r#"{"id":"one","name":"a"}"#),
            message("insert", "item", 3, r#"{"name":"no key"}"#),
            message("insert", "log", 4, r#"{"id":1,"name":"no"}"#),
            message("insert", "log", 5, r#"{"id":2,"name":"no"}"#),
            message("insert", "stranger", 6, r#"{"id":1}"#),
            "1".to_owned(),
            "{}".to_owned(),
        ]);
        for times in 1..=3 {
            assert_eq!(apply(&mut client, &batch).dead, 10, "{guard}");
            assert_eq!(
                rows(
                    &mut client,
                    "select mapping, count(*), min(attempts), max(attempts) from sequin.dead_letter
                     group by mapping order by mapping nulls last"
                ),
                [
                    format!("item|3|{times}|{times}"),
                    format!("log|2|{times}|{times}"),
                    format!("second|2|{times}|{times}"),
                    format!("null|{}|1|{times}", 1 + 2 * times),
                ],
                "{guard}"
            );
        }
    }
}

/// A letter that works again is not counted with the batch: what is stale of the batch is.
#[test]
fn a_letter_takes_no_outcome_of_the_batch() {
    let database = Database::new("letter_outcome");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let ddl = "
        create table node (id bigint primary key, parent bigint references node);
        select sequin.map('public.node', 'node', guard => 'columns')";
    run(&mut client, ddl);
    let node = |lsn, id: u64, parent: &str| {
        let record = format!(r#"{{"id": {id}, "parent": {parent}}}"#);
        message("insert", "node", lsn, &record)
    };
    apply(
        &mut client,
        &batch(&[node(50, 2, "null"), node(20, 9, "5")]),
    );
    let counts = apply(
        &mut client,
        &batch(&[node(10, 2, "null"), node(30, 5, "null")]),
    );
    assert_eq!((counts.upserted, counts.stale, counts.dead), (1, 1, 0));
    let found = rows(&mut client, "select id, parent from node order by id");
    assert_eq!(found, ["2|null", "5|null", "9|5"]);
}

/// A trigger that makes a schema, or changes many relations, does not look as if mappings changed.
#[test]
fn triggers_that_change_the_catalog() {
    let ddl = "
        create table parent (id integer primary key);
        create table child (id integer primary key, parent_id integer references parent);
        create function many() returns trigger language plpgsql as $$
        begin
            for n in 1..300 loop
                execute format('create temp table %I (n integer)', 'scratch ' || new.id || ' ' || n);
            end loop;
            return new;
        end $$;
        create trigger many before insert on child for each row execute function many()";
    for guard in GUARDS {
        let (database, mut client) = mapped("catalog", ddl, &["parent", "child"], guard);
        let child = |id: u64, parent: u64| {
            let record = format!(r#"{{"id":{id},"parent_id":{parent}}}"#);
            message("insert", "child", id, &record)
        };
        let mut fresh = database.connect();
        let counts = send(&mut fresh, &[child(1, 10), child(2, 20)]);
        assert_eq!(counts.dead, 2, "{guard}");
        let waits = "select distinct waits_on from sequin.dead_letter";
        assert_eq!(rows(&mut client, waits), ["parent"], "{guard}");
        let parent = |id: u64| message("insert", "parent", id, &format!(r#"{{"id":{id}}}"#));
        assert_eq!(send(&mut fresh, &[parent(10), parent(20)]).upserted, 2);
        assert_eq!(value(&mut client, "select count(*) from child"), "2");
    }
}
