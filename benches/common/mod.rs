//! A database of its own for a bench.

use std::error::Error;

use postgres::{Client, Config, NoTls};

/// Makes a database of this name anew, with the extension, in the server that the `PG…` variables name.
pub fn database(name: &str) -> Result<Client, Box<dyn Error>> {
    let host = std::env::var("PGHOST")
        .map_err(|_| "PGHOST is not set: run `make bench`, which starts a server")?;
    let user = std::env::var("PGUSER").unwrap_or_else(|_| "postgres".to_owned());
    let mut config = Config::new();
    config.host(&host).user(&user).dbname("postgres");
    config.options("-c synchronous_commit=off -c client_min_messages=error");
    if let Ok(port) = std::env::var("PGPORT") {
        config.port(port.parse()?);
    }
    let mut maintenance = config.connect(NoTls)?;
    maintenance.batch_execute(&format!("drop database if exists {name} with (force)"))?;
    maintenance.batch_execute(&format!("create database {name}"))?;
    let mut client = config.dbname(name).connect(NoTls)?;
    client.batch_execute("create extension pg_sequin")?;
    Ok(client)
}
