//! What fails, made small: transactions, statements, rows and constraints go as long as it still fails, and then the
//! order and the split become simple.

use std::time::{Duration, Instant};

use support::Random;

use super::{Failure, fails};
use crate::case::{Case, History, deliver, print};
use crate::delivery::{Delivery, deliveries};
use crate::destination::{Destination, Wrong};
use crate::source::Source;

/// How many orders and splits a smaller case is tried in.
const TRIES: usize = 120;

/// Smaller is a matter of a minute.
const TIME: Duration = Duration::from_secs(90);

struct Shrinker<'a> {
    source: &'a mut Source,
    destination: &'a mut Destination,
    guard: &'static str,
    full: bool,
    sessions: usize,
    until: Instant,
}

/// The smallest case found that fails, as text: with one session, or else with those that it has failed with.
pub fn shrunk(
    failure: &Failure,
    source: &mut Source,
    destination: &mut Destination,
) -> Option<String> {
    let mut shrinker = Shrinker {
        source,
        destination,
        guard: failure.guard,
        full: failure.full,
        sessions: 1,
        until: Instant::now() + TIME,
    };
    let mut case = failure.case.clone();
    let mut found = shrinker
        .fails(&case, Some(&failure.delivery))
        .or_else(|| shrinker.fails(&case, None))
        .or_else(|| {
            shrinker.sessions = failure.sessions;
            (failure.sessions > 1).then(|| shrinker.fails(&case, None))?
        })?;
    loop {
        let smaller = smaller(&case).into_iter().find_map(|smaller| {
            let found = shrinker.fails(&smaller, None)?;
            Some((smaller, found))
        });
        match smaller {
            Some((smaller, how)) => (case, found) = (smaller, how),
            None => break,
        }
    }
    let (history, delivery, wrong) = shrinker.simplest(&case, found);
    let sessions = match shrinker.sessions {
        1 => String::new(),
        sessions => format!("  only with {sessions} sessions at once\n"),
    };
    Some(sessions + &print(&case, &history, &delivery, &wrong))
}

impl Shrinker<'_> {
    /// A wrong delivery of the case, if there is one among those that are tried. The given one is tried alone.
    fn fails(&mut self, case: &Case, given: Option<&Delivery>) -> Option<(Delivery, Wrong)> {
        if Instant::now() > self.until {
            return None;
        }
        let history = self.history(case)?;
        let all = match given {
            Some(delivery) => [delivery.clone()].into(),
            None => deliveries(&history.transactions(), TRIES, &mut Random::new(1)),
        };
        let mut all: Vec<Delivery> = all.into_iter().collect();
        all.sort_by_key(Delivery::difficulty);
        all.into_iter().find_map(|delivery| {
            let wrong = self.deliver(&history, &delivery);
            fails(&wrong).then_some((delivery, wrong))
        })
    }

    fn deliver(&mut self, history: &History, delivery: &Delivery) -> Wrong {
        match self.sessions {
            1 => deliver(self.destination, history, delivery),
            sessions => self
                .destination
                .deliver_at_once(history, delivery, sessions),
        }
    }

    fn history(&mut self, case: &Case) -> Option<History> {
        let history = History::of(case, self.source, self.full).ok()??;
        let ddl = case.destination_ddl();
        self.destination
            .make(&ddl, &history.tables, self.guard)
            .ok()?;
        Some(history)
    }

    /// The simplest delivery that still fails: fewer calls, and less disorder.
    fn simplest(&mut self, case: &Case, found: (Delivery, Wrong)) -> (History, Delivery, Wrong) {
        let history = self.history(case).expect("it was there before");
        let (mut delivery, mut wrong) = found;
        'again: loop {
            for simpler in simpler(&delivery) {
                let how = self.deliver(&history, &simpler);
                if fails(&how) {
                    (delivery, wrong) = (simpler, how);
                    continue 'again;
                }
            }
            return (history, delivery, wrong);
        }
    }
}

/// Calls put together, messages in order, repetitions left out.
fn simpler(delivery: &Delivery) -> Vec<Delivery> {
    let calls = &delivery.0;
    let mut all = Vec::new();
    for n in 1..calls.len() {
        let mut together = calls.clone();
        let second = together.remove(n);
        together[n - 1].extend(second);
        all.push(Delivery(together));
    }
    for (c, call) in calls.iter().enumerate() {
        for m in 1..call.len() {
            if call[m - 1] > call[m] {
                let mut ordered = calls.clone();
                ordered[c].swap(m - 1, m);
                all.push(Delivery(ordered));
            }
        }
        for (m, message) in call.iter().enumerate() {
            let is_repeated = calls
                .iter()
                .flatten()
                .filter(|other| *other == message)
                .count()
                > 1;
            if is_repeated {
                let mut once = calls.clone();
                once[c].remove(m);
                once.retain(|call| !call.is_empty());
                all.push(Delivery(once));
            }
        }
    }
    all
}

/// The same case without one of its parts, the large ones first.
fn smaller(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    for n in 0..case.transactions.len() {
        let mut smaller = case.clone();
        smaller.transactions.remove(n);
        if !smaller.transactions.is_empty() {
            all.push(smaller);
        }
    }
    for (n, transaction) in case.transactions.iter().enumerate() {
        for without in each_left_out(transaction) {
            let mut smaller = case.clone();
            smaller.transactions[n] = without;
            all.push(smaller);
        }
    }
    let no_rows = (!case.initial.is_empty()).then(String::new);
    for without in no_rows.into_iter().chain(each_left_out(&case.initial)) {
        all.push(Case {
            initial: without,
            ..case.clone()
        });
    }
    for without in each_left_out(&case.ddl) {
        all.push(Case {
            ddl: without,
            ..case.clone()
        });
    }
    if !case.at_source.is_empty() {
        // in pairs: the source must satisfy what the destination has
        let source = each_left_out(&case.at_source);
        let destination = each_left_out(&case.at_destination);
        let none = [String::new()];
        let pairs = source.iter().zip(&destination);
        for (at_source, at_destination) in pairs.chain(none.iter().zip(&none)) {
            all.push(Case {
                at_source: at_source.clone(),
                at_destination: at_destination.clone(),
                ..case.clone()
            });
        }
    }
    all.extend(each_feature_left_out(case));
    all.extend(each_column_left_out(case));
    for (from, to) in [
        ("on delete cascade", ""),
        ("on update cascade", ""),
        ("on delete set null", ""),
        ("on update set null", ""),
        ("on delete restrict", ""),
        ("on update restrict", ""),
        ("not null", ""),
        (" deferrable initially deferred", ""),
        (" {deferred}", ""),
        ("exclude (u with =)", "unique (u)"),
        ("exclude (w with =)", "unique (w)"),
    ] {
        for (place, _) in case.ddl.match_indices(from) {
            let mut ddl = case.ddl.clone();
            ddl.replace_range(place..place + from.len(), to);
            all.push(Case {
                ddl,
                ..case.clone()
            });
        }
    }
    all
}

/// The case with one thing less in which its destination or its messages are not the plain ones.
fn each_feature_left_out(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let mut smaller = |less: &dyn Fn(&mut Case)| {
        let mut smaller = case.clone();
        less(&mut smaller);
        all.push(smaller);
    };
    for n in 0..case.mapped.len() {
        smaller(&|case| drop(case.mapped.remove(n)));
    }
    for n in 0..case.variety.kinds.len() {
        smaller(&|case| drop(case.variety.kinds.remove(n)));
    }
    for n in 0..case.variety.types.len() {
        smaller(&|case| drop(case.variety.types.remove(n)));
    }
    for n in 0..case.variety.large.len() {
        smaller(&|case| drop(case.variety.large.remove(n)));
    }
    if case.variety.backfilled {
        smaller(&|case| case.variety.backfilled = false);
    }
    all
}

/// The case without one of its columns, wherever it is named in a list; other statements that need it fail.
fn each_column_left_out(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    for table in case.ddl.split("; ") {
        let Some((table, columns)) = table
            .strip_prefix("create table ")
            .and_then(|rest| rest.split_once(" ("))
        else {
            continue;
        };
        for n in 1..columns.split(", ").count() {
            let without = |sql: &str| -> String {
                let statements: Vec<_> = sql.split("; ").map(|s| column_out(s, table, n)).collect();
                statements.join("; ")
            };
            all.push(Case {
                ddl: without(&case.ddl),
                initial: without(&case.initial),
                transactions: case.transactions.iter().map(|sql| without(sql)).collect(),
                ..case.clone()
            });
        }
    }
    all
}

/// `create table t (…)` and `insert into t (…) values (…)` or `select …` without the n-th column.
fn column_out(sql: &str, table: &str, n: usize) -> String {
    let of = |verb: &str| sql.strip_prefix(&format!("{verb} {table} ("));
    let cut = |list: &str| {
        let mut items: Vec<&str> = list.split(", ").collect();
        // a constraint of the table stands behind the columns
        if n < items.len() {
            items.remove(n);
        }
        items.join(", ")
    };
    if let Some(columns) = of("create table").and_then(|rest| rest.strip_suffix(')')) {
        return format!("create table {table} ({})", cut(columns));
    }
    let Some(rest) = of("insert into") else {
        return sql.to_owned();
    };
    let (columns, rest) = rest.split_once(')').expect("a list");
    let columns = cut(columns);
    if let Some(values) = rest.strip_prefix(" values (") {
        let values = cut(values.strip_suffix(')').expect("a list"));
        return format!("insert into {table} ({columns}) values ({values})");
    }
    let (list, from) = rest
        .strip_prefix(" select ")
        .and_then(|rest| rest.split_once(" from "))
        .expect("a query");
    format!(
        "insert into {table} ({columns}) select {} from {from}",
        cut(list)
    )
}

/// The texts that remain when one of the statements goes.
fn each_left_out(sql: &str) -> Vec<String> {
    let statements: Vec<&str> = sql.split("; ").collect();
    if statements.len() < 2 {
        return Vec::new();
    }
    (0..statements.len())
        .map(|n| {
            let mut rest = statements.clone();
            rest.remove(n);
            rest.join("; ")
        })
        .collect()
}
