//! What the benches that compare calls with calls share: a table, its messages, a timed call, and their report.

use std::error::Error;
use std::time::Instant;

use postgres::Client;
use serde_json::{Value, json};
use support::{Message, batch};

use super::clock::on_cpu;

/// Errors end the benchmark; nobody tells them apart.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A table of seven columns of this name, mapped.
pub fn create_table(client: &mut Client, name: &str, guard: &str) -> Result<()> {
    client.batch_execute(&format!(
        "create table {name} (id bigint primary key, name text, status text, price numeric, created timestamptz,
                              body text, extra jsonb)"
    ))?;
    client.execute(
        "select sequin.map($1, $2::text::regclass, guard => $3)",
        &[&format!("public.{name}"), &name, &guard],
    )?;
    Ok(())
}

/// A change of a row of it, with 1 kB in all.
pub fn change(action: &str, table: &str, lsn: u64, id: u64) -> Message {
    let body = format!("body {lsn} {}", "word after word ".repeat(30));
    let record = format!(
        r#"{{"id":{id},"name":"name {lsn}","status":"new","price":"{lsn}.50","created":"2026-01-01T00:00:00Z","body":"{body}","extra":{{"n":{lsn},"tags":["a","b"]}}}}"#
    );
    Message::new(action, table, lsn, record).at(lsn)
}

/// Applies messages; returns the milliseconds that the server's process worked, or where the kernel does not tell, that
/// the client waited.
pub fn apply(client: &mut Client, messages: &[Message]) -> Result<f64> {
    let body = batch(messages);
    let statement = client.prepare("select received from sequin_apply($1)")?;
    let process: i32 = client
        .query_one("select pg_backend_pid()", &[])?
        .try_get(0)?;
    let (start, before) = (Instant::now(), on_cpu(process));
    client.query_one(&statement, &[&body])?;
    let wall = start.elapsed().as_secs_f64() * 1000.0;
    let work = before.zip(on_cpu(process));
    Ok(work.map_or(wall, |(before, after)| (after - before) as f64 / 1e6))
}

/// The middle of some figures.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What was measured, printed line by line.
#[derive(Default)]
pub struct Report {
    cases: Vec<Value>,
    missed: bool,
}

impl Report {
    /// Adds a figure, which may be at most so much.
    pub fn add(&mut self, case: &str, guard: &str, figure: f64, unit: &str, most: Option<f64>) {
        let missed = most.is_some_and(|most| figure > most);
        let verdict = match (most, missed) {
            (None, _) => String::new(),
            (Some(most), false) => format!("at most {most}: ok"),
            (Some(most), true) => format!("at most {most}: MISSED"),
        };
        println!("{case:<60}{guard:<10}{figure:>10.2} {unit} {verdict}");
        self.missed |= missed;
        self.cases.push(
            json!({"case": case, "guard": guard, "figure": figure, "unit": unit, "most": most}),
        );
    }

    /// Writes the figures into `target/bench.json`; says whether all are as they should be.
    pub fn finish(self, bench: &str) -> Result<bool> {
        super::figures::record(bench, self.cases.into())?;
        Ok(!self.missed)
    }
}
