//! One contender's session, and the clock.

use std::fs;
use std::ops::Range;
use std::time::Instant;

use postgres::types::private::BytesMut;
use postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Statement};

use super::Result;
use super::contender::{Contender, Input};
use super::measured::Sample;
use super::workload::{Change, Phase, Workload};

/// One contender's session.
pub struct Session {
    /// Whose it is.
    pub contender: Contender,
    client: Client,
    statement: Statement,
    process: i32,
}

impl Session {
    /// Prepares the contender's statement.
    pub fn open(mut client: Client, contender: Contender) -> Result<Session> {
        let statement = client.prepare(&contender.statement())?;
        let process = client
            .query_one("select pg_backend_pid()", &[])?
            .try_get(0)?;
        Ok(Session {
            contender,
            client,
            statement,
            process,
        })
    }

    /// Writes these batches, each in a transaction of its own. The first is not timed: it plans again what emptying
    /// and vacuuming the tables made void.
    pub fn run(
        &mut self,
        workload: &Workload,
        phase: Phase,
        batches: Range<usize>,
    ) -> Result<Sample> {
        let batch = workload.batch;
        let rows = batch * (batches.len() - 1);
        let payloads: Vec<Payload> = batches
            .map(|number| Payload::new(&self.contender, workload, number))
            .collect::<Result<_>>()?;
        let mut payloads = payloads.iter();
        let mut written = 0;
        if let Some(first) = payloads.next() {
            written += self.write(first)?;
        }
        let (start, on_cpu) = (Instant::now(), self.on_cpu());
        for payload in payloads {
            written += self.write(payload)?;
        }
        let (wall, on_cpu) = (start.elapsed(), on_cpu.zip(self.on_cpu()));
        self.check(written, rows + batch)?;
        let per_message = |nanoseconds: u128| nanoseconds as f64 / 1000.0 / rows.max(1) as f64;
        Ok(Sample {
            contender: self.contender,
            batch,
            phase,
            rows,
            wall: per_message(wall.as_nanos()),
            cpu: on_cpu.map(|(from, to)| per_message((to - from).into())),
        })
    }

    /// Writes one batch; returns how many rows that made, as the statement says.
    fn write(&mut self, payload: &Payload) -> Result<u64> {
        match payload {
            Payload::Number(number) => self.execute(&[number]),
            Payload::Body(body) => self.execute(&[body]),
            Payload::Row(change) => {
                let values = change.values().each_ref().map(|value| Literal(value));
                self.execute(&values.each_ref().map(|value| value as &(dyn ToSql + Sync)))
            }
        }
    }

    fn execute(&mut self, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        if self.contender.guard.is_none() {
            return Ok(self.client.execute(&self.statement, parameters)?);
        }
        let counts = self.client.query_one(&self.statement, parameters)?;
        Ok(u64::try_from(counts.try_get::<_, i64>("upserted")?)?)
    }

    fn check(&mut self, written: u64, wanted: usize) -> Result<()> {
        if written == wanted as u64 {
            return Ok(());
        }
        let mut reason = String::new();
        if self.contender.guard.is_some() {
            let letters = self.client.query(
                "select sqlstate || ' ' || error from sequin.dead_letter limit 1",
                &[],
            )?;
            if let Some(letter) = letters.first() {
                reason = format!(": {}", letter.try_get::<_, &str>(0)?);
            }
        }
        Err(format!(
            "{} wrote {written} rows instead of {wanted}{reason}",
            self.contender.schema()
        )
        .into())
    }

    /// Nanoseconds that the server process has been on a CPU, if it is on this machine and the kernel tells.
    fn on_cpu(&self) -> Option<u64> {
        let proc = format!("/proc/{}", self.process);
        if fs::read_to_string(format!("{proc}/comm")).ok()?.trim() != "postgres" {
            return None;
        }
        fs::read_to_string(format!("{proc}/schedstat"))
            .ok()?
            .split(' ')
            .next()?
            .parse()
            .ok()
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

/// A parameter of any type, sent as its text as most drivers do.
#[derive(Debug)]
struct Literal<'a>(&'a str);

impl ToSql for Literal<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
