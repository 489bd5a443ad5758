//! Whether another mapping supplies the same rows of the destination.

#![forbid(unsafe_code)]

use std::rc::Rc;

use super::fit::qualified;
use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::quote::{ident, idents};
use crate::error::{SqlError, sqlstate};
use crate::mapping::source::Part;
use crate::mapping::versions::guard;
use crate::mapping::{ColumnSource, Guard, Mapping, Mode, OnDelete, Path, Root};

/// The fault of a mapping that supplies rows which another one of `others` supplies too, where their changes cannot be
/// compared.
pub fn check_shared(
    mapping: &Mapping,
    destination: &Destination,
    others: &[Mapping],
) -> Option<Fault> {
    let mut sharing = sharing(mapping, destination, others);
    sharing.find_map(|(other, guards)| {
        let common = common(mapping, other, destination);
        if !common.is_empty() && are_apart(mapping, other) {
            return None;
        }
        let same = written(mapping, destination) == written(other, destination);
        let rivals = !common.is_empty() && !brings_the_same(mapping, other);
        let one = are_one(mapping, other);
        match guards == [Guard::Table; 2] {
            false if !same => Some(parts_of_rows(destination, &common, rivals && one)),
            is_table if rivals && (one || !is_table) => {
                Some(same_columns((mapping, other), destination, &common, same))
            }
            _ => None,
        }
    })
}

/// Warns of another mapping of other tables that writes the same columns of rows with the same key: their rows may be
/// others. Where they are not, [`Shared::rivals`] tells.
pub fn may_meet(
    mapping: &Mapping,
    destination: &Destination,
    others: &[Mapping],
) -> Option<SqlError> {
    let rivals = Shared::of(mapping, destination, others).rivals;
    if rivals.is_empty() {
        return may_remove(mapping, destination, others);
    }
    let mut others = others.iter();
    let other = others.find(|other| other.id == rivals.first().map_or(0, |rival| rival.mapping))?;
    let warning = SqlError::new(
        sqlstate::WARNING,
        format!(
            "mapping \"{}\" writes the same columns of rows with the same key of {}",
            other.name,
            qualified(destination)
        ),
    );
    Some(
        warning
            .with_detail(format!(
                "Both write ({}). Changes that come by two mappings are not compared: a message for a row that came by \
                 the other mapping becomes a dead letter.",
                idents(&common(mapping, other, destination))
            ))
            .with_hint(format!("If a row can come from both, {ONE}")),
    )
}

/// Warns of another mapping whose filter lets other rows in, where what the one refuses deletes a row of the other.
fn may_remove(
    mapping: &Mapping,
    destination: &Destination,
    others: &[Mapping],
) -> Option<SqlError> {
    let mut sharing = sharing(mapping, destination, others);
    let (other, _) = sharing.find(|(other, guards)| {
        let deletes = [mapping, other].map(|it| it.on_delete != OnDelete::Ignore);
        *guards != [Guard::Table; 2]
            && deletes.contains(&true)
            && writes_the_same(mapping, other, destination)
            && are_apart(mapping, other)
    })?;
    let warning = SqlError::new(
        sqlstate::WARNING,
        format!(
            "mapping \"{}\" writes the same columns of {}, by another filter",
            other.name,
            qualified(destination)
        ),
    );
    Some(
        warning
            .with_detail(
                "Under guard 'columns', no version tells by which mapping a row came. What the filter of one refuses deletes \
                 the row with its key, also one of the other.",
            )
            .with_hint("Use guard => 'table' for both, so that each has versions of its own."),
    )
}

/// Another mapping that supplies the same rows, or may do so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharer {
    /// `sequin.mapping.id`.
    pub mapping: i32,
    /// How errors call it: `sequin.mapping.name`.
    pub name: String,
    /// For each column of its key, the place in the key of this mapping.
    pub key: Vec<usize>,
    /// Whether it leaves rows that are deleted at its source.
    pub keeps_rows: bool,
    /// The columns, without a default, that it writes and this mapping does not. A row that was there before the
    /// mapping has no version, but values.
    pub columns: Vec<String>,
}

impl Sharer {
    /// Another mapping, as one sees it; `columns`: those that the other one writes and the mapping does not. `None` if
    /// their keys are of other columns.
    fn of(
        mapping: &Mapping,
        other: &Mapping,
        destination: &Destination,
        columns: &[&str],
    ) -> Option<Sharer> {
        let key = mapping.key_of(destination);
        let place = |name: &String| key.iter().position(|own| own == name);
        let places = other.key_of(destination).iter().map(place);
        let tells = |name: &&&str| {
            let column = destination.column(name);
            column.is_some_and(|column| !column.has_default)
        };
        let columns = columns.iter().filter(tells);
        Some(Sharer {
            mapping: other.id,
            name: other.name.clone(),
            key: places.collect::<Option<_>>()?,
            keeps_rows: other.on_delete != OnDelete::Delete,
            columns: columns.map(|name| (*name).to_owned()).collect(),
        })
    }

    /// SQL: the row `d` has a value of a column of this mapping's own. `None` if none of its columns tells.
    pub fn has_values(&self) -> Option<String> {
        let columns = self.columns.iter();
        let has = columns.map(|name| format!("d.{} is not null", ident(name)));
        let has: Vec<String> = has.collect();
        (!has.is_empty()).then(|| format!("({})", has.join(" or ")))
    }
}

/// The other mappings that write the same rows, under guard table.
#[derive(Debug, Default)]
pub struct Shared {
    /// Those that supply columns of their own in the rows. A delete by one takes its own columns away, and leaves the row
    /// to the others.
    pub sharers: Vec<Rc<Sharer>>,
    /// Those that write the same columns by other messages. No row may come by two of them.
    pub rivals: Vec<Rc<Sharer>>,
    /// Those that write the same columns by other messages, also those whose filters let other rows in. A row that came
    /// by one of them is not deleted by another.
    pub peers: Vec<Rc<Sharer>>,
}

impl Shared {
    /// What `others` share with a mapping.
    pub fn of(mapping: &Mapping, destination: &Destination, others: &[Mapping]) -> Shared {
        let mut shared = Shared::default();
        let own = written(mapping, destination);
        for (other, guards) in sharing(mapping, destination, others) {
            if guards != [Guard::Table; 2] {
                continue;
            }
            let theirs = written(other, destination);
            let (common, others): (Vec<&str>, Vec<&str>) =
                theirs.into_iter().partition(|name| own.contains(name));
            if !common.is_empty() && !brings_the_same(mapping, other) {
                let peer = Sharer::of(mapping, other, destination, &[]).map(Rc::new);
                if !are_apart(mapping, other) {
                    shared.rivals.extend(peer.clone());
                }
                shared.peers.extend(peer);
            } else if !others.is_empty() {
                let sharer = Sharer::of(mapping, other, destination, &others);
                shared.sharers.extend(sharer.map(Rc::new));
            }
        }
        shared
    }

    /// About how many bytes it takes beside what mappings have in common.
    pub fn memory(&self) -> usize {
        let lists = [&self.sharers, &self.rivals, &self.peers];
        lists.map(Vec::capacity).iter().sum::<usize>() * size_of::<Rc<Sharer>>()
    }

    /// Every entry.
    pub fn entries(&mut self) -> impl Iterator<Item = &mut Rc<Sharer>> {
        let lists = [&mut self.sharers, &mut self.rivals, &mut self.peers];
        lists.into_iter().flatten()
    }
}

/// Whether both write a column, by other messages.
fn writes_the_same(a: &Mapping, b: &Mapping, destination: &Destination) -> bool {
    !common(a, b, destination).is_empty() && !brings_the_same(a, b)
}

/// Whether both take the same messages, and let the same rows in.
fn brings_the_same(a: &Mapping, b: &Mapping) -> bool {
    a.source == b.source && a.filter == b.filter
}

/// Whether a name with this end, behind that of a table, is usual for its partition: `_p1`, `_2026_01`, `_y2026`, `_default`.
fn is_of_partition(suffix: &str) -> bool {
    let Some(suffix) = suffix.strip_prefix('_') else {
        return false;
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    digits(suffix) >= 4
        || suffix
            .strip_prefix(['p', 'y'])
            .is_some_and(|rest| digits(rest) > 0)
        || suffix.starts_with("default")
        || suffix.starts_with("part")
}

/// The other mappings that can write rows of this mapping, and the guards of both, none of which is off.
fn sharing<'m>(
    mapping: &'m Mapping,
    destination: &'m Destination,
    others: &'m [Mapping],
) -> impl Iterator<Item = (&'m Mapping, [Guard; 2])> {
    let mine = guard(mapping, destination);
    let others = others.iter().filter(move |other| {
        // while sequin.map replaces a mapping, the new one has another id
        other.id != mapping.id
            && other.name != mapping.name
            && other.destination == mapping.destination
            && may_share_rows(mapping, other, destination)
    });
    let guards = others.map(move |other| (other, [mine, guard(other, destination)]));
    guards.filter(|(_, guards)| !guards.contains(&Guard::Off))
}

/// Whether a message can match both sources, or they are of a table and, by its name, a partition of it.
fn are_one(a: &Mapping, b: &Mapping) -> bool {
    let (a, b) = (&a.source, &b.source);
    let part = |table: &Part, part: &Part| match (table, part) {
        (Part::Exact(table), Part::Exact(part)) => {
            let suffix = part.strip_prefix(table.as_str());
            suffix.is_some_and(is_of_partition)
        }
        _ => false,
    };
    a.overlaps(b)
        || a.database == b.database
            && a.schema == b.schema
            && (part(&a.table, &b.table) || part(&b.table, &a.table))
}

/// Whether two filters may let different rows in. They do not where a row goes from one mapping to the other by a message
/// that both take. Of mappings that write different columns, filters tell nothing: each lets in what it has of a row.
fn are_apart(a: &Mapping, b: &Mapping) -> bool {
    let exact = a.source.is_exact() && b.source.is_exact();
    let both_take = a.source == b.source || exact && a.source.overlaps(&b.source);
    a.filter.is_some() && b.filter.is_some() && a.filter != b.filter && !both_take
}

/// Whether both can write a row with the same key.
fn may_share_rows(a: &Mapping, b: &Mapping, destination: &Destination) -> bool {
    let (key, other) = (a.key_of(destination), b.key_of(destination));
    let overlap = a.source.overlaps(&b.source);
    [a, b].iter().all(|mapping| mapping.mode == Mode::Upsert)
        && key.len() == other.len()
        && key.iter().all(|name| {
            other.contains(name) && may_be_equal(origin(a, name), origin(b, name), overlap)
        })
}

/// Where a key column's value comes from.
enum Origin<'m> {
    /// The record, or its changes.
    Record,
    /// The message, beside its record.
    Message(&'m Path),
    Sql(&'m str),
    Constant(&'m str),
    Nowhere,
}

fn origin<'m>(mapping: &'m Mapping, name: &str) -> Origin<'m> {
    match mapping.columns.source(name) {
        Some(ColumnSource::Path(path)) => match path.root {
            Root::Record | Root::Changes => Origin::Record,
            Root::Metadata | Root::Action => Origin::Message(path),
        },
        Some(ColumnSource::Sql(sql)) => Origin::Sql(sql),
        Some(ColumnSource::Value(value)) => Origin::Constant(value),
        None if mapping.columns.rest => Origin::Record,
        None => Origin::Nowhere,
    }
}

/// Whether two mappings can give a key column the same value. `overlap`: whether a message can go to both.
fn may_be_equal(a: Origin<'_>, b: Origin<'_>, overlap: bool) -> bool {
    match (a, b) {
        (Origin::Constant(a), Origin::Constant(b)) => a == b,
        (Origin::Message(a), Origin::Message(b)) => overlap && a == b,
        (Origin::Sql(a), Origin::Sql(b)) => overlap || a == b && !a.contains("metadata"),
        (Origin::Record | Origin::Sql(_), Origin::Record | Origin::Sql(_)) => true,
        _ => false,
    }
}

/// The columns beside the key that a mapping writes.
pub fn written<'d>(mapping: &Mapping, destination: &'d Destination) -> Vec<&'d str> {
    let key = mapping.key_of(destination);
    let columns = destination.columns.iter().filter(|column| {
        !key.contains(&column.name)
            && !column.generated
            && !mapping.reserves(&column.name)
            && (mapping.columns.rest || mapping.columns.source(&column.name).is_some())
    });
    columns.map(|column| column.name.as_str()).collect()
}

/// The columns that both write.
fn common(a: &Mapping, b: &Mapping, destination: &Destination) -> Vec<String> {
    let (of_a, of_b) = (written(a, destination), written(b, destination));
    let common = of_a.iter().filter(|name| of_b.contains(name));
    common.map(|name| (*name).to_owned()).collect()
}

/// What to do where rows come from two sources.
const ONE: &str = "use one mapping with a wildcard in its source, or a key that has the source in it (\"metadata.table_name\", \
                   \"metadata.database.name\", or a constant). If none can, give each mapping a filter that says so.";

/// Under guard columns: the row has one version, so that the change of one mapping makes the other's stale. `refused`:
/// under guard table, they may not write the common columns either.
fn parts_of_rows(destination: &Destination, common: &[String], refused: bool) -> Fault {
    let table = "Use guard => 'table' for both, so that each has versions of its own.";
    Fault::kind(format!(
        "another mapping writes other columns of the same rows of {}",
        qualified(destination)
    ))
    .detail(
        "Under guard 'columns' a row has one version. A change by one mapping would make older changes by the \
         other stale, and their values would be lost.",
    )
    .hint(match refused {
        false => table.to_owned(),
        true => format!("{table} Only one of them may write ({}).", idents(common)),
    })
}

/// Changes of one column that come by two mappings are not compared. `same`: both write the same columns.
fn same_columns(
    (a, b): (&Mapping, &Mapping),
    destination: &Destination,
    common: &[String],
    same: bool,
) -> Fault {
    let table = qualified(destination);
    let one = are_one(a, b);
    let message = match one {
        true if a.source == b.source => {
            format!("another mapping, with another filter, writes the same rows of {table}")
        }
        true => format!(
            "another mapping, of a source that includes or is part of this one, writes the same rows of {table}"
        ),
        false => format!(
            "mapping \"{}\" writes the same columns of rows with the same key of {table}",
            b.name
        ),
    };
    let hint = match one {
        true if a.source == b.source => {
            "Use one mapping, whose filter lets the rows of both in.".to_owned()
        }
        true if !same => {
            "Let only one of the two write these columns, under guard => 'table'.".to_owned()
        }
        true => format!("U{}", &ONE[1..]),
        false => format!(
            "If no row comes from both, use guard => 'table' for both, so that each has versions of its own. If a row can, {ONE}"
        ),
    };
    Fault::kind(message)
        .detail(format!(
            "Both write ({}). Changes that come by two mappings are not compared: an older change by one would win over \
             a newer one by the other, and a delete by one would remove the row of the other.",
            idents(common)
        ))
        .hint(hint)
}
