//! A destination, delivered to many times, and what is wrong with it in the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use postgres::{Client, Error, Statement};
use support::{Database, batch, rows, run};

use crate::delivery::Delivery;
use crate::source::Sent;

/// Longer than any call needs, and shorter than `deadlock_timeout`.
const SLOW: Duration = Duration::from_millis(900);

/// A table of the source, and how it is mapped.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: String,
    /// More arguments of `sequin.map`.
    pub mapped: String,
    /// Which rows of the destination the source has too; empty: all.
    pub only: String,
}

/// A database with the extension, whose schema `law` is the destination.
pub struct Destination {
    database: Database,
    client: Client,
    apply: Statement,
    reset: String,
    state: String,
}

/// What is not as the law wants it.
#[derive(Debug, Clone, Default)]
pub struct Wrong {
    pub differs: Vec<String>,
    pub letters: Vec<String>,
    pub slow: Vec<String>,
    pub failed: Vec<String>,
}

impl Wrong {
    pub fn is_right(&self) -> bool {
        self.parts().iter().all(|(_, lines)| lines.is_empty())
    }

    /// The kinds of what can be wrong, each with what there is of it.
    pub fn parts(&self) -> [(&'static str, &[String]); 4] {
        [
            ("differs", &self.differs),
            ("letters", &self.letters),
            ("slow", &self.slow),
            ("failed", &self.failed),
        ]
    }
}

impl Destination {
    /// A destination for the test of this name.
    pub fn new(test: &str) -> Destination {
        let database = Database::new(&format!("law_{test}"));
        let mut client = database.connect();
        let apply = client
            .prepare("select * from sequin_apply($1)")
            .expect("sequin_apply");
        Destination {
            database,
            client,
            apply,
            reset: String::new(),
            state: String::new(),
        }
    }

    /// Makes the tables anew, and maps them.
    pub fn make(&mut self, ddl: &str, tables: &[Table], guard: &str) -> Result<(), Error> {
        run(
            &mut self.client,
            "set client_min_messages = error; select sequin.unmap(name) from sequin.mapping;
             drop schema if exists law cascade; create schema law; set search_path = law, public",
        );
        self.client.batch_execute(ddl)?;
        for Table { name, mapped, .. } in tables {
            self.client.batch_execute(&format!(
                "select sequin.map('law.{name}', 'law.{name}', name => '{name}', guard => '{guard}'{mapped})"
            ))?;
        }
        // Without triggers, and in a transaction of its own: a hundred times faster than to make all anew. TRUNCATE
        // would make every session plan again.
        self.reset = "set session_replication_role = replica; ".to_owned();
        let notes = ["dead_letter", "row_version", "tombstone"].map(|n| format!("sequin.{n}"));
        let tables_of = tables.iter().map(|table| format!("law.{}", table.name));
        for table in tables_of.chain(notes) {
            self.reset += &format!("delete from {table}; ");
        }
        self.reset += "reset session_replication_role";
        self.state = state(tables);
        Ok(())
    }

    /// Delivers messages, after those of the initial rows, and says what is wrong in the end.
    pub fn deliver(
        &mut self,
        initial: &[Sent],
        sent: &[Sent],
        delivery: &Delivery,
        wanted: &[String],
    ) -> Wrong {
        let mut wrong = Wrong::default();
        run(&mut self.client, &self.reset);
        let first: Vec<_> = initial.iter().map(|sent| &sent.message).collect();
        if !first.is_empty() {
            self.call("the initial rows", &batch(&first), &mut wrong);
        }
        for (n, call) in delivery.0.iter().enumerate() {
            let messages: Vec<_> = call.iter().map(|&m| &sent[m].message).collect();
            self.call(&format!("call {}", n + 1), &batch(&messages), &mut wrong);
        }
        self.look(wanted, &mut wrong);
        wrong
    }

    fn call(&mut self, what: &str, batch: &str, wrong: &mut Wrong) {
        let start = Instant::now();
        let applied = self.client.query_one(&self.apply, &[&batch]);
        let took = start.elapsed();
        if let Err(error) = applied {
            wrong.failed.push(format!("{what}: {}", said(&error)));
        }
        if took > SLOW {
            wrong.slow.push(format!("{what} took {took:?}"));
        }
    }

    /// Compares with the rows that are wanted, and looks for letters.
    pub fn look(&mut self, wanted: &[String], wrong: &mut Wrong) {
        let is = rows(&mut self.client, &self.state);
        let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
        for row in wanted {
            *counts.entry(row).or_default() += 1;
        }
        for row in &is {
            *counts.entry(row).or_default() -= 1;
        }
        for (row, count) in counts {
            match count {
                0 => {}
                1.. => wrong.differs.push(format!("missing  {row}")),
                _ => wrong.differs.push(format!("too many {row}")),
            }
        }
        let letters = "select concat_ws(' ', mapping, key, state, sqlstate, error, detail)
                       from sequin.dead_letter order by lsn, idx, id";
        wrong.letters.extend(rows(&mut self.client, letters));
    }

    /// Whether one `sequin.retry()` makes it right.
    pub fn is_right_after_retry(&mut self, wanted: &[String]) -> bool {
        if self.client.simple_query("select sequin.retry()").is_err() {
            return false;
        }
        let mut wrong = Wrong::default();
        self.look(wanted, &mut wrong);
        wrong.is_right()
    }

    /// Another session that can deliver.
    pub fn connect(&self) -> Client {
        self.database.connect()
    }
}

/// The query that gives all rows, with the name of their table.
pub fn state(tables: &[Table]) -> String {
    let parts: Vec<_> = tables
        .iter()
        .map(|table| {
            let Table {
                name,
                columns,
                only,
                ..
            } = table;
            let condition = if only.is_empty() { "true" } else { only };
            format!("select '{name} ' || row({columns})::text as r from law.{name} where {condition}")
        })
        .collect();
    format!("{} order by 1", parts.join(" union all "))
}

/// All that an error says, on one line.
pub fn said(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => format!(
            "{} {}; {}",
            error.code().code(),
            error.message(),
            error.detail().unwrap_or_default()
        ),
        None => error.to_string(),
    }
}
