//! `sequin.retry_all`: letters in portions, each in a transaction of its own.

use std::thread;

use support::{Database, error, item, message, rows, run, send, value};

const CHECKED: &str = "create table item (id integer primary key, name text check (name <> 'bad'))";

fn bad(count: u64) -> Vec<String> {
    let record = |id: u64| format!(r#"{{"id":{id},"name":"bad"}}"#);
    (1..=count)
        .map(|id| message("insert", "item", id, &record(id)))
        .collect()
}

const ATTEMPTS: &str = "select attempts, count(*) from sequin.dead_letter group by 1 order by 1";
const RUNS: &str = "select count(*) from sequin.run";
const WRITTEN: &str = "select count(*), count(distinct xmin::text) from item";

#[test]
fn each_portion_commits() {
    let (_database, mut client) = Database::mapped("retry_all", CHECKED, &["item"], "off");
    send(&mut client, &bad(25));
    run(&mut client, "call sequin.retry_all(portion => 10)");
    assert_eq!(rows(&mut client, ATTEMPTS), ["2|25"], "each once");
    run(&mut client, "call sequin.retry_all(max => 7, portion => 5)");
    assert_eq!(rows(&mut client, ATTEMPTS), ["2|18", "3|7"]);
    run(&mut client, "call sequin.retry_all(sqlstate => '23505')");
    run(&mut client, "call sequin.retry_all(max => 0)");
    assert_eq!(rows(&mut client, ATTEMPTS), ["2|18", "3|7"]);
    run(
        &mut client,
        "alter table item drop constraint item_name_check",
    );
    run(
        &mut client,
        "call sequin.retry_all('item', '23514', portion => 10)",
    );
    // The transaction's own ID, or that of its subtransaction.
    assert_eq!(rows(&mut client, WRITTEN), ["25|3"]);
    assert_eq!(rows(&mut client, ATTEMPTS), [""; 0]);
    assert_eq!(value(&mut client, RUNS), "0");
}

#[test]
fn it_works_where_it_cannot_commit() {
    let (_database, mut client) = Database::mapped("retry_atomic", CHECKED, &["item"], "off");
    send(&mut client, &bad(25));
    for sql in [
        "begin; call sequin.retry_all(portion => 10); rollback",
        "do $$ begin call sequin.retry_all(portion => 10); raise 'undo' using errcode = 'ZZ001';
         exception when sqlstate 'ZZ001' then null; end $$",
        "create function f() returns void language plpgsql as $$ begin
             call sequin.retry_all(portion => 10); end $$;
         begin; select f(); rollback",
    ] {
        run(&mut client, sql);
        assert_eq!(rows(&mut client, ATTEMPTS), ["1|25"], "{sql}");
        assert_eq!(value(&mut client, RUNS), "0", "{sql}");
    }
    run(
        &mut client,
        "do $$ begin call sequin.retry_all(portion => 10); end $$",
    );
    assert_eq!(rows(&mut client, ATTEMPTS), ["2|25"]);
    for sql in [
        "call sequin.retry_all(portion => 0)",
        "call sequin.retry_all(portion => null)",
        "call sequin.retry_all(max => -1)",
    ] {
        let error = error(&mut client, sql);
        assert_eq!(error.code().code(), "22023", "{sql}");
        assert!(error.hint().is_some(), "{sql}");
    }
    let unknown = error(&mut client, "call sequin.retry_all('nobody')");
    assert_eq!(unknown.code().code(), "42704");
}

/// What was committed stays, others see the progress while it runs, and not afterwards.
#[test]
fn it_is_watched_and_stopped() {
    let (mut database, mut client) = Database::mapped("retry_stop", CHECKED, &["item"], "off");
    let stranger = database.role("stranger");
    send(&mut client, &bad(30));
    run(
        &mut client,
        "alter table item drop constraint item_name_check;
         create function slow() returns trigger language plpgsql as $$ begin
             if new.id = 21 then perform pg_advisory_xact_lock(42); end if; return new; end $$;
         create trigger slow before insert on item for each row execute function slow();
         set sequin.mapping_timeout = 0; select pg_advisory_lock(42)",
    );
    let mut other = database.connect();
    let pid = value(&mut other, "select pg_backend_pid()");
    let running = thread::spawn(move || {
        run(&mut other, "set sequin.mapping_timeout = 0");
        error(&mut other, "call sequin.retry_all(portion => 10)")
            .code()
            .code()
            .to_owned()
    });
    let progress = format!(
        "select mapping, done, healed, remaining, role = current_user::regrole, started_at < updated_at
         from sequin.progress where pid = {pid}"
    );
    while rows(&mut client, &progress) != ["null|20|20|10|t|t"] {
        thread::yield_now();
    }
    let shown = "select count(*) from sequin.progress";
    assert_eq!(value(&mut database.connect_as(&stranger), shown), "0");
    // A run that does not get on is still shown, and another run does not forget it.
    run(
        &mut client,
        "update sequin.run set updated_at = now() - interval '1 hour'; call sequin.retry_all('item', '00000')",
    );
    assert_eq!(rows(&mut client, &progress), ["null|20|20|10|t|f"]);
    run(&mut client, &format!("select pg_cancel_backend({pid})"));
    assert_eq!(running.join().expect("an error"), "57014");
    assert_eq!(value(&mut client, "select count(*) from item"), "20");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "10"
    );
    while !rows(&mut client, &progress).is_empty() {
        thread::yield_now();
    }
    run(&mut client, "select pg_advisory_unlock(42)");
    run(&mut client, "call sequin.retry_all('item', portion => 4)");
    assert_eq!(value(&mut client, "select count(*) from item"), "30");
}

/// What waits is retried with what it waits for, in whatever portion that is.
#[test]
fn chains_heal_over_portions() {
    let (_database, mut client) = Database::mapped(
        "retry_chain",
        "create table item (id integer primary key, parent integer references item, name text)",
        &["item"],
        "off",
    );
    let record = |id: u64| format!(r#"{{"id":{id},"parent":{},"name":"n"}}"#, id + 1);
    for id in 1..=20 {
        send(&mut client, &[message("insert", "item", id, &record(id))]);
    }
    run(&mut client, "insert into item values (21, null, 'by hand')");
    run(&mut client, "call sequin.retry_all(portion => 3)");
    assert_eq!(value(&mut client, "select count(*) from item"), "21");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
}

#[test]
fn letters_of_others_are_not_tried() {
    let mut database = Database::new("retry_owners");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    run(
        &mut client,
        &format!(
            "grant execute on function sequin.map to {alice}, {bob};
             grant select on sequin.mapping to {alice}, {bob};
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
            item(3, "n"),
        ],
    );
    let mut of_alice = database.connect_as(&alice);
    for sql in [
        "call sequin.retry_all()",
        "select * from sequin_internal.retry_portion(null, null, null, null)",
    ] {
        let denied = error(&mut of_alice, sql);
        assert_eq!(denied.code().code(), "42501", "{sql}");
    }
    run(
        &mut client,
        &format!("grant execute on procedure sequin.retry_all to {alice}"),
    );
    run(&mut of_alice, "call sequin.retry_all()");
    let attempts = "select mapping, attempts from sequin.dead_letter order by id";
    assert_eq!(rows(&mut client, attempts), ["a|2", "b|1", "null|1"]);
    let other = error(&mut of_alice, "call sequin.retry_all('b')");
    assert_eq!(other.code().code(), "42704");
    assert_eq!(rows(&mut client, attempts), ["a|2", "b|1", "null|1"]);
    run(&mut client, "call sequin.retry_all()");
    assert_eq!(rows(&mut client, attempts), ["a|3", "b|2", "null|2"]);
}
