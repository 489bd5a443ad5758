//! How Sequin spells a value: from the text that the source's output function gives to the JSON in a message, and
//! what of the value is left. After docs/development/wire.md; `tests/types/type_matrix.tsv` has what Sequin itself gave for each type.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::value::RawValue;

/// Where the message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A change, decoded from the text in logical replication.
    Live,
    /// A backfill's SELECT, decoded from the binary form.
    Read,
}

/// What a type is to Sequin.
#[derive(Clone, Debug, PartialEq)]
pub enum Of {
    Bool,
    /// An integer.
    Number,
    /// A domain over a domain over an integer.
    NumberInReads,
    Float4,
    Float8,
    /// A string: its own text.
    Text,
    /// The same.
    Uuid,
    /// The same, but null in reads.
    Unreadable,
    /// A string, which was never seen in a read.
    Unread,
    Date,
    Time,
    TimeTz,
    /// With the digits of its modifier, and whether it has a zone.
    Timestamp(usize, bool),
    Interval,
    Bytea,
    Json,
    Jsonb,
    Hstore,
    TsVector,
    DateRange,
    /// `box`, as an array's element.
    Box,
    Array(Box<Of>),
    /// An array of something that Sequin does not read.
    UnreadableArray(Box<Of>),
    /// An array at which a read fails, so that Sequin sends nothing.
    FailingArray(Box<Of>),
}

/// What is left of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    All,
    /// It is another value now.
    As(String),
    Null,
}

/// A value in a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub json: String,
    pub kept: Kept,
}

/// A string in JSON.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

fn all(json: String) -> Option<Sent> {
    let kept = Kept::All;
    Some(Sent { json, kept })
}

fn changed(json: String, text: impl Into<String>) -> Option<Sent> {
    let kept = Kept::As(text.into());
    Some(Sent { json, kept })
}

/// The value in a message; `None` if Sequin cannot send it at all.
pub fn spell(of: &Of, text: &str, form: Form) -> Option<Sent> {
    let live = form == Form::Live;
    match of {
        Of::Bool => all((if text == "t" { "true" } else { "false" }).to_owned()),
        Of::Number => all(text.to_owned()),
        Of::NumberInReads if live => all(quote(text)),
        Of::NumberInReads => all(text.to_owned()),
        Of::Text | Of::Uuid => all(quote(text)),
        Of::Unreadable | Of::Unread | Of::Box if live => all(quote(text)),
        Of::Unreadable | Of::Box | Of::UnreadableArray(_) if !live => all("null".to_owned()),
        Of::Unread | Of::FailingArray(_) if !live => None,
        Of::Float4 | Of::Float8 => all(float(of, text, form)),
        Of::Date => all(quote(&if live {
            text.to_owned()
        } else {
            read_date(text)?
        })),
        Of::Time => time(text, live),
        Of::TimeTz => timetz(text, live),
        Of::Timestamp(digits, zone) => all(quote(&timestamp(text, *digits, *zone, live)?)),
        Of::Interval => interval(text, live),
        Of::Bytea if live => all(quote(text)),
        Of::Bytea => read_bytea(text),
        Of::Json | Of::Jsonb => document(of, text),
        Of::Hstore | Of::TsVector | Of::DateRange if live => all(quote(text)),
        Of::Hstore => all(read_hstore(text)),
        Of::TsVector => all(read_tsvector(text)),
        Of::DateRange => all(quote(&read_daterange(text)?)),
        Of::Array(element) | Of::UnreadableArray(element) | Of::FailingArray(element) => {
            array(element, text, form)
        }
        Of::Unreadable | Of::Unread | Of::Box => unreachable!("live and read are both above"),
    }
}

fn float(of: &Of, text: &str, form: Form) -> String {
    match (text, form) {
        ("Infinity", Form::Read) => quote("inf"),
        ("-Infinity", Form::Read) => quote("-inf"),
        ("NaN" | "Infinity" | "-Infinity", _) => quote(text),
        _ if *of == Of::Float4 && form == Form::Read => {
            let single: f32 = text.parse().expect("a float");
            float_text(f64::from(single))
        }
        _ => float_text(text.parse().expect("a float")),
    }
}

/// A double as Erlang spells it: shortest, and always with a point.
fn float_text(number: f64) -> String {
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').expect("an exponent");
    let point = if digits.contains('.') { "" } else { ".0" };
    match exponent.parse() {
        Ok(0) => format!("{digits}{point}"),
        Ok(1..=15) => format!("{number:?}"),
        _ => format!("{digits}{point}e{exponent}"),
    }
}

/// Year, the rest, and whether it is before Christ, of an ISO date or timestamp.
fn year(text: &str) -> (i64, &str, bool) {
    let (text, bc) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (year, rest) = text.split_once('-').expect("a date");
    (year.parse().expect("a year"), rest, bc)
}

/// What Elixir's calendar makes of the year.
fn read_year(text: &str) -> Option<(String, &str)> {
    match year(text) {
        (year, rest, false) if year <= 9999 => Some((format!("{year:04}"), rest)),
        (1, rest, true) => Some(("0000".to_owned(), rest)),
        (year, rest, true) => Some((format!("-{:04}", year - 1), rest)),
        _ => None,
    }
}

fn read_date(text: &str) -> Option<String> {
    if text.ends_with("infinity") {
        return None;
    }
    let (year, rest) = read_year(text)?;
    Some(format!("{year}-{rest}"))
}

/// A fraction of a second with so many digits.
fn fraction(clock: &str, digits: usize) -> String {
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    match digits {
        0 => seconds.to_owned(),
        _ => format!("{seconds}.{fraction:0<digits$}"),
    }
}

fn timestamp(text: &str, digits: usize, zone: bool, live: bool) -> Option<String> {
    if text.ends_with("infinity") {
        return Some(if live {
            text.to_owned()
        } else {
            text.replace("infinity", "inf")
        });
    }
    let z = if zone { "Z" } else { "" };
    let (number, _, bc) = year(text);
    if live && (bc || number > 9999) {
        return Some(text.to_owned());
    }
    let (year, rest) = read_year(text)?;
    let (day, clock) = rest.split_once(' ').expect("a time");
    let clock = clock.strip_suffix("+00").unwrap_or(clock);
    let digits = if live { 6 } else { digits };
    Some(format!("{year}-{day}T{}{z}", fraction(clock, digits)))
}

fn time(text: &str, live: bool) -> Option<Sent> {
    match (text, live) {
        ("24:00:00", true) => all(quote(text)),
        ("24:00:00", false) => None,
        (_, true) => changed(quote(&text[..8]), &text[..8]),
        (_, false) => all(quote(&fraction(text, 6))),
    }
}

fn timetz(text: &str, live: bool) -> Option<Sent> {
    let sign = text.rfind(['+', '-']).expect("an offset");
    let (clock, offset) = text.split_at(sign);
    if live {
        // what Elixir cannot parse stays as it is
        if clock == "24:00:00" || offset.len() > 6 {
            return all(quote(text));
        }
        return changed(quote(&clock[..8]), format!("{}+00", &clock[..8]));
    }
    let seconds = |parts: &str| -> i64 {
        let parts = parts
            .split(':')
            .map(|part| part.parse::<i64>().expect("digits"));
        parts
            .zip([3600, 60, 1])
            .map(|(part, unit)| part * unit)
            .sum()
    };
    let east = if offset.starts_with('+') { 1 } else { -1 } * seconds(&offset[1..]);
    let (whole, _) = clock.split_once('.').unwrap_or((clock, ""));
    let utc = (seconds(whole) - east).rem_euclid(86_400);
    let micros = &fraction(clock, 6)[8..];
    let utc = format!(
        "{:02}:{:02}:{:02}{micros}",
        utc / 3600,
        utc / 60 % 60,
        utc % 60
    );
    changed(quote(&utc), format!("{utc}+00"))
}

/// From IntervalStyle `postgres`.
fn interval(text: &str, live: bool) -> Option<Sent> {
    let (mut months, mut days, mut micros, mut lost) = (0, 0, 0i128, false);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            let sign = if word.starts_with('-') { -1 } else { 1 };
            let clock = fraction(word.trim_start_matches(['-', '+']), 6);
            let parts: Vec<i128> = clock
                .split([':', '.'])
                .map(|part| part.parse().expect("digits"))
                .collect();
            lost = live && parts[0] >= 100;
            micros = sign * (((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1_000_000 + parts[3]);
            if lost {
                micros = 0;
            }
            continue;
        }
        let number: i64 = word.parse().expect("a number");
        match words.next().expect("a unit").trim_end_matches('s') {
            "year" => months += number * 12,
            "mon" => months += number,
            "day" => days = number,
            unit => panic!("{unit}"),
        }
    }
    let json = format!(r#"{{"days":{days},"microseconds":{micros},"months":{months}}}"#);
    if lost {
        changed(json, format!("{months} mons {days} days"))
    } else {
        all(json)
    }
}

/// The bytes of `\x…`.
fn bytes(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("\\x").expect("hexadecimal");
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).expect("ASCII"), 16);
    pairs.map(|pair| byte(pair).expect("digits")).collect()
}

/// Bytes that are a text beginning with `\x` are taken for one that is spelled already.
fn read_bytea(text: &str) -> Option<Sent> {
    match bytes(text).strip_prefix(b"\\x") {
        None => all(quote(text)),
        Some(digits) => {
            let hex = digits.len() % 2 == 0 && digits.iter().all(u8::is_ascii_hexdigit);
            let taken = format!("\\x{}", str::from_utf8(digits).ok().filter(|_| hex)?);
            changed(quote(&taken), taken)
        }
    }
}

/// An element of `bytea[]` in a read: the bytes themselves, as a text. There is no text with a NUL, and one that begins
/// with `\x` is taken for hexadecimal.
fn read_raw_bytes(text: &str) -> Option<Sent> {
    let bytes = bytes(text);
    let plain = !bytes.contains(&0) && !bytes.starts_with(b"\\x");
    all(quote(str::from_utf8(&bytes).ok().filter(|_| plain)?))
}

fn document(of: &Of, text: &str) -> Option<Sent> {
    let json = decoded(text);
    if json == "null" {
        let kept = Kept::Null;
        return Some(Sent { json, kept });
    }
    // numbers with a point or an exponent are doubles to Sequin; json is stored as it is written
    let lossy = *of == Of::Json || json != squeezed(text);
    if lossy {
        changed(json.clone(), json)
    } else {
        all(json)
    }
}

/// A document as Elixir has it: keys in order, the first of two that are equal, decimals as doubles.
pub fn decoded(text: &str) -> String {
    rewritten(text, &|number| match number.contains(['.', 'e', 'E']) {
        true => float_text(number.parse().expect("a number")),
        false => number.to_owned(),
    })
}

/// A document with its numbers as they are.
fn squeezed(text: &str) -> String {
    rewritten(text, &str::to_owned)
}

fn rewritten(text: &str, number: &dyn Fn(&str) -> String) -> String {
    let parse = "a document";
    match text.trim_start().as_bytes()[0] {
        b'{' => {
            let mut members = BTreeMap::new();
            let Members(found) = serde_json::from_str(text).expect(parse);
            for (key, value) in found {
                members
                    .entry(key)
                    .or_insert_with(|| rewritten(value.get(), number));
            }
            let members: Vec<_> = members
                .iter()
                .map(|(k, v)| format!("{}:{v}", quote(k)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).expect(parse);
            let items: Vec<_> = items
                .iter()
                .map(|item| rewritten(item.get(), number))
                .collect();
            format!("[{}]", items.join(","))
        }
        b'"' => quote(&serde_json::from_str::<String>(text).expect(parse)),
        b't' | b'f' | b'n' => text.trim().to_owned(),
        _ => number(text.trim()),
    }
}

/// An object's members, all of them.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(String, &'de RawValue)>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        from.deserialize_map(Visitor).map(Members)
    }
}

/// `"a"=>"1", "b"=>NULL`
fn read_hstore(text: &str) -> String {
    let mut members = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = unquoted(rest, '"');
        rest = after.strip_prefix("=>").expect("an arrow");
        let value = match rest.strip_prefix("NULL") {
            Some(after) => {
                rest = after;
                "null".to_owned()
            }
            None => {
                let (value, after) = unquoted(rest, '"');
                rest = after;
                quote(&value)
            }
        };
        members.insert(key, value);
        rest = rest.strip_prefix(", ").unwrap_or(rest);
    }
    let members: Vec<_> = members
        .iter()
        .map(|(k, v)| format!("{}:{v}", quote(k)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// What is between quotes, and what is after them. A quote or a backslash in it is doubled, or has a backslash before.
fn unquoted(text: &str, mark: char) -> (String, &str) {
    let mut found = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => found.push(chars.next().expect("what is escaped").1),
            c if c == mark => match chars.peek() {
                Some((_, next)) if *next == mark => {
                    found.push(mark);
                    chars.next();
                }
                _ => return (found, &text[at + 1..]),
            },
            c => found.push(c),
        }
    }
    panic!("no end: {text}")
}

/// `'a':1A,2 'b'`
fn read_tsvector(text: &str) -> String {
    let mut lexemes = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = unquoted(rest, '\'');
        let (places, after) = after.split_once(' ').unwrap_or((after, ""));
        rest = after;
        let mut positions = Vec::new();
        for place in places
            .trim_start_matches(':')
            .split(',')
            .filter(|place| !place.is_empty())
        {
            let number = place.trim_end_matches(char::is_alphabetic);
            let weight = match &place[number.len()..] {
                "" => "null".to_owned(),
                weight => quote(weight),
            };
            positions.push(format!("[{number},{weight}]"));
        }
        let (positions, word) = (positions.join(","), quote(&word));
        lexemes.push(format!(
            r#"{{"positions":[{positions}],"type":"lexeme","word":{word}}}"#
        ));
    }
    format!("[{}]", lexemes.join(","))
}

fn read_daterange(text: &str) -> Option<String> {
    if text == "empty" {
        return Some("(empty,empty)".to_owned());
    }
    let (lower, upper) = text[1..text.len() - 1].split_once(',').expect("two bounds");
    let bound = |bound: &str| match bound.trim_matches('"') {
        "" => Some(String::new()),
        date => read_date(date),
    };
    let (lower, upper) = (bound(lower)?, bound(upper)?);
    Some(format!(
        "{}{lower},{upper}{}",
        &text[..1],
        &text[text.len() - 1..]
    ))
}

/// An array's text, taken apart.
enum Item {
    Null,
    /// The text `NULL`, which became one.
    LostText,
    Leaf(String),
    List(Vec<Item>),
}

fn array(element: &Of, text: &str, form: Form) -> Option<Sent> {
    let mut rest = text;
    if text.starts_with('[') {
        // Sequin cannot parse lower bounds, and sees none in the binary form
        if form == Form::Live {
            return None;
        }
        rest = text.split_once('=').expect("an array after its bounds").1;
    }
    // Sequin cuts at commas, whatever the type's delimiter is
    let cut_wrongly = *element == Of::Box;
    let (items, end) = items(&rest[1..], form == Form::Live);
    assert_eq!(end, "", "{text}");
    let (json, literal, same) = list(element, &items, form)?;
    if same && rest == text || cut_wrongly {
        all(json)
    } else {
        changed(json, literal)
    }
}

/// The items up to the closing brace, and what is after it. A quoted `NULL` is a null to Sequin when it parses.
fn items(text: &str, null_in_quotes: bool) -> (Vec<Item>, &str) {
    let (mut items, mut rest) = (Vec::new(), text);
    loop {
        rest = match rest.as_bytes()[0] {
            b'}' => return (items, &rest[1..]),
            b',' => &rest[1..],
            b'{' => {
                let (inner, after) = self::items(&rest[1..], null_in_quotes);
                items.push(Item::List(inner));
                after
            }
            b'"' => {
                let (leaf, after) = unquoted(rest, '"');
                let null = null_in_quotes && leaf == "NULL";
                items.push(if null {
                    Item::LostText
                } else {
                    Item::Leaf(leaf)
                });
                after
            }
            _ => {
                let end = rest.find([',', '}']).expect("an end");
                items.push(match &rest[..end] {
                    "NULL" => Item::Null,
                    leaf => Item::Leaf(leaf.to_owned()),
                });
                &rest[end..]
            }
        };
    }
}

/// The JSON, the array literal of what is kept, and whether that is all.
fn list(element: &Of, items: &[Item], form: Form) -> Option<(String, String, bool)> {
    let (mut json, mut literal, mut same) = ("[".to_owned(), "{".to_owned(), true);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            json.push(',');
            literal.push(',');
        }
        match item {
            // at such a null the read fails
            Item::Null if *element == Of::Uuid && form == Form::Read => return None,
            Item::Null | Item::LostText => {
                json.push_str("null");
                literal.push_str("NULL");
                same &= !matches!(item, Item::LostText);
            }
            Item::List(items) => {
                let (inner, text, all) = list(element, items, form)?;
                json.push_str(&inner);
                literal.push_str(&text);
                same &= all;
            }
            Item::Leaf(text) => {
                let sent = match (element, form) {
                    (Of::Bytea, Form::Read) => read_raw_bytes(text)?,
                    _ => spell(element, text, form)?,
                };
                json.push_str(&sent.json);
                same &= sent.kept == Kept::All;
                match sent.kept {
                    Kept::Null => literal.push_str("NULL"),
                    Kept::All => write!(literal, "{}", quoted(text)).expect("a String"),
                    Kept::As(text) => write!(literal, "{}", quoted(&text)).expect("a String"),
                }
            }
        }
    }
    Some((json + "]", literal + "}", same))
}

/// A value in an array's or a row's literal.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
