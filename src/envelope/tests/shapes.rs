//! Every envelope around a message; several envelopes nested, and one after another.

#![forbid(unsafe_code)]

use super::*;
use crate::envelope::limits::MAX_ENVELOPES;

fn base64(text: &str) -> String {
    use base64::Engine;
    format!("\"{}\"", base64::prelude::BASE64_STANDARD.encode(text))
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
    // but an empty list in place of a message is a dead item
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
fn the_rank_of_members_not_their_order_decides() {
    let a = r#""data":[{"action":"a"}]"#;
    let b = r#""value":"{\"action\":\"b\"}""#;
    let expected = "message has unknown action \"a\": {\"action\":\"a\"}\n";
    assert_eq!(read(&format!("{{{a},{b}}}")), expected);
    assert_eq!(read(&format!("{{{b},{a}}}")), expected);
    // the last of duplicates counts, even if it holds no message
    assert_eq!(read(&format!("{{{a},\"data\":[]}}")), "");
    assert_eq!(read(&format!("{{\"data\":[],{a}}}")), expected);
    let none = format!("{{{a},\"data\":5}}");
    assert_eq!(read(&none), format!("message has no action: {none}\n"));
}

#[test]
fn each_member_has_a_rank_of_its_own() {
    // the table of each message is the name of its member
    let message = |name: &str| MESSAGE.replace("\"t\"", &format!("\"{name}\""));
    let listed = |name| format!("\"{name}\":[{}]", message(name));
    let held = |name| format!("\"{name}\":{}", message(name));
    let fields = r#"["action","insert","record","{}","metadata","{\"table_schema\":\"public\",\"table_name\":\"fields\",\"commit_lsn\":7}"]"#;
    let members = [
        listed("Records"),
        listed("records"),
        listed("Messages"),
        listed("messages"),
        listed("Entries"),
        listed("receivedMessages"),
        held("data"),
        held("Data"),
        held("Message"),
        held("Sns"),
        held("kinesis"),
        held("message"),
        held("body"),
        held("Body"),
        held("MessageBody"),
        held("payload"),
        held("value"),
        format!("\"fields\":{fields}"),
        format!(
            "\"command\":[\"SET\",\"k\",{}]",
            string(&message("command"))
        ),
        held("detail"),
        listed("args"),
        listed("kwargs"),
    ];
    for pair in members.windows(2) {
        let [first, second] = pair else {
            unreachable!("two of them");
        };
        let name = first.split('"').nth(1).unwrap();
        let expected = format!("public.{name} insert 7\n");
        assert_eq!(read(&format!("{{{first},{second}}}")), expected);
        assert_eq!(read(&format!("{{{second},{first}}}")), expected);
    }
}

#[test]
fn base64_of_either_alphabet() {
    use base64::Engine;
    let message = MESSAGE.replace("\"id\":1", "\"id\":\"~~~???>>>ÿÿÿ\"");
    let standard = base64(&message);
    let url_safe = base64::prelude::BASE64_URL_SAFE.encode(&message);
    assert!(standard.contains(['+', '/']) && url_safe.contains(['-', '_']));
    assert_eq!(read(&format!("{{\"data\":{standard}}}")), GOOD);
    assert_eq!(read(&format!("{{\"data\":\"{url_safe}\"}}")), GOOD);
}

/// It is decoded part by part.
#[test]
fn base64_of_a_large_message() {
    use base64::Engine;
    let encode = |text: &str| base64::prelude::BASE64_STANDARD.encode(text);
    for more in 0..4 {
        let id = "x".repeat((3 << 18) + 100 + more);
        let text = encode(&MESSAGE.replace("\"id\":1", &format!("\"id\":\"{id}\"")));
        assert!(text.len() > 1 << 20);
        assert_eq!(read(&format!("{{\"data\":\"{text}\"}}")), GOOD);
        let lines: Vec<&str> = (0..text.len())
            .step_by(76)
            .map(|at| &text[at..text.len().min(at + 76)])
            .collect();
        let lines = lines.join("\\n");
        assert_eq!(read(&format!("{{\"data\":\"{lines}\"}}")), GOOD);
    }
    // padded in the middle, where a part ends
    let id = "x".repeat((3 << 18) - 2 - MESSAGE.len());
    let text = encode(&MESSAGE.replace("\"id\":1", &format!("\"id\":1{id}")));
    let padded = text.len().next_multiple_of(4);
    assert_eq!(
        (padded, text.ends_with('=')),
        (1 << 20, true),
        "{}",
        text.len()
    );
    let told = read(&format!("{{\"data\":\"{text}{}\"}}", encode(MESSAGE)));
    assert!(
        told.starts_with("message has no action"),
        "{}",
        &told[..100]
    );
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

/// A text in base64 is an envelope, and a line with a byte order mark is as deep as the others of its text.
#[test]
fn envelopes_are_bounded_in_base64_and_in_lines() {
    let most = MAX_ENVELOPES as usize;
    let fault = format!("message is in too many envelopes: {MESSAGE}\n");
    let around = |n: usize| format!("{}{MESSAGE}{}", "[".repeat(n), "]".repeat(n));
    let bare = |n| base64(&around(n)).trim_matches('"').to_owned();
    assert_eq!(read(&bare(most - 1)), GOOD);
    assert_eq!(read(&bare(most)), fault);
    let marked = |n| format!("{MESSAGE}\n\u{feff}{}", around(n));
    assert_eq!(read(&marked(most)), GOOD.repeat(2));
    assert_eq!(read(&marked(most + 1)), format!("{GOOD}{fault}"));
    let inside = |n| string(&marked(n));
    assert_eq!(read(&inside(most - 1)), GOOD.repeat(2));
    assert_eq!(read(&inside(most)), format!("{GOOD}{fault}"));
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

    for (before, after) in [
        ("{\"Records\":[", "]}"),
        ("{\"records\":{\"topic-0\":[", "]}}"),
        ("{\"data\":[", "]}"),
        ("{\"data\":", "}"),
        ("{\"Sns\":", "}"),
        ("{\"value\":", "}"),
        ("{\"fields\":", "}"),
        ("[\"1-0\",", "]"),
    ] {
        let around = |n| before.repeat(n) + MESSAGE + &after.repeat(n);
        let most = MAX_ENVELOPES as usize;
        assert_eq!(read(&around(most)), GOOD, "{before}");
        let told = read(&around(most + 1));
        let fault = format!("message is in too many envelopes: {MESSAGE}\n");
        assert_eq!(told, fault, "{before}");
    }

    // some envelopes hold several values, and an entry of a stream is in a list of its own
    let body = format!("[{},", string(MESSAGE));
    for (before, after, levels, others) in [
        ("{\"args\":[1,", "]}", 1, ""),
        ("{\"s\":[[\"1-0\",", "]]}", 2, ""),
        (&body, "]", 1, GOOD),
    ] {
        let around = |n| format!("{before}{}{MESSAGE}{}{after}", "[".repeat(n), "]".repeat(n));
        let most = MAX_ENVELOPES as usize - levels;
        assert_eq!(read(&around(most)), format!("{others}{GOOD}"), "{before}");
        let fault = format!("{others}message is in too many envelopes: {MESSAGE}\n");
        assert_eq!(read(&around(most + 1)), fault, "{before}");
    }

    // an array whose first element is not a message
    let after_one = |n| {
        let most = MAX_ENVELOPES as usize;
        format!(
            "[1,{}{MESSAGE}{}]",
            "[".repeat(most - n),
            "]".repeat(most - n)
        )
    };
    let one = "message is not a JSON object: 1\n";
    assert_eq!(read(&after_one(1)), format!("{one}{GOOD}"));
    let fault = format!("message is in too many envelopes: {MESSAGE}\n");
    assert_eq!(read(&after_one(0)), format!("{one}{fault}"));

    let mut body = MESSAGE.to_owned();
    for _ in 0..10 {
        body = format!("{{\"value\":{}}}", string(&body));
    }
    assert_eq!(read(&body), GOOD);
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let inner = "[".repeat(100_000 - 17) + &"]".repeat(100_000 - 17);
    let arena = Bump::new();
    match &read_text(&deep, &arena, UNWATCHED).unwrap().items[..] {
        [Item::Dead { text, fault }] if **fault == MessageFault::TooDeep => {
            assert_eq!(*text.text(), *inner);
        }
        items => panic!("{}", items.len()),
    }
}
