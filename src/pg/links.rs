//! What the server's caches know of a relation's triggers and foreign keys.

use std::ffi::c_void;

use pgrx::pg_sys;

use super::relation::{constraint_name, opened};

/// A trigger of a relation, and how a constraint needs it.
pub struct TriggerRow {
    /// `tgconstraint`; `InvalidOid` for a trigger that belongs to no constraint.
    pub constraint: pg_sys::Oid,
    /// `tgconstrrelid`: for a foreign key, the other table.
    pub other: pg_sys::Oid,
    /// Whether the constraint's index is known: `tgconstrindid`.
    pub has_index: bool,
    /// `tgfoid`
    pub function: u32,
    /// `tgtype`
    pub events: i16,
    /// False for a disabled trigger.
    pub enabled: bool,
    /// `tgisinternal`
    pub internal: bool,
    /// `tgdeferrable`
    pub deferrable: bool,
}

/// A foreign key of a relation.
pub struct ForeignKeyRow {
    /// The constraint.
    pub oid: pg_sys::Oid,
    /// The constraint's name.
    pub name: String,
    /// The table that it refers to.
    pub to: pg_sys::Oid,
    /// For each column: its number, the number of the column that it refers to, and the operator that compares the two.
    pub columns: Vec<(i16, i16, pg_sys::Oid)>,
}

/// Whether a publication sends updates or deletes of a relation, itself or as a part of a partitioned table.
pub fn is_published(relation: pg_sys::Oid) -> bool {
    let read = |open: pg_sys::Relation| {
        let mut found = pg_sys::PublicationDesc::default();
        // SAFETY: the relation is open. The function fills in the struct, and keeps a copy with the relation.
        unsafe { pg_sys::RelationBuildPublicationDesc(open, &mut found) };
        found.pubactions.pubupdate || found.pubactions.pubdelete
    };
    opened(relation, read).unwrap_or(false)
}

/// The triggers of a relation, internal ones included.
pub fn triggers(relation: pg_sys::Oid) -> Vec<TriggerRow> {
    let read = |open: pg_sys::Relation| {
        // SAFETY: the descriptor belongs to the open relation, and has as many triggers as it says.
        let triggers = unsafe {
            let all = (*open).trigdesc;
            match all.is_null() {
                true => return Vec::new(),
                false => std::slice::from_raw_parts((*all).triggers, (*all).numtriggers as usize),
            }
        };
        let row = |trigger: &pg_sys::Trigger| TriggerRow {
            constraint: trigger.tgconstraint,
            other: trigger.tgconstrrelid,
            has_index: trigger.tgconstrindid != pg_sys::InvalidOid,
            function: trigger.tgfoid.to_u32(),
            events: trigger.tgtype,
            enabled: trigger.tgenabled as u8 != b'D',
            internal: trigger.tgisinternal,
            deferrable: trigger.tgdeferrable,
        };
        triggers.iter().map(row).collect()
    };
    opened(relation, read).unwrap_or_default()
}

/// The foreign keys of a relation, by their OIDs.
pub fn foreign_keys(relation: pg_sys::Oid) -> Vec<ForeignKeyRow> {
    let read = |open: pg_sys::Relation| {
        // SAFETY: the list belongs to the open relation; its members are of this struct, and their arrays have `nkeys`
        // values.
        unsafe {
            let list = pg_sys::RelationGetFKeyList(open);
            let count = if list.is_null() { 0 } else { (*list).length };
            let member = |n: usize| -> *mut c_void { (*(*list).elements.add(n)).ptr_value };
            (0..count as usize)
                .map(|n| {
                    let key = &*member(n).cast::<pg_sys::ForeignKeyCacheInfo>();
                    let columns = (0..key.nkeys as usize)
                        .map(|i| (key.conkey[i], key.confkey[i], key.conpfeqop[i]));
                    (key.conoid, key.confrelid, columns.collect())
                })
                .collect()
        }
    };
    let found: Vec<(_, _, Vec<_>)> = opened(relation, read).unwrap_or_default();
    let mut keys: Vec<ForeignKeyRow> = found
        .into_iter()
        .map(|(oid, to, columns)| ForeignKeyRow {
            oid,
            name: constraint_name(oid),
            to,
            columns,
        })
        .collect();
    keys.sort_by_key(|key| key.oid.to_u32());
    keys
}

/// Whether the trigger function of a foreign key checks that nothing refers to the row, and whether it does so at once:
/// `None` for one that deletes or changes the referring rows.
pub fn check_of(function: u32) -> Option<bool> {
    match function {
        pg_sys::F_RI_FKEY_NOACTION_DEL | pg_sys::F_RI_FKEY_NOACTION_UPD => Some(false),
        pg_sys::F_RI_FKEY_RESTRICT_DEL | pg_sys::F_RI_FKEY_RESTRICT_UPD => Some(true),
        _ => None,
    }
}

/// Whether an event of the trigger is a delete.
pub fn is_of_delete(trigger: &TriggerRow) -> bool {
    trigger.events as u32 & pg_sys::TRIGGER_TYPE_DELETE != 0
}

/// Whether an event of the trigger is an update.
pub fn is_of_update(trigger: &TriggerRow) -> bool {
    trigger.events as u32 & pg_sys::TRIGGER_TYPE_UPDATE != 0
}
