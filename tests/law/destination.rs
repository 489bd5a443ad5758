//! A destination, delivered to many times, and what is wrong with it in the end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error, Statement};
use support::{Database, batch, rows, run};

use crate::case::History;
use crate::delivery::Delivery;
use crate::source::Sent;

/// Longer than any call needs.
const SLOW: Duration = Duration::from_millis(900);

/// A call of several at once may have to wait for the others; but not for this one, in which the server finds out that
/// they wait for each other.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// A table of the source, and how it is mapped.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub columns: String,
    /// More arguments of `sequin.map`.
    pub mapped: String,
    /// Which rows of the destination the source has too; empty: all.
    pub only: String,
    /// Which rows of the source the destination has; empty: all.
    pub kept: String,
    /// What only the destination has: how the source computes it, and the column.
    pub computed: Vec<(String, String)>,
}

/// A database with the extension, whose schema `law` is the destination.
pub struct Destination {
    session: Session,
    /// Those that deliver at once.
    others: Vec<Session>,
    database: Database,
    reset: String,
    state: String,
}

/// A connection that delivers.
struct Session {
    client: Client,
    apply: Statement,
    /// A call that takes longer is slow.
    slow: Duration,
}

impl Session {
    fn new(database: &Database, slow: Duration) -> Session {
        let mut client = database.connect();
        run(
            &mut client,
            "set client_min_messages = error; set search_path = law, public",
        );
        let apply = client.prepare("select * from sequin_apply($1)");
        Session {
            client,
            apply: apply.expect("sequin_apply"),
            slow,
        }
    }

    /// Delivers a batch; again, as a forwarder does, if the server says that it should.
    fn call(&mut self, what: &str, batch: &str, wrong: &mut Wrong) {
        let (apply, slow) = (self.apply.clone(), self.slow);
        self.again(what, wrong, |client, wrong| {
            let start = Instant::now();
            let applied = client.query_one(&apply, &[&batch]);
            let took = start.elapsed();
            if took > slow {
                wrong.slow.push(format!("{what} took {took:?}"));
            }
            applied.map(drop)
        });
    }

    /// Calls `sequin.retry()`; again if the server says so.
    fn retry(&mut self, wrong: &mut Wrong) {
        let retry = |client: &mut Client, _: &mut Wrong| {
            client.simple_query("select sequin.retry()").map(drop)
        };
        self.again("retry", wrong, retry);
    }

    /// Does something until it does not fail in a way that passes.
    fn again(
        &mut self,
        what: &str,
        wrong: &mut Wrong,
        mut work: impl FnMut(&mut Client, &mut Wrong) -> Result<(), Error>,
    ) {
        for _ in 0..20 {
            match work(&mut self.client, wrong) {
                Ok(()) => return,
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    wrong.failed.push(format!("{what}: {}", said(&error)));
                    return;
                }
            }
        }
        wrong
            .failed
            .push(format!("{what}: always to be sent again"));
    }
}

fn is_passing(error: &Error) -> bool {
    let code = error.code().map_or("", |code| code.code());
    ["40", "55", "57"]
        .iter()
        .any(|class| code.starts_with(class))
}

fn call(sent: &[Sent], messages: &[usize]) -> String {
    let messages: Vec<_> = messages.iter().map(|&m| &sent[m].message).collect();
    batch(&messages)
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

    fn add(&mut self, more: Wrong) {
        self.differs.extend(more.differs);
        self.letters.extend(more.letters);
        self.slow.extend(more.slow);
        self.failed.extend(more.failed);
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
        run(
            &mut database.connect(),
            &format!(
                "alter database {} set deadlock_timeout = '{}ms'",
                database.name(),
                DEADLOCK_TIMEOUT.as_millis()
            ),
        );
        Destination {
            session: Session::new(&database, SLOW),
            others: Vec::new(),
            database,
            reset: String::new(),
            state: String::new(),
        }
    }

    /// Makes the tables anew, and maps them.
    pub fn make(&mut self, ddl: &str, tables: &[Table], guard: &str) -> Result<(), Error> {
        let client = &mut self.session.client;
        run(
            client,
            "set client_min_messages = error; select sequin.unmap(name) from sequin.mapping;
             drop schema if exists law cascade; create schema law; set search_path = law, public",
        );
        client.batch_execute(ddl)?;
        for Table { name, mapped, .. } in tables {
            client.batch_execute(&format!(
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
        self.state = state(tables, false);
        self.session.client.batch_execute(&self.state)
    }

    /// Delivers the messages of a source, after those of its initial rows, and says what is wrong in the end.
    pub fn deliver(&mut self, history: &History, delivery: &Delivery) -> Wrong {
        let mut wrong = Wrong::default();
        self.begin(&history.initial, &mut wrong);
        for (n, messages) in delivery.0.iter().enumerate() {
            if messages.is_empty() {
                self.session.retry(&mut wrong);
                continue;
            }
            let batch = call(&history.sent, messages);
            self.session
                .call(&format!("call {}", n + 1), &batch, &mut wrong);
        }
        self.look(&history.wanted, &mut wrong);
        wrong
    }

    fn begin(&mut self, initial: &[Sent], wrong: &mut Wrong) {
        run(&mut self.session.client, &self.reset);
        if !initial.is_empty() {
            let all: Vec<usize> = (0..initial.len()).collect();
            let batch = call(initial, &all);
            self.session.call("the initial rows", &batch, wrong);
        }
    }

    /// Compares with the rows that are wanted, and looks for letters.
    pub fn look(&mut self, wanted: &[String], wrong: &mut Wrong) {
        let is = rows(&mut self.session.client, &self.state);
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
        wrong
            .letters
            .extend(rows(&mut self.session.client, letters));
    }

    /// Whether one `sequin.retry()` makes it right.
    pub fn is_right_after_retry(&mut self, wanted: &[String]) -> bool {
        if self
            .session
            .client
            .simple_query("select sequin.retry()")
            .is_err()
        {
            return false;
        }
        let mut wrong = Wrong::default();
        self.look(wanted, &mut wrong);
        wrong.is_right()
    }

    /// Delivers with several sessions: each takes the next call when it has done one, and sends it again when it
    /// was told to.
    pub fn deliver_at_once(
        &mut self,
        history: &History,
        delivery: &Delivery,
        sessions: usize,
    ) -> Wrong {
        let mut wrong = Wrong::default();
        self.begin(&history.initial, &mut wrong);
        while self.others.len() < sessions {
            self.others
                .push(Session::new(&self.database, DEADLOCK_TIMEOUT));
        }
        let calls: Vec<String> = delivery.0.iter().map(|c| call(&history.sent, c)).collect();
        let next = AtomicUsize::new(0);
        let seen = Mutex::new(&mut wrong);
        thread::scope(|scope| {
            for session in &mut self.others[..sessions] {
                let (calls, next, seen) = (&calls, &next, &seen);
                scope.spawn(move || {
                    loop {
                        let n = next.fetch_add(1, Ordering::SeqCst);
                        let Some(batch) = calls.get(n) else { break };
                        let mut wrong = Wrong::default();
                        match delivery.0[n].is_empty() {
                            true => session.retry(&mut wrong),
                            false => session.call(&format!("call {}", n + 1), batch, &mut wrong),
                        }
                        seen.lock().expect("what is wrong").add(wrong);
                    }
                });
            }
        });
        self.look(&history.wanted, &mut wrong);
        wrong
    }
}

/// The query that gives all rows that both sides have to have, with the name of their table.
pub fn state(tables: &[Table], at_source: bool) -> String {
    let parts: Vec<_> = tables
        .iter()
        .map(|table| {
            let Table {
                name,
                columns,
                only,
                kept,
                computed,
                ..
            } = table;
            let condition = if at_source { kept } else { only };
            let condition = match condition.as_str() {
                "" => "true",
                condition => condition,
            };
            let computed = computed
                .iter()
                .map(|(source, column)| format!(", {}", if at_source { source } else { column }));
            let computed: String = computed.collect();
            format!(
                "select '{name} ' || row({columns}{computed})::text as r from law.{name} where {condition}"
            )
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
