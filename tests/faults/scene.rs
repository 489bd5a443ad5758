//! A stream to two tables: one whose mapping breaks, and one beside it.

use std::collections::BTreeMap;

use postgres::Client;
use support::{Counts, Database, apply, batch, message, rows, run, value};

/// A stream of inserts and updates, a part of it for the mapping `bad`, which a role without further rights owns, and a
/// part for the mapping `good` beside it.
pub struct Scene {
    pub database: Database,
    pub admin: Client,
    pub forwarder: Client,
    pub owner: String,
    lsn: u64,
    /// The rows of the source, by key: name and n.
    source: BTreeMap<u64, (String, u64)>,
    sent: usize,
}

/// What `sequin.status` and `sequin.check()` say of the mapping `bad`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub state: String,
    pub sqlstate: String,
    pub error: String,
    pub hint: String,
}

/// What adds the columns that a guard needs.
pub fn guard_columns(guard: &str) -> &'static str {
    match guard {
        "columns" | "auto" => {
            "alter table shop.item add sequin_lsn bigint, add sequin_idx integer, add sequin_committed_at timestamptz"
        }
        _ => "select",
    }
}

/// The table of the mapping `bad`.
pub const TABLE: &str = "create table shop.item (id integer primary key, name text, n bigint)";

impl Scene {
    /// `ddl` makes `shop.item` and what belongs to it; `map` are further arguments of `sequin.map`.
    pub fn new(test: &str, ddl: &str, map: &str) -> Scene {
        Scene::guarded(test, "table", ddl, map)
    }

    /// The same under this guard.
    pub fn guarded(test: &str, guard: &str, ddl: &str, map: &str) -> Scene {
        let mut database = Database::new(&format!("fault_{test}_{guard}"));
        let owner = database.role("owner");
        let mut admin = database.connect();
        run(
            &mut admin,
            &format!(
                "set client_min_messages = error;
                 create schema shop; {ddl}; {};
                 create table public.good (id integer primary key, name text, n bigint);
                 grant usage on schema shop to {owner};
                 grant select, insert, update, delete on all tables in schema shop to {owner};
                 select sequin.grant_source('public.item', '{owner}');
                 grant execute on function sequin.map to {owner};
                 select sequin.map('public.good', 'public.good', name => 'good', guard => 'table')",
                guard_columns(guard)
            ),
        );
        run(
            &mut admin,
            &format!(
                "set role {owner};
                 select sequin.map('public.item', 'shop.item', name => 'bad', guard => '{guard}'{map}); reset role"
            ),
        );
        let mut forwarder = database.connect();
        run(&mut forwarder, "set client_min_messages = error");
        Scene {
            database,
            admin,
            forwarder,
            owner,
            lsn: 0,
            source: BTreeMap::new(),
            sent: 0,
        }
    }

    fn record(&self, id: u64) -> String {
        let (name, n) = &self.source[&id];
        format!(r#"{{"id":{id},"name":"{name}","n":{n}}}"#)
    }

    /// A change of the row at the source, and of the same row for the mapping beside it.
    fn change(&mut self, id: u64) -> Vec<String> {
        self.lsn += 1;
        let action = match self.source.contains_key(&id) {
            true => "update",
            false => "insert",
        };
        self.source.insert(id, (format!("v{}", self.lsn), self.lsn));
        let record = self.record(id);
        ["item", "good"]
            .map(|table| message(action, table, self.lsn, &record))
            .into()
    }

    /// A delete at the source.
    fn remove(&mut self, id: u64) -> Vec<String> {
        self.lsn += 1;
        self.source.remove(&id);
        let record = format!(r#"{{"id":{id},"name":null,"n":null}}"#);
        ["item", "good"]
            .map(|table| message("delete", table, self.lsn, &record))
            .into()
    }

    /// Sends changes of three rows, one of them new, and a delete. Half of the messages are for each mapping.
    pub fn send(&mut self) -> Counts {
        self.sent += 1;
        let new = 10 * self.sent as u64;
        let mut messages = self.change(new);
        messages.extend(self.change(new + 1));
        messages.extend(self.change(1));
        messages.extend(self.change(2));
        messages.extend(self.remove(new));
        let counts = apply(&mut self.forwarder, &batch(&messages));
        assert_eq!(counts.outcomes(), counts.received, "{counts:?}");
        counts
    }

    /// How many messages of a [`Scene::send`] each mapping takes.
    pub const EACH: i64 = 5;

    /// Sends what must all be applied.
    pub fn send_well(&mut self) {
        let counts = self.send();
        assert_eq!(counts.dead, 0, "{counts:?}");
    }

    /// The mapping `good` has everything.
    pub fn the_others_are_written(&mut self) {
        let wanted = self.wanted();
        let got = rows(
            &mut self.admin,
            "select id, name, n from public.good order by id",
        );
        assert_eq!(got, wanted);
    }

    /// The rows of the source.
    pub fn wanted(&self) -> Vec<String> {
        let rows = self.source.iter();
        rows.map(|(id, (name, n))| format!("{id}|{name}|{n}"))
            .collect()
    }

    /// `shop.item` equals the source, as far as `query` tells (`id`, `name` and `n`).
    pub fn is_complete(&mut self, query: &str) {
        let wanted = self.wanted();
        let columns = query.matches(',').count() + 1;
        let wanted: Vec<String> = wanted
            .iter()
            .map(|row| row.split('|').take(columns).collect::<Vec<_>>().join("|"))
            .collect();
        let sql = format!("select {query} from shop.item order by 1");
        assert_eq!(rows(&mut self.admin, &sql), wanted);
        let letters = "select count(*) from sequin.dead_letter";
        assert_eq!(value(&mut self.admin, letters), "0");
    }

    fn answer(&mut self, sql: &str) -> Answer {
        let row = self.admin.query_one(sql, &[]).expect("a row");
        let text = |column| row.get::<_, Option<String>>(column).unwrap_or_default();
        Answer {
            state: text(0),
            sqlstate: text(1),
            error: text(2),
            hint: text(3),
        }
    }

    /// The row of `sequin.status`.
    pub fn status(&mut self) -> Answer {
        self.answer("select state, sqlstate, error, hint from sequin.status where name = 'bad'")
    }

    /// The row of `sequin.check()`.
    pub fn check(&mut self) -> Answer {
        self.answer("select state, sqlstate, error, hint from sequin.check() where mapping = 'bad'")
    }

    /// All letters wait, in the order of the messages, and tell the same.
    pub fn letters_wait(&mut self, answer: &Answer, count: i64) {
        let sql = "select count(*), count(distinct (state, sqlstate, error, hint)), min(mapping), min(state),
                          min(sqlstate), bool_and(lsn > before)
                   from (select *, lag(lsn, 1, 0::bigint) over (order by id) as before from sequin.dead_letter) l";
        assert_eq!(
            value(&mut self.admin, sql),
            format!("{count}|1|bad|waiting|{}|t", answer.sqlstate)
        );
        let sql = "select error, coalesce(hint, '') from sequin.dead_letter limit 1";
        assert_eq!(
            value(&mut self.admin, sql),
            format!("{}|{}", answer.error, answer.hint)
        );
    }
}

/// The statements of a HINT: those behind each `run: `, up to the last semicolon of the part.
pub fn statements(hint: &str) -> Vec<String> {
    let hint = hint.replace("Run: ", "run: ");
    let parts = hint.split("run: ").skip(1);
    parts
        .filter_map(|part| Some(part[..=part.rfind(';')?].to_owned()))
        .collect()
}

#[test]
fn statements_of_a_hint() {
    assert_eq!(
        statements(
            "If it was renamed to \"m\", run: SELECT 1; If it was dropped, run: SELECT 2; SELECT 3; Or so."
        ),
        ["SELECT 1;", "SELECT 2; SELECT 3;"]
    );
    assert_eq!(statements("Run: SELECT 1;"), ["SELECT 1;"]);
    assert!(statements("Create the function again.").is_empty());
}
