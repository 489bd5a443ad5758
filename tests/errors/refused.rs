//! Transactions that may not write, and foreign tables that do not answer.

use support::{
    Counts, Database, apply, apply_error, batch, has_extensions, message, rows, run, value,
    variable,
};

use super::{RAISING, insert};

#[test]
fn a_transaction_that_may_not_write_is_told_so() {
    let database = Database::new("read_only");
    let mut client = database.connect();
    run(&mut client, RAISING);
    run(&mut client, "select sequin.map('public.item', 'item')");
    for sql in [
        "begin read only",
        "begin isolation level serializable read only",
        "set default_transaction_read_only = on",
    ] {
        run(&mut client, sql);
        let error = apply_error(&mut client, &insert("item", 1, "a"));
        assert_eq!(error.code().code(), "25006", "{sql}");
        assert_eq!(
            error.message(),
            "cannot apply messages in a read-only transaction"
        );
        assert_eq!(
            error.hint(),
            Some(
                "Run SET default_transaction_read_only = off, or begin the transaction READ WRITE."
            )
        );
        run(&mut client, "rollback");
    }
    run(&mut client, "set default_transaction_read_only = off");
    assert_eq!(apply(&mut client, &insert("item", 1, "a")).upserted, 1);
}

#[test]
fn a_foreign_table_is_appended_to() {
    let database = Database::new("foreign");
    let mut client = database.connect();
    if !has_extensions(&mut client, &["postgres_fdw"]) {
        return;
    }
    let host = variable("PGHOST");
    let port = variable("PGPORT");
    let name = value(&mut client, "select current_database()");
    run(
        &mut client,
        &format!(
            "create table near (id integer primary key, name text not null);
             create extension postgres_fdw;
             create server loopback foreign data wrapper postgres_fdw
                 options (host '{host}', port '{port}', dbname '{name}');
             create user mapping for current_user server loopback;
             create foreign table far (id integer, name text) server loopback options (table_name 'near');
             select sequin.map('public.item', 'far', mode => 'append', name => 'far')"
        ),
    );
    let null = message("insert", "item", 9, r#"{"id":9,"name":null}"#);
    let messages = batch(&[insert("item", 1, "one"), null, insert("item", 2, "two")]);
    let wanted = Counts {
        received: 3,
        upserted: 2,
        dead: 1,
        ..Counts::default()
    };
    assert_eq!(apply(&mut client, &messages), wanted);
    assert_eq!(
        rows(&mut client, "select * from near order by id"),
        ["1|one", "2|two"]
    );
    let letter = "select position, sqlstate from sequin.dead_letter";
    assert_eq!(rows(&mut client, letter), ["1|23502"]);
    // its server is gone: the message waits until it is back
    run(&mut client, "alter server loopback options (set port '1')");
    assert_eq!(apply(&mut client, &insert("item", 3, "three")).dead, 1);
    let waiting = "select sqlstate from sequin.dead_letter where state = 'waiting'";
    assert_eq!(rows(&mut client, waiting), ["08001"]);
    run(
        &mut client,
        &format!("alter server loopback options (set port '{port}')"),
    );
    assert_eq!(apply(&mut client, &insert("item", 4, "four")).upserted, 1);
    assert_eq!(rows(&mut client, letter), ["1|23502"]);
    assert_eq!(value(&mut client, "select count(*) from near"), "4");
}
