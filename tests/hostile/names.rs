//! Names that the extension's own statements use, and names that SQL reserves, as those of columns, keys, tables and
//! schemas.

use postgres::Client;
use support::{Database, GUARDS, Message, rows, run, send, value};

/// What statements of the extension call their relations, columns and parts, and what SQL reserves.
const NAMES: [&str; 34] = [
    "sequin_n",
    "sequin_n_",
    "sequin_former_0",
    "sequin_part",
    "sequin_parts",
    "sequin_c0",
    "sequin_w0",
    "sequin_taken",
    "sequin",
    "b",
    "d",
    "p",
    "w",
    "x",
    "n",
    "o",
    "excluded",
    "old",
    "new",
    "record",
    "changes",
    "metadata",
    "action",
    "key",
    "mapping",
    "image",
    "deleted",
    "default",
    "user",
    "select",
    "all",
    "Sequin_N",
    "a.b",
    "*\"'%s\\",
];

/// The name as JSON and as SQL.
fn spelled(name: &str) -> (String, String) {
    let json = name.replace('\\', "\\\\").replace('"', "\\\"");
    let sql = name.replace('"', "\"\"");
    (format!("\"{json}\""), format!("\"{sql}\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// All ways in which a row is written: it comes, changes, moves, loses a value, is read, is replaced, is marked or goes.
fn writes(client: &mut Client, table: &str, key: &str, column: &str, at: &str) {
    let of = |id: u32, value: &str| format!(r#"{{{key}:{id},{column}:"{value}","u":{id}}}"#);
    let message = |action: &str, lsn: u64, record: String| {
        Message::new(action, table, lsn, record).schema("source")
    };
    let former = format!(r#"{{{key}:2,"u":2}}"#);
    let batches = [
        vec![
            message("insert", 1, of(1, "a")),
            message("insert", 2, of(2, "b")),
            message("insert", 3, of(3, "c")),
        ],
        vec![message("update", 4, of(1, "a2"))],
        vec![message("update", 5, of(4, "b2")).changes(former)],
        vec![message("update", 7, of(1, "unchanged_toast"))],
        vec![message("update", 6, of(1, "a6"))],
        vec![message("read", 90, of(3, "c90"))],
        // Two rows exchange a unique value.
        vec![
            message("update", 100, format!(r#"{{{key}:1,{column}:"x1","u":9}}"#)),
            message("update", 101, format!(r#"{{{key}:3,{column}:"x3","u":1}}"#)),
            message("update", 102, format!(r#"{{{key}:1,{column}:"x1","u":3}}"#)),
        ],
        // A row waits for a unique value.
        vec![message(
            "insert",
            110,
            format!(r#"{{{key}:5,{column}:"e","u":4}}"#),
        )],
        vec![message("delete", 109, of(4, "b2"))],
        // A row goes, and another one comes.
        vec![
            message("delete", 120, of(5, "e")),
            message("insert", 121, of(5, "f")),
        ],
        vec![message("delete", 130, of(3, "x3"))],
    ];
    for batch in batches {
        let counts = send(client, &batch);
        assert!(counts.dead <= 1, "{at}: {counts:?}");
    }
    assert_eq!(
        rows(
            client,
            "select state, sqlstate, error, detail from sequin.dead_letter"
        ),
        [""; 0],
        "{at}"
    );
}

#[test]
fn columns_and_keys_may_have_any_name() {
    for guard in GUARDS {
        for delete in ["delete", "soft"] {
            let database = Database::new(&format!("names_{guard}_{delete}"));
            let mut client = database.connect();
            run(&mut client, "set client_min_messages = error");
            for (n, name) in NAMES.into_iter().enumerate() {
                let (json, sql) = spelled(name);
                for (as_key, key, column) in [
                    (true, (&*json, &*sql), ("\"c\"", "c")),
                    (false, ("\"id\"", "id"), (&*json, &*sql)),
                ] {
                    let at = format!("{name} as key: {as_key}, guard {guard}, {delete}");
                    let table = format!("t{n}_{as_key}");
                    // A marked row keeps its unique value.
                    let (soft, unique) = match delete {
                        "soft" => ("on_delete => 'soft', soft_delete => 'gone', ", ""),
                        _ => ("", "unique"),
                    };
                    run(
                        &mut client,
                        &format!(
                            "create table {table} ({} integer primary key, {} text, u integer {unique}, gone boolean);
                             select sequin.map('source.{table}', '{table}', {soft}guard => '{guard}', name => '{table}')",
                            key.1, column.1
                        ),
                    );
                    writes(&mut client, &table, key.0, column.0, &at);
                    let shown = format!(
                        "select {}, {}, u from {table} where gone is not true order by 1",
                        key.1, column.1
                    );
                    assert_eq!(rows(&mut client, &shown), ["1|x1|3", "5|f|5"], "{at}");
                    run(
                        &mut client,
                        &format!(
                            "select * from sequin.explain('{table}');
                             select * from sequin.fingerprint('{table}');
                             select sequin.begin_resync('{table}');
                             select sequin.finish_resync('{table}', dry_run => true);
                             select * from sequin.status; select * from sequin.waiting"
                        ),
                    );
                    run(&mut client, &format!("select sequin.unmap('{table}')"));
                }
            }
        }
    }
}

#[test]
fn tables_and_schemas_may_have_any_name() {
    let database = Database::new("names_of_tables");
    let mut client = database.connect();
    run(&mut client, "set client_min_messages = error");
    for name in NAMES {
        let (_, sql) = spelled(name);
        if name != "sequin" {
            run(&mut client, &format!("create schema {sql}"));
        }
        let schema = if name == "sequin" { "public" } else { &sql };
        let table = format!("{schema}.{sql}");
        let mapping = literal(name);
        run(
            &mut client,
            &format!(
                "create table {table} (id integer primary key, c text, u integer unique, parent integer references {table});
                 select sequin.map('source.' || {}, {}, guard => 'columns', name => {mapping})",
                literal(&sql),
                literal(&table),
            ),
        );
        let json = spelled(name).0;
        let table_name = &json[1..json.len() - 1];
        writes(&mut client, table_name, "\"id\"", "\"c\"", name);
        assert_eq!(
            rows(
                &mut client,
                &format!("select id, c, u from {table} order by 1")
            ),
            ["1|x1|3", "5|f|5"],
            "{name}"
        );
        assert_eq!(
            value(
                &mut client,
                &format!(
                    "select count(*) > 0 from sequin.explain({mapping}), sequin.fingerprint({})",
                    literal(&table)
                )
            ),
            "t",
            "{name}"
        );
    }
}
