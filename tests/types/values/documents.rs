//! JSON and XML.

use support::Random;

use super::numbers::digits;
use super::texts::{short_text, text};
use super::{Type, add_readable, add_unreadable, edge};
use crate::spelling::{Of, quote};

/// A document; without decimals Sequin loses nothing of it.
fn json(random: &mut Random, depth: u64, decimals: bool) -> String {
    let count = random.below(4);
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => (*random.of(&["null", "true", "false", "[]", "{}"])).to_owned(),
        1 => {
            let most = *random.of(&[3, 20, 30, 400]);
            let digits = digits(random, most);
            let digits = digits.trim_start_matches('0');
            format!("{}1{digits}", random.of(&["", "-"]))
        }
        2 if decimals => (*random.of(&[
            "2.50",
            "1e2",
            "0.1",
            "-1.5E-7",
            "12345678901234567890.123",
            "-0.0",
        ]))
        .to_owned(),
        2..6 => quote(&text(random)),
        6 | 7 => {
            let items: Vec<_> = (0..count)
                .map(|_| json(random, depth - 1, decimals))
                .collect();
            format!("[{}]", items.join(*random.of(&[",", ", "])))
        }
        _ => {
            let members: Vec<_> = (0..count)
                .map(|n| {
                    let key = quote(&format!("{}{n}", short_text(random)));
                    format!("{key}:{}", json(random, depth - 1, decimals))
                })
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}

pub(super) fn any_json(random: &mut Random) -> String {
    let (depth, decimals) = (random.below(4), random.below(4) == 0);
    json(random, depth, decimals)
}

pub(super) fn documents(types: &mut Vec<Type>) {
    add_readable(types, "json", Of::Json, |r| {
        edge(
            r,
            &["{\"n\":\"\\u0000\"}", "{\"a\":1,\"a\":2}", "null"],
            any_json,
        )
    });
    add_readable(types, "jsonb", Of::Jsonb, |r| {
        edge(
            r,
            &["null", "123456789012345678901234567890", "1E400", "\"str\""],
            any_json,
        )
    });
    add_readable(types, "tsvector", Of::TsVector, |r| {
        let words = ["a", "it''s", "b\\\\c", "é", "\"q\"", "x,y", "NULL", "{}"];
        (0..r.below(5))
            .map(|_| match r.below(3) {
                0 => format!("'{}' ", r.of(&words)),
                _ => format!(
                    "'{}':{}{} ",
                    r.of(&words),
                    1 + r.below(200),
                    r.of(&["", "A", "B,3", "C"])
                ),
            })
            .collect()
    });
    add_unreadable(types, "tsquery", |r| {
        (*r.of(&[
            "'a' & 'b'",
            "!'c' | 'd':AB*",
            "'it''s' <-> 'x'",
            "",
            "'a' <3> ('b' | 'c')",
        ]))
        .to_owned()
    });
    add_unreadable(types, "jsonpath", |r| {
        (*r.of(&[
            "$.\"a\"",
            "$[*]?(@.\"b\" > 1 && @.\"c\" == \"x,\\\"y\")",
            "strict $",
            "$.**{2 to 3}",
        ]))
        .to_owned()
    });
}
