//! The text of a `numeric` from its bytes: what `numeric_out` does.

use std::fmt::Write;

const SIGN: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;
const SPECIAL_KIND: u16 = 0xF000;
const PLUS_INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_DSCALE: u16 = 0x1F80;
const SHORT_WEIGHT_SIGN: u16 = 0x0040;
const SHORT_WEIGHT: u16 = 0x003F;
const DSCALE: u16 = 0x3FFF;

/// The digits of a `numeric` varlena; `None` if the bytes are not one.
pub(super) fn numeric_text(varlena: &[u8]) -> Option<String> {
    let number = payload(varlena)?;
    let (head, rest) = number.split_first_chunk()?;
    let head = u16::from_ne_bytes(*head);
    let (negative, dscale, weight, digits) = match head & SIGN {
        SPECIAL => {
            return Some(
                match head & SPECIAL_KIND {
                    PLUS_INFINITY => "Infinity",
                    MINUS_INFINITY => "-Infinity",
                    _ => "NaN",
                }
                .to_owned(),
            );
        }
        SHORT => {
            let low = (head & SHORT_WEIGHT) as i32;
            let weight = if head & SHORT_WEIGHT_SIGN != 0 {
                low - 64
            } else {
                low
            };
            let dscale = (head & SHORT_DSCALE) >> 7;
            (head & SHORT_NEGATIVE != 0, dscale, weight, rest)
        }
        sign => {
            let (weight, digits) = rest.split_first_chunk()?;
            let weight = i16::from_ne_bytes(*weight) as i32;
            (sign == NEGATIVE, head & DSCALE, weight, digits)
        }
    };
    // the digit of 10000^-position after the leading one; zero outside of what is stored
    let digit = |position: i32| -> u16 {
        usize::try_from(position)
            .ok()
            .and_then(|i| digits.get(2 * i..2 * i + 2))
            .map_or(0, |pair| u16::from_ne_bytes([pair[0], pair[1]]))
    };
    let mut out = String::with_capacity(weight.max(0) as usize * 4 + dscale as usize + 8);
    if negative {
        out.push('-');
    }
    if weight < 0 {
        out.push('0');
    } else {
        let _ = write!(out, "{}", digit(0));
        for position in 1..=weight {
            let _ = write!(out, "{:04}", digit(position));
        }
    }
    if dscale > 0 {
        out.push('.');
        let end = out.len() + dscale as usize;
        let mut position = weight + 1;
        while out.len() < end {
            let _ = write!(out, "{:04}", digit(position));
            position += 1;
        }
        out.truncate(end);
    }
    Some(out)
}

/// What follows the length word of a varlena, which may be of one byte or of four.
fn payload(varlena: &[u8]) -> Option<&[u8]> {
    let first = *varlena.first()?;
    let (short, short_len) = if cfg!(target_endian = "little") {
        (first & 1 == 1, first >> 1)
    } else {
        (first & 0x80 != 0, first & 0x7F)
    };
    if short {
        return varlena.get(1..short_len as usize);
    }
    let word = u32::from_ne_bytes(*varlena.first_chunk()?);
    let len = if cfg!(target_endian = "little") {
        word >> 2
    } else {
        word & 0x3FFF_FFFF
    };
    varlena.get(4..len as usize)
}
