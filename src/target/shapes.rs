//! The shapes of records: which members they have. A source column that is renamed shows here first: records have a
//! member that no column takes, and lack one that a column is read from.
//!
//! Each shape is looked at once in a session, not each message: the messages of a table have one shape, as long as the
//! table is the same.

#![forbid(unsafe_code)]

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::column::{Source, TargetColumn};
use crate::destination::Destination;
use crate::error::quote::ident;
use crate::mapping::members::{members, reads_member};
use crate::mapping::{ColumnSource, Mapping, Path, Root};
use crate::message::{Action, Field, Message};

/// The members of the records of one table. Reads and changes are apart: only reads have generated columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordShape {
    /// The source table, quoted where SQL needs it.
    pub source: String,
    /// Whether backfill reads have the shape.
    pub backfill: bool,
    /// The names of the members.
    pub keys: Vec<String>,
    /// The commit time of a message with the shape, in microseconds since 1970.
    pub committed_at: Option<i64>,
    hash: u64,
}

/// How far a shape is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It is compared once more, when the transaction that noted it has surely ended.
    Noted,
    /// There is nothing to say about it.
    Settled,
    /// The table's records drift: whether they still do shows when records of another shape come.
    Drifting,
}

/// The most members of a shape. A table has at most 1600 columns: records of more members are no rows of a table.
const MOST_MEMBERS: usize = 2000;

/// The longest name of a member, a schema or a table that is noted, in bytes: an index has no room for any length. The names of
/// a source have 63 bytes at most.
const LONGEST: usize = 255;

/// The most shapes that are told apart. Records of more shapes have no fixed columns.
const MOST: usize = 64;

/// The shapes of the records that a mapping takes.
#[derive(Default)]
pub struct Shapes {
    known: HashMap<u64, Known>,
    /// The shapes to compare with those before.
    fresh: Vec<RecordShape>,
    /// The shape of the last message.
    last: Option<(String, String, bool, usize)>,
}

impl Shapes {
    /// Notes the shape of a message. `same`: its members are those of the message before, as far as it has so many.
    /// Deletes have no say: they may hold no more than the key.
    pub fn note(&mut self, message: &Message<'_>, fields: &[Field<'_>], same: bool) {
        if fields.len() > MOST_MEMBERS {
            return;
        }
        let backfill = message.action == Action::Read;
        let as_last = same
            && self
                .last
                .as_ref()
                .is_some_and(|(schema, table, read, count)| {
                    (*count, *read) == (fields.len(), backfill)
                        && *schema == message.schema
                        && *table == message.table
                });
        if as_last {
            return;
        }
        let (schema, table) = (message.schema.to_owned(), message.table.to_owned());
        self.last = Some((schema, table, backfill, fields.len()));
        let mut hasher = DefaultHasher::new();
        (message.schema, message.table, backfill).hash(&mut hasher);
        for field in fields {
            field.key.hash(&mut hasher);
        }
        let mut names = fields.iter().map(|field| field.key);
        if [message.schema, message.table]
            .iter()
            .any(|name| name.len() > LONGEST)
            || names.any(|name| name.len() > LONGEST)
        {
            return;
        }
        let hash = hasher.finish();
        let known = self.known.get(&hash);
        if known == Some(&Known::Settled)
            || known.is_none() && self.known.len() + self.fresh.len() >= MOST
            || self.fresh.iter().any(|shape| shape.hash == hash)
        {
            return;
        }
        self.fresh.push(RecordShape {
            source: format!("{}.{}", ident(message.schema), ident(message.table)),
            backfill,
            keys: fields.iter().map(|field| field.key.to_owned()).collect(),
            committed_at: message.committed_at,
            hash,
        });
    }

    /// The shapes that have not been compared yet.
    pub fn fresh(&self) -> &[RecordShape] {
        &self.fresh
    }

    /// Leaves the comparison of the fresh shapes to a later call.
    pub fn later(&mut self) {
        self.fresh.clear();
        self.last = None;
    }

    /// Notes that the fresh shapes were compared. For each, whether something had to be noted, and whether the records
    /// of the table drift.
    pub fn compared(&mut self, results: &[(bool, bool)]) {
        for (shape, (noted, drifts)) in self.fresh.drain(..).zip(results) {
            let known = match (noted, drifts) {
                (true, _) => Known::Noted,
                (false, true) => Known::Drifting,
                (false, false) => Known::Settled,
            };
            if *noted {
                self.last = None;
            }
            self.known.insert(shape.hash, known);
        }
    }
}

/// How the records of a table drift from the mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// They have a member that no column takes.
    NotTaken,
    /// They lack a member that a column is read from.
    Lacking,
    /// As `Lacking`, without a new member beside it: some records may just have fewer members than others.
    Suspected,
    /// They lack a member, and that is right.
    Accepted,
}

impl Drift {
    /// All kinds, each with its name in `sequin.record_key`.
    const NAMES: [(Drift, &'static str); 4] = [
        (Drift::NotTaken, "not_taken"),
        (Drift::Lacking, "lacking"),
        (Drift::Suspected, "suspected"),
        (Drift::Accepted, "accepted"),
    ];

    /// The name in `sequin.record_key`.
    pub fn name(self) -> &'static str {
        let mut names = Drift::NAMES.iter();
        let name = names.find(|(drift, _)| *drift == self);
        name.expect("every kind has a name").1
    }

    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Drift> {
        let mut names = Drift::NAMES.iter();
        names.find(|(_, its)| *its == name).map(|(drift, _)| *drift)
    }

    /// Whether somebody should know.
    pub fn is_told(self) -> bool {
        self != Drift::Accepted
    }
}

/// What is noted of a member of a table's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// How it drifts; `None` if it was in the records, and that was right.
    pub drift: Option<Drift>,
    /// Whether a column took it then, if that is known.
    pub taken: Option<bool>,
    /// The commit time of the message that showed it.
    pub committed_at: Option<i64>,
}

/// The members of records that a mapping's columns are read from.
pub struct Taken {
    /// By name; true: the mapping names the member.
    keys: BTreeMap<String, bool>,
    /// Further members that are not missed: columns of the destination that are never written.
    others: HashSet<String>,
    /// The mapping's SQL, which may read any member.
    sql: Vec<String>,
    /// Whether a column takes whole records.
    all: bool,
}

impl Taken {
    /// The members that these columns are read from.
    pub fn new(mapping: &Mapping, destination: &Destination, columns: &[TargetColumn]) -> Taken {
        let keeps = |key: &str| key.len() <= LONGEST;
        let mut taken = Taken {
            keys: BTreeMap::new(),
            others: HashSet::new(),
            sql: mapping.filter.clone().into_iter().collect(),
            all: false,
        };
        for column in columns {
            let named = mapping.columns.source(&column.name).is_some();
            match &column.source {
                Source::Field(key) if keeps(key) => {
                    *taken.keys.entry(key.clone()).or_default() |= named;
                }
                Source::Path(Path {
                    root: Root::Record,
                    keys,
                }) => match keys.first() {
                    Some(key) if keeps(key) => drop(taken.keys.insert(key.clone(), true)),
                    Some(_) => {}
                    None => taken.all = true,
                },
                Source::Field(_) | Source::Path(_) | Source::Constant(_) | Source::Sql(_) => {}
            }
        }
        for (_, source) in &mapping.columns.named {
            if let ColumnSource::Sql(sql) = source {
                taken.all |= takes_whole_record(sql);
                taken.sql.push(sql.clone());
            }
        }
        for (member, _) in taken.sql.iter().flat_map(|sql| members(sql)) {
            taken.keys.entry(member).or_default();
        }
        if mapping.columns.rest {
            let columns = destination.columns.iter();
            taken.others = columns.map(|column| column.name.clone()).collect();
        }
        taken
    }

    /// Whether a column takes the member, or the mapping's SQL may.
    pub fn takes(&self, key: &str) -> bool {
        self.all
            || self.keys.contains_key(key)
            || self.others.contains(key)
            || self.sql.iter().any(|sql| reads_member(sql, key))
    }

    /// What is to be noted of a table, given what is noted of it, when records of this shape come. A member that has
    /// been there, or not been there, from the first message on is as it should be; but a member that the mapping names
    /// must be there.
    pub fn compare(
        &self,
        noted: &HashMap<String, Noted>,
        shape: &RecordShape,
    ) -> Vec<(String, Option<Drift>)> {
        let newer = |noted: &Noted| match (shape.committed_at, noted.committed_at) {
            (Some(now), Some(then)) => now > then,
            _ => true,
        };
        let mut found = Vec::new();
        for key in &shape.keys {
            let now = match noted.get(key) {
                None if noted.is_empty() || self.takes(key) => None,
                None => Some(Drift::NotTaken),
                Some(before) => match before.drift {
                    // The column is gone, or the mapping reads it no more.
                    None if before.taken == Some(true) && !self.takes(key) => Some(Drift::NotTaken),
                    None if before.taken != Some(self.takes(key)) => None,
                    Some(Drift::NotTaken) if self.takes(key) => None,
                    Some(Drift::Lacking | Drift::Suspected | Drift::Accepted) if newer(before) => {
                        (!self.takes(key)).then_some(Drift::NotTaken)
                    }
                    _ => continue,
                },
            };
            found.push((key.clone(), now));
        }
        let present: HashSet<&String> = shape.keys.iter().collect();
        // A new member beside a member that lacks: it was renamed.
        let renamed = found.iter().any(|(_, now)| *now == Some(Drift::NotTaken));
        let lacking = if renamed {
            Drift::Lacking
        } else {
            Drift::Suspected
        };
        for (key, named) in &self.keys {
            let now = match noted.get(key) {
                None if *named => lacking,
                Some(before) if before.drift.is_none() && newer(before) => lacking,
                _ => continue,
            };
            if !present.contains(key) {
                found.push((key.clone(), Some(now)));
            }
        }
        for (key, before) in noted {
            let lacks = matches!(before.drift, Some(Drift::Lacking | Drift::Suspected));
            let gone = lacks && !self.keys.contains_key(key);
            if gone && !present.contains(key) {
                found.push((key.clone(), Some(Drift::Accepted)));
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.dedup_by(|a, b| a.0 == b.0);
        found
    }
}

/// Whether SQL reads `record` other than member by member.
fn takes_whole_record(sql: &str) -> bool {
    let mut parts = sql.split("record");
    parts.next();
    parts.any(|after| {
        let after = after.trim_start();
        !after.starts_with("->") && !after.starts_with("#>") && !after.starts_with('_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(keys: &[(&str, bool)]) -> Taken {
        Taken {
            keys: keys
                .iter()
                .map(|(k, named)| ((*k).to_owned(), *named))
                .collect(),
            others: HashSet::from(["area".to_owned()]),
            sql: vec!["record->>'mail' is not null".to_owned()],
            all: false,
        }
    }

    fn shape(at: i64, keys: &[&str]) -> RecordShape {
        RecordShape {
            source: "public.item".to_owned(),
            backfill: false,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            committed_at: Some(at),
            hash: 0,
        }
    }

    /// What is noted after records of these shapes.
    fn after(taken: &Taken, shapes: &[RecordShape]) -> Vec<(String, Option<Drift>)> {
        let mut noted = HashMap::new();
        for shape in shapes {
            for (key, drift) in taken.compare(&noted, shape) {
                let committed_at = shape.committed_at;
                let taken = Some(taken.takes(&key));
                noted.insert(
                    key,
                    Noted {
                        drift,
                        taken,
                        committed_at,
                    },
                );
            }
            assert_eq!(taken.compare(&noted, shape), []);
        }
        let mut noted: Vec<_> = noted.into_iter().map(|(key, n)| (key, n.drift)).collect();
        noted.retain(|(_, drift)| drift.is_some_and(Drift::is_told));
        noted.sort_by(|a, b| a.0.cmp(&b.0));
        noted
    }

    fn drift(of: &[(&str, Drift)]) -> Vec<(String, Option<Drift>)> {
        of.iter()
            .map(|(key, drift)| ((*key).to_owned(), Some(*drift)))
            .collect()
    }

    const STAR: &[(&str, bool)] = &[("id", false), ("name", false), ("own", false)];

    #[test]
    fn renamed_member_drifts_twice() {
        let renamed = [shape(10, &["id", "name"]), shape(20, &["id", "title"])];
        let both = drift(&[("name", Drift::Lacking), ("title", Drift::NotTaken)]);
        assert_eq!(after(&taken(STAR), &renamed), both);
        let back = [&renamed[..], &[shape(30, &["id", "name"])]].concat();
        assert_eq!(
            after(&taken(STAR), &back),
            drift(&[("title", Drift::NotTaken)])
        );
        let late = [&renamed[..], &[shape(10, &["id", "name"])]].concat();
        assert_eq!(after(&taken(STAR), &late), both);
        let mended = taken(&[("id", true), ("title", true)]);
        let mut noted = HashMap::new();
        for (key, drift) in both {
            noted.insert(
                key,
                Noted {
                    drift,
                    taken: Some(true),
                    committed_at: Some(20),
                },
            );
        }
        let found = mended.compare(&noted, &shape(30, &["id", "title"]));
        let names: Vec<_> = found
            .iter()
            .map(|(key, drift)| (key.as_str(), *drift))
            .collect();
        assert_eq!(
            names,
            [
                ("id", None),
                ("name", Some(Drift::Accepted)),
                ("title", None),
            ]
        );
    }

    #[test]
    fn what_was_so_from_the_first_is_no_drift() {
        let first = [shape(10, &["id", "name", "secret"])];
        assert_eq!(after(&taken(STAR), &first), []);
        let less = [
            shape(10, &["id", "name", "secret"]),
            shape(20, &["id", "name"]),
        ];
        assert_eq!(after(&taken(STAR), &less), []);
        let more = [
            shape(10, &["id", "name"]),
            shape(20, &["id", "name", "own", "mail", "area"]),
        ];
        assert_eq!(after(&taken(STAR), &more), []);
        let named = taken(&[("id", true), ("nmae", true)]);
        assert_eq!(after(&named, &first), drift(&[("nmae", Drift::Suspected)]));
    }

    #[test]
    fn member_that_lost_its_column_drifts() {
        let mut noted = HashMap::new();
        let first = shape(10, &["id", "name", "own", "extra"]);
        let before = taken(STAR);
        for (key, drift) in before.compare(&noted, &first) {
            let taken = Some(before.takes(&key));
            let committed_at = Some(10);
            noted.insert(
                key,
                Noted {
                    drift,
                    taken,
                    committed_at,
                },
            );
        }
        let now = taken(&[("id", false), ("name", false)]);
        let found = now.compare(&noted, &first);
        assert_eq!(found, [("own".to_owned(), Some(Drift::NotTaken))]);
    }

    #[test]
    fn whole_record_takes_all() {
        for sql in [
            "record",
            "record - 'a'",
            "f(record)",
            "record->>'a' || record::text",
        ] {
            assert!(takes_whole_record(sql), "{sql}");
        }
        for sql in [
            "record->>'a'",
            "lower(record ->> 'a')",
            "record#>>'{a,b}'",
            "1",
        ] {
            assert!(!takes_whole_record(sql), "{sql}");
        }
    }
}
