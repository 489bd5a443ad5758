//! Strings of JSON text, unescaped only on demand.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use bumpalo::Bump;

use super::kind::StringFault;
use super::lex;

/// A string as it stands in the text, without its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Str<'a> {
    /// The text between the quotes.
    pub raw: &'a str,
    /// Whether there is a backslash in it.
    pub escaped: bool,
}

impl<'a> Str<'a> {
    /// The string's characters.
    pub fn unescape(self) -> Result<Cow<'a, str>, StringFault> {
        self.unescape_or(Err)
    }

    /// The string's characters, with U+FFFD for each that `text` in PostgreSQL cannot hold.
    pub fn unescape_lossy(self) -> Cow<'a, str> {
        self.unescape_or(|_| Ok(char::REPLACEMENT_CHARACTER))
            .unwrap_or_default()
    }

    fn unescape_or(
        self,
        fault: impl Fn(StringFault) -> Result<char, StringFault>,
    ) -> Result<Cow<'a, str>, StringFault> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut out = vec![0; self.raw.len()];
        let len = lex::unescape(self.raw.as_bytes(), &mut out, fault)?;
        out.truncate(len);
        let text = String::from_utf8(out).expect("escapes are of whole characters");
        Ok(Cow::Owned(text))
    }

    /// The string's characters, in the arena if any is escaped.
    pub fn unescape_in(self, arena: &'a Bump) -> Result<&'a str, StringFault> {
        if !self.escaped {
            return Ok(self.raw);
        }
        let out = arena.alloc_slice_fill_copy(self.raw.len(), 0);
        let len = lex::unescape(self.raw.as_bytes(), out, Err)?;
        Ok(std::str::from_utf8(&out[..len]).expect("escapes are of whole characters"))
    }

    /// Whether the string has the same characters as `s`.
    pub fn is(self, s: &str) -> bool {
        if self.escaped {
            // every escape is longer than its character
            self.raw.len() > s.len() && self.unescape().is_ok_and(|unescaped| unescaped == s)
        } else {
            self.raw == s
        }
    }
}
