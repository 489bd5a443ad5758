//! Texts and bytes.

use support::Random;

use super::{Type, add_readable, add_unreadable, edge};
use crate::spelling::Of;

const PIECES: [&str; 32] = [
    "NULL",
    "null",
    "a",
    "b",
    " ",
    "\\",
    "\"",
    "{",
    "}",
    ",",
    "'",
    "é",
    "😀",
    "\n",
    "\t",
    "\u{1}",
    "\u{2028}",
    "(",
    ")",
    "[",
    "]",
    ";",
    ":",
    "$$",
    "\\x41",
    "\\u0041",
    "unchanged_toast",
    "=>",
    "<script>/",
    "\r",
    "\u{7f}",
    "\u{a0}",
];

/// Pieces that literals, JSON and SQL easily get wrong.
pub(super) fn text(random: &mut Random) -> String {
    match random.below(12) {
        0 => String::new(),
        1 => (*random.of(&PIECES)).to_owned(),
        2 if random.below(8) == 0 => "Žluťoučký \"kůň\" ".repeat(random.below(900) as usize),
        _ => (0..random.below(9)).map(|_| *random.of(&PIECES)).collect(),
    }
}

pub(super) fn short_text(random: &mut Random) -> String {
    text(random).chars().take(5).collect()
}

pub(super) fn texts(types: &mut Vec<Type>) {
    add_readable(types, "text", Of::Text, text);
    add_readable(types, "text collate \"C\"", Of::Text, text);
    types.pop(); // an array has its collation in another place
    add_readable(types, "varchar", Of::Text, text);
    add_readable(types, "varchar(5)", Of::Text, short_text);
    add_unreadable(types, "char(5)", short_text);
    add_unreadable(types, "\"char\"", |r| {
        (*r.of(&["x", "\"", "\\", ",", "", " "])).to_owned()
    });
    add_readable(types, "name", Of::Text, short_text);
    add_readable(types, "uuid", Of::Uuid, |r| {
        let edges = [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        ];
        edge(r, &edges, |r| {
            let [a, b, c] = [1 << 32, 1 << 48, 1 << 48].map(|limit| r.below(limit));
            format!(
                "{a:08x}-{:04x}-{:04x}-{:04x}-{c:012x}",
                b >> 32,
                b >> 16 & 0xffff,
                b & 0xffff
            )
        })
    });
    add_readable(types, "bytea", Of::Bytea, |r| {
        let edges = [
            "\\x",
            "\\x00ff",
            "\\x5c783431",
            "\\x5c7834",
            "\\x48656c6c6f",
            "\\x5c",
        ];
        edge(r, &edges, |r| {
            let count = *r.of(&[1, 5, 40, 3000]);
            (0..r.below(count)).fold("\\x".to_owned(), |t, _| {
                t + &format!("{:02x}", r.below(256))
            })
        })
    });
    add_unreadable(types, "xml", |r| {
        let edges = [
            "<a>1</a>",
            "",
            "a &amp; b",
            "<a b=\"c,d\">é😀</a><b/>",
            "<?xml version=\"1.0\" standalone=\"yes\"?><x/>",
        ];
        (*r.of(&edges)).to_owned()
    });
}
