//! Checks that the mapping's key can find a row, and offers another key if it cannot.

#![forbid(unsafe_code)]

use super::changed::TABLE_CHANGED;
use super::fit::Fit;
use crate::destination::{Column, UniqueIndex};
use crate::error::fault::Fault;
use crate::error::list;
use crate::error::quote::{array_literal, ident, idents};
use crate::mapping::{ColumnSource, Mode};

impl Fit<'_> {
    /// `key => '{a,b}'` for each unique index that `ON CONFLICT` can use and whose columns all have a source.
    fn offer(&self) -> Option<String> {
        let brought = |name: &String| {
            self.destination
                .column(name)
                .is_some_and(|column| self.has_source(column))
        };
        let keys: Vec<_> = self
            .destination
            .unique_indexes
            .iter()
            .filter(|index| usable(index) && index.columns.iter().all(brought))
            .map(|index| format!("key => {}", array_literal(&index.columns)))
            .collect();
        (!keys.is_empty()).then(|| list(&keys, "or"))
    }

    pub(super) fn check_key(&mut self) {
        let upsert = self.mapping.mode == Mode::Upsert;
        if upsert && self.destination.relkind == b'f' {
            self.faults.push(
                Fault::kind(format!(
                    "mode 'upsert' cannot write to foreign table {}",
                    self.table()
                ))
                .detail("A foreign table has no unique index to find a row by.")
                .hint("Use mode => 'append', or map to a table of this database."),
            );
            return;
        }
        if self.mapping.key.is_some() && self.destination.relkind == b'f' {
            self.faults.push(
                Fault::kind(format!(
                    "mode 'append' cannot use a key with foreign table {}",
                    self.table()
                ))
                .detail("A foreign table has no unique index to recognise a repeated message by.")
                .hint("Leave the key out: a message that comes twice is written twice, or refused there."),
            );
            return;
        }
        let Some(key) = &self.mapping.key else {
            match upsert {
                true => self.check_primary_key(),
                false => self.check_primary_key_of_log(),
            }
            return;
        };
        for name in key {
            match self.destination.column(name) {
                // `check_columns` reports it.
                None if self.changed && self.mapping.columns.source(name).is_some() => {}
                None if self.changed => {
                    let fault = self.unknown(name, "key column").detail(TABLE_CHANGED);
                    self.faults.push(fault.hint(self.change().follow(name)));
                }
                None => self.faults.push(self.unknown(name, "key column")),
                Some(column) => self.check_key_column(column, None),
            }
        }
        // a column that does not exist has no index
        let known = key
            .iter()
            .all(|name| self.destination.column(name).is_some());
        if known {
            self.check_unique(key);
        }
    }

    /// A log whose messages bring the primary key recognises a repeated message by it.
    fn check_primary_key_of_log(&mut self) {
        let mut indexes = self.destination.unique_indexes.iter();
        let Some(index) = indexes.find(|index| index.primary) else {
            return;
        };
        let columns = index.columns.clone();
        let brought = |name: &String| {
            let column = self.destination.column(name);
            column.is_some_and(|column| self.has_source(column))
        };
        if columns.iter().all(brought) {
            self.check_unique(&columns);
        }
    }

    fn check_primary_key(&mut self) {
        let table = self.table();
        let primary = self.destination.unique_indexes.iter().find(|i| i.primary);
        match primary {
            Some(index) if usable(index) => {
                let offer = self.offer();
                for name in index.columns.clone() {
                    if let Some(column) = self.destination.column(&name) {
                        self.check_key_column(column, offer.as_deref());
                    }
                }
            }
            Some(index) => {
                let columns = index.columns.clone();
                self.check_unique(&columns);
            }
            None => {
                let offer = self.offer().filter(|_| !self.changed);
                let hint = match (self.change().former_primary_key(&table), offer) {
                    (Some(statement), _) => format!("Run: {statement}"),
                    (None, Some(offer)) => format!("Use {offer}."),
                    (None, None) => {
                        let column = self.likely_key().map_or("…".to_owned(), |c| ident(&c.name));
                        format!(
                            "Run: ALTER TABLE {table} ADD PRIMARY KEY ({column}); or use mode => \
                             'append' to keep every message as a row."
                        )
                    }
                };
                self.faults.push(
                    Fault::key(format!(
                        "destination {table} has no primary key, and no key is given"
                    ))
                    .detail("A message finds the row that it changes by the key.")
                    .hint(hint),
                );
            }
        }
    }

    fn check_key_column(&mut self, column: &Column, offer: Option<&str>) {
        let (name, table) = (&column.name, self.table());
        let other = match offer {
            Some(offer) => format!("Use {offer}."),
            None => "Use a key of columns that have a source.".to_owned(),
        };
        let fault = if column.generated {
            // If `columns` names it, `check_columns` reports it.
            if self.mapping.columns.source(name).is_some() {
                return;
            }
            Fault::key(format!("key column \"{name}\" of {table} is generated"))
                .detail("A message cannot bring its value.")
                .hint(other)
        } else if self.is_guards(name) || self.mapping.soft_delete.as_ref() == Some(name) {
            Fault::key(format!(
                "key column \"{name}\" of {table} is not the message's"
            ))
            .detail("It is written by the extension: as the row's version or to mark deleted rows.")
            .hint(other)
        } else if self.changed && !self.faults.is_empty() && !self.has_source(column) {
            // It was renamed: `check_columns` reports its former name.
            return;
        } else if !self.has_source(column) {
            let add = format!("dd it to columns, as in \"{name}\": \"record.{name}\".");
            Fault::key(format!("key column \"{name}\" of {table} has no source"))
                .detail("A message finds the row that it changes by the key.")
                .hint(match offer {
                    Some(offer) => format!("Use {offer}, or a{add}"),
                    None => format!("A{add}"),
                })
        } else {
            return;
        };
        self.faults.push(fault);
    }

    /// The column that takes the source's `id`, as the most likely key.
    fn likely_key(&self) -> Option<&Column> {
        let by_path = self.mapping.columns.named.iter().find(
            |(_, source)| matches!(source, ColumnSource::Path(p) if p.to_string() == "record.id"),
        );
        let name = by_path.map_or("id", |(name, _)| name.as_str());
        self.destination.column(name).filter(|c| self.has_source(c))
    }

    fn check_unique(&mut self, key: &[String]) {
        let on_key = |index: &&UniqueIndex| {
            index.columns.len() == key.len() && key.iter().all(|c| index.columns.contains(c))
        };
        let (good, bad): (Vec<_>, Vec<_>) = self
            .destination
            .unique_indexes
            .iter()
            .filter(on_key)
            .partition(|i| usable(i));
        if !good.is_empty() {
            return;
        }
        let table = self.table();
        let mut fault = Fault::key(format!(
            "no unique index of {table} is on the key ({})",
            idents(key)
        ));
        let reasons: Vec<_> = bad
            .iter()
            .map(|index| {
                let why = if !index.valid {
                    "is not valid: its creation failed or is under way"
                } else if index.partial {
                    "is partial: it has a WHERE clause"
                } else {
                    "is deferrable"
                };
                format!("Index \"{}\" has these columns but {why}.", index.name)
            })
            .collect();
        if !reasons.is_empty() {
            fault = fault.detail(reasons.join(" "));
        }
        let invalid = bad.iter().find(|i| !i.valid && !i.partial && i.immediate);
        let may_be_primary = !self.destination.unique_indexes.iter().any(|i| i.primary)
            && key
                .iter()
                .all(|c| self.destination.column(c).is_some_and(|c| c.not_null));
        let statement = match invalid {
            Some(index) => format!(
                "REINDEX INDEX {}.{};",
                ident(&self.destination.schema),
                ident(&index.name)
            ),
            None if may_be_primary => {
                format!("ALTER TABLE {table} ADD PRIMARY KEY ({});", idents(key))
            }
            None => format!(
                "ALTER TABLE {table} ADD CONSTRAINT {} UNIQUE ({});",
                ident(&self.constraint_name(key)),
                idents(key)
            ),
        };
        self.faults.push(fault.hint(format!("Run: {statement}")));
    }

    /// A name for a unique constraint: `table_a_b_key`, as PostgreSQL would choose it. A number follows if an
    /// index already has the name.
    fn constraint_name(&self, key: &[String]) -> String {
        const MOST: usize = 63;
        let stem = format!("{}_{}", self.destination.name, key.join("_"));
        (0..)
            .map(|i| {
                let suffix = if i == 0 {
                    "_key".to_owned()
                } else {
                    format!("_key{i}")
                };
                let mut end = stem.len().min(MOST - suffix.len());
                while !stem.is_char_boundary(end) {
                    end -= 1;
                }
                format!("{}{suffix}", &stem[..end])
            })
            .find(|name| {
                !self
                    .destination
                    .unique_indexes
                    .iter()
                    .any(|i| i.name == *name)
            })
            .unwrap_or_default()
    }
}

/// Whether `ON CONFLICT (columns)` can use the index.
fn usable(index: &UniqueIndex) -> bool {
    index.valid && index.immediate && !index.partial && !index.columns.is_empty()
}
