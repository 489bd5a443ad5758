//! The HINTs for a mapping that worked before its destination changed: the statement that lets the mapping follow.

#![forbid(unsafe_code)]

use crate::destination::{Column, Destination};
use crate::error::nearest::nearest;
use crate::error::quote::{array_literal, idents, literal};
use crate::mapping::{ColumnSource, ColumnSpecs, Mapping, Path, Root};

/// The columns of the key by which the rows' versions are stored: the name then, and the name now unless the column is
/// gone.
pub type FormerKey = Vec<(String, Option<String>)>;

/// DETAIL of a mapping that passed its check when it was made.
pub(super) const TABLE_CHANGED: &str = "The table has changed since the mapping was made.";

/// The statement that lets a mapping follow the first column of its key that was renamed.
pub fn follow_renamed_key(
    mapping: &Mapping,
    destination: &Destination,
    former_key: &FormerKey,
) -> Option<String> {
    let change = Changed {
        mapping,
        destination,
        former_key,
    };
    former_key.iter().find_map(|(then, now)| {
        let now = now.as_deref().filter(|now| now != then)?;
        change.altered(then, Some(now))
    })
}

/// A mapping, and its destination as it is now.
pub(super) struct Changed<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) destination: &'a Destination,
    pub(super) former_key: &'a FormerKey,
}

impl Changed<'_> {
    /// What to run when the destination lacks a column that the mapping names.
    pub(super) fn follow(&self, column: &str) -> String {
        let mut former = self.former_key.iter();
        if former.any(|(then, now)| then == column && now.is_none()) {
            return format!(
                "Give the table the column back, and its key. To remove the mapping, run: SELECT sequin.unmap({});",
                literal(&self.mapping.name)
            );
        }
        let without = self.altered(column, None);
        if let Some(name) = self.renamed(column)
            && let Some(statement) = self.altered(column, Some(name))
        {
            return format!("Run: {statement}");
        }
        let guess = self.likely_name(column);
        let guessed = guess.and_then(|name| Some((name, self.altered(column, Some(name))?)));
        match (guessed, without) {
            (Some((name, renamed)), Some(without)) => format!(
                "If it was renamed to \"{name}\", run: {renamed} If it was dropped, run: {without}"
            ),
            (Some((name, renamed)), None) => {
                format!("If it was renamed to \"{name}\", run: {renamed}")
            }
            (None, Some(without)) if self.mapping.columns.rest => format!(
                "If it was dropped, run: {without} If it was renamed, give it its new name in columns."
            ),
            (None, Some(without)) => format!("Run: {without}"),
            (None, None) => format!(
                "Give the column its name back, or run: SELECT sequin.unmap({});",
                literal(&self.mapping.name)
            ),
        }
    }

    /// The name that a column of the key has now.
    fn renamed(&self, column: &str) -> Option<&str> {
        let mut former = self.former_key.iter();
        let (_, now) = former.find(|(then, _)| then == column)?;
        now.as_deref()
    }

    /// The name that a missing column may have now: that of a column which the mapping does not name.
    fn likely_name(&self, column: &str) -> Option<&str> {
        let specs = &self.mapping.columns;
        if specs.rest {
            return None;
        }
        let free = |column: &&Column| {
            !column.generated
                && !self.mapping.reserves(&column.name)
                && specs.source(&column.name).is_none()
        };
        let free: Vec<&str> = self
            .destination
            .columns
            .iter()
            .filter(free)
            .map(|column| column.name.as_str())
            .collect();
        let near = nearest(column, free.iter().copied());
        match (near.first(), free.as_slice()) {
            (Some(near), _) => free.into_iter().find(|name| name == near),
            (None, [only]) => Some(only),
            _ => None,
        }
    }

    /// The statement that gives a column of the mapping another name, or leaves the column out. `None`: nothing would
    /// be left of the columns or of the key.
    pub(super) fn altered(&self, column: &str, to: Option<&str>) -> Option<String> {
        let ColumnSpecs { mut named, rest } = self.mapping.columns.clone();
        match (named.iter().position(|(name, _)| name == column), to) {
            (Some(at), Some(to)) => named[at].0 = to.to_owned(),
            (Some(at), None) => drop(named.remove(at)),
            (None, Some(to)) => {
                let path = Path {
                    root: Root::Record,
                    keys: vec![column.to_owned()],
                };
                named.push((to.to_owned(), ColumnSource::Path(path)));
            }
            (None, None) => {}
        }
        if named.is_empty() && !rest {
            return None;
        }
        let specs = ColumnSpecs { named, rest };
        let mut settings = Vec::new();
        if specs != self.mapping.columns {
            settings.push(format!("columns => {}", literal(&specs.to_json())));
        }
        if let Some(key) = self
            .mapping
            .key
            .as_ref()
            .filter(|key| key.iter().any(|name| name == column))
        {
            let to = to?;
            let key: Vec<&str> = key
                .iter()
                .map(|name| if name == column { to } else { name })
                .collect();
            settings.push(format!("key => {}", array_literal(&key)));
        }
        Some(self.alter(&settings.join(", ")))
    }

    /// The statement that changes settings of the mapping.
    pub(super) fn alter(&self, settings: &str) -> String {
        format!(
            "SELECT sequin.alter_mapping({}, {settings});",
            literal(&self.mapping.name)
        )
    }

    /// The statement that gives the table the primary key back by which the mapping found its rows.
    pub(super) fn former_primary_key(&self, table: &str) -> Option<String> {
        let columns: Option<Vec<&str>> = self
            .former_key
            .iter()
            .map(|(_, now)| now.as_deref())
            .collect();
        let columns = columns.filter(|columns| !columns.is_empty())?;
        Some(format!(
            "ALTER TABLE {table} ADD PRIMARY KEY ({});",
            idents(&columns)
        ))
    }
}
