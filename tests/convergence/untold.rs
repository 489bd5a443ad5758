//! Nulls of reads where the destination's type does not tell the source's: a backfill sends null for what it cannot read,
//! whatever the destination makes of it.

use postgres::Client;
use support::{Database, Message, apply_jsonb, batch, rows, run, send, upserted, value};

use super::{GUARDS, item};

const DDL: &str = "create domain address as text;
    create table item (id integer primary key, n integer, ip text, v varchar(40), a address, d jsonb, j json, l text[],
                       e text, e2 jsonb, f text, all_of jsonb, note text, known inet, known_too text)";

const COLUMNS: &str = r#"{"*": "record.*", "e": {"sql": "record->>'range'"}, "e2": {"sql": "record->'range'"},
    "f": {"sql": "concat_ws(' ', record->>'pair', record->>'n')"}, "all_of": "record", "known_too": "record.known"}"#;

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
        r#"{{"id":{id},"n":{n},"ip":"10.0.0.1","v":"10.0.0.0/8","a":"ab  ","d":"(1,2)","j":"<a/>","l":["::1"],
            "range":"[1,3)","pair":"(1,a)","note":"text","known":"10.0.0.9"}}"#
    )
}

/// The record of a read of a row like this: the backfill can read `id`, `n` and `note`.
fn nulls(id: i64, n: i64, note: &str) -> String {
    format!(
        r#"{{"id":{id},"n":{n},"ip":null,"v":null,"a":null,"d":null,"j":null,"l":null,
            "range":null,"pair":null,"note":{note},"known":null}}"#
    )
}

const ALL: &str =
    r#"10.0.0.1|10.0.0.0/8|ab  |"(1,2)"|"<a/>"|{::1}|[1,3)|"[1,3)"|10.0.0.9|10.0.0.9"#;

/// The values that a backfill cannot read, `n` before them.
fn row(client: &mut Client, id: i64) -> String {
    let query = format!(
        "select n || '|' || concat_ws('|', ip, v, a, d, j, l, e, e2, host(known), known_too) from item where id = {id}"
    );
    value(client, &query)
}

/// Whether the document in `all_of` has what the columns have.
fn agrees(client: &mut Client, id: i64) -> String {
    let query = format!(
        "select ((all_of->>'n', all_of->>'ip', all_of->>'v', all_of->>'d', all_of->>'range', all_of->>'note')
                 is not distinct from (n::text, ip, v, d #>> array[]::text[], e, note))::text
                || coalesce(' ' || (all_of->>'known'), '') || coalesce(' ' || f, '') from item where id = {id}"
    );
    value(client, &query)
}

#[test]
fn a_null_for_a_value_of_a_type_that_a_backfill_cannot_read_is_no_value() {
    for guard in GUARDS {
        let (database, mut client) = mapped("untold", guard);
        // What only reads have told is null.
        send(&mut client, &[item("read", 1, nulls(9, 1, "null"))]);
        assert_eq!(row(&mut client, 9), "1|null", "{guard}");
        send(&mut client, &[item("insert", 10, record(1, 1))]);
        let read = item("read", 3600, nulls(1, 2, "\"other\""));
        assert_eq!(send(&mut client, &[read]), upserted(1), "{guard}");
        assert_eq!(row(&mut client, 1), format!("2|{ALL}"), "{guard}");
        // SQL that reads such a value sees the one that is there.
        assert_eq!(agrees(&mut client, 1), "true 10.0.0.9 (1,a) 2", "{guard}");
        // Other sessions know it, and the batch that shows it, as jsonb too.
        let mut other = database.connect();
        let messages = [
            item("insert", 20, record(2, 1)),
            item("read", 3700, nulls(1, 3, "null")),
            item("read", 3700, nulls(2, 3, "null")),
        ];
        apply_jsonb(&mut other, &batch(&messages));
        for id in [1, 2] {
            assert_eq!(row(&mut other, id), format!("3|{ALL}"), "{guard}");
            assert_eq!(agrees(&mut client, id), "true 10.0.0.9 (1,a) 3", "{guard}");
        }
        // A null of a text is one.
        let notes =
            "select count(*) from item where note is not null or all_of->>'note' is not null";
        assert_eq!(value(&mut client, notes), "0", "{guard}");
        // In a row that is new, such a value is null.
        send(&mut client, &[item("read", 3700, nulls(3, 4, "\"x\""))]);
        assert_eq!(row(&mut client, 3), "4|", "{guard}");
        let note = "select all_of->>'note' from item where id = 3";
        assert_eq!(value(&mut client, note), "x", "{guard}");
        // A change can tell that a value has become null.
        send(&mut client, &[item("update", 4000, nulls(2, 4, "null"))]);
        assert_eq!(row(&mut client, 2), "4|null", "{guard}");
        assert_eq!(agrees(&mut client, 2), "true 4", "{guard}");
        assert_eq!(
            value(&mut client, "select count(*) from sequin.dead_letter"),
            "0",
            "{guard}"
        );
    }
}

#[test]
fn a_read_that_has_a_value_tells_that_nulls_are_nulls() {
    for guard in GUARDS {
        let (database, mut client) = mapped("told", guard);
        let known = "select count(distinct name) from sequin.unreadable_member";
        let two = [
            item("insert", 10, record(1, 1)),
            item("insert", 10, record(2, 1)),
        ];
        // Not if it is rolled back.
        run(&mut client, "begin");
        send(&mut client, &two);
        run(&mut client, "rollback");
        assert_eq!(value(&mut client, known), "0", "{guard}");
        send(&mut client, &two);
        assert_eq!(value(&mut client, known), "9", "{guard}");
        run(&mut client, "begin");
        send(&mut client, &[item("read", 3600, record(2, 2))]);
        run(&mut client, "rollback");
        send(&mut client, &[item("read", 3600, nulls(1, 2, "null"))]);
        assert_eq!(row(&mut client, 1), format!("2|{ALL}"), "{guard}");
        // In whatever order of the batch
        let messages = [
            item("read", 3700, nulls(1, 3, "null")),
            item("read", 3700, record(2, 3)),
        ];
        send(&mut client, &messages);
        // but for an inet, whose column tells its type
        assert_eq!(row(&mut client, 1), "3|null|10.0.0.9|10.0.0.9", "{guard}");
        let mut other = database.connect();
        send(&mut other, &[item("read", 3800, nulls(2, 4, "null"))]);
        assert_eq!(row(&mut client, 2), "4|null|10.0.0.9|10.0.0.9", "{guard}");
        // Another table is another matter.
        run(
            &mut client,
            "update sequin.mapping set source = 'public.other'",
        );
        assert_eq!(value(&mut client, known), "0", "{guard}");
    }
}

/// The nulls of a text are nulls, unless all of its texts look like another type's.
#[test]
fn nulls_of_texts_arrive_by_reads() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_texts_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            &format!(
                r#"create table item (id integer primary key, t text, data jsonb);
                   select sequin.map('public.item', 'item', guard => '{guard}', name => 'item',
                       columns => '{{"*": "record.*", "data": "record"}}')"#
            ),
        );
        let text = |action, lsn, id: i64, text: &str| -> Message {
            item(action, lsn, format!(r#"{{"id":{id},"t":{text}}}"#))
        };
        let values = [
            r#""hello""#,
            r#""DE""#,
            r#""42""#,
            r#""""#,
            "[1]",
            "{}",
            "true",
            "1.5",
        ];
        for (n, sent) in values.into_iter().enumerate() {
            run(
                &mut client,
                "delete from item; select sequin.forget_versions('item')",
            );
            let lsn = 10 * (n as u64 + 1);
            send(&mut client, &[text("insert", lsn, 1, sent)]);
            send(&mut client, &[text("read", 3600 + lsn, 1, "null")]);
            let nulls = "select count(*) from item where t is null and data->>'t' is null";
            assert_eq!(value(&mut client, nulls), "1", "{guard} {sent}");
        }
        // A text like an address among others
        let mixed = [
            text("insert", 200, 2, r#""10.0.0.1""#),
            text("insert", 200, 3, r#""(see below)""#),
        ];
        send(&mut client, &mixed);
        let reads = [text("read", 3900, 2, "null"), text("read", 3900, 3, "null")];
        send(&mut client, &reads);
        let texts = "select count(*) from item where t is not null";
        assert_eq!(value(&mut client, texts), "0", "{guard}");
    }
}

/// A filter does not delete a row, or let one in, for a value that a read does not have.
#[test]
fn filters_over_what_a_read_does_not_have() {
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_filtered_reads_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            &format!(
                "set client_min_messages = error;
                 create table item (id integer primary key, name text);
                 select sequin.map('public.item', 'item', guard => '{guard}',
                     filter => $$record->>'ip' like '10.%'$$)"
            ),
        );
        let of = |action, lsn, id: i64, name: &str, ip: &str| {
            let record = format!(r#"{{"id":{id},"name":"{name}","ip":{ip}}}"#);
            item(action, lsn, record)
        };
        send(&mut client, &[of("insert", 10, 1, "a", "\"10.0.0.1\"")]);
        let reads = [
            of("read", 3600, 1, "b", "null"),
            of("read", 3600, 2, "b", "null"),
        ];
        send(&mut client, &reads);
        let all = "select id, name from item order by id";
        assert_eq!(rows(&mut client, all), ["1|b"], "{guard}");
    }
}
