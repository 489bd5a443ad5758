//! In which way a change is written together with others.

#![forbid(unsafe_code)]

use crate::changes::net::{NetChange, NetEffect};
use crate::column_set::ColumnSet;
use crate::destination::Action;
use crate::target::Target;

/// Whether a row that stays can be deleted and inserted again.
pub fn can_come_back(target: &Target, net: &NetChange) -> bool {
    // A part of a document is laid over the row that is there.
    let merges = net
        .columns()
        .is_some_and(|(_, merges)| *merges != ColumnSet::new());
    !merges && may_be_deleted(target)
}

/// Whether a row can be deleted and come back: no foreign key acts on the delete.
pub fn may_be_deleted(target: &Target) -> bool {
    let mut referrers = target.destination.referrers.iter();
    referrers.all(|referrer| referrer.on_delete == Action::Nothing)
}

/// Whether a row that goes from one key to another, the two net changes of a message, is updated: it must not be
/// deleted meanwhile. With each change comes whether its row is there now.
pub fn is_move(
    target: &Target,
    (old, old_there): (&NetChange, bool),
    (new, new_there): (&NetChange, bool),
) -> bool {
    can_change_key(target)
        && matches!(old.effect, NetEffect::Delete { refused: false })
        && new.present()
        && old_there
        && !new_there
}

/// Whether rows are updated to another key, because foreign keys act when they are deleted.
pub fn can_change_key(target: &Target) -> bool {
    !may_be_deleted(target)
        && target.mark().is_none()
        && target
            .key
            .iter()
            .all(|&i| !target.columns[i].sql.insert_only)
}
