//! In what a destination differs from its source, and messages from the plain ones.

use std::collections::HashMap;

use serde_json::Value;

use crate::destination::Table;
use crate::source::Sent;

/// The types of a source that a backfill reads as null: `char(n)` and `int4range`.
pub const UNREADABLE: [u32; 2] = [1042, 3904];

/// What Sequin sends of a large value that an update left alone.
const UNCHANGED: &str = "unchanged_toast";

/// More of how a table is mapped. A table may have several of them.
#[derive(Debug, Clone, Default)]
pub struct Mapped {
    pub table: String,
    /// More arguments of `sequin.map`.
    pub arguments: String,
    /// Which rows of the destination the source has too.
    pub only: String,
    /// Which rows of the source the destination has.
    pub kept: String,
    /// What only the destination has: how the source computes it, and the column.
    pub computed: Option<(String, String)>,
}

impl Mapped {
    /// The column that tells its rows apart, if the mapping says so.
    pub fn key(&self) -> Option<&str> {
        let (_, key) = self.arguments.split_once("key => '{")?;
        Some(key.split_once('}')?.0)
    }

    /// A table with all that is said of it.
    pub fn table<'a>(
        all: impl Iterator<Item = &'a Mapped>,
        name: String,
        columns: String,
    ) -> Table {
        let mut table = Table {
            name,
            columns,
            mapped: String::new(),
            only: String::new(),
            kept: String::new(),
            computed: Vec::new(),
        };
        for mapped in all {
            table.mapped += &mapped.arguments;
            add(&mut table.only, &mapped.only);
            add(&mut table.kept, &mapped.kept);
            table.computed.extend(mapped.computed.clone());
        }
        table
    }
}

fn add(condition: &mut String, more: &str) {
    if !condition.is_empty() && !more.is_empty() {
        *condition += " and ";
    }
    *condition += more;
}

/// A table that the destination has as another kind of table.
#[derive(Debug, Clone)]
pub struct Kind {
    pub table: String,
    /// What stands behind its columns.
    pub after: String,
    /// The statements that follow.
    pub more: String,
}

/// What random cases have besides.
#[derive(Debug, Clone, Default)]
pub struct Variety {
    pub kinds: Vec<Kind>,
    /// Types of the source's columns, and what the destination has instead.
    pub types: Vec<(String, String)>,
    /// Tables and columns whose values are so large that updates under `REPLICA IDENTITY DEFAULT` do not repeat them.
    pub large: Vec<(String, String)>,
    /// Whether the initial rows are not sent, so that only reads bring them.
    pub backfilled: bool,
}

impl Variety {
    /// The DDL of the destination.
    pub fn ddl(&self, ddl: &str) -> String {
        if self.kinds.is_empty() && self.types.is_empty() {
            return ddl.to_owned();
        }
        let statements = ddl.split("; ").map(|sql| self.statement(sql));
        statements.collect::<Vec<_>>().join("; ")
    }

    fn statement(&self, sql: &str) -> String {
        let Some((table, columns)) = sql
            .strip_prefix("create table ")
            .and_then(|rest| rest.split_once(" ("))
        else {
            return sql.to_owned();
        };
        let columns = columns.strip_suffix(')').expect("a list").split(", ");
        let columns: Vec<String> = columns.map(|column| self.column(column)).collect();
        let sql = format!("create table {table} ({})", columns.join(", "));
        let kind = self.kinds.iter().find(|kind| kind.table == table);
        match kind {
            Some(Kind { after, more, .. }) => format!("{sql} {after}; {more}"),
            None => sql,
        }
    }

    fn column(&self, column: &str) -> String {
        let words: Vec<&str> = column.split(' ').collect();
        let other = |of: &&str| self.types.iter().find(|(from, _)| from == of);
        match words.get(1).and_then(other) {
            Some((from, to)) => column.replacen(from, to, 1),
            None => column.to_owned(),
        }
    }

    /// Puts the mark where an update has left a large value alone.
    pub fn toast(&self, sent: &mut [Sent]) {
        if self.large.is_empty() {
            return;
        }
        let mut rows: HashMap<(String, String), Value> = HashMap::new();
        for Sent { message, .. } in sent {
            let record: Value = serde_json::from_str(&message.record).expect("a record");
            let key = format!("{} {}", record["id"], record["k"]);
            let at = (message.table.clone(), key);
            if message.action == "update"
                && let Some(former) = rows.get(&at)
            {
                let mut marked = record.clone();
                for (table, column) in &self.large {
                    let value = &record[column.as_str()];
                    if *table == message.table
                        && value.is_string()
                        && former[column.as_str()] == *value
                    {
                        marked[column.as_str()] = UNCHANGED.into();
                    }
                }
                message.record = marked.to_string();
            }
            match message.action.as_str() {
                "delete" => rows.remove(&at),
                _ => rows.insert(at, record),
            };
        }
    }
}
