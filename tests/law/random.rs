//! Random sources, delivered at random; and what fails, made small.

mod features;
mod schema;
mod shrink;
mod sql;
mod statements;

use std::time::{Duration, Instant};

use support::{Random, number};

use crate::case::{Case, History, deliver, print};
use crate::delivery::{Delivery, any};
use crate::destination::{Destination, Wrong, said};
use crate::source::Source;
use schema::Schema;

/// How many sources a schema has, and how often each is delivered.
const SOURCES: usize = 4;
const DELIVERIES: usize = 12;

/// What came of a seed.
#[derive(Default)]
struct Round {
    sources: usize,
    deliveries: usize,
    messages: usize,
    /// The case, with its wrong deliveries.
    failure: Option<Failure>,
}

struct Failure {
    case: Case,
    full: bool,
    guard: &'static str,
    history: History,
    delivery: Delivery,
    wrong: Wrong,
    /// How many sessions delivered.
    sessions: usize,
    /// Whether one `sequin.retry()` made it right.
    retry_helps: bool,
}

/// The counts of a run.
#[derive(Default)]
struct Sum {
    rounds: usize,
    sources: usize,
    deliveries: usize,
    messages: usize,
    failures: usize,
    retry_helps: usize,
}

/// The first of the schemas of a bounded run, and how many they are.
const HOLDS: u64 = 3000;
const ROUNDS: u64 = 8;

/// So many of them are of the seeds from [`FEATURES`] on.
const FEATURED: u64 = 3;

/// The first of the seeds whose schemas have more kinds of types, keys and foreign keys.
const WIDE: u64 = 1_000_000;

/// The first of the seeds whose cases have more: reads, other kinds of destinations, mappings that say more.
const FEATURES: u64 = 2_000_000;

/// Runs seeds until the time or the number of rounds is over, or `LAW_FAILURES` of them (1) have failed.
pub fn law_holds() {
    // Without a word about how long: schemas that are known to hold, so that what fails is new.
    let bounded =
        std::env::var_os("LAW_SEED").is_none() && std::env::var_os("LAW_SECONDS").is_none();
    let mut seed = number("LAW_SEED", if bounded { HOLDS } else { 1 });
    let rounds = number("LAW_ROUNDS", if bounded { ROUNDS } else { u64::MAX });
    let time = Duration::from_secs(number("LAW_SECONDS", 15));
    let failures = number("LAW_FAILURES", 1) as usize;
    let start = Instant::now();
    let mut source = Source::new("random");
    let mut destination = Destination::new("random");
    let mut sum = Sum::default();
    while (sum.rounds as u64) < rounds && start.elapsed() < time && sum.failures < failures {
        let round = round(seed, &mut source, &mut destination);
        sum.rounds += 1;
        sum.sources += round.sources;
        sum.deliveries += round.deliveries;
        sum.messages += round.messages;
        if let Some(failure) = round.failure {
            sum.failures += 1;
            sum.retry_helps += usize::from(failure.retry_helps);
            tell(seed, failure, &mut source, &mut destination);
        }
        seed += 1;
        if bounded && sum.rounds as u64 == ROUNDS - FEATURED {
            seed = FEATURES;
        }
    }
    let Sum {
        rounds,
        sources,
        deliveries,
        messages,
        failures,
        retry_helps,
    } = sum;
    println!(
        "{rounds} schemas, {sources} sources with {messages} changes, delivered {deliveries} times in {:?}; {failures} failed, of which one sequin.retry() helps {retry_helps}",
        start.elapsed()
    );
    assert_eq!(failures, 0, "sources whose destination ends wrong");
}

/// Whether a delivery is wrong; with `LAW_SILENT=1`, whether no letter says so.
fn fails(wrong: &Wrong) -> bool {
    let is_told = !wrong.letters.is_empty() && number("LAW_SILENT", 0) == 1;
    !wrong.is_right() && !is_told
}

fn tell(seed: u64, failure: Failure, source: &mut Source, destination: &mut Destination) {
    let Failure {
        guard,
        full,
        sessions,
        retry_helps,
        ..
    } = &failure;
    let identity = if *full { "full" } else { "default" };
    println!(
        "\nLAW_SEED={seed} LAW_ROUNDS=1 fails: guard {guard}, replica identity {identity}, {sessions} sessions; one sequin.retry() {}",
        if *retry_helps {
            "helps"
        } else {
            "does not help"
        }
    );
    match shrink::shrunk(&failure, source, destination) {
        Some(text) => println!("{text}"),
        None => {
            let Failure {
                case,
                history,
                delivery,
                wrong,
                ..
            } = &failure;
            println!(
                "  it was not seen again\n{}",
                print(case, history, delivery, wrong)
            );
        }
    }
}

/// The sources of one schema.
fn round(seed: u64, source: &mut Source, destination: &mut Destination) -> Round {
    let random = &mut Random::new(seed);
    let guard = *random.of(&["columns", "table"]);
    let has_features = seed >= FEATURES;
    let is_wide = match has_features {
        true => random.below(2) == 0,
        false => seed >= WIDE,
    };
    let mut schema = Schema::random(random, is_wide);
    let full = schema.has_deferrable_key() || random.below(4) > 0;
    let mut none = statements::empty_case(seed, &schema);
    if has_features {
        features::add(&mut none, &mut schema, full, random);
    }
    source
        .make(&none.source_ddl(), full)
        .unwrap_or_else(|error| panic!("seed {seed}: {}", said(&error)));
    let tables = none.tables(source);
    destination
        .make(&none.destination_ddl(), &tables, guard)
        .unwrap_or_else(|error| panic!("seed {seed}: {}", said(&error)));
    let mut round = Round::default();
    for _ in 0..SOURCES {
        let mut case = none.clone();
        source.empty();
        source.watch();
        if !statements::fill(&mut case, &schema, source, random) {
            continue;
        }
        let history = History::captured(&case, tables.clone(), source, full);
        let has_to_tell = schema.has_deferrable_key() || case.has_own_key();
        let hides = !full && history.hides_key() || has_to_tell && history.hides_row(&case);
        if history.sent.is_empty() || hides {
            continue;
        }
        round.sources += 1;
        round.messages += history.sent.len();
        for n in 0..DELIVERIES {
            let mut delivery = random_delivery(&history, n, random);
            if has_features && random.below(4) == 0 {
                let place = random.below(delivery.0.len() as u64 + 1);
                delivery.0.insert(place as usize, Vec::new());
            }
            let sessions = match (number("LAW_SESSIONS", 0), n % 6) {
                (0, 5) => 2 + random.below(3) as usize,
                (0, _) => 1,
                (sessions, _) => sessions as usize,
            };
            let wrong = match sessions {
                1 => deliver(destination, &history, &delivery),
                _ => destination.deliver_at_once(&history, &delivery, sessions),
            };
            round.deliveries += 1;
            if fails(&wrong) {
                let retry_helps = destination.is_right_after_retry(&history.wanted);
                round.failure = Some(Failure {
                    case,
                    full,
                    guard,
                    history,
                    delivery,
                    wrong,
                    sessions,
                    retry_helps,
                });
                return round;
            }
        }
    }
    round
}

/// The n-th delivery of a source: as Sequin delivers when all is well, nearly so, in any order, and with repetitions.
fn random_delivery(history: &History, n: usize, random: &mut Random) -> Delivery {
    let count = history.sent.len();
    let mut delivery = match n {
        0 => by_transaction(history),
        1 => nearly_in_order(count, random),
        _ => any(count, random),
    };
    if n >= 3 {
        for _ in 0..random.below(4) {
            let again = random.below(count as u64) as usize;
            let call = random.below(delivery.0.len() as u64 + 1) as usize;
            match delivery.0.get_mut(call) {
                Some(call) => call.push(again),
                None => delivery.0.push(vec![again]),
            }
        }
    }
    delivery
}

fn by_transaction(history: &History) -> Delivery {
    let mut calls: Vec<Vec<usize>> = Vec::new();
    let mut last = None;
    for (m, transaction) in history.transactions().into_iter().enumerate() {
        if last != Some(transaction) {
            calls.push(Vec::new());
        }
        last = Some(transaction);
        calls.last_mut().expect("a call").push(m);
    }
    Delivery(calls)
}

/// Messages overtake their neighbours only.
fn nearly_in_order(count: usize, random: &mut Random) -> Delivery {
    let mut order: Vec<(u64, usize)> = (0..count)
        .map(|m| (4 * m as u64 + random.below(12), m))
        .collect();
    order.sort_unstable();
    let mut calls = vec![Vec::new()];
    for (_, m) in order {
        if random.below(3) == 0 {
            calls.push(Vec::new());
        }
        calls.last_mut().expect("a call").push(m);
    }
    calls.retain(|call| !call.is_empty());
    Delivery(calls)
}
