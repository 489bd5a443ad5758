//! The content of a mapping: which messages it takes, where they go, and how a message becomes a row.
//!
//! The catalog holds a mapping as text and JSON ([`MappingRow`]); [`Mapping`] is the parsed form. [`check`]
//! compares the mapping with its destination, and [`sql`] checks the mapping's SQL. [`trigger`] calls both
//! whenever `sequin.mapping` changes. [`catalog`] reads the catalog.

#![forbid(unsafe_code)]

pub mod beside;
pub mod catalog;
pub mod check;
pub mod columns;
pub mod faults;
pub mod grants;
mod marked;
pub mod members;
mod name;
mod obstacles;
pub mod privileges;
mod save;
pub mod source;
pub mod sql;
pub mod trigger;
pub mod versions;
mod warn;

#[cfg(any(test, feature = "pg_test"))]
mod keywords;

pub use columns::{ColumnSource, ColumnSpecs, Path, Root};
pub use source::SourcePattern;

use pgrx::pg_sys;

use crate::destination::Destination;
use crate::error::fault::Fault;
use crate::error::list;

/// The columns that hold a row's version under `guard => 'columns'`, and the OIDs and names of their
/// types. Only the guard writes them: a record's key of the same name never does.
pub const GUARD_COLUMNS: [(&str, u32, &str); 3] = [
    ("sequin_lsn", 20, "bigint"),
    ("sequin_idx", 23, "integer"),
    ("sequin_committed_at", 1184, "timestamp with time zone"),
];

/// One row of `sequin.mapping`, parsed.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// `sequin.mapping.id`: row versions and counters refer to the mapping by it.
    pub id: i32,
    /// The unique name that users see.
    pub name: String,
    /// Which messages the mapping takes.
    pub source: SourcePattern,
    /// OID of the destination relation; `None`: messages are received and ignored.
    pub destination: Option<u32>,
    /// Where the destination's columns come from.
    pub columns: ColumnSpecs,
    /// The key's columns; `None` is the destination's primary key.
    pub key: Option<Vec<String>>,
    /// SQL condition over `record`, `changes`, `metadata`, `action`.
    pub filter: Option<String>,
    /// Whether a message changes the row of its key or becomes a row.
    pub mode: Mode,
    /// The effect of a delete.
    pub on_delete: OnDelete,
    /// The column that `on_delete => 'soft'` sets.
    pub soft_delete: Option<String>,
    /// The effect on the call of a message that cannot be written.
    pub on_error: OnError,
    /// Where row versions live.
    pub guard: Guard,
    /// False while the mapping is paused.
    pub enabled: bool,
    /// OID of the role that writes the rows.
    pub owner: u32,
    /// The search_path that SQL in the mapping is run under: `pg_temp` is last in it.
    pub search_path: String,
    /// The faults of a row of the catalog that nothing has checked. Such a mapping writes nothing.
    pub faults: Vec<Fault>,
    /// Whether the source could be read.
    pub is_routed: bool,
}

impl Mapping {
    /// Whether this mapping is the other one but for name, `on_error` and whether it is enabled.
    pub fn works_as(&self, other: &Mapping) -> bool {
        let parts = |m: &Mapping| {
            (
                m.source.clone(),
                m.destination,
                m.columns.clone(),
                (m.key.clone(), m.filter.clone(), m.soft_delete.clone()),
                (m.mode, m.on_delete, m.guard),
                (m.owner, m.search_path.clone()),
            )
        };
        parts(self) == parts(other)
    }

    /// The destination's OID, as the server has it.
    pub fn destination_oid(&self) -> Option<pg_sys::Oid> {
        self.destination.map(pg_sys::Oid::from)
    }

    /// The owner's OID, as the server has it.
    pub fn owner_oid(&self) -> pg_sys::Oid {
        pg_sys::Oid::from(self.owner)
    }

    /// The columns that a message's row is found by: the mapping's key, or else the destination's primary
    /// key; none if there is neither.
    pub fn key_of<'a>(&'a self, destination: &'a Destination) -> &'a [String] {
        match &self.key {
            Some(key) => key,
            None => destination.primary_key(),
        }
    }

    /// Whether only the extension writes the destination column `name`. The record never does, even if it
    /// has a key of that name and the mapping says `"*": "record.*"`.
    pub fn reserves(&self, name: &str) -> bool {
        GUARD_COLUMNS.iter().any(|(guard, ..)| *guard == name)
            || self.soft_delete.as_deref() == Some(name)
    }
}

/// A row of `sequin.mapping` as it is stored. [`MappingRow::read`] makes a [`Mapping`] of it. The fields are
/// the columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingRow {
    pub id: i32,
    pub name: String,
    /// See [`SourcePattern`].
    pub source: String,
    /// The relation's OID.
    pub destination: Option<u32>,
    /// The JSON object's text, see [`ColumnSpecs`].
    pub columns: Option<String>,
    pub key: Option<Vec<Option<String>>>,
    pub filter: Option<String>,
    pub mode: String,
    pub on_delete: String,
    pub soft_delete: Option<String>,
    pub on_error: String,
    pub guard: String,
    pub enabled: bool,
    /// The role's OID.
    pub owner: u32,
    pub search_path: String,
}

impl MappingRow {
    /// The mapping that the row describes, or all faults of the row.
    #[cfg(test)]
    pub fn parse(&self) -> Result<Mapping, Vec<Fault>> {
        match self.read() {
            (mapping, faults) if faults.is_empty() => Ok(mapping),
            (_, faults) => Err(faults),
        }
    }

    /// The mapping as far as the row describes one, and all faults of the row. A value that cannot be read
    /// is replaced by the value that leads to the fewest further faults, so that the rest can be checked at
    /// once.
    pub fn read(&self) -> (Mapping, Vec<Fault>) {
        let mut faults = Vec::new();
        if self.name.is_empty() {
            faults.push(
                Fault::name("the name of a mapping must not be empty")
                    .hint("Leave it out: a name is then made of source and destination."),
            );
        }
        let source = SourcePattern::parse(&self.source);
        let is_routed = source.is_ok();
        let source = source.unwrap_or_else(|fault| {
            faults.push(fault);
            SourcePattern::everything()
        });
        let columns = match &self.columns {
            None => ColumnSpecs::everything(),
            Some(json) => ColumnSpecs::read(json, &mut faults),
        };
        let key = self.read_key(&mut faults);
        if self.filter.as_deref().is_some_and(|f| f.trim().is_empty()) {
            faults.push(
                Fault::value("filter is empty")
                    .hint("Use filter => null to take every message of the source."),
            );
        }
        let mode = or_else(Mode::parse(&self.mode), Mode::Upsert, &mut faults);
        let before = faults.len();
        let on_delete = or_else(
            OnDelete::parse(&self.on_delete),
            OnDelete::Delete,
            &mut faults,
        );
        // if `on_delete` cannot be read, nothing can be said about `soft_delete`
        let soft_delete = self.soft_delete.clone().filter(|_| faults.len() == before);
        let on_error = or_else(
            OnError::parse(&self.on_error),
            OnError::DeadLetter,
            &mut faults,
        );
        let guard = or_else(Guard::parse(&self.guard), Guard::Off, &mut faults);
        let mapping = Mapping {
            id: self.id,
            name: self.name.clone(),
            source,
            destination: self.destination,
            columns,
            key,
            filter: self.filter.clone(),
            mode,
            on_delete,
            soft_delete,
            on_error,
            guard,
            enabled: self.enabled,
            owner: self.owner,
            search_path: self.search_path.clone(),
            faults: Vec::new(),
            is_routed,
        };
        (mapping, faults)
    }

    fn read_key(&self, faults: &mut Vec<Fault>) -> Option<Vec<String>> {
        let given = self.key.as_ref()?;
        let mut key: Vec<String> = Vec::new();
        for column in given.iter().flatten() {
            if key.contains(column) {
                faults.push(
                    Fault::value(format!("key names column \"{column}\" twice"))
                        .hint("Name every column of the key once."),
                );
            } else {
                key.push(column.clone());
            }
        }
        if given.iter().any(Option::is_none) {
            faults.push(
                Fault::value("key has a null among its columns")
                    .hint("Name the key's columns, as in key => '{source_table,record_id}'."),
            );
        } else if given.is_empty() {
            faults.push(
                Fault::value("key has no columns")
                    .hint("Use key => null for the destination's primary key."),
            );
        }
        (!key.is_empty()).then_some(key)
    }
}

fn or_else<T>(result: Result<T, Fault>, otherwise: T, faults: &mut Vec<Fault>) -> T {
    result.unwrap_or_else(|fault| {
        faults.push(fault);
        otherwise
    })
}

/// Defines an enum whose values the catalog holds as words.
macro_rules! words {
    (
        $(#[$doc:meta])* $name:ident as $setting:literal
        { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in the order of HINTs.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that the catalog holds.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value of a word. The HINT for a wrong word lists the right ones.
            pub fn parse(word: &str) -> Result<$name, Fault> {
                match word {
                    $($word => Ok($name::$variant),)+
                    _ => {
                        let words: Vec<_> =
                            Self::ALL.iter().map(|v| format!("'{}'", v.as_str())).collect();
                        Err(Fault::value(format!("{} \"{word}\" does not exist", $setting))
                            .hint(format!("Use one of {}.", list(&words, "or"))))
                    }
                }
            }
        }
    };
}

words! {
    /// Whether a message changes the row of its key or becomes a row.
    Mode as "mode" {
        /// A message inserts, updates or deletes the row of its key.
        Upsert = "upsert",
        /// Every message becomes a row.
        Append = "append",
    }
}

words! {
    /// The effect of a delete.
    OnDelete as "on_delete" {
        /// The row is deleted.
        Delete = "delete",
        /// Nothing happens.
        Ignore = "ignore",
        /// The row is marked in the `soft_delete` column.
        Soft = "soft",
    }
}

words! {
    /// The effect on the call of a message that cannot be written.
    OnError as "on_error" {
        /// The message becomes a dead letter, the rest is written.
        DeadLetter = "dead_letter",
        /// The call fails.
        Raise = "raise",
    }
}

words! {
    /// Where row versions live.
    Guard as "guard" {
        /// In the destination if it has [`GUARD_COLUMNS`], else in `sequin.row_version`.
        Auto = "auto",
        /// In the destination, in [`GUARD_COLUMNS`].
        Columns = "columns",
        /// In `sequin.row_version`.
        Table = "table",
        /// Nowhere: the last message to arrive decides.
        Off = "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl MappingRow {
        /// A row that tests vary: all settings as `sequin.map` leaves them.
        pub(crate) fn example() -> MappingRow {
            MappingRow {
                id: 1,
                name: "m".into(),
                source: "public.t".into(),
                destination: Some(1),
                columns: None,
                key: None,
                filter: None,
                mode: "upsert".into(),
                on_delete: "delete".into(),
                soft_delete: None,
                on_error: "dead_letter".into(),
                guard: "auto".into(),
                enabled: true,
                owner: 10,
                search_path: "public".into(),
            }
        }
    }

    #[test]
    fn mappings_work_alike_if_they_differ_in_name_and_errors_alone() {
        let parse = |row: MappingRow| row.parse().unwrap();
        let mapping = parse(MappingRow::example());
        let alike = MappingRow {
            id: 2,
            name: "other".into(),
            on_error: "raise".into(),
            enabled: false,
            ..MappingRow::example()
        };
        assert!(mapping.works_as(&parse(alike)));
        let example = MappingRow::example;
        for other in [
            MappingRow {
                source: "public.u".into(),
                ..example()
            },
            MappingRow {
                destination: Some(2),
                ..example()
            },
            MappingRow {
                columns: Some(r#"{"a": "record.a"}"#.into()),
                ..example()
            },
            MappingRow {
                key: Some(vec![Some("a".into())]),
                ..example()
            },
            MappingRow {
                filter: Some("true".into()),
                ..example()
            },
            MappingRow {
                mode: "append".into(),
                ..example()
            },
            MappingRow {
                on_delete: "ignore".into(),
                ..example()
            },
            MappingRow {
                guard: "table".into(),
                ..example()
            },
            MappingRow {
                owner: 11,
                ..example()
            },
            MappingRow {
                search_path: "shop".into(),
                ..example()
            },
        ] {
            let other = parse(other);
            assert!(!mapping.works_as(&other), "{other:?}");
        }
    }

    #[test]
    fn defaults_parse() {
        let mapping = MappingRow::example().parse().unwrap();
        assert_eq!(mapping.mode, Mode::Upsert);
        assert_eq!(mapping.on_delete, OnDelete::Delete);
        assert_eq!(mapping.on_error, OnError::DeadLetter);
        assert_eq!(mapping.guard, Guard::Auto);
        assert!(mapping.columns.rest && mapping.columns.named.is_empty());
        assert!(mapping.is_routed);
    }

    #[test]
    fn a_source_that_cannot_be_read_routes_nothing() {
        let row = MappingRow {
            source: "t".into(),
            ..MappingRow::example()
        };
        let (mapping, faults) = row.read();
        assert_eq!(faults.len(), 1);
        assert!(!mapping.is_routed);
    }

    #[test]
    fn keys_and_oids_are_those_of_the_row() {
        let row = MappingRow {
            key: Some(vec![Some("a".into()), Some("b".into())]),
            destination: Some(7),
            owner: 8,
            ..MappingRow::example()
        };
        let mapping = row.parse().unwrap();
        assert_eq!(mapping.key, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(mapping.destination_oid(), Some(pg_sys::Oid::from(7)));
        assert_eq!(mapping.owner_oid(), pg_sys::Oid::from(8));
        let ignored = MappingRow {
            destination: None,
            ..MappingRow::example()
        };
        let mapping = ignored.parse().unwrap();
        assert_eq!((mapping.destination_oid(), mapping.key), (None, None));
    }

    #[test]
    fn all_faults_are_found_at_once() {
        let bad = MappingRow {
            name: String::new(),
            source: "t".into(),
            columns: Some("[1]".into()),
            key: Some(vec![None]),
            filter: Some(" ".into()),
            mode: "merge".into(),
            on_delete: "hard".into(),
            on_error: "stop".into(),
            guard: "on".into(),
            ..MappingRow::example()
        };
        let faults = bad.parse().unwrap_err();
        assert_eq!(faults.len(), 9, "{faults:#?}");
        assert_eq!(faults[5].message, "mode \"merge\" does not exist");
        assert_eq!(
            faults[5].hint.as_deref(),
            Some("Use one of 'upsert' or 'append'.")
        );
        assert_eq!(
            faults[8].hint.as_deref(),
            Some("Use one of 'auto', 'columns', 'table' or 'off'.")
        );
    }

    #[test]
    fn words_go_round() {
        for mode in Mode::ALL {
            assert_eq!(Mode::parse(mode.as_str()), Ok(*mode));
        }
        for guard in Guard::ALL {
            assert_eq!(Guard::parse(guard.as_str()), Ok(*guard));
        }
    }

    #[test]
    fn keys_are_lists_of_distinct_names() {
        let key = |key: Vec<Option<&str>>| {
            let key = Some(key.into_iter().map(|k| k.map(str::to_owned)).collect());
            MappingRow {
                key,
                ..MappingRow::example()
            }
            .parse()
        };
        assert!(key(vec![Some("a"), Some("b")]).is_ok());
        assert!(key(vec![]).is_err());
        assert!(key(vec![Some("a"), Some("a")]).is_err());
        assert!(key(vec![Some("a"), None]).is_err());
    }

    #[test]
    fn the_record_never_writes_what_is_the_extensions() {
        let mapping = MappingRow {
            soft_delete: Some("gone".into()),
            ..MappingRow::example()
        }
        .parse()
        .unwrap();
        assert!(mapping.reserves("sequin_lsn"));
        assert!(mapping.reserves("gone"));
        assert!(!mapping.reserves("id"));
    }
}
