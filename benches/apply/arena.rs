//! Where the contenders meet: a database with a table and a session for each.

use std::io::Write;

use postgres::{Client, NoTls};
use tokio_postgres::Config;

use super::Result;
use super::client::csv_field;
use super::contender::{Contender, Guard, Input, Place};
use super::measured::Sample;
use super::random::Random;
use super::replication::Publisher;
use super::session::{Session, Turn};
use super::shape::Shape;
use super::workload::{Phase, Workload};

/// How many batches of a phase the first round writes, which does not count: enough for the server to settle on plans.
const WARM_UP: usize = 8;

/// The settings that the report shows.
const SETTINGS: [&str; 9] = [
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "max_wal_size",
    "checkpoint_timeout",
    "autovacuum",
    "jit",
];

/// How to reach the server.
pub struct Server {
    config: Config,
}

impl Server {
    /// As the `PG…` variables say. Sessions do not wait for the disk when they commit, unless a round says so: that
    /// wait, of milliseconds, is the same for all batches and would hide what contenders differ in.
    pub fn from_environment() -> Result<Server> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let host = variable("PGHOST")
            .ok_or("PGHOST is not set: run `make bench`, which starts a server")?;
        let user = variable("PGUSER").unwrap_or_else(|| "postgres".to_owned());
        let mut config = Config::new();
        config
            .host(&host)
            .dbname(variable("PGDATABASE").as_deref().unwrap_or("postgres"))
            .user(&user);
        config.application_name("pg_sequin bench");
        config.options("-c synchronous_commit=off -c client_min_messages=warning");
        if let Some(port) = variable("PGPORT") {
            config.port(port.parse()?);
        }
        if let Some(password) = variable("PGPASSWORD") {
            config.password(password);
        }
        Ok(Server { config })
    }

    /// A session in that database.
    pub fn connect(&self, database: &str) -> Result<Client> {
        Ok(postgres::Config::from(self.to(database)).connect(NoTls)?)
    }

    /// How to reach that database.
    pub fn to(&self, database: &str) -> Config {
        let mut config = self.config.clone();
        config.dbname(database);
        config
    }
}

/// A database that is dropped with this.
pub struct Database {
    /// Its name.
    pub name: String,
    maintenance: Client,
}

impl Database {
    /// Makes one with a name that begins so.
    pub fn create(server: &Server, name: &str) -> Result<Database> {
        let mut maintenance = postgres::Config::from(server.config.clone()).connect(NoTls)?;
        let name = format!("pg_sequin_{name}_{}", std::process::id());
        maintenance.batch_execute(&format!(
            "create database {name} template template0 encoding 'UTF8'"
        ))?;
        Ok(Database { name, maintenance })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let dropped = self
            .maintenance
            .batch_execute(&format!("drop database {} with (force)", self.name));
        if let Err(error) = dropped {
            eprintln!("bench: database {} is left behind: {error}", self.name);
        }
    }
}

/// The database and the sessions, for one batch size. Fields are dropped in this order.
pub struct Arena<'a> {
    sessions: Vec<Session>,
    control: Client,
    skipped: Vec<String>,
    random: Random,
    workload: &'a Workload,
    _database: Database,
}

impl<'a> Arena<'a> {
    /// Makes the tables, stages the batches, and opens the sessions of all contenders that can take part.
    pub fn new(
        server: &Server,
        workload: &'a Workload,
        contenders: &[Contender],
    ) -> Result<Arena<'a>> {
        let database = Database::create(server, "bench")?;
        let mut control = server.connect(&database.name)?;
        let mut skipped = Vec::new();
        let mut sessions = Vec::new();
        if contenders.iter().any(|contender| contender.guard.is_some()) {
            create_extension(&mut control)?;
        }
        for &contender in contenders {
            create_table(&mut control, &contender, &workload.shape)?;
            if let Some(guard) = contender.guard
                && let Err(reason) = map(&mut control, &contender, guard, workload)
            {
                skipped.push(format!(
                    "guard '{}': {}",
                    guard.name(),
                    super::explain(reason.as_ref())
                ));
                control.batch_execute(&format!("drop schema {} cascade", contender.schema()))?;
                continue;
            }
            let mut publisher = None;
            if contender.place == Place::Publisher {
                publisher = Publisher::create(&database.name)?;
                let Some(Publisher { client, .. }) = &mut publisher else {
                    skipped.push("replication: there is no publisher".to_owned());
                    control
                        .batch_execute(&format!("drop schema {} cascade", contender.schema()))?;
                    continue;
                };
                create_table(client, &contender, &workload.shape)?;
                stage(client, &contender, workload)?;
            } else {
                stage(&mut control, &contender, workload)?;
            }
            let config = server.to(&database.name);
            sessions.push(Session::open(&config, contender, publisher, workload)?);
        }
        Ok(Arena {
            sessions,
            control,
            skipped,
            random: Random(1),
            workload,
            _database: database,
        })
    }

    /// The contenders that cannot take part, and why.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Runs every contender on new rows, and then on the same rows again; sees to it that all wrote the same. The first
    /// round warms up. If the round is `durable`, commits wait for the disk.
    pub fn round(&mut self, round: usize, durable: bool) -> Result<Vec<Sample>> {
        self.empty_tables()?;
        let mut samples = Vec::new();
        for phase in Phase::ALL {
            // Hint bits are set and statistics taken for all alike. There is no checkpoint between the phases: the
            // pages' images are in the log already for the updates of all contenders, or of none.
            self.control.batch_execute("vacuum analyze")?;
            if phase == Phase::New {
                self.control.batch_execute("checkpoint")?;
            }
            let mut batches = self.workload.batches(phase);
            if round == 0 {
                batches.end = batches.end.min(batches.start + WARM_UP);
            }
            let mut order: Vec<usize> = (0..self.sessions.len()).collect();
            self.random.shuffle(&mut order);
            let mut runs = Vec::with_capacity(order.len());
            for place in order {
                let turn = Turn {
                    phase,
                    batches: batches.clone(),
                    durable,
                };
                runs.push((place, self.sessions[place].run(self.workload, &turn)?));
            }
            runs.sort_by_key(|(place, _)| *place);
            samples.extend(runs.into_iter().map(|(_, sample)| sample));
            self.compare_tables(phase)?;
        }
        Ok(samples)
    }

    /// The server's version and settings.
    pub fn describe_server(&mut self) -> Result<Vec<(String, String)>> {
        let version = self
            .control
            .query_one("select version(), now()::text", &[])?;
        let mut facts = vec![
            ("server".to_owned(), version.try_get(0)?),
            ("finished".to_owned(), version.try_get(1)?),
        ];
        let settings = self.control.query(
            "select name, current_setting(name) from pg_settings where name = any($1) \
             order by array_position($1, name)",
            &[&SETTINGS.as_slice()],
        )?;
        for setting in settings {
            facts.push((setting.try_get(0)?, setting.try_get(1)?));
        }
        Ok(facts)
    }

    /// Empties the contenders' tables, and what the extension remembers of their rows.
    fn empty_tables(&mut self) -> Result<()> {
        let mut tables: Vec<String> = self
            .sessions
            .iter()
            .map(|session| format!("{}.benchmark_records", session.contender.schema()))
            .collect();
        let versions = self
            .control
            .query_one("select to_regclass('sequin.row_version') is not null", &[])?;
        if versions.try_get(0)? {
            tables.push("sequin.row_version".to_owned());
        }
        self.control
            .batch_execute(&format!("truncate {}", tables.join(", ")))?;
        self.sessions.iter_mut().try_for_each(Session::empty_source)
    }

    /// Fails unless every contender's table is the floor's, to the last digit.
    fn compare_tables(&mut self, phase: Phase) -> Result<()> {
        let rows = |contender: &Contender| {
            format!(
                "select t::text from (select {} from {}.benchmark_records) t",
                self.workload.shape.list(),
                contender.schema()
            )
        };
        let floor = rows(&Contender::FLOOR);
        for session in &self.sessions {
            let mine = rows(&session.contender);
            // Keys are unique, so two sets of one size are equal if one holds the other.
            let row = self.control.query_one(
                &format!(
                    "select (select count(*) from ({floor}) f), (select count(*) from ({mine}) m), \
                            (select min(d.t) from ({floor} except {mine}) d (t))"
                ),
                &[],
            )?;
            let (wanted, found): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            let missing: Option<String> = row.try_get(2)?;
            if wanted != found || missing.is_some() {
                return Err(format!(
                    "{} wrote something else than the floor ({}): {found} rows for {wanted}; it lacks {}",
                    session.contender.schema(),
                    phase.name(),
                    missing.as_deref().unwrap_or("none of the floor's"),
                )
                .into());
            }
        }
        Ok(())
    }
}

/// Creates the extension, unless its library was built to be slow.
fn create_extension(control: &mut Client) -> Result<()> {
    control.batch_execute("create extension pg_sequin")?;
    let profile: String = control
        .query_one("select sequin.build_profile()", &[])?
        .try_get(0)?;
    if profile == "release" {
        return Ok(());
    }
    Err(format!(
        "the server has a {profile} build of pg_sequin, which says nothing about its speed\n\
         `make bench` installs a release build in a server of its own; elsewhere: \
         cargo pgrx install --release --pg-config PG_CONFIG"
    )
    .into())
}

/// Makes the contender's schema with the table that it writes.
fn create_table(control: &mut Client, contender: &Contender, shape: &Shape) -> Result<()> {
    let (schema, columns) = (contender.schema(), shape.definition());
    control.batch_execute(&format!(
        "create schema {schema};
         create table {schema}.benchmark_records ({columns})
             with (autovacuum_enabled = off, toast.autovacuum_enabled = off)"
    ))?;
    Ok(())
}

/// Maps the contender's messages to its table, and tries whether the guard guards: a message that comes again must be
/// stale.
fn map(
    control: &mut Client,
    contender: &Contender,
    guard: Guard,
    workload: &Workload,
) -> Result<()> {
    let schema = contender.schema();
    let table = format!("{schema}.benchmark_records");
    control.execute(
        "select sequin.map(source => $1, destination => $2::text::regclass, guard => $3)",
        &[&table, &table, &guard.name()],
    )?;
    let message = workload.probe(&schema);
    for (outcome, times) in [
        ("upserted", 1),
        (
            if guard == Guard::Off {
                "upserted"
            } else {
                "stale"
            },
            2,
        ),
    ] {
        let counted: i64 = control
            .query_one(
                &format!("select {outcome} from sequin_apply($1::text)"),
                &[&message],
            )?
            .try_get(0)?;
        if counted != 1 {
            return Err(
                format!("a message that came {times}× was not counted as {outcome}").into(),
            );
        }
    }
    Ok(())
}

/// Stores the batches for those contenders that find them in the server.
fn stage(control: &mut Client, contender: &Contender, workload: &Workload) -> Result<()> {
    let schema = contender.schema();
    match contender.input() {
        Input::Body | Input::Row => return Ok(()),
        Input::StagedRows => {
            control.batch_execute(&format!(
                "create unlogged table {schema}.staged (batch int, like {schema}.benchmark_records)"
            ))?;
            let mut copy =
                control.copy_in(&format!("copy {schema}.staged from stdin (format csv)"))?;
            for batch in workload.all_batches() {
                for change in workload.changes(batch) {
                    let values: Vec<String> = change
                        .values()
                        .iter()
                        .map(|value| csv_field(value))
                        .collect();
                    writeln!(copy, "{batch},{}", values.join(","))?;
                }
            }
            copy.finish()?;
            control.batch_execute(&format!("create index on {schema}.staged (batch)"))?;
        }
        Input::StagedBody(kind) => {
            // Not compressed: otherwise `text` and `jsonb` would be compared by how well they inflate.
            control.batch_execute(&format!(
                "create unlogged table {schema}.staged (batch int primary key, body {kind});
                 alter table {schema}.staged alter column body set storage external"
            ))?;
            let mut copy =
                control.copy_in(&format!("copy {schema}.staged from stdin (format csv)"))?;
            for batch in workload.all_batches() {
                writeln!(
                    copy,
                    "{batch},{}",
                    csv_field(&workload.body(batch, &schema))
                )?;
            }
            copy.finish()?;
        }
    }
    Ok(())
}
