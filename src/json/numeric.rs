//! The text of a `numeric` from its bytes, as `numeric_out` prints it, and the bytes from the text, as
//! `numeric_in` makes them.
//!
//! Source: `NumericData` and `make_result` in `utils/adt/numeric.c`: digits of base 10000 without leading or
//! trailing zeros, the weight of the first, the sign, and how many decimal digits to show. The form has
//! been stable since PostgreSQL 9.1, which brought the short header; 14 added the infinities. `varatt.h`
//! (before 16 `postgres.h`) has the length words, stable since 8.3.

#![forbid(unsafe_code)]

use std::fmt::Write;

/// The value cannot be encoded here: the type's input function must read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfit;

const SIGN: u16 = 0xC000;
const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SPECIAL: u16 = 0xC000;
const SPECIAL_KIND: u16 = 0xF000;
const PLUS_INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_DSCALE: u16 = 0x1F80;
const SHORT_DSCALE_SHIFT: u16 = 7;
const SHORT_DSCALES: i32 = 63;
const SHORT_WEIGHT_SIGN: u16 = 0x0040;
const SHORT_WEIGHT: u16 = 0x003F;
const SHORT_WEIGHTS: std::ops::RangeInclusive<i32> = -64..=63;
const DSCALE: u16 = 0x3FFF;

/// The digits of a `numeric` varlena; `None` if the bytes are not a `numeric`.
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
            let dscale = (head & SHORT_DSCALE) >> SHORT_DSCALE_SHIFT;
            (head & SHORT_NEGATIVE != 0, dscale, weight, rest)
        }
        sign => {
            let (weight, digits) = rest.split_first_chunk()?;
            let weight = i16::from_ne_bytes(*weight) as i32;
            (sign == NEGATIVE, head & DSCALE, weight, digits)
        }
    };
    // the digit of base 10000 at this position after the leading one; zero beyond the stored digits
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

/// The bytes after the length word of a varlena, which has one byte or four.
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

/// `numeric(precision, scale)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most digits before the point.
    whole: i32,
    /// The digits after the point.
    scale: i32,
}

impl Limits {
    /// The limits of a modifier, given without the 4 of `VARHDRSZ`. `None` for a scale that is negative or
    /// larger than the precision, as PostgreSQL 15 and later allow.
    pub fn of(typmod: i32) -> Option<Limits> {
        let precision = typmod >> 16 & 0xffff;
        let scale = ((typmod & 0x7ff) ^ 1024) - 1024;
        (0..=precision).contains(&scale).then(|| Limits {
            whole: precision - scale,
            scale,
        })
    }
}

/// The most characters of a number that is read here. Longer numbers are rare.
const MAX_TEXT: usize = 256;
/// The largest exponent that is read here, positive or negative.
const MAX_EXPONENT: i32 = 256;

/// Appends the bytes of `-?digits[.digits][e[+-]digits]`, with a length word.
pub(super) fn encode_varlena(text: &[u8], out: &mut Vec<u8>) -> Result<(), Unfit> {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    encode(text, None, out)?;
    let len = (out.len() - start) as u32;
    let word = if cfg!(target_endian = "little") {
        len << 2
    } else {
        len
    };
    out[start..start + 4].copy_from_slice(&word.to_ne_bytes());
    Ok(())
}

/// Appends the bytes of `-?digits[.digits][e[+-]digits]` that follow the length word. Unfit are any other
/// text, a number with too many digits, and a number that the limits round or refuse.
pub(super) fn encode(text: &[u8], limits: Option<Limits>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    if text.len() > MAX_TEXT {
        return Err(Unfit);
    }
    let (negative, text) = match text {
        [b'-', text @ ..] => (true, text),
        _ => (false, text),
    };
    let (whole, rest) = digits(text)?;
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => digits(rest)?,
        _ => (&[][..], rest),
    };
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => exponent(rest)?,
        _ => return Err(Unfit),
    };

    let all = || whole.iter().chain(fraction);
    let zeros = all().take_while(|b| **b == b'0').count();
    let is_zero = zeros == whole.len() + fraction.len();
    // the number of digits before the point, without leading zeros; if negative, of zeros after the point
    let before = if is_zero {
        0
    } else {
        whole.len() as i32 - zeros as i32 + exponent
    };
    let scale = (fraction.len() as i32 - exponent).max(0);
    let scale = match limits {
        None => scale,
        Some(limits) if before > limits.whole || scale > limits.scale => return Err(Unfit),
        Some(limits) => limits.scale,
    };
    let negative = negative && !is_zero;
    let weight = if is_zero {
        0
    } else {
        (before - 1).div_euclid(4)
    };

    // the short header is one word, the long one two
    if scale <= SHORT_DSCALES && SHORT_WEIGHTS.contains(&weight) {
        let header = SHORT
            | if negative { SHORT_NEGATIVE } else { 0 }
            | (scale as u16) << SHORT_DSCALE_SHIFT
            | weight as u16 & (SHORT_WEIGHT_SIGN | SHORT_WEIGHT);
        out.extend_from_slice(&header.to_ne_bytes());
    } else {
        let header = if negative { NEGATIVE } else { 0 } | scale as u16;
        out.extend_from_slice(&header.to_ne_bytes());
        out.extend_from_slice(&(weight as i16).to_ne_bytes());
    }

    // groups of four digits, counted from the point
    let mut used = out.len();
    let mut missing = (before - 1).rem_euclid(4) + 1;
    let mut group = 0u16;
    for digit in all().skip(zeros) {
        group = group * 10 + u16::from(digit - b'0');
        missing -= 1;
        if missing == 0 {
            out.extend_from_slice(&group.to_ne_bytes());
            if group != 0 {
                used = out.len();
            }
            (group, missing) = (0, 4);
        }
    }
    if group != 0 {
        group *= 10u16.pow(missing as u32);
        out.extend_from_slice(&group.to_ne_bytes());
        used = out.len();
    }
    out.truncate(used);
    Ok(())
}

/// The digits, at least one, and the text after them.
fn digits(text: &[u8]) -> Result<(&[u8], &[u8]), Unfit> {
    match text.iter().take_while(|b| b.is_ascii_digit()).count() {
        0 => Err(Unfit),
        count => Ok(text.split_at(count)),
    }
}

fn exponent(text: &[u8]) -> Result<i32, Unfit> {
    let (negative, text) = match text {
        [b'-', text @ ..] => (true, text),
        [b'+', text @ ..] => (false, text),
        _ => (false, text),
    };
    let (digits, rest) = digits(text)?;
    if !rest.is_empty() {
        return Err(Unfit);
    }
    let exponent = digits.iter().try_fold(0, |n, b| {
        let n = n * 10 + i32::from(b - b'0');
        (n <= MAX_EXPONENT).then_some(n)
    });
    exponent.map(|n| if negative { -n } else { n }).ok_or(Unfit)
}
