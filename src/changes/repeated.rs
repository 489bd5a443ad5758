//! Repetitions that positions do not show: those of messages without `commit_idx`.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::merge::{Change, Stamp, State};
use crate::message::Version;

/// Which of a row's changes, in commit order, are repetitions: changes without index that came before in the
/// batch under the same idempotency key, or that the newest known change follows. That change came after them in
/// an earlier batch too.
pub fn repetitions(changes: &[Change<'_>], before: &State) -> Vec<bool> {
    let mut repeated = vec![false; changes.len()];
    if changes
        .iter()
        .all(|change| unindexed(&change.stamp).is_none())
    {
        return repeated;
    }
    let mut seen = HashSet::new();
    for (change, repeated) in changes.iter().zip(&mut repeated) {
        if let Some(version) = unindexed(&change.stamp).filter(|version| version.is_named()) {
            *repeated = !seen.insert((change.stamp.source, version.lsn, version.idx));
        }
    }
    let gone = before.gone.as_ref().map(|gone| gone.stamp);
    let newest = if before.present { before.row } else { gone };
    // Changes from before the newest one can still fill gaps.
    let gaps = before.cells.iter().any(|cell| cell.gap.is_some());
    if let Some(newest) = newest.filter(|newest| unindexed(newest).is_some() && !gaps) {
        let same = |change: &Change<'_>| {
            change.stamp.source == newest.source && change.stamp.version == newest.version
        };
        let known = changes.iter().rposition(same).map_or(0, |last| last + 1);
        for (change, repeated) in changes[..known].iter().zip(&mut repeated) {
            *repeated |=
                unindexed(&change.stamp).is_some() && change.stamp.same_transaction(&newest);
        }
    }
    repeated
}

fn unindexed(stamp: &Stamp) -> Option<Version> {
    stamp.version.filter(|version| version.index().is_none())
}
