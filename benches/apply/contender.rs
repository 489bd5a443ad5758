//! The ways to write a batch that are compared.

use super::Result;
use super::peer::Technique;
use super::shape::Shape;

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
    /// A way without the extension.
    Peer(Technique),
    /// Native logical replication of the same changes.
    Replication,
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
    /// In the log of another server.
    Publisher,
}

impl Place {
    /// As the report names it.
    pub fn name(self) -> &'static str {
        match self {
            Place::Client => "client",
            Place::Server => "server",
            Place::Publisher => "publisher",
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

/// The ways without the extension, by their names.
const PEERS: [(&str, Technique); 5] = [
    ("plain_sql", Technique::PlainSql),
    ("unnest", Technique::Unnest),
    ("copy", Technique::Copy),
    ("executemany", Technique::ExecuteMany),
    ("guide", Technique::Guide),
];

impl Contender {
    /// The floor, to which all others are compared.
    pub const FLOOR: Contender = Contender {
        kind: Kind::Floor,
        place: Place::Server,
        guard: None,
    };
    /// Plain SQL.
    pub const PLAIN_SQL: Contender = Contender::peer(Technique::PlainSql);
    /// Logical replication.
    const REPLICATION: Contender = Contender {
        kind: Kind::Replication,
        place: Place::Publisher,
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

    const fn peer(technique: Technique) -> Contender {
        Contender {
            kind: Kind::Peer(technique),
            place: Place::Client,
            guard: None,
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
            .chain([Contender::JSONB, Contender::REPLICATION])
            .chain(PEERS.map(|(_, technique)| Contender::peer(technique)))
            .chain([Contender::PREPARED_ROW])
            .filter(|contender| contender.guard.is_none_or(|guard| guards.contains(&guard)))
    }

    /// As `--only` takes it.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Floor => "floor",
            Kind::Text => "text",
            Kind::Jsonb => "jsonb",
            Kind::Replication => "replication",
            Kind::Peer(technique) => PEERS
                .iter()
                .find(|(_, one)| *one == technique)
                .map_or("peer", |(name, _)| name),
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

    /// Whether it is for batches of that size. To empty the temporary table takes milliseconds.
    pub fn takes(&self, batch: usize) -> bool {
        match self.kind {
            Kind::PreparedRow => batch == 1,
            Kind::Peer(Technique::Copy) => batch >= 100,
            _ => true,
        }
    }

    /// What its statement's parameters are.
    pub fn input(&self) -> Input {
        match (self.kind, self.place) {
            (Kind::Floor | Kind::Replication, _) => Input::StagedRows,
            (Kind::Text, Place::Server) => Input::StagedBody("text"),
            (Kind::Jsonb, _) => Input::StagedBody("jsonb"),
            (Kind::Text | Kind::Peer(_), _) => Input::Body,
            (Kind::PreparedRow, _) => Input::Row,
        }
    }

    /// Whether it takes a body as it comes.
    pub fn input_is_body(&self) -> bool {
        self.input() == Input::Body
    }

    /// The technique of a way without the extension.
    pub fn technique(&self) -> Option<Technique> {
        match self.kind {
            Kind::Peer(technique) => Some(technique),
            _ => None,
        }
    }

    /// The statement that writes a batch; for logical replication, at the publisher. Those of the extension return its
    /// counts. A peer has its own.
    pub fn statement(&self, shape: &Shape) -> String {
        let schema = self.schema();
        let columns = shape.list();
        let sets: Vec<String> = shape.columns[1..]
            .iter()
            .map(|column| format!("{0} = excluded.{0}", column.name))
            .collect();
        let insert = format!("insert into {schema}.benchmark_records ({columns})");
        let upsert = format!("on conflict (id) do update set {}", sets.join(", "));
        match self.kind {
            Kind::Floor | Kind::Replication => {
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
            Kind::PreparedRow => {
                let parameters: Vec<String> = (1..=shape.columns.len())
                    .map(|number| format!("${number}"))
                    .collect();
                format!("{insert} values ({}) {upsert}", parameters.join(", "))
            }
            Kind::Peer(_) => String::new(),
        }
    }
}
