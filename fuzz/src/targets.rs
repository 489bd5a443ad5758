//! What is asked of the parsers with any input: no panic, and answers that agree with each other and with serde_json.

use bumpalo::Bump;
use serde::de::IgnoredAny;

use crate::envelope::{self, Batch, Item};
use crate::error::fault::summary;
use crate::error::quote;
use crate::json::{Encoder, Json, Jsonb, Kind, is_shallow};
use crate::mapping::columns::{ColumnSource, ColumnSpecs, Path};
use crate::mapping::source::SourcePattern;
use crate::spell::{self, Field, Shape, spell};

/// A target.
pub type Target = fn(&[u8]);

/// All of them.
pub const ALL: [(&str, Target); 5] = [
    ("json", json),
    ("jsonb", jsonb),
    ("batch", batch),
    ("mapping", mapping),
    ("spell", self::spell_any),
];

/// How deep values are walked here; the code under test has no such limit.
const DEEP: usize = 200;

/// Whether two views show the same value, as far down as is walked.
fn same(a: Json<'_>, b: Json<'_>, depth: usize) -> bool {
    if depth == DEEP {
        return true;
    }
    if a.kind() != b.kind() {
        return false;
    }
    match a.kind() {
        Kind::Null => true,
        Kind::Bool => a.as_bool() == b.as_bool(),
        // digits are compared by json's own tests: 1.0 and 1e0 are spelled differently
        Kind::Number => a.number().is_some() && b.number().is_some(),
        Kind::String => a.string() == b.string(),
        Kind::Array => {
            let (a, b): (Vec<_>, Vec<_>) = (a.elements().collect(), b.elements().collect());
            a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same(*a, *b, depth + 1))
        }
        Kind::Object => b.members().all(|(key, b)| {
            let a = a.get(&key);
            a.is_some_and(|a| same(a, b, depth + 1))
        }),
    }
}

/// Everything that can be asked of a value.
fn walk(value: Json<'_>, depth: usize) {
    let _ = (
        value.is_null(),
        value.as_bool(),
        value.number(),
        value.string(),
    );
    let text = value.text();
    if let Json::Text(_) = value {
        assert!(Json::parse(&text).is_ok(), "{text}");
    }
    if depth == DEEP {
        return;
    }
    for (i, element) in value.elements().enumerate() {
        assert_eq!(value.path(&[i.to_string()]).is_some(), i < usize::MAX);
        walk(element, depth + 1);
        if i == 20 {
            break; // each path is looked up from the first
        }
    }
    for (key, member) in value.members().take(50) {
        if matches!(value, Json::Text(_)) && !key.contains(char::REPLACEMENT_CHARACTER) {
            assert!(value.get(&key).is_some(), "{key}");
        }
        walk(member, depth + 1);
    }
}

/// JSON text: taken where serde_json takes it, the same when it is encoded as jsonb.
pub fn json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let ours = Json::parse(text);
    let theirs = serde_json::from_str::<IgnoredAny>(text);
    assert_eq!(
        ours.is_ok(),
        theirs.is_ok(),
        "{text:?}: {ours:?}, {theirs:?}"
    );
    let value = match ours {
        Ok(value) => value,
        Err(fault) => {
            assert!(text.is_char_boundary(fault.byte), "{text:?}");
            let _ = fault.to_string();
            return;
        }
    };
    walk(value, 0);
    let mut encoder = Encoder::default();
    if let Ok(bytes) = encoder.jsonb(value) {
        assert!(is_shallow(text.trim()));
        let binary = Json::Binary(Jsonb::new(bytes));
        assert!(same(value, binary, 0), "{text}: {}", binary.text());
        walk(binary, 0);
        let printed = binary.text();
        let again = Json::parse(&printed).expect("its own text");
        assert!(same(again, binary, 0), "{text}: {printed}");
    }
    if let Some(number) = value.number() {
        let _ = encoder.numeric(&number, None);
    }
    encoder.trim();
}

/// Any bytes where jsonb is expected do no harm.
pub fn jsonb(data: &[u8]) {
    let value = Json::Binary(Jsonb::new(data));
    let _ = value.text();
    touch(value, &mut 10_000);
    let arena = Bump::new();
    let _ = told(&envelope::read_jsonb(Jsonb::new(data), &arena, |_| ()));
}

/// Damaged jsonb can show a value in many places at once: not all of them are looked at.
fn touch(value: Json<'_>, left: &mut usize) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let _ = (value.as_bool(), value.number(), value.string());
    value.elements().for_each(|element| touch(element, left));
    value.members().for_each(|(_, member)| touch(member, left));
}

/// The jsonb of a text, if it can be one.
pub fn jsonb_of(text: &str) -> Option<Vec<u8>> {
    let value = Json::parse(text).ok()?;
    let mut encoder = Encoder::default();
    encoder.jsonb(value).ok().map(<[u8]>::to_vec)
}

/// What a batch is read as.
fn told(batch: &Batch<'_>) -> Vec<String> {
    let item = |item: &Item<'_>| match item {
        // what a fault says may quote the text, which is another where it was escaped
        Item::Dead { fault, .. } => {
            let _ = fault.to_string();
            format!("{:?}", std::mem::discriminant(&**fault))
        }
        Item::Message(m) => {
            assert_eq!(m.record.kind(), Kind::Object);
            assert!(m.changes.is_none_or(|c| c.kind() == Kind::Object));
            let mut keys: Vec<_> = batch.fields(m).iter().map(|f| f.key).collect();
            keys.sort_unstable();
            keys.dedup();
            format!(
                "{} {:?} {} {} {:?} {:?} {:?} {:?} {keys:?}",
                m.position,
                m.action,
                m.schema,
                m.table,
                m.database_id,
                m.database_name,
                m.version,
                m.committed_at
            )
        }
    };
    batch.items.iter().map(item).collect()
}

/// Batches: every message stands where it stands, and both overloads read the same.
pub fn batch(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let arena = Bump::new();
    let Ok(batch) = envelope::read_text(text, &arena, |_| ()) else {
        assert!(serde_json::from_str::<IgnoredAny>(text).is_err(), "{text}");
        return;
    };
    for (place, item) in batch.items.iter().enumerate() {
        if let Item::Message(message) = item {
            assert_eq!(message.position, place);
            assert!(Json::parse(&message.whole.text()).is_ok());
        }
    }
    let told_of_text = told(&batch);
    if let Some(bytes) = jsonb_of(text) {
        let told_of_jsonb = told(&envelope::read_jsonb(Jsonb::new(&bytes), &arena, |_| ()));
        assert_eq!(told_of_text, told_of_jsonb, "{text}");
    }
}

/// Source patterns, columns, paths and names.
pub fn mapping(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match SourcePattern::parse(text) {
        Ok(pattern) => {
            let spelled = pattern.to_string();
            assert_eq!(
                SourcePattern::parse(&spelled).as_ref(),
                Ok(&pattern),
                "{text:?}"
            );
            let _ = pattern.matches(Some(text), None, text, &spelled);
            let _ = pattern.specificity(&SourcePattern::everything());
            if pattern.is_exact() {
                assert!(!spelled.is_empty());
            }
        }
        Err(fault) => {
            let _ = summary(text, &[fault.clone(), fault]);
        }
    }
    if let Ok(path) = Path::parse("column", text) {
        assert_eq!(path.to_string(), text);
    }
    let mut faults = Vec::new();
    let specs = ColumnSpecs::read(text, &mut faults);
    let _ = summary("mapping", &faults);
    for (column, source) in &specs.named {
        assert!(specs.source(column).is_some());
        if let (ColumnSource::Value(json), true) = (source, faults.is_empty()) {
            assert!(Json::parse(json).is_ok(), "{json}");
        }
    }
    // quoted text is one token, whatever is in it
    let ident = quote::ident(text);
    let inside = ident.strip_prefix('"').and_then(|i| i.strip_suffix('"'));
    match inside {
        Some(inside) => assert_eq!(inside.replace("\"\"", "\""), text),
        None => assert_eq!(ident, text),
    }
    let literal = quote::literal(text);
    assert!(literal.ends_with('\''));
    let _ = quote::array_literal(&[text, &ident]);
}

/// The shapes that a column can have, those within each other included.
fn shape(n: u8) -> Shape {
    let array = |element: Shape| Shape::Array {
        element: Box::new(element),
        delimiter: ',',
    };
    let composite = |shape: Shape| {
        Shape::Composite(
            [
                ("id", Shape::Integer("integer")),
                ("street", Shape::Text),
                ("x", shape),
            ]
            .map(|(name, shape)| Field {
                name: name.to_owned(),
                shape,
            })
            .into(),
        )
    };
    match n % 24 {
        0 => Shape::Text,
        1 => Shape::Json,
        2 => Shape::Bool,
        3 => Shape::Integer("integer"),
        4 => Shape::Float,
        5 => Shape::Date,
        6 => Shape::Time("time"),
        7 => Shape::Timestamp("timestamp with time zone"),
        8 => Shape::Interval,
        9 => Shape::DateRange,
        10 => Shape::Hstore,
        11 => Shape::TsVector,
        12 => Shape::Vector,
        13 => Shape::Box,
        14 => array(Shape::Integer("bigint")),
        15 => array(Shape::Json),
        16 => array(Shape::Timestamp("timestamp")),
        17 => Shape::Array {
            element: Box::new(Shape::Box),
            delimiter: ';',
        },
        18 => array(Shape::TsVector),
        19 => array(array(Shape::Text)),
        20 => composite(array(Shape::Hstore)),
        21 => array(composite(Shape::Interval)),
        _ => array(Shape::Text),
    }
}

/// Values in the spelling of a type: the first byte says which.
pub fn spell_any(data: &[u8]) {
    let Some((n, rest)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(rest) else {
        return;
    };
    let Ok(value) = Json::parse(text) else {
        let _ = spell::timestamp_of_unix(text);
        return;
    };
    if value.is_null() {
        return; // the caller's
    }
    let shape = shape(*n);
    let mut out = String::from("kept");
    match spell(value, &shape, &mut out) {
        Ok(()) => {
            assert!(out.starts_with("kept"));
            assert!(!out.contains('\0') || shape == Shape::Json, "{text}");
        }
        Err(misfit) => {
            let _ = (misfit.message(), misfit.detail());
            assert_eq!(misfit.sqlstate().len(), 5);
            return;
        }
    }
    if matches!(&shape, Shape::Array { element, delimiter: ',' } if **element == Shape::Text)
        && value.kind() == Kind::Array
    {
        let literal = &out["kept".len()..];
        let mut reader = Literal {
            rest: literal.chars().peekable(),
        };
        reader.same(value, text);
        assert!(reader.rest.next().is_none(), "{text}: {literal}");
    }
    let _ = spell::interval(value);
}

/// Reads an array literal as the server's `array_in` does.
struct Literal<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
}

impl Literal<'_> {
    fn expect(&mut self, c: char, text: &str) {
        assert_eq!(self.rest.next(), Some(c), "{text}");
    }

    /// What is next has the value's elements.
    fn same(&mut self, value: Json<'_>, text: &str) {
        match value.kind() {
            Kind::Array => {
                self.expect('{', text);
                for (i, element) in value.elements().enumerate() {
                    if i > 0 {
                        self.expect(',', text);
                    }
                    self.same(element, text);
                }
                self.expect('}', text);
            }
            kind => {
                let (quoted, found) = self.element();
                match kind {
                    Kind::Null => assert!(!quoted && found.eq_ignore_ascii_case("null"), "{text}"),
                    Kind::String => {
                        let string = value.string().expect("a string").expect("a text");
                        assert!(quoted || !found.eq_ignore_ascii_case("null"), "{text}");
                        assert!(quoted || !found.is_empty(), "{text}");
                        assert_eq!(found, string, "{text}");
                    }
                    _ => assert_eq!(found, value.text(), "{text}"),
                }
            }
        }
    }

    fn element(&mut self) -> (bool, String) {
        let mut found = String::new();
        let quoted = self.rest.next_if_eq(&'"').is_some();
        loop {
            match self.rest.peek() {
                None => return (quoted, found),
                Some(',' | '}') if !quoted => return (quoted, found),
                Some('"') if quoted => {
                    self.rest.next();
                    return (quoted, found);
                }
                Some('\\') => {
                    self.rest.next();
                    found.extend(self.rest.next());
                }
                Some(_) => found.extend(self.rest.next()),
            }
        }
    }
}
