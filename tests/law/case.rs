//! A case: a schema, rows, transactions, delivered in every order and split.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;
use support::{Random, number};

use crate::delivery::{Delivery, deliveries};
use crate::destination::{Destination, Table, Wrong, said, state};
use crate::source::{Read, Sent, Source, brief};
use crate::variety::{Mapped, Variety};

/// Written `{deferred}` in the DDL of a case: deferrable, and deferred, at the source alone.
const DEFERRED: &str = "deferrable initially deferred";

/// A case. What happens at the source is SQL; each text of `transactions` is one transaction.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// The tables of both sides.
    pub ddl: String,
    pub at_source: String,
    pub at_destination: String,
    pub initial: String,
    pub transactions: Vec<String>,
    /// How tables are mapped that are not mapped plainly.
    pub mapped: Vec<Mapped>,
    pub variety: Variety,
    /// Deliveries that are tried whatever the number of deliveries is.
    pub delivered: Vec<Delivery>,
}

impl Case {
    pub fn new(
        name: impl Into<String>,
        ddl: impl Into<String>,
        initial: impl Into<String>,
        transactions: &[&str],
    ) -> Case {
        Case {
            name: name.into(),
            ddl: ddl.into(),
            at_source: String::new(),
            at_destination: String::new(),
            initial: initial.into(),
            transactions: transactions.iter().map(|&sql| sql.to_owned()).collect(),
            mapped: Vec::new(),
            variety: Variety::default(),
            delivered: Vec::new(),
        }
    }

    /// With more DDL at the source.
    pub fn at_source(mut self, ddl: impl Into<String>) -> Case {
        self.at_source = ddl.into();
        self
    }

    /// With more DDL at the destination.
    pub fn at_destination(mut self, ddl: impl Into<String>) -> Case {
        self.at_destination = ddl.into();
        self
    }

    /// With more arguments of `sequin.map` for a table, and which of its rows the source has too.
    pub fn mapped(mut self, table: &str, arguments: &str, only: &str) -> Case {
        let [table, arguments, only] = [table, arguments, only].map(str::to_owned);
        self.mapped.push(Mapped {
            table,
            arguments,
            only,
            ..Mapped::default()
        });
        self
    }

    /// With this delivery among those that are tried, as it is printed: `[m1 m2] [m0]`.
    pub fn delivered(mut self, calls: &str) -> Case {
        self.delivered.push(Delivery::parsed(calls));
        self
    }

    /// With rows of a table that stay when they are deleted, and are marked in `gone`.
    pub fn soft(self, table: &str) -> Case {
        let arguments = ", on_delete => 'soft', soft_delete => 'gone'";
        self.mapped(table, arguments, "gone is not true")
    }

    /// Whether a message without old values says less than it must: the mapping's key is not the source's.
    pub fn has_own_key(&self) -> bool {
        let mut mapped = self.mapped.iter();
        mapped.any(|mapped| mapped.arguments.contains("key =>"))
    }

    /// The column that tells the rows of a table apart.
    fn key(&self, table: &str) -> &str {
        let mut mapped = self.mapped.iter().filter(|mapped| mapped.table == table);
        mapped.find_map(Mapped::key).unwrap_or("id")
    }

    /// The tables of the source, and how they are mapped.
    pub fn tables(&self, source: &mut Source) -> Vec<Table> {
        let names = source.tables();
        let of = |name: String| {
            let columns = source.columns(&name);
            let mapped = self.mapped.iter().filter(|mapped| mapped.table == name);
            Mapped::table(mapped, name.clone(), columns)
        };
        names.into_iter().map(of).collect()
    }

    pub fn source_ddl(&self) -> String {
        let ddl = self.ddl.replace("{deferred}", DEFERRED);
        format!("{ddl}; {}", self.at_source)
    }

    pub fn destination_ddl(&self) -> String {
        let ddl = self.ddl.replace("{deferred}", "");
        format!("{}; {}", self.variety.ddl(&ddl), self.at_destination)
    }
}

/// What the source has done: its messages, and its rows in the end.
pub struct History {
    pub tables: Vec<Table>,
    /// What came before the stream began: only reads tell it.
    pub unsent: Vec<Sent>,
    pub initial: Vec<Sent>,
    pub sent: Vec<Sent>,
    pub wanted: Vec<String>,
}

impl History {
    /// Executes a case at the source. `None` if its messages do not say what happened.
    pub fn of(case: &Case, source: &mut Source, full: bool) -> Result<Option<History>, String> {
        let ddl = case.source_ddl();
        source.make(&ddl, full).map_err(|error| said(&error))?;
        if !full && (source.has_deferrable_key() || case.has_own_key()) {
            return Ok(None);
        }
        let tables = case.tables(source);
        // a smaller case may lack a column that is asked for
        let state = state(&tables, true);
        source.run(&state).map_err(|error| said(&error))?;
        source.watch();
        let transactions = std::iter::once(&case.initial)
            .filter(|sql| !sql.is_empty())
            .chain(&case.transactions);
        for sql in transactions {
            match Read::parsed(sql) {
                Some(read) => source.read(&read),
                None => source.run(sql),
            }
            .map_err(|error| format!("{sql}: {}", said(&error)))?;
        }
        let is_read = |table: &Table| source.has_read(&table.name);
        if case.variety.backfilled && !tables.iter().all(is_read) {
            return Ok(None);
        }
        let history = History::captured(case, tables, source, full);
        let hides = source.has_deferrable_key() || case.has_own_key();
        let says_all = !full || !hides || !history.hides_row(case);
        Ok((says_all && (full || !history.hides_key())).then_some(history))
    }

    /// What the source has done since it began to capture.
    pub fn captured(case: &Case, tables: Vec<Table>, source: &mut Source, full: bool) -> History {
        let initial = usize::from(!case.initial.is_empty());
        let (mut sent, reads) = source.captured();
        if !full {
            case.variety.toast(&mut sent);
        }
        let before = sent.partition_point(|sent| sent.transaction < initial);
        let mut after = sent.split_off(before);
        for (number, read) in reads {
            let place = after.partition_point(|sent| sent.number() <= number);
            after.insert(place, read);
        }
        let (unsent, initial) = match case.variety.backfilled {
            true => (sent, Vec::new()),
            false => (Vec::new(), sent),
        };
        History {
            wanted: source.rows(&state(&tables, true)),
            tables,
            unsent,
            initial,
            sent: after,
        }
    }

    /// Whether a message does not say from which key a row has come.
    pub fn hides_key(&self) -> bool {
        self.sent.iter().any(|sent| sent.hides_key)
    }

    /// Whether messages do not say which of two rows of one key goes. With a deferrable key, a row can come to the key of
    /// another one; docs/explanation/convergence.md names the cases in which they are not told apart.
    pub fn hides_row(&self, case: &Case) -> bool {
        let mut rows: HashMap<(String, String), Vec<Value>> = HashMap::new();
        let before = self.unsent.iter().chain(&self.initial);
        for Sent { message, .. } in before.chain(&self.sent) {
            if message.action == "read" {
                continue;
            }
            let record: Value = serde_json::from_str(&message.record).expect("a record");
            let changes: Value = serde_json::from_str(&message.changes).expect("changes");
            let mut former = record.clone();
            for (name, value) in changes.as_object().into_iter().flatten() {
                former[name] = value.clone();
            }
            let key = case.key(&message.table);
            let at = |image: &Value| (message.table.clone(), image[key].to_string());
            if message.action != "insert" {
                let here = rows.entry(at(&former)).or_default();
                let equal = here.iter().filter(|row| **row == former).count();
                let place = here.iter().position(|row| *row == former);
                match place {
                    Some(place) if message.action == "update" && at(&former) == at(&record) => {
                        if here.len() > 1 {
                            return true;
                        }
                        here[place] = record;
                        continue;
                    }
                    Some(place) => drop(here.remove(place)),
                    None => {}
                }
                let values = former.as_object().into_iter().flatten();
                let is_key_alone = values.filter(|(_, value)| !value.is_null()).count() < 2;
                if equal > 1 || !here.is_empty() && (place != Some(0) || is_key_alone) {
                    return true;
                }
            }
            if message.action != "delete" {
                rows.entry(at(&record)).or_default().push(record);
            }
        }
        false
    }

    pub fn transactions(&self) -> Vec<usize> {
        self.sent.iter().map(|sent| sent.transaction).collect()
    }

    /// The messages, a line each.
    pub fn print(&self, text: &mut String) {
        for sent in &self.unsent {
            let _ = writeln!(text, "  not sent {}", brief(&sent.message));
        }
        for sent in &self.initial {
            let _ = writeln!(text, "  initial  {}", brief(&sent.message));
        }
        for (m, sent) in self.sent.iter().enumerate() {
            let _ = writeln!(text, "  m{m:<7} {}", brief(&sent.message));
        }
    }
}

/// What came of a case.
pub struct Verdict {
    pub name: String,
    pub guard: &'static str,
    pub identity: &'static str,
    pub deliveries: usize,
    pub wrong: usize,
    /// How many deliveries are wrong in this way.
    pub ways: [usize; 4],
    /// The simplest of the wrong deliveries, readable.
    pub print: String,
}

/// Delivers a case in every order and split if they are `limit` at most, or else in so many.
pub fn run_case(
    case: &Case,
    source: &mut Source,
    destination: &mut Destination,
    guard: &'static str,
    full: bool,
    limit: usize,
) -> Option<Verdict> {
    let history =
        History::of(case, source, full).unwrap_or_else(|error| panic!("{}: {error}", case.name))?;
    destination
        .make(&case.destination_ddl(), &history.tables, guard)
        .unwrap_or_else(|error| panic!("{}: {}", case.name, said(&error)));
    let mut random = Random::new(number("LAW_SEED", 1));
    let mut all = deliveries(&history.transactions(), limit, &mut random);
    all.extend(case.delivered.iter().cloned());
    let mut verdict = Verdict {
        name: case.name.clone(),
        guard,
        identity: if full { "full" } else { "default" },
        deliveries: all.len(),
        wrong: 0,
        ways: [0; 4],
        print: String::new(),
    };
    let mut simplest: Option<(Delivery, Wrong)> = None;
    for delivery in all {
        let wrong = deliver(destination, &history, &delivery);
        if wrong.is_right() {
            continue;
        }
        verdict.wrong += 1;
        for (way, (_, lines)) in verdict.ways.iter_mut().zip(wrong.parts()) {
            *way += usize::from(!lines.is_empty());
        }
        if simplest
            .as_ref()
            .is_none_or(|(s, _)| delivery.difficulty() < s.difficulty())
        {
            simplest = Some((delivery, wrong));
        }
    }
    if let Some((delivery, wrong)) = simplest {
        verdict.print = print(case, &history, &delivery, &wrong);
    }
    Some(verdict)
}

/// Delivers once; and once more if a call was slow, which a busy machine explains as well as a wait.
pub fn deliver(destination: &mut Destination, history: &History, delivery: &Delivery) -> Wrong {
    let mut wrong = destination.deliver(history, delivery);
    if !wrong.slow.is_empty() {
        let again = destination.deliver(history, delivery);
        if again.slow.is_empty() {
            wrong.slow.clear();
        }
    }
    wrong
}

/// All that is needed to see a wrong delivery happen.
pub fn print(case: &Case, history: &History, delivery: &Delivery, wrong: &Wrong) -> String {
    let mut text = String::new();
    for (side, ddl) in [
        ("source     ", case.source_ddl()),
        ("destination", case.destination_ddl()),
    ] {
        let _ = writeln!(text, "  {side} {}", squeezed(&ddl));
    }
    for Mapped {
        table, arguments, ..
    } in &case.mapped
    {
        let _ = writeln!(text, "  mapping of {table}{arguments}");
    }
    let _ = writeln!(text, "  rows        {}", squeezed(&case.initial));
    for sql in &case.transactions {
        let _ = writeln!(text, "  transaction {}", squeezed(sql));
    }
    history.print(&mut text);
    let _ = writeln!(text, "  calls       {}", delivery.text());
    for (kind, lines) in wrong.parts() {
        for line in lines {
            let _ = writeln!(text, "  {kind:<11} {line}");
        }
    }
    text
}

fn squeezed(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}
