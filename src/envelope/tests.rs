//! Every fixture, every shape, by text and by `jsonb`.

use std::fmt::Write;
use std::fs;

use bumpalo::Bump;

use super::*;
use crate::json::tests::{jsonb, same};
use crate::json::{Json, StringFault};
use crate::message::{Action, Version};

/// The messages and dead ones of each fixture that is not one message.
const OTHERS: [(&str, usize, usize); 19] = [
    ("duplicate_redelivery_batch", 2, 0),
    ("legacy_2024_11_record_kind_read", 0, 1),
    ("multi_change_transaction_batch", 5, 0),
    ("ordering_overtake_sequence", 0, 1),
    ("redis_stream_entry_record_only", 0, 1),
    ("redis_string_del", 0, 1),
    ("sequin_stream_receive_actual", 2, 0),
    ("sequin_stream_receive_empty", 0, 0),
    ("sequin_stream_receive_record_only", 0, 1),
    ("sqs_fifo_send_message_batch_request", 2, 0),
    ("transform_function_debezium_like", 0, 1),
    ("transform_function_key_value_ttl", 0, 1),
    ("transform_path_changes_batch", 0, 1),
    ("transform_path_metadata", 0, 1),
    ("transform_path_record_id", 0, 1),
    ("webhook_batch_mixed_actions", 4, 0),
    ("webhook_batch_multi_table", 4, 0),
    ("webhook_record_only_batch", 0, 2),
    ("webhook_record_only_single", 0, 1),
];

const MESSAGE: &str = r#"{"action":"insert","record":{"id":1},"changes":null,"metadata":{"table_schema":"public","table_name":"t","commit_lsn":7}}"#;

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap()
}

/// A batch, told in short: `public.t insert 7` for a message, the fault and the text for a dead one.
fn told(batch: &Batch) -> String {
    let mut out = String::new();
    for (index, item) in batch.items.iter().enumerate() {
        let _ = match item {
            Item::Message(m) => {
                assert_eq!(m.position, index);
                let lsn = m.version.map_or(-1, |version| version.lsn as i64);
                writeln!(out, "{}.{} {} {lsn}", m.schema, m.table, m.action.as_str())
            }
            Item::Dead { text, fault } => writeln!(out, "{fault}: {text}"),
        };
    }
    out
}

/// Reads the text, and the same as `jsonb`, which has to come out the same.
fn read(text: &str) -> String {
    let arena = Bump::new();
    let batch = read_text(text, &arena).unwrap();
    if let Ok(json) = Json::parse(text)
        && let Some(bytes) = jsonb(json)
    {
        let binary = read_jsonb(Jsonb::new(&bytes), &arena);
        assert_same(&batch, &binary);
    }
    told(&batch)
}

fn assert_same(a: &Batch, b: &Batch) {
    let (told_a, told_b) = (told(a), told(b));
    assert_eq!(a.items.len(), b.items.len(), "{told_a}\n{told_b}");
    for (item_a, item_b) in a.items.iter().zip(&b.items) {
        match (item_a, item_b) {
            (Item::Message(ma), Item::Message(mb)) => {
                assert_eq!(ma.position, mb.position);
                assert_eq!(ma.action, mb.action);
                assert_eq!((ma.schema, ma.table), (mb.schema, mb.table));
                assert_eq!(ma.database_id, mb.database_id);
                assert_eq!(ma.database_name, mb.database_name);
                assert_eq!((ma.version, ma.committed_at), (mb.version, mb.committed_at));
                assert!(same(ma.record, mb.record));
                assert!(same(ma.metadata, mb.metadata));
                assert!(same(ma.whole, mb.whole));
                assert_eq!(ma.changes.is_some(), mb.changes.is_some());
                if let (Some(a), Some(b)) = (ma.changes, mb.changes) {
                    assert!(same(a, b));
                }
                for (batch, m) in [(a, ma), (b, mb)] {
                    let of_record: Vec<_> = m.record.members().map(|(key, _)| key).collect();
                    let fields: Vec<_> = batch.fields(m).iter().map(|f| f.key).collect();
                    assert_eq!(fields, of_record);
                    for field in batch.fields(m) {
                        let value = m.record.get(field.key).unwrap();
                        assert!(same(value, field.value) || !is_unique(&fields, field.key));
                    }
                }
            }
            (Item::Dead { text: a, fault: fa }, Item::Dead { text: b, fault: fb }) => {
                assert_eq!(fa, fb);
                match (Json::parse(a), Json::parse(b)) {
                    (Ok(a), Ok(b)) => assert!(same(a, b)),
                    _ => assert_eq!(a, b),
                }
            }
            _ => panic!("{told_a}\n{told_b}"),
        }
    }
}

fn is_unique(keys: &[&str], key: &str) -> bool {
    keys.iter().filter(|k| **k == key).count() == 1
}

fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    format!("\"{}\"", base64::prelude::BASE64_STANDARD.encode(text))
}

const GOOD: &str = "public.t insert 7\n";

#[test]
fn fixtures() {
    let (mut files, mut others) = (0, 0);
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let other = OTHERS.iter().find(|(other, ..)| *other == name);
        let expected = other.map_or((1, 0), |(_, messages, dead)| (*messages, *dead));
        files += 1;
        others += usize::from(other.is_some());

        let text = fixture(name);
        read(&text);
        let arena = Bump::new();
        let batch = read_text(&text, &arena).unwrap();
        let is_message = |item: &&Item| matches!(item, Item::Message(_));
        let messages = batch.items.iter().filter(is_message).count();
        let dead = batch.items.len() - messages;
        assert_eq!((messages, dead), expected, "{name}: {}", told(&batch));
    }
    assert_eq!((files, others), (86, OTHERS.len()));
}

#[test]
fn a_message_in_full() {
    let text = fixture("azure_event_hub_event_body");
    let arena = Bump::new();
    let batch = read_text(&text, &arena).unwrap();
    let [Item::Message(message)] = &batch.items[..] else {
        panic!("{}", told(&batch));
    };
    assert_eq!(message.action, Action::Update);
    assert_eq!((message.schema, message.table), ("public", "orders_full"));
    assert_eq!(
        message.database_id,
        Some("12345678-9abc-def0-1234-56789abcdef0")
    );
    assert_eq!(message.database_name, Some("myapp-prod"));
    assert_eq!(message.source(), "12345678-9abc-def0-1234-56789abcdef0");
    assert_eq!(
        message.version,
        Some(Version {
            lsn: 31_674_736,
            idx: 0
        })
    );
    assert_eq!(message.committed_at, Some(1_795_348_565_475_180));
    assert!(
        message
            .changes
            .unwrap()
            .get("status")
            .unwrap()
            .is_string("pending")
    );
    assert!(message.metadata.get("record_pks").is_some());
    assert!(message.whole.get("metadata").is_some());
    let fields: Vec<_> = batch.fields(message).iter().map(|f| f.key).collect();
    let columns = [
        "created_at",
        "customer_id",
        "id",
        "price",
        "product",
        "quantity",
        "status",
        "updated_at",
    ];
    assert_eq!(fields, columns);
    assert_eq!(batch.fields(message)[2].value.number().unwrap(), "1234");
}

#[test]
fn large_positions_are_exact() {
    let text = fixture("commit_lsn_above_2_53_synthetic");
    let lsn = serde_json::from_str::<serde_json::Value>(&text).unwrap()["metadata"]["commit_lsn"]
        .as_u64();
    assert!(lsn.unwrap() > 1 << 53);
    assert!(read(&text).ends_with(&format!(" {}\n", lsn.unwrap())));
}

#[test]
fn envelopes() {
    let text = string(MESSAGE);
    let b64 = base64(MESSAGE);
    let sns = format!(r#"{{"Type":"Notification","Message":{text}}}"#);
    let url_safe = b64.replace('+', "-").replace('/', "_").replace('=', "");
    let parts = [
        r#""action","insert","changes","null","metadata","{\"table_schema\":\"public\",\"table_name\":\"t\",\"commit_lsn\":7}","record","{\"id\":1}""#,
        r#""record","{\"id\":1}","changes","","metadata","{\"table_schema\":\"public\",\"table_name\":\"t\",\"commit_lsn\":\"7\"}","action","insert""#,
    ];
    let mut shapes = vec![
        MESSAGE.to_owned(),
        format!(r#"{{"data":[{MESSAGE}]}}"#),
        format!(r#"{{"data":[{{"ack_id":"a","data":{MESSAGE}}}]}}"#),
        format!(r#"{{"data":[{{"data":{MESSAGE},"ack_id":"a"}}]}}"#),
        format!(
            r#"{{"data":[{}]}}"#,
            MESSAGE.replacen('{', r#"{"ack_id":"a","#, 1)
        ),
        format!(r#"{{"Records":[{{"messageId":"1","body":{text}}}]}}"#),
        format!(r#"{{"Records":[{{"body":{}}}]}}"#, string(&sns)),
        format!(r#"{{"Records":[{{"EventSource":"aws:sns","Sns":{sns}}}]}}"#),
        format!(r#"{{"Records":[{{"kinesis":{{"data":{b64},"partitionKey":"1"}}}}]}}"#),
        format!(r#"{{"Records":[{{"Data":{b64},"PartitionKey":"1"}}],"StreamARN":"a"}}"#),
        format!(r#"{{"requestId":"1","timestamp":1,"records":[{{"data":{url_safe}}}]}}"#),
        sns.clone(),
        format!(r#"{{"message":{{"data":{b64},"messageId":"1"}},"subscription":"s"}}"#),
        format!(r#"{{"messages":[{{"data":{b64},"orderingKey":"1"}}]}}"#),
        format!(r#"{{"receivedMessages":[{{"ackId":"1","message":{{"data":{b64}}}}}]}}"#),
        format!(r#"{{"data":{MESSAGE},"attributes":{{}}}}"#),
        format!(r#"[{{"data":{MESSAGE},"attributes":{{}}}}]"#),
        format!(r#"[{{"Body":{text}}}]"#),
        format!(r#"{{"records":[{{"body":{text}}}]}}"#),
        format!(r#"{{"Messages":[{{"MessageId":"1","Body":{text}}}]}}"#),
        format!(r#"{{"Entries":[{{"Id":"1","MessageBody":{text}}}],"QueueUrl":"q"}}"#),
        format!(r#"{{"topic":"t","key":"1","value":{text}}}"#),
        format!(r#"{{"topic":"t","key":"1","value":{MESSAGE}}}"#),
        format!(r#"{{"topic":"t","key":"1","value":{b64}}}"#),
        format!(r#"{{"records":[{{"key":"1","value":{MESSAGE}}}]}}"#),
        format!(
            r#"{{"eventSource":"aws:kafka","records":{{"t-0":[{{"value":{b64},"key":"MQ=="}}]}}}}"#
        ),
        format!(r#"{{"subject":"s","payload":{text}}}"#),
        format!(r#"{{"payload":{b64},"payload_encoding":"base64"}}"#),
        format!(r#"{{"command":["SET","k",{text}]}}"#),
        format!("[{text}]"),
        text.clone(),
        string(&text[1..text.len() - 1].replace("\\\"", "\"")),
        format!("[[{MESSAGE}]]"),
        format!(r#"{{"body":{MESSAGE},"headers":{{}}}}"#),
    ];
    for parts in parts {
        shapes.push(format!("[{parts}]"));
        shapes.push(format!(r#"{{"id":"1-0","fields":[{parts}]}}"#));
        shapes.push(format!(r#"["1-0",[{parts}]]"#));
        shapes.push(format!(r#"[["1-0",[{parts}]]]"#));
        shapes.push(format!(r#"[["stream",[["1-0",[{parts}]]]]]"#));
        let object = parts.replace("\",\"", "\"\n\"");
        let object: Vec<_> = object.split('\n').collect();
        let object: Vec<_> = object.chunks(2).map(|pair| pair.join(":")).collect();
        let object = format!("{{{}}}", object.join(","));
        shapes.push(format!(r#"{{"id":"1-0","fields":{object}}}"#));
        shapes.push(format!(r#"{{"id":"1-0","message":{object}}}"#));
        shapes.push(format!(r#"["1-0",{object}]"#));
        shapes.push(object);
    }
    for shape in shapes {
        assert_eq!(read(&shape), GOOD, "{shape}");
        assert_eq!(
            read(&format!(" [ {shape} , {shape} ]\n")),
            GOOD.repeat(2),
            "{shape}"
        );
        assert_eq!(
            read(&format!("{shape}\n{shape} ")),
            GOOD.repeat(2),
            "{shape}"
        );
        let body = format!(r#"{{"Records":[{{"body":{}}}]}}"#, string(&shape));
        assert_eq!(read(&body), GOOD, "{body}");
        let data = format!(r#"{{"message":{{"data":{}}}}}"#, base64(&shape));
        if shape.starts_with(['{', '[']) {
            assert_eq!(read(&data), GOOD, "{data}");
        }
    }
}

#[test]
fn empty_batches() {
    for empty in [
        "[]",
        "{\"data\":[]}",
        "{\"Records\":[]}",
        " [ ] ",
        "[{\"data\":[]}]",
        "[] []",
    ] {
        assert_eq!(read(empty), "", "{empty}");
    }
    // but a message that is an empty list is one
    assert_eq!(
        read("{\"data\":[[]]}"),
        "message is not a JSON object: []\n"
    );
    assert_eq!(
        read("[\"a\",[]]"),
        "message is not a JSON object: [\"a\",[]]\n"
    );
}

#[test]
fn a_message_whatever_else_it_has() {
    let more =
        r#""data":[1,2,3],"body":"{\"a\":1}","Records":[{"body":"x"}],"value":{"data":[1]},"#;
    for message in [
        MESSAGE.replacen('{', &format!("{{{more}"), 1),
        MESSAGE.replacen(r#""metadata""#, &format!("{more}\"metadata\""), 1),
        format!(
            "{},{}}}",
            &MESSAGE[..MESSAGE.len() - 1],
            &more[..more.len() - 1]
        ),
    ] {
        assert_eq!(read(&message), GOOD, "{message}");
        assert_eq!(read(&format!("[{message},{message}]")), GOOD.repeat(2));
    }
}

#[test]
fn the_rank_of_members_not_their_order_decides() {
    let a = r#""data":[{"action":"a"}]"#;
    let b = r#""value":"{\"action\":\"b\"}""#;
    let expected = "message has unknown action \"a\": {\"action\":\"a\"}\n";
    assert_eq!(read(&format!("{{{a},{b}}}")), expected);
    assert_eq!(read(&format!("{{{b},{a}}}")), expected);
    // the last of duplicates, even if it is none
    assert_eq!(read(&format!("{{{a},\"data\":[]}}")), "");
    assert_eq!(read(&format!("{{\"data\":[],{a}}}")), expected);
    let none = format!("{{{a},\"data\":5}}");
    assert_eq!(read(&none), format!("message has no action: {none}\n"));
}

#[test]
fn several_values() {
    assert_eq!(
        read(&format!("{MESSAGE}{MESSAGE}\t\r\n {MESSAGE}\n")),
        GOOD.repeat(3)
    );
    assert_eq!(
        read("1 [2] \"x\""),
        "message is not a JSON object: 1\nmessage is not a JSON object: 2\nmessage is not a JSON object: \"x\"\n"
    );
}

#[test]
fn faults_of_the_whole_text() {
    let arena = Bump::new();
    let byte = |text: &str| read_text(text, &arena).unwrap_err().byte;
    assert_eq!(byte(""), 0);
    assert_eq!(byte(" \n"), 2);
    assert_eq!(byte("1\"a\""), 1);
    assert_eq!(byte("[]1 2x"), 5);
    assert_eq!(byte("[1],"), 3);
    assert_eq!(byte("{\"data\":[{\"action\":\"insert\",}]}"), 28);
    assert_eq!(byte("{\"data\":[{\"record\":{\"a\" 1}}]}"), 24);
    assert_eq!(byte("{\"data\":[{\"metadata\":{\"database\":{]}}]}"), 34);
    assert_eq!(
        byte(&format!("{MESSAGE}\n{MESSAGE}\n}}")),
        2 * MESSAGE.len() + 2
    );
    for end in 0..MESSAGE.len() {
        assert_eq!(byte(&MESSAGE[..end]), end);
    }
    assert_eq!(byte(&"[".repeat(10_000_000)), 10_000_000);
    assert_eq!(byte(&"{\"data\":[".repeat(1_000_000)), 9_000_000);
    assert_eq!(byte(&"{\"record\":".repeat(1_000_000)), 10_000_000);
}

#[test]
fn bodies_that_are_no_messages() {
    let not_json = "body is not JSON: expected a string at byte 13, found the end of the text: {\"action\":42,\n";
    for (body, expected) in [
        (r#"{"Records":[{"body":"{\"action\":42,"}]}"#, not_json),
        (r#"{"value":"{\"action\":42,"}"#, not_json),
        (
            r#"{"Records":[{"body":"hello"}]}"#,
            "body is not JSON: expected a JSON value at byte 0, found \"h\": hello\n",
        ),
        (
            r#"{"Records":[{"body":""}]}"#,
            "body is not JSON: expected a JSON value at byte 0, found the end of the text: \n",
        ),
        (
            r#"{"Records":[{"body":"1234"}]}"#,
            "message is not a JSON object: 1234\n",
        ),
        (
            r#"{"Records":[{"body":"{\"id\": 1}"}]}"#,
            "message has no action: {\"id\": 1}\n",
        ),
        (
            r#"{"Records":[{"body":"a\u0001\u0000"}]}"#,
            "message is not text: \\u0000 cannot be converted to text: \"a\\u0001\\u0000\"\n",
        ),
        (
            r#"{"messages":[{"data":"%"}]}"#,
            "body is neither JSON nor base64: %\n",
        ),
        (
            r#"{"messages":[{"data":"/////w=="}]}"#,
            "body is base64, but not of UTF-8 text: /////w==\n",
        ),
        (
            r#"{"messages":[{"data":"MTIzNA=="}]}"#,
            "message is not a JSON object: 1234\n",
        ),
        (
            r#"{"messages":[{"data":"eyJhIjo"}]}"#,
            "body is not JSON: expected a JSON value at byte 5, found the end of the text: {\"a\":\n",
        ),
        // a record of columns called body and data: the whole is the dead message
        (
            r#"{"id":1,"body":"hello"}"#,
            "message has no action: {\"id\":1,\"body\":\"hello\"}\n",
        ),
        (
            r#"{"id":1,"data":"hello"}"#,
            "message has no action: {\"id\":1,\"data\":\"hello\"}\n",
        ),
        (
            r#"{"data":[{"ack_id":"a","data":{"id":1}}]}"#,
            "message has no action: {\"ack_id\":\"a\",\"data\":{\"id\":1}}\n",
        ),
        (
            r#"{"records":{"a":1}}"#,
            "message has no action: {\"records\":{\"a\":1}}\n",
        ),
        (
            r#"{"records":{"a":[{"body":"x"}],"b":1}}"#,
            "message has no action: {\"records\":{\"a\":[{\"body\":\"x\"}],\"b\":1}}\n",
        ),
        (
            r#"{"command":["DEL","k"]}"#,
            "message has no action: {\"command\":[\"DEL\",\"k\"]}\n",
        ),
        (
            r#"["a","b"]"#,
            "message is not a JSON object: [\"a\",\"b\"]\n",
        ),
        (
            r#"[1,{"id":1}]"#,
            "message is not a JSON object: 1\nmessage has no action: {\"id\":1}\n",
        ),
        ("null", "message is not a JSON object: null\n"),
        (
            r#"{"Type":"SubscriptionConfirmation","Message":"You have"}"#,
            "SNS asks to confirm a subscription: {\"Type\":\"SubscriptionConfirmation\",\"Message\":\"You have\"}\n",
        ),
        (
            "{\"data\":[1,\"a\",null]}",
            "message is not a JSON object: 1\nmessage is not a JSON object: \"a\"\nmessage is not a JSON object: null\n",
        ),
    ] {
        assert_eq!(read(body), expected, "{body}");
    }
}

#[test]
fn messages_that_are_not_right() {
    let record = r#""record":{"id":1}"#;
    let metadata = r#""metadata":{"table_schema":"public","table_name":"t"}"#;
    for (message, fault) in [
        (format!("{{{record},{metadata}}}"), MessageFault::NoAction),
        (
            format!("{{\"action\":null,{record},{metadata}}}"),
            MessageFault::NoAction,
        ),
        (
            format!("{{\"action\":42,{record},{metadata}}}"),
            MessageFault::UnknownAction("42".to_owned()),
        ),
        ("{\"action\":\"insert\"}".to_owned(), MessageFault::NoTable),
        (
            format!("{{\"action\":\"insert\",{record},\"metadata\":null}}"),
            MessageFault::NoTable,
        ),
        (
            format!("{{\"action\":\"insert\",{record},\"metadata\":\"x\"}}"),
            MessageFault::NoTable,
        ),
        (
            format!("{{\"action\":\"insert\",{record},\"metadata\":[]}}"),
            MessageFault::NoTable,
        ),
        (
            format!("{{\"action\":\"insert\",{record},\"metadata\":{{\"table_name\":\"t\"}}}}"),
            MessageFault::NoTable,
        ),
        (
            format!(
                "{{\"action\":\"insert\",{record},\"metadata\":{{\"table_name\":1,\"table_schema\":\"s\"}}}}"
            ),
            MessageFault::NoTable,
        ),
        (
            format!(
                "{{\"action\":\"insert\",{record},\"metadata\":{{\"table_name\":\"\\ud800\",\"table_schema\":\"s\"}}}}"
            ),
            MessageFault::BadString(StringFault::LoneSurrogate),
        ),
        (
            format!("{{\"action\":\"insert\",{metadata}}}"),
            MessageFault::NoRecord,
        ),
        (
            format!("{{\"action\":\"insert\",{metadata},\"record\":null}}"),
            MessageFault::NoRecord,
        ),
        (
            format!("{{\"action\":\"insert\",{metadata},\"record\":[1]}}"),
            MessageFault::NoRecord,
        ),
        (
            format!("{{\"action\":\"insert\",{metadata},\"record\":\"{{\\\"id\\\":1\"}}"),
            MessageFault::NoRecord,
        ),
        (
            format!("{{\"action\":\"insert\",{record},{metadata},\"changes\":[]}}"),
            MessageFault::BadChanges,
        ),
        (
            format!("{{\"action\":\"insert\",{record},{metadata},\"changes\":\"{{\"}}"),
            MessageFault::BadChanges,
        ),
    ] {
        let arena = Bump::new();
        for batch in [message.clone(), format!("{{\"data\":[{message}]}}")] {
            read(&batch);
            match &read_text(&batch, &arena).unwrap().items[..] {
                [Item::Dead { text, fault: found }] => {
                    assert_eq!((&**text, found), (&*message, &fault));
                }
                items => panic!("{message}: {items:?}"),
            }
        }
    }
    for (key, value, fault) in [
        ("commit_lsn", "-1", MessageFault::BadLsn),
        ("commit_idx", "1.5", MessageFault::BadIdx),
        (
            "commit_timestamp",
            "\"yesterday\"",
            MessageFault::BadTimestamp,
        ),
    ] {
        let more = format!("\"metadata\":{{\"{key}\":{value},");
        let message = MESSAGE
            .replace(",\"commit_lsn\":7", "")
            .replace("\"metadata\":{", &more);
        assert_eq!(read(&message), format!("{fault}: {message}\n"));
    }
}

#[test]
fn keys_that_are_there_twice_or_escaped() {
    let message = r#"{"action":"delete","\u0061ction":"insert","record":{"x":0},"metadata":{"table_name":"x"},"record":{"id":0,"\u0069d":1,"i\ud800":2},"metadata":{"table_schema":"a","table_\u006eame":"t","table_schema":"public","commit_lsn":1,"commit_lsn":7,"database":{"id":"x"},"database":{"name":"n"}}}"#;
    let arena = Bump::new();
    let batch = read_text(message, &arena).unwrap();
    assert_eq!(told(&batch), GOOD);
    let Item::Message(message) = &batch.items[0] else {
        panic!();
    };
    let fields: Vec<_> = batch
        .fields(message)
        .iter()
        .map(|f| (f.key, f.value.text()))
        .collect();
    let expected = [
        ("id", "0".into()),
        ("id", "1".into()),
        ("i\u{FFFD}", "2".into()),
    ];
    assert_eq!(fields, expected);
    assert_eq!(message.source(), "n");
}

#[test]
fn the_name_of_the_source() {
    for (database, id, name) in [
        (
            r#""database":{"id":"i","name":"n"},"database_name":"old""#,
            Some("i"),
            Some("n"),
        ),
        (
            r#""database":{"id":null,"name":null},"database_name":"old""#,
            None,
            Some("old"),
        ),
        (
            r#""database_name":"old","database":null"#,
            None,
            Some("old"),
        ),
        (r#""database_name":null"#, None, None),
        (r#""x":1"#, None, None),
    ] {
        let more = format!("\"metadata\":{{{database},");
        let message = MESSAGE.replace("\"metadata\":{", &more);
        assert_eq!(read(&message), GOOD);
        let arena = Bump::new();
        let batch = read_text(&message, &arena).unwrap();
        let Item::Message(message) = &batch.items[0] else {
            panic!();
        };
        assert_eq!((message.database_id, message.database_name), (id, name));
        assert_eq!(message.source(), id.or(name).unwrap_or(""));
    }
}

#[test]
fn envelopes_are_bounded() {
    let mut body = MESSAGE.to_owned();
    for level in 0..MAX_ENVELOPES {
        assert_eq!(read(&body), GOOD, "{level}");
        body = format!("[{body}]");
    }
    assert_eq!(read(&body), GOOD);
    body = format!("[{body}]");
    assert_eq!(
        read(&body),
        format!("message is in too many envelopes: {MESSAGE}\n")
    );

    let mut body = MESSAGE.to_owned();
    for _ in 0..10 {
        body = format!("{{\"value\":{}}}", string(&body));
    }
    assert_eq!(read(&body), GOOD);
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let inner = "[".repeat(100_000 - 17) + &"]".repeat(100_000 - 17);
    let arena = Bump::new();
    match &read_text(&deep, &arena).unwrap().items[..] {
        [
            Item::Dead {
                text,
                fault: MessageFault::TooDeep,
            },
        ] => assert_eq!(**text, *inner),
        items => panic!("{}", items.len()),
    }
}
