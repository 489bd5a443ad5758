//! The scanner of JSON text: values, members and elements, one after the other.

#![forbid(unsafe_code)]

use super::kind::{JsonFault, Kind};
use super::lex::{self, AFTER_ELEMENT, AFTER_MEMBER, FIRST_KEY, Key, Stop, VALUE, fault};
use super::pause::Pauses;
use super::string::Str;
use super::value::Json;

/// Reads JSON values off a text, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    pos: usize,
}

impl<'a> Scanner<'a> {
    /// Begins at the start of `text`.
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, pos: 0 }
    }

    /// Begins at byte `pos` of `text`.
    pub fn at(text: &'a str, pos: usize) -> Scanner<'a> {
        Scanner { text, pos }
    }

    /// Where the scanner is.
    #[inline(always)]
    pub(super) fn place(&self) -> usize {
        self.pos
    }

    /// Where the next value begins, after white space.
    pub fn next_place(&mut self) -> usize {
        self.white();
        self.pos
    }

    /// Begins after the opening bracket of an array or object; `None` if `text` has another first byte.
    pub(super) fn open(text: &'a str, bracket: u8) -> Option<Scanner<'a>> {
        (text.as_bytes().first() == Some(&bracket)).then_some(Scanner { text, pos: 1 })
    }

    /// Skips white space. Returns whether the text ends after it.
    pub fn at_end(&mut self) -> bool {
        self.white();
        self.pos == self.text.len()
    }

    /// Checks that nothing but white space is left.
    pub fn end(&mut self) -> Result<(), JsonFault> {
        if self.at_end() {
            Ok(())
        } else {
            Err(self.fault("the end of the text"))
        }
    }

    /// After a value: whether another value follows. Unless the first value ends with a bracket, white space
    /// must stand between the two.
    pub fn more(&mut self) -> Result<bool, JsonFault> {
        let end = self.pos;
        if self.at_end() {
            return Ok(false);
        }
        let closed = self.text[..end].ends_with(['}', ']']);
        if self.pos == end && !closed {
            return Err(self.fault("white space or the end of the text"));
        }
        Ok(true)
    }

    /// The kind of the next value, by its first byte.
    #[inline]
    pub fn kind(&mut self) -> Result<Kind, JsonFault> {
        self.white();
        Ok(match self.byte() {
            Some(b'"') => Kind::String,
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b't' | b'f') => Kind::Bool,
            Some(b'n') => Kind::Null,
            Some(b'-' | b'0'..=b'9') => Kind::Number,
            _ => return Err(self.fault(VALUE)),
        })
    }

    /// The next value, checked to its end.
    #[inline(always)]
    pub fn take(&mut self) -> Result<Json<'a>, JsonFault> {
        self.white();
        let start = self.pos;
        self.skip()?;
        Ok(Json::Text(&self.text[start..self.pos]))
    }

    /// Reads the next value, an object: calls `member` for each member, and returns the object as a whole. A
    /// value that `member` does not read is skipped.
    #[inline(always)]
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Str<'a>) -> Result<(), JsonFault>,
    ) -> Result<Json<'a>, JsonFault> {
        // a copy, so that the position is in a register and not behind the reference
        let mut inside = *self;
        inside.white();
        let start = inside.pos;
        inside.expect(b'{', "\"{\"")?;
        let mut first = true;
        let mut pauses = Pauses::from(start);
        while let Some(key) = inside.next_key(&mut first)? {
            let value = inside.pos;
            pauses.at(value);
            member(&mut inside, key)?;
            if inside.pos == value {
                inside.skip()?;
            }
        }
        *self = inside;
        Ok(Json::Text(&self.text[start..self.pos]))
    }

    /// Reads the next value, an array: calls `element` for each element, and returns the array as a whole. An
    /// element that `element` does not read is skipped.
    #[inline(always)]
    pub fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonFault>,
    ) -> Result<Json<'a>, JsonFault> {
        let mut inside = *self;
        inside.white();
        let start = inside.pos;
        inside.expect(b'[', "\"[\"")?;
        let mut first = true;
        let mut pauses = Pauses::from(start);
        while inside.next_element(&mut first)? {
            let value = inside.pos;
            pauses.at(value);
            element(&mut inside)?;
            if inside.pos == value {
                inside.skip()?;
            }
        }
        *self = inside;
        Ok(Json::Text(&self.text[start..self.pos]))
    }

    /// Inside an object: the key of the next member, or `None` after the closing brace.
    #[inline(always)]
    pub(super) fn next_key(&mut self, first: &mut bool) -> Result<Option<Str<'a>>, JsonFault> {
        self.white();
        match self.byte() {
            Some(b'"') if *first => {}
            Some(b',') if !*first => {
                self.pos += 1;
                self.white();
            }
            Some(b'}') => {
                self.pos += 1;
                return Ok(None);
            }
            _ if *first => return Err(self.fault(FIRST_KEY)),
            _ => return Err(self.fault(AFTER_MEMBER)),
        }
        *first = false;
        let start = self.pos + 1;
        match lex::key(self.text.as_bytes(), self.pos) {
            Ok(Key {
                end,
                value,
                escaped,
            }) => {
                self.pos = value;
                let raw = &self.text[start..end];
                Ok(Some(Str { raw, escaped }))
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    /// Inside an array: reads the comma or the closing bracket. Returns whether another element follows.
    #[inline(always)]
    pub(super) fn next_element(&mut self, first: &mut bool) -> Result<bool, JsonFault> {
        self.white();
        match self.byte() {
            Some(b']') => {
                self.pos += 1;
                return Ok(false);
            }
            Some(b',') if !*first => {
                self.pos += 1;
                self.white();
            }
            _ if *first => {}
            _ => return Err(self.fault(AFTER_ELEMENT)),
        }
        *first = false;
        Ok(true)
    }

    /// Skips one value.
    #[inline(always)]
    fn skip(&mut self) -> Result<(), JsonFault> {
        self.white();
        let bytes = self.text.as_bytes();
        let end = match self.byte() {
            Some(b'"') => lex::string(bytes, self.pos).map(|(end, _)| end),
            Some(b'{' | b'[') => lex::container(bytes, self.pos),
            _ => lex::scalar(bytes, self.pos),
        };
        match end {
            Ok(end) => {
                Pauses::from(self.pos).at(end);
                self.pos = end;
                Ok(())
            }
            Err(stop) => Err(self.stopped(stop)),
        }
    }

    #[inline]
    fn expect(&mut self, byte: u8, name: &'static str) -> Result<(), JsonFault> {
        if self.byte() != Some(byte) {
            return Err(self.fault(name));
        }
        self.pos += 1;
        Ok(())
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.pos).copied()
    }

    #[inline]
    fn white(&mut self) {
        self.pos = lex::white(self.text.as_bytes(), self.pos);
    }

    #[inline]
    fn fault(&self, expected: &'static str) -> JsonFault {
        fault(self.text, self.pos, expected)
    }

    #[inline]
    fn stopped(&self, Stop(at, expected): Stop) -> JsonFault {
        fault(self.text, at, expected)
    }
}
