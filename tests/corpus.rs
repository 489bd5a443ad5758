//! Real messages of Sequin with the truth beside them (tests/corpus): applied in commit order, in the order of a real
//! delivery, in any order, by one session and by several at once, the destination equals the source in the end.
//!
//! `CORPUS_SEEDS=50` tries more orders than the usual few.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Mutex;

use postgres::Client;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::{
    Counts, Database, Random, apply, apply_jsonb, batch, corpus_directory, corpus_lines,
    has_extensions, has_xml, number, rows, run, server, value,
};

/// Settings under which `COPY` prints as the corpora do.
const SPELLING: &str = "set datestyle = 'ISO'; set timezone = 'UTC'; set extra_float_digits = 1;
                        set bytea_output = 'hex'; set intervalstyle = 'postgres'";

/// A row of a CSV file: `None` is null.
type Row = Vec<Option<String>>;

struct Table {
    name: String,
    key: Vec<String>,
    lossy: Vec<String>,
    columns: Vec<String>,
    /// The rows at the source, by their key.
    rows: BTreeMap<Row, Row>,
}

struct Corpus {
    name: &'static str,
    dir: PathBuf,
    tables: Vec<Table>,
    /// The arguments of `sequin.map`, without the guard.
    mappings: Vec<Value>,
    /// Table, key and column of values that no message has.
    never_sent: Vec<(String, Row, String)>,
    /// The changes in commit order.
    live: Vec<String>,
    reads: Vec<String>,
    /// Requests in the order in which they came.
    delivery: Vec<String>,
    /// Whether the changes alone make the final state.
    complete: bool,
    /// How many mappings a message goes to.
    fan_out: i64,
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().expect("a list");
    list.iter()
        .map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect()
}

/// The rows of a CSV text as `COPY` writes it: an empty field is null, unless it is quoted.
fn csv(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut row = Row::new();
        loop {
            if let Some(quoted) = rest.strip_prefix('"') {
                let mut field = String::new();
                rest = quoted;
                loop {
                    let end = rest.find('"').expect("a quote that closes");
                    field.push_str(&rest[..end]);
                    rest = &rest[end + 1..];
                    match rest.strip_prefix('"') {
                        Some(more) => {
                            field.push('"');
                            rest = more;
                        }
                        None => break,
                    }
                }
                row.push(Some(field));
            } else {
                let end = rest.find([',', '\n']).unwrap_or(rest.len());
                row.push((end > 0).then(|| rest[..end].to_owned()));
                rest = &rest[end..];
            }
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('\n').unwrap_or(rest);
        rows.push(row);
    }
    rows
}

/// The columns of a CSV text, and its rows by key.
fn by_key(text: &str, key: &[String]) -> (Vec<String>, BTreeMap<Row, Row>) {
    let mut rows = csv(text).into_iter();
    let columns: Vec<String> = rows
        .next()
        .expect("a header")
        .into_iter()
        .flatten()
        .collect();
    let key: Vec<usize> = key
        .iter()
        .map(|name| columns.iter().position(|c| c == name).expect("the key"))
        .collect();
    let rows = rows
        .map(|row| (key.iter().map(|&i| row[i].clone()).collect(), row))
        .collect();
    (columns, rows)
}

impl Corpus {
    fn load(name: &'static str) -> Corpus {
        let dir = corpus_directory(name);
        let text = fs::read_to_string(dir.join("corpus.json")).expect("corpus.json");
        let spec: Value = serde_json::from_str(&text).expect("corpus.json");
        let by_database = spec["by_database"] == true;
        let mut tables: Vec<(String, Vec<String>, Vec<String>)> = Vec::new();
        let (mut typed, mut documents) = (Vec::new(), Vec::new());
        for (table, about) in spec["tables"].as_object().expect("tables") {
            let mut key = strings(&about["pk"]);
            let source = format!("public.{table}");
            if by_database {
                key.insert(0, "source_database".to_owned());
                typed.push(json!({"source": source, "destination": table, "columns":
                    {"source_database": "metadata.database.name", "*": "record.*"}}));
                documents.push(json!({"source": source, "destination": "fanin_records",
                    "name": format!("documents of {table}"), "columns": {
                        "source_database": "metadata.database.name",
                        "source_table": "metadata.table_name",
                        "record_id": "record.id", "data": "record"}}));
            } else {
                typed.push(json!({"source": source, "destination": table}));
            }
            tables.push((table.clone(), key, strings(&about["lossy"])));
        }
        if by_database {
            let key = ["source_database", "source_table", "record_id"].map(str::to_owned);
            tables.push(("fanin_records".to_owned(), key.to_vec(), Vec::new()));
        }
        let tables = tables
            .into_iter()
            .map(|(name, key, lossy)| {
                let path = dir.join(format!("final.{name}.csv"));
                let text = fs::read_to_string(&path).expect("the final state");
                let (columns, rows) = by_key(&text, &key);
                Table {
                    name,
                    key,
                    lossy,
                    columns,
                    rows,
                }
            })
            .collect();
        let never_sent = spec["never_sent"].as_array().into_iter().flatten();
        let never_sent = never_sent
            .map(|value| {
                let key = strings(&value[1]).into_iter().map(Some).collect();
                let text = |i: usize| value[i].as_str().expect("a name").to_owned();
                (text(0), key, text(2))
            })
            .collect();
        let fan_out = if by_database { 2 } else { 1 };
        typed.extend(documents);
        Corpus {
            name,
            tables,
            mappings: typed,
            never_sent,
            live: corpus_lines(name, "live.jsonl.gz"),
            reads: corpus_lines(name, "reads.jsonl.gz"),
            delivery: corpus_lines(name, "delivery.jsonl.gz"),
            complete: spec["live_incomplete"].is_null(),
            fan_out,
            dir,
        }
    }

    /// A database with the destination, mapped.
    fn database(&self, what: &str, guard: &str) -> Database {
        let database = Database::new(&format!("corpus_{}_{what}", self.name));
        let mut client = database.connect();
        let sql = fs::read_to_string(self.dir.join("destination.sql")).expect("destination.sql");
        run(&mut client, &sql);
        for mapping in &self.mappings {
            let text = |name: &str| match &mapping[name] {
                Value::Null => "null".to_owned(),
                Value::String(text) => format!("'{text}'"),
                other => format!("'{other}'"),
            };
            run(
                &mut client,
                &format!(
                    "select sequin.map({}, {}, columns => {}, name => {}, guard => '{guard}')",
                    text("source"),
                    text("destination"),
                    text("columns"),
                    text("name")
                ),
            );
        }
        database
    }

    /// All messages.
    fn messages(&self) -> Vec<String> {
        self.live.iter().chain(&self.reads).cloned().collect()
    }

    /// Asserts that the destination equals the source.
    fn check(&self, client: &mut Client, how: &str) {
        run(client, SPELLING);
        let (mut wrong, mut differences) = (0, Vec::new());
        for table in &self.tables {
            let columns: Vec<_> = table.columns.iter().map(|c| format!("\"{c}\"")).collect();
            let columns = columns.join(", ");
            let mut text = String::new();
            client
                .copy_out(&format!(
                    "copy (select {columns} from {}) to stdout csv header",
                    table.name
                ))
                .map(|mut copy| copy.read_to_string(&mut text))
                .expect("COPY")
                .expect("UTF-8");
            let (_, found) = by_key(&text, &table.key);
            let mut note = |difference: String| {
                wrong += 1;
                if differences.len() < 20 {
                    differences.push(format!("{}: {difference}", table.name));
                }
            };
            for key in found.keys().filter(|key| !table.rows.contains_key(*key)) {
                note(format!("{key:?} is too many"));
            }
            for (key, wanted) in &table.rows {
                let Some(found) = found.get(key) else {
                    note(format!("{key:?} is missing"));
                    continue;
                };
                for (i, column) in table.columns.iter().enumerate() {
                    let never_sent = || {
                        let mut never = self.never_sent.iter();
                        never.any(|(t, k, c)| *t == table.name && k == key && c == column)
                    };
                    if wanted[i] != found[i] && !table.lossy.contains(column) && !never_sent() {
                        let short = |value: &Option<String>| {
                            value
                                .as_ref()
                                .map(|v| v.chars().take(60).collect::<String>())
                        };
                        let (wanted, found) = (short(&wanted[i]), short(&found[i]));
                        note(format!("{key:?} {column}: {wanted:?} is {found:?}"));
                    }
                }
            }
        }
        assert!(
            differences.is_empty(),
            "{} {how}: {wrong} differences\n{}",
            self.name,
            differences.join("\n")
        );
    }

    /// Where every row of the destination is, and which transaction wrote it.
    fn places(&self, client: &mut Client) -> Vec<String> {
        self.tables
            .iter()
            .flat_map(|table| rows(client, &format!("select ctid, xmin from {} t", table.name)))
            .collect()
    }

    /// Asserts that the counts of some calls add up.
    fn conserved(&self, counts: &Counts, how: &str) {
        // A message that goes to no mapping has one outcome.
        let (least, most) = match self.name {
            "poison" => (counts.received, counts.received),
            _ => (
                counts.received * self.fan_out,
                counts.received * self.fan_out,
            ),
        };
        let outcomes = counts.outcomes();
        assert!(
            least <= outcomes && outcomes <= most,
            "{} {how}: {counts:?}",
            self.name
        );
        assert_eq!((counts.filtered, counts.ignored), (0, 0), "{how}");
        if self.name != "poison" {
            assert_eq!(counts.dead, 0, "{} {how}", self.name);
        }
    }
}

/// Batches of so many messages, or of as many as the dice say.
fn batches(messages: &[String], size: Option<usize>, random: &mut Random) -> Vec<String> {
    let (mut batches, mut rest) = (Vec::new(), messages);
    while !rest.is_empty() {
        let size = size.unwrap_or_else(|| 1 + random.below(300) as usize);
        let (now, later) = rest.split_at(size.min(rest.len()));
        batches.push(batch(now));
        rest = later;
    }
    batches
}

fn apply_all(
    client: &mut Client,
    batches: &[String],
    call: fn(&mut Client, &str) -> Counts,
) -> Counts {
    let mut sum = Counts::default();
    for batch in batches {
        sum += call(client, batch);
    }
    sum
}

/// The messages of a request.
fn unpack(request: &str) -> Vec<String> {
    let parts: BTreeMap<String, Vec<&RawValue>> = serde_json::from_str(request).expect("a request");
    let data = parts.into_values().next().expect("data");
    data.iter()
        .map(|message| message.get().to_owned())
        .collect()
}

/// One session, in every order.
fn every_order(name: &'static str) {
    let corpus = Corpus::load(name);
    let random = &mut Random::new(1);
    let mut orders: Vec<(String, &str, Vec<String>)> = Vec::new();
    for guard in ["columns", "table"] {
        if corpus.complete {
            let live = batches(&corpus.live, Some(100), random);
            orders.push(("live".to_owned(), guard, live));
        }
        orders.push(("delivery".to_owned(), guard, corpus.delivery.clone()));
    }
    let delivered: Vec<String> = corpus.delivery.iter().flat_map(|r| unpack(r)).collect();
    let delivered = batches(&delivered, Some(100), random);
    orders.push(("delivery in batches of 100".to_owned(), "auto", delivered));
    for seed in 1..=number("CORPUS_SEEDS", 2) {
        for guard in ["columns", "table"] {
            let random = &mut Random::new(seed);
            let mut messages = corpus.messages();
            random.shuffle(&mut messages);
            let size = (seed % 2 == 1).then_some(100);
            let how = format!("shuffle {seed}, batches of {size:?}");
            orders.push((how, guard, batches(&messages, size, random)));
        }
    }
    for (order, (how, guard, batches)) in orders.iter().enumerate() {
        let how = format!("{how}, guard {guard}");
        let database = corpus.database(&order.to_string(), guard);
        let client = &mut database.connect();
        let counts = apply_all(client, batches, apply);
        corpus.conserved(&counts, &how);
        corpus.check(client, &how);
        // Everything once more, in another order: nothing is news, and no row is written again.
        if how.starts_with("live") {
            continue; // the reads were not sent
        }
        let places = corpus.places(client);
        let mut messages = corpus.messages();
        Random::new(order as u64).shuffle(&mut messages);
        let again = self::batches(&messages, None, &mut Random::new(order as u64));
        let counts = apply_all(client, &again, apply);
        let how = format!("{how}, everything again");
        corpus.conserved(&counts, &how);
        assert_eq!(
            (counts.upserted, counts.deleted),
            (0, 0),
            "{name} {how}: {counts:?}"
        );
        corpus.check(client, &how);
        assert_eq!(corpus.places(client), places, "{name} {how}");
    }
}

/// If no message decides, none is collapsed either: all are stale.
#[test]
fn everything_again_is_stale() {
    let corpus = Corpus::load("shop");
    for guard in ["columns", "table"] {
        let database = corpus.database(&format!("again_{guard}"), guard);
        let client = &mut database.connect();
        let mut messages = corpus.messages();
        apply_all(
            client,
            &batches(&messages, Some(100), &mut Random::new(1)),
            apply,
        );
        Random::new(1).shuffle(&mut messages);
        let again = batches(&messages, Some(500), &mut Random::new(1));
        let counts = apply_all(client, &again, apply);
        // bug: collapsed where the newest of the batch is stale itself
        assert_eq!(counts.received, counts.stale, "guard {guard}: {counts:?}");
    }
}

/// Four sessions deliver the requests, and each request also at the same time a second time.
fn concurrently(name: &'static str) {
    let corpus = Corpus::load(name);
    let orders = ["columns", "table", "auto"];
    for guard in orders {
        let how = format!("four sessions, guard {guard}");
        let database = corpus.database(&format!("sessions_{guard}"), guard);
        let requests: Vec<&String> = corpus.delivery.iter().flat_map(|r| [r, r]).collect();
        let queue = Mutex::new(requests.into_iter());
        let sum = Mutex::new(Counts::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut client = database.connect();
                    loop {
                        let request = queue.lock().expect("the queue").next();
                        let Some(request) = request else { return };
                        // no error reaches the caller
                        let counts = apply(&mut client, request);
                        *sum.lock().expect("the sum") += counts;
                    }
                });
            }
        });
        let sum = sum.into_inner().expect("the sum");
        let messages = corpus.delivery.iter().map(|r| unpack(r).len() as i64);
        assert_eq!(sum.received, 2 * messages.sum::<i64>(), "{name} {how}");
        corpus.conserved(&sum, &how);
        corpus.check(&mut database.connect(), &how);
    }
}

/// The same as jsonb.
fn as_jsonb(name: &'static str) {
    let corpus = Corpus::load(name);
    for guard in ["columns", "table"] {
        let database = corpus.database(&format!("jsonb_{guard}"), guard);
        let client = &mut database.connect();
        let counts = apply_all(client, &corpus.delivery, apply_jsonb);
        let how = format!("delivery as jsonb, guard {guard}");
        corpus.conserved(&counts, &how);
        corpus.check(client, &how);
    }
}

/// A guard 'auto' whose destination has the columns.
#[test]
fn auto_takes_the_columns() {
    let corpus = Corpus::load("shop");
    let database = corpus.database("auto_columns", "auto");
    let client = &mut database.connect();
    for table in &corpus.tables {
        run(
            client,
            &format!(
                "alter table {} add sequin_lsn bigint, add sequin_idx integer,
                                add sequin_committed_at timestamptz",
                table.name
            ),
        );
    }
    let counts = apply_all(client, &corpus.delivery, apply);
    let how = "delivery, guard auto with the columns there";
    corpus.conserved(&counts, how);
    corpus.check(client, how);
    assert_ne!(
        value(
            client,
            "select count(*) from orders where sequin_lsn is not null"
        ),
        "0"
    );
}

/// Whether the server has the types of the corpus; some are built without extensions.
fn is_possible(name: &str) -> bool {
    let mut server = server();
    !name.starts_with("types_")
        || has_xml(&mut server) && has_extensions(&mut server, &["citext", "hstore"])
}

macro_rules! corpora {
    ($($test:ident: $check:ident($name:literal);)*) => {
        $(#[test] fn $test() { if is_possible($name) { $check($name) } })*
    };
}

corpora! {
    shop_in_every_order: every_order("shop");
    toast_in_every_order: every_order("toast");
    types_default_in_every_order: every_order("types_default");
    types_full_in_every_order: every_order("types_full");
    fanin_in_every_order: every_order("fanin");
    backfill_in_every_order: every_order("backfill");
    poison_in_every_order: every_order("poison");
    shop_as_jsonb: as_jsonb("shop");
    toast_as_jsonb: as_jsonb("toast");
    types_full_as_jsonb: as_jsonb("types_full");
    shop_by_four_sessions: concurrently("shop");
    toast_by_four_sessions: concurrently("toast");
    types_default_by_four_sessions: concurrently("types_default");
    types_full_by_four_sessions: concurrently("types_full");
    fanin_by_four_sessions: concurrently("fanin");
    backfill_by_four_sessions: concurrently("backfill");
    poison_by_four_sessions: concurrently("poison");
}

/// The damaged messages of `poison`, as poison.csv lists them.
struct Poison {
    lsn: u64,
    idx: u64,
    kind: String,
    deliveries: usize,
    /// Whether no later message of the row makes up for it.
    lasting: bool,
}

fn poison(corpus: &Corpus) -> Vec<Poison> {
    let text = fs::read_to_string(corpus.dir.join("poison.csv")).expect("poison.csv");
    let mut rows = csv(&text).into_iter();
    let header = rows.next().expect("a header");
    rows.map(|row| {
        let field = |name: &str| {
            let at = header.iter().position(|c| c.as_deref() == Some(name));
            row[at.expect("the column")].clone().unwrap_or_default()
        };
        let number = |name: &str| field(name).parse().expect("a number");
        Poison {
            lsn: number("commit_lsn"),
            idx: number("commit_idx"),
            kind: field("kind"),
            deliveries: field("delivery_lines").split(' ').count(),
            lasting: field("next_good_message_live_line").is_empty(),
        }
    })
    .collect()
}

/// Each damaged message is a dead letter, with an error that fits; nothing else is.
#[test]
fn poison_is_counted() {
    let corpus = Corpus::load("poison");
    let poison = poison(&corpus);
    assert_eq!(poison.len(), 20);
    for guard in ["columns", "table", "auto"] {
        let database = corpus.database(&format!("letters_{guard}"), guard);
        let client = &mut database.connect();
        let counts = apply_all(client, &corpus.delivery, apply);
        let deliveries: i64 = poison.iter().map(|p| p.deliveries as i64).sum();
        let mut without_letter = 0;
        let letters = client
            .query(
                "select message, sqlstate, state from sequin.dead_letter",
                &[],
            )
            .expect("dead letters");
        let letters: Vec<(Value, String, String)> = letters
            .iter()
            .map(|row| {
                let message = serde_json::from_str(row.get(0)).expect("a message");
                (message, row.get(1), row.get(2))
            })
            .collect();
        for poison in &poison {
            let mine: Vec<_> = letters
                .iter()
                .filter(|(message, ..)| {
                    message["metadata"]["commit_lsn"] == poison.lsn
                        && message["metadata"]["commit_idx"] == poison.idx
                })
                .collect();
            // It was stale when it came, or a newer change of its row has made up for it.
            if mine.is_empty() {
                assert!(!poison.lasting, "{} {}", poison.kind, poison.lsn);
                without_letter += poison.deliveries as i64;
            }
            for (_, sqlstate, state) in mine {
                let fits = match poison.kind.as_str() {
                    "null_in_not_null" => sqlstate == "23502",
                    // an array in a numeric column has another error than a text
                    "cast" => sqlstate.starts_with("22") || sqlstate == "42804",
                    "huge_number" | "nul_character" => sqlstate.starts_with("22"),
                    _ => true,
                };
                assert!(fits, "{} {}: {sqlstate}", poison.kind, poison.lsn);
                assert_eq!(state, "dead", "{} {}", poison.kind, poison.lsn);
            }
        }
        let dead = deliveries - without_letter..=deliveries;
        assert!(dead.contains(&counts.dead), "{counts:?}");
        let known = |message: &Value| {
            poison.iter().any(|p| {
                message["metadata"]["commit_lsn"] == p.lsn
                    && message["metadata"]["commit_idx"] == p.idx
            })
        };
        let other: Vec<_> = letters.iter().filter(|(m, ..)| !known(m)).collect();
        assert!(other.is_empty(), "{other:?}");
    }
}
