//! `call sequin.discard(…)`: letters are given up in portions, each in a transaction of its own.

use std::thread;

use support::{Database, code, error, message, rows, run, send, value};

const CHECKED: &str = "create table item (id integer primary key, name text check (name <> 'bad'))";

fn bad(from: u64, count: u64) -> Vec<String> {
    let record = |id: u64| format!(r#"{{"id":{id},"name":"bad"}}"#);
    (from..from + count)
        .map(|id| message("insert", "item", id, &record(id)))
        .collect()
}

const LEFT: &str = "select count(*) from sequin.dead_letter";

#[test]
fn letters_are_chosen_by_mapping_sqlstate_and_age() {
    let (_database, mut client) = Database::mapped("discard", CHECKED, &["item"], "off");
    run(&mut client, "set client_min_messages = error");
    send(&mut client, &bad(1, 10));
    run(
        &mut client,
        "update sequin.dead_letter set received_at = now() - interval '2 days' where id <= 4",
    );
    send(
        &mut client,
        &[message("insert", "item", 11, r#"{"id":"x"}"#)],
    );
    send(
        &mut client,
        &[message("insert", "other", 12, r#"{"id":1}"#)],
    );
    for (call, left) in [
        ("sequin.discard('item', '00000')", "12"),
        ("sequin.discard('item', null, interval '3 days')", "12"),
        ("sequin.discard(null, '23514', '1 day', 3)", "8"),
        ("sequin.discard(mapping => null, sqlstate => '42704')", "7"),
        ("sequin.discard('item', '22P02')", "6"),
        ("sequin.discard('item', null, portion => 4)", "0"),
    ] {
        run(&mut client, &format!("call {call}"));
        assert_eq!(value(&mut client, LEFT), left, "{call}");
    }
    send(&mut client, &bad(1, 3));
    for (call, wanted) in [
        ("sequin.discard(null, null)", "22004"),
        ("sequin.discard('item', null, portion => 0)", "22023"),
        ("sequin.discard('item', null, portion => null)", "22023"),
        ("sequin.discard('other', null)", "42704"),
    ] {
        assert_eq!(code(&error(&mut client, &format!("call {call}"))), wanted);
    }
    // One letter, by its number, whatever the type of the parameter.
    let first = value(&mut client, "select min(id) from sequin.dead_letter");
    for id in [
        first.clone(),
        format!("'{}'", first.parse::<i64>().expect("a number") + 1),
    ] {
        run(&mut client, &format!("select sequin.discard({id})"));
    }
    assert_eq!(value(&mut client, LEFT), "1");
    run(
        &mut client,
        "begin; call sequin.discard('item', null); rollback",
    );
    assert_eq!(value(&mut client, LEFT), "1");
    run(&mut client, "call sequin.discard(null, null, '0')");
    assert_eq!(value(&mut client, LEFT), "0");
    assert_eq!(value(&mut client, "select count(*) from sequin.run"), "0");
}

/// A letter that another session has locked is left, and the others do not wait for it.
#[test]
fn letters_that_are_tried_at_the_moment_stay() {
    let (database, mut client) = Database::mapped("discard_locked", CHECKED, &["item"], "off");
    send(&mut client, &bad(1, 10));
    let mut holder = database.connect();
    run(
        &mut holder,
        "begin; select from sequin.dead_letter where position = 4 for update",
    );
    run(&mut client, "set statement_timeout = '10s'");
    run(
        &mut client,
        "call sequin.discard('item', '23514', portion => 3)",
    );
    assert_eq!(
        value(&mut client, "select position from sequin.dead_letter"),
        "4"
    );
}

#[test]
fn what_was_discarded_stays_so() {
    let (database, mut client) = Database::mapped("discard_stopped", CHECKED, &["item"], "off");
    send(&mut client, &bad(1, 30));
    run(
        &mut client,
        "create function hold() returns trigger language plpgsql as $$ begin
             if old.position = 20 then perform pg_advisory_xact_lock(43); end if; return old; end $$;
         create trigger hold before delete on sequin.dead_letter for each row execute function hold();
         select pg_advisory_lock(43)",
    );
    let mut other = database.connect();
    let pid = value(&mut other, "select pg_backend_pid()");
    let running = thread::spawn(move || {
        code(&error(
            &mut other,
            "call sequin.discard('item', null, portion => 10)",
        ))
        .to_owned()
    });
    let progress = format!("select work, done, remaining from sequin.progress where pid = {pid}");
    while rows(&mut client, &progress) != ["discard|20|10"] {
        thread::yield_now();
    }
    run(&mut client, &format!("select pg_cancel_backend({pid})"));
    assert_eq!(running.join().expect("a code"), "57014");
    assert_eq!(value(&mut client, LEFT), "10");
    run(
        &mut client,
        "select pg_advisory_unlock(43); drop trigger hold on sequin.dead_letter",
    );
    run(&mut client, "call sequin.discard('item', null)");
    assert_eq!(value(&mut client, LEFT), "0");
}

#[test]
fn letters_of_others_are_not_discarded() {
    let mut database = Database::new("discard_owners");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    run(
        &mut client,
        &format!(
            "grant execute on function sequin.map to {alice}, {bob};
             select sequin.grant_source('*.*', '{alice}'); select sequin.grant_source('*.*', '{bob}');
             grant create on schema public to {alice}, {bob}"
        ),
    );
    for (role, table) in [(&alice, "a"), (&bob, "b")] {
        let mut client = database.connect_as(role);
        run(&mut client, "set client_min_messages = error");
        run(
            &mut client,
            &format!(
                "create table {table} (id integer primary key check (id > 0));
                 select sequin.map('public.{table}', '{table}', name => '{table}')"
            ),
        );
    }
    send(
        &mut client,
        &[
            message("insert", "a", 1, r#"{"id":-1}"#),
            message("insert", "b", 2, r#"{"id":-1}"#),
            message("insert", "c", 3, r#"{"id":-1}"#),
        ],
    );
    let mut of_alice = database.connect_as(&alice);
    for sql in [
        "call sequin.discard('a', null)",
        "select * from sequin_internal.discard_portion('a', null, null, null)",
        "select * from sequin_internal.discard_portion('a', null, null, 10)",
        "call sequin.prune()",
        "select * from sequin_internal.prune_portion(null)",
        "select * from sequin_internal.prune_portion(10)",
    ] {
        assert_eq!(code(&error(&mut of_alice, sql)), "42501", "{sql}");
    }
    run(
        &mut client,
        &format!("grant execute on procedure sequin.discard to {alice}"),
    );
    assert_eq!(
        code(&error(&mut of_alice, "call sequin.discard('b', null)")),
        "42704"
    );
    run(&mut of_alice, "call sequin.discard(null, null, '0')");
    let left = "select mapping from sequin.dead_letter order by id";
    assert_eq!(rows(&mut client, left), ["b", "null"]);
    run(&mut client, "call sequin.discard(null, null, '0')");
    assert_eq!(value(&mut client, LEFT), "0");
}
