//! Bodies: strings that hold a message, as JSON text or as JSON text in base64.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bumpalo::Bump;

use crate::json::{STRETCH, pause};
use crate::message::MessageFault;

/// How a body is read if it does not begin like JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Text,
    Base64,
}

/// Whether a text can only be JSON, because it begins like an array or an object.
pub(super) fn begins_like_json(text: &[u8]) -> bool {
    let text = text.strip_prefix(MARK.as_bytes()).unwrap_or(text);
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The byte order mark, which some programs write before a text.
const MARK: &str = "\u{feff}";

/// The text without a byte order mark at its beginning.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// What compressed the data that a text is base64 of, as far as its first bytes tell.
pub(super) fn compression(text: &str, arena: &Bump) -> Option<&'static str> {
    let text = text.trim_ascii_start();
    match text.as_bytes().get(..5)? {
        [b'H', b'4', b's', b'I', _] => Some("gzip"),
        [b'K', b'L', b'U', b'v', b'/' | b'_'] => Some("zstd"),
        // the second byte tells how well zlib was to compress; then the data is no text
        [b'e', b'A' | b'F' | b'J' | b'N', ..] => {
            let fault = decode(text, arena).err();
            fault.and_then(|fault| (fault == MessageFault::NotUtf8).then_some("zlib"))
        }
        _ => None,
    }
}

/// Decodes base64 as [`decode`] does, and names what compressed the data.
pub(super) fn decode_named<'a>(text: &str, arena: &'a Bump) -> Result<&'a str, MessageFault> {
    decode(text, arena).map_err(|fault| match compression(text, arena) {
        Some(by) => MessageFault::Compressed(by),
        None => fault,
    })
}

/// Whether a string can only be a body: JSON text, or base64 of JSON text or of compressed data.
pub(super) fn is_body(text: &str, arena: &Bump) -> bool {
    begins_like_json(text.as_bytes())
        || decode(text, arena).is_ok_and(|text| begins_like_json(text.as_bytes()))
        || compression(text, arena).is_some()
}

/// Whether a text is no JSON, and may be base64 of JSON or of compressed data, by its first byte.
pub(super) fn may_be_base64(text: &str) -> bool {
    matches!(
        text.trim_ascii_start().as_bytes().first(),
        Some(b'e' | b'W' | b'C' | b'I' | b'H' | b'K')
    )
}

/// Decodes base64 of either alphabet, with or without padding, also in lines.
pub(super) fn decode<'a>(text: &str, arena: &'a Bump) -> Result<&'a str, MessageFault> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

    let engine = if text.bytes().any(|b| matches!(b, b'-' | b'_')) {
        URL_SAFE
    } else {
        STANDARD
    };
    let mut text = text.trim_ascii();
    pause();
    if text.bytes().any(|b| matches!(b, b'\n' | b'\r')) {
        text = arena.alloc_str(&without_breaks(text));
    }
    let room = arena.alloc_slice_fill_copy(base64::decoded_len_estimate(text.len()), 0);
    let (mut len, mut rest) = (0, text.as_bytes());
    loop {
        let (part, others) = rest.split_at(rest.len().min(PART));
        // only the end may be padded
        if !others.is_empty() && part.ends_with(b"=") {
            return Err(MessageFault::NotBase64);
        }
        len += engine
            .decode_slice(part, &mut room[len..])
            .map_err(|_| MessageFault::NotBase64)?;
        if others.is_empty() {
            break;
        }
        rest = others;
        pause();
    }
    std::str::from_utf8(&room[..len]).map_err(|_| MessageFault::NotUtf8)
}

/// How many characters of base64 are decoded between two pauses: a multiple of the four that make three bytes.
const PART: usize = STRETCH;

/// How many lines are joined between two pauses.
const LINES: usize = 1 << 14;

/// A text without its line breaks.
fn without_breaks(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for (n, line) in text.split(['\n', '\r']).enumerate() {
        if n.is_multiple_of(LINES) {
            pause();
        }
        joined.push_str(line);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::pauses;

    fn pauses_of(text: &str) -> usize {
        pauses(|| assert!(decode(text, &Bump::new()).is_ok(), "{}", text.len()))
    }

    #[test]
    fn decoding_pauses_before_each_part() {
        for parts in [1, 2, 5] {
            assert_eq!(pauses_of(&"e30g".repeat(parts * PART / 4)), parts);
        }
    }

    #[test]
    fn joining_lines_pauses_before_each_stretch_of_them() {
        for stretches in [1, 2, 5] {
            let breaks = "\n".repeat(stretches * LINES - 1);
            assert_eq!(pauses_of(&format!("e{breaks}30")), 1 + stretches);
        }
    }
}
