//! Which mutant is alive in this process: the number in MUTANT. All are compiled in at once.
//!
//! MUTANT_TRACE names a file: the number of each mutant that is met is written there, once, and how often mutants were
//! met in all, to the power of two below. MUTANT_LIMIT ends a loop without an end.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::{env, panic, process};

struct State {
    alive: u32,
    limit: u64,
    met: AtomicU64,
    trace: Option<(Vec<AtomicBool>, Mutex<File>)>,
}

/// More than there are.
const MANY: usize = 20_000;

fn begin() -> State {
    let number = |name| env::var(name).ok().and_then(|text| text.parse().ok());
    let alive = number("MUTANT").unwrap_or(u64::MAX) as u32;
    if alive != u32::MAX {
        // the first test that fails is enough
        panic::set_hook(Box::new(|_| process::exit(101)));
    }
    let trace = env::var("MUTANT_TRACE").ok().map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let seen = (0..MANY).map(|_| AtomicBool::new(false)).collect();
        (seen, Mutex::new(file.expect("the trace opens")))
    });
    State {
        alive,
        limit: number("MUTANT_LIMIT").unwrap_or(u64::MAX),
        met: AtomicU64::new(0),
        trace,
    }
}

/// Whether the mutant of this number is alive. Where mutants are met too often, a loop has no end: the process ends.
#[inline]
pub fn alive(number: u32) -> bool {
    static STATE: OnceLock<State> = OnceLock::new();
    let state = STATE.get_or_init(begin);
    let met = state.met.fetch_add(1, Ordering::Relaxed) + 1;
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
    number == state.alive
}
