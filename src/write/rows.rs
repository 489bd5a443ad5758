//! Upserts and deletes of rows, each by one statement.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use pgrx::pg_sys::Datum;

use super::cascade;
use super::keys::{by_key, keys_of as keys_of_nets};
use super::shared_rows::{Fate, fates};
use crate::changes::intake::Intake;
use crate::changes::net::{Guarded, NetChange, NetEffect, Values, key_values};
use crate::changes::{Changes, MappingLock};
use crate::column_set::ColumnSet;
use crate::error::SqlError;
use crate::error::sqlstate::{EXCLUSION_VIOLATION, UNIQUE_VIOLATION};
use crate::guard::notes::note_reads;
use crate::guard::stored::exist;
use crate::key;
use crate::mapping::Mode;
use crate::mapping::versions::VersionsIn;
use crate::outcome::{Outcome, Suspects};
use crate::pg::spi::{Executed, Returned};
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::{RowType, Rows};
use crate::prepared::{BatchRow, RowReader, returned};
use crate::target::Target;
use crate::target::mark::Mark;
use crate::target::repeats::Repeats;
use crate::target::sql::{prepare_delete, prepare_write, version_columns};
use crate::target::statements::{Removal, Shape, WriteKind};
use crate::target::versions::version_values;

/// The statement that writes the row of a net change; `None` if the row is deleted. With `several`, a
/// statement that compares versions must also return the rows that it wrote.
pub fn kind(target: &Target, net: &NetChange, several: bool) -> Option<WriteKind> {
    let replaces = match net.effect {
        NetEffect::Mark { .. } => return Some(WriteKind::UpsertMarked),
        NetEffect::Delete { .. } => return None,
        NetEffect::Write { replaces, .. } => replaces,
    };
    let columns = target.versions == VersionsIn::Columns;
    Some(match &net.guarded {
        Guarded::Examined { exists: true, .. } if !insertable(target, net) => WriteKind::Update,
        _ if replaces => WriteKind::Replace,
        Guarded::Examined { .. } | Guarded::No => WriteKind::Upsert,
        Guarded::Change if columns && several => WriteKind::UpsertNewerNamed,
        Guarded::Change if columns => WriteKind::UpsertNewer,
        Guarded::Read if columns => WriteKind::UpsertRead,
        Guarded::Change | Guarded::Read => WriteKind::Upsert,
    })
}

/// Whether the row has a value for every column that an insert needs.
pub fn insertable(target: &Target, net: &NetChange) -> bool {
    let mut columns = target.columns.iter().enumerate();
    columns.all(|(i, column)| !column.required || net.has(i))
}

/// Whether another call may write the row, which was not there when it was examined. With guard table, no other call
/// does: the row has an entry then.
pub fn is_absent(changes: &Changes<'_>, net: &NetChange) -> bool {
    changes.lock == MappingLock::Shared
        && changes.target.versions == VersionsIn::Columns
        && matches!(net.guarded, Guarded::Examined { exists: false, .. })
}

/// Writes rows with the same columns.
pub fn upsert(
    changes: &mut Changes<'_>,
    kind: WriteKind,
    nets: &[&NetChange],
) -> Result<(), SqlError> {
    let unguarded = matches!(nets[0].guarded, Guarded::No);
    let update_first = kind == WriteKind::Update
        || unguarded
            && changes.target.mapping.mode == Mode::Upsert
            && !insertable(&changes.target, nets[0]);
    if !update_first {
        return write(changes, kind, nets);
    }
    // An insert would fail because a column is missing before it finds the existing row, so update first.
    let missing = update(changes, nets)?;
    if missing.is_empty() {
        return Ok(());
    }
    let kind = match kind {
        WriteKind::Update => WriteKind::Upsert,
        kind => kind,
    };
    write(changes, kind, &missing)
}

/// Updates the rows that exist. Returns the net changes of the others.
fn update<'n>(
    changes: &mut Changes<'_>,
    nets: &[&'n NetChange],
) -> Result<Vec<&'n NetChange>, SqlError> {
    let updated = returned(execute(changes, WriteKind::Update, nets)?);
    let mut there = numbers(&updated, nets.len());
    if there.contains(&false) {
        // A trigger can skip an existing row, which the update then does not return.
        let keys: Vec<_> = nets
            .iter()
            .map(|net| key_values(&changes.target, &changes.nets.values, net))
            .collect();
        for (there, exists) in there.iter_mut().zip(exist(&mut changes.target, &keys)?) {
            *there |= exists;
        }
    }
    let mut missing = Vec::new();
    for (&net, there) in nets.iter().zip(there) {
        if there {
            changes.ledger.settle(&changes.keyed, net, net.outcome);
        } else {
            missing.push(net);
        }
    }
    Ok(missing)
}

/// Writes rows, whether they exist or not, and notes the outcomes of their messages.
fn write(changes: &mut Changes<'_>, kind: WriteKind, nets: &[&NetChange]) -> Result<(), SqlError> {
    let outcome = execute(changes, kind, nets)?;
    let (keyed, ledger) = (&changes.keyed, &mut changes.ledger);
    if kind == WriteKind::UpsertNewerNamed {
        let written = keys_of(&changes.target, &returned(outcome), 0, |_| true);
        for net in nets {
            if written.contains(keyed.key(net.run.start)) {
                ledger.settle(keyed, net, net.outcome);
            } else {
                ledger.settle_stale(keyed, net);
            }
        }
        return Ok(());
    }
    let processed = outcome.processed as usize;
    if kind == WriteKind::UpsertRead {
        // These rows have the time of a change in the destination, so `sequin.row_version` keeps the time
        // of the read.
        let changed = keys_of(&changes.target, &returned(outcome), 1, |row| {
            row.bool(0) == Some(true)
        });
        let mut reads = Vec::with_capacity(changed.len());
        for net in nets {
            let key = keyed.key(net.run.start);
            if changed.contains(key) {
                reads.push((key.to_vec(), net.read_at));
            }
        }
        let definer = changes.intake.call.definer;
        if !note_reads(changes.target.mapping.id, definer, &reads)? {
            changes.intake.call.overtaken.set(true);
        }
    }
    let counted = match kind {
        WriteKind::UpsertNewer | WriteKind::UpsertRead => true,
        _ => changes.target.repeats.are_told(),
    };
    // The statement only returns a count. Which rows were stale makes no difference to the call's counts.
    let written = if counted { processed } else { nets.len() };
    for (i, net) in nets.iter().enumerate() {
        let outcome = if i < written {
            net.outcome
        } else {
            Outcome::Stale
        };
        ledger.settle(keyed, net, outcome);
    }
    Ok(())
}

/// Runs the statement that writes rows with the columns of the first net change.
pub fn execute(
    changes: &mut Changes<'_>,
    kind: WriteKind,
    nets: &[&NetChange],
) -> Result<Executed, SqlError> {
    let (target, values) = (&changes.target, &changes.nets.values);
    let within = || target.within(|| keys_of_nets(target, values, nets));
    let shape = Shape {
        absent: is_absent(changes, nets[0]),
        within: kind.is_update().then(within).flatten(),
        ..shape(&changes.intake, kind, nets[0])
    };
    let target = &mut changes.target;
    let mut statement = match target.statements.shapes.take(&shape) {
        Some(statement) => statement,
        None => prepare_write(target, &shape)?,
    };
    let rows = written_rows(
        target,
        &changes.intake,
        &changes.nets.values,
        &statement.rows,
        &shape,
        nets,
    );
    let alone = nets.len() == 1 && !target.repeats.violated.is_empty();
    let outcome = rows.and_then(|rows| match alone {
        true => unless_repeated(&target.repeats, || statement.execute_over(rows)),
        false => statement.execute_over(rows),
    });
    target.statements.shapes.keep(shape, statement);
    if let Err(error) = &outcome {
        changes.progress.suspects = suspects(changes, error, nets);
    }
    outcome
}

/// Writes a row. If it violates an index that tells repetitions, and that `ON CONFLICT` cannot use, no row is written.
fn unless_repeated(
    repeats: &Repeats,
    write: impl FnOnce() -> Result<Executed, SqlError>,
) -> Result<Executed, SqlError> {
    let violates = |error: &SqlError| {
        let of_another_row = error.is(UNIQUE_VIOLATION) || error.is(EXCLUSION_VIOLATION);
        let name = error.constraint.as_ref();
        of_another_row && name.is_some_and(|name| repeats.violated.contains(name))
    };
    match subtransaction(write) {
        Err(error) if violates(&error) => Ok(Executed {
            processed: 0,
            returned: None,
        }),
        written => written,
    }
}

/// The shape of the statement that writes rows like this one.
pub fn shape(intake: &Intake<'_>, kind: WriteKind, net: &NetChange) -> Shape {
    let (columns, merges) = net.columns().unwrap_or((&NO_COLUMNS, &NO_COLUMNS));
    Shape {
        kind,
        columns: columns.clone(),
        merges: merges.clone(),
        read_skew: match kind {
            WriteKind::UpsertRead | WriteKind::UpsertNewer | WriteKind::UpsertNewerNamed => {
                intake.call.read_skew
            }
            _ => 0,
        },
        absent: false,
        within: None,
    }
}

static NO_COLUMNS: ColumnSet = ColumnSet::new();

/// The suspects after a statement for these rows raised the error.
fn suspects(changes: &Changes<'_>, error: &SqlError, nets: &[&NetChange]) -> Suspects {
    if error.violates_foreign_key() {
        return Suspects {
            position: None,
            foreign_key: Some(error.clone()),
        };
    }
    // Once all rows are read, the error can be about the last row, or come from the end of the statement.
    // Citus reads rows before it writes them.
    let at = error
        .rows_read
        .filter(|_| changes.target.destination.shards.is_none())
        .filter(|read| (1..nets.len()).contains(read) || *read == 1 && nets.len() == 1);
    Suspects {
        position: at.map(|read| changes.intake.position(nets[read - 1].message)),
        foreign_key: None,
    }
}

/// Deletes (or marks, or clears) rows, and notes the outcomes of their messages.
pub fn delete(changes: &mut Changes<'_>, nets: &[&NetChange]) -> Result<(), SqlError> {
    let (absent, there): (Vec<&NetChange>, Vec<&NetChange>) =
        nets.iter().partition(|net| is_absent(changes, net));
    for net in absent {
        settle_delete(changes, net, false);
    }
    let (mut marked, mut gone, mut kept) = (Vec::new(), Vec::new(), Vec::new());
    for (net, fate) in there.iter().zip(fates(changes, &there)?) {
        match fate {
            Fate::Left => settle_delete(changes, net, false),
            Fate::Cleared => kept.push(*net),
            Fate::Goes if changes.is_marked(net) => marked.push(*net),
            Fate::Goes => gone.push(*net),
        }
    }
    if !gone.is_empty() {
        cascade::check(changes, &gone)?;
    }
    for (removal, nets) in [
        (Removal::Delete, gone),
        (Removal::Clear, kept),
        (Removal::Mark, marked),
    ] {
        if !nets.is_empty() {
            delete_rows(changes, &nets, removal)?;
        }
    }
    Ok(())
}

fn delete_rows(
    changes: &mut Changes<'_>,
    nets: &[&NetChange],
    removal: Removal,
) -> Result<(), SqlError> {
    let target = &mut changes.target;
    let (intake, values) = (&changes.intake, &changes.nets.values);
    let within = target.within(|| keys_of_nets(target, values, nets));
    let by_key = (removal.purpose(), within);
    let mut statement = match target.statements.by_key.take(&by_key) {
        Some(statement) => statement,
        None => prepare_delete(target, removal, by_key.1.clone())?,
    };
    let deleted = statement.query(nets.iter().enumerate(), |(n, net)| {
        deleted_row(target, intake, values, removal, (n, net))
    });
    target.statements.by_key.keep(by_key, statement);
    if let Err(error) = &deleted {
        changes.progress.suspects = suspects(changes, error, nets);
    }
    let there = numbers(&deleted?, nets.len());
    for (net, there) in nets.iter().zip(there) {
        settle_delete(changes, net, there);
    }
    Ok(())
}

/// The row of a batch relation of [`crate::target::sql::delete_sql`] for a net change, which is number `n`.
pub fn deleted_row(
    target: &Target,
    intake: &Intake<'_>,
    values: &Values,
    removal: Removal,
    (n, net): (usize, &NetChange),
) -> BatchRow {
    let mut row = by_key(target, values, n, net);
    if let Some(mark) = target.mark().filter(|_| removal == Removal::Mark) {
        let value = mark.value(intake.message(net.message).committed_at);
        row.insert(1, Some(value));
    }
    row
}

/// Notes that a row was deleted (or marked), if it was there.
pub fn settle_delete(changes: &mut Changes<'_>, net: &NetChange, there: bool) {
    let (keyed, ledger) = (&changes.keyed, &mut changes.ledger);
    if there {
        ledger.note_left(keyed, net);
    }
    let refused = matches!(net.effect, NetEffect::Delete { refused: true });
    let outcome = if refused && !there {
        Outcome::Filtered
    } else {
        net.outcome
    };
    ledger.settle(keyed, net, outcome);
}

/// Makes the rows of a batch relation of one shape. An update needs row numbers, guard columns need versions, and a
/// soft delete needs the mark.
pub struct RowMaker<'t> {
    /// The number of columns before the shape's own: the row number, and the old key of a move.
    before: usize,
    columns: Vec<usize>,
    versions: &'static [usize],
    mark: Option<Mark<'t>>,
}

impl<'t> RowMaker<'t> {
    /// A maker for rows of this shape.
    pub fn new(target: &'t Target, shape: &Shape) -> RowMaker<'t> {
        RowMaker {
            before: match shape.kind {
                WriteKind::Update => 1,
                WriteKind::Move | WriteKind::Handover => 1 + target.key.len(),
                _ => 0,
            },
            columns: (0..target.columns.len())
                .filter(|&i| shape.columns.has(i))
                .collect(),
            versions: version_columns(target.versions, shape.kind),
            mark: target
                .mark()
                .filter(|_| shape.kind == WriteKind::UpsertMarked),
        }
    }

    /// Puts the values of the row of `net`, which is number `n`, into `values` and `nulls`.
    pub fn fill(
        &self,
        intake: &Intake<'_>,
        stored: &Values,
        (n, net): (usize, &NetChange),
        values: &mut [Datum],
        nulls: &mut [bool],
    ) {
        let first = self.before;
        if first > 0 {
            values[0] = Datum::from(n as i32);
            nulls[0] = false;
        }
        for (i, &column) in self.columns.iter().enumerate() {
            values[first + i] = stored.datum(net.row, column);
            nulls[first + i] = stored.is_null(net.row, column);
        }
        if !self.versions.is_empty() {
            let version = version_values(net.stamp.as_ref(), net.read_at);
            for (i, &column) in self.versions.iter().enumerate() {
                let at = first + self.columns.len() + i;
                values[at] = version[column].unwrap_or(Datum::null());
                nulls[at] = version[column].is_none();
            }
        }
        if let Some(mark) = self.mark {
            let last = first + self.columns.len() + self.versions.len();
            values[last] = mark.value(intake.message(net.message).committed_at);
            nulls[last] = false;
        }
    }
}

/// The rows of a batch relation of this shape.
fn written_rows(
    target: &Target,
    intake: &Intake<'_>,
    stored: &Values,
    row_type: &RowType,
    shape: &Shape,
    nets: &[&NetChange],
) -> Result<Rows, SqlError> {
    let mut rows = Rows::new();
    let width = row_type.width();
    let (mut values, mut nulls) = (vec![Datum::null(); width], vec![false; width]);
    let maker = RowMaker::new(target, shape);
    for (n, net) in nets.iter().enumerate() {
        maker.fill(intake, stored, (n, net), &mut values, &mut nulls);
        rows.put(row_type, &mut values, &mut nulls)?;
    }
    Ok(rows)
}

/// Which of `count` rows a statement returned, by their numbers in the batch relation.
pub fn numbers(returned: &Returned, count: usize) -> Vec<bool> {
    let mut found = vec![false; count];
    let mut row = RowReader::new(returned);
    while row.next() {
        found[row.index(0)] = true;
    }
    found
}

/// The keys (as bytes) of the rows that a statement returned and that are `wanted`. In a returned row,
/// `skip` values precede the key.
fn keys_of(
    target: &Target,
    returned: &Returned,
    skip: usize,
    wanted: impl Fn(&RowReader<'_>) -> bool,
) -> HashSet<Vec<u8>> {
    let mut keys = HashSet::new();
    let mut row = RowReader::new(returned);
    while row.next() {
        // A trigger may have made the key null.
        if wanted(&row)
            && let Some(values) = row.datums_from(skip)
        {
            let mut bytes = Vec::new();
            key::encode(&target.key_encoding, values, &mut bytes);
            keys.insert(bytes);
        }
    }
    keys
}
