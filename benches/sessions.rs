//! What several sessions at once bring for one mapping: `make bench BENCH=sessions`. Their rows are different.
//! `ARGS='--rows 2000 --only mixed'` has fewer messages a session, or the mixes whose name contains that.
//!
//! | mix | messages |
//! |---|---|
//! | inserts | new rows |
//! | mixed | 80% inserts, 15% updates, 5% deletes |
//! | toast | updates of rows with a value that did not change |
//! | filtered | updates of rows that are not there, nine of ten refused by the filter |
//! | soft | as mixed, with soft deletes |
//! | reads | a backfill of rows that are there |
//!
//! A figure is the messages a second of all sessions, as a multiple of those of one session in the same round; the
//! median of the rounds. Batches are made before the clock starts. The last column is the client's part of the time of
//! all cores.

#![forbid(unsafe_code)]

mod common;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{Message, Random, batch};

/// Errors end the benchmark; nobody tells them apart.
type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const DATABASE: &str = "pg_sequin_bench_sessions";

const MIXES: [&str; 6] = ["inserts", "mixed", "toast", "filtered", "soft", "reads"];

/// How much faster two sessions must be, and every number of sessions.
const TWO: f64 = 1.5;
const ANY: f64 = 1.0;

fn main() -> ExitCode {
    common::run(|arguments| bench(arguments).map_err(|error| error as Box<dyn Error>))
}

fn bench(arguments: &[String]) -> Result<bool> {
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let rows: u64 = option("--rows").map_or(Ok(20_000), |rows| rows.parse())?;
    let rounds: usize = option("--rounds").map_or(Ok(3), |rounds| rounds.parse())?;
    let only = option("--only").map_or("", String::as_str);
    println!(
        "{:<10}{:<9}{:>6}{:>12}{:>7}{:>7}{:>9}{:>9}",
        "mix", "guard", "batch", "1 session/s", "× 2", "× 4", "retried", "client"
    );
    let mut met = true;
    for mix in MIXES.iter().filter(|mix| mix.contains(only)) {
        for guard in ["columns", "table"] {
            for size in [10, 100, 1_000] {
                let rows = rows.min(size * 200);
                let mut found: Vec<[f64; 3]> = Vec::new();
                let (mut retried, mut client) = (0, 0.0_f64);
                for round in 0..rounds {
                    let mut figures = [0.0; 3];
                    for (figure, sessions) in figures.iter_mut().zip([1, 2, 4]) {
                        let run = run(mix, guard, (rows, size), sessions, round as u64)?;
                        *figure = run.messages as f64 / run.took.as_secs_f64();
                        retried += run.retried;
                        client = client.max(run.client);
                    }
                    found.push(figures);
                }
                let of = |value: &dyn Fn(&[f64; 3]) -> f64| median(found.iter().map(value));
                let (one, two, four) = (of(&|f| f[0]), of(&|f| f[1] / f[0]), of(&|f| f[2] / f[0]));
                println!(
                    "{mix:<10}{guard:<9}{size:>6}{one:>12.0}{two:>7.2}{four:>7.2}{retried:>9}{:>8.0}%",
                    100.0 * client
                );
                met &= two >= TWO && four >= ANY;
            }
        }
    }
    println!(
        "\ntwo sessions at least {TWO}, none below {ANY}: {}",
        if met { "ok" } else { "MISSED" }
    );
    Ok(met)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the sessions did.
struct Run {
    messages: u64,
    took: Duration,
    /// Calls that began again after a deadlock.
    retried: i64,
    /// The client's part of the time of all cores.
    client: f64,
}

/// The clients apply batches of `size` messages, `rows` each.
fn run(mix: &str, guard: &str, (rows, size): (u64, u64), sessions: u64, round: u64) -> Result<Run> {
    let mut owner = common::database(DATABASE).map_err(|error| error.to_string())?;
    let options = match mix {
        "soft" => "on_delete => 'soft', soft_delete => 'deleted_at'",
        "filtered" => "filter => $$record->>'status' <> 'refused'$$",
        _ => "",
    };
    owner.batch_execute(&format!(
        "create table item (id bigint primary key, name text, status text, price numeric, created timestamptz,
                            body text, extra jsonb, deleted_at timestamptz);
         select sequin.map('public.item', 'item', '{{\"*\": \"record.*\"}}', guard => '{guard}', {options}
                           {} on_error => 'dead_letter')",
        if options.is_empty() { "" } else { "," }
    ))?;
    let mut work: Vec<Vec<String>> = Vec::new();
    for session in 0..sessions {
        let mut made = Maker::new(mix, sessions, session, round);
        let before: Vec<Message> = made.before(rows);
        for part in before.chunks(1_000) {
            apply(&mut owner, &batch(part))?;
        }
        let messages: Vec<Message> = (0..rows).map(|_| made.next()).collect();
        work.push(messages.chunks(size as usize).map(batch).collect());
    }
    owner.batch_execute("vacuum analyze")?;
    owner.batch_execute("checkpoint")?;
    let barrier = Barrier::new(sessions as usize + 1);
    let (took, busy) = thread::scope(|scope| -> Result<(Duration, f64)> {
        let mut threads = Vec::new();
        for batches in &work {
            let mut client = common::connect(DATABASE).map_err(|error| error.to_string())?;
            // what a session does once
            client.batch_execute("select sequin_apply('[]'::text)")?;
            let barrier = &barrier;
            threads.push(scope.spawn(move || -> Result<()> {
                barrier.wait();
                batches
                    .iter()
                    .try_for_each(|batch| apply(&mut client, batch))
            }));
        }
        let before = cpu_time()?;
        barrier.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a session panicked")??;
        }
        let took = start.elapsed();
        let cores = thread::available_parallelism()?.get() as f64;
        Ok((took, (cpu_time()? - before) / (took.as_secs_f64() * cores)))
    })?;
    let retried =
        "select coalesce(sum(calls), 0)::bigint from sequin.failed_calls where outcome = 'retried'";
    let retried = owner.query_one(retried, &[]).map_or(0, |row| row.get(0));
    let dead = "select count(*) from sequin.dead_letter";
    let dead: i64 = owner.query_one(dead, &[])?.get(0);
    if dead > 0 {
        return Err(format!("{mix}, {guard}: {dead} dead letters").into());
    }
    Ok(Run {
        messages: rows * sessions,
        took,
        retried,
        client: busy,
    })
}

fn apply(client: &mut Client, batch: &str) -> Result<()> {
    client.execute("select * from sequin_apply($1)", &[&batch])?;
    Ok(())
}

/// The seconds that this process has computed.
fn cpu_time() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |n: usize| -> Result<f64> {
        let field = fields.split_whitespace().nth(n).ok_or("/proc/self/stat")?;
        Ok(field.parse::<f64>()? / 100.0)
    };
    Ok(ticks(11)? + ticks(12)?)
}

/// Makes the messages of one session.
struct Maker<'m> {
    mix: &'m str,
    sessions: u64,
    session: u64,
    random: Random,
    /// Rows of the session that are there.
    there: Vec<u64>,
    next: u64,
    lsn: u64,
}

impl Maker<'_> {
    fn new(mix: &str, sessions: u64, session: u64, round: u64) -> Maker<'_> {
        Maker {
            mix,
            sessions,
            session,
            random: Random::new(round * 100 + session),
            there: Vec::new(),
            next: 0,
            lsn: 1_000,
        }
    }

    /// A row that no other session has.
    fn new_row(&mut self) -> u64 {
        self.next += 1;
        self.next * self.sessions + self.session
    }

    /// The inserts of the rows that are there before.
    fn before(&mut self, rows: u64) -> Vec<Message> {
        match self.mix {
            "inserts" | "filtered" => Vec::new(),
            _ => (0..rows).map(|_| self.insert()).collect(),
        }
    }

    fn message(&mut self, action: &str, record: String) -> Message {
        self.lsn += 1;
        let lsn = self.lsn * self.sessions + self.session;
        Message::new(action, "item", lsn, record).at(lsn)
    }

    fn insert(&mut self) -> Message {
        let id = self.new_row();
        self.there.push(id);
        let record = record(id, "new", self.lsn);
        self.message("insert", record)
    }

    fn some(&mut self) -> u64 {
        *self.random.of(&self.there)
    }

    fn next(&mut self) -> Message {
        let n = self.lsn;
        match self.mix {
            "inserts" => self.insert(),
            "toast" => {
                let record = record(self.some(), "updated", n);
                let body = format!(r#""body":"{}""#, body(n));
                self.message(
                    "update",
                    record.replace(&body, r#""body":"unchanged_toast""#),
                )
            }
            "filtered" => {
                let status = match self.random.below(10) {
                    0 => "taken",
                    _ => "refused",
                };
                let id = self.new_row();
                self.message("update", record(id, status, n))
            }
            "reads" => {
                let id = self.some();
                let lsn = 100_000_000 + self.lsn;
                self.message("read", record(id, "read", n)).at(lsn)
            }
            _ => match self.random.below(100) {
                0..80 => self.insert(),
                80..95 => {
                    let id = self.some();
                    self.message("update", record(id, "updated", n))
                }
                _ => {
                    let at = self.random.below(self.there.len() as u64) as usize;
                    let id = self.there.swap_remove(at);
                    self.message("delete", record(id, "gone", n))
                }
            },
        }
    }
}

fn body(n: u64) -> String {
    format!("body {n} {}", "x".repeat(500))
}

fn record(id: u64, status: &str, n: u64) -> String {
    format!(
        r#"{{"id":{id},"name":"name {n}","status":"{status}","price":"{n}.50","created":"2026-01-01T00:00:00Z","body":"{}","extra":{{"n":{n}}}}}"#,
        body(n)
    )
}
