//! No row goes back in time: from batch to batch, no column of a row shows a value that is older than the one before,
//! whatever is late, and wherever a read was applied in between.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::generators::{complete, config, delivery, touched, value};
use super::model::{Destination, Place};
use super::source::{COLUMNS, Key, Moment, Source, Statement, Values};

/// What the source held of one key, from moment to moment.
type States = Vec<Option<Values>>;

/// How old the row of one key is at least, as it was shown: the moment of each column.
type Shown = [usize; COLUMNS];

/// A transaction of one change, or a read so late that it has surely seen what was committed before it and surely not
/// what comes after it.
fn moment() -> impl Strategy<Value = Moment> {
    let key = || 1..=3 as Key;
    let statement = prop_oneof![
        2 => (key(), proptest::array::uniform3(value()))
            .prop_map(|(key, values)| Statement::Insert { key, values }),
        4 => (key(), touched()).prop_map(|(key, values)| Statement::Update { key, values }),
        1 => key().prop_map(|key| Statement::Delete { key }),
        1 => (key(), key(), touched())
            .prop_map(|(key, to, values)| Statement::Move { key, to, values }),
    ];
    prop_oneof![
        3 => (statement, 12u8..20).prop_map(|(statement, after)| {
            Moment::Transaction { statements: vec![statement], after, source: 1 }
        }),
        2 => (key(), 6i8..12).prop_map(|(key, fast)| Moment::Read { key, fast, source: 1 }),
    ]
}

/// Delivers the messages, and looks at the rows after each batch.
fn never_back(
    full: bool,
    moments: &[Moment],
    order: Vec<(usize, bool)>,
    place: Place,
) -> Result<(), String> {
    let source = Source::new(full, moments);
    let states: Vec<_> = (0..=moments.len())
        .map(|n| Source::new(full, &moments[..n]).rows)
        .collect();
    let states = |key: Key| -> States {
        let row =
            |rows: &BTreeMap<Key, _>| rows.get(&key).map(|row: &super::source::Row| row.values);
        states.iter().map(row).collect()
    };
    let mut shown: BTreeMap<Key, Shown> = BTreeMap::new();
    let mut destination = Destination::new(place);
    let mut batch = Vec::new();
    let last = order.len().saturating_sub(1);
    for (n, (sent, ends)) in order.into_iter().enumerate() {
        batch.push(&source.sent[sent]);
        if !ends && n < last {
            continue;
        }
        destination.apply(&batch)?;
        for (&key, stored) in &destination.rows {
            let states = states(key);
            let shown = shown.entry(key).or_default();
            for (column, shown) in shown.iter_mut().enumerate() {
                let now = stored.row.map(|row| row[column]);
                if now == Some(None) || now.is_none() && !stored.is_known() {
                    continue;
                }
                let same = |state: &Option<Values>| state.map(|values| Some(values[column])) == now;
                let Some(at) = states[*shown..].iter().position(same) else {
                    return Err(format!(
                        "after {batch:#?}\nrow {key} goes back to {now:?} in column {column}, which was as of moment \
                         {shown} of {states:?}"
                    ));
                };
                *shown += at;
            }
        }
        batch.clear();
    }
    Ok(())
}

proptest! {
    #![proptest_config(config(5000))]

    #[test]
    fn no_row_goes_back_in_time(
        moments in proptest::collection::vec(moment(), 1..8),
        draws in delivery(), columns in any::<bool>(), full in any::<bool>(),
    ) {
        let count = Source::new(full, &moments).sent.len();
        let place = if columns { Place::Columns } else { Place::Table };
        let held = never_back(full, &moments, complete(count, &draws), place);
        prop_assert!(held.is_ok(), "{}", held.unwrap_err());
    }
}
