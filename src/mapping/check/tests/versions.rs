//! Where the versions of rows live.

#![forbid(unsafe_code)]

use super::*;
use crate::mapping::versions::VersionsIn;

fn versions(guard: Guard, mode: Mode, destination: &Destination) -> VersionsIn {
    let mapping = Mapping {
        guard,
        mode,
        ..mapping()
    };
    VersionsIn::of(&mapping, destination)
}

#[test]
fn versions_live_where_the_guard_says() {
    let plain = products();
    let mut versioned = products();
    for (name, type_oid, _) in GUARD_COLUMNS {
        versioned.columns.push(column(name, type_oid));
    }
    for (guard, in_plain, in_versioned) in [
        (Guard::Off, VersionsIn::Nowhere, VersionsIn::Nowhere),
        (Guard::Table, VersionsIn::Table, VersionsIn::Table),
        (Guard::Auto, VersionsIn::Table, VersionsIn::Columns),
        (Guard::Columns, VersionsIn::Columns, VersionsIn::Columns),
    ] {
        assert_eq!(versions(guard, Mode::Upsert, &plain), in_plain);
        assert_eq!(versions(guard, Mode::Upsert, &versioned), in_versioned);
    }
}

#[test]
fn rows_that_are_only_added_have_no_versions() {
    for guard in [Guard::Off, Guard::Table, Guard::Auto] {
        let found = versions(guard, Mode::Append, &products());
        assert_eq!(found, VersionsIn::Nowhere);
    }
}
