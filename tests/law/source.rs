//! A real source: a database of the same cluster, whose changes a logical slot captures.

use postgres::{Client, Error};
use support::{Database, Message, rows, run, value};

use crate::pgoutput::{Before, Change, Relation, Tuple, transactions};
use crate::variety::UNREADABLE;

/// A database whose schema `law` is replicated.
pub struct Source {
    database: Database,
    client: Client,
    reads: Vec<Found>,
}

/// A backfill reads a table. Written `read`, the table, and how many seconds later than the commit of the last
/// transaction its clock says.
#[derive(Debug, Clone)]
pub struct Read {
    pub table: String,
    pub later: i64,
}

/// What a read has found.
struct Found {
    read: Read,
    /// All that was committed before this was seen.
    lsn: u64,
    records: Vec<String>,
}

impl Read {
    pub fn parsed(text: &str) -> Option<Read> {
        let (table, later) = text.strip_prefix("read ")?.split_once(' ')?;
        Some(Read {
            table: table.to_owned(),
            later: later.parse().expect("seconds"),
        })
    }

    pub fn text(&self) -> String {
        format!("read {} {}", self.table, self.later)
    }
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

impl Sent {
    /// The number of its transaction, from 1 on; of a read, how many it has seen.
    pub fn number(&self) -> usize {
        match self.transaction {
            READS.. => self.transaction - READS,
            transaction => transaction + 1,
        }
    }
}

/// The transaction of a read that has seen none; of the others, more by what they have seen.
const READS: usize = 1_000_000;

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
        Source {
            database,
            client,
            reads: Vec::new(),
        }
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
        self.reads.clear();
        let name = self.database.name();
        let sql = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{name}';
             select pg_create_logical_replication_slot('{name}', 'pgoutput')"
        );
        for sql in sql.split(';') {
            run(&mut self.client, sql);
        }
    }

    /// Reads a table.
    pub fn read(&mut self, read: &Read) -> Result<(), Error> {
        let sql = format!(
            "select attname::text, atttypid from pg_attribute
             where attrelid = 'law.{}'::regclass and attnum > 0 and not attisdropped order by attnum",
            read.table
        );
        let columns = self.client.query(&sql, &[])?;
        let columns: Vec<(String, u32)> = columns.iter().map(|r| (r.get(0), r.get(1))).collect();
        let values = columns
            .iter()
            .map(|(name, of)| match UNREADABLE.contains(of) {
                true => "null".to_owned(),
                false => format!("{name}::text"),
            });
        let values: Vec<String> = values.collect();
        let sql = format!(
            "select array[{}]::text[] from law.{} order by 1",
            values.join(", "),
            read.table
        );
        let rows = self.client.query(&sql, &[])?;
        let relation = Relation {
            name: read.table.clone(),
            columns,
        };
        let records = rows.iter().map(|row| object(&relation, &row.get(0)));
        let records = records.collect();
        let sql = "select (pg_current_wal_insert_lsn() - '0/0')::int8";
        let lsn: i64 = self.client.query_one(sql, &[])?.get(0);
        self.reads.push(Found {
            read: read.clone(),
            lsn: lsn as u64,
            records,
        });
        Ok(())
    }

    /// Whether a table was read since the source began to capture.
    pub fn has_read(&self, table: &str) -> bool {
        self.reads.iter().any(|found| found.read.table == table)
    }

    /// What Sequin sends of the transactions since it began to capture, and its reads, each with the number of
    /// transactions that were committed before. The n-th transaction has position `100 * n`, which reads better than the
    /// real one, and keeps the order.
    pub fn captured(&mut self) -> (Vec<Sent>, Vec<(usize, Sent)>) {
        let sql = "select data from pg_logical_slot_get_binary_changes($1, null, null,
                       'proto_version', '1', 'publication_names', 'law')";
        let read = self.client.query(sql, &[&self.database.name()]);
        let messages: Vec<Vec<u8>> = read
            .expect("the slot")
            .iter()
            .map(|row| row.get(0))
            .collect();
        let transactions = transactions(&messages);
        let mut reads = Vec::new();
        for Found { read, lsn, records } in &self.reads {
            let seen = transactions.partition_point(|transaction| transaction.lsn < *lsn);
            reads.extend(
                records
                    .iter()
                    .map(|record| (seen, was_read(read, record, seen))),
            );
        }
        let mut sent = Vec::new();
        for (ordinal, transaction) in transactions.into_iter().enumerate() {
            for (idx, change) in transaction.changes.into_iter().enumerate() {
                sent.push(message(change, ordinal, idx));
            }
        }
        (sent, reads)
    }
}

/// What Sequin sends of a row that a backfill has read after so many transactions.
fn was_read(read: &Read, record: &str, seen: usize) -> Sent {
    let at = 100 * seen as i64 + read.later;
    let message = Message::new("read", &read.table, 0, record)
        .at(1_000 * at.max(0) as u64)
        .schema("law");
    Sent {
        message,
        transaction: READS + seen,
        hides_key: false,
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
        "read" => format!("{} read {table} {record}", message.seconds()),
        "update" => format!("{lsn}/{idx} update {table} {record} was {changes}"),
        _ => format!("{lsn}/{idx} {action} {table} {record}"),
    }
}
