//! Which changes are known to be stale without what they bring.

#![forbid(unsafe_code)]

use super::*;

const UPDATE: Event = Event::Update;
const DELETE: Event = Event::Delete { image: None };

/// A row that the change (5, 2) has written, without gaps.
fn row() -> State {
    let mut state = State {
        present: true,
        row: Some(at(5, 2)),
        ..State::unknown(1)
    };
    state.cells.fill(Cell::new(Value::Stored));
    state
}

fn with_gap(gap: Stamp) -> State {
    let mut state = row();
    state.cells[0].gap = Some(gap);
    state
}

fn departed(at: Stamp) -> Option<Gone> {
    Some(Gone {
        stamp: at,
        image: None,
        matched: None,
    })
}

#[test]
fn older_changes_and_the_same_one_are_past() {
    for event in [UPDATE, Event::Appear, DELETE, Event::Leave { image: 7 }] {
        assert!(row().is_past(event, &at(4, 9)), "{event:?}");
        assert!(row().is_past(event, &at(5, 2)), "{event:?}");
        assert!(!row().is_past(event, &at(6, 0)), "{event:?}");
        // rows of one transaction are told apart by their images
        assert!(!row().is_past(event, &at(5, 1)), "{event:?}");
        assert!(!row().is_past(event, &at(5, 3)), "{event:?}");
    }
    assert!(!row().is_past(Event::Read, &at(4, 0)));
}

#[test]
fn a_row_that_went_makes_all_before_past() {
    let gone = State {
        gone: departed(at(5, 2)),
        ..State::unknown(1)
    };
    assert!(gone.is_past(UPDATE, &at(4, 0)));
    assert!(gone.is_past(DELETE, &at(5, 2)));
    assert!(!gone.is_past(UPDATE, &at(6, 0)));
    assert!(!gone.is_past(UPDATE, &at(5, 1)));
    assert!(!State::unknown(1).is_past(UPDATE, &at(4, 0)));
}

#[test]
fn positions_that_have_no_order_tell_nothing() {
    let other = Stamp {
        source: 2,
        ..at(4, 0)
    };
    assert!(!row().is_past(UPDATE, &other));
    let unindexed = |lsn| Stamp {
        version: Some(Version::unindexed(lsn, 7, true)),
        ..at(lsn, 0)
    };
    assert!(!row().is_past(UPDATE, &unindexed(4)));
    let mut stored = row();
    stored.row = Some(unindexed(5));
    assert!(!stored.is_past(UPDATE, &at(4, 0)));
    stored.row = Some(Stamp {
        version: None,
        ..at(5, 0)
    });
    assert!(!stored.is_past(UPDATE, &at(4, 0)));
}

#[test]
fn a_gap_can_be_filled_by_a_change_that_is_newer_than_its_value() {
    assert!(with_gap(at(4, 0)).is_past(UPDATE, &at(3, 0)));
    assert!(with_gap(at(3, 0)).is_past(UPDATE, &at(5, 2)));
    assert!(!with_gap(at(3, 0)).is_past(UPDATE, &at(4, 0)));
    // a departure under the row is remembered while there is a gap
    assert!(!with_gap(at(4, 0)).is_past(DELETE, &at(3, 0)));
    let mut unknown = row();
    unknown.cells[0] = Cell::new(Value::Unknown);
    assert!(!unknown.is_past(DELETE, &at(3, 0)));
}

#[test]
fn a_read_and_a_departure_of_the_transaction_need_the_whole_rule() {
    let mut read = row();
    read.read_at = Some(9 * SECOND);
    assert!(!read.is_past(UPDATE, &at(4, 0)));
    let mut back = row();
    back.gone = departed(at(4, 3));
    assert!(back.is_past(UPDATE, &at(3, 0)));
    assert!(back.is_past(UPDATE, &at(4, 3)));
    assert!(!back.is_past(UPDATE, &at(4, 1)));
}
