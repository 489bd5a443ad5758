//! The changes that all contenders write, in each form that one of them takes: the message of a Sequin webhook as
//! `WIRE.md` describes it, and the literals of the typed columns.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Result;

/// The columns of Sequin's own benchmark table, the key first.
pub const COLUMNS: [&str; 7] = [
    "id",
    "string_field",
    "numeric_field",
    "timestamp_field",
    "json_field",
    "inserted_at",
    "updated_at",
];

/// How long a message shall be on average, and how far off it may be.
const MESSAGE_BYTES: Range<f64> = 950.0..1050.0;

const WORDS: [&str; 16] = [
    "amber",
    "birch",
    "cobalt",
    "dune",
    "ember",
    "fjord",
    "granite",
    "harbor",
    "indigo",
    "juniper",
    "kelp",
    "lagoon",
    "naïve",
    "\"quoted\"",
    "back\\slash",
    "prairie",
];

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
    values: [String; COLUMNS.len()],
}

/// The changes of both phases, in batches that are numbered through.
#[derive(Debug)]
pub struct Workload {
    /// Messages per batch.
    pub batch: usize,
    changes: Vec<Change>,
}

impl Workload {
    /// Changes for `rows` timed rows in each phase, and one batch more, which opens each run untimed.
    pub fn new(batch: usize, rows: usize) -> Result<Workload> {
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
                changes.push(stream.next(phase, id, &mut random));
            }
        }
        let workload = Workload { batch, changes };
        let bytes = workload.mean_message_bytes();
        if MESSAGE_BYTES.contains(&bytes) {
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
            .map(|change| change.message(schema))
            .collect();
        format!(r#"{{"data":[{}]}}"#, messages.join(","))
    }

    /// How long a message is.
    pub fn mean_message_bytes(&self) -> f64 {
        let bytes: usize = self
            .changes
            .iter()
            .map(|change| change.message("public").len())
            .sum();
        bytes as f64 / self.changes.len() as f64
    }
}

impl Change {
    /// A change whose key no other has, and which is older than all: to try a mapping with.
    pub fn probe() -> Change {
        Stream::default().next(Phase::New, 0, &mut Random(0))
    }

    /// The values, as literals, in the order of [`COLUMNS`].
    pub fn values(&self) -> &[String; COLUMNS.len()] {
        &self.values
    }

    /// The message, its keys in the order in which Sequin's encoder puts them.
    pub fn message(&self, schema: &str) -> String {
        let [
            id,
            string_field,
            numeric_field,
            timestamp_field,
            json_field,
            inserted_at,
            updated_at,
        ] = &self.values;
        let (action, changes) = match self.phase {
            Phase::New => ("insert", "null"),
            Phase::Exist => ("update", "{}"),
        };
        let Change {
            lsn,
            idx,
            committed_at,
            ..
        } = self;
        let string_field = serde_json::Value::from(string_field.as_str());
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
                r#""transaction_annotations":null}},"#,
                r#""record":{{"id":{id},"inserted_at":"{inserted_at}","json_field":{json_field},"#,
                r#""numeric_field":"{numeric_field}","string_field":{string_field},"#,
                r#""timestamp_field":"{timestamp_field}","updated_at":"{updated_at}"}}}}"#,
            ),
            action = action,
            changes = changes,
            idx = idx,
            lsn = lsn,
            committed_at = committed_at,
            idempotency_key = idempotency_key,
            id = id,
            schema = schema,
            inserted_at = inserted_at,
            json_field = json_field,
            numeric_field = numeric_field,
            string_field = string_field,
            timestamp_field = timestamp_field,
            updated_at = updated_at,
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
    fn next(&mut self, phase: Phase, id: usize, random: &mut Random) -> Change {
        if self.left == 0 {
            self.left = 1 + random.below(20);
            self.lsn = self.lsn.max(3_000_000_000_000) + 300 + 8 * random.below(1000);
            self.idx = 0;
            self.committed_at += 1 + random.below(100_000);
        }
        let (lsn, idx) = (self.lsn, self.idx);
        self.left -= 1;
        self.idx += 1;

        let (whole, scale) = (random.below(1_000_000), 2 + random.below(3) as usize);
        let fraction = random.below(10_u64.pow(scale as u32));
        let inserted_at = random.below(MONTH);
        let note = serde_json::Value::from(random.words(3));
        let (city, street) = (random.word(), random.below(1000));
        Change {
            phase,
            lsn,
            idx,
            committed_at: timestamp(self.committed_at) + "Z",
            values: [
                id.to_string(),
                random.words_of(60, 120),
                format!("{whole}.{fraction:0scale$}"),
                timestamp(random.below(MONTH)) + "Z",
                format!(
                    r#"{{"active":{},"address":{{"city":{},"number":{street}}},"note":{note},"tags":["new",{}]}}"#,
                    random.below(2) == 0,
                    serde_json::Value::from(city),
                    random.below(1_000_000),
                ),
                timestamp(inserted_at),
                timestamp(inserted_at + random.below(DAY)),
            ],
        }
    }
}

const DAY: u64 = 86_400_000_000;
const MONTH: u64 = 28 * DAY;

/// The timestamp so many microseconds after 2025-06-01, in that month.
fn timestamp(microseconds: u64) -> String {
    let (day, rest) = (microseconds / DAY, microseconds % DAY);
    let (second, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "2025-06-{:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}",
        day + 1
    )
}

/// The generator SplitMix64: the same changes in every run. It is another one than that of the tests, so that figures
/// can be compared with those of earlier versions.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    fn words(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| self.word())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Words that are `low` to `high` bytes long together, give or take one.
    fn words_of(&mut self, low: u64, high: u64) -> String {
        let bytes = low + self.below(high - low);
        let mut text = self.word().to_owned();
        while (text.len() as u64) < bytes {
            text.push(' ');
            text.push_str(self.word());
        }
        text
    }

    /// Puts items in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
