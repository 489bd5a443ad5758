//! Mutation testing of the rooms that need no server. All mutants are compiled into one crate, a copy of the rooms, and a
//! variable of the environment says which is alive: so each costs a run of tests, not a build. A mutant meets only the
//! tests that come past it. What no test notices is listed, unless `equivalent.tsv` says why nobody could.
//!
//! `cargo run -- ROOM…` asks only these rooms, or files and folders of them, as `json/encode`; `cargo run -- --check` only
//! looks whether the copy compiles.

mod flips;
mod pure;
mod run;

use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs, process};

use flips::Mutant;
use run::{Fate, Tests};

/// The rooms that are asked.
const ROOMS: [&str; 8] = [
    "merge",
    "route",
    "message",
    "envelope",
    "json",
    "spell",
    "statement",
    "mapping",
];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The room of a file below `src/`.
fn room(file: &str) -> &str {
    let name = file.split('/').next().unwrap_or(file);
    name.trim_end_matches(".rs")
}

/// Whether a file below `src/` is in a room, in a folder of it, or is the file of this name, with or without its ending.
fn is_in(file: &str, place: &str) -> bool {
    let rest = file.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

/// A mutant that changes nothing that anybody could see.
#[derive(PartialEq)]
struct Equivalent {
    file: String,
    function: String,
    change: String,
    line: String,
}

/// Those of a file; behind each stands the reason.
fn equivalents(path: &Path) -> Result<Vec<Equivalent>> {
    let mut all = Vec::new();
    for text in fs::read_to_string(path)?.lines() {
        if text.starts_with('#') || text.is_empty() {
            continue;
        }
        let [file, function, change, line, _why] = text.split('\t').collect::<Vec<_>>()[..] else {
            return Err(format!("{}: not five columns: {text}", path.display()).into());
        };
        let [file, function, change, line] = [file, function, change, line].map(str::to_owned);
        all.push(Equivalent {
            file,
            function,
            change,
            line,
        });
    }
    Ok(all)
}

fn main() -> Result<()> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).expect("the repository");
    let mut asked: Vec<String> = env::args().skip(1).collect();
    let place = root.join("target/mutants");
    if asked == ["--check"] {
        return pure::check(root, &place, &ROOMS);
    }
    if asked.is_empty() {
        asked = ROOMS.map(str::to_owned).into();
    }
    let (mutants, binary) = pure::build(root, &place, &ROOMS)?;
    let tests = Tests::look(&binary, &place)?;
    eprintln!("{} mutants, {} tests", mutants.len(), tests.count());

    let listed = equivalents(&own.join("equivalent.tsv"))?;
    let mut used = vec![false; listed.len()];
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut missed = Vec::new();
    let asks = |mutant: &Mutant| asked.iter().any(|place| is_in(&mutant.file, place));
    let numbers: Vec<usize> = (0..mutants.len())
        .filter(|number| mutants[*number].as_ref().is_some_and(asks))
        .collect();
    tests.fates(&numbers, |number, fate| {
        let mutant = mutants[number].as_ref().expect("it is asked");
        let fate = match fate {
            Fate::Missed | Fate::NotMet => {
                let this = Equivalent {
                    file: mutant.file.clone(),
                    function: mutant.function.clone(),
                    change: mutant.change.clone(),
                    line: mutant.text.clone(),
                };
                let known = listed.iter().position(|listed| *listed == this);
                match known {
                    Some(at) => {
                        used[at] = true;
                        "equivalent"
                    }
                    None => {
                        let Equivalent {
                            file,
                            function,
                            change,
                            line,
                        } = this;
                        let at = mutant.line;
                        let text = format!("src/{file}:{at}\t{function}\t{change}\t{line}");
                        eprintln!("missed: {text}");
                        missed.push(text);
                        "missed"
                    }
                }
            }
            Fate::Caught => "caught",
            Fate::TimedOut => "timed out",
        };
        *counts
            .entry(room(&mutant.file))
            .or_default()
            .entry(fate)
            .or_default() += 1;
    })?;
    let columns = ["caught", "timed out", "equivalent", "missed"];
    println!("room\tmutants\t{}", columns.join("\t"));
    let mut sum = [0; 5];
    for (room, fates) in &counts {
        let mut row = vec![fates.values().sum::<usize>()];
        row.extend(columns.map(|name| fates.get(name).copied().unwrap_or(0)));
        sum.iter_mut().zip(&row).for_each(|(sum, n)| *sum += n);
        println!(
            "{room}\t{}",
            row.iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join("\t")
        );
    }
    println!("all\t{}", sum.map(|n| n.to_string()).join("\t"));
    fs::write(place.join("missed.txt"), missed.join("\n"))?;
    let vain = listed.iter().zip(&used);
    let vain = vain.filter(|(e, used)| !**used && asked.iter().any(|place| is_in(&e.file, place)));
    for (e, _) in vain.clone() {
        let Equivalent {
            file,
            function,
            change,
            ..
        } = e;
        println!("equivalent.tsv lists in vain: {file} {function} {change}");
    }
    if !missed.is_empty() || vain.count() > 0 {
        process::exit(1);
    }
    Ok(())
}
