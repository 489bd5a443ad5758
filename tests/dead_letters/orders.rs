//! Changes in any order, by one session and by several at once: nothing waits in the end.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::{
    Database, GUARDS, Message, Random, apply, batch, message, rows, run, send, try_apply, value,
};

use super::{FAMILIES, FAMILY};

/// Whatever the order in which changes arrive, one by one, unique values and foreign keys come right.
#[test]
fn any_order_comes_right() {
    let ddl = "
        create table parent (id integer primary key, slug text not null unique);
        create table child (id integer primary key, parent_id integer not null references parent);";
    for guard in ["columns", "table"] {
        for seed in 0..25 {
            let (_database, mut client) =
                Database::mapped("order", ddl, &["parent", "child"], guard);
            let mut random = Random::new(seed);
            // The source keeps its constraints after each of its statements.
            let (mut slugs, mut children) = (vec![None; 5], vec![None; 5]);
            let mut messages = Vec::new();
            let slug = |i: u64| char::from(b'a' + i as u8);
            let of_parent = |action: &str, lsn: u64, id: usize, s: u64| {
                let record = format!(r#"{{"id":{id},"slug":"{}"}}"#, slug(s));
                Message::new(action, "parent", lsn, record)
            };
            let of_child = |action: &str, lsn: u64, id: usize, parent: usize| {
                let record = format!(r#"{{"id":{id},"parent_id":{parent}}}"#);
                Message::new(action, "child", lsn, record)
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
                            messages.push(of_parent("update", lsn, other, old).idx(1));
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
        let (database, mut client) = Database::mapped("moment", FAMILY, FAMILIES, guard);
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

/// Four sessions, rows that refer to each other, in any order: nothing is left behind.
#[test]
fn sessions_at_once_leave_nothing_waiting() {
    let ddl = "
        create table parent (id integer primary key, slug text not null unique);
        create table child (id integer primary key, parent_id integer not null references parent);";
    for guard in ["columns", "table"] {
        let (database, mut client) = Database::mapped("sessions", ddl, &["parent", "child"], guard);
        let mut messages = Vec::new();
        for id in 0..200_u64 {
            let record = format!(r#"{{"id":{id},"slug":"{id}"}}"#);
            messages.push(Message::new("insert", "parent", id + 1, record));
            let record = format!(r#"{{"id":{id},"parent_id":{}}}"#, (id * 7) % 200);
            messages.push(Message::new("insert", "child", id + 1001, record));
            // Each passes its value on to the one before.
            let record = format!(r#"{{"id":{id},"slug":"{}"}}"#, (id + 1) % 200);
            messages.push(Message::new("update", "parent", 2001, &record).idx(id));
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
