//! Several mappings that supply the rows of one table.

use support::{Database, apply, error, message, rows, run};

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
    }
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
