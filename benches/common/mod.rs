//! What benches share: how they begin and end, and a database of their own.

use std::error::Error;
use std::process::ExitCode;

use postgres::{Client, Config, NoTls};

/// Runs a bench with the arguments of the program. It fails if the bench does, or says that it missed what is asked.
pub fn run(bench: impl FnOnce(&[String]) -> Result<bool, Box<dyn Error>>) -> ExitCode {
    // `cargo test --all-targets` runs benchmarks too, without that argument.
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("not run: this is not cargo bench");
        return ExitCode::SUCCESS;
    }
    match bench(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("{error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// The server that the `PG…` variables name.
fn server() -> Result<Config, Box<dyn Error>> {
    let host = std::env::var("PGHOST")
        .map_err(|_| "PGHOST is not set: run `make bench`, which starts a server")?;
    let user = std::env::var("PGUSER").unwrap_or_else(|_| "postgres".to_owned());
    let mut config = Config::new();
    config.host(&host).user(&user).dbname("postgres");
    config.options("-c synchronous_commit=off -c client_min_messages=error");
    if let Ok(port) = std::env::var("PGPORT") {
        config.port(port.parse()?);
    }
    Ok(config)
}

/// Makes a database of this name anew, with the extension.
pub fn database(name: &str) -> Result<Client, Box<dyn Error>> {
    let mut maintenance = server()?.connect(NoTls)?;
    maintenance.batch_execute(&format!("drop database if exists {name} with (force)"))?;
    maintenance.batch_execute(&format!("create database {name}"))?;
    let mut client = connect(name)?;
    client.batch_execute("create extension pg_sequin")?;
    Ok(client)
}

/// A client of the database of this name.
pub fn connect(name: &str) -> Result<Client, Box<dyn Error>> {
    Ok(server()?.dbname(name).connect(NoTls)?)
}
