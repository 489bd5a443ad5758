//! Several mappings that supply the rows of one table.

use std::fmt::Display;

use postgres::Client;
use support::{Database, apply, error, message, rows, run};

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
                assert_eq!(
                    refused.hint(),
                    Some("Use guard => 'table' for both, so that each has versions of its own.")
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

#[test]
fn two_ways_into_one_table_are_compared_or_refused() {
    let database = Database::new("shared_ways");
    let mut client = database.connect();
    run(
        &mut client,
        "set client_min_messages = error;
         create table person (id integer primary key, name text, city text)",
    );
    for (first, second) in [
        ("public.*", "public.people"),
        ("public.people", "public.*"),
        ("*.*", "public.people"),
        ("public.people", "eu.public.people"),
        ("public.p*", "public.*e"),
        ("public.*", "*.people"),
        // a table and its partition
        ("public.people", "public.people_2026"),
        ("public.people_p0", "public.people"),
    ] {
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map(first, "table", ""));
        let refused = error(&mut client, &map(second, "auto", ""));
        assert_eq!(refused.code().code(), "42809", "{first} {second}");
        assert_eq!(
            refused.hint(),
            Some("Use guard => 'columns' for both, or one mapping with a wildcard in its source.")
        );
        run(&mut client, &map(second, "off", ""));
        // versions of one are no versions of the other
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map(first, "columns", ""));
        let refused = error(&mut client, &map(second, "table", ""));
        assert_eq!(refused.code().code(), "42809", "{first} {second}");
        run(&mut client, &map(second, "columns", ", name => 'second'"));
    }
}

/// Other tables may have other rows: a warning says what goes wrong where they have the same.
#[test]
fn rows_of_other_tables_may_be_the_same() {
    let database = Database::new("shared_meet");
    let (mut client, warnings) = warned(&database);
    run(
        &mut client,
        "create table person (id integer primary key, name text, city text)",
    );
    for (first, second, warns) in [
        ("public.people", "public.homes", true),
        ("eu.public.people", "us.public.people", true),
        ("public.people", "public.people", false),
    ] {
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map(first, "table", ""));
        taken(&warnings);
        run(&mut client, &map(second, "table", ", name => 'second'"));
        let told = taken(&warnings);
        assert_eq!(told.len(), usize::from(warns), "{first} {second} {told:?}");
        for part in [
            "mapping \"person\" writes the same columns",
            "(name, city)",
            "guard => 'columns' for both",
        ] {
            assert!(!warns || told[0].contains(part), "{told:?}");
        }
        run(
            &mut client,
            "select sequin.pause('second'); select sequin.resume('second')",
        );
        assert_eq!(taken(&warnings), [""; 0]);
    }
    // a mapping that is replaced is not another one
    run(&mut client, "delete from sequin.mapping");
    for source in [
        "public.people",
        "public.*",
        "public.people_2026",
        "public.homes",
    ] {
        run(&mut client, &map(source, "table", ", name => 'same'"));
    }
    assert_eq!(taken(&warnings), [""; 0]);
    for (first, second) in [("columns", "columns"), ("table", "off")] {
        run(&mut client, "delete from sequin.mapping");
        run(&mut client, &map("public.people", first, ""));
        run(
            &mut client,
            &map("public.homes", second, ", name => 'second'"),
        );
        assert_eq!(taken(&warnings), [""; 0], "{first} {second}");
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
