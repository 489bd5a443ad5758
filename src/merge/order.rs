//! What a batch does beside the rule: the order of its changes, and the images that it forgets.

#![forbid(unsafe_code)]

use super::state::{Change, Event, State};

/// Drops the image of a row, unless the row came to its key from another key, or another row went from the
/// key in the same transaction: only such a row is likely to be taken for the row that was at the key before.
pub fn forget_plain_image(
    state: &mut State,
    before: &State,
    changes: &[Change<'_>],
    moved: impl Fn(u32) -> bool,
) {
    if state.row_image.is_none() || state.row == before.row {
        return;
    }
    let kept = changes.iter().any(|change| {
        Some(change.stamp) == state.row && change.event == Event::Appear && moved(change.id)
    });
    let same = match (&state.row, &before.row) {
        (Some(row), Some(stored)) => before.row_image.is_some() && row.same_transaction(stored),
        _ => false,
    };
    let survived = match (&state.row, &state.gone) {
        (Some(row), Some(gone)) => gone.image.is_some() && row.same_transaction(&gone.stamp),
        _ => false,
    };
    let kept = kept || same || survived;
    if !kept {
        state.row_image = None;
    }
}

/// Sorts the changes of one row into the order in which a batch applies them: commit order, with reads last.
/// `position` breaks ties between messages without a version.
pub fn commit_order(changes: &mut [Change<'_>], position: impl Fn(&Change<'_>) -> usize) {
    let one_source = changes
        .windows(2)
        .all(|w| w[0].stamp.source == w[1].stamp.source)
        && changes
            .iter()
            .all(|c| c.event == Event::Read || c.stamp.version.is_some());
    changes.sort_by_key(|c| {
        let read = c.event == Event::Read;
        let time = c.stamp.committed_at.unwrap_or(i64::MIN);
        // Changes of one transaction without index stay in the order of the batch.
        let version = c
            .stamp
            .version
            .map(|version| (version.lsn, version.index()));
        if one_source && !read {
            (read, None, version, position(c))
        } else {
            (read, Some(time), version, position(c))
        }
    });
}
