//! What applying Sequin's messages costs, against the ways to do without the extension, and which of them end right.
//!
//! `make bench` runs it in a throw-away cluster with a release build; `ARGS='--help'` lists the arguments. It connects
//! as `PGHOST`, `PGPORT`, `PGUSER` and `PGDATABASE` say, and works in databases of its own, which it drops. The figures
//! are printed, and written to `target/bench.json`.
//!
//! Every contender writes the same changes into a table of its own, in runs that are interleaved: each round runs all
//! of them once, in shuffled order, first with new rows, then with updates of the same rows. Ratios are taken within a
//! round and their median is reported, so that noise which lasts longer than a round cancels out.

#![forbid(unsafe_code)]

mod arena;
mod arguments;
mod client;
#[path = "../common/clock.rs"]
mod clock;
mod contender;
mod ending;
#[path = "../common/figures.rs"]
mod figures;
mod measured;
mod peer;
mod random;
mod replication;
mod report;
mod session;
mod shape;
mod table;
mod targets;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use arena::{Arena, Server};
use arguments::{Arguments, Asked};
use contender::Contender;
use measured::Measured;
use shape::Shape;
use workload::Workload;

/// Errors end the benchmark; nobody tells them apart.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let done = match arguments::read(std::env::args().skip(1)) {
        Ok(Asked::Bench(arguments)) => bench(&arguments),
        Ok(Asked::Say(text)) => {
            println!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| {
        eprintln!("bench: {}", explain(error.as_ref()));
        ExitCode::FAILURE
    })
}

fn bench(arguments: &Arguments) -> Result<ExitCode> {
    let server = Server::from_environment()?;
    let mut all = Vec::new();
    for &shape in &arguments.shapes {
        let mut figures = Figures::new(shape);
        for &batch in arguments.batches_of(shape) {
            measure(arguments, &server, batch, &mut figures)?;
        }
        all.push(figures);
    }
    let mut endings = Vec::new();
    if arguments.corpora {
        eprintln!("the corpora in the order of their delivery");
        for contender in Contender::all(&arguments.guards).filter(|one| arguments.runs(one)) {
            endings.extend(ending::of(&server, contender)?);
        }
    }
    let seven = all.iter().find(|figures| figures.shape == "seven");
    let verdicts = seven.map_or(Vec::new(), |figures| targets::judge(&figures.lazy));
    report::print(&all, &verdicts, &endings);
    report::write(arguments, &all, &verdicts, &endings)?;
    let met = verdicts.iter().all(|verdict| verdict.met() != Some(false))
        && all.iter().all(|figures| figures.lazy.skipped.is_empty());
    Ok(if met || !arguments.check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What was measured of one table.
struct Figures {
    shape: &'static str,
    /// Where commits do not wait for the disk.
    lazy: Measured,
    /// Where they do.
    durable: Measured,
}

impl Figures {
    fn new(shape: &'static str) -> Figures {
        Figures {
            shape,
            lazy: Measured::default(),
            durable: Measured::default(),
        }
    }
}

/// Runs all rounds of one size of batch.
fn measure(
    arguments: &Arguments,
    server: &Server,
    batch: usize,
    figures: &mut Figures,
) -> Result<()> {
    let shape = Shape::named(figures.shape)?;
    let rows = arguments.rows(&shape, batch);
    let workload = Workload::new(shape, batch, rows)?;
    let measured = &mut figures.lazy;
    measured
        .message_bytes
        .push((batch, workload.mean_message_bytes()));
    let contenders: Vec<Contender> = Contender::all(&arguments.guards)
        .filter(|one| arguments.runs(one) && one.takes(batch))
        .collect();
    let mut arena = Arena::new(server, &workload, &contenders)?;
    measured.skip(arena.skipped());
    for round in 0..=arguments.rounds {
        let about = match round {
            0 => "warming up".to_owned(),
            _ => format!("round {round}"),
        };
        eprintln!("{}, batch {batch}: {about}", figures.shape);
        let samples = arena.round(round, false)?;
        if round > 0 {
            measured.add(samples);
        }
    }
    for round in 1..=arguments.durable {
        eprintln!("{}, batch {batch}: round {round} on disk", figures.shape);
        figures.durable.add(arena.round(round, true)?);
    }
    measured.server = arena.describe_server()?;
    Ok(())
}

/// An error with all that the server said about it.
fn explain(error: &(dyn Error + 'static)) -> String {
    let Some(said) = error
        .downcast_ref::<postgres::Error>()
        .and_then(postgres::Error::as_db_error)
    else {
        return error.to_string();
    };
    let mut text = format!("{} {}", said.code().code(), said.message());
    for (label, more) in [
        ("DETAIL", said.detail()),
        ("HINT", said.hint()),
        ("CONTEXT", said.where_()),
    ] {
        if let Some(more) = more {
            text.push_str(&format!("\n{label}: {more}"));
        }
    }
    text
}
