//! Which mutant is alive in this process: the number in MUTANT. All are compiled in at once.
//!
//! MUTANT_TRACE names a file: the number of each mutant that is met is written there, once, and how often mutants were
//! met in all, to the power of two below. MUTANT_LIMIT ends a loop without an end.
//!
//! Mutants are met for each byte of a large text. The tests run one by one, so a count that is no atomic addition is exact:
//! it takes a fifth of the time.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::{env, panic, process};

struct State {
    limit: u64,
    trace: Option<(Vec<AtomicBool>, Mutex<File>)>,
}

/// More than there are.
const MANY: usize = 20_000;

static ALIVE: AtomicU32 = AtomicU32::new(u32::MAX);

/// How often mutants were met.
static MET: AtomicU64 = AtomicU64::new(0);

/// So often mutants may be met before there is something to do.
static QUIET: AtomicU64 = AtomicU64::new(0);

fn begin() -> State {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(alive) = number("MUTANT") {
        ALIVE.store(alive as u32, Ordering::Relaxed);
        // the first test that fails is enough
        panic::set_hook(Box::new(|_| process::exit(101)));
    }
    let trace = env::var("MUTANT_TRACE").ok().map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let seen = (0..MANY).map(|_| AtomicBool::new(false)).collect();
        (seen, Mutex::new(file.expect("the trace opens")))
    });
    let limit = number("MUTANT_LIMIT").unwrap_or(u64::MAX);
    if trace.is_none() {
        QUIET.store(limit, Ordering::Relaxed);
    }
    State { limit, trace }
}

/// Whether the mutant of this number is alive. Where mutants are met too often, a loop has no end: the process ends.
#[inline(always)]
pub fn alive(number: u32) -> bool {
    let met = MET.load(Ordering::Relaxed) + 1;
    MET.store(met, Ordering::Relaxed);
    if met > QUIET.load(Ordering::Relaxed) {
        note(number, met);
    }
    number == ALIVE.load(Ordering::Relaxed)
}

#[cold]
#[inline(never)]
fn note(number: u32, met: u64) {
    static STATE: OnceLock<State> = OnceLock::new();
    let state = STATE.get_or_init(begin);
    if met > state.limit {
        process::exit(102);
    }
    if let Some((seen, file)) = &state.trace {
        let write = |line: String| {
            let mut file = file.lock().expect("one at a time");
            writeln!(file, "{line}").expect("the trace is written");
        };
        if !seen[number as usize].swap(true, Ordering::Relaxed) {
            write(number.to_string());
        }
        if met.is_power_of_two() {
            write(format!("met {met}"));
        }
    }
}
