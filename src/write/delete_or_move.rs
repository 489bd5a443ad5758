//! Whether a row can be deleted and inserted again, or must be updated to its new key instead.

#![forbid(unsafe_code)]

use crate::changes::net::{NetChange, NetEffect};
use crate::column_set::ColumnSet;
use crate::destination::Action;
use crate::target::Target;

/// Whether the row of this change can be deleted and inserted again.
pub fn can_come_back(target: &Target, net: &NetChange) -> bool {
    // A part of a document needs the stored document.
    let merges = net
        .columns()
        .is_some_and(|(_, merges)| *merges != ColumnSet::new());
    !merges && may_be_deleted(target)
}

/// Whether rows of the destination can be deleted without an action of a foreign key.
pub fn may_be_deleted(target: &Target) -> bool {
    let mut referrers = target.destination.links.referrers.iter();
    referrers.all(|referrer| referrer.on_delete == Action::Nothing)
}

/// Whether an update must move the row from one key to another, instead of a delete and an insert. `old` and `new`
/// are the two net changes of the message, each with whether its row exists now.
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

/// Whether an update moves rows to other keys: foreign keys act on deletes, and the key columns can be updated.
pub fn can_change_key(target: &Target) -> bool {
    !may_be_deleted(target)
        && target.shared.sharers.is_empty()
        && target.mark().is_none()
        && target
            .key
            .iter()
            .all(|&i| !target.columns[i].sql.insert_only)
}
