//! What a mapping says: which messages it takes, where they go and how a row is made of one.
//!
//! The catalog holds a mapping as text and JSON ([`MappingRow`]); [`Mapping`] is that, parsed.
//! Whether it fits the destination is asked in [`check`], whether its SQL is SQL in [`sql`], and
//! [`trigger`] asks both whenever `sequin.mapping` changes. Reading the catalog is [`catalog`]'s.

pub mod catalog;
pub mod check;
pub mod columns;
pub mod source;
pub mod sql;
pub mod trigger;
pub mod versions;

pub use columns::{ColumnSource, ColumnSpecs, Path, Root};
pub use source::SourcePattern;

use crate::error::fault::Fault;
use crate::error::list;

/// The columns that hold a row's version under `guard => 'columns'`, and the OIDs and names of
/// their types. They are the guard's: no record key of the same name is ever written to them.
pub const GUARD_COLUMNS: [(&str, u32, &str); 3] = [
    ("sequin_lsn", 20, "bigint"),
    ("sequin_idx", 23, "integer"),
    ("sequin_committed_at", 1184, "timestamp with time zone"),
];

/// One row of `sequin.mapping`, parsed.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// `sequin.mapping.id`: names the mapping in row versions and counters.
    pub id: i32,
    /// Unique name, shown to users.
    pub name: String,
    /// Which messages it takes.
    pub source: SourcePattern,
    /// OID of the destination relation; `None` receives messages and ignores them.
    pub destination: Option<u32>,
    /// Where the destination's columns come from.
    pub columns: ColumnSpecs,
    /// Key columns; `None` means the destination's primary key.
    pub key: Option<Vec<String>>,
    /// SQL condition over `record`, `changes`, `metadata`, `action`.
    pub filter: Option<String>,
    /// Whether a message updates its row or becomes a row.
    pub mode: Mode,
    /// What a delete does.
    pub on_delete: OnDelete,
    /// The column that `on_delete => 'soft'` sets.
    pub soft_delete: Option<String>,
    /// What a message that cannot be written does to the call.
    pub on_error: OnError,
    /// Where row versions live.
    pub guard: Guard,
    /// False while the mapping is paused.
    pub enabled: bool,
    /// OID of the role that the rows are written as.
    pub owner: u32,
    /// The search_path that SQL in the mapping was checked under.
    pub search_path: String,
}

impl Mapping {
    /// Whether the destination column `name` is the extension's to write, and never the record's,
    /// even if the record has a key of that name and the mapping says `"*": "record.*"`.
    pub fn reserves(&self, name: &str) -> bool {
        GUARD_COLUMNS.iter().any(|(guard, ..)| *guard == name)
            || self.soft_delete.as_deref() == Some(name)
    }
}

/// One row of `sequin.mapping` as it is stored. [`MappingRow::parse`] makes a [`Mapping`] of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingRow {
    /// `id`.
    pub id: i32,
    /// `name`.
    pub name: String,
    /// `source`: see [`SourcePattern`].
    pub source: String,
    /// `destination`: the relation's OID.
    pub destination: Option<u32>,
    /// `columns`: the JSON object's text, see [`ColumnSpecs`].
    pub columns: Option<String>,
    /// `key`.
    pub key: Option<Vec<Option<String>>>,
    /// `filter`.
    pub filter: Option<String>,
    /// `mode`.
    pub mode: String,
    /// `on_delete`.
    pub on_delete: String,
    /// `soft_delete`.
    pub soft_delete: Option<String>,
    /// `on_error`.
    pub on_error: String,
    /// `guard`.
    pub guard: String,
    /// `enabled`.
    pub enabled: bool,
    /// `owner`: the role's OID.
    pub owner: u32,
    /// `search_path`.
    pub search_path: String,
}

impl MappingRow {
    /// The mapping that the row describes, or everything that keeps it from describing one.
    pub fn parse(&self) -> Result<Mapping, Vec<Fault>> {
        match self.read() {
            (mapping, faults) if faults.is_empty() => Ok(mapping),
            (_, faults) => Err(faults),
        }
    }

    /// The mapping as far as the row describes one, and everything that is wrong with the row. What
    /// cannot be read is left out in the way that brings up the fewest further faults, so that the
    /// rest can be checked at once.
    pub fn read(&self) -> (Mapping, Vec<Fault>) {
        let mut faults = Vec::new();
        if self.name.is_empty() {
            faults.push(
                Fault::name("the name of a mapping must not be empty")
                    .hint("Leave it out: a name is then made of source and destination."),
            );
        }
        let source = SourcePattern::parse(&self.source).unwrap_or_else(|fault| {
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
        // Without the one, nothing can be said about the other.
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

/// An enum whose values the catalog holds as words.
macro_rules! words {
    (
        $(#[$doc:meta])* $name:ident as $setting:literal
        { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in the order in which they are offered.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that the catalog holds.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }

            /// The value of a word. A wrong one is answered with the allowed ones.
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
    /// Whether a message updates its row or becomes a row.
    Mode as "mode" {
        /// A message inserts, updates or deletes the row of its key.
        Upsert = "upsert",
        /// Every message becomes a row.
        Append = "append",
    }
}

words! {
    /// What a delete does.
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
    /// What a message that cannot be written does to the call.
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
        /// Nowhere: the message that arrives last decides.
        Off = "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> MappingRow {
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

    #[test]
    fn defaults_parse() {
        let mapping = row().parse().unwrap();
        assert_eq!(mapping.mode, Mode::Upsert);
        assert_eq!(mapping.on_delete, OnDelete::Delete);
        assert_eq!(mapping.on_error, OnError::DeadLetter);
        assert_eq!(mapping.guard, Guard::Auto);
        assert!(mapping.columns.rest && mapping.columns.named.is_empty());
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
            ..row()
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
            MappingRow { key, ..row() }.parse()
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
            ..row()
        }
        .parse()
        .unwrap();
        assert!(mapping.reserves("sequin_lsn"));
        assert!(mapping.reserves("gone"));
        assert!(!mapping.reserves("id"));
    }
}
