//! Values that are made of values which a change says are unchanged, or which a read cannot tell.

#![forbid(unsafe_code)]

use super::examples::{FIRST, after, at, both, change, check, inserted, read_in, updated, values};
use super::*;

const DERIVES: &[Provided] = &[Provided::Value, Provided::Derived];

/// A value that is made of one which the read cannot tell is made anew, and is as old as the row was.
#[test]
fn derived_value_of_a_read_is_a_gap() {
    let mut read = read_in(1, 100);
    read.provided = DERIVES;
    let (state, effect) = after(&[inserted(0, 1), read]);
    assert_eq!((effect, values(&state)), (Effect::Decided, both(1)));
    assert_eq!(state.cells[0].gap, None);
    assert!(state.cells[1].gap.is_some() && state.cells[1].lacked);
    // of a row that is not there, and of a value that nobody knows, it tells nothing
    let mut first = read_in(0, 100);
    first.provided = DERIVES;
    let (state, _) = after(&[first]);
    assert_ne!(state.cells[1].value, Value::Of(0));
    let (state, _) = after(&[updated(0, 1, FIRST), read]);
    assert_eq!(values(&state), Some([Value::Of(1), Value::Unknown]));
}

/// The value is that of a row which the read brings: the column has its default until a change tells more.
#[test]
fn derived_value_of_a_read_that_brings_the_row_is_a_gap_with_the_default() {
    let mut read = read_in(0, 100);
    read.provided = DERIVES;
    let (state, effect) = after(&[read]);
    let default = Some([Value::Of(0), Value::Stored]);
    assert_eq!((effect, values(&state)), (Effect::Decided, default));
    assert!(state.cells[1].gap.is_some() && state.cells[1].lacked);
}

#[test]
fn derived_value_of_a_stale_read_changes_nothing() {
    let mut read = read_in(1, 6);
    read.provided = DERIVES;
    let (row, _) = after(&[inserted(0, 1)]);
    let (state, effect) = after(&[inserted(0, 1), read]);
    assert_eq!((effect, state), (Effect::Stale, row));
}

#[test]
fn value_that_is_made_of_an_unknown_one_is_unknown() {
    let derived = [updated(0, 1, FIRST), updated(1, 3, DERIVES)];
    let unknown = Some([Value::Of(1), Value::Unknown]);
    check(&derived, Effect::Decided, unknown);
    let [unchanged, derived] = derived;
    let filled = Some([Value::Of(1), Value::Of(2)]);
    let older = updated(2, 2, &[Provided::Value; 2]);
    check(&[unchanged, derived, older], Effect::Filled, filled);
}

/// A late change that fills a value makes those anew that are made of it, and no others.
#[test]
fn late_change_makes_derived_values_anew() {
    const UNKNOWN: &[Provided] = &[Provided::Unchanged, Provided::Unchanged];
    let derives = |id, lsn| change(id, Event::Update, at(lsn), DERIVES);
    let gaps = |row: [Cell; 2]| State {
        present: true,
        row: Some(at(9)),
        cells: row.to_vec(),
        ..State::unknown(2)
    };
    let gap = |lsn| Cell {
        gap: Some(at(lsn)),
        ..Cell::new(Value::Stored)
    };
    let filled = |mut state: State, change: &Change<'_>| {
        let effect = state.apply(change, READ_SKEW);
        (effect, state.cells[1].value)
    };
    let anew = filled(gaps([gap(2), gap(2)]), &derives(1, 5));
    assert_eq!(anew, (Effect::Filled, Value::Of(1)));
    // its value is not older than the change
    let newer = filled(gaps([gap(2), gap(6)]), &derives(1, 5));
    assert_eq!(newer, (Effect::Filled, Value::Stored));
    let no_gap = filled(gaps([gap(2), Cell::new(Value::Stored)]), &derives(1, 5));
    assert_eq!(no_gap, (Effect::Filled, Value::Stored));
    // what it is made of was not filled
    let stale = filled(gaps([gap(6), gap(2)]), &derives(1, 5));
    assert_eq!(stale, (Effect::Stale, Value::Stored));
    let unchanged = change(1, Event::Update, at(5), UNKNOWN);
    let kept = filled(gaps([gap(2), gap(2)]), &unchanged);
    assert_eq!(kept, (Effect::Stale, Value::Stored));
}
