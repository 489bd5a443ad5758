//! Writes `jsonb` from text and reads it back, also when damaged, too deep or unfit.

#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::encode::MAX_DEPTH;
use super::generators::any_text;
use super::*;

const IS_ARRAY: u32 = 0x4000_0000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

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
            // any bytes can be read, and the reading ends
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
        // and each part has the same bytes
        for (key, value) in binary.members() {
            prop_assert_eq!(jsonb(value), jsonb(text(&value.text())));
            prop_assert_eq!(jsonb(value), jsonb(text(&json).get(&key).unwrap()));
        }
        for (value, sent) in binary.elements().zip(text(&json).elements()) {
            prop_assert_eq!(jsonb(value), jsonb(sent));
        }
    }
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

    // too deep for the encoder: this makes the bytes by hand
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
    // brackets that are closed again do not count towards the depth
    let wide = format!("[[{}]]", ["[]"; 2 * MAX_DEPTH].join(","));
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
        // also if a later member replaces it
        assert!(
            unfit(&format!(r#"{{"a":{part},"b":{{}},"a":1}}"#)),
            "{part}"
        );
        assert!(
            unfit(&format!(r#"[{{"a":[{{"b":{part}}}],"\u0061":1}}]"#)),
            "{part}"
        );
    }
    let long = |length: usize| format!("\"{}\"", "a".repeat(length - 2));
    // the text of the last one is not too long, but its datum is
    assert!(!unfit(&long(17 << 20)) && unfit(&long((1 << 28) - 2)));
}

#[test]
fn what_was_unfit_leaves_nothing_in_the_encoder() {
    let mut encoder = Encoder::default();
    let good = text(r#"[{"b":[1,{"\u0061":2}],"a":"\n"},3]"#);
    let expected = jsonb(good).unwrap();
    for unfit in [
        r#"[1,[{"\u0061":[{"\u0000":1}]}]]"#,
        r#"[1,[{"a":[1,"\u0000"]}]]"#,
        r#"[[{"a":[1,[2,1e257]]}]]"#,
    ] {
        assert_eq!(encoder.jsonb(text(unfit)), Err(Unfit), "{unfit}");
        assert_eq!(encoder.jsonb(good).unwrap(), expected, "{unfit}");
        let mut fresh = Encoder::default();
        fresh.jsonb(good).unwrap();
        assert_eq!(format!("{encoder:?}"), format!("{fresh:?}"), "{unfit}");

        assert_eq!(encoder.jsonb(text(unfit)), Err(Unfit), "{unfit}");
        encoder.trim();
        let empty = format!("{:?}", Encoder::default());
        assert_eq!(format!("{encoder:?}"), empty, "{unfit}");
    }
}

#[test]
fn headers_that_are_wrong_show_nothing() {
    let shown = |words: &[u32]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let value = Jsonb::new(&bytes);
        (value.kind(), value.elements().count())
    };
    const NULL: u32 = 0x4000_0000;
    assert_eq!(shown(&[]), (Kind::Null, 0));
    assert_eq!(shown(&[0]), (Kind::Null, 0));
    assert_eq!(shown(&[1, NULL]), (Kind::Null, 0));
    assert_eq!(shown(&[IS_ARRAY]), (Kind::Array, 0));
    // a count of more elements than the bytes have room for
    assert_eq!(shown(&[IS_ARRAY | 1000, NULL, NULL]), (Kind::Array, 2));
}

/// In a database with another encoding, or with SQL_ASCII, a string can have any bytes.
#[test]
fn every_key_and_string_has_to_be_utf8() {
    for json in [
        r#""é""#,
        r#"["é"]"#,
        r#"[[{"a":[]},{},1,"b"],null,"é"]"#,
        r#"{"é":1}"#,
        r#"{"a":1,"b":"é"}"#,
        r#"{"a":[true,{"é":[]}],"b":2}"#,
        r#"[[[],["é"]],3]"#,
    ] {
        let mut bytes = jsonb(text(json)).unwrap();
        assert!(Jsonb::new(&bytes).is_utf8(), "{json}");
        let at = bytes.windows(2).position(|pair| pair == "é".as_bytes());
        bytes[at.unwrap()] = 0xff;
        assert!(!Jsonb::new(&bytes).is_utf8(), "{json}");
    }
    // halves of a character are invalid, also side by side
    let mut bytes = jsonb(text(r#"["a?","?","",1,"é"]"#)).unwrap();
    for half in [0xc3, 0xa9] {
        let at = bytes.iter().position(|byte| *byte == b'?');
        bytes[at.unwrap()] = half;
    }
    assert!(!Jsonb::new(&bytes).is_utf8());
    for json in [
        "null",
        "true",
        "1.5",
        "[]",
        "{}",
        "[[],1,{}]",
        r#"["é","",[],"",true,"ß",2.5,{"é":"é"},"","é"]"#,
        r#"{"é":12345678901234567890,"ßß":["é"],"":"ß"}"#,
    ] {
        assert!(Jsonb::new(&jsonb(text(json)).unwrap()).is_utf8(), "{json}");
    }
    // the bytes of numbers and lengths are not text
    let wide = format!("[{}0.{}]", "\"é\",".repeat(300), "9".repeat(60));
    for json in [&wide, &format!("[\"\",{}]", "9".repeat(60))] {
        assert!(Jsonb::new(&jsonb(text(json)).unwrap()).is_utf8(), "{json}");
    }
}

#[test]
fn only_arrays_have_elements_and_only_objects_have_members() {
    for (json, members) in [
        (r#"{"a":1,"b":[2]}"#, 2),
        (r#""some text""#, 0),
        ("12345678", 0),
        ("true", 0),
        ("null", 0),
    ] {
        let bytes = jsonb(text(json)).unwrap();
        for value in [text(json), Json::Binary(Jsonb::new(&bytes))] {
            assert_eq!(value.elements().count(), 0, "{json}");
            assert_eq!(value.members().count(), members, "{json}");
        }
    }
    let array = "[1,[2],{}]";
    let bytes = jsonb(text(array)).unwrap();
    for value in [text(array), Json::Binary(Jsonb::new(&bytes))] {
        assert_eq!((value.members().count(), value.elements().count()), (0, 3));
    }
}

#[test]
fn the_size_of_a_value_is_that_of_its_bytes() {
    let bytes = jsonb(text(r#"["four",true,[]]"#)).unwrap();
    let array = Jsonb::new(&bytes);
    assert_eq!(array.size(), bytes.len());
    let sizes: Vec<_> = array.elements().map(Jsonb::size).collect();
    assert_eq!(sizes, [4, 0, 4]);
}

#[test]
fn strings_are_printed_as_the_server_does() {
    let printed = "\"\\b\\f\\n\\r\\t\\u0001\\u001f\\\"\\\\/\u{7f}ä\"";
    let bytes = jsonb(text(printed)).unwrap();
    assert_eq!(Jsonb::new(&bytes).text(), printed);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// What is written child by child has the bytes of what is written from notes.
    #[test]
    fn a_large_document_is_its_children(json in any_text(), other in any_text(), nested in any::<bool>()) {
        let blanks = " ".repeat(1 << 20);
        let pairs = [
            format!(r#"[{json},{blanks}{other}, [],{{}} ,"\u00e4",1.50,{json}]"#),
            format!(r#"{{"bb":{json},"b":{other} ,{blanks}"\u0061":[{json}],"bb":{{}},"c":0,"c":{json}}}"#),
            format!(r#"{{{blanks}}}"#),
            format!(r#"[{blanks}]"#),
        ];
        for large in pairs {
            let large = if nested { format!(r#"{{"z":{large},"y":[{json},{large}]}}"#) } else { large };
            let small = large.replace(&blanks, "");
            prop_assert_eq!(jsonb(text(&large)), jsonb(text(&small)), "{}", small);
        }
    }
}

#[test]
fn a_large_document_is_unfit_for_any_of_its_values() {
    let blanks = " ".repeat(1 << 20);
    for part in [r#""\u0000""#, r#"{"\udc00":1}"#, "1e257"] {
        for whole in [
            format!(r#"[{blanks}{part}]"#),
            format!(r#"{{"a":{blanks}[{part}]}}"#),
            // also where a later member is in its place
            format!(r#"{{"a":{part},{blanks}"a":1}}"#),
            format!(r#"{{"\u0000":1,{blanks}"a":1}}"#),
        ] {
            assert_eq!(jsonb(text(&whole)), None, "{part}");
            assert_eq!(
                string_fault(&whole).is_some(),
                whole.contains("\\u"),
                "{whole}"
            );
        }
    }
}
