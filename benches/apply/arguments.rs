//! The command line.

use super::Result;
use super::contender::{Contender, Guard};
use super::shape::Shape;

/// The batch sizes that are measured unless `--batch` says otherwise.
const BATCHES: [usize; 2] = [1000, 1];

/// How many bytes the rows of a run have at most, about.
const MOST_BYTES: usize = 40_000_000;

/// What `--help` says.
const HELP: &str = "\
make bench ARGS='…', or cargo bench --bench apply -- …

  --rounds N        rounds that count (5); one more is run first, to warm up
  --quick           a smoke run: 1 round, a tenth of the rows; its figures mean little
  --only NAME,…     only floor (always run) and these: text, jsonb, replication, plain_sql, unnest, copy, executemany,
                    guide, prepared_row
  --batch N,…       these batch sizes, of any size (1000,1)
  --shape NAME,…    these tables (seven): narrow, seven, wide, toast; all but the first with the first batch size alone
  --guards NAME,…   only these guards: off, columns, table
  --durable N       so many rounds more in which commits wait for the disk (2)
  --no-corpora      do not ask which ways end right
  --check           exit with 1 if a target is missed or a guard cannot be measured";

/// What the command line asks for.
#[derive(Debug)]
pub enum Asked {
    /// A run.
    Bench(Arguments),
    /// No run, but this text.
    Say(String),
}

/// How to run.
#[derive(Debug)]
pub struct Arguments {
    /// Rounds that count.
    pub rounds: usize,
    /// A smoke run.
    pub quick: bool,
    /// Names of the contenders to run beside the floor; empty for all.
    pub only: Vec<String>,
    /// Batch sizes, in messages.
    pub batches: Vec<usize>,
    /// Guards under which `sequin_apply(text)` runs.
    pub guards: Vec<Guard>,
    /// The tables.
    pub shapes: Vec<&'static str>,
    /// Rounds in which commits wait for the disk.
    pub durable: usize,
    /// Whether the corpora are delivered.
    pub corpora: bool,
    /// Whether a missed target is a failure.
    pub check: bool,
}

impl Arguments {
    /// How many rows a timed run of that batch size writes.
    pub fn rows(&self, shape: &Shape, batch: usize) -> usize {
        let rows = match batch {
            0..10 => 2_000,
            10..100 => 5_000,
            _ => 20_000,
        };
        let rows = if self.quick { rows / 10 } else { rows };
        rows.min(MOST_BYTES / shape.bytes()).max(batch)
    }

    /// The sizes of batches of a table: beside the first table, only the first.
    pub fn batches_of(&self, shape: &str) -> &[usize] {
        match self.shapes.first() == Some(&shape) {
            true => &self.batches,
            false => &self.batches[..1],
        }
    }

    /// Whether this contender was asked for.
    pub fn runs(&self, contender: &Contender) -> bool {
        contender.is_floor()
            || self.only.is_empty()
            || self.only.iter().any(|name| name == contender.name())
    }
}

/// Reads the arguments; `cargo bench` adds a `--bench` to those that it is given.
pub fn read(given: impl Iterator<Item = String>) -> Result<Asked> {
    let mut arguments = Arguments {
        rounds: 0,
        quick: false,
        only: Vec::new(),
        batches: BATCHES.to_vec(),
        guards: Guard::ALL.to_vec(),
        shapes: vec!["seven"],
        durable: 2,
        corpora: true,
        check: false,
    };
    let mut benching = false;
    let mut given = given.peekable();
    while let Some(argument) = given.next() {
        let mut value = || {
            given
                .next()
                .ok_or_else(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--bench" => benching = true,
            "--quick" => arguments.quick = true,
            "--no-corpora" => arguments.corpora = false,
            "--durable" => arguments.durable = value()?.parse()?,
            "--shape" => {
                arguments.shapes = value()?
                    .split(',')
                    .map(|name| Ok(Shape::named(name)?.name))
                    .collect::<Result<_>>()?
            }
            "--check" => arguments.check = true,
            "--rounds" => arguments.rounds = at_least_one(&value()?)?,
            "--batch" => {
                arguments.batches = value()?
                    .split(',')
                    .map(at_least_one)
                    .collect::<Result<_>>()?
            }
            "--guards" => {
                arguments.guards = value()?
                    .split(',')
                    .map(Guard::parse)
                    .collect::<Result<_>>()?
            }
            "--only" => {
                for name in value()?.split(',') {
                    if !Contender::all(&Guard::ALL).any(|contender| contender.name() == name) {
                        return Err(format!("there is no contender {name:?}\n\n{HELP}").into());
                    }
                    arguments.only.push(name.to_owned());
                }
            }
            "--help" | "-h" => return Ok(Asked::Say(HELP.to_owned())),
            _ => return Err(format!("unknown argument {argument:?}\n\n{HELP}").into()),
        }
    }
    if arguments.rounds == 0 {
        arguments.rounds = if arguments.quick { 1 } else { 5 };
    }
    // `cargo test --all-targets` runs benchmarks too, without that argument.
    if !benching {
        return Ok(Asked::Say(format!(
            "not run: this is not cargo bench\n\n{HELP}"
        )));
    }
    Ok(Asked::Bench(arguments))
}

fn at_least_one(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is not a number above 0").into()),
    }
}
