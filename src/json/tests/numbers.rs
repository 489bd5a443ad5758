//! Numbers as `numeric` stores and prints them.

#![forbid(unsafe_code)]

use proptest::prelude::*;

use super::generators::number;
use crate::json::Encoder;
use crate::json::numeric::{self, Limits, numeric_text};

/// A `numeric` varlena; with `long`, in the long format.
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

/// The parts of a decimal number with or without an exponent: whether it is negative, the digits before the
/// point, the digits after it.
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

/// A length word of four bytes.
fn length_word(bytes: usize) -> [u8; 4] {
    let len = bytes as u32 + 4;
    let word = if cfg!(target_endian = "little") {
        len << 2
    } else {
        len
    };
    word.to_ne_bytes()
}

/// The number that the encoder writes for a column of this precision and scale; `None` if the number is left
/// to the server.
fn limited(text: &str, precision: i32, scale: i32) -> Option<String> {
    let limits = Limits::of(precision << 16 | (scale & 0x7ff)).expect("limits");
    let mut encoder = Encoder::default();
    let datum = encoder.numeric(text, Some(limits)).ok()?;
    numeric_text(&[&length_word(datum.len()), datum].concat())
}

#[test]
fn numbers_fit_the_column_or_are_left_to_the_server() {
    for (text, expected) in [
        ("0", "0.00"),
        ("-0", "0.00"),
        ("1.5", "1.50"),
        ("-999.99", "-999.99"),
        ("0.0001e2", "0.01"),
        ("12e1", "120.00"),
    ] {
        assert_eq!(limited(text, 5, 2).as_deref(), Some(expected));
    }
    for text in [
        "1000", "100e1", "1.234", "-1e-3", "0.001", "0.000", "x", "", "1e", "1.", "1e+", "1e2x",
    ] {
        assert_eq!(limited(text, 5, 2), None, "{text}");
    }
    assert_eq!(limited("12345", 5, 0).as_deref(), Some("12345"));
    assert_eq!(limited("0.12345", 5, 5).as_deref(), Some("0.12345"));
    assert_eq!(limited("1.2345", 5, 5), None);
    assert_eq!(limited("0", 5, 5).as_deref(), Some("0.00000"));
    let widest = "9".repeat(200);
    assert_eq!(limited(&widest, 1000, 0), Some(widest));
}

#[test]
fn modifiers_that_only_later_servers_take_are_left_to_them() {
    let of = |precision: i32, scale: i32| Limits::of(precision << 16 | (scale & 0x7ff));
    assert!(of(5, 0).is_some() && of(5, 5).is_some() && of(1000, 1000).is_some());
    assert!(of(5, 6).is_none() && of(5, -1).is_none());
}

#[test]
fn numbers_of_any_length_are_read_or_left_to_the_server() {
    let mut encoder = Encoder::default();
    let one = encoder.numeric("1", None).unwrap().to_vec();
    assert_eq!(encoder.numeric("1", None).unwrap(), one);
    let mut fits = |text: &str| encoder.numeric(text, None).is_ok();
    assert!(fits(&"1".repeat(256)) && !fits(&"1".repeat(257)));
    assert!(fits("1e256") && !fits("1e257"));
    assert!(fits("1e-256") && !fits("1e-257"));
}

#[test]
fn the_header_is_short_where_it_can_be() {
    let is_short = |text: &str| {
        let bytes = numeric(text, false);
        u16::from_ne_bytes([bytes[4], bytes[5]]) & 0x8000 != 0
    };
    let small = |scale: usize| format!("0.{}1", "0".repeat(scale - 1));
    assert!(is_short(&small(63)) && !is_short(&small(64)));
    // the short header's weight ends between these two
    assert!(is_short("1e252") && !is_short("1e256"));
}

/// A varlena with a length word of one byte, which small numbers have in stored rows.
#[test]
fn numerics_with_a_short_length() {
    for number in ["0", "-12.5", "123456789.0001"] {
        let long = numeric(number, false);
        let len = long.len() as u8 - 3;
        let byte = if cfg!(target_endian = "little") {
            len << 1 | 1
        } else {
            len | 0x80
        };
        let mut short = vec![byte];
        short.extend(&long[4..]);
        assert_eq!(numeric_text(&short).as_deref(), Some(number));
        assert_eq!(numeric_text(&short[..short.len() - 1]), None);
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
