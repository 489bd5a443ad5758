//! The cases, each of which stands for its kind.

mod cascades;
mod exchanges;
mod exclusion;
mod found;
mod handovers;
mod keys;
mod parents;
mod references;
mod rings;
mod soft;
mod values;

use crate::case::Case;

/// All cases.
pub fn all() -> Vec<Case> {
    [
        exchanges::cases(),
        values::cases(),
        parents::cases(),
        rings::cases(),
        cascades::cases(),
        exclusion::cases(),
        keys::cases(),
        soft::cases(),
        handovers::cases(),
        found::cases(),
        references::cases(),
    ]
    .concat()
}

/// How a unique column is declared, for a name of the case and a type.
const UNIQUE: [(&str, &str); 4] = [
    ("text", "e text unique {deferred}"),
    ("not_null", "e text not null unique {deferred}"),
    ("char", "e char(1) not null unique {deferred}"),
    (
        "exclusion",
        "e text not null, exclude (e with =) {deferred}",
    ),
];

/// What a foreign key does when a parent is deleted.
const ON_DELETE: [(&str, &str); 4] = [
    ("no_action", ""),
    ("cascade", "on delete cascade"),
    ("set_null", "on delete set null"),
    ("restrict", "on delete restrict"),
];
