//! Which image and which departure are remembered with the version of a row.

#![forbid(unsafe_code)]

use super::*;

const IMAGE: Option<u64> = Some(11);
const GONE: Option<u64> = Some(22);

fn departed(stamp: Stamp, image: Option<u64>, matched: Option<u32>) -> Option<Gone> {
    Some(Gone {
        stamp,
        image,
        matched,
    })
}

/// A row that the change (5, 2) has written, over this departure.
fn row(gone: Option<Gone>) -> State {
    State {
        present: true,
        row: Some(at(5, 2)),
        row_image: IMAGE,
        gone,
        ..State::unknown(1)
    }
}

#[test]
fn departure_under_a_row_is_remembered_while_there_are_gaps() {
    for gone in [
        departed(at(4, 0), None, None),
        departed(at(4, 0), GONE, Some(7)),
        departed(at(5, 3), None, None),
        departed(at(5, 3), GONE, None),
    ] {
        assert_eq!(row(gone).to_remember(true), (IMAGE, gone));
    }
}

#[test]
fn departure_under_a_row_without_gaps_is_remembered_if_it_is_newer_and_has_an_image() {
    let newer = departed(at(5, 3), GONE, None);
    assert_eq!(row(newer).to_remember(false), (IMAGE, newer));
    for gone in [
        departed(at(4, 0), GONE, None),
        departed(at(5, 2), GONE, None),
        departed(at(4, 0), None, None),
        departed(at(5, 3), None, None),
    ] {
        assert_eq!(row(gone).to_remember(false), (IMAGE, None), "{gone:?}");
    }
}

#[test]
fn row_without_a_departure_is_remembered_by_its_image() {
    for gaps in [true, false] {
        assert_eq!(row(None).to_remember(gaps), (IMAGE, None));
        assert_eq!(State::unknown(1).to_remember(gaps), (None, None));
    }
}

#[test]
fn row_that_went_is_remembered_by_its_image_until_the_change_with_it_is_known() {
    let went = |gone| State {
        gone,
        ..State::unknown(1)
    };
    for gaps in [true, false] {
        let alone = went(departed(at(5, 3), GONE, None));
        assert_eq!(alone.to_remember(gaps), (GONE, None));
        let matched = departed(at(5, 3), GONE, Some(2));
        assert_eq!(went(matched).to_remember(gaps), (None, matched));
    }
}
