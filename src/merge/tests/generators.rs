//! Histories and deliveries, drawn by proptest.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::source::{COLUMNS, Key, Moment, Statement};

pub(super) fn value() -> impl Strategy<Value = u8> {
    0u8..5
}

pub(super) fn touched() -> impl Strategy<Value = [Option<u8>; COLUMNS]> {
    proptest::array::uniform3(proptest::option::of(value()))
}

fn statement(keys: Key) -> impl Strategy<Value = Statement> {
    let key = move || 1..=keys;
    prop_oneof![
        3 => (key(), proptest::array::uniform3(value()))
            .prop_map(|(key, values)| Statement::Insert { key, values }),
        4 => (key(), touched()).prop_map(|(key, values)| Statement::Update { key, values }),
        2 => key().prop_map(|key| Statement::Delete { key }),
        3 => (key(), key(), touched())
            .prop_map(|(key, to, values)| Statement::Move { key, to, values }),
        2 => (key(), prop_oneof![Just(1i8), Just(-1), Just(2)], any::<bool>())
            .prop_map(|(first, by, descending)| Statement::Shift { first, by, descending }),
        3 => (
            key(),
            proptest::option::of(key()),
            proptest::option::of(key()),
            proptest::array::uniform3(value()),
        )
            .prop_map(|(key, from, to, values)| Statement::Takeover { key, from, to, values }),
        2 => (proptest::array::uniform5(0..=keys), any::<u8>())
            .prop_map(|(to, start)| Statement::Rekey { to, start }),
    ]
}

pub(super) fn moments(sources: u8, keys: Key) -> impl Strategy<Value = Vec<Moment>> {
    let moment = prop_oneof![
        3 => (proptest::collection::vec(statement(keys), 1..6), 0u8..12, 1..=sources).prop_map(
            |(statements, after, source)| Moment::Transaction { statements, after, source }
        ),
        1 => (1..=keys, -5i8..=5, 1..=sources)
            .prop_map(|(key, fast, source)| Moment::Read { key, fast, source }),
    ];
    proptest::collection::vec(moment, 1..6)
}

pub(super) fn delivery() -> impl Strategy<Value = Vec<(u16, bool)>> {
    proptest::collection::vec((any::<u16>(), any::<bool>()), 0..40)
}

/// All of `count` messages: as `draws` say, many of them more than once, and then what they left out.
pub(super) fn complete(count: usize, draws: &[(u16, bool)]) -> Vec<(usize, bool)> {
    if count == 0 {
        return Vec::new();
    }
    let mut order: Vec<_> = draws
        .iter()
        .map(|(n, ends)| (usize::from(*n) % count, *ends))
        .collect();
    let drawn: BTreeSet<usize> = order.iter().map(|(n, _)| *n).collect();
    let rest = (0..count).rev().filter(|n| !drawn.contains(n));
    order.extend(rest.map(|n| (n, n % 3 != 0)));
    order
}

pub(super) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
