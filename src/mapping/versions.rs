//! The place of the versions of a mapping's rows.

#![forbid(unsafe_code)]

use super::{GUARD_COLUMNS, Guard, Mapping, Mode};
use crate::destination::Destination;

/// The place of the versions of a mapping's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionsIn {
    /// Nowhere.
    Nowhere,
    /// In three columns of the destination. Versions that these columns cannot hold are in
    /// `sequin.row_version`.
    Columns,
    /// In `sequin.row_version`.
    Table,
}

impl VersionsIn {
    /// The place that the mapping chooses, given the columns of the destination.
    pub fn of(mapping: &Mapping, destination: &Destination) -> VersionsIn {
        match guard(mapping, destination) {
            _ if mapping.mode == Mode::Append => VersionsIn::Nowhere,
            Guard::Off => VersionsIn::Nowhere,
            Guard::Columns => VersionsIn::Columns,
            Guard::Table | Guard::Auto => VersionsIn::Table,
        }
    }
}

/// Whether the destination has the columns for versions.
pub fn has_guard_columns(destination: &Destination) -> bool {
    GUARD_COLUMNS.iter().all(|(name, type_oid, _)| {
        destination
            .column(name)
            .is_some_and(|c| c.type_oid.to_u32() == *type_oid && !c.generated)
    })
}

/// The place of the mapping's row versions. For `guard => 'auto'` the destination's columns decide.
pub fn guard(mapping: &Mapping, destination: &Destination) -> Guard {
    match mapping.guard {
        Guard::Auto if has_guard_columns(destination) => Guard::Columns,
        Guard::Auto => Guard::Table,
        given => given,
    }
}
