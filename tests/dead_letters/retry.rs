//! `sequin.retry` and `sequin.discard`, and how often letters are tried by themselves.

use support::{Database, GUARDS, error, message, rows, run, send, value};

use super::{FAMILIES, FAMILY, LETTERS, PRICED, item, retry};

#[test]
fn letters_are_retried_and_discarded() {
    for guard in GUARDS {
        let (_database, mut client) = Database::mapped("retry", PRICED, &["item"], guard);
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
            "22P02",
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

/// Letters that cannot be applied cost a call little, and each a limited number of times.
#[test]
fn what_does_not_heal_is_tried_within_bounds() {
    let ddl = "create table item (id integer primary key, slug text, lower text generated always as (lower(slug)) stored);
               create function one() returns trigger language plpgsql as $$
               begin
                   if exists (select from public.item i where i.id <> new.id and lower(i.slug) = lower(new.slug)) then
                       raise unique_violation;
                   end if;
                   return new;
               end $$;
               create trigger one before insert or update on item for each row execute function one();";
    let (_database, mut client) = Database::mapped("bounds", ddl, &["item"], "table");
    run(&mut client, "set sequin.heal_time = '1min'");
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
        "which row a trigger means cannot be told"
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

/// Letters of a paused mapping are not tried by themselves, and `sequin.retry` says so.
#[test]
fn letters_of_a_paused_mapping_wait() {
    let (_database, mut client) = Database::mapped("paused", FAMILY, FAMILIES, "table");
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

/// Letters follow a mapping that is renamed, and lose one that is removed.
#[test]
fn letters_follow_their_mapping() {
    let (_database, mut client) = Database::mapped("names", FAMILY, FAMILIES, "table");
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

/// A call that begins again to get the lock on a mapping still tries the letters that nobody has tried for a minute.
#[test]
fn a_sweep_is_not_lost_when_the_call_begins_again() {
    let database = Database::new("sweep_again");
    let mut client = database.connect();
    let mut other = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, price integer, body text);
         create table place (id integer primary key, name text);
         create table elsewhere (id integer primary key);
         create table visit (id integer primary key, place integer references elsewhere);
         select sequin.map('public.item', 'item', guard => 'table', name => 'item');
         select sequin.map('public.visit', 'visit', guard => 'table', name => 'visit')",
    );
    let visit = |id: u64, place: u64| {
        let record = format!(r#"{{"id":{id},"place":{place}}}"#);
        message("insert", "visit", id, &record)
    };
    assert_eq!(send(&mut client, &[visit(1, 7)]).dead, 1);
    // What it waits for comes, and nobody tells.
    run(
        &mut client,
        "insert into elsewhere values (7), (8);
         update sequin.dead_letter set last_attempt_at = now() - interval '2 minutes'",
    );
    run(&mut client, "begin");
    assert_eq!(send(&mut client, &[visit(2, 8)]).upserted, 1);
    let pid = value(&mut other, "select pg_backend_pid()");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| send(&mut other, &[item("insert", 9, 1, "x")]).outcomes());
        wait_for_lock(&database, &pid);
        run(&mut client, "commit");
        assert_eq!(call.join().expect("the call ends"), 1);
    });
    assert_eq!(rows(&mut client, LETTERS), [""; 0]);
}

/// Waits until the backend waits for a lock.
fn wait_for_lock(database: &Database, pid: &str) {
    let mut client = database.connect();
    let waits = format!(
        "select count(*) from pg_stat_activity where pid = {pid} and wait_event_type = 'Lock'"
    );
    let start = std::time::Instant::now();
    while value(&mut client, &waits) == "0" {
        assert!(start.elapsed().as_secs() < 30, "it does not wait");
    }
}
