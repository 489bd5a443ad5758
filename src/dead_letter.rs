//! Messages that cannot be applied: whose fault an error is, and where they are kept.

use std::cell::RefCell;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Datum};

use crate::mapping::{Mapping, OnError};
use crate::message::Message;
use crate::pg::spi::Plan;
use crate::pg::trap::SqlError;
use crate::pg::tuples::{RowColumn, RowType, Rows};

/// SQLSTATE classes of errors that say nothing of the message: the server, the connection or the
/// operator is the cause, and the sender tries again.
const NOT_THE_MESSAGE: &[&str] = &[
    "08", "25", "40", "53", "55", "57", "58", "72", "F0", "HV", "XX",
];

/// Returns the error if it is a message's fault, else passes it on: the call fails with it.
pub fn blame(error: SqlError, mapping: &Mapping) -> Result<SqlError, SqlError> {
    let mut error = error;
    if mapping.on_error == OnError::Raise || NOT_THE_MESSAGE.contains(&error.class().as_str()) {
        let line = format!("sequin_apply, mapping \"{}\"", mapping.name);
        error.context = Some(match error.context {
            Some(context) => format!("{context}\n{line}"),
            None => line,
        });
        return Err(error);
    }
    Ok(error)
}

/// Whether a row that arrives, or leaves, can make the message work: a foreign key's other side, or
/// a value of a unique index that another row still has.
pub fn may_work_later(error: &SqlError) -> bool {
    matches!(error.sqlstate().as_str(), "23503" | "23505")
}

/// A message that is kept in `sequin.dead_letter`.
pub struct Letter<'a> {
    /// The mapping, if one took it.
    pub mapping: Option<&'a str>,
    /// The message as it came.
    pub text: &'a str,
    /// Its place in the batch.
    pub position: usize,
    /// Why.
    pub error: SqlError,
    /// Whether it may work later.
    pub waiting: bool,
    /// Its key, as a JSON array.
    pub key: Option<String>,
    /// The message, if it is one.
    pub message: Option<&'a Message<'a>>,
}

const INSERT: &str = "
    insert into sequin.dead_letter (mapping, message, sqlstate, error, detail, hint, position, key,
                                    source, lsn, idx, committed_at, state)
    select b.mapping, b.message, b.sqlstate, b.error, b.detail, b.hint, b.position::bigint, b.key,
           b.source, b.lsn::bigint, b.idx::integer, 
           timestamptz 'epoch' + b.committed_at::bigint * interval '1 microsecond', b.state
    from sequin.batch() b(mapping text, message text, sqlstate text, error text, detail text,
                          hint text, position text, key text, source text, lsn text, idx text,
                          committed_at text, state text)";

const COLUMNS: [&str; 13] = [
    "mapping",
    "message",
    "sqlstate",
    "error",
    "detail",
    "hint",
    "position",
    "key",
    "source",
    "lsn",
    "idx",
    "committed_at",
    "state",
];

struct Statement {
    plan: Plan,
    rows: RowType,
}

thread_local! {
    static STATEMENT: RefCell<Option<Statement>> = const { RefCell::new(None) };
}

/// Keeps the letters.
pub fn store<'l, 'a: 'l>(letters: impl Iterator<Item = &'l Letter<'a>>) -> Result<(), SqlError> {
    let mut letters = letters.peekable();
    if letters.peek().is_none() {
        return Ok(());
    }
    let statement = STATEMENT.take();
    let mut statement = match statement {
        Some(statement) => statement,
        None => Statement {
            plan: Plan::prepare(INSERT)?,
            rows: RowType::new(&COLUMNS.map(|name| RowColumn {
                name: name.to_owned(),
                type_oid: pg_sys::TEXTOID,
                typmod: -1,
                collation: pg_sys::DEFAULT_COLLATION_OID,
            })),
        },
    };
    let mut rows = Rows::new();
    for letter in letters {
        let version = letter.message.and_then(|m| m.version);
        let values = [
            letter.mapping.map(str::to_owned),
            Some(letter.text.to_owned()),
            Some(letter.error.sqlstate()),
            Some(letter.error.message.clone()),
            letter.error.detail.clone(),
            letter.error.hint.clone(),
            Some(letter.position.to_string()),
            letter.key.clone(),
            letter.message.map(|m| m.source().to_owned()),
            version.map(|v| v.lsn.to_string()),
            version.map(|v| v.idx.to_string()),
            letter
                .message
                .and_then(|m| m.committed_at)
                .map(|micros| micros.to_string()),
            Some(if letter.waiting { "waiting" } else { "dead" }.to_owned()),
        ];
        put(&mut rows, &statement.rows, &values)?;
    }
    let outcome = statement.plan.run(rows);
    STATEMENT.set(Some(statement));
    outcome.map(|_| ())
}

fn put(rows: &mut Rows, row_type: &RowType, texts: &[Option<String>]) -> Result<(), SqlError> {
    let mut values: Vec<Datum> = Vec::with_capacity(texts.len());
    let mut nulls = Vec::with_capacity(texts.len());
    for text in texts {
        // A NUL cannot be in a text; as JSON's escape it can.
        let datum = text
            .as_ref()
            .and_then(|text| text.replace('\0', "\\u0000").into_datum());
        nulls.push(datum.is_none());
        values.push(datum.unwrap_or(Datum::null()));
    }
    rows.put(row_type, &mut values, &mut nulls)
}
