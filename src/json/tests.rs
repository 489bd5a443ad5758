//! The scanner against `serde_json`, the view of `jsonb` against the view of text.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;

use super::encode::MAX_DEPTH;
use super::numeric::{self, numeric_text};
use super::*;

fn text(text: &str) -> Json<'_> {
    Json::parse(text).unwrap()
}

/// The value as `serde_json` has it, built with the view's own means; `None` where the view says
/// that a string is no text.
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

fn white() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,9}"]
}

fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?"
}

/// Strings of the JSON grammar without `\u0000` and lone surrogates.
fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z_ ]{1,20}",
        1 => "[^\u{0}-\u{1f}\"\\\\]{1,9}",
        1 => "\\\\[\"\\\\/bfnrt]",
        1 => "\\\\u[0-9a-cA-C][0-9a-fA-F]{2}[1-9a-fA-F]",
        1 => "\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Any JSON text, with white space in all places.
fn any_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
        string(),
    ];
    let spaced = (white(), leaf, white()).prop_map(|(a, leaf, b)| a + &leaf + &b);
    spaced.prop_recursive(6, 200, 40, |inner| {
        let key = (white(), string(), white()).prop_map(|(a, key, b)| a + &key + &b);
        let member = (key, inner.clone())
            .prop_map(|(key, value)| format!("{key}:{value}"))
            .boxed();
        let array = prop_oneof![
            6 => prop::collection::vec(inner.clone(), 0..6),
            1 => prop::collection::vec(inner, 0..100)
        ];
        let object = prop_oneof![
            6 => prop::collection::vec(member.clone(), 0..6),
            1 => prop::collection::vec(member, 0..100)
        ];
        prop_oneof![
            (white(), array, white()).prop_map(|(a, v, b)| format!("{a}[{b}{}]{a}", v.join(","))),
            (white(), object, white())
                .prop_map(|(a, v, b)| format!("{a}{{{b}{}}}{a}", v.join(","))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn valid_text_is_read_as_serde_json_reads_it(json in any_text()) {
        let view = Json::parse(&json).unwrap();
        prop_assert_eq!(&*view.text(), json.trim_ascii());
        // numbers beyond f64 are a fault of serde_json's only
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

    #[test]
    fn jsonb_is_read_as_its_text(json in any_text()) {
        let view = text(&json);
        let bytes = jsonb(view).unwrap();
        let binary = Json::Binary(Jsonb::new(&bytes));
        prop_assert!(same(view, binary), "{:?}", binary.text());
        let printed = binary.text();
        prop_assert!(same(view, text(&printed)), "{:?}", printed);
        for (key, value) in view.members() {
            prop_assert!(binary.get(&key).is_some());
            if view.get(&key).unwrap().text() == value.text() {
                prop_assert!(same(binary.get(&key).unwrap(), value));
            }
            let absent = format!("{key}\0");
            prop_assert!(binary.get(&absent).is_none());
        }
        for (index, element) in view.elements().enumerate() {
            prop_assert!(same(binary.path(&[index.to_string()]).unwrap(), element));
        }
    }

    #[test]
    fn damaged_jsonb_does_no_harm(
        json in any_text(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = jsonb(text(&json)).unwrap();
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            let binary = Json::Binary(Jsonb::new(bytes));
            // whatever it says, it says something and ends
            prop_assert!(!binary.text().is_empty());
            prop_assert!(binary.members().count() + binary.elements().count() <= bytes.len());
            let _ = (binary.get("a"), binary.string(), binary.number(), binary.as_bool());
        }
    }

    #[test]
    fn jsonb_of_jsonb_is_the_same(json in any_text()) {
        let bytes = jsonb(text(&json)).unwrap();
        let binary = Json::Binary(Jsonb::new(&bytes));
        prop_assert_eq!(jsonb(binary).unwrap(), &bytes[..]);
        prop_assert_eq!(jsonb(text(&binary.text())).unwrap(), &bytes[..]);
        // and so is each of its parts
        for (key, value) in binary.members() {
            prop_assert_eq!(jsonb(value), jsonb(text(&value.text())));
            prop_assert_eq!(jsonb(value), jsonb(text(&json).get(&key).unwrap()));
        }
        for (value, sent) in binary.elements().zip(text(&json).elements()) {
            prop_assert_eq!(jsonb(value), jsonb(sent));
        }
    }

    #[test]
    fn numerics_are_printed_as_the_server_does(number in number(), long in any::<bool>()) {
        prop_assert_eq!(numeric_text(&numeric(&number, long)).unwrap(), numeric_out(&number));
    }
}

/// The datum of a value, without its length word; `None` if it cannot be one.
pub(crate) fn jsonb(value: Json<'_>) -> Option<Vec<u8>> {
    Encoder::default().jsonb(value).map(<[u8]>::to_vec).ok()
}

/// A `numeric` varlena; in the long format on demand.
fn numeric(text: &str, long: bool) -> Vec<u8> {
    let mut out = Vec::new();
    numeric::encode_varlena(text.as_bytes(), &mut out).unwrap();
    let head = u16::from_ne_bytes([out[4], out[5]]);
    if !long || head & 0x8000 == 0 {
        return out;
    }
    let sign = if head & 0x2000 == 0 { 0 } else { 0x4000 };
    let weight = ((head & 0x7F) as i16) << 9 >> 9;
    let mut words = Vec::from((sign | (head & 0x1F80) >> 7).to_ne_bytes());
    words.extend(weight.to_ne_bytes());
    out.splice(4..6, words);
    let len = out.len() as u32;
    let word = if cfg!(target_endian = "little") {
        len << 2
    } else {
        len
    };
    out[..4].copy_from_slice(&word.to_ne_bytes());
    out
}

/// The sign, the digits before and after the point and how many of the latter there are, of a
/// decimal number with or without an exponent.
fn parts(text: &str) -> (bool, String, String) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap();
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let mut point = whole.len() as i32 + exponent;
    while point < 0 {
        digits.insert(0, '0');
        point += 1;
    }
    while (digits.len() as i32) < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point as usize);
    let zero = digits.bytes().all(|b| b == b'0');
    let whole = whole.trim_start_matches('0').to_owned();
    (negative && !zero, whole, fraction.to_owned())
}

/// A number as `numeric` prints it.
fn numeric_out(text: &str) -> String {
    let (negative, whole, fraction) = parts(text);
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { &whole };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

/// Whether two values are equal as `jsonb` compares: members in any order, the last of duplicates,
/// and numbers by their digits however they are spelled.
pub(crate) fn same(a: Json<'_>, b: Json<'_>) -> bool {
    a.kind() == b.kind()
        && match a.kind() {
            Kind::Null => true,
            Kind::Bool => a.as_bool() == b.as_bool(),
            Kind::Number => numeric_out(&a.number().unwrap()) == numeric_out(&b.number().unwrap()),
            Kind::String => a.string() == b.string(),
            Kind::Array => {
                let (a, b): (Vec<_>, Vec<_>) = (a.elements().collect(), b.elements().collect());
                a.len() == b.len() && a.into_iter().zip(b).all(|(a, b)| same(a, b))
            }
            Kind::Object => {
                let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    (a.members().collect(), b.members().collect());
                a.keys().eq(b.keys())
                    && a.into_values()
                        .zip(b.into_values())
                        .all(|(a, b)| same(a, b))
            }
        }
}

fn edit() -> impl Strategy<Value = char> {
    prop_oneof![
        prop::sample::select(
            "[]{},:\"\\ \n0123456789eE+-.tfnu/\u{0}\u{1f}\u{7f}é"
                .chars()
                .collect::<Vec<_>>()
        ),
        any::<char>(),
    ]
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
        // what stands before the fault can be gone on with: it is not found too late
        let before = Json::parse(&json[..fault.byte]);
        if let Err(before) = before {
            prop_assert_eq!(before.byte, fault.byte, "{:?}", json);
        }
    }
    Ok(())
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

#[test]
fn nesting_costs_no_stack() {
    let deep = 100_000;
    let array = "[".repeat(deep) + &"]".repeat(deep);
    assert_eq!(text(&array).text(), array);
    assert_eq!(text(&array).elements().count(), 1);
    let object = "{\"a\":[".repeat(deep) + "1" + &"]}".repeat(deep);
    assert_eq!(
        text(&object).get("a").unwrap().text().len(),
        object.len() - 6
    );
    let swapped = "{\"a\":[".repeat(100) + "1" + &"}]".repeat(100);
    assert_eq!(Json::parse(&swapped).unwrap_err().byte, 601);

    let open = "[".repeat(10_000_000);
    assert_eq!(Json::parse(&open).unwrap_err().byte, open.len());

    // too deep for the encoder: make the bytes by hand
    let mut bytes = vec![];
    for level in (0..deep as u32).rev() {
        bytes.extend((IS_ARRAY | u32::from(level > 0)).to_ne_bytes());
        if level > 0 {
            bytes.extend((0xD000_0000 | (8 * level - 4)).to_ne_bytes());
        }
    }
    let binary = Jsonb::new(&bytes);
    assert_eq!(binary.text(), array);
    assert_eq!(
        jsonb(Json::Binary(binary.elements().next().unwrap())).unwrap(),
        bytes[8..]
    );
    assert_eq!(jsonb(Json::Binary(binary)).unwrap(), bytes);
}

#[test]
fn what_is_too_deep_is_left_to_the_server() {
    let nest = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
    for (open, close, levels) in [("[", "]", 1), ("{\"a\":", "}", 1), ("[{\"[\":", "}]", 2)] {
        let deepest = nest(open, close, MAX_DEPTH / levels);
        let deeper = nest(open, close, MAX_DEPTH / levels + 1);
        assert!(is_shallow(&deepest) && !is_shallow(&deeper));
        assert!(jsonb(text(&deepest)).is_some() && jsonb(text(&deeper)).is_none());
    }
    let wide = format!(
        "[{}]",
        ["[[]]", "{\"\\\"[[[\":{}}"].repeat(MAX_DEPTH).join(",")
    );
    assert!(is_shallow(&wide) && jsonb(text(&wide)).is_some());
}

#[test]
fn what_jsonb_cannot_hold_is_left_to_the_server() {
    let unfit = |json: &str| jsonb(text(json)).is_none();
    for part in [
        r#""\u0000""#,
        r#""a\ud800""#,
        r#"{"\u0000":1}"#,
        r#"{"\udc00":1}"#,
        "1e257",
        "-1e-257",
        "1e99999999999999999999",
        &"1".repeat(257),
    ] {
        assert!(unfit(part), "{part}");
        assert!(unfit(&format!("[1,[{part}]]")), "{part}");
        // also where a later member is in its place
        assert!(
            unfit(&format!(r#"{{"a":{part},"b":{{}},"a":1}}"#)),
            "{part}"
        );
        assert!(
            unfit(&format!(r#"[{{"a":[{{"b":{part}}}],"\u0061":1}}]"#)),
            "{part}"
        );
    }
    assert!(unfit(&format!("\"{}\"", "a".repeat(1 << 24))));
}

#[test]
fn the_encoder_keeps_little() {
    let mut encoder = Encoder::default();
    let large = format!("[{}{{\"\\u0061\":1}}]", "{\"a\":[1]},".repeat(100_000));
    let first = encoder.jsonb(text(&large)).unwrap().to_vec();
    assert_eq!(encoder.jsonb(text(&large)).unwrap(), first);
    encoder.trim();
    assert!(format!("{encoder:?}").len() < 200);
    for json in ["[1,{\"b\":2,\"a\":3}]", "{}", "true", "[[[]]]", "{\"a\":1"] {
        let Ok(value) = Json::parse(json) else {
            continue;
        };
        assert_eq!(encoder.jsonb(value).unwrap(), jsonb(value).unwrap());
    }
}

const IS_ARRAY: u32 = 0x4000_0000;

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

/// Bytes that PostgreSQL 15 made on a little-endian machine.
#[test]
#[cfg(target_endian = "little")]
fn jsonb_of_the_server() {
    for (hex, printed) in [
        (
            "04000020010000800100000002000000030000000f000010000000202a000050160000506165626263636300380000008280d2042e1634238813000005000040000000b0000000400a00001002000000040000502800000000a101008813780a0000004001000020010000800900001064000000180000000080",
            r#"{"a": 123456789012.5, "e": false, "bb": [true, null, -1.50, "x\n", []], "ccc": {"d": 0}}"#,
        ),
        (
            "01000050080000902000000011a09600",
            "-15000000000000000000000000000000000000000000000000000000000000000000000",
        ),
    ] {
        let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
        assert_eq!(Jsonb::new(&bytes).text(), printed);
        assert_eq!(jsonb(text(printed)).unwrap(), bytes);
    }
}

#[test]
fn special_numerics() {
    let special = |head: u16| {
        let mut bytes = (if cfg!(target_endian = "little") {
            6_u32 << 2
        } else {
            6
        })
        .to_ne_bytes()
        .to_vec();
        bytes.extend(head.to_ne_bytes());
        numeric_text(&bytes)
    };
    assert_eq!(special(0xC000).unwrap(), "NaN");
    assert_eq!(special(0xD000).unwrap(), "Infinity");
    assert_eq!(special(0xF000).unwrap(), "-Infinity");
    assert_eq!(numeric_text(&[]), None);
    assert_eq!(numeric_text(&[1, 2, 3, 4, 5, 6]), None);
}
