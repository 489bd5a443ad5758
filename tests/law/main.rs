//! The law: if the source satisfied the constraints that the destination has, then the destination equals the source
//! in the end, and no letter remains, in whatever order, calls and sessions the messages came.
//!
//! The source is a real one: transactions run in a database of the same cluster, and a logical slot captures them.
//!
//! `LAW_CASE=soft` runs the cases whose name contains that; `LAW_DELIVERIES=300` tries all orders and splits of a case
//! if they are 300 at most, or else so many of them.
//!
//! `LAW_SECONDS=600` makes random sources for so long, `LAW_ROUNDS=1000` of so many schemas, from `LAW_SEED=7` on, until
//! `LAW_FAILURES=1` of them have failed; `LAW_SESSIONS=4` delivers with so many sessions at once;
//! `LAW_SILENT=1` counts only what no letter tells.

#![forbid(unsafe_code)]

mod bound;
mod case;
mod cases;
mod delivery;
mod destination;
mod pgoutput;
mod random;
mod seen;
mod source;
mod variety;

use std::env;

use case::{Verdict, run_case};
use destination::Destination;
use source::Source;
use support::number;

/// All orders and splits of three messages.
const QUICK: u64 = 24;

/// Runs all cases, and sums up.
fn cases_hold(guard: &'static str) {
    let wanted = env::var("LAW_CASE").unwrap_or_default();
    let mut source = Source::new(&format!("cases_{guard}"));
    let mut destination = Destination::new(&format!("cases_{guard}"));
    let mut verdicts = Vec::new();
    let limit = number("LAW_DELIVERIES", QUICK) as usize;
    for (n, case) in cases::all().iter().enumerate() {
        if !case.name.contains(&wanted) {
            continue;
        }
        for full in [true, false] {
            // a replica identity that says less makes a difference to few
            if full || limit > QUICK as usize || n % 4 == 0 {
                let (source, destination) = (&mut source, &mut destination);
                verdicts.extend(run_case(case, source, destination, guard, full, limit));
            }
        }
    }
    for Verdict {
        name,
        identity,
        deliveries,
        wrong,
        print,
        ..
    } in &verdicts
    {
        if *wrong > 0 {
            println!(
                "\n{name}, guard {guard}, replica identity {identity}: {wrong} of {deliveries} deliveries are wrong, the simplest:\n{print}"
            );
        }
    }
    summary(&verdicts);
    let wrong: usize = verdicts.iter().map(|verdict| verdict.wrong).sum();
    assert_eq!(wrong, 0, "deliveries that end wrong, guard {guard}");
}

fn summary(verdicts: &[Verdict]) {
    println!(
        "\n{:<48} {:<8} {:<8} {:>10} {:>6} {:>8} {:>8} {:>5} {:>7}",
        "case", "guard", "identity", "deliveries", "wrong", "differs", "letters", "slow", "failed"
    );
    let mut sum = [0; 6];
    for verdict in verdicts {
        let [differs, letters, slow, failed] = verdict.ways;
        let counts = [
            verdict.deliveries,
            verdict.wrong,
            differs,
            letters,
            slow,
            failed,
        ];
        line(&verdict.name, verdict.guard, verdict.identity, counts);
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    line("all", "", "", sum);
}

fn line(name: &str, guard: &str, identity: &str, counts: [usize; 6]) {
    let [deliveries, wrong, differs, letters, slow, failed] = counts;
    println!(
        "{name:<48} {guard:<8} {identity:<8} {deliveries:>10} {wrong:>6} {differs:>8} {letters:>8} {slow:>5} {failed:>7}"
    );
}

#[test]
fn cases_hold_with_guard_columns() {
    cases_hold("columns");
}

#[test]
fn cases_hold_with_guard_table() {
    cases_hold("table");
}

#[test]
fn random_sources_hold() {
    random::law_holds();
}
