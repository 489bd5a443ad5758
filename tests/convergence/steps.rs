//! Two calls whose steps alternate in every order: one reads before the other writes, both write before either looks for
//! the other, one commits before the other has read.
//!
//! `STEPS_ROUNDS=2000` tries more than the usual few.

use std::env;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use postgres::Client;
use support::{Counts, Database, Message, Random, batch, run, send, try_apply, value};

use super::sessions::{SIMULATED, Source};
use super::{GUARDS, map};

/// What a session does next. A call waits before each of its steps until the test lets it go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Move {
    /// Begins a transaction and the call, which reads.
    Begin,
    /// The call writes.
    Write,
    /// The call looks for others, and returns.
    Return,
    Commit,
}

const MOVES: [Move; 4] = [Move::Begin, Move::Write, Move::Return, Move::Commit];

/// A session with its call.
struct Session {
    number: i32,
    pid: String,
    orders: Sender<String>,
    results: Receiver<Option<Counts>>,
    /// The moves that are still to come.
    left: Vec<Move>,
    /// Whether a statement runs.
    runs: bool,
}

/// Whether and why a session waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For its next move.
    Ready,
    /// For a lock of the other one.
    Blocked,
}

impl Session {
    /// `control` holds the locks of the call's steps.
    fn new(database: &Database, control: &mut Client, number: i32) -> Session {
        let mut client = database.connect();
        let pid = value(&mut client, "select pg_backend_pid()");
        run(&mut client, &format!("set sequin.steps = {number}"));
        run(
            control,
            &format!("select pg_advisory_lock({number}, 1), pg_advisory_lock({number}, 2)"),
        );
        let (orders, to_do) = channel::<String>();
        let (done, results) = channel();
        thread::spawn(move || {
            for order in to_do {
                let result = match order.as_str() {
                    "commit" => {
                        run(&mut client, "commit");
                        None
                    }
                    batch => {
                        run(&mut client, "begin");
                        Some(try_apply(&mut client, batch).expect("the call"))
                    }
                };
                if done.send(result).is_err() {
                    return;
                }
            }
        });
        Session {
            number,
            pid,
            orders,
            results,
            left: MOVES.iter().rev().copied().collect(),
            runs: false,
        }
    }

    /// Makes the next move.
    fn go(&mut self, control: &mut Client, batch: &str) {
        let unlock = |step: i32| format!("select pg_advisory_unlock({}, {step})", self.number);
        match self.left.pop().expect("a move") {
            Move::Begin => self.order(batch),
            Move::Write => run(control, &unlock(1)),
            Move::Return => run(control, &unlock(2)),
            Move::Commit => self.order("commit"),
        }
    }

    fn order(&mut self, order: &str) {
        self.orders.send(order.to_owned()).expect("the session");
        self.runs = true;
    }

    /// Waits until the session waits.
    fn state(&mut self, control: &mut Client) -> State {
        let waits = format!(
            "select coalesce(wait_event, '') from pg_stat_activity
             where pid = {} and wait_event_type = 'Lock'",
            self.pid
        );
        let mut blocked = 0;
        loop {
            if !self.runs {
                return State::Ready;
            }
            match self.results.recv_timeout(Duration::from_micros(300)) {
                Ok(counts) => {
                    self.runs = false;
                    assert!(counts.is_none_or(|counts| counts.dead == 0), "{counts:?}");
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the call has failed"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match support::rows(control, &waits).first().map(String::as_str) {
                // Another step is waited for than the one that it was just told to take.
                Some("advisory") if self.waits_for_step(control) => return State::Ready,
                Some("advisory") | None => blocked = 0,
                Some(_) => blocked += 1,
            }
            // A lock that is waited for is seen several times: the wait may be a short one.
            if blocked > 3 {
                return State::Blocked;
            }
        }
    }

    fn waits_for_step(&self, control: &mut Client) -> bool {
        let step = match self.left.last() {
            Some(Move::Write) => 1,
            Some(Move::Return) => 2,
            _ => return false,
        };
        let waits = format!(
            "select count(*) from pg_locks where pid = {} and locktype = 'advisory' and not granted
             and classid = {} and objid = {step}",
            self.pid, self.number
        );
        value(control, &waits) == "1"
    }
}

/// Runs two calls. `order` says which of them makes the next move; a session that is blocked makes its moves later.
fn alternate(database: &Database, batches: [&str; 2], order: &[usize]) {
    let mut control = database.connect();
    let mut sessions = [
        Session::new(database, &mut control, 1),
        Session::new(database, &mut control, 2),
    ];
    let mut order = order.to_vec();
    while !order.is_empty() {
        let next = order.iter().position(|&n| {
            let session: &mut Session = &mut sessions[n];
            session.state(&mut control) == State::Ready
        });
        let Some(next) = next else {
            // Each waits for the other: the server ends that.
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let n = order.remove(next);
        sessions[n].go(&mut control, batches[n]);
    }
    for session in &mut sessions {
        while session.state(&mut control) == State::Blocked {}
    }
}

#[test]
fn calls_whose_steps_alternate() {
    let rounds = env::var("STEPS_ROUNDS").map_or(60, |n| n.parse().expect("STEPS_ROUNDS"));
    let seed: u64 = env::var("STEPS_SEED").map_or(1, |n| n.parse().expect("STEPS_SEED"));
    for guard in GUARDS {
        let database = Database::new(&format!("convergence_steps_{guard}"));
        let mut client = database.connect();
        for round in seed..seed + rounds {
            let random = &mut Random::new(round);
            let (full, reads) = (random.below(2) == 0, random.below(2) == 0);
            let table = format!("item_{round}");
            run(&mut client, &format!("create table {table} {SIMULATED}"));
            let options = match random.below(3) {
                0 => ", on_delete => 'soft', soft_delete => 'gone'",
                _ => "",
            };
            map(&mut client, &table, guard, options);
            let mut source = Source::new(&table, full, 3, round).run(8, reads);
            let messages = &mut source.messages;
            random.shuffle(messages);
            let parts = (0..3).map(|_| 1 + random.below(4) as usize);
            let parts: Vec<usize> = parts.collect();
            let mut rest = messages.as_slice();
            let mut take = |n: usize| -> &[Message] {
                let (part, others) = rest.split_at(n.min(rest.len()));
                rest = others;
                part
            };
            let (before, one, two) = (take(2 * parts[0]), take(parts[1]), take(parts[2]));
            send(&mut client, before);
            let mut order = [0, 1].repeat(MOVES.len());
            random.shuffle(&mut order);
            alternate(&database, [&batch(one), &batch(two)], &order);
            send(&mut client, rest);
            let how = format!("{table}, guard {guard}{options}, {one:?} and {two:?} as {order:?}");
            source.check(&mut client, &how);
            let letters = value(&mut client, "select count(*) from sequin.dead_letter");
            assert_eq!(letters, "0", "{how}");
            run(&mut client, &format!("drop table {table}"));
        }
    }
}
