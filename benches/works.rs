//! What other work costs than new rows of one table: `make bench BENCH=works`. `ARGS='--rounds 3 --megabytes 10'` is
//! quicker. Sizes of batches and rows are `ARGS='--batch 1,10,100 --shape wide,toast'` of `make bench`; messages that
//! fail, `BENCH=failures`; several sessions, `BENCH=sessions`.
//!
//! Each round applies a batch of 1000 new rows of one table, and then the batches of 1000 that are compared with it: by
//! the time that the server's process was on a CPU.

#![forbid(unsafe_code)]

#[path = "common/clock.rs"]
mod clock;
mod common;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/item.rs"]
mod item;

use std::process::ExitCode;
use std::time::Instant;

use item::{Report, Result, apply, change, create_table, median};
use postgres::Client;
use support::{GUARDS, Message, Random, batch, peak_memory};

const DATABASE: &str = "pg_sequin_bench_works";

const BATCH: usize = 1_000;

/// How many tables there are beside the first.
const TABLES: usize = 200;

const AGAIN: &str = "the same batch again";

/// A kind of work: its name, what it may take at most under a guard, and how its batch is made.
type Work = (&'static str, Option<f64>, fn(&mut Source) -> Vec<Message>);

const WORKS: [Work; 8] = [
    // a batch is known again by the versions of its rows
    (AGAIN, Some(0.3), |source| source.last.clone()),
    ("updates at random", None, |source| {
        source.batch(|s, _| s.update())
    }),
    ("80% inserts, 15% updates, 5% deletes", None, |source| {
        source.batch(|s, _| s.mixed())
    }),
    ("new rows of 20 tables", None, |source| {
        source.batch(|s, n| s.table(n % 20))
    }),
    ("new rows of 200 tables", None, |source| {
        source.batch(|s, n| s.table(n % 200))
    }),
    (
        "updates of documents of 20 kB, which are not sent",
        None,
        |source| source.batch(|s, _| s.unchanged()),
    ),
    ("one message of 1000 fails", Some(1.5), |source| {
        source.failing(1)
    }),
    ("10 messages of 1000 fail", None, |source| {
        source.failing(10)
    }),
];

fn main() -> ExitCode {
    common::run(bench)
}

fn bench(arguments: &[String]) -> Result<bool> {
    let number = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        let given = at.and_then(|at| arguments.get(at + 1));
        given.map_or(Ok(default), |text| text.parse())
    };
    let (rounds, megabytes) = (number("--rounds", 9)?, number("--megabytes", 100)?);
    let mut report = Report::default();
    for guard in GUARDS {
        let mut client = common::database(DATABASE)?;
        create_tables(&mut client, guard)?;
        works(&mut client, guard, rounds, &mut report)?;
        cold(guard, rounds, &mut report)?;
        memory(guard, megabytes, &mut report)?;
    }
    report.finish("works")
}

fn create_tables(client: &mut Client, guard: &str) -> Result<()> {
    create_table(client, "item", guard)?;
    for n in 0..TABLES {
        create_table(client, &format!("item_{n}"), guard)?;
    }
    client.batch_execute("create table document (id bigint primary key, title text, body text)")?;
    client.execute(
        "select sequin.map('public.document', 'document', guard => $1)",
        &[&guard],
    )?;
    Ok(())
}

fn works(client: &mut Client, guard: &str, rounds: usize, report: &mut Report) -> Result<()> {
    let mut source = Source::new();
    let documents = source.batch(|s, n| {
        let body = "a sentence of the document. ".repeat(750);
        s.document(n as u64 + 1, &body)
    });
    apply(client, &documents)?;
    let mut ratios = vec![Vec::new(); WORKS.len()];
    for round in 0..=rounds {
        let inserts = source.batch(|s, _| s.insert());
        let base = apply(client, &inserts)?;
        source.last = inserts;
        for ((_, _, make), ratios) in WORKS.iter().zip(&mut ratios) {
            let messages = make(&mut source);
            let took = apply(client, &messages)?;
            // the first round plans
            if round > 0 {
                ratios.push(took / base);
            }
        }
        client.batch_execute("truncate sequin.dead_letter")?;
    }
    for ((name, most, _), ratios) in WORKS.iter().zip(ratios) {
        let most = most.filter(|_| *name != AGAIN || guard != "off");
        report.add(name, guard, median(ratios), "×", most);
    }
    Ok(())
}

/// A session's first call, and its second, on a CPU.
fn cold(guard: &str, rounds: usize, report: &mut Report) -> Result<()> {
    let mut source = Source::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let mut client = common::connect(DATABASE)?;
        first.push(apply(&mut client, &[source.insert()])?);
        second.push(apply(&mut client, &[source.insert()])?);
    }
    report.add(
        "a session's first call, one message",
        guard,
        median(first),
        "ms",
        Some(10.0),
    );
    report.add(
        "its second call, one message",
        guard,
        median(second),
        "ms",
        None,
    );
    Ok(())
}

/// What a large batch takes of memory, over what the session had before.
fn memory(guard: &str, megabytes: usize, report: &mut Report) -> Result<()> {
    let mut source = Source::new();
    let mut messages = Vec::new();
    let mut bytes = 0;
    while bytes < megabytes * 1_000_000 {
        let message = source.insert();
        bytes += message.to_string().len() + 1;
        messages.push(message);
    }
    let body = batch(&messages);
    drop(messages);
    let mut client = common::connect(DATABASE)?;
    apply(&mut client, &[source.insert()])?;
    let process: String = client
        .query_one("select pg_backend_pid()::text", &[])?
        .try_get(0)?;
    let before = peak_memory(&process);
    let start = Instant::now();
    client.query_one("select sequin_apply($1)", &[&body])?;
    let took = start.elapsed().as_secs_f64();
    if let (Some(before), Some(after)) = (before, peak_memory(&process)) {
        let times = (after - before) as f64 * 1024.0 / body.len() as f64 - 1.0;
        let case = format!("memory for a batch of {megabytes} MB, beside itself");
        report.add(&case, guard, times, "× its size", Some(3.0));
    }
    let case = format!("a batch of {megabytes} MB");
    report.add(&case, guard, took, "s", None);
    Ok(())
}

/// Makes the messages.
struct Source {
    random: Random,
    lsn: u64,
    next: u64,
    there: Vec<u64>,
    last: Vec<Message>,
}

impl Source {
    fn new() -> Source {
        // no two sources have a row in common
        let start = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |time| time.as_millis() as u64);
        Source {
            random: Random::new(1),
            lsn: start,
            next: start * 1_000,
            there: Vec::new(),
            last: Vec::new(),
        }
    }

    fn batch(&mut self, mut make: impl FnMut(&mut Source, usize) -> Message) -> Vec<Message> {
        (0..BATCH).map(|n| make(self, n)).collect()
    }

    fn change(&mut self, action: &str, table: &str, id: u64) -> Message {
        self.lsn += 1;
        change(action, table, self.lsn, id)
    }

    fn insert(&mut self) -> Message {
        self.next += 1;
        self.there.push(self.next);
        self.change("insert", "item", self.next)
    }

    fn table(&mut self, n: usize) -> Message {
        self.next += 1;
        self.change("insert", &format!("item_{n}"), self.next)
    }

    fn update(&mut self) -> Message {
        let id = *self.random.of(&self.there);
        self.change("update", "item", id)
    }

    fn mixed(&mut self) -> Message {
        match self.random.below(100) {
            0..80 => self.insert(),
            80..95 => self.update(),
            _ => {
                let at = self.random.below(self.there.len() as u64) as usize;
                let id = self.there.swap_remove(at);
                self.change("delete", "item", id)
            }
        }
    }

    fn document(&mut self, id: u64, body: &str) -> Message {
        self.lsn += 1;
        let record = format!(
            r#"{{"id":{id},"title":"title {}","body":"{body}"}}"#,
            self.lsn
        );
        Message::new("update", "document", self.lsn, record).at(self.lsn)
    }

    fn unchanged(&mut self) -> Message {
        let id = 1 + self.random.below(BATCH as u64);
        self.document(id, "unchanged_toast")
    }

    /// New rows of which so many have a price that is no number.
    fn failing(&mut self, count: usize) -> Vec<Message> {
        self.batch(|source, n| {
            let mut message = source.insert();
            if n % (BATCH / count) == BATCH / count / 2 {
                source.there.pop();
                message.record = message.record.replace(".50\"", " euros\"");
            }
            message
        })
    }
}
