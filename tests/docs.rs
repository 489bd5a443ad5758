//! Reads README.md and every page of docs/.
//!
//! Runs the blocks that are marked `sql`, in order, each page in a fresh database of the cluster that PGHOST, PGPORT and
//! PGUSER name; those marked `pgsql` in another one, which stands for another server. A block marked `text` right after one is what its last statement gives, if it looks like psql's output: a
//! table or `ERROR:` with DETAIL and HINT. Links must lead somewhere, and a page has so many lines at most.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Error, SimpleQueryMessage};
use support::{connect, has_extensions, rows, server, variable};

/// Roles are the cluster's: those that a page makes must not be there, nor stay.
const DROP: [&str; 3] = [
    "drop database if exists pg_sequin_docs_there",
    "drop database if exists pg_sequin_docs",
    "drop role if exists sequin_forwarder, sequin_owner, sequin_monitor",
];

/// Where the pages say that the two servers are.
const PLACES: [(&str, &str); 3] = [
    (
        "host=small.example.com dbname=replica user=replicator",
        "host=$PGHOST port=$PGPORT dbname=pg_sequin_docs user=$PGUSER",
    ),
    (
        "host 'db.example.com', dbname 'app'",
        "host '$PGHOST', port '$PGPORT', dbname 'pg_sequin_docs_there'",
    ),
    (
        "user 'writer', password 'secret'",
        "user '$PGUSER', password_required 'false'",
    ),
];

/// The most lines of the front page, and of a page of docs/.
const LINES: [usize; 2] = [150, 300];

type Table = Vec<Vec<String>>;

struct Block<'a> {
    /// Of its first statement, in its page.
    line: usize,
    /// On the other server.
    there: bool,
    sql: Vec<&'a str>,
    expected: Option<Table>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &Path) -> String {
    fs::read_to_string(root().join(page))
        .unwrap_or_else(|error| panic!("{}: {error}", page.display()))
}

/// README.md and the pages of docs/, relative to the project.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).expect("a folder") {
            let path = folder.join(entry.expect("an entry").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

fn clear(server: &mut Client) {
    let sql = "select subname from pg_subscription s join pg_database d on d.oid = s.subdbid
               where d.datname = 'pg_sequin_docs_there'";
    for subscription in rows(server, sql) {
        let mut there = connect("pg_sequin_docs_there", None);
        for change in ["disable", "set (slot_name = none)"] {
            let sql = format!("alter subscription {subscription} {change}");
            there.batch_execute(&sql).unwrap();
        }
        let sql = format!("drop subscription {subscription}");
        there.batch_execute(&sql).unwrap();
    }
    for sql in DROP {
        server.batch_execute(sql).unwrap();
    }
}

#[test]
fn the_sql_of_each_page_gives_what_it_says() {
    let mut server = server();
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let blocks = blocks(&text);
        if blocks.is_empty() {
            continue;
        }
        clear(&mut server);
        let foreign = ["postgres_fdw"];
        if text.contains(foreign[0]) && !has_extensions(&mut server, &foreign) {
            continue;
        }
        for database in ["pg_sequin_docs", "pg_sequin_docs_there"] {
            let sql = format!("create database {database}");
            server.batch_execute(&sql).unwrap();
        }
        let mut there = connect("pg_sequin_docs_there", None);
        let mut client = connect("pg_sequin_docs", None);
        client.batch_execute("set timezone to 'UTC'").unwrap();
        if !text.contains("create extension pg_sequin;\n") {
            client.batch_execute("create extension pg_sequin").unwrap();
        }
        for block in &blocks {
            let ran = if block.there {
                eventually(&mut there, block)
            } else {
                run(&mut client, block)
            };
            if let Err(error) = ran {
                wrong.push(format!("{}:{}: {error}", page.display(), block.line));
                break;
            }
        }
        client.close().unwrap();
        there.close().unwrap();
    }
    clear(&mut server);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_lead_somewhere() {
    let mut pages = pages();
    let mut linked = BTreeSet::from([pages[0].clone()]);
    pages.extend(["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from));
    let mut wrong = Vec::new();
    for page in &pages {
        for link in links(&read(page)) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => page.clone(),
                _ => resolve(&page.with_file_name(file)),
            };
            let found = root().join(&target).exists()
                && (anchor.is_empty() || anchors(&read(&target)).contains(anchor));
            if !found {
                wrong.push(format!("{}: {link}", page.display()));
            }
            if target != *page {
                linked.insert(target);
            }
        }
    }
    assert!(wrong.is_empty(), "dead links:\n{}", wrong.join("\n"));
    let unlinked: Vec<_> = pages
        .iter()
        .filter(|page| !linked.contains(*page))
        .collect();
    assert!(unlinked.is_empty(), "no page links to {unlinked:?}");
}

#[test]
fn pages_are_short() {
    for page in pages() {
        let lines = read(&page).lines().count();
        let most = LINES[usize::from(page.starts_with("docs"))];
        assert!(
            lines <= most,
            "{} has {lines} lines, not {most}",
            page.display()
        );
    }
}

/// The text without its blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The targets of all `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        // each other piece is code
        for piece in line.split('`').step_by(2) {
            let targets = piece.split("](").skip(1);
            links.extend(targets.map(|rest| rest.split(')').next().unwrap_or(rest).to_owned()));
        }
    }
    links
}

/// Without `.` and `..`.
fn resolve(path: &Path) -> PathBuf {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(resolved.pop(), "{} is outside", path.display()),
            Component::CurDir => {}
            _ => resolved.push(part),
        }
    }
    resolved
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        let anchor: String = kept
            .chars()
            .filter(|c| c.is_alphanumeric() || "-_".contains(*c))
            .collect();
        assert!(anchors.insert(anchor), "two headings {heading:?}");
    }
    anchors
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
            "sql" | "pgsql" => blocks.push(Block {
                line,
                there: mark == "pgsql",
                sql,
                expected,
            }),
            "text" if follows => blocks.last_mut().unwrap().expected = table(&sql),
            _ => {}
        }
        follows = mark == "sql" || mark == "pgsql";
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

/// What the other server shows comes a moment later.
fn eventually(client: &mut Client, block: &Block) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let ran = run(client, block);
        if ran.is_ok() || block.expected.is_none() || Instant::now() > end {
            return ran;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn run(client: &mut Client, block: &Block) -> Result<(), String> {
    let mut sql = block.sql.join("\n");
    for (there, here) in PLACES {
        sql = sql.replace(there, here);
    }
    for name in ["PGHOST", "PGPORT", "PGUSER"] {
        if sql.contains(name) {
            sql = sql.replace(&format!("${name}"), &variable(name));
        }
    }
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
