//! The statements that write the rows of a mapping.

#![forbid(unsafe_code)]

use super::Target;
use super::statements::{Removal, Shape, WriteKind};
use super::versions;
use crate::error::SqlError;
use crate::mapping::versions::VersionsIn;
use crate::mapping::{GUARD_COLUMNS, Mode};
use crate::pg::tuples::RowColumn;
use crate::prepared::Statement;
use crate::statement::{self, Input, SqlColumn, SqlRelation};

/// Prepares the statement that writes rows of this shape.
pub fn prepare_write(target: &Target, shape: &Shape) -> Result<Statement, SqlError> {
    let (sql, row) = write_sql(Input::Batch, target, shape);
    Statement::new(&sql, &row)
}

/// The statement that writes rows of this shape, and the columns of its batch relation: for an update the
/// number of the row, then the columns of the shape, the guard's columns and the mark of a soft delete.
pub fn write_sql(input: Input<'_>, target: &Target, shape: &Shape) -> (String, Vec<RowColumn>) {
    let kind = shape.kind;
    let relation = target.relation_within(shape.within.clone());
    let columns = (0..target.columns.len()).filter(|&i| shape.columns.has(i));
    let columns: Vec<usize> = columns.collect();
    let spelled = columns.iter().map(|&i| SqlColumn {
        merges: target.columns[i].document.filter(|_| shape.merges.has(i)),
        ..target.columns[i].sql.clone()
    });
    let spelled: Vec<SqlColumn> = spelled.collect();
    let mark = target
        .mark()
        .filter(|_| kind == WriteKind::UpsertMarked)
        .map(|mark| mark.sql());
    let mut versions = versions::version_columns();
    versions[2].0.insert_only = kind == WriteKind::UpsertRead;
    let versions: Vec<_> = version_columns(target.versions, kind)
        .iter()
        .map(|&i| &versions[i])
        .collect();
    let sql_columns: Vec<&SqlColumn> = spelled
        .iter()
        .chain(versions.iter().map(|(sql, _)| sql))
        .chain(mark.iter().map(|(sql, _)| sql))
        .collect();
    let mut row: Vec<RowColumn> = columns
        .iter()
        .map(|&i| target.columns[i].row.clone())
        .chain(versions.iter().map(|(_, row)| row.clone()))
        .chain(mark.iter().map(|(_, row)| row.clone()))
        .collect();
    let key = target.key_sql();
    // An upsert removes the mark of a soft delete.
    let mut constants: Vec<_> = match &mark {
        Some(_) => Vec::new(),
        None => target.mark().iter().map(|mark| mark.removal()).collect(),
    };
    constants.extend(spellings(target, shape));
    let upsert = |constants: &[(String, String)], condition| {
        statement::upsert(input, &relation, &sql_columns, &key, constants, condition)
    };
    let named = || {
        let names: Vec<_> = key
            .iter()
            .map(|column| format!("d.{}", column.name))
            .collect();
        names.join(", ")
    };
    let newer = statement::newer(&relation, shape.read_skew);
    let counted = |sql| statement::counted(&relation, sql);
    let returning = |sql: String, list: &str| statement::returning(&relation, &sql, list);
    let sql = match (kind, target.mapping.mode) {
        (_, Mode::Append) => match &target.repeats.arbiter {
            Some(arbiter) => counted(statement::insert_unless(
                input,
                &relation,
                &sql_columns,
                arbiter,
            )),
            None => statement::insert(input, &relation, &sql_columns),
        },
        _ if shape.absent => statement::insert_new(input, &relation, &sql_columns, &key),
        (WriteKind::Upsert | WriteKind::UpsertMarked, _) => upsert(&constants, None),
        (WriteKind::Replace, _) => {
            constants.extend(defaults(target, &columns));
            upsert(&constants, None)
        }
        (WriteKind::UpsertNewer, _) => counted(upsert(&constants, Some(&newer))),
        (WriteKind::UpsertNewerNamed, _) => returning(upsert(&constants, Some(&newer)), &named()),
        (WriteKind::UpsertRead, _) => {
            constants.extend(read_time(target));
            let late = statement::late_enough(&relation, shape.read_skew);
            let list = format!("d.sequin_lsn is not null, {}", named());
            returning(upsert(&constants, Some(&late)), &list)
        }
        (WriteKind::Update, _) => {
            row.insert(0, RowColumn::number(""));
            statement::update(input, &relation, &sql_columns, &key, &constants)
        }
        (WriteKind::Move | WriteKind::Handover, _) => {
            if kind == WriteKind::Handover {
                constants.extend(defaults(target, &columns));
            }
            let former = target.key.iter().map(|&i| target.columns[i].row.clone());
            row.splice(0..0, std::iter::once(RowColumn::number("")).chain(former));
            statement::move_rows(input, &relation, &sql_columns, &key, &constants)
        }
    };
    (sql, row)
}

/// The assignments that give an existing row the key as its newest change spells it, which is equal to the row's key, but
/// may differ in case or digits.
fn spellings(target: &Target, shape: &Shape) -> Vec<(String, String)> {
    let from = match shape.kind {
        // They set the whole key.
        WriteKind::Move | WriteKind::Handover => return Vec::new(),
        WriteKind::Update => "b",
        _ => "excluded",
    };
    target
        .spelled_key()
        .filter(|&i| !shape.merges.has(i))
        .map(|i| target.columns[i].sql.name.clone())
        .filter(|name| !target.relation().is_fixed(name))
        .map(|name| (name.clone(), format!("{from}.{name}")))
        .collect()
}

/// The numbers of the guard's columns that are written. A read keeps the stored position.
pub fn version_columns(versions: VersionsIn, kind: WriteKind) -> &'static [usize] {
    match (versions, kind) {
        (VersionsIn::Columns, WriteKind::UpsertRead) => &[2],
        (VersionsIn::Columns, _) => &[0, 1, 2],
        _ => &[],
    }
}

/// The assignments that set all other columns of the destination to their defaults, but for those that other mappings
/// supply.
fn defaults(target: &Target, columns: &[usize]) -> Vec<(String, String)> {
    let named = |name: &str| columns.iter().any(|&i| target.columns[i].name == name);
    let of_others =
        |name: &str| !target.shared.sharers.is_empty() && target.column_number(name).is_none();
    target
        .destination
        .columns
        .iter()
        .filter(|c| !c.generated && !target.mapping.reserves(&c.name) && !named(&c.name))
        .filter(|c| !of_others(&c.name))
        .map(|c| {
            let name = pgrx::spi::quote_identifier(&c.name);
            (name, "default".to_owned())
        })
        .collect()
}

/// With guard columns: the assignment of a read's time. A row without a position takes the time of the
/// read. A row with a position keeps the time of its change, for comparison with changes of other sources.
fn read_time(target: &Target) -> Option<(String, String)> {
    (target.versions == VersionsIn::Columns).then(|| {
        let name = GUARD_COLUMNS[2].0;
        let time = format!("case when d.sequin_lsn is null then excluded.{name} else d.{name} end");
        (name.to_owned(), time)
    })
}

/// Prepares the statement of [`delete_sql`].
pub fn prepare_delete(
    target: &Target,
    removal: Removal,
    within: Option<String>,
) -> Result<Statement, SqlError> {
    let relation = target.relation_within(within);
    let (sql, row) = delete_sql(Input::Batch, target, &relation, removal);
    Statement::new(&sql, &row)
}

/// The statement that deletes (or marks, or clears) rows by key, and the columns of its batch relation: the number of
/// the row, the mark of a soft delete, the key.
pub fn delete_sql(
    input: Input<'_>,
    target: &Target,
    relation: &SqlRelation,
    removal: Removal,
) -> (String, Vec<RowColumn>) {
    let key = target.key_sql();
    let mut row = vec![RowColumn::number("")];
    let sql = match (removal, target.mark()) {
        (Removal::Clear, _) => {
            let in_key: Vec<usize> = target.key.clone();
            statement::update(input, relation, &key, &key, &defaults(target, &in_key))
        }
        (Removal::Delete, _) | (Removal::Mark, None) => statement::delete(input, relation, &key),
        (Removal::Mark, Some(mark)) => {
            let (mark, column) = mark.sql();
            row.push(column);
            statement::soft_delete(input, relation, &key, &mark)
        }
    };
    row.extend(target.key.iter().map(|&i| target.columns[i].row.clone()));
    (sql, row)
}
