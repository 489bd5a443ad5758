//! One contender's session, and the clock.

use std::ops::Range;
use std::time::Instant;

use postgres::types::ToSql;
use postgres::{Client, NoTls, Statement};

use super::Result;
use super::client::Literal;
use super::clock::on_cpu;
use super::contender::{Contender, Input};
use super::measured::Sample;
use super::peer::{Peer, Technique};
use super::replication::{Publisher, Subscription};
use super::workload::{Change, Phase, Workload};

/// One contender's session.
pub struct Session {
    /// Whose it is.
    pub contender: Contender,
    way: Way,
}

enum Way {
    Statement(Box<Client>, Statement),
    Peer(Box<Peer>),
    Replication(Box<Replication>),
}

struct Replication {
    subscription: Subscription,
    /// What the publisher runs.
    statement: Statement,
    /// Rows that are published and not yet waited for.
    published: u64,
}

/// What a session is to run.
pub struct Turn {
    /// On which rows.
    pub phase: Phase,
    /// The batches, of which the first is not timed.
    pub batches: Range<usize>,
    /// Whether the timed commits wait for the disk.
    pub durable: bool,
}

/// How many commits are timed at most where each waits for the disk; of the guide's processor, how many messages.
const COMMITS: usize = 50;
const SINGLE_COMMITS: usize = 500;

impl Session {
    /// Connects, and prepares the contender's statement.
    pub fn open(
        config: &tokio_postgres::Config,
        contender: Contender,
        publisher: Option<Publisher>,
        workload: &Workload,
    ) -> Result<Session> {
        let table = format!("{}.benchmark_records", contender.schema());
        let statement = contender.statement(&workload.shape);
        let connect = || postgres::Config::from(config.clone()).connect(NoTls);
        let way = if let Some(technique) = contender.technique() {
            let tables = [("benchmark_records".to_owned(), table)];
            Way::Peer(Box::new(Peer::open(config, technique, &tables)?))
        } else if let Some(publisher) = publisher {
            let mut subscription = Subscription::create(connect()?, publisher, &[table])?;
            let statement = subscription.source().prepare(&statement)?;
            Way::Replication(Box::new(Replication {
                subscription,
                statement,
                published: 0,
            }))
        } else {
            let mut client = connect()?;
            let statement = client.prepare(&statement)?;
            Way::Statement(Box::new(client), statement)
        };
        Ok(Session { contender, way })
    }

    /// Writes the batches, each in a transaction of its own. The first is not timed: it plans again what emptying and
    /// vacuuming the tables made void.
    pub fn run(&mut self, workload: &Workload, turn: &Turn) -> Result<Sample> {
        let payloads: Vec<Payload> = turn
            .batches
            .clone()
            .map(|number| Payload::new(&self.contender, workload, number))
            .collect::<Result<_>>()?;
        let (first, mut timed) = payloads.split_at(1);
        let mut rest: &[Payload] = &[];
        if turn.durable {
            let most = match self.contender.technique() {
                Some(Technique::Guide) => SINGLE_COMMITS.div_ceil(workload.batch),
                _ => COMMITS,
            };
            (timed, rest) = timed.split_at(most.min(timed.len()));
        }
        self.publish(first)?;
        let mut written = self.write(first)?.0;
        if turn.durable {
            self.wait_for_disk(true)?;
        }
        self.publish(timed)?;
        let process = self.process()?;
        let (log, start) = (self.log()?, on_cpu(process));
        let clock = Instant::now();
        let (rows, calls) = self.write(timed)?;
        let wall = clock.elapsed();
        let (cpu, log) = (start.zip(on_cpu(process)), self.log()? - log);
        written += rows;
        if turn.durable {
            self.wait_for_disk(false)?;
        }
        if !rest.is_empty() {
            self.publish(rest)?;
            written += self.write(rest)?.0;
        }
        self.check(written, turn.batches.len() * workload.batch)?;
        let rows = timed.len() * workload.batch;
        let per_message = |figure: f64| figure / rows.max(1) as f64;
        Ok(Sample {
            contender: self.contender,
            batch: workload.batch,
            phase: turn.phase,
            rows,
            wall: per_message(wall.as_nanos() as f64 / 1000.0),
            cpu: cpu.map(|(from, to)| per_message((to - from) as f64 / 1000.0)),
            log: per_message(log as f64),
            calls,
        })
    }

    /// Empties the table of the publisher, if there is one.
    pub fn empty_source(&mut self) -> Result<()> {
        if let Way::Replication(replication) = &mut self.way {
            let table = format!("{}.benchmark_records", self.contender.schema());
            let source = replication.subscription.source();
            source.batch_execute(&format!("truncate {table}"))?;
        }
        Ok(())
    }

    /// Has the publisher commit the batches; the subscriber does not begin with them.
    fn publish(&mut self, payloads: &[Payload]) -> Result<()> {
        let Way::Replication(replication) = &mut self.way else {
            return Ok(());
        };
        replication.subscription.hold()?;
        for payload in payloads {
            if let Payload::Number(number) = payload {
                let source = replication.subscription.source();
                replication.published += source.execute(&replication.statement, &[number])?;
            }
        }
        replication.subscription.mark()
    }

    /// Writes the batches. Returns how many rows that made, as the server says, and the milliseconds that each call
    /// took.
    fn write(&mut self, payloads: &[Payload]) -> Result<(u64, Vec<f64>)> {
        if let Way::Replication(replication) = &mut self.way {
            replication.subscription.release()?;
            replication.subscription.wait()?;
            return Ok((std::mem::take(&mut replication.published), Vec::new()));
        }
        let (mut written, mut calls) = (0, Vec::with_capacity(payloads.len()));
        for payload in payloads {
            let start = Instant::now();
            written += self.write_one(payload)?;
            calls.push(start.elapsed().as_secs_f64() * 1000.0);
        }
        Ok((written, calls))
    }

    fn write_one(&mut self, payload: &Payload) -> Result<u64> {
        match payload {
            Payload::Number(number) => self.execute(&[number]),
            Payload::Body(body) => match &mut self.way {
                Way::Peer(peer) => peer.write(body),
                _ => self.execute(&[body]),
            },
            Payload::Row(change) => {
                let values: Vec<Literal> = change
                    .values()
                    .iter()
                    .map(|value| Literal(Some(value)))
                    .collect();
                let values: Vec<&(dyn ToSql + Sync)> =
                    values.iter().map(|value| value as _).collect();
                self.execute(&values)
            }
        }
    }

    fn execute(&mut self, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let Way::Statement(client, statement) = &mut self.way else {
            return Err("this contender has no statement".into());
        };
        if self.contender.guard.is_none() {
            return Ok(client.execute(statement, parameters)?);
        }
        let counts = client.query_one(statement, parameters)?;
        Ok(u64::try_from(counts.try_get::<_, i64>("upserted")?)?)
    }

    /// The first value of a query, as text.
    fn ask(&mut self, sql: &str) -> Result<String> {
        match &mut self.way {
            Way::Statement(client, _) => Ok(client.query_one(sql, &[])?.try_get(0)?),
            Way::Peer(peer) => peer.ask(sql),
            Way::Replication(replication) => replication.subscription.ask(sql),
        }
    }

    /// The process that writes.
    fn process(&mut self) -> Result<i32> {
        match &mut self.way {
            Way::Replication(replication) => replication.subscription.worker(),
            _ => Ok(self.ask("select pg_backend_pid()::text")?.parse()?),
        }
    }

    /// How many bytes the server has written to its log.
    fn log(&mut self) -> Result<i64> {
        let bytes = "select (pg_current_wal_insert_lsn() - '0/0')::bigint::text";
        Ok(self.ask(bytes)?.parse()?)
    }

    /// Sets whether commits wait for the disk.
    fn wait_for_disk(&mut self, durable: bool) -> Result<()> {
        if let Way::Replication(replication) = &mut self.way {
            return replication.subscription.wait_for_disk(durable);
        }
        let value = if durable { "on" } else { "off" };
        self.ask(&format!(
            "select set_config('synchronous_commit', '{value}', false)"
        ))?;
        Ok(())
    }

    fn check(&mut self, written: u64, wanted: usize) -> Result<()> {
        if written == wanted as u64 {
            return Ok(());
        }
        let mut reason = String::new();
        if self.contender.guard.is_some() {
            let letter = "select coalesce(min(sqlstate || ' ' || error), 'no letter') from sequin.dead_letter";
            reason = format!(": {}", self.ask(letter)?);
        }
        Err(format!(
            "{} wrote {written} rows instead of {wanted}{reason}",
            self.contender.schema()
        )
        .into())
    }
}

/// A batch as a statement's parameters.
enum Payload<'a> {
    Number(i32),
    Body(String),
    Row(&'a Change),
}

impl<'a> Payload<'a> {
    fn new(contender: &Contender, workload: &'a Workload, number: usize) -> Result<Payload<'a>> {
        Ok(match contender.input() {
            Input::StagedRows | Input::StagedBody(_) => Payload::Number(i32::try_from(number)?),
            Input::Body => Payload::Body(workload.body(number, &contender.schema())),
            Input::Row => Payload::Row(&workload.changes(number)[0]),
        })
    }
}
