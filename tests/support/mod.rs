//! What client tests share: a database of their own in the cluster that PGHOST, PGPORT and PGUSER name (`make test`
//! starts one), and messages that are quickly written.

#![allow(dead_code)]

use std::env;
use std::fmt::Write;
use std::fs;

use postgres::error::DbError;
use postgres::{Client, Config, Error, NoTls};

/// A database with the extension, dropped at the end together with the roles that were made with it.
pub struct Database {
    name: String,
    roles: Vec<String>,
}

impl Database {
    /// A database for the test of this name.
    pub fn new(test: &str) -> Database {
        let database = Database::without_extension(test);
        run(&mut database.connect(), "create extension pg_sequin");
        database
    }

    /// A database without the extension.
    pub fn without_extension(test: &str) -> Database {
        let name = format!("client_{test}_{}", std::process::id());
        let mut server = connect("postgres", None);
        run(
            &mut server,
            &format!("drop database if exists {name} with (force)"),
        );
        run(&mut server, &format!("create database {name}"));
        Database {
            name,
            roles: Vec::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection of the superuser.
    pub fn connect(&self) -> Client {
        connect(&self.name, None)
    }

    /// A connection of a role.
    pub fn connect_as(&self, role: &str) -> Client {
        connect(&self.name, Some(role))
    }

    /// A role that can log in. Roles are the cluster's, so its name is the database's too.
    pub fn role(&mut self, role: &str) -> String {
        let name = format!("{}_{role}", self.name);
        let mut client = self.connect();
        run(&mut client, &format!("drop role if exists {name}"));
        run(&mut client, &format!("create role {name} login"));
        self.roles.push(name.clone());
        name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let mut server = connect("postgres", None);
        let mut sql = vec![format!("drop database {} with (force)", self.name)];
        sql.extend(self.roles.iter().map(|role| format!("drop role {role}")));
        for sql in sql {
            // a second panic would hide the first
            if let Err(error) = server.batch_execute(&sql) {
                eprintln!("{sql}: {error}");
            }
        }
    }
}

/// A connection to a database.
pub fn connect(database: &str, role: Option<&str>) -> Client {
    let variable = |name| env::var(name).ok();
    let mut config = Config::new();
    config.host(&variable("PGHOST").unwrap_or_else(|| "/var/run/postgresql".to_owned()));
    if let Some(port) = variable("PGPORT") {
        config.port(port.parse().expect("PGPORT"));
    }
    let user = role.map(str::to_owned).or_else(|| variable("PGUSER"));
    config.user(&user.unwrap_or_else(|| "postgres".to_owned()));
    config.dbname(database).application_name("client tests");
    config
        .connect(NoTls)
        .unwrap_or_else(|error| panic!("no connection to {database}: {error}"))
}

/// Runs statements that must work.
pub fn run(client: &mut Client, sql: &str) {
    client
        .batch_execute(sql)
        .unwrap_or_else(|error| panic!("{sql}: {}", text(&error)));
}

/// The rows of a query, as the server spells them: `a|b` each.
pub fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client
        .simple_query(sql)
        .unwrap_or_else(|error| panic!("{sql}: {}", text(&error)));
    messages
        .iter()
        .filter_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => {
                let values: Vec<_> = (0..row.len())
                    .map(|i| row.get(i).unwrap_or("null"))
                    .collect();
                Some(values.join("|"))
            }
            _ => None,
        })
        .collect()
}

/// The one value of a query.
pub fn value(client: &mut Client, sql: &str) -> String {
    let rows = rows(client, sql);
    assert_eq!(rows.len(), 1, "{sql}");
    rows.into_iter().next().expect("one row")
}

/// The row that `sequin_apply` returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub received: i64,
    pub upserted: i64,
    pub deleted: i64,
    pub collapsed: i64,
    pub stale: i64,
    pub filtered: i64,
    pub ignored: i64,
    pub dead: i64,
}

impl Counts {
    /// How many outcomes there were.
    pub fn outcomes(&self) -> i64 {
        self.upserted
            + self.deleted
            + self.collapsed
            + self.stale
            + self.filtered
            + self.ignored
            + self.dead
    }

    fn of(row: &postgres::Row) -> Counts {
        Counts {
            received: row.get("received"),
            upserted: row.get("upserted"),
            deleted: row.get("deleted"),
            collapsed: row.get("collapsed"),
            stale: row.get("stale"),
            filtered: row.get("filtered"),
            ignored: row.get("ignored"),
            dead: row.get("dead"),
        }
    }
}

/// Applies a batch as a forwarder does: the parameter has no type, so it is text.
pub fn try_apply(client: &mut Client, batch: &str) -> Result<Counts, Error> {
    client
        .query_one("select * from sequin_apply($1)", &[&batch])
        .map(|row| Counts::of(&row))
}

/// Applies a batch that must work.
pub fn apply(client: &mut Client, batch: &str) -> Counts {
    try_apply(client, batch).unwrap_or_else(|error| panic!("{}", text(&error)))
}

/// Applies a batch as jsonb.
pub fn apply_jsonb(client: &mut Client, batch: &str) -> Counts {
    let row = client.query_one("select * from sequin_apply($1::text::jsonb)", &[&batch]);
    Counts::of(&row.unwrap_or_else(|error| panic!("{}", text(&error))))
}

/// The error that applying a batch gives.
pub fn apply_error(client: &mut Client, batch: &str) -> DbError {
    match try_apply(client, batch) {
        Ok(counts) => panic!("no error but {counts:?}"),
        Err(error) => db_error(error),
    }
}

/// The error that statements give.
pub fn error(client: &mut Client, sql: &str) -> DbError {
    match client.batch_execute(sql) {
        Ok(()) => panic!("{sql}: no error"),
        Err(error) => db_error(error),
    }
}

fn db_error(error: Error) -> DbError {
    error
        .as_db_error()
        .unwrap_or_else(|| panic!("{error}"))
        .clone()
}

fn text(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => format!(
            "{}: {}; {:?}; {:?}; {:?}",
            error.code().code(),
            error.message(),
            error.detail(),
            error.hint(),
            error.where_()
        ),
        None => error.to_string(),
    }
}

/// A message of table `public.<table>`: a change at position `lsn`, or a read at that time. An update says that nothing
/// is known of the former values, as under REPLICA IDENTITY DEFAULT.
pub fn message(action: &str, table: &str, lsn: u64, record: &str) -> String {
    let changes = if action == "update" { "{}" } else { "null" };
    message_with(action, table, lsn, record, changes)
}

/// A message with `changes`.
pub fn message_with(action: &str, table: &str, lsn: u64, record: &str, changes: &str) -> String {
    let (position, idx) = match action {
        "read" => ("null".to_owned(), "null"),
        _ => (lsn.to_string(), "0"),
    };
    let (minutes, seconds) = (lsn / 60 % 60, lsn % 60);
    let hour = lsn / 3600 % 24;
    let mut text = String::with_capacity(record.len() + 400);
    write!(
        text,
        r#"{{"record":{record},"changes":{changes},"action":"{action}","metadata":{{"table_schema":"public","#
    )
    .expect("a String takes all");
    write!(
        text,
        r#""table_name":"{table}","commit_timestamp":"2026-01-01T{hour:02}:{minutes:02}:{seconds:02}.000000Z","#
    )
    .expect("a String takes all");
    write!(
        text,
        r#""commit_lsn":{position},"commit_idx":{idx},"database_name":"shop","database":{{"id":"d1","name":"shop"}}}}}}"#
    )
    .expect("a String takes all");
    text
}

/// A batch as a webhook gets it.
pub fn batch<S: AsRef<str>>(messages: &[S]) -> String {
    let messages: Vec<&str> = messages.iter().map(AsRef::as_ref).collect();
    format!(r#"{{"data":[{}]}}"#, messages.join(","))
}

/// Numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    /// One of these.
    pub fn of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len() as u64) as usize]
    }

    /// Puts these in some order.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// Whether the server offers these extensions; if not, says which are missing.
pub fn has_extensions(client: &mut Client, names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            let row = client.query_opt(
                "select from pg_available_extensions where name = $1",
                &[name],
            );
            row.expect("pg_available_extensions").is_none()
        })
        .collect();
    if !missing.is_empty() {
        eprintln!("left out: this server does not offer {missing:?}");
    }
    missing.is_empty()
}

/// Whether the server was built with XML.
pub fn has_xml(client: &mut Client) -> bool {
    let has = client.simple_query("select '<a/>'::xml").is_ok();
    if !has {
        eprintln!("left out: this server was built without XML");
    }
    has
}

/// Whether the server has multiranges: not before PostgreSQL 14.
pub fn has_multiranges(client: &mut Client) -> bool {
    let has = rows(client, "select to_regtype('int4multirange')") != ["null"];
    if !has {
        eprintln!("left out: this server has no multiranges");
    }
    has
}

/// A connection of the superuser to no test's database.
pub fn server() -> Client {
    connect("postgres", None)
}

/// The most memory that a backend has had, without what it shares with others, in kB, where the system tells.
pub fn peak_memory(pid: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = |name| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(kilobytes("VmHWM:")? - kilobytes("RssShmem:")?)
}
