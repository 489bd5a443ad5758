//! A JSON value, over its text or over the binary form of `jsonb`.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::jsonb::Jsonb;
use super::kind::{Kind, StringFault};
use super::string::Str;

/// A JSON value, borrowed from the batch.
#[derive(Clone, Copy, Debug)]
pub enum Json<'a> {
    /// The value's text and nothing around it, known to be valid: only the scanner makes it.
    Text(&'a str),
    /// The value in a `jsonb` datum.
    Binary(Jsonb<'a>),
}

impl<'a> Json<'a> {
    /// The kind of value.
    pub fn kind(self) -> Kind {
        match self {
            Json::Text(text) => match text.as_bytes().first() {
                Some(b'"') => Kind::String,
                Some(b'{') => Kind::Object,
                Some(b'[') => Kind::Array,
                Some(b't' | b'f') => Kind::Bool,
                Some(b'n') | None => Kind::Null,
                Some(_) => Kind::Number,
            },
            Json::Binary(jsonb) => jsonb.kind(),
        }
    }

    /// Whether the value is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The truth of a boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Json::Text("true") => Some(true),
            Json::Text("false") => Some(false),
            Json::Text(_) => None,
            Json::Binary(jsonb) => jsonb.as_bool(),
        }
    }

    /// The digits of a number: exactly as sent, or as `numeric` prints them from `jsonb`.
    pub fn number(self) -> Option<Cow<'a, str>> {
        match self {
            Json::Text(text) => (self.kind() == Kind::Number).then_some(Cow::Borrowed(text)),
            Json::Binary(jsonb) => jsonb.number().map(Cow::Owned),
        }
    }

    /// The characters of a string, borrowed if none is escaped.
    pub fn string(self) -> Option<Result<Cow<'a, str>, StringFault>> {
        match self {
            Json::Text(_) => self.raw_string().map(Str::unescape),
            Json::Binary(jsonb) => jsonb.string().map(Ok),
        }
    }

    /// Whether the value is the string `s`.
    pub fn is_string(self, s: &str) -> bool {
        match self {
            Json::Text(_) => self.raw_string().is_some_and(|raw| raw.is(s)),
            Json::Binary(jsonb) => jsonb.string().is_some_and(|string| string == s),
        }
    }

    /// The value's JSON text: as sent, or as `jsonb` prints it.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            Json::Text(text) => Cow::Borrowed(text),
            Json::Binary(jsonb) => Cow::Owned(jsonb.text()),
        }
    }

    /// The text between the quotes of a string.
    pub(crate) fn raw_string(self) -> Option<Str<'a>> {
        let Json::Text(text) = self else { return None };
        let raw = text.strip_prefix('"')?.strip_suffix('"')?;
        Some(Str {
            raw,
            escaped: raw.as_bytes().contains(&b'\\'),
        })
    }
}
