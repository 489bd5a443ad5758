//! Where the versions of a mapping's rows live.

#![forbid(unsafe_code)]

use super::{Guard, Mapping, Mode, check};
use crate::destination::Destination;

/// Where the versions of a mapping's rows live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionsIn {
    /// Nowhere.
    Nowhere,
    /// In three columns of the destination; what those cannot hold, in `sequin.row_version`.
    Columns,
    /// In `sequin.row_version`.
    Table,
}

impl VersionsIn {
    /// Where the mapping wants them, given the columns of the destination.
    pub fn of(mapping: &Mapping, destination: &Destination) -> VersionsIn {
        match check::guard(mapping, destination) {
            _ if mapping.mode == Mode::Append => VersionsIn::Nowhere,
            Guard::Off => VersionsIn::Nowhere,
            Guard::Columns => VersionsIn::Columns,
            Guard::Table | Guard::Auto => VersionsIn::Table,
        }
    }
}
