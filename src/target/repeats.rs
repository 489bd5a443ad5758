//! The columns by which an append mapping recognises a change that was appended before.

#![forbid(unsafe_code)]

use super::column::TargetColumn;
use crate::destination::{Destination, UniqueIndex};
use crate::mapping::{ColumnSource, Mapping, Root};

/// The columns of a unique index that tells changes apart: it has Sequin's idempotency key, or the position.
/// Nothing if there is no such index, or if the mapping does not write all its columns.
pub fn of_index(
    mapping: &Mapping,
    destination: &Destination,
    columns: &[TargetColumn],
) -> Vec<usize> {
    let number = |name: &String| columns.iter().position(|column| column.name == *name);
    let usable = |index: &&UniqueIndex| {
        index.valid && index.immediate && !index.partial && !index.columns.is_empty()
    };
    let found = destination
        .unique_indexes
        .iter()
        .filter(usable)
        .filter_map(|index| index.columns.iter().map(number).collect::<Option<Vec<_>>>())
        .filter(|numbers| tell_changes(mapping, columns, numbers));
    found.min_by_key(Vec::len).unwrap_or_default()
}

/// Whether these columns tell the changes of a source database apart.
pub fn tell_changes(mapping: &Mapping, columns: &[TargetColumn], numbers: &[usize]) -> bool {
    let has = |member: &str| mentions(mapping, columns, numbers, member);
    has("idempotency_key") || has("commit_lsn") && has("commit_idx")
}

/// Whether these columns tell source databases apart.
pub fn tell_sources(mapping: &Mapping, columns: &[TargetColumn], numbers: &[usize]) -> bool {
    ["database", "database_name"]
        .iter()
        .any(|member| mentions(mapping, columns, numbers, member))
}

/// Whether one of the columns is made of this member of the metadata.
fn mentions(mapping: &Mapping, columns: &[TargetColumn], numbers: &[usize], member: &str) -> bool {
    numbers
        .iter()
        .any(|&i| match mapping.columns.source(&columns[i].name) {
            Some(ColumnSource::Path(path)) => {
                path.root == Root::Metadata && path.keys.first().is_some_and(|key| key == member)
            }
            Some(ColumnSource::Sql(sql)) => sql.contains(member),
            Some(ColumnSource::Value(_)) | None => false,
        })
}
