//! Strings of the batch, borrowed from it or put into the arena.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use bumpalo::Bump;

use crate::json::{Json, Str, StringFault};

/// Reads strings. Unescaping and decoding need room that lives as long as the batch: the arena.
#[derive(Clone, Copy)]
pub(super) struct Strings<'a> {
    pub(super) arena: &'a Bump,
}

impl<'a> Strings<'a> {
    /// The value whose JSON text a string holds, `None` if the text is not JSON. Any value but a
    /// string stands for itself.
    pub(super) fn embedded(self, value: Json<'a>) -> Result<Option<Json<'a>>, StringFault> {
        match self.str(value) {
            Some(text) => Ok(Json::parse(text?).ok()),
            None => Ok(Some(value)),
        }
    }

    /// The characters of a string, `None` without a value or for any value but a string.
    pub(super) fn optional(self, value: Option<Json<'a>>) -> Result<Option<&'a str>, StringFault> {
        value.and_then(|value| self.str(value)).transpose()
    }

    /// The characters of a string, `None` for any other value.
    pub(super) fn str(self, value: Json<'a>) -> Option<Result<&'a str, StringFault>> {
        match value {
            Json::Text(_) => value.raw_string().map(|raw| raw.unescape_in(self.arena)),
            Json::Binary(jsonb) => jsonb.string().map(|string| match string {
                Cow::Borrowed(string) => Ok(string),
                Cow::Owned(string) => Ok(&*self.arena.alloc_str(&string)),
            }),
        }
    }

    /// The characters of a key, with U+FFFD for each that `text` in PostgreSQL cannot hold.
    #[inline]
    pub(super) fn key(self, key: Str<'a>) -> &'a str {
        if key.escaped {
            self.arena.alloc_str(&key.unescape_lossy())
        } else {
            key.raw
        }
    }
}
