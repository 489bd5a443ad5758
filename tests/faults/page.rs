//! The queries of `docs/guides/at-3-am.md`, as they stand there, asked while the fault is there.

use std::fs;

use postgres::{Client, SimpleQueryMessage};

/// The queries below the page's heading.
pub fn queries(heading: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/at-3-am.md");
    let page = fs::read_to_string(path).expect("the page");
    let (_, section) = page
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no heading {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sql\n").skip(1);
    let queries: Vec<String> = blocks
        .filter_map(|block| Some(block.split_once("```")?.0.to_owned()))
        .collect();
    assert!(!queries.is_empty(), "{heading}");
    queries
}

/// The answer of the section's query with this number: for each row, the columns by name, as `name=value`.
pub fn ask(client: &mut Client, heading: &str, number: usize) -> Vec<String> {
    let sql = &queries(heading)[number];
    let answer = client
        .simple_query(sql)
        .unwrap_or_else(|why| panic!("{sql}: {why:?}"));
    answer
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                row.columns()
                    .iter()
                    .enumerate()
                    .map(|(n, column)| {
                        format!("{}={}", column.name(), row.get(n).unwrap_or_default())
                    })
                    .collect::<Vec<_>>()
                    .join("|"),
            ),
            _ => None,
        })
        .collect()
}

/// Asserts that one row of the answer has all of these.
pub fn tells(client: &mut Client, heading: &str, number: usize, all: &[&str]) {
    let answer = ask(client, heading, number);
    let has = |row: &String| all.iter().all(|part| row.contains(part));
    assert!(
        answer.iter().any(has),
        "{heading}: {all:?} is not in {answer:#?}"
    );
}

/// Asks until one row of the answer has all of these.
pub fn will_tell(client: &mut Client, heading: &str, number: usize, all: &[&str]) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let answer = ask(client, heading, number);
        if answer
            .iter()
            .any(|row| all.iter().all(|part| row.contains(part)))
        {
            return;
        }
        assert!(
            std::time::Instant::now() < end,
            "{heading}: {all:?} is not in {answer:#?}"
        );
        std::thread::yield_now();
    }
}

#[test]
fn every_query_of_the_page_runs() {
    let database = support::Database::new("fault_page");
    let mut client = database.connect();
    for heading in [
        "Where to begin",
        "Calls fail",
        "Calls hang",
        "Rows are missing",
        "A column is null",
        "The disk fills",
    ] {
        for number in 0..queries(heading).len() {
            ask(&mut client, heading, number);
        }
    }
}
