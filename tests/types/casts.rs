//! Values of one type into a column of another: what arrives as it was, what is converted, and what is refused, with
//! its SQLSTATE. docs/reference/types.md has the table; `UPDATE_GOLDEN=1` writes it anew.

use std::collections::BTreeMap;

use postgres::Client;
use support::{Database, apply, batch, message, rows, run, value};

/// A type at the source, and values of it: as SQL writes them, and as Sequin sends them.
const SENT: &[(&str, &[(&str, &str)])] = &[
    ("bool", &[("true", "true"), ("false", "false")]),
    (
        "int8",
        &[("42", "42"), ("-9007199254740993", "-9007199254740993")],
    ),
    (
        "float8",
        &[
            ("3", "3.0"),
            ("1.5", "1.5"),
            ("'NaN'", "\"NaN\""),
            ("1e20", "1.0e20"),
        ],
    ),
    (
        "numeric",
        &[
            ("5.00", "\"5.00\""),
            ("19.90", "\"19.90\""),
            ("0.1234567890123456789", "\"0.1234567890123456789\""),
        ],
    ),
    ("text", &[("'Ana'", "\"Ana\"")]),
    ("mood", &[("'sad'", "\"sad\"")]),
    (
        "uuid",
        &[(
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
        )],
    ),
    ("date", &[("'2024-02-29'", "\"2024-02-29\"")]),
    ("time", &[("'04:05:06'", "\"04:05:06\"")]),
    (
        "timestamp",
        &[(
            "'2024-10-28 21:37:01.12747'",
            "\"2024-10-28T21:37:01.127470\"",
        )],
    ),
    (
        "timestamptz",
        &[(
            "'2024-10-29 04:37:01+00'",
            "\"2024-10-29T04:37:01.000000Z\"",
        )],
    ),
    (
        "interval",
        &[(
            "'1 year 2 mons 3 days 04:05:06'",
            r#"{"days":3,"microseconds":14706000000,"months":14}"#,
        )],
    ),
    ("bytea", &[(r"'\x00ff'", r#""\\x00ff""#)]),
    ("jsonb", &[(r#"'{"a": [1, "x"]}'"#, r#"{"a":[1,"x"]}"#)]),
    (
        "int4[]",
        &[("'{1,NULL,3}'", "[1,null,3]"), ("'{1,2}'", "[1,2]")],
    ),
    ("text[]", &[("'{a,\"b,c\"}'", r#"["a","b,c"]"#)]),
    ("addr", &[("'(x,1,t)'", "\"(x,1,t)\"")]),
    ("int4range", &[("'[1,10)'", "\"[1,10)\"")]),
    ("inet", &[("'10.0.0.1'", "\"10.0.0.1\"")]),
];

/// The types of the destination's columns.
const COLUMNS: &[&str] = &[
    "bool",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "mood",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "bytea",
    "json",
    "jsonb",
    "int4[]",
    "text[]",
    "addr",
    "int4range",
    "inet",
];

/// What became of values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Exact,
    Converted,
    Refused(String),
}

/// An outcome for each value, by pair of types.
type Outcomes = BTreeMap<(&'static str, &'static str), Vec<Outcome>>;

fn measure() -> Outcomes {
    let database = Database::new("casts");
    let mut client = database.connect();
    run(
        &mut client,
        "set timezone = 'UTC'; create type mood as enum ('sad', 'happy'); create type addr as (street text, zip int, ok bool)",
    );
    for (number, of) in COLUMNS.iter().enumerate() {
        let sql = format!(
            "create table column_{number} (id int primary key, c {of});
             select sequin.map('public.sent', 'column_{number}', name => '{number}')"
        );
        run(&mut client, &sql);
    }
    let (mut id, mut messages, mut values) = (0, Vec::new(), Vec::new());
    for (sent, examples) in SENT {
        for (sql, json) in *examples {
            id += 1;
            run(
                &mut client,
                &format!("create table source_{id} as select ({sql})::{sent} as c"),
            );
            messages.push(message(
                "insert",
                "sent",
                id,
                &format!(r#"{{"id":{id},"c":{json}}}"#),
            ));
            values.push((id, *sent));
        }
    }
    apply(&mut client, &batch(&messages));
    let mut outcomes = Outcomes::new();
    for (id, sent) in values {
        for (number, of) in COLUMNS.iter().enumerate() {
            let outcome = match &rows(
                &mut client,
                &format!("select c from column_{number} where id = {id}"),
            )[..]
            {
                [] => {
                    let key = format!("mapping = '{number}' and key = '[\"{id}\"]'");
                    Outcome::Refused(value(
                        &mut client,
                        &format!("select sqlstate from sequin.dead_letter where {key}"),
                    ))
                }
                _ if is_exact(&mut client, id, sent, number, of) => Outcome::Exact,
                _ => Outcome::Converted,
            };
            outcomes.entry((sent, of)).or_default().push(outcome);
        }
    }
    outcomes
}

/// Whether a value arrived as it was: cast back to the source's type, it is equal.
fn is_exact(client: &mut Client, id: u64, sent: &str, number: usize, of: &str) -> bool {
    let again: &[String] = match of {
        "json" | "jsonb" => &[
            format!("(to_jsonb(d.c) #>> '{{}}')::{sent}"),
            format!("(jsonb_populate_record(null::source_{id}, jsonb_build_object('c', d.c))).c"),
        ],
        _ => &[format!("d.c::text::{sent}"), format!("d.c::{sent}")],
    };
    again.iter().any(|again| {
        let sql = format!("select s.c is not distinct from {again} from source_{id} s, column_{number} d where d.id = {id}");
        let same = client.query_one(&sql, &[]);
        same.is_ok_and(|row| row.get(0))
    })
}

/// What a user of PostgreSQL expects, whatever the documents say.
fn check(outcomes: &Outcomes) {
    let refused = |sqlstate: &str| Outcome::Refused(sqlstate.to_owned());
    for of in COLUMNS {
        if let Some(itself) = outcomes.get(&(*of, *of)) {
            assert!(
                itself.iter().all(|outcome| *outcome == Outcome::Exact),
                "{of} {itself:?}"
            );
        }
    }
    for (sent, _) in SENT {
        for of in ["json", "jsonb", "text", "varchar"] {
            let outcomes = &outcomes[&(*sent, of)];
            let taken = outcomes
                .iter()
                .all(|outcome| !matches!(outcome, Outcome::Refused(_)));
            assert!(taken, "{sent} into {of}: {outcomes:?}");
        }
    }
    let (exact, converted) = (Outcome::Exact, Outcome::Converted);
    for (sent, of, wanted) in [
        ("uuid", "text", vec![exact.clone()]),
        ("jsonb", "text", vec![exact.clone()]),
        ("mood", "text", vec![exact.clone()]),
        ("text", "mood", vec![refused("22P02")]),
        ("int8", "bool", vec![refused("22P02"); 2]),
        ("bool", "int4", vec![refused("22P02"); 2]),
        ("int8", "int4", vec![exact.clone(), refused("22003")]),
        ("int8", "numeric", vec![exact.clone(), exact.clone()]),
        ("int8", "float8", vec![exact.clone(), converted.clone()]),
        (
            "numeric",
            "int4",
            vec![exact.clone(), refused("22P02"), refused("22P02")],
        ),
        (
            "numeric",
            "float8",
            vec![exact.clone(), exact.clone(), converted.clone()],
        ),
        ("float8", "numeric", vec![exact.clone(); 4]),
        ("timestamptz", "timestamp", vec![exact.clone()]),
        ("timestamptz", "date", vec![converted.clone()]),
        ("timestamptz", "time", vec![converted.clone()]),
        ("timestamp", "timestamptz", vec![exact.clone()]),
        ("date", "timestamptz", vec![exact.clone()]),
        ("time", "interval", vec![exact.clone()]),
        ("interval", "time", vec![refused("22007")]),
        ("int4[]", "text[]", vec![exact.clone(); 2]),
        ("int4[]", "int4range", vec![refused("22P02"); 2]),
        ("jsonb", "addr", vec![refused("22P02")]),
        ("jsonb", "bytea", vec![refused("22P02")]),
    ] {
        assert_eq!(outcomes[&(sent, of)], wanted, "{sent} into {of}");
    }
}

/// The documented table: a row for each type that is sent.
fn table(outcomes: &Outcomes) -> String {
    let mut lines = vec![
        "| sent | arrives as it was | converted | some are refused |".to_owned(),
        "|---|---|---|---|".to_owned(),
    ];
    for (sent, _) in SENT {
        let with = |wanted: &dyn Fn(&Outcome) -> bool| -> Vec<&str> {
            let columns = COLUMNS
                .iter()
                .filter(|of| outcomes[&(*sent, **of)].iter().any(wanted));
            columns.copied().collect()
        };
        let exact = with(&|outcome| *outcome == Outcome::Exact);
        let converted = with(&|outcome| *outcome == Outcome::Converted);
        lines.push(format!(
            "| {sent} | {} | {} | {} |",
            exact.join(", "),
            converted.join(", "),
            refused(sent, outcomes)
        ));
    }
    lines.join("\n")
}

/// The types that refuse some values, or refuse all with another error than they give for text that they cannot read.
fn refused(sent: &'static str, outcomes: &Outcomes) -> String {
    let mut by_code: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for of in COLUMNS {
        let outcomes = &outcomes[&(sent, *of)];
        let always = outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Refused(_)));
        let usual: &[&str] = match *of {
            "date" | "time" | "timestamp" | "timestamptz" | "interval" => {
                &["22007", "22008", "22023"]
            }
            _ => &["22P02"],
        };
        for outcome in outcomes {
            if let Outcome::Refused(sqlstate) = outcome
                && !(always && usual.contains(&sqlstate.as_str()))
            {
                let columns = by_code.entry(sqlstate).or_default();
                if !columns.contains(of) {
                    columns.push(of);
                }
            }
        }
    }
    let parts = by_code
        .into_iter()
        .map(|(sqlstate, of)| format!("{sqlstate}: {}", of.join(", ")));
    parts.collect::<Vec<_>>().join("; ")
}

#[test]
fn the_documents_say_what_goes_where() {
    let outcomes = measure();
    check(&outcomes);
    let table = table(&outcomes);
    let page = include_str!("../../docs/reference/types.md");
    let start = page.find("| sent | arrives").expect("the table is there");
    let end = start + page[start..].find("\n\n").expect("its end");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let page = format!("{}{table}{}", &page[..start], &page[end..]);
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/types.md"),
            page,
        )
        .expect("written");
        return;
    }
    println!("{table}");
    for (found, written) in table.lines().zip(page[start..end].lines()) {
        assert_eq!(found, written);
    }
    assert_eq!(table, &page[start..end]);
}
