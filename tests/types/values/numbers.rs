//! Numbers.

use support::Random;

use super::{Type, add_readable, add_unreadable, edge};
use crate::spelling::Of;

/// A number of up to so many bits, small ones as often as large.
pub(super) fn integer(random: &mut Random, bits: u64) -> String {
    let magnitude = random.below(1 << 52) << 11 | random.below(1 << 11);
    let magnitude = magnitude >> (64 - bits + random.below(bits - 1)).min(63);
    format!("{}{magnitude}", random.of(&["", "-"]))
}

pub(super) fn digits(random: &mut Random, most: u64) -> String {
    let only = *random.of(&["0123456789", "0123456789", "09", "0", "9"]);
    (0..random.below(most + 1))
        .map(|_| char::from(*random.of(only.as_bytes())))
        .collect()
}

pub(super) fn decimal(random: &mut Random) -> String {
    let most = *random.of(&[3, 8, 8, 30, 30, 200, 3000]);
    let (sign, whole) = (*random.of(&["", "-"]), digits(random, most));
    let fraction = if random.below(3) > 0 {
        digits(random, most)
    } else {
        String::new()
    };
    format!("{sign}0{whole}.{fraction}")
}

pub(super) fn small_decimal(random: &mut Random) -> String {
    format!("{}.{:02}", integer(random, 24), random.below(100))
}

pub(super) fn double(random: &mut Random) -> String {
    let bits = random.below(1 << 52) << 12 ^ random.below(1 << 52);
    match random.below(4) {
        0 => small_decimal(random),
        1 => format!("{}", random.below(1000) as i64 - 500),
        _ => {
            let number = f64::from_bits(bits);
            if number.is_finite() {
                format!("{number:e}")
            } else {
                "1".to_owned()
            }
        }
    }
}

fn single(random: &mut Random) -> String {
    let number = f32::from_bits(random.below(1 << 32) as u32);
    if number.is_finite() {
        format!("{number:e}")
    } else {
        small_decimal(random)
    }
}

pub(super) fn numbers(types: &mut Vec<Type>) {
    add_readable(types, "bool", Of::Bool, |r| (*r.of(&["t", "f"])).to_owned());
    add_readable(types, "int2", Of::Number, |r| {
        edge(r, &["-32768", "32767", "0"], |r| integer(r, 15))
    });
    add_readable(types, "int4", Of::Number, |r| {
        edge(r, &["-2147483648", "2147483647", "0"], |r| integer(r, 31))
    });
    add_readable(types, "int8", Of::Number, |r| {
        let edges = [
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740993",
            "-9007199254740993",
            "0",
        ];
        edge(r, &edges, |r| integer(r, 63))
    });
    add_readable(types, "oid", Of::Number, |r| {
        edge(r, &["0", "4294967295", "2147483648"], |r| {
            r.below(1 << 32).to_string()
        })
    });
    add_readable(types, "float4", Of::Float4, |r| {
        let edges = [
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "0.1",
            "3.4028235e38",
            "1e-45",
            "1.1754944e-38",
            "16777217",
        ];
        edge(r, &edges, single)
    });
    add_readable(types, "float8", Of::Float8, |r| {
        let edges = [
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "0",
            "5e-324",
            "-5e-324",
            "2.2250738585072011e-308",
            "1.7976931348623157e308",
            "0.1",
            "0.30000000000000004",
            "1e15",
            "1e16",
            "1e21",
            "123456789012345680",
            "9007199254740993",
        ];
        edge(r, &edges, double)
    });
    add_readable(types, "numeric", Of::Text, |r| {
        let edges = [
            "NaN",
            "Infinity",
            "-Infinity",
            "0",
            "0.00",
            "-0.5",
            "1e30",
            "1e-300",
            "1e1000",
            "99999999999999999999",
            "10000",
            "0.0001",
            "1.50",
        ];
        edge(r, &edges, decimal)
    });
    add_readable(types, "numeric(10,2)", Of::Text, |r| {
        edge(
            r,
            &["NaN", "99999999.99", "-99999999.99", "0", "0.005"],
            small_decimal,
        )
    });
    add_readable(types, "numeric(500,200)", Of::Text, decimal);
    add_unreadable(types, "money", |r| {
        let edges = [
            "92233720368547758.07",
            "-92233720368547758.08",
            "-0.5",
            "1234.56",
            "0",
        ];
        edge(r, &edges, small_decimal)
    });
}
