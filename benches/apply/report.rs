//! The figures, for people on standard output and for programs in `target/bench.json`.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::contender::Guard;
use super::ending::Ending;
use super::measured::{Clock, Measured, Series};
use super::targets::Verdict;
use super::workload::Phase;
use super::{Figures, Result, figures};

/// Prints the tables and the verdicts.
pub fn print(all: &[Figures], verdicts: &[Verdict], endings: &[Ending]) {
    if let Some(first) = all.first() {
        for (name, value) in &first.lazy.server {
            println!("{name:<22} {value}");
        }
    }
    println!(
        "\nMicroseconds per message, medians of the rounds; ratios are medians of each round's ratio.\n\
         wall: as the client waits; cpu: the server process on a CPU; x text: to text/off in the same place;\n\
         log: bytes of WAL per message; p50, p99, max: milliseconds of a call; on disk: messages a second where commits\n\
         wait for the disk."
    );
    for figures in all {
        for (batch, bytes) in &figures.lazy.message_bytes {
            println!(
                "{:<22} {bytes:.0} bytes",
                format!("{}, batch {batch}", figures.shape)
            );
        }
        series(figures);
        for note in &figures.lazy.skipped {
            println!("skipped: {note}");
        }
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
    println!(
        "\n{:<14}{:<8}{:>8}{:>8}{:>10}  first error",
        "ends right", "guard", "rows", "wrong", "refused"
    );
    for ending in endings {
        println!(
            "{:<14}{:<8}{:>8}{:>8}{:>10}  {}",
            ending.contender.name(),
            ending.contender.guard.map_or("", Guard::name),
            ending.rows,
            ending.wrong,
            ending.refused,
            ending
                .error
                .as_deref()
                .unwrap_or("")
                .lines()
                .next()
                .unwrap_or(""),
        );
    }
}

fn series(figures: &Figures) {
    let measured = &figures.lazy;
    let mut group = None;
    for series in &measured.series {
        let first = &series.first;
        if group != Some((first.batch, first.phase)) {
            group = Some((first.batch, first.phase));
            let rows = match first.phase {
                Phase::New => "new rows",
                Phase::Exist => "rows that exist",
            };
            println!(
                "\n{}, batch {}, {rows}: {} rows × {} rounds",
                figures.shape,
                first.batch,
                first.rows,
                series.rounds(Clock::Wall).len()
            );
            println!(
                "{:<14}{:<10}{:<8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
                "contender",
                "from",
                "guard",
                "wall",
                "x floor",
                "x text",
                "cpu",
                "x floor",
                "log",
                "p50",
                "p99",
                "max",
                "on disk"
            );
        }
        let cells = [
            series.median(Clock::Wall),
            measured.to_floor(series, Clock::Wall),
            measured.to_text(series, Clock::Wall),
            series.median(Clock::Cpu),
            measured.to_floor(series, Clock::Cpu),
            series.log(),
            series.call(50),
            series.call(99),
            series.call(100),
            on_disk(&figures.durable, series),
        ];
        let cells: String = cells.map(|cell| format!("{:>9}", figure(cell))).concat();
        println!(
            "{:<14}{:<10}{:<8}{cells}",
            first.contender.name(),
            first.contender.place.name(),
            first.contender.guard.map_or("", Guard::name),
        );
    }
}

/// Messages a second of the same contender where commits wait for the disk.
fn on_disk(durable: &Measured, series: &Series) -> Option<f64> {
    let first = &series.first;
    let series = durable.find(first.contender, first.batch, first.phase)?;
    Some(1e6 / series.median(Clock::Wall)?)
}

/// Writes everything to `target/bench.json`.
pub fn write(
    arguments: &Arguments,
    all: &[Figures],
    verdicts: &[Verdict],
    endings: &[Ending],
) -> Result<()> {
    let series = all.iter().flat_map(|figures| {
        let measured = &figures.lazy;
        measured.series.iter().map(move |series| {
            let first = &series.first;
            let per_second = series.median(Clock::Wall).map(|wall| 1e6 / wall);
            json!({
                "contender": first.contender.name(),
                "from": first.contender.place.name(),
                "guard": first.contender.guard.map(Guard::name),
                "shape": figures.shape,
                "batch": first.batch,
                "rows": first.phase.name(),
                "rows_per_round": first.rows,
                "us_per_message": series.median(Clock::Wall),
                "us_per_message_min": series.min(Clock::Wall),
                "us_per_message_rounds": series.rounds(Clock::Wall),
                "messages_per_second": per_second,
                "messages_per_second_on_disk": on_disk(&figures.durable, series),
                "cpu_us_per_message": series.median(Clock::Cpu),
                "cpu_us_per_message_rounds": series.rounds(Clock::Cpu),
                "wal_bytes_per_message": series.log(),
                "call_ms": {"p50": series.call(50), "p99": series.call(99), "max": series.call(100)},
                "ratio_to_floor": measured.to_floor(series, Clock::Wall),
                "ratio_to_text": measured.to_text(series, Clock::Wall),
                "cpu_ratio_to_floor": measured.to_floor(series, Clock::Cpu),
                "cpu_ratio_to_text": measured.to_text(series, Clock::Cpu),
            })
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
    let ends = endings.iter().map(|ending| {
        json!({
            "contender": ending.contender.name(),
            "guard": ending.contender.guard.map(Guard::name),
            "rows": ending.rows,
            "wrong": ending.wrong,
            "refused_requests": ending.refused,
            "first_error": ending.error,
        })
    });
    let server = all.first().map_or(Vec::new(), |first| {
        let facts = first.lazy.server.iter();
        facts
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect()
    });
    let bytes = all.iter().flat_map(|figures| {
        let bytes = figures.lazy.message_bytes.iter();
        bytes.map(|(batch, bytes)| json!({"shape": figures.shape, "batch": batch, "bytes": bytes}))
    });
    let skipped: Vec<&String> = all.iter().flat_map(|one| &one.lazy.skipped).collect();
    figures::record(
        "apply",
        json!({
            "server": server.into_iter().collect::<Value>(),
            "rounds": arguments.rounds,
            "quick": arguments.quick,
            "mean_message_bytes": bytes.collect::<Value>(),
            "series": series.collect::<Value>(),
            "targets": targets.collect::<Value>(),
            "ends": ends.collect::<Value>(),
            "skipped": skipped,
        }),
    )
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict.met() {
        Some(true) => "ok",
        Some(false) => "MISSED",
        None => "not measured",
    }
}

fn figure(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure >= 1000.0 => format!("{figure:.0}"),
        Some(figure) => format!("{figure:.2}"),
    }
}
