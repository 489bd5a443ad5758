//! What a client without the extension does with a body: it reads the messages, and spells their values for the server.

use std::collections::BTreeMap;

use postgres::types::private::BytesMut;
use postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use serde_json::value::RawValue;

use super::Result;
use super::table::Table;

type Object<'a> = BTreeMap<&'a str, &'a RawValue>;

/// One message.
#[derive(Debug)]
pub struct Message {
    /// The place of its table in the list of tables.
    pub table: usize,
    /// Whether it deletes the row.
    pub deletes: bool,
    /// The values, in the order of the table's columns.
    pub row: Vec<Option<String>>,
}

/// Reads the messages of a body, in their order.
pub fn read(body: &str, tables: &[Table]) -> Result<Vec<Message>> {
    let envelope: BTreeMap<&str, Vec<Object<'_>>> = serde_json::from_str(body)?;
    let messages = envelope.get("data").ok_or("a body without data")?;
    messages
        .iter()
        .map(|message| one(message, tables))
        .collect()
}

fn one(message: &Object<'_>, tables: &[Table]) -> Result<Message> {
    let part = |name: &str| message.get(name).ok_or_else(|| format!("no {name}"));
    let metadata: Object<'_> = serde_json::from_str(part("metadata")?.get())?;
    let source: &str = serde_json::from_str(metadata.get("table_name").ok_or("no table")?.get())?;
    let table = tables
        .iter()
        .position(|table| table.source == source)
        .ok_or_else(|| format!("no table {source}"))?;
    let record: Object<'_> = serde_json::from_str(part("record")?.get())?;
    let row = tables[table].columns.iter().map(|column| {
        let value = record.get(column.name.as_str())?;
        match column.is_json && value.get() != "null" {
            true => Some(value.get().to_owned()),
            false => text(value.get(), column.is_array),
        }
    });
    Ok(Message {
        table,
        deletes: part("action")?.get() == r#""delete""#,
        row: row.collect(),
    })
}

/// A value as the server reads it.
fn text(json: &str, is_array: bool) -> Option<String> {
    match json.as_bytes().first()? {
        b'n' => None,
        b'"' => serde_json::from_str(json).ok(),
        b'[' if is_array => {
            let items: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let items = items.iter().map(|item| {
                let json = item.get();
                (text(json, true), json.starts_with('['))
            });
            Some(array(items))
        }
        _ => Some(json.to_owned()),
    }
}

/// An array's literal. Of an item it takes the text, and whether that is an array's, which is not quoted.
fn array(items: impl Iterator<Item = (Option<String>, bool)>) -> String {
    let mut text = String::from("{");
    for item in items {
        if text.len() > 1 {
            text.push(',');
        }
        match item {
            (None, _) => text.push_str("NULL"),
            (Some(item), true) => text.push_str(&item),
            (Some(item), false) => {
                text.push('"');
                for letter in item.chars() {
                    if matches!(letter, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(letter);
                }
                text.push('"');
            }
        }
    }
    text.push('}');
    text
}

/// The columns of some rows, an array each.
pub fn arrays(rows: &[&Message], columns: impl Iterator<Item = usize>) -> Vec<String> {
    columns
        .map(|column| {
            array(
                rows.iter()
                    .map(|message| (message.row[column].clone(), false)),
            )
        })
        .collect()
}

/// A line of a CSV file.
pub fn csv_line(row: &[Option<String>]) -> String {
    let fields: Vec<String> = row
        .iter()
        .map(|value| value.as_deref().map_or(String::new(), csv_field))
        .collect();
    fields.join(",") + "\n"
}

/// A field of it.
pub fn csv_field(value: &str) -> String {
    format!("\"{}\"", value.replace('"', "\"\""))
}

/// A parameter of any type, sent as its text as most drivers do.
#[derive(Debug)]
pub struct Literal<'a>(pub Option<&'a str>);

impl ToSql for Literal<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = self.0 else {
            return Ok(IsNull::Yes);
        };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
