//! Writing net changes: which of them are news, and the statements that write them.

use std::collections::HashSet;

use pgrx::pg_sys::Datum;

use crate::cascade;
use crate::error::SqlError;
use crate::group::{Group, Guarded, Net, Outcome, Suspects};
use crate::guard::{self, Claim, Place};
use crate::mapping::{GUARD_COLUMNS, Mode, OnDelete};
use crate::pg::spi::{Plan, Returned};
use crate::pg::tuples::{RowColumn, RowType, Rows};
use crate::prepared::Statement;
use crate::statement::{self, SqlColumn};
use crate::target::{Target, Write};

/// Claims net changes and writes those that are news, all or none.
pub fn write_set(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    let news = claim(group, nets)?;
    write_news(group, &news)
}

/// Writes net changes that are claimed, all or none.
pub fn write_news(group: &mut Group<'_>, news: &[&Net]) -> Result<(), SqlError> {
    // Where a batch has several changes of a row, or not all are counted, it matters which rows were stale.
    let exact = group.call.explained || group.call.letters;
    let several = exact || news.iter().any(|net| net.run.1 - net.run.0 > 1);
    // What counts the rows that it wrote, and does not name them, writes one.
    let append = group.target.mapping.mode == Mode::Append;
    let mut deletes = Vec::new();
    let mut shapes: Vec<(Write, Vec<&Net>)> = Vec::new();
    for net in news.iter().copied() {
        let how = match &net.guarded {
            Guarded::Examined { touched: false, .. } => continue,
            _ if net.marks => Write::UpsertMarked,
            _ if !net.present => {
                deletes.push(net);
                continue;
            }
            Guarded::Examined { exists: true, .. } if !insertable(&group.target, net) => {
                Write::Update
            }
            _ if net.replaces => Write::Replace,
            Guarded::Examined { .. } | Guarded::No => Write::Upsert,
            Guarded::Change if group.target.place == Place::Columns && several => {
                Write::UpsertNewerNamed
            }
            Guarded::Change if group.target.place == Place::Columns => Write::UpsertNewer,
            Guarded::Read if group.target.place == Place::Columns => Write::UpsertRead,
            Guarded::Change | Guarded::Read => Write::Upsert,
        };
        let same = |(write, nets): &&mut (Write, Vec<&Net>)| {
            *write == how
                && nets[0].columns == net.columns
                && nets[0].merges == net.merges
                && !(exact && (append || how == Write::UpsertRead))
        };
        match shapes.iter_mut().find(same) {
            Some((_, nets)) => nets.push(net),
            None => shapes.push((how, vec![net])),
        }
    }
    if !deletes.is_empty() {
        if group.target.mapping.on_delete == OnDelete::Delete {
            cascade::check(group, &deletes)?;
        }
        delete(group, &deletes)?;
    }
    for (how, nets) in shapes {
        upsert(group, how, &nets)?;
    }
    store_states(group, news)
}

/// Whether calls that share the mapping can write what the group has without waiting for each other in a
/// circle: each takes the rows in key order, by its claims or else by statements of one kind.
pub fn may_share(group: &Group<'_>) -> bool {
    if group.target.place == Place::Table || group.target.mapping.mode == Mode::Append {
        return true;
    }
    let one_kind = group.nets.windows(2).all(|pair| {
        pair[0].present == pair[1].present
            && pair[0].columns == pair[1].columns
            && pair[0].merges == pair[1].merges
            && matches!(pair[0].guarded, Guarded::Read) == matches!(pair[1].guarded, Guarded::Read)
    });
    let one_statement =
        |net: &Net| !net.replaces && (!net.present || insertable(&group.target, net));
    one_kind && group.nets.iter().all(one_statement)
}

/// Claims the changes whose versions live in `sequin.row_version`; returns the net changes that are
/// news, and notes the others as stale.
pub fn claim<'n>(group: &mut Group<'_>, nets: &[&'n Net]) -> Result<Vec<&'n Net>, SqlError> {
    if group.target.place != Place::Table {
        return Ok(nets.to_vec());
    }
    let mut news = vec![true; nets.len()];
    for reads in [false, true] {
        let claimed: Vec<usize> = (0..nets.len())
            .filter(|&i| match nets[i].guarded {
                Guarded::Change => !reads,
                Guarded::Read => reads,
                _ => false,
            })
            .collect();
        if claimed.is_empty() {
            continue;
        }
        let keys: Vec<Vec<u8>> = claimed
            .iter()
            .map(|&i| group.key(nets[i].run.0).to_vec())
            .collect();
        let entry_stamps: Vec<_> = claimed
            .iter()
            .map(|&i| {
                nets[i]
                    .stamp
                    .unwrap_or(group.entries[nets[i].run.0 as usize].stamp)
            })
            .collect();
        let claims: Vec<Claim<'_>> = claimed
            .iter()
            .zip(&keys)
            .zip(&entry_stamps)
            .map(|((&i, key), stamp)| Claim {
                key,
                stamp: *stamp,
                deleted: !nets[i].present,
            })
            .collect();
        let definer = group.call.definer;
        let won = if reads {
            guard::claim_reads(&mut group.target, definer, &claims, group.call.read_skew)?
        } else {
            guard::claim(&mut group.target, definer, &claims)?
        };
        let lost: Vec<usize> = (0..claims.len()).filter(|&i| !won[i]).collect();
        if lost.is_empty() {
            continue;
        }
        let lost_keys: Vec<&[u8]> = lost.iter().map(|&i| claims[i].key).collect();
        let source_of = |i: usize| (!reads).then(|| claims[lost[i]].stamp.source);
        let special = guard::special(&mut group.target, definer, &lost_keys, source_of, |_| None)?;
        if special.contains(&true) {
            let runs: Vec<_> = lost
                .iter()
                .zip(&special)
                .filter(|(_, special)| **special)
                .map(|(&i, _)| nets[claimed[i]].run)
                .collect();
            group.load(&runs)?;
            return Err(SqlError::new(
                crate::apply::EXAMINE_MORE,
                "rows must be examined",
            ));
        }
        for &i in &lost {
            news[claimed[i]] = false;
            group.settle_stale(nets[claimed[i]]);
        }
    }
    Ok(nets
        .iter()
        .zip(news)
        .filter(|(_, news)| *news)
        .map(|(net, _)| *net)
        .collect())
}

pub fn store_states(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    let states: Vec<_> = nets
        .iter()
        .filter_map(|net| match &net.guarded {
            Guarded::Examined { state, entry, .. } => {
                Some((group.key(net.run.0).to_vec(), (**state).clone(), *entry))
            }
            _ => None,
        })
        .collect();
    if states.is_empty() {
        Ok(())
    } else {
        guard::store(group, &states)
    }
}

/// Whether a bit is set.
pub fn has(bits: &[u64], i: usize) -> bool {
    bits[i / 64] & (1 << (i % 64)) != 0
}

/// Whether an insert of the row could name every column that it must.
fn insertable(target: &Target, net: &Net) -> bool {
    target
        .columns
        .iter()
        .enumerate()
        .all(|(i, column)| !column.required || has(&net.columns, i))
}

/// Writes rows with the same columns.
pub fn upsert(group: &mut Group<'_>, how: Write, nets: &[&Net]) -> Result<(), SqlError> {
    let columns: Vec<usize> = (0..group.target.columns.len())
        .filter(|&i| has(&nets[0].columns, i))
        .collect();
    let mut rest: Vec<&Net> = nets.to_vec();
    let unguarded = matches!(nets[0].guarded, Guarded::No);
    if how == Write::Update
        || unguarded
            && group.target.mapping.mode == Mode::Upsert
            && !insertable(&group.target, nets[0])
    {
        // An insert would fail for want of a column before it found the row: update what is there.
        let outcome = run(group, Write::Update, &columns, &rest)?;
        let mut missing = vec![true; rest.len()];
        for n in numbers(&outcome.returned.expect("RETURNING")) {
            missing[n] = false;
            group.settle(rest[n], rest[n].outcome);
        }
        if missing.contains(&true) {
            // A trigger may have skipped a row that is there.
            let key = |net: &&Net| {
                group
                    .target
                    .key
                    .iter()
                    .map(|&i| group.values[net.row + i])
                    .collect::<Vec<_>>()
            };
            let keys: Vec<_> = rest.iter().map(key).collect();
            for (n, there) in guard::exist(group, &keys)?.into_iter().enumerate() {
                if missing[n] && there {
                    missing[n] = false;
                    group.settle(rest[n], rest[n].outcome);
                }
            }
        }
        let mut missing = missing.into_iter();
        rest.retain(|_| missing.next().expect("one for each"));
        if rest.is_empty() {
            return Ok(());
        }
    }
    let how = if how == Write::Update {
        Write::Upsert
    } else {
        how
    };
    let outcome = run(group, how, &columns, &rest)?;
    if how == Write::UpsertNewerNamed {
        let returned = outcome.returned.expect("RETURNING");
        let written = keys_of(group, &returned, 0, |_| true);
        for net in &rest {
            if written.contains(group.key(net.run.0)) {
                group.settle(net, net.outcome);
            } else {
                group.settle_stale(net);
            }
        }
        return Ok(());
    }
    if how == Write::UpsertRead {
        let returned = outcome.returned.expect("RETURNING");
        let changed = keys_of(group, &returned, 1, |values| values[0].value() as u8 != 0);
        let mut reads = Vec::with_capacity(changed.len());
        for net in &rest {
            let key = group.key(net.run.0);
            if changed.contains(key) {
                reads.push((key.to_vec(), net.read_at));
            }
        }
        guard::note_reads(&mut group.target, group.call.definer, &reads)?;
    }
    let counted = match how {
        Write::UpsertNewer | Write::UpsertRead => true,
        _ => group.target.mapping.mode == Mode::Append && !group.target.key.is_empty(),
    };
    // Which of the rows were stale does not matter to the count.
    let written = if counted {
        outcome.processed as usize
    } else {
        rest.len()
    };
    for (i, net) in rest.iter().enumerate() {
        group.settle(
            net,
            if i < written {
                net.outcome
            } else {
                Outcome::Stale
            },
        );
    }
    Ok(())
}

fn run(
    group: &mut Group<'_>,
    how: Write,
    columns: &[usize],
    nets: &[&Net],
) -> Result<crate::pg::spi::Executed, SqlError> {
    let merges = &nets[0].merges;
    let mut shape = [nets[0].columns.as_slice(), merges].concat();
    if how == Write::UpsertRead {
        shape.push(group.call.read_skew as u64); // the statement spells it
    }
    let key = (how, shape);
    let mut statement = match group.target.shapes.remove(&key) {
        Some(statement) => statement,
        None => make_write(&group.target, how, columns, merges, group.call.read_skew)?,
    };
    let outcome =
        rows(group, &statement.rows, how, columns, nets).and_then(|rows| statement.plan.run(rows));
    group.target.keep(key, statement);
    if let Err(error) = &outcome {
        group.suspects = suspects(group, error, nets);
    }
    outcome
}

/// What an error of a statement that wrote these tells of who is at fault.
fn suspects(group: &Group<'_>, error: &SqlError, nets: &[&Net]) -> Suspects {
    if error.sqlstate() == "23503" {
        return Suspects {
            place: None,
            foreign_key: Some(error.clone()),
        };
    }
    // When all rows were read, it may be the last, or something that the end of the statement does.
    let at = error
        .rows_read
        .filter(|read| *read < nets.len() || nets.len() == 1);
    Suspects {
        place: at.map(|read| group.messages[nets[read - 1].message as usize]),
        foreign_key: None,
    }
}

pub fn delete(group: &mut Group<'_>, nets: &[&Net]) -> Result<(), SqlError> {
    let mut statement = match group.target.delete.take() {
        Some(statement) => statement,
        None => make_delete(&group.target)?,
    };
    let outcome = keys(group, &statement.rows, nets).and_then(|rows| statement.plan.run(rows));
    group.target.delete = Some(statement);
    if let Err(error) = &outcome {
        group.suspects = suspects(group, error, nets);
    }
    let mut there = vec![false; nets.len()];
    numbers(&outcome?.returned.expect("RETURNING"))
        .into_iter()
        .for_each(|n| there[n] = true);
    for (net, there) in nets.iter().zip(there) {
        if there {
            group.note_left(net);
        }
        let outcome = if net.refused && !there {
            Outcome::Filtered
        } else {
            net.outcome
        };
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

/// The rows of a batch relation: these columns of these net changes; numbered for an update; with
/// their versions where the destination holds those.
fn rows(
    group: &Group<'_>,
    row_type: &RowType,
    how: Write,
    columns: &[usize],
    nets: &[&Net],
) -> Result<Rows, SqlError> {
    let mut rows = Rows::new();
    let width = row_type.width();
    let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
    let first = usize::from(how == Write::Update);
    let versions = version_columns(&group.target, how);
    let marked = how == Write::UpsertMarked;
    for (n, net) in nets.iter().enumerate() {
        if first == 1 {
            values[0] = Datum::from(n as i32);
        }
        for (i, &column) in columns.iter().enumerate() {
            values[first + i] = group.values[net.row + column];
            nulls[first + i] = group.nulls[net.row + column];
        }
        let version = guard::version_values(net.stamp.as_ref(), net.read_at);
        for (i, &column) in versions.iter().enumerate() {
            let at = first + columns.len() + i;
            values[at] = version[column].unwrap_or(Datum::null());
            nulls[at] = version[column].is_none();
        }
        if marked {
            values[width - 1] = group.deletion_mark(net);
            nulls[width - 1] = false;
        }
        rows.put(row_type, &mut values, &mut nulls)?;
    }
    Ok(rows)
}

/// Which of the guard's columns are written: a read leaves the position that is there.
fn version_columns(target: &Target, how: Write) -> &'static [usize] {
    match (target.place, how) {
        (Place::Columns, Write::UpsertRead) => &[2],
        (Place::Columns, _) => &[0, 1, 2],
        _ => &[],
    }
}

fn numbers(returned: &Returned) -> Vec<usize> {
    let (mut values, mut nulls) = ([Datum::null()], [false]);
    (0..returned.len())
        .map(|i| {
            returned.read(i, &mut values, &mut nulls);
            values[0].value() as i32 as usize
        })
        .collect()
}

/// The keys, as bytes, of rows that a statement returned, whose key comes after `skip` other values;
/// those alone for which `wanted` says so of the values.
fn keys_of(
    group: &mut Group<'_>,
    returned: &Returned,
    skip: usize,
    wanted: impl Fn(&[Datum]) -> bool,
) -> HashSet<Vec<u8>> {
    let width = skip + group.target.key.len();
    let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
    let mut keys = HashSet::new();
    for i in 0..returned.len() {
        returned.read(i, &mut values, &mut nulls);
        if wanted(&values) {
            let mut bytes = Vec::new();
            crate::key::encode(&mut group.target.key_encoding, &values[skip..], &mut bytes);
            keys.insert(bytes);
        }
    }
    keys
}

fn make_write(
    target: &Target,
    how: Write,
    columns: &[usize],
    merges: &[u64],
    read_skew: i64,
) -> Result<Statement, SqlError> {
    let (sql, row) = write_sql(target, how, columns, merges, read_skew);
    Ok(Statement {
        plan: Plan::prepare(&sql)?,
        rows: RowType::new(&row),
    })
}

/// The statement that writes rows with these columns, and the columns of its batch relation.
pub fn write_sql(
    target: &Target,
    how: Write,
    columns: &[usize],
    merges: &[u64],
    read_skew: i64,
) -> (String, Vec<RowColumn>) {
    let relation = target.relation();
    let spelled: Vec<SqlColumn> = columns
        .iter()
        .map(|&i| SqlColumn {
            merges: has(merges, i),
            ..target.columns[i].sql.clone()
        })
        .collect();
    let mark = mark(target).filter(|_| how == Write::UpsertMarked);
    let mut versions = guard::version_columns();
    versions[2].0.insert_only = how == Write::UpsertRead;
    let versions: Vec<_> = version_columns(target, how)
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
    let revival = if mark.is_some() {
        Vec::new()
    } else {
        target.revival()
    };
    let late = statement::late_enough(read_skew);
    let names: Vec<_> = key
        .iter()
        .map(|column| format!("d.{}", column.name))
        .collect();
    let upsert = |condition| statement::upsert(&relation, &sql_columns, &key, &revival, condition);
    let sql = match (how, target.mapping.mode) {
        (_, Mode::Append) if key.is_empty() => statement::insert(&relation, &sql_columns),
        (_, Mode::Append) => statement::insert_new(&relation, &sql_columns, &key),
        (Write::Upsert | Write::UpsertMarked, _) => upsert(None),
        (Write::Replace, _) => {
            let constants = [revival.clone(), defaults(target, columns)].concat();
            statement::upsert(&relation, &sql_columns, &key, &constants, None)
        }
        (Write::UpsertNewer, _) => upsert(Some(statement::NEWER)),
        (Write::UpsertNewerNamed, _) => {
            upsert(Some(statement::NEWER)) + " returning " + &names.join(", ")
        }
        (Write::UpsertRead, _) => {
            let mut constants = revival.clone();
            constants.extend(read_time(target));
            let sql = statement::upsert(&relation, &sql_columns, &key, &constants, Some(&late));
            format!(
                "{sql} returning d.sequin_lsn is not null, {}",
                names.join(", ")
            )
        }
        (Write::Update, _) => {
            row.insert(0, RowColumn::number("sequin_n"));
            statement::update(&relation, &sql_columns, &key, &revival)
        }
    };
    (sql, row)
}

/// The columns that rows with these columns do not name, set to what a new row has there.
fn defaults(target: &Target, columns: &[usize]) -> Vec<(String, String)> {
    let named = |name: &str| columns.iter().any(|&i| target.columns[i].name == name);
    target
        .destination
        .columns
        .iter()
        .filter(|c| !c.generated && !target.mapping.reserves(&c.name) && !named(&c.name))
        .map(|c| {
            let name = pgrx::spi::quote_identifier(&c.name);
            (name, "default".to_owned())
        })
        .collect()
}

/// With guard columns: a row without a position keeps the time of its newest read. A row that has one
/// keeps its change's: changes of other sources are compared with that.
fn read_time(target: &Target) -> Option<(String, String)> {
    (target.place == Place::Columns).then(|| {
        let name = GUARD_COLUMNS[2].0;
        let time = format!("case when d.sequin_lsn is null then excluded.{name} else d.{name} end");
        (name.to_owned(), time)
    })
}

fn make_delete(target: &Target) -> Result<Statement, SqlError> {
    let (sql, row) = delete_sql(target);
    Ok(Statement {
        plan: Plan::prepare(&sql)?,
        rows: RowType::new(&row),
    })
}

/// The statement that deletes (or marks) rows by key, and the columns of its batch relation.
pub fn delete_sql(target: &Target) -> (String, Vec<RowColumn>) {
    let (relation, key) = (target.relation(), target.key_sql());
    let mut row = vec![RowColumn::number("sequin_n")];
    let sql = match mark(target) {
        None => statement::delete(&relation, &key),
        Some((mark, column)) => {
            row.push(column);
            statement::soft_delete(&relation, &key, &mark)
        }
    };
    row.extend(target.key.iter().map(|&i| target.columns[i].row.clone()));
    (sql, row)
}

/// The column that soft deletes set.
fn mark(target: &Target) -> Option<(SqlColumn, RowColumn)> {
    let name = target.mapping.soft_delete.as_deref();
    let column = target.destination.column(name?)?;
    (target.mapping.on_delete == OnDelete::Soft).then(|| {
        let sql = SqlColumn {
            name: pgrx::spi::quote_identifier(&column.name),
            type_name: column.type_name.clone(),
            equals: String::new(),
            insert_only: false,
            merges: false,
        };
        (sql, column.row())
    })
}
