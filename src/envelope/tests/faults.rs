//! Batches that are not JSON, and bodies and messages that become dead items.

#![forbid(unsafe_code)]

use super::*;
use crate::json::StringFault;

#[test]
fn faults_of_the_whole_text() {
    let arena = Bump::new();
    let byte = |text: &str| read_text(text, &arena, UNWATCHED).unwrap_err().byte;
    assert_eq!(byte("1\"a\""), 1);
    assert_eq!(byte("[]1 2x"), 5);
    assert_eq!(byte("[1],"), 3);
    assert_eq!(byte("[,1]"), 1);
    assert_eq!(byte("[1,]"), 3);
    assert_eq!(byte("[{},,{}]"), 4);
    assert_eq!(byte("{,\"a\":1}"), 1);
    assert_eq!(byte("{\"a\":1,}"), 7);
    assert_eq!(byte("{\"a\":1,,\"b\":1}"), 7);
    let told = |text: &str| read_text(text, &arena, UNWATCHED).unwrap_err().to_string();
    assert_eq!(
        told("{1}"),
        "expected a string or \"}\" at byte 1, found \"1\""
    );
    assert_eq!(
        told("{\"a\":1 \"b\":2}"),
        "expected \",\" or \"}\" at byte 7, found \"\"\""
    );
    assert_eq!(
        told("[1 2]"),
        "expected \",\" or \"]\" at byte 3, found \"2\""
    );
    assert_eq!(byte("{\"data\":[{\"action\":\"insert\",}]}"), 28);
    assert_eq!(byte("{\"data\":[{\"record\":{\"a\" 1}}]}"), 24);
    assert_eq!(byte("{\"data\":[{\"metadata\":{\"database\":{]}}]}"), 34);
    assert_eq!(
        byte(&format!("{MESSAGE} {MESSAGE} }}")),
        2 * MESSAGE.len() + 2
    );
    for end in 1..MESSAGE.len() {
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
        // a record with columns named body and data: the whole record is the dead item
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
            r#"{"command":["APPEND","k","{}"]}"#,
            "message has no action: {\"command\":[\"APPEND\",\"k\",\"{}\"]}\n",
        ),
        (
            r#"{"command":["SET","k","hello"]}"#,
            "body is not JSON: expected a JSON value at byte 0, found \"h\": hello\n",
        ),
        (
            r#"{"records":{}}"#,
            "message has no action: {\"records\":{}}\n",
        ),
        (
            r#"["a","b"]"#,
            "message is not a JSON object: [\"a\",\"b\"]\n",
        ),
        // only some elements are bodies; only some are names and values
        (
            r#"["{}","b"]"#,
            "message is not a JSON object: [\"{}\",\"b\"]\n",
        ),
        (
            r#"["a","b",1,"c"]"#,
            "message is not a JSON object: [\"a\",\"b\",1,\"c\"]\n",
        ),
        // values of columns that happen to have such a name: they are not messages
        (
            r#"{"body":"\ud800"}"#,
            "message has no action: {\"body\":\"\\ud800\"}\n",
        ),
        (
            r#"{"value":"aGVsbG8="}"#,
            "message has no action: {\"value\":\"aGVsbG8=\"}\n",
        ),
        (
            r#"[1,{"id":1}]"#,
            "message is not a JSON object: 1\nmessage has no action: {\"id\":1}\n",
        ),
        (
            "null true",
            "message is not a JSON object: null\nmessage is not a JSON object: true\n",
        ),
        (
            "{\"data\":[[1, [2] , \"x\"], [true,false]]}",
            "message is not a JSON object: [1, [2] , \"x\"]\nmessage is not a JSON object: [true,false]\n",
        ),
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
fn a_body_that_ends_wrong_is_one_dead_message() {
    let body = format!("{MESSAGE}}}");
    let batch = format!("{{\"Records\":[{{\"body\":{}}}]}}", string(&body));
    let at = MESSAGE.len();
    let fault = format!("expected a JSON value at byte {at}, found \"}}\"");
    assert_eq!(read(&batch), format!("body is not JSON: {fault}: {body}\n"));
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
            match &read_text(&batch, &arena, UNWATCHED).unwrap().items[..] {
                [Item::Dead { text, fault: found }] => {
                    assert_eq!((&*text.text(), &**found), (&*message, &fault));
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
