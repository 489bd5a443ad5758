//! The ways to write a body without the extension, as their users do. All take the messages in the order in which they
//! come, and know neither positions nor `changes`.

use std::collections::HashMap;
use std::io::Write;

use futures_util::future::try_join_all;
use postgres::types::ToSql;
use postgres::{Client, NoTls, Statement};
use tokio::runtime::{Builder, Runtime};

use super::Result;
use super::client::{self, Literal, Message};
use super::table::Table;

/// How it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Technique {
    /// One statement of the server for each table, which takes the body.
    PlainSql,
    /// A prepared statement for each message, sent one behind another without waiting, in one transaction: what
    /// psycopg's `executemany` and JDBC's `addBatch` do.
    ExecuteMany,
    /// An array for each column, as Debezium's JDBC sink does.
    Unnest,
    /// `COPY` into a temporary table, and from there an upsert.
    Copy,
    /// The processor of Sequin's guide: a statement and a commit for each message.
    Guide,
}

/// A client that writes.
pub struct Peer {
    technique: Technique,
    tables: Vec<Table>,
    session: Session,
}

enum Session {
    /// What it prepared for each table.
    Waits(Client, Vec<Prepared<Statement>>),
    Pipelines(Pipeline),
}

struct Prepared<S> {
    upsert: S,
    delete: S,
}

/// A session that sends on before the answers come.
struct Pipeline {
    client: tokio_postgres::Client,
    prepared: Vec<Prepared<tokio_postgres::Statement>>,
    runtime: Runtime,
}

impl Peer {
    /// Connects, and prepares what it needs to write these tables: name of the source's table, and of its own.
    pub fn open(
        config: &tokio_postgres::Config,
        technique: Technique,
        tables: &[(String, String)],
    ) -> Result<Peer> {
        let mut client = postgres::Config::from(config.clone()).connect(NoTls)?;
        let tables: Vec<Table> = tables
            .iter()
            .map(|(source, name)| Table::read(&mut client, source, name))
            .collect::<Result<_>>()?;
        let session = if technique == Technique::ExecuteMany {
            Session::Pipelines(Pipeline::open(config, &tables)?)
        } else {
            let mut prepared = Vec::new();
            for table in &tables {
                if technique == Technique::Copy {
                    client.batch_execute(&table.create_staging())?;
                }
                let (upsert, delete) = match technique {
                    Technique::PlainSql => (table.plain_sql(), table.delete_row()),
                    Technique::Unnest => (table.upsert_arrays(), table.delete_arrays()),
                    Technique::Copy => (table.upsert_staged(), table.delete_arrays()),
                    _ => (table.upsert_row(), table.delete_row()),
                };
                prepared.push(Prepared {
                    upsert: client.prepare(&upsert)?,
                    delete: client.prepare(&delete)?,
                });
            }
            Session::Waits(client, prepared)
        };
        Ok(Peer {
            technique,
            tables,
            session,
        })
    }

    /// Runs a statement beside the work, and gives its first value.
    pub fn ask(&mut self, sql: &str) -> Result<String> {
        Ok(match &mut self.session {
            Session::Waits(client, _) => client.query_one(sql, &[])?.try_get(0)?,
            Session::Pipelines(pipe) => {
                let row = pipe.runtime.block_on(pipe.client.query_one(sql, &[]))?;
                row.try_get(0)?
            }
        })
    }

    /// Writes a body; returns how many rows were upserted and deleted. After an error nothing of it is written, but by
    /// the guide's processor.
    pub fn write(&mut self, body: &str) -> Result<u64> {
        let tables = &self.tables;
        match &mut self.session {
            Session::Pipelines(pipe) => pipe.write(&client::read(body, tables)?, tables),
            Session::Waits(client, prepared) => match self.technique {
                Technique::PlainSql => {
                    let mut written = 0;
                    let mut transaction = client.transaction()?;
                    for table in prepared {
                        written += transaction.execute(&table.upsert, &[&body])?;
                    }
                    transaction.commit()?;
                    Ok(written)
                }
                Technique::Guide => {
                    let mut written = 0;
                    for message in &client::read(body, tables)? {
                        let (statement, values) = row_statement(message, prepared, tables);
                        written += client.execute(statement, &references(&values))?;
                    }
                    Ok(written)
                }
                technique => {
                    let messages = client::read(body, tables)?;
                    write_sets(client, technique, &messages, tables, prepared)
                }
            },
        }
    }
}

/// Writes the last message of each row, a set for each table.
fn write_sets(
    client: &mut Client,
    technique: Technique,
    messages: &[Message],
    tables: &[Table],
    prepared: &[Prepared<Statement>],
) -> Result<u64> {
    let mut written = 0;
    let mut transaction = client.transaction()?;
    for (place, (table, prepared)) in tables.iter().zip(prepared).enumerate() {
        let mut last: HashMap<Vec<&Option<String>>, usize> = HashMap::new();
        for (n, message) in messages.iter().enumerate() {
            if message.table == place {
                let key = table.key.iter().map(|&column| &message.row[column]);
                last.insert(key.collect(), n);
            }
        }
        let mut last: Vec<usize> = last.into_values().collect();
        last.sort_unstable();
        let (deletes, upserts): (Vec<&Message>, Vec<&Message>) = last
            .iter()
            .map(|&n| &messages[n])
            .partition(|message| message.deletes);
        if !deletes.is_empty() {
            let arrays = client::arrays(&deletes, table.key.iter().copied());
            let values: Vec<Literal<'_>> = arrays.iter().map(|one| Literal(Some(one))).collect();
            written += transaction.execute(&prepared.delete, &references(&values))?;
        }
        if upserts.is_empty() {
            continue;
        }
        written += if technique == Technique::Copy {
            let mut copy = transaction.copy_in(&table.copy())?;
            for message in upserts {
                copy.write_all(client::csv_line(&message.row).as_bytes())?;
            }
            copy.finish()?;
            transaction.execute(&prepared.upsert, &[])?
        } else {
            let arrays = client::arrays(&upserts, 0..table.columns.len());
            let values: Vec<Literal<'_>> = arrays.iter().map(|one| Literal(Some(one))).collect();
            transaction.execute(&prepared.upsert, &references(&values))?
        };
    }
    transaction.commit()?;
    Ok(written)
}

/// The statement of one message, and its parameters.
fn row_statement<'a, S>(
    message: &'a Message,
    prepared: &'a [Prepared<S>],
    tables: &[Table],
) -> (&'a S, Vec<Literal<'a>>) {
    let prepared = &prepared[message.table];
    let literal = |value: &'a Option<String>| Literal(value.as_deref());
    if message.deletes {
        let key = tables[message.table].key.iter();
        let key = key.map(|&column| literal(&message.row[column])).collect();
        (&prepared.delete, key)
    } else {
        (&prepared.upsert, message.row.iter().map(literal).collect())
    }
}

fn references<'a>(values: &'a [Literal<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    values.iter().map(|value| value as _).collect()
}

impl Pipeline {
    fn open(config: &tokio_postgres::Config, tables: &[Table]) -> Result<Pipeline> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (client, prepared) = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            let mut prepared = Vec::new();
            for table in tables {
                prepared.push(Prepared {
                    upsert: client.prepare(&table.upsert_row()).await?,
                    delete: client.prepare(&table.delete_row()).await?,
                });
            }
            Ok::<_, tokio_postgres::Error>((client, prepared))
        })?;
        Ok(Pipeline {
            client,
            prepared,
            runtime,
        })
    }

    fn write(&mut self, messages: &[Message], tables: &[Table]) -> Result<u64> {
        let Pipeline {
            client,
            prepared,
            runtime,
        } = self;
        runtime.block_on(async {
            let transaction = client.transaction().await?;
            // The futures are polled in their order for the first time, which sends them.
            let sent = messages.iter().map(|message| async {
                let (statement, values) = row_statement(message, prepared, tables);
                transaction.execute(statement, &references(&values)).await
            });
            let written = try_join_all(sent).await?;
            transaction.commit().await?;
            Ok(written.iter().sum())
        })
    }
}
