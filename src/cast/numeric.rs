//! `numeric` from its digits, in the server's own form.
//!
//! Source: `NumericData` and `make_result` in `utils/adt/numeric.c`: base 10000 digits without
//! leading or trailing zeros, the weight of the first, the sign, and how many decimal digits to show.

/// `numeric(precision, scale)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Digits before the point.
    whole: usize,
    /// Digits after it.
    scale: usize,
}

impl Limits {
    /// Of a modifier without the header's 4; `None` for a negative scale or one that is larger than
    /// the precision, which PostgreSQL 15 has brought.
    pub(super) fn of(typmod: i32) -> Option<Limits> {
        let precision = typmod >> 16 & 0xffff;
        let scale = ((typmod & 0x7ff) ^ 1024) - 1024;
        (0..=precision).contains(&scale).then(|| Limits {
            whole: (precision - scale) as usize,
            scale: scale as usize,
        })
    }
}

/// Digits that are looked at here; more are rare.
const MAX_DIGITS: usize = 128;
/// Header, and both parts rounded up to whole groups of four digits.
const MAX_BYTES: usize = 4 + 2 * (MAX_DIGITS / 4 + 2);

const NEGATIVE: u16 = 0x4000;
const SHORT: u16 = 0x8000;
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE_SHIFT: u16 = 7;
const SHORT_WEIGHT_NEGATIVE: u16 = 0x40;
const SHORT_WEIGHT: u16 = 0x3f;
const SHORT_SCALES: usize = 63;
const SHORT_WEIGHTS: std::ops::RangeInclusive<i16> = -64..=63;

/// Room for one number.
pub(super) struct Buffer {
    bytes: [u8; MAX_BYTES],
}

impl Buffer {
    pub(super) fn new() -> Buffer {
        Buffer {
            bytes: [0; MAX_BYTES],
        }
    }

    /// The bytes of `-?digits[.digits]` after the length word; `None` for any other text, for too
    /// many digits, and for what the limits round or refuse.
    pub(super) fn encode(&mut self, text: &[u8], limits: Option<Limits>) -> Option<&[u8]> {
        let (negative, text) = match text {
            [b'-', text @ ..] => (true, text),
            _ => (false, text),
        };
        let point = text.iter().position(|b| *b == b'.');
        let (whole, fraction) = match point {
            Some(point) => (&text[..point], &text[point + 1..]),
            None => (text, &[][..]),
        };
        let too_many = text.len() > MAX_DIGITS;
        if too_many || whole.is_empty() || point.is_some() && fraction.is_empty() {
            return None;
        }
        if !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        let leading = whole.iter().take_while(|b| **b == b'0').count();
        let whole = &whole[leading..];
        let scale = match limits {
            None => fraction.len(),
            Some(limits) if whole.len() > limits.whole || fraction.len() > limits.scale => {
                return None;
            }
            Some(limits) => limits.scale,
        };

        // groups of four digits, counted from the point
        let first = whole.len() % 4;
        let groups = (first > 0)
            .then_some(&whole[..first])
            .into_iter()
            .chain(whole[first..].chunks(4))
            .map(value)
            .chain(fraction.chunks(4).map(|group| {
                let missing = 4 - group.len() as u32;
                value(group) * 10u16.pow(missing)
            }));
        let mut weight = whole.len().div_ceil(4) as i16 - 1;
        let (mut end, mut used) = (4, 4);
        for group in groups {
            if group == 0 && end == 4 {
                weight -= 1;
                continue;
            }
            self.bytes[end..end + 2].copy_from_slice(&group.to_ne_bytes());
            end += 2;
            if group != 0 {
                used = end;
            }
        }
        let zero = used == 4;
        let (negative, weight) = (negative && !zero, if zero { 0 } else { weight });

        // the short header is one word, the long one two
        if scale <= SHORT_SCALES && SHORT_WEIGHTS.contains(&weight) {
            let header = SHORT
                | if negative { SHORT_NEGATIVE } else { 0 }
                | (scale as u16) << SHORT_SCALE_SHIFT
                | if weight < 0 { SHORT_WEIGHT_NEGATIVE } else { 0 }
                | weight as u16 & SHORT_WEIGHT;
            self.bytes[2..4].copy_from_slice(&header.to_ne_bytes());
            return Some(&self.bytes[2..used]);
        }
        let header = if negative { NEGATIVE } else { 0 } | scale as u16;
        self.bytes[0..2].copy_from_slice(&header.to_ne_bytes());
        self.bytes[2..4].copy_from_slice(&weight.to_ne_bytes());
        Some(&self.bytes[..used])
    }
}

fn value(digits: &[u8]) -> u16 {
    digits.iter().fold(0, |n, b| n * 10 + u16::from(b - b'0'))
}
