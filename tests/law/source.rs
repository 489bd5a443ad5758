//! A real source: a database of the same cluster, whose changes a logical slot captures.

use postgres::{Client, Error};
use support::{Database, Message, rows, run, value};

use crate::pgoutput::{Before, Change, Relation, Tuple, transactions};

/// A database whose schema `law` is replicated.
pub struct Source {
    database: Database,
    client: Client,
}

/// What Sequin sends of a transaction's change.
#[derive(Debug, Clone)]
pub struct Sent {
    pub message: Message,
    /// The ordinal of its transaction.
    pub transaction: usize,
    /// Whether a row moved to another key, and the message does not say from which.
    pub hides_key: bool,
}

impl Source {
    /// A source for the test of this name.
    pub fn new(test: &str) -> Source {
        let database = Database::without_extension(&format!("law_source_{test}"));
        let mut client = database.connect();
        assert_eq!(
            value(&mut client, "show wal_level"),
            "logical",
            "the cluster of `make test` has it"
        );
        run(&mut client, "create publication law for all tables");
        Source { database, client }
    }

    /// Makes the tables anew.
    pub fn make(&mut self, ddl: &str, full: bool) -> Result<(), Error> {
        run(
            &mut self.client,
            "set client_min_messages = error; drop schema if exists law cascade; create schema law;
             set search_path = law, public",
        );
        self.client.batch_execute(ddl)?;
        if full {
            for table in self.tables() {
                let alter = format!("alter table {table} replica identity full");
                run(&mut self.client, &alter);
            }
        }
        Ok(())
    }

    /// Empties the tables.
    pub fn empty(&mut self) {
        let tables = self.tables();
        let deletes: Vec<_> = tables.iter().map(|t| format!("delete from {t}")).collect();
        run(
            &mut self.client,
            &format!(
                "set session_replication_role = replica; {}; reset session_replication_role",
                deletes.join("; ")
            ),
        );
    }

    /// Runs one transaction.
    pub fn run(&mut self, transaction: &str) -> Result<(), Error> {
        let done = self
            .client
            .batch_execute(&format!("begin; {transaction}; commit"));
        if done.is_err() {
            run(&mut self.client, "rollback");
        }
        done
    }

    /// Begins a transaction of statements that are tried.
    pub fn begin(&mut self) {
        run(&mut self.client, "begin");
    }

    /// Tries a statement; what it leaves must be right at once, if `consistent`.
    pub fn accepts(&mut self, sql: &str, consistent: bool) -> bool {
        run(&mut self.client, "savepoint tried");
        let accepted = match self.client.execute(sql, &[]) {
            Ok(rows) => rows > 0 && (!consistent || self.has_no_violation()),
            Err(_) => false,
        };
        let end = match accepted {
            true => "release tried",
            false => "rollback to tried; release tried",
        };
        run(&mut self.client, end);
        accepted
    }

    /// Whether the transaction could be committed now.
    pub fn is_consistent(&mut self) -> bool {
        run(&mut self.client, "savepoint looked");
        let is = self.has_no_violation();
        run(
            &mut self.client,
            "rollback to looked; release looked; set constraints all deferred",
        );
        is
    }

    fn has_no_violation(&mut self) -> bool {
        let checked = "set constraints all immediate; set constraints all deferred";
        self.client.batch_execute(checked).is_ok()
    }

    /// Ends the transaction, and says whether it was committed.
    pub fn commits(&mut self) -> bool {
        self.client.batch_execute("commit").is_ok()
    }

    /// The tables, in the order in which they were made.
    pub fn tables(&mut self) -> Vec<String> {
        let sql = "select relname from pg_class where relnamespace = 'law'::regnamespace and relkind = 'r' order by oid";
        rows(&mut self.client, sql)
    }

    /// The columns of a table, separated by commas.
    pub fn columns(&mut self, table: &str) -> String {
        let sql = format!(
            "select string_agg(attname, ', ' order by attnum) from pg_attribute
             where attrelid = 'law.{table}'::regclass and attnum > 0 and not attisdropped"
        );
        value(&mut self.client, &sql)
    }

    /// Whether a primary key is deferrable.
    pub fn has_deferrable_key(&mut self) -> bool {
        let sql = "select count(*) from pg_constraint
                   where connamespace = 'law'::regnamespace and contype = 'p' and condeferrable";
        value(&mut self.client, sql) != "0"
    }

    /// The lines of a query.
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        rows(&mut self.client, sql)
    }

    /// Begins to capture. A slot that stays would read again, each time, what it has read of the last seconds.
    pub fn watch(&mut self) {
        let name = self.database.name();
        let sql = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{name}';
             select pg_create_logical_replication_slot('{name}', 'pgoutput')"
        );
        for sql in sql.split(';') {
            run(&mut self.client, sql);
        }
    }

    /// What Sequin sends of the transactions since it began to capture. The n-th transaction has position `100 * n`,
    /// which reads better than the real one, and keeps the order.
    pub fn captured(&mut self) -> Vec<Sent> {
        let sql = "select data from pg_logical_slot_get_binary_changes($1, null, null,
                       'proto_version', '1', 'publication_names', 'law')";
        let read = self.client.query(sql, &[&self.database.name()]);
        let messages: Vec<Vec<u8>> = read
            .expect("the slot")
            .iter()
            .map(|row| row.get(0))
            .collect();
        let mut sent = Vec::new();
        for (transaction, changes) in transactions(&messages).into_iter().enumerate() {
            for (idx, change) in changes.into_iter().enumerate() {
                sent.push(message(change, transaction, idx));
            }
        }
        sent
    }
}

fn message(change: Change, transaction: usize, idx: usize) -> Sent {
    let mut hides_key = false;
    let (action, relation, record, changes) = match change {
        Change::Insert(relation, row) => {
            let record = object(&relation, &row);
            ("insert", relation, record, "null".to_owned())
        }
        Change::Update(relation, before, row) => {
            hides_key = matches!(before, Before::Key(_));
            let changes = match before {
                Before::Row(old) => former(&relation, &old, &row),
                Before::Nothing | Before::Key(_) => "{}".to_owned(),
            };
            let record = object(&relation, &row);
            ("update", relation, record, changes)
        }
        Change::Delete(relation, before) => {
            let (Before::Row(row) | Before::Key(row)) = before else {
                panic!("a delete without a row");
            };
            let record = object(&relation, &row);
            ("delete", relation, record, "null".to_owned())
        }
    };
    let lsn = 100 * (transaction as u64 + 1);
    let message = Message::new(action, &relation.name, lsn, record)
        .changes(changes)
        .idx(idx as u64)
        .schema("law");
    Sent {
        message,
        transaction,
        hides_key,
    }
}

fn object(relation: &Relation, row: &Tuple) -> String {
    let members: Vec<_> = relation
        .columns
        .iter()
        .zip(row)
        .map(|((name, of), value)| member(name, *of, value.as_deref()))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// The old values of the columns that differ.
fn former(relation: &Relation, old: &Tuple, new: &Tuple) -> String {
    let members: Vec<_> = relation
        .columns
        .iter()
        .zip(old.iter().zip(new))
        .filter(|(_, (old, new))| old != new)
        .map(|((name, of), (old, _))| member(name, *of, old.as_deref()))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// A value as Sequin spells it in a live change, for the types whose text needs no more.
fn member(name: &str, of: u32, value: Option<&str>) -> String {
    const BOOL: u32 = 16;
    const INTEGERS: [u32; 4] = [20, 21, 23, 26];
    let value = match value {
        None => "null".to_owned(),
        Some(text) if of == BOOL => (text == "t").to_string(),
        Some(text) if INTEGERS.contains(&of) => text.to_owned(),
        Some(text) => quoted(text),
    };
    format!("{}:{value}", quoted(name))
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a JSON string")
}

/// One line that says all of a message that differs between messages.
pub fn brief(message: &Message) -> String {
    let Message {
        action,
        table,
        lsn,
        idx,
        record,
        changes,
        ..
    } = message;
    match action.as_str() {
        "update" => format!("{lsn}/{idx} update {table} {record} was {changes}"),
        _ => format!("{lsn}/{idx} {action} {table} {record}"),
    }
}
