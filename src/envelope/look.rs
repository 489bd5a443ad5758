//! Shapes of values that are told by looking at the whole value.

#![forbid(unsafe_code)]

use crate::json::{Json, Kind};
use crate::message::MessageFault;

/// Whether a value is `{"stream": [["1-0", fields], …], …}`, with at least one entry in each stream.
pub(super) fn are_streams(whole: Json<'_>) -> bool {
    let mut streams = whole.members().peekable();
    let is_stream = |entries: Json<'_>| {
        entries.kind() == Kind::Array
            && entries.elements().next().is_some()
            && entries.elements().all(is_entry)
    };
    streams.peek().is_some() && streams.all(|(_, entries)| is_stream(entries))
}

/// Whether a value is the body of a task of Celery: `[arguments, named arguments, what comes after it]`.
pub(super) fn is_task(whole: Json<'_>) -> bool {
    let mut parts = whole.elements();
    let kinds = [parts.next(), parts.next(), parts.next()].map(|part| part.map(Json::kind));
    let names = ["callbacks", "errbacks", "chain", "chord"];
    kinds == [Some(Kind::Array), Some(Kind::Object), Some(Kind::Object)]
        && parts.next().is_none()
        && whole
            .elements()
            .nth(2)
            .is_some_and(|after| names.iter().any(|name| after.get(name).is_some()))
}

fn is_entry(entry: Json<'_>) -> bool {
    if entry.kind() != Kind::Array {
        return false;
    }
    let mut parts = entry.elements();
    let is_fields = |fields: Json<'_>| matches!(fields.kind(), Kind::Array | Kind::Object);
    parts.next().is_some_and(is_entry_id)
        && parts.next().is_some_and(is_fields)
        && parts.next().is_none()
}

/// Whether a value is the id of a Redis stream's entry, such as `1-0`.
fn is_entry_id(value: Json<'_>) -> bool {
    let Some(Ok(id)) = value.string() else {
        return false;
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    id.split_once('-')
        .is_some_and(|(time, number)| digits(time) && digits(number))
}

/// The fault of a value that was not recognised.
pub(super) fn what_it_is_instead(value: Json<'_>) -> MessageFault {
    if value.kind() != Kind::Object {
        return MessageFault::NotAnObject;
    }
    let kind = value.get("Type");
    let is = |name| kind.is_some_and(|kind| kind.is_string(name));
    if is("SubscriptionConfirmation") || is("UnsubscribeConfirmation") {
        MessageFault::SubscriptionConfirmation
    } else {
        MessageFault::NoAction
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are(text: &str) -> bool {
        are_streams(Json::parse(text).unwrap())
    }

    #[test]
    fn tasks() {
        let is = |text: &str| is_task(Json::parse(text).unwrap());
        assert!(is(r#"[[{}],{},{"callbacks":null,"errbacks":null}]"#));
        assert!(is(r#"[[],{"a":1},{"chord":null}]"#));
        for text in [
            "[]",
            "[[],{}]",
            "[[],{},{}]",
            r#"[[],{},{"action":null}]"#,
            r#"[{},{},{"chain":null}]"#,
            r#"[[],[],{"chain":null}]"#,
            r#"[[],{},{"chain":null},1]"#,
        ] {
            assert!(!is(text), "{text}");
        }
    }

    #[test]
    fn streams() {
        assert!(are(r#"{"s":[["1-0",["a","1"]]]}"#));
        assert!(are(
            r#"{"s":[["1-0",{"a":"1"}],["1700000000000-12",[]]],"t":[["2-0",[]]]}"#
        ));
        for text in [
            "{}",
            r#"{"s":[]}"#,
            r#"{"s":{}}"#,
            r#"{"s":[["1-0",[]]],"t":[]}"#,
            r#"{"s":[["1-0",[]],["x",[]]]}"#,
            r#"{"s":[["1-0",[]],7]}"#,
            r#"{"s":[["1-0"]]}"#,
            r#"{"s":[["1-0","a"]]}"#,
            r#"{"s":[["1-0",[],1]]}"#,
            r#"{"s":[[]]}"#,
            r#"{"s":[[10,[]]]}"#,
            r#"{"s":[["10",[]]]}"#,
            r#"{"s":[["-0",[]]]}"#,
            r#"{"s":[["1-",[]]]}"#,
            r#"{"s":[["1x-0",[]]]}"#,
            r#"{"s":[["1-x0",[]]]}"#,
            r#"{"s":[["1-0-0",[]]]}"#,
        ] {
            assert!(!are(text), "{text}");
        }
    }
}
