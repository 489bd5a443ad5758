//! What was measured, by the names under which it is shown.

use serde_json::Value;

/// One way to write messages: as the benchmark names it, where its batch comes from, its guard, and how it is called.
pub struct Way {
    pub contender: &'static str,
    pub from: &'static str,
    pub guard: Option<&'static str>,
    pub name: &'static str,
    /// Why it takes less of the server than the extension, where it does.
    pub why: &'static str,
}

const fn ours(guard: &'static str, name: &'static str) -> Way {
    Way {
        contender: "text",
        from: "client",
        guard: Some(guard),
        name,
        why: "",
    }
}

const fn peer(contender: &'static str, name: &'static str, why: &'static str) -> Way {
    Way {
        contender,
        from: "client",
        guard: None,
        name,
        why,
    }
}

const TYPED: &str = "the client has read the JSON and sends typed values, so the server has only to write them, and \
                     nothing asks which change of a row is newer";

/// All, in the order in which they are shown.
pub const WAYS: [Way; 10] = [
    Way {
        contender: "floor",
        from: "server",
        guard: None,
        name: "the floor: `insert … select` of typed rows",
        why: "it has no messages to read",
    },
    ours("off", "`sequin_apply(text)`, guard `off`"),
    ours("columns", "`sequin_apply(text)`, guard `columns`"),
    ours("table", "`sequin_apply(text)`, guard `table`"),
    Way {
        contender: "replication",
        from: "publisher",
        guard: None,
        name: "native logical replication",
        why: "values come typed by position, in commit order, so there is no JSON to read, no mapping and no version to \
              compare; it needs a connection to the source, and writes a row at a time",
    },
    peer("unnest", "client, an array a column: `unnest`", TYPED),
    peer(
        "copy",
        "client, `COPY` to staging, then `on conflict`",
        TYPED,
    ),
    peer("executemany", "client, `executemany`, pipelined", TYPED),
    peer(
        "plain_sql",
        "plain SQL, `jsonb_populate_record`",
        "it compares no versions",
    ),
    peer(
        "guide",
        "the guide's processor: a commit a message",
        "it compares no versions",
    ),
];

/// What docs/figures.json has.
pub struct Figures(Value);

impl Figures {
    pub fn new(value: Value) -> Figures {
        Figures(value)
    }

    /// The commit, the machine, and so on.
    pub fn about(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or("unknown")
    }

    /// What the server says of itself.
    pub fn server(&self, name: &str) -> &str {
        self.0["apply"]["server"][name]
            .as_str()
            .unwrap_or("unknown")
    }

    fn series(&self) -> impl Iterator<Item = &Value> {
        self.0["apply"]["series"].as_array().into_iter().flatten()
    }

    /// The figures of one way.
    pub fn of(&self, way: &Way, shape: &str, batch: u64, rows: &str) -> Option<&Value> {
        self.series().find(|one| {
            one["contender"] == way.contender
                && one["from"] == way.from
                && one["guard"].as_str() == way.guard
                && one["shape"] == shape
                && one["batch"] == batch
                && one["rows"] == rows
        })
    }

    /// A figure of one way: batches of 1000 messages, seven columns.
    pub fn figure(&self, way: &Way, rows: &str, name: &str) -> Option<f64> {
        self.of(way, "seven", 1000, rows)?[name].as_f64()
    }

    /// The rows that are wrong in the end, of how many.
    pub fn ending(&self, way: &Way) -> Option<(u64, u64)> {
        let endings = self.0["apply"]["ends"].as_array()?;
        let ending = endings
            .iter()
            .find(|one| one["contender"] == way.contender && one["guard"].as_str() == way.guard)?;
        Some((ending["wrong"].as_u64()?, ending["rows"].as_u64()?))
    }

    /// The sizes of batches that were measured of this table.
    pub fn batches(&self, shape: &str) -> Vec<u64> {
        let series = self.series().filter(|one| one["shape"] == shape);
        let mut sizes: Vec<u64> = series.filter_map(|one| one["batch"].as_u64()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// The cases of a bench that compares calls with calls.
    pub fn cases(&self, bench: &str) -> &[Value] {
        self.0[bench].as_array().map_or(&[], Vec::as_slice)
    }
}
