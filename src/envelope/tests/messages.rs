//! Messages in full: every fixture, and each member of a message.

#![forbid(unsafe_code)]

use super::*;
use crate::message::{Action, Version};

/// The number of messages and of dead items, for each fixture that is not one message.
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
        let batch = read_text(&text, &arena, UNWATCHED).unwrap();
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
    let batch = read_text(&text, &arena, UNWATCHED).unwrap();
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
fn keys_that_are_there_twice_or_escaped() {
    let message = r#"{"action":"delete","\u0061ction":"insert","record":{"x":0},"metadata":{"table_name":"x"},"record":{"id":0,"\u0069d":1,"i\ud800":2},"metadata":{"table_schema":"a","table_\u006eame":"t","table_schema":"public","commit_lsn":1,"commit_lsn":7,"database":{"id":"x"},"database":{"name":"n"}}}"#;
    let arena = Bump::new();
    let batch = read_text(message, &arena, UNWATCHED).unwrap();
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
fn an_action_or_a_record_with_metadata_makes_a_message() {
    let data = format!("\"data\":[{MESSAGE}]");
    let (record, metadata) = ("\"record\":{\"id\":1}", "\"metadata\":{\"a\":1}");
    for envelope in [
        format!("{{{record},{data}}}"),
        format!("{{{metadata},{data}}}"),
    ] {
        assert_eq!(read(&envelope), GOOD, "{envelope}");
    }
    for message in [
        format!("{{{record},{metadata},{data}}}"),
        format!("{{{data},{metadata},{record}}}"),
    ] {
        let fault = format!("message has no action: {message}\n");
        assert_eq!(read(&message), fault);
    }
    let action = format!("{{\"action\":\"insert\",{data}}}");
    assert!(read(&action).starts_with(&MessageFault::NoTable.to_string()));
}

#[test]
fn a_backslash_in_a_key_is_one() {
    let message = MESSAGE.replace("\"id\"", "\"i\\\\u0064\"");
    assert_eq!(read(&message), GOOD);
    let arena = Bump::new();
    let batch = read_text(&message, &arena, UNWATCHED).unwrap();
    let Item::Message(message) = &batch.items[0] else {
        panic!();
    };
    assert_eq!(batch.fields(message)[0].key, "i\\u0064");
}

#[test]
fn an_entry_of_a_redis_stream_has_changes() {
    let entry = r#"["action","update","record","{\"id\":1}","changes","{\"id\":0}","metadata","{\"table_schema\":\"public\",\"table_name\":\"t\"}"]"#;
    read(entry);
    let arena = Bump::new();
    let batch = read_text(entry, &arena, UNWATCHED).unwrap();
    let Item::Message(message) = &batch.items[0] else {
        panic!("{}", told(&batch));
    };
    assert_eq!(
        message.changes.map(|changes| changes.text()).as_deref(),
        Some("{\"id\":0}")
    );
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
        // of duplicates, only the last counts
        (
            r#""database":{"id":"x","name":"x"},"database":{"id":"i"}"#,
            Some("i"),
            None,
        ),
        (
            r#""database":{"id":"x","name":"x"},"database":{"name":"n"}"#,
            None,
            Some("n"),
        ),
        (
            r#""database":{"id":"x","name":"x"},"database":1"#,
            None,
            None,
        ),
        (r#""database_name":null"#, None, None),
        (r#""x":1"#, None, None),
    ] {
        let more = format!("\"metadata\":{{{database},");
        let message = MESSAGE.replace("\"metadata\":{", &more);
        assert_eq!(read(&message), GOOD);
        let arena = Bump::new();
        let batch = read_text(&message, &arena, UNWATCHED).unwrap();
        let Item::Message(message) = &batch.items[0] else {
            panic!();
        };
        assert_eq!((message.database_id, message.database_name), (id, name));
        assert_eq!(message.source(), id.or(name).unwrap_or(""));
    }
}

/// Versions of Sequin that sent no `commit_idx`.
#[test]
fn a_change_without_index_is_known_by_its_content() {
    let arena = Bump::new();
    let version = |action: &str, id: u32, more: &str| {
        let text = format!(
            r#"{{"record":{{"id":{id}}},"changes":null,"action":"{action}","metadata":{{"table_schema":"public","table_name":"t","commit_lsn":7{more}}}}}"#
        );
        let batch = read_text(arena.alloc_str(&text), &arena, UNWATCHED).unwrap();
        let Item::Message(message) = &batch.items[0] else {
            panic!("{}", told(&batch));
        };
        message.version.unwrap()
    };
    let one = version("insert", 1, "");
    assert_eq!((one.lsn, one.index(), one.is_named()), (7, None, false));
    assert_eq!(version("insert", 1, r#","idempotency_key":null"#), one);
    assert_ne!(version("insert", 2, ""), one);
    assert_ne!(version("delete", 1, ""), one);
    let named = version("insert", 1, r#","idempotency_key":"a""#);
    assert!(named.is_named() && named.index().is_none());
    assert_ne!(version("insert", 1, r#","idempotency_key":"b""#), named);
    assert_eq!(version("read", 1, "").index(), Some(0));
}
