//! The files of `monitoring/`: each query runs for a member of pg_monitor, and each metric that rules and panels name
//! comes from one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use support::{Database, apply, batch, item, message, rows, run};

fn file(name: &str) -> String {
    let path = format!("{}/monitoring/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The blocks of text after `key: |`, each with the line that comes before it.
fn blocks(text: &str, key: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let opens = |line: &str| line.trim() == format!("{key}: |");
    (0..lines.len())
        .filter(|&i| opens(lines[i]))
        .map(|i| {
            let inside = |line: &&&str| line.is_empty() || indent(line) > indent(lines[i]);
            let block: Vec<&str> = lines[i + 1..].iter().take_while(inside).copied().collect();
            (lines[i - 1].trim().to_owned(), block.join("\n"))
        })
        .collect()
}

fn squeezed(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The metrics that a text names.
fn named(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("sequin_"))
        .map(str::to_owned)
        .collect()
}

/// The columns that the exporter makes labels and metrics of, by name of the query.
fn columns(text: &str) -> BTreeMap<String, Vec<(String, bool)>> {
    let mut columns: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
    let mut query = String::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if indent(line) == 0 && line.ends_with(':') {
            query = line.trim_end_matches(':').to_owned();
        } else if let Some((column, usage)) = line
            .trim()
            .trim_start_matches("- ")
            .split_once(": {usage: ")
        {
            let is_label = usage.starts_with("LABEL");
            columns
                .entry(query.clone())
                .or_default()
                .push((column.to_owned(), is_label));
        }
    }
    columns
}

#[test]
fn the_files_for_monitoring_fit_the_views() {
    let mut database = Database::new("monitoring");
    let monitor = database.role("monitor");
    let mut admin = database.connect();
    run(
        &mut admin,
        &format!(
            "create table item (id integer primary key, name text); grant pg_monitor to {monitor};
             select sequin.map('public.item', 'item', guard => 'table')"
        ),
    );
    let wrong = message("insert", "item", 2, r#"{"id":"x","name":"a"}"#);
    apply(
        &mut admin,
        &batch(&[
            item(1, "a"),
            wrong,
            message("insert", "none", 3, r#"{"id":1}"#),
        ]),
    );

    let exporter = file("postgres_exporter.yml");
    let columns = columns(&exporter);
    let mut watch = database.connect_as(&monitor);
    let mut queries = BTreeSet::new();
    let mut metrics = BTreeSet::new();
    for (name, sql) in blocks(&exporter, "query") {
        let name = name.trim_end_matches(':');
        let statement = watch
            .prepare(&sql)
            .unwrap_or_else(|why| panic!("{name}: {why:?}"));
        let found: Vec<&str> = statement
            .columns()
            .iter()
            .map(postgres::Column::name)
            .collect();
        let told: Vec<&str> = columns[name]
            .iter()
            .map(|(column, _)| column.as_str())
            .collect();
        assert_eq!(found, told, "{name}");
        let answer = watch.query(&statement, &[]).expect("it runs");
        assert!(name == "sequin_failed" || !answer.is_empty(), "{name}");
        let values = columns[name].iter().filter(|(_, is_label)| !is_label);
        metrics.extend(values.map(|(column, _)| format!("{name}_{column}")));
        queries.insert(squeezed(&sql));
    }
    assert_eq!(queries.len(), columns.len());

    // the other exporter has the same
    let collector = file("sequin.collector.yml");
    let same: BTreeSet<String> = blocks(&collector, "query")
        .iter()
        .map(|(_, sql)| squeezed(sql))
        .collect();
    assert_eq!(same, queries);
    let named_there: BTreeSet<String> = collector
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- metric_name: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(named_there, metrics);

    let alerts = file("alerts.yml");
    let expressions: Vec<&str> = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "))
        .collect();
    assert!(expressions.len() > 8);
    for expression in expressions {
        let unknown: Vec<_> = named(expression).difference(&metrics).cloned().collect();
        assert!(
            unknown.is_empty() && !named(expression).is_empty(),
            "{expression}: {unknown:?}"
        );
    }
    for (_, sql) in blocks(&alerts, "run") {
        if !sql.contains('…') {
            run(&mut admin, &sql);
        }
    }

    let dashboard = file("dashboard.json").replace('\'', "''");
    let panels = rows(
        &mut admin,
        &format!(
            "select jsonb_path_query('{dashboard}', '$.panels[*].targets[*].expr') #>> '{{}}'"
        ),
    );
    assert!(panels.len() > 10);
    for panel in panels {
        let unknown: Vec<_> = named(&panel).difference(&metrics).cloned().collect();
        assert!(
            unknown.is_empty() && !named(&panel).is_empty(),
            "{panel}: {unknown:?}"
        );
    }
}
