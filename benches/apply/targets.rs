//! The ratios that must hold. Like is compared with like: what the server does to what the server does, and what a
//! client waits for to what the same client waits for.

use super::contender::{Contender, Guard, Place};
use super::measured::{Clock, Measured};
use super::workload::Phase;

/// A bound of a ratio.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One target on one kind of rows.
#[derive(Debug)]
pub struct Verdict {
    /// The target in words.
    pub target: &'static str,
    /// On which rows.
    pub phase: Phase,
    /// The ratio as the client waited; none if it was not measured.
    pub ratio: Option<f64>,
    /// The same of the time that the server process was on a CPU.
    pub cpu_ratio: Option<f64>,
    bound: Bound,
}

impl Verdict {
    /// Whether the target is met; none if it was not measured.
    pub fn met(&self) -> Option<bool> {
        self.ratio.map(|ratio| match self.bound {
            Bound::AtMost(limit) => ratio <= limit,
            Bound::AtLeast(limit) => ratio >= limit,
        })
    }

    /// The bound in words.
    pub fn bound(&self) -> String {
        match self.bound {
            Bound::AtMost(limit) => format!("at most {limit:.2}"),
            Bound::AtLeast(limit) => format!("at least {limit:.2}"),
        }
    }
}

/// Target in words, batch size, whose time, divided by whose, and the bound.
type Target = (&'static str, usize, Contender, Contender, Bound);

/// All targets.
const TARGETS: [Target; 5] = [
    (
        "text / floor, batch 1000",
        1000,
        SERVER,
        Contender::FLOOR,
        Bound::AtMost(2.2),
    ),
    (
        "plain_sql / text, batch 1000",
        1000,
        Contender::PLAIN_SQL,
        CLIENT,
        Bound::AtLeast(2.0),
    ),
    (
        "guard columns / off, batch 1000",
        1000,
        Contender::text(Place::Server, Guard::Columns),
        SERVER,
        Bound::AtMost(1.15),
    ),
    (
        "guard table / off, batch 1000",
        1000,
        Contender::text(Place::Server, Guard::Table),
        SERVER,
        Bound::AtMost(1.9),
    ),
    (
        "text / prepared_row, batch 1",
        1,
        CLIENT,
        Contender::PREPARED_ROW,
        Bound::AtMost(1.5),
    ),
];

const SERVER: Contender = Contender::text(Place::Server, Guard::Off);
const CLIENT: Contender = Contender::text(Place::Client, Guard::Off);

/// Holds what was measured against the targets.
pub fn judge(measured: &Measured) -> Vec<Verdict> {
    let on = |phase| {
        TARGETS.map(|(target, batch, of, to, bound)| {
            let ratio = |clock| {
                measured
                    .find(of, batch, phase)?
                    .ratio(measured.find(to, batch, phase)?, clock)
            };
            Verdict {
                target,
                phase,
                ratio: ratio(Clock::Wall),
                cpu_ratio: ratio(Clock::Cpu),
                bound,
            }
        })
    };
    Phase::ALL.into_iter().flat_map(on).collect()
}
