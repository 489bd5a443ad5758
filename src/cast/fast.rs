//! Reads the commonest types without the server. `None` always means: call the input function.

#![forbid(unsafe_code)]

use bumpalo::Bump;
use pgrx::pg_sys::{self, Datum};

use crate::civil;
use crate::json::{self, Encoder, Json, Kind};
use crate::pg::typeio;
use crate::spell;

/// The types that are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fast {
    No,
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// The most characters.
    Text(usize),
    Uuid,
    Date,
    /// The value must be a multiple of this number of microseconds, to which the modifier rounds.
    Timestamp(i64),
    /// As for `Timestamp`.
    Timestamptz(i64),
    Numeric(Option<json::Limits>),
    Interval,
    Json,
    Jsonb,
}

/// `VARHDRSZ`, which some modifiers include.
const HEADER: i32 = 4;

impl Fast {
    pub(super) fn of(type_oid: pg_sys::Oid, typmod: i32) -> Fast {
        let unit = match typmod {
            0..=6 => 10i64.pow(6 - typmod as u32),
            _ => 1,
        };
        match type_oid {
            pg_sys::BOOLOID => Fast::Bool,
            pg_sys::INT2OID => Fast::Int2,
            pg_sys::INT4OID => Fast::Int4,
            pg_sys::INT8OID => Fast::Int8,
            pg_sys::OIDOID => Fast::Oid,
            pg_sys::FLOAT4OID => Fast::Float4,
            pg_sys::FLOAT8OID => Fast::Float8,
            pg_sys::TEXTOID => Fast::Text(usize::MAX),
            pg_sys::VARCHAROID if typmod < HEADER => Fast::Text(usize::MAX),
            pg_sys::VARCHAROID => Fast::Text((typmod - HEADER) as usize),
            pg_sys::UUIDOID => Fast::Uuid,
            pg_sys::DATEOID => Fast::Date,
            pg_sys::TIMESTAMPOID => Fast::Timestamp(unit),
            pg_sys::TIMESTAMPTZOID => Fast::Timestamptz(unit),
            pg_sys::NUMERICOID if typmod < HEADER => Fast::Numeric(None),
            pg_sys::NUMERICOID => match json::Limits::of(typmod - HEADER) {
                Some(limits) => Fast::Numeric(Some(limits)),
                None => Fast::No,
            },
            pg_sys::INTERVALOID if typmod < 0 => Fast::Interval,
            pg_sys::JSONOID => Fast::Json,
            pg_sys::JSONBOID => Fast::Jsonb,
            _ => Fast::No,
        }
    }

    #[inline]
    pub(super) fn read(self, value: Json<'_>, encoder: &mut Encoder, out: &Bump) -> Option<Datum> {
        match self {
            Fast::No => None,
            Fast::Bool => value.as_bool().map(Datum::from),
            Fast::Int2 => scalar(value, |s| s.parse::<i16>().ok().map(Datum::from)),
            Fast::Int4 => scalar(value, |s| s.parse::<i32>().ok().map(Datum::from)),
            Fast::Int8 => scalar(value, |s| s.parse::<i64>().ok().map(Datum::from)),
            // since PostgreSQL 16, a number that begins with 0 may be octal, hexadecimal or binary
            Fast::Oid => scalar(value, |s| {
                let plain = s == "0" || s.starts_with(|first| matches!(first, '1'..='9'));
                s.parse::<u32>().ok().filter(|_| plain).map(Datum::from)
            }),
            Fast::Float4 => scalar(value, float4),
            Fast::Float8 => scalar(value, float8),
            Fast::Text(limit) => text(value, limit, out),
            Fast::Uuid => string(value, |s| uuid(s, out)),
            Fast::Date => string(value, |s| date(s.as_bytes()).map(Datum::from)),
            Fast::Timestamp(unit) => {
                let micros = match value.kind() {
                    Kind::Number => spell::timestamp_of_unix(&value.number()?),
                    _ => string(value, |s| timestamp(s.as_bytes()).map(|(micros, _)| micros)),
                };
                rounded(micros?, unit)
            }
            Fast::Timestamptz(unit) => {
                let micros = match value.kind() {
                    Kind::Number => spell::timestamp_of_unix(&value.number()?),
                    _ => string(value, |s| match timestamp(s.as_bytes())? {
                        (micros, true) => Some(micros),
                        (_, false) => None,
                    }),
                };
                rounded(micros?, unit)
            }
            Fast::Numeric(limits) => scalar(value, |s| {
                typeio::varlena(encoder.numeric(s, limits).ok()?, out)
            }),
            Fast::Interval if value.kind() == Kind::Object => {
                Some(interval(spell::interval(value).ok()?, out))
            }
            Fast::Interval => None,
            Fast::Json => {
                // `json_in` keeps a text that it takes as it is
                let text = value.text();
                let text = json::is_shallow(&text).then_some(text)?;
                typeio::varlena(text.as_bytes(), out)
            }
            Fast::Jsonb => {
                let datum = match encoder.jsonb(value) {
                    Ok(bytes) => typeio::varlena(bytes, out),
                    Err(json::Unfit) => None,
                };
                encoder.trim();
                datum
            }
        }
    }
}

/// Reads a number's digits or a string.
#[inline]
fn scalar<T>(value: Json<'_>, mut read: impl FnMut(&str) -> Option<T>) -> Option<T> {
    match value.kind() {
        Kind::Number => read(&value.number()?),
        Kind::String => string(value, read),
        _ => None,
    }
}

#[inline]
fn string<T>(value: Json<'_>, mut read: impl FnMut(&str) -> Option<T>) -> Option<T> {
    read(&value.string()?.ok()?)
}

fn text(value: Json<'_>, limit: usize, out: &Bump) -> Option<Datum> {
    let text = match value.string() {
        Some(text) => text.ok()?,
        None => value.text(),
    };
    if text.len() > limit && text.chars().count() > limit {
        return None;
    }
    typeio::varlena(text.as_bytes(), out)
}

/// Whether a text is a decimal number as JSON writes it. Rust and the C library read these alike.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let body = |b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    unsigned.bytes().next().is_some_and(|b| b.is_ascii_digit()) && unsigned.bytes().all(body)
}

/// Whether the digits of a number that was read as zero are all zero. If not, it was too small.
fn is_zero(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    !mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'))
}

fn float8(text: &str) -> Option<Datum> {
    let number = is_decimal(text).then(|| text.parse::<f64>().ok())??;
    let fits = number.is_finite() && (number != 0.0 || is_zero(text));
    fits.then(|| Datum::from(number.to_bits()))
}

fn float4(text: &str) -> Option<Datum> {
    let number = is_decimal(text).then(|| text.parse::<f32>().ok())??;
    let fits = number.is_finite() && (number != 0.0 || is_zero(text));
    // the server extends a float4 like a signed integer
    fits.then(|| Datum::from(number.to_bits() as i32))
}

fn uuid(text: &str, out: &Bump) -> Option<Datum> {
    // the only form of this length is the usual one with hyphens
    let uuid = (text.len() == 36).then(|| uuid::Uuid::try_parse(text).ok())??;
    Some(typeio::fixed(uuid.into_bytes(), out))
}

pub(super) fn interval(interval: spell::Interval, out: &Bump) -> Datum {
    let interval = pg_sys::Interval {
        time: interval.microseconds,
        day: interval.days,
        month: interval.months,
    };
    typeio::fixed(interval, out)
}

fn rounded(micros: i64, unit: i64) -> Option<Datum> {
    (unit == 1 || micros % unit == 0).then(|| Datum::from(micros))
}

/// Reads `N` digits at `at`.
#[inline]
fn digits<const N: usize>(text: &[u8], at: usize) -> Option<u32> {
    let digits: &[u8; N] = text.get(at..at + N)?.try_into().ok()?;
    let mut number = 0;
    for b in digits {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u32::from(digit);
    }
    Some(number)
}

/// Days since 2000-01-01 of `YYYY-MM-DD`, of the years 1 to 9999.
fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = digits::<4>(text, 0)?;
    let day = civil::day(year, digits::<2>(text, 5)?, digits::<2>(text, 8)?)?;
    (year > 0).then_some(day - DAYS_TO_2000)
}

/// Days from 1970 to 2000, the server's epoch.
const DAYS_TO_2000: i32 = 10_957;

/// Microseconds since 2000-01-01 of `YYYY-MM-DD[T ]HH:MM:SS[.ffffff][Z]`, and whether the text ends in Z.
fn timestamp(text: &[u8]) -> Option<(i64, bool)> {
    let (text, zulu) = match text {
        [text @ .., b'Z'] => (text, true),
        _ => (text, false),
    };
    let day = date(text.get(..10)?)?;
    let clock = &text[10..];
    if clock.len() < 9 || !matches!(clock[0], b'T' | b' ') || clock[3] != b':' || clock[6] != b':' {
        return None;
    }
    let (hour, minute) = (digits::<2>(clock, 1)?, digits::<2>(clock, 4)?);
    let second = digits::<2>(clock, 7)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match &clock[9..] {
        [] => 0,
        [b'.', fraction @ ..] if (1..=6).contains(&fraction.len()) => {
            let mut micros = 0;
            for i in 0..6 {
                let digit = fraction.get(i).unwrap_or(&b'0').wrapping_sub(b'0');
                if digit > 9 {
                    return None;
                }
                micros = micros * 10 + i64::from(digit);
            }
            micros
        }
        _ => return None,
    };
    let seconds = i64::from(day) * 86_400 + i64::from(hour * 3600 + minute * 60 + second);
    Some((seconds * 1_000_000 + micros, zulu))
}
