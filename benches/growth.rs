//! Whether a call costs what its batch costs, and nothing for what the database has already: `make bench BENCH=growth`.
//! `ARGS='--rows 10000000 --tombstones 10000000'` has more of both than a million, `--mappings 1000` and
//! `--letters 1000` less of these; `--only letters` runs the cases whose name contains that. To make 10,000 mappings takes
//! minutes.
//!
//! Each case has two databases, one of which is full. In each round both get the same batches, of 1000 new rows and of
//! 1000 updates at random. A figure is the middle of the rounds' ratios, full to empty, of the time that the server's
//! process was on a CPU.

#![forbid(unsafe_code)]

#[path = "common/clock.rs"]
mod clock;
mod common;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/item.rs"]
mod item;

use std::process::ExitCode;

use item::{Report, Result, apply, change, create_table, median};
use postgres::Client;
use support::{Message, Random};

const BATCH: u64 = 1_000;

/// Rounds that count, and those before them.
const ROUNDS: usize = 15;
const WARM_UP: usize = 3;

/// How often as long a call may take.
const MOST: f64 = 1.3;

/// How much goes into a call that fills a database.
const FILL: u64 = 10_000;

/// What one of the databases is full of, and how much.
#[derive(Clone, Copy)]
enum Full {
    Mappings(u64),
    Tombstones(u64),
    Letters(u64),
    Rows(u64),
}

fn main() -> ExitCode {
    common::run(bench)
}

fn bench(arguments: &[String]) -> Result<bool> {
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let number = |name: &str, default| option(name).map_or(Ok(default), |text| text.parse());
    let only = option("--only").map_or("", String::as_str);
    let cases = [
        Full::Mappings(100),
        Full::Mappings(number("--mappings", 10_000)?),
        Full::Tombstones(number("--tombstones", 1_000_000)?),
        Full::Letters(number("--letters", 100_000)?),
        Full::Rows(number("--rows", 1_000_000)?),
    ];
    let mut report = Report::default();
    for full in cases.iter().filter(|full| full.name().contains(only)) {
        for guard in ["columns", "table"] {
            let (new, exist) = compare(*full, guard)?;
            for (rows, figure) in [("new rows", new), ("updates", exist)] {
                let case = format!("{}, {rows}", full.name());
                report.add(&case, guard, figure, "×", Some(MOST));
            }
        }
    }
    report.finish("growth")
}

impl Full {
    fn name(self) -> String {
        let (number, of) = match self {
            Full::Mappings(n) => (n, "mappings"),
            Full::Tombstones(n) => (n, "tombstones"),
            Full::Letters(n) => (n, "dead letters"),
            Full::Rows(n) => (n, "rows"),
        };
        match number {
            n if n % 1_000_000 == 0 => format!("{} million {of}", n / 1_000_000),
            n if n >= 1_000 => format!("{},{:03} {of}", n / 1_000, n % 1_000),
            n => format!("{n} {of}"),
        }
    }

    fn fill(self, client: &mut Client, guard: &str) -> Result<()> {
        match self {
            Full::Mappings(n) => {
                let map = client.prepare(
                    "select sequin.map('other.table_' || n, 'item', guard => $1, name => 'other ' || n)
                     from generate_series($2::bigint, $2 + 99) n",
                )?;
                for first in (0..n as i64).step_by(100) {
                    client.execute(&map, &[&guard, &first])?;
                }
            }
            Full::Tombstones(n) => each(client, n, |n| change("delete", "item", n, scattered(n)))?,
            Full::Letters(n) => each(client, n, |n| {
                let mut message = change("insert", "item", n, scattered(n));
                message.record = message.record.replace(".50\"", " euros\"");
                message
            })?,
            Full::Rows(n) => each(client, n, |n| change("insert", "item", n, scattered(n)))?,
        }
        client.batch_execute("vacuum analyze")?;
        Ok(client.batch_execute("checkpoint")?)
    }
}

/// Applies so many messages.
fn each(client: &mut Client, count: u64, message: impl Fn(u64) -> Message) -> Result<()> {
    for first in (0..count).step_by(FILL as usize) {
        let last = (first + FILL).min(count);
        let messages: Vec<Message> = (first..last).map(&message).collect();
        apply(client, &messages)?;
    }
    Ok(())
}

/// The key of the row of that number: anywhere, and no row's of a round.
fn scattered(n: u64) -> u64 {
    2 * (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12)
}

/// How often as long calls take in a full database, on new rows and on updates.
fn compare(full: Full, guard: &str) -> Result<(f64, f64)> {
    let names = ["pg_sequin_bench_empty", "pg_sequin_bench_full"];
    let mut clients = Vec::new();
    for name in names {
        let mut client = common::database(name)?;
        create_table(&mut client, "item", guard)?;
        clients.push(client);
    }
    full.fill(&mut clients[1], guard)?;
    let mut random = Random::new(1);
    let (mut there, mut lsn) = (Vec::new(), 1_000_000_000);
    let (mut new, mut exist) = (Vec::new(), Vec::new());
    for round in 0..WARM_UP + ROUNDS {
        let mut inserts = Vec::new();
        for _ in 0..BATCH {
            lsn += 1;
            let id = scattered(lsn) + 1;
            there.push(id);
            inserts.push(change("insert", "item", lsn, id));
        }
        let mut updates = Vec::new();
        for _ in 0..BATCH {
            lsn += 1;
            updates.push(change("update", "item", lsn, *random.of(&there)));
        }
        for (messages, ratios) in [(&inserts, &mut new), (&updates, &mut exist)] {
            let mut took = [0.0; 2];
            // the first of the two is another one in each round
            for n in [round % 2, 1 - round % 2] {
                took[n] = apply(&mut clients[n], messages)?;
            }
            if round >= WARM_UP {
                ratios.push(took[1] / took[0]);
            }
        }
    }
    drop(clients);
    Ok((median(new), median(exist)))
}
