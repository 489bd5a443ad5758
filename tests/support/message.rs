//! Messages as Sequin sends them.

use std::fmt::{self, Display, Formatter};

/// A message of a table in schema `public` of database `shop`, to be varied. Its text is what [`Display`] gives.
#[derive(Debug, Clone)]
pub struct Message {
    /// `insert`, `update`, `delete` or `read`.
    pub action: String,
    /// The table that it comes from.
    pub table: String,
    /// The position of the transaction.
    pub lsn: u64,
    /// The position in the transaction.
    pub idx: u64,
    /// The object with the values, as JSON.
    pub record: String,
    /// The former values, as JSON.
    pub changes: String,
    schema: String,
    source: String,
    /// Milliseconds since the year began.
    at: u64,
    has_position: bool,
}

impl Message {
    /// A change that was committed `lsn` seconds after the year began, or a read of that time. An update says that no
    /// former value is known, as under REPLICA IDENTITY DEFAULT.
    pub fn new(action: &str, table: &str, lsn: u64, record: impl Into<String>) -> Message {
        Message {
            action: action.to_owned(),
            table: table.to_owned(),
            lsn,
            idx: 0,
            record: record.into(),
            changes: if action == "update" { "{}" } else { "null" }.to_owned(),
            schema: "public".to_owned(),
            source: "shop".to_owned(),
            at: lsn.saturating_mul(1_000),
            has_position: action != "read",
        }
    }

    /// With these former values.
    pub fn changes(self, changes: impl Into<String>) -> Message {
        let changes = changes.into();
        Message { changes, ..self }
    }

    /// At this place of its transaction.
    pub fn idx(self, idx: u64) -> Message {
        Message { idx, ..self }
    }

    /// Committed so many milliseconds after the year began.
    pub fn at(self, at: u64) -> Message {
        Message { at, ..self }
    }

    /// When it was committed, or read: seconds since the year began.
    pub fn seconds(&self) -> u64 {
        self.at / 1_000
    }

    /// From this table.
    pub fn table(self, table: &str) -> Message {
        let table = table.to_owned();
        Message { table, ..self }
    }

    /// From a table in this schema.
    pub fn schema(self, schema: &str) -> Message {
        let schema = schema.to_owned();
        Message { schema, ..self }
    }

    /// From this database.
    pub fn of(self, source: &str) -> Message {
        let source = source.to_owned();
        Message { source, ..self }
    }

    /// As old versions of Sequin send changes: with a time alone.
    pub fn without_position(self) -> Message {
        Message {
            has_position: false,
            ..self
        }
    }
}

impl Display for Message {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Message {
            action,
            table,
            lsn,
            idx,
            record,
            changes,
            schema,
            source,
            at,
            has_position,
        } = self;
        let (seconds, millis) = (at / 1_000, at % 1_000);
        let (day, hour) = (1 + seconds / 86_400 % 28, seconds / 3_600 % 24);
        let (minute, second) = (seconds / 60 % 60, seconds % 60);
        write!(
            out,
            r#"{{"record":{record},"changes":{changes},"action":"{action}","metadata":{{"table_schema":"{schema}","table_name":"{table}","commit_timestamp":"2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}000Z","#
        )?;
        if *has_position {
            write!(out, r#""commit_lsn":{lsn},"commit_idx":{idx},"#)?;
        } else {
            out.write_str(r#""commit_lsn":null,"commit_idx":null,"#)?;
        }
        write!(
            out,
            r#""database_name":"{source}","database":{{"id":"id of {source}","name":"{source}"}}}}}}"#
        )
    }
}

/// The text of a message about which there is no more to say.
pub fn message(action: &str, table: &str, lsn: u64, record: &str) -> String {
    Message::new(action, table, lsn, record).to_string()
}

/// An update of row 1 of `item` to this name.
pub fn item(lsn: u64, name: &str) -> String {
    let record = format!(r#"{{"id":1,"name":"{name}"}}"#);
    message("update", "item", lsn, &record)
}

/// A batch as a webhook gets it.
pub fn batch<M: Display>(messages: &[M]) -> String {
    let mut text = String::from(r#"{"data":["#);
    for (n, message) in messages.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text += &message.to_string();
    }
    text + "]}"
}
