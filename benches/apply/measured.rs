//! What was measured, and the figures made of it.

use super::contender::{Contender, Guard, Place};
use super::workload::Phase;

/// One timed run.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Who ran.
    pub contender: Contender,
    /// Messages per batch.
    pub batch: usize,
    /// On which rows.
    pub phase: Phase,
    /// Rows written while the clock ran.
    pub rows: usize,
    /// Microseconds per message, as the client waited.
    pub wall: f64,
    /// Microseconds per message that the server process was on a CPU, where the client can see it: without the waits
    /// for the disk and for other processes.
    pub cpu: Option<f64>,
    /// Bytes of the server's log per message.
    pub log: f64,
    /// Milliseconds that each call took; none where there are no calls.
    pub calls: Vec<f64>,
}

/// The runs of one contender over all rounds, in their order.
#[derive(Debug)]
pub struct Series {
    /// The first of them.
    pub first: Sample,
    wall: Vec<f64>,
    cpu: Vec<f64>,
    log: Vec<f64>,
    calls: Vec<f64>,
}

/// The clock that a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// As the client waits.
    Wall,
    /// As the server process works.
    Cpu,
}

/// All runs.
#[derive(Debug, Default)]
pub struct Measured {
    /// In the order of the report.
    pub series: Vec<Series>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
    /// Batch size and mean length of a message.
    pub message_bytes: Vec<(usize, f64)>,
    /// The server's version and settings.
    pub server: Vec<(String, String)>,
}

impl Series {
    /// The runs' figures; none where the clock could not be read.
    pub fn rounds(&self, clock: Clock) -> &[f64] {
        match clock {
            Clock::Wall => &self.wall,
            Clock::Cpu => &self.cpu,
        }
    }

    /// The middle of the rounds.
    pub fn median(&self, clock: Clock) -> Option<f64> {
        median(self.rounds(clock).to_vec())
    }

    /// Bytes of the server's log per message.
    pub fn log(&self) -> Option<f64> {
        median(self.log.clone())
    }

    /// The milliseconds of a call than which so many of 100 calls took no longer.
    pub fn call(&self, percent: usize) -> Option<f64> {
        let mut calls = self.calls.clone();
        calls.sort_by(f64::total_cmp);
        let last = calls.len().checked_sub(1)?;
        calls.get((calls.len() * percent / 100).min(last)).copied()
    }

    /// The best round.
    pub fn min(&self, clock: Clock) -> Option<f64> {
        self.rounds(clock).iter().copied().min_by(f64::total_cmp)
    }

    /// How often as long as the other it took: the middle of the rounds' ratios.
    pub fn ratio(&self, other: &Series, clock: Clock) -> Option<f64> {
        let pairs = self.rounds(clock).iter().zip(other.rounds(clock));
        median(
            pairs
                .map(|(mine, others)| mine / others)
                .filter(|ratio| ratio.is_finite())
                .collect(),
        )
    }
}

impl Measured {
    /// Adds the runs of one round.
    pub fn add(&mut self, samples: Vec<Sample>) {
        for sample in samples {
            let place = self
                .series
                .iter()
                .position(|one| one.is(sample.contender, sample.batch, sample.phase))
                .unwrap_or_else(|| {
                    self.series.push(Series {
                        first: sample.clone(),
                        wall: Vec::new(),
                        cpu: Vec::new(),
                        log: Vec::new(),
                        calls: Vec::new(),
                    });
                    self.series.len() - 1
                });
            let series = &mut self.series[place];
            series.wall.push(sample.wall);
            series.cpu.extend(sample.cpu);
            series.log.push(sample.log);
            series.calls.extend(sample.calls);
        }
    }

    /// Notes what could not be measured; every batch size says it again.
    pub fn skip(&mut self, notes: &[String]) {
        for note in notes {
            if !self.skipped.contains(note) {
                eprintln!("bench: {note}");
                self.skipped.push(note.clone());
            }
        }
    }

    /// The runs of one contender.
    pub fn find(&self, contender: Contender, batch: usize, phase: Phase) -> Option<&Series> {
        self.series
            .iter()
            .find(|one| one.is(contender, batch, phase))
    }

    /// How often as long as the floor.
    pub fn to_floor(&self, series: &Series, clock: Clock) -> Option<f64> {
        self.to(Contender::FLOOR, series, clock)
    }

    /// How often as long as `sequin_apply(text)` without a guard on a batch in the same place.
    pub fn to_text(&self, series: &Series, clock: Clock) -> Option<f64> {
        let place = match series.first.contender.place {
            Place::Client => Place::Client,
            Place::Server | Place::Publisher => Place::Server,
        };
        self.to(Contender::text(place, Guard::Off), series, clock)
    }

    fn to(&self, other: Contender, series: &Series, clock: Clock) -> Option<f64> {
        series.ratio(
            self.find(other, series.first.batch, series.first.phase)?,
            clock,
        )
    }
}

impl Series {
    fn is(&self, contender: Contender, batch: usize, phase: Phase) -> bool {
        (self.first.contender, self.first.batch, self.first.phase) == (contender, batch, phase)
    }
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        length if length % 2 == 0 => Some((figures[middle - 1] + figures[middle]) / 2.0),
        _ => Some(figures[middle]),
    }
}
