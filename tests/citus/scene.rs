//! One feature on tables of one kind, and how it ends.

use std::sync::atomic::{AtomicUsize, Ordering};

use postgres::{Client, SimpleQueryMessage};
use support::{Message, batch, run, try_apply};

use super::nodes::Nodes;

/// What Citus makes of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// Its rows are spread over shards.
    Distributed,
    /// It is on every node.
    Reference,
    /// It is on the coordinator, and Citus knows it.
    Local,
}

/// Tables in a schema of their own, which messages of a source schema of the same name are applied to.
pub struct Scene {
    pub kind: Kind,
    pub guard: &'static str,
    /// Also the name of the schema.
    pub name: String,
    client: Client,
    mapped: Vec<String>,
    seen: Vec<String>,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

impl Scene {
    pub fn new(nodes: &Nodes, kind: Kind, guard: &'static str) -> Scene {
        let name = format!("s{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut client = nodes.connect();
        run(
            &mut client,
            &format!("create schema {name}; set search_path = {name}, public"),
        );
        Scene {
            kind,
            guard,
            name,
            client,
            mapped: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Whether the rows of a table are spread over shards.
    pub fn is_distributed(&self) -> bool {
        self.kind == Kind::Distributed
    }

    /// Runs statements that should work. An error is noted.
    pub fn run(&mut self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql) {
            let told = self.told(&error);
            self.note(sql, &told);
        }
    }

    /// Makes tables of the scene's kind, by the column over which they are distributed.
    pub fn spread(&mut self, tables: &[(&str, &str)]) {
        for (table, column) in tables {
            let name = &self.name;
            let sql = match self.kind {
                Kind::Plain => continue,
                Kind::Distributed => {
                    format!("select create_distributed_table('{name}.{table}', '{column}')")
                }
                Kind::Reference => format!("select create_reference_table('{name}.{table}')"),
                Kind::Local => {
                    format!("select citus_add_local_table_to_metadata('{name}.{table}')")
                }
            };
            self.run(&sql);
        }
    }

    /// A table, made by this definition and distributed over its column `id`.
    pub fn table(&mut self, table: &str, definition: &str) {
        self.run(&format!("create table {table} ({definition})"));
        self.spread(&[(table, "id")]);
    }

    /// Maps a table, with further arguments.
    pub fn map(&mut self, table: &str, more: &str) {
        let (name, guard) = (&self.name, self.guard);
        let sql = format!(
            "select sequin.map('{name}.{table}', '{name}.{table}', name => '{name}_{table}', guard => '{guard}'{more})"
        );
        self.run(&sql);
        self.mapped.push(table.to_owned());
    }

    /// The table `item`, with an integer `id`, a `name` and a `body`, mapped.
    pub fn item(&mut self) {
        self.table("item", "id integer primary key, name text, body text");
        self.map("item", "");
    }

    /// A message of a table of the scene.
    pub fn message(&self, action: &str, table: &str, lsn: u64, record: &str) -> Message {
        Message::new(action, table, lsn, record).schema(&self.name)
    }

    /// Applies messages as one batch, and notes the counts.
    pub fn send(&mut self, messages: &[Message]) {
        let seen = match try_apply(&mut self.client, &batch(messages)) {
            Ok(counts) => format!("{counts:?}"),
            Err(error) => self.told(&error),
        };
        self.note(&format!("send {}", messages.len()), &seen);
    }

    /// Applies messages of `item`: action, position, record.
    pub fn items(&mut self, messages: &[(&str, u64, &str)]) {
        let messages: Vec<_> = messages
            .iter()
            .map(|(action, lsn, record)| self.message(action, "item", *lsn, record))
            .collect();
        self.send(&messages);
    }

    /// Runs statements, and notes the rows, or the error. `@` is the scene's name.
    pub fn show(&mut self, sql: &str) {
        let sql = sql.replace('@', &self.name);
        let seen = match self.client.simple_query(&sql) {
            Err(error) => self.told(&error),
            Ok(messages) => {
                let rows = messages.iter().filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        let values = (0..row.len()).map(|i| row.get(i).unwrap_or("null"));
                        Some(values.collect::<Vec<_>>().join("|"))
                    }
                    _ => None,
                });
                rows.collect::<Vec<_>>().join("; ")
            }
        };
        self.note(&sql, &seen);
    }

    /// Notes the rows of the tables, what is stored of them, and the letters.
    pub fn look(&mut self) {
        for table in self.mapped.clone() {
            self.show(&format!(
                "select to_jsonb(t) - 'sequin_committed_at' from {table} t order by to_jsonb(t)::text collate \"C\""
            ));
            self.show(&format!(
                "select count(*), count(*) filter (where deleted), count(*) filter (where gaps is not null)
                 from sequin.row_version v join sequin.mapping m on m.id = v.mapping where m.name = '@_{table}'"
            ));
            self.show(&format!(
                "select state, calls, received, upserted, deleted, collapsed, stale, filtered, ignored, dead, healed,
                        dead_letters_dead, dead_letters_waiting, unknown_values, error, sqlstate
                 from sequin.status where name = '@_{table}'"
            ));
        }
        self.show(
            "select mapping, state, sqlstate, error, detail, hint, key, waits_on::regclass, waits_for_key, attempts
             from sequin.dead_letter where mapping like '@\\_%' order by id",
        );
    }

    fn told(&self, error: &postgres::Error) -> String {
        match error.as_db_error() {
            Some(error) => format!(
                "{}: {}; {:?}; {:?}; {:?}",
                error.code().code(),
                error.message(),
                error
                    .detail()
                    .map(|detail| match detail.split_once(" since ") {
                        // A time follows.
                        Some((before, _)) => before,
                        None => detail,
                    }),
                error.hint(),
                error.where_()
            ),
            None => error.to_string(),
        }
    }

    fn note(&mut self, what: &str, seen: &str) {
        let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
        let what = what.replace(&self.name, "@");
        let seen = seen.replace(&self.name, "@");
        self.seen.push(format!("{what}\n    {seen}"));
    }

    /// What was seen from beginning to end.
    pub fn end(mut self) -> Vec<String> {
        self.look();
        for table in std::mem::take(&mut self.mapped) {
            let name = format!("{}_{table}", self.name);
            self.run(&format!(
                "delete from sequin.dead_letter where mapping = '{name}'; select sequin.unmap('{name}')"
            ));
        }
        let name = self.name.clone();
        self.run(&format!("drop schema {name} cascade"));
        self.seen
    }
}

/// What differs between two ends.
pub fn difference(wanted: &[String], got: &[String]) -> String {
    let mut lines = Vec::new();
    for (wanted, got) in wanted.iter().zip(got).filter(|(wanted, got)| wanted != got) {
        let what = wanted.lines().next().unwrap_or_default();
        let seen = |of: &str| of.lines().skip(1).collect::<Vec<_>>().join("\n");
        lines.push(format!(
            "  {what}\n  plain:{}\n  here: {}",
            seen(wanted),
            seen(got)
        ));
    }
    if wanted.len() != got.len() {
        lines.push(format!("  {} steps, not {}", got.len(), wanted.len()));
    }
    lines.join("\n")
}
