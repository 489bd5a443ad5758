//! Several mappings that supply the rows of one table.

use std::fmt::Display;

use postgres::Client;
use support::{Database, Message, apply, error, message, rows, run, send};

use super::{taken, warned};

fn map(source: &str, guard: &str, more: &str) -> String {
    format!("select sequin.map('{source}', 'person', guard => '{guard}'{more})")
}

const NAME: &str = r#", columns => '{"id": "record.id", "name": "record.name"}'"#;
const CITY: &str = r#", columns => '{"id": "record.id", "city": "record.city"}'"#;
const BOTH: &str =
    r#", columns => '{"city": "record.city", "id": "record.id", "name": "record.name"}'"#;

#[test]
fn mappings_that_supply_parts_of_rows_have_versions_of_their_own() {
    for (first, second) in [
        (NAME, CITY),
        (CITY, NAME),
        (NAME, ""),
        ("", CITY),
        (NAME, BOTH),
    ] {
        let database = Database::new("shared_parts");
        let mut client = database.connect();
        run(
            &mut client,
            "set client_min_messages = error;
             create table person (id integer primary key, name text, city text)",
        );
        run(&mut client, &map("public.people", "columns", first));
        for guard in ["columns", "auto"] {
            for source in ["public.homes", "public.people", "public.*"] {
                let more = format!("{second}, name => 'second'");
                let refused = error(&mut client, &map(source, guard, &more));
                assert_eq!(refused.code().code(), "42809", "{first} {second}");
                let hint = refused.hint().unwrap_or_default();
                let table = "Use guard => 'table' for both, so that each has versions of its own.";
                assert!(hint.starts_with(table), "{hint}");
                let common = ![first, second].contains(&NAME) || ![first, second].contains(&CITY);
                let refused = common && source == "public.*";
                assert_eq!(
                    hint.contains("Only one of them may write ("),
                    refused,
                    "{hint}"
                );
            }
        }
    }

    let database = Database::new("shared_table");
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table person (id integer primary key, name text, city text)",
    );
    run(&mut client, &map("public.people", "table", NAME));
    run(&mut client, &map("public.homes", "table", CITY));
    apply(
        &mut client,
        &message("insert", "homes", 9, r#"{"id":1,"city":"Oslo"}"#),
    );
    apply(
        &mut client,
        &message("insert", "people", 5, r#"{"id":1,"name":"Ana"}"#),
    );
    assert_eq!(rows(&mut client, "select * from person"), ["1|Ana|Oslo"]);
}

const ONE: &str =
    "se one mapping with a wildcard in its source, or a key that has the source in it";

/// Changes that come by two mappings are not compared.
#[test]
fn the_same_columns_of_the_same_rows_are_refused() {
    let database = Database::new("shared_ways");
    let (mut client, warnings) = warned(&database);
    run(
        &mut client,
        "create table person (id integer primary key, name text, city text)",
    );
    for (first, second, are_one) in [
        ("public.*", "public.people", true),
        ("public.people", "public.*", true),
        ("*.*", "public.people", true),
        ("public.people", "eu.public.people", true),
        ("public.p*", "public.*e", true),
        ("public.*", "*.people", true),
        // a table and its partition
        ("public.people", "public.people_2026", true),
        ("public.people_p0", "public.people", true),
        // other tables and databases may have other rows
        ("public.people", "public.homes", false),
        ("eu.public.people", "us.public.people", false),
    ] {
        for guards in [["table", "auto"], ["columns", "auto"], ["columns", "table"]] {
            run(
                &mut client,
                "delete from sequin.mapping;
                 alter table person drop if exists sequin_lsn, drop if exists sequin_idx, drop if exists sequin_committed_at",
            );
            run(&mut client, &map(first, guards[0], ""));
            taken(&warnings);
            let more = ", name => 'second'";
            let told = format!("{first} {second} {guards:?}");
            if !are_one && guards[0] == "table" {
                run(&mut client, &map(second, guards[1], more));
                is_told(&taken(&warnings));
                run(
                    &mut client,
                    "select sequin.pause('second'); select sequin.resume('second')",
                );
                assert_eq!(taken(&warnings), [""; 0]);
                continue;
            }
            let refused = error(&mut client, &map(second, guards[1], more));
            assert_eq!(refused.code().code(), "42809", "{told} {refused:?}");
            let hint = refused.hint().unwrap_or_default();
            assert!(hint.contains(ONE), "{told} {hint}");
            let table = hint.contains("guard => 'table'");
            assert_eq!(table, !are_one, "{told} {hint}");
            let detail = refused.detail().unwrap_or_default();
            assert!(
                detail.starts_with("Both write (name, city)."),
                "{told} {detail}"
            );
            // Without versions, the last to arrive wins.
            run(&mut client, &map(second, "off", more));
            assert_eq!(taken(&warnings), [""; 0], "{told}");
        }
    }
    // Messages that go to both are the same for both.
    for guard in ["table", "columns"] {
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map("public.people", guard, ""));
        run(
            &mut client,
            &map("public.people", guard, ", name => 'second'"),
        );
        let filtered = map(
            "public.people",
            guard,
            ", name => 'third', filter => 'true'",
        );
        let refused = error(&mut client, &filtered);
        assert_eq!(
            refused.hint(),
            Some("Use one mapping, whose filter lets the rows of both in."),
            "{guard}"
        );
    }
}

fn is_told(warnings: &[String]) {
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in [
        "mapping \"person\" writes the same columns",
        "Both write (name, city).",
        "becomes a dead letter",
        ONE,
    ] {
        assert!(warnings[0].contains(part), "{warnings:?}");
    }
}

/// Two filters that let different rows in: under guard columns, what one refuses removes a row of the other.
#[test]
fn what_a_filter_refuses_needs_versions_of_its_own() {
    let database = Database::new("shared_refuses");
    let (mut client, warnings) = warned(&database);
    run(
        &mut client,
        "create table person (id integer primary key, name text, city text)",
    );
    let filter =
        |region: &str| format!(", name => '{region}', filter => $$record->>'city' = '{region}'$$");
    for (guard, told) in [("table", 0), ("columns", 1)] {
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map("eu.public.people", guard, &filter("eu")));
        assert_eq!(taken(&warnings), [""; 0]);
        run(&mut client, &map("us.public.people", guard, &filter("us")));
        let warnings = taken(&warnings);
        assert_eq!(warnings.len(), told, "{warnings:?}");
        let hint = "Use guard => 'table' for both";
        assert!(warnings.iter().all(|it| it.contains(hint)), "{warnings:?}");
    }
}

/// Mappings that an older version let be made.
#[test]
fn such_mappings_that_are_there_are_told() {
    let database = Database::new("shared_there");
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table person (id integer primary key, name text, city text)",
    );
    run(&mut client, &map("public.people", "columns", ""));
    run(
        &mut client,
        &map("public.homes", "off", ", name => 'homes'"),
    );
    let check = "select mapping, state, sqlstate, error like '%writes the same columns of rows%' from sequin.check() order by 1";
    let well = ["homes|running|null|null", "person|running|null|null"];
    assert_eq!(rows(&mut client, check), well);
    run(
        &mut client,
        "alter table sequin.mapping disable trigger mapping_check;
         update sequin.mapping set guard = 'columns';
         alter table sequin.mapping enable always trigger mapping_check",
    );
    let told = ["homes|running|42809|t", "person|running|42809|t"];
    assert_eq!(rows(&mut client, check), told);
    // One that is paused can be resumed, with a warning.
    let (mut client, warnings) = warned(&database);
    run(&mut client, "select sequin.pause('homes')");
    let paused = ["homes|paused|42809|t", "person|running|42809|t"];
    assert_eq!(rows(&mut client, check), paused);
    assert_eq!(taken(&warnings), [""; 0]);
    run(&mut client, "select sequin.resume('homes')");
    let warnings = taken(&warnings);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let told_by = "writes the same columns of rows";
    assert!(warnings[0].contains(told_by), "{warnings:?}");
    assert_eq!(rows(&mut client, check), told);
}

/// What the HINT of such a fault says is right.
#[test]
fn one_mapping_with_a_wildcard_compares_all() {
    for guard in ["table", "columns"] {
        let database = Database::new(&format!("shared_one_{guard}"));
        let mut client = database.connect();
        run(
            &mut client,
            "set client_min_messages = error;
             create table person (id integer primary key, name text, city text)",
        );
        run(&mut client, &map("public.p*", guard, ""));
        // A row goes from one partition to the other, in one transaction.
        let of = |action: &str, table: &str, lsn, idx, name: &str| {
            let record = format!(r#"{{"id":1,"name":"{name}"}}"#);
            Message::new(action, table, lsn, record).idx(idx)
        };
        let messages = [
            of("insert", "p1", 5, 0, "a"),
            of("delete", "p1", 9, 0, "a"),
            of("insert", "p2", 9, 1, "b"),
            of("delete", "p2", 12, 0, "b"),
            of("insert", "p1", 12, 1, "c"),
        ];
        for turn in 0..messages.len() {
            for one in [true, false] {
                run(
                    &mut client,
                    "truncate person; select sequin.forget_versions('person')",
                );
                let mut turned = messages.to_vec();
                turned.rotate_left(turn);
                let size = if one { turned.len() } else { 1 };
                for call in turned.chunks(size) {
                    send(&mut client, call);
                }
                let found = rows(&mut client, "select name from person");
                assert_eq!(found, ["c"], "{guard} {turn} {one}");
            }
        }
    }
}

/// Keys that SQL computes, and filters, do not hide that mappings share rows.
#[test]
fn keys_of_sql_and_filters_may_share_rows() {
    let database = Database::new("shared_sql");
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table person (kind text, id integer, name text, city text, primary key (kind, id))",
    );
    const SAME: &str = r#""kind": {"sql": "left(record->>''x'', 1)"}"#;
    const OTHER: &str = r#""kind": {"sql": "''a''"}"#;
    const TABLE: &str = r#""kind": {"sql": "metadata->>''table_name''"}"#;
    let columns =
        |kind: &str, more: &str| format!(r#", columns => '{{{kind}, "id": "record.id", {more}}}'"#);
    let name = r#""name": "record.name""#;
    let city = r#""city": "record.city""#;
    for (guard, first, second, shared) in [
        // columns of their own have one version under guard columns
        ("columns", columns(SAME, name), columns(SAME, city), true),
        ("columns", columns(TABLE, name), columns(TABLE, city), false),
        (
            "columns",
            columns(r#""kind": "record.k""#, name),
            columns(r#""kind": "record.l""#, city),
            true,
        ),
        (
            "columns",
            columns(r#""kind": "metadata.table_name""#, name),
            columns(SAME, city),
            false,
        ),
        // the same columns have two under guard table
        ("table", columns(SAME, name), columns(SAME, name), true),
        ("table", columns(SAME, name), columns(OTHER, name), true),
        (
            "table",
            columns(r#""kind": "record.k""#, name),
            columns(SAME, name),
            true,
        ),
    ] {
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map("public.people", guard, &first));
        // one table, by two ways, or another one
        let source = match guard {
            "table" => "public.*",
            _ => "public.homes",
        };
        let second = map(source, guard, &format!("{second}, name => 'second'"));
        is_refused_if(shared, &mut client, &second, first);
    }
    for (first, second, shared) in [
        ("true", "true", true),
        ("record ? ''a''", "record ? ''b''", false),
        ("true", "", true),
    ] {
        run(&mut client, "delete from sequin.mapping");
        let filter = |filter: &str| match filter {
            "" => String::new(),
            filter => format!(", filter => '{filter}'"),
        };
        run(&mut client, &map("public.people", "table", &filter(first)));
        let second = map(
            "public.*",
            "table",
            &format!("{}, name => 'second'", filter(second)),
        );
        is_refused_if(shared, &mut client, &second, first);
    }
    // the table's name tells the rows of two tables apart, and not those that one table sends two ways
    let key = columns(r#""kind": "metadata.table_name""#, name);
    run(&mut client, "delete from sequin.mapping");
    run(&mut client, &map("public.people", "table", &key));
    run(
        &mut client,
        &map("public.homes", "table", &format!("{key}, name => 'second'")),
    );
    let third = map("public.*", "table", &format!("{key}, name => 'third'"));
    assert_eq!(error(&mut client, &third).code().code(), "42809");
}

#[test]
fn rows_that_the_key_tells_apart_are_not_shared() {
    let database = Database::new("shared_apart");
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table person (kind text, id integer, name text, city text, primary key (kind, id))",
    );
    for (kind, columns) in [
        (r#"{"value": "a"}"#, r#""name": "record.name""#),
        (r#"{"value": "b"}"#, r#""city": "record.city""#),
        (r#""metadata.table_name""#, r#""*": "record.*""#),
    ] {
        let columns = format!(r#", columns => '{{"kind": {kind}, "id": "record.id", {columns}}}'"#);
        let name = format!(", name => $n${kind}$n$");
        run(
            &mut client,
            &map("public.people", "columns", &(columns.clone() + &name)),
        );
        // the same again replaces it
        run(
            &mut client,
            &map("public.people", "columns", &(columns + &name)),
        );
    }
}

/// Maps, which is refused if the rows are shared. `first`: what the other mapping was made with.
fn is_refused_if(shared: bool, client: &mut Client, second: &str, first: impl Display) {
    if shared {
        assert_eq!(
            error(client, second).code().code(),
            "42809",
            "{first} {second}"
        );
    } else {
        run(client, second);
    }
}
