//! JSON value → the text that the column type's input function reads.
//!
//! A [`Shape`] says how a type's JSON differs from its text: whether a JSON array is an array of the type,
//! which member is which field, how infinities are spelled. The rest is left to the input function, errors
//! included. `tests/types/type_matrix.tsv` lists the JSON that Sequin sends for each type.

#![forbid(unsafe_code)]

mod long;
mod misfit;
mod number;
mod time;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use crate::json::{Json, Kind, pause_at_byte};
use long::{Brackets, Sight, beginning};
use number::Whole;

pub use misfit::{MAX_DIMENSIONS, Misfit};

/// How the values of a type are spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A string as it is, any other value as its JSON text: text, and every type that Sequin sends
    /// as the type's own text.
    Text,
    /// As `Text`, of a type whose values are short: those of fixed length, enums, addresses of networks.
    Short,
    /// `json`, `jsonb`: the JSON text, even of a string.
    Json,
    /// `json`, `jsonb` where Sequin sends the document as a string: in an array of a domain, and for a
    /// domain over a domain. The string is the JSON text, if it is JSON.
    JsonInString,
    /// `boolean`
    Bool,
    /// An integer type, by its name in error messages. `5.0` and `5e0` are 5.
    Integer(&'static str),
    /// `real`, `double precision`, `numeric`
    Float,
    /// `date`
    Date,
    /// `time`, `timetz`, by name: not from numbers, but also from the string of a timestamp.
    Time(&'static str),
    /// `timestamp`, `timestamptz`, by name: a number is microseconds since 1970.
    Timestamp(&'static str),
    /// `interval`: also from an object of months, days and microseconds.
    Interval,
    /// `money`
    Money,
    /// `bytea`: from strings only.
    Bytes,
    /// `bytea` in an array: a string is the bytes themselves, as reads have them, unless it is hexadecimal.
    RawBytes,
    /// `range` or `multirange`: from strings only, because the JSON array `[1,2]` would be read as a range.
    Range(&'static str),
    /// `daterange`
    DateRange,
    /// `hstore`: also from an object.
    Hstore,
    /// `tsvector`: also from an array of lexeme objects.
    TsVector,
    /// pgvector's types: also from an array of numbers.
    Vector,
    /// `box`: an array of it arrives split at commas.
    Box,
    /// An array.
    Array {
        /// The shape of the elements.
        element: Box<Shape>,
        /// `pg_type.typdelim` of the element.
        delimiter: char,
    },
    /// A composite type: also from an object, by field name.
    Composite(Vec<Field>),
}

/// A field of a composite type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name.
    pub name: String,
    /// How the field's values are spelled.
    pub shape: Shape,
}

impl Shape {
    /// What shows that a long text is no value.
    fn long(&self) -> Sight {
        let brackets = |of, begins, else_detail, ends| {
            Sight::Brackets(Brackets {
                of,
                begins,
                else_detail,
                ends,
            })
        };
        match self {
            Shape::Bool
            | Shape::Integer(_)
            | Shape::Float
            | Shape::Date
            | Shape::Time(_)
            | Shape::Timestamp(_)
            | Shape::Interval
            | Shape::Money
            | Shape::DateRange
            | Shape::Box
            | Shape::Short => Sight::SHORT,
            Shape::TsVector => Sight::TSVECTOR,
            Shape::Array { .. } => {
                let detail = "Array value must start with \"{\" or dimension information.";
                brackets("array", b"{[", detail, b"}")
            }
            Shape::Composite(_) => brackets("record", b"(", "Missing left parenthesis.", b")"),
            Shape::Range("multirange") => brackets("multirange", b"{", "Missing left brace.", b"}"),
            Shape::Range(_) => {
                let detail = "Missing left parenthesis or bracket.";
                brackets("range", b"[(", detail, b"])")
            }
            _ => Sight::Nothing,
        }
    }
}

/// Appends the spelling of `value`, which is not null, to `out`.
pub fn spell(value: Json<'_>, shape: &Shape, out: &mut String) -> Result<(), Misfit> {
    let start = out.len();
    spell_any(value, shape, out)?;
    if out.len() - start <= long::LONG {
        return Ok(());
    }
    match long::fault(&out[start..], shape.long()) {
        Some(misfit) => Err(misfit),
        None => Ok(()),
    }
}

#[inline]
fn spell_any(value: Json<'_>, shape: &Shape, out: &mut String) -> Result<(), Misfit> {
    if *shape == Shape::Json {
        out.push_str(&value.text());
        return Ok(());
    }
    match value.kind() {
        Kind::String => string(value, shape, out),
        _ if let Some(misfit) = wants_string(value, shape) => Err(misfit),
        Kind::Number => number(value, shape, out),
        Kind::Object => object(value, shape, out),
        Kind::Array => array(value, shape, out),
        Kind::Bool | Kind::Null => {
            out.push_str(&value.text());
            Ok(())
        }
    }
}

/// The error of a value that is not a string, if the type takes strings only.
fn wants_string(value: Json<'_>, shape: &Shape) -> Option<Misfit> {
    let text = || beginning(&value.text());
    let (of, text) = match shape {
        Shape::Bytes => {
            return Some(Misfit::Syntax {
                of: "bytea",
                text: text(),
            });
        }
        Shape::Range(of) => (*of, text()),
        Shape::DateRange => ("range", text()),
        _ => return None,
    };
    Some(Misfit::RangeLiteral { of, text })
}

fn string(value: Json<'_>, shape: &Shape, out: &mut String) -> Result<(), Misfit> {
    let text = match value.string() {
        Some(text) => text.map_err(Misfit::String)?,
        None => value.text(),
    };
    match (shape, &*text) {
        (Shape::Float, "inf") => out.push_str("Infinity"),
        (Shape::Float, "-inf") => out.push_str("-Infinity"),
        (Shape::Integer(of), text) => return integer(text, of, out),
        (Shape::JsonInString, text) if Json::parse(text).is_err() => out.push_str(&value.text()),
        (Shape::Date | Shape::Timestamp(_), text) => time::calendar(text, out),
        (Shape::RawBytes, text) if !text.starts_with("\\x") => {
            out.push_str(&text.replace('\\', "\\\\"));
        }
        // the amount comes from a locale whose thousands separator is the point, as in Chile
        (Shape::Money, text) if has_odd_cents(text) => {
            return Err(Misfit::Syntax {
                of: "money",
                text: beginning(text),
            });
        }
        (Shape::Time(_), text) => time::clock(text, out),
        (Shape::DateRange, text) => time::date_range(text, out),
        (_, text) => out.push_str(text),
    }
    Ok(())
}

/// Whether an amount that a server has printed has a point, but not exactly two digits after the point.
fn has_odd_cents(text: &str) -> bool {
    let cents = text.rsplit_once('.').map(|(_, cents)| cents);
    let digits = |cents: &str| cents.bytes().filter(u8::is_ascii_digit).count();
    text.contains('$') && cents.is_some_and(|cents| digits(cents) != 2)
}

fn number(value: Json<'_>, shape: &Shape, out: &mut String) -> Result<(), Misfit> {
    let text = value.number().unwrap_or_else(|| value.text());
    let refused = |of| Misfit::DateTime {
        of,
        text: beginning(&text),
    };
    match shape {
        Shape::Integer(of) => integer(&text, of, out),
        // the input function would take 1 and 0
        Shape::Bool => Err(Misfit::Syntax {
            of: "boolean",
            text: beginning(&text),
        }),
        // the input functions would take 20240229 as a date and 5 as an interval
        Shape::Date => Err(refused("date")),
        Shape::Time(of) => Err(refused(of)),
        Shape::Interval => Err(refused("interval")),
        Shape::Timestamp(of) => match number::whole(&text) {
            Some(Whole::Number(micros)) => time::timestamp(micros, *of != "timestamp", out)
                .ok_or_else(|| Misfit::TimestampRange(beginning(&text))),
            Some(Whole::TooLarge) => Err(Misfit::TimestampRange(beginning(&text))),
            Some(Whole::Fraction) | None => Err(refused(of)),
        },
        _ => {
            out.push_str(&text);
            Ok(())
        }
    }
}

fn integer(text: &str, of: &'static str, out: &mut String) -> Result<(), Misfit> {
    if text.bytes().all(|b| !matches!(b, b'.' | b'e' | b'E')) {
        out.push_str(text);
        return Ok(());
    }
    let owned = || beginning(text);
    match number::whole(text) {
        Some(Whole::Number(number)) => {
            let _ = write!(out, "{number}");
        }
        Some(Whole::TooLarge) => return Err(Misfit::Range { of, text: owned() }),
        Some(Whole::Fraction) => return Err(Misfit::Syntax { of, text: owned() }),
        None => out.push_str(text),
    }
    Ok(())
}

fn object(value: Json<'_>, shape: &Shape, out: &mut String) -> Result<(), Misfit> {
    match shape {
        Shape::Interval => {
            out.push_str(&interval(value)?.to_text());
            Ok(())
        }
        Shape::Composite(fields) => composite(value, fields, out),
        Shape::Hstore => hstore(value, out),
        Shape::TsVector => Err(Misfit::Lexemes(beginning(&value.text()))),
        // {} would be an empty array
        Shape::Array { .. } => Err(Misfit::ArrayLiteral(beginning(&value.text()))),
        _ => {
            out.push_str(&value.text());
            Ok(())
        }
    }
}

fn array(value: Json<'_>, shape: &Shape, out: &mut String) -> Result<(), Misfit> {
    match shape {
        Shape::Array { element, delimiter } => array_literal(value, element, *delimiter, 1, out),
        Shape::TsVector => lexemes(value, out),
        _ => {
            out.push_str(&value.text());
            Ok(())
        }
    }
}

fn array_literal(
    value: Json<'_>,
    element: &Shape,
    delimiter: char,
    dimension: usize,
    out: &mut String,
) -> Result<(), Misfit> {
    if dimension > MAX_DIMENSIONS {
        return Err(Misfit::TooDeep);
    }
    let rejoin = *element == Shape::Box && value.elements().all(is_piece_of_box);
    out.push('{');
    for (i, item) in value.elements().enumerate() {
        if i > 0 {
            out.push(if rejoin { ',' } else { delimiter });
        }
        match item.kind() {
            Kind::Null => out.push_str("NULL"),
            _ if is_dimension(item, element) => {
                array_literal(item, element, delimiter, dimension + 1, out)?;
            }
            Kind::String if rejoin => string(item, element, out)?,
            Kind::Number | Kind::Bool if !matches!(element, Shape::Timestamp(_)) => {
                spell(item, element, out)?;
            }
            _ => quoted(out, |out| spell(item, element, out))?,
        }
    }
    out.push('}');
    Ok(())
}

/// Whether an item of an array is one more dimension of the array: a JSON array that is not an element.
pub fn is_dimension(item: Json<'_>, element: &Shape) -> bool {
    let all = |kind| item.elements().all(|inner| inner.kind() == kind);
    let is_element = match element {
        // a domain over an array
        Shape::Json | Shape::JsonInString | Shape::Array { .. } => true,
        Shape::TsVector => all(Kind::Object),
        Shape::Vector => all(Kind::Number),
        _ => false,
    };
    item.kind() == Kind::Array && !is_element
}

/// Whether an item is a piece of a box. Sequin splits arrays at commas, but in an array of boxes the commas
/// stand inside the boxes, and semicolons between them.
fn is_piece_of_box(item: Json<'_>) -> bool {
    match item.kind() {
        Kind::String => item
            .string()
            .is_some_and(|s| s.is_ok_and(|s| !s.contains(','))),
        kind => kind == Kind::Null,
    }
}

fn composite(value: Json<'_>, fields: &[Field], out: &mut String) -> Result<(), Misfit> {
    let is_field = |name: &str| fields.iter().any(|field| field.name == name);
    let mut members = value.members().map(|(name, _)| is_field(&name)).peekable();
    if members.peek().is_some() && !members.any(|known| known) {
        return Err(Misfit::RecordLiteral(beginning(&value.text())));
    }
    out.push('(');
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        if let Some(item) = value.get(&field.name).filter(|item| !item.is_null()) {
            quoted(out, |out| spell(item, &field.shape, out))?;
        }
    }
    out.push(')');
    Ok(())
}

fn hstore(value: Json<'_>, out: &mut String) -> Result<(), Misfit> {
    for (i, (key, item)) in value.members().enumerate() {
        if i > 0 {
            out.push(',');
        }
        quoted(out, |out| {
            out.push_str(&key);
            Ok(())
        })?;
        out.push_str("=>");
        match item.kind() {
            Kind::Null => out.push_str("NULL"),
            _ => quoted(out, |out| spell(item, &Shape::Text, out))?,
        }
    }
    Ok(())
}

/// Quotes the text that `write` writes. Array, composite and hstore literals all read these quotes.
fn quoted(
    out: &mut String,
    write: impl FnOnce(&mut String) -> Result<(), Misfit>,
) -> Result<(), Misfit> {
    out.push('"');
    let start = out.len();
    write(out)?;
    let special = |b: &u8| matches!(b, b'"' | b'\\');
    if let Some(first) = out.as_bytes()[start..].iter().position(special) {
        let tail = out.split_off(start + first);
        for (n, c) in tail.chars().enumerate() {
            pause_at_byte(n);
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
    }
    out.push('"');
    Ok(())
}

/// `[{"word":"a","positions":[[1,"A"],[2,null]]},…]` as `'a':1A,2`.
fn lexemes(value: Json<'_>, out: &mut String) -> Result<(), Misfit> {
    let fault = || Misfit::Lexemes(beginning(&value.text()));
    for (i, lexeme) in value.elements().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        let word = lexeme
            .get("word")
            .and_then(Json::string)
            .ok_or_else(fault)?;
        out.push('\'');
        for (n, c) in word.map_err(Misfit::String)?.chars().enumerate() {
            pause_at_byte(n);
            if matches!(c, '\'' | '\\') {
                out.push(c);
            }
            out.push(c);
        }
        out.push('\'');
        let positions = lexeme.get("positions").into_iter().flat_map(Json::elements);
        for (i, position) in positions.enumerate() {
            out.push(if i > 0 { ',' } else { ':' });
            let mut pair = position.elements();
            let number = pair.next().and_then(Json::number).ok_or_else(fault)?;
            out.push_str(&number);
            if let Some(weight) = pair.next().and_then(Json::string) {
                out.push_str(&weight.map_err(Misfit::String)?);
            }
        }
    }
    Ok(())
}

/// An interval as the server stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    /// Months; a year counts as twelve.
    pub months: i32,
    pub days: i32,
    /// Hours and smaller units; the hours can exceed a day.
    pub microseconds: i64,
}

impl Interval {
    /// The interval's text in IntervalStyle `postgres`. Servers before PostgreSQL 15 cannot read a text with
    /// more than 2^31 hours.
    fn to_text(self) -> String {
        let sign = if self.microseconds < 0 { "-" } else { "" };
        let micros = self.microseconds.unsigned_abs();
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        format!(
            "{} mons {} days {sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}",
            self.months, self.days
        )
    }
}

/// The interval of an object such as `{"months":14,"days":3,"microseconds":14706789000}`. A missing member
/// counts as 0.
pub fn interval(value: Json<'_>) -> Result<Interval, Misfit> {
    let fault = || Misfit::DateTime {
        of: "interval",
        text: beginning(&value.text()),
    };
    let mut interval = Interval::default();
    let mut empty = true;
    for (key, item) in value.members() {
        let number = item.number().and_then(|n| number::whole(&n));
        let number = match number.ok_or_else(fault)? {
            Whole::Number(number) => number,
            Whole::TooLarge => return Err(Misfit::IntervalRange),
            Whole::Fraction => return Err(fault()),
        };
        let range = |_| Misfit::IntervalRange;
        match &*key {
            "months" => interval.months = number.try_into().map_err(range)?,
            "days" => interval.days = number.try_into().map_err(range)?,
            "microseconds" => interval.microseconds = number.try_into().map_err(range)?,
            _ => return Err(fault()),
        }
        empty = false;
    }
    if empty { Err(fault()) } else { Ok(interval) }
}

/// Converts a number of microseconds since 1970 into a timestamp of the server: microseconds since 2000.
pub fn timestamp_of_unix(text: &str) -> Option<i64> {
    match number::whole(text)? {
        Whole::Number(micros) => time::since_2000(micros),
        _ => None,
    }
}
