//! Bodies: strings that hold a message, as JSON text or as JSON text in base64.

#![forbid(unsafe_code)]

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bumpalo::Bump;

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

/// Whether a text is base64 of data that gzip compressed, by its first three bytes.
pub(super) fn is_compressed(text: &str) -> bool {
    text.trim_ascii_start().starts_with("H4sI")
}

/// Whether a string can only be a body: JSON text, or base64 of JSON text or of compressed data.
pub(super) fn is_body(text: &str, arena: &Bump) -> bool {
    begins_like_json(text.as_bytes())
        || is_compressed(text)
        || decode(text, arena).is_ok_and(|text| begins_like_json(text.as_bytes()))
}

/// Decodes base64 of either alphabet, with or without padding.
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
    let text = text.trim_ascii();
    let room = arena.alloc_slice_fill_copy(base64::decoded_len_estimate(text.len()), 0);
    let len = engine
        .decode_slice(text, room)
        .map_err(|_| MessageFault::NotBase64)?;
    std::str::from_utf8(&room[..len]).map_err(|_| MessageFault::NotUtf8)
}
