//! Compares a mapping with a destination table: columns, soft delete, guard, NOT NULL.

#![forbid(unsafe_code)]

use super::changed::{Changed, FormerKey, TABLE_CHANGED};
use crate::destination::{Column, Destination};
use crate::error::fault::Fault;
use crate::error::nearest::nearest;
use crate::error::quote::ident;
use crate::error::{did_you_mean, list, sqlstate};
use crate::mapping::versions::guard;
use crate::mapping::{GUARD_COLUMNS, Guard, Mapping, Mode, OnDelete};

/// The types that a `soft_delete` column can have: timestamptz, timestamp and boolean.
pub(super) const SOFT_DELETE_TYPES: [u32; 3] = [1184, 1114, 16];

/// The relation's qualified name, quoted where SQL needs it.
pub fn qualified(destination: &Destination) -> String {
    format!(
        "{}.{}",
        ident(&destination.schema),
        ident(&destination.name)
    )
}

/// A mapping and a destination that is a table.
pub(super) struct Fit<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) destination: &'a Destination,
    pub(super) faults: Vec<Fault>,
    /// Whether the mapping has worked, before its destination changed.
    pub(super) changed: bool,
    pub(super) former_key: &'a FormerKey,
}

impl<'a> Fit<'a> {
    /// Of a mapping that is made now.
    pub(super) fn new(mapping: &'a Mapping, destination: &'a Destination) -> Fit<'a> {
        const NONE: &FormerKey = &FormerKey::new();
        Fit {
            mapping,
            destination,
            faults: Vec::new(),
            changed: false,
            former_key: NONE,
        }
    }
}

impl Fit<'_> {
    pub(super) fn table(&self) -> String {
        qualified(self.destination)
    }

    /// For HINTs, where the destination has changed.
    pub(super) fn change(&self) -> Changed<'_> {
        Changed {
            mapping: self.mapping,
            destination: self.destination,
            former_key: self.former_key,
        }
    }

    /// The fault of a column that the destination does not have.
    pub(super) fn unknown(&self, column: &str, whose: &str) -> Fault {
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

    /// Whether a message can have a value for the column.
    pub(super) fn has_source(&self, column: &Column) -> bool {
        self.mapping.columns.source(&column.name).is_some()
            || (self.mapping.columns.rest
                && !column.generated
                && !self.mapping.reserves(&column.name))
    }

    /// Whether the column holds a part of the row's version.
    pub(super) fn is_guards(&self, column: &str) -> bool {
        guard(self.mapping, self.destination) == Guard::Columns
            && GUARD_COLUMNS.iter().any(|(name, ..)| *name == column)
    }

    pub(super) fn check_columns(&mut self) {
        for (name, _) in &self.mapping.columns.named {
            let fault = match self.destination.column(name) {
                None if self.changed => self
                    .unknown(name, "column")
                    .detail(TABLE_CHANGED)
                    .hint(self.change().follow(name)),
                None => self.unknown(name, "column"),
                Some(column) if column.generated => {
                    let without = self.change().altered(name, None).filter(|_| self.changed);
                    Fault::new(
                        sqlstate::GENERATED_ALWAYS,
                        format!("column \"{name}\" of {} is generated", self.table()),
                    )
                    .detail("The database computes it from other columns of the row.")
                    .hint(match without {
                        Some(statement) => format!("Run: {statement}"),
                        None => format!("Leave \"{name}\" out of columns."),
                    })
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

    pub(super) fn check_soft_delete(&mut self) {
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
            let fault = match self.changed {
                true => fault.detail(TABLE_CHANGED),
                false => fault,
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

    pub(super) fn check_guard(&mut self) {
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
                .detail(match self.changed {
                    true => format!(
                        "Missing: {}. The versions of the rows went with them: until a backfill, an older change is \
                         applied.",
                        missing.join(", ")
                    ),
                    false => format!("Missing: {}.", missing.join(", ")),
                })
                .hint(match self.changed {
                    true => format!(
                        "Run: ALTER TABLE {table} {}; Or, to keep the versions in sequin.row_version from now on, \
                         run: {}",
                        adds.join(", "),
                        self.change().alter("guard => 'table'")
                    ),
                    false => format!(
                        "Run: ALTER TABLE {table} {}; or make the mapping with sequin.map, which does.",
                        adds.join(", ")
                    ),
                }),
            );
        }
    }

    /// With `"*"` the record may bring any column. Without it, a column that has no source stays null.
    pub(super) fn check_not_null(&mut self) {
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
                // `check_key` reports it.
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
