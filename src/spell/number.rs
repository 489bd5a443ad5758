//! Exact whole numbers from decimal text.

#![forbid(unsafe_code)]

/// A decimal text as a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    /// A number between -10^20 and 10^20.
    Number(i128),
    /// A number larger than any integer type holds.
    TooLarge,
    /// Not a whole number: a digit other than 0 stands after the point.
    Fraction,
}

/// A larger exponent is read as this exponent. The number is too large either way, and nothing overflows.
const HUGE_EXPONENT: i64 = 1 << 40;

/// From this exponent on, powers of ten do not fit 64 bits.
const TOO_LARGE: i64 = 20;

/// The whole number that `[+-]digits[.digits][e[+-]digits]` gives; `None` for any other text. Nothing is
/// allocated, however large the exponent.
pub(super) fn whole(text: &str) -> Option<Whole> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, parse_exponent(exponent)?),
        None => (rest, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || before.bytes().chain(after.bytes());
    if before.is_empty() && after.is_empty() || !digits().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let last = (before.len() + after.len()) as i64 - 1;
    let Some(first_used) = digits().position(|b| b != b'0') else {
        return Some(Whole::Number(0));
    };
    // `lowest` is the power of ten of the last digit; the trailing zeros lead on to the last digit that is not 0
    let lowest = exponent - after.len() as i64;
    let trailing = after
        .bytes()
        .rev()
        .chain(before.bytes().rev())
        .take_while(|b| *b == b'0')
        .count() as i64;
    if lowest + trailing < 0 {
        return Some(Whole::Fraction);
    }
    if lowest + last - first_used as i64 >= TOO_LARGE {
        return Some(Whole::TooLarge);
    }
    let used = (last + 1 - trailing) as usize;
    let number = digits()
        .take(used)
        .skip(first_used)
        .fold(0i128, |n, b| n * 10 + i128::from(b - b'0'));
    let number = number * 10i128.pow((lowest + trailing) as u32);
    Some(Whole::Number(if negative { -number } else { number }))
}

fn parse_exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = digits
        .parse::<i64>()
        .map_or(HUGE_EXPONENT, |e| e.min(HUGE_EXPONENT));
    Some(if negative { -exponent } else { exponent })
}
