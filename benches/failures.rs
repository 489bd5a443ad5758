//! What messages that fail cost the batch that they come in: `make bench BENCH=failures`.
//!
//! Each round applies a batch of 1000 without a fault, and then batches of which 1, 10 or all messages have one, each
//! with new rows. Ratios are taken within a round; their median is reported. Messages that all fail are compared with
//! the same number applied one by one, and a batch of 20,000 that all fail with twenty batches of 1000: once without
//! dead letters before it, and once with those of the messages applied one by one, which may wait for its rows.

#![forbid(unsafe_code)]

mod common;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use postgres::Client;
use support::{GUARDS, batch, message};

/// Errors end the benchmark; nobody tells them apart.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BATCH: usize = 1000;

/// Rounds that count; one more is run first, to warm up.
const ROUNDS: usize = 9;

/// Of so many messages it is measured what they cost one by one.
const SINGLE: usize = 100;

/// How many messages the largest batch has. All of them fail.
const MANY: usize = 20_000;

/// How often as long as so many in batches of [`BATCH`] it may take.
const MOST_MANY: f64 = 1.5;

/// How often as long as a clean batch one may take of which 1, or 10, messages have a fault.
const MOST: [f64; 2] = [1.5, 3.0];

const TABLES: &str = "
    create table parent (id bigint primary key);
    insert into parent select n from generate_series(0, 9) n;
    create table item (id bigint primary key, amount integer not null check (amount >= 0), code bigint unique,
                       parent_id bigint references parent, at timestamptz, note text);
    insert into item values (-1, 1, -1)";

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Cast,
    NotNull,
    Check,
    Unique,
    ForeignKey,
}

impl Fault {
    const ALL: [Fault; 5] = [
        Fault::Cast,
        Fault::NotNull,
        Fault::Check,
        Fault::Unique,
        Fault::ForeignKey,
    ];
}

fn main() -> ExitCode {
    common::run(|_| bench())
}

fn bench() -> Result<bool> {
    println!(
        "Batches of {BATCH}; times a clean batch, and for those that all fail, times the same one by one.\n"
    );
    println!(
        "{:<10}{:<13}{:>10}{:>8}{:>8}{:>8}{:>12}{:>11}{:>10}{:>9}",
        "guard",
        "fault",
        "clean ms",
        "1",
        "10",
        "all",
        "one by one",
        "20,000 s",
        "to 1000s",
        "letters"
    );
    let mut met = true;
    for guard in GUARDS {
        for fault in Fault::ALL {
            met &= Run::new(guard, fault)?.measure()?;
        }
    }
    println!(
        "\nat most 1.5 for 1, 3.0 for 10, 1.0 one by one, 1.5 for 20,000: {}",
        if met { "ok" } else { "MISSED" }
    );
    Ok(met)
}

/// One fault under one guard.
struct Run {
    guard: &'static str,
    fault: Fault,
    client: Client,
    next: usize,
}

impl Run {
    fn new(guard: &'static str, fault: Fault) -> Result<Run> {
        let mut client = common::database("pg_sequin_bench_failures")?;
        client.batch_execute(TABLES)?;
        client.execute(
            "select sequin.map('public.item', 'item', guard => $1)",
            &[&guard],
        )?;
        Ok(Run {
            guard,
            fault,
            client,
            next: 0,
        })
    }

    fn measure(mut self) -> Result<bool> {
        let (mut clean, mut ratios) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
        for round in 0..=ROUNDS {
            let base = self.apply(BATCH, 0)?;
            let failed = [1, 10, BATCH].map(|bad| self.apply(BATCH, bad));
            if round > 0 {
                clean.push(base);
                for (ratios, failed) in ratios.iter_mut().zip(failed) {
                    ratios.push(failed? / base);
                }
            }
        }
        let clean = median(clean);
        let [one, ten, all] = ratios.map(median);
        let batches = all * clean * (MANY / BATCH) as f64;
        let many = self.apply(MANY, MANY)?;
        let single = self.one_by_one()? * (BATCH / SINGLE) as f64;
        let to_single = all * clean / single;
        let [to_batches, letters] = [many, self.apply(MANY, MANY)?].map(|took| took / batches);
        println!(
            "{:<10}{:<13}{:>10.1}{:>8.2}{:>8.2}{:>8.2}{:>12.2}{:>11.2}{:>10.2}{:>9.2}",
            self.guard,
            format!("{:?}", self.fault),
            clean,
            one,
            ten,
            all,
            to_single,
            many / 1000.0,
            to_batches,
            letters
        );
        let few = one <= MOST[0] && ten <= MOST[1];
        Ok(few && to_single <= 1.0 && to_batches.max(letters) <= MOST_MANY)
    }

    /// Applies a batch of this size of new rows of which so many have the fault; returns how many milliseconds
    /// it took.
    fn apply(&mut self, size: usize, bad: usize) -> Result<f64> {
        let messages: Vec<String> = (0..size)
            .map(|n| self.message(bad > 0 && n % (size / bad) == size / bad / 2))
            .collect();
        let body = batch(&messages);
        let start = Instant::now();
        let counts = self
            .client
            .query_one("select dead from sequin_apply($1)", &[&body])?;
        let took = start.elapsed();
        assert_eq!(counts.get::<_, i64>(0), bad as i64);
        self.client.execute("truncate sequin.dead_letter", &[])?;
        Ok(took.as_secs_f64() * 1000.0)
    }

    /// Applies messages with the fault one by one; returns how many milliseconds it took.
    fn one_by_one(&mut self) -> Result<f64> {
        let statement = self
            .client
            .prepare("select dead from sequin_apply($1::text)")?;
        let messages: Vec<String> = (0..SINGLE).map(|_| self.message(true)).collect();
        let start = Instant::now();
        for message in &messages {
            let counts = self.client.query_one(&statement, &[message])?;
            assert_eq!(counts.get::<_, i64>(0), 1);
        }
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }

    fn message(&mut self, bad: bool) -> String {
        self.next += 1;
        let id = self.next;
        let (mut amount, mut code, mut parent) = (id.to_string(), id.to_string(), id % 10);
        match self.fault {
            _ if !bad => {}
            Fault::Cast => amount = String::from("\"many\""),
            Fault::NotNull => amount = String::from("null"),
            Fault::Check => amount = String::from("-1"),
            Fault::Unique => code = String::from("-1"),
            Fault::ForeignKey => parent = 99,
        }
        let note = "a note of some length, as rows have one. ".repeat(8);
        let record = format!(
            r#"{{"id":{id},"amount":{amount},"code":{code},"parent_id":{parent},"at":"2026-01-01T00:00:00.000000Z","note":"{note}"}}"#
        );
        message("insert", "item", id as u64, &record)
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
