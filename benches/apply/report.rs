//! The figures, for people on standard output and for programs in `target/bench.json`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::Result;
use super::arguments::Arguments;
use super::contender::Guard;
use super::measured::{Clock, Measured};
use super::targets::Verdict;
use super::workload::Phase;

/// Prints the tables and the verdicts.
pub fn print(measured: &Measured, verdicts: &[Verdict]) {
    for (name, value) in &measured.server {
        println!("{name:<22} {value}");
    }
    for (batch, bytes) in &measured.message_bytes {
        println!("{:<22} {bytes:.0} bytes", format!("message, batch {batch}"));
    }
    println!(
        "\nMicroseconds per message, medians and best of the rounds; ratios are medians of each round's ratio."
    );
    println!(
        "wall: as the client waits; cpu: the server process on a CPU; x text: to text/off in the same place."
    );
    let mut group = None;
    for series in &measured.series {
        let first = series.first;
        if group != Some((first.batch, first.phase)) {
            group = Some((first.batch, first.phase));
            let rows = if first.phase == Phase::New {
                "new rows"
            } else {
                "rows that exist"
            };
            println!(
                "\nbatch {}, {rows}: {} rows × {} rounds",
                first.batch,
                first.rows,
                series.rounds(Clock::Wall).len()
            );
            println!(
                "{:<14}{:<8}{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
                "contender", "from", "guard", "wall", "min", "x floor", "x text", "cpu", "x floor"
            );
        }
        let cells = [
            series.median(Clock::Wall),
            series.min(Clock::Wall),
            measured.to_floor(series, Clock::Wall),
            measured.to_text(series, Clock::Wall),
            series.median(Clock::Cpu),
            measured.to_floor(series, Clock::Cpu),
        ];
        let cells: String = cells.map(|cell| format!("{:>9}", figure(cell))).concat();
        let guard = first.contender.guard.map_or("", Guard::name);
        println!(
            "{:<14}{:<8}{guard:<8}{cells}",
            first.contender.name(),
            first.contender.place.name()
        );
    }
    println!(
        "\n{:<34}{:<7}{:>15}{:>9}{:>9}",
        "target", "rows", "ratio", "wall", "cpu"
    );
    for verdict in verdicts {
        println!(
            "{:<34}{:<7}{:>15}{:>9}{:>9}  {}",
            verdict.target,
            verdict.phase.name(),
            verdict.bound(),
            figure(verdict.ratio),
            figure(verdict.cpu_ratio),
            word(verdict),
        );
    }
    for note in &measured.skipped {
        println!("skipped: {note}");
    }
}

/// Writes everything to `target/bench.json`.
pub fn write(arguments: &Arguments, measured: &Measured, verdicts: &[Verdict]) -> Result<()> {
    let series = measured.series.iter().map(|series| {
        let first = series.first;
        json!({
            "contender": first.contender.name(),
            "from": first.contender.place.name(),
            "guard": first.contender.guard.map(Guard::name),
            "batch": first.batch,
            "rows": first.phase.name(),
            "rows_per_round": first.rows,
            "us_per_message": series.median(Clock::Wall),
            "us_per_message_min": series.min(Clock::Wall),
            "us_per_message_rounds": series.rounds(Clock::Wall),
            "cpu_us_per_message": series.median(Clock::Cpu),
            "cpu_us_per_message_rounds": series.rounds(Clock::Cpu),
            "ratio_to_floor": measured.to_floor(series, Clock::Wall),
            "ratio_to_text": measured.to_text(series, Clock::Wall),
            "cpu_ratio_to_floor": measured.to_floor(series, Clock::Cpu),
            "cpu_ratio_to_text": measured.to_text(series, Clock::Cpu),
        })
    });
    let targets = verdicts.iter().map(|verdict| {
        json!({
            "target": verdict.target,
            "rows": verdict.phase.name(),
            "bound": verdict.bound(),
            "ratio": verdict.ratio,
            "cpu_ratio": verdict.cpu_ratio,
            "verdict": word(verdict),
        })
    });
    let pairs = |pairs: &[(String, String)]| -> Value {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect()
    };
    let bytes = |&(batch, bytes): &(usize, f64)| (batch.to_string(), Value::from(bytes));
    let all = json!({
        "commit": commit(),
        "server": pairs(&measured.server),
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "durable": arguments.durable,
        "mean_message_bytes": measured.message_bytes.iter().map(bytes).collect::<Value>(),
        "series": series.collect::<Value>(),
        "targets": targets.collect::<Value>(),
        "skipped": measured.skipped,
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    fs::create_dir_all(&path)?;
    let path = path.join("bench.json");
    fs::write(&path, format!("{all:#}\n"))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict.met() {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "not measured",
    }
}

fn figure(figure: Option<f64>) -> String {
    figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"))
}

/// The commit that the tree is at, where git can say it.
fn commit() -> Option<String> {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty", "--tags"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()?;
    let text = String::from_utf8(git.stdout).ok()?;
    (git.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
