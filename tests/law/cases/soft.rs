//! Rows that stay, marked, when the source deletes them.

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let family = "create table c (id int primary key, v text);
                  create table o (id int primary key, c int references c {deferred})";
    let of = |case: Case, tables: &[&str]| {
        let ddl: Vec<_> = tables
            .iter()
            .map(|table| format!("alter table {table} add gone boolean"))
            .collect();
        let ddl = format!("{}; {}", case.at_destination, ddl.join("; "));
        tables
            .iter()
            .fold(case.at_destination(ddl), |case, table| case.soft(table))
    };
    let mut cases = Vec::new();
    // a child that stays needs its parent to stay
    for (name, tables) in [("both", ["c", "o"].as_slice()), ("parent", &["c"])] {
        cases.push(of(
            Case::new(
                format!("soft_{name}_family_comes_and_goes"),
                family,
                "",
                &[
                    "insert into c values (1, 'a'); insert into o values (10, 1)",
                    "delete from o; delete from c",
                ],
            ),
            tables,
        ));
        cases.push(of(
            Case::new(
                format!("soft_{name}_family_leaves"),
                family,
                "insert into c values (1, 'a'); insert into o values (10, 1)",
                &[
                    "delete from o; delete from c",
                    "insert into c values (1, 'b')",
                ],
            ),
            tables,
        ));
        cases.push(of(
            Case::new(
                format!("soft_{name}_keys_move"),
                family,
                "insert into c values (1, 'a'); insert into o values (10, 1)",
                &[
                    "update c set id = 2 where id = 1; update o set c = 2",
                    "delete from o",
                ],
            ),
            tables,
        ));
    }
    for (name, null) in [("", ""), ("_not_null", "not null")] {
        let unique = format!(
            "create table c (id int primary key, e text {null} unique {{deferred}}, v text)"
        );
        cases.push(of(
            Case::new(
                format!("soft_new_row_changes_key{name}"),
                &unique,
                "",
                &[
                    "insert into c values (1, 'a', 'x')",
                    "update c set id = 2 where id = 1",
                ],
            ),
            &["c"],
        ));
        cases.push(of(
            Case::new(
                format!("soft_row_changes_key{name}"),
                &unique,
                "insert into c values (1, 'a', 'x')",
                &["update c set id = 2 where id = 1", "update c set v = 'y'"],
            ),
            &["c"],
        ));
        // the values of marked rows do not count
        let partial = format!("create table c (id int primary key, e text {null}, v text)");
        let case = |what: &str, transactions: &[&str]| {
            let case = Case::new(
                format!("soft_{what}{name}"),
                &partial,
                "insert into c values (1, 'a', 'x'), (2, 'b', 'y')",
                transactions,
            );
            let mut case = of(
                case.at_source("alter table c add unique (e) deferrable initially deferred"),
                &["c"],
            );
            case.at_destination += "; create unique index on c (e) where gone is not true";
            case
        };
        cases.push(case(
            "value_of_a_deleted_row",
            &[
                "delete from c where id = 1",
                "insert into c values (3, 'a', 'z')",
            ],
        ));
        cases.push(case(
            "exchange",
            &[
                "update c set e = 'b' where id = 1; update c set e = 'a' where id = 2",
                "delete from c where id = 2",
            ],
        ));
        cases.push(case(
            "row_comes_back",
            &[
                "delete from c where id = 1",
                "update c set e = 'a' where id = 2",
                "insert into c values (1, 'b', 'z')",
            ],
        ));
    }
    cases
}
