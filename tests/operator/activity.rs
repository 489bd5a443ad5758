//! Views that say what is going on, and how large it has become.

use support::{Database, apply, batch, item, message, rows, run, value};

#[test]
fn a_call_that_waits_shows_for_what() {
    let mut database = Database::new("activity");
    let (monitor, stranger) = (database.role("monitor"), database.role("stranger"));
    let (mut holder, mut admin) = (database.connect(), database.connect());
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'table');
             grant pg_monitor to {monitor}"
        ),
    );
    let activity = "select state || ' ' || array_to_string(mappings, ',') || ' ' || coalesce(cardinality(blocked_by), 0)
                    from sequin.activity order by transaction_started_at";
    assert_eq!(rows(&mut admin, activity), [""; 0]);
    run(&mut holder, "begin");
    apply(&mut holder, &item(1, "a"));
    assert_eq!(rows(&mut admin, activity), ["idle in transaction item 0"]);
    // another call waits for the row
    let mut other = database.connect();
    let waiting = std::thread::spawn(move || apply(&mut other, &item(1, "b")));
    let mut watch = database.connect_as(&monitor);
    while rows(&mut watch, activity).last().map(String::as_str) != Some("waiting item 1") {
        std::thread::yield_now();
    }
    let blocker = value(&mut holder, "select pg_backend_pid()");
    let told =
        "select waits_for || ' ' || blocked_by[1] from sequin.activity where state = 'waiting'";
    assert_eq!(
        value(&mut watch, told),
        format!("Lock: transactionid {blocker}")
    );
    assert_eq!(rows(&mut database.connect_as(&stranger), activity), [""; 0]);
    run(&mut holder, "commit");
    waiting.join().expect("no panic");
    assert_eq!(rows(&mut admin, activity), [""; 0]);
}

#[test]
fn letters_in_groups() {
    let mut database = Database::new("letters_in_groups");
    let (monitor, stranger) = (database.role("monitor"), database.role("stranger"));
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create table item (id integer primary key, name text);
             create table child (id integer primary key, item_id integer references item);
             select sequin.map('public.item', 'item', guard => 'table');
             select sequin.map('public.child', 'child', guard => 'table');
             grant pg_monitor to {monitor}"
        ),
    );
    let child = |id: u64| {
        message(
            "insert",
            "child",
            id,
            &format!(r#"{{"id":{id},"item_id":7}}"#),
        )
    };
    let wrong = message("insert", "item", 5, r#"{"id":"x","name":"a"}"#);
    apply(
        &mut client,
        &batch(&[
            child(1),
            child(2),
            wrong,
            message("insert", "none", 6, r#"{"id":1}"#),
        ]),
    );
    let letters =
        "select concat_ws('|', mapping, state, sqlstate, letters, bytes > 0, oldest = newest)
                   from sequin.letters order by mapping";
    let all = [
        "child|waiting|23503|2|t|t",
        "item|dead|22P02|1|t|t",
        "dead|42704|1|t|t",
    ];
    let seen = rows(&mut client, letters);
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(seen[..2], all[..2]);
    assert!(seen[2].starts_with("dead|"), "{seen:?}");
    assert_eq!(rows(&mut database.connect_as(&monitor), letters), seen);
    assert_eq!(rows(&mut database.connect_as(&stranger), letters), [""; 0]);
}

#[test]
fn sizes_and_tombstones_that_are_due() {
    let mut database = Database::new("storage");
    let (monitor, stranger) = (database.role("monitor"), database.role("stranger"));
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'table'); grant pg_monitor to {monitor}"
        ),
    );
    for id in 1..4 {
        apply(
            &mut client,
            &message("delete", "item", id, &format!(r#"{{"id":{id}}}"#)),
        );
    }
    let due = "select due from sequin.storage where relation = 'tombstone' and bytes > 0";
    assert_eq!(value(&mut client, due), "0");
    run(
        &mut client,
        "update sequin.tombstone set made_at = made_at - interval '8 days' where key in
             (select key from sequin.tombstone limit 2)",
    );
    let mut watch = database.connect_as(&monitor);
    assert_eq!(value(&mut watch, due), "2");
    run(&mut client, "set sequin.tombstone_retention = '30d'");
    assert_eq!(value(&mut client, due), "0");
    let sizes = "select count(*) > 10 from sequin.storage where bytes > 0";
    assert_eq!(value(&mut watch, sizes), "t");
    let none = "select count(*) from sequin.storage";
    assert_eq!(value(&mut database.connect_as(&stranger), none), "0");
}
