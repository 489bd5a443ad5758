//! Payloads and lines that are not JSON: one letter each, and the others are applied.

use postgres::Client;
use postgres::types::Type;
use support::{Counts, Database, apply, code, error, message, rows, run, upserted, value};

const ITEM: &str = "create table item (id integer primary key, name text)";

const LETTERS: &str = "select position, sqlstate, message, attempts, hint like '%sequin.discard%' from sequin.dead_letter order by id";

fn item(id: u64, name: &str) -> String {
    message(
        "insert",
        "item",
        id,
        &format!(r#"{{"id":{id},"name":"{name}"}}"#),
    )
}

fn mapped(test: &str) -> (Database, Client) {
    Database::mapped(test, ITEM, &["item"], "table")
}

/// Applies payloads as a broker gives them.
fn payloads(client: &mut Client, payloads: &[Option<&str>]) -> Counts {
    let sql = "select received, upserted, deleted, collapsed, stale, filtered, ignored, dead
               from sequin_apply($1::text[])";
    let row = client.query_one(sql, &[&payloads]).expect("a row");
    Counts {
        received: row.get(0),
        upserted: row.get(1),
        deleted: row.get(2),
        collapsed: row.get(3),
        stale: row.get(4),
        filtered: row.get(5),
        ignored: row.get(6),
        dead: row.get(7),
    }
}

fn outcome(upserted: i64, dead: i64) -> Counts {
    Counts {
        received: upserted + dead,
        upserted,
        dead,
        ..Counts::default()
    }
}

#[test]
fn a_bad_payload_is_one_letter() {
    let (_database, mut client) = mapped("payloads");
    let (one, two, three) = (item(1, "a"), item(2, "b"), item(3, "c"));
    let both = format!(r#"{{"data":[{two},{three}]}}"#);
    let all = [
        Some(one.as_str()),
        None,
        Some("{\"action\":"),
        Some(""),
        Some(&both),
        Some("not json"),
        Some("\n"),
    ];
    assert_eq!(payloads(&mut client, &all), outcome(3, 5));
    let letters = [
        "1|22P02|null|1|t",
        "2|22P02|{\"action\":|1|t",
        "3|22P02||1|t",
        "6|22P02|not json|1|t",
        "7|22P02|\n|1|t",
    ];
    assert_eq!(rows(&mut client, LETTERS), letters);
    assert_eq!(value(&mut client, "select count(*) from item"), "3");
    // They come again, and are counted.
    payloads(&mut client, &all);
    let again = letters.map(|letter| letter.replace("|1|t", "|2|t"));
    assert_eq!(rows(&mut client, LETTERS), again);
    // A letter that is tried again stays a letter.
    assert_eq!(
        value(&mut client, "select received, dead from sequin.retry() r"),
        "5|5"
    );
    assert_eq!(
        value(
            &mut client,
            "select count(*), min(attempts), max(sqlstate) from sequin.dead_letter"
        ),
        "5|3|22P02"
    );
}

#[test]
fn a_bad_text_of_a_list_is_one_letter() {
    let (_database, mut client) = mapped("list");
    let text = |text: &str| format!("{text:?}");
    let list = format!(
        "[{},\"nonsense\",{},{}]",
        text(&item(1, "a")),
        text("{\"action\":"),
        text(&item(2, "b"))
    );
    assert_eq!(apply(&mut client, &list), outcome(2, 2));
    let letters = ["1|22P02|nonsense|1|t", "2|22P02|{\"action\":|1|t"];
    assert_eq!(rows(&mut client, LETTERS), letters);
    assert_eq!(value(&mut client, "select count(*) from item"), "2");
}

#[test]
fn a_bad_line_is_one_letter() {
    let (_database, mut client) = mapped("lines");
    let lines = |bad: &str| format!("{}\n{bad}\n{}\n", item(1, "a"), item(2, "b"));
    for (times, bad) in (1..).zip(["oops", "{\"data\":[", "{\"record\":{\"id\":3,"]) {
        let counts = apply(&mut client, &lines(bad));
        assert_eq!((counts.received, counts.dead), (3, 1), "{bad}");
        let last = "select position, message, error like 'line is not JSON: expected %'
                    from sequin.dead_letter order by id desc limit 1";
        assert_eq!(value(&mut client, last), format!("1|{bad}|t"));
        let count = "select count(*) from sequin.dead_letter";
        assert_eq!(value(&mut client, count), times.to_string());
    }
    assert_eq!(value(&mut client, "select count(*) from item"), "2");
    // A document that is cut off is not applied in part.
    let document = format!("[\n{},\n{},\n{}", item(3, "c"), item(4, "d"), item(5, "e"));
    let cut = error(
        &mut client,
        &format!("select sequin_apply($batch${document}$batch$)"),
    );
    assert_eq!(code(&cut), "22P02");
    assert!(
        cut.hint()
            .is_some_and(|hint| hint.contains("Nothing of this"))
    );
    assert_eq!(value(&mut client, "select count(*) from item"), "2");
}

#[test]
fn a_batch_of_nothing() {
    let (_database, mut client) = mapped("nothing");
    for batch in ["[]", "{\"data\":[]}", " ", "\n", "\r\n\n"] {
        assert_eq!(apply(&mut client, batch), Counts::default(), "{batch:?}");
    }
    assert_eq!(payloads(&mut client, &[]), Counts::default());
    assert_eq!(payloads(&mut client, &[Some("[]")]), Counts::default());
    assert_eq!(apply(&mut client, ""), outcome(0, 1));
    assert_eq!(
        rows(
            &mut client,
            "select message = '', sqlstate from sequin.dead_letter"
        ),
        ["t|22P02"]
    );
    let null = error(&mut client, "select sequin_apply(null::text[])");
    assert_eq!(code(&null), "22004");
}

#[test]
fn what_has_no_type_is_text() {
    let (_database, mut client) = mapped("untyped");
    let prepared = client
        .prepare("select upserted from sequin_apply($1)")
        .expect("a statement");
    assert_eq!(prepared.params(), [Type::TEXT]);
    let message = item(1, "a");
    assert_eq!(
        client
            .query_one(&prepared, &[&message])
            .expect("a row")
            .get::<_, i64>(0),
        1
    );
    run(
        &mut client,
        "prepare untyped as select upserted from sequin_apply($1)",
    );
    let types = "select parameter_types from pg_prepared_statements where name = 'untyped'";
    assert_eq!(value(&mut client, types), "{text}");
    for call in [
        format!("sequin_apply('{}')", item(2, "b")),
        format!("sequin_apply('{}'::varchar)", item(3, "c")),
        format!("sequin_apply(batch => '{}'::text)", item(4, "d")),
        format!("sequin_apply(array['{}'])", item(5, "e")),
        format!("sequin_apply(array['{}'::varchar])", item(6, "f")),
        format!(
            "sequin_apply(payloads => array[['{}'], ['{}']])",
            item(7, "g"),
            item(8, "h")
        ),
        format!(
            "sequin_apply((select array_agg(m) from (values ('{}')) v(m)))",
            item(9, "i")
        ),
    ] {
        let sql = format!("select received = upserted and dead = 0 from {call}");
        assert_eq!(value(&mut client, &sql), "t", "{call}");
    }
    assert_eq!(value(&mut client, "select count(*) from item"), "9");
}

#[test]
fn payloads_need_execute() {
    let (mut database, mut client) = mapped("payload_roles");
    let forwarder = database.role("forwarder");
    let mut other = database.connect_as(&forwarder);
    let call = format!(
        "select dead, upserted from sequin_apply(array['{}', null])",
        item(1, "a")
    );
    assert_eq!(code(&error(&mut other, &call)), "42501");
    run(
        &mut client,
        &format!("grant execute on function sequin_apply(text[]) to {forwarder}"),
    );
    assert_eq!(value(&mut other, &call), "1|1");
}

/// A payload of an encoding that the database does not have fails the call, as in a text.
#[test]
fn limits_are_those_of_a_text() {
    let (_database, mut client) = mapped("payload_limits");
    run(&mut client, "set sequin.max_batch_messages = 3");
    let four = "select sequin_apply(array['x', 'y', 'z', null])";
    assert_eq!(code(&error(&mut client, four)), "54000");
    assert_eq!(payloads(&mut client, &[Some("x"); 3]), outcome(0, 3));
    run(&mut client, "set sequin.max_batch_bytes = 2000");
    let large = "select sequin_apply(array[repeat('x', 1000), repeat('y', 1000)])";
    assert_eq!(code(&error(&mut client, large)), "54000");
    assert_eq!(apply(&mut client, &item(1, "a")), upserted(1));
}
