//! Writing the net changes of a group: set by set, and what fails alone found by halving.

use pgrx::pg_sys::{self, Datum};

use crate::group::{Group, Net, Outcome};
use crate::mapping::{Mode, OnDelete};
use crate::pg::spi::Plan;
use crate::pg::subtransaction::subtransaction;
use crate::pg::trap::SqlError;
use crate::pg::tuples::{RowColumn, RowType, Rows};
use crate::statement::{self, SqlColumn};
use crate::target::{Statement, Target};

/// Which half of a group's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows that are to be there.
    Upserts,
    /// Rows that are to be gone.
    Deletes,
}

/// A net change that may work when others are written.
pub struct Pending {
    /// The change.
    pub net: Net,
    /// Why it did not work yet.
    pub error: SqlError,
}

/// Writes the group's net changes of one phase. What fails but may work when other rows are written
/// is returned, to be tried again; what fails for good is noted in the group.
pub fn write(group: &mut Group<'_>, phase: Phase) -> Result<Vec<Pending>, SqlError> {
    let nets: Vec<Net> = group
        .nets
        .iter()
        .filter(|net| net.present == (phase == Phase::Upserts))
        .cloned()
        .collect();
    retry(group, nets)
}

/// Writes these net changes, as [`write`] does.
pub fn retry(group: &mut Group<'_>, nets: Vec<Net>) -> Result<Vec<Pending>, SqlError> {
    let mut later = Vec::new();
    let mut stack = vec![nets];
    while let Some(nets) = stack.pop() {
        let nets = without_dead(group, nets)?;
        if nets.is_empty() {
            continue;
        }
        let Err(error) = subtransaction(|| write_set(group, &nets)) else { continue };
        let error = crate::dead_letter::blame(error, &group.target.mapping)?;
        match <[Net; 1]>::try_from(nets) {
            Ok([net]) if crate::dead_letter::may_work_later(&error) => {
                later.push(Pending { net, error });
            }
            Ok([net]) => {
                group.fail(net.message, error)?;
                if let Some(net) = group.fold_without(&net)? {
                    stack.push(vec![net]);
                }
            }
            Err(mut nets) => {
                let second = nets.split_off(nets.len() / 2);
                stack.push(second);
                stack.push(nets);
            }
        }
    }
    Ok(later)
}

/// A message that failed has no effect at all, also not at the key that its row left.
fn without_dead(group: &mut Group<'_>, nets: Vec<Net>) -> Result<Vec<Net>, SqlError> {
    if group.failures.is_empty() {
        return Ok(nets);
    }
    let mut kept = Vec::with_capacity(nets.len());
    for net in nets {
        if group.outcomes[net.message as usize] == Some(Outcome::Dead) {
            kept.extend(group.fold_without(&net)?);
        } else {
            kept.push(net);
        }
    }
    Ok(kept)
}

fn write_set(group: &mut Group<'_>, nets: &[Net]) -> Result<(), SqlError> {
    let mut deletes = Vec::new();
    let mut shapes: Vec<(&[u64], Vec<&Net>)> = Vec::new();
    for net in nets {
        if !net.present {
            deletes.push(net);
        } else if let Some((_, nets)) = shapes.iter_mut().find(|(shape, _)| *shape == net.columns) {
            nets.push(net);
        } else {
            shapes.push((&net.columns, vec![net]));
        }
    }
    if !deletes.is_empty() {
        delete(group, &deletes)?;
    }
    for (shape, nets) in shapes {
        upsert(group, shape, &nets)?;
    }
    Ok(())
}

fn upsert(group: &mut Group<'_>, present: &[u64], nets: &[&Net]) -> Result<(), SqlError> {
    let columns: Vec<usize> = (0..group.target.columns.len())
        .filter(|i| present[i / 64] & (1 << (i % 64)) != 0)
        .collect();
    let insertable = group
        .target
        .columns
        .iter()
        .enumerate()
        .all(|(i, column)| !column.required || columns.contains(&i));
    let mut rest: Vec<&Net> = nets.to_vec();
    if !insertable && group.target.mapping.mode == Mode::Upsert {
        // An insert would fail for want of a column before it found the row: update what is there.
        let mut statement = match group.target.shape(present).update.take() {
            Some(statement) => statement,
            None => make_update(&group.target, &columns)?,
        };
        let outcome = rows(group, &statement.rows, &columns, &rest, true)
            .and_then(|rows| statement.plan.run(rows));
        group.target.shape(present).update = Some(statement);
        let found = numbers(outcome?.returned.expect("RETURNING"));
        for &n in &found {
            group.settle(rest[n], Outcome::Upserted);
        }
        let mut missing = vec![true; rest.len()];
        found.into_iter().for_each(|n| missing[n] = false);
        let mut missing = missing.into_iter();
        rest.retain(|_| missing.next().expect("one for each"));
        if rest.is_empty() {
            return Ok(());
        }
    }
    let mut statement = match group.target.shape(present).upsert.take() {
        Some(statement) => statement,
        None => make_upsert(&group.target, &columns)?,
    };
    let outcome = rows(group, &statement.rows, &columns, &rest, false)
        .and_then(|rows| statement.plan.run(rows));
    group.target.shape(present).upsert = Some(statement);
    let outcome = outcome?;
    let appended_once = group.target.mapping.mode == Mode::Append && !group.target.key.is_empty();
    let written = if appended_once { outcome.processed as usize } else { rest.len() };
    for (i, net) in rest.iter().enumerate() {
        // Which of the appended rows were there already does not matter to the count.
        let outcome = if i < written { Outcome::Upserted } else { Outcome::Stale };
        group.settle(net, outcome);
    }
    Ok(())
}

fn delete(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    let mut statement = match group.target.delete.take() {
        Some(statement) => statement,
        None => make_delete(&group.target)?,
    };
    let outcome = keys(group, &statement.rows, nets).and_then(|rows| statement.plan.run(rows));
    group.target.delete = Some(statement);
    let found = numbers(outcome?.returned.expect("RETURNING"));
    let mut there = vec![false; nets.len()];
    found.into_iter().for_each(|n| there[n] = true);
    for (net, there) in nets.iter().zip(there) {
        let outcome = if net.refused && !there { Outcome::Filtered } else { Outcome::Deleted };
        group.settle(net, outcome);
    }
    Ok(())
}

/// The rows of a delete's batch relation: numbers and keys, with the mark between them if deletes
/// only mark.
fn keys(group: &Group<'_>, row_type: &RowType, nets: &[&Net]) -> Result<Rows, SqlError> {
    let marks = group.target.mapping.on_delete == OnDelete::Soft;
    let mut rows = Rows::new();
    let width = row_type.width();
    let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
    for (n, net) in nets.iter().enumerate() {
        values[0] = Datum::from(n as i32);
        if marks {
            values[1] = group.deletion_mark(net);
        }
        for (i, &column) in group.target.key.iter().enumerate() {
            values[1 + usize::from(marks) + i] = group.values[net.row + column];
        }
        rows.put(row_type, &mut values, &mut nulls)?;
    }
    Ok(rows)
}

/// The rows of a batch relation: these columns of these net changes, numbered if asked.
fn rows(
    group: &Group<'_>,
    row_type: &RowType,
    columns: &[usize],
    nets: &[&Net],
    numbered: bool,
) -> Result<Rows, SqlError> {
    let mut rows = Rows::new();
    let width = row_type.width();
    let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
    let first = usize::from(numbered);
    for (n, net) in nets.iter().enumerate() {
        if numbered {
            values[0] = Datum::from(n as i32);
        }
        for (i, &column) in columns.iter().enumerate() {
            values[first + i] = group.values[net.row + column];
            nulls[first + i] = group.nulls[net.row + column];
        }
        rows.put(row_type, &mut values, &mut nulls)?;
    }
    Ok(rows)
}

fn numbers(returned: crate::pg::spi::Returned) -> Vec<usize> {
    let (mut values, mut nulls) = ([Datum::null()], [false]);
    (0..returned.len())
        .map(|i| {
            returned.read(i, &mut values, &mut nulls);
            values[0].value() as i32 as usize
        })
        .collect()
}

fn number_column() -> RowColumn {
    RowColumn {
        name: "sequin_n".to_owned(),
        type_oid: pg_sys::INT4OID,
        typmod: -1,
        collation: pg_sys::InvalidOid,
    }
}

fn make(sql: &str, first: Vec<RowColumn>, target: &Target, columns: &[usize]) -> Result<Statement, SqlError> {
    let mut row = first;
    row.extend(columns.iter().map(|&i| target.columns[i].row.clone()));
    Ok(Statement { plan: Plan::prepare(sql)?, rows: RowType::new(&row) })
}

fn make_upsert(target: &Target, columns: &[usize]) -> Result<Statement, SqlError> {
    let relation = target.relation();
    let sql_columns: Vec<&SqlColumn> = columns.iter().map(|&i| &target.columns[i].sql).collect();
    let key = target.key_sql();
    let sql = match target.mapping.mode {
        Mode::Upsert => statement::upsert(&relation, &sql_columns, &key, &target.revival()),
        Mode::Append if key.is_empty() => statement::insert(&relation, &sql_columns),
        Mode::Append => statement::insert_new(&relation, &sql_columns, &key),
    };
    make(&sql, Vec::new(), target, columns)
}

fn make_update(target: &Target, columns: &[usize]) -> Result<Statement, SqlError> {
    let sql_columns: Vec<&SqlColumn> = columns.iter().map(|&i| &target.columns[i].sql).collect();
    let sql =
        statement::update(&target.relation(), &sql_columns, &target.key_sql(), &target.revival());
    make(&sql, vec![number_column()], target, columns)
}

fn make_delete(target: &Target) -> Result<Statement, SqlError> {
    let (relation, key) = (target.relation(), target.key_sql());
    let mark = (target.mapping.on_delete == OnDelete::Soft)
        .then(|| target.mapping.soft_delete.as_deref())
        .flatten()
        .and_then(|name| target.destination.column(name));
    match mark {
        None => make(&statement::delete(&relation, &key), vec![number_column()], target, &target.key),
        Some(column) => {
            let mark = SqlColumn {
                name: pgrx::spi::quote_identifier(&column.name),
                type_name: column.type_name.clone(),
                equals: String::new(),
            };
            let row = RowColumn {
                name: column.name.clone(),
                type_oid: column.type_oid,
                typmod: column.typmod,
                collation: column.collation,
            };
            let sql = statement::soft_delete(&relation, &key, &mark);
            make(&sql, vec![number_column(), row], target, &target.key)
        }
    }
}
