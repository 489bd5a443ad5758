//! The values that an update does not repeat, for the mapping's SQL.
//!
//! `"unchanged_toast"` in a record says that a large value did not change. An expression of the mapping must not
//! see that word. It sees the kept value: of an older change in the batch, or of a destination column.

#![forbid(unsafe_code)]

use std::cmp::Ordering;
use std::collections::HashMap;

use pgrx::pg_sys::Datum;

use super::Changes;
use super::find::{Scratch, stamp};
use super::intake::Kept;
use super::project::input;
use super::values::{Image, object};
use crate::guard::home::home_or_unknown;
use crate::guard::stored::{Stored, load};
use crate::json::Json;
use crate::key;
use crate::mapping::Mode;
use crate::mapping::versions::VersionsIn;
use crate::merge::{Cell, Stamp, Value};
use crate::message::Action;
use crate::outcome::MessageNo;
use crate::pg::subtransaction::subtransaction;
use crate::prepared::{Recent, RowReader};
use crate::statement::lookup::{self, RowLock};
use crate::stop::Stop;
use crate::target::column::{Member, Source, TargetColumn};
use crate::target::projection::Projection;

/// The members of a row, by name.
pub(super) type Members<'a> = HashMap<String, Json<'a>>;

/// The rows at the keys of a batch, by key.
pub(super) type Rows<'a> = HashMap<Vec<u8>, Members<'a>>;

impl<'a> Changes<'a> {
    /// Finds the values that messages do not repeat and the mapping's SQL reads.
    pub fn find_kept(&mut self) -> Result<(), Stop> {
        let Some(mut projection) = self.target.projection.take() else {
            return Ok(());
        };
        let result = self.find_kept_for(&mut projection);
        self.target.projection = Some(projection);
        result
    }

    fn find_kept_for(&mut self, projection: &mut Projection) -> Result<(), Stop> {
        let mut wanted: HashMap<MessageNo, Vec<&'a str>> = HashMap::new();
        for number in self.intake.numbers() {
            let message = self.intake.message(number);
            let fields = self.intake.fields(message).iter();
            let names: Vec<_> = fields
                .filter(|field| {
                    self.target.leaves_out(message, field) && projection.reads(field.key)
                })
                .map(|field| field.key)
                .collect();
            if !names.is_empty() {
                wanted.insert(number, names);
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        for (&number, names) in &wanted {
            self.keep(number, names, None, projection);
        }
        if self.target.mapping.mode == Mode::Append {
            return Ok(());
        }
        let keys = self.keys_of_messages(projection)?;
        let mut rows = self.stored_rows(&keys)?;
        let states = self.stored_states(&keys)?;
        for (key, state) in &states {
            // what a soft delete has left
            if !state.state.present {
                rows.remove(key);
            }
        }
        let order = self.in_order();
        let mut source = None;
        // A read lacks what the backfill could not read, of the newest change.
        let mut reads: Vec<MessageNo> = Vec::new();
        for number in order {
            let Some((here, left)) = keys.get(&number) else {
                continue;
            };
            if let Some(row) = left.as_ref().and_then(|(left, _)| rows.remove(left)) {
                rows.insert(here.0.clone(), row);
            }
            let message = self.intake.message(number);
            let stamp = stamp(message, &mut source);
            let state = states
                .get(&here.0)
                .filter(|stored| is_older(&stamp, stored));
            if let Some(names) = wanted.get(&number) {
                match message.action {
                    Action::Read => reads.push(number),
                    _ => self.keep(number, names, rows.get(&here.0), projection),
                }
            }
            match message.action {
                _ if state.is_some() => {}
                Action::Delete => drop(rows.remove(&here.0)),
                Action::Insert => drop(rows.insert(here.0.clone(), Members::new())),
                Action::Read if !wanted.contains_key(&number) => {
                    rows.entry(here.0.clone()).or_default();
                }
                Action::Read | Action::Update => {}
            }
            let Some(row) = rows.get_mut(&here.0) else {
                continue;
            };
            for field in self.intake.fields(message) {
                let fills = || state.is_none_or(|stored| self.fills(&stamp, field.key, stored));
                if !self.target.leaves_out(message, field) && fills() {
                    row.insert(field.key.to_owned(), field.value);
                }
            }
        }
        for number in reads {
            let row = keys.get(&number).and_then(|(here, _)| rows.get(&here.0));
            self.keep(number, &wanted[&number], row, projection);
        }
        Ok(())
    }

    /// The messages in the order of the source: changes by their positions, reads by their times among them.
    fn in_order(&self) -> Vec<MessageNo> {
        let mut order: Vec<MessageNo> = self.intake.numbers().collect();
        if self.target.versions == VersionsIn::Nowhere {
            return order;
        }
        let mut time = None;
        order.sort_by_key(|number| {
            let version = self.intake.message(*number).version;
            version.map(|version| (version.lsn, version.index()))
        });
        // The times of the changes before and at each change; a read has no position.
        let mut timed: Vec<(Option<i64>, bool, MessageNo)> = Vec::with_capacity(order.len());
        for number in order {
            let message = self.intake.message(number);
            let is_read = message.action == Action::Read;
            if !is_read {
                time = time.max(message.committed_at);
            }
            let at = if is_read { message.committed_at } else { time };
            timed.push((at, is_read, number));
        }
        timed.sort_by_key(|(at, is_read, _)| (*at, *is_read));
        timed.into_iter().map(|(_, _, number)| number).collect()
    }

    /// Whether a change that is older than the stored row still fills a member.
    fn fills(&self, stamp: &Stamp, member: &str, stored: &Stored) -> bool {
        let columns = &self.target.columns;
        let of_field =
            |column: &TargetColumn| matches!(&column.source, Source::Field(n) if n == member);
        let cells = &stored.state.cells;
        let older = |cell: &Cell| {
            cell.value == Value::Unknown
                || cell
                    .gap
                    .is_some_and(|gap| stamp.compare(&gap) == Ordering::Greater)
        };
        if let Some(column) = columns.iter().position(of_field) {
            return older(&cells[column]);
        }
        let document = columns.iter().position(|column| column.document.is_some());
        if let Some(document) = document {
            let is_it = |m: &Member| m.column == document && m.name == member;
            let own = stored.members.iter().position(is_it);
            return older(&cells[own.map_or(document, |own| columns.len() + own)]);
        }
        let sql = |column: &TargetColumn| matches!(column.source, Source::Sql(_));
        let mut sql = columns.iter().zip(cells).filter(|(column, _)| sql(column));
        sql.any(|(_, cell)| older(cell))
    }

    /// What is stored of the rows at these keys.
    fn stored_states(
        &mut self,
        keys: &HashMap<MessageNo, (Key, Option<Key>)>,
    ) -> Result<HashMap<Vec<u8>, Stored>, Stop> {
        if self.target.versions == VersionsIn::Nowhere || keys.is_empty() {
            return Ok(HashMap::new());
        }
        let definer = self.intake.call.definer;
        let mut home_source = 0;
        if self.target.versions == VersionsIn::Columns {
            let first = stamp(self.intake.message(MessageNo(0)), &mut None).source;
            let by = (definer, self.intake.call.mappings);
            home_source = home_or_unknown(&mut self.target, by, first)?;
        }
        let mut asked: Vec<Key> = keys.values().map(|(here, _)| here.clone()).collect();
        asked.sort_by(|a, b| a.0.cmp(&b.0));
        asked.dedup_by(|a, b| a.0 == b.0);
        let (keys, values): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        // The rows are locked already.
        let guard = (definer, home_source);
        let stored = load(
            &mut self.target,
            guard,
            (&keys, &values),
            RowLock::None,
            true,
        )?;
        Ok(keys.into_iter().zip(stored).collect())
    }

    /// Notes what is known of the members `names` of a message, given its row; `None`: the row is not there.
    fn keep(
        &mut self,
        number: MessageNo,
        names: &[&str],
        row: Option<&Members<'a>>,
        projection: &Projection,
    ) {
        let message = self.intake.message(number);
        // A value that is not repeated is never null.
        let known = |name: &str| {
            row.and_then(|row| row.get(name))
                .filter(|value| !value.is_null())
                .copied()
        };
        let fields = self.intake.fields(message).iter();
        let members = fields.filter_map(|field| match self.target.leaves_out(message, field) {
            true => known(field.key).map(|value| (field.key, value)),
            false => Some((field.key, field.value)),
        });
        let text = self.intake.memory.alloc_str(&object(members));
        let missing: Vec<&str> = names
            .iter()
            .copied()
            .filter(|n| known(n).is_none())
            .collect();
        let kept = Kept {
            record: Some(Json::Text(text)),
            unknown: projection.readers(&missing),
            derived: projection.readers(names),
            exists: row.is_some(),
        };
        self.intake.keep(number, kept);
    }

    /// The keys of the batch's messages, and those that they left. Messages without a key are left out.
    #[allow(clippy::type_complexity)]
    fn keys_of_messages(
        &mut self,
        projection: &mut Projection,
    ) -> Result<HashMap<MessageNo, (Key, Option<Key>)>, Stop> {
        let mut keys = HashMap::new();
        let sql = self
            .target
            .key
            .iter()
            .any(|&column| matches!(self.target.columns[column].source, Source::Sql(_)));
        let mut scratch = Scratch::default();
        for number in self.intake.numbers() {
            let message = self.intake.message(number);
            if sql {
                let memory = self.intake.memory;
                let input = [input(message, self.intake.kept(number), false, memory)];
                match subtransaction(|| projection.run(&input, memory)) {
                    Ok(projected) => self.intake.project(number, false, &projected.into(), 0),
                    Err(_) => continue,
                }
            }
            let fields = self.intake.fields(message);
            self.target.read(message, fields, &mut scratch.slots);
            self.intake.mask(number, &mut scratch.slots);
            let moved = !sql && self.target.changes_key(message);
            let here = subtransaction(|| self.read_key(number, Image::New, &mut scratch));
            if here.is_err() {
                continue;
            }
            let here = self.encoded(&scratch.key);
            let mut left = None;
            if moved
                && subtransaction(|| self.read_key(number, Image::Former, &mut scratch)).is_ok()
            {
                left = Some(self.encoded(&scratch.key));
            }
            keys.insert(number, (here, left));
        }
        Ok(keys)
    }

    fn encoded(&self, key: &[Datum]) -> Key {
        let mut bytes = Vec::new();
        key::encode(&self.target.key_encoding, key, &mut bytes);
        (bytes, key.to_vec())
    }

    /// The rows that the destination has at these keys. With a guard, nobody else changes them until the transaction ends.
    pub(super) fn stored_rows(
        &mut self,
        keys: &HashMap<MessageNo, (Key, Option<Key>)>,
    ) -> Result<Rows<'a>, Stop> {
        let mut asked: Vec<&Key> = keys
            .values()
            .flat_map(|(here, left)| std::iter::once(here).chain(left))
            .collect();
        asked.sort_by(|a, b| a.0.cmp(&b.0));
        asked.dedup_by(|a, b| a.0 == b.0);
        let mut rows = Rows::new();
        if asked.is_empty() {
            return Ok(rows);
        }
        let lock = match self.target.versions {
            VersionsIn::Nowhere => RowLock::None,
            _ => self.row_lock(self.target.can_lock_rows)?,
        };
        let keys = || asked.iter().map(|(_, values)| values.clone()).collect();
        let relation = self.target.relation_of(keys);
        let sql = lookup::images(&relation, &self.target.key_sql(), lock);
        let mut statement = Recent::new(sql, &self.target.numbered_key())?;
        let returned = statement.query(asked.iter().enumerate(), |(n, (_, values))| {
            let number = std::iter::once(Some(Datum::from(n as i32)));
            number
                .chain(values.iter().map(|value| Some(*value)))
                .collect()
        })?;
        let mut reader = RowReader::new(&returned);
        while reader.next() {
            let Some(image) = reader.text(1) else {
                continue;
            };
            let image = Json::Text(self.intake.memory.alloc_str(&image));
            let mut row = Members::new();
            for column in &self.target.columns {
                let Some(value) = image.get(&column.name) else {
                    continue;
                };
                match &column.source {
                    Source::Field(name) => drop(row.insert(name.clone(), value)),
                    _ if column.document.is_some() => {
                        for (name, value) in value.members() {
                            row.entry(name.into_owned()).or_insert(value);
                        }
                    }
                    _ => {}
                }
            }
            rows.insert(asked[reader.index(0)].0.clone(), row);
        }
        let absent = asked.iter().filter(|(key, _)| !rows.contains_key(key));
        self.absent.extend(absent.map(|key| (*key).clone()));
        Ok(rows)
    }
}

/// Whether the stored row, or its departure, is newer than this.
fn is_older(stamp: &Stamp, stored: &Stored) -> bool {
    let newest = match stored.state.present {
        true => stored.state.row,
        false => stored.state.gone.map(|gone| gone.stamp),
    };
    newest.is_some_and(|newest| stamp.compare(&newest) != Ordering::Greater)
}

/// A key as bytes, and its values.
pub(super) type Key = (Vec<u8>, Vec<Datum>);
