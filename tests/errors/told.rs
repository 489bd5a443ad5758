//! What a caller is told, and that a call which fails or is rolled back leaves nothing.

use postgres::Client;
use support::{Counts, Database, apply, apply_error, batch, code, item, message, rows, run, value};

#[test]
fn errors_are_told_over_the_wire() {
    let database = Database::new("errors");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text not null);
         select sequin.map('public.item', 'item', guard => 'off', name => 'it''s')",
    );
    let error = apply_error(&mut client, r#"{"data":[}"#);
    assert_eq!(code(&error), "22P02");
    assert_eq!(error.severity(), "ERROR");
    assert_eq!(error.message(), "invalid input syntax for type json");
    let detail = error.detail().unwrap_or_default();
    assert!(
        detail.contains(" at byte ") && detail.ends_with(" of the batch."),
        "{detail}"
    );
    assert!(
        error
            .hint()
            .unwrap_or_default()
            .ends_with("Nothing of this batch was applied.")
    );

    let sql = "select sequin_apply(null)";
    let error = support::error(&mut client, sql);
    assert_eq!(code(&error), "22004");
    assert_eq!(error.message(), "batch must not be null");

    run(&mut client, "update sequin.mapping set on_error = 'raise'");
    let error = apply_error(
        &mut client,
        &message("insert", "item", 1, r#"{"id":"x","name":"a"}"#),
    );
    assert_eq!(code(&error), "22P02");
    assert_eq!(
        error.detail(),
        Some(r#"At messages[0].record.id into column "id" of type integer."#)
    );
    assert!(
        error
            .where_()
            .unwrap_or_default()
            .contains(r#"mapping "it's""#),
        "{:?}",
        error.where_()
    );
    let error = apply_error(
        &mut client,
        &message("insert", "item", 1, r#"{"id":1,"name":null}"#),
    );
    assert_eq!(code(&error), "23502");
    assert_eq!(error.column(), Some("name"));
    assert_eq!(error.table(), Some("item"));

    run(&mut client, "update sequin.mapping set enabled = false");
    let error = apply_error(&mut client, &item(1, "one"));
    assert_eq!(code(&error), "55000");
    assert_eq!(error.message(), r#"mapping "it's" is paused"#);
    assert!(
        error
            .detail()
            .is_some_and(|detail| detail.starts_with("Nothing of this batch was applied"))
    );
    let hint = error.hint().unwrap_or_default();
    let resume = "SELECT sequin.resume('it''s');";
    assert!(hint.ends_with(resume), "{hint}");
    run(&mut client, resume);

    run(&mut client, "drop table item");
    let error = apply_error(&mut client, &item(1, "one"));
    assert_eq!(code(&error), "42P01");
    assert_eq!(
        error.message(),
        r#"the destination of mapping "it's" does not exist"#
    );
    assert!(error.detail().is_some());
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("SELECT sequin.unmap('it''s');"), "{hint}");
    run(&mut client, "SELECT sequin.unmap('it''s');");
    assert_eq!(apply(&mut client, &item(1, "one")).dead, 1);
}

/// `item` raises the SQLSTATE that a name is, and sleeps when it is `sleep`; failures of `raising` fail the call.
const FAILING: &str = r#"
    create table item (id integer primary key, name text not null);
    create table raising (id integer primary key, name text not null);
    create function act() returns trigger language plpgsql as $$
    begin
        if new.name = 'sleep' then perform pg_sleep(60); end if;
        if new.name ~ '^[0-9A-Z]{5}$' then raise 'as asked' using errcode = new.name; end if;
        return new;
    end $$;
    create trigger act before insert or update on item for each row execute function act();
    insert into item values (100, 'locked');
    select sequin.map('public.item', 'item', guard => 'off', name => 'item');
    select sequin.map('public.raising', 'raising', guard => 'off', name => 'raising', on_error => 'raise')"#;

fn insert(table: &str, id: u64, name: &str) -> String {
    let record = format!(r#"{{"id":{id},"name":{name}}}"#);
    message("insert", table, id, &record)
}

#[test]
fn a_call_that_fails_applies_nothing() {
    let database = Database::new("nothing");
    let (mut client, other) = (database.connect(), database.connect());
    run(&mut client, FAILING);
    let good = [
        insert("item", 1, r#""one""#),
        insert("raising", 1, r#""one""#),
        "42".to_owned(),
    ];
    let with = |last: String| batch(&[good.as_slice(), &[last]].concat());
    // JSON that ends too soon; a failure of a mapping that raises
    let cut_off = format!("[{},{{\"action\":", good.join(","));
    assert_eq!(code(&apply_error(&mut client, &cut_off)), "22P02");
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("raising", 2, "null"))
        )),
        "23502"
    );
    assert_eq!(
        code(&apply_error(
            &mut client,
            &with(insert("raising", 2, r#""a\u0000b""#))
        )),
        "22P05"
    );
    ends_at_limits(&mut client, other, &with);
    assert_eq!(rows(&mut client, "table item"), ["100|locked"]);
    assert_eq!(value(&mut client, "select count(*) from raising"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
    // and the session goes on
    let counts = apply(&mut client, &with(insert("item", 2, r#""two""#)));
    assert_eq!(
        counts,
        Counts {
            received: 4,
            upserted: 3,
            dead: 1,
            ..Counts::default()
        }
    );
    // what the trigger raises is the message's fault, whatever its code
    for state in [
        "P0001", "AB123", "22012", "42883", "0A000", "40001", "40P01", "53100", "53200", "55P03",
        "57P01", "58030", "XX000", "XX001", "08006",
    ] {
        let counts = apply(&mut client, &insert("item", 3, &format!("\"{state}\"")));
        assert_eq!(counts.dead, 1, "{state}");
    }
}

/// Time limits, and a cancel by the client; `with` makes a batch of one more message.
fn ends_at_limits(client: &mut Client, mut other: Client, with: &dyn Fn(String) -> String) {
    run(client, "set statement_timeout = '100ms'");
    assert_eq!(
        code(&apply_error(client, &with(insert("item", 2, r#""sleep""#)))),
        "57014"
    );
    run(
        client,
        "reset statement_timeout; set lock_timeout = '100ms'",
    );
    run(
        &mut other,
        "begin; update item set name = 'locked too' where id = 100",
    );
    assert_eq!(
        code(&apply_error(client, &with(insert("item", 100, r#""a""#)))),
        "55P03"
    );
    run(&mut other, "rollback");
    // a cancel
    let cancel = client.cancel_token();
    let pid = value(client, "select pg_backend_pid()");
    let cancelling = std::thread::spawn(move || {
        let asleep = format!(
            "select count(*) from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep'"
        );
        while value(&mut other, &asleep) == "0" {}
        cancel.cancel_query(postgres::NoTls).expect("a cancel");
    });
    assert_eq!(
        code(&apply_error(client, &with(insert("item", 2, r#""sleep""#)))),
        "57014"
    );
    cancelling.join().expect("it was cancelled");
}

#[test]
fn a_rolled_back_call_leaves_nothing() {
    let database = Database::new("rollback");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id integer primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off')",
    );
    run(&mut client, "begin");
    apply(&mut client, &batch(&[item(1, "one"), "42".to_owned()]));
    run(&mut client, "savepoint s");
    apply(&mut client, &item(2, "two"));
    apply_error(&mut client, "{");
    run(&mut client, "rollback to s");
    assert_eq!(value(&mut client, "select name from item"), "one");
    apply(&mut client, &item(2, "again"));
    assert_eq!(value(&mut client, "select name from item"), "again");
    run(&mut client, "rollback");
    assert_eq!(value(&mut client, "select count(*) from item"), "0");
    assert_eq!(
        value(&mut client, "select count(*) from sequin.dead_letter"),
        "0"
    );
}
