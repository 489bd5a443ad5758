//! The order in which the changes of one row are applied within a batch.

#![forbid(unsafe_code)]

use super::*;

fn change(id: u32, source: i64, lsn: Option<u64>, second: i64) -> Change<'static> {
    let event = Event::Update;
    let stamp = Stamp {
        source,
        version: lsn.map(|lsn| Version { lsn, idx: 0 }),
        committed_at: Some(second * SECOND),
    };
    Change {
        id,
        event,
        stamp,
        image: None,
        differs: false,
        provided: &[],
    }
}

fn read(id: u32, second: i64) -> Change<'static> {
    Change {
        event: Event::Read,
        ..change(id, 1, None, second)
    }
}

fn ordered<const N: usize>(mut changes: [Change<'static>; N]) -> [u32; N] {
    commit_order(&mut changes, |change| change.id as usize);
    changes.map(|change| change.id)
}

#[test]
fn positions_of_one_source_decide_whatever_the_clock_said() {
    let (earlier, later) = (change(0, 1, Some(1), 9), change(1, 1, Some(2), 3));
    assert_eq!(ordered([later, earlier]), [0, 1]);
    assert_eq!(ordered([later, read(2, 1), earlier]), [0, 1, 2]);
}

#[test]
fn commit_times_decide_between_two_sources() {
    let (earlier, later) = (change(0, 1, Some(9), 1), change(1, 2, Some(1), 2));
    assert_eq!(ordered([later, earlier]), [0, 1]);
    assert_eq!(ordered([earlier, later]), [0, 1]);
}

#[test]
fn commit_times_decide_where_a_change_has_no_position() {
    let (earlier, later) = (change(0, 1, Some(5), 1), change(1, 1, None, 2));
    assert_eq!(ordered([later, earlier]), [0, 1]);
    assert_eq!(ordered([earlier, later]), [0, 1]);
}

#[test]
fn the_order_of_the_batch_decides_at_last() {
    let (first, second) = (change(0, 1, None, 1), change(1, 1, None, 1));
    assert_eq!(ordered([second, first]), [0, 1]);
    assert_eq!(ordered([read(1, 1), read(0, 1)]), [0, 1]);
    assert_eq!(ordered([read(0, 2), read(1, 1)]), [1, 0]);
}
