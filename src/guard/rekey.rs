//! Keeps the stored keys of rows in step with the key: the destination's key columns can get another type or
//! order, and the mapping another key.
//!
//! The values of a key are read from its bytes and cast, or, where the bytes do not tell, taken from the rows of
//! the destination. Where neither gives the new key of a row, the mapping is broken until its versions are
//! forgotten.

#![forbid(unsafe_code)]

pub mod noted;
mod shape;
mod sharded;

use std::collections::{HashMap, HashSet};

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, BuiltinOid, Datum};

use crate::destination::Destination;
use crate::error::origin::Origin;
use crate::error::{Error, SqlError};
use crate::key::{KeyColumn, decode};
use crate::mapping::Mapping;
use crate::mapping::grants::writer;
use crate::mapping::versions::VersionsIn;
use crate::pg::invalidation;
use crate::pg::spi::Plan;
use crate::pg::subtransaction::subtransaction;
use crate::pg::tuples::{RowColumn, Rows};
use crate::pg::user::ActingAs;
use crate::prepared::{Kept, Lookup, RowReader, Statement};
use crate::stop::Stop;
use shape::{Columns, Part, Shape, columns_of, name_now, type_oid, with_collation};
use sharded::{BothKeys, both_keys};

/// What has become of a mapping's stored keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// They fit.
    Fit,
    /// They were made anew, of the same columns.
    Respelled,
    /// They were made anew, of other columns, for this many rows.
    OfOtherColumns(usize),
}

/// Makes the stored keys of the mapping fit its key. `exclusive`: whether the caller holds the exclusive lock on
/// the mapping. The caller acts as the extension's owner.
pub fn settle(
    mapping: &Mapping,
    destination: &Destination,
    exclusive: bool,
) -> Result<Settled, Stop> {
    if VersionsIn::of(mapping, destination) == VersionsIn::Nowhere {
        return Ok(Settled::Fit);
    }
    let columns = columns_of(destination.oid);
    let Some(now) = Shape::of(mapping, destination, &columns) else {
        return Ok(Settled::Fit);
    };
    let Some(stored) = Shape::stored(mapping.id) else {
        now.store(mapping.id)?;
        return Ok(Settled::Fit);
    };
    if stored == now {
        return Ok(Settled::Fit);
    }
    let rekey = Rekey {
        mapping,
        destination,
        columns: &columns,
        stored: &stored,
        now: &now,
    };
    let places = rekey.places();
    if !exclusive {
        return Err(Stop::EXCLUSIVE);
    }
    let same = places
        .iter()
        .enumerate()
        .all(|(i, place)| *place == Some(i) && stored.0[i].encoding == now.0[i].encoding);
    let settled = match same && stored.0.len() == now.0.len() {
        true => Settled::Fit,
        false => rekey.run(&places)?,
    };
    now.store(mapping.id)?;
    // If this is rolled back, the session must look at the keys again.
    invalidation::announce(destination.oid);
    Ok(settled)
}

/// Keys of one shape, to be made keys of another one.
struct Rekey<'r> {
    mapping: &'r Mapping,
    destination: &'r Destination,
    columns: &'r Columns,
    stored: &'r Shape,
    now: &'r Shape,
}

/// A key that is stored.
struct Entry {
    key: Vec<u8>,
    /// Whether it has the version of a row that is there.
    live: bool,
    /// Whether it has a tombstone.
    deleted: bool,
}

const ENTRIES: &str = "
    select k.key, pg_catalog.bool_or(k.live), pg_catalog.bool_or(k.deleted)
    from (select v.key, not v.deleted and v.source is not null as live, v.deleted
          from sequin.row_version v where v.mapping = $1
          union all
          select t.key, false, false from sequin.tombstone t where t.mapping = $1
          union all
          select s.key, false, false from sequin.resync_seen s where s.mapping = $1
          union all
          select k.key, false, false
          from sequin.dead_letter d join sequin.mapping m on m.name = d.mapping
          cross join lateral (values (d.row_key), (d.former_key)) k(key)
          where m.id = $1) k
    where k.key is not null group by k.key order by k.key";

/// The keys are stored under the negated id first: a new key can be the old key of another row.
const STORE: [&str; 3] = [
    "insert into sequin.row_version
         (mapping, key, source, lsn, idx, committed_at, read_at, deleted, image, gone, gaps)
     select - r.mapping, b.new, r.source, r.lsn, r.idx, r.committed_at, r.read_at, r.deleted, r.image,
            r.gone, r.gaps
     from sequin_internal.batch() b(mapping integer, old bytea, new bytea)
     join sequin.row_version r on r.mapping = b.mapping and r.key = b.old
     on conflict do nothing",
    "insert into sequin.tombstone (made_at, mapping, key)
     select r.made_at, - r.mapping, b.new
     from sequin_internal.batch() b(mapping integer, old bytea, new bytea)
     join sequin.tombstone r on r.mapping = b.mapping and r.key = b.old
     on conflict do nothing",
    "insert into sequin.resync_seen (mapping, key)
     select - r.mapping, b.new
     from sequin_internal.batch() b(mapping integer, old bytea, new bytea)
     join sequin.resync_seen r on r.mapping = b.mapping and r.key = b.old
     on conflict do nothing",
];

const LETTERS: &str = "
    with b as materialized (
        select b.mapping, b.old, b.new from sequin_internal.batch() b(mapping integer, old bytea, new bytea))
    update sequin.dead_letter d
    set row_key = (select b.new from b where b.old = d.row_key),
        former_key = (select b.new from b where b.old = d.former_key)
    where d.mapping = (select m.name from sequin.mapping m where m.id = (select b.mapping from b limit 1))
      and d.row_key is not null";

const PAIR: &[(&str, pg_sys::Oid)] = &[
    ("mapping", pg_sys::INT4OID),
    ("old", pg_sys::BYTEAOID),
    ("new", pg_sys::BYTEAOID),
];

thread_local! {
    static FIND: Lookup = const { Lookup::new(ENTRIES, &[BuiltinOid::INT4OID]) };
    static MOVE: [Kept; 3] = const {
        [Kept::new(STORE[0], PAIR), Kept::new(STORE[1], PAIR), Kept::new(STORE[2], PAIR)]
    };
    static MOVE_LETTERS: Kept = const { Kept::new(LETTERS, PAIR) };
}

/// How many keys are computed by one statement.
const PORTION: usize = 1000;

impl Rekey<'_> {
    /// For each column of the key now, its place in the stored keys.
    fn places(&self) -> Vec<Option<usize>> {
        let place = |part: &Part| {
            let mut stored = self.stored.0.iter();
            stored.position(|old| name_now(old, self.columns) == Some(&part.name))
        };
        self.now.0.iter().map(place).collect()
    }

    fn run(&self, places: &[Option<usize>]) -> Result<Settled, SqlError> {
        let id = self.mapping.id;
        let entries: Vec<Entry> = FIND.with(|query| {
            query.rows(&[id.into()], |row| {
                Ok(Entry {
                    key: row.get(1)?.expect("not null"),
                    live: row.get(2)?.unwrap_or_default(),
                    deleted: row.get(3)?.unwrap_or_default(),
                })
            })
        });
        let of_same: Option<Vec<usize>> = places.iter().copied().collect();
        let of_same = of_same.filter(|places| places.len() == self.stored.0.len());
        if entries.is_empty() {
            return Ok(of_same.map_or(Settled::OfOtherColumns(0), |_| Settled::Respelled));
        }
        let mut keys: HashMap<usize, Vec<u8>> = HashMap::new();
        let mut impossible = HashSet::new();
        if let Some(places) = &of_same {
            self.read_keys(places, &entries, &mut keys, &mut impossible)?;
        }
        if entries
            .iter()
            .enumerate()
            .any(|(i, entry)| !keys.contains_key(&i) && (entry.live || entry.deleted))
        {
            self.find_keys(&entries, &mut keys)?;
        }
        let lost = entries.iter().enumerate().filter(|(i, entry)| {
            !keys.contains_key(i) && (entry.live || entry.deleted && !impossible.contains(i))
        });
        let lost = lost.count();
        if lost > 0 {
            return Err(Error::KeyAltered {
                mapping: self.mapping.name.clone(),
                stored: self.stored.told(),
                now: self.now.told(),
                rows: lost,
            }
            .into());
        }
        self.store(&entries, &keys)?;
        Ok(match of_same {
            Some(_) => Settled::Respelled,
            None => Settled::OfOtherColumns(entries.iter().filter(|entry| entry.live).count()),
        })
    }

    /// Reads the values of the keys from their bytes, and casts them. `places` has the place of each column of the
    /// key now in the stored keys. `impossible`: keys of deleted rows whose values the new type cannot have, so
    /// that no message of them can be applied.
    fn read_keys(
        &self,
        places: &[usize],
        entries: &[Entry],
        keys: &mut HashMap<usize, Vec<u8>>,
        impossible: &mut HashSet<usize>,
    ) -> Result<(), SqlError> {
        let Some(values) = self.read(entries) else {
            return Ok(());
        };
        let names: Vec<String> = (0..self.stored.0.len()).map(|i| format!("c{i}")).collect();
        let mut row: Vec<RowColumn> = vec![RowColumn::plain("n", pg_sys::INT4OID)];
        row.extend(
            names
                .iter()
                .map(|name| RowColumn::plain(name, pg_sys::TEXTOID)),
        );
        let declared: Vec<String> = names.iter().map(|name| format!("{name} text")).collect();
        let batch = format!(
            "sequin_internal.batch() b(n integer, {})",
            declared.join(", ")
        );
        let cast: Vec<String> = places
            .iter()
            .zip(&self.now.0)
            .map(|(place, part)| {
                let old = &self.stored.0[*place];
                let value = match type_oid(&old.type_name) {
                    Some(_) => format!("(b.c{place})::{}", old.type_name),
                    None => format!("b.c{place}"),
                };
                with_collation(format!("({value})::{}", part.type_name), part)
            })
            .collect();
        let _owner = ActingAs::untrusted(writer(self.mapping, self.destination));
        let sql = format!(
            "select b.n, sequin.row_key({}) from {batch}",
            cast.join(", ")
        );
        // The server knows no cast: USING computed the values.
        let Some(mut statement) = prepared(&sql, &row)? else {
            return Ok(());
        };
        let mut computed = Computed::default();
        for portion in values.chunks(PORTION) {
            computed.compute(&mut statement, portion)?;
        }
        if computed.keys.is_empty() || !self.fits(&batch, &row, &cast, &values, entries)? {
            return Ok(());
        }
        *impossible = computed.failed;
        keys.extend(computed.keys);
        Ok(())
    }

    /// The values of the keys, in words: number of the entry, and values. `None` if the bytes do not tell them.
    fn read(&self, entries: &[Entry]) -> Option<Vec<(usize, Vec<String>)>> {
        if !self.stored.0.iter().all(Part::is_readable) {
            return None;
        }
        let types: Vec<pg_sys::Oid> = self
            .stored
            .0
            .iter()
            .map(|part| type_oid(&part.type_name).unwrap_or(pg_sys::TEXTOID))
            .collect();
        let encodings: Vec<KeyColumn> = types
            .iter()
            .map(|type_oid| KeyColumn::new(*type_oid, pg_sys::InvalidOid))
            .collect();
        let columns: Vec<(&KeyColumn, pg_sys::Oid)> =
            encodings.iter().zip(types.iter().copied()).collect();
        let values = entries.iter().enumerate();
        let values = values.filter_map(|(i, entry)| Some((i, decode(&columns, &entry.key)?)));
        Some(values.collect())
    }

    /// Whether the rows of the destination have the new keys. They have others where the values of the columns
    /// were changed with their types (`USING`).
    fn fits(
        &self,
        batch: &str,
        row: &[RowColumn],
        cast: &[String],
        values: &[(usize, Vec<String>)],
        entries: &[Entry],
    ) -> Result<bool, SqlError> {
        let live: Vec<_> = values
            .iter()
            .filter(|(i, _)| entries[*i].live)
            .take(PORTION)
            .cloned()
            .collect();
        if live.is_empty() || VersionsIn::of(self.mapping, self.destination) != VersionsIn::Table {
            return Ok(true);
        }
        let relation = self.destination.qualified_name();
        let equal: Vec<String> = cast
            .iter()
            .zip(&self.now.0)
            .map(|(value, part)| format!("d.{} = {value}", quoted(&part.name)))
            .collect();
        let sql = format!(
            "select count(*) filter (where exists (select from {relation} d where {})),
                    exists (select from {relation})
             from {batch}",
            equal.join(" and ")
        );
        let Some(mut statement) = prepared(&sql, row)? else {
            return Ok(true);
        };
        let found = subtransaction(|| statement.query(live.iter(), batch_row));
        Ok(match found {
            Ok(found) => {
                let mut row = RowReader::new(&found);
                !row.next() || row.bigint(0) != Some(0) || row.bool(1) == Some(false)
            }
            Err(error) if error.origin == Origin::Server => return Err(error),
            Err(_) => true,
        })
    }

    /// Takes the keys from the rows of the destination, which have the values of both.
    fn find_keys(
        &self,
        entries: &[Entry],
        keys: &mut HashMap<usize, Vec<u8>>,
    ) -> Result<(), SqlError> {
        let old: Option<Vec<String>> = self.stored.0.iter().map(|part| self.former(part)).collect();
        let Some(old) = old else { return Ok(()) };
        let new: Vec<String> = self
            .now
            .0
            .iter()
            .map(|p| format!("d.{}", quoted(&p.name)))
            .collect();
        let wanted: HashMap<&[u8], usize> = entries
            .iter()
            .enumerate()
            .filter(|(i, _)| !keys.contains_key(i))
            .map(|(i, entry)| (entry.key.as_slice(), i))
            .collect();
        if self.destination.shards.is_some() {
            for (before, now) in self.keys_in_shards(old, new)? {
                if let Some(i) = wanted.get(before.as_slice()) {
                    keys.insert(*i, now);
                }
            }
            return Ok(());
        }
        let sql = format!(
            "select k.old, k.new
             from (select sequin.row_key({}) as old, sequin.row_key({}) as new from {} d offset 0) k
             where k.new is not null and (k.old in (select b.key from sequin_internal.batch() b(key bytea))) is true",
            old.join(", "),
            new.join(", "),
            self.destination.qualified_name()
        );
        let _owner = ActingAs::untrusted(writer(self.mapping, self.destination));
        let row = [RowColumn::plain("key", pg_sys::BYTEAOID)];
        let Some(mut statement) = prepared(&sql, &row)? else {
            return Ok(());
        };
        let found =
            subtransaction(|| statement.query(wanted.keys(), |key| vec![(*key).into_datum()]));
        match found {
            Ok(found) => {
                let mut row = RowReader::new(&found);
                while row.next() {
                    let (old, new) = (row.bytes(0).unwrap_or_default(), row.bytes(1));
                    if let (Some(i), Some(new)) = (wanted.get(old.as_slice()), new) {
                        keys.insert(*i, new);
                    }
                }
                Ok(())
            }
            Err(error) if error.origin == Origin::Server => Err(error),
            Err(_) => Ok(()),
        }
    }

    /// Both keys of each row, where Citus has the rows; none if they cannot be read.
    fn keys_in_shards(
        &self,
        old: Vec<String>,
        new: Vec<String>,
    ) -> Result<Vec<BothKeys>, SqlError> {
        let collation = |part: &Part| {
            let name = name_now(part, self.columns);
            let column = name.and_then(|name| self.destination.column(name));
            column.map_or(pg_sys::InvalidOid, |column| column.collation)
        };
        let of = |sql: Vec<String>, parts: &[Part]| -> Vec<_> {
            sql.into_iter().zip(parts.iter().map(collation)).collect()
        };
        let (old, new) = (of(old, &self.stored.0), of(new, &self.now.0));
        let _owner = ActingAs::untrusted(writer(self.mapping, self.destination));
        match both_keys(&self.destination.qualified_name(), &old, &new) {
            Err(error) if error.origin != Origin::Server => Ok(Vec::new()),
            found => found,
        }
    }

    /// The former value of a key's column, as SQL over the row `d` of the destination.
    fn former(&self, part: &Part) -> Option<String> {
        let name = name_now(part, self.columns)?;
        let column = format!("d.{}", quoted(name));
        let same = self
            .now
            .0
            .iter()
            .any(|now| now.name == name && now.encoding == part.encoding);
        Some(match same {
            true => column,
            false => with_collation(format!("({column})::{}", part.type_name), part),
        })
    }

    fn store(&self, entries: &[Entry], keys: &HashMap<usize, Vec<u8>>) -> Result<(), SqlError> {
        let id = self.mapping.id;
        let mut pairs: Vec<(&[u8], &[u8])> = keys
            .iter()
            .map(|(i, new)| (entries[*i].key.as_slice(), new.as_slice()))
            .collect();
        // Not in the order of a hash: locks are taken in the order of the keys.
        pairs.sort_unstable();
        let row = |(old, new): &(&[u8], &[u8])| {
            vec![
                Some(Datum::from(id)),
                (*old).into_datum(),
                (*new).into_datum(),
            ]
        };
        MOVE.with(|statements| {
            statements
                .iter()
                .try_for_each(|statement| statement.execute(pairs.iter(), row).map(drop))
        })?;
        for table in ["row_version", "tombstone", "resync_seen"] {
            run(&format!("delete from sequin.{table} where mapping = {id}"))?;
            run(&format!(
                "update sequin.{table} set mapping = {id} where mapping = - {id}"
            ))?;
        }
        MOVE_LETTERS
            .with(|statement| statement.execute(pairs.iter(), row))
            .map(drop)
    }
}

/// Keys that statements have computed, by the numbers of their entries, and the entries for which this failed.
#[derive(Default)]
struct Computed {
    keys: HashMap<usize, Vec<u8>>,
    failed: HashSet<usize>,
}

impl Computed {
    fn compute(
        &mut self,
        statement: &mut Statement,
        values: &[(usize, Vec<String>)],
    ) -> Result<(), SqlError> {
        match subtransaction(|| statement.query(values.iter(), batch_row)) {
            Ok(found) => {
                let mut row = RowReader::new(&found);
                while row.next() {
                    self.keys
                        .extend(row.bytes(1).map(|key| (row.index(0), key)));
                }
                Ok(())
            }
            Err(error) if error.origin == Origin::Server => Err(error),
            Err(_) if values.len() == 1 => {
                self.failed.insert(values[0].0);
                Ok(())
            }
            Err(_) => {
                let (first, rest) = values.split_at(values.len() / 2);
                self.compute(statement, first)?;
                self.compute(statement, rest)
            }
        }
    }
}

/// A row of the batch relation: the number of an entry, and its values.
fn batch_row((i, values): &(usize, Vec<String>)) -> Vec<Option<Datum>> {
    let values = values.iter().map(|value| value.as_str().into_datum());
    std::iter::once(Some(Datum::from(*i as i32)))
        .chain(values)
        .collect()
}

/// The statement; `None` if the server does not accept it.
fn prepared(sql: &str, row: &[RowColumn]) -> Result<Option<Statement>, SqlError> {
    match subtransaction(|| Statement::new(sql, row)) {
        Ok(statement) => Ok(Some(statement)),
        Err(error) if error.origin == Origin::Server => Err(error),
        Err(_) => Ok(None),
    }
}

fn run(sql: &str) -> Result<(), SqlError> {
    Plan::prepare(sql)?.run(Rows::new()).map(drop)
}

fn quoted(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}
