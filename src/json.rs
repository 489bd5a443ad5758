//! One view of a JSON value, over its text and over the binary form of `jsonb`.
//!
//! The rest of the extension never asks which of the two it has: a message that came through
//! `sequin_apply(text)` and one that came through `sequin_apply(jsonb)` go the same way. No tree
//! is built and no number goes through a float: a value is its own bytes in the batch.
//!
//! Text is read by the scanner of [`scan`], not by `serde_json`: one pass over the batch gives the
//! spans of a record's members and the byte position of a fault, where `serde_json` would look at
//! every value two or three times (once to delimit it, once to split it, once for its value) and
//! refuses what is nested more than 128 deep.

mod encode;
mod jsonb;
mod numeric;
mod scan;

#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::fmt;

pub use encode::{Encoder, Unfit, is_shallow};
pub use jsonb::Jsonb;
pub use numeric::Limits;
pub use scan::{Scanner, Str};

/// What a JSON value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number of any size
    Number,
    /// A string
    String,
    /// An array
    Array,
    /// An object
    Object,
}

/// A JSON value, borrowed from the batch.
#[derive(Clone, Copy, Debug)]
pub enum Json<'a> {
    /// The value's text and nothing around it, known to be valid: only [`Scanner`] makes these.
    Text(&'a str),
    /// The value in a `jsonb` datum.
    Binary(Jsonb<'a>),
}

/// Why a string of valid JSON is not a text of PostgreSQL's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringFault {
    /// It holds `\u0000`.
    Nul,
    /// It holds one half of a UTF-16 surrogate pair.
    LoneSurrogate,
}

impl fmt::Display for StringFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            StringFault::Nul => "\\u0000 cannot be converted to text",
            StringFault::LoneSurrogate => "a Unicode surrogate stands without its other half",
        })
    }
}

/// Where and why a text is not JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFault {
    /// Offset of the first byte that cannot be, from 0; the length of the text if it ends too soon.
    pub byte: usize,
    /// What could have stood there.
    pub expected: &'static str,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for JsonFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let JsonFault {
            byte,
            expected,
            found,
        } = self;
        write!(out, "expected {expected} at byte {byte}, found {found}")
    }
}

impl<'a> Json<'a> {
    /// The one value that `text` holds, white space around it allowed.
    pub fn parse(text: &'a str) -> Result<Json<'a>, JsonFault> {
        let mut scanner = Scanner::new(text);
        let value = scanner.take()?;
        scanner.end()?;
        Ok(value)
    }

    /// What it is.
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

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// Its truth, if it is a boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self {
            Json::Text("true") => Some(true),
            Json::Text("false") => Some(false),
            Json::Text(_) => None,
            Json::Binary(jsonb) => jsonb.as_bool(),
        }
    }

    /// Its digits, if it is a number: exactly as sent, or as `numeric` prints them from `jsonb`.
    pub fn number(self) -> Option<Cow<'a, str>> {
        match self {
            Json::Text(text) => (self.kind() == Kind::Number).then_some(Cow::Borrowed(text)),
            Json::Binary(jsonb) => jsonb.number().map(Cow::Owned),
        }
    }

    /// Its characters, if it is a string; borrowed where nothing is escaped.
    pub fn string(self) -> Option<Result<Cow<'a, str>, StringFault>> {
        match self {
            Json::Text(_) => self.raw_string().map(Str::unescape),
            Json::Binary(jsonb) => jsonb.string().map(Ok),
        }
    }

    /// Whether it is the string `s`.
    pub fn is_string(self, s: &str) -> bool {
        match self {
            Json::Text(_) => self.raw_string().is_some_and(|raw| raw.is(s)),
            Json::Binary(jsonb) => jsonb.string().is_some_and(|string| string == s),
        }
    }

    /// The value of a member of an object, the last one where the key is there more than once.
    pub fn get(self, key: &str) -> Option<Json<'a>> {
        match self {
            Json::Text(text) => {
                let mut found = None;
                let mut scanner = Scanner::open(text, b'{')?;
                let mut first = true;
                while let Ok(Some(name)) = scanner.next_key(&mut first) {
                    let value = scanner.take().ok()?;
                    if name.is(key) {
                        found = Some(value);
                    }
                }
                found
            }
            Json::Binary(jsonb) => jsonb.get(key).map(Json::Binary),
        }
    }

    /// What is found going down through objects by key and arrays by index, counted from 0.
    pub fn path(self, keys: &[impl AsRef<str>]) -> Option<Json<'a>> {
        keys.iter().try_fold(self, |value, key| {
            let key = key.as_ref();
            match value.kind() {
                Kind::Object => value.get(key),
                // `parse` would also take "+1"
                Kind::Array if key.bytes().all(|b| b.is_ascii_digit()) => {
                    value.elements().nth(key.parse().ok()?)
                }
                _ => None,
            }
        })
    }

    /// The members of an object, in the order of the text (duplicates too) or of `jsonb`; nothing
    /// if it is not an object. What a key holds that PostgreSQL's text cannot becomes U+FFFD.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Json<'a>)> {
        let mut text = match self {
            Json::Text(text) => Scanner::open(text, b'{'),
            Json::Binary(_) => None,
        };
        let mut binary = match self {
            Json::Text(_) => None,
            Json::Binary(jsonb) => Some(jsonb.members()),
        };
        let mut first = true;
        std::iter::from_fn(move || match (&mut text, &mut binary) {
            (Some(scanner), _) => {
                let key = scanner.next_key(&mut first).ok()??;
                Some((key.unescape_lossy(), scanner.take().ok()?))
            }
            (_, Some(members)) => members
                .next()
                .map(|(key, value)| (Cow::Borrowed(key), Json::Binary(value))),
            _ => None,
        })
    }

    /// The elements of an array; nothing if it is not an array.
    pub fn elements(self) -> impl Iterator<Item = Json<'a>> {
        let mut text = match self {
            Json::Text(text) => Scanner::open(text, b'['),
            Json::Binary(_) => None,
        };
        let mut binary = match self {
            Json::Text(_) => None,
            Json::Binary(jsonb) => Some(jsonb.elements()),
        };
        let mut first = true;
        std::iter::from_fn(move || match (&mut text, &mut binary) {
            (Some(scanner), _) => {
                let more = scanner.next_element(&mut first).ok()?;
                more.then(|| scanner.take().ok()).flatten()
            }
            (_, Some(elements)) => elements.next().map(Json::Binary),
            _ => None,
        })
    }

    /// Its JSON text: as sent, or as `jsonb` prints it.
    pub fn text(self) -> Cow<'a, str> {
        match self {
            Json::Text(text) => Cow::Borrowed(text),
            Json::Binary(jsonb) => Cow::Owned(jsonb.text()),
        }
    }

    /// What stands between the quotes of a string's text.
    pub(crate) fn raw_string(self) -> Option<Str<'a>> {
        let Json::Text(text) = self else { return None };
        let raw = text.strip_prefix('"')?.strip_suffix('"')?;
        Some(Str {
            raw,
            escaped: raw.as_bytes().contains(&b'\\'),
        })
    }
}
