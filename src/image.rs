//! Fingerprints of row images, to tell two rows apart that share a key for a moment.
//!
//! With a deferrable key, a row may come to a key before the row that was there leaves it, in the same
//! transaction. The image of the row that left (its record overlaid with `changes`) tells which of the two
//! it was.

#![forbid(unsafe_code)]

use crate::json::{Json, Kind, STRETCH, pause};

const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a. Fingerprints are stored, so the hash must never change. The standard library's hash may change.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(STRETCH).fold(seed, |seed, part| {
        if part.len() == STRETCH {
            pause();
        }
        part.iter().fold(seed, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(PRIME)
        })
    })
}

/// Makes each bit of a hash depend on all others (MurmurHash3's last step). FNV-1a is linear in the last byte: sums of such
/// hashes are equal for `(e, c)` and `(c, a)`.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The number that stands for a source database in row versions.
pub fn source_number(name: &str) -> i64 {
    hash(BASIS, name.as_bytes()) as i64
}

/// The fingerprint of a record, whatever the order of its members. With `changes` it is the fingerprint of
/// the row before the change.
pub fn fingerprint(record: Json<'_>, changes: Option<Json<'_>>) -> u64 {
    record.members().fold(0, |sum, (key, value)| {
        let value = changes
            .and_then(|changes| changes.get(&key))
            .unwrap_or(value);
        let member = of_value(hash(BASIS, key.as_bytes()), value, MAX_DEPTH);
        sum.wrapping_add(mixed(member))
    })
}

/// The fingerprint of a whole change, with its idempotency key.
pub fn of_change(
    action: &str,
    record: Json<'_>,
    changes: Option<Json<'_>>,
    name: Option<Json<'_>>,
) -> u64 {
    let seed = of_value(hash(BASIS, action.as_bytes()), record, MAX_DEPTH);
    let seed = changes.map_or(seed, |changes| {
        of_value(seed, changes, MAX_DEPTH).rotate_left(7)
    });
    name.map_or(seed, |name| of_value(seed.rotate_left(13), name, MAX_DEPTH))
}

/// Values nested deeper than this count by their text, so that recursion has an end: each level takes room on the stack, and
/// scans what is inside once more. (With 100 levels, a megabyte of brackets took a second.)
const MAX_DEPTH: usize = 16;

fn of_value(seed: u64, value: Json<'_>, depth: usize) -> u64 {
    match value.kind() {
        Kind::Array | Kind::Object if depth == 0 => hash(seed, value.text().as_bytes()),
        Kind::Null => hash(seed, b"n"),
        Kind::Bool | Kind::Number => hash(seed, value.text().as_bytes()),
        Kind::String => {
            let seed = hash(seed, b"s");
            match value.string() {
                Some(Ok(text)) => hash(seed, text.as_bytes()),
                _ => hash(seed, value.text().as_bytes()),
            }
        }
        Kind::Array => value.elements().fold(hash(seed, b"a"), |seed, value| {
            mixed(of_value(seed, value, depth - 1))
        }),
        Kind::Object => value.members().fold(hash(seed, b"o"), |sum, (key, value)| {
            let member = of_value(hash(BASIS, key.as_bytes()), value, depth - 1);
            sum.wrapping_add(mixed(member))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json<'_> {
        Json::parse(text).expect("valid JSON")
    }

    #[test]
    fn order_and_spacing_do_not_matter() {
        let a = json(r#"{"id":1,"name":"x","tags":["a",{"b":1,"c":null}]}"#);
        let b = json(r#"{ "tags": ["a", {"c": null, "b": 1}], "name": "\u0078", "id": 1 }"#);
        assert_eq!(fingerprint(a, None), fingerprint(b, None));
    }

    #[test]
    fn values_matter() {
        let record = json(r#"{"id":2,"name":"x"}"#);
        assert_ne!(
            fingerprint(record, None),
            fingerprint(json(r#"{"id":2,"name":"y"}"#), None)
        );
        assert_ne!(
            fingerprint(record, None),
            fingerprint(json(r#"{"id":2,"name":null}"#), None)
        );
        let list = |text| fingerprint(json(text), None);
        assert_ne!(list(r#"{"l":[1,2]}"#), list(r#"{"l":[12]}"#));
    }

    /// Members are summed up, and each of them counts with all its bits.
    #[test]
    fn values_of_one_letter_differ() {
        let letters = || ('a'..='z').map(|letter| format!("\"{letter}\""));
        for (open, close) in [("", ""), ("\"d\":{", "}")] {
            let mut seen = std::collections::HashSet::new();
            for a in letters() {
                for b in letters() {
                    let record = format!(r#"{{"id":1,{open}"v":{a},"u":{b}{close}}}"#);
                    assert!(seen.insert(fingerprint(json(&record), None)), "{record}");
                }
            }
        }
    }

    /// They are stored.
    #[test]
    fn fingerprints_stay_the_same() {
        let of = |text| fingerprint(json(text), None);
        assert_eq!(mixed(1), 0xb456_bcfc_34c2_cb2c);
        assert_eq!(mixed(0x0123_4567_89ab_cdef), 0x87cb_fbfe_8902_2cea);
        assert_eq!(of(r#"{"id":1,"name":"x"}"#), 0x0cc7_a706_7747_2d57);
        assert_eq!(
            of(r#"{"id":1,"tags":["a",{"b":true,"c":null}]}"#),
            0x32a3_eeea_a38b_a5c8
        );
        assert_eq!(source_number("shop"), 5_106_059_538_504_492_041);
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let record = format!(r#"{{"id":{deep}}}"#);
        assert_eq!(
            fingerprint(json(&record), None),
            fingerprint(json(&record), None)
        );
        let other = record.replace("[]", "[1]");
        assert_ne!(
            fingerprint(json(&record), None),
            fingerprint(json(&other), None)
        );
    }

    #[test]
    fn a_former_image_is_that_of_the_row_before() {
        let (before, after) = (
            json(r#"{"id":1,"name":"x"}"#),
            json(r#"{"id":2,"name":"y"}"#),
        );
        let changes = json(r#"{"id":1,"name":"x"}"#);
        assert_eq!(fingerprint(after, Some(changes)), fingerprint(before, None));
    }
}
