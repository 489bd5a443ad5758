//! Whether a way ends right: real messages in the order in which Sequin delivered them, late and repeated ones among
//! them (tests/corpus), and the true final state of the source.
//!
//! Logical replication does not take messages. Its publisher makes the changes in commit order, as the source did.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;

use postgres::Client;
use serde_json::Value;
use serde_json::value::RawValue;
use support::{corpus_directory, corpus_lines};

use super::Result;
use super::arena::{Database, Server};
use super::contender::{Contender, Guard, Place};
use super::peer::Peer;
use super::replication::{Publisher, Subscription};

/// Shops with key changes, re-inserts and a backfill; documents with values that are not sent again.
const CORPORA: [&str; 2] = ["shop", "toast"];

/// How a contender ended.
#[derive(Debug)]
pub struct Ending {
    /// Who wrote.
    pub contender: Contender,
    /// Rows of the source.
    pub rows: i64,
    /// Rows that are missing, too many or different.
    pub wrong: i64,
    /// Requests that failed, and why the first did.
    pub refused: usize,
    /// The first error.
    pub error: Option<String>,
}

struct Corpus {
    name: &'static str,
    tables: Vec<String>,
    keys: Vec<Vec<String>>,
    destination: String,
}

/// Has the contender write all corpora; none if it takes neither messages nor a stream.
pub fn of(server: &Server, contender: Contender) -> Result<Option<Ending>> {
    let takes = contender.place != Place::Server && contender.input_is_body();
    if !takes && contender.place != Place::Publisher {
        return Ok(None);
    }
    let mut ending = Ending {
        contender,
        rows: 0,
        wrong: 0,
        refused: 0,
        error: None,
    };
    for name in CORPORA {
        let corpus = Corpus::load(name)?;
        let database = Database::create(server, "ending")?;
        let mut client = server.connect(&database.name)?;
        client.batch_execute(&corpus.destination)?;
        if contender.place == Place::Publisher {
            let Some(publisher) = Publisher::create(&database.name)? else {
                return Ok(None);
            };
            corpus.replicate(server.connect(&database.name)?, publisher)?;
        } else {
            corpus.deliver(server, &database, &mut client, &mut ending)?;
        }
        for (table, key) in corpus.tables.iter().zip(&corpus.keys) {
            let (rows, wrong) = corpus.compare(&mut client, table, key)?;
            ending.rows += rows;
            ending.wrong += wrong;
        }
    }
    Ok(Some(ending))
}

impl Corpus {
    fn load(name: &'static str) -> Result<Corpus> {
        let directory = corpus_directory(name);
        let about: Value =
            serde_json::from_str(&fs::read_to_string(directory.join("corpus.json"))?)?;
        let tables = about["tables"].as_object().ok_or("no tables")?;
        let key = |table: &Value| -> Vec<String> {
            let names = table["pk"].as_array().into_iter().flatten();
            names
                .filter_map(|name| name.as_str().map(str::to_owned))
                .collect()
        };
        Ok(Corpus {
            name,
            tables: tables.keys().cloned().collect(),
            keys: tables.values().map(key).collect(),
            destination: fs::read_to_string(directory.join("destination.sql"))?,
        })
    }

    /// Writes what was delivered. A request that fails is left out, as a queue does after some attempts.
    fn deliver(
        &self,
        server: &Server,
        database: &Database,
        client: &mut Client,
        ending: &mut Ending,
    ) -> Result<()> {
        let mut peer = match (ending.contender.technique(), ending.contender.guard) {
            (Some(technique), _) => {
                let tables = self
                    .tables
                    .iter()
                    .map(|table| (table.clone(), table.clone()));
                let tables: Vec<_> = tables.collect();
                Some(Peer::open(&server.to(&database.name), technique, &tables)?)
            }
            (None, guard) => {
                self.map(client, guard.unwrap_or(Guard::Off))?;
                None
            }
        };
        for request in corpus_lines(self.name, "delivery.jsonl.gz") {
            let done = match &mut peer {
                Some(peer) => peer.write(&request).map(|_| ()),
                None => client
                    .query_one("select sequin_apply($1)", &[&request])
                    .map(|_| ())
                    .map_err(Into::into),
            };
            if let Err(error) = done {
                ending.refused += 1;
                ending.error.get_or_insert(super::explain(error.as_ref()));
            }
        }
        Ok(())
    }

    fn map(&self, client: &mut Client, guard: Guard) -> Result<()> {
        client.batch_execute("create extension pg_sequin")?;
        for table in &self.tables {
            client.execute(
                "select sequin.map($1, $2::text::regclass, guard => $3)",
                &[&format!("public.{table}"), table, &guard.name()],
            )?;
        }
        Ok(())
    }

    /// Has the publisher make the changes, a transaction for each of the source's, and waits for the subscriber.
    fn replicate(&self, client: Client, mut publisher: Publisher) -> Result<()> {
        publisher.client.batch_execute(&self.destination)?;
        self.map(&mut publisher.client, Guard::Table)?;
        let mut subscription = Subscription::create(client, publisher, &self.tables)?;
        let mut transactions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for message in corpus_lines(self.name, "live.jsonl.gz") {
            let parts: BTreeMap<&str, &RawValue> = serde_json::from_str(&message)?;
            let metadata: Value =
                serde_json::from_str(parts.get("metadata").ok_or("no metadata")?.get())?;
            let position = metadata["commit_lsn"].as_u64().ok_or("no commit_lsn")?;
            transactions.entry(position).or_default().push(message);
        }
        for messages in transactions.values() {
            let body = format!(r#"{{"data":[{}]}}"#, messages.join(","));
            let source = subscription.source();
            source.query_one("select sequin_apply($1)", &[&body])?;
        }
        subscription.catch_up()
    }

    /// The rows of the source's table, and how many of the destination's are not as they should be.
    fn compare(&self, client: &mut Client, table: &str, key: &[String]) -> Result<(i64, i64)> {
        let truth = corpus_directory(self.name).join(format!("final.{table}.csv"));
        let truth = fs::read_to_string(truth)?;
        let columns = truth.lines().next().ok_or("no header")?.to_owned();
        client.batch_execute(&format!("create table true_{table} (like {table})"))?;
        let copy = format!("copy true_{table} ({columns}) from stdin (format csv, header)");
        let mut copy = client.copy_in(&copy)?;
        copy.write_all(truth.as_bytes())?;
        copy.finish()?;
        let row = |of: &str| {
            let columns: Vec<String> = columns
                .split(',')
                .map(|one| format!("{of}.{one}"))
                .collect();
            format!("row({})::text", columns.join(", "))
        };
        let same: Vec<String> = key.iter().map(|one| format!("f.{one} = t.{one}")).collect();
        let row = client.query_one(
            &format!(
                "select (select count(*) from true_{table}),
                        (select count(*) from {table} f full join true_{table} t on {}
                         where {} is distinct from {})",
                same.join(" and "),
                row("f"),
                row("t")
            ),
            &[],
        )?;
        Ok((row.try_get(0)?, row.try_get(1)?))
    }
}
