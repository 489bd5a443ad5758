//! The ways to write a batch that are compared.

use super::Result;
use super::workload::COLUMNS;

/// One way to write a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    kind: Kind,
    /// Where the batch is when the clock starts.
    pub place: Place,
    /// The mapping's guard, of those that are the extension's.
    pub guard: Option<Guard>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `INSERT … SELECT` of rows that the server already has, typed: nothing can write them cheaper.
    Floor,
    /// `sequin_apply(text)`.
    Text,
    /// `sequin_apply(jsonb)` on a ready `jsonb`.
    Jsonb,
    /// What a good DBA writes without the extension, who need not mind the order of changes.
    PlainSql,
    /// An `INSERT … VALUES` of one row, prepared.
    PreparedRow,
}

/// Where the batch is when the clock starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Sent over the socket, as a parameter.
    Client,
    /// In a table of the server.
    Server,
}

impl Place {
    /// As the report names it.
    pub fn name(self) -> &'static str {
        match self {
            Place::Client => "client",
            Place::Server => "server",
        }
    }
}

/// Where a mapping keeps the versions of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nowhere: arrival order.
    Off,
    /// In the destination.
    Columns,
    /// In `sequin.row_version`.
    Table,
}

impl Guard {
    /// All that are measured.
    pub const ALL: [Guard; 3] = [Guard::Off, Guard::Columns, Guard::Table];

    /// As `sequin.map` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Guard::Off => "off",
            Guard::Columns => "columns",
            Guard::Table => "table",
        }
    }

    /// The guard of that name.
    pub fn parse(name: &str) -> Result<Guard> {
        let guard = Guard::ALL.into_iter().find(|guard| guard.name() == name);
        guard.ok_or_else(|| format!("there is no guard {name:?}").into())
    }
}

/// What a contender takes for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The number of rows staged in typed columns.
    StagedRows,
    /// The number of a body staged as this type.
    StagedBody(&'static str),
    /// The body itself.
    Body,
    /// The values of one row.
    Row,
}

impl Contender {
    /// The floor, to which all others are compared.
    pub const FLOOR: Contender = Contender {
        kind: Kind::Floor,
        place: Place::Server,
        guard: None,
    };
    /// Plain SQL.
    pub const PLAIN_SQL: Contender = Contender {
        kind: Kind::PlainSql,
        place: Place::Client,
        guard: None,
    };
    /// One row at a time.
    pub const PREPARED_ROW: Contender = Contender {
        kind: Kind::PreparedRow,
        place: Place::Client,
        guard: None,
    };
    /// The extension on a ready `jsonb`.
    pub const JSONB: Contender = Contender {
        kind: Kind::Jsonb,
        place: Place::Server,
        guard: Some(Guard::Off),
    };

    /// The extension on text.
    pub const fn text(place: Place, guard: Guard) -> Contender {
        Contender {
            kind: Kind::Text,
            place,
            guard: Some(guard),
        }
    }

    /// All contenders, in the order of the report, those of the extension under these guards.
    pub fn all(guards: &[Guard]) -> impl Iterator<Item = Contender> {
        let texts = Guard::ALL.into_iter().flat_map(|guard| {
            [Place::Server, Place::Client]
                .into_iter()
                .map(move |place| Contender::text(place, guard))
        });
        [Contender::FLOOR]
            .into_iter()
            .chain(texts)
            .chain([
                Contender::JSONB,
                Contender::PLAIN_SQL,
                Contender::PREPARED_ROW,
            ])
            .filter(|contender| contender.guard.is_none_or(|guard| guards.contains(&guard)))
    }

    /// As `--only` takes it.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Floor => "floor",
            Kind::Text => "text",
            Kind::Jsonb => "jsonb",
            Kind::PlainSql => "plain_sql",
            Kind::PreparedRow => "prepared_row",
        }
    }

    /// The schema that holds its table, and from which its messages say they come: so that no message is routed to two
    /// contenders.
    pub fn schema(&self) -> String {
        let guard = self.guard.map_or("none", Guard::name);
        format!("{}_{}_{guard}", self.name(), self.place.name())
    }

    /// Whether it is the floor.
    pub fn is_floor(&self) -> bool {
        self.kind == Kind::Floor
    }

    /// Whether it can write batches of that size.
    pub fn takes(&self, batch: usize) -> bool {
        self.kind != Kind::PreparedRow || batch == 1
    }

    /// What its statement's parameters are.
    pub fn input(&self) -> Input {
        match (self.kind, self.place) {
            (Kind::Floor, _) => Input::StagedRows,
            (Kind::Text, Place::Server) => Input::StagedBody("text"),
            (Kind::Jsonb, _) => Input::StagedBody("jsonb"),
            (Kind::Text | Kind::PlainSql, _) => Input::Body,
            (Kind::PreparedRow, _) => Input::Row,
        }
    }

    /// The statement that writes a batch. Those of the extension return its counts.
    pub fn statement(&self) -> String {
        let schema = self.schema();
        let columns = COLUMNS.join(", ");
        let sets: Vec<String> = COLUMNS[1..]
            .iter()
            .map(|column| format!("{column} = excluded.{column}"))
            .collect();
        let insert = format!("insert into {schema}.benchmark_records ({columns})");
        let upsert = format!("on conflict (id) do update set {}", sets.join(", "));
        match self.kind {
            Kind::Floor => {
                format!("{insert} select {columns} from {schema}.staged where batch = $1 {upsert}")
            }
            Kind::Text if self.place == Place::Client => {
                "select * from sequin_apply($1::text)".to_owned()
            }
            Kind::Text | Kind::Jsonb => {
                format!(
                    "select r.* from {schema}.staged s, sequin_apply(s.body) r where s.batch = $1"
                )
            }
            Kind::PlainSql => format!(
                "{insert} select r.* from jsonb_array_elements($1::text::jsonb -> 'data') m, \
                 jsonb_populate_record(null::{schema}.benchmark_records, m -> 'record') r {upsert}"
            ),
            Kind::PreparedRow => {
                let parameters: Vec<String> = (1..=COLUMNS.len())
                    .map(|number| format!("${number}"))
                    .collect();
                format!("{insert} values ({}) {upsert}", parameters.join(", "))
            }
        }
    }
}
