//! Compares the scanner with `serde_json`, and the view of `jsonb` with the view of text.

#![forbid(unsafe_code)]

mod binary;
mod generators;
mod numbers;
mod pauses;
mod scanner;
mod views;

use std::collections::BTreeMap;

pub(crate) use super::pause::tests::pauses;
use super::*;
use numbers::numeric_out;

fn text(text: &str) -> Json<'_> {
    Json::parse(text).unwrap()
}

/// The datum of a value, without its length word; `None` if the encoder cannot write the value.
pub(crate) fn jsonb(value: Json<'_>) -> Option<Vec<u8>> {
    Encoder::default().jsonb(value).map(<[u8]>::to_vec).ok()
}

/// Whether two values are equal as `jsonb` compares: members in any order, the last of duplicates,
/// and numbers by their digits however they are spelled.
pub(crate) fn same(a: Json<'_>, b: Json<'_>) -> bool {
    a.kind() == b.kind()
        && match a.kind() {
            Kind::Null => true,
            Kind::Bool => a.as_bool() == b.as_bool(),
            Kind::Number => numeric_out(&a.number().unwrap()) == numeric_out(&b.number().unwrap()),
            Kind::String => a.string() == b.string(),
            Kind::Array => {
                let (a, b): (Vec<_>, Vec<_>) = (a.elements().collect(), b.elements().collect());
                a.len() == b.len() && a.into_iter().zip(b).all(|(a, b)| same(a, b))
            }
            Kind::Object => {
                let (a, b): (BTreeMap<_, _>, BTreeMap<_, _>) =
                    (a.members().collect(), b.members().collect());
                a.keys().eq(b.keys())
                    && a.into_values()
                        .zip(b.into_values())
                        .all(|(a, b)| same(a, b))
            }
        }
}
