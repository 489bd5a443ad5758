//! Foreign keys that act: the source's actions are messages too, and the destination acts by itself.

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let ddl = "create table c (id int primary key, v text);
               create table o (id int primary key, c int {default} references c {action} {deferred}, v text)";
    let mut cases = Vec::new();
    for (name, default, action) in [
        ("cascade", "", "on delete cascade on update cascade"),
        ("set_null", "", "on delete set null on update set null"),
        (
            "set_default",
            "default 9",
            "on delete set default on update set default",
        ),
        ("mixed", "", "on delete set null on update cascade"),
    ] {
        let ddl = ddl
            .replace("{default}", default)
            .replace("{action}", action);
        let rows = "insert into c values (1, 'a'), (2, 'b'), (9, 'z'); insert into o values (10, 1, 'x'), (11, 2, 'y')";
        let of = |what: &str, transactions: &[&str]| {
            Case::new(format!("{name}_{what}"), &ddl, rows, transactions)
        };
        cases.push(of("parent_leaves", &["delete from c where id = 1"]));
        cases.push(of(
            "parent_leaves_and_comes_back",
            &[
                "delete from c where id = 1",
                "insert into c values (1, 'b')",
                "insert into o values (12, 1, 'z')",
            ],
        ));
        cases.push(of(
            "child_finds_another_parent",
            &[
                "update o set c = 2 where id = 10",
                "delete from c where id = 1",
                "update o set v = 'w' where id = 10",
            ],
        ));
        cases.push(of(
            "child_comes_back",
            &[
                "delete from c where id = 1",
                "insert into c values (1, 'b'); insert into o values (13, 1, 'q')",
            ],
        ));
        cases.push(of(
            "key_moves",
            &[
                "update c set id = 3 where id = 1",
                "insert into o values (12, 3, 'n')",
            ],
        ));
        cases.push(of(
            "key_moves_and_is_taken",
            &[
                "update c set id = 3 where id = 1",
                "insert into c values (1, 'new'); insert into o values (12, 1, 'n')",
            ],
        ));
        cases.push(of(
            "keys_exchanged",
            &["update c set id = 5 where id = 1; update c set id = 1 where id = 2; update c set id = 2 where id = 5"],
        ));
        cases.push(of(
            "child_changes_too",
            &[
                "update c set id = 3 where id = 1; update o set v = 'w' where id = 10",
                "delete from c where id = 3",
            ],
        ));
    }
    cases
}
