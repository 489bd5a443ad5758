//! Which rows keep the image of their newest change.

#![forbid(unsafe_code)]

use super::*;

const IMAGE: Option<u64> = Some(7);

/// A row of which this change is the newest.
fn row(stamp: Option<Stamp>, image: Option<u64>) -> State {
    State {
        present: true,
        row: stamp,
        row_image: image,
        ..State::unknown(0)
    }
}

fn change(id: u32, event: Event, stamp: Stamp) -> Change<'static> {
    Change {
        id,
        event,
        stamp,
        image: IMAGE,
        differs: false,
        provided: &[],
    }
}

/// The image that is left of a row which was `before` and is now as the change says; change 1 moved its row.
fn left(before: &State, changes: &[Change<'_>]) -> Option<u64> {
    let newest = changes.last().map(|change| change.stamp);
    let mut state = row(newest, IMAGE);
    forget_plain_image(&mut state, before, changes, |id| id == 1);
    state.row_image
}

#[test]
fn row_that_moved_here_keeps_its_image() {
    let before = State::unknown(0);
    assert_eq!(left(&before, &[change(1, Event::Appear, at(2, 0))]), IMAGE);
}

#[test]
fn row_that_was_inserted_or_updated_does_not() {
    let before = State::unknown(0);
    assert_eq!(left(&before, &[change(0, Event::Appear, at(2, 0))]), None);
    assert_eq!(left(&before, &[change(1, Event::Update, at(2, 0))]), None);
    // an earlier change of the batch moved the row; the newest is another
    let changes = [
        change(1, Event::Appear, at(2, 0)),
        change(0, Event::Update, at(3, 0)),
    ];
    assert_eq!(left(&before, &changes), None);
}

#[test]
fn image_lasts_as_long_as_the_transaction() {
    let updated = [change(0, Event::Update, at(2, 1))];
    assert_eq!(left(&row(Some(at(2, 0)), IMAGE), &updated), IMAGE);
    assert_eq!(left(&row(Some(at(2, 0)), None), &updated), None);
    assert_eq!(left(&row(Some(at(1, 0)), IMAGE), &updated), None);
    assert_eq!(left(&row(None, IMAGE), &updated), None);
}

#[test]
fn row_that_no_change_decided_stays_as_it_was() {
    let before = row(Some(at(1, 0)), IMAGE);
    let mut state = before.clone();
    forget_plain_image(&mut state, &before, &[], |_| false);
    assert_eq!(state, before);
    let mut unversioned = at(1, 0);
    unversioned.version = None;
    let before = row(Some(unversioned), IMAGE);
    let mut state = before.clone();
    forget_plain_image(&mut state, &before, &[], |_| false);
    assert_eq!(state, before);
    let mut without = row(Some(at(2, 0)), None);
    forget_plain_image(&mut without, &before, &[], |_| true);
    assert_eq!(without.row_image, None);
}

#[test]
fn row_that_another_one_left_in_its_transaction_keeps_its_image() {
    let gone = |stamp, image| Gone {
        stamp,
        image,
        matched: None,
    };
    let after = |gone| {
        let mut state = row(Some(at(2, 1)), IMAGE);
        state.gone = Some(gone);
        forget_plain_image(
            &mut state,
            &State::unknown(0),
            &[change(0, Event::Appear, at(2, 1))],
            |_| false,
        );
        state.row_image
    };
    assert_eq!(after(gone(at(2, 0), Some(9))), IMAGE);
    assert_eq!(after(gone(at(2, 0), None)), None);
    assert_eq!(after(gone(at(1, 0), Some(9))), None);
}

#[test]
fn one_of_several_changes_that_moved_the_row_is_enough() {
    let mut state = row(Some(at(3, 0)), IMAGE);
    let changes = [
        change(0, Event::Update, at(2, 0)),
        change(1, Event::Appear, at(3, 0)),
    ];
    forget_plain_image(&mut state, &State::unknown(0), &changes, |id| id == 1);
    assert_eq!(state.row_image, IMAGE);
}
