//! Envelopes of services behind a sink: Redis under RESP3, EventBridge, jobs, lists of bodies, marks, compression.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::*;

const PARTS: &str = r#"["action","insert","changes","null","metadata","{\"table_schema\":\"public\",\"table_name\":\"t\",\"commit_lsn\":7}","record","{\"id\":1}"]"#;

#[test]
fn a_map_of_streams() {
    let entry = |id: &str| format!(r#"["{id}",{PARTS}]"#);
    let (a, b) = (entry("1-0"), entry("1700000000000-12"));
    assert_eq!(read(&format!(r#"{{"s":[{a}]}}"#)), GOOD);
    assert_eq!(
        read(&format!(r#"{{"s":[{a},{b}],"sequin:t":[{a}]}}"#)),
        GOOD.repeat(3)
    );
    assert_eq!(read(&format!(r#"{{"s":[["1-0",{MESSAGE}]]}}"#)), GOOD);
    let dead = read(&format!(r#"{{"s":[{a},["2-0",["x","y"]]]}}"#));
    assert!(
        dead.starts_with(GOOD) && dead.contains("message has no action"),
        "{dead}"
    );
    // others are no streams
    for text in [
        r#"{"s":[]}"#.to_owned(),
        format!(r#"{{"s":[["x",{PARTS}]]}}"#),
        format!(r#"{{"s":[{a}],"n":1}}"#),
    ] {
        assert!(read(&text).starts_with("message has no action"), "{text}");
    }
}

#[test]
fn events_and_jobs() {
    let (text, b64) = (string(MESSAGE), string(&BASE64_STANDARD.encode(MESSAGE)));
    for inner in [MESSAGE, &text, &b64] {
        for shape in [
            format!(r#"{{"detail-type":"sequin","source":"s","detail":{inner}}}"#),
            format!(r#"{{"args":{inner},"worker":"W","queue":"q"}}"#),
            format!(r#"{{"args":[{inner}],"kwargs":{{}}}}"#),
            format!(r#"{{"args":["q",5,{inner},null]}}"#),
            format!(r#"{{"args":[{{"data":{inner}}}]}}"#),
        ] {
            assert_eq!(read(&shape), GOOD, "{shape}");
        }
    }
    assert_eq!(
        read(&format!(r#"{{"args":[{MESSAGE},{MESSAGE}]}}"#)),
        GOOD.repeat(2)
    );
    for shape in [
        format!(
            r#"[[{MESSAGE}],{{}},{{"callbacks":null,"errbacks":null,"chain":null,"chord":null}}]"#
        ),
        format!(r#"{{"task":"t","args":[],"kwargs":{{"message":{MESSAGE}}}}}"#),
        format!(r#"{{"task":"t","args":[{MESSAGE}],"kwargs":{{"n":1}}}}"#),
    ] {
        assert_eq!(read(&shape), GOOD, "{shape}");
        let body = format!(r#"{{"body":"{}"}}"#, BASE64_STANDARD.encode(&shape));
        assert_eq!(read(&body), GOOD, "{body}");
    }
    for shape in [r#"{"args":[1]}"#, r#"{"args":{}}"#, r#"{"detail":"x"}"#] {
        assert!(read(shape).starts_with("message has no action"), "{shape}");
    }
}

#[test]
fn a_list_of_base64() {
    let b64 = string(&BASE64_STANDARD.encode(MESSAGE));
    assert_eq!(read(&format!("[{b64}]")), GOOD);
    assert_eq!(
        read(&format!("[{b64},{},{b64}]", string(MESSAGE))),
        GOOD.repeat(3)
    );
    assert_eq!(
        read(&format!(r#"{{"data":[{b64},{b64}]}}"#)),
        GOOD.repeat(2)
    );
    assert!(read(r#"["abcd","efgh"]"#).starts_with("message is not"));
}

#[test]
fn one_of_a_list_that_is_no_message() {
    let one = string(MESSAGE);
    for bad in [
        r#""nonsense""#,
        r#""{\"x\":1}""#,
        r#""{""#,
        r#""""#,
        "5",
        "null",
        "{}",
    ] {
        for list in [
            format!("[{one},{bad},{one}]"),
            format!(r#"{{"data":[[{one},{bad},{one}]]}}"#),
            format!("[{one},{one},{bad}]"),
        ] {
            let told = read(&list);
            assert_eq!(told.matches(GOOD).count(), 2, "{list}: {told}");
            assert_eq!(told.lines().count(), 3, "{list}: {told}");
        }
    }
    let bad_first = read(&format!(r#"["nonsense",{one}]"#));
    assert!(bad_first.ends_with(GOOD), "{bad_first}");
    assert_eq!(bad_first.lines().count(), 2, "{bad_first}");
    // neither is an ID of the other
    assert_eq!(read(&format!("[{one},{MESSAGE}]")), GOOD.repeat(2));
    // fields that make no message are one item, whatever they hold
    let fields = read(r#"["record","{\"id\":1}","changes","null"]"#);
    assert_eq!(fields.lines().count(), 1, "{fields}");
}

#[test]
fn a_byte_order_mark() {
    let marked = format!("\u{feff}{MESSAGE}");
    assert_eq!(read(&marked), GOOD);
    assert_eq!(read(&string(&marked)), GOOD);
    assert_eq!(read(&format!(r#"{{"Body":{}}}"#, string(&marked))), GOOD);
    assert_eq!(
        read(&format!(
            r#"{{"data":"{}"}}"#,
            BASE64_STANDARD.encode(&marked)
        )),
        GOOD
    );
}

#[test]
fn compressed_bodies_are_named() {
    let gzip = BASE64_STANDARD.encode([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xfe]);
    for shape in [
        format!(r#""{gzip}""#),
        format!(r#"["{gzip}"]"#),
        format!(r#"{{"data":"{gzip}"}}"#),
        format!(r#"{{"Body":"{gzip}"}}"#),
        format!(r#"{{"Records":[{{"body":"{gzip}"}}]}}"#),
    ] {
        let told = read(&shape);
        assert!(
            told.starts_with("body is compressed (gzip)"),
            "{shape}: {told}"
        );
    }
    for (data, by) in [
        (&[0x28, 0xb5, 0x2f, 0xfd, 0x20, 5, 0x29, 0xff][..], "zstd"),
        (&[0x78, 0x9c, 0xab, 0x56, 0xff, 0xfe], "zlib"),
        (&[0x78, 0x01, 0xab, 0x56, 0xff, 0xfe], "zlib"),
        (&[0x1f, 0x8b, 8, 0, 0, 0xff], "gzip"),
    ] {
        let text = BASE64_STANDARD.encode(data);
        for shape in [text.clone(), string(&text), format!("[{}]", string(&text))] {
            let told = read(&shape);
            assert!(
                told.starts_with(&format!("body is compressed ({by})")),
                "{shape}: {told}"
            );
        }
    }
}

/// A payload as a broker of bytes gives it, and one that a program has broken into lines.
#[test]
fn base64_without_quotes_and_in_lines() {
    let b64 = BASE64_STANDARD.encode(MESSAGE);
    let lines: Vec<&str> = b64
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    for broken in [lines.join("\n"), lines.join("\r\n"), b64.clone() + "\n"] {
        assert_eq!(read(&broken), GOOD, "{broken}");
        assert_eq!(read(&string(&broken)), GOOD, "{broken}");
        let body = format!(
            r#"{{"Records":[{{"kinesis":{{"data":{}}}}}]}}"#,
            string(&broken)
        );
        assert_eq!(read(&body), GOOD, "{broken}");
    }
    let batch = BASE64_STANDARD.encode(format!("[{MESSAGE},{MESSAGE}]"));
    assert_eq!(read(&batch), GOOD.repeat(2));
    // what only looks like base64 is not JSON
    for text in ["elephant", "Hello", "eyJh!", &BASE64_STANDARD.encode("yes")] {
        assert!(read_text(text, &Bump::new(), UNWATCHED).is_err(), "{text}");
    }
}

/// It is the first byte that tells, so that no text that is JSON is decoded in vain.
#[test]
fn text_that_begins_like_json_is_not_taken_for_base64() {
    for text in [
        "{}", " [1]", "\"eyJh\"", "-1", "7", "true", "false", "null", "",
    ] {
        assert!(!body::may_be_base64(text), "{text}");
    }
    for text in ["{}", "[1]", "\t{}", "\n[1]", " {}"] {
        let b64 = BASE64_STANDARD.encode(text);
        assert!(body::may_be_base64(&b64), "{text}");
        assert!(body::may_be_base64(&format!("\r\n {b64}")), "{text}");
    }
}

#[test]
fn lines_with_byte_order_marks() {
    let marked = format!("\u{feff}{MESSAGE}\n");
    assert_eq!(read(&marked.repeat(3)), GOOD.repeat(3));
    let bad = format!("{marked}\u{feff}nonsense\n{marked}");
    assert_eq!(read(&bad).matches(GOOD).count(), 2);
    assert_eq!(read(&bad).lines().count(), 3);
}
