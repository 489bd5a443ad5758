//! Nulls of reads where the source's type is not that of the destination: a backfill sends null for what it cannot read,
//! whatever the destination makes of it.

use postgres::Client;
use support::{Database, GUARDS, run, send, upserted, value};

use super::item;

const DDL: &str = "create domain address as text;
    create table item (id integer primary key, n integer, ip text, v varchar(40), a address, d jsonb, j json, l text[],
                       e text, e2 jsonb, deep text)";

const COLUMNS: &str = r#"{"*": "record.*", "e": {"sql": "record->>'range'"}, "e2": {"sql": "record->'range'"},
                          "deep": "record.pair.x"}"#;

fn mapped(test: &str, guard: &str) -> (Database, Client) {
    let database = Database::new(&format!("convergence_{test}_{guard}"));
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    run(&mut client, DDL);
    run(
        &mut client,
        &format!(
            "select sequin.map('public.item', 'item', columns => '{}', guard => '{guard}', name => 'item')",
            COLUMNS.replace('\'', "''")
        ),
    );
    (database, client)
}

fn record(id: i64, n: i64) -> String {
    format!(
        r#"{{"id":{id},"n":{n},"ip":"10.0.0.1","v":"10.0.0.0/8","a":"ab  ","d":"(1,2)","j":["a"],"l":["s"],"range":"[1,3)","pair":{{"x":"<a/>"}}}}"#
    )
}

fn nulls(id: i64, n: i64) -> String {
    format!(
        r#"{{"id":{id},"n":{n},"ip":null,"v":null,"a":null,"d":null,"j":null,"l":null,"range":null,"pair":null}}"#
    )
}

const ALL: &str = r#"10.0.0.1|10.0.0.0/8|ab  |"(1,2)"|["a"]|{s}|[1,3)|"[1,3)"|<a/>"#;

/// The row without `id`.
fn row(client: &mut Client, id: i64) -> String {
    let query = format!(
        "select n || '|' || concat_ws('|', ip, v, a, d, j, l, e, e2, deep) from item where id = {id}"
    );
    value(client, &query)
}

#[test]
fn a_null_for_a_value_that_changes_have_shown_is_kept() {
    for guard in GUARDS {
        let (database, mut client) = mapped("kept_nulls", guard);
        // What only reads have told is null.
        send(&mut client, &[item("read", 1, nulls(9, 1))]);
        assert_eq!(row(&mut client, 9), "1|null", "{guard}");
        send(&mut client, &[item("insert", 10, record(1, 1))]);
        let read = item("read", 3600, nulls(1, 2));
        assert_eq!(send(&mut client, &[read]), upserted(1), "{guard}");
        assert_eq!(row(&mut client, 1), format!("2|{ALL}"), "{guard}");
        // Other sessions know it, and the batch that shows it.
        let mut other = database.connect();
        let batch = [
            item("insert", 20, record(2, 1)),
            item("read", 3700, nulls(1, 3)),
            item("read", 3700, nulls(2, 3)),
        ];
        send(&mut other, &batch);
        for id in [1, 2] {
            assert_eq!(row(&mut other, id), format!("3|{ALL}"), "{guard}");
        }
        // A change can tell that a value has become null.
        send(&mut client, &[item("update", 4000, nulls(2, 4))]);
        assert_eq!(row(&mut client, 2), "4|null", "{guard}");
    }
}

#[test]
fn a_read_that_has_a_value_shows_that_nulls_are_nulls() {
    for guard in GUARDS {
        let (_database, mut client) = mapped("shown", guard);
        send(
            &mut client,
            &[
                item("insert", 10, record(1, 1)),
                item("insert", 10, record(2, 1)),
            ],
        );
        // Not if it is rolled back.
        run(&mut client, "begin");
        send(&mut client, &[item("read", 3600, record(2, 2))]);
        run(&mut client, "rollback");
        send(&mut client, &[item("read", 3600, nulls(1, 2))]);
        assert_eq!(row(&mut client, 1), format!("2|{ALL}"), "{guard}");
        // In whatever order of the batch.
        let batch = [
            item("read", 3700, nulls(1, 3)),
            item("read", 3700, record(2, 3)),
        ];
        send(&mut client, &batch);
        assert_eq!(row(&mut client, 1), "3|null", "{guard}");
        send(&mut client, &[item("read", 3800, nulls(2, 4))]);
        assert_eq!(row(&mut client, 2), "4|null", "{guard}");
        // Other columns may be of other types.
        run(
            &mut client,
            r#"update sequin.mapping set columns = columns || '{"ip": "record.range"}'"#,
        );
        send(&mut client, &[item("insert", 5000, record(3, 5))]);
        send(&mut client, &[item("read", 9000, nulls(3, 6))]);
        assert_eq!(
            value(&mut client, "select ip from item where id = 3"),
            "[1,3)",
            "{guard}"
        );
    }
}
