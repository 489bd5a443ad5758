//! What applying Sequin's messages costs, against the ways to do without the extension.
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
mod contender;
mod measured;
mod report;
mod session;
mod targets;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use arena::{Arena, Server};
use arguments::{Arguments, Asked};
use contender::Contender;
use measured::Measured;
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
    let server = Server::from_environment(arguments.durable)?;
    let mut measured = Measured::default();
    for &batch in &arguments.batches {
        let workload = Workload::new(batch, arguments.rows(batch))?;
        measured
            .message_bytes
            .push((batch, workload.mean_message_bytes()));
        let contenders: Vec<Contender> = Contender::all(&arguments.guards)
            .filter(|one| arguments.runs(one) && one.takes(batch))
            .collect();
        let mut arena = Arena::new(&server, &workload, &contenders)?;
        measured.skip(arena.skipped());
        for round in 0..=arguments.rounds {
            eprintln!(
                "batch {batch}: {}",
                if round == 0 {
                    "warming up".into()
                } else {
                    format!("round {round}")
                }
            );
            let samples = arena.round(round)?;
            if round > 0 {
                measured.add(samples);
            }
        }
        measured.server = arena.describe_server()?;
    }
    let verdicts = targets::judge(&measured);
    report::print(&measured, &verdicts);
    report::write(arguments, &measured, &verdicts)?;
    let met =
        verdicts.iter().all(|verdict| verdict.met() != Some(false)) && measured.skipped.is_empty();
    Ok(if met || !arguments.check {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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
