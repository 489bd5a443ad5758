//! Databases of tests, and statements in them.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Mutex, PoisonError};

use postgres::error::{DbError, SqlState};
use postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};

/// The database that those with the extension are copies of: a copy takes a tenth of the time. Each server has its own.
const EXTENDED: &str = "client_extended";

/// Makes [`EXTENDED`], unless another test is faster.
fn make_extended(server: &mut Client) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let made = format!("select from pg_database where datname = '{EXTENDED}'");
    if rows(server, &made).is_empty() {
        let new = format!("{EXTENDED}_new");
        run(
            server,
            &format!("drop database if exists {new} with (force)"),
        );
        run(server, &format!("create database {new}"));
        run(&mut connect(&new, None), "create extension pg_sequin");
        // nobody copies it while a session is there
        run(
            server,
            &format!("alter database {new} rename to {EXTENDED}"),
        );
    }
}

/// A connection to the server, and the name of the test's database, which is not there yet. Another test may have used the
/// name of this one.
fn place(test: &str) -> (Client, String) {
    static USED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
    let mut used = USED.lock().unwrap_or_else(PoisonError::into_inner);
    let uses = used.entry(test.to_owned()).or_default();
    *uses += 1;
    let again = match *uses {
        1 => String::new(),
        uses => format!("_{uses}"),
    };
    drop(used);
    let name = format!("client_{test}_{}{again}", std::process::id());
    let mut server = server();
    run(
        &mut server,
        &format!("drop database if exists {name} with (force)"),
    );
    (server, name)
}

/// A database with the extension, dropped at the end together with the roles that were made with it.
pub struct Database {
    name: String,
    roles: Vec<String>,
}

impl Database {
    /// A database for the test of this name.
    pub fn new(test: &str) -> Database {
        let (mut server, name) = place(test);
        let copy = format!("create database {name} template {EXTENDED} strategy file_copy");
        if let Err(error) = server.batch_execute(&copy) {
            assert_eq!(error.code(), Some(&SqlState::UNDEFINED_DATABASE), "{error}");
            make_extended(&mut server);
            run(&mut server, &copy);
        }
        Database::named(name)
    }

    /// A database with these tables, each mapped to the source table of its name, and a connection to it.
    pub fn mapped(test: &str, ddl: &str, tables: &[&str], guard: &str) -> (Database, Client) {
        let database = Database::new(&format!("{test}_{guard}"));
        let mut client = database.connect();
        run(&mut client, "set client_min_messages = error");
        run(&mut client, ddl);
        for table in tables {
            let map = format!(
                "select sequin.map('public.{table}', '{table}', guard => '{guard}', name => '{table}')"
            );
            run(&mut client, &map);
        }
        (database, client)
    }

    /// A database without the extension.
    pub fn without_extension(test: &str) -> Database {
        let (mut server, name) = place(test);
        run(&mut server, &format!("create database {name}"));
        Database::named(name)
    }

    fn named(name: String) -> Database {
        let roles = Vec::new();
        Database { name, roles }
    }

    /// The name in the cluster.
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
        let mut server = server();
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

/// How to connect to a database, as the superuser or as a role.
pub fn config(database: &str, role: Option<&str>) -> Config {
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
}

/// A connection to a database.
pub fn connect(database: &str, role: Option<&str>) -> Client {
    config(database, role)
        .connect(NoTls)
        .unwrap_or_else(|error| panic!("no connection to {database}: {error}"))
}

/// A connection of the superuser to no test's database.
pub fn server() -> Client {
    connect("postgres", None)
}

/// Runs statements that must work.
pub fn run(client: &mut Client, sql: &str) {
    client
        .batch_execute(sql)
        .unwrap_or_else(|error| panic!("{sql}: {}", described(&error)));
}

/// The rows of a query, as the server spells them: `a|b` each.
pub fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client
        .simple_query(sql)
        .unwrap_or_else(|error| panic!("{sql}: {}", described(&error)));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
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

/// The error that statements give.
pub fn error(client: &mut Client, sql: &str) -> DbError {
    match client.batch_execute(sql) {
        Ok(()) => panic!("{sql}: no error"),
        Err(error) => db_error(error),
    }
}

/// The SQLSTATE of an error.
pub fn code(error: &DbError) -> &str {
    error.code().code()
}

pub(crate) fn db_error(error: Error) -> DbError {
    error
        .as_db_error()
        .unwrap_or_else(|| panic!("{error}"))
        .clone()
}

/// All that an error says.
pub(crate) fn described(error: &Error) -> String {
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
