//! The tables that are written: their columns, and what is in them.

use super::Result;
use super::random::Random;

/// A table; its key comes first.
#[derive(Debug)]
pub struct Shape {
    /// As `--shape` takes it.
    pub name: &'static str,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    Integer,
    /// So many bytes of words, from and to.
    Words(u64, u64),
    Numeric,
    Timestamptz,
    Timestamp,
    Json,
}

/// The columns of Sequin's own benchmark table.
const SEVEN: [(&str, Kind); 7] = [
    ("id", Kind::Key),
    ("string_field", Kind::Words(60, 120)),
    ("numeric_field", Kind::Numeric),
    ("timestamp_field", Kind::Timestamptz),
    ("json_field", Kind::Json),
    ("inserted_at", Kind::Timestamp),
    ("updated_at", Kind::Timestamp),
];

/// What the columns of the wide table are, again and again.
const WIDE: [Kind; 7] = [
    Kind::Words(60, 120),
    Kind::Numeric,
    Kind::Timestamptz,
    Kind::Integer,
    Kind::Words(40, 80),
    Kind::Json,
    Kind::Timestamp,
];

impl Shape {
    /// The names of all.
    pub const NAMES: [&str; 4] = ["seven", "narrow", "wide", "toast"];

    /// The table of that name.
    pub fn named(name: &str) -> Result<Shape> {
        let columns = match name {
            "seven" => columns(SEVEN),
            "narrow" => columns([
                ("id", Kind::Key),
                ("name", Kind::Words(10, 30)),
                ("amount", Kind::Integer),
            ]),
            "wide" => {
                let mut all = columns([("id", Kind::Key)]);
                all.extend((1..60).map(|n| Column {
                    name: format!("column_{n:02}"),
                    kind: WIDE[n % WIDE.len()],
                }));
                all
            }
            "toast" => columns([
                ("id", Kind::Key),
                ("title", Kind::Words(20, 40)),
                ("body", Kind::Words(15_000, 25_000)),
            ]),
            _ => return Err(format!("there is no shape {name:?}").into()),
        };
        let name = Shape::NAMES.into_iter().find(|known| *known == name);
        let name = name.ok_or("a shape without a name")?;
        Ok(Shape { name, columns })
    }

    /// How many bytes a row has, about.
    pub fn bytes(&self) -> usize {
        let row = self.row(1_000_000, &mut Random(1));
        row.iter().map(String::len).sum()
    }

    /// The names of the columns, with commas between them.
    pub fn list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|one| one.name.as_str()).collect();
        names.join(", ")
    }

    /// The columns as `create table` takes them.
    pub fn definition(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{} {}", column.name, column.kind.sql()))
            .collect();
        columns.join(", ")
    }

    /// Literals for a row, in the order of the columns.
    pub fn row(&self, id: usize, random: &mut Random) -> Vec<String> {
        let columns = self.columns.iter();
        columns
            .map(|column| column.kind.value(id, random))
            .collect()
    }

    /// The row as the record of a message, with its keys in Sequin's order.
    pub fn record(&self, row: &[String]) -> String {
        let mut pairs: Vec<(&Column, &String)> = self.columns.iter().zip(row).collect();
        pairs.sort_by_key(|(column, _)| &column.name);
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(column, value)| format!(r#""{}":{}"#, column.name, column.kind.json(value)))
            .collect();
        format!("{{{}}}", pairs.join(","))
    }
}

fn columns<const N: usize>(of: [(&str, Kind); N]) -> Vec<Column> {
    let column = |(name, kind): (&str, Kind)| Column {
        name: name.to_owned(),
        kind,
    };
    of.map(column).into()
}

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Kind::Key => "int primary key",
            Kind::Integer => "int",
            Kind::Words(..) => "text",
            Kind::Numeric => "numeric",
            Kind::Timestamptz => "timestamptz",
            Kind::Timestamp => "timestamp",
            Kind::Json => "jsonb",
        }
    }

    fn value(self, id: usize, random: &mut Random) -> String {
        match self {
            Kind::Key => id.to_string(),
            Kind::Integer => random.below(1_000_000).to_string(),
            Kind::Words(low, high) => random.words_of(low, high),
            Kind::Numeric => {
                let (whole, scale) = (random.below(1_000_000), 2 + random.below(3) as usize);
                let fraction = random.below(10_u64.pow(scale as u32));
                format!("{whole}.{fraction:0scale$}")
            }
            Kind::Timestamptz => timestamp(random.below(MONTH)) + "Z",
            Kind::Timestamp => timestamp(random.below(MONTH)),
            Kind::Json => {
                let note = quoted(&random.words(3));
                let (city, street) = (quoted(random.word()), random.below(1000));
                let (active, tag) = (random.below(2) == 0, random.below(1_000_000));
                format!(
                    r#"{{"active":{active},"address":{{"city":{city},"number":{street}}},"note":{note},"tags":["new",{tag}]}}"#
                )
            }
        }
    }

    /// How Sequin spells the value.
    fn json(self, value: &str) -> String {
        match self {
            Kind::Key | Kind::Integer | Kind::Json => value.to_owned(),
            _ => quoted(value),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

const DAY: u64 = 86_400_000_000;
const MONTH: u64 = 28 * DAY;

/// The timestamp so many microseconds after 2025-06-01, in that month.
pub fn timestamp(microseconds: u64) -> String {
    let (day, rest) = (microseconds / DAY, microseconds % DAY);
    let (second, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!(
        "2025-06-{:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}",
        day + 1
    )
}
