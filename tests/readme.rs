//! Runs the blocks of README.md that are marked `sql`, in order, in a fresh database of the cluster
//! that PGHOST, PGPORT and PGUSER name. A block marked `text` right after one is what its last
//! statement gives, if it looks like psql's output: a table or `ERROR:` with DETAIL and HINT.

#![forbid(unsafe_code)]

use postgres::{Client, Error, SimpleQueryMessage};
use support::{connect, server};

/// Roles are the cluster's: those that the README makes must not be there, nor stay.
const DROP: [&str; 2] = [
    "drop database if exists pg_sequin_readme",
    "drop role if exists sequin_forwarder, sequin_owner",
];

type Table = Vec<Vec<String>>;

struct Block<'a> {
    /// Of its first statement, in README.md.
    line: usize,
    sql: Vec<&'a str>,
    expected: Option<Table>,
}

#[test]
fn the_sql_of_the_readme_gives_what_it_says() {
    let blocks = blocks(include_str!("../README.md"));
    assert!(blocks.iter().any(|block| block.expected.is_some()));

    let mut server = server();
    let drop = |server: &mut Client| DROP.map(|sql| server.batch_execute(sql).unwrap());
    drop(&mut server);
    server
        .batch_execute("create database pg_sequin_readme")
        .unwrap();
    let mut client = connect("pg_sequin_readme", None);
    client.batch_execute("set timezone to 'UTC'").unwrap();
    for block in &blocks {
        if let Err(error) = run(&mut client, block) {
            panic!("README.md:{}: {error}", block.line);
        }
    }
    client.close().unwrap();
    drop(&mut server);
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut follows = false;
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let Some(mark) = line.strip_prefix("```") else {
            follows &= line.is_empty();
            continue;
        };
        let body = lines.by_ref().map(|(line, _)| line);
        let sql: Vec<&str> = body.take_while(|line| *line != "```").collect();
        let (line, expected) = (number + 1, None);
        match mark {
            "sql" => blocks.push(Block {
                line,
                sql,
                expected,
            }),
            "text" if follows => blocks.last_mut().unwrap().expected = table(&sql),
            _ => {}
        }
        follows = mark == "sql";
    }
    blocks
}

/// What psql's output says; an error is a table of one cell.
fn table(lines: &[&str]) -> Option<Table> {
    if lines[0].starts_with("ERROR:") {
        return Some(vec![vec![lines.join("\n")]]);
    }
    let rule = lines.get(1)?;
    let cells = |line: &&str| line.split('|').map(|cell| cell.trim().into()).collect();
    let rows = lines.iter().filter(|line| *line != rule).map(cells);
    let is_rule = rule.starts_with("--") && rule.chars().all(|c| "-+".contains(c));
    is_rule.then(|| rows.collect())
}

fn run(client: &mut Client, block: &Block) -> Result<(), String> {
    let sql = block.sql.join("\n");
    let mut statements = statements(&sql);
    let last = statements.pop().ok_or("no statement")?;
    for sql in statements {
        client.batch_execute(sql).map_err(|error| message(&error))?;
    }
    let given = client.simple_query(last).map_err(|error| message(&error));
    let Some(expected) = &block.expected else {
        return given.map(|_| ());
    };
    let given: Table = match given {
        Ok(messages) => messages.iter().filter_map(cells).collect(),
        Err(error) => vec![vec![error]],
    };
    (given == *expected)
        .then_some(())
        .ok_or_else(|| format!("not {expected:#?}\nbut {given:#?}"))
}

fn cells(message: &SimpleQueryMessage) -> Option<Vec<String>> {
    let cell = |text: Option<&str>| text.unwrap_or_default().trim().to_owned();
    match message {
        SimpleQueryMessage::RowDescription(columns) => {
            Some(columns.iter().map(|c| cell(Some(c.name()))).collect())
        }
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| cell(row.get(i))).collect()),
        _ => None,
    }
}

/// As psql shows an error, without CONTEXT.
fn message(error: &Error) -> String {
    let error = error.as_db_error().expect("the server's");
    let line = |name, text: Option<&str>| text.map(|text| format!("\n{name}:  {text}"));
    let detail = line("DETAIL", error.detail()).unwrap_or_default();
    let hint = line("HINT", error.hint()).unwrap_or_default();
    format!("ERROR:  {}{detail}{hint}", error.message())
}

/// The statements of a text: a semicolon in quotes, `$$` or a `--` comment ends none.
fn statements(sql: &str) -> Vec<&str> {
    let (mut found, mut start, mut at) = (Vec::new(), 0, 0);
    let quotes = [("'", "'"), ("\"", "\""), ("$$", "$$"), ("--", "\n")];
    while at < sql.len() {
        let rest = &sql[at..];
        at += match quotes.iter().find(|(open, _)| rest.starts_with(open)) {
            Some((open, close)) => rest[open.len()..]
                .find(close)
                .map_or(rest.len(), |i| open.len() + i + close.len()),
            None => rest.chars().next().map_or(1, char::len_utf8),
        };
        if rest.starts_with(';') {
            found.push(&sql[start..at]);
            start = at;
        }
    }
    assert!(sql[start..].trim().is_empty(), "no semicolon after {sql}");
    found
}
