//! Messages in strings: JSON text, or base64 of it.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bumpalo::Bump;

use super::shape::{Reader, Shape};
use crate::json::{Json, Scanner};
use crate::message::MessageFault;

/// What a string is if it does not say so itself by beginning like JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Text,
    Base64,
}

impl<'a> Reader<'a> {
    /// A string that is the body of a message. `certain` is where the envelope leaves no doubt, as
    /// in the records of a Lambda event: there a body that is not JSON is a dead message. Elsewhere
    /// it is the value of a column that happens to be called `body`.
    pub(super) fn body(
        &mut self,
        value: Json<'a>,
        encoding: Encoding,
        certain: bool,
        level: u32,
    ) -> Shape<'a> {
        let text = match self.str(value) {
            Some(Ok(text)) => text,
            Some(Err(fault)) if certain => {
                self.dead(value.text(), fault.into());
                return Shape::Known;
            }
            _ => return Shape::Unknown(value),
        };
        if begins_like_json(text.as_bytes()) {
            self.nested(text, level);
            return Shape::Known;
        }
        match decode(text, self.arena()) {
            Ok(decoded) if begins_like_json(decoded.as_bytes()) => self.nested(decoded, level),
            _ if !certain => return Shape::Unknown(value),
            _ if encoding == Encoding::Text => self.nested(text, level),
            Ok(decoded) => self.nested(decoded, level),
            Err(fault) => self.dead(text.into(), fault),
        }
        Shape::Known
    }

    /// A text inside of the batch, with a fault of its own.
    fn nested(&mut self, text: &'a str, level: u32) {
        let first = self.items.len();
        if let Err(fault) = self.text(&mut Scanner::new(text), level + 1) {
            self.items.truncate(first);
            self.dead(text.into(), MessageFault::NotJson(fault));
        }
    }
}

/// Whether a text can only be JSON: an array or an object.
pub(super) fn begins_like_json(text: &[u8]) -> bool {
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// The text that is behind base64 of either alphabet, with or without padding.
fn decode<'a>(text: &str, arena: &'a Bump) -> Result<&'a str, MessageFault> {
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
