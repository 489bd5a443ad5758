//! JSON texts, drawn by proptest.

#![forbid(unsafe_code)]

use proptest::prelude::*;

pub(super) fn number() -> impl Strategy<Value = String> {
    "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?"
}

/// Strings of the JSON grammar without `\u0000` and lone surrogates.
pub(super) fn string() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z_ ]{1,20}",
        1 => "[^\u{0}-\u{1f}\"\\\\]{1,9}",
        1 => "\\\\[\"\\\\/bfnrt]",
        1 => "\\\\u[0-9a-cA-C][0-9a-fA-F]{2}[1-9a-fA-F]",
        1 => "\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}",
    ];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

/// Any JSON text, with white space in all places.
pub(super) fn any_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        number(),
        string(),
        string(),
    ];
    let spaced = (white(), leaf, white()).prop_map(|(a, leaf, b)| a + &leaf + &b);
    spaced.prop_recursive(6, 200, 40, |inner| {
        let key = (white(), string(), white()).prop_map(|(a, key, b)| a + &key + &b);
        let member = (key, inner.clone())
            .prop_map(|(key, value)| format!("{key}:{value}"))
            .boxed();
        let array = prop_oneof![
            6 => prop::collection::vec(inner.clone(), 0..6),
            1 => prop::collection::vec(inner, 0..100)
        ];
        let object = prop_oneof![
            6 => prop::collection::vec(member.clone(), 0..6),
            1 => prop::collection::vec(member, 0..100)
        ];
        prop_oneof![
            (white(), array, white()).prop_map(|(a, v, b)| format!("{a}[{b}{}]{a}", v.join(","))),
            (white(), object, white())
                .prop_map(|(a, v, b)| format!("{a}{{{b}{}}}{a}", v.join(","))),
        ]
    })
}

pub(super) fn edit() -> impl Strategy<Value = char> {
    prop_oneof![
        prop::sample::select(
            "[]{},:\"\\ \n0123456789eE+-.tfnu/\u{0}\u{1f}\u{7f}é"
                .chars()
                .collect::<Vec<_>>()
        ),
        any::<char>(),
    ]
}

fn white() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(String::new()), 1 => "[ \t\r\n]{1,9}"]
}
