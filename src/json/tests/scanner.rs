//! The scanner accepts the same texts as `serde_json`, and reports where and why it refuses the others.

#![forbid(unsafe_code)]

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::generators::{any_text, edit};
use super::*;

/// The value as `serde_json` has it, built from the view; `None` if a string cannot be text.
fn tree(json: Json<'_>) -> Option<Value> {
    Some(match json.kind() {
        Kind::Null => Value::Null,
        Kind::Bool => Value::Bool(json.as_bool()?),
        Kind::Number => serde_json::from_str(&json.number()?).ok()?,
        Kind::String => Value::String(json.string()?.ok()?.into_owned()),
        Kind::Array => Value::Array(json.elements().map(tree).collect::<Option<_>>()?),
        Kind::Object => Value::Object(
            json.members()
                .map(|(key, value)| Some((key.into_owned(), tree(value)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

#[test]
fn white_space_before_a_container_is_passed_over() {
    let mut seen = Vec::new();
    let array = Scanner::new(" \n[1, 2]").array(|inside| {
        seen.push(inside.take()?.text().into_owned());
        Ok(())
    });
    assert_eq!(array.unwrap().text(), "[1, 2]");
    let object = Scanner::new("\t{\"a\" : 3 }").object(|inside, key| {
        assert!(key.is("a"));
        seen.push(inside.take()?.text().into_owned());
        Ok(())
    });
    assert_eq!(object.unwrap().text(), "{\"a\" : 3 }");
    assert_eq!(seen, ["1", "2", "3"]);
}

#[test]
fn the_next_value_is_told_behind_white_space() {
    for (json, kind) in [
        (" 1", Kind::Number),
        ("\r\n\t[]", Kind::Array),
        ("  {}", Kind::Object),
    ] {
        let white = json.len() - json.trim_start().len();
        assert_eq!(Scanner::new(json).next_place(), white, "{json:?}");
        assert_eq!(Scanner::new(json).kind(), Ok(kind), "{json:?}");
    }
}

fn agree_with_serde_json(json: &str) -> Result<(), TestCaseError> {
    let ours = Json::parse(json);
    let theirs = serde_json::from_str::<&RawValue>(json);
    prop_assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "{:?}: {:?} {:?}",
        json,
        ours,
        theirs
    );
    if let Err(fault) = ours {
        prop_assert!(json.is_char_boundary(fault.byte), "{:?}: {:?}", json, fault);
        // the fault is not reported too late: the text before it is valid up to the same byte
        let before = Json::parse(&json[..fault.byte]);
        if let Err(before) = before {
            prop_assert_eq!(before.byte, fault.byte, "{:?}", json);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn valid_text_is_read_as_serde_json_reads_it(json in any_text()) {
        let view = Json::parse(&json).unwrap();
        prop_assert_eq!(&*view.text(), json.trim_ascii());
        // serde_json refuses numbers beyond f64; the view does not
        if let Ok(value) = serde_json::from_str::<Value>(&json) {
            prop_assert_eq!(tree(view).unwrap(), value);
        }
    }

    #[test]
    fn mutations_are_taken_exactly_if_serde_json_takes_them(
        json in any_text(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), edit()), 1..3),
    ) {
        let mut json: Vec<char> = json.chars().collect();
        for (place, delete, insert) in edits {
            let place = place.index(json.len() + 1);
            if delete && place < json.len() {
                json.remove(place);
            } else {
                json.insert(place, insert);
            }
        }
        agree_with_serde_json(&json.into_iter().collect::<String>())?;
    }

    #[test]
    fn cut_text_is_taken_exactly_if_serde_json_takes_it(
        json in any_text(),
        place in any::<prop::sample::Index>(),
    ) {
        let place = place.index(json.len() + 1);
        if let Some(cut) = json.get(..place) {
            agree_with_serde_json(cut)?;
        }
    }

    #[test]
    fn anything_is_taken_exactly_if_serde_json_takes_it(
        json in "[\\[\\]{},:\"\\\\ \n0-9eE+.a-fA-Fnrtulsé\u{1}-]{0,12}",
    ) {
        agree_with_serde_json(&json)?;
    }

    #[test]
    fn numbers_are_taken_exactly_if_serde_json_takes_them(json in "-?[0-9eE+.-]{0,6}") {
        agree_with_serde_json(&json)?;
    }
}

#[test]
fn faults_say_where_and_what() {
    let fault = |text: &str| {
        let fault = Json::parse(text).unwrap_err();
        (fault.byte, fault.expected, fault.found)
    };
    let end = || "the end of the text".to_owned();
    let found = |text: &str| format!("\"{text}\"");
    assert_eq!(fault(""), (0, "a JSON value", end()));
    assert_eq!(fault("  "), (2, "a JSON value", end()));
    assert_eq!(fault("{\"a\": x}"), (6, "a JSON value", found("x")));
    assert_eq!(fault("{\"a\": 1,}"), (8, "a string", found("}")));
    assert_eq!(fault("[1,]"), (3, "a JSON value", found("]")));
    assert_eq!(fault("[1 2]"), (3, "\",\" or \"]\"", found("2")));
    assert_eq!(fault("{\"é\" 1}"), (6, "\":\"", found("1")));
    assert_eq!(fault("{é"), (1, "a string or \"}\"", found("é")));
    assert_eq!(fault("[{\"a\":1]"), (7, "\",\" or \"}\"", found("]")));
    assert_eq!(fault("1 é"), (2, "the end of the text", found("é")));
    assert_eq!(fault("tru e"), (3, "true", found(" ")));
    assert_eq!(fault("-"), (1, "a digit", end()));
    assert_eq!(
        fault("01"),
        (1, "no digit after a leading zero", found("1"))
    );
    assert_eq!(fault("1.e"), (2, "a digit", found("e")));
    assert_eq!(
        fault("\"abcdefghij\nk\""),
        (
            11,
            "a character of a string or its closing quote",
            "the control character U+000A".to_owned()
        )
    );
    assert_eq!(
        fault("\"\\x\""),
        (2, "one of \"\\/bfnrtu after a backslash", found("x"))
    );
    assert_eq!(fault("\"\\u00é0\""), (5, "a hexadecimal digit", found("é")));
    assert_eq!(
        fault("\"abc"),
        (4, "a character of a string or its closing quote", end())
    );
    assert_eq!(
        Json::parse("[1,]").unwrap_err().to_string(),
        "expected a JSON value at byte 3, found \"]\""
    );
}
