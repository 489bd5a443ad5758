//! The tokens of JSON text, by position.
//!
//! The lexer takes exactly the tokens of RFC 8259. `\u0000` and lone surrogates are valid there. Only
//! [`unescape`], which runs on demand, rejects them.
//!
//! The functions take positions, return positions and change nothing, so that they run in registers. This
//! brought the time of skipping a message of 890 bytes from 600 ns to 410 ns. A result of more than two
//! registers goes through memory unless the function is inlined. `inline(always)` therefore brought the
//! time of reading a message from 1000 ns to 740 ns.

#![forbid(unsafe_code)]

use super::kind::{JsonFault, StringFault};
use super::pause::{Pauses, STRETCH, pause_at_byte};

pub(super) const VALUE: &str = "a JSON value";
pub(super) const FIRST_KEY: &str = "a string or \"}\"";
pub(super) const AFTER_MEMBER: &str = "\",\" or \"}\"";
pub(super) const AFTER_ELEMENT: &str = "\",\" or \"]\"";

/// The fault of a text that cannot be JSON at this byte.
#[cold]
pub(super) fn fault(text: &str, byte: usize, expected: &'static str) -> JsonFault {
    let next = text.get(byte..).and_then(|rest| rest.chars().next());
    JsonFault {
        byte,
        expected,
        found: match next {
            None => "the end of the text".to_owned(),
            Some(c) if c.is_control() => format!("the control character U+{:04X}", c as u32),
            Some(c) => format!("\"{c}\""),
        },
    }
}

/// The place where the text stops being JSON, and the expected text.
pub(super) struct Stop(pub(super) usize, pub(super) &'static str);

/// The end of the white space at `pos`.
#[inline]
pub(super) fn white(bytes: &[u8], mut pos: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(pos) {
        pause_at_byte(pos);
        pos += 1;
    }
    pos
}

/// Where a key ends and its value begins.
pub(super) struct Key {
    /// The key's closing quote.
    pub(super) end: usize,
    /// Where the member's value begins.
    pub(super) value: usize,
    pub(super) escaped: bool,
}

/// Reads a key and the colon after it.
#[inline(always)]
pub(super) fn key(bytes: &[u8], pos: usize) -> Result<Key, Stop> {
    if bytes.get(pos) != Some(&b'"') {
        return Err(Stop(pos, "a string"));
    }
    let (after, escaped) = string(bytes, pos)?;
    let colon = white(bytes, after);
    if bytes.get(colon) != Some(&b':') {
        return Err(Stop(colon, "\":\""));
    }
    Ok(Key {
        end: after - 1,
        value: white(bytes, colon + 1),
        escaped,
    })
}

/// The end of the string whose opening quote is at `pos`, and whether it has an escape.
#[inline(always)]
pub(super) fn string(bytes: &[u8], pos: usize) -> Result<(usize, bool), Stop> {
    let mut pos = plain(bytes, pos + 1);
    let mut pauses = Pauses::from(pos);
    let mut escaped = false;
    loop {
        match bytes.get(pos) {
            Some(b'"') => return Ok((pos + 1, escaped)),
            Some(b'\\') => {
                escaped = true;
                pauses.at(pos);
                pos = plain(bytes, escape(bytes, pos)?);
            }
            _ => return Err(Stop(pos, "a character of a string or its closing quote")),
        }
    }
}

/// The end of the escape whose backslash is at `pos`.
#[inline]
fn escape(bytes: &[u8], pos: usize) -> Result<usize, Stop> {
    match bytes.get(pos + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(pos + 2),
        Some(b'u') => {
            let hex = |at: &usize| !bytes.get(*at).is_some_and(u8::is_ascii_hexdigit);
            match (pos + 2..pos + 6).find(hex) {
                Some(at) => Err(Stop(at, "a hexadecimal digit")),
                None => Ok(pos + 6),
            }
        }
        _ => Err(Stop(pos + 1, "one of \"\\/bfnrtu after a backslash")),
    }
}

/// The end of the number or word at `pos`.
#[inline]
pub(super) fn scalar(bytes: &[u8], pos: usize) -> Result<usize, Stop> {
    match bytes.get(pos) {
        Some(b'-' | b'0'..=b'9') => number(bytes, pos),
        Some(b'n') => word(bytes, pos, "null"),
        Some(b't') => word(bytes, pos, "true"),
        Some(b'f') => word(bytes, pos, "false"),
        _ => Err(Stop(pos, VALUE)),
    }
}

#[inline]
fn number(bytes: &[u8], mut pos: usize) -> Result<usize, Stop> {
    if bytes.get(pos) == Some(&b'-') {
        pos += 1;
    }
    if bytes.get(pos) == Some(&b'0') {
        pos += 1;
        if bytes.get(pos).is_some_and(u8::is_ascii_digit) {
            return Err(Stop(pos, "no digit after a leading zero"));
        }
    } else {
        pos = digits(bytes, pos)?;
    }
    if bytes.get(pos) == Some(&b'.') {
        pos = digits(bytes, pos + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(pos) {
        pos += 1;
        if let Some(b'+' | b'-') = bytes.get(pos) {
            pos += 1;
        }
        pos = digits(bytes, pos)?;
    }
    Ok(pos)
}

#[inline]
fn digits(bytes: &[u8], start: usize) -> Result<usize, Stop> {
    let mut pos = start;
    while bytes.get(pos).is_some_and(u8::is_ascii_digit) {
        pause_at_byte(pos);
        pos += 1;
    }
    if pos == start {
        return Err(Stop(pos, "a digit"));
    }
    Ok(pos)
}

#[inline]
fn word(bytes: &[u8], pos: usize, word: &'static str) -> Result<usize, Stop> {
    let rest = &bytes[pos..];
    if rest.starts_with(word.as_bytes()) {
        return Ok(pos + word.len());
    }
    let same = rest.iter().zip(word.bytes()).take_while(|(a, b)| *a == b);
    Err(Stop(pos + same.count(), word))
}

/// The end of the array or object at `pos`, however deep it is: a level costs one bit and no stack.
pub(super) fn container(bytes: &[u8], pos: usize) -> Result<usize, Stop> {
    // the text of most messages is too short for a pause
    if bytes.get(pos + STRETCH).is_some() {
        container_of::<true>(bytes, pos)
    } else {
        container_of::<false>(bytes, pos)
    }
}

fn container_of<const PAUSES: bool>(bytes: &[u8], mut pos: usize) -> Result<usize, Stop> {
    let mut open = Open::default();
    let mut pauses = Pauses::from(pos);
    loop {
        if PAUSES {
            pauses.at(pos);
        }
        match bytes.get(pos) {
            Some(b'"') => pos = string(bytes, pos)?.0,
            Some(b'{') => {
                pos = white(bytes, pos + 1);
                match bytes.get(pos) {
                    Some(b'"') => {
                        open.push(true);
                        pos = key(bytes, pos)?.value;
                        continue;
                    }
                    Some(b'}') => pos += 1,
                    _ => return Err(Stop(pos, FIRST_KEY)),
                }
            }
            Some(b'[') => {
                pos = white(bytes, pos + 1);
                if bytes.get(pos) != Some(&b']') {
                    open.push(false);
                    continue;
                }
                pos += 1;
            }
            _ => pos = scalar(bytes, pos)?,
        }
        // A value has ended: read on after it, and after the brackets that close here.
        loop {
            let Some(object) = open.top() else {
                return Ok(pos);
            };
            pos = white(bytes, pos);
            match bytes.get(pos) {
                Some(b',') => {
                    pos = white(bytes, pos + 1);
                    if object {
                        pos = key(bytes, pos)?.value;
                    }
                    break;
                }
                Some(b'}') if object => {}
                Some(b']') if !object => {}
                _ if object => return Err(Stop(pos, AFTER_MEMBER)),
                _ => return Err(Stop(pos, AFTER_ELEMENT)),
            }
            pos += 1;
            open.pop();
            if PAUSES {
                pauses.at(pos);
            }
        }
    }
}

/// A bit for each open container, the innermost lowest: whether it is an object.
#[derive(Default)]
struct Open {
    depth: usize,
    /// The innermost containers, up to 64.
    bits: u64,
    /// The other containers, in words of 64.
    outer: Vec<u64>,
}

impl Open {
    #[inline]
    fn push(&mut self, object: bool) {
        if self.depth.is_multiple_of(64) && self.depth > 0 {
            self.outer.push(self.bits);
        }
        self.bits = self.bits << 1 | u64::from(object);
        self.depth += 1;
    }

    #[inline]
    fn pop(&mut self) {
        self.bits >>= 1;
        self.depth -= 1;
        if self.depth.is_multiple_of(64) && self.depth > 0 {
            self.bits = self.outer.pop().unwrap_or(0);
        }
    }

    #[inline]
    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 == 1)
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);

/// The first position from `pos` on with a quote, a backslash or a control character. The search takes eight
/// bytes at a time, because strings are most of a batch.
#[inline(always)]
fn plain(bytes: &[u8], mut pos: usize) -> usize {
    while let Some((word, _)) = bytes.get(pos..).and_then(|rest| rest.split_first_chunk()) {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        // A byte's high bit is set if the byte is below 0x20, or zero after the xor. A borrow can set a bit
        // wrongly, but only above a bit that is set rightly, and only the lowest bit counts.
        let special = (word.wrapping_sub(ONES * 0x20) & !word
            | quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash)
            & HIGHS;
        if special != 0 {
            return pos + special.trailing_zeros() as usize / 8;
        }
        pos += 8;
    }
    while let Some(b) = bytes.get(pos)
        && !matches!(b, b'"' | b'\\' | ..0x20)
    {
        pos += 1;
    }
    pos
}

/// Writes the characters of a valid string over the start of `out`, which must be as long as `raw`, and
/// returns how many bytes they take. For an escape that `text` in PostgreSQL cannot hold, `fault` gives
/// another character or fails.
pub(super) fn unescape(
    raw: &[u8],
    out: &mut [u8],
    fault: impl Fn(StringFault) -> Result<char, StringFault>,
) -> Result<usize, StringFault> {
    let (mut from, mut to) = (0, 0);
    let mut pauses = Pauses::default();
    while let Some(rest) = raw.get(from..).filter(|rest| !rest.is_empty()) {
        pauses.at(from);
        // `to` is never beyond `from`: there is room for a whole word.
        if let Some(word) = rest.first_chunk::<8>() {
            out[to..to + 8].copy_from_slice(word);
            let backslash = u64::from_le_bytes(*word) ^ (ONES * b'\\' as u64);
            let found = backslash.wrapping_sub(ONES) & !backslash & HIGHS;
            let plain = found.trailing_zeros() as usize / 8;
            from += plain;
            to += plain;
            if found == 0 {
                continue;
            }
        } else if rest[0] != b'\\' {
            out[to] = rest[0];
            from += 1;
            to += 1;
            continue;
        }
        let escape = &raw[from + 1..];
        let (c, len) = match escape.first() {
            Some(b'b') => ('\u{8}', 1),
            Some(b'f') => ('\u{c}', 1),
            Some(b'n') => ('\n', 1),
            Some(b'r') => ('\r', 1),
            Some(b't') => ('\t', 1),
            Some(b'u') => match code_point(escape) {
                (Ok(c), len) => (c, len),
                (Err(what), len) => (fault(what)?, len),
            },
            Some(itself) => (*itself as char, 1),
            None => break,
        };
        to += c.encode_utf8(&mut out[to..]).len();
        from += 1 + len;
    }
    Ok(to)
}

/// The first string or key of a valid text that `text` in PostgreSQL cannot hold: `jsonb_in` raises the same error,
/// but takes several times the memory of a large text before it does.
pub fn string_fault(text: &str) -> Option<StringFault> {
    let bytes = text.as_bytes();
    let mut characters = Vec::new();
    let mut pos = 0;
    let mut pauses = Pauses::default();
    while let Some(byte) = bytes.get(pos) {
        pauses.at(pos);
        if *byte != b'"' {
            pos += 1;
            continue;
        }
        let (end, escaped) = string(bytes, pos).ok()?;
        if escaped {
            let raw = &bytes[pos + 1..end - 1];
            characters.resize(raw.len(), 0);
            if let Err(fault) = unescape(raw, &mut characters, Err) {
                return Some(fault);
            }
        }
        pos = end;
    }
    None
}

/// The character of `uXXXX`, or of `uXXXX\uXXXX` if the two are a surrogate pair, and the length read.
fn code_point(escape: &[u8]) -> (Result<char, StringFault>, usize) {
    let high = unit(escape).unwrap_or(0);
    if high == 0 {
        return (Err(StringFault::Nul), 5);
    }
    if let Some(c) = char::from_u32(high) {
        return (Ok(c), 5);
    }
    let low = escape.get(5..).and_then(|rest| rest.strip_prefix(b"\\"));
    match low.and_then(unit) {
        Some(low @ 0xDC00..0xE000) if high < 0xDC00 => {
            let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
            (char::from_u32(code).ok_or(StringFault::LoneSurrogate), 11)
        }
        _ => (Err(StringFault::LoneSurrogate), 5),
    }
}

/// The code unit of `uXXXX`.
fn unit(escape: &[u8]) -> Option<u32> {
    let digits = escape.strip_prefix(b"u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit << 4 | (*digit as char).to_digit(16)?)
    })
}
