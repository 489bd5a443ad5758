//! Native logical replication: another cluster publishes the same changes, in transactions of the size of a batch, and
//! this one subscribes to them.

use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};

use super::Result;

/// How long the subscriber may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The cluster that publishes, and its database.
pub struct Publisher {
    /// A session in the database.
    pub client: Client,
    host: String,
    port: String,
    database: String,
}

impl Publisher {
    /// Makes a database in the cluster whose socket is in `PUBLISHER_HOST`; none without that variable.
    pub fn create(database: &str) -> Result<Option<Publisher>> {
        let Some(host) = env::var("PUBLISHER_HOST")
            .ok()
            .filter(|host| !host.is_empty())
        else {
            return Ok(None);
        };
        let port = env::var("PGPORT").unwrap_or_else(|_| "5432".to_owned());
        let mut config = Config::new();
        config.host(&host).port(port.parse()?).user("postgres");
        let mut maintenance = config.dbname("postgres").connect(NoTls)?;
        maintenance.batch_execute(&format!("drop database if exists {database} with (force)"))?;
        maintenance.batch_execute(&format!(
            "create database {database} template template0 encoding 'UTF8'"
        ))?;
        Ok(Some(Publisher {
            client: config.dbname(database).connect(NoTls)?,
            host,
            port,
            database: database.to_owned(),
        }))
    }
}

/// A subscription, and the session that made it. It is dropped with this.
pub struct Subscription {
    client: Client,
    publisher: Publisher,
    tables: Vec<String>,
    marks: i32,
}

impl Subscription {
    /// Publishes these tables, which are in both databases, and subscribes to them.
    pub fn create(
        mut client: Client,
        mut publisher: Publisher,
        tables: &[String],
    ) -> Result<Subscription> {
        const MARK: &str = "create table replicated_mark (n int primary key)";
        client.batch_execute(MARK)?;
        publisher.client.batch_execute(MARK)?;
        // what empties the tables between two rounds does so on both sides
        publisher.client.batch_execute(&format!(
            "create publication bench for table {}, replicated_mark with (publish = 'insert, update, delete')",
            tables.join(", ")
        ))?;
        let Publisher {
            host,
            port,
            database,
            ..
        } = &publisher;
        client.batch_execute(&format!(
            "create subscription {database}
             connection 'host={host} port={port} dbname={database} user=postgres' publication bench
             with (copy_data = false)"
        ))?;
        Ok(Subscription {
            client,
            publisher,
            tables: tables.to_vec(),
            marks: 0,
        })
    }

    /// A session of the publisher.
    pub fn source(&mut self) -> &mut Client {
        &mut self.publisher.client
    }

    /// Sets whether the worker waits for the disk when it commits.
    pub fn wait_for_disk(&mut self, durable: bool) -> Result<()> {
        let value = if durable { "on" } else { "off" };
        let name = &self.publisher.database;
        self.client.batch_execute(&format!(
            "alter subscription {name} set (synchronous_commit = {value})"
        ))?;
        self.catch_up()
    }

    /// The process of the apply worker.
    pub fn worker(&mut self) -> Result<i32> {
        const WORKER: &str = "select pid from pg_stat_subscription where relid is null and pid is not null \
                              and subname = $1";
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(row) = self.client.query_opt(WORKER, &[&self.publisher.database])? {
                return Ok(row.try_get(0)?);
            }
            if Instant::now() > until {
                return Err("no apply worker runs".into());
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Commits a mark, and waits until the subscriber has it.
    pub fn catch_up(&mut self) -> Result<()> {
        self.mark()?;
        self.wait()
    }

    /// Commits a mark that comes after all other changes.
    pub fn mark(&mut self) -> Result<()> {
        self.marks += 1;
        let mark = "insert into replicated_mark values ($1)";
        self.publisher.client.execute(mark, &[&self.marks])?;
        Ok(())
    }

    /// Waits until the subscriber has the mark.
    pub fn wait(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let there = self
            .client
            .prepare("select from replicated_mark where n = $1")?;
        while self.client.query_opt(&there, &[&self.marks])?.is_none() {
            if Instant::now() > until {
                return Err("the subscriber does not catch up".into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Makes the worker wait at its first change.
    pub fn hold(&mut self) -> Result<()> {
        let tables = self.tables.join(", ");
        self.client
            .batch_execute(&format!("begin; lock table {tables} in exclusive mode"))?;
        Ok(())
    }

    /// Lets the worker go on.
    pub fn release(&mut self) -> Result<()> {
        Ok(self.client.batch_execute("commit")?)
    }

    /// What a statement of the subscriber says.
    pub fn ask(&mut self, sql: &str) -> Result<String> {
        Ok(self.client.query_one(sql, &[])?.try_get(0)?)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let name = &self.publisher.database;
        let dropped = self
            .client
            .batch_execute(&format!("drop subscription {name}"));
        if let Err(error) = dropped {
            eprintln!("bench: subscription {name} is left behind: {error}");
        }
    }
}
