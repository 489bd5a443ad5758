//! What the values of a member tell of its type at the source.
//!
//! No message has the type. A text can be of any type, but a text such as `10.0.0.1` or `[1,3)` is likely of a type that
//! a backfill cannot read, if all texts of the member are like that, and if no read has ever had one.

#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::BitAnd;

use crate::json::{Json, Kind};
use crate::spell::MAX_DIMENSIONS;

/// The types that can have sent all values of a member that were seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shapes {
    kinds: u32,
    /// For `char(n)`: how many characters each value has.
    length: u32,
}

/// `inet`, `cidr`
const NETWORK: u32 = 1;
/// `macaddr`, `macaddr8`
const MAC: u32 = 1 << 1;
/// `bit`, `varbit` of three bits and more
const BITS: u32 = 1 << 2;
/// `pg_lsn`
const LSN: u32 = 1 << 3;
/// `xml`
const XML: u32 = 1 << 4;
/// Ranges
const RANGE: u32 = 1 << 5;
/// Multiranges
const MULTIRANGE: u32 = 1 << 6;
/// Composite types of two fields and more
const ROW: u32 = 1 << 7;
/// Geometric types and `cube`
const GEOMETRY: u32 = 1 << 8;
/// PostGIS's types
const HEX: u32 = 1 << 9;
/// `money`
const MONEY: u32 = 1 << 10;
/// `jsonpath`
const JSONPATH: u32 = 1 << 11;
/// `tsquery`
const TSQUERY: u32 = 1 << 12;
/// `char(n)`: all values have one length, and `PADDED`: one ended with a space.
const CHAR: u32 = 1 << 13;
/// No value was seen.
const UNSEEN: u32 = 1 << 14;
/// See [`CHAR`].
const PADDED: u32 = 1 << 15;

const DISTINCT: u32 = CHAR - 1;

/// The longest `char(n)` that is recognised.
const LONGEST: usize = 255;

impl Shapes {
    /// No value was seen.
    pub const UNSEEN: Shapes = Shapes {
        kinds: DISTINCT | CHAR | UNSEEN,
        length: 0,
    };

    /// A backfill can read the member.
    pub const READABLE: Shapes = Shapes {
        kinds: 0,
        length: 0,
    };

    /// Whether a backfill cannot read the member, as far as the values tell.
    pub fn is_unreadable(self) -> bool {
        self.kinds & UNSEEN == 0
            && (self.kinds & DISTINCT != 0 || self.kinds & (CHAR | PADDED) == CHAR | PADDED)
    }

    /// The shapes as a number, to be stored.
    pub fn number(self) -> i64 {
        i64::from(self.length) << 32 | i64::from(self.kinds)
    }

    /// The shapes of a number; see [`Self::number`].
    pub fn of_number(number: i64) -> Shapes {
        Shapes {
            kinds: number as u32,
            length: (number >> 32) as u32,
        }
    }

    /// The types that can have sent this value in a change.
    pub fn of(value: Json<'_>) -> Shapes {
        Shapes::of_nested(value, MAX_DIMENSIONS)
    }

    /// The same, of a value that may have so many dimensions: each level scans what is inside, and takes room on the stack.
    fn of_nested(value: Json<'_>, dimensions: usize) -> Shapes {
        match value.kind() {
            Kind::Null => Shapes::UNSEEN,
            Kind::String => match value.string() {
                Some(Ok(text)) => Shapes::of_text(&text),
                _ => Shapes::READABLE,
            },
            // An array of a type that a backfill cannot read
            Kind::Array if dimensions > 0 => value
                .elements()
                .map(|element| Shapes::of_nested(element, dimensions - 1))
                .fold(Shapes::UNSEEN, |all, one| all & one),
            Kind::Array | Kind::Object | Kind::Number | Kind::Bool => Shapes::READABLE,
        }
    }

    fn of_text(text: &str) -> Shapes {
        let mut shapes = Shapes {
            kinds: kinds(text),
            length: 0,
        };
        if text.len() <= 4 * LONGEST {
            let length = text.chars().count();
            if (1..=LONGEST).contains(&length) {
                let padded = if text.ends_with(' ') { PADDED } else { 0 };
                shapes.kinds |= CHAR | padded;
                shapes.length = length as u32;
            }
        }
        shapes
    }
}

impl BitAnd for Shapes {
    type Output = Shapes;

    fn bitand(self, other: Shapes) -> Shapes {
        let mut kinds = self.kinds & other.kinds;
        let mut length = self.length.max(other.length);
        if self.length != other.length && self.length != 0 && other.length != 0 {
            kinds &= !CHAR;
        }
        if kinds & CHAR == 0 {
            length = 0;
        } else {
            kinds |= (self.kinds | other.kinds) & PADDED;
        }
        Shapes { kinds, length }
    }
}

/// The types, but for `char(n)`, whose texts look like this one.
fn kinds(text: &str) -> u32 {
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().next_back()) else {
        return 0;
    };
    match (first, last) {
        (b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' | b':', _) => hex_kinds(text),
        (b'<', b'>') if is_geometry(text) => GEOMETRY,
        (b'<', b'>') if text[1..].starts_with(|c: char| c.is_alphabetic() || "!?_".contains(c)) => {
            XML
        }
        (b'(' | b'[', b')' | b']') => {
            let fields = fields(&text[1..text.len() - 1]);
            let range = if fields == Some(2) { RANGE } else { 0 };
            let row = first == b'(' && last == b')' && fields > Some(1);
            range | if row { ROW } else { 0 } | if is_geometry(text) { GEOMETRY } else { 0 }
        }
        (b'{', b'}') => {
            let inner = &text[1..text.len() - 1];
            let ranges =
                inner.is_empty() || inner.starts_with(['(', '[']) && inner.ends_with([')', ']']);
            let line = inner
                .split(',')
                .filter(|n| n.parse::<f64>().is_ok())
                .count();
            let line = line == 3 && fields(inner) == Some(3);
            if ranges {
                MULTIRANGE
            } else if line {
                GEOMETRY
            } else {
                0
            }
        }
        (b'$' | b'-', b'0'..=b'9') if is_money(text) => MONEY,
        (b'$', _) if text[1..].starts_with(['.', '[']) => JSONPATH,
        (b'\'', b'\'') if text.len() > 2 => TSQUERY,
        _ => 0,
    }
}

/// Of a text that begins as a hexadecimal number.
fn hex_kinds(text: &str) -> u32 {
    let is_bits = || text.len() > 2 && all(text, |b| matches!(b, b'0' | b'1'));
    let marks = [
        (NETWORK, is_network(text)),
        (MAC, is_mac(text)),
        (BITS, is_bits()),
        (LSN, is_lsn(text)),
        (HEX, is_hex(text)),
        (RANGE, text == "empty"),
    ];
    let marks = marks.into_iter().filter(|(_, is)| *is);
    marks.fold(0, |kinds, (kind, _)| kinds | kind)
}

fn all(text: &str, is: impl Fn(u8) -> bool) -> bool {
    text.bytes().all(is)
}

fn is_network(text: &str) -> bool {
    let (address, mask) = text.split_once('/').unwrap_or((text, "0"));
    text.len() <= 49 && mask.parse::<u8>().is_ok() && address.parse::<IpAddr>().is_ok()
}

fn is_mac(text: &str) -> bool {
    let pair = |pair: &str| pair.len() == 2 && all(pair, |b| b.is_ascii_hexdigit());
    matches!(text.len(), 17 | 23) && text.split(':').all(pair)
}

fn is_lsn(text: &str) -> bool {
    let hex = |part: &str| {
        (1..=8).contains(&part.len()) && all(part, |b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
    };
    text.len() <= 17
        && text
            .split_once('/')
            .is_some_and(|(high, low)| hex(high) && hex(low))
}

fn is_hex(text: &str) -> bool {
    text.len() >= 42
        && text.len().is_multiple_of(2)
        && (text.starts_with("00") || text.starts_with("01"))
        && all(text, |b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
}

/// Numbers in brackets. A path begins with `[(`, so that a list of JSON is none.
fn is_geometry(text: &str) -> bool {
    let of_numbers = |b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b',' | b' ');
    let brackets = |b| matches!(b, b'(' | b')' | b'[' | b']' | b'<' | b'>');
    let begins = text.starts_with('(') || text.starts_with("[(") || text.starts_with("<(");
    begins && text.contains(',') && all(text, |b| of_numbers(b) || brackets(b))
}

fn is_money(text: &str) -> bool {
    let amount = text.strip_prefix('-').unwrap_or(text).strip_prefix('$');
    amount
        .and_then(|amount| amount.rsplit_once('.'))
        .is_some_and(|(whole, cents)| {
            cents.len() == 2
                && all(cents, |b| b.is_ascii_digit())
                && !whole.is_empty()
                && all(whole, |b| b.is_ascii_digit() || b == b',')
        })
}

/// How many fields the text between the brackets of a composite value or of a range has. `None`: it is no such text,
/// which has quotes where a field has white space, brackets or commas.
fn fields(text: &str) -> Option<usize> {
    let mut count = 1;
    let (mut quoted, mut escaped) = (false, false);
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            ',' => count += 1,
            '(' | ')' | '\\' => return None,
            c if c.is_whitespace() => return None,
            _ => {}
        }
    }
    (!quoted).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Shapes {
        let values = values.iter().map(|value| {
            let text = serde_json::Value::from(*value).to_string();
            Shapes::of(Json::parse(&text).expect("JSON"))
        });
        values.fold(Shapes::UNSEEN, |all, one| all & one)
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let shapes = Shapes::of(Json::parse(&deep).expect("JSON"));
        assert!(!shapes.is_unreadable());
        let two = Shapes::of(Json::parse(r#"[["10.0.0.1"],["::1"]]"#).expect("JSON"));
        assert!(two.is_unreadable());
    }

    #[test]
    fn values_of_types_that_a_backfill_cannot_read() {
        for values in [
            &["10.0.0.1", "::1", "10.1.0.0/16", "2001:db8::/32"][..],
            &["08:00:2b:01:02:03"],
            &["08:00:2b:01:02:03:04:05"],
            &["101", "1010"],
            &["16/B374D848", "0/0"],
            &["<a/>", "<!-- x --><b>c</b>"],
            &["[1,3)", "empty", "(,5]", "[\"2024-01-01 00:00:00\",)"],
            &["{[1,3),[5,7)}", "{}"],
            &["(1,a)", "(,\"b c\")", "(\"a\"\"b\",)"],
            &["(1.5,2)", "(-1,1e+10)"],
            &["(3,4),(1,2)"],
            &["((0,0),(1,1))", "[(0,0),(1,1)]"],
            &["<(1,2),3>"],
            &["{1,-1,0}"],
            &["(1, 2),(3, 4)"],
            &["$1,234.50", "-$0.99"],
            &["$.\"a\"[*]"],
            &["'fat' & 'rat'"],
            &["abcde", "ab   "],
            &["ab   ", "abcde", "é    "],
            &["0101000020E6100000000000000000F03F0000000000000040"],
        ] {
            assert!(of(values).is_unreadable(), "{values:?}");
            let stored = Shapes::of_number(of(values).number());
            assert_eq!(stored, of(values), "{values:?}");
            // among others it is a text
            let mut mixed = values.to_vec();
            mixed.push("hello world");
            assert!(!of(&mixed).is_unreadable(), "{mixed:?}");
        }
    }

    #[test]
    fn texts() {
        for values in [
            &[][..],
            &[""],
            &["x"],
            &["hello"],
            &["DE", "AT"],
            &["10.0.0.1", "host"],
            &["10.0.0"],
            &["1/2/3"],
            &["(see below)"],
            &["(a)"],
            &["(a, b)"],
            &["(555) 123"],
            &["[1]"],
            &["[\"a\", \"b\"]"],
            &["{\"a\":1}"],
            &["{1,2}"],
            &["a < b"],
            &["<>"],
            &["$5"],
            &["$name"],
            &["10"],
            &["2024-01-01"],
            &["1.50"],
            &["it's"],
            &["ab ", "abc", "a"],
            &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
            &["é"],
            &["ä<b>"],
        ] {
            assert!(!of(values).is_unreadable(), "{values:?}");
        }
    }

    #[test]
    fn arrays_are_as_their_elements() {
        let of = |text: &str| Shapes::of(Json::parse(text).expect("JSON"));
        assert!(of(r#"["10.0.0.1", null, ["::1"]]"#).is_unreadable());
        assert!(!of(r#"["10.0.0.1", "a b"]"#).is_unreadable());
        assert!(!of("[]").is_unreadable());
        assert!(!of("[1]").is_unreadable());
        for text in ["1", "true", "{}"] {
            assert_eq!(of(text), Shapes::READABLE);
        }
        assert_eq!(of("null"), Shapes::UNSEEN);
    }

    #[test]
    fn nothing_comes_back() {
        let padded = of(&["ab "]);
        assert!(padded.is_unreadable());
        let none = padded & of(&["abcd"]);
        assert!(!none.is_unreadable());
        assert!(!(none & padded).is_unreadable());
        assert_eq!(Shapes::READABLE & padded, Shapes::READABLE);
    }
}
