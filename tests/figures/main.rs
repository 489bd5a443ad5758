//! The figures of README.md and docs/explanation/performance.md, and the chart, are what docs/figures.json says.
//! `make figures` takes that file from target/bench.json, where `make bench` put it, and writes all of them. No server
//! is needed.

#![forbid(unsafe_code)]

mod chart;
mod figures;
mod pages;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use figures::Figures;
use serde_json::Value;

/// What `make figures` sets.
const UPDATE: &str = "UPDATE_FIGURES";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The benches' figures, without those of each round.
fn without_rounds(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(name, _)| !name.ends_with("_rounds"))
            .map(|(name, value)| (name, without_rounds(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_rounds).collect(),
        // no figure has more than four digits that mean something
        Value::Number(number) => match number.as_f64() {
            Some(figure) if !number.is_i64() && !number.is_u64() => {
                let digits = 3 - figure.abs().log10().floor() as i32;
                let scale = 10_f64.powi(digits.clamp(0, 6));
                ((figure * scale).round() / scale).into()
            }
            _ => Value::Number(number),
        },
        value => value,
    }
}

#[test]
fn pages_and_chart_have_the_figures_that_were_measured() {
    let update = env::var_os(UPDATE).is_some();
    if update {
        let measured = serde_json::from_str(&read("target/bench.json")).expect("JSON");
        let text = format!("{:#}\n", without_rounds(measured));
        fs::write(path("docs/figures.json"), text).expect("docs/figures.json");
    }
    let figures = Figures::new(serde_json::from_str(&read("docs/figures.json")).expect("JSON"));
    let mut wanted = vec![("docs/performance.svg", chart::draw(&figures))];
    for (name, sections) in [
        ("README.md", pages::readme(&figures)),
        (
            "docs/explanation/performance.md",
            pages::performance(&figures),
        ),
    ] {
        let mut page = read(name);
        for (section, text) in sections {
            page = pages::replace(&page, section, &text);
        }
        wanted.push((name, page));
    }
    for (name, text) in wanted {
        if update {
            fs::write(path(name), &text).expect("a file");
        }
        let found = fs::read_to_string(path(name)).unwrap_or_default();
        assert!(
            found == text,
            "{name} does not have the figures of docs/figures.json: run `make figures`"
        );
    }
}

/// A run of few contenders gives a table of few lines, not a failure.
#[test]
fn what_was_not_measured_is_left_out() {
    let figures = Figures::new(serde_json::json!({"commit": "c", "machine": "m"}));
    let sections = pages::readme(&figures);
    assert!(!sections.is_empty());
    assert!(chart::draw(&figures).contains("<svg"));
}
