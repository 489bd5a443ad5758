//! The changes that all contenders write, in each form that one of them takes: the message of a Sequin webhook as
//! docs/development/wire.md describes it, and the literals of the typed columns.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Result;
use super::random::Random;
use super::shape::{Shape, timestamp};

/// How long a message of the table of seven columns shall be on average, and how far off it may be.
const MESSAGE_BYTES: Range<f64> = 950.0..1050.0;

/// Whether a run finds the rows that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Inserts into an empty table.
    New,
    /// Updates of all columns, of all rows, in another order.
    Exist,
}

impl Phase {
    /// In the order in which a round runs them.
    pub const ALL: [Phase; 2] = [Phase::New, Phase::Exist];

    /// As the report names it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::New => "new",
            Phase::Exist => "exist",
        }
    }
}

/// One captured change of one row; values are literals of their columns' types.
#[derive(Debug)]
pub struct Change {
    phase: Phase,
    lsn: u64,
    idx: u32,
    committed_at: String,
    values: Vec<String>,
}

/// The changes of both phases, in batches that are numbered through.
#[derive(Debug)]
pub struct Workload {
    /// Messages per batch.
    pub batch: usize,
    /// The table that they are of.
    pub shape: Shape,
    changes: Vec<Change>,
}

impl Workload {
    /// Changes for `rows` timed rows in each phase, and one batch more, which opens each run untimed.
    pub fn new(shape: Shape, batch: usize, rows: usize) -> Result<Workload> {
        let rows = (rows.div_ceil(batch) + 1) * batch;
        let mut random = Random(0x5e_90_17);
        let mut ids: Vec<usize> = (1..=rows).collect();
        let mut changes = Vec::with_capacity(2 * rows);
        let mut stream = Stream::default();
        for phase in Phase::ALL {
            if phase == Phase::Exist {
                random.shuffle(&mut ids);
            }
            for &id in &ids {
                changes.push(stream.next(&shape, phase, id, &mut random));
            }
        }
        let workload = Workload {
            batch,
            shape,
            changes,
        };
        let bytes = workload.mean_message_bytes();
        if workload.shape.name != "seven" || MESSAGE_BYTES.contains(&bytes) {
            Ok(workload)
        } else {
            Err(format!(
                "messages have {bytes:.0} bytes on average, which is outside {MESSAGE_BYTES:?}"
            )
            .into())
        }
    }

    /// The numbers of a phase's batches, the untimed one first.
    pub fn batches(&self, phase: Phase) -> Range<usize> {
        let half = self.changes.len() / self.batch / 2;
        match phase {
            Phase::New => 0..half,
            Phase::Exist => half..2 * half,
        }
    }

    /// The numbers of all batches.
    pub fn all_batches(&self) -> Range<usize> {
        0..self.changes.len() / self.batch
    }

    /// The changes of one batch.
    pub fn changes(&self, batch: usize) -> &[Change] {
        &self.changes[batch * self.batch..][..self.batch]
    }

    /// One batch as the webhook sink sends it, captured from a table of that schema.
    pub fn body(&self, batch: usize, schema: &str) -> String {
        let messages: Vec<String> = self
            .changes(batch)
            .iter()
            .map(|change| change.message(&self.shape, schema))
            .collect();
        format!(r#"{{"data":[{}]}}"#, messages.join(","))
    }

    /// How long a message is.
    pub fn mean_message_bytes(&self) -> f64 {
        let bytes: usize = self
            .changes
            .iter()
            .map(|change| change.message(&self.shape, "public").len())
            .sum();
        bytes as f64 / self.changes.len() as f64
    }

    /// The message of a change whose key no other has, and which is older than all: to try a mapping with.
    pub fn probe(&self, schema: &str) -> String {
        let change = Stream::default().next(&self.shape, Phase::New, 0, &mut Random(0));
        change.message(&self.shape, schema)
    }
}

impl Change {
    /// The values, as literals, in the order of the columns.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// The message, its keys in the order in which Sequin's encoder puts them.
    fn message(&self, shape: &Shape, schema: &str) -> String {
        let (action, changes) = match self.phase {
            Phase::New => ("insert", "null"),
            Phase::Exist => ("update", "{}"),
        };
        let Change {
            lsn,
            idx,
            committed_at,
            values,
            ..
        } = self;
        let idempotency_key = STANDARD.encode(format!("{lsn}:{idx}"));
        format!(
            concat!(
                r#"{{"action":"{action}","changes":{changes},"metadata":{{"#,
                r#""commit_idx":{idx},"commit_lsn":{lsn},"commit_timestamp":"{committed_at}","#,
                r#""consumer":{{"annotations":{{}},"id":"f47ac10b-58cc-4372-a567-0e02b2c3d479","#,
                r#""name":"benchmark_webhook"}},"#,
                r#""database":{{"annotations":{{}},"database":"benchmark","hostname":"db.example.com","#,
                r#""id":"12345678-9abc-def0-1234-56789abcdef0","name":"benchmark"}},"#,
                r#""database_name":"benchmark","enrichment":null,"idempotency_key":"{idempotency_key}","#,
                r#""record_pks":["{id}"],"table_name":"benchmark_records","table_schema":"{schema}","#,
                r#""transaction_annotations":null}},"record":{record}}}"#,
            ),
            action = action,
            changes = changes,
            idx = idx,
            lsn = lsn,
            committed_at = committed_at,
            idempotency_key = idempotency_key,
            id = values[0],
            schema = schema,
            record = shape.record(values),
        )
    }
}

/// Where the source's stream of changes is.
#[derive(Default)]
struct Stream {
    lsn: u64,
    idx: u32,
    /// Changes still to come in the running transaction.
    left: u64,
    committed_at: u64,
}

impl Stream {
    fn next(&mut self, shape: &Shape, phase: Phase, id: usize, random: &mut Random) -> Change {
        if self.left == 0 {
            self.left = 1 + random.below(20);
            self.lsn = self.lsn.max(3_000_000_000_000) + 300 + 8 * random.below(1000);
            self.idx = 0;
            self.committed_at += 1 + random.below(100_000);
        }
        let (lsn, idx) = (self.lsn, self.idx);
        self.left -= 1;
        self.idx += 1;
        Change {
            phase,
            lsn,
            idx,
            committed_at: timestamp(self.committed_at) + "Z",
            values: shape.row(id, random),
        }
    }
}
