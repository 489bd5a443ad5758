//! The marked sections of the pages.

use crate::figures::{Figures, WAYS, Way};
use serde_json::Value;

/// A section's name, and its text.
type Sections = Vec<(&'static str, String)>;

/// The page with this text between the marks of the section.
pub fn replace(page: &str, section: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- figures: {section} -->\n"),
        format!("<!-- end of figures: {section} -->"),
    );
    let from = page.find(&begin).unwrap_or_else(|| panic!("no {begin}")) + begin.len();
    let to = from
        + page[from..]
            .find(&end)
            .unwrap_or_else(|| panic!("no {end}"));
    format!("{}{text}{}", &page[..from], &page[to..])
}

/// A number with commas between its thousands, of three digits that mean something.
pub fn thousands(figure: f64) -> String {
    let scale = 10_f64.powi((figure.max(1.0).log10().floor() as i32 - 2).max(0));
    let digits = format!("{:.0}", (figure / scale).round() * scale);
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn cell(figure: Option<f64>, write: impl Fn(f64) -> String) -> String {
    figure.map_or("–".to_owned(), write)
}

fn short(figure: f64) -> String {
    match figure {
        figure if figure < 100.0 => format!("{figure:.1}"),
        figure => thousands(figure),
    }
}

/// New rows and rows that exist.
fn both(figures: &Figures, way: &Way, name: &str, write: impl Fn(f64) -> String) -> String {
    let of = |rows| cell(figures.figure(way, rows, name), &write);
    format!("{} / {}", of("new"), of("exist"))
}

fn measured<'a>(figures: &'a Figures) -> impl Iterator<Item = &'static Way> + use<'a> {
    WAYS.iter()
        .filter(|way| figures.figure(way, "new", "us_per_message").is_some())
}

fn machine(figures: &Figures) -> String {
    let version = figures.server("server");
    let version: Vec<&str> = version.split(' ').take(2).collect();
    format!(
        "{}, {}, commit {}",
        version.join(" "),
        figures.about("machine"),
        figures.about("commit")
    )
}

/// Those that take less time of the server's CPU than the extension with this guard, for new rows or rows that exist.
fn cheaper(figures: &Figures, guard: &str) -> Vec<&'static Way> {
    let ours = WAYS.iter().find(|way| way.guard == Some(guard));
    let wins = |way: &&'static Way| {
        ["new", "exist"].iter().any(|rows| {
            let cpu = |way| figures.figure(way, rows, "cpu_us_per_message");
            matches!((cpu(way), ours.and_then(cpu)), (Some(peer), Some(ours)) if peer < ours)
        })
    };
    measured(figures)
        .filter(|way| way.guard.is_none() && way.contender != "floor")
        .filter(wins)
        .collect()
}

/// README.md's.
pub fn readme(figures: &Figures) -> Sections {
    let mut text = String::from(
        "| new rows / rows that exist | messages/s | server CPU, µs a message | WAL, bytes a message | wrong rows |\n|---|---|---|---|---|\n",
    );
    for way in measured(figures) {
        text += &format!(
            "| {} | {} | {} | {} | {} |\n",
            way.name,
            both(figures, way, "messages_per_second", thousands),
            both(figures, way, "cpu_us_per_message", short),
            both(figures, way, "wal_bytes_per_message", thousands),
            figures
                .ending(way)
                .map_or("–".to_owned(), |(wrong, rows)| format!(
                    "{wrong} of {rows}"
                )),
        );
    }
    let lost = |guard| {
        let names: Vec<&str> = cheaper(figures, guard).iter().map(|way| way.name).collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join("; "),
        }
    };
    text += &format!(
        "\nLess server CPU than guard `columns`: {}. Than guard `table`: {}.\nMeasured with {}.\n",
        lost("columns"),
        lost("table"),
        machine(figures)
    );
    vec![("peers", text)]
}

/// Those of docs/explanation/performance.md.
pub fn performance(figures: &Figures) -> Sections {
    let mut peers = format!(
        "{}; settings: shared_buffers {}, wal_level {}, fsync {}.\n\n\
         | new rows / rows that exist | messages/s | × floor | on disk, messages/s | p50 of a call, ms | p99 | max |\n|---|---|---|---|---|---|---|\n",
        machine(figures),
        figures.server("shared_buffers"),
        figures.server("wal_level"),
        figures.server("fsync"),
    );
    for way in measured(figures) {
        let call = |name: &str| {
            let of = |rows| figures.of(way, "seven", 1000, rows)?["call_ms"][name].as_f64();
            format!("{} / {}", cell(of("new"), short), cell(of("exist"), short))
        };
        peers += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            way.name,
            both(figures, way, "messages_per_second", thousands),
            both(figures, way, "ratio_to_floor", short),
            both(figures, way, "messages_per_second_on_disk", thousands),
            call("p50"),
            call("p99"),
            call("max"),
        );
    }
    vec![
        ("peers", peers),
        ("losses", losses(figures)),
        ("batches", batches(figures)),
        ("shapes", shapes(figures)),
        ("works", cases(figures, "works")),
        ("growth", cases(figures, "growth")),
    ]
}

fn losses(figures: &Figures) -> String {
    let mut text = String::new();
    for guard in ["columns", "table"] {
        text += &format!("Less of the server's CPU than guard `{guard}`, in µs a message:\n\n");
        let peers = cheaper(figures, guard);
        if peers.is_empty() {
            text += "- none.\n";
        }
        for way in peers {
            let cpu = both(figures, way, "cpu_us_per_message", short);
            text += &format!("- {}, {cpu}: {}.\n", way.name, way.why);
        }
        text += "\n";
    }
    text
}

/// A column of a grid: its head, the table, and the size of the batches.
type Column = (String, &'static str, u64);

/// Microseconds a message by the size of the batch.
fn batches(figures: &Figures) -> String {
    let sizes = figures.batches("seven").into_iter();
    let columns = sizes.map(|size| {
        (
            format!("batches of {}", thousands(size as f64)),
            "seven",
            size,
        )
    });
    grid(figures, columns.collect())
}

/// Microseconds a message by the table.
fn shapes(figures: &Figures) -> String {
    let columns = [
        ("3 columns", "narrow"),
        ("7 columns, 1 kB", "seven"),
        ("60 columns, 5 kB", "wide"),
        ("3 columns, 20 kB", "toast"),
    ];
    let columns = columns.map(|(head, shape)| (head.to_owned(), shape, 1000));
    grid(figures, columns.to_vec())
}

/// A line for each way; columns of which nothing was measured are left out.
fn grid(figures: &Figures, mut columns: Vec<Column>) -> String {
    columns.retain(|(_, shape, batch)| figures.batches(shape).contains(batch));
    let heads: Vec<&str> = columns.iter().map(|(head, ..)| head.as_str()).collect();
    let mut text = format!(
        "| µs a message, new rows / rows that exist | {} |\n|{}\n",
        heads.join(" | "),
        "---|".repeat(columns.len() + 1)
    );
    for way in measured(figures) {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, shape, batch)| {
                let of = |rows| figures.of(way, shape, *batch, rows)?["us_per_message"].as_f64();
                format!("{} / {}", cell(of("new"), short), cell(of("exist"), short))
            })
            .collect();
        text += &format!("| {} | {} |\n", way.name, cells.join(" | "));
    }
    text
}

/// The cases of a bench, with the guards side by side.
fn cases(figures: &Figures, bench: &str) -> String {
    let cases = figures.cases(bench);
    let mut names: Vec<&str> = Vec::new();
    for name in cases.iter().filter_map(|one| one["case"].as_str()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return "Not part of this run.\n".to_owned();
    }
    let mut text =
        String::from("| | guard `off` | guard `columns` | guard `table` |\n|---|---|---|---|\n");
    for name in names {
        let of = |guard: &str| {
            let case = cases
                .iter()
                .find(|one| one["case"] == name && one["guard"] == guard);
            case.map_or("–".to_owned(), figure)
        };
        text += &format!(
            "| {name} | {} | {} | {} |\n",
            of("off"),
            of("columns"),
            of("table")
        );
    }
    text
}

fn figure(case: &Value) -> String {
    let value = case["figure"].as_f64().unwrap_or(f64::NAN);
    match case["unit"].as_str() {
        Some("×") | None => format!("{value:.2} ×"),
        Some(unit) => format!("{} {unit}", short(value)),
    }
}
