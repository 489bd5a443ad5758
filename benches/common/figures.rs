//! `target/bench.json`: what the benches measured of one commit, a member for each.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use serde_json::{Value, json};

/// Puts the figures of a bench into the file. What other benches measured stays if it is of this commit.
pub fn record(bench: &str, figures: Value) -> Result<(), Box<dyn Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    fs::create_dir_all(&directory)?;
    let path = directory.join("bench.json");
    let about = json!({"commit": commit(), "machine": machine()});
    let mut all = fs::read_to_string(&path)
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok())
        .filter(|all| all["commit"] == about["commit"] && all["machine"] == about["machine"])
        .unwrap_or(about);
    all[bench] = figures;
    fs::write(&path, format!("{all:#}\n"))?;
    println!("\nwritten to {}", path.display());
    Ok(())
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

/// What the machine is, as far as it says.
fn machine() -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("processor unknown", |(_, model)| model);
    format!("{model}, {cores} cores")
}
