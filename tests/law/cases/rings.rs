//! Rows that refer to each other, and tables that refer to themselves.

use super::ON_DELETE;
use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (nullable, null) in [("", ""), ("not_null_", "not null")] {
        for (action, on_delete) in ON_DELETE {
            if action == "set_null" && !null.is_empty() {
                continue;
            }
            let ddl = format!(
                "create table x (id int primary key, y int {null}, v text);
                 create table y (id int primary key, x int {null} references x {on_delete} {{deferred}});
                 alter table x add foreign key (y) references y {on_delete} {{deferred}}"
            );
            cases.push(Case::new(
                format!("{nullable}ring_comes_{action}"),
                &ddl,
                "",
                &[
                    "insert into x values (1, 1, 'a'); insert into y values (1, 1)",
                    "update x set v = 'b'",
                ],
            ));
            cases.push(Case::new(
                format!("{nullable}ring_grows_{action}"),
                &ddl,
                "insert into x values (1, 1, 'a'); insert into y values (1, 1)",
                &[
                    "insert into x values (2, 2, 'b'); update y set x = 2 where id = 1;
                   insert into y values (2, 1)",
                ],
            ));
            if action == "no_action" {
                cases.push(Case::new(
                    format!("{nullable}ring_leaves"),
                    &ddl,
                    "insert into x values (1, 1, 'a'); insert into y values (1, 1)",
                    &["delete from x; delete from y"],
                ));
                cases.push(Case::new(
                    format!("{nullable}ring_is_replaced"),
                    &ddl,
                    "insert into x values (1, 1, 'a'); insert into y values (1, 1)",
                    &["delete from x; delete from y; insert into x values (2, 2, 'a'); insert into y values (2, 2)"],
                ));
            }
        }
        let pair = format!(
            "create table n (id int primary key, peer int {null} references n {{deferred}}, e text unique)"
        );
        cases.push(Case::new(
            format!("{nullable}pair_comes"),
            &pair,
            "",
            &[
                "insert into n values (1, 2, 'a'); insert into n values (2, 1, 'b')",
                "update n set e = 'c' where id = 1",
            ],
        ));
        cases.push(Case::new(
            format!("{nullable}pair_leaves"),
            &pair,
            "insert into n values (1, 2, 'a'), (2, 1, 'b')",
            &[
                "delete from n where id = 1; delete from n where id = 2",
                "insert into n values (3, 3, 'a')",
            ],
        ));
        cases.push(Case::new(
            format!("{nullable}pair_becomes_three"),
            &pair,
            "insert into n values (1, 2, 'a'), (2, 1, 'b')",
            &[
                "insert into n values (3, 1, 'c'); update n set peer = 3, id = 4 where id = 2;
               update n set peer = 4 where id = 1",
            ],
        ));
    }
    cases.extend(trees());
    cases
}

/// `parent` refers to the same table.
fn trees() -> Vec<Case> {
    let mut cases = Vec::new();
    for (action, on_delete) in ON_DELETE {
        let ddl = format!(
            "create table n (id int primary key, parent int references n {on_delete} {{deferred}}, e text unique)"
        );
        let chain = "insert into n values (1, null, 'a'), (2, 1, 'b'), (3, 2, 'c')";
        cases.push(Case::new(
            format!("chain_comes_{action}"),
            &ddl,
            "",
            &["insert into n values (1, null, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 4, 'd')"],
        ));
        cases.push(Case::new(
            format!("chain_leaves_{action}"),
            &ddl,
            chain,
            &[
                "delete from n where id = 3; delete from n where id = 2; delete from n where id = 1",
                "insert into n values (5, null, 'b')",
            ],
        ));
        cases.push(Case::new(
            format!("chain_is_turned_{action}"),
            &ddl,
            chain,
            &[
                "update n set parent = null where id = 3; update n set parent = 3 where id = 2;
               update n set parent = 2 where id = 1",
            ],
        ));
        cases.push(Case::new(
            format!("root_moves_{action}"),
            &ddl,
            chain,
            &[
                "update n set id = 7 where id = 1; update n set parent = 7 where id = 2",
                "update n set e = 'z' where id = 7; insert into n values (1, 3, 'a')",
            ],
        ));
    }
    cases
}
