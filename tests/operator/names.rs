//! The names that mappings get, and the functions that stop and start them by name.

use support::{Database, apply, code, error, item, rows, run, value};

#[test]
fn a_mapping_is_named_by_its_destination() {
    let mut database = Database::new("names");
    let alice = database.role("alice");
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create schema replica; create schema other;
             create table replica.orders (id integer primary key);
             create table other.orders (id integer primary key);
             grant all on schema replica to {alice}; grant all on replica.orders to {alice};
             grant execute on function sequin.map to {alice};
             select sequin.grant_source('*.*', '{alice}')"
        ),
    );
    let mut named = |source: &str, destination: &str| {
        let sql =
            format!("select name from sequin.map('{source}', {destination}, guard => 'table')");
        value(&mut client, &sql)
    };
    assert_eq!(named("public.orders", "'replica.orders'"), "orders");
    // the same again replaces it, also where the source is spelled otherwise
    assert_eq!(named("\"public\".orders", "'replica.orders'"), "orders");
    // neither another source nor another destination does
    assert_eq!(named("eu.orders", "'replica.orders'"), "replica.orders");
    assert_eq!(
        named("us.orders", "'replica.orders'"),
        "us.orders to replica.orders"
    );
    assert_eq!(named("public.orders", "'other.orders'"), "other.orders");
    assert_eq!(named("public.sessions", "null"), "public.sessions");
    assert_eq!(named("public.orders", "'replica.orders'"), "orders");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.mapping"),
        "5"
    );
    // a freed name is no reason to make a second mapping of the source
    run(&mut client, "select sequin.unmap('orders')");
    let again = "select name from sequin.map('eu.orders', 'replica.orders', guard => 'table')";
    assert_eq!(value(&mut client, again), "replica.orders");
    // a table that was dropped and made again has one mapping
    run(
        &mut client,
        "drop table other.orders; create table other.orders (id integer primary key);
         select sequin.map('public.orders', 'other.orders', guard => 'table')",
    );
    let made = "select count(*), min(name) from sequin.mapping where source = 'public.orders'";
    assert_eq!(value(&mut client, made), "1|other.orders");
    // nobody takes over a mapping of another owner by a derived name
    let hers = value(
        &mut database.connect_as(&alice),
        "select name from sequin.map('eu.orders', 'replica.orders', guard => 'table')",
    );
    assert_eq!(hers, "orders");
}

/// Two sessions derive one name at once.
#[test]
fn a_derived_name_replaces_no_mapping_of_another_session() {
    let database = Database::new("names_race");
    let (mut first, mut second) = (database.connect(), database.connect());
    run(&mut first, "create table orders (id integer primary key)");
    run(
        &mut first,
        "begin; select sequin.map('eu.orders', 'orders', guard => 'table')",
    );
    let waiting = std::thread::spawn(move || {
        value(
            &mut second,
            "select name from sequin.map('us.orders', 'orders', guard => 'table')",
        )
    });
    let mut watch = database.connect();
    let blocked = "select count(*) from pg_locks where not granted";
    while value(&mut watch, blocked) == "0" {
        std::thread::yield_now();
    }
    run(&mut first, "commit");
    assert_eq!(waiting.join().expect("no panic"), "public.orders");
    assert_eq!(
        rows(
            &mut first,
            "select name || ' < ' || source from sequin.mapping order by id"
        ),
        ["orders < eu.orders", "public.orders < us.orders"]
    );
}

#[test]
fn pause_and_resume() {
    let mut database = Database::new("pause_and_resume");
    let (alice, bob) = (database.role("alice"), database.role("bob"));
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create table item (id integer primary key, name text);
             select sequin.map('public.item', 'item', guard => 'table');
             grant execute on function sequin.pause, sequin.resume to {alice};"
        ),
    );
    run(&mut client, "select sequin.pause('item')");
    let state = "select state from sequin.status";
    assert_eq!(value(&mut client, state), "paused");
    let refused = support::apply_error(&mut client, &item(1, "a"));
    assert_eq!(code(&refused), "55000");
    let hint = refused.hint().unwrap_or_default().to_owned();
    run(&mut client, hint.trim_start_matches("To resume it, run: "));
    assert_eq!(value(&mut client, state), "running");
    assert_eq!(apply(&mut client, &item(1, "a")).upserted, 1);

    let wrong = error(&mut client, "select sequin.pause('itme')");
    assert_eq!(code(&wrong), "42704");
    assert!(
        wrong.hint().is_some_and(|hint| hint.contains("\"item\"")),
        "{wrong:?}"
    );
    // another owner's mapping is not there for Alice, and Bob may not even ask
    let hers = error(
        &mut database.connect_as(&alice),
        "select sequin.pause('item')",
    );
    assert_eq!(code(&hers), "42704");
    let his = error(
        &mut database.connect_as(&bob),
        "select sequin.pause('item')",
    );
    assert_eq!(code(&his), "42501");
}

/// A foreign table shows no unique index: every message would fail.
#[test]
fn a_key_of_a_foreign_table_is_refused() {
    let database = Database::new("foreign_key_of_log");
    let mut client = database.connect();
    run(
        &mut client,
        "create foreign data wrapper nothing; create server nowhere foreign data wrapper nothing;
         create foreign table far (id integer, name text) server nowhere",
    );
    let refused = support::error(
        &mut client,
        "select sequin.map('public.far', 'far', mode => 'append', key => '{id}')",
    );
    assert_eq!(support::code(&refused), "42809");
    assert!(
        refused
            .hint()
            .is_some_and(|hint| hint.starts_with("Leave the key out"))
    );
}
