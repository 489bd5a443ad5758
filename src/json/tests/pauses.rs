//! How often work on a long value pauses: once for each stretch of it.

#![forbid(unsafe_code)]

use super::*;
use crate::json::lex;
use crate::json::pause::VALUES;

/// `open`, as many units as fit into so many stretches and a half, and `close`. The half is for the units that a pause
/// comes late.
pub(crate) fn long(stretches: usize, [open, unit, close]: [&str; 3]) -> String {
    let size = stretches * STRETCH + STRETCH / 2;
    let units = unit.repeat((size - open.len() - close.len()) / unit.len());
    format!("{open}{units}{close}")
}

/// Checks that work pauses once for each stretch of a text of such a form; it returns whether it reads the text.
#[track_caller]
fn pauses_at_each_stretch(form: [&str; 3], work: impl Fn(&str) -> bool) {
    for stretches in [0, 1, 2, 5] {
        let text = long(stretches, form);
        let work = || assert!(work(&text), "{}", &text[..20]);
        assert_eq!(pauses(work), stretches, "{}", &text[..20]);
    }
}

const OBJECT: [&str; 3] = ["{", "\"key\":\"value\",", "\"key\":null}"];

const ARRAY: [&str; 3] = ["[", "null,", "null]"];

#[test]
fn reading_tokens() {
    fn of<T>(read: impl Fn(&[u8]) -> Result<T, lex::Stop>) -> impl Fn(&str) -> bool {
        move |text| read(text.as_bytes()).is_ok()
    }
    let white = |text: &[u8]| Ok(lex::white(text, 0));
    pauses_at_each_stretch(["", " \t\r\n", ""], of(white));
    pauses_at_each_stretch(["", "1", ""], of(|text| lex::scalar(text, 0)));
    pauses_at_each_stretch(["\"", "\\n", "\""], of(|text| lex::string(text, 0)));
    for form in [OBJECT, ARRAY, ["[", "[],", "{}]"]] {
        pauses_at_each_stretch(form, of(|text| lex::container(text, 0)));
        pauses_at_each_stretch(form, |text| string_fault(text).is_none());
    }
    pauses_at_each_stretch(["", "\\n", ""], |raw| {
        let escaped = true;
        Str { raw, escaped }.unescape().is_ok()
    });
}

#[test]
fn a_container_is_measured_from_its_beginning() {
    // at the end of as much text as it has itself
    let around = |size: usize| {
        let before = " ".repeat(size);
        format!("{before}[{}]", "null,".repeat((size - 6) / 5) + "null")
    };
    for (size, expected) in [(STRETCH - 10, 0), (STRETCH + 10, 1)] {
        let text = around(size);
        let read = || lex::container(text.as_bytes(), size).ok().unwrap();
        assert_eq!(pauses(read), expected, "{size}");
    }
}

#[test]
fn reading_members_and_elements() {
    pauses_at_each_stretch(OBJECT, |text| {
        Scanner::new(text).object(|_, _| Ok(())).is_ok()
    });
    pauses_at_each_stretch(OBJECT, |text| Json::Text(text).get("key").is_some());
    pauses_at_each_stretch(OBJECT, |text| Json::Text(text).members().count() > 0);
    pauses_at_each_stretch(ARRAY, |text| Scanner::new(text).array(|_| Ok(())).is_ok());
    pauses_at_each_stretch(ARRAY, |text| Json::Text(text).elements().count() > 0);
}

#[test]
fn passing_over_a_long_string() {
    for (size, expected) in [(STRETCH - 1, 0), (STRETCH, 1), (5 * STRETCH, 1)] {
        let text = format!("{}\"{}\"", " ".repeat(STRETCH / 2), "a".repeat(size - 2));
        let read = || Scanner::at(&text, STRETCH / 2).take().unwrap();
        assert_eq!(pauses(read), expected, "{size}");
    }
}

#[test]
fn depth_is_looked_at() {
    pauses_at_each_stretch(["[", "[[]],", "[]]"], is_shallow);
}

/// How many pauses work on `jsonb` makes.
fn pauses_of<T>(json: &str, work: impl Fn(Jsonb<'_>) -> T) -> usize {
    let bytes = jsonb(Json::Text(json)).unwrap();
    pauses(|| work(Jsonb::new(&bytes)))
}

#[test]
fn reading_jsonb() {
    for many in [0, 1, 2, 5] {
        // half of what makes a pause is over
        let count = many * VALUES + VALUES / 2;
        let nulls = format!("[{}null]", "null,".repeat(count - 1));
        assert_eq!(pauses_of(&nulls, |array| array.elements().count()), many);
        assert_eq!(pauses_of(&nulls, |value| value.is_utf8()), many);
        // an entry and a container each
        let empty = format!("[{}[]]", "[],".repeat(count / 2 - 1));
        assert_eq!(pauses_of(&empty, |value| value.is_utf8()), many);

        let string = format!("\"{}\"", "a".repeat(many * STRETCH + STRETCH / 2));
        assert_eq!(pauses_of(&string, |value| value.text()), many);
        // the strings are so long that their number makes no pause
        let strings = format!("\"{}\",", "a".repeat(98));
        let array = long(many, ["[", &strings, "\"\"]"]);
        assert_eq!(pauses_of(&array, |value| value.text()), many);
    }
}
