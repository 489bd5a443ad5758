//! Runs tests against a mutant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::Result;

/// What became of a mutant.
pub enum Fate {
    /// A test failed.
    Caught,
    /// A test did not end.
    TimedOut,
    /// All tests that came past it passed.
    Missed,
    /// No test came past it.
    NotMet,
}

/// A test, as it is without a mutant.
struct Test {
    name: String,
    took: Duration,
    /// How often it meets mutants, at least; not twice as often.
    meets: u64,
}

/// The tests, quickest first.
pub struct Tests {
    program: PathBuf,
    folder: PathBuf,
    all: Vec<Test>,
    /// By mutant, the places of the tests that come past it.
    met: BTreeMap<usize, Vec<usize>>,
}

/// Tests as quick as this are run together.
const QUICK: Duration = Duration::from_millis(60);

/// The number of no mutant.
const NONE: &str = "1000000";

/// How often tests may meet mutants: more is a loop without an end.
fn limit(tests: &[&Test]) -> String {
    let meets: u64 = tests.iter().map(|test| test.meets).sum();
    (5 * meets + 1_000_000).to_string()
}

fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    // a loop without an end can also take memory
    command
        .args(["-c", "ulimit -v 8000000; exec \"$0\" \"$@\""])
        .arg(program)
        .args(["--test-threads=1", "--exact", "--quiet"])
        .current_dir(folder)
        .env("PROPTEST_RNG_SEED", "1")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The code that a program ends with; `None` if it does not end in time.
fn wait(mut child: Child, most: Duration) -> Result<Option<i32>> {
    let (start, mut pause) = (Instant::now(), Duration::from_millis(1));
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status.code().unwrap_or(-1)));
        }
        if start.elapsed() > most {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

impl Tests {
    /// Runs each test once, and notes which mutants it comes past.
    pub fn look(program: &Path, place: &Path) -> Result<Tests> {
        let folder = place.join("crate");
        let listed = Command::new(program)
            .args(["--list", "--format", "terse"])
            .output()?;
        let listed = String::from_utf8(listed.stdout)?;
        let names = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"));
        let mut found = Vec::new();
        for name in names {
            let trace = place.join("trace");
            let _ = fs::remove_file(&trace);
            let start = Instant::now();
            let child = command(program, &folder)
                .arg(name)
                .env("MUTANT_TRACE", &trace)
                .spawn()?;
            if wait(child, Duration::from_secs(600))? != Some(0) {
                return Err(format!("{name} fails without a mutant").into());
            }
            let took = start.elapsed();
            // a test that meets none leaves no file
            let traced = fs::read_to_string(&trace).unwrap_or_default();
            let met: BTreeSet<usize> = traced.lines().filter_map(|n| n.parse().ok()).collect();
            let mut counts = traced.lines().filter_map(|line| line.strip_prefix("met "));
            let meets = counts.next_back().map_or(Ok(0), str::parse)?;
            let name = name.to_owned();
            found.push((Test { name, took, meets }, met));
        }
        // a test that fails with no mutant alive would catch them all
        let all: Vec<&Test> = found.iter().map(|(test, _)| test).collect();
        let none = command(program, &folder)
            .args(found.iter().map(|(test, _)| &test.name))
            .env("MUTANT", NONE)
            .env("MUTANT_LIMIT", limit(&all))
            .spawn()?;
        if wait(none, Duration::from_secs(600))? != Some(0) {
            return Err("the tests fail although no mutant is alive".into());
        }
        found.sort_by_key(|(test, _)| test.took);
        let mut met: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, (_, mutants)) in found.iter().enumerate() {
            for mutant in mutants {
                met.entry(*mutant).or_default().push(at);
            }
        }
        Ok(Tests {
            program: program.to_owned(),
            folder,
            all: found.into_iter().map(|(test, _)| test).collect(),
            met,
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Tells what becomes of each of these mutants, in their order. As many are asked at once as there are processors.
    pub fn fates(&self, mutants: &[usize], mut tell: impl FnMut(usize, Fate)) -> Result<()> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism()?.get() {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    // after an error nobody receives
                    while let at = next.fetch_add(1, Ordering::Relaxed)
                        && let Some(mutant) = mutants.get(at)
                        && let fate = self.fate(*mutant).map_err(|error| error.to_string())
                        && sender.send((at, fate)).is_ok()
                    {}
                });
            }
            drop(sender);
            let (mut early, mut told) = (BTreeMap::new(), 0);
            for (at, fate) in receiver {
                early.insert(at, fate?);
                while let Some(fate) = early.remove(&told) {
                    tell(mutants[told], fate);
                    told += 1;
                }
            }
            Ok(())
        })
    }

    /// What becomes of a mutant.
    fn fate(&self, mutant: usize) -> Result<Fate> {
        let Some(met) = self.met.get(&mutant) else {
            return Ok(Fate::NotMet);
        };
        let tests: Vec<&Test> = met.iter().map(|at| &self.all[*at]).collect();
        let (quick, slow): (Vec<&Test>, Vec<&Test>) =
            tests.into_iter().partition(|test| test.took < QUICK);
        for group in [quick]
            .into_iter()
            .chain(slow.into_iter().map(|test| vec![test]))
        {
            if group.is_empty() {
                continue;
            }
            let took: Duration = group.iter().map(|test| test.took).sum();
            let child = command(&self.program, &self.folder)
                .args(group.iter().map(|test| &test.name))
                .env("MUTANT", mutant.to_string())
                .env("MUTANT_LIMIT", limit(&group))
                .spawn()?;
            match wait(child, Duration::from_secs(20) + 10 * took)? {
                Some(0) => (),
                Some(102) | None => return Ok(Fate::TimedOut),
                Some(_) => return Ok(Fate::Caught),
            }
        }
        Ok(Fate::Missed)
    }
}
