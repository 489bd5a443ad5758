//! What the server offers, where its programs are, and how much memory it takes.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use postgres::Client;

/// An environment variable that `make test` sets.
pub fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("no {name}: use make test"))
}

/// What the server's `pg_config` says, such as `--bindir`.
pub fn pg_config(option: &str) -> String {
    let output = Command::new(variable("PG_CONFIG")).arg(option).output();
    let text = String::from_utf8(output.expect("pg_config runs").stdout);
    text.expect("UTF-8").trim().to_owned()
}

/// Whether the server offers these extensions; if not, says which are missing.
pub fn has_extensions(client: &mut Client, names: &[&str]) -> bool {
    let missing: Vec<_> = names
        .iter()
        .filter(|name| {
            let row = client.query_opt(
                "select from pg_available_extensions where name = $1",
                &[name],
            );
            row.expect("pg_available_extensions").is_none()
        })
        .collect();
    if !missing.is_empty() {
        eprintln!("left out: this server does not offer {missing:?}");
    }
    missing.is_empty()
}

/// Whether the server was built with XML.
pub fn has_xml(client: &mut Client) -> bool {
    let has = client.simple_query("select '<a/>'::xml").is_ok();
    if !has {
        eprintln!("left out: this server was built without XML");
    }
    has
}

/// Whether the server was built with ICU. The catalog lists such collations where the server cannot use them, too.
pub fn has_icu(client: &mut Client) -> bool {
    let made =
        "create collation any_case (provider = icu, locale = 'und'); drop collation any_case";
    let has = client.batch_execute(made).is_ok();
    if !has {
        eprintln!("left out: this server was built without ICU");
    }
    has
}

/// The most memory that a backend has had, without what it shares with others, in kB, where the system tells.
pub fn peak_memory(pid: &str) -> Option<u64> {
    memory(pid, "VmHWM:")
}

/// The memory that a backend has now, without what it shares with others, in kB, where the system tells.
pub fn resident_memory(pid: &str) -> Option<u64> {
    memory(pid, "VmRSS:")
}

fn memory(pid: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = |name| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(kilobytes(name)? - kilobytes("RssShmem:")?)
}

/// How long a session has had a processor; `None` where the system does not tell. It counts in hundredths of a second.
pub fn processor_time(pid: &str) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (ticks()? + ticks()?)))
}
