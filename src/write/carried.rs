//! Carries what only the destination has of a row to the row's new key, where the row itself cannot be updated: rows
//! that exchange their keys, and rows that rows of other mappings refer to.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use pgrx::spi::quote_identifier;

use super::keys::read_rows;
use crate::blame::forgive;
use crate::changes::Changes;
use crate::changes::net::{NetChange, key_values};
use crate::destination::Column;
use crate::error::SqlError;
use crate::mapping::{Mapping, OnError};
use crate::pg::spi::Returned;
use crate::pg::tuples::RowColumn;
use crate::prepared::{BatchRow, RowReader, Statement};
use crate::statement::lookup::differ;
use crate::stop::Stop;
use crate::target::Target;

/// The values of rows that go to other keys.
pub struct Carried {
    /// The net changes of the new keys.
    to: Vec<NetChange>,
    /// The columns.
    columns: Vec<Column>,
    /// The number of a net change, and the values of its row at the old key.
    rows: Returned,
}

/// Reads what only the destination has of rows that go from one key to another.
pub fn read(
    changes: &Changes<'_>,
    old: &[&NetChange],
    new: Vec<NetChange>,
) -> Result<Option<Carried>, SqlError> {
    let target = &changes.target;
    let in_key = |name: &str| target.key.iter().any(|&i| target.columns[i].name == name);
    let own = |column: &&Column| {
        !column.generated
            && column.identity != Some(b'a')
            && !target.mapping.reserves(&column.name)
            && !in_key(&column.name)
            && (target.shared.sharers.is_empty() || target.column_number(&column.name).is_some())
            && new.iter().any(|net| lacks(target, net, column))
    };
    let columns: Vec<Column> = target
        .destination
        .columns
        .iter()
        .filter(own)
        .cloned()
        .collect();
    if columns.is_empty() || old.is_empty() {
        return Ok(None);
    }
    let list: Vec<&Column> = columns.iter().collect();
    let rows = read_rows(target, &changes.nets.values, &list, old.iter().copied())?;
    Ok(Some(Carried {
        to: new,
        columns,
        rows,
    }))
}

/// Whether a net change has no value for a column.
fn lacks(target: &Target, net: &NetChange, column: &Column) -> bool {
    let number = target.column_number(&column.name);
    number.is_none_or(|number| !net.has(number))
}

/// Writes the values to the rows that are at the new keys now.
pub fn write(changes: &mut Changes<'_>, carried: &Carried) -> Result<(), Stop> {
    let count = carried.rows.len();
    let owner = changes.acting_as_owner();
    let all = changes.attempt(|changes| write_rows(changes, carried, 0..count));
    drop(owner);
    if all.is_ok() {
        return Ok(());
    }
    changes.take_exclusive()?;
    let _owner = changes.acting_as_owner();
    // One row may be at fault: a value of only the destination's can be unique.
    for row in 0..count {
        if let Err(error) = changes.attempt(|changes| write_rows(changes, carried, row..row + 1)) {
            forgive(error, &as_two_rows(changes))?;
        }
    }
    Ok(())
}

fn write_rows(
    changes: &Changes<'_>,
    carried: &Carried,
    rows: std::ops::Range<usize>,
) -> Result<(), SqlError> {
    let mut reader = RowReader::new(&carried.rows);
    let mut sets: BTreeMap<Vec<usize>, Vec<BatchRow>> = BTreeMap::new();
    for at in rows {
        reader.go_to(at);
        let net = &carried.to[reader.index(0)];
        let moved = changes.progress.moved.contains(&net.run.start);
        if moved || changes.ledger.is_dead(net.message) {
            continue;
        }
        let columns: Vec<usize> = (0..carried.columns.len())
            .filter(|&i| lacks(&changes.target, net, &carried.columns[i]))
            .collect();
        let mut values: BatchRow = key_values(&changes.target, &changes.nets.values, net)
            .into_iter()
            .map(Some)
            .collect();
        values.extend(columns.iter().map(|&i| reader.datum(i + 1)));
        sets.entry(columns).or_default().push(values);
    }
    sets.retain(|columns, _| !columns.is_empty());
    for (columns, rows) in sets {
        let columns: Vec<&Column> = columns.iter().map(|&i| &carried.columns[i]).collect();
        prepare(&changes.target, &columns)?.execute(rows.into_iter(), |row| row)?;
    }
    Ok(())
}

/// The statement that sets columns of rows, by key.
fn prepare(target: &Target, columns: &[&Column]) -> Result<Statement, SqlError> {
    let key = target.key_sql();
    let names: Vec<String> = columns.iter().map(|c| quote_identifier(&c.name)).collect();
    let declared: Vec<String> = key
        .iter()
        .map(|column| format!("{} {}", column.name, column.type_name))
        .chain(
            names
                .iter()
                .zip(columns)
                .map(|(name, column)| format!("{name} {}", column.type_name)),
        )
        .collect();
    let list =
        |part: &dyn Fn(&String) -> String| names.iter().map(part).collect::<Vec<_>>().join(", ");
    let matches: Vec<String> = key
        .iter()
        .map(|column| format!("d.{0} {1} b.{0}", column.name, column.equals))
        .collect();
    let relation = target.relation();
    let row = |of: &str| format!("row({})::record", list(&|name| format!("{of}.{name}")));
    let sql = format!(
        "update {} as d set {} from sequin_internal.batch() b({}) where {} and {}",
        relation.name,
        list(&|name| format!("{name} = b.{name}")),
        declared.join(", "),
        matches.join(" and "),
        differ(&relation, &row("d"), &row("b")),
    );
    let mut row: Vec<RowColumn> = target
        .key
        .iter()
        .map(|&i| target.columns[i].row.clone())
        .collect();
    row.extend(columns.iter().map(|column| column.row()));
    Statement::new(&sql, &row)
}

/// The mapping, for errors that do not fail the call: the rows can still be written as two rows.
pub fn as_two_rows(changes: &Changes<'_>) -> Mapping {
    Mapping {
        on_error: OnError::DeadLetter,
        ..changes.target.mapping.clone()
    }
}
