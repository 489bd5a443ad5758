//! Settings of the caller's session make no difference to what is written, nor does the encoding in which its text
//! comes. A database in another encoding than UTF8 is refused.
//!
//! `SETTINGS_SEED=7` and `SETTINGS_COUNT=50` try other sets of settings, and more of them.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use postgres::Client;
use support::{
    Database, Random, apply_error, connect, corpus_directory, corpus_lines, error, has_extensions,
    has_xml, message, number, pg_config, rows, run, server, value,
};

/// What a session may have set, by setting.
const SETTINGS: &[(&str, &[&str])] = &[
    (
        "datestyle",
        &[
            "ISO, DMY",
            "SQL, DMY",
            "German",
            "Postgres, MDY",
            "ISO, YMD",
        ],
    ),
    (
        "timezone",
        &[
            "Asia/Kathmandu",
            "America/St_Johns",
            "<+1130>-11:30",
            "UTC",
            "Europe/Berlin",
        ],
    ),
    (
        "intervalstyle",
        &["postgres", "postgres_verbose", "sql_standard", "iso_8601"],
    ),
    ("bytea_output", &["hex", "escape"]),
    (
        "client_encoding",
        &["LATIN1", "SQL_ASCII", "UTF8", "EUC_JP"],
    ),
    ("lc_monetary", &["C", "POSIX"]),
    (
        "search_path",
        &[
            "",
            "pg_catalog",
            "public, pg_catalog",
            "shadow, pg_catalog, public",
            "\"$user\"",
        ],
    ),
    ("standard_conforming_strings", &["on", "off"]),
    ("escape_string_warning", &["on", "off"]),
    ("backslash_quote", &["on", "off", "safe_encoding"]),
    ("extra_float_digits", &["-15", "0", "1", "3"]),
    ("array_nulls", &["on", "off"]),
    ("xmloption", &["content", "document"]),
    ("xmlbinary", &["base64", "hex"]),
    ("quote_all_identifiers", &["on", "off"]),
    ("transform_null_equals", &["on", "off"]),
    ("row_security", &["on", "off"]),
    ("check_function_bodies", &["on", "off"]),
    ("default_transaction_deferrable", &["on", "off"]),
    (
        "default_text_search_config",
        &["pg_catalog.simple", "pg_catalog.german"],
    ),
    (
        "plan_cache_mode",
        &["auto", "force_custom_plan", "force_generic_plan"],
    ),
    ("enable_seqscan", &["on", "off"]),
    ("enable_indexscan", &["on", "off"]),
    ("jit", &["on", "off"]),
    ("work_mem", &["64kB", "64MB"]),
    ("constraint_exclusion", &["on", "off", "partition"]),
];

/// Objects that an unqualified name would find instead of the catalog's.
const SHADOW: &str = "
    create schema shadow;
    create function shadow.lower(text) returns text language sql as $$ select 'shadow' $$;
    create function shadow.eq(bigint, bigint) returns boolean language sql as $$ select false $$;
    create operator shadow.= (function = shadow.eq, leftarg = bigint, rightarg = bigint);
    create table shadow.types_wide (id text);
    create domain shadow.mood as int";

/// The tables of the corpora of types, as they are stored.
fn bytes(client: &mut Client) -> Vec<u8> {
    let mut bytes = Vec::new();
    for table in ["types_wide", "types_money", "sequin.dead_letter"] {
        let columns = if table.contains('.') {
            "position, sqlstate, error, detail, key"
        } else {
            "*"
        };
        let copy =
            format!("copy (select {columns} from {table} t order by 1) to stdout (format binary)");
        client
            .copy_out(&copy)
            .expect("COPY")
            .read_to_end(&mut bytes)
            .expect("read");
    }
    bytes
}

/// Both corpora of types, and values that are refused.
#[test]
fn the_same_bytes_under_any_settings() {
    let (seed, count) = (number("SETTINGS_SEED", 1), number("SETTINGS_COUNT", 6));
    println!("SETTINGS_SEED={seed} SETTINGS_COUNT={count}");
    let mut cluster = server();
    if !has_xml(&mut cluster) || !has_extensions(&mut cluster, &["citext", "hstore"]) {
        return;
    }
    for corpus in ["types_default", "types_full"] {
        let database = Database::new(&format!("settings_{corpus}"));
        let mut client = database.connect();
        let destination = fs::read_to_string(corpus_directory(corpus).join("destination.sql"));
        run(&mut client, &destination.expect("destination.sql"));
        run(&mut client, SHADOW);
        for table in ["types_wide", "types_money"] {
            run(
                &mut client,
                &format!("select sequin.map('public.{table}', '{table}', guard => 'off')"),
            );
        }
        run(&mut client, "create table sent (n serial, batch text)");
        let delivery = corpus_lines(corpus, "delivery.jsonl.gz");
        let refused = [
            r#"{"id": 1, "c_timetz": "never"}"#,
            r#"{"id": 2, "c_text_arr": ["a", {"b": null}], "c_tstz": "1 Feb 2024 noon"}"#,
            r#"{"id": 3, "c_enum": "angry"}"#,
            r#"{"id": 4, "c_interval": "-1"}"#,
        ];
        let refused = refused.map(|record| message("insert", "types_wide", 1 << 40, record));
        for batch in delivery.iter().chain(&refused) {
            client
                .execute("insert into sent (batch) values ($1)", &[batch])
                .expect("inserted");
        }
        let mut wanted: Option<Vec<u8>> = None;
        let mut random = Random::new(seed);
        for n in 0..=count {
            run(
                &mut client,
                "truncate types_wide, types_money, sequin.dead_letter",
            );
            // the first has what the server has
            let mut settings = String::new();
            for (name, values) in SETTINGS.iter().filter(|_| n > 0) {
                settings += &format!("set {name} = {}; ", quoted(name, random.of::<&str>(values)));
            }
            let mut session = database.connect();
            run(&mut session, &settings);
            // what goes over the wire is only numbers
            let dead =
                "select sum(a.dead) from (select batch from public.sent order by n offset 0) s,
                               public.sequin_apply(s.batch) a";
            assert_eq!(value(&mut session, dead), "4", "{corpus}, {settings}");
            let found = bytes(&mut client);
            match &wanted {
                None => wanted = Some(found),
                Some(wanted) => {
                    assert!(*wanted == found, "{corpus}: other bytes under\n{settings}")
                }
            }
        }
        assert!(wanted.expect("applied").len() > 20_000);
    }
}

/// Lists of names are written as they are, other values as strings.
fn quoted(name: &str, value: &str) -> String {
    match name {
        "search_path" if !value.is_empty() => value.to_owned(),
        _ => format!("'{value}'"),
    }
}

/// What SQL in a mapping sees of the caller's settings.
#[test]
fn sql_in_mappings_sees_pinned_settings() {
    let database = Database::new("settings_pinned");
    let mut client = database.connect();
    let pinned = [
        ("datestyle", "ISO, MDY"),
        ("timezone", "UTC"),
        ("intervalstyle", "postgres"),
        ("bytea_output", "hex"),
        ("lc_monetary", "C"),
        ("standard_conforming_strings", "on"),
        ("extra_float_digits", "1"),
        ("array_nulls", "on"),
        ("xmloption", "content"),
        ("xmlbinary", "base64"),
        ("quote_all_identifiers", "off"),
        ("transform_null_equals", "off"),
        ("row_security", "on"),
    ];
    let (element, printed) = match has_xml(&mut client) {
        true => ("xmlelement(name a, ''a''::bytea)", "<a>YQ==</a>"),
        false => ("null", "null"),
    };
    let seen: Vec<_> = pinned
        .iter()
        .map(|(name, _)| format!("current_setting(''{name}'')"))
        .collect();
    run(
        &mut client,
        &format!(
            "create table seen (id int primary key, list text[], price money, parts text[], part text);
             select sequin.map('public.seen', 'seen', columns => '{{\"*\": \"record.*\",
                 \"list\": {{\"sql\": \"array[{}]\"}},
                 \"part\": {{\"sql\": \"({element})::text\"}}}}')",
            seen.join(", ")
        ),
    );
    for (name, values) in SETTINGS {
        let other = values.last().expect("a value");
        run(
            &mut client,
            &format!("set {name} = {}", quoted(name, other)),
        );
    }
    run(
        &mut client,
        "set timezone = 'Asia/Kathmandu'; set array_nulls = off; set quote_all_identifiers = on;
         set transform_null_equals = on",
    );
    let record = r#"{"id": 1, "price": "-$1,234.50", "parts": ["a", null]}"#;
    let sent = format!(
        "select public.sequin_apply('{}')",
        message("insert", "seen", 1, record)
    );
    run(&mut client, &sent);
    run(&mut client, "reset all");
    let wanted: Vec<_> = pinned.iter().map(|(_, value)| *value).collect();
    assert_eq!(
        value(&mut client, "select array_to_string(list, '|') from seen"),
        wanted.join("|")
    );
    let rest = "select price::numeric, parts = array['a', null], part from seen";
    assert_eq!(value(&mut client, rest), format!("-1234.50|t|{printed}"));
}

/// With `row_security` off the server makes an error of a policy, whoever set it.
#[test]
fn a_policy_applies_whatever_the_caller_set() {
    let mut database = Database::new("settings_policy");
    let owner = database.role("owner");
    let mut client = database.connect();
    run(
        &mut client,
        &format!(
            "create table item (id int primary key);
             grant select, insert, update, delete on item to {owner};
             alter table item enable row level security;
             create policy low on item using (id < 10) with check (id < 10);
             grant select, insert, update on sequin.mapping to {owner};
             grant execute on function sequin.map, sequin.map_schema, sequin.unmap, sequin.discard(bigint), sequin.retry(), sequin.retry(bigint), sequin.retry(text), sequin.explain(text), sequin.explain(jsonb), sequin.explain_batch, sequin.begin_resync, sequin.finish_resync, sequin.forget_versions to {owner};
             select sequin.grant_source('*.*', '{owner}');
             set role {owner};
             select sequin.map('public.item', 'item');
             reset role;
             set row_security = off"
        ),
    );
    for id in [1, 10] {
        let sent = message("insert", "item", id, &format!(r#"{{"id": {id}}}"#));
        run(&mut client, &format!("select sequin_apply('{sent}')"));
    }
    assert_eq!(rows(&mut client, "select id from item"), ["1"]);
    assert_eq!(
        rows(&mut client, "select key, sqlstate from sequin.dead_letter"),
        [r#"["10"]|42501"#]
    );
}

/// Defaults of transactions can make a call fail, but never write something else.
#[test]
fn transactions_that_cannot_be() {
    let database = Database::new("settings_transactions");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id int primary key); select sequin.map('public.item', 'item')",
    );
    let sent = message("insert", "item", 1, r#"{"id": 1}"#);
    for (setting, sqlstate) in [
        ("default_transaction_read_only = on", "25006"),
        ("default_transaction_isolation = 'serializable'", "25001"),
        ("default_transaction_isolation = 'repeatable read'", "25001"),
    ] {
        run(&mut client, &format!("set {setting}"));
        assert_eq!(
            apply_error(&mut client, &sent).code().code(),
            sqlstate,
            "{setting}"
        );
        run(&mut client, "reset all");
    }
    assert_eq!(value(&mut client, "select count(*) from item"), "0");
}

/// psql with this client encoding runs these bytes.
fn psql(database: &mut Client, encoding: &str, sql: &[u8]) -> String {
    let program = format!("{}/psql", pg_config("--bindir"));
    let name = value(database, "select current_database()");
    let mut child = Command::new(program)
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &name])
        .env("PGCLIENTENCODING", encoding)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(sql)
        .expect("written");
    let output = child.wait_with_output().expect("psql ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The server converts text in another encoding before the extension sees it.
#[test]
fn text_comes_in_the_client_s_encoding() {
    let database = Database::new("settings_encoding");
    let mut client = database.connect();
    run(
        &mut client,
        "create table item (id int primary key, name text); select sequin.map('public.item', 'item')",
    );
    for (id, encoding, bytes, name) in [
        (1, "LATIN1", &b"\xe9\xdf"[..], "éß"),
        (2, "WIN1251", b"\xc4\xe0", "Да"),
        (3, "EUC_JP", b"\xc6\xfc", "日"),
        (4, "SJIS", b"\x93\xfa\x83\x5c", "日ソ"),
        (5, "UTF8", "é😀".as_bytes(), "é😀"),
    ] {
        let sent = message(
            "insert",
            "item",
            id,
            &format!(r#"{{"id": {id}, "name": "NAME"}}"#),
        );
        let (before, after) = sent.split_once("NAME").expect("the name");
        let sql = [
            b"select dead from sequin_apply('",
            before.as_bytes(),
            bytes,
            after.as_bytes(),
            b"');",
        ];
        assert_eq!(psql(&mut client, encoding, &sql.concat()).trim(), "0");
        assert_eq!(
            value(
                &mut client,
                &format!("select name from item where id = {id}")
            ),
            name
        );
    }
}

#[test]
fn a_database_in_another_encoding_is_refused() {
    for encoding in ["SQL_ASCII", "LATIN1", "EUC_JP"] {
        let name = format!("client_{}_{}", encoding.to_lowercase(), std::process::id());
        let mut cluster = server();
        run(&mut cluster, &format!("drop database if exists {name}"));
        let create = "encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'";
        run(
            &mut cluster,
            &format!(
                "create database {name} {}",
                create.replace("{encoding}", encoding)
            ),
        );
        let mut client = connect(&name, None);
        let refused = error(&mut client, "create extension pg_sequin");
        assert_eq!(refused.code().code(), "0A000");
        assert_eq!(
            refused.message(),
            format!("database encoding \"{encoding}\" is not supported")
        );
        assert_eq!(
            refused.detail(),
            Some("Sequin sends UTF-8, and every character of it must fit in the database.")
        );
        let hint =
            "Use a database made with: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0;";
        assert_eq!(refused.hint(), Some(hint));
        assert_eq!(
            value(
                &mut client,
                "select count(*) from pg_extension where extname = 'pg_sequin'"
            ),
            "0"
        );
        drop(client);
        run(&mut cluster, &format!("drop database {name}"));
    }
}
