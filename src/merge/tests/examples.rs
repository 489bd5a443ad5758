//! Clauses of the rule, on the state of one row with two columns.

#![forbid(unsafe_code)]

use super::*;

const ALL: &[Provided] = &[Provided::Value, Provided::Value];
pub(super) const FIRST: &[Provided] = &[Provided::Value, Provided::Unchanged];
pub(super) const LACKS: &[Provided] = &[Provided::Value, Provided::Nothing];

/// The only change of the transaction with this position, committed in that second.
pub(super) fn at(lsn: u64) -> Stamp {
    super::at(lsn, 0)
}

pub(super) fn change(id: u32, event: Event, stamp: Stamp, provided: &[Provided]) -> Change<'_> {
    Change {
        id,
        event,
        stamp,
        image: None,
        differs: false,
        provided,
    }
}

pub(super) fn inserted(id: u32, lsn: u64) -> Change<'static> {
    change(id, Event::Appear, at(lsn), ALL)
}

pub(super) fn updated(id: u32, lsn: u64, provided: &[Provided]) -> Change<'_> {
    change(id, Event::Update, at(lsn), provided)
}

fn deleted(id: u32, lsn: u64) -> Change<'static> {
    change(id, Event::Delete { image: None }, at(lsn), &[])
}

pub(super) fn read_in(id: u32, second: i64) -> Change<'static> {
    let stamp = Stamp {
        source: 1,
        version: None,
        committed_at: Some(second * SECOND),
    };
    change(id, Event::Read, stamp, ALL)
}

/// The state after these changes, in the order in which they are given, and the last one's effect.
pub(super) fn after(changes: &[Change<'_>]) -> (State, Effect) {
    let mut state = State::unknown(2);
    let mut effect = Effect::Stale;
    for change in changes {
        effect = state.apply(change, READ_SKEW);
    }
    (state, effect)
}

/// Where the values are; `None` if there is no row.
pub(super) fn values(state: &State) -> Option<[Value; 2]> {
    state
        .present
        .then(|| [state.cells[0].value, state.cells[1].value])
}

#[track_caller]
pub(super) fn check(changes: &[Change<'_>], effect: Effect, expected: Option<[Value; 2]>) {
    let (state, came) = after(changes);
    assert_eq!((came, values(&state)), (effect, expected), "{state:#?}");
}

pub(super) const fn both(id: u32) -> Option<[Value; 2]> {
    Some([Value::Of(id), Value::Of(id)])
}

#[test]
fn newest_change_decides() {
    check(
        &[inserted(0, 1), updated(1, 2, ALL)],
        Effect::Decided,
        both(1),
    );
    check(
        &[updated(1, 2, ALL), inserted(0, 1)],
        Effect::Stale,
        both(1),
    );
    let mut later = updated(1, 1, ALL);
    later.stamp.version = Some(Version { lsn: 1, idx: 7 });
    check(&[inserted(0, 1), later], Effect::Decided, both(1));
}

#[test]
fn same_change_again_is_stale() {
    check(&[inserted(0, 1), inserted(1, 1)], Effect::Stale, both(0));
    check(&[deleted(0, 1), deleted(1, 1)], Effect::Stale, None);
    check(&[read_in(0, 9), read_in(1, 9)], Effect::Stale, both(0));
    let unknown = Some([Value::Of(0), Value::Unknown]);
    check(
        &[updated(0, 1, FIRST), updated(1, 1, FIRST)],
        Effect::Stale,
        unknown,
    );
}

#[test]
fn delete_of_a_row_that_nobody_knows_decides() {
    check(&[deleted(0, 1)], Effect::Decided, None);
}

#[test]
fn tombstone_outlives_a_late_insert_update_and_read() {
    check(&[deleted(0, 3), inserted(1, 1)], Effect::Stale, None);
    check(&[deleted(0, 3), updated(1, 2, ALL)], Effect::Stale, None);
    check(&[deleted(0, 3), read_in(1, 2)], Effect::Stale, None);
    check(&[deleted(0, 3), read_in(1, 8)], Effect::Stale, None);
}

#[test]
fn newer_change_ends_a_tombstone() {
    check(&[deleted(0, 3), inserted(1, 4)], Effect::Decided, both(1));
    let unknown = Some([Value::Of(1), Value::Unknown]);
    check(
        &[deleted(0, 3), updated(1, 5, FIRST)],
        Effect::Decided,
        unknown,
    );
}

#[test]
fn read_later_than_tombstone_and_skew_brings_the_row_back() {
    let read = [inserted(0, 1), deleted(1, 3), read_in(2, 9)];
    check(&read, Effect::Decided, both(2));
    let [insert, delete, read] = read;
    check(&[insert, delete, read, insert], Effect::Stale, both(2));
    check(&[insert, delete, read, delete], Effect::Stale, both(2));
    let newer = inserted(3, 4);
    check(&[insert, delete, read, newer], Effect::Decided, both(3));
}

#[test]
fn read_applies_over_a_change_only_if_later_than_the_skew() {
    check(&[inserted(0, 1), read_in(1, 6)], Effect::Stale, both(0));
    check(&[inserted(0, 1), read_in(1, 7)], Effect::Decided, both(1));
}

#[test]
fn change_that_a_read_may_not_have_seen_applies_over_the_read() {
    check(
        &[read_in(0, 9), updated(1, 4, ALL)],
        Effect::Decided,
        both(1),
    );
    check(
        &[inserted(0, 1), read_in(1, 9), updated(2, 4, ALL)],
        Effect::Decided,
        both(2),
    );
    check(
        &[inserted(0, 1), read_in(1, 9), inserted(2, 1)],
        Effect::Stale,
        both(1),
    );
    let mut timeless = updated(1, 1, ALL);
    timeless.stamp.committed_at = None;
    check(&[read_in(0, 9), timeless], Effect::Decided, both(1));
}

#[test]
fn change_that_a_read_has_seen_does_not_apply_over_the_read() {
    check(&[read_in(0, 9), updated(1, 3, ALL)], Effect::Stale, both(0));
    check(&[read_in(0, 9), inserted(1, 3)], Effect::Stale, both(0));
    check(
        &[inserted(0, 1), read_in(1, 9), updated(2, 3, ALL)],
        Effect::Stale,
        both(1),
    );
    check(&[read_in(0, 9), deleted(1, 3)], Effect::Stale, both(0));
    check(
        &[inserted(0, 1), read_in(1, 9), deleted(2, 3)],
        Effect::Stale,
        both(1),
    );
    let mut other = updated(1, 3, ALL);
    other.stamp.source = 2;
    check(&[read_in(0, 9), other], Effect::Decided, both(1));
    // A change over the read ends what the read says of others: the position decides again.
    let over = [read_in(0, 9), updated(1, 5, ALL), updated(2, 3, ALL)];
    check(&over, Effect::Stale, both(1));
}

#[test]
fn change_that_a_read_has_seen_fills_what_the_read_did_not_provide() {
    let mut read = read_in(0, 9);
    read.provided = LACKS;
    let own = |id| Some([Value::Of(0), Value::Of(id)]);
    let (first, second) = (updated(1, 2, ALL), updated(2, 3, ALL));
    check(&[read, first], Effect::Filled, own(1));
    check(&[read, first, second], Effect::Filled, own(2));
    check(&[read, second, first], Effect::Stale, own(2));
    check(&[read, second, second], Effect::Stale, own(2));
    check(&[first, read, second], Effect::Filled, own(2));
    check(&[second, read, first], Effect::Stale, own(2));
    // The departures before are a floor.
    check(&[read, second, deleted(3, 2), first], Effect::Stale, own(2));
    check(&[read, first, deleted(3, 3)], Effect::Stale, own(1));
    let default = Some([Value::Of(0), Value::Stored]);
    check(&[read, deleted(3, 3), first], Effect::Stale, default);
}

#[test]
fn value_of_a_read_stays_under_a_change_that_does_not_tell_it() {
    let (read, old, update) = (read_in(0, 9), updated(1, 2, ALL), updated(2, 10, FIRST));
    let kept = Some([Value::Of(2), Value::Of(0)]);
    check(&[read, update, old], Effect::Stale, kept);
    check(&[read, old, update], Effect::Decided, kept);
    let between = updated(3, 5, ALL);
    let filled = Some([Value::Of(2), Value::Of(3)]);
    check(&[read, update, between], Effect::Filled, filled);
    check(&[read, update, between, old], Effect::Stale, filled);
    // Nor does a read that is stale go back.
    let stale = [updated(0, 20, FIRST), read_in(1, 9), updated(2, 3, ALL)];
    let kept = Some([Value::Of(0), Value::Of(1)]);
    check(&stale, Effect::Stale, kept);
}

#[test]
fn column_that_neither_a_read_nor_a_change_has_is_no_gap() {
    let mut read = read_in(1, 9);
    read.provided = LACKS;
    let (state, _) = after(&[inserted(0, 1), read]);
    assert_eq!(state.cells[1].gap, Some(at(1)));
    let (state, _) = after(&[inserted(0, 1), read, updated(2, 8, LACKS)]);
    assert_eq!(state.cells[1], Cell::new(Value::Of(0)));
}

#[test]
fn update_without_a_column_leaves_the_gap_of_the_column() {
    let changes = [
        inserted(0, 1),
        updated(1, 4, FIRST),
        updated(2, 5, LACKS),
        updated(3, 3, ALL),
    ];
    check(&changes, Effect::Filled, Some([Value::Of(2), Value::Of(3)]));
}

#[test]
fn change_over_a_read_leaves_nothing_of_the_read() {
    let update = updated(1, 9, ALL);
    let (state, effect) = after(&[read_in(0, 9), update]);
    assert_eq!((state.read_at, state.read_source), (None, 0));
    assert_eq!((state, effect), after(&[update]));
}

#[test]
fn older_read_than_the_last_one_is_stale() {
    check(&[read_in(0, 9), read_in(1, 8)], Effect::Stale, both(0));
    check(&[read_in(0, 8), read_in(1, 9)], Effect::Decided, both(1));
}

#[test]
fn read_does_not_overwrite_what_it_cannot_tell() {
    let mut read = read_in(1, 9);
    read.provided = LACKS;
    check(
        &[inserted(0, 1), read],
        Effect::Decided,
        Some([Value::Of(1), Value::Of(0)]),
    );
}

#[test]
fn unchanged_value_stays_and_a_late_change_fills_it_alone() {
    let kept = Some([Value::Of(1), Value::Of(0)]);
    let (insert, update) = (inserted(0, 1), updated(1, 3, FIRST));
    check(&[insert, update], Effect::Decided, kept);
    let filled = Some([Value::Of(1), Value::Of(2)]);
    check(
        &[insert, update, updated(2, 2, ALL)],
        Effect::Filled,
        filled,
    );
    check(&[insert, update, updated(2, 2, FIRST)], Effect::Stale, kept);
    let older = [update, updated(2, 2, ALL), insert];
    check(&older, Effect::Stale, filled);
}

#[test]
fn value_from_before_the_gap_does_not_fill_it() {
    let changes = [updated(0, 2, ALL), updated(1, 3, FIRST), inserted(2, 1)];
    check(&changes, Effect::Stale, Some([Value::Of(1), Value::Of(0)]));
}

#[test]
fn unknown_value_is_filled_by_an_older_change_or_any_read() {
    let update = updated(0, 3, FIRST);
    check(
        &[update],
        Effect::Decided,
        Some([Value::Of(0), Value::Unknown]),
    );
    let filled = Some([Value::Of(0), Value::Of(1)]);
    check(&[update, inserted(1, 1)], Effect::Filled, filled);
    check(&[update, read_in(1, 2)], Effect::Filled, filled);
}

#[test]
fn change_knows_better_than_the_stale_read_that_filled() {
    let changes = [updated(0, 3, FIRST), read_in(1, 2), inserted(2, 1)];
    check(&changes, Effect::Filled, Some([Value::Of(0), Value::Of(2)]));
    let [update, read, insert] = changes;
    let changes = [update, insert, read];
    check(&changes, Effect::Stale, Some([Value::Of(0), Value::Of(2)]));
}

#[test]
fn late_delete_empties_what_was_filled_from_before_it() {
    let update = updated(0, 5, FIRST);
    let filled = [update, updated(1, 2, ALL), deleted(2, 3)];
    check(&filled, Effect::Stale, Some([Value::Of(0), Value::Unknown]));
    let [update, old, delete] = filled;
    let insert = inserted(3, 4);
    let right = Some([Value::Of(0), Value::Of(3)]);
    check(&[update, old, delete, insert], Effect::Filled, right);
    check(&[update, old, insert, delete], Effect::Stale, right);
}

#[test]
fn floor_keeps_the_dead_rows_values_out() {
    let changes = [deleted(0, 3), updated(1, 5, FIRST), updated(2, 2, ALL)];
    check(
        &changes,
        Effect::Stale,
        Some([Value::Of(1), Value::Unknown]),
    );
}

#[test]
fn floor_stays_under_a_row_that_a_read_brought_back() {
    let mut read = read_in(2, 9);
    read.provided = LACKS;
    let changes = [
        deleted(0, 3),
        updated(1, 1, ALL),
        read,
        updated(3, 10, FIRST),
    ];
    let (state, _) = after(&changes);
    assert_eq!(state.gone.map(|gone| gone.stamp), Some(at(3)));
    let [delete, old, read, update] = changes;
    check(
        &[delete, read, update, old],
        Effect::Stale,
        Some([Value::Of(3), Value::Stored]),
    );
}

#[test]
fn column_that_the_source_lacks_keeps_its_value_or_takes_its_default() {
    let insert = change(0, Event::Appear, at(1), LACKS);
    check(
        &[insert],
        Effect::Decided,
        Some([Value::Of(0), Value::Stored]),
    );
    // The delete between the two is late.
    let again = change(1, Event::Appear, at(3), LACKS);
    let default = Some([Value::Of(1), Value::Stored]);
    check(&[inserted(0, 1), again], Effect::Decided, default);
    let kept = Some([Value::Of(1), Value::Of(0)]);
    check(
        &[inserted(0, 1), updated(1, 2, LACKS)],
        Effect::Decided,
        kept,
    );
}

#[test]
fn between_sources_the_commit_time_decides() {
    let of = |mut change: Change<'static>, source, second| {
        change.stamp.source = source;
        change.stamp.committed_at = Some(second * SECOND);
        change
    };
    let (one, other) = (of(inserted(0, 9), 1, 1), of(inserted(1, 2), 2, 3));
    check(&[one, other], Effect::Decided, both(1));
    check(&[other, one], Effect::Stale, both(1));
    let gone = of(deleted(2, 1), 2, 2);
    check(&[one, gone], Effect::Decided, None);
    check(&[gone, one], Effect::Stale, None);
    check(&[gone, other, one], Effect::Stale, both(1));
    let at_once = of(inserted(2, 1), 2, 1);
    check(&[one, at_once], Effect::Decided, both(2));
}

#[test]
fn without_a_position_the_commit_time_decides() {
    let at = |id, second: i64| Change {
        stamp: Stamp {
            source: 1,
            version: None,
            committed_at: Some(second * SECOND),
        },
        ..updated(id, 1, ALL)
    };
    check(&[at(0, 1), at(1, 2)], Effect::Decided, both(1));
    check(&[at(1, 2), at(0, 1)], Effect::Stale, both(1));
    check(&[at(0, 1), at(1, 1)], Effect::Decided, both(1));
}

#[test]
fn change_without_a_position_shares_no_transaction() {
    let mut unversioned = at(1);
    unversioned.version = None;
    assert!(at(1).same_transaction(&at(1)));
    assert!(!at(1).same_transaction(&at(2)));
    assert!(!at(1).same_transaction(&unversioned));
    assert!(!unversioned.same_transaction(&unversioned));
}

#[test]
fn nothing_is_known_of_an_unknown_row() {
    let state = State::unknown(2);
    assert_eq!((state.present, state.row, state.gone), (false, None, None));
    let stored = Some([Value::Of(0), Value::Stored]);
    check(&[updated(0, 1, LACKS)], Effect::Decided, stored);
}

#[test]
fn row_that_comes_to_the_key_keeps_no_value_of_the_one_that_is_there() {
    let came = change(1, Event::Appear, at(2), FIRST);
    let unknown = Some([Value::Of(1), Value::Unknown]);
    check(&[inserted(0, 1), came], Effect::Decided, unknown);
}

#[test]
fn same_change_again_fills_nothing_even_if_it_has_more() {
    let unknown = Some([Value::Of(0), Value::Unknown]);
    let again = updated(1, 1, ALL);
    check(&[updated(0, 1, FIRST), again], Effect::Stale, unknown);
}

#[test]
fn deleted_row_leaves_nothing_but_its_departure() {
    let mut read = read_in(1, 99);
    read.provided = FIRST;
    let came = Change {
        image: Some(ONE),
        ..inserted(0, 1)
    };
    let (state, _) = after(&[came, read, deleted(2, 200)]);
    let gone = Gone {
        stamp: at(200),
        image: None,
        matched: None,
    };
    let unknown = State::unknown(2);
    let expected = State {
        gone: Some(gone),
        ..unknown
    };
    assert_eq!(state, expected);
}

#[test]
fn batch_is_taken_in_commit_order_and_reads_last() {
    let mut changes = [
        read_in(0, 1),
        updated(1, 3, ALL),
        inserted(2, 2),
        deleted(3, 1),
    ];
    commit_order(&mut changes, |change| change.id as usize);
    assert_eq!(changes.map(|change| change.id), [3, 2, 1, 0]);
    let mut foreign = updated(4, 1, ALL);
    foreign.stamp.source = 2;
    foreign.stamp.committed_at = Some(2 * SECOND + 1);
    let mut changes = [foreign, updated(1, 3, ALL), inserted(2, 2)];
    commit_order(&mut changes, |change| change.id as usize);
    assert_eq!(changes.map(|change| change.id), [2, 4, 1]);
}

// Two rows at one key. Changes of the transaction at 5, by their index in it.

fn of_transaction(id: u32, event: Event, idx: u32, image: Option<u64>) -> Change<'static> {
    let mut stamp = at(5);
    stamp.version = Some(Version { lsn: 5, idx });
    Change {
        image,
        ..change(id, event, stamp, if image.is_some() { ALL } else { &[] })
    }
}

const ONE: u64 = 11;
const OTHER: u64 = 22;

fn leaves(id: u32, idx: u32, image: u64) -> Change<'static> {
    of_transaction(id, Event::Leave { image }, idx, None)
}

fn comes(id: u32, idx: u32, image: u64) -> Change<'static> {
    of_transaction(id, Event::Appear, idx, Some(image))
}

#[test]
fn row_that_leaves_does_not_take_along_the_one_that_came() {
    let (came, left) = (comes(0, 1, ONE), leaves(1, 2, OTHER));
    check(&[came, left], Effect::Stale, both(0));
    check(&[left, came], Effect::Decided, both(0));
    check(&[left, came, left], Effect::Stale, both(0));
}

#[test]
fn row_that_came_and_left_is_gone() {
    let (came, left) = (comes(0, 1, ONE), leaves(1, 2, ONE));
    check(&[came, left], Effect::Decided, None);
    check(&[left, came], Effect::Stale, None);
}

#[test]
fn former_image_of_the_row_that_left_goes_when_the_last_one_comes() {
    let (left, last, first) = (leaves(0, 3, ONE), comes(1, 2, ONE), comes(2, 1, OTHER));
    check(&[left, first], Effect::Decided, both(2));
    check(&[left, first, last], Effect::Stale, None);
    check(&[left, last, first], Effect::Stale, None);
    check(&[last, left, first], Effect::Stale, None);
}

#[test]
fn former_image_stays_away_though_that_of_the_row_that_left_was_not_kept() {
    let mut state = State::unknown(2);
    state.apply(&comes(0, 2, ONE), READ_SKEW);
    state.row_image = None;
    assert_eq!(state.apply(&leaves(1, 3, ONE), READ_SKEW), Effect::Decided);
    assert_eq!(state.apply(&comes(2, 1, OTHER), READ_SKEW), Effect::Stale);
    assert!(!state.present);
}

#[test]
fn read_does_not_make_the_row_that_came_another_one() {
    let came = [comes(0, 1, ONE), read_in(1, 11), leaves(2, 2, OTHER)];
    check(&came, Effect::Stale, both(1));
}

#[test]
fn row_that_came_fills_what_the_read_before_it_could_not_tell() {
    let mut read = read_in(1, 11);
    read.provided = LACKS;
    let (left, came) = (leaves(0, 2, OTHER), comes(2, 1, ONE));
    let filled = Some([Value::Of(1), Value::Of(2)]);
    check(&[left, read, came], Effect::Filled, filled);
    check(&[left, read, came, left], Effect::Stale, filled);
}

#[test]
fn row_that_a_read_has_seen_stays_when_the_change_that_left_comes() {
    let (came, left) = (comes(0, 1, OTHER), leaves(1, 3, ONE));
    let matched = comes(3, 2, ONE);
    check(
        &[came, left, read_in(2, 99), matched],
        Effect::Stale,
        both(2),
    );
}

#[test]
fn departure_matches_the_change_with_its_image_and_no_other() {
    let matched = |gone: Change<'_>| {
        let (state, _) = after(&[comes(0, 1, ONE), gone]);
        state.gone.map(|gone| gone.matched)
    };
    let deleted = |image| of_transaction(1, Event::Delete { image }, 2, None);
    assert_eq!(matched(leaves(1, 2, ONE)), Some(Some(1)));
    assert_eq!(matched(deleted(Some(ONE))), Some(Some(1)));
    assert_eq!(matched(leaves(1, 2, OTHER)), Some(None));
    assert_eq!(matched(deleted(None)), Some(None));
}

#[test]
fn departure_before_the_change_with_its_image_matches_none() {
    for image in [None, Some(ONE)] {
        let came = Change {
            image,
            ..comes(0, 4, ONE)
        };
        let (state, effect) = after(&[came, leaves(1, 3, ONE)]);
        assert_eq!(effect, Effect::Stale);
        assert_eq!(state.gone.map(|gone| gone.matched), Some(None));
        assert_eq!(values(&state), both(0));
    }
}

#[test]
fn matched_change_again_does_not_take_the_row_of_another_source() {
    let (left, matched) = (leaves(0, 9, ONE), comes(1, 5, ONE));
    let mut foreign = inserted(2, 1);
    foreign.stamp = Stamp {
        source: 2,
        version: None,
        committed_at: None,
    };
    check(&[left, matched, foreign], Effect::Decided, both(2));
    check(&[left, matched, foreign, matched], Effect::Stale, both(2));
}

#[test]
fn departure_in_an_earlier_transaction_is_of_the_row_that_was_there() {
    let left = leaves(0, 2, OTHER);
    check(&[inserted(1, 4), left], Effect::Decided, None);
    check(&[left, inserted(1, 4)], Effect::Stale, None);
    check(&[left, inserted(1, 6)], Effect::Decided, both(1));
    check(&[inserted(1, 6), left], Effect::Stale, both(1));
}

#[test]
fn stamps_with_positions_have_an_order() {
    let unplaced = Stamp {
        version: None,
        ..at(1)
    };
    assert!(at(1).is_before(&at(2)));
    for (one, other) in [
        (at(2), at(2)),
        (at(2), at(1)),
        (unplaced, at(2)),
        (at(1), unplaced),
    ] {
        assert!(!one.is_before(&other), "{one:?}, {other:?}");
    }
}

#[test]
fn departures_remove_the_row() {
    assert!(Event::Delete { image: None }.removes());
    assert!(Event::Leave { image: 7 }.removes());
    for event in [Event::Appear, Event::Update, Event::Read] {
        assert!(!event.removes(), "{event:?}");
    }
}

/// A read does not forget which change a row had before, or which one took it away.
#[test]
fn read_keeps_the_position_of_a_departure() {
    let (state, _) = after(&[deleted(0, 1), read_in(1, 100)]);
    assert_eq!((state.present, state.row), (true, Some(at(1))));
}
