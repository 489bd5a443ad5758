//! Numbers as `numeric` stores and prints them.

#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::generators::number;
use crate::json::numeric::{self, numeric_text};

/// A `numeric` varlena; in the long format on demand.
fn numeric(text: &str, long: bool) -> Vec<u8> {
    let mut out = Vec::new();
    numeric::encode_varlena(text.as_bytes(), &mut out).unwrap();
    let head = u16::from_ne_bytes([out[4], out[5]]);
    if !long || head & 0x8000 == 0 {
        return out;
    }
    let sign = if head & 0x2000 == 0 { 0 } else { 0x4000 };
    let weight = ((head & 0x7F) as i16) << 9 >> 9;
    let mut words = Vec::from((sign | (head & 0x1F80) >> 7).to_ne_bytes());
    words.extend(weight.to_ne_bytes());
    out.splice(4..6, words);
    let len = out.len() as u32;
    let word = if cfg!(target_endian = "little") {
        len << 2
    } else {
        len
    };
    out[..4].copy_from_slice(&word.to_ne_bytes());
    out
}

/// The sign, the digits before and after the point and how many of the latter there are, of a
/// decimal number with or without an exponent.
fn parts(text: &str) -> (bool, String, String) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap();
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}");
    let mut point = whole.len() as i32 + exponent;
    while point < 0 {
        digits.insert(0, '0');
        point += 1;
    }
    while (digits.len() as i32) < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point as usize);
    let zero = digits.bytes().all(|b| b == b'0');
    let whole = whole.trim_start_matches('0').to_owned();
    (negative && !zero, whole, fraction.to_owned())
}

/// A number as `numeric` prints it.
pub(super) fn numeric_out(text: &str) -> String {
    let (negative, whole, fraction) = parts(text);
    let sign = if negative { "-" } else { "" };
    let whole = if whole.is_empty() { "0" } else { &whole };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn numerics_are_printed_as_the_server_does(number in number(), long in any::<bool>()) {
        prop_assert_eq!(numeric_text(&numeric(&number, long)).unwrap(), numeric_out(&number));
    }
}

#[test]
fn special_numerics() {
    let special = |head: u16| {
        let mut bytes = (if cfg!(target_endian = "little") {
            6_u32 << 2
        } else {
            6
        })
        .to_ne_bytes()
        .to_vec();
        bytes.extend(head.to_ne_bytes());
        numeric_text(&bytes)
    };
    assert_eq!(special(0xC000).unwrap(), "NaN");
    assert_eq!(special(0xD000).unwrap(), "Infinity");
    assert_eq!(special(0xF000).unwrap(), "-Infinity");
    assert_eq!(numeric_text(&[]), None);
    assert_eq!(numeric_text(&[1, 2, 3, 4, 5, 6]), None);
}
