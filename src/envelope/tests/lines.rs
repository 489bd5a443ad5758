//! Lines and payloads that are not JSON among others that are.

#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::*;

/// A message whose position in the source is `lsn`.
fn message(lsn: usize) -> String {
    MESSAGE.replace("\"commit_lsn\":7", &format!("\"commit_lsn\":{lsn}"))
}

/// What is left of a fault where its place and reason do not matter.
fn short(told: &str) -> String {
    let cut = |line: &str| match line.split_once(" is not JSON: ") {
        Some((what, rest)) => {
            let text = rest.split_once(": ").map_or("", |(_, text)| text);
            format!("{what}: {text}\n")
        }
        None => format!("{line}\n"),
    };
    told.lines().map(cut).collect()
}

fn payloads(payloads: &[Option<&str>]) -> String {
    let arena = Bump::new();
    told(&read_payloads(payloads, &arena, UNWATCHED))
}

/// Where the whole text is at fault, the place of the fault.
fn fault(text: &str) -> Option<usize> {
    let arena = Bump::new();
    read_text(text, &arena, UNWATCHED)
        .err()
        .map(|fault| fault.byte)
}

#[test]
fn a_line_that_is_not_json_is_one_dead_item() {
    for bad in [
        "x",
        "}",
        "]",
        ",",
        "[",
        "{",
        "{\"action\":",
        "{\"data\":[",
        "{\"data\":[{\"a\":[",
        "[1,",
        "[[[[",
        "\"open",
        "tru",
        "1 2x",
        "{\"a\":1,}",
        "{\"a\":1}}",
        "[{}] [}",
        "not a message at all",
        "ümläut",
    ] {
        for lines in [1, 2, 3] {
            for at in 0..=lines {
                let mut text: Vec<String> = (0..lines).map(message).collect();
                let mut wanted: Vec<String> = (0..lines)
                    .map(|n| format!("public.t insert {n}\n"))
                    .collect();
                text.insert(at, bad.to_owned());
                wanted.insert(at, format!("line: {bad}\n"));
                for (between, end) in [("\n", ""), ("\r\n", "\r\n"), ("\n\n  \n", "\n")] {
                    let text = text.join(between) + end;
                    assert_eq!(short(&read(&text)), wanted.concat(), "{text}");
                }
            }
        }
    }
}

#[test]
fn a_good_value_on_a_bad_line_goes_with_it() {
    let (a, b) = (message(1), message(2));
    assert_eq!(
        short(&read(&format!("{a} {a}oops\n{b}"))),
        format!("line: {a} {a}oops\npublic.t insert 2\n")
    );
    // A value of several lines is not on the line that it ends on.
    assert_eq!(
        short(&read(&format!("{}oops\n{b}", spread(1)))),
        "public.t insert 1\nline: oops\npublic.t insert 2\n"
    );
}

/// A message of several lines.
fn spread(lsn: usize) -> String {
    message(lsn).replace(',', ",\n")
}

#[test]
fn a_value_of_several_lines_follows_a_bad_line() {
    let text = format!("x\n{}\n{}", spread(1), message(2));
    assert_eq!(
        short(&read(&text)),
        "line: x\npublic.t insert 1\npublic.t insert 2\n"
    );
    // also where the bad lines were read as parts of longer values, if that was not too much
    let bad = format!("[1,\n{}\n", message(0)).repeat(3);
    let text = format!("{bad}{}\n{}", spread(1), message(2));
    assert_eq!(
        short(&read(&text)),
        "line: [1,\npublic.t insert 0\n".repeat(3) + "public.t insert 1\npublic.t insert 2\n"
    );
}

/// Each of the brackets takes the ones behind it for its elements, up to the line that fails.
#[test]
fn as_many_bytes_as_the_text_has_are_read_in_vain() {
    let brackets = 20;
    let lines = "[\n".repeat(brackets) + "x\n" + &"1\n".repeat(brackets + 2);
    let last = spread(7);
    let of = |length: usize| {
        let blanks = " ".repeat(length - lines.len() - last.len());
        let text = format!("{lines}{last}{blanks}");
        let arena = Bump::new();
        read_text(&text, &arena, UNWATCHED).map(|batch| told(&batch))
    };
    // 1 + 3 + 5 + … bytes stand between the end of a bracket's line and the fault
    let vain = brackets * brackets;
    assert!(of(vain).unwrap().ends_with(GOOD));
    // then values are read line by line, and the lines of the last one are not JSON
    assert!(of(vain - 1).is_err());
}

#[test]
fn more_lines_must_be_json_than_not_if_a_value_reaches_into_them() {
    // a value that begins on the last line of another one counts as a line
    let first = format!("{}[\n", spread(1));
    for (good, bad, is_fault) in [(1, 1, true), (2, 1, false), (2, 2, true), (3, 2, false)] {
        let (bad, more) = (",2\n".repeat(bad), "[1]\n".repeat(good - 1));
        let text = format!("{first}[1]\n{bad}{more}");
        assert_eq!(fault(&text).is_some(), is_fault, "{text}");
    }
}

#[test]
fn the_fault_of_a_line_tells_its_place_in_the_line() {
    assert_eq!(
        read(&format!("{MESSAGE}\n  {{\"a\" 1}}\n")),
        format!("{GOOD}line is not JSON: expected \":\" at byte 5, found \"1\": {{\"a\" 1}}\n")
    );
    assert_eq!(
        read(&format!("[\n{MESSAGE}\n{MESSAGE}")),
        format!(
            "line is not JSON: expected a JSON value at byte 1, found the end of the text: [\n{GOOD}{GOOD}"
        )
    );
}

#[test]
fn a_damaged_document_is_a_fault_of_the_text() {
    for (text, byte) in [
        // one line, cut off or damaged
        (MESSAGE[..20].to_owned(), 20),
        (format!("[{MESSAGE},{}", &MESSAGE[..20]), MESSAGE.len() + 22),
        (format!("{MESSAGE}x"), MESSAGE.len()),
        // a line for each message
        (
            format!("[\n{MESSAGE},\n{MESSAGE},\n{MESSAGE}"),
            3 * MESSAGE.len() + 6,
        ),
        (
            format!("{{\"data\": [\n{MESSAGE},\n{MESSAGE}\n]"),
            2 * MESSAGE.len() + 15,
        ),
        (
            format!("[\n{MESSAGE},\nx,\n{MESSAGE}\n]"),
            MESSAGE.len() + 4,
        ),
        // no line is JSON
        ("x\ny\n".to_owned(), 0),
        (
            "{\n  \"action\": \"insert\",\n  \"record\": {\n".to_owned(),
            38,
        ),
    ] {
        assert_eq!(fault(&text), Some(byte), "{text}");
    }
    // every line of a document with line breaks after each token
    let spread = MESSAGE.replace(',', ",\n").replace(":{", ":{\n");
    for end in (1..spread.len()).filter(|end| spread.is_char_boundary(*end)) {
        assert_eq!(fault(&spread[..end]), Some(end), "{}", &spread[..end]);
    }
}

#[test]
fn lines_within_a_body() {
    let body = format!("{MESSAGE}\nnot json\n{MESSAGE}");
    assert_eq!(
        short(&read(&format!(
            r#"{{"Records":[{{"body":{}}},{{"body":"x\ny"}}]}}"#,
            string(&body)
        ))),
        format!("{GOOD}line: not json\n{GOOD}body: x\ny\n")
    );
}

#[test]
fn an_empty_text_is_a_payload_and_white_space_is_none() {
    let none = "expected a JSON value at byte 0, found the end of the text: \n";
    assert_eq!(read(""), format!("payload is not JSON: {none}"));
    for text in [
        " ",
        "\n",
        "\r\n\t ",
        "\u{feff}",
        "\u{feff}\n",
        "[]",
        "[ ]\n[]",
        "{\"data\":[]}",
    ] {
        assert_eq!(read(text), "", "{text:?}");
    }
    assert_eq!(payloads(&[]), "");
    assert_eq!(payloads(&[Some("[]")]), "");
    assert_eq!(
        payloads(&[Some("")]),
        format!("payload is not JSON: {none}")
    );
    assert_eq!(short(&payloads(&[Some(" ")])), "payload:  \n");
}

#[test]
fn payloads_are_read_one_by_one() {
    let batch = format!("{{\"data\":[{MESSAGE},{MESSAGE}]}}");
    let lines = format!("{MESSAGE}\nx\n{MESSAGE}");
    assert_eq!(
        short(&payloads(&[
            Some(MESSAGE),
            None,
            Some("["),
            Some(&batch),
            Some("]"),
            Some("null"),
            Some(""),
            Some(&lines),
            Some("x\ny"),
            Some("\u{feff}[1]"),
            Some(MESSAGE),
        ])),
        format!(
            "{GOOD}payload is null: null\npayload: [\n{GOOD}{GOOD}payload: ]\nmessage is not a JSON object: null\n\
             payload: \n{GOOD}line: x\n{GOOD}payload: x\ny\nmessage is not a JSON object: 1\n{GOOD}"
        )
    );
}

#[test]
fn a_letter_is_never_nothing() {
    let arena = Bump::new();
    for text in ["", " ", "[]", "null", "x", "[", "{\"data\":[]}"] {
        let batch = read_letter(text, &arena, UNWATCHED);
        assert!(matches!(&batch.items[..], [Item::Dead { .. }]), "{text}");
    }
}

#[test]
fn a_letter_is_its_messages_or_says_why_it_has_none() {
    let arena = Bump::new();
    let of = |text| told(&read_letter(text, &arena, UNWATCHED));
    assert_eq!(of(MESSAGE), GOOD);
    for text in ["", " ", "\r\n", "\u{feff}", "\u{feff}\n", "x", "["] {
        assert!(of(text).starts_with("payload is not JSON"), "{}", of(text));
    }
    for text in ["[]", "\u{feff}[]", "{\"data\":[]}"] {
        let told = of(text);
        assert!(told.starts_with("message is not a JSON object"), "{told}");
    }
}

#[test]
fn lines_that_are_read_in_vain_take_a_time_like_the_text() {
    let lines = "[\n".repeat(200_000) + MESSAGE;
    assert!(fault(&lines).is_some());
    let lines = format!("[1,\n{MESSAGE}\n").repeat(5_000) + MESSAGE;
    let told = read(&lines);
    assert_eq!(told.matches(GOOD).count(), 5_001);
    assert_eq!(told.matches("line is not JSON").count(), 5_000);
}

/// A line that is not JSON: random characters, or a message that lost its end or a character.
fn bad_line() -> impl Strategy<Value = String> {
    let any = "[ -~äß\t]{1,20}";
    let signs = "[\\[\\]{}:,\" a1]{1,12}";
    let cut = (1..MESSAGE.len()).prop_map(|end| MESSAGE[..end].to_owned());
    let lacking = (0..MESSAGE.len()).prop_map(|at| MESSAGE[..at].to_owned() + &MESSAGE[at + 1..]);
    prop_oneof![any, signs, cut, lacking].prop_filter("JSON, or blank", |line| {
        let arena = Bump::new();
        !line.trim().is_empty()
            && !read_text(line, &arena, UNWATCHED).is_ok_and(|batch| !batch.items.is_empty())
            && Json::parse(line).is_err()
            && !serde_json::Deserializer::from_str(line)
                .into_iter::<serde::de::IgnoredAny>()
                .all(|value| value.is_ok())
    })
}

/// A bad line that no line before it can end in, and that ends none.
fn lone_line() -> impl Strategy<Value = String> {
    bad_line().prop_map(|line| match line.trim_start().starts_with('{') {
        true => line,
        false => format!("x{line}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_bad_line_anywhere_costs_itself_alone(bad in bad_line(), lines in 1..6_usize, at in 0..7_usize) {
        let at = at.min(lines);
        let mut text: Vec<String> = (0..lines).map(message).collect();
        text.insert(at, bad.clone());
        let text = text.join("\n");
        let arena = Bump::new();
        let batch = read_text(&text, &arena, UNWATCHED).unwrap();
        prop_assert_eq!(batch.items.len(), lines + 1);
        let mut lsn = 0;
        for (place, item) in batch.items.iter().enumerate() {
            match item {
                Item::Dead { text, .. } => {
                    prop_assert_eq!((place, &*text.text()), (at, bad.trim_matches([' ', '\t'])));
                }
                Item::Message(message) => {
                    prop_assert_eq!(message.version.map(|version| version.lsn), Some(lsn));
                    lsn += 1;
                }
            }
        }
    }

    /// Whatever the lines are: no message is lost or doubled, and all stand in their order.
    #[test]
    fn more_good_lines_than_bad_ones_are_all_read(
        lines in (proptest::collection::vec(lone_line(), 0..5), 1..5_usize).prop_flat_map(|(bad, more)| {
            let good = bad.len() + more;
            let lines: Vec<_> = bad.into_iter().map(Some).chain(vec![None; good]).collect();
            Just(lines).prop_shuffle()
        }),
    ) {
        let text: Vec<String> = lines
            .iter()
            .enumerate()
            .map(|(n, bad)| bad.clone().unwrap_or_else(|| message(n)))
            .collect();
        let good: Vec<u64> = (0..).zip(&lines).filter(|(_, bad)| bad.is_none()).map(|(n, _)| n).collect();
        let text = text.join("\n");
        let arena = Bump::new();
        let batch = read_text(&text, &arena, UNWATCHED).unwrap();
        let read: Vec<u64> = batch.items.iter().filter_map(|item| match item {
            Item::Message(message) => message.version.map(|version| version.lsn),
            Item::Dead { .. } => None,
        }).collect();
        prop_assert_eq!(read, good);
        prop_assert_eq!(batch.items.len(), lines.len());
    }
}
