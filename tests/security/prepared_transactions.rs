//! A transaction that somebody prepares and leaves.

use support::{Database, apply, message, run, value};

#[test]
fn a_prepared_transaction_does_not_block_counters() {
    let database = Database::new("prepared");
    let mut client = database.connect();
    if value(&mut client, "show max_prepared_transactions") == "0" {
        panic!("the server of the tests has no prepared transactions");
    }
    run(
        &mut client,
        "create table item (id bigint primary key, name text);
         select sequin.map('public.item', 'item', guard => 'off', name => 'item')",
    );
    let of = |id: u64| {
        message(
            "insert",
            "item",
            id,
            &format!(r#"{{"id":{id},"name":"x"}}"#),
        )
    };
    apply(&mut client, &of(1));
    let name = database.name();
    for id in 2..5 {
        run(&mut client, "begin");
        apply(&mut client, &of(id));
        run(&mut client, &format!("prepare transaction '{name}_{id}'"));
    }
    // later backends, one of which has the number that this one had
    drop(client);
    let mut later: Vec<_> = (0..5).map(|_| database.connect()).collect();
    for (i, client) in later.iter_mut().enumerate() {
        run(client, "set lock_timeout = '5s'");
        apply(client, &of(10 + i as u64));
        apply(client, &of(20 + i as u64));
    }
    let counted = "select upserted from sequin.status where name = 'item'";
    assert_eq!(value(&mut later[0], counted), "11");
    run(&mut later[0], &format!("rollback prepared '{name}_2'"));
    for id in 3..5 {
        run(&mut later[0], &format!("commit prepared '{name}_{id}'"));
    }
    assert_eq!(value(&mut later[0], counted), "13");
    apply(&mut later[0], &of(30));
    assert_eq!(value(&mut later[0], counted), "14");
    assert_eq!(value(&mut later[0], "select count(*) from item"), "14");
}
