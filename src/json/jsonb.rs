//! The on-disk form of `jsonb`, read in place. `src/include/utils/jsonb.h` describes the form. It has been
//! stable since PostgreSQL 9.4, which introduced the type, because `pg_upgrade` keeps the data files.
//!
//! Every container is a header with the number of its children, a word for each child (its type, and its
//! length or end offset), and the children's bytes. The reader trusts no length: a child whose bytes are
//! damaged reads as null, and nothing worse happens.

#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write;

use super::kind::Kind;
use super::numeric::numeric_text;
use super::pause::{Pauses, Work, pause_at_byte, pause_at_value};

pub(super) const COUNT: u32 = 0x0FFF_FFFF;
pub(super) const IS_SCALAR: u32 = 0x1000_0000;
pub(super) const IS_OBJECT: u32 = 0x2000_0000;
pub(super) const IS_ARRAY: u32 = 0x4000_0000;

const ENTRY_LENGTH: u32 = 0x0FFF_FFFF;
pub(super) const ENTRY_TYPE: u32 = 0x7000_0000;
pub(super) const ENTRY_HAS_OFFSET: u32 = 0x8000_0000;
pub(super) const ENTRY_STRING: u32 = 0x0000_0000;
pub(super) const ENTRY_NUMERIC: u32 = 0x1000_0000;
pub(super) const ENTRY_FALSE: u32 = 0x2000_0000;
pub(super) const ENTRY_TRUE: u32 = 0x3000_0000;
pub(super) const ENTRY_NULL: u32 = 0x4000_0000;
pub(super) const ENTRY_CONTAINER: u32 = 0x5000_0000;

/// One value in a `jsonb` datum.
#[derive(Clone, Copy, Debug)]
pub struct Jsonb<'a> {
    form: Form,
    bytes: &'a [u8],
}

/// The form takes a whole word. With a smaller form, copying a [`Json`](super::Json) copies seven bytes of
/// padding one by one, which took a fifth of the time of reading a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Form {
    Null,
    False,
    True,
    Numeric,
    String,
    Array,
    Object,
}

impl<'a> Jsonb<'a> {
    const NULL: Jsonb<'static> = Jsonb {
        form: Form::Null,
        bytes: &[],
    };

    /// The value of a datum: the bytes after its length word, not toasted.
    pub fn new(root: &'a [u8]) -> Jsonb<'a> {
        let whole = Jsonb::container(root);
        if word(root, 0).is_some_and(|header| header & IS_SCALAR != 0) {
            whole.elements().next().unwrap_or(Jsonb::NULL)
        } else {
            whole
        }
    }

    fn container(bytes: &'a [u8]) -> Jsonb<'a> {
        let form = match word(bytes, 0) {
            Some(header) if header & IS_OBJECT != 0 => Form::Object,
            Some(header) if header & IS_ARRAY != 0 => Form::Array,
            _ => return Jsonb::NULL,
        };
        Jsonb { form, bytes }
    }

    /// The kind of value.
    pub fn kind(self) -> Kind {
        match self.form {
            Form::Null => Kind::Null,
            Form::False | Form::True => Kind::Bool,
            Form::Numeric => Kind::Number,
            Form::String => Kind::String,
            Form::Array => Kind::Array,
            Form::Object => Kind::Object,
        }
    }

    /// How many bytes the value takes.
    pub fn size(self) -> usize {
        self.bytes.len()
    }

    /// The truth of a boolean.
    pub fn as_bool(self) -> Option<bool> {
        match self.form {
            Form::True => Some(true),
            Form::False => Some(false),
            _ => None,
        }
    }

    /// The digits of a number, as `numeric` prints them.
    pub fn number(self) -> Option<String> {
        if self.form != Form::Numeric {
            return None;
        }
        numeric_text(self.bytes)
    }

    /// The characters of a string.
    pub fn string(self) -> Option<Cow<'a, str>> {
        (self.form == Form::String).then(|| String::from_utf8_lossy(self.bytes))
    }

    /// Whether all keys and strings in the value are UTF-8. Strings that stand side by side, as the keys of
    /// an object do, are looked at together: one by one, reading a batch would take a tenth longer.
    pub fn is_utf8(self) -> bool {
        let text = |bytes: Option<&[u8]>| bytes.is_some_and(|b| std::str::from_utf8(b).is_ok());
        let mut open = match self.form {
            Form::String => return text(Some(self.bytes)),
            Form::Array | Form::Object => vec![self],
            _ => return true,
        };
        let mut work = Work::default();
        while let Some(Jsonb { bytes, form }) = open.pop() {
            work.value();
            let entries = Jsonb { bytes, form }.entries();
            let data = 4 + 4 * entries;
            let (mut start, mut strings) = (data, data);
            for index in 0..entries {
                let entry = word(bytes, 1 + index).unwrap_or(0);
                let end = entry_end(entry, start - data) + data;
                work.value();
                if entry & ENTRY_TYPE == ENTRY_STRING {
                    // the string must not continue a character that the string before it began
                    let continues = bytes.get(start).is_some_and(|byte| byte & 0xC0 == 0x80);
                    if continues && end > start {
                        return false;
                    }
                } else {
                    if !text(bytes.get(strings..start)) {
                        return false;
                    }
                    if entry & ENTRY_TYPE == ENTRY_CONTAINER {
                        let inner = bytes.get(start.next_multiple_of(4)..end);
                        open.extend(inner.map(Jsonb::container));
                    }
                    strings = end;
                }
                start = end;
            }
            if !text(bytes.get(strings..start)) {
                return false;
            }
        }
        true
    }

    /// A member of an object, found as `jsonb` finds it: keys are sorted by length, then bytes.
    pub fn get(self, key: &str) -> Option<Jsonb<'a>> {
        let pairs = self.pairs();
        let (mut low, mut high) = (0, pairs);
        while low < high {
            let middle = (low + high) / 2;
            let name = self.children(middle..middle + 1).next()?.bytes;
            let order = name
                .len()
                .cmp(&key.len())
                .then_with(|| name.cmp(key.as_bytes()));
            match order {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => {
                    return self.children(pairs + middle..pairs + middle + 1).next();
                }
            }
        }
        None
    }

    /// The members of an object. Any other value has no members.
    pub fn members(self) -> impl Iterator<Item = (&'a str, Jsonb<'a>)> {
        self.pairs_of_children().map(|(key, value)| {
            let key = std::str::from_utf8(key.bytes).unwrap_or("\u{FFFD}");
            (key, value)
        })
    }

    /// The elements of an array. Any other value has no elements.
    pub fn elements(self) -> impl Iterator<Item = Jsonb<'a>> {
        let count = match self.form {
            Form::Array => self.entries(),
            _ => 0,
        };
        self.children(0..count)
    }

    /// The value's JSON text, as `jsonb` prints it.
    pub fn text(self) -> String {
        enum Level<'a> {
            Array(Children<'a>),
            Object(Pairs<'a>),
        }
        let mut out = String::with_capacity(self.bytes.len());
        let mut open: Vec<Level> = Vec::new();
        let mut next = Some(self);
        let mut first = true;
        let mut pauses = Pauses::default();
        loop {
            pauses.at(out.len());
            // writes the value's own text, or the opening bracket of a container
            if let Some(value) = next {
                first = true;
                match value.form {
                    Form::Array => {
                        out.push('[');
                        open.push(Level::Array(value.children(0..value.entries())));
                    }
                    Form::Object => {
                        out.push('{');
                        open.push(Level::Object(value.pairs_of_children()));
                    }
                    _ => {
                        value.write_scalar(&mut out);
                        first = false;
                    }
                }
            }
            // finds the next value on the same level
            let comma = if first { "" } else { ", " };
            next = match open.last_mut() {
                None => return out,
                Some(Level::Array(elements)) => elements.next().inspect(|_| out.push_str(comma)),
                Some(Level::Object(pairs)) => pairs.next().map(|(key, value)| {
                    out.push_str(comma);
                    write_string(&String::from_utf8_lossy(key.bytes), &mut out);
                    out.push_str(": ");
                    value
                }),
            };
            if next.is_none() {
                match open.pop() {
                    Some(Level::Array(_)) => out.push(']'),
                    Some(Level::Object(_)) | None => out.push('}'),
                }
                first = false;
            }
        }
    }

    /// The bytes of an array or object. All positions in them are relative, so that they form a datum too.
    pub(super) fn container_bytes(self) -> Option<&'a [u8]> {
        matches!(self.form, Form::Array | Form::Object).then_some(self.bytes)
    }

    /// The type that the value's entry in a container has, and the value's bytes without padding.
    pub(super) fn entry(self) -> (u32, &'a [u8]) {
        let form = match self.form {
            Form::Null => ENTRY_NULL,
            Form::False => ENTRY_FALSE,
            Form::True => ENTRY_TRUE,
            Form::Numeric => ENTRY_NUMERIC,
            Form::String => ENTRY_STRING,
            Form::Array | Form::Object => ENTRY_CONTAINER,
        };
        (form, self.bytes)
    }

    fn write_scalar(self, out: &mut String) {
        match self.form {
            Form::True => out.push_str("true"),
            Form::False => out.push_str("false"),
            Form::String => write_string(&String::from_utf8_lossy(self.bytes), out),
            Form::Numeric => out.push_str(numeric_text(self.bytes).as_deref().unwrap_or("null")),
            Form::Null | Form::Array | Form::Object => out.push_str("null"),
        }
    }

    /// The number of entries that the header gives, at most as many as the bytes have room for.
    fn entries(self) -> usize {
        let count = word(self.bytes, 0).map_or(0, |header| (header & COUNT) as usize);
        let count = if self.form == Form::Object {
            count * 2
        } else {
            count
        };
        count.min(self.bytes.len().saturating_sub(4) / 4)
    }

    fn pairs(self) -> usize {
        match self.form {
            Form::Object => self.entries() / 2,
            _ => 0,
        }
    }

    fn pairs_of_children(self) -> Pairs<'a> {
        let pairs = self.pairs();
        Pairs {
            keys: self.children(0..pairs),
            values: self.children(pairs..2 * pairs),
        }
    }

    fn children(self, range: std::ops::Range<usize>) -> Children<'a> {
        // Go back to the nearest entry that has an offset, at most 32 away: see getJsonbOffset.
        let mut offset = 0;
        for index in (0..range.start).rev() {
            let entry = word(self.bytes, 1 + index).unwrap_or(0);
            offset += (entry & ENTRY_LENGTH) as usize;
            if entry & ENTRY_HAS_OFFSET != 0 {
                break;
            }
        }
        Children {
            bytes: self.bytes,
            data: 4 + 4 * self.entries(),
            offset,
            range,
        }
    }
}

/// The children of one container, in order.
struct Children<'a> {
    bytes: &'a [u8],
    /// Where the children's bytes begin.
    data: usize,
    /// Where the next child's bytes begin, counted from `data`.
    offset: usize,
    range: std::ops::Range<usize>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Jsonb<'a>;

    fn next(&mut self) -> Option<Jsonb<'a>> {
        let index = self.range.next()?;
        pause_at_value(index);
        let entry = word(self.bytes, 1 + index)?;
        let start = self.offset;
        let end = entry_end(entry, start);
        self.offset = end;
        let bytes = |start: usize| self.bytes.get(self.data + start..self.data + end);
        let aligned = || bytes(start.next_multiple_of(4));
        let view = |form, bytes: Option<&'a [u8]>| bytes.map(|bytes| Jsonb { form, bytes });
        let child = match entry & ENTRY_TYPE {
            ENTRY_STRING => view(Form::String, bytes(start)),
            ENTRY_NUMERIC => view(Form::Numeric, aligned()),
            ENTRY_FALSE => view(Form::False, Some(&[])),
            ENTRY_TRUE => view(Form::True, Some(&[])),
            ENTRY_CONTAINER => aligned().map(Jsonb::container),
            _ => None,
        };
        Some(child.unwrap_or(Jsonb::NULL))
    }
}

/// The members of an object, in order.
struct Pairs<'a> {
    keys: Children<'a>,
    values: Children<'a>,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (Jsonb<'a>, Jsonb<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.keys.next()?, self.values.next()?))
    }
}

/// Where the bytes of a child end that begin at `start`, by its entry.
fn entry_end(entry: u32, start: usize) -> usize {
    let length = (entry & ENTRY_LENGTH) as usize;
    if entry & ENTRY_HAS_OFFSET != 0 {
        length.max(start)
    } else {
        start + length
    }
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let word = bytes.get(4 * index..4 * index + 4)?;
    Some(u32::from_ne_bytes(*word.first_chunk()?))
}

/// Writes a string as the server's `escape_json` does.
fn write_string(string: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in string.bytes().enumerate() {
        pause_at_byte(at);
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0C => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            ..0x20 => "",
            _ => continue,
        };
        out.push_str(&string[plain..at]);
        if escape.is_empty() {
            let _ = write!(out, "\\u{byte:04x}");
        } else {
            out.push_str(escape);
        }
        plain = at + 1;
    }
    out.push_str(&string[plain..]);
    out.push('"');
}
