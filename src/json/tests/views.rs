//! The view of a value: members, elements, paths, strings and numbers.

#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::generators::{any_text, string};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_member_is_the_last_of_its_name(json in any_text()) {
        let view = text(&json);
        for (key, _) in view.members() {
            let last = view.members().filter(|(name, _)| *name == key).last().unwrap().1;
            prop_assert_eq!(view.get(&key).unwrap().text(), last.text());
            prop_assert_eq!(view.path(&[&key]).unwrap().text(), last.text());
        }
        for (index, element) in view.elements().enumerate() {
            prop_assert_eq!(view.path(&[index.to_string()]).unwrap().text(), element.text());
        }
    }

    #[test]
    fn strings_are_compared_by_their_characters(json in string(), other in string()) {
        let (a, b) = (text(&json), text(&other));
        let (a_string, b_string) = (a.string().unwrap().unwrap(), b.string().unwrap().unwrap());
        prop_assert!(a.is_string(&a_string));
        prop_assert_eq!(a.is_string(&b_string), a_string == b_string);
        prop_assert_eq!(a.is_string(&json[1..json.len() - 1]), !json.contains('\\'));
    }
}

#[test]
fn strings_that_are_no_text() {
    let string = |json| text(json).string().unwrap().map(Cow::into_owned);
    assert_eq!(string(r#""a\u0000b""#), Err(StringFault::Nul));
    for lone in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800x""#,
        r#""\ud800\n""#,
        r#""\ud800\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud800\u0041""#,
    ] {
        assert_eq!(string(lone), Err(StringFault::LoneSurrogate), "{lone}");
        assert!(!text(lone).is_string("\u{FFFD}"));
    }
    assert_eq!(string(r#""\ud83d\ude00\u20ac""#).unwrap(), "😀€");
    assert_eq!(string(r#""\uD83D\uDE00""#).unwrap(), "😀");
    let members = text(r#"{"a\u0000b": 1, "\ud800\ud83d\ude00": 2}"#);
    let keys: Vec<_> = members.members().map(|(key, _)| key).collect();
    assert_eq!(keys, ["a\u{FFFD}b", "\u{FFFD}😀"]);
    // a low surrogate does not begin a pair
    for lone in [r#"{"\udc00\udc00":1}"#, r#"{"\udfff\udc00":1}"#] {
        let (key, _) = text(lone).members().next().unwrap();
        assert_eq!(key, "\u{FFFD}\u{FFFD}", "{lone}");
    }
}

#[test]
fn the_first_string_that_is_no_text_is_found() {
    for (json, fault) in [
        (r#""\n""#, None),
        (r#""a\u0041""#, None),
        (r#"["\"","\\"]"#, None),
        (r#"{"\u00e4":["abcdefghij\n",1]}"#, None),
        ("[1, true]", None),
        (r#""\u0000""#, Some(StringFault::Nul)),
        (
            r#"["\n",{"a":"abcdefghi\ud800"}]"#,
            Some(StringFault::LoneSurrogate),
        ),
        (r#"{"\udc00":"\u0000"}"#, Some(StringFault::LoneSurrogate)),
        (r#"{"\\":"\u0000","a":"\ud800"}"#, Some(StringFault::Nul)),
    ] {
        assert_eq!(string_fault(json), fault, "{json}");
    }
}

#[test]
fn numbers_keep_their_digits() {
    for number in [
        "9223372036854775807",
        "123456789012345678901234567890.10",
        "1e400",
        "-0",
        "1.50",
    ] {
        assert_eq!(text(number).number().unwrap(), number);
    }
    assert_eq!(text("\"1\"").number(), None);
}

#[test]
fn paths() {
    let json = text(r#"{"a": {"b": [10, {"c": "x"}]}, "0": 1, "a\u0062": 2}"#);
    let path = |keys: &[&str]| json.path(keys).map(Json::text);
    assert_eq!(path(&["a", "b", "1", "c"]).unwrap(), "\"x\"");
    assert_eq!(path(&["0"]).unwrap(), "1");
    assert_eq!(path(&["ab"]).unwrap(), "2");
    assert_eq!(path(&[]).unwrap(), json.text());
    for none in [
        &["a", "b", "2"][..],
        &["a", "b", "-1"],
        &["a", "b", "+1"],
        &["a", "b", ""],
        &["0", "0"],
        &["b"],
    ] {
        assert_eq!(path(none), None, "{none:?}");
    }
}

#[test]
fn views_of_the_wrong_kind_are_empty() {
    let array = text("[1]");
    assert_eq!(array.members().count(), 0);
    assert!(array.get("1").is_none() && array.string().is_none() && array.number().is_none());
    assert!(!array.is_null() && !array.is_string("[1]") && array.as_bool().is_none());
    let object = text("{}");
    assert_eq!(object.elements().count(), 0);
    assert!(text("null").is_null());
}
