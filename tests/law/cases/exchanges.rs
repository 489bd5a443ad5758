//! Unique values that rows exchange or hand on, together with what refers to the rows.

use super::{ON_DELETE, UNIQUE};
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let mut cases = with_children();
    cases.extend(types());
    cases.extend(indexes());
    cases
}

/// A unique value and a foreign key at once.
fn with_children() -> Vec<Case> {
    let mut cases = Vec::new();
    for (unique, e) in UNIQUE {
        for (action, on_delete) in ON_DELETE {
            let ddl = format!(
                "create table c (id int primary key, {e});
                 create table o (id int primary key, c int references c {on_delete} {{deferred}})"
            );
            cases.push(Case::new(
                format!("exchange_then_key_{unique}_{action}"),
                &ddl,
                "insert into c values (1, 'a'), (2, 'b'); insert into o values (10, 2)",
                &[
                    "update c set e = 'a' where id = 2; update c set e = 'b' where id = 1",
                    "update c set id = 3 where id = 2; update o set c = 3 where id = 10",
                ],
            ));
            cases.push(Case::new(
                format!("parent_replaced_{unique}_{action}"),
                &ddl,
                "insert into c values (1, 'a'); insert into o values (10, 1), (11, 1)",
                &[
                    "update o set c = 2 where id = 10; delete from o where id = 11;
                   insert into c values (2, 'a'); delete from c where id = 1",
                ],
            ));
            cases.push(Case::new(
                format!("parent_handed_over_{unique}_{action}"),
                &ddl,
                "insert into c values (1, 'a'); insert into o values (10, 1), (11, 1)",
                &[
                    "insert into c values (2, 'a'); update o set c = 2 where id = 10;
                   delete from o where id = 11; delete from c where id = 1",
                ],
            ));
        }
        cases.push(Case::new(
            format!("keys_exchanged_{unique}"),
            format!(
                "create table c (id int primary key, {e});
                 create table o (id int primary key, c int references c {{deferred}})"
            ),
            "insert into c values (1, 'a'), (2, 'b'); insert into o values (10, 1), (11, 2)",
            &[
                "update c set id = 9 where id = 1; update c set id = 1 where id = 2;
               update c set id = 2 where id = 9;
               update o set c = 2 where id = 10; update o set c = 1 where id = 11",
            ],
        ));
        cases.push(Case::new(
            format!("keys_exchanged_and_followed_{unique}"),
            format!(
                "create table c (id int primary key, {e});
                 create table o (id int primary key, c int references c on update cascade)"
            ),
            "insert into c values (1, 'a'), (2, 'b'); insert into o values (10, 1)",
            &[
                "update c set id = 9 where id = 1; update c set id = 1 where id = 2;
               update c set id = 2 where id = 9",
            ],
        ));
    }
    cases
}

/// Types, with two values and a third one.
const TYPES: [(&str, &str, [&str; 2]); 12] = [
    ("text", "text", ["'a'", "'b'"]),
    ("varchar", "varchar(1)", ["'a'", "'b'"]),
    ("char", "char(1)", ["'a'", "'b'"]),
    ("boolean", "boolean", ["true", "false"]),
    ("enum", "mood", ["'sad'", "'ok'"]),
    ("inet", "inet", ["'10.0.0.1'", "'10.0.0.2/24'"]),
    ("range", "int4range", ["'[1,5)'", "'[5,9)'"]),
    ("smallint", "smallint", ["-32768", "32767"]),
    ("bigint", "bigint", ["1", "2"]),
    ("numeric", "numeric(1, 0)", ["1", "2"]),
    ("date", "date", ["'2024-01-01'", "'2024-01-02'"]),
    (
        "uuid",
        "uuid",
        [
            "'00000000-0000-0000-0000-000000000001'",
            "'00000000-0000-0000-0000-000000000002'",
        ],
    ),
];

fn types() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, of, [a, b]) in TYPES {
        for (nullable, not_null) in [("", ""), ("not_null_", "not null")] {
            // all values that a boolean or an enum of two has are taken
            cases.push(Case::new(
                format!("exchange_{nullable}{name}"),
                format!(
                    "create type mood as enum ('sad', 'ok');
                     create table c (id int primary key, e {of} {not_null} unique {{deferred}})"
                ),
                format!("insert into c values (1, {a}), (2, {b})"),
                &[
                    &format!(
                        "update c set e = {b} where id = 1; update c set e = {a} where id = 2"
                    ),
                    "update c set id = 3 where id = 1",
                ],
            ));
        }
    }
    for (name, not_null) in [("", ""), ("_not_null", "not null")] {
        cases.push(Case::new(
            format!("rotation{name}"),
            format!("create table c (id int primary key, e text {not_null} unique {{deferred}})"),
            "insert into c values (1, 'a'), (2, 'b'), (3, 'c')",
            &["update c set e = case e when 'a' then 'b' when 'b' then 'c' else 'a' end"],
        ));
        cases.push(Case::new(
            format!("handed_on{name}"),
            format!("create table c (id int primary key, e text {not_null} unique)"),
            "insert into c values (1, 'a'), (2, 'b')",
            &[
                "delete from c where id = 1; update c set e = 'a' where id = 2; insert into c values (3, 'b')",
                "update c set id = 1 where id = 3",
            ],
        ));
    }
    cases
}

/// Indexes over several columns, some rows, an expression.
fn indexes() -> Vec<Case> {
    let two = "insert into c values (1, 'a', 'x'), (2, 'b', 'y')";
    let mut cases = vec![
        Case::new(
            "exchange_two_columns",
            "create table c (id int primary key, e text unique {deferred}, f text unique {deferred})",
            two,
            &[
                "update c set e = 'b', f = 'y' where id = 1; update c set e = 'a', f = 'x' where id = 2",
            ],
        ),
        Case::new(
            "exchange_two_not_null_columns",
            "create table c (id int primary key, e text not null unique {deferred}, f char(1) not null unique {deferred})",
            two,
            &[
                "update c set e = 'b', f = 'y' where id = 1; update c set e = 'a', f = 'x' where id = 2",
            ],
        ),
        Case::new(
            "exchange_two_columns_of_three_rows",
            "create table c (id int primary key, e text unique {deferred}, f text not null unique {deferred})",
            "insert into c values (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z')",
            &[
                "update c set e = 'b' where id = 1; update c set e = 'a', f = 'z' where id = 2; update c set f = 'y' where id = 3",
            ],
        ),
        Case::new(
            "exchange_two_columns_in_turn",
            "create table c (id int primary key, e text unique {deferred}, f text not null unique {deferred})",
            two,
            &[
                "update c set e = 'b' where id = 1; update c set e = 'a' where id = 2",
                "update c set f = 'y' where id = 1; update c set f = 'x' where id = 2",
            ],
        ),
    ];
    for (name, columns) in [
        ("", "e text, f text"),
        ("not_null_", "e text not null, f char(1) not null"),
        ("boolean_", "e text not null, f boolean not null"),
    ] {
        let boolean = name == "boolean_";
        let f = |x, b| if boolean { b } else { x };
        let (x, y) = (f("'x'", "true"), f("'y'", "false"));
        cases.push(Case::new(
            format!("exchange_{name}multi_column"),
            format!("create table c (id int primary key, {columns}, unique (e, f) {{deferred}})"),
            format!("insert into c values (1, 'a', {x}), (2, 'a', {y}), (3, 'b', {x})"),
            &[&format!(
                "update c set e = 'a', f = {x} where id = 2; update c set e = 'b', f = {x} where id = 1;
                 update c set e = 'a', f = {y} where id = 3"
            )],
        ));
    }
    // a constraint that is no index of the destination's kind: both sides hold the same rows apart
    for (name, source, destination) in [
        (
            "expression",
            "exclude (lower(e) with =)",
            "create unique index on c (lower(e))",
        ),
        (
            "partial",
            "exclude (e with =) where (f is not null)",
            "create unique index on c (e) where f is not null",
        ),
        (
            "partial_expression",
            "exclude (lower(e) with =, f with =) where (e <> '')",
            "create unique index on c (lower(e), f) where e <> ''",
        ),
        (
            "included",
            "exclude (e with =)",
            "create unique index on c (e) include (f)",
        ),
        (
            "collated",
            "exclude (e with =)",
            r#"create unique index on c (e collate "C" desc)"#,
        ),
    ] {
        for (nullable, columns) in [
            ("", "e text, f text"),
            ("not_null_", "e text not null, f text not null"),
        ] {
            cases.push(
                Case::new(
                    format!("exchange_{nullable}{name}_index"),
                    format!("create table c (id int primary key, {columns})"),
                    "insert into c values (1, 'A', 'x'), (2, 'B', 'x'), (3, 'c', 'x')",
                    &[
                        "update c set e = 'b' where id = 1; update c set e = 'a' where id = 2",
                        "delete from c where id = 3; insert into c values (4, 'c', 'x')",
                    ],
                )
                .at_source(format!(
                    "alter table c add {source} {}",
                    "deferrable initially deferred"
                ))
                .at_destination(destination),
            );
        }
    }
    cases
}
