//! What letters that wait cost, and how fast they heal: `make bench BENCH=waiting`. `ARGS='--rows 10000 --only chain'` runs
//! fewer rows, or the cases whose name contains that.
//!
//! | case | delivered |
//! |---|---|
//! | idle | 1,000 messages that heal nothing, while so many letters wait |
//! | parents | children, each with a parent of its own, before all parents |
//! | one parent | children of one parent before it |
//! | chain, tree | the shuffled rows of a table that refers to itself, inserts and then deletes, by the size of the batch |
//! | ring | the shuffled rows of a table that refers to itself, in a circle |
//!
//! A case ends when no letter is left, or when calls bring it no further. Chains and trees are compared with the same
//! messages for a table without the foreign key.

#![forbid(unsafe_code)]

mod common;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use postgres::Client;
use support::{batch, message};

/// Errors end the benchmark; nobody tells them apart.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a call may take.
const MOST: Duration = Duration::from_secs(1);

/// How often as long as without letters a call may take that heals nothing.
const MOST_IDLE: f64 = 1.2;

/// How often as long as without the foreign key chains and trees may take.
const MOST_TREE: f64 = 3.0;

const TABLES: &str = "
    create table item (id bigint primary key, note text);
    create table parent (id bigint primary key, note text);
    create table child (id bigint primary key, parent_id bigint references parent, note text);
    create index on child (parent_id);
    create table node (id bigint primary key, up bigint references node, note text);
    create index on node (up);
    create table loose (id bigint primary key, up bigint, note text);
    create index on loose (up);
    select sequin.map('public.' || t, t::regclass, guard => 'table') from unnest(array['item', 'parent', 'child', 'node', 'loose']) t";

fn main() -> ExitCode {
    common::run(bench)
}

fn bench(arguments: &[String]) -> Result<bool> {
    let option = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    let rows: usize = option("--rows").map_or(Ok(100_000), |rows| rows.parse())?;
    let only = option("--only").map_or("", String::as_str);
    println!(
        "{:<34}{:>8}{:>10}{:>13}{:>10}{:>9}{:>8}",
        "case", "calls", "total s", "slowest ms", "rows/s", "letters", "ratio"
    );
    let mut met = true;
    if "idle".contains(only) {
        met &= idle(rows)?;
    }
    if "parents".contains(only) {
        met &= parents(rows)?;
    }
    if "one parent".contains(only) {
        met &= one_parent(rows)?;
    }
    for (shape, up) in [("chain", chain as Up), ("tree", tree)] {
        for (rows, size) in [(300, 100), (3_000, 1), (3_000, 100), (rows, 1_000)] {
            if shape.contains(only) {
                met &= itself(shape, up, rows, size)?;
            }
        }
    }
    for (rows, size) in [
        (1_000, 1_000),
        (1_000, 100),
        (10_000, 10_000),
        (10_000, 1_000),
    ] {
        if "ring".contains(only) {
            met &= ring(rows, size)?;
        }
    }
    println!(
        "\nno call over 1 s, no letter left, idle at most {MOST_IDLE}, chain and tree at most {MOST_TREE}: {}",
        if met { "ok" } else { "MISSED" }
    );
    Ok(met)
}

/// The row that a row refers to, of so many.
type Up = fn(usize, usize) -> Option<usize>;

fn chain(row: usize, _: usize) -> Option<usize> {
    row.checked_sub(1)
}

fn tree(row: usize, _: usize) -> Option<usize> {
    row.checked_sub(1).map(|row| row / 3)
}

fn circle(row: usize, rows: usize) -> Option<usize> {
    Some((row + 1) % rows)
}

/// A database of its own, and what its calls took.
struct Run {
    client: Client,
    lsn: u64,
    calls: usize,
    total: Duration,
    slowest: Duration,
}

impl Run {
    fn new() -> Result<Run> {
        let mut client = common::database("pg_sequin_bench_waiting")?;
        client.batch_execute(TABLES)?;
        Ok(Run {
            client,
            lsn: 0,
            calls: 0,
            total: Duration::ZERO,
            slowest: Duration::ZERO,
        })
    }

    fn message(
        &mut self,
        action: &str,
        table: &str,
        id: usize,
        refers: Option<(&str, usize)>,
    ) -> String {
        self.lsn += 1;
        let refers = refers.map_or(String::new(), |(name, to)| format!(r#""{name}":{to},"#));
        let note = "a note of some length, as rows have one. ".repeat(4);
        let record = format!(r#"{{"id":{id},{refers}"note":"{note}"}}"#);
        message(action, table, self.lsn, &record)
    }

    /// Applies a batch.
    fn apply(&mut self, messages: &[String]) -> Result<Duration> {
        let body = batch(messages);
        let start = Instant::now();
        self.client
            .query_one("select dead from sequin_apply($1)", &[&body])?;
        let took = start.elapsed();
        self.calls += 1;
        self.total += took;
        self.slowest = self.slowest.max(took);
        Ok(took)
    }

    fn apply_all(&mut self, messages: &[String], size: usize) -> Result<()> {
        messages
            .chunks(size)
            .try_for_each(|chunk| self.apply(chunk).map(drop))
    }

    /// Applies messages that concern nobody until no letter is left, or until that does not help.
    fn drain(&mut self) -> Result<i64> {
        let mut left = self.letters()?;
        let mut in_vain = 0;
        while left > 0 && in_vain < 5 {
            let message = self.message("update", "item", 1, None);
            self.apply(&[message])?;
            let now = self.letters()?;
            in_vain = if now < left { 0 } else { in_vain + 1 };
            left = now;
        }
        Ok(left)
    }

    fn letters(&mut self) -> Result<i64> {
        let counted = self
            .client
            .query_one("select count(*) from sequin.dead_letter", &[])?;
        Ok(counted.get(0))
    }

    fn count(&mut self, table: &str) -> Result<i64> {
        let counted = self
            .client
            .query_one(&format!("select count(*) from {table}"), &[])?;
        Ok(counted.get(0))
    }

    /// Prints a line. Returns whether the case met what is asked.
    fn report(&mut self, case: &str, rows: usize, ratio: Option<(f64, f64)>) -> Result<bool> {
        let left = self.letters()?;
        println!(
            "{case:<34}{:>8}{:>10.2}{:>13.1}{:>10.0}{left:>9}{:>8}",
            self.calls,
            self.total.as_secs_f64(),
            self.slowest.as_secs_f64() * 1000.0,
            rows as f64 / self.total.as_secs_f64(),
            ratio.map_or(String::new(), |(ratio, _)| format!("{ratio:.2}")),
        );
        Ok(left == 0 && self.slowest <= MOST && ratio.is_none_or(|(ratio, most)| ratio <= most))
    }

    /// Prints a line of a part that nothing is asked of.
    fn slowest_line(&mut self, case: &str) -> Result<()> {
        let rows = self.calls * 1_000;
        self.report(case, rows, None).map(drop)
    }

    fn reset(&mut self) {
        (self.calls, self.total, self.slowest) = (0, Duration::ZERO, Duration::ZERO);
    }
}

/// Letters that wait for parents which do not come, and calls that bring other rows.
fn idle(rows: usize) -> Result<bool> {
    let mut run = Run::new()?;
    let mut met = true;
    let (mut waiting, mut next) = (0, 1_000_000);
    let mut base: Vec<f64> = Vec::new();
    for letters in [0, 1_000, rows] {
        let messages: Vec<String> = (waiting..letters)
            .map(|id| run.message("insert", "child", id, Some(("parent_id", id))))
            .collect();
        run.apply_all(&messages, 1_000)?;
        waiting = letters;
        for (n, table) in ["item", "parent"].into_iter().enumerate() {
            let mut took: Vec<f64> = Vec::new();
            for _ in 0..22 {
                let messages: Vec<String> = (0..1_000)
                    .map(|id| run.message("insert", table, next + id, None))
                    .collect();
                next += 1_000;
                took.push(run.apply(&messages)?.as_secs_f64() * 1000.0);
            }
            let took = median(took[2..].to_vec());
            if letters == 0 {
                base.push(took);
            }
            let ratio = took / base[n];
            println!(
                "{:<34}{took:>31.2}{:>27.2}",
                format!("idle {table}, {letters} letters"),
                ratio
            );
            met &= ratio <= MOST_IDLE;
        }
    }
    Ok(met)
}

fn parents(rows: usize) -> Result<bool> {
    let mut run = Run::new()?;
    let children: Vec<String> = (0..rows)
        .map(|id| run.message("insert", "child", id, Some(("parent_id", id))))
        .collect();
    run.apply_all(&children, 1_000)?;
    run.slowest_line("children before")?;
    let parents: Vec<String> = (0..rows)
        .map(|id| run.message("insert", "parent", id, None))
        .collect();
    run.reset();
    run.apply_all(&parents, 1_000)?;
    run.slowest_line("their parents")?;
    run.drain()?;
    let met = run.report("parents, healed", rows, None)?;
    Ok(met && run.count("child")? == rows as i64)
}

fn one_parent(rows: usize) -> Result<bool> {
    let mut run = Run::new()?;
    let children: Vec<String> = (0..rows)
        .map(|id| run.message("insert", "child", id, Some(("parent_id", 1))))
        .collect();
    run.apply_all(&children, 1_000)?;
    run.slowest_line("children of one before")?;
    run.reset();
    let parent = run.message("insert", "parent", 1, None);
    run.apply(&[parent])?;
    run.drain()?;
    let met = run.report("one parent, healed", rows, None)?;
    Ok(met && run.count("child")? == rows as i64)
}

/// The order of so many things, shuffled.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 88_172_645_463_325_252_u64;
    for i in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(i, (state % (i as u64 + 1)) as usize);
    }
    order
}

fn itself(shape: &str, up: Up, rows: usize, size: usize) -> Result<bool> {
    let mut run = Run::new()?;
    let mut met = true;
    let order = shuffled(rows);
    for action in ["insert", "delete"] {
        let mut base = 0.0;
        for table in ["loose", "node"] {
            let messages: Vec<String> = order
                .iter()
                .map(|&id| run.message(action, table, id, up(id, rows).map(|to| ("up", to))))
                .collect();
            run.reset();
            run.apply_all(&messages, size)?;
            run.drain()?;
            let took = run.total.as_secs_f64();
            if table == "loose" {
                base = took;
            } else {
                let case = format!("{shape} of {rows} by {size}, {action}");
                met &= run.report(&case, rows, Some((took / base, MOST_TREE)))?;
            }
        }
        let left = if action == "insert" { rows as i64 } else { 0 };
        met &= run.count("node")? == left;
    }
    Ok(met)
}

fn ring(rows: usize, size: usize) -> Result<bool> {
    let mut run = Run::new()?;
    let mut met = true;
    for action in ["insert", "delete"] {
        let messages: Vec<String> = shuffled(rows)
            .into_iter()
            .map(|id| run.message(action, "node", id, circle(id, rows).map(|to| ("up", to))))
            .collect();
        run.reset();
        run.apply_all(&messages, size)?;
        run.drain()?;
        met &= run.report(&format!("ring of {rows} by {size}, {action}"), rows, None)?;
        let left = if action == "insert" { rows as i64 } else { 0 };
        met &= run.count("node")? == left;
    }
    Ok(met)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
