//! Values nested without end, in every place of a message and for columns of every shape. Code that follows them by calling
//! itself would run out of stack, and the server would restart; code that scans at each level what is inside would not end.

use support::{run, try_apply, value};

use super::Scene;

const COLUMNS: &[&str] = &[
    "text",
    "char(3)",
    "json",
    "jsonb",
    "bytea",
    "integer",
    "numeric",
    "boolean",
    "timestamptz",
    "interval",
    "uuid",
    "inet",
    "box",
    "tsvector",
    "int4multirange",
    "text[]",
    "integer[]",
    "jsonb[]",
    "box[]",
    "tsvector[]",
    "mallory.pair",
    "mallory.pair[]",
    "mallory.list",
    "mallory.document",
];

const DEPTH: usize = 20_000;

/// Arrays, objects, and both in turn; of each kind one that ends early.
fn nested() -> Vec<String> {
    let closed =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    vec![
        closed("[", "]", DEPTH),
        closed(r#"{"a":"#, "}", DEPTH),
        closed(r#"[{"a":["#, "]}]", 1000),
        closed("[", "]", 300),
        closed(r#"{"a":"#, "}", 300),
        closed("[1,", "]", 2000),
        closed(r#"[null,["x"],"#, "]", 2000),
    ]
}

#[test]
fn in_every_place_of_a_message() {
    let scene = Scene::new("nested");
    let (mut admin, mut forwarder) = (scene.admin(), scene.forwarder());
    run(
        &mut scene.mallory(),
        "create type mallory.pair as (a integer, b text);
         create domain mallory.list as integer[];
         create domain mallory.document as jsonb",
    );
    let columns: Vec<String> = COLUMNS
        .iter()
        .enumerate()
        .map(|(i, type_name)| format!("c{i} {type_name}"))
        .collect();
    for guard in ["table", "off"] {
        run(
            &mut scene.mallory(),
            &format!(
                "create table mallory.{guard} (id integer primary key, {});
                 select sequin.map('public.{guard}', 'mallory.{guard}', guard => '{guard}', name => '{guard}')",
                columns.join(", ")
            ),
        );
    }
    run(
        &mut scene.mallory(),
        "create table mallory.by_text (id text primary key, note text);
         select sequin.map('public.by_text', 'mallory.by_text', guard => 'table', name => 'by_text');
         create table mallory.paths (id integer primary key, note text, all_of jsonb);
         select sequin.map('public.paths', 'mallory.paths', guard => 'table', name => 'paths', columns =>
             '{\"id\": \"record.id\", \"note\": \"record.note.a.a.a\", \"all_of\": {\"sql\": \"record\"}}',
             filter => 'record is not null')",
    );
    run(&mut forwarder, "set statement_timeout = '60s'");
    let pid = value(&mut forwarder, "select pg_backend_pid()");
    let mut sent = 0_u64;
    let mut send = |what: &str, text: String| {
        sent += 1;
        // An error is an answer too.
        if let Err(error) = try_apply(&mut forwarder, &text) {
            let error = error
                .as_db_error()
                .unwrap_or_else(|| panic!("{what}: {error}"));
            assert_ne!(error.code().code(), "57014", "{what}");
        }
    };
    let meta = |table: &str, n: u64, more: &str| {
        format!(
            r#"{{"table_schema":"public","table_name":"{table}","commit_timestamp":"2026-01-01T00:00:00Z","commit_lsn":{n},"commit_idx":0{more}}}"#
        )
    };
    for (n, deep) in (1_u64..).zip(nested()) {
        let values: Vec<String> = (0..COLUMNS.len())
            .map(|c| format!(r#""c{c}":{deep}"#))
            .collect();
        for (i, action) in (0_u64..).zip(["insert", "update", "read", "delete"]) {
            let (metadata, columns) = (meta("table", n * 10 + i, ""), values.join(","));
            send(
                action,
                format!(
                    r#"{{"action":"{action}","record":{{"id":{n},{columns}}},"changes":{{{columns}}},"metadata":{metadata}}}"#
                ),
            );
        }
        // One by one: the first that cannot be cast hides the others.
        for column in values.iter().filter(|_| n <= 2) {
            let metadata = meta("off", n, "");
            send(
                &column[..5],
                format!(
                    r#"{{"action":"insert","record":{{"id":{n},{column}}},"metadata":{metadata}}}"#
                ),
            );
        }
        let metadata = meta("by_text", n, "");
        for text in [
            format!(r#"{{"action":"insert","record":{{"id":{deep}}},"metadata":{metadata}}}"#),
            format!(
                r#"{{"action":"update","record":{{"id":"a"}},"changes":{{"id":{deep}}},"metadata":{metadata}}}"#
            ),
            format!(r#"{{"action":"insert","record":{deep},"metadata":{metadata}}}"#),
            format!(
                r#"{{"action":"update","record":{{"id":"a"}},"changes":{deep},"metadata":{metadata}}}"#
            ),
            format!(r#"{{"action":{deep},"record":{{"id":"a"}},"metadata":{metadata}}}"#),
            format!(r#"{{"action":"insert","record":{{"id":"a"}},"metadata":{deep}}}"#),
            format!(
                r#"{{"action":"insert","record":{{"id":1,"note":{deep}}},"metadata":{}}}"#,
                meta("paths", n, "")
            ),
            format!(r#"{{"data":{deep}}}"#),
            format!(r#"{{"messages":{deep}}}"#),
            deep.clone(),
            format!("{deep}\n{deep}"),
        ] {
            send("elsewhere", text);
        }
        for member in [
            "database",
            "transaction_annotations",
            "consumer",
            "idempotency_key",
            "record_pks",
        ] {
            let metadata = meta("by_text", n + 100, &format!(r#","{member}":{deep}"#));
            send(
                member,
                format!(r#"{{"action":"insert","record":{{"id":"b"}},"metadata":{metadata}}}"#),
            );
        }
        let metadata =
            metadata.replace(r#""commit_lsn":"#, &format!(r#""commit_lsn":{deep},"x":"#));
        send(
            "commit_lsn",
            format!(r#"{{"action":"insert","record":{{"id":"b"}},"metadata":{metadata}}}"#),
        );
    }
    assert_eq!(
        value(&mut forwarder, "select pg_backend_pid()"),
        pid,
        "{sent}"
    );
    // Whoever may explain, and whoever retries.
    for sql in [
        "select count(*) from sequin.explain_batch((select message from sequin.dead_letter where mapping = 'off' limit 1))",
        "select count(*) from sequin.retry('off')",
        "select count(*) from sequin.dead_letter",
    ] {
        run(&mut admin, sql);
    }
}
