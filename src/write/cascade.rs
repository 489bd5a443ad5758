//! Rows that a delete would change by cascading: rows of tables whose foreign keys say `ON DELETE CASCADE`,
//! `SET NULL` or `SET DEFAULT`.
//!
//! The source usually has the same foreign keys, and sends the effects of a cascade as changes of those
//! rows. A referring row may be newer than the delete: the source restored the deleted row and then added
//! the referring row, and the message about the restored row is still to come. So a delete does not cascade
//! to rows that a mapping writes. It waits until their own messages have moved them. Rows of other tables
//! are left to the database.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use pgrx::pg_sys::Datum;

use super::keys::{by_key, collations, encoding, keys_found, lock_rows, read_rows};
use crate::changes::Changes;
use crate::changes::net::{NetChange, Values};
use crate::destination::{Action, Column, Referrer};
use crate::error::{Error, SqlError};
use crate::key::KeyColumn;
use crate::pg::spi::Returned;
use crate::pg::user::ActingAs;
use crate::prepared::{Recent, RowReader, Statement};
use crate::statement::free_name;
use crate::target::Target;

/// Fails if a row that a mapping writes refers to a row that is to be deleted, through a foreign key that
/// cascades.
pub fn check(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let mut locked = false;
    for referrer in &target.destination.links.referrers {
        if referrer.on_delete != Action::Cascade
            || !changes.intake.call.mapped.contains(&referrer.oid)
        {
            continue;
        }
        if !locked {
            close(target, values, nets)?;
            locked = true;
        }
        let rows = Rows::read(target, values, referrer, nets)?;
        // The server's own checks of foreign keys run as the owner of the referring table, too.
        let owner = ActingAs::untrusted(referrer.owner);
        let sql = format!(
            "{} limit 1",
            referring(target, referrer, "", Beside::Together)
        );
        let found = rows.query(target, values, &mut *prepare(target, referrer, sql)?, nets);
        drop(owner);
        let found = found?;
        let mut row = RowReader::new(&found);
        if row.next() {
            let message = nets[row.index(0)].message;
            let error = error(target, referrer, false);
            changes.progress.suspects.position = Some(changes.intake.position(message));
            return Err(error);
        }
    }
    Ok(())
}

/// Keeps other calls from writing rows that refer to these rows, until the transaction ends; waits for those that have.
/// A search would miss a row that is not committed yet, and the foreign key would act on it.
fn close(target: &Target, values: &Values, nets: &[&NetChange]) -> Result<(), SqlError> {
    if target.can_lock_rows {
        lock_rows(target, values, nets)?;
    }
    Ok(())
}

/// Fails if a row that is to be written would change a value that rows of other mappings refer to, and so
/// would cascade to these rows.
pub fn check_updates(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    for referrer in &target.destination.links.referrers {
        if referrer.on_update != Action::Cascade
            || !changes.intake.call.mapped.contains(&referrer.oid)
        {
            continue;
        }
        let others = others(target, referrer);
        let columns: Vec<(usize, usize)> = others
            .iter()
            .enumerate()
            .filter_map(|(at, column)| Some((at, target.column_number(&column.name)?)))
            .collect();
        let concerned = |net: &&&NetChange| columns.iter().any(|(_, i)| net.has(*i));
        let nets: Vec<&NetChange> = nets.iter().filter(concerned).copied().collect();
        if nets.is_empty() {
            continue;
        }
        let mut rows = Rows::read(target, values, referrer, &nets)?;
        let encoding: Vec<KeyColumn> = others
            .iter()
            .map(|column| KeyColumn::new(column.type_oid, column.collation))
            .collect();
        let bytes = |at: usize, value: Option<Datum>| {
            let mut bytes = Vec::new();
            value.map(|value| {
                encoding[at].encode(value, &mut bytes);
                bytes
            })
        };
        let mut dropped: HashMap<Vec<u8>, usize> = HashMap::new();
        rows.retain(|n, now| {
            let net = nets[n];
            let changed = columns.iter().any(|&(at, i)| {
                net.has(i) && bytes(at, now(at + 1)) != bytes(at, values.get(net.row, i))
            });
            if changed && referrer.oid == target.destination.oid {
                let value = |to: &str| match others.iter().position(|c| c.name == to) {
                    Some(at) => now(at + 1),
                    None => target
                        .column_number(to)
                        .and_then(|i| values.get(net.row, i)),
                };
                let values = referrer.columns.iter().map(|(_, to, _)| (to, value(to)));
                dropped.extend(tuple(target, values).map(|bytes| (bytes, n)));
            }
            changed
        });
        let losers: Vec<&NetChange> = rows.numbers().map(|n| nets[n]).collect();
        if !losers.is_empty() {
            close(target, values, &losers)?;
        }
        // If the table refers to itself, the statement may write rows that refer to a value that one of them
        // loses: the foreign key would give them the new value.
        let own = match dropped.is_empty() {
            true => &[],
            false => nets.as_slice(),
        };
        let refers = own.iter().find_map(|net| {
            let value = |of: &str| {
                let i = target.column_number(of).filter(|i| net.has(*i))?;
                values.get(net.row, i)
            };
            let values = referrer.columns.iter().map(|(of, to, _)| (to, value(of)));
            dropped.get(&tuple(target, values)?).copied()
        });
        if let Some(n) = refers {
            let error = error(target, referrer, true);
            let message = nets[n].message;
            changes.progress.suspects.position = Some(changes.intake.position(message));
            return Err(error);
        }
        let _owner = ActingAs::untrusted(referrer.owner);
        let sql = format!(
            "{} limit 1",
            referring(target, referrer, "", Beside::Together)
        );
        let mut statement = prepare(target, referrer, sql)?;
        let found = rows.query(target, values, &mut statement, &nets)?;
        let mut row = RowReader::new(&found);
        if row.next() {
            let message = nets[row.index(0)].message;
            let error = error(target, referrer, true);
            changes.progress.suspects.position = Some(changes.intake.position(message));
            return Err(error);
        }
    }
    Ok(())
}

/// For each row that goes from one key (with the first of its net changes) to another (with the second), whether a row that
/// a mapping writes refers to a value that the row loses: such a row has a message of its own, before which it must
/// neither follow nor be in the way.
pub fn followed(
    changes: &Changes<'_>,
    nets: &[(&NetChange, &NetChange)],
) -> Result<Vec<bool>, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let mut followed = vec![false; nets.len()];
    let mut locked = false;
    for referrer in &target.destination.links.referrers {
        if !changes.intake.call.mapped.contains(&referrer.oid) {
            continue;
        }
        let lost = lost(changes, referrer, nets)?;
        let losers: Vec<usize> = (0..nets.len()).filter(|n| lost[*n].is_some()).collect();
        if losers.is_empty() {
            continue;
        }
        if !locked {
            let all: Vec<&NetChange> = nets.iter().map(|(old, _)| *old).collect();
            close(target, values, &all)?;
            locked = true;
        }
        let of: Vec<&NetChange> = losers.iter().map(|n| nets[*n].0).collect();
        let found = Rows::read(target, values, referrer, &of)?;
        let _owner = ActingAs::untrusted(referrer.owner);
        let sql = referring(target, referrer, "", Beside::Itself);
        let mut statement = prepare(target, referrer, sql)?;
        let found = found.query(target, values, &mut statement, &of)?;
        let mut row = RowReader::new(&found);
        while row.next() {
            followed[losers[row.index(0)]] = true;
        }
    }
    Ok(followed)
}

/// For each row that goes from one key (with the first of its net changes) to another (with the second), whether the
/// foreign keys of the table to itself would take one of these rows along that refers to another row by the old value.
/// They act when the statement ends, on all rows that have the value then.
pub fn catches(
    changes: &Changes<'_>,
    nets: &[(&NetChange, &NetChange)],
) -> Result<Vec<bool>, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let mut catches = vec![false; nets.len()];
    for referrer in &target.destination.links.referrers {
        if referrer.oid != target.destination.oid || referrer.on_update == Action::Nothing {
            continue;
        }
        let lost = lost(changes, referrer, nets)?.into_iter().enumerate();
        let dropped: HashMap<Vec<u8>, usize> =
            lost.filter_map(|(n, lost)| Some((lost?, n))).collect();
        for (_, new) in nets {
            let value = |of: &str| {
                let i = target.column_number(of).filter(|i| new.has(*i))?;
                values.get(new.row, i)
            };
            let refers = referrer.columns.iter().map(|(of, to, _)| (to, value(of)));
            if let Some(n) = tuple(target, refers).and_then(|value| dropped.get(&value)) {
                catches[*n] = true;
            }
        }
    }
    Ok(catches)
}

/// For each row that goes from one key (with the first of its net changes) to another (with the second), its values in the
/// columns that the foreign key refers to, as bytes; `None` if the row keeps them, or one of them is null.
fn lost(
    changes: &Changes<'_>,
    referrer: &Referrer,
    nets: &[(&NetChange, &NetChange)],
) -> Result<Vec<Option<Vec<u8>>>, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let old: Vec<&NetChange> = nets.iter().map(|(old, _)| *old).collect();
    let others = others(target, referrer);
    let found = Rows::read(target, values, referrer, &old)?.others;
    let mut rows: Vec<Option<usize>> = vec![None; nets.len()];
    if let Some(found) = &found {
        let mut row = RowReader::new(found);
        for at in 0..found.len() {
            row.go_to(at);
            rows[row.index(0)] = Some(at);
        }
    }
    let lost = nets.iter().enumerate().map(|(n, (old, new))| {
        let now = |to: &str| match (&found, others.iter().position(|c| c.name == to)) {
            (Some(found), Some(at)) => {
                let mut row = RowReader::new(found);
                row.go_to(rows[n]?);
                row.datum(at + 1)
            }
            _ => values.get(old.row, target.column_number(to)?),
        };
        let then = |to: &str| {
            let i = target.column_number(to).filter(|i| new.has(*i));
            i.map_or_else(|| now(to), |i| values.get(new.row, i))
        };
        let columns = || referrer.columns.iter().map(|(_, to, _)| to);
        let before = tuple(target, columns().map(|to| (to, now(to))));
        let after = tuple(target, columns().map(|to| (to, then(to))));
        match before == after {
            true => None,
            false => before,
        }
    });
    Ok(lost.collect())
}

/// Values of columns as bytes; `None` if one is null.
fn tuple<'c>(
    target: &Target,
    values: impl Iterator<Item = (&'c String, Option<Datum>)>,
) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in values {
        let column = target.destination.column(name)?;
        let mut part = Vec::new();
        KeyColumn::new(column.type_oid, column.collation).encode(value?, &mut part);
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    Some(bytes)
}

/// For each row that is to be deleted, the key of a row that still refers to it. The key is given as bytes,
/// of the columns in `key`; it is empty if `key` is.
pub fn holders(
    target: &Target,
    values: &Values,
    referrer: &Referrer,
    key: &[String],
    nets: &[&NetChange],
) -> Result<Vec<Option<Vec<u8>>>, SqlError> {
    let rows = Rows::read(target, values, referrer, nets)?;
    let _owner = ActingAs::untrusted(referrer.owner);
    let also: String = key
        .iter()
        .map(|name| format!(", c.{}", pgrx::spi::quote_identifier(name)))
        .collect();
    let sql = referring(target, referrer, &also, Beside::Together);
    let mut statement = prepare(target, referrer, sql)?;
    let found = rows.query(target, values, &mut statement, nets)?;
    let encoding = encoding(&found, 1, &collations(referrer.oid, key));
    Ok(keys_found(&found, &encoding, nets.len()))
}

/// The rows among these that another row refers to, by number, with the referenced values as DETAIL shows them.
pub fn referred(
    target: &Target,
    values: &Values,
    referrer: &Referrer,
    nets: &[&NetChange],
) -> Result<Returned, SqlError> {
    let rows = Rows::read(target, values, referrer, nets)?;
    let _owner = ActingAs::untrusted(referrer.owner);
    let to: Vec<String> = referrer
        .columns
        .iter()
        .map(|(_, to, _)| format!("b.{}", pgrx::spi::quote_identifier(to)))
        .collect();
    let also = format!(", pg_catalog.concat_ws(', ', {})", to.join(", "));
    let sql = referring(target, referrer, &also, Beside::Itself);
    let mut statement = prepare(target, referrer, sql)?;
    rows.query(target, values, &mut statement, nets)
}

/// The referenced columns of a foreign key that are not in the mapping's key.
fn others<'t>(target: &'t Target, referrer: &Referrer) -> Vec<&'t Column> {
    let key: Vec<&str> = target
        .key
        .iter()
        .map(|&i| &*target.columns[i].name)
        .collect();
    let columns = target.destination.columns.iter();
    columns
        .filter(|c| {
            !key.contains(&&*c.name) && referrer.columns.iter().any(|(_, to, _)| *to == c.name)
        })
        .collect()
}

/// The rows that are to be deleted, as input for the search for referring rows. Usually their keys are
/// enough. Other referenced columns are read as the mapping's owner: a policy of the destination must not
/// run as the owner of another table.
struct Rows {
    /// The [`others`] of the rows that exist, behind the row's number; `None` if the foreign key refers to
    /// the mapping's key only.
    others: Option<Returned>,
    /// The rows among [`Self::others`] to use; `None`: all.
    only: Option<Vec<usize>>,
}

impl Rows {
    fn read(
        target: &Target,
        values: &Values,
        referrer: &Referrer,
        nets: &[&NetChange],
    ) -> Result<Rows, SqlError> {
        let others = others(target, referrer);
        if others.is_empty() {
            return Ok(Rows {
                others: None,
                only: None,
            });
        }
        let found = read_rows(target, values, &others, nets.iter().copied())?;
        Ok(Rows {
            others: Some(found),
            only: None,
        })
    }

    /// Keeps the rows for which `keep` returns true. `keep` gets a row's number and its values by column.
    fn retain(&mut self, mut keep: impl FnMut(usize, &dyn Fn(usize) -> Option<Datum>) -> bool) {
        let Some(others) = &self.others else { return };
        let mut row = RowReader::new(others);
        let mut only = Vec::new();
        for i in 0..others.len() {
            row.go_to(i);
            if keep(row.index(0), &|column| row.datum(column)) {
                only.push(i);
            }
        }
        self.only = Some(only);
    }

    /// The numbers of the rows to use; none if their keys are enough.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        let others = self.others.iter();
        others.flat_map(|others| {
            let mut row = RowReader::new(others);
            let all = || (0..others.len()).collect();
            let only = self.only.clone().unwrap_or_else(all);
            only.into_iter().map(move |i| {
                row.go_to(i);
                row.index(0)
            })
        })
    }

    /// Runs a statement of [`prepare`] over the rows.
    fn query(
        &self,
        target: &Target,
        values: &Values,
        statement: &mut Statement,
        nets: &[&NetChange],
    ) -> Result<Returned, SqlError> {
        let Some(others) = &self.others else {
            return statement.query(nets.iter().enumerate(), |(n, net)| {
                by_key(target, values, n, net)
            });
        };
        let width = others.types().len();
        let mut found = RowReader::new(others);
        let all = || (0..others.len()).collect();
        let only = self.only.clone().unwrap_or_else(all);
        statement.query(only.into_iter(), |i| {
            found.go_to(i);
            let n = found.index(0);
            let mut row = by_key(target, values, n, nets[n]);
            row.extend((1..width).map(|i| found.datum(i)));
            row
        })
    }
}

fn prepare(target: &Target, referrer: &Referrer, sql: String) -> Result<Recent, SqlError> {
    let mut row = target.numbered_key();
    row.extend(others(target, referrer).iter().map(|c| c.row()));
    Recent::new(sql, &row)
}

/// Which rows of a table that refers to itself are in nobody's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// The rows that are deleted together.
    Together,
    /// A row, for itself.
    Itself,
}

/// Selects the numbers of deleted rows `b` (their key and the [`others`]), each joined with the first row `c` that
/// refers to it. `also` continues the list of what is selected.
fn referring(target: &Target, referrer: &Referrer, also: &str, beside: Beside) -> String {
    let key = target.key_sql();
    let quote = |name: &str| pgrx::spi::quote_identifier(name);
    let list = |f: &dyn Fn(usize) -> String, join: &str, n: usize| {
        (0..n).map(f).collect::<Vec<_>>().join(join)
    };
    let mut definition = list(
        &|i| format!("{} {}", key[i].name, key[i].type_name),
        ", ",
        key.len(),
    );
    let others = others(target, referrer);
    let names = key.iter().map(|column| column.name.clone());
    let names: Vec<String> = names
        .chain(others.iter().map(|column| quote(&column.name)))
        .collect();
    let n = free_name("sequin_n", names.iter().map(String::as_str));
    for column in others {
        definition += &format!(", {} {}", quote(&column.name), column.type_name);
    }
    let same = |row: &str, of: &str| {
        list(
            &|i| format!("{row}.{0} {1} {of}.{0}", key[i].name, key[i].equals),
            " and ",
            key.len(),
        )
    };
    let refers = list(
        &|i| {
            let (column, to, equality) = &referrer.columns[i];
            equality.sql(&format!("b.{}", quote(to)), &format!("c.{}", quote(column)))
        },
        " and ",
        referrer.columns.len(),
    );
    let unless = match beside {
        _ if referrer.oid != target.destination.oid => String::new(),
        Beside::Together => format!(" and not exists (select from b o where {})", same("c", "o")),
        Beside::Itself => format!(" and not ({})", same("c", "b")),
    };
    let name = &referrer.name;
    let joined = match target.destination.shards {
        None => format!(
            "select b.{n}{also} from b cross join lateral
             (select c.* from {name} c where {refers}{unless} limit 1) c"
        ),
        Some(_) => format!(
            "select distinct on (b.{n}) b.{n}{also} from b join {name} c on {refers}{unless}"
        ),
    };
    format!(
        "with b as materialized (select * from sequin_internal.batch() b({n} integer, {definition}))
         {joined}"
    )
}

/// The error, with the fields that the server fills for a foreign key without an action on delete.
fn error(target: &Target, referrer: &Referrer, update: bool) -> SqlError {
    let error = Error::WouldCascade {
        update,
        table: target.destination.name.clone(),
        referrer: referrer.name.clone(),
        constraint: referrer.constraint.clone(),
    };
    SqlError {
        schema: Some(referrer.schema.clone()),
        table: Some(referrer.table.clone()),
        constraint: Some(referrer.constraint.clone()),
        ..error.into()
    }
}
