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
            told.starts_with("body is base64, but not of UTF-8 text"),
            "{shape}: {told}"
        );
    }
}
