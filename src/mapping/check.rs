//! Whether a mapping fits its destination. Everything that is wrong is found at once.

use crate::error::sqlstate;

use super::{ColumnSource, GUARD_COLUMNS, Guard, Mapping, Mode, OnDelete};
use crate::destination::{Column, Destination, UniqueIndex};
use crate::error::fault::Fault;
use crate::error::nearest::nearest;
use crate::error::quote::{array_literal, ident, idents};
use crate::error::{did_you_mean, list};

/// Types that a `soft_delete` column can have: timestamptz, timestamp and boolean.
const SOFT_DELETE_TYPES: [u32; 3] = [1184, 1114, 16];

/// Everything that is wrong between a mapping and its destination. `destination` is what
/// [`Mapping::destination`] names, `None` if that is null or gone.
pub fn check(mapping: &Mapping, destination: Option<&Destination>) -> Vec<Fault> {
    let mut faults = Vec::new();
    check_alone(mapping, &mut faults);
    match (mapping.destination, destination) {
        (Some(_), Some(destination)) => {
            if let Some(fault) = check_relation(destination) {
                faults.push(fault);
            } else {
                let mut fit = Fit {
                    mapping,
                    destination,
                    faults,
                };
                fit.check_columns();
                fit.check_key();
                fit.check_soft_delete();
                fit.check_guard();
                fit.check_not_null();
                faults = fit.faults;
            }
        }
        (Some(oid), None) => faults.push(
            Fault::new(
                sqlstate::UNDEFINED_TABLE,
                format!("destination with OID {oid} does not exist"),
            )
            .hint("Choose another destination, or null to receive these messages and ignore them."),
        ),
        (None, _) => {}
    }
    faults
}

/// The relation as SQL names it.
pub fn qualified(destination: &Destination) -> String {
    format!(
        "{}.{}",
        ident(&destination.schema),
        ident(&destination.name)
    )
}

/// Where the mapping's row versions live now: `guard => 'auto'` made definite.
pub fn guard(mapping: &Mapping, destination: &Destination) -> Guard {
    let has = |(name, type_oid, _): &(&str, u32, &str)| {
        destination
            .column(name)
            .is_some_and(|c| c.type_oid.to_u32() == *type_oid && !c.generated)
    };
    match mapping.guard {
        Guard::Auto if GUARD_COLUMNS.iter().all(has) => Guard::Columns,
        Guard::Auto => Guard::Table,
        given => given,
    }
}

/// What is wrong whatever the destination is.
fn check_alone(mapping: &Mapping, faults: &mut Vec<Fault>) {
    let soft = mapping.on_delete == OnDelete::Soft;
    if mapping.mode == Mode::Append && soft {
        faults.push(
            Fault::value("mode 'append' cannot have on_delete 'soft'")
                .detail("Every message becomes a row of its own, so there is no row to mark.")
                .hint("Use mode => 'upsert', or leave out on_delete and soft_delete."),
        );
    }
    if soft && mapping.soft_delete.is_none() {
        faults.push(
            Fault::value("on_delete 'soft' needs a soft_delete column").hint(
                "Name the column that marks deleted rows, as in soft_delete => 'deleted_at'.",
            ),
        );
    }
    if let (false, Some(column)) = (soft, &mapping.soft_delete) {
        faults.push(
            Fault::value(format!(
                "soft_delete \"{column}\" is given, but on_delete is not 'soft'"
            ))
            .detail(format!(
                "With on_delete '{}' nothing sets it.",
                mapping.on_delete.as_str()
            ))
            .hint("Use on_delete => 'soft', or leave out soft_delete."),
        );
    }
    if mapping.destination.is_none() {
        let given: Vec<_> = [
            (
                !(mapping.columns.rest && mapping.columns.named.is_empty()),
                "columns",
            ),
            (mapping.key.is_some(), "key"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect();
        if !given.is_empty() {
            faults.push(
                Fault::value(format!(
                    "a null destination cannot have {}",
                    list(&given, "or")
                ))
                .detail("Messages of such a mapping are received and ignored.")
                .hint(format!(
                    "Name a destination, or leave out {}.",
                    list(&given, "and")
                )),
            );
        }
    }
}

/// What is wrong with the relation itself, if it is not one that can be written to.
pub fn check_relation(destination: &Destination) -> Option<Fault> {
    let name = qualified(destination);
    let (kind, hint) = match destination.relkind {
        b'r' | b'p' | b'f' => ("", ""),
        b'v' => ("a view", "Name the table that the view reads from."),
        b'm' => (
            "a materialized view",
            "Name a table, and let the materialized view read from that.",
        ),
        b'S' => ("a sequence", "Name a table."),
        b'i' | b'I' => ("an index", "Name the index's table."),
        b'c' => ("a composite type", "Name a table."),
        _ => ("something else", "Name a table."),
    };
    if !kind.is_empty() {
        return Some(
            Fault::kind(format!("destination {name} is not a table"))
                .detail(format!("It is {kind}; a destination is a table, a partitioned table or a foreign table."))
                .hint(hint),
        );
    }
    if destination.persistence == b't' {
        let name = ident(&destination.name);
        return Some(
            Fault::kind(format!("destination {name} is a temporary table"))
                .detail("Only the session that made it sees it.")
                .hint(format!(
                    "Use a table that stays: CREATE TABLE … (LIKE {name} INCLUDING ALL);"
                )),
        );
    }
    let schema = destination.schema.as_str();
    if schema == "sequin" || schema == "information_schema" || schema.starts_with("pg_") {
        let whose = if schema == "sequin" {
            "pg_sequin's own"
        } else {
            "a system catalog"
        };
        return Some(
            Fault::kind(format!("destination {name} is {whose}"))
                .detail("Messages are never written there.")
                .hint("Name a table of your own."),
        );
    }
    None
}

/// A mapping and a destination that is a table.
struct Fit<'a> {
    mapping: &'a Mapping,
    destination: &'a Destination,
    faults: Vec<Fault>,
}

impl Fit<'_> {
    fn table(&self) -> String {
        qualified(self.destination)
    }

    fn unknown(&self, column: &str, whose: &str) -> Fault {
        let columns: Vec<&str> = self
            .destination
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .collect();
        let hint = did_you_mean(&nearest(column, columns.iter().copied())).unwrap_or_else(|| {
            format!(
                "The columns of {} are {}.",
                self.table(),
                list(&columns, "and")
            )
        });
        Fault::column(format!(
            "{whose} \"{column}\" of {} does not exist",
            self.table()
        ))
        .hint(hint)
    }

    /// Whether a message can bring a value for the column.
    fn has_source(&self, column: &Column) -> bool {
        self.mapping.columns.source(&column.name).is_some()
            || (self.mapping.columns.rest
                && !column.generated
                && !self.mapping.reserves(&column.name))
    }

    fn is_guards(&self, column: &str) -> bool {
        guard(self.mapping, self.destination) == Guard::Columns
            && GUARD_COLUMNS.iter().any(|(name, ..)| *name == column)
    }

    fn check_columns(&mut self) {
        for (name, _) in &self.mapping.columns.named {
            let fault = match self.destination.column(name) {
                None => self.unknown(name, "column"),
                Some(column) if column.generated => {
                    Fault::new(
                        sqlstate::GENERATED_ALWAYS,
                        format!("column \"{name}\" of {} is generated", self.table()),
                    )
                    .detail("The database computes it from other columns of the row.")
                    .hint(format!("Leave \"{name}\" out of columns."))
                }
                Some(_) if self.is_guards(name) => Fault::value(format!(
                    "column \"{name}\" of {} is the guard's",
                    self.table()
                ))
                .detail("It holds the version of the row, which is what brings late messages into order.")
                .hint(format!(
                    "Leave \"{name}\" out of columns, or use guard => 'table' to keep versions elsewhere."
                )),
                Some(_) if self.mapping.soft_delete.as_ref() == Some(name) => Fault::value(format!(
                    "column \"{name}\" has a source and is the soft_delete column"
                ))
                .detail("A delete sets it, and the row's return resets it.")
                .hint(format!("Leave \"{name}\" out of columns, or choose another soft_delete.")),
                Some(_) => continue,
            };
            self.faults.push(fault);
        }
    }

    /// `key => '{a,b}'` for the unique indexes that `ON CONFLICT` can use and whose columns messages
    /// bring.
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

    fn check_key(&mut self) {
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
        let Some(key) = &self.mapping.key else {
            if upsert {
                self.check_primary_key();
            }
            return;
        };
        for name in key {
            match self.destination.column(name) {
                None => self.faults.push(self.unknown(name, "key column")),
                Some(column) => self.check_key_column(column, None),
            }
        }
        // A column that does not exist has no index.
        let known = key
            .iter()
            .all(|name| self.destination.column(name).is_some());
        if upsert && known {
            self.check_unique(key);
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
                let hint = match self.offer() {
                    Some(offer) => format!("Use {offer}."),
                    None => {
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
            // Named in columns, it is a fault already.
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

    /// The column that the source's `id` goes to.
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

    /// `table_a_b_key`, as PostgreSQL would call it, unless an index has that name.
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

    fn check_soft_delete(&mut self) {
        let (OnDelete::Soft, Some(name)) = (self.mapping.on_delete, &self.mapping.soft_delete)
        else {
            return;
        };
        let table = self.table();
        let Some(column) = self.destination.column(name) else {
            let fault = self.unknown(name, "soft_delete column");
            let add = format!(
                "ALTER TABLE {table} ADD COLUMN {} timestamp with time zone;",
                ident(name)
            );
            let nearest = fault
                .hint
                .as_deref()
                .filter(|h| h.starts_with("Did you mean"));
            let hint = match nearest {
                Some(hint) => format!("{hint} If not, run: {add}"),
                None => format!("Run: {add}"),
            };
            self.faults.push(fault.hint(hint));
            return;
        };
        if !SOFT_DELETE_TYPES.contains(&column.type_oid.to_u32()) {
            self.faults.push(
                Fault::new(
                    sqlstate::DATATYPE_MISMATCH,
                    format!(
                        "soft_delete column \"{name}\" of {table} is of type {}",
                        column.type_name
                    ),
                )
                .detail(
                    "It must be timestamp with time zone, timestamp without time zone or boolean.",
                )
                .hint("Choose another column, or add one of these types."),
            );
        } else if column.generated {
            self.faults.push(Fault::new(
                sqlstate::GENERATED_ALWAYS,
                format!("soft_delete column \"{name}\" of {table} is generated"),
            ));
        } else if column.not_null && column.type_oid.to_u32() != 16 {
            self.faults.push(
                Fault::value(format!(
                    "soft_delete column \"{name}\" of {table} may not be null"
                ))
                .detail("It is null in a row that is not deleted.")
                .hint(format!(
                    "Run: ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL;",
                    ident(name)
                )),
            );
        }
    }

    fn check_guard(&mut self) {
        if self.mapping.guard != Guard::Columns {
            return;
        }
        let table = self.table();
        let mut missing = Vec::new();
        for (name, type_oid, type_name) in GUARD_COLUMNS {
            let Some(column) = self.destination.column(name) else {
                missing.push(format!("{name} {type_name}"));
                continue;
            };
            let fault = if column.type_oid.to_u32() != type_oid {
                Fault::new(
                    sqlstate::DATATYPE_MISMATCH,
                    format!("column \"{name}\" of {table} is of type {}", column.type_name),
                )
                .detail(format!("Under guard 'columns' it must be {type_name}."))
                .hint(format!(
                    "Run: ALTER TABLE {table} ALTER COLUMN {name} TYPE {type_name}; or use guard => 'table'."
                ))
            } else if column.not_null {
                Fault::value(format!("column \"{name}\" of {table} may not be null"))
                    .detail("A row that a backfill brought has no LSN.")
                    .hint(format!(
                        "Run: ALTER TABLE {table} ALTER COLUMN {name} DROP NOT NULL;"
                    ))
            } else if column.generated {
                Fault::new(
                    sqlstate::GENERATED_ALWAYS,
                    format!("column \"{name}\" of {table} is generated"),
                )
                .detail("Under guard 'columns' the extension writes it.")
                .hint("Use guard => 'table'.")
            } else {
                continue;
            };
            self.faults.push(fault);
        }
        if !missing.is_empty() {
            let adds: Vec<_> = missing.iter().map(|m| format!("ADD COLUMN {m}")).collect();
            self.faults.push(
                Fault::column(format!(
                    "destination {table} lacks columns that guard 'columns' needs"
                ))
                .detail(format!("Missing: {}.", missing.join(", ")))
                .hint(format!(
                    "Run: ALTER TABLE {table} {}; or make the mapping with sequin.map, which does.",
                    adds.join(", ")
                )),
            );
        }
    }

    /// With `"*"` the record may bring any column; without it, what has no source stays null.
    fn check_not_null(&mut self) {
        if self.mapping.columns.rest {
            return;
        }
        let primary = self.destination.unique_indexes.iter().find(|i| i.primary);
        let key = match (&self.mapping.key, self.mapping.mode) {
            (Some(key), _) => key.as_slice(),
            (None, Mode::Upsert) => primary.map_or(&[][..], |i| &i.columns),
            (None, Mode::Append) => &[],
        };
        let table = self.table();
        for column in &self.destination.columns {
            let name = &column.name;
            let filled = !column.not_null
                || column.has_default
                || column.identity.is_some()
                || column.generated
                || self.has_source(column)
                || self.is_guards(name)
                || self.mapping.soft_delete.as_ref() == Some(name)
                // Said by `check_key`.
                || key.contains(name);
            if !filled {
                self.faults.push(
                    Fault::new(
                        sqlstate::NOT_NULL_VIOLATION,
                        format!("column \"{name}\" of {table} may not be null and has no source"),
                    )
                    .detail("It has no default either, so no row could be inserted.")
                    .hint(format!(
                        "Add it to columns, as in \"{name}\": \"record.{name}\", or run: ALTER TABLE \
                         {table} ALTER COLUMN {} {};",
                        ident(name),
                        // A primary key's columns are never null.
                        if primary.is_some_and(|i| i.columns.contains(name)) {
                            "SET DEFAULT …"
                        } else {
                            "DROP NOT NULL"
                        }
                    )),
                );
            }
        }
    }
}

/// Whether `ON CONFLICT (columns)` can use the index.
fn usable(index: &UniqueIndex) -> bool {
    index.valid && index.immediate && !index.partial && !index.columns.is_empty()
}

#[cfg(test)]
mod tests;
